"""DeepAugment: pictures seen through an image-to-image network whose weights are damaged.

Hendrycks et al. (2021, The Many Faces of Robustness, section 4) damage two trained networks, EDSR
and an auto-encoder, and, in a variant called Noise2Net, let each image of a batch pass through
random residual weights of its own. Here the network is small and needs no training: undamaged, it
returns the picture. Each of its layers writes every 3 x 3 patch in an orthonormal basis, keeps what
is positive and what is negative of it apart (two ReLUs), and puts the patches together again. Its
filters are damaged for each image anew, and a share of what comes out is mixed into what went in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vitlab.rng import generator

Damage = Callable[[Tensor, np.random.Generator], Tensor]
_SIDE = 3  # of a filter, pixels
_LEAST, _MOST = 0.375, 0.75  # how much of a layer's output is mixed in, as in Noise2Net


@cache
def basis(layer: int) -> Tensor:
    """The undamaged filters of a layer: an orthonormal basis of patches, then its negative.

    float32 [54, 3, 3, 3].
    """
    size = 3 * _SIDE**2
    drawn = generator("deepaugment", "basis", layer).standard_normal((size, size))
    rows = torch.from_numpy(np.linalg.qr(drawn)[0]).float().reshape(size, 3, _SIDE, _SIDE)
    return torch.cat([rows, -rows])


# --- what is done to an image's filters, [54, 3, 3, 3] to the same ------------------------------


def flip(filters: Tensor, rng: np.random.Generator) -> Tensor:
    """All filters mirrored along one axis: colours, rows or columns."""
    return filters.flip(int(rng.integers(1, 4)))


def turn(filters: Tensor, rng: np.random.Generator) -> Tensor:
    """All filters turned by 90, 180 or 270 degrees."""
    return filters.rot90(int(rng.integers(1, 4)), (2, 3))


def negate_half(filters: Tensor, rng: np.random.Generator) -> Tensor:
    """A random half of the filters negated. Of all, it would be inverted colours: a rendition."""
    half = torch.from_numpy(rng.permutation(len(filters))[: len(filters) // 2])
    return filters.index_copy(0, half, -filters[half])


def zero_half(filters: Tensor, rng: np.random.Generator) -> Tensor:
    """A random half of the filters set to zero."""
    kept = torch.from_numpy(rng.permutation(len(filters)) < len(filters) // 2)
    return filters * kept[:, None, None, None]


def minus_gelu(filters: Tensor, rng: np.random.Generator) -> Tensor:
    """Weights replaced by minus their GELU."""
    return -F.gelu(filters)


def laplacian(filters: Tensor, rng: np.random.Generator) -> Tensor:
    """Weights multiplied by a stencil: the middle against the rim."""
    stencil = torch.full((_SIDE, _SIDE), -1.0)
    stencil[_SIDE // 2, _SIDE // 2] = _SIDE**2 - 1.0
    return filters * stencil


def factors(filters: Tensor, rng: np.random.Generator) -> Tensor:
    """Weights multiplied by independent normal numbers around 1."""
    return filters * (1 + torch.from_numpy(rng.standard_normal(filters.shape)).float())


def noise(filters: Tensor, rng: np.random.Generator) -> Tensor:
    """Uniform noise added to the weights, as strong as they are."""
    drawn = rng.uniform(-1, 1, filters.shape)
    return filters + torch.from_numpy(drawn).float() * filters.std() * 3**0.5


def signs(filters: Tensor, rng: np.random.Generator) -> Tensor:
    """Each weight's sign drawn anew."""
    return filters * torch.from_numpy(rng.choice([-1.0, 1.0], filters.shape)).float()


def mask(filters: Tensor, rng: np.random.Generator) -> Tensor:
    """Each weight set to zero with probability 1/2."""
    return filters * torch.from_numpy(rng.integers(0, 2, filters.shape)).float()


def blend(filters: Tensor, rng: np.random.Generator) -> Tensor:
    """Filters convolved with one random kernel of positive weights (Dirichlet) that sum to 1."""
    kernel = torch.from_numpy(rng.dirichlet(np.ones(_SIDE**2))).float().view(1, 1, _SIDE, _SIDE)
    return F.conv2d(filters.flatten(0, 1)[:, None], kernel, padding=1).view(filters.shape)


