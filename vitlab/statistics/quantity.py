"""Numbers with intervals as formulas: arithmetic on a Quantity is arithmetic on means over items.

    found("ViT", "FGSM", 8) - found("CNN", "FGSM", 8) > 0     # a check, written as its formula
    average(found.gap("FGSM", e) for e in budgets) > 0

What rests on the same items (images, episodes) is compared item by item, so a gap is paired; what
rests on different items is independent, even if there are as many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vitlab.files import nearest
from vitlab.statistics.evidence import Evidence
from vitlab.statistics.interval import Interval

Tables = Mapping[str, np.ndarray]
LEVELS = ("accuracy", "error")  # units of numbers from 0 to 1 that are 0 or 1 for each item
SHARES = ("shape bias", "AUPR", "calibration error")  # units of other numbers from 0 to 1
EPSILON = float(np.finfo(float).eps)


@dataclass(frozen=True, eq=False, repr=False)
class Quantity:
    """A function of means over items, with its unit.

    tables: name of the items -> float [items, k], the values of each item.
    of: their means, {name: [..., k]} -> [...].
    lacks: a group that the run does not have. What is computed from it lacks it too, and
        `Lab.settles` says so once.
    edges: what the number cannot go beyond, and where it leaves no room: for an accuracy, what
        guessing would reach and 1.
    classes: name of the items -> int [items], the class of each, where that is known.
    trainings, draws: the models (and random draws that count as chance) whose mean it is;
        left_out: the same quantity without one of them.
    linear: sums and multiples of means alone; ratio: numerator and denominator, if it is one.
    debiased: a plug-in number of few items, e.g. an entropy, that the jackknife corrects.
    more: what two more items would add to it, that keep its interval honest where all agree.
    fewest: how many items the least known part of it rests on, if not all of them.
    over: how much too large few items may make it on average, e.g. a sum of absolute values.
    name: of what was measured, by which it is the same in numerator and denominator.
    formula, again: the quantities that a formula rests on, and the formula for others.
    given: an interval that was computed otherwise (see `stated`); no formula can rest on it.
    """

    tables: Tables
    of: Callable[[Tables], np.ndarray]
    unit: str = "share"
    lacks: str = ""
    edges: tuple[float, float] = (-np.inf, np.inf)
    classes: Mapping[str, np.ndarray] = field(default_factory=dict)
    trainings: tuple[str, ...] = ()
    draws: tuple[int, ...] = ()
    left_out: Callable[[str | int], Quantity] | None = None
    linear: bool = False
    ratio: tuple[Quantity, Quantity] | None = None
    debiased: bool = False
    more: tuple[float, ...] | None = None
    fewest: int | None = None
    over: float = 0.0
    name: tuple = ()
    formula: tuple[Quantity, ...] = ()
    again: Callable[[Sequence[Quantity]], Quantity] | None = None
    given: Interval | None = None

    def __repr__(self) -> str:
        return f"lacks {self.lacks}" if self.lacks else f"{self.interval}, {self.unit}"

    # --- arithmetic -------------------------------------------------------------------------------

    def __add__(self, other: Quantity | float) -> Quantity:
        if self.ratio and not isinstance(other, Quantity):  # stays a ratio, with its interval
            return (self.ratio[0] + self.ratio[1] * other) / self.ratio[1]
        return together([self, other], lambda each: each[..., 0] + each[..., 1], linear=True)

    __radd__ = __add__

    def __sub__(self, other: Quantity | float) -> Quantity:
        if self.ratio and not isinstance(other, Quantity):
            return self + -other
        unit = "share" if self.unit in LEVELS else self.unit
        return together([self, other], lambda each: each[..., 0] - each[..., 1], unit, linear=True)

    def __rsub__(self, other: float) -> Quantity:
        if self.ratio:
            return (self.ratio[1] * other - self.ratio[0]) / self.ratio[1]
        unit = "error" if self.unit == "accuracy" and other == 1 else self.unit
        return together([self], lambda each: other - each[..., 0], unit, linear=True)

    def __neg__(self) -> Quantity:
        if self.ratio:
            return -self.ratio[0] / self.ratio[1]
        unit = "share" if self.unit in LEVELS else self.unit
        return together([self], lambda each: -each[..., 0], unit, linear=True)

    def __mul__(self, other: Quantity | float) -> Quantity:
        fixed = not isinstance(other, Quantity)
        if self.ratio and not isinstance(other, Quantity):
            return (self.ratio[0] * other) / self.ratio[1]
        return together([self, other], lambda each: each[..., 0] * each[..., 1], linear=fixed)

    __rmul__ = __mul__

    def __truediv__(self, other: Quantity | float) -> Quantity:
        found = together(
            [self, other],
            lambda each: each[..., 0] / each[..., 1],
            "ratio",
            linear=not isinstance(other, Quantity),
        )
        if isinstance(other, Quantity) and self.linear and other.linear and not found.lacks:
            return replace(found, ratio=(self, other))
        return found

    def __gt__(self, bound: Quantity | float) -> Asked:
        return self - bound > 0 if isinstance(bound, Quantity) else Asked(self, above=float(bound))

    def __lt__(self, bound: Quantity | float) -> Asked:
        return self - bound < 0 if isinstance(bound, Quantity) else Asked(self, below=float(bound))

    def within(self, margin: float) -> Asked:
        """The check that it is as good as 0: above -margin and below margin.

        Raises ValueError for a margin that is not above 0.
        """
        if not margin > 0:
            raise ValueError(f"equality is within a margin above 0, got {margin}")
        return Asked(self, within=float(margin))

    # --- the number -------------------------------------------------------------------------------

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """What the formula rests on, down to what was measured."""
        return tuple(leaf for part in self.formula for leaf in part.parts) or (self,)

    @cached_property
    def plugged(self) -> float:
        """The formula of the means as they are."""
        if self.lacks:
            return float("nan")
        return float(self.of({name: table.mean(0) for name, table in self.tables.items()}))

    @property
    def value(self) -> float:
        """The number without its interval; NaN where a group is lacking."""
        if self.given is not None:
            return self.given.value
        return self.plugged + (self._bias if self.debiased and not self.lacks else 0)

    @cached_property
    def added(self) -> dict[str, np.ndarray]:
        """What each item adds: the jackknife's pseudo-values [items], by the items' name.

        The number is the mean of one kind of items' pseudo-values; of several kinds, their
        deviations from it add up.
        """
        means = {name: table.mean(0) for name, table in self.tables.items()}
        if not np.isfinite(self.plugged):  # nothing can be said
            return {name: np.full(len(table), np.nan) for name, table in self.tables.items()}
        found = {}
        for name, table in self.tables.items():
            n, step = len(table), max(1, 5_000_000 // table.shape[1])  # 40 MB at a time
            without = np.concatenate(
                [
                    self.of(
                        {**means, name: means[name] + (means[name] - table[i : i + step]) / (n - 1)}
                    )
                    * np.ones(len(table[i : i + step]))
                    for i in range(0, n if n > 1 else 0, step)
                ]
                or [np.full(n, np.nan)]
            )
            found[name] = n * self.plugged - (n - 1) * without
        return found

    @property
    def _bias(self) -> float:
        return sum(added.mean() - self.plugged for added in self.added.values())

    def _at(self, level: Callable[[Quantity], float]) -> float:
        """The formula where each of its accuracies has a given level."""
        means: dict[str, list[np.ndarray]] = {name: [] for name in self.tables}
        for part in self.parts:
            for name, table in part.tables.items():
                means[name].append(np.full(table.shape[1], level(part)))
        return float(self.of({name: np.concatenate(each) for name, each in means.items()}))

    @cached_property
    def _answers(self) -> bool:
        """Whether it was measured as the mean of right and wrong answers (or other yes and no)."""
        if self.formula or not self.linear:
            return False
        yes_or_no = (np.isin(table, (0, 1)).all() for table in self.tables.values())
        known = (*LEVELS, "calibration error")  # of which an answer can add 1, or nothing
        return self.unit in known or (self.unit == "share" and all(yes_or_no))

    @cached_property
    def _of_answers(self) -> bool:
        """Whether it sums and multiplies means of answers alone."""
        return self.linear and all(part._answers for part in self.parts)

    @cached_property
    def _one(self) -> float:
        """What one training's answer adds to its group's."""
        return 1 / max(1, min(len(part.trainings) for part in self.parts))

    @cached_property
    def _slopes(self) -> list[tuple[Quantity, float]]:
        """Each of its parts, once, and how the formula changes with it."""
        parts = {id(part): part for part in self.parts}.values()
        if self.linear:
            nothing = self._at(lambda part: 0.0)
            return [(one, self._at(lambda p, one=one: float(p is one)) - nothing) for one in parts]  # type: ignore[misc]
        return [(one, self._slope(one) if self.formula else 1.0) for one in parts]

    def _slope(self, one: Quantity) -> float:
        """The derivative by one of its parts, at the means as they are."""
        step = 1e-6 * max(1.0, abs(one.plugged))
        means = {name: table.mean(0) for name, table in self.tables.items()}
        up, down = ({name: mean.copy() for name, mean in means.items()} for _ in range(2))
        for name, at in self._columns(one):
            up[name][at] += step
            down[name][at] -= step
        with np.errstate(invalid="ignore"):  # not finite: nothing can be said
            return float(self.of(up) - self.of(down)) / (2 * step)

    def _columns(self, one: Quantity) -> Iterator[tuple[str, slice]]:
        """Where a part's columns stand among those of the formula, for each kind of its items."""
        start = dict.fromkeys(self.tables, 0)
        for part in self.parts:
            for name, table in part.tables.items():
                at = slice(start[name], start[name] + table.shape[1])
                start[name] = at.stop
                if part is one:
                    yield name, at

    def _pads(self) -> tuple[float, ...] | None:
        """Two more answers, one either way, that keep an interval honest at the ceiling.

        A mean of right and wrong answers looks certain where all images agree (Bonett & Price
        2012). In a difference of several trainings a group, one of them gives the answer. A formula
        that is not linear, e.g. a difference of ratios, gets them by its slopes.
        """
        if self.more or not all(part._answers for part in self.parts):
            return self.more
        if not all(math.isfinite(slope) for _, slope in self._slopes):
            return None
        up = {id(part) for part, slope in self._slopes if slope > 0}
        mixed = bool(up) and any(slope < 0 for _, slope in self._slopes)
        step = self._one if mixed else 1.0

        def pad(answer: Callable[[Quantity], float]) -> float:
            if self.linear:
                return self._at(answer)
            moved = (slope * (answer(part) - part.plugged) for part, slope in self._slopes)
            return self.plugged + sum(moved)

        return (
            pad(lambda part: step * (id(part) in up)),
            pad(lambda part: step * (id(part) not in up)),
        )

    def _bounds(self) -> tuple[float, float]:
        """What it cannot go beyond: an accuracy 0 and 1, a difference of two -1 and 1."""
        if self.unit in SHARES and not self.formula:
            return 0.0, 1.0
        if not (self.linear and all(part._share for part in self.parts)):
            return -np.inf, np.inf
        slopes = [slope for _, slope in self._slopes]
        rest = self.plugged - sum(slope * part.plugged for part, slope in self._slopes)
        rest = 0.0 if math.isclose(rest, 0, abs_tol=1e-12) else rest
        return rest + sum(s for s in slopes if s < 0), rest + sum(s for s in slopes if s > 0)

    @property
    def _share(self) -> bool:
        """Whether it was measured from 0 to 1."""
        if self.unit != "share":
            return self._answers or self.unit in SHARES
        return all(((table >= 0) & (table <= 1)).all() for table in self.tables.values())

    @cached_property
    def evidence(self) -> Evidence:
        """What it rests on, item by item: all that its intervals need."""
        if self.given is not None:
            return Evidence(self.value, self.value, given=self.given)
        if self.lacks:
            return Evidence(np.nan, np.nan)
        draws = self._all("draws")
        return Evidence(
            self.value,
            self.plugged,
            self.added,
            self._pads(),
            self._ratio(),
            [self._without(sorted(group)).tolist() for group in self._groups()],
            self._without(draws).tolist() if len(draws) > 1 else [math.nan] * len(draws),
            self.by_class.tolist(),
            *self._bounds(),
            fewest=self.fewest,
            over=self._over(),
            grain=self._grain(),
        )

    def _over(self) -> tuple[float, float]:
        """How far few items may have raised it, and lowered it."""
        if not any(part.over for part in self.parts):
            return 0.0, 0.0
        moved = [slope * part.over for part, slope in self._slopes]
        return sum(m for m in moved if m > 0), -sum(m for m in moved if m < 0)

    def _grain(self) -> float:
        """What rounding alone can do to it: the jackknife multiplies the parts' by the items."""
        largest = max([1.0, *(abs(p.plugged) for p in self.parts if math.isfinite(p.plugged))])
        return 4 * EPSILON * largest * max(map(len, self.tables.values()), default=1)

    @property
    def interval(self) -> Interval:
        """The number with its 95 % interval, for these trainings and classes: over items."""
        return self.evidence.interval

    @property
    def over_trainings(self) -> Interval | None:
        """The interval for other trainings of these architectures, too, if there are several."""
        return self.evidence.over_trainings

    def _ratio(self) -> tuple[Evidence, Evidence] | None:
        """Numerator and denominator, for Fieller's interval.

        Of accuracies on the same items with some more: all right, none, and one training's answer
        each to what stands above alone, below alone, and in both.
        """
        if self.ratio is None:
            return None
        top, bottom = self.ratio
        more: list[tuple[float, ...] | None] = [top._pads(), bottom._pads()]
        if top._of_answers and bottom._of_answers and len(self.tables) == 1:
            above, below = ([_same(part) for part in q.parts] for q in self.ratio)
            where = [set(above) - set(below), set(below) - set(above), set(above) & set(below)]
            asked = [(set(above) | set(below), 1.0), (set(), 1.0)]
            asked += [(some, self._one) for some in where if some]
            more = [
                tuple(q._at(lambda part: step * (_same(part) in some)) for some, step in asked)  # noqa: B023
                for q in self.ratio
            ]
        elif set(top.tables) & set(bottom.tables) and None in more:  # paired: both or neither
            more = [None, None]
        found = [
            Evidence(q.plugged, q.plugged, q.added, m)
            for q, m in zip(self.ratio, more, strict=True)
        ]
        return found[0], found[1]

    # --- beyond these trainings and classes -------------------------------------------------------

    def _all(self, what: str) -> tuple:
        return tuple(dict.fromkeys(one for part in self.parts for one in getattr(part, what)))

    def without(self, one: str | int) -> Quantity:
        """The same without one training (a name) or one draw (a number)."""
        if self.again is not None:
            return self.again([part.without(one) for part in self.formula])
        if self.left_out is None or one not in (*self.trainings, *self.draws):
            return self
        return self.left_out(one)

    def _without(self, ones: Iterable[str | int]) -> np.ndarray:
        return np.array([self.without(one).plugged for one in ones])

    def _groups(self) -> list[tuple[str, ...]]:
        """Groups of trainings that it is the mean of; none where one group has one training only.

        A group that is part of another varies with it; groups that overlap otherwise are unclear.
        """
        groups = {part.trainings for part in self.parts}
        if not groups or min(map(len, groups)) < 2:
            return []
        groups = {g for g in groups if not any(set(g) < set(other) for other in groups)}
        overlap = len(set().union(*groups)) < sum(map(len, groups))
        return [] if overlap else sorted(groups)

    @cached_property
    def by_class(self) -> np.ndarray:
        """The number on each class's items alone; empty where classes are not known."""
        if self.lacks or not self.tables or set(self.tables) - set(self.classes):
            return np.empty(0)
        shared = set.intersection(*(set(labels.tolist()) for labels in self.classes.values()))
        found = [
            self.of({k: t[self.classes[k] == one].mean(0) for k, t in self.tables.items()})
            for one in sorted(shared)
        ]
        return np.array(found, float)

    @property
    def reach(self) -> tuple[float, float]:
        """What it could have been at all; of a ratio, its denominator being what it is."""
        if self.ratio is None:
            return self._bounds()
        if self.ratio[1].plugged <= 0 or not self.ratio[0]._of_answers:
            return -np.inf, np.inf
        low, high = self.ratio[0]._bounds()
        return low / self.ratio[1].plugged, high / self.ratio[1].plugged


