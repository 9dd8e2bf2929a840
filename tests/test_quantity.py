import numpy as np
import pytest

from vitlab.statistics import (
    Interval,
    Measured,
    average,
    bootstrap,
    function,
    largest,
    mean,
    rises,
    smallest,
    stated,
    together,
)

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


def test_a_mean_is_that_of_its_models_and_draws(found):
    theirs = bootstrap(plain(found, "ViT", 0.5))
    assert found("ViT", "drop", 0.5).interval == pytest.approx(theirs, abs=1e-12)
    assert found("v1", "drop", 0.5).value == pytest.approx(
        found.values["v1", "drop", 0.5].mean(), abs=1e-12
    )


@pytest.mark.parametrize(
    ("formula", "by_hand"),
    [
        (lambda v, c: v - c, lambda m: m[..., 0] - m[..., 1]),
        (lambda v, c: v / c, lambda m: m[..., 0] / m[..., 1]),
        (lambda v, c: 1 - v / c, lambda m: 1 - m[..., 0] / m[..., 1]),
        (lambda v, c: -(v + c), lambda m: -(m[..., 0] + m[..., 1])),
        (lambda v, c: 2 * v + 1, lambda m: 2 * m[..., 0] + 1),
        (lambda v, c: largest([v, c]), lambda m: m.max(-1)),
        (lambda v, c: smallest([v, c]), lambda m: m.min(-1)),
        (lambda v, c: average([v, c, v]), lambda m: (2 * m[..., 0] + m[..., 1]) / 3),
        (lambda v, c: largest(rises([v, c, v])), lambda m: np.abs(m[..., 0] - m[..., 1])),
    ],
)
def test_a_formula_is_a_bootstrap_of_paired_means(found, formula, by_hand):
    pair = np.stack([plain(found, "ViT", 0.5), plain(found, "CNN", 0.5)], 1)
    ours = formula(found("ViT", "drop", 0.5), found("CNN", "drop", 0.5))
    assert ours.interval == pytest.approx(bootstrap(pair, by_hand), abs=1e-12)


def test_the_same_items_are_paired_and_others_are_not():
    """A set minus itself is 0 exactly; minus an equally large other set its variance doubles."""
    values = np.random.default_rng(1).normal(size=400)
    one, same, other = mean(values, items="a"), mean(values, items="a"), mean(values, items="b")
    assert (one - same).interval[:3] == (0.0, 0.0, 0.0)
    gap, alone = (one - other).interval, one.interval
    width = (gap.high - gap.low) / (alone.high - alone.low)
    assert width == pytest.approx(np.sqrt(2), rel=0.05)
    assert gap.n == 800


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
    assert {part.chance for part in kept.parts} == {1 / 16}
    assert {part.unit for part in kept.parts} == {"accuracy"}
    assert (kept.unit, (kept.parts[0] / 2).unit) == ("ratio", "ratio")


def test_redrawn_draws_widen_an_interval():
    """Draws that differ among themselves count: all items agree, only the draws do not."""
    values = {("v0", "patch", 1): np.tile([0.0, 0.0, 1.0], (40, 1))}
    fixed, redrawn = (
        Measured(values, {"ViT": ["v0"]}, redraw=redraw)("ViT", "patch", 1).interval
        for redraw in (False, True)
    )
    assert fixed[:3] == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert (redrawn.low, redrawn.high) == pytest.approx((0, 1))


def test_facts_tables_and_levels_list_what_was_measured(found, tmp_path):
    assert found.levels("drop") == [0.0, 0.5]
    texts = [text for text, _ in found.every("drop")]
    assert texts == ["ViT, drop, 0%", "ViT, drop, 50%", "CNN, drop, 0%", "CNN, drop, 50%"]
    assert found.seeds("ViT", "drop", 0.5) == pytest.approx(
        [found.values[m, "drop", 0.5].mean() for m in ("v0", "v1")]
    )
    assert len(found.frame()) == 6 * 50 * 3
    assert list(found.table("{0}", "{2}").index) == ["ViT", "CNN"]


def test_a_function_of_columns_is_resampled_whole():
    values = RNG.random((60, 4))
    ours = function(values, lambda means: means.std(-1), "points", items="images")
    assert ours.interval == pytest.approx(bootstrap(values, lambda m: m.std(-1)), abs=1e-12)


def test_an_interval_computed_otherwise_is_taken_as_it_is():
    exact = stated(Interval(0.5, 0.2, 0.8, 9), "tau")
    assert exact.interval == Interval(0.5, 0.2, 0.8, 9)
    assert (exact > 0.1).quantity.value == 0.5
    with pytest.raises(ValueError, match="interval of its own"):
        exact - 0.1
