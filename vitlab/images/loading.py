"""Image sets: rendered stimuli, a set by name, or a folder of photographs, behind one face.

>>> images = load("stimuli", n=32)
>>> len(images), images.classes, images.categories[images.table["label"][3]]
(32, 'stimuli', 'star')
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from vitlab import keys
from vitlab.files import digest, nearest
from vitlab.images import catalogue, cifar, fetch, folders
from vitlab.images.download import DownloadError
from vitlab.images.errors import DataError
from vitlab.images.images import Images
from vitlab.rng import check_seed
from vitlab.stimuli import scenes as stimuli
from vitlab.stimuli import transfer as families


def load(
    where: str | Path,
    variant: str = "natural",
    split: str = "test",
    n: int | None = None,
    seed: int = 0,
    held_out: bool = False,
    subset: str | Path | None = None,
) -> Images:
    """The stimuli of a variant, the images of a set by name, or those of a folder.

    where: "stimuli"; "cifar-10", whose draw is balanced by class; the name of a set of
        `catalogue.manifests`, with a folder inside it where it has several
        (``"imagenet-c/defocus_blur/3"``) or one of its lists of ids
        (``"imagenet-sample-images#500"``), fetched first if it is open and not here; or a folder
        (one that is named like a set is given as ``./name``).
    n: how many images, all of a folder if None (320 stimuli). Of a folder a fixed random subset,
        the same on every machine.
    subset: a list of ids, one a line (``#`` begins a comment): a file, or the name of one in
        ``data_manifests/subsets``. `n` is drawn from it.

    A folder holds a subfolder per class, all named by ImageNet's wnids (``n01440764``), by the 16
    categories of Geirhos et al., by indices into ImageNet's 1,000 classes (``0``, ``000``), by
    their names (``great_white_shark``), or by anything that a file ``labels.txt`` or
    ``classes.txt`` in it gives a wnid, an index or such a name (``folder wnid`` a line). It may
    also be flat, with files that begin with a wnid, or hold one subfolder that is such a folder.
    Files named like ``cat7-car2.png`` also tell shape and texture. Pictures come as RGB (grey of 16
    bits scaled to 8, what is transparent seen on white) and, as in published evaluations, are not
    turned by their EXIF orientation.

    What is left out is printed: in class folders whatever is no such picture, pictures beside
    class folders, and class folders that are empty.

    Raises DataError for an unknown variant, a set that is not here and cannot be fetched, a
    missing, empty or unreadable folder, a truncated or unreadable image, ids of the list that are
    missing, unrecognised class names, and a seed that is no integer.
    """
    _check(n, seed)
    if str(where) == "stimuli":
        if subset is not None:
            raise DataError(f"subset={subset}: stimuli have no lists of ids; give n_images=")
        return _stimuli(variant, split, n or 320, seed, held_out)
    if str(where) == "cifar-10":
        _fetched("cifar-10", "")
        return cifar.images(n, seed, split)
    folder, name, listed = _located(where)
    kind = catalogue.manifest(catalogue.set_name(name)).classes if name else ""
    return folders.read(folder, n, seed, name, listed or subset, kind)


def own(where: str | Path, n: int | None = None, seed: int = 0) -> Images:
    """A set or a folder with its own classes, whatever they are called, for features and probes.

    where: as in `load`, stimuli left out. A class is a folder that holds images, however deep
        (``a/abbey`` in Places365); or, where all images lie in one folder, what a file
        ``labels.txt`` beside them gives each (``name class`` a line, the name with or without its
        suffix; a tab between them where both may hold spaces), as FGVC-Aircraft's lists do. Images
        beside such folders are of no class and left out, as `load` prints it.

    Raises DataError as `load` does, for a single class, for images that ``labels.txt`` lacks, and
    for one beside which there are images both loose and in folders.
    """
    _check(n, seed)
    folder, name, listed = _located(where)
    return folders.read(folder, n, seed, name, listed, "own")


def available(where: str, variant: str = "natural", **how: Any) -> Images | None:
    """`load`, or None where a set by name is not here and could not be fetched; prints why.

    Raises DataError as `load` does for anything that is not the name of a set.
    """
    if not catalogue.is_set(where):
        return load(where, variant, **how)
    try:
        catalogue.check(where)
        return load(where, variant, **how)
    except (DataError, DownloadError) as error:
        print(f"left out, {where}: {str(error).splitlines()[0]}")
        return None


def cue_conflict(
    where: str | Path, n: int | None = None, seed: int = 0, subset: str | Path | None = None
) -> Images:
    """Cue-conflict images: stimuli, or a folder whose file names tell shape and texture.

    Raises DataError as `load` does, and where the folder's names do not tell the two cues.
    """
    images = load(where, "cue-conflict", n=n, seed=seed, subset=subset)
    if "texture" not in images.table:
        raise DataError(
            f"{str(where)!r} holds no cue-conflict images: their files are named like "
            "cat7-car2.png, in a folder of the shape's category"
        )
    return images


def transfer(family: str, split: str, n: int, seed: int = 0) -> Images:
    """The first `n` images of a transfer family's split (see `stimuli.transfer`), drawn at once.

    Raises DataError for an unknown family or split, and for less than one image.
    """
    if n < 1:
        raise DataError(f"a family needs at least 1 image, got {n}")
    _check(n, seed)
    try:
        drawn = [families.draw(family, split, i, seed) for i in range(n)]
    except ValueError as error:
        raise DataError(str(error)) from None
    pictures, labels = zip(*drawn, strict=True)
    ids = [f"{family}/{split}/{seed}/{i:06d}" for i in range(n)]
    return Images(
        family,
        pd.DataFrame({"id": ids, "label": labels}),
        families.FAMILIES[family].classes,
        "new",
        lambda i: Image.fromarray(pictures[i]),
        None,
        digest(*ids, *labels, *(picture.tobytes() for picture in pictures)),
    )


def _check(n: int | None, seed: int) -> None:
    whole = isinstance(n, int | np.integer) and not isinstance(n, bool)
    if n is not None and not (whole and n >= 1):
        raise DataError(f"n_images must be at least 1, got {n!r}")
    try:
        check_seed(seed)
    except ValueError as error:
        raise DataError(str(error)) from None


def _located(where: str | Path) -> tuple[Path, str, str | None]:
    """A folder, and of a set by name (fetched if need be) its name and list of ids, if any."""
    if not isinstance(where, str) or not catalogue.is_set(where):
        return Path(where), "", None
    catalogue.stays_inside(where)
    where, _, listed = where.partition("#")
    name, _, inside = where.partition("/")
    place = _fetched(name, inside)
    return place, f"{name}/{inside}".rstrip("/"), f"{name}-{listed}" if listed else None


def _fetched(name: str, inside: str) -> Path:
    """The folder of a set's images, or one inside it; fetched first if it is open and not here."""
    known = catalogue.manifest(name)
    if known.state == "can be fetched":
        size = "size unknown" if known.size_gb is None else f"{known.size_gb:g} GB"
        print(f"image set {name} is not here: fetching it ({size})")
        fetch.fetch(name)
    place = catalogue.images_folder(name) / inside
    if inside and not place.is_dir():
        folders = [p.name for p in place.parent.glob("*/")] if place.parent.is_dir() else []
        raise DataError(f"image set {name} has no folder {inside!r}{nearest(place.name, folders)}")
    return place


def _stimuli(variant: str, split: str, n: int, seed: int, held_out: bool) -> Images:
    try:
        scenes = [
            stimuli.describe(split, _spread(variant, i, held_out), int(seed), variant, held_out)
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
        lambda i: Image.fromarray(_drawn(scenes[i])),
        lambda i: stimuli.draw_mask(scenes[i]),
        digest(keys.house("vitlab.stimuli.scenes"), *scenes),
    )


# A page shows the same pictures again and again: to models, attacks, probes. At most 13 MB.
@lru_cache(maxsize=1024)
def _drawn(scene: stimuli.Scene) -> np.ndarray:
    return stimuli.draw(scene)[0]


def _spread(variant: str, i: int, held_out: bool) -> int:
    """Order cue-conflict pairs so that the first n use every shape equally often."""
    if variant != "cue-conflict":
        return i
    count = 8 if held_out else 16
    rounds, shape = divmod(i, count)
    pair = shape * (count - 1) + (rounds + 4 * shape) % (count - 1)
    return pair + count * (count - 1) * (rounds // (count - 1))
