"""What is done to an image before a model sees it.

A condition maps raw pixels in [0, 1] to raw pixels in [0, 1], before normalisation. Its random
choices are keyed by the image's id, so they do not depend on how images are batched.
"""

from vitlab.conditions.condition import CLEAN, Batch, Condition

__all__ = ["CLEAN", "Batch", "Condition"]
