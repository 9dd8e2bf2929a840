"""Is a ledger whole? python tools/ledger.py build/ledger.json

Checks it against its JSON Schema, and that every claim that was measured has what a verdict needs:
a deciding check with n and room, and a control where the paper's file asks for one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMA = Path(__file__).parents[1] / "vitlab" / "book" / "ledger.schema.json"


def faults(ledger: list[dict[str, Any]]) -> Iterator[str]:
    """What is missing or wrong, in words."""
    validator = Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    for error in validator.iter_errors(ledger):
        yield f"{'/'.join(map(str, error.path))}: {error.message[:200]}"
    for record in ledger:
        stated = {one.get("part", ""): one for one in record["primary"]}
        for edition, said in record["editions"].items():
            for part in said["parts"]:
                where = f"{record['paper']} {record['claim']}, {edition}, {part['part']}"
                if part["verdict"] == "not run":
                    continue
                lacks = [key for key in ("primary", "n", "room", "demand") if not part[key]]
                wanted = "control" in stated.get(part["part"], {})
                if wanted and not part["control"] and part["verdict"] != "cannot tell":
                    lacks.append("control")
                if lacks:
                    yield f"{where}: no {', '.join(lacks)}"


def main() -> int:
    """Check the ledger on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ledger", nargs="?", type=Path, default=Path("build/ledger.json"))
    path = parser.parse_args().ledger
    ledger = json.loads(path.read_text(encoding="utf-8"))
    found = list(faults(ledger))
    print("\n".join(found) or f"{path} is whole: {len(ledger)} claims")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
