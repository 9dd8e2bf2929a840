"""Image sets: load them, narrow them down, and what is known of their classes.

>>> from vitlab import images
>>> len(images.load("stimuli", n=32))
32
"""

from vitlab.images.imagenet import (
    decision_matrix,
    human_decisions,
    imagenet_16,
    imagenet_wnids,
    nine,
)
from vitlab.images.images import DataError, Images, masks, subset
from vitlab.images.load import available, cue_conflict, load, own, transfer

__all__ = [
    "DataError",
    "Images",
    "available",
    "cue_conflict",
    "decision_matrix",
    "human_decisions",
    "imagenet_16",
    "imagenet_wnids",
    "load",
    "masks",
    "nine",
    "own",
    "subset",
    "transfer",
]
