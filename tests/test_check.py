"""Verdict rules on simulated truth, and one by one."""

from dataclasses import replace

import numpy as np
import pytest

from vitlab.statistics import Interval, Measured, average, mean
from vitlab.statistics.check import (
    Check,
    Level,
    beyond,
    edge,
    judge,
    judge_every,
    measured,
)
from vitlab.statistics.evidence import Evidence


def check(low, high, n=100, name="q", levels=(), excess=None, **demand):
    given = Interval((low + high) / 2, low, high, n)
    return Check(
        name,
        Evidence(given.value, given.value, given=given),
        levels=levels,
        excess=excess and Evidence(0, 0, given=Interval(sum(excess) / 2, *excess, n)),
        against="an untrained ViT" if excess else "",
        **(demand or {"above": 0}),
    )


def level(value, half=0.01, floor=1 / 16):
    return Level(Interval(value, value - half, min(value + half, 1), 100), floor, 1.0)


@pytest.mark.parametrize(
    ("low", "high", "demand", "word"),
    [
        (0.1, 0.2, {"above": 0}, "holds"),
        (-0.1, 0.2, {"above": 0}, "cannot tell"),
        (-0.2, -0.1, {"above": 0}, "fails"),
        (-0.2, 0.0, {"above": 0}, "cannot tell"),  # touching is not beyond
        (0.0, 0.2, {"above": 0}, "cannot tell"),
        (0.1, 0.2, {"below": 0.3}, "holds"),
        (0.1, 0.2, {"below": 0.1}, "cannot tell"),
        (0.2, 0.3, {"below": 0.1}, "fails"),
        (-0.01, 0.01, {"within": 0.02}, "holds"),
        (-0.03, 0.01, {"within": 0.02}, "cannot tell"),
        (0.03, 0.05, {"within": 0.02}, "fails"),
        (-0.05, -0.03, {"within": 0.02}, "fails"),
    ],
)
def test_only_an_interval_strictly_beyond_its_bound_decides(low, high, demand, word):
    asked = check(low, high, **demand)
    assert beyond(asked, asked.interval) == word
    assert judge(asked).word == word


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (check(float("nan"), float("inf")), "undefined"),
        (check(0.1, 0.2, n=19), "too few: 19 of at least 20"),
        (check(0.001, 0.003, levels=(level(0.99), level(0.985))), "no room: all at the ceiling"),
        (check(0.001, 0.003, levels=(level(0.07), level(0.08))), "no room: all at the floor"),
        (check(0.1, 0.2, excess=(-0.1, 0.1)), "the control, an untrained ViT, shows as much"),
        (check(0.1, 0.2, excess=(-0.2, -0.1)), "the control, an untrained ViT, shows more"),
        (check(-0.1, 0.2), "the interval includes 0"),
        (check(-0.06, 0.01, within=0.02), "the interval includes -0.02"),
        (check(0.01, 0.06, within=0.02), "the interval includes 0.02"),
        (check(-0.06, 0.06, within=0.02), "the interval includes -0.02 and 0.02"),
        (
            replace(check(0.1, 0.2), evidence=Evidence(0.15, 0.15, {"a": np.ones(99)}, fewest=9)),
            "too few decisions where they are fewest: 9 of at least 20",
        ),
    ],
)
def test_what_stops_a_verdict_is_said(asked, reason):
    assert judge(asked) == ("cannot tell", reason)


def test_rules_are_asked_in_their_order():
    """Each check has the fault of the next as well."""
    edges = (level(0.99), level(0.985))
    nothing = check(float("nan"), 0.1, n=3, levels=edges, above=0)
    few = check(0.1, 0.2, n=3, levels=edges, above=0)
    full = check(0.1, 0.2, levels=edges, excess=(-1, 1))
    reasons = [judge(c).reason.partition(":")[0] for c in (nothing, few, full)]
    assert reasons == ["undefined", "too few", "no room"]


