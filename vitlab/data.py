"""Image sets: rendered stimuli or a folder of photographs, behind one face.

>>> images = load("stimuli", n=32)
>>> len(images), images.classes, images.categories[images.table["label"][3]]
(32, 'stimuli', 'star')
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from vitlab import stimuli
from vitlab.files import digest
from vitlab.rng import generator

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm"}
# How a whole file of the two common formats ends; a download or copy that broke off does not.
_ENDINGS = {".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9", ".png": b"IEND\xaeB`\x82"}


class DataError(ValueError):
    """Images that cannot be used: missing, empty, damaged, or of unknown classes."""


@dataclass(frozen=True)
class Images:
    """An image set.

    table: a row per image; ``id`` (stable text), ``label`` (index into `categories`), and where
        they are known ``shape`` and ``texture`` (indices too).
    classes: what the labels mean: "stimuli", "imagenet" (1,000 classes), "imagenet-16" (Geirhos'
        16 categories over ImageNet's classes), or "new" (held-out stimuli: no model knows them).
    picture: index -> PIL image, RGB.
    mask: index -> float32 [h, w] in [0, 1], the object; None where no mask is known.
    fingerprint: of the images' identity; part of every key that a result is stored under.
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


def load(
    where: str | Path,
    variant: str = "natural",
    split: str = "test",
    n: int | None = None,
    seed: int = 0,
    held_out: bool = False,
) -> Images:
    """The stimuli of a variant (``where="stimuli"``) or the images of a folder (any other `where`).

    A folder holds one subfolder per class, named by ImageNet's wnids (``n01440764``) or by the 16
    categories of Geirhos et al.; files named like ``cat7-car2.png`` also tell shape and texture.
    n: how many images, all of a folder if None (320 stimuli). Of a folder a fixed random subset,
        the same on every machine.

    Raises DataError for an unknown variant, a missing, empty or unreadable folder, a truncated or
    unreadable image, and class names that cannot be told.
    """
    if n is not None and n < 1:
        raise DataError(f"n_images must be at least 1, got {n}")
    if str(where) == "stimuli":
        return _stimuli(variant, split, n or 320, seed, held_out)
    return _folder(Path(where), n, seed)


def _stimuli(variant: str, split: str, n: int, seed: int, held_out: bool) -> Images:
    try:
        scenes = [
            stimuli.describe(split, _spread(variant, i, held_out), seed, variant, held_out)
            for i in range(n)
        ]
    except ValueError as error:
        raise DataError(str(error)) from None
    shapes = stimuli.HELD_OUT if held_out else stimuli.CATEGORIES
    textures = stimuli.TEXTURE_NAMES[16:] if held_out else stimuli.TEXTURE_NAMES[:16]
    table = stimuli.table(scenes)
    table["texture"] = [textures.index(t) for t in table["texture"]]
    table["shape"] = [shapes.index(s) for s in table["shape"]]
    return Images(
        f"stimuli ({'held-out, ' if held_out else ''}{variant})",
        table,
        shapes,
        "new" if held_out else "stimuli",
        lambda i: Image.fromarray(stimuli.draw(scenes[i])[0]),
        lambda i: stimuli.draw_mask(scenes[i]),
        stimuli.fingerprint(scenes),
    )


def _spread(variant: str, i: int, held_out: bool) -> int:
    """Order cue-conflict pairs so that the first n use every shape equally often."""
    if variant != "cue-conflict":
        return i
    count = 8 if held_out else 16
    rounds, shape = divmod(i, count)
    pair = shape * (count - 1) + (rounds + 4 * shape) % (count - 1)
    return pair + count * (count - 1) * (rounds // (count - 1))


def _folder(folder: Path, n: int | None, seed: int) -> Images:
    if not folder.is_dir():
        raise DataError(
            f"image folder {str(folder)!r} does not exist; "
            "give 'stimuli' or a folder of class subfolders"
        )
    try:
        files = sorted(
            p
            for p in folder.glob("*/*")
            if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")
        )
    except OSError as error:
        raise DataError(f"image folder {str(folder)!r} cannot be read: {error}") from None
    if not files:
        raise DataError(
            f"image folder {str(folder)!r} holds no images in class subfolders "
            f"({', '.join(sorted(SUFFIXES))})"
        )
    classes, categories = _classes({p.parent.name for p in files}, folder)
    if n is not None and n < len(files):
        chosen = generator("subset", seed, len(files)).permutation(len(files))[:n]
        files = [files[i] for i in sorted(chosen)]
    problems = [problem for problem in map(_problem, files) if problem]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{more}; replace or remove it and start again")
    place = {name: i for i, name in enumerate(categories)}
    table = pd.DataFrame(
        {
            "id": [p.relative_to(folder).as_posix() for p in files],
            "label": [place[p.parent.name] for p in files],
        }
    )
    cues = [re.fullmatch(r"([a-z]+)\d+-([a-z]+)\d+", p.stem) for p in files]
    if all(m and m[1] in place and m[2] in place for m in cues):
        table["shape"] = [place[m[1]] for m in cues if m]
        table["texture"] = [place[m[2]] for m in cues if m]
    return Images(
        folder.name,
        table,
        categories,
        classes,
        lambda i: _open(files[i]),
        None,
        digest(*(f"{i}:{p.stat().st_size}" for i, p in zip(table["id"], files, strict=True))),
    )


def _classes(found: set[str], folder: Path) -> tuple[str, tuple[str, ...]]:
    for classes, known in (("imagenet", imagenet_wnids()), ("imagenet-16", tuple(imagenet_16()))):
        if found <= set(known):
            return classes, known
    strange = sorted(found - set(imagenet_wnids()) - set(imagenet_16()))
    raise DataError(
        f"class folders of {str(folder)!r} are neither ImageNet wnids nor the 16 categories "
        f"({', '.join(imagenet_16())}): {', '.join((strange or sorted(found))[:5])}"
    )


def _problem(path: Path) -> str:
    """What is wrong with an image file, seen without decoding it whole; empty if nothing is."""
    try:
        with Image.open(path) as image:
            image.verify()
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            tail = file.read()
    except UnidentifiedImageError:
        return f"{path} is not an image ({path.stat().st_size} bytes)"
    except (OSError, SyntaxError) as error:
        return f"{path} cannot be read: {error}"
    ending = _ENDINGS.get(path.suffix.lower())
    formats = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
    if ending and image.format == formats[path.suffix.lower()] and ending not in tail:
        return f"{path} is truncated: it does not end as a {image.format} file does"
    return ""


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


@cache
def imagenet_wnids() -> tuple[str, ...]:
    """ImageNet-1k's class folders in the order of a model's 1,000 outputs."""
    return tuple(timm.data.ImageNetInfo().label_names())


@cache
def imagenet_16() -> dict[str, list[str]]:
    """The 16 categories of Geirhos et al. (2019) and the ImageNet classes that belong to each."""
    return json.loads(Path(__file__).with_name("imagenet_16.json").read_text())


def decision_matrix(model_classes: str, image_classes: str) -> Tensor | None:
    """How a model's class probabilities become decisions about the images' categories.

    None: the model's own classes are the categories. Otherwise float [classes, categories]:
    probabilities times this is the mean over each category's member classes (Geirhos et al. 2019).

    Raises DataError where the model cannot decide about such images.
    """
    if model_classes == image_classes:
        return None
    if (model_classes, image_classes) == ("imagenet", "imagenet-16"):
        matrix = torch.zeros(len(imagenet_wnids()), len(imagenet_16()))
        for column, members in enumerate(imagenet_16().values()):
            rows = [imagenet_wnids().index(wnid) for wnid in members]
            matrix[rows, column] = 1 / len(rows)
        return matrix
    raise DataError(
        f"a model trained on {model_classes} classes cannot decide about {image_classes} images; "
        "give models= and images= that go together, e.g. models=efficientnet-lite0 for photographs"
    )


def cue_conflict(where: str | Path, n: int | None = None, seed: int = 0) -> Images:
    """Cue-conflict images: stimuli, or a folder whose file names tell shape and texture.

    Raises DataError as `load` does, and where the folder's names do not tell the two cues.
    """
    images = load(where, "cue-conflict", n=n, seed=seed)
    if "texture" not in images.table:
        raise DataError(
            f"{str(where)!r} holds no cue-conflict images: their files are named like "
            "cat7-car2.png, in a folder of the shape's category"
        )
    return images


def human_decisions() -> pd.DataFrame:
    """People's decisions on the cue-conflict images of Geirhos et al. 2019, a row per category.

    Columns: category, shape, texture, other (counts, ten people pooled, conflicts only). CC BY 4.0.
    """
    return pd.read_csv(Path(__file__).with_name("human_cue_conflict.csv"))