def _same(part: Quantity) -> Any:
    """What tells a measured quantity from others, whatever their values."""
    return part.name or id(part)


@dataclass(frozen=True)
class Asked:
    """A quantity and the bound that it is asked to respect; `Lab.settles` makes a check of it."""

    quantity: Quantity
    above: float | None = None
    below: float | None = None
    within: float | None = None
    control: Quantity | None = None
    against: str = ""
    excess: Quantity | None = None

    def __bool__(self) -> bool:
        raise TypeError("a check is decided by its interval: yield it")

    def beside(self, control: Quantity, name: str, excess: Quantity | None = None) -> Asked:
        """With a control: what the same formula gives where the alleged cause is absent.

        The claim less the control, or `excess` where that was computed otherwise, must lie on the
        demanded side of 0, too. Raises ValueError for a check of equality, which has no side.
        """
        if self.within is not None:
            raise ValueError(f"equality has no control: {name}")
        return replace(self, control=control, against=name, excess=excess)


def every(asked: Mapping[str, Asked]) -> dict[str, Asked]:
    """One check made of several named variants, at most three: it holds if each of them does."""
    if not 2 <= len(asked) <= 3:
        raise ValueError(f"two or three variants make one check, got {len(asked)}")
    return dict(asked)


def mean(values: Any, unit: str = "share", items: str = "items", **about: Any) -> Quantity:
    """The mean over items of float [items] or [items, k].

    items: their name; quantities of the same items are paired. about: further fields of Quantity.

    >>> print(mean([0.0, 1.0]).value)
    0.5
    """
    table = np.asarray(values, float).reshape(len(values), -1)
    return Quantity({items: table}, lambda means: means[items].mean(-1), unit, linear=True, **about)


