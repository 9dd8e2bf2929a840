"""How often do the book's intervals cover, and its verdicts err, in simulated worlds?

    python tools/simulate.py [--worlds 400] [KIND ...]     # twenty minutes on one core

Writes ``book/coverage.md``, the tables of the page on methods: the rows of the kinds given, or all.
The code under test is the book's own: `Quantity`, `Check` and `judge`. Truths are computed from the
worlds, never from a sample.

A world of pictures: image i, architecture g, training s. An answer is right where

    threshold(g) + u_gs + a x_i + b y_gi + c e_gsi > 0,  a2 = .47, b2 = .38, c2 = .15,

which gives the correlations of right answers that the first edition's occlusion trials show (.65
between two trainings of one architecture, .31 across), and 5 points between trainings at an
accuracy of .5. With 400 worlds a coverage of .95 is known to .011; the worst of many cells reads
lower.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import expit
from scipy.stats import norm

from vitlab.files import write_text
from vitlab.inside import episodes
from vitlab.statistics import (
    Measured,
    Quantity,
    average,
    function,
    group_shape_bias,
    mean,
)
from vitlab.statistics.calibration import ece
from vitlab.statistics.check import HEAVIEST, judge, measured
from vitlab.statistics.detection import group_aupr
from vitlab.statistics.spectra import spectral_entropy

A2, B2, C2, BETWEEN = 0.47, 0.38, 0.15, 0.125
CHANCE = 1 / 16
SHARED = {"ViT": ["v0", "v1", "v2"], "CNN": ["c0", "c1", "c2"]}
Cell = tuple[str, Quantity, float]  # where in the world, the number, its truth


def answers(
    rng: np.random.Generator,
    n: int,
    accuracies: tuple[float, float],
    trainings: int = 3,
    between: float = BETWEEN,
) -> tuple[Measured, np.ndarray]:
    """Right answers of two architectures about the same images, and the trainings' accuracies."""
    shared = np.sqrt(A2) * rng.standard_normal(n)
    values, true = {}, np.empty((2, trainings))
    names = [[f"{g}{s}" for s in range(trainings)] for g in "vc"]
    for g, accuracy in enumerate(accuracies):
        own = shared + np.sqrt(B2) * rng.standard_normal(n)
        middle = norm.ppf(accuracy) * np.sqrt(1 + between**2)
        for s, name in enumerate(names[g]):
            threshold = middle + between * rng.standard_normal()
            right = threshold + own + np.sqrt(C2) * rng.standard_normal(n) > 0
            values[name, "world", 0] = right.astype(float)
            true[g, s] = norm.cdf(threshold)
    groups = dict(zip(SHARED, names, strict=True))
    return Measured(values, groups, items="images", chance=CHANCE), true.mean(1)


# --- what covers: each world gives numbers with their truths --------------------------------------

PAIRS = ((0.5, 0.5), (0.9, 0.8), (0.95, 0.95), (0.99, 0.97), (0.998, 0.998), (0.07, 0.07))


def differences(rng: np.random.Generator, n: int) -> Iterator[Cell]:
    """Paired differences of accuracies, for these trainings."""
    for pair in PAIRS:
        for trainings in (1, 3):
            found, true = answers(rng, n, pair, trainings)
            yield f"{pair}, {trainings} trainings", found.gap("world", 0), true[0] - true[1]


def levels(rng: np.random.Generator, n: int) -> Iterator[Cell]:
    """Accuracies."""
    for accuracy in (0.07, 0.5, 0.9, 0.97, 0.998):
        found, true = answers(rng, n, (accuracy, 0.5))
        yield f"{accuracy}", found("ViT", "world", 0), true[0]


def means_over_levels(rng: np.random.Generator, n: int) -> Iterator[Cell]:
    """Mean over nine levels of a difference, as a claim "on average" is decided."""
    shares = np.array([0.98, 0.93, 0.85, 0.7, 0.5, 0.35, 0.22, 0.14, 0.09])
    at = norm.ppf(np.stack([np.clip(shares + 0.05, 0, 0.995), shares]))
    shared, values = np.sqrt(A2) * rng.standard_normal((n, 1)), {}
    for g, letter in enumerate("vc"):
        own = np.sqrt(B2) * (
            np.sqrt(0.7) * rng.standard_normal((n, 1)) + np.sqrt(0.3) * rng.standard_normal((n, 9))
        )
        for s in range(3):
            right = at[g] + shared + own + np.sqrt(C2) * rng.standard_normal((n, 9)) > 0
            values |= {(f"{letter}{s}", "drop", k): right[:, k].astype(float) for k in range(9)}
    found = Measured(values, SHARED, items="images", chance=CHANCE)
    true = norm.cdf(at).mean(1)
    yield "+5 points", average(found.gap("drop", k) for k in range(9)), true[0] - true[1]


