"""Adversarial filtering: the images that models get wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitlab.conditions.condition import CLEAN
from vitlab.images.images import Images
from vitlab.inside.tokens import why_not
from vitlab.models.model import Model
from vitlab.trials import run as evaluate


def filtered(
    filters: Sequence[Model], images: Images, batch_size: int = 64
) -> dict[str, np.ndarray]:
    """Adversarial filtering (Hendrycks et al. 2021): places of what the filters get wrong.

    ImageNet-A keeps what a ResNet-50 gets wrong. There is an entry "unfiltered", one for each
    filter, and "all filters err" where there are several; those without images are left out. Where
    no filter can decide about the images, all of them stand under the set's name.
    """
    able = [f for f in filters if not why_not(f, "decisions", images)]
    everything = np.arange(len(images))
    if not able:
        return {images.name: everything}
    trials = evaluate.run(able, images, [CLEAN], batch_size=batch_size)
    errs = (trials["prediction"] != trials["label"]).groupby([trials["model"], trials["image"]])
    table = errs.first().unstack("image")
    kept = {"unfiltered": everything}
    kept |= {f"{f.name} errs": np.flatnonzero(table.loc[f.name]) for f in able}
    if len(able) > 1:
        kept["all filters err"] = np.flatnonzero(table.all(axis=0))
    return {name: places for name, places in kept.items() if len(places)}
