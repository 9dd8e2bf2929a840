import json
import types

import numpy as np
import pytest

from vitlab import claims, keys, lab
from vitlab.book import profiles
from vitlab.conditions import CLEAN, patchdrop
from vitlab.images import cue_conflict, load
from vitlab.inside import tokens
from vitlab.models import load as load_model
from vitlab.statistics import correct
from vitlab.trials.run import run

SMALL = {
    "images": "stimuli",
    "models": "mini/vit-0,mini/cnn-0",
    "n_images": 24,
    "seed": 0,
    "batch_size": 64,
    "workers": 1,
    "device": "cpu",
    "radius": 8,
}


@pytest.fixture
def page(monkeypatch, tmp_path):
    """A bench as a page makes it, of these parameters."""
    monkeypatch.setattr(profiles, "sizes", lambda page: {"mini": SMALL})

    def make(**given):
        return lab.Lab("99-page", {"out": str(tmp_path / "out"), **given})

    return make


def test_what_the_reader_gives_wins_and_the_profile_fills_in(page):
    bench = page(n_images=8, radius=None, unrelated=3)
    assert (bench.n_images, bench.radius, len(bench.images)) == (8, 8, 8)
    assert bench.groups == {"ViT": ["mini/vit-0"], "CNN": ["mini/cnn-0"]}
    assert (bench.chance, bench.size, bench.mini) == (1 / 16, 64, True)
    with pytest.raises(AttributeError, match=r"no 'radios'; the page's parameters are .*radius"):
        _ = bench.radios


@pytest.mark.parametrize(
    "body",
    [
        lambda lab: lambda net, batch: lab.radius,
        lambda lab: lambda net, batch: helper(lab),
        lambda lab: lambda net, batch: getattr(lab, "radius"),  # noqa: B009
        lambda lab: lambda net, batch: lab.given["radius"],
        lambda lab: lambda net, batch: vars(lab)["radius"],
    ],
)
def test_a_body_counts_with_what_it_takes_of_its_lab(page, body):
    def key(**given):
        return keys.function(body(page(**given)))

    assert key(radius=8) == key(radius=8, batch_size=1) != key(radius=9)


def helper(lab):
    return lab.radius


def test_what_a_lab_has_loaded_and_was_given_counts_too(page):
    def key(take, models="mini/vit-0", strength=1):
        bench = page(models=models)
        bench.strength = strength
        return keys.function(take(bench))

    def teacher(lab):
        return lambda net, batch: lab.first["ViT"].logits(batch.pixels)

    def every(lab):
        return lambda net, batch: sum(one.logits(batch.pixels) for one in lab.models)

    def strong(lab):
        return lambda net, batch: lab.strength

    for take in (teacher, every):
        assert key(take) == key(take) != key(take, models="mini/vit-1")
    assert key(strong) == key(strong, models="mini/vit-1") != key(strong, strength=2)


def test_a_claim_about_one_model_is_about_it_where_it_is_run(page):
    bench = page(models="mini/vit-0,mini/vit-1")
    assert bench.named("vit-1", "ViT") == "mini/vit-1"
    assert bench.named("vit_large", "ViT") == "ViT"


def test_a_module_that_hides_a_parameter_is_told(page):
    with pytest.raises(ValueError, match="images is a parameter of 99-page, and here a module"):
        page(images=types.ModuleType("images"))


def test_accuracy_is_that_of_the_trials(page, tmp_path):
    bench = page()
    conditions = [CLEAN, *patchdrop.random([0.5], (8, 8), draws=2)]
    found = bench.accuracy(conditions)
    trials = run(bench.models, bench.images, conditions)
    right = correct(trials)["mini/vit-0", "random PatchDrop", 0.5]
    assert found("ViT", "random PatchDrop", 0.5).value == pytest.approx(right.mean())
    assert len(list((tmp_path / "out").glob("trials*.parquet"))) == 1
    assert json.loads((tmp_path / "out" / "trials.json").read_text())


def sets_of(sets):
    return (images.fingerprint for images in sets.values())


def test_image_sets_are_measured_side_by_side(page):
    bench = page()
    sets = {variant: load("stimuli", variant, n=24) for variant in ("hard", "edges")}
    apart, paired = bench.accuracies(sets), bench.accuracies(sets, bench.models[:1], "objects")
    right = {
        name: [r.prediction == r.label for r in run(bench.models[:1], images, [CLEAN]).itertuples()]
        for name, images in sets.items()
    }
    for found in (apart, paired):
        gap = found("ViT", "hard") - found("ViT", "edges")
        assert gap.value == pytest.approx((sum(right["hard"]) - sum(right["edges"])) / 24)
        assert set(gap.tables) == ({"objects"} if found is paired else {*sets_of(sets)})
    assert set(apart.groups) == {"ViT", "CNN"}
    assert set(paired.groups) == {"ViT"}


def test_models_are_asked_about_other_images_than_the_pages(page, photo_folder, capsys):
    bench = page()
    assert bench.able("decisions", bench.models) == bench.models
    assert bench.able("decisions", bench.models, load(photo_folder)) == []
    assert "knows stimuli classes, not imagenet" in capsys.readouterr().out


def settled(bench, needs=("ViT", "CNN")):
    found = bench.accuracy([CLEAN])

    @bench.settles("naseer2021", "pixel-drop", "A note.", needs)
    def claim():
        yield lab.Part("order")
        yield "gap", found("ViT", "clean", 0) - found("CNN", "clean", 0) > 0
        yield "of Swin", found("Swin", "clean", 0) > 0
        yield "A remark."
        yield "ViT", found("ViT", "clean", 0), "points"

    return claim


