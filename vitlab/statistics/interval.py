"""95 % intervals that cover: t of what each image adds, Fieller for ratios.

The bootstrap's percentiles, which the first edition used, covered .19 to .93 where 95 % was
promised: few images, accuracies at the ceiling, ratios, entropies. ``python tools/simulate.py``
measures what each kind of interval covers in simulated worlds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit

LEVEL = 0.95


class Interval(NamedTuple):
    """A number with its 95 % interval and the number of images (or episodes) it rests on."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def __mul__(self, factor: object) -> Interval:
        """The same in another unit, e.g. ``interval * 100`` for per cent."""
        k = float(factor)  # type: ignore[arg-type]
        low, high = sorted((self.low * k, self.high * k))
        return Interval(self.value * k, low, high, self.n)


class Source(NamedTuple):
    """One thing that makes a number uncertain (images, trainings): the variance it adds."""

    variance: float
    freedom: float  # degrees of freedom of that variance


def of_items(added: np.ndarray) -> Source:
    """Items drawn at random: added [n] is what each adds to a mean."""
    n = len(added)
    return Source(float(added.var(ddof=1)) / n if n > 1 else np.nan, n - 1)


def of_left_out(left_out: np.ndarray) -> Source:
    """Trainings or draws: left_out [k], the number without each of them (jackknife)."""
    k = len(left_out)
    return Source(float(np.var(left_out)) * (k - 1), k - 1)


def student(
    value: float, sources: Iterable[Source], n: int, middle: float | None = None
) -> Interval:
    """t, the variances added and their degrees of freedom by Welch and Satterthwaite.

    A source with one degree of freedom (two trainings, two draws) is too rough a variance for that:
    it brings its own t, and half-widths add in squares.

    middle: of the interval, where that is not the value. Not finite where a variance is not.
    """
    middle = value if middle is None else middle
    variances, freedoms = np.array([tuple(source) for source in sources], float).T
    total = variances.sum()
    if not total > 0:  # all items agree, or NaN
        return Interval(value, middle + 0 * total, middle + 0 * total, n)
    rough = freedoms < 2
    halves = stdtrit(1, (1 + LEVEL) / 2) * np.sqrt(variances[rough])
    if (known := variances[~rough].sum()) > 0:
        freedom = known**2 / (variances[~rough] ** 2 / freedoms[~rough]).sum()
        halves = np.append(halves, stdtrit(freedom, (1 + LEVEL) / 2) * np.sqrt(known))
    half = np.sqrt((halves**2).sum())
    return Interval(value, float(middle - half), float(middle + half), n)


def fieller(x: list[np.ndarray], y: list[np.ndarray], n: int) -> Interval:
    """The ratio of two means of the same items (Fieller 1954); NaN where its interval is unbounded.

    x, y: what each item adds to the numerator and the denominator, [n], one array per kind of
    items; the means are those of all kinds together.
    """
    top, bottom = sum(map(np.mean, x)), sum(map(np.mean, y))
    xx = sum(a.var(ddof=1) / len(a) for a in x)
    yy = sum(b.var(ddof=1) / len(b) for b in y)
    xy = sum(np.cov(a, b)[0, 1] / len(a) for a, b in zip(x, y, strict=True))
    t2 = stdtrit(min(len(a) for a in x) - 1, (1 + LEVEL) / 2) ** 2
    a, b, c = bottom**2 - t2 * yy, top * bottom - t2 * xy, top**2 - t2 * xx
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.divide(top, bottom)
        if not a > 0:  # the denominator may be 0: the ratio may be anything
            return Interval(float(value), np.nan, np.nan, n)
        root = np.sqrt(max(b**2 - a * c, 0))
    return Interval(float(value), float((b - root) / a), float((b + root) / a), n)


def at_once(interval: Interval, m: int) -> Interval:
    """A 95 % interval made to hold for m such intervals at once (Bonferroni, normal quantiles)."""
    k = ndtri(1 - (1 - LEVEL) / 2 / m) / ndtri((1 + LEVEL) / 2)
    value, low, high, n = interval
    return Interval(value, value - k * (value - low), value + k * (high - value), n)
