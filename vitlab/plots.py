"""Figures in one style: ViTs warm, CNNs cool, a band per interval, thin lines for the seeds."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitlab.statistics.interval import Interval

COLOURS = {
    "ViT": "#c8500a",
    "CNN": "#1f5fa8",
    "ViT stylised": "#e8a33d",
    "CNN stylised": "#6fb0e0",
    "people": "#3c7a3c",
    "ViT without position": "#8c2f7a",
    "ViT, patch 16": "#d98a5f",
    "ViT, patch 32": "#ecc4a8",
    "ViT distilled": "#9a7b1c",
    "ViT shape-distilled": "#b3123e",
    "ViT AugMix": "#7d3306",
    "ViT, 1/4 of the images": "#dd8755",
    "ViT, 1/16 of the images": "#efc3a6",
    "Swin": "#a83c6b",
    "CNN with SE": "#1a8a8a",
    "RegNetY": "#4b4aa8",
    "CNN AugMix": "#0d2c52",
    "CNN, 1/4 of the images": "#7a9fcb",
    "CNN, 1/16 of the images": "#bccfe5",
}
MARKERS = {
    **{group: "s" for group in COLOURS if group.startswith(("CNN", "RegNetY"))},
    "ViT stylised": "D",
    "CNN stylised": "^",
    "Swin": "P",
    "people": "*",
}


def style() -> None:
    """Set the book's figure style; call once at the top of a page."""
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


def colour(group: str) -> str:
    """The colour a group has in every figure."""
    return COLOURS.get(group, "#666666")


def curves(
    axes: Axes,
    table: pd.DataFrame,
    condition: str,
    chance: float | None = None,
    label: str = "{}",
    linestyle: str = "-",
) -> None:
    """Accuracy against level: a line with its 95 % band per group, a thin line per seed.

    table: of `statistics.curve`; condition: which of its conditions; chance: a dotted line there.
    """
    chosen = table[table["condition"] == condition]
    for group, rows in chosen.groupby("group", sort=False):
        rows = rows.sort_values("level")
        level, name = rows["level"].to_numpy(float), str(group)
        for seed in np.array(rows["seeds"].tolist()).T:
            axes.plot(level, seed, color=colour(name), linewidth=0.6, alpha=0.5)
        axes.fill_between(level, rows["low"], rows["high"], color=colour(name), alpha=0.2, lw=0)
        axes.plot(
            level,
            rows["accuracy"],
            color=colour(name),
            linestyle=linestyle,
            marker=MARKERS.get(name, "o"),
            markersize=4,
            label=label.format(name),
        )
    if chance is not None:
        axes.axhline(chance, color="grey", linestyle=":", linewidth=1)
    axes.set_ylim(-0.02, 1.02)


def intervals(axes: Axes, rows: Sequence[tuple[str, Interval, str]], zero: bool = True) -> None:
    """Numbers with their 95 % intervals, one under the other: (text, interval, group)."""
    for y, (_, interval, group) in enumerate(rows):
        axes.plot([interval.low, interval.high], [y, y], color=colour(group), linewidth=2)
        axes.plot(interval.value, y, MARKERS.get(group, "o"), color=colour(group))
    axes.set_yticks(range(len(rows)), [text for text, _, _ in rows])
    axes.invert_yaxis()
    axes.margins(y=0.15)
    axes.grid(axis="y", visible=False)
    if zero:
        axes.axvline(0, color="grey", linewidth=1)


def dots(axes: Axes, rows: Sequence[tuple[str, Interval, str]]) -> None:
    """Numbers with intervals, a line per text and a mark per group: (text, interval, group)."""
    texts = list(dict.fromkeys(text for text, _, _ in rows))
    groups = list(dict.fromkeys(group for _, _, group in rows))
    for k, group in enumerate(groups):
        mine = [(texts.index(text), i) for text, i, g in rows if g == group]
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
            -0.12, 0.5, name, transform=line[0].transAxes, ha="right", va="center", fontsize=10
        )
    figure.subplots_adjust(wspace=0.04, hspace=0.04)
    return figure
