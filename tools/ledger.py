"""Is a ledger whole? python tools/ledger.py build/ledger.json

Checks it against its JSON Schema, that every claim of the papers is there once, that every claim
that was measured has what a verdict needs (a deciding check with n and room, a control where the
paper's file asks for one), and that verdicts agree with each other, their intervals and editions.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from vitlab import claims

HAIR = 1e-9  # rounding
SCHEMA = Path(__file__).parents[1] / "vitlab" / "book" / "ledger.schema.json"


def faults(ledger: list[dict[str, Any]]) -> Iterator[str]:
    """What is missing or wrong, in words."""
    validator = Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    for error in validator.iter_errors(ledger):
        yield f"{'/'.join(map(str, error.path))}: {error.message[:200]}"
    asked = {
        (paper["id"], one["id"]) for paper in claims.papers().values() for one in paper["claims"]
    }
    there = Counter((record["paper"], record["claim"]) for record in ledger)
    yield from (f"{' '.join(one)}: missing" for one in sorted(asked - there.keys()))
    yield from (f"{' '.join(one)}: {n} times" for one, n in there.items() if n > 1)
    for record in ledger:
        where = f"{record['paper']} {record['claim']}"
        stated = {one.get("part", ""): one for one in record["primary"]}
        editions = record["editions"]
        if record["verdict"] != editions.get(record["edition"], {"verdict": "not run"})["verdict"]:
            yield f"{where}: {record['verdict']}, unlike its edition {record['edition']}"
        for edition, said in editions.items():
            parts = [part["part"] for part in said["parts"]]
            if parts and parts != list(stated):
                yield f"{where}, {edition}: parts {parts}, asked {list(stated)}"
            if parts and said["verdict"] != said["parts"][0]["verdict"]:
                yield f"{where}, {edition}: {said['verdict']}, unlike its first part"
            for part in said["parts"]:
                for wrong in _wrong(part, stated.get(part["part"], {}), edition):
                    yield f"{where}, {edition}, {part['part']}: {wrong}"


def _wrong(part: dict[str, Any], stated: dict[str, Any], edition: str) -> Iterator[str]:
    """What is wrong with a part that was measured."""
    if part["verdict"] == "not run":
        return
    lacks = [key for key in ("primary", "n", "room", "demand") if not part[key]]
    if stated.get("control") and not part["control"] and part["verdict"] != "cannot tell":
        lacks.append("control")
    if lacks:
        yield f"no {', '.join(lacks)}"
        return
    value, low, high, demand = (part[key] for key in ("value", "low", "high", "demand"))
    if demand != stated.get("demand"):
        yield f"demands {demand}, its paper's file {stated.get('demand')}"
    if part["verdict"] in ("holds", "fails") and edition != "imagenet":
        yield f"{part['verdict']} without ImageNet"
    if part["verdict"] == "cannot tell" and not part["reason"]:
        yield "cannot tell, and does not say why"
    if None not in (value, low, high) and not low - HAIR <= value <= high + HAIR:
        yield f"{value} outside of {low} to {high}"
    same, of = part["agree"]
    if same > of:
        yield f"{same} of {of} checks agree"
    if part["speaks_for"] == "these architectures" and part["trainings"] < 2:
        yield f"speaks for architectures by {part['trainings']} trainings"
    yield from _unlike(part["verdict"], low, high, demand)
    if pair := part.get("by_deit"):
        yield from _unlike(pair["verdict"], pair["low"], pair["high"], demand)
        if pair["speaks_for"] == "these architectures" and pair["trainings"] < 2:
            yield f"by DeiT's recipe: speaks for architectures by {pair['trainings']} trainings"


def _unlike(verdict: str, low: float, high: float, demand: str) -> Iterator[str]:
    """Where a verdict is not what its interval says of a demand."""
    sign, bound = demand.split()[0], float(demand.split()[1])
    meets = {
        ">": lambda: low > bound,
        "<": lambda: high < bound,
        "within": lambda: -bound < low and high < bound,
    }[sign]
    if verdict in ("holds", "seen") and not meets():
        yield f"{verdict}, but {low} to {high} is not {demand}"
    if verdict in ("fails", "opposite seen", "not seen") and meets():
        yield f"{verdict}, but {low} to {high} is {demand}"


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
