"""Accuracy of trials, per image."""

from __future__ import annotations

import pandas as pd


def correct(trials: pd.DataFrame) -> pd.DataFrame:
    """Share of correct answers per image: a row per image, a column per (model, condition, level).

    Draws of a condition are averaged, so an image counts once however often it was masked.
    """
    right = (trials["prediction"] == trials["label"]).astype(float)
    keys = [trials[k] for k in ("image", "model", "condition", "level")]
    return right.groupby(keys, observed=True).mean().unstack(["model", "condition", "level"])
