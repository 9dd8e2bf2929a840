"""What a number rests on, item by item: enough for its intervals, without images or models.

Evidence is kept with a recorded run, so that its verdicts follow the rules whenever they change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from vitlab.statistics import interval as stats
from vitlab.statistics.interval import Interval


@dataclass(frozen=True, eq=False)
class Evidence:
    """A number and what each item adds to it.

    value: the number. plugged: the same without a correction for few items.
    added: name of the items -> float [items], what each adds; deviations from `plugged` of several
        kinds of items add up.
    more: what a few more items would add, one either way: an interval where all items agree.
    ratio: evidence of numerator and denominator on the same items, if the number is a ratio.
    trainings: the number without each training, a list per group; draws: without each draw.
    by_class: the number on each class's items alone.
    floor, ceiling: of the interval, for what cannot go beyond.
    given: an interval that was computed otherwise.
    fewest: how many items the least known part rests on, if not all of them.
    over: how far few items may have raised the number on average, and lowered it.
    grain: what rounding alone can do to it.
    """

    value: float
    plugged: float
    added: Mapping[str, np.ndarray] = field(default_factory=dict)
    more: tuple[float, ...] | None = None
    ratio: tuple[Evidence, Evidence] | None = None
    trainings: Sequence[Sequence[float]] = ()
    draws: Sequence[float] = ()
    by_class: Sequence[float] = ()
    floor: float = -np.inf
    ceiling: float = np.inf
    given: Interval | None = None
    fewest: int | None = None
    over: Sequence[float] = (0.0, 0.0)
    grain: float = 1e-12

    @property
    def n(self) -> int:
        """How many items it rests on; the fewest, if there are several kinds."""
        return self.given.n if self.given else min((len(a) for a in self.added.values()), default=0)

    @property
    def heaviest(self) -> float:
        """The largest share that a single item has of what varies; 0 where answers are padded."""
        if self.more is not None:
            return 0.0
        shares = [0.0]
        for added in self.added.values():
            apart = (np.asarray(added, float) - np.mean(added)) ** 2
            if apart.sum() > 0:
                shares.append(float(apart.max() / apart.sum()))
        return max(shares)

    def _kinds(self) -> list[np.ndarray]:
        """`added` with `more`: an array per kind of items."""
        kinds = list(self.added.values())
        if self.more is None:
            return kinds
        if len(kinds) == 1:
            return [np.append(kinds[0], self.more)]
        half = abs(self.more[0] - self.more[1]) / 2
        return [np.append(added, [self.plugged + half, self.plugged - half]) for added in kinds]

    @cached_property
    def interval(self) -> Interval:
        """95 %, for these trainings and classes: over items, and draws that count as chance.

        t of what each item adds (Bonett & Price 2012 with two more items); Fieller's for a ratio.
        """
        if self.given is not None:
            return self.given
        if not self.added:
            return Interval(self.value, np.nan, np.nan, 0)
        draws = [stats.of_left_out(np.asarray(self.draws))] if len(self.draws) else []
        if self.ratio and not draws and not any(self.over):
            sizes = dict(size for part in self.ratio for size in part._sizes())
            top, bottom = (part._share(sizes) for part in self.ratio)
            return stats.fieller(top, bottom, self.n)._replace(value=self.value)
        kinds = self._spread()
        middle = self.plugged + sum(added.mean() - self.plugged for added in kinds)
        sources = [*map(stats.of_items, kinds), *draws]
        value, low, high, n = stats.student(self.value, sources, self.n, middle)
        return Interval(value, *self._reaching(low, high), n)

    def _spread(self) -> list[np.ndarray]:
        """`_kinds`; what has no answers to pad it has two items more, as far out as the farthest.

        Few items of which one tells most have a variance that is mostly too small.
        """
        kinds = self._kinds()
        if self.more is not None:
            return kinds
        middles = [added.mean() for added in kinds]
        ends = [abs(a - m).max(initial=0.0) for a, m in zip(kinds, middles, strict=True)]
        far = ([m + end, m - end] for m, end in zip(middles, ends, strict=True))
        return [np.append(added, two) for added, two in zip(kinds, far, strict=True)]

    def _reaching(self, low: float, high: float) -> tuple[float, float]:
        """An interval's ends, as far out as few items may have moved the number, and it can go."""
        raised, lowered = self.over
        return max(low - raised, self.floor), min(high + lowered, self.ceiling)

    def _sizes(self) -> list[tuple[str, int]]:
        return [(name, len(a)) for name, a in zip(self.added, self._kinds(), strict=True)]

    def _share(self, sizes: Mapping[str, int]) -> list[np.ndarray]:
        """What each item adds so that the means of all kinds add up to the number.

        sizes: the items of each kind; one that the number does not rest on adds 0.
        """
        parts = dict(zip(self.added, self._kinds(), strict=True))
        each = {name: a - self.plugged + self.plugged / len(parts) for name, a in parts.items()}
        return [each.get(name, np.zeros(size)) for name, size in sizes.items()]

    @cached_property
    def over_trainings(self) -> Interval | None:
        """The interval for other trainings of these architectures, too: t over both.

        Never narrower than that for these trainings, which counts draws and rounding, too. None
        where a group has one training, or it is not known whose mean a part is.
        """
        if self.given is not None or not self.trainings or not self.added:
            return None
        sources = [stats.of_left_out(np.asarray(group)) for group in self.trainings]
        sources += [stats.of_items(added) for added in self._spread()]
        wider, own = stats.student(self.value, sources, self.n), self.interval
        low, high = self._reaching(wider.low, wider.high)
        return wider._replace(low=np.fmin(low, own.low), high=np.fmax(high, own.high))

    # --- kept in files ----------------------------------------------------------------------------

    def about(self) -> dict[str, Any]:
        """All but what each item adds, as JSON has it."""
        numbers = {"value": self.value, "plugged": self.plugged, "more": self.more}
        edges = {"floor": self.floor, "ceiling": self.ceiling, "given": self.given}
        about = {"fewest": self.fewest, "over": self.over, "grain": self.grain}
        chance = {"trainings": self.trainings, "draws": self.draws, "by_class": self.by_class}
        return {
            name: plain(value) for name, value in (numbers | edges | about | chance).items()
        } | {"ratio": [part.about() for part in self.ratio] if self.ratio else None}

    def columns(self) -> list[tuple[str, str, np.ndarray]]:
        """What each item adds: role (the number's, or its ratio's), items' name, float [items]."""
        own = [("number", name, added) for name, added in self.added.items()]
        parts = zip(("numerator", "denominator"), self.ratio or (), strict=False)
        return own + [(role, name, a) for role, part in parts for name, a in part.added.items()]

    @classmethod
    def read(
        cls, about: Mapping[str, Any], columns: Mapping[tuple[str, str], np.ndarray]
    ) -> Evidence:
        """Evidence again of what `about` and `columns` gave."""
        fields = {name: unplain(value) for name, value in about.items() if name != "ratio"}
        added = {name: a for (role, name), a in columns.items() if role == "number"}
        parts = None
        if about["ratio"]:
            top, bottom = (
                cls.read(one, {("number", k): a for (r, k), a in columns.items() if r == role})
                for role, one in zip(("numerator", "denominator"), about["ratio"], strict=True)
            )
            parts = top, bottom
        given = fields.pop("given")
        fields["more"] = tuple(fields["more"]) if fields["more"] else None
        return cls(added=added, ratio=parts, given=Interval(*given) if given else None, **fields)


def plain(value: Any) -> Any:
    """Numbers that JSON lacks as words."""
    if isinstance(value, tuple | list | np.ndarray):
        return [plain(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else str(float(value))
    return value


def unplain(value: Any) -> Any:
    """What `plain` made, again."""
    if isinstance(value, list):
        return [unplain(one) for one in value]
    return float(value) if isinstance(value, str) else value
