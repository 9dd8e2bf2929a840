"""The store of trials, ``build/trials/<key>``: listed, and pruned of what no page uses."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from vitlab.files import FileError, clear, read_json

COLUMNS = ("key", "what", "model", "images", "rows", "MB", "pages", "last used")


def table(root: Path) -> pd.DataFrame:
    """A row for each key of the store of the checkout `root`, the largest first.

    what: a condition or a page's function; rows: of its Parquet files, "" for values that are no
    rows; MB: of all its files; pages: those that used it, in any build of the checkout; "last
    used": the day a run last asked for it.

    Raises FileError, with file and line, for a page's list of trials that is no JSON.
    """
    used = users(root)
    rows = [_row(place, used.get(place.name, [])) for place in _places(root)]
    listed = pd.DataFrame(rows, columns=list(COLUMNS))
    return listed.sort_values("MB", ascending=False, ignore_index=True)


def users(root: Path) -> dict[str, list[str]]:
    """The pages, of all builds of the checkout `root`, that used each key: key -> page names.

    A run that was broken off and can be taken up counts as well.
    """
    build = root / "build"
    found: dict[str, list[str]] = {}
    # build/pages, build/<profile>/pages and build/custom/<digest>/pages; build/work/<page>-<key>
    for depth in ("", "*/", "custom/*/"):
        lists = [*build.glob(f"{depth}pages/*/trials.json")]
        lists += build.glob(f"{depth}work/*/out/trials.json")
        lists += build.glob(f"{depth}interactive/*/trials.json")
        for path in sorted(lists):
            page = path.parts[-2] if path.parts[-2] != "out" else path.parts[-3].rpartition("-")[0]
            keys = read_json(path)
            if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
                raise FileError(f"{path} is no list of keys; build {page} again")
            for key in keys:
                if page not in found.setdefault(key, []):
                    found[key].append(page)
    return found


def prune(root: Path) -> int:
    """Remove what no page of the checkout `root` uses from its store; returns the bytes freed.

    Raises FileError, before anything is removed, where a page's list of trials cannot be read.
    """
    used = users(root)
    freed = 0
    for place in _places(root):
        if place.name not in used:
            freed += 0 if place.is_symlink() else _bytes(place)
            clear(place)
    return freed


def _places(root: Path) -> list[Path]:
    store = root / "build" / "trials"
    return sorted(path for path in store.glob("*") if path.is_dir()) if store.is_dir() else []


def _row(place: Path, pages: list[str]) -> dict[str, Any]:
    try:
        about = read_json(place / "about.json")
    except (OSError, FileError):
        about = None
    if not isinstance(about, dict):
        about = {"what": "unknown: about.json is missing or damaged"}
    pieces = [*place.rglob("*.parquet")]
    used = place.stat().st_mtime  # set by the store whenever a run asks for the key
    return {
        "key": place.name,
        **{name: str(about.get(name) or "") for name in ("what", "model", "images")},
        "rows": sum(map(_rows, pieces)) if pieces else "",
        "MB": _bytes(place) / 1e6,
        "pages": ", ".join(pages),
        "last used": datetime.fromtimestamp(used, UTC).date().isoformat(),
    }


def _rows(path: Path) -> int:
    if not os.path.isfile(path):  # a pipe would be waited for
        return 0
    try:
        return pq.read_metadata(path).num_rows
    except (OSError, ValueError):  # pyarrow's errors are ValueErrors; a damaged piece has no rows
        return 0


def _bytes(place: Path) -> int:
    return sum(path.stat().st_size for path in place.rglob("*") if os.path.isfile(path))
