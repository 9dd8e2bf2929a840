import colorsys

import numpy as np
import pytest
import scipy.ndimage
import torch
from imagecorruptions import corruptions as library
from PIL import Image

from vitlab.conditions import Batch, sequences
from vitlab.images import load
from vitlab.rng import generator


@pytest.fixture(scope="module")
def batch():
    images = load("stimuli", n=3)
    stack = np.stack([np.array(images.picture(i)) for i in range(3)])
    pixels = torch.from_numpy(stack).permute(0, 3, 1, 2).float() / 255
    return Batch(pixels, tuple(images.table["id"]), torch.arange(3))


def whole(film):
    """Frames as arrays [B, frames, h, w, 3] in 0 to 255, asserting that they are whole numbers."""
    scaled = film.double().permute(0, 1, 3, 4, 2).numpy() * 255
    assert np.abs(scaled - scaled.round()).max() < 1e-4
    return scaled.round()


def picture(batch, i=0):
    return whole(batch.pixels[i, None, None])[0, 0]


def smooth(size=64):
    """Two broad bumps of light on black, no edges: where interpolations agree."""
    y, x = np.mgrid[:size, :size] / size
    one = np.exp(-((x - 0.55) ** 2 + (y - 0.4) ** 2) / 0.02)
    other = 0.7 * np.exp(-((x - 0.35) ** 2 + (y - 0.6) ** 2) / 0.01)
    pixels = torch.from_numpy(np.stack([one, other, (one + other) / 2])).float().clamp(0, 1)
    pixels = (pixels * 255).round() / 255
    return Batch(pixels[None], ("smooth",), torch.arange(1))


@pytest.mark.parametrize("name", sequences.NAMES)
def test_a_sequence_has_its_frames_and_depends_on_the_image_alone(name, batch):
    film = sequences.sequence(batch, name)
    assert film.shape == (3, 31, 3, 64, 64)
    whole(film)
    turned = Batch(batch.pixels.flip(0), batch.ids[::-1], batch.index.flip(0))
    assert torch.equal(sequences.sequence(turned, name).flip(0), film)
    alone = Batch(batch.pixels[1:2], batch.ids[1:2], batch.index[1:2])
    assert torch.equal(sequences.sequence(alone, name)[0], film[1])
    some = sequences.sequence(batch, name, frames=5, start=12)
    assert torch.equal(some, film[:, 12:17]), "fewer frames are some of the whole sequence"
    # The first where the image is the first frame, else those in the middle.
    first = name in ("gaussian_noise", "shot_noise", "zoom_blur")
    start = 0 if first else 7
    assert torch.equal(sequences.sequence(batch, name, 16), film[:, start : start + 16])
    if first:
        assert torch.equal(film[:, 0], batch.pixels)
    if name not in sequences.NOISES:  # neighbouring frames differ less than distant ones
        near = (film[:, 1:] - film[:, :-1]).abs().mean()
        assert near < (film[:, 15:] - film[:, :-15]).abs().mean() / 2


@pytest.mark.parametrize(("size", "scale"), [(32, 0.02), (64, 0.025), (224, 0.03)])
def test_gaussian_noise_is_new_in_each_frame_and_has_the_released_strength(size, scale):
    grey = Batch(torch.full((1, 3, size, size), 128 / 255), ("grey",), torch.arange(1))
    noise = whole(sequences.sequence(grey, "gaussian_noise", 9))[0, 1:] - 128
    assert noise.std() / 255 == pytest.approx(scale, rel=0.02)
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05


@pytest.mark.parametrize(("size", "photons"), [(32, 700), (64, 500), (224, 300)])
def test_shot_noise_varies_as_the_mean_does(size, photons):
    for level in (51, 128):
        grey = Batch(torch.full((1, 3, size, size), level / 255), ("grey",), torch.arange(1))
        shown = whole(sequences.sequence(grey, "shot_noise", 9))[0, 1:] / 255
        assert shown.mean() == pytest.approx(level / 255, abs=0.001)
        # Rounding 500ths to 256ths adds up to 4 % of variance.
        assert shown.var() == pytest.approx(level / 255 / photons, rel=0.06)


