import numpy as np
import pytest
from padding import far
from scipy import stats

from vitlab.statistics import (
    Interval,
    Measured,
    average,
    every,
    function,
    mean,
    pseudo,
    rises,
    stated,
    together,
)
from vitlab.statistics.check import judge
from vitlab.statistics.check import measured as asked

RNG = np.random.default_rng(0)
GROUPS = {"ViT": ["v0", "v1"], "CNN": ["c0"], "Swin": ["s0"]}


def measured(**more):
    values = {
        (m, "drop", level): RNG.random((50, 3)) for m in ("v0", "v1", "c0") for level in (0.0, 0.5)
    }
    return Measured(values, GROUPS, **more)


@pytest.fixture
def found():
    return measured()


def plain(found, who, level):
    """The same by hand: the mean over models and draws, per item."""
    return np.mean([found.values[m, "drop", level].mean(1) for m in GROUPS[who]], 0)


def paired_t(values):
    """SciPy's t interval of a mean."""
    low, high = stats.ttest_1samp(values, 0).confidence_interval()
    return Interval(float(np.mean(values)), float(low), float(high), len(values))


def padded_t(values):
    """SciPy's t interval of a mean of numbers that are no answers."""
    return paired_t(far(values))._replace(value=float(np.mean(values)), n=len(values))


def test_a_mean_is_that_of_its_models_and_draws():
    found = measured(units={"drop": "nats"})
    theirs = padded_t(plain(found, "ViT", 0.5))
    assert found("ViT", "drop", 0.5).interval == pytest.approx(theirs, abs=1e-12)
    assert found("v1", "drop", 0.5).value == pytest.approx(
        found.values["v1", "drop", 0.5].mean(), abs=1e-12
    )


@pytest.mark.parametrize(
    ("formula", "by_hand"),
    [
        (lambda v, c: v - c, lambda v, c: v - c),
        (lambda v, c: -(v + c), lambda v, c: -(v + c)),
        (lambda v, c: 2 * v + 1, lambda v, c: 2 * v + 1),
        (lambda v, c: 1 - v, lambda v, c: 1 - v),
        (lambda v, c: v / 2, lambda v, c: v / 2),
        (lambda v, c: average([v, c, v]), lambda v, c: (2 * v + c) / 3),
        (lambda v, c: rises([v, c])[0], lambda v, c: c - v),
    ],
)
def test_a_sum_is_a_paired_t_of_what_each_item_adds(formula, by_hand):
    found = measured(units={"drop": "nats"})
    ours = formula(found("ViT", "drop", 0.5), found("CNN", "drop", 0.5))
    theirs = padded_t(by_hand(plain(found, "ViT", 0.5), plain(found, "CNN", 0.5)))
    assert ours.interval == pytest.approx(theirs, abs=1e-12)


def test_accuracies_get_two_more_answers(found):
    """One more item that the first gets right alone, one that the second does, by one training."""
    gap = plain(found, "ViT", 0.5) - plain(found, "CNN", 0.5)
    _, low, high, _ = paired_t(np.r_[gap, 1, -1])  # the CNN has one training
    assert found.gap("drop", 0.5).interval == pytest.approx((gap.mean(), low, high, 50), abs=1e-12)
    agree = Measured({(m, "x", 0): np.ones(40) for m in "vc"}, {"ViT": "v", "CNN": "c"})
    value, low, high, n = agree.gap("x", 0).interval
    assert (value, n) == (0, 40)
    assert low < -0.05 < 0.05 < high  # forty answers that agree are no proof of equality
    assert agree("ViT", "x", 0).interval.high == 1.0


def test_a_ratio_holds_what_a_t_test_does_not_reject():
    """Fieller's interval by brute force: the r for which mean(x - r y) could be 0."""
    found = measured(units={"drop": "nats"})
    x, y = plain(found, "ViT", 0.5), plain(found, "CNN", 0.5)
    ratio = found("ViT", "drop", 0.5) / found("CNN", "drop", 0.5)
    grid = np.linspace(0.5, 2, 30_001)
    kept = [r for r in grid if stats.ttest_1samp(x - r * y, 0).pvalue > 0.05]
    assert ratio.interval[:3] == pytest.approx((x.mean() / y.mean(), kept[0], kept[-1]), abs=1e-4)


def test_a_ratio_to_what_may_be_nothing_is_unbounded():
    x, y = np.ones(30), np.r_[np.zeros(28), 0.1, -0.1]
    ratio = mean(x, items="a") / mean(y, items="a")
    assert np.isnan(ratio.interval.low)
    assert np.isnan(ratio.interval.high)


