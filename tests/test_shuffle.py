import itertools

import pytest
import torch

from vitlab.conditions import Batch, shuffle
from vitlab.models import ARCHITECTURES, load


def batch(n=6, size=16, seed=0):
    pixels = torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))
    return Batch(pixels, tuple(f"image{i}" for i in range(n)), torch.arange(n))


def cells_of(image, rows, columns):
    h, w = image.shape[-2] // rows, image.shape[-1] // columns
    return [
        image[:, r * h : (r + 1) * h, c * w : (c + 1) * w]
        for r, c in itertools.product(range(rows), range(columns))
    ]


@pytest.mark.parametrize("grid", [(2, 2), (2, 4), (4, 8), (16, 16)])
def test_shuffle_is_a_loop_over_cells(grid):
    rows, columns = grid
    pixels = batch().pixels
    permutations = torch.stack([torch.randperm(rows * columns) for _ in range(6)])
    shown = shuffle.shuffle(pixels, permutations, grid)
    for i in range(6):
        before, after = cells_of(pixels[i], *grid), cells_of(shown[i], *grid)
        for place, cell in enumerate(permutations[i].tolist()):
            assert torch.equal(after[place], before[cell])


def test_the_inverse_permutation_gives_the_image_back():
    pixels = batch().pixels
    permutations = torch.stack([torch.randperm(16) for _ in range(6)])
    there = shuffle.shuffle(pixels, permutations, (4, 4))
    assert torch.equal(shuffle.shuffle(there, permutations.argsort(1), (4, 4)), pixels)


def test_levels_count_cells():
    assert [c.level for c in shuffle.random([(1, 1), (2, 4), (16, 16)])] == [1, 8, 256]


def test_permutations_are_uniform():
    # 2,400 images, 24 orders of four cells: 100 of each on average, standard deviation 9.8
    pixels = torch.arange(4.0).view(1, 1, 2, 2).expand(2400, 3, 2, 2)
    ids = tuple(f"image{i}" for i in range(2400))
    [condition] = shuffle.random([(2, 2)])
    shown = condition.apply(Batch(pixels, ids, torch.arange(2400)))[:, 0].flatten(1)
    orders, counts = shown.unique(dim=0, return_counts=True)
    assert len(orders) == 24
    assert (counts - 100).abs().max() < 5 * 9.8


def test_as_released_one_permutation_serves_256_images():
    pixels = torch.rand(1, 3, 8, 8).expand(600, -1, -1, -1)
    [condition] = shuffle.random([(4, 4)], shared=True)
    shown = condition.apply(Batch(pixels, tuple(map(str, range(600))), torch.arange(600)))
    orders = [row.numpy().tobytes() for row in shown]
    assert len(set(orders[:256])) == len(set(orders[256:512])) == 1
    assert len(set(orders)) == 3


def test_a_vit_without_positions_does_not_see_a_shuffle_of_its_patches():
    model = load("mini/vit-0")
    model.net.pos_embed.data.zero_()
    whole = batch(3, 64)
    [patches, finer] = shuffle.random([(8, 8), (16, 16)])
    before, after, cut = (
        model.logits(pixels) for pixels in (whole.pixels, patches.apply(whole), finer.apply(whole))
    )
    assert torch.allclose(before, after, atol=1e-4)
    assert not torch.allclose(before, cut, atol=1e-2)


def test_a_vit_built_without_positions_sees_no_shuffle_of_whole_patches():
    # every grid whose cells hold whole patches moves whole patches; a finer one cuts them
    torch.manual_seed(0)
    net = ARCHITECTURES["vit-no-position"]().eval()
    whole = batch(3, 64).pixels
    with torch.inference_mode():
        before = net(whole)
        for condition in shuffle.random([(2, 2), (2, 4), (4, 8), (8, 8)]):
            assert torch.allclose(before, net(condition.apply(batch(3, 64))), atol=1e-5)
        [finer] = shuffle.random([(16, 16)])
        assert (before - net(finer.apply(batch(3, 64)))).abs().max() > 1e-3
