"""Small figures as inline SVG: an interval against its bound, and a page's headline.

A browser shows a point's title when it is pointed at, so they need no script; text and axes take
the page's colours, light or dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from vitlab.looks import MARKERS, colour, group_of
from vitlab.markup import Markup, inert, measured, number

# --- an interval against its bound ----------------------------------------------------------------

WIDE, HIGH = 200, 24  # of an interval's drawing
TICKS = 0.01, 0.1, 0.5  # distances from the bound that have a line


def support(value: float, demand: str) -> float:
    """How far a value lies on the side that supports a demand: > 0 there, < 0 on the other.

    >>> support(0.3, "> 0.1"), support(0.3, "< 0.1"), support(-0.01, "within 0.02")
    (0.2, -0.2, 0.01)
    """
    kind, bound = demand.split()[0], float(demand.split()[-1])
    away = {">": value - bound, "<": bound - value, "within": bound - abs(value)}[kind]
    return round(away, 9)


def supports(low: float, high: float, demand: str) -> tuple[float, float]:
    """`support` of an interval, its lower end first."""
    ends = [support(low, demand), support(high, demand)]
    if demand.startswith("within") and low < 0 < high:
        ends.append(support(0, demand))
    return min(ends), max(ends)


def across(away: float) -> float:
    """Where a distance from the bound lies in a drawing: on a square-root scale, 1 at the edge."""
    root = math.copysign(math.sqrt(min(abs(away), 1)), away)
    return round(WIDE / 2 + root * (WIDE / 2 - 6), 1)


def bar(e: Mapping[str, Any], known: float | None = None) -> Markup:
    """What an edition says of a claim, as an interval and its bound; right of it supports.

    A filled mark decides. Hollow is a number whose verdict is withheld, for want of room or of
    images, and one beside what its control leaves of it, which can only withhold one.
    e: an edition of the ledger. known: the published value, where levels compare, as a tick.
    """
    if e.get("value") is None or e.get("low") is None or e.get("high") is None:
        return Markup("")
    y = HIGH / 2
    said = f"{e['primary']}: {measured(e)}, asked {e['demand']}, n = {e['n']:,}"
    control = e.get("control")
    room = e.get("room", "yes") == "yes"
    marks = _interval(e, e["demand"], hollow=bool(control) or _withheld(e))
    if control:
        said += f"; less what {control['against']} shows, which decides: {measured(control)}"
        marks += _interval(control, f"{e['demand'].split()[0]} 0")
    if not room:
        said += f"; no room, at the {e['room']}"
    elif _withheld(e):
        said += "; it decides nothing: " + e["reason"]
    grid = "".join(
        f'<line class="tick" x1="{across(d)}" x2="{across(d)}" y1="6" y2="{HIGH - 6}"/>'
        for tick in TICKS
        for d in (-tick, tick)
    )
    paper = ""
    if known is not None:
        x = across(support(known, e["demand"]))
        paper = (
            f'<path class="known" d="M{x} 2v{HIGH - 4}"><title>published: {known:g}</title></path>'
        )
    return Markup(
        f'<svg class="bar" viewBox="0 0 {WIDE} {HIGH}" width="{WIDE}" height="{HIGH}" role="img" '
        f'aria-label="{inert(said)}"><title>{inert(said)}</title>'
        f'<line class="axis" x1="2" x2="{WIDE - 2}" y1="{y}" y2="{y}"/>{grid}'
        f'<line class="bound" x1="{WIDE / 2}" x2="{WIDE / 2}" y1="1" y2="{HIGH - 1}"/>{paper}'
        f"{marks}</svg>"
    )


def _interval(e: Mapping[str, Any], demand: str, hollow: bool = False) -> str:
    """A number in its interval; hollow where it is not this that decides."""
    low, high = supports(e["low"], e["high"], demand)
    left, right, at = across(low), across(high), across(support(e["value"], demand))
    css = " hollow" if hollow else ""
    beyond = [(side, end) for side, end in ((-1, low), (1, high)) if abs(end) > 1]
    arrows = "".join(_arrow(side) for side, end in beyond if side * end > 0)
    return arrows + (
        f'<line class="ci{css}" x1="{left}" x2="{max(right, left + 2)}" y1="{HIGH / 2}" '
        f'y2="{HIGH / 2}"/><circle class="dot{css}" cx="{at}" cy="{HIGH / 2}" r="4.5"/>'
    )


def _withheld(e: Mapping[str, Any]) -> bool:
    """Whether a number says nothing although its interval might: too few images, or no room."""
    if e.get("room", "yes") != "yes":
        return True
    low, high = supports(e["low"], e["high"], e["demand"])
    clear = low > 0 or high < 0
    few = "too few" in (e.get("reason") or "").lower()
    return e.get("verdict") == "cannot tell" and (few or clear)


def _arrow(side: int) -> str:
    """The end of an interval that goes on beyond the drawing: to the left -1, to the right 1."""
    x = WIDE / 2 + side * (WIDE / 2 - 1)
    return f'<path class="on" d="M{x} {HIGH / 2}l{-6 * side} -5v10z"/>'


def scale() -> Markup:
    """What a drawing's ticks mean, for the head of a column."""
    words = "".join(
        f'<text x="{across(d)}" y="24" text-anchor="middle">{text}</text>'
        for d, text in ((-0.5, "−.5"), (-0.1, "−.1"), (0, "bound"), (0.1, ".1"), (0.5, ".5"))
    )
    label = (
        "distance from the bound in the number's own unit, square-root scale; right of it "
        "supports the claim; a filled mark decides; hollow: no room or too few images to answer, "
        "or a control takes its share; an arrow: it goes on"
    )
    return Markup(
        f'<svg class="bar" viewBox="0 0 {WIDE} 28" width="{WIDE}" height="28" role="img" '
        f'aria-label="{label}"><title>{label}</title>'
        f'<text x="{WIDE / 2}" y="10" text-anchor="middle">distance from bound, square-root scale'
        f"</text>{words}</svg>"
    )


