"""Numbers with intervals as formulas: arithmetic on a Quantity is arithmetic on resampled means.

    found("ViT", "FGSM", 8) - found("CNN", "FGSM", 8) > 0     # a check, written as its formula
    largest(rises([found("ViT", "salient", q) for q in qs])) < 0.02

What rests on the same items (images, episodes) is resampled together, so a gap is paired; what
rests on different items is resampled independently, even if there are as many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vitlab.files import nearest
from vitlab.statistics import interval as stats

Tables = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False, repr=False)
class Quantity:
    """A function of means over items, with its unit.

    tables: name of the items -> float [items, k], the values of each item.
    of: their means, {name: [..., k]} -> [...].
    lacks: a group that the run does not have. What is computed from it lacks it too, and
        `Lab.settles` says so once.
    trainings: the models whose mean it is; chance: what guessing would reach, where that is known.
    parts: the quantities that a formula rests on, e.g. the accuracies behind a gap; itself if it is
        no formula.
    given: an interval that was computed otherwise (see `stated`); no formula can rest on it.
    """

    tables: Tables
    of: Callable[[Tables], np.ndarray]
    unit: str = "share"
    lacks: str = ""
    trainings: tuple[str, ...] = ()
    chance: float | None = None
    formula: tuple[Quantity, ...] = ()
    given: stats.Interval | None = None

    def __repr__(self) -> str:
        return f"lacks {self.lacks}" if self.lacks else f"{self.interval}, {self.unit}"

    def __add__(self, other: Quantity | float) -> Quantity:
        return together([self, other], lambda each: each[..., 0] + each[..., 1])

    __radd__ = __add__

    def __sub__(self, other: Quantity | float) -> Quantity:
        unit = "share" if self.unit == "accuracy" else self.unit
        return together([self, other], lambda each: each[..., 0] - each[..., 1], unit)

    def __rsub__(self, other: float) -> Quantity:
        unit = "share" if self.unit == "accuracy" else self.unit  # 1 - an accuracy is an error
        return together([self], lambda each: other - each[..., 0], unit)

    def __neg__(self) -> Quantity:
        return 0 - self

    def __mul__(self, other: Quantity | float) -> Quantity:
        return together([self, other], lambda each: each[..., 0] * each[..., 1])

    __rmul__ = __mul__

    def __truediv__(self, other: Quantity | float) -> Quantity:
        return together([self, other], lambda each: each[..., 0] / each[..., 1], "ratio")

    def __gt__(self, bound: Quantity | float) -> Asked:
        return self - bound > 0 if isinstance(bound, Quantity) else Asked(self, above=bound)

    def __lt__(self, bound: Quantity | float) -> Asked:
        return self - bound < 0 if isinstance(bound, Quantity) else Asked(self, below=bound)

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """What the formula rests on, down to what was measured."""
        return tuple(leaf for part in self.formula for leaf in part.parts) or (self,)

    @property
    def value(self) -> float:
        """The number without its interval; NaN where a group is lacking."""
        if self.lacks:
            return float("nan")
        if self.given is not None:
            return self.given.value
        return float(self.of({name: table.mean(0) for name, table in self.tables.items()}))

    @cached_property
    def interval(self) -> stats.Interval:
        """The number with its 95 % interval: by the bootstrap over items, if none was given."""
        if self.given is not None:
            return self.given
        return stats.bootstrap_tables(self.tables, self.of)


@dataclass(frozen=True)
class Asked:
    """A quantity and the bound that it is asked to respect; `Lab.settles` makes a check of it."""

    quantity: Quantity
    above: float | None = None
    below: float | None = None

    def __bool__(self) -> bool:
        raise TypeError("a check is decided by its interval: yield it")


def mean(values: Any, unit: str = "share", items: str = "items", **about: Any) -> Quantity:
    """The mean over items of float [items] or [items, k].

    items: their name; quantities of the same items are paired. about: further fields of Quantity.

    >>> print(mean([0.0, 1.0]).value)
    0.5
    """
    table = np.asarray(values, float).reshape(len(values), -1)
    return Quantity({items: table}, lambda means: means[items].mean(-1), unit, **about)


def function(
    values: Any, of: Callable[[np.ndarray], np.ndarray], unit: str = "share", items: str = "items"
) -> Quantity:
    """A function of the means of float [items, k]: `of` takes means [..., k] and gives [...]."""
    return Quantity({items: np.asarray(values, float)}, lambda means: of(means[items]), unit)


def stated(interval: stats.Interval, unit: str = "share") -> Quantity:
    """A number whose interval was computed otherwise: an exact test, a maximum over all trials."""
    return Quantity({}, lambda means: np.array(interval.value), unit, given=interval)


def lacking(group: str, unit: str = "share") -> Quantity:
    """A quantity that cannot be had, because the run has no such group."""
    return Quantity({}, lambda means: np.array(np.nan), unit, group)


def together(
    parts: Sequence[Quantity | float], do: Callable[[np.ndarray], np.ndarray], unit: str = ""
) -> Quantity:
    """A function of several quantities: `do` gets them as the last axis of an array.

    unit: of the outcome; that of the first part if empty.

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
        with np.errstate(divide="ignore", invalid="ignore"):  # not finite: `settle` names it
            return do(np.stack(np.broadcast_arrays(*each), -1))

    joined = {items: np.hstack(held) for items, held in tables.items()}
    return Quantity(joined, of, unit, formula=tuple(real))