def test_a_plug_in_number_is_corrected_by_leaving_out_each_item():
    values = RNG.gamma(0.3, 1, (40, 30))

    def entropy(means):
        p = means / means.sum(-1, keepdims=True)
        return -(p * np.log(p)).sum(-1)

    whole = entropy(values.mean(0))
    left = np.array([entropy(np.delete(values, i, 0).mean(0)) for i in range(40)])
    added = 40 * whole - 39 * left
    theirs = padded_t(added)
    ours = function(values, entropy, "nats", debiased=True)
    assert ours.interval == pytest.approx(theirs, abs=1e-9)
    assert ours.value == pytest.approx(added.mean())
    assert function(values, entropy, "nats").value == pytest.approx(whole)


def test_the_same_items_are_paired_and_others_are_not():
    """A set minus itself is 0 exactly; minus another set it is Welch's test."""
    values, more = (
        np.random.default_rng(1).normal(size=400),
        np.random.default_rng(2).normal(size=90),
    )
    one, same, other = mean(values, items="a"), mean(values, items="a"), mean(more, items="b")
    assert (one - same).interval[:3] == (0.0, 0.0, 0.0)
    low, high = stats.ttest_ind(far(values), far(more), equal_var=False).confidence_interval()
    gap = (one - other).interval
    assert (gap.low, gap.high) == pytest.approx((low, high))
    assert gap.n == 90


def test_other_trainings_widen_an_interval():
    """By the textbook: variances of the means of trainings and of images, Welch-Satterthwaite."""
    rng = np.random.default_rng(5)
    at = {"v": [0.2, 0.5, 0.8], "c": [0.4, 0.5, 0.6]}
    values = {(f"{g}{s}", "x", 0): rng.normal(m, 1, 100) for g in at for s, m in enumerate(at[g])}
    groups = {"ViT": ["v0", "v1", "v2"], "CNN": ["c0", "c1", "c2"]}
    gap = Measured(values, groups, units={"x": "nats"}).gap("x", 0)
    table = {g: np.stack([values[f"{g}{s}", "x", 0] for s in range(3)]) for g in at}
    parts = [(t.mean(1).var(ddof=1) / 3, 2) for t in table.values()]
    added = far(table["v"].mean(0) - table["c"].mean(0))
    parts += [(added.var(ddof=1) / 102, 101)]
    total = sum(v for v, _ in parts)
    freedom = total**2 / sum(v**2 / k for v, k in parts)
    half = stats.t.ppf(0.975, freedom) * np.sqrt(total)
    assert gap.over_trainings == pytest.approx((gap.value, gap.value - half, gap.value + half, 100))
    assert Measured(values, {"ViT": ["v0"], "CNN": ["c0", "c1"]}).gap("x", 0).over_trainings is None


def test_classes_have_their_own_numbers():
    values = {("v", "x", 0): np.arange(12.0), ("c", "x", 0): np.zeros(12)}
    found = Measured(values, {"ViT": "v", "CNN": "c"}, classes={"items": np.arange(12) % 3})
    assert found.gap("x", 0).by_class.tolist() == [4.5, 5.5, 6.5]
    assert found.gap("x", 0).evidence.by_class == [4.5, 5.5, 6.5]


def test_a_number_by_what_each_item_adds():
    added = 0.1 * RNG.normal(size=30)
    ours = pseudo(0.5, {"a": added}, "AUPR")
    assert (ours - 1).interval == pytest.approx(
        [v - 0.5 for v in padded_t(added - added.mean())[:3]] + [30]
    )


def test_two_or_three_variants_make_one_check(found):
    asked = {"a": found("ViT", "drop", 0) > 0, "b": found("CNN", "drop", 0) > 0}
    assert every(asked) == asked
    with pytest.raises(ValueError, match="two or three"):
        every({"a": asked["a"]})


def test_equally_named_items_of_another_number_are_refused():
    with pytest.raises(ValueError, match=r"mixes \[3, 4\] images"):
        mean(np.ones(3), items="images") - mean(np.ones(4), items="images")
    with pytest.raises(ValueError, match="at least one quantity"):
        together([1.0], lambda each: each[..., 0])


def test_a_lacking_group_spreads_and_asks_nothing(found):
    gap = found("Swin", "drop", 0.5) - found("ViT", "drop", 0.5)
    assert gap.lacks == "Swin"
    assert np.isnan((1 - gap / 2).value)
    assert (gap > 0).quantity.lacks == "Swin"


