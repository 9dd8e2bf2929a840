import shutil

import numpy as np
import pytest
import torch
from conftest import photograph
from PIL import Image

from vitlab import data
from vitlab.models import load


def test_stimuli_are_balanced_and_know_their_cues():
    images = data.load("stimuli", n=48)
    assert torch.bincount(images.labels).tolist() == [3] * 16
    assert (images.table["shape"] == images.table["texture"]).all()
    assert data.masks(images).shape == (48, 64, 64)
    assert images.table["id"].is_unique


def test_conflicts_use_every_shape_equally_often_and_repeat_no_image():
    table = data.cue_conflict("stimuli", 96).table
    assert table["shape"].value_counts().tolist() == [6] * 16
    assert (table["shape"] != table["texture"]).all()
    assert table["id"].is_unique
    assert data.cue_conflict("stimuli", 480).table["id"].is_unique
    pairs = data.cue_conflict("stimuli", 240).table[["shape", "texture"]]
    assert not pairs.duplicated().any()


def test_a_folder_of_wnids_has_imagenets_labels(photo_folder):
    images = data.load(photo_folder)
    assert images.classes == "imagenet"
    assert len(images) == 10
    assert set(images.table["label"]) == {0, 1}  # tench and goldfish, ImageNet's first classes
    assert images.picture(0).mode == "RGB"
    with pytest.raises(data.DataError, match="no object masks"):
        data.masks(images)


def test_a_subset_of_a_folder_is_the_same_every_time(photo_folder):
    first, again, other = (data.load(photo_folder, n=4, seed=s).table["id"] for s in (0, 0, 1))
    assert first.tolist() == again.tolist() != other.tolist()
    assert len(first) == 4


def test_cue_conflict_file_names_tell_shape_and_texture(tmp_path):
    photograph(tmp_path / "cat" / "cat7-car2.png", 0)
    photograph(tmp_path / "car" / "car1-car3.png", 1)
    images = data.cue_conflict(tmp_path)
    assert images.classes == "imagenet-16"
    names = images.categories
    rows = images.table.sort_values("id")
    assert [names[i] for i in rows["shape"]] == ["car", "cat"]
    assert [names[i] for i in rows["texture"]] == ["car", "car"]


def test_a_folder_without_cues_in_its_names_is_no_cue_conflict_set(photo_folder):
    with pytest.raises(data.DataError, match=r"cat7-car2\.png"):
        data.cue_conflict(photo_folder)


def test_decisions_are_mean_probabilities_over_member_classes():
    matrix = data.decision_matrix("imagenet", "imagenet-16")
    probabilities = torch.rand(5, 1000)
    decided = probabilities @ matrix
    wnids = data.imagenet_wnids()
    for k, members in enumerate(data.imagenet_16().values()):
        loop = torch.stack([probabilities[:, wnids.index(w)] for w in members]).mean(0)
        assert torch.allclose(decided[:, k], loop, atol=1e-6)
    assert sum(len(m) for m in data.imagenet_16().values()) == 207
    assert data.decision_matrix("stimuli", "stimuli") is None
    with pytest.raises(data.DataError, match="models=efficientnet-lite0"):
        data.decision_matrix("stimuli", "imagenet")


def test_people_decide_by_shape():
    people = data.human_decisions()
    assert len(people) == 16
    shape, texture = people["shape"].sum(), people["texture"].sum()
    assert shape / (shape + texture) == pytest.approx(0.959, abs=5e-4)  # as its source reports


def test_bad_folders_are_named(tmp_path, photo_folder):
    with pytest.raises(data.DataError, match="does not exist"):
        data.load(tmp_path / "nowhere")
    (tmp_path / "empty" / "n01440764").mkdir(parents=True)
    with pytest.raises(data.DataError, match="holds no images"):
        data.load(tmp_path / "empty")
    shutil.move(photo_folder / "n01440764", photo_folder / "tench")
    with pytest.raises(data.DataError, match=r"neither ImageNet wnids nor .*: tench"):
        data.load(photo_folder)
    with pytest.raises(data.DataError, match="n_images must be at least 1"):
        data.load("stimuli", n=-3)
    with pytest.raises(data.DataError, match="unknown variant"):
        data.load("stimuli", "sylised")


def test_damaged_images_are_found_before_anything_is_computed(photo_folder):
    whole = next((photo_folder / "n01440764").glob("*.jpg"))
    good = whole.read_bytes()
    for content, message in [
        (good[: len(good) // 2], "is truncated"),
        (b"", r"is not an image \(0 bytes\)"),
        (b"<html>not found</html>" * 50, "is not an image"),
    ]:
        whole.write_bytes(content)
        with pytest.raises(data.DataError, match=f"{whole.name} {message}"):
            data.load(photo_folder)
    half_png = photo_folder / "n01443537" / "half.png"
    photograph(half_png, 3)
    whole.unlink()
    half_png.write_bytes(half_png.read_bytes()[:-20])
    with pytest.raises(data.DataError, match=r"half\.png"):
        data.load(photo_folder)


def test_grey_cmyk_and_transparent_pictures_come_as_rgb(tmp_path):
    folder = tmp_path / "n01440764"
    folder.mkdir()
    for mode, name in [
        ("L", "grey.png"),
        ("CMYK", "press.jpg"),
        ("RGBA", "clear.png"),
        ("P", "few.png"),
    ]:
        Image.new(mode, (20, 20)).save(folder / name)
    images = data.load(tmp_path)
    assert {np.asarray(images.picture(i)).shape for i in range(4)} == {(20, 20, 3)}


@pytest.mark.real
def test_the_real_cue_conflict_set_is_recognised(real):
    images = data.cue_conflict(real / "cue-conflict")
    assert len(images) == 1280
    assert (images.table["shape"] == images.table["texture"]).sum() == 80


@pytest.mark.real
def test_efficientnet_lite0_knows_real_photographs(real):
    images = data.load(real / "imagenet-samples", n=200)
    model = load("efficientnet-lite0")
    right = 0
    with torch.inference_mode():
        for first in range(0, 200, 50):
            chosen = range(first, first + 50)
            pixels = torch.stack([model.pixels(images.picture(i)) for i in chosen]).float() / 255
            right += int(
                (model.logits(pixels).argmax(1) == images.labels[first : first + 50]).sum()
            )
    # 75.5 % on ImageNet's validation set is what its authors report
    assert right / 200 > 0.68
