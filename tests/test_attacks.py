import foolbox
import pytest
import torch

from vitlab import attacks, data, features
from vitlab.models import load


@pytest.mark.parametrize("name", ["mini/vit-0", "mini/cnn-0"])
def test_deepfool_is_foolboxs(name):
    model = load(name)
    images = data.load("stimuli", n=8)
    pixels = features.pixel_stack(model, images).float() / 255
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
    pixels = features.pixel_stack(model, data.load("stimuli", n=6)).float() / 255
    whole = attacks.deepfool(model.logits, pixels).pixels
    alone = torch.cat([attacks.deepfool(model.logits, p[None]).pixels for p in pixels])
    assert torch.allclose(whole, alone, atol=1e-4)


def test_pixels_stay_in_range_and_nonsense_is_refused():
    model = load("mini/cnn-0")
    pixels = features.pixel_stack(model, data.load("stimuli", n=4)).float() / 255
    shown = attacks.deepfool(model.logits, pixels).pixels
    assert shown.min() >= 0
    assert shown.max() <= 1
    with pytest.raises(ValueError, match="steps >= 1"):
        attacks.deepfool(model.logits, pixels, steps=0)
