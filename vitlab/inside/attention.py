"""Where a model looks: attention of single tokens, attention rollout, Grad-CAM; maps as masks.

Maps are float [n, rows, columns], computed in float32 on the model's device and handed back on the
CPU. As in `tokens`, a stack holds pixels in [0, 1] before normalisation, float [n, 3, size, size].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitlab.conditions.patchdrop import check_maps, top_cells
from vitlab.files import nearest
from vitlab.inside.tokens import finite, in_batches, prepared, require, watched, why_not
from vitlab.models.model import Model


@torch.inference_mode()
def token_attention(model: Model, stack: Tensor, token: int = 0, batch_size: int = 64) -> Tensor:
    """Attention of a token to the patches in the last block, head by head.

    token: place among the prefix tokens: 0 the class token; in a distilled DeiT 1 the distillation
        token (Naseer et al. 2021: the shape token).

    Returns float [n, heads, rows, columns]; the rest of each map's mass is on the prefix tokens.

    Raises ValueError for a model without attention from a class token, and for a token that it
    does not have.
    """
    require(model, "attention")
    prefix = model.net.num_prefix_tokens
    if not 0 <= token < prefix:
        raise ValueError(
            f"{model.name}: there is no token {token}; its prefix tokens are "
            f"{', '.join(map(str, range(prefix)))} (0: class token)"
        )
    maps = []
    with watched([model.net.blocks[-1].attn]) as seen:
        for pixels in in_batches(stack, batch_size):
            model.net.forward_features(prepared(model, pixels))
            maps.append(finite(model, seen.pop()[:, :, token, prefix:]))
    return torch.cat(maps).unflatten(-1, model.net.patch_embed.grid_size)


@torch.inference_mode()
def rollout(model: Model, stack: Tensor, batch_size: int = 64) -> Tensor:
    """Attention rollout (Abnar & Zuidema 2020, section 3): how much of each patch reaches the end.

    Per block the attention is averaged over heads, the identity is added for the residual
    connection, rows are normalised; the blocks' matrices are multiplied. Returned is the class
    token's row over the patches, normalised: float [n, rows, columns], each map sums to 1.

    Raises ValueError for a model without attention from a class token.
    """
    require(model, "attention")
    maps = []
    with watched([block.attn for block in model.net.blocks]) as seen:
        for pixels in in_batches(stack, batch_size):
            model.net.forward_features(prepared(model, pixels))
            # From the end: only the class token's row of the product is needed.
            row = None
            for attention in reversed(seen):
                mixed = attention.mean(1) + torch.eye(attention.shape[-1], device=attention.device)
                mixed = mixed / mixed.sum(-1, keepdim=True)
                row = mixed[:, :1] if row is None else row @ mixed
            seen.clear()
            assert row is not None
            patches = row[:, 0, model.net.num_prefix_tokens :]
            maps.append(finite(model, patches / patches.sum(-1, keepdim=True)))
    return torch.cat(maps).unflatten(-1, model.net.patch_embed.grid_size)


def grad_cam(
    model: Model,
    stack: Tensor,
    classes: Tensor | None = None,
    batch_size: int = 64,
    layer: str = "",
) -> Tensor:
    """Grad-CAM at a CNN's last feature map (Selvaraju et al. 2017, section 3).

    Channels are weighted by the mean gradient of a class's logit, summed, and cut at zero.

    stack: a CNN takes other square sizes than its own, too; its map has more or fewer cells then,
        and objects are of other sizes than those that it was trained on.
    classes: which of the model's own classes, long [n]; the predicted ones if None.
    layer: the module whose output is the map, e.g. "layer3"; the last map if empty (that of
        the mini CNN has 2 x 2 cells).

    Returns float [n, rows, columns]; each map sums to 1, or is all zero if no cell raises the
    class's logit.

    Raises ValueError for a network without timm's forward_features and forward_head, for features
    that are not a map (square, channels first or last), for an unknown layer, and for classes that
    are not one of the model's for each image.
    """
    if why := why_not(model, "features"):
        raise ValueError(f"{model.name}: {why}; give a CNN, e.g. mini/cnn-0")
    modules = dict(model.net.named_modules())
    if layer and layer not in modules:
        raise ValueError(f"{model.name} has no layer {layer!r}{nearest(layer, list(modules))}")
    if classes is not None and (classes.shape != (len(stack),) or classes.is_floating_point()):
        got = f"{classes.dtype} {[*classes.shape]}"
        raise ValueError(f"{len(stack)} images need as many classes, long, got {got}")
    maps = []
    parts = in_batches(stack, batch_size)
    asked = [None] * len(parts) if classes is None else classes.split(batch_size)
    for pixels, wanted in zip(parts, asked, strict=True):
        features, logits = _features_and_logits(model, pixels, modules[layer] if layer else None)
        finite(model, logits.detach())
        chosen = logits.argmax(1) if wanted is None else wanted.to(logits.device)
        if not 0 <= int(chosen.min()) <= int(chosen.max()) < logits.shape[1]:
            ends = f"{int(chosen.min())} to {int(chosen.max())}"
            raise ValueError(f"classes go from {ends}, {model.name} has {logits.shape[1]}")
        [gradient] = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), features)
        if _channels_last(model, features):
            features, gradient = features.permute(0, 3, 1, 2), gradient.permute(0, 3, 1, 2)
        weights = gradient.mean((2, 3), keepdim=True)
        cam = (weights * features.detach()).sum(1).relu()
        total = cam.sum((1, 2), keepdim=True)
        maps.append((cam / total.where(total > 0, 1)).cpu())
    return torch.cat(maps)


def _channels_last(model: Model, features: Tensor) -> bool:
    """Whether a map has its channels last, told by which two sides are equal."""
    _, a, b, c = features.shape
    if a == b == c:
        return getattr(model.net, "output_fmt", "NCHW") == "NHWC"
    return a == b


@torch.enable_grad()
def _features_and_logits(
    model: Model, pixels: Tensor, layer: nn.Module | None
) -> tuple[Tensor, Tensor]:
    """A feature map, with gradients recorded from there on, and the logits computed from it."""
    net, kept = model.net, []

    def keep(features: Tensor) -> Tensor:
        sides = features.shape[1:]
        square = features.ndim == 4 and (sides[1] == sides[2] or sides[0] == sides[1])
        if not square or (layer is None and net.num_features not in sides):
            raise ValueError(
                f"{model.name}: its features are {tuple(features.shape[1:])}, not a square map of "
                "(channels, rows, columns); give a CNN, e.g. mini/cnn-0, and square pixels"
            )
        kept.append(features.detach().requires_grad_(True))
        return kept[-1].clone()  # an in-place activation may follow

    if layer is None:
        logits = net.forward_head(keep(net.forward_features(prepared(model, pixels))))
    else:
        hook = layer.register_forward_hook(lambda module, inputs, features: keep(features))
        try:
            logits = net(prepared(model, pixels))
        finally:
            hook.remove()
    return kept[-1], logits


def mass_mask(maps: Tensor, mass: float = 0.9) -> Tensor:
    """The cells that hold the top share of each map's mass: bool, shaped like maps [..., h, w].

    The rule of `conditions.patchdrop.top_cells` (Naseer et al. 2021, section 3.3, as released).
    """
    return top_cells(maps.flatten(0, -3), mass).view_as(maps)


def area_mask(maps: Tensor, share: float) -> Tensor:
    """The highest cells of each map that fill a share of its area: bool, shaped like maps.

    At least one cell. Unlike `mass_mask` it does not depend on how concentrated a map is, only on
    the order of its cells; among equal cells the first are kept.

    Raises ValueError for a share outside 0..1 and for NaN.
    """
    if not 0 <= share <= 1 or maps.isnan().any():
        raise ValueError(f"a share is 0 to 1 and a map has no NaN; got {share}")
    flat = maps.flatten(-2)
    kept = max(1, round(share * flat.shape[-1]))
    order = flat.sort(dim=-1, descending=True, stable=True).indices[..., :kept]
    return torch.zeros_like(flat, dtype=torch.bool).scatter(-1, order, True).view_as(maps)


def enlarged(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks repeated to a size in pixels, nearest neighbour: [..., rows, columns] to [..., h, w].

    Raises ValueError if the cells do not divide the size.
    """
    (rows, columns), (height, width) = masks.shape[-2:], size
    if height % rows or width % columns:
        raise ValueError(f"{rows} x {columns} cells do not divide {height} x {width} pixels")
    return masks.repeat_interleave(height // rows, -2).repeat_interleave(width // columns, -1)


def jaccard(masks: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union of masks, bool [..., h, w] (broadcast): float64 [...] in [0, 1].

    Two empty masks have 0, as scikit-learn's ``jaccard_score(zero_division=0)``. Raises ValueError
    for masks that are not bool.
    """
    if masks.dtype != torch.bool or truth.dtype != torch.bool:
        raise ValueError(f"masks are bool, not {masks.dtype} and {truth.dtype}")
    both = (masks & truth).sum((-2, -1)).double()
    return both / (masks | truth).sum((-2, -1)).clamp_min(1)


def best_head(masks: Tensor, truth: Tensor) -> Tensor:
    """Jaccard index of an image: the best head for each object, averaged over its objects.

    masks: bool [heads, h, w]; truth: bool [objects, h, w]. Returns a float64 scalar.

    The protocol of the segmentation table in Naseer et al. 2021. The best head is chosen by
    looking at the truth, so more heads score higher by selection alone. Raises ValueError for no
    heads or objects.
    """
    if not len(masks) or not len(truth):
        raise ValueError(f"{len(masks)} heads and {len(truth)} objects: give one of each at least")
    return jaccard(masks[None], truth[:, None]).amax(1).mean()


def area_of_mass(maps: Tensor, mass: float = 0.8) -> Tensor:
    """Share of the area that the smallest region with `mass` of each map takes: float [n].

    maps: float [n, h, w], none negative. The last cell counts in part.

    >>> area_of_mass(torch.ones(1, 2, 2))
    tensor([0.8000])

    A map of zeros has no such region: NaN. Raises ValueError for negative values, NaN, infinity,
    and a mass outside 0..1.
    """
    check_maps(maps, mass)
    shares = (maps / maps.sum((1, 2), keepdim=True)).flatten(1).sort(1, descending=True).values
    before = shares.cumsum(1) - shares
    return ((mass - before) / shares.clamp_min(1e-12)).clamp(0, 1).mean(1)
