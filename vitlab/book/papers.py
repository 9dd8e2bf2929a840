"""A page for each paper: what it says, its claims with all evidence, its checks and cautions."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from vitlab import claims
from vitlab.book import front
from vitlab.files import LOADER, digest
from vitlab.markup import Markup, render

Others = Mapping[str, Sequence[Mapping[str, str]]]  # claims that one disagrees with, by name


def pages(
    records: Sequence[Mapping[str, Any]], address: str, others: Others = MappingProxyType({})
) -> dict[str, str]:
    """Markdown by name: ``index`` and a page for each paper that a record is of.

    address: the repository's, for links to the commits; none if empty. others: what each claim
    seems to disagree with (`disagreements.others`).
    """
    found = front.rows(records, "../../")
    known = commits(claims.papers_folder())
    rows = {p: [r for r in found if r["paper"] == p] for p in claims.papers()}
    made = {
        paper: _page(claims.papers()[paper], own, address, known, others)
        for paper, own in rows.items()
        if own
    }
    listed = [
        {
            **claims.papers()[paper],
            "rows": own,
            "measured": sum(r["edition"] is not None for r in own),
            "counts": front.counts(own),
        }
        for paper, own in rows.items()
        if own
    ]
    return {"index": render("papers.md", papers=listed), **made}


def _page(
    paper: Mapping[str, Any],
    rows: Sequence[front.Row],
    address: str,
    known: Sequence[str],
    others: Others,
) -> str:
    since = held_since(claims.papers_folder() / f"{paper['id']}.yml", known)
    cautions = [c for c in paper.get("cautions", ()) if not c.startswith("known:")]
    shown = []
    for r in rows:
        # On its own page a claim's address is its id; there too it leads to itself.
        links = {**r["links"], "id": r["claim"], "claim": f"#{r['claim']}"}
        held = dict(since.get(r["claim"], {}))
        if held and address and held["commit"] != NOT_YET:
            held["link"] = f"{address}/commit/{held['commit']}"
        card = Markup(claims.card(paper["id"], r["claim"], r["editions"], links, held))
        cited = f"book/papers/{paper['id']}.html#{r['claim']}"
        beside = others.get(r["id"], ())
        shown.append({**r, "card": card, "cited": cited, "others": beside})
    return render(
        "paper.md",
        paper=paper,
        arxiv=_several(paper.get("arxiv")),
        code=[place for place in _several(paper.get("code")) if place.startswith("https://")],
        method=[text for text in str(paper.get("method", "")).splitlines() if text.strip()],
        cautions=cautions,
        unread=any("could not be" in c or "not read" in c for c in cautions),
        table=Markup(front.lines([front.with_link(r, f"#{r['claim']}") for r in rows], False)),
        rows=shown,
        counts=front.counts(rows),
        measured=sum(r["edition"] is not None for r in rows),
    )


def _several(text: Any) -> list[str]:
    """The parts of a field that can name several: a suite of papers has a place for each."""
    return [part for part in re.split(r"[\s,;]+", str(text or "")) if part]


NOT_YET = "not committed yet"


def commits(folder: Path) -> list[str]:
    """The commits behind a folder, newest first; none where git or the history is not there."""
    if not _git(folder, "rev-parse", "--is-shallow-repository").startswith("false"):
        return []  # all that is older would seem to be of its last commit
    return _git(folder, "rev-list", "HEAD").splitlines()


def history(folder: Path) -> str:
    """What git knows of a folder, as a key: `held_since` depends on this and on its files."""
    where = _git(folder, "rev-parse", "HEAD", "--is-shallow-repository")
    return digest(where, _git(folder, "ls-files", "--stage"))


def held_since(path: Path, known: Sequence[str]) -> dict[str, dict[str, str]]:
    """The commit that first held the check of each claim as it stands: claim -> commit, date.

    That is the latest of its lines' commits. known: `commits` of the file's folder.
    """
    if not known:
        return {}
    by_line = _blame(path)
    age = {commit: k for k, commit in enumerate([NOT_YET, *known])}
    found = {}
    for claim, lines in _check_lines(path.read_text()).items():
        if of_lines := [by_line[line] for line in lines if line in by_line]:
            commit, time = min(of_lines, key=lambda one: age.get(one[0], len(age)))
            day = datetime.fromtimestamp(time, UTC).date().isoformat()
            short = commit if commit == NOT_YET else commit[:10]
            found[claim] = {"commit": short, "date": day, "link": ""}
    return found


def _check_lines(text: str) -> dict[str, list[int]]:
    """The lines, from 1, of each claim's ``check`` and ``primary``."""
    # YAML ends lines at these too, git does not.
    root: Any = yaml.compose(re.sub("[\x85\u2028\u2029]", " ", text), Loader=LOADER)
    claims_ = next(value for key, value in root.value if key.value == "claims")
    spans = {}
    for claim in claims_.value:
        parts = {key.value: (key, value) for key, value in claim.value}
        lines: set[int] = set()
        for name in {"check", "primary"} & set(parts):
            key, value = parts[name]
            last = value.end_mark.line + (value.end_mark.column > 0)
            lines |= set(range(key.start_mark.line + 1, max(last, key.start_mark.line + 1) + 1))
        spans[parts["id"][1].value] = sorted(lines)
    return spans


def _blame(path: Path) -> dict[int, tuple[str, int]]:
    """Of each line of a file: the commit that it is from, and when that was."""
    found: dict[int, tuple[str, int]] = {}
    commit, line = "", 0
    # An empty file: commits that a reader's settings pass over count, too.
    said = _git(path.parent, "blame", "--ignore-revs-file=", "--line-porcelain", "--", path.name)
    for text in said.split("\n"):
        word, *rest = text.split(" ")
        if len(word) == 40 and len(rest) >= 2:
            commit, line = word if int(word, 16) else NOT_YET, int(rest[1])
        elif word == "committer-time":
            found[line] = commit, int(rest[0])
    return found


def _git(folder: Path, *command: str) -> str:
    """What git says in a folder; empty where there is no git, or no history."""
    try:
        done = subprocess.run(
            # Where a reader has commits replaced, the others are printed all the same.
            ["git", "--no-replace-objects", *command],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
        )
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""