# --- a page's headline ----------------------------------------------------------------------------

Scale = Callable[[float], float]
Point = Sequence[Any]  # x, value, low, high, n, remark; all but x and value may be None


@dataclass(frozen=True)
class Panel:
    """One panel of a headline: what a run, or the paper, has found.

    lines: series -> its points; x is a number, or a text: then each text has a row. x, y, chance:
    the words of the axes, and what guessing would reach. paper, claim: whose published numbers
    belong beside it. Shows itself in a notebook.
    """

    title: str
    lines: Mapping[str, Sequence[Point]] = field(default_factory=dict)
    x: str = ""
    y: str = ""
    chance: float | None = None
    paper: str = ""
    claim: str = ""

    def _repr_html_(self) -> str:
        return headline([self], self.x, self.y)


PANEL = 320, 232  # width and height, the plot with its words
LEFT, RIGHT, TOP, BOTTOM = 42, 12, 8, 36


def headline(panels: Sequence[Panel], x: str, y: str) -> Markup:
    """Panels side by side on one scale: points with intervals, a line through those over numbers.

    A panel whose levels would fill less than half of the common x axis has one of its own.
    Every point says model, level, value, interval and n when it is pointed at.
    """
    panels = [replace(panel, lines=_whole(panel.lines)) for panel in panels]
    points = [point for panel in panels for line in panel.lines.values() for point in line]
    if not points:
        return Markup("")
    texts = any(isinstance(point[0], str) for point in points)
    guesses = [panel.chance for panel in panels if panel.chance is not None]
    ends = [v for p in points for v in p[1:4] if v is not None] + guesses
    span = _ticks(min(ends), max(ends))
    names = list(dict.fromkeys(name for panel in reversed(panels) for name in panel.lines))
    looks = _looks(names)
    shown = [
        _rows(panel, span, y, looks) if texts else _curves(panel, levels, span, x, y, looks)
        for panel, levels in zip(panels, _levels(panels, texts), strict=True)
    ]
    legend = "".join(
        f'<span style="--c:{colour(group_of(name))}"><svg viewBox="-6 -6 12 12" width="12" '
        f'height="12" aria-hidden="true">{_mark(looks[name], 0, 0)}</svg> '
        f"{inert(name)}</span>"
        for name in names
    )
    return Markup(
        f'<div class="headline"><div class="legend">{legend}</div>'
        f'<div class="panels{_close(shown, texts)}">{"".join(shown)}</div></div>'
    )


def _close(shown: Sequence[str], texts: bool) -> str:
    """The class of panels that lie closer: curves, and three of rows, so that they stay a row."""
    return (" three" if len(shown) > 2 else "") if texts else " curves"


