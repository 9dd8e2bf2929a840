"""PASCAL VOC 2012: photographs with the masks of their objects (Everingham et al. 2010)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from vitlab.files import digest, printable
from vitlab.images import catalogue, contents, fetch
from vitlab.images.decoding import decode
from vitlab.images.errors import DataError
from vitlab.images.images import Images
from vitlab.rng import generator

_NAME = "pascal-voc-2012"
_VOID = 255


def folder(where: str) -> Path | None:
    """The VOC2012 folder of the set by name (fetched if need be) or of a folder; None for others.

    Raises DataError and DownloadError as `fetch.fetch` does.
    """
    if catalogue.is_set(where):
        if catalogue.set_name(where) != _NAME:
            return None
        place = fetch.fetch(_NAME)
    else:
        place = Path(where)
    layouts = [place, place / "VOC2012", place / "VOCdevkit" / "VOC2012"]
    return next((p for p in layouts if (p / "SegmentationClass").is_dir()), None)


def load(place: Path, n: int, seed: int = 0, side: int = 512) -> Images:
    """`n` validation images of the segmentation task at random, resized to side x side pixels.

    place: as `folder` gives it. The labels mean nothing; a mask is the union of an image's objects.

    Raises DataError for files that are missing or damaged.
    """
    ids = (place / "ImageSets" / "Segmentation" / "val.txt").read_text().split()
    chosen = sorted(generator("subset", seed, len(ids)).permutation(len(ids))[:n])
    names = [ids[i] for i in chosen]
    files = [f"JPEGImages/{name}.jpg" for name in names]
    masks = [f"SegmentationClass/{name}.png" for name in names]
    lost = [file for file in (*files, *masks) if not (place / file).is_file()]
    if lost or not names:
        raise DataError(
            f"{printable(place)} lacks {', '.join(map(printable, lost[:3])) or 'all images'}"
        )

    def mask(i: int) -> np.ndarray:
        return objects(place, names[i], side)[0].any(0).float().numpy()

    return Images(
        place.name,
        pd.DataFrame({"id": names, "label": 0}),
        ("objects",),
        "new",
        lambda i: decode(place / files[i]).resize((side, side), Image.Resampling.BILINEAR),
        mask,
        digest(side, *names, *contents.hashes(place, [*files, *masks])),
    )


def objects(place: Path, name: str, side: int = 512) -> tuple[Tensor, Tensor]:
    """An image's objects, one a class, and its void: bool [objects, side, side], [side, side].

    Void are the borders and the difficult parts that the task does not score.
    """
    with Image.open(place / "SegmentationClass" / f"{name}.png") as image:
        index = np.array(image.resize((side, side), Image.Resampling.NEAREST))
    masks = np.stack([index == k for k in np.unique(index) if k not in (0, _VOID)])
    return torch.from_numpy(masks), torch.from_numpy(index == _VOID)
