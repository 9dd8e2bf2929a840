"""Natural shifts: renditions of objects, and images of unknown classes among known ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitlab.images.errors import DataError
from vitlab.images.images import Images, subset
from vitlab.images.loading import available, load
from vitlab.rng import generator
from vitlab.stimuli import scenes as stimuli


def renditions(where: str, n: int, seed: int = 0) -> dict[str, Images]:
    """Renditions by kind: five of the stimuli, of different objects each, or one image set.

    where: "stimuli", or as in `load.load`. n: images of all kinds together. Empty where a set by
    name is not available.
    """
    if where != "stimuli":
        found = available(where, n=n, seed=seed)
        return {} if found is None else {found.name: found}
    each = max(1, n // len(stimuli.RENDITIONS))
    kinds = {}
    for k, kind in enumerate(stimuli.RENDITIONS):
        rendered = load("stimuli", kind, n=(k + 1) * each, seed=seed)
        kinds[kind] = subset(rendered, range(k * each, (k + 1) * each))
    return kinds


def in_and_out(
    known: Images, unknown: Images, n: int, seed: int = 0
) -> tuple[Images, Images, list[int]]:
    """In-distribution and out-of-distribution images, `n` of each, and the known classes.

    The folders of ImageNet-O (Hendrycks et al. 2021) name its 200 reference classes: known images
    are those of these classes. Against held-out stimuli all 16 categories are. The out-of-
    distribution images get the classes of the known ones, so that models decide; their labels mean
    nothing.

    Raises DataError where the two do not go together or no image is of a reference class.
    """
    rendered = unknown.categories == stimuli.HELD_OUT
    if rendered != (known.classes == "stimuli"):
        raise DataError(f"{known.name} and {unknown.name} do not go together: give both as images")
    classes = list(range(16)) if rendered else sorted(set(unknown.labels.tolist()))
    fitting = np.flatnonzero(np.isin(known.labels.numpy(), classes))
    if not len(fitting):
        raise DataError(f"no image of {known.name} is of a reference class of {unknown.name}")
    drawn = [
        np.sort(generator("strange", seed, total).permutation(total)[:n])
        for total in (len(fitting), len(unknown))
    ]
    outside = replace(unknown, classes=known.classes, categories=known.categories)
    return subset(known, fitting[drawn[0]]), subset(outside, drawn[1]), classes