def shift(filters: Tensor, rng: np.random.Generator) -> Tensor:
    """All filters moved by up to a pixel each way, what leaves coming in at the other side."""
    return filters.roll(tuple(rng.integers(-1, 2, 2).tolist()), (2, 3))


def largest(filters: Tensor, rng: np.random.Generator) -> Tensor:
    """Of every filter and colour only the weight that is largest in size."""
    taps = filters.abs().flatten(2)
    return filters * (taps == taps.amax(2, keepdim=True)).view(filters.shape)


DAMAGES: tuple[Damage, ...] = (
    *(flip, turn, negate_half, zero_half, minus_gelu, laplacian, factors),
    *(noise, signs, mask, blend, shift, largest),
)


# --- what is done to an image's features, [54, h, w] to the same --------------------------------


def swap(features: Tensor, rng: np.random.Generator) -> Tensor:
    """Five random pairs of channels exchanged."""
    order = np.arange(len(features))
    pairs = rng.permutation(len(features))[:10].reshape(2, 5)
    order[pairs] = order[pairs[::-1]]
    return features[torch.from_numpy(order)]


def _some(features: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Places of about a share of the entries, long."""
    count = int(share * features.numel())
    return torch.from_numpy(rng.integers(0, features.numel(), count))


def drop(features: Tensor, rng: np.random.Generator) -> Tensor:
    """About 5 % of the entries set to zero."""
    return features.flatten().index_fill(0, _some(features, 0.05, rng), 0).view(features.shape)


def reverse(features: Tensor, rng: np.random.Generator) -> Tensor:
    """The sign of about 2.5 % of the entries changed."""
    places = _some(features, 0.025, rng)
    flat = features.flatten()
    return flat.index_copy(0, places, -flat[places]).view(features.shape)


def nothing(features: Tensor, rng: np.random.Generator) -> Tensor:
    """Features as they are."""
    return features


FORWARD: tuple[Damage, ...] = (swap, drop, reverse, nothing)


# --- the network ----------------------------------------------------------------------------------


def _broken(layer: int, operations: int, rng: np.random.Generator) -> Tensor:
    """A layer's filters after some operations, one after the other."""
    filters = basis(layer)
    for place in rng.permutation(len(DAMAGES))[:operations]:
        filters = DAMAGES[place](filters, rng)
    return filters


def _layer(
    pixels: Tensor, layer: int, operations: int, rngs: Sequence[np.random.Generator]
) -> Tensor:
    """What a layer, damaged for each image, makes of pixels around 0: float [B, 3, h, w].

    It is as strong as what went in, as after the batch norm of Noise2Net.
    """
    count, _, height, width = pixels.shape
    filters = torch.cat([_broken(layer, operations, rng) for rng in rngs])
    rim = F.pad(pixels, (2, 2, 2, 2), mode="reflect")  # so that each pixel is in nine patches
    features = F.conv2d(rim.flatten(0, 1)[None], filters, groups=count)[0].relu()
    features = features.view(count, -1, *features.shape[1:])
    if operations:
        changes = [FORWARD[rng.integers(len(FORWARD))] for rng in rngs]
        done = [how(f, rng) for how, f, rng in zip(changes, features, rngs, strict=True)]
        features = torch.stack(done)
    patches = F.conv_transpose2d(features, basis(layer)) / _SIDE**2
    made = patches[:, :, 2 : 2 + height, 2 : 2 + width]
    return made * (_strength(pixels) / _strength(made).clamp(min=1e-6))


def _strength(pixels: Tensor) -> Tensor:
    return pixels.square().mean((1, 2, 3), keepdim=True).sqrt()


def damaged(pixels: Tensor, keys: Sequence[tuple], layers: int = 2, operations: int = 3) -> Tensor:
    """Pictures through the damaged network: float [B, 3, h, w] in [0, 1] to the same.

    keys: of each picture, what its damage is drawn by; nothing else, and no other picture of the
    batch, has a part in it. operations: how many of `DAMAGES` hit the filters of each layer; with 0
    the network is whole and returns the pictures.
    """
    rngs = [generator("deepaugment", *key) for key in keys]
    middle = pixels.mean((1, 2, 3), keepdim=True)
    found = pixels - middle
    for layer in range(layers):
        share = torch.tensor([rng.uniform(_LEAST, _MOST) for rng in rngs]).float()
        change = _layer(found, layer, operations, rngs) - found
        found = found + share[:, None, None, None] * change
    return (found + middle).clamp(0, 1)
