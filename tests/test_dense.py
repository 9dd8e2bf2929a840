"""A linear head on maps as a segmenter, and scenes with an unknown object in them."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from vitlab.images import load, masks
from vitlab.images.anomalies import inserted
from vitlab.inside import dense
from vitlab.models import load as load_model


def test_the_head_is_scikit_learns():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 300)
    features = rng.normal(size=(300, 6)) * 3 + rng.normal(size=(4, 6))[labels]
    head = dense.fit(torch.tensor(features).float(), torch.tensor(labels), 4, ridge=0.01)
    x = (features - features.mean(0)) / features.std(0, ddof=1)
    # Its penalty is half the sum of squares, its loss a sum: C = 1 / (2 n ridge).
    theirs = LogisticRegression(C=1 / (2 * 300 * 0.01), max_iter=5000, tol=1e-8).fit(x, labels)
    found = head(torch.tensor(features).float()).softmax(-1)
    np.testing.assert_allclose(found, theirs.predict_proba(x), atol=2e-3)
    with pytest.raises(ValueError, match="labels are 0 to 2"):
        dense.fit(torch.tensor(features).float(), torch.tensor(labels), 3)


@pytest.mark.parametrize(("name", "depth"), [("mini/vit-0", 96), ("mini/cnn-0", 32 + 64 + 128)])
def test_maps_of_both_kinds(name, depth):
    net = load_model(name, "cpu")
    pixels = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = dense.maps(net, pixels, 8)
    assert found.shape == (3, 8, 8, depth)
    torch.testing.assert_close(found[1:2], dense.maps(net, pixels[1:2], 8), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="no map of 5 x 5"):
        dense.maps(net, pixels, 5)


def test_a_vits_maps_are_what_its_pooling_sees():
    net = load_model("mini/vit-0", "cpu")
    pixels = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        tokens = net.net.forward_features(net.normalise(pixels))[:, 1:]
    torch.testing.assert_close(dense.maps(net, pixels, 8).flatten(1, 2), tokens)


def test_enlarging_keeps_constants_and_order():
    logits = torch.zeros(1, 2, 2, 3)
    logits[..., 1] = 5
    logits[0, 0, 0, 2] = 8
    found = dense.enlarged(logits, 8)
    assert found.shape == (1, 8, 8, 3)
    assert (found[..., 1] == 5).all()
    assert found[0, 0, 0, 2] == 8
    assert found[0, -1, -1, 2] == 0


def test_an_unknown_object_is_where_the_mask_says():
    scenes, plain = inserted(6, seed=1), load("stimuli", n=6, seed=1)
    assert torch.equal(scenes.labels, plain.labels)
    for i, mask in enumerate(masks(scenes).numpy()):
        before, after = (np.asarray(one.picture(i)).astype(int) for one in (plain, scenes))
        assert (before[mask == 0] == after[mask == 0]).all()
        assert (before[mask == 1] != after[mask == 1]).any(-1).mean() > 0.9
        assert 0.01 < mask.mean() < 0.25
    assert scenes.fingerprint != inserted(6, seed=2).fingerprint