def ratios(rng: np.random.Generator, n: int) -> Iterator[Cell]:
    """Ratios of accuracies on the same images (Fieller)."""
    for pair in ((0.19, 0.999), (0.5, 0.9), (0.8, 0.95), (0.97, 0.99), (0.3, 0.1)):
        found, true = answers(rng, n, pair)
        yield f"{pair}", found("ViT", "world", 0) / found("CNN", "world", 0), true[0] / true[1]


def ratios_of_sets(rng: np.random.Generator, n: int) -> Iterator[Cell]:
    """Ratios of one network's accuracies on two image sets (Fieller, independent)."""
    for rate in (0.05, 0.3, 0.9, 0.998):
        first, second = (mean(rng.random(n) < rate, "accuracy", f"set {k}") for k in range(2))
        yield f"{rate}", first / second, 1.0


def differences_of_ratios(rng: np.random.Generator, n: int) -> Iterator[Cell]:
    """Relative accuracies of two networks, the share kept of what each got right, compared."""
    for clean, kept in (((0.9, 0.9), 0.5), ((0.15, 0.9), 0.97), ((0.2, 0.8), 0.5)):
        found = []
        for accuracy in clean:
            before = rng.random(n) < accuracy
            after = before & (rng.random(n) < kept)
            found.append(mean(after, "accuracy", "images") / mean(before, "accuracy", "images"))
        yield f"{clean}, {kept} kept", found[0] - found[1], 0.0


def calibration_errors(rng: np.random.Generator, n: int) -> Iterator[Cell]:
    """ECE of a network of many confidences less that of one of a single confidence."""
    for off in ((0.0, 0.0), (0.02, 0.02), (0.1, 0.1), (0.3, 0.3), (0.3, 0.0), (0.0, 0.1)):
        confidences = rng.uniform(0.4, 1, n), np.full(n, 0.9)
        one, other = (
            ece((c, rng.random(n) < c - o), items="images")
            for c, o in zip(confidences, off, strict=True)
        )
        yield f"{off}", one - other, off[0] - off[1]


def architectures(rng: np.random.Generator, n: int) -> Iterator[Cell]:
    """Differences of accuracies, for other trainings of these architectures."""
    for trainings in (3, 5):
        for pair in ((0.5, 0.5), (0.7, 0.5), (0.95, 0.95)):
            found, _ = answers(rng, n, pair, trainings)
            yield f"{pair}, {trainings} trainings", found.gap("world", 0), pair[0] - pair[1]


def shape_biases(rng: np.random.Generator, n: int) -> Iterator[Cell]:
    """Shape bias of one group and its difference between two: class mean, and pooled."""
    spread = 0.8 * np.random.default_rng(5).permutation(np.linspace(-1.7, 1.7, 16))
    category = np.arange(n) % 16
    for biases, share in (
        ((0.2, 0.2), 0.5),
        ((0.5, 0.4), 0.9),
        ((0.5, 0.4), 0.3),
        ((0.97, 0.9), 0.9),
    ):
        true = [1 / (1 + np.exp(-(np.log(p / (1 - p)) + spread))) for p in biases]
        shared, hard = rng.standard_normal((n, 1)), np.sqrt(0.6) * rng.standard_normal((n, 1))
        rows = []
        for letter, by_class in zip("vc", true, strict=True):
            own = np.sqrt(0.45) * shared + np.sqrt(0.35) * rng.standard_normal((n, 1))
            own = own + np.sqrt(0.2) * rng.standard_normal((n, 3))
            decided = hard + np.sqrt(0.4) * rng.standard_normal((n, 3)) < norm.ppf(share)
            by_shape = own < norm.ppf(by_class[category])[:, None]
            rows += [
                pd.DataFrame(
                    {"image": range(n), "model": f"{letter}{s}", "shape": category}
                    | {"by_shape": (decided & by_shape)[:, s]}
                    | {"by_texture": (decided & ~by_shape)[:, s]}
                )
                for s in range(3)
            ]
        trials = pd.concat(rows)
        for pooled in (False, True):
            how = "pooled" if pooled else "class mean"
            one, other = (group_shape_bias(trials, SHARED[g], 16, "images", pooled) for g in SHARED)
            yield f"{how}, one, {biases}, {share}", one, true[0].mean()
            yield (
                f"{how}, difference, {biases}, {share}",
                one - other,
                true[0].mean() - true[1].mean(),
            )