def function(
    values: Any,
    of: Callable[[np.ndarray], np.ndarray],
    unit: str = "share",
    items: str = "items",
    **about: Any,
) -> Quantity:
    """A function of the means of float [items, k]: `of` takes means [..., k] and gives [...].

    about: further fields of Quantity, e.g. ``debiased=True`` for an entropy.
    """
    table = np.asarray(values, float)
    return Quantity({items: table}, lambda means: of(means[items]), unit, **about)


def pseudo(value: float, added: Mapping[str, Any], unit: str = "share", **about: Any) -> Quantity:
    """A number that is no function of means (an area under a curve), by what each item adds.

    added: name of the items -> float [items], e.g. jackknife pseudo-values; their mean is not used.
    """
    tables = {name: np.asarray(a, float)[:, None] for name, a in added.items()}
    tables = {name: table - table.mean() for name, table in tables.items()}

    def of(means: Tables) -> np.ndarray:
        found = np.asarray(value)
        for name in tables:
            found = found + means[name][..., 0]
        return found

    return Quantity(tables, of, unit, linear=True, **about)


def stated(interval: Interval, unit: str = "share") -> Quantity:
    """A number whose interval was computed otherwise: an exact test, a maximum over all trials.

    Raises ValueError where low, value and high are not in this order; NaN is in any.
    """
    value, low, high, n = interval
    if low > value or value > high or low > high or not n >= 0:
        raise ValueError(
            f"low <= value <= high of n >= 0, not {low:g} <= {value:g} <= {high:g} of {n}"
        )
    return Quantity({}, lambda means: np.array(interval.value), unit, given=interval)


