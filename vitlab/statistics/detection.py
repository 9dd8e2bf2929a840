"""How well low confidence finds out-of-distribution images."""

from __future__ import annotations

import numpy as np

from vitlab.statistics import RESAMPLES, Interval, weights


def aupr(inside: np.ndarray, outside: np.ndarray, resamples: int = RESAMPLES) -> np.ndarray:
    """Area under the precision-recall curve (average precision) of detection by low confidence.

    inside, outside: confidences of in-distribution and of out-of-distribution images (the
        positives), [n] and [m].

    Returns float [1 + resamples]: first of the images as they are, then of bootstrap resamples of
    both kinds. The resamples are the same for every model, so differences are paired.
    """
    positive = np.r_[np.zeros(len(inside)), np.ones(len(outside))]
    scores = -np.r_[inside, outside]
    parts = enumerate((inside, outside))
    drawn = np.hstack([weights(len(p), resamples, seed) * len(p) for seed, p in parts])
    counts = np.vstack([np.ones(len(scores)), drawn])
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])  # of equal scores
    found = (counts * positive)[:, order].cumsum(1)[:, ends]
    named = counts[:, order].cumsum(1)[:, ends]
    precision = found / np.maximum(named, 1)
    recall = found / len(outside)
    return (np.diff(recall, prepend=0) * precision).sum(1)


def percentiles(values: np.ndarray, n: int) -> Interval:
    """The interval of a quantity and its resamples, as `aupr` gives them; n: images."""
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return Interval(float(values[0]), float(low), float(high), n)
