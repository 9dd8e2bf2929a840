"""One demand of a claim: a number with its interval and its bound, and what that says.

`judge` has the rules, in their order. ``python tools/simulate.py`` tells how often they err in
simulated worlds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from vitlab.statistics.evidence import Evidence, plain, unplain
from vitlab.statistics.interval import Interval, at_once
from vitlab.statistics.quantity import Asked

BAND = 0.02  # all compared levels within this of the same edge: no room
HEAVIEST = 0.5  # of what varies, by one item: with more there is in truth one item
LEAST_N = 20  # images (episodes, sequences) below which nothing is decided
POWER = 1.43  # (1.96 + .84) / 1.96: from half a width to what is seen four times in five
EQUAL = 1.65  # (1.96 + 1.28) / 1.96: both ends have to stay within the margin


class Level(NamedTuple):
    """A level that a check compares, e.g. an accuracy, and the edges that it can run into."""

    interval: Interval
    floor: float
    ceiling: float


@dataclass(frozen=True)
class Check:
    """One demand: a number that must lie above or below a bound, or within a margin of 0.

    evidence: what the number rests on. levels: what it compares, where that has edges. reach: what
    it could have been at all. excess: the number less that of the control, named `against`.
    trainings: the fewest in a group.
    """

    quantity: str
    evidence: Evidence
    above: float | None = None
    below: float | None = None
    within: float | None = None
    unit: str = "share"
    levels: tuple[Level, ...] = ()
    reach: tuple[float, float] = (-math.inf, math.inf)
    excess: Evidence | None = None
    against: str = ""
    trainings: int = 0

    def __post_init__(self) -> None:
        if sum(bound is not None for bound in (self.above, self.below, self.within)) != 1:
            raise ValueError(f"{self.quantity}: give one of above, below, within")
        if not math.isfinite(self.bound) or (self.within is not None and self.within <= 0):
            raise ValueError(f"{self.quantity}: {self.demand} bounds nothing; a margin is above 0")

    @property
    def interval(self) -> Interval:
        """The number with its interval, for these trainings and classes."""
        return self.evidence.interval

    @property
    def classes(self) -> int:
        """How many classes it was measured on, where that is known."""
        return int(np.isfinite(self.evidence.by_class).sum())

    @property
    def spread(self) -> float:
        """The number's standard deviation between classes; NaN where they are not known."""
        known = [v for v in self.evidence.by_class if math.isfinite(v)]
        return float(np.std(known, ddof=1)) if len(known) > 1 else math.nan

    @property
    def bound(self) -> float:
        """The number that is not to be passed."""
        return next(b for b in (self.above, self.below, self.within) if b is not None)

    @property
    def slack(self) -> float:
        """How far a difference may be on the wrong side of 0 and yet do what is asked."""
        down = -self.above if self.above is not None else self.below
        differs = len(self.levels) > 1 and self.unit == "share" and self.evidence.floor < 0
        return self.within or (max(0.0, down or 0.0) if differs else 0.0)

    @property
    def demand(self) -> str:
        """The bound in words: "> 0"."""
        sign = ">" if self.above is not None else "<" if self.below is not None else "within"
        return f"{sign} {float(self.bound):.12g}"

    @property
    def sees(self) -> float:
        """The smallest distance from the bound that would be seen with 80 % power."""
        return POWER * (self.interval.high - self.interval.low) / 2

    @property
    def takes(self) -> int:
        """How many items would show equality four times in five, where nothing differs; 0 if it is
        no equality that is asked."""
        if self.within is None or not math.isfinite(self.sees):
            return 0
        half = (self.interval.high - self.interval.low) / 2
        return math.ceil(self.interval.n * (EQUAL * half / self.within) ** 2)

    def about(self) -> dict[str, Any]:
        """All but what each item adds, as JSON has it."""
        return {
            "quantity": self.quantity,
            "bounds": [self.above, self.below, self.within],
            "unit": self.unit,
            "levels": plain([[*v.interval, v.floor, v.ceiling] for v in self.levels]),
            "reach": plain(self.reach),
            "against": self.against,
            "trainings": self.trainings,
            "evidence": self.evidence.about(),
            "excess": self.excess and self.excess.about(),
        }

    def columns(self) -> Iterator[tuple[str, str, str, np.ndarray]]:
        """What each item adds: "evidence" or "excess", then as `Evidence.columns`."""
        for name, one in (("evidence", self.evidence), ("excess", self.excess)):
            yield from ((name, *column) for column in (one.columns() if one else ()))

    @classmethod
    def read(
        cls, about: Mapping[str, Any], columns: Mapping[tuple[str, str, str], np.ndarray]
    ) -> Check:
        """A check again of what `about` and `columns` gave."""

        def evidence(of: str) -> Evidence:
            mine = {(role, items): a for (o, role, items), a in columns.items() if o == of}
            return Evidence.read(about[of], mine)

        return cls(
            about["quantity"],
            evidence("evidence"),
            above=about["bounds"][0],
            below=about["bounds"][1],
            within=about["bounds"][2],
            unit=about["unit"],
            levels=tuple(Level(Interval(*v[:4]), *v[4:]) for v in unplain(about["levels"])),
            reach=tuple(unplain(about["reach"])),
            excess=evidence("excess") if about["excess"] else None,
            against=about["against"],
            trainings=about["trainings"],
        )


