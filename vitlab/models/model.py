"""A network and what it takes to show it an image; the devices it can be on."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform
from torch import Tensor

from vitlab.files import nearest
from vitlab.images.imagenet import decision_matrix
from vitlab.models.device import best_device
from vitlab.models.identity import configuration, fingerprint, hooked

if TYPE_CHECKING:
    from vitlab.images.images import Images

# The miniature models' own preprocessing: stimuli at their native size, one mean and std for all.
MINI_CONFIG = {
    "input_size": (3, 64, 64),
    "crop_pct": 1.0,
    "interpolation": "bicubic",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.25, 0.25, 0.25),
}
PRECISIONS = ("float32", "bfloat16", "float16")


class ModelError(ValueError):
    """A model could not be loaded: unknown name, missing package, absent or damaged weights."""


@dataclass(frozen=True)
class Model:
    """A network and what it takes to show it an image.

    net: an nn.Module that maps normalised pixels, float [B, 3, size, size], to logits [B, classes].
    config: timm's data configuration (input_size, crop_pct, interpolation, mean, std).
    group: its comparison group in figures and claims, e.g. "ViT" or "CNN"; seeds share it.
    classes: what the outputs mean: "stimuli", "imagenet" (ImageNet-1k), "features" (there is no
        classifier), or another set, e.g. "imagenet-21k"; images must agree.
    weights: fingerprint of the weights as they were loaded, part of `identity`.
    source: where the weights are from, in words: name, hub revision, hash.
    precision: "float32", or "bfloat16" or "float16" for mixed precision in `logits`.
    transform: how a picture becomes uint8 pixels, where timm's configuration does not say it.
    """

    name: str
    net: Any
    group: str
    classes: str
    weights: str
    config: dict[str, Any] = field(default_factory=lambda: MINI_CONFIG)
    seed: int = 0
    source: str = ""
    precision: str = "float32"
    transform: Any = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ModelError(
                f"unknown precision {self.precision!r}{nearest(self.precision, PRECISIONS)}"
            )
        height, width = self.config["input_size"][-2:]
        if height != width:
            raise ModelError(
                f"{self.name} takes {height} x {width} pixels; pictures here are square"
            )

    @property
    def size(self) -> int:
        """Side of the input, pixels."""
        return self.config["input_size"][-1]

    @property
    def geometry(self) -> tuple:
        """What the picture on its way to the model depends on; models that agree share pixels."""
        if self.transform is not None:
            return ("transform", repr(self.transform))
        return tuple(str(self.config.get(k)) for k in _GEOMETRY)

    @property
    def identity(self) -> list:
        """All that a prediction depends on beside the image and the condition: JSON values.

        Of the network as it is now, which takes a tenth of a second for a ViT-S.
        """
        scale = [list(map(float, self.config[k])) for k in ("mean", "std")]
        preprocessing = [list(self.geometry), scale]
        net = self.net
        network = [self.weights, fingerprint(net), hooked(net), configuration(net)]
        return [self.name, *network, self.precision, *preprocessing, self.classes]

    @property
    def device(self) -> str:
        """Where the network is: "cpu", "cuda:0", "mps:0"; "cpu" for one without parameters."""
        parameter = next(self.net.parameters(), None)
        return "cpu" if parameter is None else str(parameter.device)

    def to(self, device: str) -> Model:
        """Move the network to a device and return the model. Raises ModelError as `load` does."""
        self.net.to(check_device(device))
        return self

    def pixels(self, picture: Image.Image) -> Tensor:
        """The picture resized and cropped as the model wants it: uint8 [3, size, size]."""
        if self.transform is not None:
            return self.transform(picture)
        if picture.size == (self.size, self.size) and self.config["crop_pct"] == 1.0:
            return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
        return _transform(self.geometry)(picture)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Pixels in [0, 1] to what `net` takes: (pixels - mean) / std per channel."""
        mean, std = (tuple(map(float, self.config[k])) for k in ("mean", "std"))
        # One pass over memory, not two; the engine spends little else beside the network.
        shift, scale = _shift_and_scale(mean, std, pixels.device)
        return torch.addcmul(shift, pixels, scale)

    def logits(self, pixels: Tensor) -> Tensor:
        """Logits, float32 [B, classes], of pixels in [0, 1], float [B, 3, size, size].

        Pixels are moved to the model's device, and the logits stay there. Raises ValueError for
        pixels that are no floats: 8-bit ones go up to 255.
        """
        if not pixels.is_floating_point():
            raise ValueError(
                f"{self.name} takes floats in [0, 1], not {pixels.dtype}: pixels.float() / 255"
            )
        device = torch.device(self.device)
        prepared = self.normalise(pixels.to(device))
        if self.precision == "float32":
            return self.net(prepared).float()
        with torch.autocast(device.type, dtype=getattr(torch, self.precision)):
            return self.net(prepared).float()

    def probabilities(self, images: Images) -> Callable[[Tensor], Tensor]:
        """How to ask the model about images: pixels as in `logits` -> float32 [B, categories].

        The probabilities of the images' categories; where those group the model's own classes,
        each is the mean over its member classes (see `decision_matrix`).

        Raises DataError where the model's classes cannot decide about the images.
        """
        with torch.inference_mode(False):  # attacks differentiate through the matrix
            matrix = decision_matrix(self.classes, images.classes)
        if matrix is None:
            return lambda pixels: self.logits(pixels).softmax(1)
        there = matrix.to(self.device)
        return lambda pixels: self.logits(pixels).softmax(1) @ there

    def decide(self, images: Images) -> Callable[[Tensor], Tensor]:
        """Scores of pixels over the images' categories, [B, categories]: what an attack climbs.

        The logits where the model's classes are the categories, otherwise the logarithm of
        `probabilities`, which are kept above 1e-12.

        Raises DataError as `probabilities` does.
        """
        if self.classes == images.classes:
            return self.logits
        probabilities = self.probabilities(images)
        return lambda pixels: probabilities(pixels).clamp_min(1e-12).log()


