"""How far a measurement is: a bar on a terminal, or a note in a file that the build reads."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

from tqdm import tqdm
from tqdm.auto import tqdm as suitable  # a widget in a notebook

NOTE = "VITLAB_PROGRESS"  # the file for the notes; set for each page by what runs it


class _Noted(tqdm):
    """A bar that stands in a file: images done, how many there are, seconds left (or null)."""

    def display(self, *_: Any, **__: Any) -> None:
        """Write the note. A full disk is told by those who write results."""
        known = self.format_dict
        rate = known["rate"] or (known["n"] / known["elapsed"] if known["elapsed"] else 0)
        left = (known["total"] - known["n"]) / rate if rate else None
        with suppress(OSError):
            note = {"done": round(known["n"]), "of": known["total"], "left": left}
            Path(os.environ[NOTE]).write_text(json.dumps(note))


def bar(images: int, what: str, shown: bool | None = None) -> tqdm:
    """A bar over images, for ``with``.

    shown: whether there is one; if None, on a terminal and for the build (see `NOTE`).
    """
    if os.environ.get(NOTE) and shown is None:
        return _Noted(total=images, file=StringIO(), disable=False, mininterval=0.5)
    hidden = None if shown is None else not shown
    return suitable(total=images, desc=what, unit="image", disable=hidden)
