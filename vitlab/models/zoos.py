"""The index of the zoos; needs no torch, which takes seconds to import."""

from __future__ import annotations

import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

from vitlab.files import FileError, read_json, read_yaml

ZOO = Path(__file__).parents[1] / "zoo"


@cache
def zoo() -> dict[str, dict[str, Any]]:
    """The index of the zoos: name -> arch, group, seed, accuracy, file, hash, classes, config.

    Raises FileError, with file and line, for an index that is missing or is none.
    """
    path = ZOO / "index.json"
    try:
        index = read_json(path)
    except (FileError, OSError) as error:
        raise FileError(f"{error}; {_HEAL}") from None
    try:
        found = {
            name: {**index["zoos"][name.partition("/")[0]], **entry}
            for name, entry in index["models"].items()
        }
        lacking = [name for name, record in found.items() if _OF_RECORD - set(record)]
    except (AttributeError, KeyError, TypeError) as error:
        raise FileError(f"{path} is no index of the zoos: {error!r}; {_HEAL}") from None
    if lacking:
        missing = ", ".join(sorted(_OF_RECORD - set(found[lacking[0]])))
        raise FileError(f"{path}: {lacking[0]} lacks {missing}; {_HEAL}")
    return found


def waiting(pattern: str) -> list[str]:
    """The networks that recipes name and a pattern matches, where none of these is trained yet.

    >>> waiting("mini/vit-?"), waiting("photos/vot-?")
    ([], [])

    Raises FileError as `zoo` does, and for recipes that are no YAML.
    """
    if any(fnmatch.fnmatchcase(name, pattern) for name in zoo()):
        return []
    return [name for name in _with_recipe(ZOO) if fnmatch.fnmatchcase(name, pattern)]


@cache
def _with_recipe(where: Path) -> list[str]:
    table = read_yaml(where / "recipes.yml")
    return [
        f"{of}/{record}-{seed}"
        for of, section in table.items()
        for record, given in section["models"].items()
        for seed in given.get("seeds", [0])
    ]


_OF_RECORD = {"arch", "classes", "config", "file", "group", "seed", "sha256"}
_HEAL = "restore it from the repository"
