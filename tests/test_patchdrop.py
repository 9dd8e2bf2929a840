import itertools

import numpy as np
import pytest
import torch

from vitlab.conditions import Batch, patchdrop
from vitlab.rng import generator


def batch(n=6, size=16, seed=0):
    pixels = torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed)) + 0.1
    return Batch(pixels, tuple(f"image{i}" for i in range(n)), torch.arange(n))


def test_drop_is_a_loop_over_cells():
    pixels = batch().pixels
    dropped = torch.rand(6, 4, 2) < 0.5
    expected = pixels.clone()
    for i, r, c in itertools.product(range(6), range(4), range(2)):
        if dropped[i, r, c]:
            expected[i, :, 4 * r : 4 * r + 4, 8 * c : 8 * c + 8] = 0
    assert torch.equal(patchdrop.drop(pixels, dropped), expected)


def test_an_offset_shifts_the_mask_and_leaves_the_first_rows_and_columns():
    pixels = batch().pixels
    all_cells = torch.ones(6, 4, 4, dtype=torch.bool)
    shown = patchdrop.drop(pixels, all_cells, offset=2)
    expected = pixels.clone()
    expected[:, :, 2:, 2:] = 0
    assert torch.equal(shown, expected)


@pytest.mark.parametrize("cells", [16, 49, 64, 196, 224 * 224])
def test_counts_are_those_of_the_released_code(cells):
    assert [patchdrop.count(k / 10, cells) for k in range(10)] == [
        k * cells // 10 for k in range(10)
    ]


def test_random_masks_have_the_count_are_uniform_and_nested():
    keys = [(0, 0, f"image{i}") for i in range(2000)]
    low, high = (patchdrop.random_cells(keys, (4, 4), level) for level in (0.25, 0.5))
    assert (low.sum((1, 2)) == 4).all()
    assert (high.sum((1, 2)) == 8).all()
    assert (high | ~low).all(), "a lower level drops cells that a higher one shows"
    # each cell is dropped in a quarter of 2000 masks: 500 with standard deviation 19
    assert (low.float().sum(0) - 500).abs().max() < 5 * 19.4


@pytest.mark.parametrize("key", [(0, 3, "image7"), (1, 3), (True, 3), (np.int64(1), 3)])
def test_the_cells_dropped_are_the_first_of_the_keys_permutation(key):
    order = generator("patchdrop", *key, 12).permutation(12)
    for level, dropped in ((0, 0), (0.3, 3), (0.5, 6), (1, 12)):
        [cells] = patchdrop.random_cells([key], (3, 4), level)
        assert sorted(cells.flatten().nonzero()[:, 0].tolist()) == sorted(order[:dropped])


def test_all_levels_of_an_image_come_from_one_draw(monkeypatch):
    drawn = []
    noted = lambda *key: drawn.append(key) or generator(*key)  # noqa: E731
    monkeypatch.setattr(patchdrop, "generator", noted)
    for condition in patchdrop.random([0.2, 0.5, 0.8], (4, 4), seed=7, draws=2):
        condition.apply(batch())
    assert len(drawn) == len(set(drawn)) == 6 * 2


def test_as_released_one_mask_serves_256_images():
    pixels = torch.ones(600, 3, 8, 8)
    [condition] = patchdrop.random([0.5], (4, 4), shared=True)
    shown = condition.apply(Batch(pixels, tuple(map(str, range(600))), torch.arange(600)))
    masks = [row.numpy().tobytes() for row in shown[:, 0]]
    assert len(set(masks[:256])) == len(set(masks[256:512])) == 1
    assert len(set(masks)) == 3


def test_top_cells_are_the_smallest_set_that_holds_the_share():
    saliency = torch.rand(20, 3, 3, generator=torch.Generator().manual_seed(1))
    for share in (0.1, 0.3, 0.5, 0.8):
        chosen = patchdrop.top_cells(saliency, share)
        for i in range(20):
            values = (saliency[i] / saliency[i].sum()).flatten().numpy()
            descending = np.sort(values)[::-1]
            smallest = int(np.argmax(np.cumsum(descending) >= share - 1e-9)) + 1
            assert chosen[i].sum() == smallest
            assert values[chosen[i].flatten().numpy()].sum() >= share - 1e-6


def test_salient_and_rest_are_complements():
    whole = batch()
    saliency = torch.rand(6, 4, 4)
    [salient] = patchdrop.salient([0.4], saliency)
    [rest] = patchdrop.salient([0.4], saliency, keep=True, name="rest")
    assert torch.allclose(salient.apply(whole) + rest.apply(whole), whole.pixels)


def test_object_share_is_the_mean_over_each_cell():
    masks = torch.rand(3, 8, 8)
    share = patchdrop.object_share(masks, (4, 2))
    for i, r, c in itertools.product(range(3), range(4), range(2)):
        expected = masks[i, 2 * r : 2 * r + 2, 4 * c : 4 * c + 4].mean()
        assert share[i, r, c] == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("wrong", [{"offset": 64}, {"offset": -1}, {"fill": 7}, {"fill": -0.1}])
def test_a_mask_that_would_drop_nothing_or_no_grey_is_refused(wrong):
    with pytest.raises(ValueError, match="offset is 0 to 63 pixels here, and fill 0 to 1; got"):
        patchdrop.drop(torch.rand(1, 3, 64, 64), torch.ones(1, 8, 8, dtype=torch.bool), **wrong)
    with pytest.raises(ValueError, match="7 x 7 cells do not divide 64 x 64"):
        patchdrop.drop(torch.rand(1, 3, 64, 64), torch.ones(1, 7, 7, dtype=torch.bool))


def test_a_map_of_infinity_has_no_top_cells():
    maps = torch.tensor([[[float("inf"), 1.0], [1, 1]]])
    with pytest.raises(ValueError, match="nor infinity"):
        patchdrop.top_cells(maps, 0.5)
    with pytest.raises(ValueError, match="a share is 0 to 1, not per cent; got 50"):
        patchdrop.top_cells(torch.ones(1, 2, 2), 50)
