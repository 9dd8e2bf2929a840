"""Images of two cues, a digit above a picture, each of which tells the class (Pinto et al. 2022).

Class 0 is a 0 above a disc (CIFAR-10: an automobile), class 1 a 1 above a star (a truck). Stimuli
are stylised: their texture and hue mean nothing, so that nothing but the shape tells the class.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
from PIL import Image

from vitlab import keys
from vitlab.files import digest, nearest
from vitlab.images import catalogue, cifar
from vitlab.images.errors import DataError
from vitlab.images.images import Images
from vitlab.rng import generator
from vitlab.stimuli import pairs as drawn
from vitlab.stimuli import scenes as stimuli

# Where the pictures are from -> their categories, and the two of them that are shown.
PICTURES: dict[str, tuple[tuple[str, ...], tuple[str, str]]] = {
    "stimuli": (stimuli.CATEGORIES, ("disc", "star")),
    "cifar-10": (cifar.CLASSES, ("automobile", "truck")),
}
_MNIST = {"train": "train", "test": "t10k"}


def pairs(
    where: str,
    n: int,
    seed: int = 0,
    split: str = "test",
    independent: bool = False,
) -> Images:
    """`n` pairs of a digit above a picture, the two classes by turns.

    where: "stimuli" or "cifar-10", where the pictures are from; "mnist,cifar-10": with MNIST's
        digits, and the classes of these pairs alone, for networks that are trained on them.
    independent: the digit is drawn without regard to the picture, else both are of one class.

    The label is the picture's category; the table's ``digit`` is the category that the digit stands
    for. Masks are the digit's strokes on the whole canvas.

    Raises DataError for another place, and for more pairs than CIFAR-10 has pictures of.
    """
    written = where.startswith("mnist,")
    where = where.removeprefix("mnist,")
    if where not in PICTURES:
        raise DataError(f"no pairs of {where!r}{nearest(where, list(PICTURES))}")
    categories, shown = PICTURES[where]
    labels = np.array([0, 1] if written else [categories.index(one) for one in shown])
    picture, ids, source = _pictures(where, n, seed, split)
    which = np.arange(n) % 2
    if independent:
        which = np.array([generator("pair", seed, one).integers(2) for one in ids])

    digits = _mnist(split) if written else []

    def strokes(i: int) -> np.ndarray:
        if written:
            same = digits[int(which[i])]
            return drawn.written(same[int(generator("mnist", seed, ids[i]).integers(len(same)))])
        return drawn.digit(int(which[i]), seed, ids[i])

    def mask(i: int) -> np.ndarray:
        above = strokes(i)
        return np.concatenate([above, np.zeros_like(above)])

    table = pd.DataFrame({"label": labels[np.arange(n) % 2], "digit": labels[which]})
    table["id"] = [f"{digit} over {one}" for digit, one in zip(which, ids, strict=True)]
    kind = "independent" if independent else "agreeing"
    return Images(
        f"pairs of {where} ({kind})",
        table,
        tuple(f"{k} over {one}" for k, one in enumerate(shown)) if written else categories,
        "pairs" if written else where,
        lambda i: drawn.stacked(strokes(i), picture(i)),
        mask,
        digest(keys.house("vitlab.stimuli.pairs"), source, written, seed, *table["id"]),
    )


def by_digit(images: Images) -> Images:
    """The same pictures with the digit's category as their label."""
    return replace(
        images,
        table=images.table.assign(label=images.table["digit"]),
        fingerprint=digest(images.fingerprint, "by digit"),
    )


def _mnist(split: str) -> list[np.ndarray]:
    """MNIST's zeros and ones: uint8 [n, 28, 28] each. Raises DataError where it is not here."""
    folder = catalogue.images_folder("mnist")

    def content(kind: str, skip: int) -> np.ndarray:
        packed = folder / f"{_MNIST[split]}-{kind}-ubyte.gz"
        file = packed if packed.exists() else packed.with_suffix("")
        if not file.exists():
            raise DataError(f"{packed} is not here; vitlab data fetch mnist")
        raw = gzip.decompress(file.read_bytes()) if file == packed else file.read_bytes()
        return np.frombuffer(raw, np.uint8, offset=skip)

    pictures = content("images-idx3", 16).reshape(-1, 28, 28)
    labels = content("labels-idx1", 8)
    return [pictures[labels == which] for which in (0, 1)]


def _pictures(
    where: str, n: int, seed: int, split: str
) -> tuple[Callable[[int], Image.Image], list[str], str]:
    """Pictures of the two classes by turns, their ids, and a key of what they are."""
    categories, shown = PICTURES[where]
    kinds = [categories.index(one) for one in shown]
    if where == "stimuli":
        chosen = [len(categories) * (i // 2) + kinds[i % 2] for i in range(n)]
        scenes = [stimuli.describe(split, i, int(seed), "stylised") for i in chosen]
        key = keys.house("vitlab.stimuli.scenes")
        return (
            lambda i: Image.fromarray(stimuli.draw(scenes[i])[0]),
            [scene.id for scene in scenes],
            key,
        )
    photos, labels = cifar.load(split)
    order = generator("pairs", seed, split).permutation(len(labels))
    mine = [order[labels.numpy()[order] == kind] for kind in kinds]
    if n > (most := 2 * min(map(len, mine))):
        raise DataError(f"CIFAR-10 has {most:,} {split} pictures of {' and '.join(shown)}, not {n}")
    places = [int(mine[i % 2][i // 2]) for i in range(n)]
    return (
        lambda i: Image.fromarray(photos[places[i]].permute(1, 2, 0).numpy()),
        [f"{split}/{place:05d}" for place in places],
        cifar.fingerprint(),
    )