_GEOMETRY = ("input_size", "crop_pct", "crop_mode", "interpolation")


@cache
def _shift_and_scale(mean: tuple, std: tuple, device: torch.device) -> tuple[Tensor, Tensor]:
    """-mean / std and 1 / std, [3, 1, 1], kept per device: copying them would wait for it."""
    with torch.inference_mode(False):  # attacks differentiate through what is cached here
        shift, scale = torch.tensor(mean), torch.tensor(std)
        pair = -(shift / scale)[:, None, None], (1 / scale)[:, None, None]
        return pair[0].to(device), pair[1].to(device)


@cache
def _transform(geometry: tuple) -> Callable[[Image.Image], Tensor]:
    size, crop_pct, crop_mode, interpolation = geometry
    return create_transform(
        ast.literal_eval(size),
        interpolation=interpolation,
        crop_pct=float(crop_pct),
        crop_mode=None if crop_mode == "None" else crop_mode,
        normalize=False,  # stays uint8; conditions work on raw pixels, normalisation comes after
    )


def device_name(device: str | None = None) -> str:
    """A device in words: "cpu", "mps" or "cuda, NVIDIA T4"; the best there is if None."""
    device = check_device(device)
    return f"{device}, {torch.cuda.get_device_name(device)}" if "cuda" in device else device


def check_device(device: str | None) -> str:
    """The device to use: as given, else the best there is.

    Raises ModelError for one that torch does not know or that this machine lacks.
    """
    if device is None:
        return best_device()
    here = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    here += ["mps"] if torch.backends.mps.is_available() else []
    known = {*here, "mps:0"} if "mps" in here else {*here}
    if device not in known | {name.split(":")[0] for name in here}:
        raise ModelError(f"no device {device!r} here; there is {', '.join(here)}")
    return device
