"""Shape bias of decisions on cue-conflict images (Geirhos et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from vitlab.statistics.quantity import Quantity, function, mean


def shape_decisions(trials: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Cue-conflict trials as shape, texture or other decisions (Geirhos et al. 2019).

    table: of the image set, with ``shape`` and ``texture``. Images whose two cues agree are no
    conflicts and are left out. Adds boolean columns ``by_shape``, ``by_texture`` and the image's
    ``shape`` category.
    """
    shape = table["shape"].to_numpy()[trials["image"]]
    texture = table["texture"].to_numpy()[trials["image"]]
    decided = trials.assign(
        shape=shape,
        by_shape=trials["prediction"].to_numpy() == shape,
        by_texture=trials["prediction"].to_numpy() == texture,
    )
    return decided[shape != texture]


def shape_bias_of_means(means: np.ndarray) -> np.ndarray:
    """Class-mean shape bias of mean decisions: [..., 2 * classes] (shapes, textures) -> [...].

    A class without any shape or texture decision has no shape bias and is left out of the mean.
    """
    shape, texture = np.split(means, 2, axis=-1)
    decided = shape + texture
    bias = np.divide(shape, decided, out=np.full_like(shape, np.nan), where=decided > 0)
    known = np.isfinite(bias)
    with np.errstate(invalid="ignore"):  # no class at all: NaN
        return np.where(known, bias, 0).sum(-1) / known.sum(-1)


def decision_values(decided: pd.DataFrame, models: Sequence[str], classes: int) -> np.ndarray:
    """Per-image decisions of a group, ready for `shape_bias_of_means`.

    Returns float [images, 2 * classes]: in the column of the image's shape category, the share of
    models (and draws) that decided by shape; in the second half, by texture.
    """
    chosen = decided[decided["model"].isin(list(models))]
    per_image = chosen.groupby("image")[["by_shape", "by_texture"]].mean()
    shape = chosen.groupby("image")["shape"].first().to_numpy()
    values = np.zeros((len(per_image), 2 * classes))
    values[np.arange(len(values)), shape] = per_image["by_shape"]
    values[np.arange(len(values)), classes + shape] = per_image["by_texture"]
    return values


def group_shape_bias(
    decided: pd.DataFrame,
    models: Sequence[str],
    classes: int,
    items: str = "conflicts",
    pooled: bool = False,
) -> Quantity:
    """Shape bias of a group's decisions; differences of two are paired by image.

    decided: of `shape_decisions`. items: their name, the same for what shares its images.
    pooled: over all decisions, as in tools such as modelvshuman; else, as in Geirhos et al. and
        Naseer et al., the mean of the classes' biases, which weighs rare decisions as much.
    """
    values = decision_values(decided, models, classes)
    per_image = decided[decided["model"].isin(list(models))].groupby("image")["shape"].first()

    def left_out(one: str | int) -> Quantity:
        return group_shape_bias(decided, [m for m in models if m != one], classes, items, pooled)

    # A bias rests on the images that are decided for a cue; most may be decided for neither.
    for_a_cue = pd.Series(values.sum(1)).groupby(per_image.to_numpy()).sum()
    about: dict[str, Any] = {
        "edges": (0.0, 1.0),
        "fewest": int(for_a_cue.sum() if pooled else for_a_cue.min()) if len(for_a_cue) else 0,
        "classes": {items: per_image.to_numpy()},
        "trainings": tuple(models),
        "left_out": left_out,
    }
    if not pooled:
        # A category with few decisions would leave the mean when one of them is left out.
        return function(values, shape_bias_of_means, "shape bias", items, **about)
    # One more image decided by shape, one more by texture: an interval at a bias of 0 or 1.
    shape = mean(values[:, :classes].sum(1), items=items, more=(1.0, 0.0))
    either = mean(values.sum(1), items=items, more=(1.0, 1.0))
    return replace(shape / either, unit="shape bias", formula=(), again=None, **about)
