"""Accuracy of trials: per image, per group, over the levels of a condition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vitlab.statistics.interval import bootstrap


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
