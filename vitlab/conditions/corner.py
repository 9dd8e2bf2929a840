"""A picture shrunk and put into a corner of a black canvas (Naseer et al. 2021, table 8).

The picture is as a model sees it; the canvas has the same size. The paper's is 128 px on 224 px.
As controls the canvas may also be grey, or the picture may go on in it, mirrored at its edges.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vitlab.conditions.condition import Batch, Condition
from vitlab.files import nearest

CORNERS = ("top left", "top right", "bottom left", "bottom right")
CANVASES = ("black", "grey", "mirrored")  # black is the paper's
SHARE = 128 / 224  # the paper's: the small picture's side over the canvas's


def shrunken_side(size: int, share: float = SHARE) -> int:
    """Side of the small picture, whole pixels, rounded down: 128 of 224, 36 of 64."""
    return int(size * share + 1e-9)


def paste(small: Tensor, size: int, place: str, canvas: str = "black") -> Tensor:
    """A small picture on a canvas: float [B, 3, h, w] to [B, 3, size, size].

    place: "top left", "top right", "bottom left", "bottom right" or "centre"; canvas: "black",
    "grey" (0.5) or "mirrored": the picture goes on, mirrored at each of its edges.

    Raises ValueError for another place or canvas, and for a picture larger than the canvas.
    """
    _check_place(place)
    _check_canvas(canvas)
    height, width = small.shape[-2:]
    if max(height, width) > size:
        raise ValueError(f"a {height} x {width} px picture does not fit on {size} x {size} px")
    top, left = (size - height) // 2, (size - width) // 2
    if place != "centre":
        top = 0 if place.startswith("top") else size - height
        left = 0 if place.endswith("left") else size - width
    if canvas == "mirrored":
        rows, columns = _mirrored(height, size, top), _mirrored(width, size, left)
        return small[..., rows[:, None], columns]
    whole = small.new_full((*small.shape[:-2], size, size), 0.5 if canvas == "grey" else 0.0)
    whole[..., top : top + height, left : left + width] = small
    return whole


def _mirrored(length: int, size: int, start: int) -> Tensor:
    """Which of a row's pixels is at each place of a longer row: int64 [size]."""
    there = (torch.arange(size) - start) % (2 * length)
    return torch.minimum(there, 2 * length - 1 - there)


def conditions(
    places: Sequence[str] = CORNERS,
    share: float = SHARE,
    name: str = "corner, {}",
    canvas: str = "black",
) -> list[Condition]:
    """A condition per place; their level is `share`, their name says the place.

    share: side of the small picture over the canvas's. It is shrunk bilinearly with antialiasing.
    canvas: as in `paste`; each needs a name of its own.

    Raises ValueError for an unknown place or canvas and a share outside 0..1; the conditions raise
    it for images of which the share is no pixel.
    """
    for place in places:
        _check_place(place)
    _check_canvas(canvas)
    if not 0 < share <= 1:
        raise ValueError(f"share {share} is outside 0..1 (of the canvas's side)")

    def condition(place: str) -> Condition:
        def apply(batch: Batch) -> Tensor:
            size = batch.pixels.shape[-1]
            side = shrunken_side(size, share)
            small = F.interpolate(
                batch.pixels, (side, side), mode="bilinear", antialias=True, align_corners=False
            )
            return paste(torch.clamp(small, 0, 1), size, place, canvas)

        key = place if canvas == "black" else f"{place}, {canvas}"
        return Condition(
            name.format(place), share, apply, 0, lambda size: _check_size(size, share), key
        )

    return [condition(place) for place in places]


def _check_place(place: str) -> None:
    known = [*CORNERS, "centre"]
    if place not in known:
        raise ValueError(f"unknown place {place!r}{nearest(place, known)}")


def _check_canvas(canvas: str) -> None:
    if canvas not in CANVASES:
        raise ValueError(f"unknown canvas {canvas!r}{nearest(canvas, CANVASES)}")


def _check_size(size: int, share: float) -> None:
    if shrunken_side(size, share) < 1:
        raise ValueError(f"a share of {share:g} of {size} px is no pixel")
