import numpy as np
import pytest
import torch

from vitlab.conditions import Batch, cutout


def batch(n=6, size=32, seed=0):
    pixels = torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed)) + 0.1
    return Batch(pixels, tuple(f"image{i}" for i in range(n)), torch.arange(n))


def names(n):
    return tuple(f"image{i}" for i in range(n))


@pytest.mark.parametrize(("factor", "as_released"), [(0.2, False), (0.2, True), (1, False)])
def test_a_hole_is_black_and_the_rest_untouched(factor, as_released):
    whole = batch()
    [condition] = cutout.random([factor], as_released=as_released)
    expected = whole.pixels.clone().numpy()
    for image, found in zip(
        expected, cutout.holes(whole.ids, factor, 32, as_released=as_released), strict=True
    ):
        top, left, bottom, right = found.tolist()
        image[:, top:bottom, left:right] = 0
    assert np.array_equal(condition.apply(whole).numpy(), expected)
    assert condition.level == factor


def test_sides_are_those_of_the_notebooks():
    # int(np.sqrt(224 * 224 * factor)), by hand: 50.09, 70.8, 100.2, 158.4
    assert [cutout.side(f, 224) for f in (0.05, 0.1, 0.2, 0.5)] == [50, 70, 100, 158]
    assert cutout.side(0.25, 64) == 32
    assert cutout.side(0, 64) == 0
    assert cutout.side(1, 64) == 64


def test_whole_holes_lie_inside_everywhere_and_cover_their_share():
    ids = names(4000)
    found = cutout.holes(ids, 0.5, 16)  # a side of 11: six places each way
    top, left, bottom, right = found.T
    assert (bottom - top == 11).all()
    assert (right - left == 11).all()
    assert torch.allclose(cutout.share(found, 16), torch.tensor(121 / 256))
    counts = torch.stack([(top == r) & (left == c) for r in range(6) for c in range(6)]).sum(1)
    # 36 places, 111 holes each on average, standard deviation 10.4
    assert counts.sum() == 4000
    assert (counts - 4000 / 36).abs().max() < 5 * 10.4


def test_released_holes_are_cutouts():
    # all centres that Albumentations' random.randint(0, size) can draw, each as likely
    size, length = 16, cutout.side(0.5, 16)
    spans = []
    for centre in range(size + 1):
        first = int(np.clip(centre - length // 2, 0, size))
        spans.append((first, int(np.clip(first + length, 0, size))))
    found = cutout.holes(names(6000), 0.5, size, as_released=True)
    rows = [tuple(row) for row in found[:, [0, 2]].tolist()]
    columns = [tuple(row) for row in found[:, [1, 3]].tolist()]
    for drawn in (rows, columns):
        assert set(drawn) == set(spans)
        for span in set(spans):
            expected = 6000 * spans.count(span) / (size + 1)
            assert abs(drawn.count(span) - expected) < 5 * np.sqrt(expected)
    shares = cutout.share(found, size)
    expected = (np.mean([b - a for a, b in spans]) / size) ** 2
    assert shares.max() <= 0.5
    assert float(shares.mean()) == pytest.approx(expected, abs=5 * float(shares.std()) / 77)


def test_a_smaller_hole_and_another_size_keep_the_place():
    small, large = (cutout.holes(names(50), f, 64) for f in (0.05, 0.5))
    assert (small[:, :2] >= large[:, :2]).all()
    assert (small[:, 2:] <= large[:, 2:]).all()
    other = cutout.holes(names(50), 0.05, 256)
    assert ((other / 256 - small / 64).abs() < 0.04).all()