def test_one_level_off_the_edge_is_room_for_an_order_but_not_for_equality():
    assert edge([level(0.99), level(0.95)], 0.02, clear=False) == ""
    equal = check(-0.01, 0.01, within=0.02, levels=(level(0.99), level(0.975)))
    assert judge(equal).reason == "no room: all at the ceiling"  # .965 to .985: not clear of it
    assert judge(check(-0.01, 0.01, within=0.02, levels=(level(0.9), level(0.9)))).word == "holds"


def test_a_ratio_is_not_asked_beyond_what_it_can_reach():
    n = 200
    accuracy = {"v": np.arange(n) < 0.9 * n, "c": np.arange(n) < 0.62 * n}
    found = Measured(
        {(m, "clean", 0): a.astype(float) for m, a in accuracy.items()},
        {"ViT": ["v"], "CNN": ["c"]},
    )
    ratio = found("ViT", "clean", 0) / found("CNN", "clean", 0)
    assert judge(measured("r", ratio > 2)).reason == "out of reach: it can be 0 to 1.61"
    assert judge(measured("r", ratio < 2)).word == "holds"  # that is no wonder, but true
    assert judge(measured("r", ratio > 1.2)).word == "holds"


def test_a_control_is_subtracted_item_by_item():
    """The cause adds .1 to every item; its control shows the rest, which varies widely."""
    rest = np.random.default_rng(0).normal(0.5, 0.3, 100)
    claim, control = mean(rest + 0.1, items="a"), mean(rest, items="a")
    alone = (claim > 0).beside(control, "an untrained ViT")
    assert judge(measured("q", alone)).word == "holds"
    same = (claim > 0).beside(claim, "the same")
    assert judge(measured("q", same)).reason == "the control, the same, shows as much"
    fall = (-claim < 0).beside(-control, "an untrained ViT")
    assert judge(measured("q", fall)).word == "holds"


@pytest.mark.parametrize(
    ("control", "reason"),
    [
        (mean([np.nan] * 40, items="b"), "is undefined"),
        (mean([0.1, 0.2, 0.15], items="b"), "rests on too few: 3 of at least 20"),
    ],
)
def test_a_control_needs_images_and_a_number(control, reason):
    claim = mean(np.random.default_rng(0).normal(5, 1, 40), items="a")
    answer = judge(measured("q", (claim > 0).beside(control, "an untrained ViT")))
    assert answer == ("cannot tell", f"the control, an untrained ViT, {reason}")


def test_a_bound_on_the_lax_side_needs_room_as_equality_does():
    """Where both are within 5 points of the ceiling, no loss of 5 points can be seen."""
    rng = np.random.default_rng(1)
    values = {(m, "d", 0): rng.random(2000) < p for m, p in (("v", 0.97), ("c", 0.975))}
    found = Measured(values, {"ViT": ["v"], "CNN": ["c"]}, chance=0.1)
    for asked in (found.gap("d", 0) > -0.05, found.gap("d", 0, pair=("CNN", "ViT")) < 0.05):
        assert judge(measured("q", asked)).reason == "no room: all at the ceiling"
    assert judge(measured("q", found("ViT", "d", 0) > 0.9)).word == "holds"


def test_rounding_decides_nothing_and_equality_has_neither_control_nor_margin_0():
    x, y, z = (mean(np.random.default_rng(k).random(50), "loss", "i") for k in range(3))
    nothing = average([x, y, z]) - average([z, y, x])
    assert judge(measured("", nothing > 0)).word == "cannot tell"
    assert judge(measured("", nothing < 0)).word == "cannot tell"
    with pytest.raises(ValueError, match="above 0"):
        x.within(0)
    with pytest.raises(ValueError, match="equality has no control"):
        x.within(0.1).beside(y, "an untrained ViT")


