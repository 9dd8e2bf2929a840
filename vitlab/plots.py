"""Figures in one style: ViTs warm, CNNs cool, a band per interval, thin lines for the seeds.

What the verbs draw in `panels` is kept as a table too, ``figures/1.csv`` and so on in the page's
folder, for readers who want the numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator

from vitlab.files import whole
from vitlab.looks import COLOURS as COLOURS
from vitlab.looks import MARKERS, colour
from vitlab.statistics.quantity import Measured, Quantity

_KEPT: dict[str, Any] = {"folder": None, "figures": 0}  # of the page that is drawn
_COLUMNS = ["panel", "series", "x", "value", "low", "high", "n"]


def style(folder: Path | None = None) -> None:
    """Set the book's figure style; call once at the top of a page.

    folder: the page's, where the tables of its figures go; they are not kept if None.
    """
    _KEPT.update(folder=folder, figures=0)
    sns.set_theme(
        context="notebook",
        style="whitegrid",
        rc={
            "figure.dpi": 110,
            "savefig.bbox": "tight",
            "figure.facecolor": "white",
            "axes.titlesize": "medium",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
        },
    )
    pd.set_option("display.precision", 3)


# --- verbs: a curve in its band, intervals and a bound, maps, examples ----------------------------


@contextmanager
def panels(
    *titles: str,
    x: str = "",
    y: str = "",
    size: tuple[float, float] = (3.5, 3.6),
    rows: int = 1,
    **how: Any,
) -> Iterator[np.ndarray]:
    """Panels with a title per column, x and y below and beside them; shown when the block ends.

    size: inches, of one panel. how: further arguments of `plt.subplots`. Gives the Axes:
    [columns], or [rows, columns] for more than one row.
    """
    columns = max(1, len(titles))
    shape = size[0] * columns, size[1] * rows
    how = {"figsize": shape, "layout": "constrained"} | how
    axes = plt.subplots(rows, columns, squeeze=False, **how)[1]
    for place, title in zip(axes[0], titles, strict=False):
        place.set_title(title)
    for place in axes[-1]:
        place.set_xlabel(x)
    for place in axes[:, 0]:
        place.set_ylabel(y)
    figure = axes[0, 0].figure
    figure.drawn = []
    yield axes[0] if rows == 1 else axes
    _literal(figure)
    if "inline" not in plt.get_backend():
        plt.show()
        return
    display(figure, metadata={"vitlab": _kept(figure.drawn)} if figure.drawn else {})
    plt.close(figure)


def _kept(drawn: list[list[Any]]) -> dict[str, str]:
    """Keep what a figure shows as a table; its place, and what it says in a sentence."""
    table = pd.DataFrame(drawn, columns=_COLUMNS)
    ends = [
        f"{series}{f' ({panel})' if panel else ''} {rows.value.iloc[0]:.2f} at {rows.x.iloc[0]}"
        + (f", {rows.value.iloc[-1]:.2f} at {rows.x.iloc[-1]}" if len(rows) > 1 else "")
        for (panel, series), rows in table.groupby(["panel", "series"], sort=False)
    ]
    about = {"says": "; ".join(ends[:6])}
    if _KEPT["folder"] is not None:
        _KEPT["figures"] += 1
        about["data"] = f"figures/{_KEPT['figures']}.csv"
        path = Path(_KEPT["folder"]) / about["data"]
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as part:
            table.to_csv(part, index=False, float_format="%.6g")
    return about


def _note(axes: Axes, series: str, x: Any, interval: Sequence[float]) -> None:
    """Remember a number that a verb has drawn."""
    drawn = getattr(axes.figure, "drawn", None)
    if drawn is not None:
        drawn.append([axes.get_title(), series, x, *interval])


def line(
    axes: Axes,
    x: Sequence[float],
    y: Sequence[Quantity],
    group: str,
    label: str = "",
    bars: bool = False,
    levels: Sequence[Any] = (),
    **style: Any,
) -> None:
    """Quantities with their intervals, in a group's look: a line in its band, or marks with bars.

    label: of the legend, the group if empty. levels: what the places x stand for, if not
    themselves. Quantities of a group that is lacking are left out.
    """
    for level, q in zip(levels or x, y, strict=True):
        if not q.lacks:
            _note(axes, label or group, level, q.interval)
    shown = [(at, *q.interval[:3]) for at, q in zip(x, y, strict=True) if not q.lacks]
    at, value, low, high = np.array(shown, float).reshape(-1, 4).T
    look: dict[str, Any] = {
        "color": colour(group),
        "marker": MARKERS.get(group, "o"),
        "markersize": 4,
    }
    look |= {"label": label or group} | style
    if bars:
        around = np.clip([value - low, high - value], 0, None)
        axes.errorbar(at, value, around, linestyle="", capsize=3, **look)
    else:
        axes.fill_between(at, low, high, color=look["color"], alpha=0.2, lw=0)
        axes.plot(at, value, **look)


def curves(
    axes: Axes,
    found: Measured,
    what: Any,
    groups: Sequence[str] = (),
    label: str = "{}",
    ticks: str = "",
    chance: float | None = None,
    **style: Any,
) -> None:
    """A line per group over the levels of `what`, a thin one per training; chance: a dotted one.

    groups: all that were measured if empty. label: of the legend, from the group's name.
    ticks: how a level is written, e.g. "{:.0%}"; then levels lie at equal steps, else to scale.
    """
    for group in groups or found.groups:
        levels = found.levels(what, group)
        x = range(len(levels)) if ticks else levels
        seeds = np.broadcast_arrays(*(found.seeds(group, what, level) for level in levels))
        for seed in np.transpose(seeds):
            axes.plot(x, seed, color=colour(group), lw=0.6, alpha=0.5)
        means = [found(group, what, level) for level in levels]
        line(axes, x, means, group, label.format(group), levels=levels, **style)
        if ticks:
            axes.set_xticks(list(x), [ticks.format(level) for level in levels])
    if chance is not None:
        axes.axhline(chance, color="grey", linestyle=":", linewidth=1)
        axes.set_ylim(-0.02, 1.02)


def intervals(
    axes: Axes, rows: Sequence[tuple[str, Quantity, str]], bound: float | None = 0
) -> None:
    """Numbers with their intervals, one under the other, and the bound: (text, quantity, group)."""
    shown = [(text, number.interval, group) for text, number, group in rows if not number.lacks]
    for y, (text, interval, group) in enumerate(shown):
        _note(axes, group, text, interval)
        axes.plot([interval.low, interval.high], [y, y], color=colour(group), linewidth=2)
        axes.plot(interval.value, y, MARKERS.get(group, "o"), color=colour(group))
    axes.set_yticks(range(len(shown)), [text for text, _, _ in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)  # panels may share it
    axes.grid(axis="y", visible=False)
    if bound is not None:
        axes.axvline(bound, color="grey", linewidth=1)


def dots(axes: Axes, rows: Sequence[tuple[str, Quantity, str]]) -> None:
    """Numbers with intervals, a line per text and a mark per group: (text, quantity, group)."""
    shown = [(text, number.interval, group) for text, number, group in rows if not number.lacks]
    for text, interval, group in shown:
        _note(axes, group, text, interval)
    texts = list(dict.fromkeys(text for text, _, _ in shown))
    groups = list(dict.fromkeys(group for _, _, group in shown))
    for k, group in enumerate(groups):
        mine = [(texts.index(text), i) for text, i, g in shown if g == group]
        shift = 0.6 * (k - (len(groups) - 1) / 2) / max(len(groups), 3)
        ends = np.array([[i.value, i.value - i.low, i.high - i.value] for _, i in mine]).T
        axes.errorbar(
            ends[0],
            [y + shift for y, _ in mine],
            xerr=ends[1:].clip(0),
            color=colour(group),
            marker=MARKERS.get(group, "o"),
            linestyle="none",
            elinewidth=2,
            label=group,
        )
    axes.set_yticks(range(len(texts)), texts)
    axes.set_ylim(len(texts) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def heat(
    axes: Axes,
    x: np.ndarray,
    y: np.ndarray,
    values: Any,
    scale: tuple[float, float],
    border: Any = None,
) -> QuadMesh:
    """A map of values [y, x] on a logarithmic colour scale; border: bool [y, x], edged white."""
    field = axes.pcolormesh(x, y, values, norm=LogNorm(*scale))
    if border is not None and border.any() and not border.all():
        axes.contour(x, y, border, [0.5], colors="white")
    axes.set_aspect("equal")
    axes.grid(False)
    return field


def picture(axes: Axes, pixels: Any) -> None:
    """One picture: a tensor [3, h, w] in [0, 1], or an array [h, w, 3]."""
    shown = pixels.cpu().permute(1, 2, 0) if isinstance(pixels, torch.Tensor) else pixels
    axes.imshow(shown, interpolation="nearest")
    axes.set_axis_off()


def pictures(rows: Mapping[str, Sequence], columns: Sequence[str] = (), scale: float = 1.0) -> None:
    """Show example pictures in named rows; columns: titles over the first row. No rows: nothing."""
    if not rows:
        return
    shown = [[p.cpu() if isinstance(p, torch.Tensor) else p for p in row] for row in rows.values()]
    figure = gallery(shown, list(rows), scale)
    for axes, text in zip(figure.axes, columns, strict=False):
        axes.set_title(text, fontsize=10)
    plt.show()


def gallery(
    pictures: Sequence[Sequence[torch.Tensor | np.ndarray]],
    rows: Sequence[str],
    scale: float = 0.75,
) -> Figure:
    """Pictures in rows, each row named at its left. Tensors [3, h, w] or arrays [h, w, 3]."""
    columns = max(len(row) for row in pictures)
    figure, axes = plt.subplots(
        len(pictures),
        columns,
        figsize=(columns * scale, len(pictures) * scale * 1.05),
        squeeze=False,
    )
    for row, name, line in zip(pictures, rows, axes, strict=True):
        for place in line:
            place.set_axis_off()
        for place, picture in zip(line, row, strict=False):
            if isinstance(picture, torch.Tensor):
                picture = picture.permute(1, 2, 0).numpy()
            place.imshow(picture, interpolation="nearest")
        line[0].text(
            -0.12,
            0.5,
            _broken(name),
            transform=line[0].transAxes,
            ha="right",
            va="center",
            fontsize=10,
        )
    figure.subplots_adjust(wspace=0.04, hspace=0.04)
    _literal(figure)
    return figure


def _literal(figure: Figure) -> None:
    """Draw texts as they stand: a name with dollar signs is no formula."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if not isinstance(axis.get_major_locator(), FixedLocator):
            for label in axis.get_ticklabels(which="both"):  # powers of ten are formulas
                label.set_parse_math(True)


def _broken(name: str) -> str:
    """A long name on several lines: beside a model's full name the pictures would shrink."""
    return re.sub(r"(?<=[/=])", "\n", name) if len(name) > 24 else name
