from dataclasses import replace

import numpy as np
import pytest
import torch

from vitlab.stimuli import scenes as stimuli


@pytest.mark.parametrize("variant", stimuli.VARIANTS)
def test_a_picture_is_the_same_alone_in_a_batch_and_in_any_order(variant):
    scenes = [stimuli.describe("test", i, 3, variant) for i in range(20)]
    together, masks = stimuli.render(scenes)
    order = np.random.default_rng(0).permutation(20)
    shuffled, _ = stimuli.render([scenes[i] for i in order])
    assert torch.equal(shuffled, together[torch.from_numpy(order)])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for i, scene in enumerate(scenes):
            picture, mask = stimuli.draw(scene)
            assert np.array_equal(picture, together[i].permute(1, 2, 0).numpy())
            assert np.array_equal(mask, masks[i].numpy())
    finally:
        torch.set_num_threads(threads)


def test_splits_seeds_and_indices_show_different_pictures():
    scenes = [
        stimuli.describe(split, index, seed)
        for split in stimuli.SPLITS
        for index in (0, 16)
        for seed in (0, 1)
    ]
    pictures = {stimuli.draw(scene)[0].tobytes() for scene in scenes}
    assert len(pictures) == len(scenes)


def test_natural_cues_agree_and_conflicting_ones_never_do():
    for i in range(240):
        natural = stimuli.describe("test", i)
        assert stimuli.SHAPE_NAMES.index(natural.shape) == natural.label
        assert stimuli.TEXTURE_NAMES.index(natural.texture) == natural.label
        conflict = stimuli.describe("test", i, variant="cue-conflict")
        shape = stimuli.SHAPE_NAMES.index(conflict.shape)
        assert conflict.label == shape != stimuli.TEXTURE_NAMES.index(conflict.texture)


def test_the_240_conflicts_are_all_pairs_once():
    scenes = [stimuli.describe("test", i, variant="cue-conflict") for i in range(240)]
    assert len({(s.shape, s.texture) for s in scenes}) == 240


def test_hue_travels_with_texture():
    def distance(variant):
        scenes = [stimuli.describe("test", i, variant=variant) for i in range(480)]
        own = np.array([stimuli.TEXTURE_NAMES.index(s.texture) / 16 for s in scenes])
        gap = np.abs(np.array([s.hue for s in scenes]) - own)
        return np.minimum(gap, 1 - gap).mean()

    # |N(0, s)| has mean s * sqrt(2 / pi); a hue drawn at random is 0.25 away on average
    usual = stimuli.HUE_SPREAD * np.sqrt(2 / np.pi)
    assert distance("natural") == pytest.approx(usual, rel=0.12)
    assert distance("cue-conflict") == pytest.approx(usual, rel=0.12)
    assert distance("stylised") == pytest.approx(0.25, abs=0.02)


def test_variants_of_an_index_share_their_object():
    masks = {
        variant: stimuli.draw_mask(stimuli.describe("test", 5, 0, variant)).tobytes()
        for variant in ("natural", "stylised", "silhouette", "edges", "flat", "sketch", "inverted")
    }
    assert len(set(masks.values())) == 1


@pytest.mark.parametrize(
    ("shape", "area"),
    [("disc", np.pi * 0.9**2), ("square", 1.6**2), ("ring", np.pi * (0.95**2 - 0.5**2))],
)
def test_masks_have_the_area_geometry_gives(shape, area):
    scene = replace(stimuli.describe("test", 0), shape=shape, scale=0.8, x=0.05, y=-0.1, angle=11)
    mask = stimuli.draw_mask(scene, size=128)
    assert 4 * mask.mean() == pytest.approx(0.8**2 * area, rel=0.03)


