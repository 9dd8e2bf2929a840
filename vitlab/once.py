"""Answers that texts alone decide, such as a module's syntax: asked once, in whatever process.

A build parses the library and all pages to see what has changed, and mostly nothing has.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from vitlab.files import digest, is_whole, read_json, sealed, sha256, write_text

_READERS = ("jupytext", "nbformat")  # which read notebooks
_MOST = 10_000  # answers in a file that is filled further; a book has about a thousand
_known: dict[str, Any] = {}
_asked: set[str] = set()


def asked(
    answer: Callable[..., Any], *texts: str, fits: Callable[[Any], bool] = lambda known: True
) -> Any:
    """answer(*texts), from memory where it was asked before.

    answer: gives plain JSON, decided by the texts, its own code and the code that `kept` is told;
        nobody may change what it gives.
    fits: whether something has the form of an answer; what has not, in a file that somebody else
        wrote, is asked anew. It may raise AttributeError, KeyError, TypeError or ValueError, too.
    """
    key = digest(answer.__module__, answer.__qualname__, *texts)
    if key not in _known or not _has_form(_known[key], fits):
        _known[key] = answer(*texts)
    _asked.add(key)
    return _known[key]


def _has_form(known: Any, fits: Callable[[Any], bool]) -> bool:
    with suppress(AttributeError, KeyError, TypeError, ValueError):
        return fits(known)
    return False


@contextmanager
def kept(path: Path, *code: Path) -> Iterator[None]:
    """Within the block, what other processes asked is known; at its end the file has all of it.

    path: of the file, a JSON; a damaged one is as good as none. code: the files whose code gives
    the answers: by another version, of Python or of what reads notebooks too, all are asked anew.
    """
    versions = [f"{name} {metadata.version(name)}" for name in _READERS]
    by = digest(platform.python_version(), *versions, *map(sha256, (Path(__file__), *code)))
    found: dict[str, Any] = {}
    with suppress(ValueError, OSError, AttributeError, KeyError, TypeError):
        # A pipe would be waited for.
        stored = read_json(path) if path.is_file() else {}
        if is_whole(stored) and stored["by"] == by:
            found = {**stored["answers"]}
            _known.update(found)
    yield
    asked_now = {key: _known[key] for key in sorted(_asked)}
    if not asked_now.keys() <= found.keys():
        answers = asked_now if len(found) > _MOST else found | asked_now
        # As ASCII: a text may hold halves of characters, which no file's encoding has. It only
        # saves time, so a full disk, or a page's head with a date, which JSON lacks, stops nothing.
        with suppress(OSError, TypeError):
            write_text(path, json.dumps(sealed({"by": by, "answers": answers})))