def _levels(panels: Sequence[Panel], texts: bool) -> list[list[float]]:
    """The levels that each panel's x axis spans: those of all panels, or its own where it is small.

    Published numbers and a miniature can lie on quite other levels, and be squeezed by them.
    """
    if texts:
        return [[] for _ in panels]
    own = [sorted({float(p[0]) for line in panel.lines.values() for p in line}) for panel in panels]
    every = sorted({level for levels in own for level in levels})

    def small(levels: Sequence[float]) -> bool:
        low, high, first, last = levels[0], levels[-1], every[0], every[-1]
        if _log(every):
            low, high, first, last = map(math.log, (low, high, first, last))
        return len(levels) > 2 and high - low < (last - first) / 2

    return [levels if levels and small(levels) else every for levels in own]


def _log(levels: Sequence[float]) -> bool:
    """Whether an x axis over levels is logarithmic."""
    return levels[0] > 0 and levels[-1] / levels[0] >= 16


def _whole(lines: Mapping[str, Sequence[Point]]) -> dict[str, list[Point]]:
    """Lines whose points have all six parts."""
    return {name: [[*p, None, None, None, None][:6] for p in line] for name, line in lines.items()}


def _curves(
    panel: Panel,
    xs: Sequence[float],
    span: Sequence[float],
    x: str,
    y: str,
    looks: Mapping[str, Look],
) -> str:
    """Lines over numbers; xs: the levels that the x axis spans, from the least."""
    wide, high = PANEL
    log = _log(xs)

    def at(value: float) -> float:
        low, top = (math.log(xs[0]), math.log(xs[-1])) if log else (xs[0], xs[-1])
        share = ((math.log(value) if log else value) - low) / ((top - low) or 1)
        return round(LEFT + 6 + share * (wide - LEFT - RIGHT - 12), 1)

    def up(value: float) -> float:
        share = (value - span[0]) / (span[-1] - span[0])
        return round(high - BOTTOM - share * (high - BOTTOM - TOP), 1)

    parts = [
        f'<line class="tick" x1="{LEFT}" x2="{wide - RIGHT}" y1="{up(t)}" y2="{up(t)}"/>'
        f'<text x="{LEFT - 5}" y="{up(t) + 4}" text-anchor="end">{_plain(t)}</text>'
        for t in span
    ]
    labels = [v for v in (xs if log else _ticks(xs[0], xs[-1])) if xs[0] <= v <= xs[-1]]
    parts += [
        f'<text x="{at(v)}" y="{high - BOTTOM + 15}" text-anchor="middle">{_plain(v)}</text>'
        for v in labels[:: -(-len(labels) // 8)]
    ]
    parts.append(_words(x, (wide + LEFT) / 2, high - 4))
    if (chance := panel.chance) is not None:
        parts.append(
            f'<line class="chance" x1="{LEFT}" x2="{wide - RIGHT}" '
            f'y1="{up(chance)}" y2="{up(chance)}"><title>chance: {chance:.3g}</title></line>'
            f'<text class="words" text-anchor="middle" {_free(panel, at, up)}>chance</text>'
        )
    for name, line in panel.lines.items():
        line = sorted(line, key=lambda p: p[0])
        band = [p for p in line if p[2] is not None and p[3] is not None]
        ring = [(p[0], p[2]) for p in band] + [(p[0], p[3]) for p in reversed(band)]
        edge = " ".join(f"{at(float(a))},{up(b)}" for a, b in ring)
        path = " ".join(f"{at(float(p[0]))},{up(p[1])}" for p in line)
        parts.append(f'<g style="--c:{colour(group_of(name))}">')
        parts.append(f'<polygon class="band" points="{edge}"/>' if len(band) > 1 else "")
        joined = 1 < len(line) == len({p[0] for p in line})  # several models at a place: no line
        parts.append(f'<polyline class="line" points="{path}"/>' if joined else "")
        parts += [_point(name, p, at(float(p[0])), up(p[1]), x, looks[name]) for p in line]
        parts.append("</g>")
    parts += _models(panel, at, up)
    return _panel(panel, "".join(parts), y, wide, high)


def _free(panel: Panel, at: Scale, up: Scale) -> str:
    """Where the word at the line of chance lies farthest from all that is drawn, as attributes."""
    drawn: list[tuple[float, float]] = []
    for line in panel.lines.values():
        ends = sorted((at(float(p[0])), up(v)) for p in line for v in p[1:4] if v is not None)
        drawn += ends
        means = sorted((at(float(p[0])), up(p[1])) for p in line)
        for (a, b), (c, d) in pairwise(means):  # the line between them, too
            drawn += [(a + k * (c - a) / 8, b + k * (d - b) / 8) for k in range(1, 8)]
    y, half = up(panel.chance or 0), 25  # half of the word's width
    left, right = LEFT + half + 3, PANEL[0] - RIGHT - half
    places = [(x, side) for x in (left, (left + right) / 2, right) for side in (-4, 13)]
    inside = [p for p in places if p[1] < 0 or y < PANEL[1] - BOTTOM - 14]

    def clear(place: tuple[float, int]) -> float:
        x, side = place
        near = [max(abs(a - x) - half, abs(b - (y + side - 4)) - 5) for a, b in drawn]
        return min(12, *near) if near else 12  # farther is no better

    x, side = max(inside, key=clear)
    return f'x="{round(x, 1)}" y="{round(y + side, 1)}"'


def _models(panel: Panel, at: Scale, up: Scale) -> list[str]:
    """The names of models whose points no line joins, where they lie on nothing; of many, once."""
    points = [p for line in panel.lines.values() for p in line]
    taken = [(at(float(p[0])) - 5, up(p[1]) - 5, 10.0, 10.0) for p in points]  # x, y, width, height
    parts, named = [], set()
    for line in panel.lines.values():
        if len(line) == len({p[0] for p in line}):  # joined by a line, which the legend names
            continue
        for p in sorted(line, key=lambda p: p[0]):
            name = _model(p).partition(" (")[0]
            if len(points) > 8 and name in named:
                continue
            x, y, wide = at(float(p[0])), up(p[1]), 7.5 * len(name)  # of words of 15 px
            beside = {"start": (x + 7, y), "end": (x - 7, y)}
            places = [*beside.items(), ("middle", (x, y - 13)), ("middle", (x, y + 13))]
            for anchor, (place, middle) in places:
                left = place - {"start": 0, "middle": wide / 2, "end": wide}[anchor]
                box = (left, middle - 7, wide, 14.0)
                inside = left > LEFT and left + wide < PANEL[0] and middle < PANEL[1] - BOTTOM
                if name and inside and not any(_meet(box, other) for other in taken):
                    named.add(name)
                    taken.append(box)
                    at_ = f'x="{place:.1f}" y="{middle + 4:.1f}" text-anchor="{anchor}"'
                    parts.append(f'<text class="words" {at_}>{inert(name)}</text>')
                    break
    return parts


def _meet(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether two boxes (left, top, width, height) have a place in common."""
    return all(a[k] < b[k] + b[k + 2] and b[k] < a[k] + a[k + 2] for k in (0, 1))


def _model(point: Point) -> str:
    """The model that a published point is of, as its remark begins; "" of a run's own."""
    return str(point[5]).partition(", ")[0] if point[5] else ""


def _rows(panel: Panel, span: Sequence[float], y: str, looks: Mapping[str, Look]) -> str:
    """A row for each text, a mark in it for each series."""
    names = list(dict.fromkeys(str(p[0]) for line in panel.lines.values() for p in line))
    inside = {  # the series that have a mark in a row
        row: [name for name, line in panel.lines.items() if row in {str(p[0]) for p in line}]
        for row in names
    }
    step = max(20, 8 * max(map(len, inside.values()), default=1) + 6)
    wide, left = PANEL[0], min(210, 14 + 6 * max((len(_short(name)) for name in names), default=0))
    high = TOP + step * len(names) + BOTTOM

    def at(value: float) -> float:
        share = (value - span[0]) / (span[-1] - span[0])
        return round(left + share * (wide - left - RIGHT), 1)

    bottom = high - BOTTOM
    parts = [
        f'<line class="tick" x1="{at(t)}" x2="{at(t)}" y1="{TOP}" y2="{bottom}"/>'
        f'<text x="{at(t)}" y="{bottom + 15}" text-anchor="middle">{_plain(t)}</text>'
        for t in span[:: -(-len(span) // 6)]
    ]
    parts += [
        f'<text x="{left - 6}" y="{TOP + step * (k + 0.5) + 4}" text-anchor="end">'
        f"{inert(_short(name))}<title>{inert(name)}</title></text>"
        for k, name in enumerate(names)
    ]
    parts.append(_words(y, (wide + left) / 2, high - 4))
    if (chance := panel.chance) is not None:
        parts.append(
            f'<line class="chance" x1="{at(chance)}" x2="{at(chance)}" y1="{TOP}" '
            f'y2="{bottom}"><title>chance: {chance:.3g}</title></line>'
        )
    for name, line in panel.lines.items():
        parts.append(f'<g style="--c:{colour(group_of(name))}">')
        for p in line:
            row, beside = str(p[0]), inside[str(p[0])]
            shift = (beside.index(name) - (len(beside) - 1) / 2) * 8
            place = TOP + step * (names.index(row) + 0.5) + shift
            if p[2] is not None and p[3] is not None:
                ends = f'x1="{at(p[2])}" x2="{at(p[3])}" y1="{place}" y2="{place}"'
                parts.append(f'<line class="line" {ends}/>')
            parts.append(_point(name, p, at(p[1]), place, "", looks[name]))
        parts.append("</g>")
    return _panel(panel, "".join(parts), "", wide, high)


def _panel(panel: Panel, drawn: str, y: str, wide: float, high: float) -> str:
    ends = {name: [line[0], *line[1:][-1:]] for name, line in panel.lines.items() if line}
    text = "; ".join(
        f"{name} " + " to ".join(_told(p) for p in shown) for name, shown in ends.items()
    )
    beside = f'<span class="y">{inert(y)}</span>' if y else ""
    return (
        f"<figure><figcaption>{inert(panel.title)}{beside}</figcaption>"
        f'<svg role="img" aria-label="{inert(f"{panel.title}: {text}")}" '
        f'viewBox="0 0 {wide} {round(high)}">{drawn}</svg></figure>'
    )


def _told(p: Point) -> str:
    model = _model(p)
    of = f" ({model})" if model and model != _x(p[0]) else ""
    return f"{number(p[1])} at {_x(p[0])}{of}"


def _point(name: str, p: Point, x: float, y: float, what: str, look: Look) -> str:
    where, value, low, high, n, remark = p
    said = f"{name}, {_x(where)}{f' ({what})' if what else ''}: {number(value)}"
    if low is not None and high is not None:
        said += f" [{number(low)}, {number(high)}]"
    said += f", n = {n:,}" if n else ""
    said += f"; {remark}" if remark else ""
    return (
        f'<g class="point"><circle class="near" cx="{x}" cy="{y}" r="9"/>'
        f"{_mark(look, x, y)}<title>{inert(said)}</title></g>"
    )


Look = tuple[str, bool]  # of a series' marks: their shape, and whether they are hollow
_SHAPES = {"s": "m-3.3 -3.3h6.6v6.6h-6.6z", "^": "m0 -4.4l4.2 7.4h-8.4z"}
_DIAMOND = "m0 -4.6l4.6 4.6l-4.6 4.6l-4.6 -4.6z"


def _mark(look: Look, x: float, y: float) -> str:
    shape, hollow = look
    css = "mark hollow" if hollow else "mark"
    if shape == "o":
        return f'<circle class="{css}" cx="{x}" cy="{y}" r="3.6"/>'
    return f'<path class="{css}" d="M{x} {y}{_SHAPES.get(shape, _DIAMOND)}"/>'


def _looks(names: Sequence[str]) -> dict[str, Look]:
    """A look for each series: its group's mark, filled then hollow, then other marks in turn."""
    found: dict[str, Look] = {}
    groups = [group_of(name) for name in names]
    for k, (name, group) in enumerate(zip(names, groups, strict=True)):
        own = MARKERS.get(group, "o")
        own = own if own in ("o", *_SHAPES) else "D"
        shapes = [own, *(shape for shape in "oD^s" if shape != own)]
        before = groups[:k].count(group)
        found[name] = shapes[before // 2 % len(shapes)], before % 2 == 1
    return found


def _words(text: str, x: float, y: float) -> str:
    return f'<text class="words" x="{x}" y="{y}" text-anchor="middle">{inert(text)}</text>'


def _ticks(low: float, high: float) -> list[float]:
    """Four to seven round numbers from at most `low` to at least `high`."""
    if high - low < 1e-9 * max(1, abs(low), abs(high)):  # all are the same
        low, high = low - 0.05 * (abs(low) or 1), high + 0.05 * (abs(high) or 1)
    step = 10 ** math.floor(math.log10(high - low))
    step = next(step * k for k in (0.2, 0.25, 0.5, 1, 2) if (high - low) / (step * k) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, max(last, first + 1) + 1)]


def _plain(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")


def _x(where: Any) -> str:
    return where if isinstance(where, str) else f"{where:.3g}"


def _short(name: str) -> str:
    return name if len(name) <= 34 else f"{name[:32]}…"


def flat(panels: Sequence[Panel]) -> Iterator[list[Any]]:
    """A headline's numbers as rows: panel, series, x, value, low, high, n, remark."""
    for panel in panels:
        for name, line in _whole(panel.lines).items():
            for point in line:
                yield [panel.title, name, *point]
