from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import photograph
from PIL import Image
from sklearn.metrics import average_precision_score

from vitlab import images as data
from vitlab.conditions.condition import CLEAN
from vitlab.images import backgrounds, imagenet, shifts
from vitlab.inside import attention, filtering
from vitlab.models import MINI_CONFIG, Model, restrict
from vitlab.statistics import detection
from vitlab.stimuli import scenes as stimuli
from vitlab.trials.run import run


def linear(classes: int, seed: int = 0, size: int = 64) -> torch.nn.Module:
    """Logits that are a random linear map of the pixels' means over 4 x 4 areas."""
    torch.manual_seed(seed)
    pool = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten())
    return torch.nn.Sequential(pool, torch.nn.Linear(48, classes)).requires_grad_(False)


def in_nine(model: Model) -> Model:
    return restrict.merged(model, data.nine(), "imagenet-9")


@pytest.fixture
def imagenet_model() -> Model:
    return Model("linear", linear(1000), "CNN", "imagenet", "linear")


# --- sets ---------------------------------------------------------------------------------------


def test_a_subset_keeps_pictures_masks_and_rows_together():
    images = data.load("stimuli", n=40)
    places = [33, 2, 17]
    some = data.subset(images, places)
    assert some.table["id"].tolist() == images.table["id"].iloc[places].tolist()
    for k, i in enumerate(places):
        assert np.array_equal(np.asarray(some.picture(k)), np.asarray(images.picture(i)))
        assert np.array_equal(some.mask(k), images.mask(i))
    other = data.subset(images, [33, 2, 18])
    assert len({images.fingerprint, some.fingerprint, other.fingerprint}) == 3
    with pytest.raises(ValueError, match="no image"):
        data.subset(images, [])


def test_a_set_that_is_not_available_is_left_out_and_a_wrong_folder_is_refused(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path))
    assert data.available("imagenet-1k") is None  # given out on request only
    assert "left out, imagenet-1k" in capsys.readouterr().out
    with pytest.raises(data.DataError, match="does not exist"):
        data.available(str(tmp_path / "nowhere"))
    assert shifts.renditions("imagenet-1k", 5) == {}
    with pytest.raises(data.DataError, match="imagenet-9"):
        backgrounds.backgrounds("imagenet-8", 4, 2, 2)


def test_renditions_show_different_objects_of_every_category():
    kinds = shifts.renditions("stimuli", 160)
    assert list(kinds) == list(stimuli.RENDITIONS)
    assert all(torch.bincount(images.labels).tolist() == [2] * 16 for images in kinds.values())
    numbers = [i.rpartition("/")[2] for images in kinds.values() for i in images.table["id"]]
    assert len(set(numbers)) == 160


def test_filtering_keeps_what_the_filters_get_wrong(means_model, imagenet_model):
    count = 272  # more than the engine writes at once
    images = data.load("stimuli", n=count)
    second = replace(means_model, name="second", net=linear(16, 3), weights="second")
    kept = filtering.filtered([means_model, second], images)
    stack = torch.stack([means_model.pixels(images.picture(i)) for i in range(count)]).float() / 255
    errs = [(m.logits(stack).argmax(1) != images.labels).numpy() for m in (means_model, second)]
    assert 0 < errs[0].sum() < count
    assert kept["means errs"].tolist() == np.flatnonzero(errs[0]).tolist()
    assert kept["all filters err"].tolist() == np.flatnonzero(errs[0] & errs[1]).tolist()
    assert len(kept["unfiltered"]) == count
    undecided = filtering.filtered([imagenet_model], images)  # it knows other classes
    assert {name: len(places) for name, places in undecided.items()} == {images.name: count}
    assert set(filtering.filtered([imagenet_model, second], images)) == {
        "unfiltered", "second errs"
    }  # fmt: skip


