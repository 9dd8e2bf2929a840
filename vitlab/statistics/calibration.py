"""Whether confidence says how often a model is right: calibration errors, and rejection.

Confidence is that of the predicted category, in [0, 1]. An expected calibration error (ECE) sorts
answers into bins by confidence and averages how far the mean confidence of a bin lies from its
accuracy (Naeini et al. 2015; Guo et al. 2017). Low, it can come from a model that gives every image
the same confidence and so knows nothing about its mistakes; the prediction rejection ratio (PRR)
asks that (Malinin et al. 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
from scipy.special import ndtr

from vitlab.files import nearest
from vitlab.rng import generator
from vitlab.statistics.detection import auroc, ordered, placements
from vitlab.statistics.interval import LEVEL, Interval
from vitlab.statistics.quantity import Quantity, function, pseudo, stated

BINS = 15
MEASURES = ("low ECE", "PRR")
Answered = tuple[np.ndarray, np.ndarray]  # confidence, float [n], and whether right, [n]


def _shares(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Confidences as float [n]. Raises ValueError for what `bins` bins of 0 to 1 cannot hold."""
    [found] = ordered(np.asarray(confidence, float))
    if bins < 1:
        raise ValueError(f"there is one bin or more, got bins={bins}")
    # A softmax summed over a category's classes may end a little above 1.
    if len(found) and not -1e-4 <= found.min() <= found.max() <= 1 + 1e-4:
        raise ValueError(
            f"confidences are in [0, 1], these go from {found.min():g} to {found.max():g}; give "
            "probabilities: logits through softmax, per cent divided by 100"
        )
    return found


def _told(answered: Answered) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, whatever their scale, and whether right, bool: [n] each.

    Raises ValueError for NaN, for lengths that differ and for what does not say right or wrong.
    """
    confidence, right = ordered(*(np.asarray(one, float) for one in answered))
    if len(confidence) != len(right):
        raise ValueError(f"{len(confidence)} confidences, but {len(right)} answers right or wrong")
    if not np.isin(right, (0, 1)).all():
        odd = right[~np.isin(right, (0, 1))][0]
        raise ValueError(f"an answer is right (1) or wrong (0), got {odd:g}; prediction == label")
    return confidence, right.astype(bool)


def equal_width(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
    """The bin of each confidence among equally wide ones, open below: int [n] in 0..bins - 1.

    Raises ValueError for confidences outside 0..1 or NaN, and for no bins.
    """
    return np.clip(np.ceil(_shares(confidence, bins) * bins).astype(int) - 1, 0, bins - 1)


def equal_mass(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
    """The bin of each confidence among equally full ones: int [n] in 0..bins - 1.

    Equal confidences share a bin, so bins are as full as ties allow. Raises ValueError as
    `equal_width` does.
    """
    confidence = _shares(confidence, bins)
    ranks = np.searchsorted(np.sort(confidence), confidence)  # how many are lower
    return ranks * bins // len(ranks)


def ece(
    answered: Answered, adaptive: bool = False, bins: int = BINS, items: str = "items"
) -> Quantity:
    """Expected calibration error, a Quantity over images: sum of n_b / n |conf_b - acc_b|.

    adaptive: bins of equal mass (AdaECE), held as they are when an image is left out; else of equal
        width. items: name of the images; what shares it is paired.

    Few images make it too large, as any sum of absolute values, by nothing to what `_raised` says;
    the interval reaches down by as much. See `squared`. What an image adds is its derivative, so a
    bin's gap keeps its sign when an image is left out. In simulated worlds the interval of a
    difference of two covers .95 to 1.

    Raises ValueError for confidences outside 0..1 or NaN, another number of answers than of
    confidences, answers that are neither right nor wrong, and no bins.
    """
    gaps = _gaps(answered, adaptive, bins)
    means = gaps.mean(0)
    added = {items: (gaps * np.sign(means)).sum(1)}
    value = float(np.abs(means).sum())
    return pseudo(
        value, added, "calibration error", over=_raised(gaps, np.asarray(answered[0], float))
    )


def _raised(gaps: np.ndarray, confidence: np.ndarray) -> float:
    """How far chance may have raised the sum of the bins' absolute means on average, at most.

    gaps: as of `_gaps`. Of a bin whose mean varies normally by s about m it is E|N(m, s)| - |m|,
    which is largest, .8 s, where m is 0: m is taken as two s nearer to 0 than what was measured.
    s is that of the bin's answers, or that of answers as right as confident, where they vary more:
    a bin of one image, or all of it right, looks certain.
    """
    n, means = len(gaps), gaps.mean(0)
    mine = gaps != 0
    within = (gaps**2).sum(0) - n**2 * means**2 / np.maximum(mine.sum(0), 1)
    s = np.sqrt(np.maximum(within, (mine.T * confidence * (1 - confidence)).sum(1))) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        m = np.maximum(np.abs(means) / s - 2, 0)
        raised = s * (np.sqrt(2 / np.pi) * np.exp(-(m**2) / 2) - 2 * m * ndtr(-m))
    return float(np.where(s > 0, raised, 0).sum())


def _gaps(answered: Answered, adaptive: bool, bins: int) -> np.ndarray:
    """Confidence less being right, in the column of the image's bin: float [n, bins]."""
    confidence, right = _told(answered)
    place = (equal_mass if adaptive else equal_width)(confidence, bins)
    values = np.zeros((len(confidence), bins))
    values[np.arange(len(confidence)), place] = confidence - right
    return values


