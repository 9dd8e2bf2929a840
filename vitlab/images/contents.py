"""The content of image files as hashes. Each file is read once, until it changes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from vitlab.files import digest, write_text
from vitlab.images import catalogue, jpeg
from vitlab.images.errors import DataError
from vitlab.images.images import FORMATS, as_rgb

_THEN = "replace or remove it and start again"
_SETTLED = 2e9  # ns; a file changed later than this before it was read may change again unseen


def hashes(folder: Path, files: list[str]) -> list[str]:
    """The SHA-256 of image files (paths relative to `folder`), each found to be whole.

    What was read once is kept under `catalogue.folder()` by size, times and inode.

    Raises DataError with the first file that is damaged or cannot be read.
    """
    store = catalogue.folder() / ".hashes" / digest(folder.resolve())
    known = _kept(store)
    states = {file: _state(folder / file) for file in files}
    new = [file for file in files if known.get(file, [])[:-1] != states[file]]
    now, problems = time.time_ns(), []
    with ThreadPoolExecutor() as pool:
        for file, (found, wrong) in zip(
            new, pool.map(_read, (folder / f for f in new)), strict=True
        ):
            known[file] = [*states[file], found]
            problems += [wrong] if wrong else []
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{more}; {_THEN}")
    if new:
        _keep(store, {f: kept for f, kept in known.items() if now - max(kept[1:3]) > _SETTLED})
    return [known[file][-1] for file in files]


def _kept(store: Path) -> dict[str, list]:
    """File -> [size, mtime, ctime, inode, SHA-256] as kept; nothing where the store is damaged."""
    try:
        checksum, _, text = store.read_text(encoding="utf-8").partition("\n")
        return json.loads(text) if digest(text) == checksum else {}
    except (OSError, ValueError):
        return {}


def _keep(store: Path, known: dict[str, list]) -> None:
    text = json.dumps(known)
    with suppress(OSError):  # it only saves time
        write_text(store, f"{digest(text)}\n{text}")


def _state(path: Path) -> list[int]:
    try:
        state = os.stat(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; {_THEN}") from None
    if not stat.S_ISREG(state.st_mode):
        raise DataError(f"{path} is not a file; {_THEN}")
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]


def _read(path: Path) -> tuple[str, str]:
    """The SHA-256 of an image file, and what is wrong with it (see `problem`)."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return "", f"{path} cannot be read: {error.strerror}"
    return hashlib.sha256(content).hexdigest(), problem(path, content)


def problem(path: Path, content: bytes) -> str:
    """What is wrong with an image file; empty if nothing is.

    All of it is decoded but PNG files, whose checksums tell as much.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.format in ("JPEG", "MPO"):
                return "" if jpeg.is_whole(content) else f"{path} is truncated"
            if image.format == "PNG":
                image.verify()
            else:
                as_rgb(image)
    except UnidentifiedImageError:
        return f"{path} is not an image ({len(content)} bytes)"
    except Image.DecompressionBombError as error:
        return f"{path} is too large: {error}"
    except Exception as error:  # readers raise all kinds for broken headers
        return f"{path} cannot be read: {error or type(error).__name__}"
    return ""
