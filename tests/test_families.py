import numpy as np
import pytest
from PIL import Image

from vitlab import images as data
from vitlab.stimuli import scenes as stimuli
from vitlab.stimuli import transfer as families
from vitlab.stimuli.shapes import spikes

NAMES = list(families.FAMILIES)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_the_same_alone_and_in_a_set(name):
    images = data.transfer(name, "test", 12, seed=3)
    for i in reversed(range(12)):
        picture, label = families.draw(name, "test", i, 3)
        assert np.array_equal(picture, np.asarray(images.picture(i)))
        assert label == images.labels[i]
        assert (picture.shape, picture.dtype) == ((64, 64, 3), np.uint8)
    assert images.classes == "new"
    assert len(images.categories) == 8
    assert images.fingerprint != data.transfer(name, "test", 12, seed=4).fingerprint


@pytest.mark.parametrize("name", NAMES)
def test_halves_seeds_and_indices_show_different_images(name):
    drawn = [
        families.draw(name, split, index, seed)[0].tobytes()
        for split in families.SPLITS
        for index in (0, 8)
        for seed in (0, 1)
    ]
    assert len(set(drawn)) == 8


@pytest.mark.parametrize("name", NAMES)
def test_the_class_alone_changes_the_picture(name):
    """The same random numbers, another class: what differs is what the family says."""
    paint = families.FAMILIES[name].paint
    pictures = [paint(c, np.random.default_rng(5)) for c in range(8)]
    for a in range(8):
        for b in range(a):
            changed = (np.abs(pictures[a] - pictures[b]).max(2) > 0.05).mean()
            assert changed > 0.005, (a, b)


@pytest.mark.parametrize("name", NAMES)
def test_classes_are_equally_frequent_but_for_the_long_tail(name):
    counts = data.transfer(name, "test", 80).labels.bincount()
    assert counts.tolist() == [10] * 8
    train = data.transfer(name, "train", 160).labels.bincount().tolist()
    tail = list(families.FAMILIES[name].tail)
    assert train == [2 * count for count in tail] if tail else train == [20] * 8
    assert not tail or (name == "leaves" and max(train) >= 8 * min(train))


def test_the_tail_is_spread_over_a_round():
    turns = families._turns((4, 2, 1))
    assert sorted(turns) == [0, 0, 0, 0, 1, 1, 2]
    assert turns == [0, 1, 0, 2, 0, 1, 0]


@pytest.mark.parametrize("notch", families.NOTCHES)
def test_stars_have_the_area_geometry_gives(notch):
    # fourteen triangles with sides 1 and notch and an angle of pi / 7 between them
    outline = 0.8 * spikes(7, notch)
    area = 4 * families._cover(outline).mean()
    assert area == pytest.approx(0.8**2 * 7 * notch * np.sin(np.pi / 7), rel=0.04)


def test_no_class_is_one_that_the_zoo_was_trained_on():
    kinds = families.FAMILIES
    assert not set(kinds["textures"].classes) & set(stimuli.TEXTURE_NAMES[:16])
    glyphs = {name.rpartition(" on ")[0] for name in kinds["signs"].classes}
    assert glyphs <= set(stimuli.HELD_OUT)
    for kind in kinds.values():
        assert not set(kind.classes) & {*stimuli.CATEGORIES, *stimuli.TEXTURE_NAMES[:16]}


@pytest.mark.parametrize("name", ["stars", "textures", "scenes"])
def test_hue_does_not_tell_the_class(name):
    """Nearest class mean of the mean colour's two hue coordinates stays near chance."""

    def hues(split):
        images = data.transfer(name, split, 320)
        colour = np.stack([np.asarray(images.picture(i)).mean((0, 1)) for i in range(320)])
        colour = colour - colour.mean(1, keepdims=True)
        return colour / np.linalg.norm(colour, axis=1, keepdims=True), images.labels.numpy()

    (x, y), (z, truth) = hues("train"), hues("test")
    centres = np.stack([x[y == c].mean(0) for c in range(8)])
    guess = np.linalg.norm(z[:, None] - centres, axis=2).argmin(1)
    assert (guess == truth).mean() < 0.22


def test_objects_lie_inside_the_picture():
    """The corners of a picture are background, which is nearly grey."""
    for name in ("stars", "birds", "leaves"):
        for i in range(16):
            picture = families.draw(name, "test", i)[0].astype(float)
            corners = picture[[0, 0, -1, -1], [0, -1, 0, -1]]
            assert (corners.max(1) - corners.min(1) < 70).all()


def test_seven_sets_of_the_paper_have_a_stand_in():
    stands = [kind.stands_for for kind in families.FAMILIES.values()]
    assert len(set(stands)) == 7


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="nearest: signs"):
        families.draw("sign", "train", 0)
    for wrong, message in [
        (("sign", "train", 1), "nearest: signs"),
        (("signs", "validation", 1), "known: train, test"),
        (("signs", "train", 0), "at least 1 image, got 0"),
    ]:
        with pytest.raises(data.DataError, match=message):
            data.transfer(*wrong)


# --- image sets by their own classes (data.own) ------------------------------------------------


def _photo(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 16), (value, 90, 30)).save(path)


def test_own_classes_lie_as_deep_as_they_like(tmp_path):
    for i, name in enumerate(["a/abbey", "a/attic", "b/bridge/indoor", "b/bridge/outdoor"]):
        for k in range(3):
            _photo(tmp_path / name / f"{k}.png", 40 * i + k)
    images = data.own(tmp_path)
    assert images.categories == ("a/abbey", "a/attic", "b/bridge/indoor", "b/bridge/outdoor")
    assert images.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    for i in range(12):
        assert images.picture(i).getpixel((0, 0)) == (40 * (i // 3) + i % 3, 90, 30)
    few = data.own(tmp_path, n=5, seed=1)
    assert len(few) == 5
    assert set(few.table["id"]) < set(images.table["id"])
    assert few.categories == images.categories
    assert few.table.equals(data.own(tmp_path, n=5, seed=1).table)


def test_own_classes_of_a_flat_folder_stand_in_its_list(tmp_path):
    for i in range(4):
        _photo(tmp_path / f"{1000 + i}.jpg", i)
    with pytest.raises(data.DataError, match="4 images of 1 class"):
        data.own(tmp_path)
    (tmp_path / "labels.txt").write_text("1000 707-320\n1001 Cessna 172\n1002.jpg 707-320\n")
    with pytest.raises(data.DataError, match=r"lacks 1003\.jpg"):
        data.own(tmp_path)
    with (tmp_path / "labels.txt").open("a") as file:
        file.write("1003 Cessna 172\n")
    images = data.own(tmp_path)
    assert images.categories == ("707-320", "Cessna 172")
    assert images.labels.tolist() == [0, 1, 0, 1]


def test_own_sets_that_do_not_exist_are_refused_with_near_ones(tmp_path):
    with pytest.raises(data.DataError, match=r"does not exist.*nearest: cub-200"):
        data.own("cub-20")
    with pytest.raises(data.DataError, match="at least 1, got 0"):
        data.own(tmp_path, n=0)
