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
    streams; keys that differ anywhere give independent ones.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest, dtype=np.uint64)))
