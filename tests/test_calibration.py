"""Calibration and rejection against scikit-learn, scipy, loops and closed forms."""

import warnings
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from vitlab.statistics import average, calibration
from vitlab.statistics.check import judge, measured


def answers(n=300, seed=0, digits=None):
    """Confidences in [0.1, 1] and whether the answers are right, overconfident by a tenth."""
    draw = np.random.default_rng(seed)
    confidence = draw.uniform(0.1, 1, n)
    right = draw.random(n) < confidence - 0.1
    return (confidence if digits is None else confidence.round(digits)), right


def by_loop(confidence, right, members):
    return sum(
        len(part) / len(right) * abs(confidence[part].mean() - right[part].mean())
        for part in members
        if len(part)
    )


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_ece_is_the_sum_over_bins(bins):
    confidence, right = answers()
    edges = np.linspace(0, 1, bins + 1)
    wide = [np.flatnonzero((confidence > a) & (confidence <= b)) for a, b in pairwise(edges)]
    full = np.array_split(np.argsort(confidence), bins)  # 300 images divide evenly
    found = [calibration.ece((confidence, right), even, bins).value for even in (False, True)]
    expected = [by_loop(confidence, right, members) for members in (wide, full)]
    assert found == pytest.approx(expected, abs=1e-12)


def test_ece_of_one_bin_in_closed_form_with_its_interval():
    """One bin: the mean of confidence less being right, with Student's interval and two answers."""
    confidence, right = answers()
    gap = confidence - right
    found = calibration.ece((confidence, right), bins=1)
    more = np.r_[gap, gap.mean() + 1, gap.mean()]
    low, high = stats.t.interval(0.95, len(more) - 1, more.mean(), stats.sem(more))
    assert 0 < found.over < 1e-3  # it is far from calibrated
    assert found.interval[:3] == pytest.approx((gap.mean(), low - found.over, high))


def test_an_ece_reaches_down_by_what_chance_may_have_raised_it():
    """By quadrature, of a bin whose mean varies normally; a difference reaches both ways."""
    one, other = answers(120, 1), answers(120, 2)
    raised = []
    for confidence, right in (one, other):
        gap, place, total = confidence - right, calibration.equal_width(confidence), 0.0
        for b in np.unique(place):
            mine, c = gap[place == b], confidence[place == b]
            varies = max(mine.var() * len(mine), (c * (1 - c)).sum())  # or as confident as it is
            s = np.sqrt(varies) / len(gap)
            m = max(0.0, abs(mine.sum()) / len(gap) - 2 * s)
            total += stats.norm(m, s).expect(abs, m - 9 * s, m + 9 * s) - m
        raised.append(total)
    evidence = [(q + 0 * q).evidence for q in map(calibration.ece, (one, other))]
    assert [e.over[0] for e in evidence] == pytest.approx(raised, rel=1e-3)
    difference = calibration.ece(one) - calibration.ece(other)
    assert difference.evidence.over == pytest.approx(raised, rel=1e-3)
    many = answers(2000, 1)
    doubled = tuple(np.r_[x, x] for x in many)
    ends = (calibration.ece(a).interval for a in (many, doubled))
    widths = [high - value for value, _, high, _ in ends]
    assert widths[0] / widths[1] == pytest.approx(2**0.5, rel=0.01)


@pytest.mark.parametrize("n", [48, 200])
@pytest.mark.parametrize(
    ("confidence", "accuracy", "bound"),
    [(0.99, 0.99, "> 0.005"), (0.97, 0.99, "> 0.025"), (1.0, 0.98, "< 0.015")],
)
def test_a_bin_that_looks_certain_is_not(n, confidence, accuracy, bound):
    """One confidence: mostly all answers are right, and their gaps do not vary at all."""
    wrong = 0
    for world in range(150):
        right = np.random.default_rng(world).random(n) < accuracy
        q = calibration.ece((np.full(n, confidence), right))
        sign, at = bound.split()
        asked = q > float(at) if sign == ">" else q < float(at)
        wrong += judge(measured("", asked)).word == "holds"
    assert wrong / 150 <= 0.05