@pytest.mark.parametrize("angle", [-118, -76, -44, -4, 0, 37])
def test_motion_blur_is_the_librarys(angle, batch):
    for radius, sigma in [(10, 3), (14, 4)]:
        ours = sequences.motion_blur(batch.pixels.double(), radius, sigma, angle)
        theirs = library._motion_blur(
            batch.pixels[0].permute(1, 2, 0).numpy(), radius, sigma, angle
        )
        assert np.abs(ours[0].permute(1, 2, 0).numpy() - theirs).max() < 1e-5


def test_motion_blur_turns_by_four_degrees_a_frame(batch):
    film = whole(sequences.sequence(batch, "motion_blur"))
    for i in (0, 7, 30):
        blurred = sequences.motion_blur(batch.pixels, 10, 3, (i - 30) * 4)
        assert np.abs(film[:, i] - blurred.permute(0, 2, 3, 1).numpy() * 255).max() <= 0.5 + 1e-3


def test_translation_is_by_whole_pixels_onto_black(batch):
    film, still = whole(sequences.sequence(batch, "translate")), picture(batch)
    assert np.array_equal(film[0, 15], still)
    assert np.array_equal(film[0, 22][:, 7:], still[:, :-7])
    assert (film[0, 22][:, :7] == 0).all()
    assert np.array_equal(film[0, 3][:, :-12], still[:, 12:])
    assert (film[0, 3][:, -12:] == 0).all()


def test_rotation_is_scipys():
    film = whole(sequences.sequence(smooth(), "rotate"))[0]
    still = picture(smooth())
    for i in (0, 8, 20, 30):
        turned = scipy.ndimage.rotate(still, 15 - i, reshape=False, order=1)
        assert np.abs(film[i] - turned).max() < 2
    assert np.array_equal(film[15], still)


def test_what_is_turned_leaves_black_corners():
    white = Batch(torch.ones(1, 3, 64, 64), ("white",), torch.arange(1))
    film = whole(sequences.sequence(white, "rotate"))[0]
    assert (film[0][0, 0] == 0).all()
    assert (film[15] == 255).all()


def test_scale_is_pillows_about_the_centre():
    film, still = whole(sequences.sequence(smooth(), "scale"))[0], picture(smooth())
    image = Image.fromarray(still.astype(np.uint8))
    for i in (0, 12, 30):
        s = 0.4 + 0.025 * i
        shift = 32 - 32 / s  # Pillow maps from the result to the image
        matrix = (1 / s, 0, shift, 0, 1 / s, shift)
        scaled = image.transform(
            (64, 64), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
        )
        assert np.abs(film[i] - np.array(scaled)).max() <= 3
    assert np.array_equal(film[24], still)


def test_zoom_blur_is_the_mean_of_the_zooms_so_far():
    still = picture(smooth())
    film = whole(sequences.sequence(smooth(), "zoom_blur"))[0]
    zooms = [still]
    for i in range(1, 31):
        s = 1 + 0.004 * i
        # Pixel centres are at whole numbers plus a half.
        offset = np.array([31.5 - 31.5 / s] * 2 + [0])
        zooms.append(scipy.ndimage.affine_transform(still, [1 / s, 1 / s, 1], offset, order=1))
        if i in (1, 10, 30):
            assert np.abs(film[i] - np.mean(zooms, 0)).max() < 1.5


@pytest.mark.parametrize("i", [0, 9, 24, 30])
def test_tilt_moves_a_point_as_a_camera_sees_it(i):
    pixels = torch.zeros(1, 3, 64, 64)
    pixels[..., 49:52, 9:12] = 1  # a patch around (10.5, 50.5)
    dot = Batch(pixels, ("dot",), torch.arange(1))
    seen = whole(sequences.sequence(dot, "tilt"))[0, i, ..., 0]
    weights = seen / seen.sum()
    y, x = (weights * (np.mgrid[:64, :64] + 0.5)).sum((1, 2))
    a, f = np.deg2rad(i - 15), 64 * np.sqrt(2)
    turn_y = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])
    turn_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    place = turn_x @ turn_y @ np.array([10.5 - 32, 50.5 - 32, 1])
    expected = 32 + f * place[:2] / (place[2] + f)
    assert [x, y] == pytest.approx(expected, abs=0.35)