def lacking(group: str, unit: str = "share") -> Quantity:
    """A quantity that cannot be had, because the run has no such group."""
    return Quantity({}, lambda means: np.array(np.nan), unit, group)


def together(
    parts: Sequence[Quantity | float],
    do: Callable[[np.ndarray], np.ndarray],
    unit: str = "",
    linear: bool = False,
) -> Quantity:
    """A function of several quantities: `do` gets them as the last axis of an array.

    unit: of the outcome; that of the first part if empty. linear: `do` sums and multiplies by
    fixed numbers alone. It must be smooth: the largest of several has no interval by the jackknife.

    Raises ValueError for no quantities, for a part with an interval of its own (`stated`), and
    where parts rest on equally named items of different number.
    """
    real = [p for p in parts if isinstance(p, Quantity)]
    if not real:
        raise ValueError("a formula needs at least one quantity")
    if any(part.given is not None for part in real):
        raise ValueError("a number with an interval of its own cannot be part of a formula")
    unit = unit or real[0].unit
    if group := next((p.lacks for p in real if p.lacks), ""):
        return lacking(group, unit)
    tables: dict[str, list[np.ndarray]] = {}
    places: list[dict[str, slice]] = []  # of each part: where its columns stand
    for part in real:
        places.append({})
        for items, table in part.tables.items():
            held = tables.setdefault(items, [])
            start = sum(t.shape[1] for t in held)
            places[-1][items] = slice(start, start + table.shape[1])
            held.append(table)
    for items, held in tables.items():
        if len(sizes := {len(table) for table in held}) > 1:
            raise ValueError(f"a formula mixes {sorted(sizes)} {items}")

    def of(means: Tables) -> np.ndarray:
        mine = iter(
            part.of({items: means[items][..., at] for items, at in where.items()})
            for part, where in zip(real, places, strict=True)
        )
        each = [next(mine) if isinstance(p, Quantity) else p for p in parts]
        with np.errstate(divide="ignore", invalid="ignore"):  # not finite: no verdict rests on it
            return do(np.stack(np.broadcast_arrays(*each), -1))

    def again(others: Sequence[Quantity]) -> Quantity:
        mine = iter(others)
        return together(
            [next(mine) if isinstance(p, Quantity) else p for p in parts], do, unit, linear
        )

    return Quantity(
        {items: np.hstack(held) for items, held in tables.items()},
        of,
        unit,
        classes={k: labels for part in real for k, labels in part.classes.items()},
        linear=linear and all(part.linear for part in real),
        debiased=any(part.debiased for part in real),
        fewest=min((part.fewest for part in real if part.fewest is not None), default=None),
        formula=tuple(real),
        again=again,
    )


