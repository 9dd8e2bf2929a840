import foolbox
import numpy as np
import pytest
import torch

from vitlab import images as data
from vitlab.attacks import gradient as attacks
from vitlab.attacks import patch
from vitlab.inside import tokens as features
from vitlab.models import load


@pytest.mark.parametrize("name", ["mini/vit-0", "mini/cnn-0"])
def test_deepfool_is_foolboxs(name):
    model = load(name)
    images = data.load("stimuli", n=4)
    pixels = features.pixel_stack(model, images)
    ours = attacks.deepfool(model.logits, pixels)
    net = foolbox.PyTorchModel(_Logits(model), bounds=(0, 1), device="cpu")
    first = model.logits(pixels).argmax(1)
    theirs, _, fooled = foolbox.attacks.L2DeepFoolAttack(steps=50, candidates=10, overshoot=0.02)(
        net, pixels, first, epsilons=None
    )
    assert fooled.all()
    assert ours.fooled.all()
    ours_size, their_size = ((x - pixels).flatten(1).norm(dim=1) for x in (ours.pixels, theirs))
    assert ours_size == pytest.approx(their_size, rel=0.02)
    assert torch.allclose(ours.pixels, theirs, atol=5e-3)


class _Logits(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, x):
        return self.model.logits(x)


def test_against_a_linear_model_deepfool_goes_straight_to_the_nearest_boundary():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 12, generator=generator)
    pixels = 0.4 + 0.2 * torch.rand(6, 3, 2, 2, generator=generator)

    def logits(x):
        return x.flatten(1) @ weight.T

    attacked = attacks.deepfool(logits, pixels, overshoot=0.02)
    scores = logits(pixels)
    for i in range(6):
        own = int(scores[i].argmax())
        closest = min(
            float((scores[i, own] - scores[i, k]) / (weight[own] - weight[k]).norm())
            for k in range(5)
            if k != own
        )
        moved = float((attacked.pixels[i] - pixels[i]).norm())
        assert moved == pytest.approx(1.02 * (closest + 1e-4), rel=1e-3)
    assert attacked.fooled.all()


def test_an_images_attack_does_not_depend_on_its_batch():
    model = load("mini/cnn-0")
    pixels = features.pixel_stack(model, data.load("stimuli", n=3))
    whole = attacks.deepfool(model.logits, pixels).pixels
    alone = torch.cat([attacks.deepfool(model.logits, p[None]).pixels for p in pixels])
    assert torch.allclose(whole, alone, atol=1e-4)


def test_pixels_stay_in_range_and_nonsense_is_refused():
    model = load("mini/cnn-0")
    pixels = features.pixel_stack(model, data.load("stimuli", n=4))
    shown = attacks.deepfool(model.logits, pixels).pixels
    assert shown.min() >= 0
    assert shown.max() <= 1
    with pytest.raises(ValueError, match="steps >= 1"):
        attacks.deepfool(model.logits, pixels, steps=0)


@pytest.fixture(scope="module", params=["mini/vit-0", "mini/cnn-0"])
def target(request):
    model = load(request.param)
    images = data.load("stimuli", n=4)
    return model, features.pixel_stack(model, images), images.labels


def foolboxs(attack, model, pixels, labels, radius):
    net = foolbox.PyTorchModel(_Logits(model), bounds=(0, 1), device="cpu")
    _, attacked, fooled = attack(net, pixels, labels, epsilons=radius)
    return attacked, fooled


@pytest.mark.parametrize("radius", [1 / 255, 8 / 255])
def test_fgsm_is_foolboxs(target, radius):
    model, pixels, labels = target
    ours = attacks.fgsm(model.logits, pixels, labels, radius)
    theirs, fooled = foolboxs(
        foolbox.attacks.LinfFastGradientAttack(), model, pixels, labels, radius
    )
    assert torch.allclose(ours.pixels, theirs, atol=1e-6)
    assert torch.equal(ours.fooled, fooled)


@pytest.mark.parametrize("radius", [1 / 255, 8 / 255])
def test_pgd_is_foolboxs(target, radius):
    model, pixels, labels = target
    ours = attacks.pgd(model.logits, pixels, labels, radius, steps=5, step_size=radius / 2)
    theirs, fooled = foolboxs(
        foolbox.attacks.LinfPGD(rel_stepsize=0.5, steps=5, random_start=False),
        model,
        pixels,
        labels,
        radius,
    )
    # A gradient of almost zero may change its sign by rounding, and its pixel with it.
    apart = (ours.pixels - theirs).abs() > 1e-6
    assert apart.float().mean() < 1e-3
    assert torch.equal(ours.fooled, fooled)


