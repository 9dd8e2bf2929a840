"""A network of your own as a Model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from vitlab.models.identity import fingerprint
from vitlab.models.model import MINI_CONFIG, Model, ModelError
from vitlab.models.taxonomy import group_of, is_vit

# Steps that do the same to a picture every time, and whose text tells all that they do.
_STEPS = (
    "Resize CenterCrop Pad Grayscale ResizeKeepRatio CenterCropOrPad RGB ToRGB Identity "
    "PILToTensor ToImage ToPureTensor MaybePILToTensor"
)
_TO_FLOAT = {"ToTensor", "MaybeToTensor", "ConvertImageDtype", "ToDtype"}


def ready(net: nn.Module) -> nn.Module:
    """The network, in place, as it is measured: in evaluation mode, its parameters frozen."""
    net = net.eval().requires_grad_(False)
    # Convolutions on a CPU are up to twice as fast with channels last; a ViT does not care.
    return net if is_vit(net) else net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def wrap(
    net: nn.Module,
    transform: Callable[[Image.Image], Tensor],
    name: str = "my model",
    group: str | None = None,
    classes: str = "imagenet",
) -> Model:
    """Your own network with its torchvision transform as a Model.

    net: maps float [B, 3, size, size] to logits [B, 1000] (or 16 for ``classes="stimuli"``).
    transform: torchvision's Compose of Resize, CenterCrop, ToTensor (or PILToTensor and a
        conversion to float), and Normalize last; or ``weights.transforms()`` of torchvision. The
        Normalize is taken out, for conditions work on pixels in [0, 1], and done after them.
    group: its comparison group; `group_of` the network if None.

    The network is set to evaluation mode and its parameters are frozen, in place.

    Raises ModelError for what is no network, for a transform that does not split this way, or whose
    result is not one square size, for a network whose outputs are not `classes`, for weights that
    are NaN, and for a network whose answer is random or depends on the batch.
    """
    if not isinstance(net, nn.Module):
        raise ModelError(f"{name}: a network is a torch.nn.Module, not {type(net).__name__}")
    steps, mean, std = _split(transform)
    pictures = v2.Compose([*steps, v2.PILToTensor(), v2.ToPureTensor()])
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    probes = [Image.fromarray(noise).resize(size) for size in ((640, 480), (300, 470))]
    shapes = {tuple(pictures(probe).shape) for probe in probes}
    shape = min(shapes)
    if len(shapes) > 1 or len(shape) != 3 or shape[0] != 3 or shape[1] != shape[2]:
        raise ModelError(
            f"{name}: the transform gives pixels {' and '.join(map(str, sorted(shapes)))}, not one "
            "square size; end its resizing with CenterCrop(size) or Resize((size, size))"
        )
    check_numbers(name, net)
    net = ready(net)
    config = {**MINI_CONFIG, "input_size": shape, "mean": mean, "std": std}
    weights = fingerprint(net)
    model = Model(
        name,
        net,
        group or group_of(net),
        classes,
        weights,
        config,
        source=f"own {type(net).__name__}, weights sha256 {weights}",
        transform=pictures,
    )
    pixels, theirs = pictures(probes[0]), transform(probes[0])
    ours = model.normalise(pixels.float() / 255)
    if theirs.dtype != torch.float32 or not torch.allclose(ours, theirs, atol=1e-5):
        raise ModelError(
            f"{name}: the transform is not resizing, conversion to [0, 1] and Normalize; {_SPLIT}"
        )
    _check_outputs(model, ours)
    return model


_SPLIT = (
    "give torchvision's Compose([Resize, CenterCrop, ToTensor, Normalize]): steps on the picture, "
    "then float pixels in [0, 1], then at most one Normalize, the last step"
)


def _split(transform: Any) -> tuple[list[Any], tuple[float, ...], tuple[float, ...]]:
    """A transform's steps on the picture, and the mean and std of its Normalize (0 and 1)."""
    if type(transform).__name__ == "ImageClassification":  # torchvision's weights.transforms()
        t = transform
        resize = v2.Resize(t.resize_size, interpolation=t.interpolation, antialias=t.antialias)
        return [resize, v2.CenterCrop(t.crop_size)], tuple(t.mean), tuple(t.std)
    steps = list(getattr(transform, "transforms", [transform]))
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    if steps and type(steps[-1]).__name__ == "Normalize":
        last = steps.pop()
        mean, std = (tuple(float(x) for x in torch.as_tensor(v)) for v in (last.mean, last.std))
    on_float = False
    kept = []
    for step in steps:
        kind = type(step).__name__
        theirs = type(step).__module__.startswith(("torchvision.transforms", "timm.data"))
        if theirs and kind in _TO_FLOAT:
            on_float = True
        elif theirs and kind in _STEPS.split() and not on_float:
            kept.append(step)
        else:
            why = "comes after the conversion to float" if on_float else "is none that vitlab knows"
            raise ModelError(f"the transform cannot be split: its step {kind} {why}; {_SPLIT}")
    return kept, mean, std


