"""Area under the ROC curve of detection by low confidence, with DeLong's interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vitlab.statistics.quantity import Quantity, pseudo


def placements(inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each image, the share of the other kind that it is on the right side of; ties count half.

    inside, outside: confidences of known images and of unknown ones (the positives, which should
        have the lower), [n] and [m].

    Returns float [n] and [m]; the mean of either is the area under the ROC curve.
    """

    def below(these: np.ndarray, those: np.ndarray) -> np.ndarray:
        """The share of those that lie below each of these."""
        ordered = np.sort(those)
        sides = [np.searchsorted(ordered, these, side) for side in ("left", "right")]
        return (sides[0] + sides[1]) / (2 * len(those))

    return below(inside, outside), 1 - below(outside, inside)


def group_auroc(
    confidences: Mapping[str, tuple[np.ndarray, np.ndarray]],
    models: Sequence[str],
    items: tuple[str, str] = ("inside", "outside"),
) -> Quantity:
    """The area as the mean over a group's models, with what each image adds (DeLong et al. 1988).

    confidences: model -> inside, outside; models of a group, and groups, are paired by image.
    items: names of the two kinds of images.
    """
    each = [placements(*confidences[model]) for model in models]
    added = [np.mean([one[kind] for one in each], axis=0) for kind in (0, 1)]

    def left_out(one: str | int) -> Quantity:
        return group_auroc(confidences, [m for m in models if m != one], items)

    about: dict[str, Any] = {"edges": (0.5, 1.0), "trainings": tuple(models), "left_out": left_out}
    return pseudo(float(added[0].mean()), dict(zip(items, added, strict=True)), "AUROC", **about)
