"""One store of all that was measured: ``build/trials/<key>/``, outliving the pages' runs.

The key covers, by content, everything that can change a number: pixels, labels, conditions, weights
and the network's configuration, the code that measures, libraries, kind of device. Two pages that
ask for the same share it. An entry holds ``about.json`` and its pieces; a piece carries the hash of
its bytes in its name, so one that is damaged, cut or strange is found, named, and measured again.
Whatever is no regular file is damaged: it is never opened, and what a link leads to is not removed.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from vitlab import keys
from vitlab.files import FileError, clear, digest, read_json, whole, write_json

PIECE = 256  # items in a piece; never the batch size, so that another batch size can resume
_NAME = re.compile(r"piece-(\d{6})-([0-9a-f]{16})\.(parquet|pt)")


class StoreError(RuntimeError):
    """Results that cannot be written."""


def folder() -> Path:
    """Where the store is: $VITLAB_TRIALS, or ``build/trials`` in the working folder."""
    return Path(os.environ.get("VITLAB_TRIALS") or Path("build") / "trials")


_asked: dict[str, None] = {}  # the keys this process has asked for, in order


def asked() -> list[str]:
    """The keys that this process has used so far: what a page rests on."""
    return list(_asked)


Fits = Callable[[Any], bool]


class Entry:
    """One kept result, in pieces of `PIECE` items.

    of: what it depends on, beside code, libraries and Python's own kind of numbers; made a key.
    about: what a listing says of it, as JSON values: what, model, images.

    Raises StoreError where the folder cannot be made.
    """

    def __init__(self, of: Sequence[object], about: dict[str, Any]):
        self.key = digest(*of, keys.libraries())
        self.place = folder() / self.key
        _asked[self.key] = None
        try:
            self._make_place()
            if not self._is_told():
                if os.path.isdir(self.place / "about.json"):  # a file takes the place of all else
                    _discard(self.place / "about.json", "written again")
                made = datetime.now(UTC).isoformat(timespec="seconds")
                write_json(self.place / "about.json", {**about, "created": made})
            os.utime(self.place)  # last used
        except OSError as error:
            raise StoreError(f"results cannot be written to {self.place}: {error}") from None

    def _make_place(self) -> None:
        try:
            self.place.mkdir(parents=True, exist_ok=True)
        except OSError:
            if os.path.isdir(self.place) or not os.path.lexists(self.place):
                raise
            _tell(self.place)  # a file, a pipe, a link that leads nowhere
            with suppress(OSError):  # never a folder: another process may have made it meanwhile
                self.place.unlink()
            self.place.mkdir(exist_ok=True)

    def _is_told(self) -> bool:
        try:
            return isinstance(read_json(self.place / "about.json"), dict)
        except (OSError, FileError):
            return False

    def _read(self, piece: int, kind: str, read: Callable[[io.BytesIO], Any], fits: Fits) -> Any:
        for path in sorted(self.place.glob(f"piece-{piece:06d}-*")):
            name, content = _NAME.fullmatch(path.name), _bytes(path)
            if name and name.groups()[1:] == (hashlib.sha256(content).hexdigest()[:16], kind):
                with suppress(Exception):  # a reader raises all sorts at what is no such file
                    found = read(io.BytesIO(content))
                    if fits(found):
                        return found
            _discard(path)
        return None

    def _put(self, piece: int, content: bytes, kind: str) -> None:
        name = f"piece-{piece:06d}-{hashlib.sha256(content).hexdigest()[:16]}.{kind}"
        try:
            with whole(self.place / name) as part:
                part.write_bytes(content)
        except OSError as error:
            raise StoreError(
                f"results cannot be written to {self.place}: {error}; what is there is kept, make "
                "room and run again"
            ) from None

    def put_rows(self, piece: int, table: pd.DataFrame) -> None:
        """Keep a piece of trials as Parquet."""
        buffer = io.BytesIO()
        table.to_parquet(buffer, compression="zstd", index=False)
        self._put(piece, buffer.getvalue(), "parquet")

    def rows(self, piece: int, fits: Fits = lambda rows: True) -> pd.DataFrame | None:
        """A piece of trials, None if it is not there, not whole, or does not fit.

        fits: whether it holds what is asked for; one that does not is named and removed.
        """
        return self._read(piece, "parquet", pd.read_parquet, fits)

    def put(self, piece: int, values: Any) -> None:
        """Keep tensors and plain values in dicts, lists and tuples."""
        buffer = io.BytesIO()
        torch.save(_tensors(values), buffer)
        self._put(piece, buffer.getvalue(), "pt")

    def get(self, piece: int, fits: Fits = lambda values: True) -> Any:
        """What was kept by `put`; None as in `rows`."""
        return self._read(piece, "pt", partial(torch.load, weights_only=True), fits)


def _bytes(path: Path) -> bytes:
    """What a piece holds; nothing if it is no regular file: a pipe or a device may never end."""
    try:
        return path.read_bytes() if os.path.isfile(path) else b""
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error}") from None


def _tell(path: Path, then: str = "measured again") -> None:
    warnings.warn(f"{path} is damaged: {then}", stacklevel=6)


def _discard(path: Path, then: str = "measured again") -> None:
    _tell(path, then)
    try:
        clear(path)
    except OSError as error:
        raise StoreError(f"{path} is damaged and cannot be removed: {error}") from None


def _tensors(values: Any) -> Any:
    """The same with arrays as tensors: what can be read back without running code."""
    if isinstance(values, dict):
        return {name: _tensors(one) for name, one in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(_tensors(one) for one in values)
    if isinstance(values, np.ndarray):
        return torch.from_numpy(values)
    if isinstance(values, np.generic):
        return values.item()
    return values.detach().cpu().clone() if isinstance(values, torch.Tensor) else values


def pieces(n: int) -> list[range]:
    """The places of each piece's items, of n."""
    return [range(first, min(n, first + PIECE)) for first in range(0, n, PIECE)]


def save_asked(out: Path) -> None:
    """Keep the list of the keys this process has used beside a page's results."""
    write_json(out / "trials.json", asked())


def read_asked(out: Path) -> list[str]:
    """The keys that a page's last run has used; none if that is not known."""
    try:
        keys_ = read_json(out / "trials.json")
    except (OSError, FileError):
        return []
    return [key for key in keys_ if isinstance(key, str)] if isinstance(keys_, list) else []