def test_a_mean_of_calibrated_errors_is_seldom_above_nothing():
    """Chance raises each of them: what averaging makes sure is not that."""
    wrong = 0
    for world in range(100):
        rng, sets = np.random.default_rng(world), []
        for k in range(4):
            confidence = rng.uniform(0.3, 1, 48)
            right = rng.random(48) < confidence
            sets.append(calibration.ece((confidence, right), items=f"{k}"))
        wrong += judge(measured("", average(sets) > 0.02)).word == "holds"
    assert wrong / 100 <= 0.05


def test_no_calibration_error_reaches_below_nothing():
    """Nor does a mean of them; their difference may."""
    found = [calibration.ece(answers(40, seed), items=f"{seed}") for seed in range(3)]
    for q in (*found, average(found)):
        assert q.interval.low >= 0
        assert q.value < q.interval.high
    assert (found[0] - found[1]).interval.low < 0


@pytest.mark.parametrize("off", [0.0, 0.05])
def test_two_calibrated_alike_are_seldom_told_apart(off):
    """One has many confidences, the other one: chance raises the ECE of the first far more."""
    words = []
    for world in range(150):
        rng = np.random.default_rng(world)
        spread, point = rng.uniform(0.4, 1, 500), np.full(500, 0.9)
        one, other = (calibration.ece((c, rng.random(500) < c - off)) for c in (spread, point))
        words.append(judge(measured("", one - other > 0)).word)
    assert 1 - words.count("cannot tell") / 150 <= 0.05


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    assert calibration.equal_width(np.array([0, 0.2, 0.2001, 1.0]), 5).tolist() == [0, 0, 1, 4]


def test_bins_of_equal_mass_keep_equal_confidences_together():
    place = calibration.equal_mass(np.array([0.5, 0.1, 0.5, 0.9]), 4)
    assert place.tolist() == [1, 0, 1, 3]


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_constant_confidence_equal_to_the_accuracy_has_ece_0_and_prr_0(adaptive):
    right = np.arange(40) % 4 > 0
    constant = np.full(40, 0.75), right
    assert calibration.ece(constant, adaptive).value == pytest.approx(0, abs=1e-12)
    assert calibration.prr(constant).value == 0


def test_the_debiased_error_is_right_on_average_where_the_plug_in_is_not():
    """Bins with known gaps: a calibrated half and one that is overconfident by 0.3."""
    draw = np.random.default_rng(1)
    confidence = np.repeat([0.5, 0.9], 30)
    truth = 0.5 * 0.3**2
    found, plugged = [], []
    for _ in range(2000):
        right = draw.random(60) < np.repeat([0.5, 0.6], 30)
        found.append(calibration.squared((confidence, right)).plugged)
        gaps = [confidence[s].mean() - right[s].mean() for s in (slice(30), slice(30, None))]
        plugged.append(np.square(gaps).mean())
    assert abs(np.mean(found) - truth) < 3 * stats.sem(found)
    assert np.mean(plugged) - truth > 10 * stats.sem(plugged)


def test_the_debiased_error_written_out():
    confidence, right = answers(60)
    place, expected = calibration.equal_width(confidence), 0.0
    for one in set(place):
        gap = (confidence - right)[place == one]
        if len(gap) > 1:
            expected += len(gap) / 60 * (gap.mean() ** 2 - gap.var(ddof=1) / len(gap))
    assert calibration.squared((confidence, right)).plugged == pytest.approx(expected)


def area(shares, errors):
    return np.trapezoid(errors, shares)


