"""Metrics of trials, each with a 95 % bootstrap interval over images.

A bootstrap resample is a weight per image, so a metric of many resamples at once is a matrix
product of weights and per-image values. Two models that saw the same images are resampled
together: the interval of their difference is paired.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from vitlab.rng import generator

RESAMPLES = 2_000


class Interval(NamedTuple):
    """A number with its 95 % interval and the number of images (or episodes) it rests on."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def __mul__(self, factor: object) -> Interval:
        """The same in another unit, e.g. ``interval * 100`` for per cent."""
        k = float(factor)  # type: ignore[arg-type]
        low, high = sorted((self.low * k, self.high * k))
        return Interval(self.value * k, low, high, self.n)


@lru_cache(maxsize=8)  # a page asks for the same few sizes hundreds of times
def weights(n: int, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Bootstrap weights: float [resamples, n]; row r tells how often r drew each item, over n."""
    drawn = generator("bootstrap", seed, n).multinomial(n, np.full(n, 1 / n), size=resamples)
    shares = drawn / n
    shares.setflags(write=False)
    return shares


def bootstrap(
    values: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray] = lambda means: means[..., 0],
    seed: int = 0,
) -> Interval:
    """A statistic of means over images, with its percentile interval (Efron 1979).

    values: float [n] or [n, k], the k quantities of each image.
    statistic: means [..., k] -> [...]; the mean itself by default.

    Raises ValueError for no images or non-finite values.

    >>> bootstrap(np.array([1.0, 1.0, 1.0]))
    Interval(value=1.0, low=1.0, high=1.0, n=3)
    """
    values = np.asarray(values, float)
    if len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(f"a bootstrap needs finite values, got shape {values.shape}")
    values = values.reshape(len(values), -1)
    value = float(statistic(values.mean(0)))
    shares = weights(len(values), seed=seed)
    step = max(1, 5_000_000 // values.shape[1])  # 40 MB of resampled means at a time
    resampled = np.concatenate(
        [statistic(shares[i : i + step] @ values) for i in range(0, len(shares), step)]
    )
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    return Interval(value, float(low), float(high), len(values))


def correct(trials: pd.DataFrame) -> pd.DataFrame:
    """Share of correct answers per image: a row per image, a column per (model, condition, level).

    Draws of a condition are averaged, so an image counts once however often it was masked.
    """
    right = (trials["prediction"] == trials["label"]).astype(float)
    keys = [trials[k] for k in ("image", "model", "condition", "level")]
    return right.groupby(keys, observed=True).mean().unstack(["model", "condition", "level"])


def group_mean(
    per_image: pd.DataFrame, models: Sequence[str], condition: str, level: float
) -> np.ndarray:
    """Mean over models (seeds) of one column set of `correct`: float [images].

    Raises KeyError where a model, condition or level was not run, naming it.
    """
    columns = []
    for model in models:
        at = per_image.columns[
            (per_image.columns.get_level_values("model") == model)
            & (per_image.columns.get_level_values("condition") == condition)
            & np.isclose(
                per_image.columns.get_level_values("level").astype(float), level, atol=1e-4
            )
        ]
        if len(at) != 1:
            raise KeyError(f"no trials of {model} under {condition!r} at level {level}")
        columns.append(per_image[at[0]].to_numpy())
    return np.mean(columns, 0)


def curve(trials: pd.DataFrame, groups: dict[str, list[str]]) -> pd.DataFrame:
    """Accuracy per group of models, condition and level, with interval and the seeds' own values.

    groups: name -> models that speak for it. Returns columns group, condition, level, accuracy,
    low, high, n, seeds (a list).
    """
    per_image = correct(trials)
    settings = trials[["condition", "level"]].drop_duplicates().itertuples(index=False)
    rows = []
    for condition, level in settings:
        for group, members in groups.items():
            mean = bootstrap(group_mean(per_image, members, condition, level))
            seeds = [group_mean(per_image, [m], condition, level).mean() for m in members]
            rows.append(
                {"group": group, "condition": condition, "level": round(float(level), 4)}
                | {"accuracy": mean.value, "low": mean.low, "high": mean.high, "n": mean.n}
                | {"seeds": [round(float(s), 4) for s in seeds]}
            )
    return pd.DataFrame(rows)


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
    return np.nanmean(bias, axis=-1)


def decision_values(decided: pd.DataFrame, models: Sequence[str], classes: int) -> np.ndarray:
    """Per-image decisions of a group, ready for `bootstrap` with `shape_bias_of_means`.

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


def mce(errors: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Mean corruption error, relative to a reference's (Hendrycks & Dietterich 2019, section 4).

    The errors of a corruption are summed over severities and divided by the reference's sum; the
    ratios are averaged over corruptions. 1 is as bad as the reference; papers write it as 100.

    errors: float [..., corruptions, severities]; reference: the same, or one for all.
    With one fixed reference the mCE is linear in the errors, so single images have one too: `mce`
    of per-image errors can go to `bootstrap`, whose interval then takes the reference as given.

    Raises ValueError where the reference makes no error on some corruption.

    >>> mce(np.array([[0.2, 0.4], [0.1, 0.1]]), np.array([[0.4, 0.8], [0.1, 0.3]]))
    np.float64(0.5)
    """
    total = np.asarray(reference, float).sum(-1)
    if (total <= 0).any():
        places = sorted({int(at[-1]) for at in np.argwhere(total <= 0)})
        raise ValueError(f"the reference has no error to be relative to on corruptions {places}")
    return (np.asarray(errors, float).sum(-1) / total).mean(-1)


def relative_mce(
    errors: np.ndarray, clean: np.ndarray, reference: np.ndarray, reference_clean: np.ndarray
) -> np.ndarray:
    """Relative mCE: `mce` of what corruptions add to the clean error, the reference's too.

    errors, reference: float [..., corruptions, severities]; clean, reference_clean: float [...].

    Raises ValueError where a corruption adds no error to the reference's.
    """
    added, to = (
        np.asarray(e, float) - np.asarray(c, float)[..., None, None]
        for e, c in ((errors, clean), (reference, reference_clean))
    )
    return mce(added, to)