def test_a_check_is_not_a_truth_value(found):
    asked = found("ViT", "drop", 0.5) > 0.4
    assert (asked.above, asked.below) == (0.4, None)
    with pytest.raises(TypeError, match="yield it"):
        bool(asked)
    assert (found("ViT", "drop", 0) < found("CNN", "drop", 0)).below == 0


def test_what_was_not_measured_is_named_with_what_is_near(found):
    with pytest.raises(KeyError, match=r"not measured of v0: \('drop', 0.6\).*0.5"):
        found("ViT", "drop", 0.6)


def test_a_formula_keeps_its_parts_with_their_trainings_and_chance():
    found = measured(chance=1 / 16)
    kept = found("ViT", "drop", 0.5) / found("ViT", "drop", 0.0) - found("CNN", "drop", 0.5)
    assert [part.trainings for part in kept.parts] == [("v0", "v1"), ("v0", "v1"), ("c0",)]
    assert {part.edges for part in kept.parts} == {(1 / 16, 1.0)}
    assert {part.unit for part in kept.parts} == {"accuracy"}
    assert (kept.unit, (kept.parts[0] / 2).unit) == ("ratio", "ratio")


def test_redrawn_draws_widen_an_interval():
    """Draws that differ among themselves count: all items agree, only the draws do not."""
    values = {("v0", "patch", 1): np.tile([0.0, 0.0, 1.0], (40, 1))}
    fixed, redrawn = (
        Measured(values, {"ViT": ["v0"]}, {"patch": "nats"}, redraw=redraw)("ViT", "patch", 1)
        for redraw in (False, True)
    )
    assert fixed.interval[:3] == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    low, high = stats.ttest_1samp([0, 0, 1], 0).confidence_interval()
    assert redrawn.interval[:3] == pytest.approx((1 / 3, low, high))


def test_facts_tables_and_levels_list_what_was_measured(found, tmp_path):
    assert found.levels("drop") == [0.0, 0.5]
    texts = [text for text, _ in found.every("drop")]
    assert texts == ["ViT, drop, 0%", "ViT, drop, 50%", "CNN, drop, 0%", "CNN, drop, 50%"]
    assert found.seeds("ViT", "drop", 0.5) == pytest.approx(
        [found.values[m, "drop", 0.5].mean() for m in ("v0", "v1")]
    )
    assert len(found.frame()) == 6 * 50 * 3
    assert list(found.table("{0}", "{2}").index) == ["ViT", "CNN"]


def test_an_interval_computed_otherwise_is_taken_as_it_is():
    exact = stated(Interval(0.5, 0.2, 0.8, 9), "tau")
    assert exact.interval == Interval(0.5, 0.2, 0.8, 9)
    assert (exact > 0.1).quantity.value == 0.5
    with pytest.raises(ValueError, match="interval of its own"):
        exact - 0.1


def fourteen():
    """Two networks of one training that are right about the same 14 of 20 images."""
    right = np.r_[np.ones(14), np.zeros(6)]
    same = Measured({(m, "x", 0): right for m in "vc"}, {"ViT": "v", "CNN": "c"}, chance=1 / 16)
    return same("ViT", "x", 0), same("CNN", "x", 0)


def test_one_less_a_ratio_is_as_uncertain_as_the_ratio():
    a, c = fourteen()
    _, low, high, _ = (a / c).interval
    assert low < 0.9 < 1.1 < high
    for formula in (1 - a / c, (c - a) / c):
        assert formula.interval[:3] == pytest.approx((0, 1 - high, 1 - low), abs=1e-9)
    for formula in (a / c - 1, (a - c) / c):
        assert formula.interval[:3] == pytest.approx((0, low - 1, high - 1), abs=1e-9)
    assert (2 * (a / c)).interval[:3] == pytest.approx((2, 2 * low, 2 * high))


def test_more_answers_and_bounds_scale_with_the_formula():
    a, c = fourteen()
    _, low, high, _ = (a - c).interval
    for k in (0.1, 10):
        assert (k * (a - c)).interval[:3] == pytest.approx((0, k * low, k * high))
    assert ((a - c) + (a - c)).interval[1] == pytest.approx(2 * low)
    for formula, most in ((a, 1), (2 * a, 2), (a + c, 2), (a + 0.5, 1.5), (1 - a, 1)):
        value, low, high, _ = formula.interval
        assert low <= value <= high <= most
    assert np.isfinite((a * (a - c)).interval.low)


