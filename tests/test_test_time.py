from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitlab import images as data
from vitlab.models import load
from vitlab.training import test_time
from vitlab.training.test_time import SQUASHED, Statistics, adapt, cfa, frozen, statistics, t3a

OBJECTIVES = [test_time.cfa, test_time.tent, test_time.pseudo_labels, test_time.shot_im]


@pytest.fixture(scope="module")
def vit():
    return load("mini/vit-patch16-0", "cpu")


@pytest.fixture(scope="module")
def pixels():
    noise = torch.Generator().manual_seed(0)
    return torch.rand(24, 3, 64, 64, generator=noise)


@pytest.fixture(scope="module")
def source(vit):
    images = data.load("stimuli", split="train", n=64)
    stack = torch.stack([vit.pixels(images.picture(i)) for i in range(64)]).float() / 255
    return statistics(frozen(vit, stack.split(32))[0], images.labels)


def some(seed=0, n=12, d=5, classes=4, kind=torch.float64):
    rng = np.random.default_rng(seed)
    h, y = rng.normal(size=(n, d)), rng.normal(size=(n, classes))
    return torch.tensor(h, dtype=kind), torch.tensor(y, dtype=kind)


# --- formulas, written out in numpy ---------------------------------------------------------------


def squashed(h, squash):
    if squash == "raw":
        return h
    spread = np.sqrt(h.var(1, keepdims=True) + 1e-5)
    h = (h - h.mean(1, keepdims=True)) / spread
    return np.tanh(h) if "tanh" in squash else h


def softmax(y):
    e = np.exp(y - y.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def cfa_by_hand(h, y, squash, highest, source_h, source_labels):
    h, s = squashed(h, squash), squashed(source_h, squash)
    total = np.linalg.norm(h.mean(0) - s.mean(0)) / 2
    for k in range(2, highest + 1):
        mine, theirs = (((x - x.mean(0)) ** k).mean(0) for x in (h, s))
        total += np.linalg.norm(mine - theirs) / 2**k
    apart = []
    for c in set(y.argmax(1).tolist()):
        own = h[[i for i in range(len(h)) if y[i].argmax() == c]].mean(0)
        its = s[[i for i in range(len(s)) if source_labels[i] == c]].mean(0)
        apart.append(np.linalg.norm(own - its) / 2)
    return total + sum(apart) / len(apart)


@pytest.mark.parametrize("squash", list(SQUASHED))
@pytest.mark.parametrize("highest", [1, 3, 5])
def test_cfa_is_its_formula(squash, highest):
    (h, y), (s, _) = some(), some(1, n=40)
    labels = torch.arange(40) % 4
    y[:, 3] = -9  # one class is not seen in the batch
    found = cfa(h, y, statistics(s, labels, squash, highest))
    by_hand = cfa_by_hand(h.numpy(), y.numpy(), squash, highest, s.numpy(), labels.tolist())
    assert found.item() == pytest.approx(by_hand, rel=1e-10)


def test_other_objectives_are_their_formulas():
    h, y = some(2)
    p = softmax(y.numpy())
    unsure = -(p * np.log(p)).sum(1).mean()
    mean = p.mean(0)
    assert test_time.tent(h, y).item() == pytest.approx(unsure)
    assert test_time.pseudo_labels(h, y).item() == pytest.approx(-np.log(p.max(1)).mean())
    assert test_time.shot_im(h, y).item() == pytest.approx(unsure + (mean * np.log(mean)).sum())


def test_shot_im_is_finite_where_a_class_has_no_probability():
    y = torch.tensor([[0.0, -1e4], [0.0, -1e4]])
    assert test_time.shot_im(y, y).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda f: f.__name__)
def test_gradients_are_finite_differences(objective):
    (h, y), (s, _) = some(3), some(4, n=40)
    kept = statistics(s, torch.arange(40) % 4)
    ours = [x.clone().requires_grad_() for x in (h, y)]
    objective(*ours, kept).backward()
    for which in (0, 1):
        for place in [(0, 0), (3, 2), (11, 3)]:
            ends = []
            for step in (1e-6, -1e-6):
                moved = [h.clone(), y.clone()]
                moved[which][place] += step
                ends.append(objective(*moved, kept).item())
            slope = (ends[0] - ends[1]) / 2e-6
            gradient = ours[which].grad
            found = 0.0 if gradient is None else gradient[place].item()
            assert found == pytest.approx(slope, abs=1e-7)


def test_source_statistics_are_means_over_images():
    s, _ = some(5, n=30)
    labels = torch.arange(30) % 3
    kept = statistics(s, labels, highest=2)
    h = squashed(s.numpy(), "LayerNorm and tanh")
    assert np.allclose(kept.moments, [h.mean(0), h.var(0)])
    assert np.allclose(kept.means, [h[c::3].mean(0) for c in range(3)])


def test_bad_statistics_are_refused():
    s, _ = some()
    with pytest.raises(ValueError, match="no source image of class 1"):
        statistics(s, torch.tensor([0, 2] * 6))
    with pytest.raises(ValueError, match="LayerNorm"):
        statistics(s, torch.zeros(12).long(), "layernorm")
    with pytest.raises(ValueError, match="highest=0"):
        statistics(s, torch.zeros(12).long(), highest=0)