def test_a_claim_is_settled_by_what_a_generator_yields(page):
    made = settled(page())
    assert isinstance(made, claims.Settled)
    assert made.record["verdict"] == "cannot tell"
    assert [n["quantity"] for n in made.record["checks"]] == ["gap"]
    assert [(n["quantity"], n["unit"]) for n in made.record["facts"]] == [("ViT", "points")]
    remarks = "A note. A remark. of Swin: not checked, no numbers of Swin."
    assert made.record["remarks"] == remarks
    assert made.record["reason"] == f"The interval includes 0, near the ceiling. {remarks}"
    assert (made.record["edition"], made.record["classes"]) == ("mini", 16)


def test_without_a_group_that_is_needed_no_check_counts(page):
    made = settled(page(models="mini/cnn-0"))
    assert made.record["verdict"] == "not run"
    assert made.record["reason"] == "needs a ViT and a CNN; this run has CNN"


def test_models_that_cannot_be_used_are_told(page, capsys):
    said = r"no model of 'mini/cnn-0' can be used on this page \(mini/cnn-0: no class token\)"
    with pytest.raises(ValueError, match=said):
        lab.Lab("99-page", {"models": "mini/cnn-0", "out": str(page().out)}, "class token")
    assert "left out: mini/cnn-0 (no class token)" in capsys.readouterr().out


def test_shape_bias_is_the_papers_formula():
    """Counted by hand: of each shape category, shape decisions over shape and texture decisions."""
    nets, images = [load_model("mini/cnn-0")], cue_conflict("stimuli", n=64)
    [bias] = lab.shape_bias(nets, images).values()
    trials = run(nets, images, [CLEAN])
    shares = []
    for category in range(16):
        counts = {"shape": 0, "texture": 0}
        for row in trials.itertuples():
            cues = images.table.iloc[row.image]
            for cue in counts if cues["shape"] == category != cues["texture"] else ():
                counts[cue] += row.prediction == cues[cue]
        if sum(counts.values()):
            shares.append(counts["shape"] / sum(counts.values()))
    assert bias.value == pytest.approx(sum(shares) / len(shares))


def features(net, batch):
    return {"norm": tokens.pooled(net, batch.pixels).norm(dim=1)}


def test_what_a_page_measures_is_in_its_folder_too(page, tmp_path):
    found = page(n_images=5).measure(features, units={"norm": "units"})
    assert found("ViT", "norm").unit == "units"
    assert (tmp_path / "out" / "features.parquet").exists()


def test_accuracy_needs_no_page():
    found = lab.accuracy([load_model("mini/vit-0")], load("stimuli", n=16), [CLEAN])
    assert found("ViT", "clean", 0).value > 0.6  # of 16 images


def second_recipe(net):
    """mini/vit-1 and mini/cnn-1 as if they were trained by DeiT's recipe."""
    return f"{net.group}, DeiT's recipe" if net.name.endswith("-1") else net.group


def test_pairs_stand_beside_where_the_run_has_both(page):
    bench = page(models="mini/vit-?,mini/cnn-?")
    assert bench.pairs_beside == {}
    assert bench.compared == ["ViT", "CNN"]
    assert bench.usual == bench.models
    bench.regroup(second_recipe)
    both = "ViT, DeiT's recipe", "CNN, DeiT's recipe"
    assert bench.pairs_beside == {"ViT - CNN by DeiT's recipe": both}
    assert bench.compared == ["ViT", "CNN", *both]
    assert [net.name for net in bench.usual] == [
        *("mini/vit-0", "mini/vit-2", "mini/cnn-0", "mini/cnn-2"),
    ]
    bench.regroup(lambda net: "CNN, equal accuracy" if net.name == "mini/cnn-2" else net.group)
    assert list(bench.pairs_beside) == ["ViT - CNN, equal accuracy", "ViT - CNN by DeiT's recipe"]
    assert bench.pairs_beside["ViT - CNN, equal accuracy"] == ("ViT", "CNN, equal accuracy")
    bench.regroup(lambda net: "ViT" if net.name == "mini/vit-1" else net.group)
    assert list(bench.pairs_beside) == ["ViT - CNN, equal accuracy"], "one of a pair is none"


def test_a_pair_beside_changes_nothing_of_the_main_one(page, tmp_path):
    """Of the same images: the record is that of a run without it, but for what stands beside."""

    def asked(bench):
        acc = bench.accuracy(patchdrop.random([0.5, 0.8], (8, 8), 1))

        @bench.settles("naseer2021", "occlusion-salient")
        def claim():
            yield "ViT - CNN", acc.mean_gap("random PatchDrop", [0.5, 0.8]) > 0
            for text, pair in bench.pairs_beside.items():
                yield text, acc.mean_gap("random PatchDrop", [0.5, 0.8], pair) > 0

        return acc, claim.record

    _, alone = asked(page(out=str(tmp_path / "alone")))
    bench = page(models="mini/vit-[01],mini/cnn-[01]", out=str(tmp_path / "both"))
    bench.regroup(second_recipe)
    acc, both = asked(bench)
    right = [
        np.mean([acc(f"mini/{kind}-1", "random PatchDrop", k).value for k in (0.5, 0.8)])
        for kind in ("vit", "cnn")
    ]
    assert both["by_deit"]["value"] == pytest.approx(right[0] - right[1])
    assert both["by_deit"]["trainings"] == 1
    own = {"parts", "checks", "by_deit", "models"}
    assert {k: v for k, v in both.items() if k not in own} == {
        k: v for k, v in alone.items() if k not in own
    }
