"""The content of image files as hashes. Each file is read once, until it changes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from vitlab.files import digest, printable, sha256, write_text
from vitlab.images import catalogue, jpeg
from vitlab.images.decoding import FORMATS, as_rgb, check_size
from vitlab.images.errors import DataError

_THEN = "replace or remove it and start again"
_SETTLED = 2e9  # ns; a file changed later than this before it was read may change again unseen


def hashes(folder: Path, files: list[str]) -> list[str]:
    """The SHA-256 of image files (paths relative to `folder`), each found to be whole.

    What was read once is kept under `catalogue.folder()` by size, times and inode.

    Raises DataError with the first file that is damaged or cannot be read.
    """
    states = {file: _state(folder / file) for file in files}
    found, problems = _known(folder, states, "", _read)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{more}; {_THEN}")
    return found


def fingerprint(folder: Path) -> str:
    """All files below a folder as a key, by name and content; hidden ones do not count.

    Files are read once, as for `hashes`. A folder of more than `LARGEST` bytes is not read: in it
    size, times of change and inode stand for the content.

    Raises DataError for a file that cannot be read.
    """
    files, again = _below(folder)
    states = {file: _state(folder / file) for file in files}
    if sum(size for size, *_ in states.values()) > LARGEST:
        known = (" ".join(map(str, [name, *state])) for name, state in states.items())
        return digest(*known, *again)
    found, problems = _known(folder, states, "all", _whatever)
    if problems:
        raise DataError(problems[0])
    known = (f"{name} {content}" for name, content in zip(states, found, strict=True))
    return digest(*known, *again)


LARGEST = 20_000_000_000
_AT_ONCE = 1024  # files that wait to be read: each costs memory
Reader = Callable[[Path], tuple[str, str]]  # a file -> its SHA-256, and what is wrong with it


def _known(
    folder: Path, states: dict[str, list[int]], kind: str, read: Reader
) -> tuple[list[str], list[str]]:
    """The hash of each file, as kept where it is unchanged; and what is wrong with those read."""
    store = catalogue.folder() / ".hashes" / digest(folder.resolve(), *filter(None, [kind]))
    known = _kept(store)
    new = [file for file in states if known.get(file, [])[:-1] != states[file]]
    now, problems = time.time_ns(), []
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(new), _AT_ONCE):
            part = new[first : first + _AT_ONCE]
            paths = (folder / file for file in part)
            for file, (found, wrong) in zip(part, pool.map(read, paths), strict=True):
                known[file] = [*states[file], found]
                problems += [wrong] if wrong else []
    if new and not problems:
        _keep(store, {f: kept for f, kept in known.items() if now - max(kept[1:3]) > _SETTLED})
    return [known[file][-1] for file in states], problems


def _below(folder: Path) -> tuple[list[str], list[str]]:
    """Relative paths of the files below a folder, sorted, and its links to places seen before.

    Links are followed, each place once, as they may lead round in a circle; of a second way to a
    place it is known where it leads.
    """
    seen: dict[str, str] = {}
    found, again = [], []
    for place, below, files in os.walk(folder, followlinks=True):
        below[:] = sorted(name for name in below if not name.startswith("."))
        here = os.path.relpath(place, folder)
        if (real := os.path.realpath(place)) in seen:
            below.clear()
            again.append(f"{here} is {seen[real]}")
            continue
        seen[real] = here
        paths = (os.path.join(place, name) for name in files if not name.startswith("."))
        found += [os.path.relpath(path, folder) for path in paths if os.path.isfile(path)]
    return sorted(found), again


def forget() -> None:
    """Have all files read again, whatever is known of them."""
    shutil.rmtree(catalogue.folder() / ".hashes", ignore_errors=True)


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
        raise DataError(f"{printable(path)} cannot be read: {error.strerror}; {_THEN}") from None
    if not stat.S_ISREG(state.st_mode):
        raise DataError(f"{printable(path)} is not a file; {_THEN}")
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]


def _read(path: Path) -> tuple[str, str]:
    """The SHA-256 of an image file, and what is wrong with it (see `problem`)."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return "", f"{printable(path)} cannot be read: {error.strerror}"
    return hashlib.sha256(content).hexdigest(), problem(path, content)


def _whatever(path: Path) -> tuple[str, str]:
    """The SHA-256 of a file of any kind, and why it cannot be read; see `Reader`."""
    try:
        return sha256(path), ""
    except OSError as error:
        return "", f"{printable(path)} cannot be read: {error.strerror}"


def problem(path: Path, content: bytes) -> str:
    """What is wrong with an image file; empty if nothing is.

    All of it is decoded, and of PNG files the checksums are read, too.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            check_size(image)
            if image.format == "PNG":
                image.verify()  # after which it cannot be decoded
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.format in ("JPEG", "MPO"):
                return "" if jpeg.is_whole(content) else f"{printable(path)} is truncated"
            as_rgb(image)
            if image.format == "PNG" and not _has_all_rows(content):
                return f"{printable(path)} is truncated"
    except UnidentifiedImageError:
        return f"{printable(path)} is not an image ({len(content)} bytes)"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        return f"{printable(path)} is too large: {error}; save it with fewer pixels"
    except Exception as error:  # readers raise all kinds for broken headers
        return f"{printable(path)} cannot be read: {str(error) or type(error).__name__}"
    return ""


# Where each pass of an interlaced PNG begins, and its steps: x, y, to the right, down (Adam7).
_WHOLE = ((0, 0, 1, 1),)
_PASSES = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type


def _has_all_rows(content: bytes) -> bool:
    """Whether a PNG file's data, of an animated one its first picture's, are as many as its rows.

    Where they end between two rows, a decoder leaves the others black and says nothing.
    """
    at, about, data = 8, b"", []
    while (kind := content[at + 4 : at + 8]) and kind != b"IEND":
        size = int.from_bytes(content[at : at + 4], "big")
        if kind == b"IHDR":
            about = content[at + 8 : at + 8 + size]
        elif kind == b"IDAT":
            data.append(content[at + 8 : at + 8 + size])
        at += 12 + size
    wide, high = (int.from_bytes(about[k : k + 4], "big") for k in (0, 4))
    bits, lacking = about[8] * _CHANNELS[about[9]], 0
    for x, y, right, down in _PASSES if about[12] else _WHOLE:
        columns, rows = -((x - wide) // right), -((y - high) // down)
        lacking += rows * (1 + -(-columns * bits // 8)) if columns > 0 and rows > 0 else 0
    unpack = zlib.decompressobj()
    for part in data:
        while lacking > 0 and (got := unpack.decompress(part, 1 << 20)):
            lacking -= len(got)
            part = unpack.unconsumed_tail  # with nothing left it may still hold some back
    return lacking <= 0