def test_known_images_are_those_of_the_unknown_sets_classes(tmp_path):
    for name, wnid, count in [
        ("known", "n01440764", 5),
        ("known", "n01443537", 5),
        ("known", "n01484850", 5),
        ("unknown", "n01440764", 4),
        ("unknown", "n01484850", 4),
    ]:
        for i in range(count):
            photograph(tmp_path / name / wnid / f"{i}.jpg", i)
    known, unknown = data.load(tmp_path / "known"), data.load(tmp_path / "unknown")
    inside, outside, classes = shifts.in_and_out(known, unknown, 100)
    assert classes == [0, 2]  # tench and great white shark
    assert inside.table["label"].value_counts().to_dict() == {0: 5, 2: 5}
    assert len(outside) == 8
    inside, outside, classes = shifts.in_and_out(known, unknown, 3)
    assert (len(inside), len(outside), classes) == (3, 3, [0, 2])
    with pytest.raises(data.DataError, match="do not go together"):
        shifts.in_and_out(data.load("stimuli", n=16), unknown, 3)
    only = data.subset(known, np.flatnonzero(known.labels.numpy() == 1))
    with pytest.raises(data.DataError, match="reference class"):
        shifts.in_and_out(only, unknown, 3)


def test_models_decide_about_held_out_stimuli(means_model):
    known = data.load("stimuli", n=32)
    unknown = data.load("stimuli", n=32, held_out=True)
    inside, outside, classes = shifts.in_and_out(known, unknown, 32)
    assert classes == list(range(16))
    assert restrict.restricted(means_model, classes) is means_model
    shown = run([means_model], outside, [CLEAN])
    stack = torch.stack([means_model.pixels(unknown.picture(i)) for i in range(32)]).float() / 255
    confidence = means_model.logits(stack).softmax(1).amax(1)
    assert np.allclose(shown["confidence"], confidence, atol=1e-5)
    assert len(inside) == 32


# --- models -------------------------------------------------------------------------------------


def test_restricted_is_the_softmax_over_the_classes_left(imagenet_model):
    classes = [3, 999, 40, 7]
    pixels = torch.rand(6, 3, 64, 64)
    few = restrict.restricted(imagenet_model, classes)
    expected = imagenet_model.logits(pixels)[:, sorted(classes)].softmax(1)
    found = few.logits(pixels).softmax(1)
    assert torch.allclose(found[:, sorted(classes)], expected, atol=1e-6)
    assert found.sum(1).allclose(torch.ones(6))
    assert few.name == "linear, 4 classes"
    assert few.identity != imagenet_model.identity
    other = restrict.restricted(imagenet_model, [3, 999, 40, 8])
    assert other.identity != few.identity


def test_the_nine_classes_have_the_sizes_of_the_released_mapping():
    members = data.nine()
    assert [len(part) for part in members] == [116, 52, 42, 36, 35, 27, 26, 20, 16, 630]
    assert sorted(i for part in members for i in part) == list(range(1000))
    names = data.imagenet_wnids()
    places = {wnid: k for k, part in enumerate(members) for i in part for wnid in [names[i]]}
    # Chihuahua, a finch, ambulance, tench, chimpanzee; lion, bee, banjo, agama; strawberry: none
    known = {"n02085620": 0, "n01530575": 1, "n02701002": 2, "n01440764": 8, "n02481823": 7}
    known |= {"n02129165": 4, "n02206856": 5, "n02787622": 6, "n01687978": 3, "n07745940": 9}
    assert {wnid: places[wnid] for wnid in known} == known


def test_in_nine_is_the_class_of_the_best_of_a_thousand(imagenet_model):
    pixels = torch.rand(64, 3, 64, 64)
    best = imagenet_model.logits(pixels).argmax(1).tolist()
    where = {i: k for k, part in enumerate(data.nine()) for i in part}
    found = in_nine(imagenet_model).logits(pixels).argmax(1)
    assert found.tolist() == [where[i] for i in best]
    with pytest.raises(ValueError, match="stimuli"):
        in_nine(replace(imagenet_model, classes="stimuli"))


def test_a_cnn_sees_the_vits_pixels_at_each_size():
    small = {**MINI_CONFIG, "input_size": (3, 32, 32), "crop_pct": 0.8}
    large = {**MINI_CONFIG, "input_size": (3, 48, 48), "crop_pct": 0.9}
    cnn = {**MINI_CONFIG, "input_size": (3, 64, 64), "interpolation": "bilinear", "std": (1, 1, 1)}
    vit_32, vit_48, net, swin = (
        Model(name, linear(16), group, "stimuli", name, config)
        for name, group, config in [
            ("v32", "ViT", small),
            ("v48", "ViT", large),
            ("c", "CNN", cnn),
            ("s", "Swin", large),
        ]
    )
    families = restrict.by_size([vit_32, net, vit_48, swin])
    assert {s: [m.name for m in ms] for s, ms in families.items()} == {
        32: ["v32", "c"],
        48: ["c", "v48", "s"],
    }
    noise = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    for members in families.values():
        first = members[0].pixels(picture)
        assert all(torch.equal(m.pixels(picture), first) for m in members)
    assert families[32][1].config["std"] == (1, 1, 1)
    assert restrict.by_size([net]) == {64: [net]}


