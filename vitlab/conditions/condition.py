"""Images on their way to a model, and what is done to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from vitlab.rng import check_seed


@dataclass(frozen=True)
class Batch:
    """Images on their way to a model.

    pixels: float [B, 3, h, w] in [0, 1]; ids: their stable names; index: long [B], their places in
    the image set; masks: the objects, float [B, h, w] in [0, 1], labels: long [B], where known.

    Nothing is checked here, for each batch of a run is one: `check_pixels` tells pixels beyond.
    """

    pixels: Tensor
    ids: tuple[str, ...]
    index: Tensor
    masks: Tensor | None = None
    labels: Tensor | None = None


@dataclass(frozen=True)
class Condition:
    """One column of an experiment: what is done, how much of it (`level`), which random draw.

    apply: batch -> pixels, float [B, 3, h, w] in [0, 1]. The engine looks at what it gives; called
        directly it takes the batch's pixels to be in [0, 1], and 0 to 255 or NaN pass unseen.
    check: called with the pixels' side before anything is computed; raises ValueError if the
        condition cannot be applied at that size.
    key: whatever else the outcome depends on (seed, a saliency map's fingerprint...), apart from
        the code of the module where `apply` is defined.
    """

    name: str
    level: float
    apply: Callable[[Batch], Tensor]
    draw: int = 0
    check: Callable[[int], None] = lambda size: None
    key: str = ""


CLEAN = Condition("clean", 0.0, lambda batch: batch.pixels)


def check_draws(draws: int, seed: int) -> None:
    """Raises ValueError for less than one draw, of which there would be no condition.

    And for a seed that is no integer.
    """
    check_seed(seed)
    if draws < 1:
        raise ValueError(f"a condition is drawn at least once, got draws={draws}")


def check_pixels(pixels: Tensor) -> Tensor:
    """The pixels as they are, if they are floats [B, 3, h, w] in [0, 1].

    Raises ValueError otherwise, e.g. for 8-bit ones, which go up to 255, and for one image alone.
    """
    if pixels.ndim != 4 or pixels.shape[1] != 3:
        raise ValueError(f"pixels are [images, 3, height, width], not {[*pixels.shape]}")
    if not pixels.is_floating_point():
        raise ValueError(
            f"pixels are floats in [0, 1], not {pixels.dtype}; for 8-bit ones: pixels.float() / 255"
        )
    low, high = (float(end) for end in pixels.aminmax()) if pixels.numel() else (0, 0)
    if not 0 <= low <= high <= 1:
        raise ValueError(
            f"pixels are in [0, 1], these go from {low:g} to {high:g}; give those before "
            "normalisation, 8-bit ones divided by 255"
        )
    return pixels
