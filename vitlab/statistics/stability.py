"""How steady a model's answers are along a sequence of frames (Hendrycks & Dietterich 2019).

Both measures compare pairs of frames: each with the one before, or, where frames are not ordered in
time (noise), each with the first. They are about change alone: a model that is always wrong in the
same way is steady.
"""

from __future__ import annotations

import numpy as np


def flip_probability(predictions: np.ndarray, to_first: bool = False) -> np.ndarray:
    """Share of a sequence's pairs of frames with different predictions (section 5, FP).

    predictions: int [..., frames]; to_first: compare with the first frame, not the one before.
    Returns float [...], from 0 to 1.

    Raises ValueError for fewer than two frames, and for NaN.

    >>> flip_probability(np.array([3, 3, 7, 3]))
    np.float64(0.6666666666666666)
    >>> flip_probability(np.array([3, 3, 7, 3]), to_first=True)
    np.float64(0.3333333333333333)
    """
    before, after = _pairs(np.asarray(predictions), to_first, axis=-1)
    return (before != after).mean(-1)


def top5_distance(best: np.ndarray, to_first: bool = False) -> np.ndarray:
    """Mean distance between the top-5 lists of a sequence's pairs of frames (section 5, T5D).

    With a class's rank cut off at 6 ("not among the five"), the distance of two lists is the sum
    over the five classes of the earlier list of how many ranks each has moved: 0 for equal lists,
    1 + 2 + 3 + 4 + 5 = 15 for lists without a common class.

    best: int [..., frames, k], the k best classes, best first; k is 5, fewer where there are fewer
        classes (ranks are then cut off at k + 1). to_first: as in `flip_probability`.
    Returns float [...].

    Raises ValueError for fewer than two frames, for more than five classes, for none, for a class
    that is named twice in a list, and for NaN.

    >>> top5_distance(np.array([[1, 2, 3, 4, 5], [2, 1, 3, 4, 6]]))
    np.float64(3.0)
    """
    earlier, later = _pairs(np.asarray(best), to_first, axis=-2)
    k = earlier.shape[-1]
    if not 1 <= k <= 5:
        raise ValueError(f"a list is of the 1 to 5 best classes, got {k}; give best[..., :5]")
    if (np.diff(np.sort(best, -1), axis=-1) == 0).any():
        raise ValueError("a list names a class twice; give classes, the best first")
    same = earlier[..., :, None] == later[..., None, :]
    ranks = np.where(same.any(-1), same.argmax(-1), k)
    return np.abs(ranks - np.arange(k)).sum(-1).mean(-1)


def _pairs(frames: np.ndarray, to_first: bool, axis: int) -> tuple[np.ndarray, np.ndarray]:
    if frames.ndim < -axis:
        shape = "[..., frames]" if axis == -1 else "[..., frames, classes]"
        raise ValueError(f"stability is asked of {shape}, got {[*frames.shape]}")
    if (frames != frames).any():
        raise ValueError("a frame's prediction is a class, got NaN")
    count = frames.shape[axis]
    if count < 2:
        raise ValueError(f"stability needs two frames or more, got {count}")
    after = frames.take(range(1, count), axis)
    earlier = [0] * (count - 1) if to_first else range(count - 1)
    return frames.take(earlier, axis), after