def check_numbers(name: str, net: nn.Module) -> None:
    """Raises ModelError for weights that are NaN or infinite: every answer would be class 0."""
    for place, value in net.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ModelError(f"{name}: its weights are damaged, {place} holds NaN or infinity")


def _words(error: Exception) -> str:
    return str(error) if str(error).count(" ") else f"{type(error).__name__} {error}".strip()


@torch.inference_mode()
def check_steady(model: Model) -> None:
    """Raises ModelError where a model's answer to an image is random or depends on its batch.

    E.g. by dropout that is always on, or BatchNorm without running statistics. And where there is
    no answer at all, or NaN or infinity, as by a configuration whose std is 0.

    A batch of 16 images is asked (above 224 px of fewer, down to 3), then the first of them alone
    and the last two: less than one more batch of a run. What begins in larger ones is not seen.
    """
    count = min(16, max(3, 16 * 224**2 // model.size**2))
    noise = np.random.default_rng(0).random((count, 3, model.size, model.size), dtype=np.float32)
    pixels = torch.from_numpy(noise)
    try:
        model.pixels(Image.new("RGB", (2 * model.size, 3 * model.size)))
        together, alone, two = (model.logits(p) for p in (pixels, pixels[:1], pixels[-2:]))
    except Exception as error:  # e.g. built for another size than its configuration tells
        raise ModelError(
            f"{model.name} cannot answer images of {model.size} px: {_words(error)}"
        ) from None
    if not together.isfinite().all():
        raise ModelError(f"{model.name} answers an image with NaN or infinity")
    near = 1e-3 * float(together.abs().max())

    def differ(ones: Tensor, others: Tensor) -> bool:
        return not (ones - others).abs().max() <= near  # NaN differs

    if differ(together[:1], alone) or differ(together[-2:], two):
        if differ(together, model.logits(pixels)) or differ(two, model.logits(pixels[-2:])):
            words = "is random: it answers the same image differently each time"
            raise ModelError(f"{model.name} {words}")
        raise ModelError(f"{model.name}: its answer to an image depends on the others of its batch")


@torch.inference_mode()
def _check_outputs(model: Model, image: Tensor) -> None:
    device = torch.device(model.device)
    try:
        outputs = model.net(image[None].to(device))
    except Exception as error:  # e.g. BatchNorm that wants several
        raise ModelError(f"{model.name} cannot answer one image alone: {_words(error)}") from error
    known = {"imagenet": 1000, "imagenet-16": 16, "cifar-10": 10, "stimuli": 16}
    expected = known.get(model.classes)
    shape: object = type(outputs).__name__
    fits = isinstance(outputs, Tensor) and outputs.ndim == 2 and len(outputs) == 1
    if isinstance(outputs, Tensor):
        shape = tuple(outputs.shape)
        if not outputs.is_floating_point():
            fits, shape = False, f"{shape} of {outputs.dtype}"
    if not fits or (expected and outputs.shape[1] != expected):
        raise ModelError(
            f"{model.name}: one image gives {shape}, not logits [1, {expected or 'classes'}] of "
            f"classes={model.classes!r}"
        )
    check_steady(model)