def squared(
    answered: Answered, adaptive: bool = False, bins: int = BINS, items: str = "items"
) -> Quantity:
    """The squared calibration error without the bias of few images: it can be below 0.

    Sum of n_b / n (gap_b^2 - s_b^2 / n_b), where gap_b is the mean and s_b^2 the unbiased variance
    of confidence less being right in a bin: unbiased for the sum of n_b / n E[gap_b]^2 (Bröcker
    2012; Kumar et al. 2019, section 5). Bins with one image add nothing. Arguments and errors as in
    `ece`; NaN without images.
    """
    gaps = _gaps(answered, adaptive, bins)
    confidence = np.asarray(answered[0], float)
    place = (equal_mass if adaptive else equal_width)(confidence, bins)
    filled = np.eye(bins)[place]
    n = len(gaps)

    def of(means: np.ndarray) -> np.ndarray:
        gap, square, share = np.split(means, 3, axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = (square - gap**2 / share) / (n * share - 1)  # share * s^2 / n_b
            term = gap**2 / share - spread
        return np.where(n * share > 1.5, term, 0 if n else np.nan).sum(-1)

    return function(np.hstack([gaps, gaps**2, filled]), of, "squared calibration error", items)


def prr(answered: Answered, items: str = "items") -> Quantity:
    """Prediction rejection ratio, a Quantity over images: 1 perfect, 0 as good as at random.

    The least confident answers are replaced by the truth, more and more of them. Of the area
    between the line of rejection at random and the curve of an oracle that rejects the wrong
    answers first, it is the share that lies above the model's curve (Malinin et al. 2020, app. B).
    Equal confidences are rejected in random order. In closed form it is 2 AUROC - 1, with wrong
    answers to be found by low confidence.

    NaN where all answers are right, or all wrong. Raises ValueError as `ece` does, but for the
    confidences' scale: their order is all that counts.
    """
    confidence, right = _told(answered)
    n, sure, wrong = len(right), confidence[right], confidence[~right]
    if not len(sure) or not len(wrong):
        return pseudo(np.nan, {items: np.full(n, np.nan)}, "PRR")
    ours, theirs = placements(sure, wrong)
    area, without = ours.mean(), np.empty(n)  # the AUROC, and that without each image
    with np.errstate(divide="ignore", invalid="ignore"):  # of a single right or wrong one: NaN
        without[right] = (len(sure) * area - ours) / (len(sure) - 1)
        without[~right] = (len(wrong) * area - theirs) / (len(wrong) - 1)
    added = {items: 2 * (n * area - (n - 1) * without) - 1}
    return pseudo(float(2 * area - 1), added, "PRR", edges=(0.0, 1.0))


def _prr(confidence: np.ndarray, right: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """PRR where images count so often: counts [..., n] -> [...]."""
    order = np.r_[np.flatnonzero(right), np.flatnonzero(~right)]
    return 2 * auroc(confidence[right], confidence[~right], counts[..., order]) - 1


def rejection_curve(answered: Answered) -> tuple[np.ndarray, np.ndarray]:
    """Share rejected, and the share of all answers still wrong, by low confidence: [n + 1] each.

    Equal confidences are rejected in random order: between their ends the curve is straight.
    Raises ValueError as `prr` does, and for no answers.
    """
    confidence, right = _told(answered)
    if not len(right):
        raise ValueError("a rejection curve is of one answer or more, got none")
    order = np.argsort(confidence, kind="stable")
    left = np.r_[0, (~right)[order].cumsum()].astype(float)
    ends = np.r_[0, 1 + np.flatnonzero(np.r_[np.diff(confidence[order]) != 0, True])]
    steps = np.arange(len(right) + 1)
    found = np.interp(steps, ends, left[ends])
    return steps / len(right), (left[-1] - found) / len(right)


def kendall(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Kendall's tau-b over the last axis: [..., k] twice -> [...]; NaN where one is constant."""
    a, b = (np.sign(z[..., :, None] - z[..., None, :]) for z in (np.asarray(x), np.asarray(y)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (a * b).sum((-2, -1)) / np.sqrt((a**2).sum((-2, -1)) * (b**2).sum((-2, -1)))


def _measures(answered: Answered, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Minus the ECE, and the PRR, of images that count so often: [resamples]."""
    right = np.asarray(answered[1], bool)
    low = np.abs(counts @ _gaps(answered, False, BINS)).sum(-1) / counts.sum(-1)
    return {"low ECE": -low, "PRR": _prr(np.asarray(answered[0], float), right, counts)}


def agreement(
    sets: Mapping[str, Mapping[str, Answered]],
    first: str = "low ECE",
    second: str = "PRR",
    halves: bool = False,
    resamples: int = 400,
) -> Quantity:
    """Kendall's tau over models between two measures, its mean over image sets.

    sets: image set -> model -> what it answered to the same images. first, second: "low ECE" or
        "PRR". halves: the second on the second half of the images, the first on the first half;
        of one measure with itself this is how reliable its ranking is.

    The interval is the bootstrap's 2.5 to 97.5 per cent, images drawn anew for all models at once:
    a rank has no jackknife. Chance in both rankings draws tau towards 0.

    Raises ValueError for another measure, for models that answered other numbers of images of a
    set, and as `ece` does.
    """
    for measure in (first, second):
        if measure not in MEASURES:
            raise ValueError(f"unknown measure {measure!r}{nearest(measure, MEASURES)}")
    taus = []
    for name, answered in sets.items():
        counts = _counts(name, answered, resamples)
        sides = _halves(answered, counts) if halves else [_over_models(answered, counts)] * 2
        taus.append(kendall(sides[0][first], sides[1][second]))
    mean = np.nanmean(taus, 0) if taus else np.full(resamples + 1, np.nan)
    fewest = min((len(next(iter(one.values()))[0]) for one in sets.values()), default=0)
    return _bootstrapped(mean, fewest)


def reliable(
    sets: Mapping[str, Mapping[str, Answered]], share: float, resamples: int = 400
) -> tuple[Quantity, Quantity]:
    """What agreement can be told from noise: a share of how well measures agree with themselves.

    Of low ECE and PRR, both from one half of the images to the other. First comes that `share` of
    the poorer one's Kendall's tau; then the tau between the two measures, also from half to half,
    less that. Chance in rankings lowers both alike, so measures that agree by more than `share` do
    not end below 0.

    sets, resamples, the interval and errors are those of `agreement`.
    """
    names = MEASURES
    halves = [_halves(found, _counts(name, found, resamples)) for name, found in sets.items()]
    taus = {
        (a, b): np.nanmean([kendall(first[a], second[b]) for first, second in halves], 0)
        for a, b in product(names, names)
    }
    own = share * np.minimum(*(taus[name, name] for name in names))
    across = (taus[names] + taus[names[::-1]]) / 2
    fewest = min(len(next(iter(one.values()))[0]) for one in sets.values())
    return _bootstrapped(own, fewest), _bootstrapped(across - own, fewest)


def _bootstrapped(values: np.ndarray, n: int) -> Quantity:
    """A tau and, after it, those of resamples: [1 + resamples]."""
    low, high = np.nanpercentile(values[1:], [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    # Resamples are noisier than the images, so all their taus can lie on one side of its own.
    ends = float(min(values[0], low)), float(max(values[0], high))
    return stated(Interval(float(values[0]), *ends, n), "Kendall's tau")


def _counts(name: str, answered: Mapping[str, Answered], resamples: int) -> np.ndarray:
    """How often images count: once, and in every resample: [1 + resamples, n]."""
    sizes = {model: len(confidence) for model, (confidence, _) in answered.items()}
    n = next(iter(sizes.values()))
    if {*sizes.values()} != {n}:
        told = ", ".join(f"{model} {size}" for model, size in sizes.items())
        raise ValueError(f"models answer the same images of {name}; here {told}")
    drawn = generator("calibration", name, n).multinomial(n, np.full(n, 1 / n), resamples)
    return np.vstack([np.ones((1, n)), drawn])


def _over_models(answered: Mapping[str, Answered], counts: np.ndarray) -> dict[str, np.ndarray]:
    """The measures of every model: [resamples, models]."""
    each = [_measures(one, counts) for one in answered.values()]
    return {name: np.stack([one[name] for one in each], -1) for name in each[0]}


def _halves(answered: Mapping[str, Answered], counts: np.ndarray) -> list[dict[str, np.ndarray]]:
    """`_over_models` of every second image, and of the others."""
    return [
        _over_models({m: (c[k::2], r[k::2]) for m, (c, r) in answered.items()}, counts[:, k::2])
        for k in (0, 1)
    ]
