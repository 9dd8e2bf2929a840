"""How well low confidence, or another score, finds out-of-distribution images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vitlab.statistics.quantity import Quantity, pseudo


def ordered(*scores: np.ndarray) -> list[np.ndarray]:
    """Scores as arrays [n]. Raises ValueError for other shapes, and for NaN, which has no rank."""
    found = [np.asarray(one) for one in scores]
    for one in found:
        if one.ndim != 1:
            raise ValueError(f"scores are [n], one for each image, not {[*one.shape]}")
        if np.isnan(one).any():
            raise ValueError(
                f"{np.isnan(one).sum()} of {len(one)} scores are NaN, which ranks nowhere"
            )
    return found


def aupr(inside: np.ndarray, outside: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Area under the precision-recall curve (average precision) of detection by low confidence.

    inside, outside: confidences of in-distribution and of out-of-distribution images (the
        positives), [n] and [m]. counts: how often each counts, [..., n + m]; once if None.

    Returns float [...]; NaN where there is no image of one of the two kinds.

    Raises ValueError for a score that is NaN, and for scores that are not one for each image.
    """
    inside, outside = ordered(inside, outside)
    positive = np.r_[np.zeros(len(inside)), np.ones(len(outside))]
    scores = -np.r_[inside, outside]
    counts = np.ones(len(scores)) if counts is None else counts
    if not len(inside) or not len(outside):
        return np.full(counts.shape[:-1], np.nan)[()]
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])  # of equal scores
    found = (counts * positive)[..., order].cumsum(-1)[..., ends]
    named = counts[..., order].cumsum(-1)[..., ends]
    precision = found / np.maximum(named, 1)
    recall = found / np.maximum(found[..., -1:], 1)
    return (np.diff(recall, prepend=0) * precision).sum(-1)


def auroc(inside: np.ndarray, outside: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Area under the ROC curve of detection by low confidence: how often an out-of-distribution
    image has less confidence than an in-distribution one, ties by half.

    Arguments and errors as in `aupr`. Returns float [...]; NaN where one of the two kinds counts
    nothing.
    """
    inside, outside = ordered(inside, outside)
    scores = np.r_[inside, outside]
    counts = np.ones(len(scores)) if counts is None else counts
    if not len(inside) or not len(outside):
        return np.full(counts.shape[:-1], np.nan)[()]
    order = np.argsort(scores, kind="stable")
    within = (np.arange(len(scores)) < len(inside))[order]
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])  # of equal scores
    in_turn = counts[..., order]
    ours = np.add.reduceat(in_turn * within, starts, axis=-1)
    theirs = np.add.reduceat(in_turn * ~within, starts, axis=-1)
    above = ours.sum(-1, keepdims=True) - ours.cumsum(-1) + ours / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return (theirs * above).sum(-1) / (ours.sum(-1) * theirs.sum(-1))


def placements(inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each image adds to `auroc`: the share of the other kind that lies on its right side.

    Returns float [n] and [m] in [0, 1]; the mean of either is the AUROC (DeLong et al. 1988). NaN
    where there is no image of the other kind. Raises ValueError as `aupr` does.
    """
    inside, outside = ordered(inside, outside)

    def below(values: np.ndarray, of: np.ndarray) -> np.ndarray:
        ranked = np.sort(of)
        ends = [np.searchsorted(ranked, values, side) for side in ("left", "right")]
        return (ends[0] + ends[1]) / 2 / (len(of) or np.nan)

    return below(inside, outside), 1 - below(outside, inside)


def group_auroc(
    confidences: Mapping[str, tuple[np.ndarray, np.ndarray]],
    models: Sequence[str],
    items: tuple[str, str] = ("inside", "outside"),
) -> Quantity:
    """`auroc` as the mean over a group's models, with what each image adds.

    Arguments and errors as in `group_aupr`.
    """
    _check_group(models)
    each = [placements(*confidences[model]) for model in models]
    kinds = {
        name: np.mean(added, 0) for name, added in zip(items, zip(*each, strict=True), strict=True)
    }

    def left_out(one: str | int) -> Quantity:
        return group_auroc(confidences, [m for m in models if m != one], items)

    about: dict[str, Any] = {"edges": (0.5, 1.0), "trainings": tuple(models), "left_out": left_out}
    return pseudo(float(kinds[items[0]].mean()), kinds, "AUROC", **about)


def fpr95(inside: np.ndarray, outside: np.ndarray) -> float:
    """Share of out-of-distribution images let through where 95 % of the others are.

    The threshold is the highest confidence that keeps at least 95 % of the in-distribution images.
    NaN where there is no image of one of the two kinds. Raises ValueError as `aupr` does.
    """
    inside, outside = ordered(inside, outside)
    if not len(inside) or not len(outside):
        return np.nan
    ranked = np.sort(inside)[::-1]
    threshold = ranked[int(np.ceil(0.95 * len(ranked))) - 1]
    return float((outside >= threshold).mean())


def nearest(features: np.ndarray, reference: np.ndarray, k: int = 5) -> np.ndarray:
    """Minus the distance to the k-th nearest of a model's features of known images: float [n].

    features: float [n, d]; reference: [r, d], of known images that are not asked about. Both are
    scaled to length 1 (Sun et al. 2022).

    Raises ValueError for k below 1, fewer than k references, and features that are NaN, infinite
    or all zero, which have no direction.
    """
    if not 1 <= k <= len(reference):
        raise ValueError(
            f"the {k}-th nearest of {len(reference)} reference images: k is 1 to their number"
        )
    lengths = [np.linalg.norm(x, axis=1, keepdims=True) for x in (features, reference)]
    if not all(((length > 0) & (length < np.inf)).all() for length in lengths):
        raise ValueError("features hold NaN, infinity or nothing but zeros: they have no direction")
    one, other = features / lengths[0], reference / lengths[1]
    squares = np.clip(2 - 2 * one @ other.T, 0, None)
    return -np.sqrt(np.partition(squares, k - 1, axis=1)[:, k - 1])


def _check_group(models: Sequence[str]) -> None:
    if not models:
        raise ValueError("a group's mean is over one model or more, got none")


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

    Raises ValueError for no models, and as `aupr` does.
    """
    _check_group(models)
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
