"""What torch can compute on here."""

import torch


def best_device() -> str:
    """The device torch can use here: "cuda", "mps" or "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