def test_attacks_keep_to_the_ball_and_to_the_pixels_range(target):
    model, pixels, labels = target
    start = attacks.random_start(pixels, [f"image{i}" for i in range(4)], 8 / 255)
    for attacked in (
        attacks.fgsm(model.logits, pixels, labels, 8 / 255).pixels,
        attacks.pgd(model.logits, pixels, labels, 8 / 255, 4, 8 / 255).pixels,
        attacks.pgd(model.logits, pixels, labels, 8 / 255, 4, 3 / 255, start).pixels,
    ):
        assert (attacked - pixels).abs().max() <= 8 / 255 + 1e-6
        assert attacked.min() >= 0
        assert attacked.max() <= 1


def test_radius_zero_is_the_identity(target):
    model, pixels, labels = target
    attacked = attacks.fgsm(model.logits, pixels, labels, 0)
    assert torch.equal(attacked.pixels, pixels)
    assert torch.equal(attacked.fooled, model.logits(pixels).argmax(1) != labels)


def test_an_images_pgd_does_not_depend_on_its_batch(target):
    model, pixels, labels = target
    ids = [f"image{i}" for i in range(4)]

    def attack(chosen):
        x, some = pixels[chosen], [ids[i] for i in chosen]
        start = attacks.random_start(x, some, 4 / 255)
        return attacks.pgd(model.logits, x, labels[chosen], 4 / 255, 3, 2 / 255, start).pixels

    whole = attack(list(range(4)))
    alone = torch.cat([attack([i]) for i in reversed(range(4))]).flip(0)
    assert ((whole - alone).abs() > 1e-6).float().mean() < 1e-3