def corruption_errors(rng: np.random.Generator, n: int) -> Iterator[Cell]:
    """mCE as a ratio of sums over 15 corruptions of five severities, difference of two networks."""
    where = (np.linspace(-0.9, 0.9, 15)[:, None] + np.linspace(-0.8, 0.8, 5)).ravel()
    for reference in (-1.2, -1.9, -0.3):
        at = np.array([-0.9, -1.2, reference])
        x = np.sqrt(0.4) * rng.standard_normal((1, n, 1))
        y = np.sqrt(0.25) * rng.standard_normal((3, n, 1))
        k = np.sqrt(0.2) * np.repeat(rng.standard_normal((3, n, 15)), 5, 2)
        noise = np.sqrt(0.15) * rng.standard_normal((3, n, 75))
        wrong = (x + y + k + noise + where + at[:, None, None] > 0).mean(2)
        one, other, base = (mean(w, "error", "images") for w in wrong)
        true = norm.cdf(where + at[:, None]).mean(1)
        yield (
            f"reference errs on {true[2]:.0%}",
            (one - other) / base,
            (true[0] - true[1]) / true[2],
        )


def entropies(rng: np.random.Generator, n: int) -> Iterator[Cell]:
    """Spectral entropy of a mean map (jackknife), and its difference between two models."""
    f = np.arange(1, 257) / 256
    for sparse in ((0.3, 0.3), (0.3, 1.0)):
        maps = [
            _maps(rng, np.exp(-slope * f), n, g)
            for slope, g in zip((1.5, 1.2), sparse, strict=True)
        ]
        one, other = (
            function(m, spectral_entropy, "entropy", "images", debiased=True) for m in maps
        )
        true = _true_entropies(sparse)
        yield f"one, {sparse}", one, true[0]
        yield f"difference, {sparse}", one - other, true[0] - true[1]


def _maps(rng: np.random.Generator, base: np.ndarray, n: int, sparse: float) -> np.ndarray:
    drawn = base * rng.gamma(sparse, 1, (n, len(base)))
    return drawn / drawn.sum(1, keepdims=True)


@cache
def _true_entropies(sparse: tuple[float, float]) -> list[float]:
    rng, f = np.random.default_rng(3), np.arange(1, 257) / 256
    return [
        float(spectral_entropy(_maps(rng, np.exp(-slope * f), 40_000, g).mean(0)))
        for slope, g in zip((1.5, 1.2), sparse, strict=True)
    ]


def detections(rng: np.random.Generator, n: int) -> Iterator[Cell]:
    """AUPR of two networks on the same images (jackknife), and its difference."""
    shifts = (1.0, 0.6)
    shared = rng.standard_normal(2 * n)
    scores = {}
    for name, shift in zip(("v0", "c0"), shifts, strict=True):
        score = np.sqrt(0.5) * shared + np.sqrt(0.5) * rng.standard_normal(2 * n)
        scores[name] = score[:n] + shift, score[n:]
    one, other = (group_aupr(scores, [name]) for name in ("v0", "c0"))
    true = _true_aupr(shifts)
    yield "one", one, true[0]
    yield "difference", one - other, true[0] - true[1]


@cache
def _true_aupr(shifts: tuple[float, float]) -> list[float]:
    """By quadrature over thresholds, images inside and outside in equal numbers."""
    at = np.linspace(-9, 9, 20_001)
    found = norm.cdf(at)  # outside images named at this threshold
    named = [np.maximum(found + norm.cdf(at - shift), 1e-12) for shift in shifts]
    return [float(np.trapezoid(found / both, found)) for both in named]


def unequal_images(rng: np.random.Generator, n: int) -> Iterator[Cell]:
    """The share of all images' energy that lies outside a band, where some have far more energy.

    The share falls, or rises, with the energy; a jackknife of a ratio of sums.
    """
    for sd in (0.5, 1.0):
        made = _energies(rng, n, sd)
        shares = function(made, lambda means: means[..., 1] / means[..., 0], "share", "images")
        kept = shares if shares.evidence.heaviest <= HEAVIEST else shares * np.nan
        yield f"energies that differ by {sd:g} on a log scale", kept, _true_share(sd)


