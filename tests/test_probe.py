import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from vitlab.inside import probes as probe
from vitlab.inside import tokens as features
from vitlab.models import Model


def _data(d, spread, n=96, classes=4):
    numbers = np.random.default_rng(d)
    labels = np.arange(n) % classes
    centres = numbers.normal(size=(classes, d))
    x = (spread * centres[labels] + numbers.normal(size=(n, d))) * numbers.uniform(0.1, 9, d) + 3
    return x, labels


@pytest.mark.parametrize(("d", "spread"), [(12, 0.3), (12, 3.0), (200, 0.1), (200, 1.0)])
def test_the_regulariser_and_the_answers_are_those_of_a_grid_search(d, spread):
    x, y = _data(d, spread)
    grid = [0.001, 0.03, 1.0, 30.0]
    ours = probe.fit(x[:64], y[:64], grid, folds=4)
    theirs = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=10_000, tol=1e-6)),
        {"logisticregression__C": grid},
        cv=StratifiedKFold(4),
        scoring="neg_log_loss",
    ).fit(x[:64], y[:64])
    assert theirs.best_params_["logisticregression__C"] == ours[-1].C
    assert ours.predict_proba(x[64:]) == pytest.approx(theirs.predict_proba(x[64:]), abs=2e-3)


def test_the_grid_matters_and_its_order_does_not():
    x, y = _data(200, 0.1)
    chosen = probe.fit(x, y, [100.0, 0.001, 1.0])[-1].C
    assert chosen == probe.fit(x, y, [0.001, 1.0, 100.0])[-1].C == 0.001  # mostly noise
    clear = _data(12, 3.0)
    assert probe.fit(*clear, [0.001, 1.0])[-1].C == 1.0


def test_a_probe_of_noise_is_at_chance_on_new_images():
    numbers = np.random.default_rng(0)
    x, y = numbers.normal(size=(400, 30)), np.arange(400) % 8
    right = (probe.fit(x[:160], y[:160]).predict(x[160:]) == y[160:]).mean()
    assert right == pytest.approx(1 / 8, abs=3 * np.sqrt(7 / 64 / 240))


@pytest.mark.parametrize("labels", [[0] * 8, [0] * 8 + [1] * 3, []])
def test_too_few_images_for_the_folds_are_refused(labels):
    with pytest.raises(ValueError, match="4 folds needs two classes or more of 4 images"):
        probe.fit(np.zeros((len(labels), 2)), np.array(labels))


class _Net(nn.Module):
    """BatchNorm between two plain layers, with timm's two entry points."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)
        self.drop = nn.Dropout(0.5)

    def forward_features(self, x):
        return self.drop(self.norm(self.conv(x)))

    def forward_head(self, x, pre_logits=False):
        return (x**2).mean((2, 3))

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


@pytest.fixture
def model():
    torch.manual_seed(0)
    net = _Net()
    net.norm.running_mean.normal_()
    net.norm.running_var.uniform_(0.5, 2)
    return Model("net", net.eval().requires_grad_(False), "CNN", "stimuli", "w")


def _stack(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, 64, 64, generator=generator)


def test_batch_statistics_normalise_by_the_batch(model):
    stack = _stack(6)
    found = features.pooled(probe.batch_statistics(model), stack, 6)
    x = model.net.conv(model.normalise(stack)).detach()
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, unbiased=False)
    by_hand = (((x - mean) / (var + model.net.norm.eps).sqrt()) ** 2).mean((2, 3))
    assert torch.allclose(found, by_hand, atol=1e-5)  # and no dropout
    assert found.mean(0) == pytest.approx(1, abs=1e-4)  # normalised values have variance 1


def test_batch_statistics_depend_on_the_company_and_leave_the_model_alone(model):
    stack = _stack(8)
    before = {k: v.clone() for k, v in model.net.state_dict().items()}
    alone = features.pooled(model, stack)
    other = probe.batch_statistics(model)
    whole, halves = features.pooled(other, stack, 8), features.pooled(other, stack, 4)
    assert not torch.allclose(whole, halves, atol=1e-4)
    assert torch.equal(whole, features.pooled(other, stack, 8))  # nothing was learnt meanwhile
    assert torch.equal(alone, features.pooled(model, stack))
    assert torch.equal(alone[:2], features.pooled(model, stack[:2]))
    assert all(torch.equal(v, before[k]) for k, v in model.net.state_dict().items())
    assert other.weights != model.weights


def test_a_network_without_batchnorm_is_refused(means_model):
    with pytest.raises(ValueError, match="means has no BatchNorm layers"):
        probe.batch_statistics(means_model)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.full((20, 3), np.nan), "features hold NaN or infinity"),
        (np.ones((10, 3)), r"got \[10, 3\] and \[20\]"),
        (np.ones(20), r"got \[20\] and \[20\]"),
    ],
)
def test_features_that_cannot_be_probed_are_refused(features, message):
    with pytest.raises(ValueError, match=message):
        probe.fit(features, np.arange(20) % 2)
