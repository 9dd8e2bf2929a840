import math

import pytest
import timm
import torch
from conftest import photograph

from vitlab import cli, models, once
from vitlab.book import build, pages, plan


def test_operations_are_the_published_ones():
    """DeiT-S has 4.6 and ResNet-50 4.1 billion multiply-adds: two operations each."""
    assert plan.flops("timm/deit_small_patch16_224.fb_in1k") == pytest.approx(2 * 4.6e9, rel=0.02)
    assert plan.flops("timm/resnet50.a1_in1k@main") == pytest.approx(2 * 4.1e9, rel=0.02)
    assert plan.flops("timm/cait_xxs24_224.fb_dist_in1k") == pytest.approx(2 * 2.5e9, rel=0.05)
    assert plan.flops("hf-hub:someone/something") is None


def test_operations_of_a_miniature_are_those_of_its_layers():
    vit = models.load("mini/vit-0").net
    blocks = [m for m in vit.modules() if isinstance(m, torch.nn.Linear)]
    tokens, width, heads = 65, 96, 3
    linear = sum(2 * tokens * m.in_features * m.out_features for m in blocks if m is not vit.head)
    attention = 6 * heads * 2 * (2 * tokens**2 * (width // heads))
    ends = 2 * width * 16 + 2 * 64 * (3 * 8 * 8) * width
    assert plan.flops("mini/vit-0") == linear + attention + ends


def test_a_plan_counts_forwards_and_hours(root):
    [page] = pages.choose(
        root,
        ["01-occlusion"],
        {"models": "timm/resnet50.a1_in1k,timm/deit_small_patch16_224.fb_in1k", "n_images": "100"},
        "colab",
    )
    [row] = plan.table([page], here=1e9).itertuples()
    passes = page.settings["passes"]
    assert row.forwards == 100 * 2 * passes
    work = 100 * passes * sum(plan.flops(name) for name in models.select(page.settings["models"]))
    assert row._7 == pytest.approx(work / 1e9 / 3600)  # "hours here"


def test_a_model_that_cannot_be_counted_is_named(root, monkeypatch):
    monkeypatch.setattr(plan, "measured_flops", lambda: 1e11)
    given = {"models": "hf-hub:someone/something,timm/resnet50.a1_in1k", "n_images": "100"}
    chosen = pages.choose(root, ["01-occlusion"], given, "colab")
    [row] = plan.table(chosen, here=1e9).to_dict("records")
    assert math.isnan(row["hours here"])
    assert row["not counted"] == "hf-hub:someone/something"
    said = plan.text(chosen)
    assert "whose work is unknown: hf-hub:someone/something." in said
    assert "NaN" not in said
    assert "nan" not in said.split()


def test_the_plan_of_every_profile_can_be_printed(root, monkeypatch, capsys):
    monkeypatch.chdir(root)
    monkeypatch.setattr(plan, "measured_flops", lambda: 1e11)
    monkeypatch.setattr(timm, "create_model", _without_weights(timm.create_model))
    for profile in ("mini", "colab", "full"):
        assert cli.main(["plan", "--profile", profile]) == 0
        said = capsys.readouterr().out
        assert "Nothing was started" in said
        assert f"profile {profile} (" in said
        assert "01-occlusion" in said
    assert "imagenet-1k" in said
    assert cli.main(["plan", "--profile", "huge"]) == 2
    assert "unknown profile 'huge'" in capsys.readouterr().err


def test_a_plan_without_a_profile_is_of_the_largest_that_its_pages_have(root, monkeypatch, capsys):
    monkeypatch.chdir(root)
    monkeypatch.setattr(plan, "measured_flops", lambda: 1e11)
    assert cli.main(["plan", "00-stimuli"]) == 0
    assert "profile mini (--profile names another" in capsys.readouterr().out
    assert pages.largest_profile(root, ["00-stimuli", "01-occlusion"]) == "mini"
    assert pages.largest_profile(root, ["01-occlusion"]) == "full"
    assert pages.largest_profile(root, []) == "full"
    assert cli.main(["plan", "00-stimuli", "--profile", "full"]) == 2
    assert "00-stimuli has no profile 'full'; it has mini" in capsys.readouterr().err


def test_a_plan_says_how_long_pages_took_and_counts_once(root, monkeypatch, tmp_path):
    monkeypatch.setattr(plan, "measured_flops", lambda: 1e11)
    given = {"models": "timm/resnet18.a1_in1k", "n_images": "100"}
    chosen = pages.choose(root, ["01-occlusion", "05-shuffle"], given, "colab")
    took = {"01-occlusion": {"seconds": 90.0}, "05-shuffle": {}}
    monkeypatch.setattr(build, "read_state", lambda folder: took[folder.name])
    first = plan.text(chosen, tmp_path, tmp_path / "operations.json")
    lines = [line.split() for line in first.splitlines()]
    assert [words[-1] for words in lines if words and words[0] == "01-occlusion"] == ["1.5"]
    plan.flops.cache_clear()
    once._known.clear()
    monkeypatch.delattr(timm, "create_model")
    assert plan.text(chosen, tmp_path, tmp_path / "operations.json") == first


def test_several_image_sets_keep_the_table_narrow():
    assert plan._shortened("stimuli") == "stimuli"
    assert plan._shortened("cub-200,dtd/dtd/images,gtsrb") == "cub-200 and 2 more"


def _without_weights(create):
    def checked(name, pretrained=False, **options):
        assert not pretrained, "a plan must not download weights"
        return create(name, pretrained=False, **options)

    return checked


def test_a_plan_knows_a_readers_folder(root, tmp_path, monkeypatch, capsys):
    """It counts the images that are there, and refuses what a build would refuse."""
    for name in ("goldfish/a.png", "goldfish/b.png", "tabby/a.png"):
        photograph(tmp_path / name, 1)
    monkeypatch.chdir(root)
    monkeypatch.setattr(plan, "measured_flops", lambda: 1e9)
    asked = ["plan", "16-lesions", "--profile", "mini", "-p", f"images={tmp_path}"]
    assert cli.main(asked) == 0
    [row] = [line for line in capsys.readouterr().out.splitlines() if "16-lesions" in line]
    assert " 3 " in row
    assert "200" not in row
    (tmp_path / "tabby").rename(tmp_path / "tabbby")
    assert cli.main(asked) == 2
    assert "tabbby" in capsys.readouterr().err