@pytest.mark.parametrize("digits", [None, 1])
def test_prr_is_the_area_under_the_rejection_curve(digits):
    """Curve by brute force: equal confidences in many random orders."""
    confidence, right = answers(60, digits=digits)
    draw, n, rate = np.random.default_rng(0), 60, 1 - right.mean()
    curves = []
    for _ in range(4000 if digits else 1):
        order = np.lexsort([draw.random(n), confidence])
        curves.append([(~right[order[k:]]).sum() / n for k in range(n + 1)])
    shares, curve = np.arange(n + 1) / n, np.mean(curves, 0)
    oracle = np.maximum(rate - shares, 0)
    by_areas = (rate / 2 - area(shares, curve)) / (rate / 2 - area(shares, oracle))
    assert calibration.prr((confidence, right)).value == pytest.approx(by_areas, abs=0.004)
    found = calibration.rejection_curve((confidence, right))
    assert found[0] == pytest.approx(shares)
    assert found[1] == pytest.approx(curve, abs=0.004)
    exact = (rate / 2 - area(*found)) / (rate / 2 - rate**2 / 2)
    assert calibration.prr((confidence, right)).value == pytest.approx(exact)


def test_prr_of_an_oracle_of_its_opposite_and_of_no_mistakes():
    right = np.array([True] * 6 + [False] * 4)
    assert calibration.prr((right * 0.9, right)).value == 1
    assert calibration.prr((1 - right * 0.9, right)).value == -1
    assert np.isnan(calibration.prr((np.ones(5), np.ones(5, bool))).value)


def test_prr_leaves_each_image_out():
    confidence, right = answers(40)
    found = calibration.prr((confidence, right))
    whole = 2 * roc_auc_score(right, confidence) - 1
    for i in (0, 17):
        rest = np.delete(np.arange(40), i)
        without = 2 * roc_auc_score(right[rest], confidence[rest]) - 1
        added = next(iter(found.added.values())) + whole - found.value
        centred = 40 * whole - 39 * without
        others = [
            40 * whole - 39 * (2 * roc_auc_score(np.delete(right, j), np.delete(confidence, j)) - 1)
            for j in range(40)
        ]
        assert added[i] - added.mean() == pytest.approx(centred - np.mean(others))
    assert found.value == pytest.approx(whole)


def test_kendalls_tau_is_scipys_also_with_ties():
    draw = np.random.default_rng(6)
    x, y = draw.integers(0, 5, (2, 3, 9)).astype(float)
    expected = [stats.kendalltau(a, b).statistic for a, b in zip(x, y, strict=True)]
    assert calibration.kendall(x, y) == pytest.approx(expected)


def test_agreement_of_measures_over_models():
    """Models whose confidence is off by more and more, and tells wrong answers less and less."""
    draw = np.random.default_rng(7)
    right = draw.random(2000) < 0.7
    models = {}
    for k, spread in enumerate([0.02, 0.06, 0.12, 0.2]):
        knows = np.clip(0.55 + 0.2 * right + draw.normal(0, spread, 2000), 0, 1)
        models[f"net {k}"] = np.clip(knows + 0.08 * k, 0, 1), right
    same = calibration.agreement({"set": models})
    turned = {name: models[f"net {3 - k}"] for k, name in enumerate(models)}
    assert same.value == calibration.agreement({"set": turned}).value, "tau knows no order"
    low = [-calibration.ece(one).value for one in models.values()]
    knows = [calibration.prr(one).value for one in models.values()]
    assert same.value == pytest.approx(stats.kendalltau(low, knows).statistic)
    assert same.interval.low <= same.value <= same.interval.high
    halves = calibration.agreement({"set": models}, "PRR", "PRR", halves=True)
    assert halves.value == 1


def nets(seed, n, apart, turned=False):
    """Ten networks, each further off in confidence, and in what its confidence tells.

    turned: the more off, the more their confidence tells.
    """
    draw = np.random.default_rng(seed)
    found = {}
    for k in range(10):
        right = draw.random(n) < 0.7
        noise = draw.normal(0, 0.1 + apart * (9 - k if turned else k), n)
        found[f"net {k}"] = np.clip(0.55 + 0.2 * right + noise + apart * k, 0, 1), right
    return found


