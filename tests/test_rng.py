import numpy as np
import pytest

from vitlab.rng import generator


def test_equal_keys_give_equal_streams():
    assert (generator("a", 1).random(8) == generator("a", 1).random(8)).all()


def test_keys_that_differ_anywhere_give_other_streams():
    keys = [("a", 1), ("a", 2), ("a", "1"), ("a", 1, ""), ("a1",), ("a\x1f1",), (1, "a")]
    draws = {generator(*key).random() for key in keys}
    assert len(draws) == len(keys)


def test_streams_of_neighbouring_keys_are_uncorrelated():
    rows = np.stack([generator("image", i).random(2000) for i in range(20)])
    correlation = np.corrcoef(rows) - np.eye(20)
    # 190 pairs of 2000 numbers: the largest correlation of independent ones is about 3 / sqrt(2000)
    assert abs(correlation).max() < 5 / np.sqrt(2000)


def test_numpys_integers_are_pythons_and_nothing_else_is_a_key():
    for kind in (np.int64, np.int32, np.uint8):
        assert generator("a", kind(1)).random() == generator("a", 1).random()
    for part in (None, 1.5, np.float32(1), ("a",)):
        with pytest.raises(TypeError, match="keyed by texts and integers, not"):
            generator("a", part)
