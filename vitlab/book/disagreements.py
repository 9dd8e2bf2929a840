"""Where the papers disagree: pairs of claims that cannot both be true in general, or seem so.

A claim of ``book/papers/*.yml`` names the claim of an earlier paper that it goes against::

    disagrees:
      - with: naseer2021.shape-bias-vit-vs-cnn
        about: Shape or texture       # pairs of one heading stand together
        says: What each measured, and what differs; no verdict and no number of this book

What this book has found of the two is drawn from the ledger.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from vitlab import claims
from vitlab.book import front
from vitlab.claims import ClaimError
from vitlab.files import nearest
from vitlab.markup import EDITIONS, Markup, render

PAGE = "book/disagreements"  # its place in the table of contents
_KEYS = ("with", "about", "says")


@dataclass(frozen=True)
class Pair:
    """Two claims, each as ``paper.claim``, under a heading, with what a reader should know."""

    first: str  # of the earlier paper
    second: str
    about: str
    says: str

    @property
    def id(self) -> str:
        """The pair's place on its page."""
        return f"{self.first}--{self.second}"


def pairs(papers: Mapping[str, Mapping[str, Any]] | None = None) -> list[Pair]:
    """All pairs that the papers' files name, in the front page's order of themes.

    Raises ClaimError for an unknown paper or claim, two claims of one paper, a pair that is named
    twice, and for keys or text that are missing or unknown.
    """
    papers = claims.papers() if papers is None else papers
    known = {
        f"{p}.{entry['id']}": entry for p, paper in papers.items() for entry in paper["claims"]
    }
    found: dict[frozenset[str], Pair] = {}
    for name, entry in known.items():
        paper = name.partition(".")[0]
        where = f"{claims.papers_folder() / paper}.yml: {entry['id']}"
        for pair in _stated(where, name, entry.get("disagrees", [])):
            _exists(where, pair.first, paper, papers)
            both = frozenset({pair.first, pair.second})
            if both in found:
                side = f"{found[both].second} and {name}" if found[both].second != name else name
                raise ClaimError(
                    f"{where}: its pair with {pair.first} is named twice, by {side}; "
                    "name it once, at the later paper's claim"
                )
            found[both] = pair
    rank = {theme: k for k, theme in enumerate(claims.THEMES)}
    return sorted(found.values(), key=lambda pair: rank[known[pair.first]["theme"]])


def _stated(where: str, name: str, stated: Any) -> Iterator[Pair]:
    if not isinstance(stated, list):
        raise ClaimError(f"{where}: disagrees is no list, but {stated!r}; begin it with - with:")
    for one in stated:
        if not isinstance(one, dict):
            raise ClaimError(f"{where}: disagrees has {one!r}; write {', '.join(_KEYS)}")
        if unknown := [str(key) for key in one if key not in _KEYS]:
            raise ClaimError(f"{where}: disagrees has {unknown[0]!r}{nearest(unknown[0], _KEYS)}")
        for key in _KEYS:
            if not isinstance(one.get(key), str) or not one[key].strip():
                raise ClaimError(f"{where}: disagrees lacks a text for {key!r}")
        yield Pair(one["with"], name, " ".join(one["about"].split()), " ".join(one["says"].split()))


