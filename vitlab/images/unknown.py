"""Images of classes that a model was never taught: what it should be unsure about."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitlab.images.cifar import SHARED
from vitlab.images.images import Images, subset
from vitlab.images.loading import available, cue_conflict, load


def unknown_images(names: Sequence[str], n: int, seed: int = 0) -> dict[str, Images]:
    """Image sets by name, `n` images of each at most; those that are not available are left out.

    "new shapes": stimuli of eight held-out shapes with held-out textures. "new textures": the
    latter over the whole image, no object. "stimuli": ordinary ones, unknown to who learned from
    photographs. "other cue conflicts": Geirhos' images whose shape and texture are both of classes
    that CIFAR-10 lacks. Other names as in `loading.load`. What their labels say means nothing.
    """
    found = {name: _set(name, n, seed) for name in names}
    return {name: images for name, images in found.items() if images is not None}


def _set(name: str, n: int, seed: int) -> Images | None:
    if name == "new shapes":
        return load("stimuli", n=n, seed=seed, held_out=True)
    if name == "new textures":
        return load("stimuli", "texture-only", n=n, seed=seed, held_out=True)
    if name != "other cue conflicts":
        return available(name, n=n, seed=seed)
    if available("cue-conflict", n=1) is None:
        return None
    images = cue_conflict("cue-conflict")
    lacking = [i for i, kind in enumerate(images.categories) if kind not in SHARED]
    other = images.table[["shape", "texture"]].isin(lacking).all(axis=1).to_numpy()
    places = np.flatnonzero(other)
    chosen = np.linspace(0, len(places) - 1, min(n, len(places))).astype(int)
    return subset(images, places[chosen], name)
