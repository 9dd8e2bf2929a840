"""Frozen features: class tokens of all blocks, pooled features, attention from the class token.

A stack holds pixels in [0, 1] before normalisation, float [n, 3, size, size]; what takes one raises
ValueError where it goes beyond or holds no image, for a batch_size below 1, and where a model
returns NaN or infinity. Not every model has all of these features; `why_not` says what one lacks.
All is computed in float32, on the model's device, and handed back on the CPU.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vitlab.conditions.condition import check_pixels
from vitlab.files import nearest
from vitlab.images.errors import DataError
from vitlab.images.imagenet import decision_matrix
from vitlab.images.images import Images
from vitlab.models.model import Model
from vitlab.models.taxonomy import why_undecided

NEEDS = ("class token", "blocks", "block decisions", "attention", "features", "decisions")


class Tokens(NamedTuple):
    """Per block, after the final norm: prefix tokens and mean patch token, on the CPU.

    prefix: float [B, blocks, prefix, d]; the class token, then (where a model has them) the
        distillation token or registers. patches: float [B, blocks, d].
    """

    prefix: Tensor
    patches: Tensor

    @property
    def classes(self) -> Tensor:
        """The class tokens: float [B, blocks, d]."""
        return self.prefix[:, :, 0]


def why_not(model: Model, need: str, images: Images | None = None) -> str:
    """Why a model does not have what is needed, in a few words; empty if it has.

    need: "class token" (there is one somewhere), "blocks" (it passes through every block, see
        `block_tokens`), "block decisions" (and the classifier reads it), "attention" (of the class
        token to the patches, in every block), "features" (see `pooled`), "decisions" (over known
        classes; over those of `images` if given).

    Raises ValueError for an unknown need.
    """
    if need not in NEEDS:
        raise ValueError(f"unknown need {need!r}{nearest(need, NEEDS)}")
    net = model.net
    if need == "features":
        has = hasattr(net, "forward_features") and hasattr(net, "forward_head")
        return "" if has else "no forward_features and forward_head as timm's models have"
    if need == "decisions":
        why = why_undecided(model)
        if not why and images is not None:
            try:
                decision_matrix(model.classes, images.classes)
            except DataError:
                why = f"knows {model.classes} classes, not {images.classes}"
        return why
    if getattr(net, "cls_token", None) is None:
        return "no class token"
    if need == "class token":
        return ""
    intermediates = getattr(net, "forward_intermediates", None)
    if (
        intermediates is None
        or "return_prefix_tokens" not in inspect.signature(intermediates).parameters
    ):
        return "its class token does not pass through all blocks"
    if need == "block decisions":
        if getattr(net, "global_pool", None) != "token":
            return "its classifier does not read the class token"
        return why_undecided(model)
    if need == "attention":
        layers = [getattr(block, "attn", None) for block in net.blocks]
        if not all(hasattr(layer, k) for layer in layers for k in ("attn_drop", "fused_attn")):
            return "its blocks' attention cannot be seen"
    return ""


def pixel_stack(model: Model, images: Images, chosen: Iterable[int] | None = None) -> Tensor:
    """Images of a set as the model sees them before normalisation, in [0, 1].

    Returns float32 [n, 3, size, size].

    chosen: places in the set; all of it if None.
    """
    places = range(len(images)) if chosen is None else chosen
    return torch.stack([model.pixels(images.picture(int(i))) for i in places]).float() / 255


@torch.inference_mode()
def block_tokens(model: Model, stack: Tensor, batch_size: int = 64) -> Tokens:
    """Prefix tokens and mean patch token of every block of a ViT, from one forward pass.

    The final LayerNorm is applied to each block's tokens, as in Naseer et al. 2021, section 3.6;
    where it stands behind the pooling of patch tokens (BEiT, EVA), too.

    Raises ValueError for a model whose class token does not pass through all blocks.
    """
    require(model, "blocks")
    prefixes, patches = [], []
    behind = isinstance(getattr(model.net, "norm", None), nn.Identity)
    behind = behind and getattr(model.net, "global_pool", "token") != "token"
    norm = getattr(model.net, "fc_norm", nn.Identity()) if behind else nn.Identity()
    for pixels in in_batches(stack, batch_size):
        blocks = model.net.forward_intermediates(
            prepared(model, pixels),
            norm=True,
            output_fmt="NLC",
            return_prefix_tokens=True,
            intermediates_only=True,
        )
        prefixes.append(finite(model, torch.stack([norm(prefix) for _, prefix in blocks], 1)))
        patches.append(finite(model, torch.stack([norm(patch).mean(1) for patch, _ in blocks], 1)))
    return Tokens(torch.cat(prefixes), torch.cat(patches))


@torch.inference_mode()
def block_logits(model: Model, tokens: Tokens) -> Tensor:
    """The final head's logits for the prefix tokens of each block: float [n, blocks, classes].

    The head reads what it reads in evaluation: the class token; in a distilled DeiT the class and
    the distillation token, each with its own head, and the mean of both. Those of the last block
    are therefore the model's own.

    Raises ValueError for a model without a head that reads the class token.
    """
    require(model, "block decisions")
    heads = [
        model.net.forward_head(prefix.to(model.device)).cpu() for prefix in tokens.prefix.unbind(1)
    ]
    return torch.stack(heads, 1)


def block_predictions(model: Model, tokens: Tokens, images: Images | None = None) -> Tensor:
    """Predictions of the final head from the tokens of each block: long [n, blocks].

    In the model's own classes, or in the categories of `images`, if given.

    Raises ValueError as `block_logits` does, DataError if the model cannot decide about them.
    """
    logits = block_logits(model, tokens)
    matrix = decision_matrix(model.classes, images.classes) if images else None
    return (logits if matrix is None else logits.softmax(-1) @ matrix).argmax(-1)


@torch.inference_mode()
def pooled(model: Model, stack: Tensor, batch_size: int = 64) -> Tensor:
    """The feature before a model's classifier: float [n, d] (last class token, or global pool).

    Raises ValueError for a network without timm's forward_features and forward_head.
    """
    require(model, "features")
    found = []
    for pixels in in_batches(stack, batch_size):
        features = model.net.forward_features(prepared(model, pixels))
        found.append(finite(model, model.net.forward_head(features, pre_logits=True)))
    return torch.cat(found)


def class_attention(model: Model, stack: Tensor, batch_size: int = 64) -> Tensor:
    """Attention of the class token to the patches in the last block: float [n, rows, columns].

    Mean over heads; the rest of each map's mass is on the class token itself, the distillation
    token and registers.

    Raises ValueError for a model without attention from a class token.
    """
    require(model, "attention")
    return _class_attention(model, stack, model.net.blocks[-1:], batch_size)[:, 0]


def block_attention(model: Model, stack: Tensor, batch_size: int = 64) -> Tensor:
    """`class_attention` of every block, from one forward pass: float [n, blocks, rows, columns].

    Raises ValueError for a model without attention from a class token.
    """
    require(model, "attention")
    return _class_attention(model, stack, model.net.blocks, batch_size)


@torch.inference_mode()
def _class_attention(model: Model, stack: Tensor, blocks: nn.Module, batch_size: int) -> Tensor:
    def row(attention: Tensor) -> Tensor:
        return attention[:, :, 0, model.net.num_prefix_tokens :].mean(1)

    maps = []
    with watched([block.attn for block in blocks], row) as seen:  # type: ignore[attr-defined]
        for pixels in in_batches(stack, batch_size):
            model.net.forward_features(prepared(model, pixels))
            maps.append(finite(model, torch.stack(seen, 1)))
            seen.clear()
    return torch.cat(maps).unflatten(-1, model.net.patch_embed.grid_size)


@contextmanager
def watched(
    layers: Sequence[nn.Module], keep: Callable[[Tensor], Tensor] = lambda attention: attention
) -> Iterator[list[Tensor]]:
    """A list to which attention layers add their softmax while the network runs.

    keep: what is kept of the softmax, [B, heads, tokens, tokens]; by default all, which is large.
    """
    seen: list[Tensor] = []
    # With the fused kernel off, a layer's own softmax passes through its dropout.
    fused = [layer.fused_attn for layer in layers]
    hooks = [
        layer.attn_drop.register_forward_pre_hook(lambda module, args: seen.append(keep(args[0])))  # type: ignore[union-attr]
        for layer in layers
    ]
    try:
        for layer in layers:
            layer.fused_attn = False  # type: ignore[assignment]
        yield seen
    finally:
        for layer, hook, was in zip(layers, hooks, fused, strict=True):
            hook.remove()
            layer.fused_attn = was


def in_batches(stack: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    """A stack's images, so many at a time. Raises ValueError for none, and for none at a time."""
    if not len(stack) or batch_size < 1:
        raise ValueError(
            f"{len(stack)} images, batch_size={batch_size}: give one image or more, and a "
            "batch_size of 1 or more"
        )
    return stack.split(batch_size)


def prepared(model: Model, pixels: Tensor) -> Tensor:
    """A stack's pixels normalised on the model's device: what its network takes.

    Raises ValueError for pixels outside [0, 1].
    """
    return model.normalise(check_pixels(pixels).to(model.device).float())


def finite(model: Model, found: Tensor) -> Tensor:
    """What a model gave, on the CPU. Raises ValueError where it holds NaN or infinity."""
    if not found.isfinite().all():
        raise ValueError(f"{model.name} returned NaN or infinity")
    return found.cpu()


def require(model: Model, need: str) -> None:
    """Raises ValueError if a model does not have what is needed (see `why_not`)."""
    why = why_not(model, need)
    if why:
        raise ValueError(f"{model.name}: {why}; give a plain ViT, e.g. mini/vit-0")
