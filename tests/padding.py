"""What tests expect of intervals of numbers that are no counts of answers."""

import numpy as np


def far(values):
    """With two items more, one either way, as far out as the farthest."""
    middle, end = np.mean(values), np.abs(values - np.mean(values)).max()
    return np.r_[values, middle - end, middle + end]
