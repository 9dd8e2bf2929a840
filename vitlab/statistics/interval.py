"""Metrics of trials, each with a 95 % bootstrap interval over images.

A bootstrap resample is a weight per image, so a metric of many resamples at once is a matrix
product of weights and per-image values. Two models that saw the same images are resampled
together: the interval of their difference is paired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from vitlab.rng import generator

RESAMPLES = 2_000


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


@lru_cache(maxsize=8)  # a page asks for the same few sizes hundreds of times
def weights(n: int, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Bootstrap weights: float [resamples, n]; row r tells how often r drew each item, over n."""
    drawn = generator("bootstrap", seed, n).multinomial(n, np.full(n, 1 / n), size=resamples)
    shares = drawn / n
    shares.setflags(write=False)
    return shares


def bootstrap(
    values: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray] = lambda means: means[..., 0],
    seed: int = 0,
) -> Interval:
    """A statistic of means over images, with its percentile interval (Efron 1979).

    values: float [n] or [n, k], the k quantities of each image.
    statistic: means [..., k] -> [...]; the mean itself by default.

    Raises ValueError for no images or non-finite values.

    >>> bootstrap(np.array([1.0, 1.0, 1.0]))
    Interval(value=1.0, low=1.0, high=1.0, n=3)
    """
    values = np.asarray(values, float)
    table = values.reshape(len(values), -1) if len(values) else values
    return bootstrap_tables({"images": table}, lambda means: statistic(means["images"]), seed)


def bootstrap_tables(
    tables: Mapping[str, np.ndarray],
    statistic: Callable[[Mapping[str, np.ndarray]], np.ndarray],
    seed: int = 0,
) -> Interval:
    """`bootstrap` over several kinds of items at once, each resampled by itself.

    tables: name of the items -> float [items, k]. statistic: means {name: [..., k]} -> [...].

    Returns an interval whose n counts all items. Raises ValueError as `bootstrap` does.
    """
    for items, table in tables.items():
        if len(table) == 0 or not np.isfinite(table).all():
            raise ValueError(f"a bootstrap needs finite values, got {items} {table.shape}")
    value = float(statistic({items: table.mean(0) for items, table in tables.items()}))
    drawn = {
        items: weights(len(table), seed=seed + k) for k, (items, table) in enumerate(tables.items())
    }
    width = sum(table.shape[1] for table in tables.values())
    step = max(1, 5_000_000 // width)  # 40 MB of resampled means at a time
    resampled = np.concatenate(
        [
            statistic({items: drawn[items][i : i + step] @ t for items, t in tables.items()})
            for i in range(0, RESAMPLES, step)
        ]
    )
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    return Interval(value, float(low), float(high), sum(len(t) for t in tables.values()))