def test_random_starts_are_uniform_in_the_ball_and_keyed_by_image_and_seed():
    grey = torch.full((6, 3, 32, 32), 0.5)
    ids = [f"image{i}" for i in range(6)]
    start = attacks.random_start(grey, ids, 0.1)
    offsets = (start - grey) / 0.1
    assert offsets.abs().max() <= 1 + 1e-5
    assert float(offsets.std()) == pytest.approx(1 / 3**0.5, rel=0.02)
    assert torch.equal(start.flip(0), attacks.random_start(grey, ids[::-1], 0.1))
    others = [*start, *attacks.random_start(grey, ids, 0.1, seed=1)]
    assert len({row.numpy().tobytes() for row in others}) == 12
    state = torch.get_rng_state()
    attacks.random_start(grey, ids, 0.1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.fixture
def linear():
    """A linear two-class model, images away from the borders, their margins; all labelled 0."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(27, generator=generator)
    pixels = 0.3 + 0.4 * torch.rand(64, 3, 3, 3, generator=generator)
    score = pixels.flatten(1) @ weight
    bias = -score.min() + 0.05

    def logits(x):
        margin = x.flatten(1) @ weight + bias
        return torch.stack([margin, torch.zeros_like(margin)], 1)

    return logits, pixels, weight, score + bias


def test_against_a_linear_model_the_optimum_is_the_gradients_sign(linear):
    logits, pixels, weight, margin = linear
    labels = torch.zeros(64, dtype=torch.long)
    best = pixels - 0.05 * weight.sign().view(1, 3, 3, 3)
    fgsm = attacks.fgsm(logits, pixels, labels, 0.05)
    pgd = attacks.pgd(logits, pixels, labels, 0.05, steps=10, step_size=0.01)
    assert torch.allclose(fgsm.pixels, best, atol=1e-6)
    assert torch.allclose(pgd.pixels, best, atol=1e-6)
    assert torch.equal(fgsm.fooled, margin < 0.05 * weight.abs().sum())


def test_against_a_linear_model_success_grows_with_radius_and_steps(linear):
    logits, pixels, weight, margin = linear
    labels = torch.zeros(64, dtype=torch.long)
    mass = weight.abs().sum()
    by_radius = [
        float(attacks.fgsm(logits, pixels, labels, r).fooled.float().mean())
        for r in (0.0, 0.02, 0.05, 0.1, 0.2)
    ]
    expected = [float((margin < r * mass).float().mean()) for r in (0.0, 0.02, 0.05, 0.1, 0.2)]
    assert by_radius == pytest.approx(expected)
    assert by_radius == sorted(by_radius)
    assert by_radius[0] == 0 < by_radius[-1]
    by_steps = [
        float(attacks.pgd(logits, pixels, labels, 0.2, k, 0.02).fooled.float().mean())
        for k in (1, 2, 5, 10)
    ]
    assert by_steps == pytest.approx(
        [float((margin < 0.02 * k * mass).float().mean()) for k in (1, 2, 5, 10)]
    )


def test_until_fooled_stops_at_the_first_success(linear):
    logits, pixels, weight, margin = linear
    labels = torch.zeros(64, dtype=torch.long)
    attacked = attacks.pgd(logits, pixels, labels, 0.2, 10, 0.02, until_fooled=True)
    needed = np.ceil((margin / (0.02 * weight.abs().sum())).numpy())
    steps = ((attacked.pixels - pixels).abs().amax((1, 2, 3)) / 0.02).round().numpy()
    assert steps == pytest.approx(np.minimum(needed, 10))
    plain = attacks.pgd(logits, pixels, labels, 0.2, 10, 0.02)
    assert torch.equal(attacked.fooled, plain.fooled)


def test_images_already_wrong_are_left_alone_until_fooled(linear):
    logits, pixels, _, _ = linear
    labels = torch.ones(64, dtype=torch.long)
    attacked = attacks.pgd(logits, pixels, labels, 0.2, 3, 0.1, until_fooled=True)
    assert torch.equal(attacked.pixels, pixels)
    assert attacked.fooled.all()


@pytest.mark.parametrize("attack", [attacks.pgd, attacks.pgd_path])
@pytest.mark.parametrize("wrong", [{"radius": -0.1}, {"steps": 0}, {"step_size": -1.0}])
def test_arguments_out_of_range_are_refused(linear, attack, wrong):
    logits, pixels, _, _ = linear
    arguments = {"radius": 0.1, "steps": 2, "step_size": 0.1} | wrong
    with pytest.raises(ValueError, match="radius >= 0, steps >= 1"):
        attack(logits, pixels, torch.zeros(64, dtype=torch.long), **arguments)


def test_a_negative_radius_is_refused_by_fgsm_too(linear):
    logits, pixels, _, _ = linear
    with pytest.raises(ValueError, match="radius >= 0"):
        attacks.fgsm(logits, pixels, torch.zeros(64, dtype=torch.long), -0.1)


@pytest.mark.parametrize(
    "attack",
    [
        lambda logits, x, y: attacks.deepfool(logits, x),
        lambda logits, x, y: attacks.slope(logits, x, y),
        lambda logits, x, y: attacks.fgsm(logits, x, y, 0.1),
        lambda logits, x, y: attacks.pgd(logits, x, y, 0.1, 2, 0.1),
        lambda logits, x, y: attacks.pgd_path(logits, x, y, 0.1, 2, 0.1),
    ],
)
def test_pixels_beyond_0_to_1_are_refused(linear, attack):
    logits, pixels, _, _ = linear
    with pytest.raises(ValueError, match=r"pixels are in \[0, 1\], these go from"):
        attack(logits, 255 * pixels, torch.zeros(64, dtype=torch.long))


def test_the_slope_of_a_linear_model_is_its_softmaxs():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 12, generator=generator)
    pixels = torch.rand(6, 3, 2, 2, generator=generator)
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    at = attacks.slope(lambda x: x.flatten(1) @ weight.T, pixels, labels)
    scores = pixels.flatten(1).double().numpy() @ weight.double().numpy().T
    shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert at.loss.numpy() == pytest.approx(-np.log(shares[range(6), labels]), rel=1e-4)
    assert at.right.tolist() == (scores.argmax(1) == labels.numpy()).tolist()
    expected = (shares - np.eye(5)[labels]) @ weight.double().numpy()
    assert at.gradient.flatten(1).numpy() == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert not pixels.requires_grad


def test_one_slope_serves_all_radii(target):
    model, pixels, labels = target
    at = attacks.slope(model.logits, pixels, labels)
    for radius in (1 / 255, 8 / 255):
        once = attacks.fgsm(model.logits, pixels, labels, radius, at)
        assert torch.equal(once.pixels, attacks.fgsm(model.logits, pixels, labels, radius).pixels)


def test_the_path_passes_where_shorter_attacks_end(target):
    model, pixels, labels = target
    step = 6 / 255
    path = attacks.pgd_path(model.logits, pixels, labels, 16 / 255, 4, step)
    assert path.loss.shape == path.right.shape == (5, 4)
    ends = [pixels]
    ends += [attacks.pgd(model.logits, pixels, labels, 16 / 255, k, step).pixels for k in (1, 2, 3)]
    ends += [attacks.pgd(model.logits, pixels, labels, 16 / 255, 4, step).pixels]
    for k, end in enumerate(ends):
        scores = model.logits(end)
        loss = torch.nn.functional.cross_entropy(scores, labels, reduction="none")
        # Gradients of almost zero may change sign by rounding: the losses agree, not every pixel.
        assert torch.allclose(path.loss[k], loss, rtol=0.02, atol=1e-4)
        assert torch.equal(path.right[k], scores.argmax(1) == labels)
    assert (path.pixels - pixels).abs().max() <= 16 / 255 + 1e-6
    stopped = attacks.pgd(model.logits, pixels, labels, 16 / 255, 4, step, until_fooled=True)
    assert torch.equal(stopped.fooled, ~path.right.all(0))


def test_the_path_on_a_linear_model_is_the_closed_form(linear):
    logits, pixels, weight, margin = linear
    labels = torch.zeros(64, dtype=torch.long)
    path = attacks.pgd_path(logits, pixels, labels, 0.05, 4, 0.02)
    mass = weight.abs().sum()
    for k in range(5):
        left = margin - min(0.02 * k, 0.05) * mass  # the ball's border after two and a half steps
        assert torch.allclose(path.loss[k], torch.nn.functional.softplus(-left), atol=1e-4)
        assert torch.equal(path.right[k], left >= 0)


NAN = float("nan")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": lambda x: torch.full((len(x), 16), NAN)}, "returned NaN or infinity"),
        ({"logits": lambda x: x.flatten(2).sum(2) * torch.inf}, "returned NaN or infinity"),
        ({"logits": lambda x: x.sum((1, 2, 3))}, r"scores \[2\], not one row each"),
        ({"logits": lambda x: x.flatten(2).sum(2)[:1]}, "not one row each"),
        ({"pixels": torch.full((2, 3, 8, 8), 200.0)}, r"these go from 200 to 200"),
        ({"pixels": torch.full((2, 3, 8, 8), NAN)}, "these go from nan"),
        ({"pixels": torch.zeros(2, 3, 8, 8, dtype=torch.long)}, "not torch.int64"),
        ({"pixels": torch.zeros(2, 3, 8, 8, dtype=torch.complex64)}, "not torch.complex64"),
        ({"pixels": torch.zeros(3, 8, 8)}, r"\[images, 3, height, width\], not \[3, 8, 8\]"),
        ({"pixels": torch.zeros(2, 1, 8, 8)}, r"not \[2, 1, 8, 8\]"),
        ({"labels": torch.tensor([0])}, "2 images need as many labels"),
        ({"labels": torch.tensor([0.0, 1.0])}, "torch.int64; got torch.float32"),
        ({"labels": torch.tensor([0, 16])}, "labels go from 0 to 16, the model has 16 classes"),
        ({"labels": torch.tensor([-1, 0])}, "labels go from -1 to 0"),
        ({"radius": 8.0}, "neither length above 1"),
        ({"radius": NAN}, "neither length above 1"),
    ],
)
@pytest.mark.parametrize("attack", ["fgsm", "pgd", "pgd_path", "deepfool", "patch"])
def test_what_an_attack_cannot_be_about_is_refused_and_fools_nothing(attack, change, message):
    weights = torch.randn(192, 16, generator=torch.Generator().manual_seed(0))
    given = {
        "logits": lambda x: x.flatten(1) @ weights.to(x.dtype),
        "pixels": torch.full((2, 3, 8, 8), 0.5),
        "labels": torch.tensor([0, 1]),
        "radius": 0.1,
    } | change
    logits, pixels, labels, radius = given.values()
    run = {
        "fgsm": lambda: attacks.fgsm(logits, pixels, labels, radius),
        "pgd": lambda: attacks.pgd(logits, pixels, labels, radius, 2, 0.1),
        "pgd_path": lambda: attacks.pgd_path(logits, pixels, labels, radius, 2, 0.1),
        "deepfool": lambda: attacks.deepfool(logits, pixels),
        "patch": lambda: patch.train(logits, pixels, labels, ["a", "b"], [(4, 0)], 2, batch=2),
    }[attack]
    if {*change} & {"deepfool": {"labels", "radius"}, "patch": {"radius"}}.get(attack, set()):
        run()
        return
    with pytest.raises(ValueError, match=message if attack != "patch" else ""):
        run()


def test_a_start_is_an_image_for_each():
    pixels, labels = torch.full((2, 3, 8, 8), 0.5), torch.tensor([0, 1])
    for start in (pixels[:1], 255 * pixels):
        for attack in (attacks.pgd, attacks.pgd_path):
            with pytest.raises(ValueError, match=r"the start is|these go from"):
                attack(lambda x: x.flatten(2).sum(2), pixels, labels, 0.1, 2, 0.1, start=start)
    with pytest.raises(ValueError, match="2 images have 1 ids"):
        attacks.random_start(pixels, ["a"], 0.1)
