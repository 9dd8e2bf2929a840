"""Objects on other backgrounds: ImageNet-9 (Xiao et al. 2021) and the same of stimuli."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from vitlab import keys
from vitlab.files import digest, nearest, sha256
from vitlab.images import catalogue
from vitlab.images.download import DownloadError
from vitlab.images.errors import DataError
from vitlab.images.imagenet import NINE
from vitlab.images.images import Images, subset
from vitlab.images.loading import load
from vitlab.rng import generator
from vitlab.stimuli.scenes import MIDDLE

# How much of such a ground is texture, the rest plain grey, as bright as stimuli are. Chosen on
# validation stimuli with mini/cnn-2 alone: a random ground costs it about 18 points (as it
# does BiT in the paper).
GROUND = 0.4
_GREY = round(255 * MIDDLE)


def grounds(n: int, seed: int = 0, strength: float = GROUND, split: str = "test") -> Images:
    """Grounds that tell a category: its texture and hue, paler, with no object.

    strength: share of the texture in [0, 1]; the rest is middle grey.
    """
    textures = load("stimuli", "texture-only", split, n, seed)

    return replace(
        textures,
        name="grounds",
        picture=lambda i: _blend(textures.picture(i), _GREY, strength),
        mask=None,
        fingerprint=digest(textures.fingerprint, strength, _GREY, keys.function(_blend)),
    )


def choose_grounds(
    objects: Images, behind: Images, count: int, same: bool, seed: int = 0
) -> list[list[int]]:
    """For each object `count` different grounds, of its own class or (not `same`) of others.

    Drawn per object by its id, so an object's grounds do not depend on which others there are.

    Raises ValueError where there are too few.
    """
    labels = behind.labels.numpy()
    places = []
    for identity, label in zip(objects.table["id"], objects.labels.tolist(), strict=True):
        fitting = np.flatnonzero((labels == label) == same)
        if len(fitting) < count:
            raise ValueError(f"{len(fitting)} grounds of {behind.name} for {identity}, not {count}")
        drawn = generator("ground", seed, same, identity).permutation(len(fitting))[:count]
        places.append(fitting[drawn].tolist())
    return places


def pasted(objects: Images, behind: Images, places: Sequence[Sequence[int]], name: str) -> Images:
    """Every object on each of its grounds, object by object; the labels are the objects'.

    objects: their masks are what is pasted. behind: the grounds, resized to the objects' pictures.
    places: per object, places in `behind`.

    Raises DataError where no masks are known.
    """
    cut = objects.mask
    if cut is None:
        raise DataError(f"no object masks are known for {objects.name}")
    pairs = [(i, j) for i, row in enumerate(places) for j in row]
    table = objects.table.iloc[[i for i, _ in pairs]].reset_index(drop=True)
    below = behind.table["id"].iloc[[j for _, j in pairs]]
    table["id"] = [f"{a} on {b}" for a, b in zip(table["id"], below, strict=True)]

    def picture(p: int) -> Image.Image:
        i, j = pairs[p]
        above = objects.picture(i)
        return _blend(
            above, behind.picture(j).resize(above.size), np.asarray(cut(i), np.float32)[..., None]
        )

    return replace(
        objects,
        name=name,
        table=table,
        picture=picture,
        mask=lambda p: cut(pairs[p][0]),
        fingerprint=digest(objects.fingerprint, behind.fingerprint, pairs, keys.function(_blend)),
    )


def _blend(above: Image.Image, below: Image.Image | int, share: np.ndarray | float) -> Image.Image:
    """A picture over another or over a grey level; share: how much of each pixel it covers."""
    under = below if isinstance(below, int) else np.asarray(below, np.float32)
    mixed = share * np.asarray(above, np.float32) + (1 - share) * under
    return Image.fromarray(np.round(mixed).astype(np.uint8))


def backgrounds(
    where: str, n: int, foregrounds: int, tries: int, seed: int = 0
) -> tuple[dict[str, Images], Images | None]:
    """`stimuli_backgrounds` or `imagenet_9_backgrounds`; ({}, None) where that is not available.

    Raises DataError for other names than "stimuli" and "imagenet-9".
    """
    if where == "stimuli":
        return stimuli_backgrounds(n, foregrounds, tries, seed)
    if where != "imagenet-9":
        raise DataError(f"backgrounds={where}{nearest(where, ['stimuli', 'imagenet-9'])}")
    try:
        catalogue.check(where)
        return imagenet_9_backgrounds(n, foregrounds, tries, seed)
    except (DataError, DownloadError) as error:
        print(f"left out, {where}: {str(error).splitlines()[0]}")
        return {}, None


BACKGROUNDS = ("original", "mixed-same", "mixed-rand", "no background", "only background")


def stimuli_backgrounds(
    n: int,
    foregrounds: int,
    tries: int,
    seed: int = 0,
    strength: float = GROUND,
    split: str = "test",
) -> tuple[dict[str, Images], Images]:
    """The variants of ImageNet-9 (Xiao et al. 2021) in miniature, and `foregrounds` objects to try.

    original: natural stimuli, on their own ground. mixed-same and mixed-rand: the same objects on a
    ground of their own or of a random other category. no background: on black. only background: the
    ground of mixed-same. The second set has some objects on `tries` grounds of other categories.
    """
    original = load("stimuli", "natural", split, n, seed)
    # The same objects before they are cut out: edges bring no ground along.
    objects = load("stimuli", "texture-only", split, n, seed)
    behind = grounds(16 * max(20, tries), seed + 1, strength, split)
    same = choose_grounds(objects, behind, 1, True, seed)
    other = choose_grounds(objects, behind, tries, False, seed)
    black = replace(
        subset(behind, [0]),
        picture=lambda i: Image.new("RGB", original.picture(0).size),
        fingerprint="black",
    )
    tried = _spread(n, foregrounds)
    sets = [
        original,
        pasted(objects, behind, same, "mixed-same"),
        pasted(objects, behind, [row[:1] for row in other], "mixed-rand"),
        pasted(objects, black, [[0]] * n, "no background"),
        subset(behind, [row[0] for row in same], "only background"),
    ]
    every = pasted(subset(objects, tried), behind, [other[i] for i in tried], "every ground")
    return dict(zip(BACKGROUNDS, sets, strict=True)), every


def _spread(n: int, count: int) -> list[int]:
    """`count` places, evenly spaced, of `n`; all of them if there are no more."""
    return list(range(n)) if count >= n else np.linspace(0, n - 1, count).astype(int).tolist()


def imagenet_9_backgrounds(
    n: int, foregrounds: int, tries: int, seed: int = 0
) -> tuple[dict[str, Images], Images]:
    """The same of ImageNet-9, where that set is here or can be fetched.

    The second set has some objects, cut out by their masks, on `tries` random ones of the tiled
    grounds of other classes; the released challenge tries all grounds.

    Raises DataError where the set is not available.
    """
    folders = ("original", "mixed_same", "mixed_rand", "only_fg", "only_bg_t")

    def variant(folder: str, n: int | None) -> Images:
        found = load(f"imagenet-9/bg_challenge/{folder}/val", n=n, seed=seed)
        categories = (*NINE, "none of the nine")
        return replace(found, categories=categories, classes="imagenet-9")

    sets = {name: variant(folder, n) for name, folder in zip(BACKGROUNDS, folders, strict=True)}
    masks = catalogue.images_folder("imagenet-9") / "bg_challenge" / "fg_mask" / "val"
    original = subset(sets["original"], _spread(len(sets["original"]), foregrounds))
    files = [masks / Path(str(name)).with_suffix(".npy") for name in original.table["id"]]
    objects = replace(
        original,
        mask=lambda i: np.load(files[i]).astype(np.float32),
        fingerprint=digest(original.fingerprint, *map(sha256, files)),
    )
    behind = variant("only_bg_t", None)
    other = choose_grounds(objects, behind, tries, False, seed)
    return sets, pasted(objects, behind, other, "every ground")
