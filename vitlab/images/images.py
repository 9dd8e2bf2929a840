"""What an image set is, and how its files are decoded. Little else: kept trials depend on it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

import vitlab.images.jpeg as jpeg
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


# What is read, whatever a file is called. Pillow's other readers may start programs (EPS) or wait.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


def decode(path: Path) -> Image.Image:
    """A file's picture as RGB, not turned by its EXIF orientation (as in published evaluations).

    Grey of 16 bits is scaled to 8. What is transparent is seen on white.

    Raises DataError for a file that cannot be read, is too large or has numbers of other kinds.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            return as_rgb(image)
    except UnidentifiedImageError:
        raise DataError(f"{path} is not an image") from None
    except Exception as error:  # readers raise all kinds for broken headers
        content = path.read_bytes() if path.is_file() else b""
        if content[:2] == b"\xff\xd8" and jpeg.end(content) < 0 and _whole(content):
            with Image.open(io.BytesIO(content + jpeg.END), formats=FORMATS) as image:
                return as_rgb(image)
        raise DataError(f"{path} cannot be read: {error or type(error).__name__}") from None


def _whole(content: bytes) -> bool:
    try:
        return jpeg.is_whole(content)
    except Exception:
        return False


def as_rgb(image: Image.Image) -> Image.Image:
    """A picture as RGB, see `decode`. Raises DataError for numbers of other kinds."""
    if image.mode == "F":
        raise DataError("its pixels are floating point; save it with 8 or 16 bits a colour")
    if image.mode.startswith("I"):  # 16 bits, which Pillow would cut at 255
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            values = f"{grey.min()} to {grey.max()}"
            raise DataError(f"its pixels go from {values}; save it with 8 or 16 bits a colour")
        return Image.fromarray(np.round(grey / 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        above = image.convert("RGBA")
        ground = Image.new("RGBA", above.size, "white")
        return Image.alpha_composite(ground, above).convert("RGB")
    return image.convert("RGB")
