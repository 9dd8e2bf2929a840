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


def vulnerable(trials: pd.DataFrame, group: str, tries: int) -> np.ndarray:
    """Share of a group's models that some ground misleads about each object: float [objects].

    trials: of objects on `tries` grounds each, object by object. An object is vulnerable when at
    least one of its grounds makes the decision wrong (backgrounds challenge, Xiao et al. 2021).
    """
    chosen = trials[trials["group"] == group]
    held = chosen.groupby([chosen["model"].astype(str), chosen["image"] // tries])["right"].min()
    return 1 - held.groupby(level="image").mean().to_numpy()
