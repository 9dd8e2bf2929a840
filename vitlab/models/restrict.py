"""Models that answer to other classes, by one token, or see the pixels that another one sees."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from vitlab.files import digest
from vitlab.models.model import Model
from vitlab.models.taxonomy import token_names


class _Answering(nn.Module):
    """A network whose logits are changed before they are read."""

    def __init__(self, net: nn.Module, change: Callable[[Tensor], Tensor]):
        super().__init__()
        self.net, self.change = net, change

    def forward(self, pixels: Tensor) -> Tensor:
        return self.change(self.net(pixels))


def restricted(model: Model, classes: Iterable[int]) -> Model:
    """The model with only some of its classes left, e.g. the 200 of ImageNet-A.

    Its probabilities are a softmax over those classes alone; the others have 0. Its name tells how
    many are left.
    """
    kept = torch.tensor(sorted(set(classes)))
    if kept.tolist() == list(range(16)) and model.classes == "stimuli":
        return model

    def change(logits: Tensor) -> Tensor:
        only = torch.full_like(logits, float("-inf"))
        return only.index_copy(1, kept.to(logits.device), logits[:, kept])

    key = digest(kept.tolist())[:8]
    return replace(
        model,
        name=f"{model.name}, {len(kept)} classes",
        net=_Answering(model.net, change),
        weights=f"{model.weights}-{key}",
    )


def merged(model: Model, members: Sequence[Sequence[int]], name: str) -> Model:
    """An ImageNet model that answers in coarser classes, called `name`.

    members: the ImageNet classes of each coarse one, e.g. `images.imagenet.nine` for ImageNet-9. A
    decision is the coarse class of the best of the 1,000 (Xiao et al. 2021, released code).

    Raises ValueError for a model of other classes.
    """
    if model.classes != "imagenet":
        raise ValueError(f"{model.name} knows {model.classes} classes, not ImageNet's")

    def change(logits: Tensor) -> Tensor:
        return torch.stack([logits[:, part].amax(1) for part in members], 1)

    return replace(model, net=_Answering(model.net, change), classes=name)


class _ByToken(nn.Module):
    """A distilled ViT whose answer is that of one token's own head."""

    def __init__(self, net: nn.Module, token: int):
        super().__init__()
        self.net, self.token = net, token

    def forward(self, pixels: Tensor) -> Tensor:
        head = self.net.head_dist if self.token else self.net.head
        return head(self.net.forward_features(pixels)[:, self.token])  # type: ignore[operator]


def each_token(model: Model) -> list[Model]:
    """A distilled ViT as two models: one answers by its class token, one by its second token.

    In evaluation the network answers with the mean of the two. Their names and groups tell the
    token, e.g. "ViT distilled: class token". A model with one token stays as it is.
    """
    names = token_names(model)
    if len(names) == 1:
        return [model]
    return [
        replace(
            model,
            name=f"{model.name}: {name}",
            group=f"{model.group}: {name}",
            net=_ByToken(model.net, token),
            weights=f"{model.weights}-{token}",
        )
        for token, name in enumerate(names)
    ]


def by_size(models: Sequence[Model]) -> dict[int, list[Model]]:
    """Models that are compared at one resolution: side of the input -> models.

    There is an entry per input size of the run's ViTs. A CNN can take any size, so it joins each of
    them with the ViT's resizing and cropping and its own mean and std, and both see the same
    pixels. Where there is no ViT, and for other models, the size is their own. A CNN that cannot
    take a ViT's size (HRNet and DLA want multiples of 32) is left out there; a line says so.
    """
    own = {size: [m for m in models if m.size == size] for size in sorted({m.size for m in models})}
    vits = {m.size: m for m in reversed(models) if m.group == "ViT" and m.transform is None}
    if not vits:
        return own

    def joins(model: Model, size: int) -> bool:
        return model.size == size or (model.group == "CNN" and model.transform is None)

    return {
        size: [seen for m in models if joins(m, size) and _runs(seen := _seeing_as(m, vit), m)]
        for size, vit in sorted(vits.items())
    }


@torch.inference_mode()
def _runs(model: Model, own: Model) -> bool:
    """Whether a model takes pixels of another size than its own; prints that it does not."""
    if model.size == own.size:
        return True
    try:
        model.logits(torch.zeros(1, 3, model.size, model.size))
    except (RuntimeError, AssertionError, ValueError) as error:
        why = str(error).partition("\n")[0]
        print(f"left out at {model.size} px: {model.name} ({why})")
        return False
    return True


def _seeing_as(model: Model, other: Model) -> Model:
    if model.group != "CNN" or model.transform is not None or model.geometry == other.geometry:
        return model
    taken = ("input_size", "crop_pct", "crop_mode", "interpolation")
    config = {k: v for k, v in model.config.items() if k not in taken}
    config |= {k: other.config[k] for k in taken if k in other.config}
    return replace(model, config=config)