# --- backgrounds --------------------------------------------------------------------------------


def test_pasting_takes_the_object_by_its_mask_and_the_ground_elsewhere():
    objects = data.load("stimuli", "texture-only", n=6)
    natural = data.load("stimuli", n=6)
    behind = backgrounds.grounds(20)
    made = backgrounds.pasted(objects, behind, [[i, i + 7] for i in range(6)], "made")
    assert len(made) == 12
    assert made.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    for p in range(12):
        i, j = p // 2, p // 2 + 7 * (p % 2)
        picture, mask = np.asarray(made.picture(p)), made.mask(p)
        inside, outside = mask == 1, mask == 0
        # The object is the natural stimulus's, to the pixel.
        assert np.array_equal(picture[inside], np.asarray(natural.picture(i))[inside])
        assert np.array_equal(picture[outside], np.asarray(behind.picture(j))[outside])
        assert inside.sum() > 100
    with pytest.raises(data.DataError, match="no object masks"):
        backgrounds.pasted(behind, behind, [[0]], "nothing")


def test_a_ground_is_texture_mixed_with_grey():
    textures = data.load("stimuli", "texture-only", n=16)
    half = np.asarray(backgrounds.grounds(16, strength=0.25).picture(9), float)
    expected = 0.25 * np.asarray(textures.picture(9), float) + 0.75 * 122
    assert np.abs(half - expected).max() <= 0.5
    assert (np.asarray(backgrounds.grounds(16, strength=0.0).picture(3)) == 122).all()


def test_grounds_are_of_the_same_or_of_other_classes_and_drawn_per_object():
    objects, behind = data.load("stimuli", n=32), backgrounds.grounds(160)
    labels = behind.labels
    for i, places in enumerate(backgrounds.choose_grounds(objects, behind, 5, True)):
        assert set(labels[places].tolist()) == {i % 16}
        assert len(set(places)) == 5
    other = backgrounds.choose_grounds(objects, behind, 150, False)
    assert all(i % 16 not in labels[places] for i, places in enumerate(other))
    alone = backgrounds.choose_grounds(data.subset(objects, [31]), behind, 150, False)
    assert alone == other[31:]
    assert backgrounds.choose_grounds(objects, behind, 150, False, seed=1) != other
    with pytest.raises(ValueError, match="10 grounds"):
        backgrounds.choose_grounds(objects, behind, 11, True)


def test_the_variants_show_the_same_objects():
    sets, every = backgrounds.backgrounds("stimuli", 32, 8, 3)
    assert list(sets) == list(backgrounds.BACKGROUNDS)
    for name in ("mixed-same", "mixed-rand", "no background"):
        for i in (0, 9, 31):
            mask = sets["original"].mask(i) == 1
            ours, natural = np.asarray(sets[name].picture(i)), sets["original"].picture(i)
            assert np.array_equal(ours[mask], np.asarray(natural)[mask])
    black = np.asarray(sets["no background"].picture(5))
    assert not black[sets["original"].mask(5) == 0].any()
    same = np.asarray(sets["mixed-same"].picture(5))
    ground = np.asarray(sets["only background"].picture(5))
    out = sets["original"].mask(5) == 0
    assert np.array_equal(same[out], ground[out])
    assert sets["only background"].labels.tolist() == sets["original"].labels.tolist()
    assert len(every) == 24
    assert len({images.fingerprint for images in [*sets.values(), every]}) == 6


