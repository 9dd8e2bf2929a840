"""A picture bent: the elastic transform of ImageNet-C and of CIFAR-10-C, whose strengths differ."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates


def bent(picture: np.ndarray, lengths: Sequence[float], draw: Any, cv2: ModuleType) -> np.ndarray:
    """A random affine map, then smooth random displacements: uint8 [h, w, 3] to float, 0 to 255.

    lengths: amplitude and width of the displacements, reach of the shifts of three corners, in
    pixels. draw: a RandomState, or NumPy's global state, ``np.random``.
    """
    amplitude, width, reach = lengths
    h, w = picture.shape[:2]
    middle, third = np.array((h, w), np.float32) // 2, min(h, w) // 3
    corners = [middle + third, (middle[0] + third, middle[1] - third), middle - third]
    before = np.asarray(corners, np.float32)
    after = before + draw.uniform(-reach, reach, before.shape).astype(np.float32)
    affine = cv2.getAffineTransform(before, after)
    image = picture.astype(np.float32) / 255
    image = cv2.warpAffine(image, affine, (w, h), borderMode=cv2.BORDER_REFLECT_101)
    right, down = (
        gaussian_filter(draw.uniform(-1, 1, (h, w)), width, mode="reflect", truncate=3) * amplitude
        for _ in range(2)
    )
    rows, columns = np.mgrid[:h, :w]
    places = rows + down.astype(np.float32), columns + right.astype(np.float32)
    moved = [map_coordinates(image[..., c], places, order=1, mode="reflect") for c in range(3)]
    return np.clip(np.stack(moved, -1), 0, 1) * 255
