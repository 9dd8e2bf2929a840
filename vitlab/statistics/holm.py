"""Several checks at once: the step-down procedure of Holm (1979)."""

from __future__ import annotations

from collections.abc import Mapping

from vitlab.statistics.interval import Interval, at_once


def holm(intervals: Mapping[str, Interval]) -> dict[str, Interval]:
    """95 % intervals made wider, so that of all above 0 none is by chance, 19 times in 20.

    The clearest of m is corrected for m, the next for m - 1, and so on until one is not above 0;
    the rest is corrected as that one is. Returned in the order of the clearest.

    >>> [str(i) for i in holm({"a": Interval(2, 1, 3, 9), "b": Interval(3, 2, 4, 9)}).values()]
    ['3.000 [1.856, 4.144]', '2.000 [1.000, 3.000]']
    """

    def clear(name: str) -> float:
        value, low, high, _ = intervals[name]
        return value / max(high - low, 1e-12)

    found: dict[str, Interval] = {}
    left, open_ = len(intervals), True
    for name in sorted(intervals, key=clear, reverse=True):
        found[name] = at_once(intervals[name], left)
        open_ = open_ and found[name].low > 0
        left -= open_
    return found