def test_imagenet_9_as_it_is_unpacked(tmp_path, monkeypatch, imagenet_model):
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path))
    root = tmp_path / "imagenet-9" / "bg_challenge"
    names = [f"{k:02d}_{name}" for k, name in enumerate(imagenet.NINE)]
    for folder in ("original", "mixed_same", "mixed_rand", "only_fg", "only_bg_t"):
        for k, name in enumerate(names):
            file = root / folder / "val" / name / f"{folder}_{k}.png"
            photograph(file, k, (64, 64))
    mask = np.zeros((64, 64), bool)
    mask[20:40, 10:50] = True
    for k, name in enumerate(names):
        file = root / "fg_mask" / "val" / name / f"original_{k}.npy"
        file.parent.mkdir(parents=True)
        np.save(file, mask)
    sets, every = backgrounds.backgrounds("imagenet-9", 9, 9, 4)
    assert [len(images) for images in sets.values()] == [9] * 5
    assert sets["original"].labels.tolist() == list(range(9))
    assert len(every) == 36
    picture = np.asarray(every.picture(6))
    assert np.array_equal(picture[mask], np.asarray(sets["original"].picture(1))[mask])
    below = every.table["id"][6].partition(" on ")[2]
    with Image.open(root / "only_bg_t" / "val" / below) as ground:
        assert np.array_equal(picture[~mask], np.asarray(ground)[~mask])
    assert not below.startswith("01")
    shown = run([in_nine(imagenet_model)], every, [CLEAN])
    assert set(shown["prediction"]) <= set(range(10))


# --- metrics ------------------------------------------------------------------------------------


def test_aupr_is_scikit_learns_also_with_equal_scores_and_without_any_image():
    random = np.random.default_rng(0)
    inside, outside = random.integers(0, 9, 50) / 10, random.integers(0, 7, 30) / 10
    unknown, scores = np.r_[np.zeros(50), np.ones(30)], -np.r_[inside, outside]
    whole = average_precision_score(unknown, scores)
    assert detection.aupr(inside, outside) == pytest.approx(whole)
    found = detection.group_aupr({"net": (inside, outside)}, ["net"])
    keep = ~np.eye(80, dtype=bool)
    left = np.array([average_precision_score(unknown[k], scores[k]) for k in keep])
    added = {"inside": 50 * whole - 49 * left[:50], "outside": 30 * whole - 29 * left[50:]}
    variance = sum(a.var(ddof=1) / len(a) for a in added.values())
    assert found.value == pytest.approx(whole)
    half = (found.interval.high - found.interval.low) / 2
    assert 1.9 < half / np.sqrt(variance) < 2.1  # t of some 70 degrees of freedom
    assert found.interval.n == 30


def test_aupr_of_perfect_and_of_blind_models():
    assert detection.aupr(np.full(20, 0.9), np.full(20, 0.2)) == 1.0
    blind = {"a": (np.full(30, 0.5), np.full(10, 0.5))}
    found = detection.group_aupr(blind, ["a"])
    assert found.value == pytest.approx(0.25)  # the share of out-of-distribution images
    assert found.edges == (0.25, 1.0)


def test_aupr_of_a_group_is_its_models_mean_and_paired():
    random = np.random.default_rng(1)
    scores = {m: (random.random(40), random.random(20)) for m in "abc"}
    group = detection.group_aupr(scores, ["a", "b"])
    single = [float(detection.aupr(*scores[m])) for m in "abc"]
    assert group.value == pytest.approx((single[0] + single[1]) / 2)
    assert group.without("a").value == pytest.approx(single[1])
    assert (group - group).interval[:3] == (0.0, 0.0, 0.0)
    gap = group - detection.group_aupr(scores, ["c"])
    assert gap.value == pytest.approx(group.value - single[2])


def test_area_of_mass_in_closed_form_and_by_counting():
    even = torch.ones(1, 5, 5)
    assert attention.area_of_mass(even, 0.8).item() == pytest.approx(0.8)
    point = torch.zeros(1, 4, 4)
    point[0, 2, 1] = 3.0
    assert attention.area_of_mass(point, 0.8).item() == pytest.approx(0.8 / 16)
    maps = torch.rand(5, 6, 7, generator=torch.Generator().manual_seed(0)) ** 3
    for one, found in zip(maps, attention.area_of_mass(maps, 0.6).tolist(), strict=True):
        left, cells = 0.6 * one.sum().item(), 0.0
        for value in sorted(one.flatten().tolist(), reverse=True):
            part = min(1.0, left / value)
            cells, left = cells + part, left - part * value
            if left <= 0:
                break
        assert found == pytest.approx(cells / 42, abs=1e-5)
    assert torch.allclose(attention.area_of_mass(7 * maps), attention.area_of_mass(maps))