@pytest.mark.parametrize(("clean", "dropped"), [(0.95, 0.94), (0.9, 0.02), (0.8, 0.005)])
def test_relative_losses_cover(clean, dropped):
    """1 - acc(dropped) / acc(clean) of 200 worlds of 48 images, at the edges too."""
    inside = 0
    for world in range(200):
        right = np.random.default_rng(world).random((48, 2)) < [clean, dropped]
        found = Measured({("v", "x", k): right[:, k].astype(float) for k in (0, 1)}, {"ViT": "v"})
        _, low, high, _ = (1 - found("ViT", "x", 1) / found("ViT", "x", 0)).interval
        inside += low - 1e-9 <= 1 - dropped / clean <= high + 1e-9
    assert inside >= 180


def test_the_interval_for_other_trainings_is_never_narrower_than_that_for_these():
    draw = np.random.default_rng(0)
    runs = 0.5 + 0.1 * draw.normal(size=5)  # five patches that differ more than trainings do
    hits = {(net, "x", 0): draw.random((160, 5)) < runs for net in ("v0", "v1")}
    one = Measured(hits, {"ViT": ["v0", "v1"]}, redraw=True)("ViT", "x", 0)
    own, wider = one.interval, one.over_trainings
    assert wider.low <= own.low < own.high <= wider.high


def yes(rng, n, share):
    return (rng.random(n) < share).astype(float)


def decided(ask, worlds=150):
    """How often something is decided that is at its bound in truth."""
    return np.mean(
        [
            judge(asked("", ask(np.random.default_rng(w)))).word != "cannot tell"
            for w in range(worlds)
        ]
    )


@pytest.mark.parametrize(("clean", "kept"), [((0.15, 0.9), 0.97), ((0.9, 0.9), 0.9)])
@pytest.mark.parametrize("n", [48, 200])
def test_equal_shares_kept_are_seldom_told_apart(clean, kept, n):
    """A network that is right seldom keeps all of it easily, and looks certain."""

    def ask(rng):
        found = []
        for accuracy in clean:
            before = yes(rng, n, accuracy)
            after = before * yes(rng, n, kept)
            found.append(mean(after, "accuracy") / mean(before, "accuracy"))
        return found[0] - found[1] > 0

    assert decided(ask) <= 0.06


@pytest.mark.parametrize("n", [48, 100])
def test_a_share_of_yes_and_no_is_as_careful_as_an_accuracy(n):
    assert decided(lambda rng: mean(yes(rng, n, 0.02)) < 0.02) <= 0.05
    of_share, of_accuracy = (mean(np.zeros(n), unit).interval for unit in ("share", "accuracy"))
    assert of_share[1:3] == pytest.approx(of_accuracy[1:3])
    assert mean(np.zeros(n), "loss").interval.high == 0  # no answers: nothing is known of its size