def _energies(rng: np.random.Generator, n: int, sd: float) -> np.ndarray:
    """Energy of each image, and what of it lies outside the band: [n, 2]."""
    z = rng.standard_normal(n)
    energy = np.exp(sd * z)
    return np.stack([energy, energy * expit(z + rng.standard_normal(n))], 1)


@cache
def _true_share(sd: float) -> float:
    energy, outside = _energies(np.random.default_rng(4), 2_000_000, sd).mean(0)
    return float(outside / energy)


def redrawn(rng: np.random.Generator, n: int) -> Iterator[Cell]:
    """Draws that count as chance (orders of a stream, trained patches): they and images differ."""
    for draws, between in ((2, 0.0), (2, 0.05), (2, 0.1), (3, 0.1), (5, 0.0), (5, 0.1)):
        by_draw = 0.5 + between * rng.standard_normal((2, draws))
        values = {
            (name, "patch", 0): (rng.random((n, draws)) < by_draw[g]).astype(float)
            for g, name in enumerate(("v0", "c0"))
        }
        found = Measured(values, {"ViT": ["v0"], "CNN": ["c0"]}, items="images", redraw=True)
        yield f"{draws} draws, {between:.0%} between them", found.gap("patch", 0), 0.0


POOL, DIMENSIONS = 16, 24  # classes; of a feature


def few_shot(rng: np.random.Generator, n: int) -> Iterator[Cell]:
    """Five-way five-shot accuracy for other pools of n images a class (halves of the pool)."""
    features, labels = _pool(rng, n)
    size, seed = (5, 5, 10), int(rng.integers(2**31))
    whole = episodes.accuracy(features, episodes.sample(labels, *size, 200, seed))
    rows = episodes.over_pools(features, labels, whole, *size, seed)
    yield "one feature", mean(rows, items="halves"), _true_few_shot(n)


