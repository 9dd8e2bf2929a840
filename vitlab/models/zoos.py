"""The index of the zoos; needs no torch, which takes seconds to import."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

ZOO = Path(__file__).parents[1] / "zoo"


@cache
def zoo() -> dict[str, dict[str, Any]]:
    """The index of the zoos: name -> arch, group, seed, accuracy, file, hash, classes, config."""
    path = ZOO / "index.json"
    if not path.exists():
        return {}
    index = json.loads(path.read_text())
    return {
        name: {**index["zoos"][name.partition("/")[0]], **entry}
        for name, entry in index["models"].items()
    }
