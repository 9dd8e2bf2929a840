"""Errors carry what the user typed and what would have worked."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def nearest(wanted: str, known: Sequence[str]) -> str:
    """The end of an error message: the known names nearest to `wanted`, or all of them.

    >>> nearest("mini/vot-0", ["mini/vit-0", "mini/cnn-0"])
    '; nearest: mini/vit-0, mini/cnn-0'
    """
    near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.4)
    return f"; nearest: {', '.join(near)}" if near else f"; known: {', '.join(known)}"
