"""Do two builds say the same? python tools/sameness.py OLD/ledger.json NEW/ledger.json

The same: an equal verdict for every claim, and every number and end of an interval within 1e-9.
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


def differences(old: list[dict], new: list[dict], within: float = 1e-9) -> Iterator[tuple]:
    """What differs between two ledgers: (claim, quantity or "", in words)."""
    before, after = ({f"{r['paper']} {r['claim']}": r for r in ledger} for ledger in (old, new))
    for claim in before.keys() - after.keys():
        yield claim, "", "is gone"
    for claim, record in after.items():
        if claim not in before:
            yield claim, "", "is new"
            continue
        was = before[claim]
        if record["verdict"] != was["verdict"]:
            yield claim, "", f"{was['verdict']} -> {record['verdict']}"
        ours, theirs = ({q["quantity"]: q for q in r["fresh"]} for r in (record, was))
        for quantity in theirs.keys() | ours.keys():
            if quantity not in ours or quantity not in theirs:
                yield claim, quantity, "is gone" if quantity in theirs else "is new"
            elif any(abs(ours[quantity][k] - theirs[quantity][k]) > within for k in NUMBERS):
                yield claim, quantity, f"{_said(theirs[quantity])} -> {_said(ours[quantity])}"


def _said(number: dict[str, Any]) -> str:
    return f"{number['value']:.4f} [{number['low']:.4f}, {number['high']:.4f}], n {number['n']}"


def listed(path: Path = LISTED) -> dict[str, dict[str, str]]:
    """Claim -> quantity ("" for the verdict) -> why it may differ."""
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def main() -> int:
    """Compare the two ledgers on the command line and say what differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--within", type=float, default=1e-9)
    given = parser.parse_args()
    old, new = (json.loads(path.read_text()) for path in (given.old, given.new))
    allowed = listed()
    found = sorted(differences(old, new, given.within))
    unlisted = [row for row in found if row[1] not in allowed.get(row[0], {})]
    for claim, quantity, words in found:
        why = allowed.get(claim, {}).get(quantity, "")
        print(f"{'listed' if why else 'DIFFERS'}: {claim}: {quantity} {words} {why}".rstrip())
    numbers = sum(len(record["fresh"]) for record in new)
    verdict = "differ" if unlisted else "same"
    print(f"{verdict}: {len(new)} claims, {numbers} numbers, {len(found) - len(unlisted)} listed")
    return 1 if unlisted else 0


if __name__ == "__main__":
    sys.exit(main())
