"""How the zoos keep weights: in 16 bits, or matrices and convolutions in 8.

Both are plain safetensors. A file of 8 bits holds, for the weight NAME of n output channels,

``NAME``        int8, of the weight's own shape, from -127 to 127
``NAME.scale``  float32 [n]: what a step is worth in each output channel (the first axis)

and the weight is ``NAME * NAME.scale``, channel by channel. All else is there as in a file of
16 bits.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

State = Mapping[str, Tensor]
BITS = (8, 16)  # that a recipe can ask for
LEVELS = 127  # steps to either side of 0
_SCALE = ".scale"


def keep(state: State, bits: int) -> dict[str, Tensor]:
    """The tensors of a file that keeps a network's state in 8 or 16 bits, on the CPU.

    Raises ValueError as `pack` does.
    """
    if bits == 8:
        return pack(state)
    return {name: _half(name, value) for name, value in state.items()}


def pack(state: State) -> dict[str, Tensor]:
    """A network's state in 8 bits: each number to the nearest of its output channel's 255 levels.

    A number of more than one axis is off by half a step at most. A step is 1/127 of the channel's
    largest number, rounded to the 8 significant bits of bfloat16: 0.2 % larger or smaller at most,
    so the largest number itself may be off by a quarter of a step. In a channel whose step would be
    below 2**-126 all numbers become 0. What has one axis, one channel (positions, class tokens), no
    number at all or no fractions is kept in 16 bits, or as it is.

    Raises ValueError for numbers that are not finite, also after rounding; for whole numbers of 8
    bits, which would be taken for levels; and for a name that ends in ".scale".
    """
    tensors: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.endswith(_SCALE):
            raise ValueError(f"{name}: no weight can be called like the scale of another")
        if not value.is_floating_point() or value.ndim < 2 or len(value) < 2 or not value.numel():
            tensors[name] = _half(name, value)
            continue
        exact = value.detach().cpu().double()
        if not exact.isfinite().all():
            raise ValueError(f"{name} is not finite")
        largest = exact.abs().flatten(1).amax(1)
        # A step of 8 significant bits times a level is exact in 32, so weights that were unpacked
        # are packed to themselves.
        scale = (largest / LEVELS).bfloat16().float()
        scale[scale < torch.finfo(torch.float32).tiny] = 1.0  # a channel of zeros
        if not (scale * LEVELS).isfinite().all():
            raise ValueError(f"{name} is not finite in 8 bits")
        tensors[name] = (exact / _along(scale, exact)).round().to(torch.int8).contiguous()
        tensors[name + _SCALE] = scale
    return tensors


def unpack(tensors: State) -> dict[str, Tensor]:
    """The state that a file of the zoo holds: numbers of 8 bits in 32, all else as it is there.

    Raises ValueError for numbers of 8 bits without a finite step for each channel.
    """
    state: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if name.endswith(_SCALE):
            continue
        scale = tensors.get(name + _SCALE)
        if scale is None and value.dtype == torch.int8:
            raise ValueError(f"{name} has 8 bits and no {name}{_SCALE}")
        if scale is not None and (value.ndim < 1 or scale.shape != value.shape[:1]):
            raise ValueError(f"{name}{_SCALE} is not a number for each channel of {name}")
        if scale is not None and not scale.isfinite().all():
            raise ValueError(f"{name}{_SCALE} is not finite")
        state[name] = value if scale is None else value.float() * _along(scale, value)
    return state


def bits(tensors: State) -> int:
    """In how many bits a file of the zoo keeps its weights."""
    return 8 if any(name.endswith(_SCALE) for name in tensors) else 16


def _half(name: str, value: Tensor) -> Tensor:
    if value.dtype == torch.int8:
        raise ValueError(f"{name} would be taken for levels without a scale")
    kept = (value.half() if value.is_floating_point() else value).contiguous().cpu()
    if not kept.isfinite().all():
        raise ValueError(f"{name} is not finite in 16 bits")
    return kept


def _along(scale: Tensor, value: Tensor) -> Tensor:
    """A number a channel, shaped so that it multiplies a weight's first axis."""
    return scale.view(-1, *[1] * (value.ndim - 1))