def test_a_ratio_over_two_image_sets_is_fiellers():
    """Against the values of r for which a t test of x - r y rejects nothing, sets independent."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(2, 1, 60), rng.normal(1, 0.5, 45)
    low, high = (mean(x, "loss", "one") / mean(y, "loss", "other")).interval[1:3]
    for r in (low, high):
        error = np.sqrt(x.var(ddof=1) / 60 + r**2 * y.var(ddof=1) / 45)
        t = (x.mean() - r * y.mean()) / error
        assert abs(t) == pytest.approx(stats.t.ppf(0.975, 44), rel=1e-6)
    assert decided(lambda rng: _rare(rng, "one") / _rare(rng, "other") > 1) <= 0.07


def _rare(rng, items):
    return mean(yes(rng, 48, 0.1), "accuracy", items)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
def test_an_identity_is_not_decided_by_rounding(scale):
    for world in range(30):
        rng = np.random.default_rng(world)
        parts = [mean(scale * (1 + rng.random(200)), "dB") for _ in range(9)]
        for same in (average(parts) - average(parts[::-1]), parts[0] * 0.3 - parts[0] * 3 / 10):
            assert judge(asked("", same > 0)).word == judge(asked("", same < 0)).word


def test_one_random_draw_says_nothing_of_its_chance():
    rng = np.random.default_rng(0)
    values = {("v", "patch", 0): yes(rng, 100, 0.9), ("c", "patch", 0): yes(rng, 100, 0.1)}
    for redraw, word in ((False, "holds"), (True, "cannot tell")):
        found = Measured(values, {"ViT": ["v"], "CNN": ["c"]}, redraw=redraw)
        answer = judge(asked("", found.gap("patch", 0) > 0))
        assert answer.word == word
    assert answer.reason == "one random draw, so its chance is not known"


def test_small_levels_of_a_key_stay_apart():
    values = {("v", "rate", rate): np.full(3, rate) for rate in (1e-5, 2e-5, 0.1 + 0.2)}
    found = Measured(values, {"ViT": ["v"]})
    assert [found("ViT", "rate", r).value for r in (1e-5, 2e-5, 0.3)] == [1e-5, 2e-5, 0.1 + 0.2]


@pytest.mark.parametrize("ends", [(-5.0, 0.1, 0.2), (0.2, 0.3, 0.1), (0.0, -2.0, -1.0)])
def test_a_stated_interval_holds_its_value(ends):
    with pytest.raises(ValueError, match="low <= value <= high"):
        stated(Interval(*ends, 50))


@pytest.mark.parametrize("accuracies", [(0.0, 0.97), (0.3, 0.9), (1.0, 0.0)])
def test_a_formula_turned_round_has_its_interval_turned_round(accuracies):
    """Where one is 0 the product does not change with the other at all."""
    rng = np.random.default_rng(5)
    groups = {"ViT": ["v0", "v1", "v2"], "CNN": ["c0", "c1", "c2"]}
    nets = zip(groups.values(), accuracies, strict=True)
    values = {(net, "x", 0): yes(rng, 48, share) for names, share in nets for net in names}
    v, c = (Measured(values, groups)(group, "x", 0) for group in groups)
    for q in (v * c, v - c, v / (c + 1) - c / (v + 1)):
        _, low, high, _ = q.interval
        assert (-q).interval[1:3] == pytest.approx((-high, -low), abs=1e-9)


def test_no_interval_reaches_beyond_what_shares_can_be():
    """Nearly all at 1, and fractions of cells or cells' means, so no answers are known to pad."""
    fooled = np.r_[np.ones(20), 0.75, 0.5]
    values = {("v", "x", 0): fooled, ("c", "x", 0): np.r_[np.zeros(20), 0.01, 0.2]}
    found = Measured(values, {"ViT": ["v"], "CNN": ["c"]}, units={"x": "share"})
    vit, cnn = found("ViT", "x", 0), found("CNN", "x", 0)
    for one, (low, high) in {
        vit: (0, 1),
        1 - vit: (0, 1),
        vit - cnn: (-1, 1),
        cnn - vit: (-1, 1),
        average([vit, 1 - cnn]): (0, 1),
        2 * vit - cnn: (-1, 2),
    }.items():
        reach = one.evidence
        assert (reach.floor, reach.ceiling) == pytest.approx((low, high))
        assert low - 1e-12 <= one.interval.low
        assert one.interval.high <= high + 1e-12
    assert vit.interval.high == pytest.approx(1)
    unknown = mean(3 * fooled)
    assert unknown.evidence.ceiling == np.inf, "values beyond 1 are no shares"


def test_what_cannot_be_is_out_of_reach_and_bounds_bound():
    values = {("v", "x", 0): RNG.random(300) < 0.6, ("c", "x", 0): RNG.random(300) < 0.5}
    found = Measured(values, {"ViT": ["v"], "CNN": ["c"]})
    assert judge(asked("q", found.gap("x", 0) > 1.5)).reason == "out of reach: it can be -1 to 1"
    assert judge(asked("q", found("ViT", "x", 0) > 1.2)).reason == "out of reach: it can be 0 to 1"
    for demand in (found.gap("x", 0) > np.nan, found.gap("x", 0) < np.inf):
        with pytest.raises(ValueError, match="bounds nothing"):
            asked("q", demand)


def test_one_item_that_outweighs_all_others_decides_nothing():
    added = np.r_[RNG.normal(1, 0.01, 99), 2]
    check = asked("q", mean(added, "nats") > 0.5)
    assert check.evidence.heaviest == pytest.approx(
        (added[-1] - added.mean()) ** 2 / ((added - added.mean()) ** 2).sum()
    )
    assert judge(check) == ("cannot tell", "one item alone makes 98% of what varies")
    answers = np.r_[np.ones(99), 0.0]  # here two more answers keep the interval honest
    assert judge(asked("q", mean(answers) > 0.5)).word == "holds"


def test_two_draws_bring_a_t_of_their_own():
    by_draw = RNG.random((400, 2)) < [0.62, 0.58]
    values = {("v", "x", 0): by_draw.astype(float)}
    one = Measured(values, {"ViT": ["v"]}, redraw=True)("ViT", "x", 0)
    between = np.abs(np.subtract(*by_draw.mean(0))) / 2
    assert one.interval.high - one.value >= stats.t.ppf(0.975, 1) * between
