"""Attacks that are tried on other models, and the modules that refine what a ViT's blocks say."""

import pytest
import torch
from torch.nn import functional as F

from vitlab import images as data
from vitlab.attacks import gradient, transfer
from vitlab.inside import refinement, tokens
from vitlab.models import load
from vitlab.rng import generator
from vitlab.training import refining

RADIUS = 8 / 255


@pytest.fixture(scope="module")
def shown():
    model, images = load("mini/vit-0"), data.load("stimuli", n=4)
    return model, images, tokens.pixel_stack(model, images), images.labels


def linear(heads=3, side=4):
    """Some linear classifiers of images, as heads; images away from 0 and 1, labels, ids."""
    made = torch.Generator().manual_seed(0)
    weights = torch.randn(heads, 5, 3 * side * side, generator=made)
    pixels = 0.3 + 0.4 * torch.rand(6, 3, side, side, generator=made)
    labels = torch.randint(5, (6,), generator=made)

    def ask(x):
        return [x.flatten(1) @ w.T for w in weights]

    return ask, pixels, labels, [f"image {i}" for i in range(6)]


def test_with_one_head_one_step_is_fgsm_and_ten_are_pgd(shown):
    model, _, pixels, labels = shown

    def heads(x):
        return [model.logits(x)]

    one = gradient.fgsm(model.logits, pixels, labels, RADIUS).pixels
    assert torch.equal(transfer.fgsm(heads, pixels, labels, RADIUS), one)
    ten = gradient.pgd(model.logits, pixels, labels, RADIUS, 10, RADIUS / 8).pixels
    assert torch.equal(transfer.pgd(heads, pixels, labels, RADIUS), ten)


@pytest.mark.parametrize("diverse", [False, True])
def test_with_several_heads_the_loss_is_their_sum_written_out(diverse):
    heads, pixels, labels, ids = linear()
    steps, step = 4, RADIUS / 4
    expected = []
    for i, image in enumerate(pixels):
        x, total = image[None].clone(), torch.zeros_like(image[None])
        for k in range(steps):
            x.requires_grad_(True)
            seen = by_interpolation(x, ids[i], k, 7) if diverse else x
            parts = [-one.log_softmax(1)[0, labels[i]] for one in heads(seen)]
            (slope,) = torch.autograd.grad(parts[0] + parts[1] + parts[2], x)
            total = total + slope / slope.abs().mean()
            x = (x.detach() + step * total.sign()).clamp(0, 1)
        expected.append(x[0])
    if diverse:
        found = transfer.dim(heads, pixels, labels, RADIUS, ids, steps, seed=7)
    else:
        found = transfer.mim(heads, pixels, labels, RADIUS, steps)
    assert torch.allclose(found, torch.stack(expected), atol=1e-6)
    alone = transfer.mim(lambda x: heads(x)[-1:], pixels, labels, RADIUS, steps)
    assert not torch.allclose(alone, found)


def by_interpolation(image, image_id, step, seed):
    """One image [1, 3, h, w] as the released code changes it, with the same random numbers."""
    size = image.shape[-1]
    largest = round(size * 256 / 224)
    draw = generator("resize and pad", seed, step, image_id)
    side = int(draw.integers(size, largest + 1))
    top, left = (int(place) for place in draw.integers(largest - side + 1, size=2))
    around = (left, largest - side - left, top, largest - side - top)
    square = F.pad(F.interpolate(image, (side, side), mode="nearest"), around)
    return F.interpolate(square, (size, size), mode="nearest")


@pytest.mark.parametrize("size", [32, 64, 224])
def test_resizing_and_padding_is_torchs_image_by_image(size):
    pixels = torch.rand(5, 3, size, size, generator=torch.Generator().manual_seed(1))
    ids = list("abcde")
    found = transfer.resized_and_padded(pixels, ids, step=2, seed=3)
    each = [by_interpolation(p[None], name, 2, 3) for p, name in zip(pixels, ids, strict=True)]
    assert torch.equal(found, torch.cat(each))
    assert not torch.equal(found, transfer.resized_and_padded(pixels, ids, step=3, seed=3))
    with pytest.raises(ValueError, match="5, 3"):
        transfer.resized_and_padded(pixels, ids[:4])


def test_attacks_stay_in_the_ball_and_depend_on_no_batch():
    heads, pixels, labels, ids = linear()
    edge = (2 * pixels - 0.5).clamp(0, 1)
    for radius in (0.02, 0.4):
        found = {
            "fgsm": transfer.fgsm(heads, edge, labels, radius),
            "pgd": transfer.pgd(heads, edge, labels, radius),
            "mim": transfer.mim(heads, edge, labels, radius),
            "dim": transfer.dim(heads, edge, labels, radius, ids),
        }
        for attacked in found.values():
            assert 0 <= attacked.min() <= attacked.max() <= 1
            assert (attacked - edge).abs().max() <= radius + 1e-6
        order = [4, 1]
        some = transfer.dim(heads, edge[order], labels[order], radius, [ids[i] for i in order])
        assert torch.allclose(some, found["dim"][order])