def measured(text: str, asked: Asked, unit: str = "") -> Check:
    """What a page asks for, measured, with all that a verdict needs."""
    q, control, excess = asked.quantity, asked.control, asked.excess
    if excess is None and control is not None and not control.lacks:
        excess = q - control
    edged = [part for part in q.parts if all(map(math.isfinite, part.edges))]
    return Check(
        text,
        q.evidence,
        asked.above,
        asked.below,
        asked.within,
        unit or q.unit,
        tuple(Level(part.interval, *part.edges) for part in edged),
        q.reach,
        excess.evidence if excess is not None else None,
        asked.against,
        min((len(part.trainings) for part in q.parts), default=0),
    )


Word = Literal["holds", "fails", "cannot tell"]


class Answer(NamedTuple):
    """What a check says: holds, fails or cannot tell, and what stopped it."""

    word: Word
    reason: str = ""


def beyond(check: Check, interval: Interval) -> Word:
    """Where an interval lies, strictly: one that touches the bound or holds it decides nothing."""
    _, low, high, _ = interval
    hair = max(1e-12 * max(1.0, abs(check.bound)), check.evidence.grain)  # rounding alone
    if check.within is not None:
        m = check.within
        inside, outside = -m < low - hair and high + hair < m, low > m + hair or high < -m - hair
    elif check.above is not None:
        inside, outside = low > check.above + hair, high < check.above - hair
    else:
        inside, outside = high < check.bound - hair, low > check.bound + hair
    return "holds" if inside else "fails" if outside else "cannot tell"


def edge(levels: Sequence[Level], band: float, clear: bool) -> str:
    """ceiling or floor, where all compared levels sit at the same one; else empty.

    clear: it takes a level whose whole interval is off the edge to leave room.
    """
    top = [(v.interval.high if clear else v.interval.value) >= v.ceiling - band for v in levels]
    bottom = [(v.interval.low if clear else v.interval.value) <= v.floor + band for v in levels]
    return "ceiling" if levels and all(top) else "floor" if levels and all(bottom) else ""


def judge(check: Check) -> Answer:
    """A check's answer. What keeps it from being asked comes before what it would say.

    In this order: no finite number, too few images or one that outweighs all others, no room, a
    bound that is out of reach, strictly beyond the bound, and the control.
    """
    i, bound = check.interval, check.bound
    if len(check.evidence.draws) == 1:
        return Answer("cannot tell", "one random draw, so its chance is not known")
    if not all(map(math.isfinite, i[:3])):
        return Answer("cannot tell", "undefined")
    if few := _too_few(check.evidence):
        return Answer("cannot tell", few)
    if (share := check.evidence.heaviest) > HEAVIEST:
        return Answer("cannot tell", f"one item alone makes {share:.0%} of what varies")
    # At an edge equality and bounds other than 0 would be decided by the edge itself.
    room = edge(check.levels, max(BAND, check.slack), clear=bound != 0)
    if room:
        return Answer("cannot tell", f"no room: all at the {room}")
    low, high = check.reach
    if (check.above is not None and bound >= high) or (check.below is not None and bound <= low):
        return Answer("cannot tell", f"out of reach: it can be {low:.3g} to {high:.3g}")
    word = beyond(check, i)
    if word == "holds" and check.against and check.excess is None:
        return Answer("cannot tell", f"its control was not measured: {check.against}")
    if word == "holds" and check.excess is not None:
        return _controlled(check, check.excess)
    if word == "cannot tell":
        near = edge(check.levels, BAND, clear=True)
        bounds = [bound] if check.within is None else [-check.within, check.within]
        inside = [f"{b:g}" for b in bounds if i.low <= b <= i.high] or [
            f"{bound:g}, but for rounding"
        ]
        text = f"the interval includes {' and '.join(inside)}"
        return Answer(word, text + (f", near the {near}" if near else ""))
    return Answer(word)


def _too_few(evidence: Evidence) -> str:
    """Why what it rests on is too little for a verdict; else empty."""
    n, fewest = evidence.n, evidence.fewest
    if fewest is not None and fewest < LEAST_N:
        return f"too few decisions where they are fewest: {fewest} of at least {LEAST_N}"
    return f"too few: {n} of at least {LEAST_N}" if fewest is None and n < LEAST_N else ""


def _controlled(check: Check, excess: Evidence) -> Answer:
    """What remains of "holds" beside the control."""
    e, grain = excess.interval, excess.grain
    if not all(map(math.isfinite, e[:3])):
        return Answer("cannot tell", f"the control, {check.against}, is undefined")
    if few := _too_few(excess):
        return Answer("cannot tell", f"the control, {check.against}, rests on {few}")
    less, more = e.low > grain, e.high < -grain  # what the control shows
    if check.below is not None:
        less, more = more, less
    if less:
        return Answer("holds")
    return Answer(
        "cannot tell", f"the control, {check.against}, shows {'more' if more else 'as much'}"
    )


def judge_every(checks: Sequence[Check]) -> Answer:
    """Several named variants as one: holds if each does, fails if one does after correction."""
    if not checks:
        raise ValueError("a verdict needs at least one check")
    answers = [judge(c) for c in checks]
    if len(checks) == 1:
        return answers[0]
    lost = [
        c.quantity
        for c, a in zip(checks, answers, strict=True)
        if a.word == "fails" and beyond(c, at_once(c.interval, len(checks))) == "fails"
    ]
    if lost:
        return Answer("fails", f"not with {', '.join(lost)}")
    open_ = [
        f"{c.quantity}: {a.reason or 'fails, not after correction'}"
        for c, a in zip(checks, answers, strict=True)
        if a.word != "holds"
    ]
    return Answer("cannot tell", "; ".join(open_)) if open_ else Answer("holds")


def margin(check: Check) -> float:
    """How far the interval is from failing: negative where it does not hold."""
    _, low, high, _ = check.interval
    if check.within is not None:
        return check.within - max(-low, high)
    return low - check.bound if check.above is not None else check.bound - high