def test_variants_hold_together_and_one_fails_after_correction():
    good, open_, bad = (
        check(*i, name=n) for n, i in [("a", (1, 2)), ("b", (-1, 1)), ("c", (-2, -1))]
    )
    assert judge_every([good, good]).word == "holds"
    assert judge_every([good, open_]) == ("cannot tell", "b: the interval includes 0")
    assert judge_every([good, open_, bad]) == ("fails", "not with c")
    near = check(-2, -0.01, name="c")  # below 0 alone, not when three are asked
    assert judge(near).word == "fails"
    assert judge_every([good, good, near]).word == "cannot tell"


def test_a_check_and_its_evidence_come_back_from_files():
    rng = np.random.default_rng(0)
    values = {(f"{g}{s}", "drop", 0): rng.random(50) for g in "vc" for s in range(3)}
    groups = {"ViT": ["v0", "v1", "v2"], "CNN": ["c0", "c1", "c2"]}
    labels = np.arange(50) % 5
    found = Measured(values, groups, chance=0.2, classes={"items": labels})
    ratio = found("ViT", "drop", 0) / found("CNN", "drop", 0)
    for asked in (found.gap("drop", 0) > 0, ratio < 2, (ratio > 0).beside(ratio, "itself")):
        ours = measured("q", asked)
        again = Check.read(ours.about(), {c[:3]: c[3] for c in ours.columns()})
        assert again.about() == ours.about()
        assert again.interval == ours.interval
        assert again.evidence.over_trainings == ours.evidence.over_trainings
        assert judge(again) == judge(ours)


def worlds(effect, base, n, count=200):
    """Gaps of two networks whose right answers about n images correlate by .5."""
    at = np.array([[base + effect], [base]])
    for world in range(count):
        rng = np.random.default_rng([world, n])
        from scipy.stats import norm

        score = np.sqrt(0.5) * rng.standard_normal(n) + np.sqrt(0.5) * rng.standard_normal((2, n))
        right = (score < norm.ppf(at)).astype(float)
        found = Measured(
            {("v", "x", 0): right[0], ("c", "x", 0): right[1]},
            {"ViT": ["v"], "CNN": ["c"]},
            chance=1 / 16,
        )
        yield found.gap("x", 0)


@pytest.mark.parametrize("n", [20, 160])
@pytest.mark.parametrize("base", [0.07, 0.5, 0.9, 0.998])
def test_a_verdict_is_seldom_wrong_where_nothing_differs(base, n):
    """2.5 % either way is promised; of 200 worlds 13 are the limit (99.9 %)."""
    words = [judge(measured("", gap > 0)).word for gap in worlds(0, base, n)]
    assert words.count("holds") <= 13
    assert words.count("fails") <= 13


def test_a_true_difference_is_seen_and_never_turned_round():
    words = [judge(measured("", gap > 0)).word for gap in worlds(0.1, 0.6, 500)]
    assert words.count("holds") >= 160
    assert words.count("fails") == 0


def test_what_differs_by_the_margin_is_seldom_called_equal():
    words = [judge(measured("", gap.within(0.02))).word for gap in worlds(0.02, 0.8, 2000)]
    assert words.count("holds") <= 13


def test_sees_is_what_is_seen_four_times_in_five():
    gaps = list(worlds(0, 0.5, 160, 40))
    sees = np.median([measured("", gap > 0).sees for gap in gaps])
    words = [judge(measured("", gap > 0)).word for gap in worlds(sees, 0.5, 160)]
    assert 0.7 < words.count("holds") / 200 < 0.9


def test_equality_takes_as_many_images_as_it_says():
    """Of networks that do not differ four in five are called equal with so many images."""
    takes = [measured("", gap.within(0.05)).takes for gap in worlds(0, 0.8, 400, 40)]
    n = int(np.median(takes))
    assert 600 < n < 2000
    words = [judge(measured("", gap.within(0.05))).word for gap in worlds(0, 0.8, n)]
    assert 0.7 < words.count("holds") / 200 < 0.95
    assert measured("", next(worlds(0, 0.8, 400, 1)) > 0).takes == 0