def test_no_slope_moves_nothing_and_nonsense_is_refused():
    heads, pixels, labels, _ = linear()
    flat = transfer.mim(lambda x: [0 * x.flatten(1)[:, :5]], pixels, labels, RADIUS)
    assert torch.equal(flat, pixels)
    with pytest.raises(ValueError, match="steps >= 1"):
        transfer.mim(heads, pixels, labels, 16)
    with pytest.raises(ValueError, match="classes"):
        transfer.mim(heads, pixels, labels + 5, RADIUS)
    with pytest.raises(ValueError, match="NaN"):
        transfer.mim(lambda x: [heads(x)[0], heads(x)[1] / 0], pixels, labels, RADIUS)


# --- a ViT's blocks, and the modules --------------------------------------------------------------


def test_blocks_say_what_the_other_way_through_says(shown):
    model, images, pixels, _ = shown
    heads = refinement.heads(model, images)(pixels)
    stack = tokens.block_tokens(model, pixels)
    assert torch.allclose(torch.stack(heads, 1), tokens.block_logits(model, stack), atol=1e-5)
    assert torch.allclose(heads[-1], model.logits(pixels), atol=1e-5)
    assert not torch.allclose(heads[0], heads[-1], atol=0.1)


def test_a_module_written_out():
    torch.manual_seed(0)
    module = refinement.Refinement(2).eval()
    module.norm.running_mean.copy_(torch.tensor([0.1, -0.2]))
    module.norm.running_var.copy_(torch.tensor([0.5, 2.0]))
    said = torch.randn(1, 1 + 6, 2)
    rows, columns = 2, 3
    here = said[0, 1:].reshape(rows, columns, 2)

    def folded(x):
        found = torch.zeros_like(x)
        for r in range(rows):
            for c in range(columns):
                for i in range(3):
                    for j in range(3):
                        row, column = r + i - 1, c + j - 1
                        if 0 <= row < rows and 0 <= column < columns:
                            weight = module.convolution.weight[:, :, i, j]
                            found[r, c] += weight @ x[row, column]
        scale = (module.norm.running_var + module.norm.eps).sqrt()
        return (found - module.norm.running_mean) / scale

    change = folded(folded(here).clamp_min(0))
    patches = (change + here).clamp_min(0).mean((0, 1))
    expected = module.token.weight @ said[0, 0] + module.token.bias + patches
    assert torch.allclose(module(said, (rows, columns))[0], expected, atol=1e-5)


def test_training_modules_leaves_the_network_as_it_was(shown):
    model, images, pixels, labels = shown
    before = {k: v.clone() for k, v in model.net.state_dict().items()}
    said = model.logits(pixels)
    weights = refining.train(model, pixels, labels, steps=3, batch=2)
    refinement.heads(model, images, weights)(pixels)
    after = model.net.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert torch.equal(said, model.logits(pixels))
    assert not model.net.training
    assert all(p.grad is None and not p.requires_grad for p in model.net.parameters())


def test_the_first_step_of_one_module_written_out(shown):
    model, _, pixels, labels = shown
    once = refining.train(model, pixels, labels, steps=1, batch=4, rate=0.5, seed=3)
    module = refining._fresh(model, 3)[2]
    grid = model.net.patch_embed.grid_size
    with torch.no_grad():
        blocks = model.net.forward_intermediates(
            model.normalise(pixels), norm=True, output_fmt="NLC", return_prefix_tokens=True
        )[1]
        patches, prefix = blocks[2]
    answer = model.net.head(module(torch.cat([prefix, patches], 1), grid))
    F.cross_entropy(answer, labels).backward()
    for name, weight in module.named_parameters():
        expected = weight - 0.5 * (weight.grad + 1e-4 * weight)
        assert torch.allclose(once[2][name], expected, atol=1e-6), name
    assert torch.allclose(once[2]["norm.running_mean"], module.norm.running_mean, atol=1e-6)


def test_modules_learn_and_the_last_block_stays(shown):
    model, images, _, _ = shown
    pixels, labels = refining.images_of(model, 64)
    assert (model.logits(pixels).argmax(1) == labels).double().mean() > 0.8
    weights = refining.train(model, pixels, labels, steps=12, batch=32, rate=0.05)
    assert len(weights) == len(model.net.blocks) - 1
    plain, refined = (refinement.heads(model, images, w)(pixels) for w in ((), weights))
    losses = [[F.cross_entropy(s, labels) for s in some] for some in (plain, refined)]
    assert losses[1][0] < losses[0][0]
    assert torch.equal(plain[-1], refined[-1])


def test_models_and_sizes_that_do_not_fit_are_refused(shown):
    model, images, pixels, labels = shown
    with pytest.raises(ValueError, match="no class token"):
        refinement.heads(load("mini/cnn-0"), images)(pixels)
    with pytest.raises(ValueError, match="mini/vit-distilled-0"):
        refinement.heads(load("mini/vit-distilled-0"), images)(pixels)
    with pytest.raises(ValueError, match="batches of 5"):
        refining.train(model, pixels, labels, batch=5)
