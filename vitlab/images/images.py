"""What an image set is. Little else: kept trials depend on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from vitlab.files import digest
from vitlab.images.errors import DataError


@dataclass(frozen=True)
class Images:
    """An image set.

    table: a row per image; ``id`` (stable text), ``label`` (index into `categories`), and where
        they are known ``shape`` and ``texture`` (indices too).
    classes: what the labels mean: "stimuli", "imagenet" (1,000 classes), "imagenet-16" (Geirhos'
        16 categories over ImageNet's classes), "imagenet-9", "own" (a set's own: no model here
        decides about them) or "new" (held-out stimuli, images without labels).
    picture: index -> PIL image, RGB.
    mask: index -> float32 [h, w] in [0, 1], the object; None where no mask is known.
    fingerprint: of the images' content and labels; part of every key that a result is stored under.
    """

    name: str
    table: pd.DataFrame
    categories: tuple[str, ...]
    classes: str
    picture: Callable[[int], Image.Image]
    mask: Callable[[int], np.ndarray] | None
    fingerprint: str

    def __len__(self) -> int:
        return len(self.table)

    @property
    def labels(self) -> Tensor:
        """The labels: long [n]."""
        return torch.tensor(self.table["label"].to_numpy())


def masks(images: Images) -> Tensor:
    """The object masks of all images: float [n, h, w] in [0, 1].

    Raises DataError where none are known.
    """
    if images.mask is None:
        raise DataError(f"no object masks are known for {images.name}")
    return torch.from_numpy(np.stack([images.mask(i) for i in range(len(images))]))


def subset(images: Images, places: Sequence[int] | np.ndarray, name: str = "") -> Images:
    """The images at some places of a set, in that order; table, pictures and masks go along.

    name: of the new set, the old one's if empty.

    Raises ValueError where no place is left.
    """
    chosen = [int(i) for i in places]
    if not chosen:
        raise ValueError(f"no image of {images.name} is left")
    mask = images.mask
    return replace(
        images,
        name=name or images.name,
        table=images.table.iloc[chosen].reset_index(drop=True),
        picture=lambda i: images.picture(chosen[i]),
        mask=None if mask is None else lambda i: mask(chosen[i]),
        fingerprint=digest(images.fingerprint, "subset", chosen),
    )
