"""Other viewpoints of the stimuli: the same objects, turned and smaller, inside the picture."""

import numpy as np
import pytest
import torch

from vitlab.images import load
from vitlab.images.viewpoints import SIZE, TURN, elsewhere, moved
from vitlab.stimuli import scenes


def test_the_same_objects_in_another_pose():
    usual, other = load("stimuli", n=24, seed=3), elsewhere(24, 3)
    assert torch.equal(usual.labels, other.labels)
    assert not set(usual.table["id"]) & set(other.table["id"])
    assert usual.fingerprint != other.fingerprint
    assert other.classes == "stimuli"
    size = [scenes.describe("test", i, 3) for i in range(24)]
    whole = [i for i, s in enumerate(size) if max(abs(s.x), abs(s.y)) + s.scale <= 1]
    area = [other.mask(i).sum() / usual.mask(i).sum() for i in whole]  # no frame cuts them off
    assert len(whole) > 5
    assert SIZE[0] ** 2 - 0.03 < min(area) < max(area) < SIZE[1] ** 2 + 0.03  # masks are of pixels
    assert all(np.asarray(other.picture(i)).shape == (64, 64, 3) for i in range(2))


@pytest.mark.parametrize("seed", [0, 1])
def test_poses_are_in_range_and_nothing_else_changes(seed):
    for i in range(200):
        before = scenes.describe("test", i, seed)
        after = moved(before)
        assert TURN[0] <= abs(after.angle - before.angle) <= TURN[1]
        assert SIZE[0] <= after.scale / before.scale <= SIZE[1]
        assert max(abs(after.x), abs(after.y)) <= 0.95 - after.scale
        kept = ("id", "label", "shape", "texture", "hue", "key", "variant")
        assert all(getattr(before, name) == getattr(after, name) for name in kept)
        assert moved(before) == after


def test_an_image_does_not_depend_on_how_many_there_are():
    few, many = elsewhere(3), elsewhere(20)
    for i in range(3):
        assert np.array_equal(np.asarray(few.picture(i)), np.asarray(many.picture(i)))