def test_brightness_adds_to_the_value_of_hsv(batch):
    film, still = whole(sequences.sequence(batch, "brightness"))[0], picture(batch)
    assert np.array_equal(film[15], still)
    for i in (0, 11, 30):
        for y, x in [(0, 0), (20, 31), (32, 32), (40, 25)]:
            h, s, v = colorsys.rgb_to_hsv(*still[y, x] / 255)
            lit = min(max(v + (i - 15) * 0.02, 0), 1)
            assert np.abs(film[i, y, x] - np.array(colorsys.hsv_to_rgb(h, s, lit)) * 255).max() <= 1


def test_black_is_brightened_to_grey():
    black = Batch(torch.zeros(1, 3, 64, 64), ("black",), torch.arange(1))
    film = whole(sequences.sequence(black, "brightness"))[0]
    assert (film[:16] == 0).all()
    assert (film[30] == round(0.3 * 255)).all()


@pytest.mark.parametrize(
    ("size", "setting"), [(32, (0.3, 2, 10, 2)), (64, (0.28, 2, 10, 2.5)), (224, (0.3, 3, 14, 4))]
)
def test_snow_is_the_released_recipe(size, setting):
    """The recipe in NumPy, SciPy and the corruption library's motion blur."""
    scale, zoom, radius, sigma = setting
    x = np.random.default_rng(0).random((size, size, 3)).astype("f4")
    shown = Batch(torch.from_numpy(x).permute(2, 0, 1)[None], ("one",), torch.arange(1))
    film = whole(sequences.sequence(shown, "snow", seed=4))[0]
    layer = generator("sequence", "snow", 4, "one").normal(size=(1, size, size))[0]
    layer = 0.05 + scale * layer
    part = -(-size // zoom)
    top = (size - part) // 2
    layer = scipy.ndimage.zoom(layer[top : top + part, top : top + part], zoom, order=1)
    trim = (len(layer) - size) // 2
    layer = layer[trim : trim + size, trim : trim + size].copy()
    layer[layer < 0.5] = 0
    layer = np.clip(layer, 0, 1)
    grey = x @ np.array([0.299, 0.587, 0.114])
    pale = 0.85 * x + 0.15 * np.maximum(x, grey[..., None] * 1.5 + 0.5)
    for i in (1, 13, 29):  # not at 150 and 30 degrees, where ties may be rounded either way
        falling = library._motion_blur(layer, radius, sigma, i * 4 - 150)[..., None]
        expected = np.clip(pale + falling + np.rot90(falling, 2), 0, 1) * 255
        assert np.abs(film[i] - expected).max() <= 0.6


def test_nonsense_is_refused(batch):
    with pytest.raises(ValueError, match=r"unknown perturbation 'rotation'; nearest: rotate"):
        sequences.sequence(batch, "rotation")
    for frames, start in [(1, None), (32, None), (16, 20), (5, -1)]:
        with pytest.raises(ValueError, match=f"got {frames} from"):
            sequences.sequence(batch, "tilt", frames, start=start)


def test_at_32_px_steps_and_ranges_are_cifar_10_ps():
    """The settings of make_cifar_p.py, against each perturbation written out."""
    small = smooth(32)
    still = picture(small)
    film = {name: whole(sequences.sequence(small, name))[0] for name in sequences.NAMES}
    blurred = sequences.motion_blur(small.pixels, 6, 1.8, 9 * (20 - 30))[0]
    assert np.abs(film["motion_blur"][20] - blurred.permute(1, 2, 0).numpy() * 255).max() < 0.51
    for i in (0, 30):
        for y, x in [(3, 5), (16, 16)]:
            h, s, v = colorsys.rgb_to_hsv(*still[y, x] / 255)
            lit = min(max(v + (i - 15) * 0.015, 0), 1)
            expected = np.array(colorsys.hsv_to_rgb(h, s, lit)) * 255
            assert np.abs(film["brightness"][i, y, x] - expected).max() <= 1
    assert (film["scale"][0][:4] == 0).all(), "70 % of the size leaves 4.8 rows black"
    assert (film["scale"][0][6:-6, 6:-6] > 0).any()
    assert np.array_equal(film["scale"][15], still)
    small_tilt = np.abs(film["tilt"][0] - still).mean()
    large_tilt = np.abs(whole(sequences.sequence(smooth(33), "tilt"))[0][0] - picture(smooth(33)))
    assert small_tilt < large_tilt.mean(), "three quarters of the angle"
