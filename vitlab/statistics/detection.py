"""How well low confidence finds out-of-distribution images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vitlab.statistics.quantity import Quantity, pseudo


def aupr(inside: np.ndarray, outside: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Area under the precision-recall curve (average precision) of detection by low confidence.

    inside, outside: confidences of in-distribution and of out-of-distribution images (the
        positives), [n] and [m]. counts: how often each counts, [..., n + m]; once if None.

    Returns float [...].
    """
    positive = np.r_[np.zeros(len(inside)), np.ones(len(outside))]
    scores = -np.r_[inside, outside]
    counts = np.ones(len(scores)) if counts is None else counts
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])  # of equal scores
    found = (counts * positive)[..., order].cumsum(-1)[..., ends]
    named = counts[..., order].cumsum(-1)[..., ends]
    precision = found / np.maximum(named, 1)
    recall = found / np.maximum(found[..., -1:], 1)
    return (np.diff(recall, prepend=0) * precision).sum(-1)


def _left_out(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """`aupr` without each image in turn: float [n + m]."""
    total = len(inside) + len(outside)
    step = max(1, 5_000_000 // total)  # 40 MB at a time
    found = []
    for start in range(0, total, step):
        counts = np.ones((min(step, total - start), total))
        counts[np.arange(len(counts)), start + np.arange(len(counts))] = 0
        found.append(aupr(inside, outside, counts))
    return np.concatenate(found)


def group_aupr(
    confidences: Mapping[str, tuple[np.ndarray, np.ndarray]],
    models: Sequence[str],
    items: tuple[str, str] = ("inside", "outside"),
) -> Quantity:
    """`aupr` as the mean over a group's models, with what each image adds (jackknife).

    confidences: model -> inside, outside; models of a group, and groups, are paired by image.
    items: names of the two kinds of images.
    """
    value, added = 0.0, [np.zeros(len(one)) for one in confidences[models[0]]]
    for model in models:
        sizes = [len(one) for one in confidences[model]]
        whole = float(aupr(*confidences[model]))
        without = np.split(_left_out(*confidences[model]), sizes[:1])
        value += whole / len(models)
        for total, n, rest in zip(added, sizes, without, strict=True):
            total += (n * whole - (n - 1) * rest) / len(models)

    def left_out(one: str | int) -> Quantity:
        return group_aupr(confidences, [m for m in models if m != one], items)

    kinds = dict(zip(items, added, strict=True))
    sizes = [len(one) for one in confidences[models[0]]]
    rate = sizes[1] / sum(sizes)  # what confidence that tells nothing would reach
    about: dict[str, Any] = {"edges": (rate, 1.0), "trainings": tuple(models), "left_out": left_out}
    return pseudo(value, kinds, "AUPR", **about)