def test_noise_in_rankings_is_no_disagreement():
    """Networks whose measures rank them alike, but hardly differ: chance alone draws tau to 0."""
    plain, beside = [], []
    for seed in range(12):
        sets = {"a": nets(seed, 250, 0.004), "b": nets(99 + seed, 250, 0.004)}
        asked = calibration.agreement(sets, resamples=100) < 0.5
        noise, excess = calibration.reliable(sets, 0.5, resamples=100)
        plain.append(judge(measured("tau", asked)).word)
        beside.append(judge(measured("tau", asked.beside(noise, "itself", excess))).word)
    assert plain.count("holds") >= 6, "the fault that the control is for"
    assert beside.count("holds") <= 1


def test_reliable_rankings_that_disagree_are_seen():
    sets = {"a": nets(1, 3000, 0.03, turned=True), "b": nets(2, 3000, 0.03, turned=True)}
    noise, excess = calibration.reliable(sets, 0.5, resamples=100)
    assert noise.value > 0.3
    asked = (calibration.agreement(sets, resamples=100) < 0.5).beside(noise, "itself", excess)
    assert judge(measured("tau", asked)).word == "holds"


def test_a_tau_lies_in_its_interval_though_resamples_are_noisier():
    for seed in range(10):
        tau = calibration.agreement({"a": nets(seed, 300, 0.03)}, resamples=40)
        assert tau.interval.low <= tau.value <= tau.interval.high


# --- what is no confidence, or no answer ----------------------------------------------------------

ADAPTIVE = partial(calibration.ece, adaptive=True)
BY_BINS = [calibration.ece, ADAPTIVE, calibration.squared]
ALL = [*BY_BINS, calibration.prr, calibration.rejection_curve]


@pytest.mark.parametrize("measure", ALL)
def test_confidences_of_nan_and_answers_that_do_not_fit_are_refused(measure):
    confidence, right = answers(50)
    spoilt = np.where(np.arange(50) == 3, np.nan, confidence)
    grid = confidence.reshape(10, 5), right.reshape(10, 5)
    for wrong, message in [
        ((spoilt, right), "1 of 50 scores are NaN"),
        ((confidence, right[:1]), "50 confidences, but 1 answers"),
        ((confidence, np.arange(50) % 10), r"right \(1\) or wrong \(0\), got 2"),
        ((confidence, np.full(50, 0.5)), "got 0.5"),
        (grid, r"not \[10, 5\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            measure(wrong)


@pytest.mark.parametrize("measure", BY_BINS)
def test_per_cent_and_logits_are_no_confidences(measure):
    confidence, right = answers(50)
    for wrong, message in [(100 * confidence, "to 9"), (np.log(confidence), "go from -2.*to -0")]:
        with pytest.raises(ValueError, match=rf"in \[0, 1\], these .*{message}.*softmax"):
            measure((wrong, right))
    above = confidence / confidence.max() * (1 + 1e-6)  # as a float32 softmax may end
    assert measure((above, right)).value == pytest.approx(
        measure((above.clip(0, 1), right)).value, abs=1e-5
    )
    for bins in (0, -3):
        with pytest.raises(ValueError, match=f"one bin or more, got bins={bins}"):
            measure((confidence, right), bins=bins)


def test_rejection_knows_order_alone():
    confidence, right = answers(50)
    same = calibration.prr((np.log(confidence), right))
    assert same.value == calibration.prr((confidence, right)).value


def test_of_no_answers_there_is_no_number():
    none = np.zeros(0), np.zeros(0, bool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, of a mean of nothing
        for measure in (*BY_BINS, calibration.prr):
            assert np.isnan(measure(none).value)
    with pytest.raises(ValueError, match="one answer or more"):
        calibration.rejection_curve(none)


def test_agreement_names_what_it_does_not_know():
    sets = {"set": {m: answers(50, seed) for seed, m in enumerate("abc")}}
    with pytest.raises(ValueError, match=r"unknown measure 'ECE'.*low ECE"):
        calibration.agreement(sets, first="ECE")
    sets["set"]["b"] = answers(20)
    with pytest.raises(ValueError, match="the same images of set; here a 50, b 20, c 50"):
        calibration.agreement(sets)