def _pool(rng: np.random.Generator, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    centres = 0.62 * np.random.default_rng(9).standard_normal((POOL, DIMENSIONS))
    labels = np.arange(POOL * n) % POOL
    features = centres[labels] + rng.standard_normal((len(labels), DIMENSIONS))
    return torch.from_numpy(features), torch.from_numpy(labels)


@cache
def _true_few_shot(n: int) -> float:
    """The mean over pools of which no two episodes share an image."""
    found = []
    for pool in range(60):
        features, labels = _pool(np.random.default_rng([pool, n, 1]), n)
        drawn = episodes.sample(labels, 5, 5, 10, 50, pool)
        found.append(episodes.accuracy(features, drawn).mean())
    return float(np.mean(found))


KINDS: dict[str, tuple[Callable[[np.random.Generator, int], Iterator[Cell]], tuple[int, ...]]] = {
    "difference of accuracies": (differences, (20, 48, 160, 1000)),
    "accuracy": (levels, (48, 160, 1000)),
    "mean over levels": (means_over_levels, (48, 160, 1000)),
    "ratio of accuracies": (ratios, (48, 160, 1000)),
    "ratio over two image sets": (ratios_of_sets, (48, 160, 1000)),
    "difference of ratios": (differences_of_ratios, (48, 160, 1000)),
    "difference of ECE": (calibration_errors, (100, 500)),
    "architectures": (architectures, (160, 1000)),
    "shape bias": (shape_biases, (96, 320, 960)),
    "mCE, ratio of sums": (corruption_errors, (48, 160)),
    "spectral entropy": (entropies, (20, 64, 200)),
    "share of unequal images": (unequal_images, (48, 100, 300)),
    "AUPR": (detections, (100, 400)),
    "draws that count as chance": (redrawn, (64, 500)),
    "few-shot accuracy": (few_shot, (30, 60)),
}


def coverage(kind: str, worlds: int) -> pd.DataFrame:
    """Share of worlds whose interval holds the truth: a row per number of items and cell."""
    make, sizes = KINDS[kind]
    rows = []
    for n in sizes:
        for world in range(worlds):
            for cell, quantity, true in make(np.random.default_rng([world, n]), n):
                wide = kind == "architectures"
                i = quantity.over_trainings if wide else quantity.interval
                whole = bool(np.isfinite(i.low + i.high))
                inside = i.low - 1e-9 <= true <= i.high + 1e-9
                rows.append((kind, n, cell, inside or not whole, whole, i.high - i.low))
    table = pd.DataFrame(rows, columns=["kind", "n", "cell", "covers", "bounded", "width"])
    return table.groupby(["kind", "n", "cell"], sort=False).mean().reset_index()


# --- how often a verdict errs ---------------------------------------------------------------------

EFFECTS = (-0.05, 0.0, 0.02, 0.05, 0.1)
BASES = (0.07, 0.3, 0.5, 0.8, 0.95, 0.98, 0.998)


def verdicts(worlds: int) -> pd.DataFrame:
    """Rates of answers to "ViT - CNN > 0" and to "equal within 2 points", for these trainings."""
    rows = []
    for n in (20, 48, 160, 1000):
        for base in BASES:
            for effect in EFFECTS:
                if not 0.002 < base + effect < 0.9995:
                    continue
                for world in range(worlds):
                    rng = np.random.default_rng([world, n, 7])
                    found, _ = answers(rng, n, (base + effect, base), between=0.0)
                    gap = found.gap("world", 0)
                    for name, asked in (("> 0", gap > 0), ("within 0.02", gap.within(0.02))):
                        rows.append((name, n, base, effect, judge(measured("", asked)).word))
    table = pd.DataFrame(rows, columns=["demand", "n", "base", "effect", "word"])
    table["count"] = 1
    rates = table.pivot_table("count", ["demand", "n", "base", "effect"], "word", "sum", 0)
    return (rates.div(rates.sum(axis=1), axis=0)).reset_index()


def worst(rates: pd.DataFrame) -> pd.DataFrame:
    """How often a verdict is wrong at worst, and how often a true effect is seen."""
    rows = []
    for (demand, n), at in rates.groupby(["demand", "n"], sort=False):
        order = demand == "> 0"
        untrue = at[at["effect"] <= 0] if order else at[at["effect"].abs() >= 0.02]
        true = at[at["effect"] > 0] if order else at[at["effect"] == 0]
        against = at[at["effect"] >= 0] if order else at[at["effect"].abs() <= 0.02]
        seen = {f"seen, +{e:.0%}": at[at["effect"] == e]["holds"].median() for e in (0.05, 0.1)}
        rows.append(
            {"demand": demand, "n": n, "wrong holds": untrue["holds"].max()}
            | {"wrong fails": against["fails"].max()}
            | (seen if order else {"equal seen": true["holds"].median()})
        )
    return pd.DataFrame(rows)


def table(frame: pd.DataFrame) -> str:
    """A Markdown table; numbers with two decimals."""
    cells = frame.map(lambda v: f"{v:.2f}" if isinstance(v, float) else str(v)).replace("nan", "")
    lines = [list(frame.columns), ["---"] * len(frame.columns), *cells.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def main() -> None:
    """Simulate, and put the rows of what was simulated into the tables on file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join([*KINDS, "verdicts"]))
    parser.add_argument("--worlds", type=int, default=400)
    parser.add_argument("--write", type=Path, default=Path("book/coverage.md"))
    given = parser.parse_args()
    kinds = given.kinds or [*KINDS, "verdicts"]
    if unknown := set(kinds) - {*KINDS, "verdicts"}:
        parser.error(
            f"no kind {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}, verdicts"
        )
    old = given.write.read_text().split("\n\n") if given.write.exists() else ["", ""]
    first, second = old[-2].splitlines(), old[-1].strip()
    rows = {kind: [row for row in first if row.startswith(f"| {kind} |")] for kind in KINDS}
    for kind in kinds:
        if kind == "verdicts":
            rates = verdicts(max(given.worlds // 4, 50))
            print(rates.to_string())
            second = table(worst(rates))
            continue
        every = coverage(kind, given.worlds)
        print(every.to_string())
        short = every.groupby(["kind", "n"], sort=False).agg(
            cells=("covers", "size"),
            lowest=("covers", "min"),
            median=("covers", "median"),
            highest=("covers", "max"),
            bounded=("bounded", "min"),
        )
        head, line, *rows[kind] = table(short.reset_index()).splitlines()
        rows[""] = [head, line]
    lines = rows.pop("", first[:2]) + [row for kind in KINDS for row in rows[kind]]
    write_text(given.write, "\n".join(lines) + "\n\n" + second + "\n")
    print(given.write.read_text())


if __name__ == "__main__":
    main()