def largest(parts: Sequence[Quantity]) -> Quantity:
    """The largest of some quantities, in every resample."""
    return together(parts, lambda each: each.max(-1))


def smallest(parts: Sequence[Quantity]) -> Quantity:
    """The smallest of some quantities, in every resample."""
    return together(parts, lambda each: each.min(-1))


def average(parts: Sequence[Quantity]) -> Quantity:
    """The mean of some quantities, e.g. over image sets or corruptions."""
    return together(parts, lambda each: each.mean(-1))


def rises(parts: Sequence[Quantity]) -> list[Quantity]:
    """From each quantity to the next: `largest(rises(curve)) < 0.02` asks for a falling curve."""
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
    chance: what guessing would reach. redraw: the draws (trained patches, random starts) are
        resampled like the items.
    """

    def __init__(
        self,
        values: Mapping[tuple, Any],
        groups: Mapping[str, Sequence[str]],
        units: Mapping[str, str] | None = None,
        items: str | Mapping[Any, str] = "items",
        chance: float | None = None,
        redraw: bool = False,
    ):
        tables = {_key(k): np.asarray(v, float).reshape(len(v), -1) for k, v in values.items()}
        self.values, self.units, self.redraw = tables, dict(units or {}), redraw
        self.items, self.chance = items, chance
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
        models = self.groups.get(who, [who])
        found = [self._table(model, key) for model in models]
        items = self.items if isinstance(self.items, str) else self.items[key[0]]
        draws = found[0].shape[1]

        def of(means: Tables) -> np.ndarray:
            by_draw = means[items].reshape(*means[items].shape[:-1], -1, draws).mean(-2)
            if not self.redraw or by_draw.ndim == 1:
                return by_draw.mean(-1)
            return (by_draw * stats.weights(draws, len(by_draw), seed=1)).sum(-1)

        chance = self.chance if unit == "accuracy" else None
        return Quantity({items: np.hstack(found)}, of, unit, "", tuple(models), chance)

    def _table(self, model: str, key: Sequence) -> np.ndarray:
        try:
            return self.values[_key((model, *key))]
        except KeyError:
            near = nearest(str(key), [str(k[1:]) for k in self.values if k[0] == model])
            raise KeyError(f"not measured of {model}: {key}{near}") from None

    def gap(self, *key: Any, pair: tuple[str, str] = ("ViT", "CNN")) -> Quantity:
        """The first group of a pair minus the second."""
        return self(pair[0], *key) - self(pair[1], *key)

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
    return tuple(round(float(p), 4) if isinstance(p, float | np.floating) else p for p in parts)