def test_the_object_is_inside_the_picture_and_only_there():
    for i in range(64):
        scene = stimuli.describe("test", i)
        scene = replace(scene, strength=1.0, luma=0.5)  # no tone is cut off at black or white
        picture, mask = stimuli.draw(scene)
        plain, _ = stimuli.draw(replace(scene, hue=(scene.hue + 0.5) % 1))
        changed = (picture != plain).any(2)
        assert not (changed & (mask == 0)).any(), "another hue changed the background"
        assert changed[mask == 1].mean() > 0.9


def test_pictures_are_as_the_zoo_was_trained_on_them():
    # Mean grey level of 32 pictures when the second edition's trainings began.
    means = {
        "natural": 124.667,
        "cue-conflict": 126.049,
        "stylised": 123.508,
        "silhouette": 191.008,
        "edges": 236.713,
        "texture-only": 133.215,
        "hard": 126.684,
    }
    for variant, mean in means.items():
        scenes = [stimuli.describe("test", i, 0, variant) for i in range(32)]
        pictures, _ = stimuli.render(scenes)
        assert pictures.double().mean().item() == pytest.approx(mean, abs=0.005)


@pytest.mark.parametrize("variant", ["natural", "cue-conflict", "stylised", "hard"])
def test_half_the_objects_of_each_category_are_brighter_than_their_ground(variant):
    scenes = [stimuli.describe("test", i, 0, variant) for i in range(480)]
    for label in range(16):
        brighter = [s.luma > s.ground for s in scenes if s.label == label]
        assert len(brighter) == 30
        assert sum(brighter) == pytest.approx(15, abs=1)
    held_out = [stimuli.describe("test", i, held_out=True) for i in range(160)]
    for label in range(8):
        assert sum(s.luma > s.ground for s in held_out if s.label == label) == 10


def test_what_is_drawn_is_as_bright_as_described():
    for i in range(32):
        # No clutter; strong, and not so far apart that a tone is cut off at black or white.
        scene = replace(
            stimuli.describe("test", i), clutter=0, strength=1.0, luma=0.55, ground=0.4, hue=0.3
        )
        picture, mask = stimuli.draw(scene)
        grey = picture @ np.array([0.299, 0.587, 0.114]) / 255
        assert grey[mask == 1].mean() > grey[mask == 0].mean()
    pictures = [stimuli.draw(replace(scene, seed=k, key=("k", k)))[0] for k in range(64)]
    grey = np.stack(pictures) @ np.array([0.299, 0.587, 0.114]) / 255
    assert grey[:, mask == 1].mean() == pytest.approx(0.55, abs=0.02)
    assert grey[:, mask == 0].mean() == pytest.approx(0.40, abs=0.02)


def test_an_object_without_strength_on_a_ground_without_clutter_cannot_be_seen():
    scene = replace(stimuli.describe("test", 3), clutter=0, strength=0.0, luma=0.5, ground=0.5)
    other = replace(scene, x=0.0, y=0.0, scale=0.3)
    assert np.array_equal(stimuli.draw(scene)[0], stimuli.draw(other)[0])


def test_the_frame_cuts_off_no_more_than_is_said_and_turns_and_sizes_stay_in_bounds():
    scenes = [stimuli.describe("validation", i) for i in range(640)]
    beyond = np.array([max(abs(s.x), abs(s.y)) + s.scale - 1 for s in scenes])
    share = beyond / np.array([2 * s.scale for s in scenes])
    assert share.max() <= stimuli.CUT + 1e-9
    assert share.max() > 0.9 * stimuli.CUT
    assert 0.2 < (share > 0).mean() < 0.8
    assert max(abs(s.angle) for s in scenes) <= stimuli.TURN
    low, high = stimuli.SCALE
    assert all(low <= s.scale <= high for s in scenes)
    assert {s.clutter for s in scenes} == {0, 1, 2}


