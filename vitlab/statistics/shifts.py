"""Scores of trials on shifted images, per image."""

from __future__ import annotations

import numpy as np
import pandas as pd


def score(trials: pd.DataFrame, group: str, column: str = "right") -> np.ndarray:
    """Mean over a group's models of a column of `show`'s trials, per image: float [images].

    Raises KeyError for a group that is not there.
    """
    chosen = trials[trials["group"] == group]
    if chosen.empty:
        raise KeyError(f"no trials of {group!r}; groups: {', '.join(trials['group'].unique())}")
    return chosen.groupby("image")[column].mean().to_numpy()
