import numpy as np

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
