"""Models' answers to a set of images at each input size, and the images that they get wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from vitlab.conditions.condition import CLEAN
from vitlab.images.images import Images
from vitlab.inside.tokens import why_not
from vitlab.models.model import Model
from vitlab.trials import run as evaluate


def filtered(
    filters: Sequence[Model], images: Images, batch_size: int = 64
) -> dict[str, np.ndarray]:
    """Adversarial filtering (Hendrycks et al. 2021): places of the images that the
    filters get wrong.

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


def show(
    families: dict[int, list[Model]],
    images: Images,
    change: Callable[[Model], Model] = lambda model: model,
    batch_size: int = 64,
    workers: int = 1,
) -> dict[int, pd.DataFrame]:
    """Trials of the models that can decide about the images, per input size.

    families: input size -> models, as `models.restrict.by_size` gives them.
    change: what is done to every model before, e.g. `models.restrict.merged`.

    Beside the columns of `evaluate.run` a trial has ``group`` and ``right``. Sizes without a model
    that can decide are left out.
    """
    found = {}
    for size, members in families.items():
        able = [m for m in map(change, members) if _decides(m, images)]
        if able:
            trials = evaluate.run(able, images, [CLEAN], batch_size, workers)
            groups = {m.name: m.group for m in able}
            found[size] = trials.assign(
                group=trials["model"].astype(str).map(groups),
                right=(trials["prediction"] == trials["label"]).astype(float),
            )
    return found


def _decides(model: Model, images: Images) -> bool:
    own = model.classes == images.classes == "imagenet-9"
    return own or not why_not(model, "decisions", images)
