"""Random numbers that depend on a key and on nothing else.

Every random choice of the book (a stimulus's pose, the cells of a PatchDrop mask, an episode's
support images) comes from a counter-based generator keyed by what the choice is for. Batch size,
order, number of workers and device therefore cannot change it.
"""

from __future__ import annotations

import hashlib

import numpy as np


def generator(*key: object) -> np.random.Generator:
    """A fresh NumPy generator (Philox, counter-based) for `key`.

    key: strings and integers, e.g. ``("patchdrop", seed, draw, image_id)``. Equal keys give equal
    streams, whether their integers are Python's or NumPy's; keys that differ anywhere give
    independent ones.

    Raises TypeError for a part that is neither, e.g. None for a seed.
    """
    parts = [int(part) if isinstance(part, np.integer) else part for part in key]
    for part in parts:
        if not isinstance(part, str | int):
            raise TypeError(f"random numbers are keyed by texts and integers, not {part!r}")
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest, dtype=np.uint64)))


def check_seed(seed: object) -> None:
    """Raises ValueError for a seed that is no integer: None would look like a fresh draw."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise ValueError(f"a seed is an integer, e.g. 0; got {seed!r}")
