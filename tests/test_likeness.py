import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from vitlab.stimuli import likeness
from vitlab.stimuli import scenes as stimuli


def _noise(slope, count=200, side=32):
    """Pictures of noise whose power falls as frequency ** slope, made by another way: by sines."""
    rng = np.random.default_rng(0)
    along = np.fft.fftfreq(side)
    frequency = np.hypot(along[:, None], along[None])
    frequency[0, 0] = 1
    white = np.fft.fft2(rng.standard_normal((count, side, side)))
    return np.fft.ifft2(white * frequency ** (slope / 2)).real


@pytest.mark.parametrize("slope", [-3.0, -2.0, 0.0])
def test_the_slope_of_noise_is_the_one_it_was_made_with(slope):
    assert likeness.spectrum_slope(_noise(slope)) == pytest.approx(slope, abs=0.15)


def test_luma_and_contrast_of_a_picture_of_two_halves():
    picture = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    picture[:, 1, :, 32:] = 255  # black and green
    grey = likeness.luma(picture)
    assert grey.shape == (1, 32, 32)
    assert grey.mean() == pytest.approx(0.587 / 2)
    assert likeness.contrast(grey)[0] == pytest.approx(0.587 / 2)
    histogram = likeness.contrast_histogram(grey)
    assert histogram.sum() == pytest.approx(1)
    assert histogram[14] == 1  # 0.28 to 0.30
    assert likeness.middle_over_rim(grey)[0] == pytest.approx(0)


def test_a_bright_square_in_the_middle_is_seen_and_measured():
    picture = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    picture[:, :, 8:24, 8:24] = 255
    picture[1] = 255 - picture[1]
    apart = likeness.middle_over_rim(likeness.luma(picture))
    assert apart == pytest.approx([1 / np.sqrt(0.25 * 0.75), -1 / np.sqrt(0.25 * 0.75)])
    assert likeness.area_unlike_rim(picture) == pytest.approx([0.25, 0.25])


def test_masks_tell_polarity_and_area():
    picture = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    picture[0, :, :, :8] = 200
    picture[1, :, :, 8:] = 200
    mask = torch.zeros(2, 32, 32)
    mask[:, :, :8] = 1
    told = likeness.objects(picture, mask)
    assert told == {"objects brighter than their ground": 0.5, "area of the object, median": 0.25}


def test_natural_stimuli_are_as_like_photographs_as_was_asked():
    pictures, masks = stimuli.render([stimuli.describe("validation", i) for i in range(960)])
    table = likeness.compared(pictures, masks).set_index("statistic")
    bounded = table.dropna(subset=["least", "most"])
    assert len(bounded) == 9
    assert bounded["stimuli"].between(bounded["least"], bounded["most"]).all(), bounded
    # Beside whom: the same photographs give the bounds that the page of methods names.
    assert table.loc["spectrum slope", "most"] - table.loc["spectrum slope", "least"] == (
        pytest.approx(0.6)
    )


@pytest.mark.real
def test_the_photographs_statistics_are_cifar_10s(real):
    with tarfile.open(real / "cifar-10" / "cifar-10-jpeg.tar.xz") as archive:
        files = [archive.extractfile(m) for m in archive if m.isfile() and "test" in m.name]
        pictures = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    assert pictures.shape == (10_000, 32, 32, 3)
    pictures = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    kept, again = likeness.photographs(), likeness.measured(pictures)
    assert again["statistics"] == pytest.approx(kept["statistics"], abs=1e-4)
    assert again["contrast histogram"] == pytest.approx(kept["contrast histogram"], abs=1e-4)