def _exists(where: str, name: str, own: str, papers: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises ClaimError unless `name` is ``paper.claim`` of another paper."""
    paper, dot, claim = name.partition(".")
    if not dot:
        raise ClaimError(f"{where}: disagrees with {name!r}; write PAPER.CLAIM")
    if paper not in papers:
        raise ClaimError(
            f"{where}: disagrees with {name}, unknown paper{nearest(paper, [*papers])}"
        )
    ids = [entry["id"] for entry in papers[paper]["claims"]]
    if claim not in ids:
        near = nearest(claim, ids)
        raise ClaimError(f"{where}: disagrees with {name}, but {paper} has no such claim{near}")
    if paper == own:
        raise ClaimError(f"{where}: disagrees with {name} of its own paper; name another paper's")


# --- what this book has found of two claims -------------------------------------------------------

_SAYS = {  # verdict -> said of one claim, said of both, what it is for the claim
    "holds": ("{} holds", "both hold", "yes"),
    "seen": ("{} is seen", "both are seen", "yes"),
    "fails": ("{} fails", "both fail", "no"),
    "opposite seen": ("the opposite of {} is seen", "the opposite of both is seen", "no"),
    "not seen": ("{} is not seen", "neither is seen", "no"),
    "cannot tell": ("{} stays open", "both stay open", "open"),
}
_TOGETHER = {
    ("yes", "yes"): "here they do not exclude each other",
    ("yes", "no"): "here they disagree as well",
    ("no", "yes"): "here they disagree as well",
    ("no", "no"): "here neither is borne out",
}
_OPEN = "here nothing is decided between them"


def together(
    first: Mapping[str, str],
    second: Mapping[str, str],
    fair: Sequence[Mapping[str, str]] = ({}, {}),
) -> str:
    """What the verdicts of two claims say of the pair, in a sentence for each edition of both.

    first, second: edition -> verdict. fair: of each, edition -> the verdict of the same check
    against a CNN as accurate.

    >>> together({"imagenet": "holds"}, {"imagenet": "fails"})
    'On ImageNet the first holds and the second fails: here they disagree as well.'

    Editions are never mixed: where only one of the two was measured, it is named, and nothing is
    said of the pair.
    """
    measured = [{e: v for e, v in one.items() if v != "not run"} for one in (first, second)]
    shared = [e for e in EDITIONS if all(e in one for one in measured)]
    if shared:
        told = [_in_one(e, *(one[e] for one in measured)) + _beside(e, fair) for e in shared]
        alone = [{e: v for e, v in one.items() if e not in shared} for one in measured]
        return " ".join([*told, *_unshared(alone, fair)])
    equal = "".join(_beside(e, fair) for e in EDITIONS)
    said = [(n, _alone(one)) for n, one in zip(_NAMES, measured, strict=True) if one]
    if len(said) == 2:
        both = " and ".join(f"{name} {where}" for name, where in said)
        return f"So far this book measured {both}: not both in one setting.{equal}"
    if said:
        return f"So far this book measured only {said[0][0]}, {said[0][1]}.{equal}"
    return "This book has measured neither yet."


_NAMES = ("the first", "the second")


def _in_one(edition: str, *verdicts: str) -> str:
    words = [_SAYS[verdict][0].format(name) for name, verdict in zip(_NAMES, verdicts, strict=True)]
    same = len(set(verdicts)) == 1
    said = _SAYS[verdicts[0]][1] if same else " and ".join(words)
    first, second = (_SAYS[verdict][2] for verdict in verdicts)
    where = front.where(edition)
    return f"{where[:1].upper()}{where[1:]} {said}: {_TOGETHER.get((first, second), _OPEN)}."


def _beside(edition: str, fair: Sequence[Mapping[str, str]]) -> str:
    """What the two claims become against a CNN as accurate, where such a check stands."""
    told = [
        f"{name}: {one[edition]}" for name, one in zip(_NAMES, fair, strict=True) if edition in one
    ]
    return f" Against a CNN as accurate there, {'; '.join(told)}." if told else ""


def _unshared(
    alone: Sequence[Mapping[str, str]], fair: Sequence[Mapping[str, str]]
) -> Iterator[str]:
    """What one of the claims alone was measured in."""
    for name, one in zip(_NAMES, alone, strict=True):
        if one:
            beside = "".join(_beside(e, fair) for e in one)
            yield f"Only {name} was measured {_alone(one)}.{beside}"


def _alone(verdicts: Mapping[str, str]) -> str:
    return " and ".join(f"{front.where(e)} ({verdicts[e]})" for e in EDITIONS if e in verdicts)


# --- the page, and the lines on the papers' pages -------------------------------------------------


def page(found: Sequence[Pair], records: Sequence[Mapping[str, Any]]) -> str:
    """The page as Markdown. records: the ledger's, with every claim that is named."""
    rows = {r["id"]: _leading(r) for r in front.rows(records, "../")}
    headings = list(dict.fromkeys(pair.about for pair in found))
    parts = [(about, [_shown(p, rows) for p in found if p.about == about]) for about in headings]
    return render("disagreements.md", parts=parts, n=len(found))


def _shown(pair: Pair, rows: Mapping[str, front.Row]) -> dict[str, Any]:
    both = [rows[pair.first], rows[pair.second]]
    first, second = ({e: one["verdict"] for e, one in r["editions"].items()} for r in both)
    fair = [{e: front.fair(one) for e, one in r["editions"].items()} for r in both]
    told = together(first, second, [{e: v for e, v in one.items() if v} for one in fair])
    return {"pair": pair, "table": Markup(front.lines(both)), "here": told}


def _leading(row: front.Row) -> front.Row:
    """A line that leads to the page that measures its claim, or else to the claim's own address."""
    return row if row["page"] else front.with_link(row, row["links"]["claim"])


def others(found: Sequence[Pair], root: str) -> dict[str, list[dict[str, str]]]:
    """By claim, those that it seems to disagree with: name, short and the pair's place.

    root: the site's top from the page that shows them.
    """
    beside: dict[str, list[dict[str, str]]] = {}
    for pair in found:
        for own, other in [(pair.first, pair.second), (pair.second, pair.first)]:
            paper, _, claim = other.partition(".")
            short = claims.claim(paper, claim)["short"]
            place = f"{root}{PAGE}.html#{quote(pair.id)}"
            beside.setdefault(own, []).append({"paper": paper, "short": short, "link": place})
    return beside
