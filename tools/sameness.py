"""Do two builds say the same? python tools/sameness.py OLD/ledger.json NEW/ledger.json

The same: an equal verdict for every claim in every edition, and every number and end of an interval
within 1e-9. With --values, numbers alone: what is left where the rules of verdicts have changed.
Ledgers of the first edition, whose numbers are called fresh, are read too.
What may differ is listed in ``tools/changed.yml``, claim -> quantity -> reason, and stands in the
changelog with old and new value. Exits with 1 where anything else differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

NUMBERS = ("value", "low", "high", "n")
LISTED = Path(__file__).with_name("changed.yml")


def numbers(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A claim's numbers by what they are of; those of the miniature keep their bare names."""
    found = {q["quantity"]: q for q in record.get("fresh", ())}
    for edition, said in record.get("editions", {}).items():
        of = "" if edition == "mini" else f"{edition}: "
        for q in said["checks"] + said["facts"]:
            name = of + q["quantity"]
            found[f"{q.get('part')}: {name}" if name in found else name] = q
    return found


def verdicts(record: dict[str, Any]) -> dict[str, str]:
    """A claim's verdict, its edition, and those of each edition and part."""
    found = {"": f"{record['verdict']}{' in ' * bool(e := record.get('edition') or '')}{e}"}
    for edition, said in record.get("editions", {}).items():
        found[edition] = said["verdict"]
        found |= {f"{edition}, {p['part']}": p["verdict"] for p in said.get("parts", ())}
    return found


def differences(
    old: list[dict], new: list[dict], within: float = 1e-9, values: bool = False
) -> Iterator[tuple]:
    """What differs between two ledgers: (claim, quantity or "", in words).

    values: compare the numbers of what both have, not verdicts, intervals and what one lacks.
    """
    keys = ("value",) if values else NUMBERS
    before, after = ({f"{r['paper']} {r['claim']}": r for r in ledger} for ledger in (old, new))
    for claim in before.keys() - after.keys():
        yield claim, "", "is gone"
    for claim, record in after.items():
        if claim not in before:
            yield claim, "", "is new"
            continue
        was = before[claim]
        said, once = verdicts(record), verdicts(was)
        for where in () if values else dict.fromkeys([*once, *said]):
            if said.get(where) != once.get(where):
                yield claim, where, f"{once.get(where)} -> {said.get(where)}"
        ours, theirs = numbers(record), numbers(was)
        for quantity in theirs.keys() | ours.keys():
            if quantity not in ours or quantity not in theirs:
                if not values:
                    yield claim, quantity, "is gone" if quantity in theirs else "is new"
            elif not all(_close(ours[quantity][k], theirs[quantity][k], within) for k in keys):
                yield claim, quantity, f"{_said(theirs[quantity])} -> {_said(ours[quantity])}"


def _close(one: float | None, other: float | None, within: float) -> bool:
    return one is other if one is None or other is None else abs(one - other) <= within


def _said(number: dict[str, Any]) -> str:
    value, low, high = (_written(number[k]) for k in ("value", "low", "high"))
    return f"{value} [{low}, {high}], n {number['n']}"


def _written(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


def listed(path: Path = LISTED) -> dict[str, dict[str, str]]:
    """Claim -> quantity ("" for the verdict) -> why it may differ."""
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def main() -> int:
    """Compare the two ledgers on the command line and say what differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--within", type=float, default=1e-9)
    parser.add_argument("--values", action="store_true", help="numbers of what both have, alone")
    given = parser.parse_args()
    old, new = (json.loads(path.read_text()) for path in (given.old, given.new))
    allowed = listed()
    found = sorted(differences(old, new, given.within, given.values))
    unlisted = [row for row in found if row[1] not in allowed.get(row[0], {})]
    for claim, quantity, words in found:
        why = allowed.get(claim, {}).get(quantity, "")
        print(f"{'listed' if why else 'DIFFERS'}: {claim}: {quantity} {words} {why}".rstrip())
    count = sum(len(numbers(record)) for record in new)
    verdict = "differ" if unlisted else "same"
    print(f"{verdict}: {len(new)} claims, {count} numbers, {len(found) - len(unlisted)} listed")
    return 1 if unlisted else 0


if __name__ == "__main__":
    sys.exit(main())
