"""Frozen features: class tokens of all blocks, pooled CNN features, class-token attention."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vitlab.data import Images
from vitlab.models import Model, is_vit


class Tokens(NamedTuple):
    """Per block, after the final norm: class tokens and mean patch tokens, float [B, blocks, d]."""

    classes: Tensor
    patches: Tensor


def pixel_stack(model: Model, images: Images) -> Tensor:
    """All images of a set as the model sees them before normalisation: uint8 [n, 3, size, size]."""
    return torch.stack([model.pixels(images.picture(i)) for i in range(len(images))])


@torch.inference_mode()
def block_tokens(model: Model, stack: Tensor, batch_size: int = 64) -> Tokens:
    """Class token and mean patch token of every block of a ViT, from one forward pass.

    stack: uint8 [n, 3, size, size]. The final LayerNorm is applied to each block's tokens, as in
    Naseer et al. 2021, section 3.6.

    Raises ValueError for a model without class tokens.
    """
    _check_vit(model)
    classes, patches = [], []
    for pixels in stack.split(batch_size):
        blocks = model.net.forward_intermediates(
            model.normalise(pixels.float() / 255),
            norm=True,
            output_fmt="NLC",
            return_prefix_tokens=True,
            intermediates_only=True,
        )
        classes.append(torch.stack([prefix[:, 0] for _, prefix in blocks], 1))
        patches.append(torch.stack([patch.mean(1) for patch, _ in blocks], 1))
    return Tokens(torch.cat(classes), torch.cat(patches))


@torch.inference_mode()
def block_predictions(model: Model, tokens: Tokens) -> Tensor:
    """Predictions of the final head from the class token of each block: long [n, blocks]."""
    _check_vit(model)
    return (
        model.net.forward_head(tokens.classes.flatten(0, 1)[:, None])
        .argmax(1)
        .view(tokens.classes.shape[:2])
    )


@torch.inference_mode()
def pooled(model: Model, stack: Tensor, batch_size: int = 64) -> Tensor:
    """The feature before a model's classifier: float [n, d] (last class token, or global pool)."""
    return torch.cat(
        [
            model.net.forward_head(
                model.net.forward_features(model.normalise(pixels.float() / 255)), pre_logits=True
            )
            for pixels in stack.split(batch_size)
        ]
    )


@torch.inference_mode()
def class_attention(model: Model, stack: Tensor, batch_size: int = 64) -> Tensor:
    """Attention of the class token to the patches in the last block: float [n, rows, columns].

    Mean over heads; the rest of each map's mass is on the class token itself.

    Raises ValueError for a model without class tokens.
    """
    _check_vit(model)
    attention = model.net.blocks[-1].attn
    inputs: list[Tensor] = []
    hook = attention.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    maps = []
    try:
        for pixels in stack.split(batch_size):
            model.logits(pixels.float() / 255)
            tokens = inputs.pop()
            batch, length, _ = tokens.shape
            qkv = attention.qkv(tokens).view(batch, length, 3, attention.num_heads, -1)
            query, key, _ = qkv.permute(2, 0, 3, 1, 4)
            query, key = attention.q_norm(query), attention.k_norm(key)
            weights = (query[:, :, :1] * attention.scale) @ key.transpose(-2, -1)
            maps.append(weights.softmax(-1).mean(1)[:, 0, model.net.num_prefix_tokens :])
    finally:
        hook.remove()
    return torch.cat(maps).view(-1, *model.net.patch_embed.grid_size)


def _check_vit(model: Model) -> None:
    if not is_vit(model.net) or not model.net.has_class_token:
        raise ValueError(f"{model.name} has no class tokens; give a ViT, e.g. mini/vit-0")
