"""What is done to an image before a model sees it.

A condition maps raw pixels in [0, 1] to raw pixels in [0, 1], before normalisation. Its random
choices are keyed by the image's id, so they do not depend on how images are batched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Images on their way to a model.

    pixels: float [B, 3, h, w] in [0, 1]; ids: their stable names; index: long [B], their places in
    the image set; masks: the objects, float [B, h, w] in [0, 1], labels: long [B], where known.
    """

    pixels: Tensor
    ids: tuple[str, ...]
    index: Tensor
    masks: Tensor | None = None
    labels: Tensor | None = None


@dataclass(frozen=True)
class Condition:
    """One column of an experiment: what is done, how much of it (`level`), which random draw.

    apply: batch -> pixels, float [B, 3, h, w] in [0, 1].
    check: called with the pixels' side before anything is computed; raises ValueError if the
        condition cannot be applied at that size.
    key: whatever else the outcome depends on (seed, a saliency map's fingerprint...).
    """

    name: str
    level: float
    apply: Callable[[Batch], Tensor]
    draw: int = 0
    check: Callable[[int], None] = lambda size: None
    key: str = ""


CLEAN = Condition("clean", 0.0, lambda batch: batch.pixels)