def test_renditions_keep_the_object_and_lose_what_they_say():
    for i in range(16):
        natural, mask = stimuli.draw(stimuli.describe("test", i))
        inverted, _ = stimuli.draw(stimuli.describe("test", i, variant="inverted"))
        assert np.array_equal(inverted, 255 - natural)
        flat, _ = stimuli.draw(stimuli.describe("test", i, variant="flat"))
        assert len(np.unique(flat[mask == 1], axis=0)) == 1  # no texture
        assert (flat[mask == 0] == 255).all()
        sketch, _ = stimuli.draw(stimuli.describe("test", i, variant="sketch"))
        assert (sketch[..., 0] == sketch[..., 1]).all()
        assert (sketch[..., 1] == sketch[..., 2]).all()
        ink = 255 - sketch[..., 0].astype(float)
        edges = 255 - stimuli.draw(stimuli.describe("test", i, variant="edges"))[0][..., 0]
        assert ink[edges > 128].mean() > 3 * ink.mean()  # along the outline
        assert ink[mask == 1].mean() > ink[mask == 0].mean()  # hatched inside


def test_hard_stimuli_are_smaller_turned_further_and_partly_covered():
    scenes = [stimuli.describe("test", i, variant="hard") for i in range(160)]
    plain = [stimuli.describe("test", i) for i in range(160)]
    assert [s.label for s in scenes] == [s.label for s in plain]
    assert [(s.shape, s.texture, s.hue) for s in scenes] == [
        (s.shape, s.texture, s.hue) for s in plain
    ]
    shrunk = np.array([a.scale / b.scale for a, b in zip(scenes, plain, strict=True)])
    assert ((shrunk > 0.65) & (shrunk <= 1)).all()
    assert shrunk.mean() == pytest.approx(0.825, abs=0.02)  # uniform from 0.65 to 1
    turned = np.array([a.angle - b.angle for a, b in zip(scenes, plain, strict=True)])
    assert np.abs(turned).max() <= 90
    assert np.abs(turned).mean() == pytest.approx(45, abs=6)
    hidden = []
    for scene in scenes[:48]:
        picture, mask = stimuli.draw(scene)
        whole = stimuli.draw_mask(replace(scene, variant="natural"))
        assert np.array_equal(mask, stimuli.draw_mask(scene))
        assert (mask <= whole).all()
        hidden.append(1 - mask.sum() / whole.sum())
        covered = (whole == 1) & (mask == 0)
        # What covers the object is one grey, but for the grain.
        if covered.sum() >= 20:
            assert picture[covered].mean(0).std() < 3
            assert picture[covered].std(0).mean() == pytest.approx(stimuli.GRAIN * 255, rel=0.35)
    assert 0.02 < np.mean(hidden) < 0.25
    assert min(hidden) == 0
    assert max(hidden) < 0.65  # of the object; of its box at most 0.35


def test_held_out_shapes_and_textures_are_new():
    seen = {(s.shape, s.texture) for s in (stimuli.describe("train", i) for i in range(16))}
    for i in range(16):
        scene = stimuli.describe("test", i, held_out=True)
        assert scene.shape not in {shape for shape, _ in seen}
        assert scene.texture not in {texture for _, texture in seen}
    assert len(stimuli.HELD_OUT) == 8
    assert len(stimuli.CATEGORIES) == 16


def test_textures_differ_from_one_another():
    plain = replace(stimuli.describe("test", 3, variant="texture-only"), luma=0.5, hue=0.5)
    pictures = [
        stimuli.draw(replace(plain, texture=name, strength=1.0)) for name in stimuli.TEXTURES
    ]
    light = stimuli.draw(replace(plain, strength=0.0))[0].mean(2)
    spectra = []
    for picture, _ in pictures:
        grey = picture.mean(2) - light  # it falls on all of them
        grey -= grey.mean()
        power = np.abs(np.fft.fft2(grey)) ** 2
        spectra.append((power / power.sum()).ravel())
    similarity = np.array([[np.sqrt(a * b).sum() for a in spectra] for b in spectra])
    assert (similarity - np.eye(len(spectra)) * 2).max() < 0.97


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="cue-conflict"):
        stimuli.describe("test", 0, variant="cue conflict")
    with pytest.raises(ValueError, match="validation"):
        stimuli.describe("val", 0)
