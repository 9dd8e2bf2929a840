"""Files that appear under their final name only when whole."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole(path: Path | str) -> Iterator[Path]:
    """A temporary path beside `path`; it becomes `path` when the block ends without an error.

    The reader of `path` sees the old file or the new one, never a part. After an error, a full disk
    included, the temporary file is removed and `path` is as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: writers such as numpy and papermill choose their format by it.
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as JSON to `path`, whole or not at all. NaN is refused (ValueError)."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def swap(new: Path, place: Path) -> None:
    """Put a finished folder in its place; the old one is there until the new one is."""
    place.parent.mkdir(parents=True, exist_ok=True)
    old = place.with_name(f".old-{place.name}")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def sha256(path: Path | str) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(*parts: object) -> str:
    """A short fingerprint (16 hexadecimal digits) of the text of `parts`."""
    text = "\x1f".join(str(part) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def nearest(wanted: str, known: Sequence[str]) -> str:
    """The end of an error message: the known names nearest to `wanted`, or all of them.

    >>> nearest("mini/vot-0", ["mini/vit-0", "mini/cnn-0"])
    '; nearest: mini/vit-0, mini/cnn-0'
    """
    near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.4)
    return f"; nearest: {', '.join(near)}" if near else f"; known: {', '.join(known)}"