# --- the loop -------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", list(test_time.WHICH))
def test_adapting_leaves_the_model_as_it_was(vit, pixels, source, which):
    before = {k: v.clone() for k, v in vit.net.state_dict().items()}
    asked = [p.requires_grad for p in vit.net.parameters()]
    clean = frozen(vit, [pixels])[1]
    moved = adapt(vit, pixels.split(8), cfa, source, which, rate=0.1)
    assert all(torch.equal(before[k], v) for k, v in vit.net.state_dict().items())
    assert [p.requires_grad for p in vit.net.parameters()] == asked
    assert all(p.grad is None for p in vit.net.parameters())
    assert not vit.net.get_classifier()._forward_pre_hooks
    assert torch.allclose(moved[:8], clean[:8], atol=1e-5), "the first batch is answered unmoved"
    assert not torch.allclose(moved[8:], clean[8:], atol=1e-3), "the others are not"


def test_the_loop_is_sgd_written_out(vit, pixels, source):
    """Momentum, clipping over all that moves, and the answer before the step, by hand."""
    net = deepcopy(vit.net).requires_grad_()
    names = [name for name, _ in net.named_parameters() if "norm" in name]
    moving = [p for name, p in net.named_parameters() if "norm" in name]
    assert len(moving) == 2 * (2 * 6 + 1)  # scale and shift, two a block and the last
    speed, logits = [torch.zeros_like(p) for p in moving], []
    for batch in pixels.split(8):
        tokens = net.forward_features(vit.normalise(batch))
        features = tokens[:, 0]
        y = net.head(features)
        logits.append(y.detach())
        slopes = torch.autograd.grad(cfa(features, y, source), moving)
        length = torch.sqrt(sum((g**2).sum() for g in slopes))
        with torch.no_grad():
            for p, v, g in zip(moving, speed, slopes, strict=True):
                v.mul_(0.9).add_(g * min(1.0, 1 / length))
                p.sub_(0.05 * v)
    found = adapt(vit, pixels.split(8), cfa, source, rate=0.05)
    assert torch.allclose(found, torch.cat(logits), atol=1e-4), names


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda f: f.__name__)
def test_a_stream_again_gives_the_same(vit, pixels, source, objective):
    first, second = (adapt(vit, pixels.split(8), objective, source, rate=0.1) for _ in range(2))
    assert torch.equal(first, second)


def test_each_choice_moves_its_own_parameters(vit):
    sizes = {which: len(test_time.chosen(vit.net, which)) for which in test_time.WHICH}
    every = len(list(vit.net.parameters()))
    assert sizes == {
        "LayerNorm": 26,
        "CLS token": 1,
        "feature extractor": every - 2,  # the head's weight and bias
        "all weights": every,
    }
    with pytest.raises(ValueError, match="CLS token"):
        test_time.chosen(vit.net, "CLS")
    with pytest.raises(ValueError, match="no LayerNorm"):
        test_time.chosen(torch.nn.Linear(2, 2), "LayerNorm")


def test_cfa_does_not_reach_the_head(vit, pixels, source):
    """So the feature extractor and all weights are one choice."""
    one, other = (
        adapt(vit, pixels.split(8), cfa, source, which, rate=0.1)
        for which in ("feature extractor", "all weights")
    )
    assert torch.equal(one, other)
    one, other = (
        adapt(vit, pixels.split(8), test_time.tent, None, which, rate=0.1)
        for which in ("feature extractor", "all weights")
    )
    assert not torch.equal(one, other)


def test_without_a_step_a_stream_is_answered_as_it_is(vit, pixels, source):
    still = adapt(vit, pixels.split(8), cfa, source, rate=0.0)
    assert torch.allclose(still, frozen(vit, pixels.split(8))[1], atol=1e-6)


# --- T3A ------------------------------------------------------------------------------------------


def t3a_by_hand(weight, bias, features, logits, kept, batch):
    """One image after the other, with lists."""

    def unsure(y):
        p = softmax(y[None])[0]
        return -sum(q * np.log(q) for q in p)

    classes, scores = len(weight), []
    store = {c: [] for c in range(classes)}

    def add(z, y):
        store[int(y.argmax())].append((unsure(y), z / np.linalg.norm(z)))

    for row in weight:
        add(row, weight @ row + bias)
    for start in range(0, len(features), batch):
        batch_of = slice(start, start + batch)
        for z, y in zip(features[batch_of], logits[batch_of], strict=True):
            add(z, y)
        for c in store:
            store[c] = sorted(store[c], key=lambda pair: pair[0])[:kept]
        for z in features[batch_of]:
            sums = [sum((z for _, z in store[c]), np.zeros_like(z)) for c in range(classes)]
            lengths = [max(np.linalg.norm(s), 1e-12) for s in sums]
            scores.append([z @ s / n for s, n in zip(sums, lengths, strict=True)])
    return np.array(scores)


@pytest.mark.parametrize("kept", [2, 100])
def test_t3a_is_its_loop(vit, pixels, kept):
    features, logits = frozen(vit, pixels.split(8))
    found = t3a(vit, features, logits, kept, batch_size=7)
    weight, bias = (p.detach().double().numpy() for p in (vit.net.head.weight, vit.net.head.bias))
    by_hand = t3a_by_hand(weight, bias, features.double().numpy(), logits.double().numpy(), kept, 7)
    assert np.allclose(found, by_hand, atol=1e-4)


def test_a_network_without_a_linear_head_is_named(vit, pixels):
    strange = replace(vit, name="strange", net=torch.nn.Flatten())
    with pytest.raises(ValueError, match="strange has no linear classifier"):
        frozen(strange, [pixels])


def test_statistics_are_plain_values(source):
    assert isinstance(source, Statistics)
    assert source.moments.shape == (3, 96)
    assert source.means.shape == (16, 96)
