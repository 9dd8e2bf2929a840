import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest
from torch import nn
from torch.nn.functional import cross_entropy

from vitlab.attacks import cell

IDS = [f"image{i}" for i in range(400)]


def test_cells_are_uniform_and_no_cell_comes_twice():
    cells = cell.drawn(IDS, 3, 2, 1)
    assert cells.shape == (400, 2)
    assert (cells[:, 0] != cells[:, 1]).all()
    for column in cells.T:
        assert chisquare(np.bincount(column, minlength=9)).pvalue > 1e-3
    assert (cell.drawn(IDS, 3, 9).sort(1).values == torch.arange(9)).all()


def test_cells_and_noise_depend_on_image_and_seed_alone():
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    for draw in (
        lambda ids, seed: cell.drawn(ids, 4, 3, seed),
        lambda ids, seed: cell.noise(ids, 8, seed),
    ):
        made = draw(IDS, 1)
        assert torch.equal(made, torch.cat([draw([name], 1) for name in IDS]))
        assert torch.equal(made.flip(0), draw(IDS[::-1], 1))
        assert not torch.equal(made, draw(IDS, 2))
    assert torch.equal(cell.drawn(IDS, 4, 2), cell.drawn(IDS, 4, 3)[:, :2])
    assert torch.equal(torch.get_rng_state(), state[0])
    assert (np.random.get_state()[1] == state[1]).all()


def test_noise_is_uniform():
    made = cell.noise(IDS[:20], 16)
    assert made.shape == (20, 3, 16, 16)
    assert kstest(made.flatten(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize(("grid", "count"), [(4, 0), (4, 17), (2, 5)])
def test_a_grid_has_so_many_cells(grid, count):
    with pytest.raises(ValueError, match=f"has {grid**2} cells, {count} were asked for"):
        cell.drawn(IDS, grid, count)


def test_the_pixels_of_a_cell_by_a_loop():
    grid, size = 3, 12
    cells = torch.tensor([[0, 5], [7, 2]])
    found = cell.inside(cells, grid, size)
    assert found.shape == (2, 2, 1, size, size)
    for row in range(2):
        for column in range(2):
            down, right = divmod(int(cells[row, column]), grid)
            wanted = torch.zeros(size, size, dtype=torch.bool)
            wanted[down * 4 : down * 4 + 4, right * 4 : right * 4 + 4] = True
            assert torch.equal(found[row, column, 0], wanted)
    assert (cell.inside(torch.arange(9), 3, 12).sum(0) == 1).all()  # they tile the image


def test_what_is_no_grid_is_refused():
    with pytest.raises(ValueError, match="5 x 5 cells does not divide 12 pixels"):
        cell.inside(torch.tensor([0]), 5, 12)
    with pytest.raises(ValueError, match="cells go from 0 to 9, a grid of 3 x 3 has 9"):
        cell.inside(torch.tensor([0, 9]), 3, 12)


@pytest.fixture(scope="module")
def some():
    """A small network in float64, images that it gets right or wrong, cells, starts."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, 2), nn.Tanh(), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(16, 4)
    ).double()
    pixels = torch.rand(7, 3, 9, 9, dtype=torch.double)
    labels = net(pixels).argmax(1)
    labels[3] = (labels[3] + 1) % 4
    where = cell.inside(cell.drawn(IDS[:7], 3, 4), 3, 9)
    return net, pixels, labels, where, cell.noise(IDS[:7], 9).double()


def released(net, image, label, mask, start, steps, alpha):
    """One pair at a time, as the released code: x (1 - m) + delta m, until the decision changes."""
    mask, delta = mask.double(), start.clone()
    for step in range(steps + 1):
        delta.requires_grad_(True)
        shown = image * (1 - mask) + delta * mask
        scores = net(shown[None])
        if scores.argmax() != label:
            return shown.detach(), step
        if step < steps:
            [slope] = torch.autograd.grad(cross_entropy(scores, label[None]), delta)
            delta = (delta.detach() + alpha * slope.sign()).clamp(0, 1)
    return shown.detach(), steps + 1


@pytest.mark.parametrize("at_once", [1, 5, 64])
def test_the_attack_is_the_released_loop(some, at_once):
    net, pixels, labels, where, start = some
    kept = [tensor.clone() for tensor in (pixels, labels, where, start)]
    found = cell.attack(net, pixels, labels, where, start, 12, 0.05, at_once)
    steps = set()
    for i in range(7):
        for j in range(4):
            wanted, step = released(net, pixels[i], labels[i], where[i, j], start[i], 12, 0.05)
            assert torch.allclose(found.pixels[i, j], wanted, atol=1e-12)
            assert found.step[i, j] == step
            steps.add(step)
    assert len(steps) > 3
    assert {0, 13} <= steps  # at once, never
    assert all(map(torch.equal, kept, (pixels, labels, where, start)))


def test_nothing_but_the_cell_changes_and_noise_is_no_step(some):
    net, pixels, labels, where, start = some
    found = cell.attack(net, pixels, labels, where, start, 3).pixels
    changed = (found != pixels[:, None]).any(2, keepdim=True)
    assert not (changed & ~where).any()
    bare = cell.attack(net, pixels, labels, where, start, 0)
    assert torch.equal(bare.pixels, torch.where(where, start[:, None], pixels[:, None]))
    wrong = net(bare.pixels.flatten(0, 1)).argmax(1).view(7, 4) != labels[:, None]
    assert torch.equal(bare.step, (~wrong).long())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"steps": -1}, "steps >= 0"),
        ({"step_size": 2}, "step size in 0..1"),
        ({"at_once": 0}, "at_once >= 1"),
        ({"labels": torch.zeros(3, dtype=torch.long)}, "7 images need as many labels"),
        ({"labels": torch.full((7,), 9)}, "labels go from 9 to 9, the model has 4"),
        ({"start": torch.zeros(7, 3, 8, 8)}, "starts of their shape"),
        ({"start": torch.full((7, 3, 9, 9), 2.0)}, "pixels are in"),
        ({"where": torch.ones(7, 4, 1, 9, 9)}, "masks are torch.float32"),
        ({"where": torch.ones(7, 4, 1, 8, 9, dtype=torch.bool)}, r"masks are torch.bool \[7, 4,"),
        ({"logits": lambda x: torch.full((len(x), 4), torch.nan)}, "NaN or infinity"),
    ],
)
def test_what_cannot_be_attacked_is_refused(some, change, why):
    names = "logits", "pixels", "labels", "where", "start"
    given = dict(zip(names, some, strict=True)) | {"steps": 2} | change
    with pytest.raises(ValueError, match=why):
        cell.attack(**given)
