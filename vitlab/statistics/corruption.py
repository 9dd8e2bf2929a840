"""Mean corruption error (Hendrycks & Dietterich 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def mce(errors: Mapping[str, Any], reference: Mapping[str, float]) -> Any:
    """Mean corruption error, relative to a reference's (Hendrycks & Dietterich 2019, section 4).

    The error on each corruption is divided by the reference's; the ratios are averaged over the
    reference's corruptions. 1 is as bad as the reference; papers write it as 100.

    errors, reference: by corruption, the error (0 to 1) over all severities together, or its mean
    over them. Errors are numbers, arrays or Quantities; the outcome is of the same kind. The
    reference is taken as given: an interval of the outcome does not count its chance.

    Raises ValueError where the reference makes no error on some corruption, or has none.

    >>> mce({"fog": 0.25, "snow": 0.5}, {"fog": 0.5, "snow": 0.5})
    0.75
    """
    without = [corruption for corruption, error in reference.items() if error <= 0]
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
