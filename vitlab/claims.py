"""The papers' claims and what this book's own runs say of them.

A claim's statement, published numbers and the check that decides it stand in
``book/papers/*.yml``. A page turns the check into `Check`s on its fresh statistics and calls
`settle`; the build collects what the pages settled into the ledger.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from vitlab.files import nearest, read_json, read_yaml, write_json
from vitlab.markup import render
from vitlab.statistics.interval import Interval

Verdict = Literal["holds", "fails", "inconclusive", "not run"]
VERDICTS: tuple[Verdict, ...] = ("holds", "fails", "inconclusive", "not run")


class ClaimError(ValueError):
    """A claim or paper that does not exist, or a papers file that breaks its format."""


def papers_folder() -> Path:
    """Where the papers are: $VITLAB_PAPERS, the wheel, or the checkout's ``book/papers``."""
    inside = Path(__file__).parent / "papers"
    checkout = Path(__file__).resolve().parents[1] / "book" / "papers"
    return Path(os.environ.get("VITLAB_PAPERS", inside if inside.is_dir() else checkout))


@cache
def papers(folder: Path | None = None) -> dict[str, dict[str, Any]]:
    """Every paper with its claims, by id.

    Raises ClaimError for a missing folder, a file that is not a paper, or a claim id used twice,
    FileError, with file and line, for what is no YAML.
    """
    folder = folder or papers_folder()
    found = {}
    for path in sorted(folder.glob("*.yml")):
        paper = read_yaml(path)
        if not isinstance(paper, dict):
            raise ClaimError(f"{path} is not a mapping with id, title and claims")
        missing = {"id", "title", "claims"} - set(paper)
        if missing or paper["id"] != path.stem:
            raise ClaimError(
                f"{path}: {f'lacks {missing}' if missing else 'id is not the file name'}"
            )
        ids = [claim["id"] for claim in paper["claims"]]
        if len(ids) != len(set(ids)):
            raise ClaimError(f"{path}: a claim id is used twice")
        found[paper["id"]] = paper
    if not found:
        raise ClaimError(f"no papers in {folder}")
    return found


def claim(paper: str, claim_id: str) -> dict[str, Any]:
    """One claim as the paper's file gives it. Raises ClaimError for an unknown paper or claim."""
    if paper not in papers():
        raise ClaimError(f"unknown paper {paper!r}{nearest(paper, list(papers()))}")
    entries = {entry["id"]: entry for entry in papers()[paper]["claims"]}
    if claim_id not in entries:
        raise ClaimError(f"{paper} has no claim {claim_id!r}{nearest(claim_id, list(entries))}")
    return entries[claim_id]


@dataclass(frozen=True)
class Check:
    """One condition of a claim: an interval that must lie above (or below) a bound.

    It holds if the whole interval does, fails if the whole interval lies on the other side, and
    is inconclusive if the bound is inside.
    """

    quantity: str
    interval: Interval
    above: float | None = None
    below: float | None = None
    unit: str = "share"

    def __post_init__(self) -> None:
        if (self.above is None) == (self.below is None):
            raise ValueError(f"{self.quantity}: give either above or below")

    @property
    def verdict(self) -> Verdict:
        """holds, fails or inconclusive."""
        _, low, high, _ = self.interval
        if self.above is not None:
            return (
                "holds" if low > self.above else "fails" if high <= self.above else "inconclusive"
            )
        assert self.below is not None
        return "holds" if high < self.below else "fails" if low >= self.below else "inconclusive"

    @property
    def demand(self) -> str:
        """The bound in words: "> 0"."""
        return f"> {self.above:g}" if self.above is not None else f"< {self.below:g}"


def verdict(checks: Sequence[Check]) -> Verdict:
    """A claim holds if all its checks do, fails if one fails, and is inconclusive otherwise."""
    found = {check.verdict for check in checks}
    if not found:
        return "not run"
    return "fails" if "fails" in found else "holds" if found == {"holds"} else "inconclusive"


@dataclass(frozen=True)
class Settled:
    """What a page says of a claim; shows itself in a notebook as a verdict and two tables."""

    record: dict[str, Any]
    checks: Sequence[Check] = field(default_factory=tuple)

    def __repr__(self) -> str:
        return f"{self.record['paper']} {self.record['claim']}: {self.record['verdict']}"

    def _repr_html_(self) -> str:
        return render("claim.html", record=self.record, checks=self.checks)


def settle(
    paper: str,
    claim_id: str,
    checks: Sequence[Check],
    out: Path | str,
    facts: Sequence[tuple[str, Interval, str]] = (),
    miniature: bool = True,
    reason: str = "",
) -> Settled:
    """Give a claim its verdict, keep it under `out` for the ledger, and return it for display.

    facts: further fresh numbers that no check rests on, as (quantity, interval, unit).
    reason: what a reader should know of the verdict; required where no check could be run.

    A quantity without a finite number is left out, and the reason names it.

    Raises ClaimError for an unknown claim, ValueError for no checks and no reason.
    """
    entry = claim(paper, claim_id)
    if not checks and not reason:
        raise ValueError(f"{paper} {claim_id}: no checks, so say in `reason` why it was not run")
    fresh = [(c.quantity, c.interval, c.unit) for c in checks] + list(facts)
    # A ratio to nothing, e.g. of a model that is never right: its check stays inconclusive.
    lost = [quantity for quantity, i, _ in fresh if not all(map(math.isfinite, i))]
    if lost:
        reason = f"{reason} No number for: {', '.join(lost)}.".strip()
    record = {
        "paper": paper,
        "claim": claim_id,
        "statement": " ".join(entry["statement"].split()),
        "verdict": verdict(checks),
        "reason": reason,
        "miniature": miniature,
        "published": entry["published"],
        "fresh": [
            {
                "quantity": quantity,
                "value": i.value,
                "low": i.low,
                "high": i.high,
                "n": i.n,
                "unit": unit,
            }
            for quantity, i, unit in fresh
            if quantity not in lost
        ],
    }
    write_json(Path(out) / "claims" / f"{paper}.{claim_id}.json", record)
    return Settled(record, tuple(checks))


def ledger(pages: dict[str, Path], profile: str) -> list[dict[str, Any]]:
    """One record for every claim of every paper, settled by a page or waiting for one.

    pages: page name -> the folder it was run in.

    Raises ClaimError where two pages settled the same claim, FileError for what is no JSON.
    """
    settled: dict[tuple[str, str], dict[str, Any]] = {}
    for page, folder in pages.items():
        for path in sorted((folder / "claims").glob("*.json")):
            record = read_json(path)
            if not isinstance(record, dict) or not {"paper", "claim", "verdict"} <= set(record):
                raise ClaimError(f"{path} is not what a page settled; delete it and build again")
            key = record["paper"], record["claim"]
            if key in settled:
                raise ClaimError(f"{key} is settled by both {settled[key]['page']} and {page}")
            settled[key] = {**record, "page": page, "profile": profile}
    records = []
    for paper in papers().values():
        for entry in paper["claims"]:
            waiting = {
                "paper": paper["id"],
                "claim": entry["id"],
                "statement": " ".join(entry["statement"].split()),
                "verdict": "not run",
                "reason": "waits for a page; planned: " + " ".join(str(entry["mini"]).split()),
                "miniature": True,
                "published": entry["published"],
                "fresh": [],
                "page": None,
                "profile": profile,
            }
            records.append(settled.get((paper["id"], entry["id"]), waiting))
    return records
