"""Mean corruption error (Hendrycks & Dietterich 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from vitlab.statistics.quantity import Quantity, average


def mean_error(errors: Iterable[Quantity]) -> Quantity:
    """The mean of the errors on several corruptions, as one number of each image.

    ``mean_error(model's) / mean_error(reference's)`` is an mCE as a ratio of sums: all errors over
    all of the reference's, whose chance its interval counts too (Fieller's).

    The interval is t of the images' means as they are. The two answers that pad an accuracy's
    would outweigh them, since no image is right, or wrong, under each of many corruptions.
    """
    whole = average(errors)
    low, high = whole.parts[0].edges  # of an accuracy
    groups = {part.trainings for part in whole.parts}
    return replace(
        whole,
        unit="mean error",
        edges=(1 - high, 1 - low),
        trainings=groups.pop() if len(groups) == 1 else (),
        left_out=whole.without,
        formula=(),
        again=None,
    )


def mce(errors: Mapping[str, Any], reference: Mapping[str, Any]) -> Any:
    """Mean corruption error, relative to a reference's (Hendrycks & Dietterich 2019, section 4).

    The error on each corruption is divided by the reference's; the ratios are averaged over the
    reference's corruptions. 1 is as bad as the reference; papers write it as 100.

    errors, reference: by corruption, the error (0 to 1) over all severities together, or its mean
    over them; both over the same severities (`conditions.corruptions.alexnet` has AlexNet's).
    Errors are numbers, arrays or Quantities; the outcome is of the same kind. A reference of
    numbers is taken as given; one of Quantities brings its own chance. Few errors of the
    reference's on a corruption make its ratio noise: see `mean_error`.

    Raises ValueError where the reference makes no error on some corruption, or has none, and where
    `errors` lacks one of its corruptions.

    >>> mce({"fog": 0.25, "snow": 0.5}, {"fog": 0.5, "snow": 0.5})
    0.75
    """
    if lacks := [c for c in reference if c not in errors]:
        raise ValueError(f"no error on {', '.join(lacks)}, which the reference has")
    without = [c for c, error in reference.items() if getattr(error, "value", error) <= 0]
    if without or not reference:
        on = ", ".join(without) or "any corruption"
        raise ValueError(f"the reference has no error to be relative to on {on}")
    return sum(errors[c] / error for c, error in reference.items()) / len(reference)


def relative_mce(
    errors: Mapping[str, Any], clean: Any, reference: Mapping[str, float], reference_clean: float
) -> Any:
    """Relative mCE: `mce` of what corruptions add to the clean error, the reference's too.

    clean, reference_clean: the errors on clean images. Raises ValueError where a corruption adds no
    error to the reference's.
    """
    added = {corruption: error - clean for corruption, error in errors.items()}
    return mce(added, {c: error - reference_clean for c, error in reference.items()})
