"""Mean corruption error (Hendrycks & Dietterich 2019)."""

from __future__ import annotations

import numpy as np


def mce(errors: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Mean corruption error, relative to a reference's (Hendrycks & Dietterich 2019, section 4).

    The errors of a corruption are summed over severities and divided by the reference's sum; the
    ratios are averaged over corruptions. 1 is as bad as the reference; papers write it as 100.

    errors: float [..., corruptions, severities]; reference: the same, or one for all.
    With one fixed reference the mCE is linear in the errors, so single images have one too: `mce`
    of per-image errors can go to `bootstrap`, whose interval then takes the reference as given.

    Raises ValueError where the reference makes no error on some corruption.

    >>> mce(np.array([[0.2, 0.4], [0.1, 0.1]]), np.array([[0.4, 0.8], [0.1, 0.3]]))
    np.float64(0.5)
    """
    total = np.asarray(reference, float).sum(-1)
    if (total <= 0).any():
        places = sorted({int(at[-1]) for at in np.argwhere(total <= 0)})
        raise ValueError(f"the reference has no error to be relative to on corruptions {places}")
    return (np.asarray(errors, float).sum(-1) / total).mean(-1)


def relative_mce(
    errors: np.ndarray, clean: np.ndarray, reference: np.ndarray, reference_clean: np.ndarray
) -> np.ndarray:
    """Relative mCE: `mce` of what corruptions add to the clean error, the reference's too.

    errors, reference: float [..., corruptions, severities]; clean, reference_clean: float [...].

    Raises ValueError where a corruption adds no error to the reference's.
    """
    added, to = (
        np.asarray(e, float) - np.asarray(c, float)[..., None, None]
        for e, c in ((errors, clean), (reference, reference_clean))
    )
    return mce(added, to)
