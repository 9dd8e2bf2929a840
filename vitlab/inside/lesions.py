"""Lesions: features set to zero at one place inside a network (Naseer et al. 2021, tables 6 and 7).

In a ViT a share of the patch tokens becomes the zero vector just before one block; class token and
other prefix tokens stay. In a CNN a share of the positions of the feature map becomes zero, in all
channels, just before one stage or before the global average pool. Then the network runs on.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from vitlab.conditions.condition import Batch, check_pixels
from vitlab.conditions.patchdrop import RELEASED_BATCH, random_cells
from vitlab.files import nearest
from vitlab.models.model import Model
from vitlab.models.taxonomy import group_of
from vitlab.rng import generator

# Where timm and torchvision keep stages (one module each, or in a sequence) and the pool.
_STAGES = (("layer1", "layer2", "layer3", "layer4"), ("s1", "s2", "s3", "s4"))
_SEQUENCES = ("stages", "blocks")
_POOLS = ("global_pool", "head.global_pool", "avgpool")


def places(model: Model) -> list[str]:
    """Where lesions can be set, first to last; empty for an unknown architecture.

    A ViT with class token and blocks (timm's): "block 1", "block 2", ... A CNN with stages and a
    global pool (timm's and torchvision's ResNet, timm's RegNet, EfficientNet, ConvNeXt, ...):
    "stage 1", "stage 2", ..., "pool".
    """
    return list(_modules(model.net))


def logits(
    model: Model,
    batch: Batch,
    place: str,
    shares: Sequence[float],
    released: Sequence[float] = (),
    seed: int = 0,
    draw: int = 0,
) -> Tensor:
    """Logits after a lesion at one place: float32 [shares + released, B, classes].

    Up to the place the network runs once; what follows runs on the batch repeated per share.

    shares: of the patch tokens or positions set to zero, each in 0..1. They are drawn without
        replacement, their number rounded down, for each image separately; those of a lower share
        are among those of a higher one.
    released: further shares, drawn as in the paper's released code: once for 256 consecutive
        images (there for a batch), and in a CNN each position independently, with the share as its
        probability, so that their number varies.

    Raises ValueError for no share or one outside 0..1, a place that the network does not have, and
    pixels outside [0, 1], and for NaN or infinity.
    """
    modules = _modules(model.net)
    if place not in modules:
        where = nearest(place, list(modules)) if modules else " nor any other known place"
        raise ValueError(f"{model.name} has no {place!r}{where}")
    for share in (*shares, *released):
        if not 0 <= share <= 1:
            raise ValueError(f"share {share} is outside 0..1")
    if not [*shares, *released]:
        raise ValueError("give at least one share, in shares or released")
    check_pixels(batch.pixels)
    prefix = getattr(model.net, "num_prefix_tokens", 0)

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x, *rest = inputs
        shape = (x.shape[2], x.shape[3]) if x.ndim == 4 else (1, x.shape[1] - prefix)
        key = ("lesion", seed, draw, place)
        own = [(*key, i) for i in batch.ids]
        shared = [(*key, "batch", i // RELEASED_BATCH) for i in batch.index.tolist()]
        by_chance = _by_chance if x.ndim == 4 else random_cells
        drawn = [random_cells(own, shape, share) for share in shares]
        drawn += [by_chance(shared, shape, share) for share in released]
        lost = torch.stack(drawn).to(x.device)  # [shares, B, rows, columns]
        if x.ndim == 4:
            return x.masked_fill(lost[:, :, None], 0).flatten(0, 1), *rest
        tokens = x[:, prefix:].masked_fill(lost.flatten(2)[..., None], 0)
        kept = x[:, :prefix].expand(len(lost), -1, -1, -1)
        return torch.cat([kept, tokens], 2).flatten(0, 1), *rest

    hook = modules[place].register_forward_pre_hook(before)
    try:
        found = model.logits(batch.pixels)
        if not found.isfinite().all():
            raise ValueError(f"{model.name} returned NaN or infinity")
        return found.unflatten(0, (-1, len(batch.ids)))
    finally:
        hook.remove()


def _modules(net: nn.Module) -> dict[str, nn.Module]:
    """Per place the module whose input is lesioned."""
    parts = dict(net.named_modules())
    if hasattr(net, "num_prefix_tokens") and "blocks" in parts:
        blocks = list(parts["blocks"].children())
        whole = all(_takes_tokens_alone(block) for block in blocks)
        return {f"block {b}": block for b, block in enumerate(blocks, 1)} if whole else {}
    if group_of(net) != "CNN":
        return {}
    stages = next(
        ([parts[name] for name in names] for names in _STAGES if parts.keys() >= {*names}), []
    )
    if not stages:
        sequence = next((parts[name] for name in _SEQUENCES if name in parts), None)
        stages = [] if sequence is None else list(sequence.children())
    pool = next((parts[name] for name in _POOLS if name in parts), None)
    if not stages or pool is None:
        return {}
    return {f"stage {s}": stage for s, stage in enumerate(stages, 1)} | {"pool": pool}


def _takes_tokens_alone(block: nn.Module) -> bool:
    """Whether a block's only input is the tokens; those of TNT also take the pixels' tokens."""
    parameters = inspect.signature(block.forward).parameters.values()
    return sum(p.default is p.empty and p.kind is not p.VAR_KEYWORD for p in parameters) == 1


def _by_chance(keys: Iterable[tuple], shape: tuple[int, int], share: float) -> Tensor:
    """Positions drawn independently, each with the same probability: bool [n, rows, columns]."""
    numbers = [torch.from_numpy(generator(*key).random(shape)) for key in keys]
    return torch.stack(numbers) < share