def average(parts: Iterable[Quantity]) -> Quantity:
    """The mean of some quantities, e.g. over levels, image sets or corruptions."""
    return together(list(parts), lambda each: each.mean(-1), linear=True)


def rises(parts: Sequence[Quantity]) -> list[Quantity]:
    """From each quantity to the next."""
    return [after - before for before, after in pairwise(parts)]


# --- values per item ------------------------------------------------------------------------------


class Measured:
    """Values per item, by model and by what was measured: found("ViT", "FGSM", 8) is a Quantity.

    values: {(model, *key): float [items] or [items, draws]}; a key is e.g. (condition, level) or
        (feature, image set).
    groups: name -> models that speak for it.
    units: by the first part of a key; the others are accuracies.
    items: the name of what the rows are, the same for what shares its images; a mapping by the
        first part of a key where sets differ.
    chance: what guessing would reach. classes: name of the items -> the class of each, where known.
    redraw: the draws (trained patches, random starts) count as chance like the items.
    """

    def __init__(
        self,
        values: Mapping[tuple, Any],
        groups: Mapping[str, Sequence[str]],
        units: Mapping[str, str] | None = None,
        items: str | Mapping[Any, str] = "items",
        chance: float | None = None,
        redraw: bool = False,
        classes: Mapping[str, Any] | None = None,
    ):
        tables = {_key(k): np.asarray(v, float).reshape(len(v), -1) for k, v in values.items()}
        self.values, self.units, self.redraw = tables, dict(units or {}), redraw
        self.items, self.chance = items, chance
        self.classes = {name: np.asarray(labels) for name, labels in (classes or {}).items()}
        self.models = {model for model, *_ in tables}
        members = {g: [m for m in names if m in self.models] for g, names in groups.items()}
        self.groups = {g: names for g, names in members.items() if names}

    def __call__(self, who: str, *key: Any) -> Quantity:
        """The mean over a group's models (or of one model) under a key, with draws averaged.

        Raises KeyError where that was not measured, with what is nearest.
        """
        unit = self.units.get(key[0], "accuracy")
        if who not in self.groups and who not in self.models:
            return lacking(who, unit)
        models = tuple(self.groups.get(who, [who]))
        draws = self._table(models[0], key).shape[1]
        return self._of(models, tuple(range(draws)), key, unit)

    def _of(
        self, models: tuple[str, ...], draws: tuple[int, ...], key: tuple, unit: str
    ) -> Quantity:
        items = self.items if isinstance(self.items, str) else self.items[key[0]]
        table = np.hstack([self._table(model, key)[:, list(draws)] for model in models])

        def left_out(one: str | int) -> Quantity:
            others = tuple(m for m in models if m != one), tuple(d for d in draws if d != one)
            return self._of(*others, key, unit)

        return mean(
            table,
            unit,
            items,
            edges=(self.chance or 0.0, 1.0) if unit == "accuracy" else (-np.inf, np.inf),
            classes={items: self.classes[items]} if items in self.classes else {},
            trainings=models,
            draws=draws if self.redraw else (),
            left_out=left_out,
            name=(items, models, draws, *key),
        )

    def _table(self, model: str, key: Sequence) -> np.ndarray:
        try:
            return self.values[_key((model, *key))]
        except KeyError:
            near = nearest(str(key), [str(k[1:]) for k in self.values if k[0] == model])
            raise KeyError(f"not measured of {model}: {key}{near}") from None

    def gap(self, *key: Any, pair: tuple[str, str] = ("ViT", "CNN")) -> Quantity:
        """The first group of a pair minus the second."""
        return self(pair[0], *key) - self(pair[1], *key)

    def mean_gap(
        self, what: str, levels: Iterable, pair: tuple[str, str] = ("ViT", "CNN")
    ) -> Quantity:
        """`gap` of a pair, its mean over levels of one kind of condition."""
        return average(self.gap(what, level, pair=pair) for level in levels)

    def keys(self, *start: Any) -> Iterator[tuple]:
        """Who (a group) was measured under which keys that start so: (group, *key)."""
        for group, members in self.groups.items():
            for model, *key in self.values:
                if model == members[0] and tuple(key[: len(start)]) == _key(start):
                    yield group, *key

    def levels(self, what: Any, who: str = "") -> list:
        """The second parts of the keys that start with `what`, of a group (the first if empty)."""
        who = who or next(iter(self.groups), "")
        return list(dict.fromkeys(key[2] for key in self.keys(what) if key[0] == who))

    def lines(self, what: Any, groups: Sequence[str] = ()) -> dict[str, dict[Any, Quantity]]:
        """The levels of `what` by group (all if none are named): {group: {level: Quantity}}."""
        asked = [g for g in groups or self.groups if g in self.groups]
        return {g: {level: self(g, what, level) for level in self.levels(what, g)} for g in asked}

    def every(self, *start: Any, text: str = "{}, {}, {:.0%}") -> Iterator[tuple[str, Quantity]]:
        """All that was measured under keys that start so, as facts; text: of group and key."""
        for who_and_key in self.keys(*start):
            yield text.format(*who_and_key), self(*who_and_key)

    def seeds(self, who: str, *key: Any) -> np.ndarray:
        """The numbers behind a group's mean: of each draw if they are redrawn, else each model."""
        tables = np.stack([self._table(m, key) for m in self.groups.get(who, [who])])
        return tables.mean((0, 1)) if self.redraw else tables.mean((1, 2))

    def frame(self) -> pd.DataFrame:
        """Every value: a row per model, key, item and draw."""
        rows = [
            pd.DataFrame(table)
            .melt(var_name="draw", ignore_index=False)
            .rename_axis("item")
            .reset_index()
            .assign(model=model, key=", ".join(map(str, key)))
            for (model, *key), table in self.values.items()
        ]
        return pd.concat(rows or [pd.DataFrame()], ignore_index=True)

    def save(self, path: Path) -> None:
        """Write `frame` as Parquet."""
        self.frame().to_parquet(path)

    def table(self, row: str = "{0}", column: str = "{1}") -> pd.DataFrame:
        """Every number with its interval; row, column: texts of group and key."""
        cells = {k: str(self(*k).interval) for k in self.keys()}
        flat = [(row.format(*k), column.format(*k), cell) for k, cell in cells.items()]
        found = pd.DataFrame(flat, columns=["", "column", "number"])
        return found.pivot_table("number", "", "column", "first", sort=False).fillna("")


def _key(parts: Sequence) -> tuple:
    return tuple(float(f"{p:.6g}") if isinstance(p, float | np.floating) else p for p in parts)
