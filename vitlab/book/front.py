"""What the book says at a glance: the front page, and the top of every finding page.

All of it is made from the ledger; nothing here is written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from vitlab import claims
from vitlab.book import svg
from vitlab.files import FileError, read_json
from vitlab.looks import group_of
from vitlab.markup import BY_DEIT, EDITIONS, Markup, contrary, inert, render, said, sentence
from vitlab.models.zoos import zoo

Row = dict[str, Any]  # a claim of the ledger, with what its line in a table needs

WHERE = {"ImageNet": "on ImageNet", "photographs": "on photographs", "miniature": "in miniature"}


def where(edition: str) -> str:
    """An edition as a place: "on photographs"; what has no such words is "in" it."""
    return WHERE.get(EDITIONS[edition], f"in {EDITIONS[edition]}")


def rows(records: Iterable[Mapping[str, Any]], root: str, failed: Container[str] = ()) -> list[Row]:
    """The ledger's claims with their drawing and their links; root: the site's top from the page.

    failed: pages whose last run failed. What is known of their claims is of a run before.

    A claim's own address, which stays, is on its paper's page; it has a line on the front page and
    a card on the page that measures it.
    """
    found = []
    for r in records:
        shown = r["editions"].get(r["edition"]) if r["edition"] else None
        name = f"{r['paper']}.{r['claim']}"
        paper = f"{root}book/papers/{quote(r['paper'])}.html"
        links = {
            "paper": paper,
            "claim": f"{paper}#{r['claim']}",
            "page": f"{root}notebooks/{quote(r['page'] or '')}.html#{name}",
            "id": name,
        }
        known = _known(r, shown)
        drawn = svg.bar(shown, known) if shown else Markup("")
        title = claims.papers()[r["paper"]]["title"] if r["paper"] in claims.papers() else ""
        sought = (r["short"], r["statement"], r["paper"], title, r["claim"], r["theme"])
        seen = {**r, "id": name, "shown": shown, "links": links, "bar": drawn, "title": title}
        seen["said"] = "no verdict" if r["page"] and r["verdict"] == "not run" else r["verdict"]
        seen["failed"] = bool(shown) and r["page"] in failed
        seen["fair"] = fair(shown)
        seen["by_deit"] = by_deit(shown)
        found.append({**seen, "sought": " ".join(sought)})
    return found


def _known(record: Mapping[str, Any], shown: Mapping[str, Any] | None) -> float | None:
    """The published value of the number that decides, where levels compare: in a reproduction."""
    stated = [one.get("published") for one in record["primary"] if isinstance(one, dict)]
    return stated[0] if shown and shown["reproduction"] and stated else None


def fair(shown: Mapping[str, Any] | None) -> str:
    """The verdict of the same check against networks that are right as often; "" without one.

    What a level under damage says of two networks is mixed with how good they are.
    """
    first, *others = (shown or {}).get("checks") or [{}]
    beside = [c for c in others if c.get("part") == first.get("part") and _FAIR in c["quantity"]]
    return beside[0]["verdict"] if beside and _FAIR not in first["quantity"] else ""


def by_deit(shown: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What the same check says of the pair by DeiT's recipe; empty where it was not asked."""
    return (shown or {}).get("by_deit") or {}


_FAIR = "equal accuracy"  # as the pages name such a network's group


def _by_theme(found: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    rank = {theme: k for k, theme in enumerate(claims.THEMES)}
    themes = sorted({r["theme"] for r in found}, key=lambda theme: (rank.get(theme, 99), theme))
    inside = {theme: [r for r in found if r["theme"] == theme] for theme in themes}
    return [(theme, sorted(own, key=lambda r: r["page"] is None)) for theme, own in inside.items()]


def counts(records: Iterable[Mapping[str, Any]]) -> list[tuple[str, int]]:
    """How many claims have each verdict, in the order of the verdicts; those not run aside."""
    said = [r["verdict"] for r in records]
    return [(v, said.count(v)) for v in claims.VERDICTS if v != "not run" and v in said]


def tally(found: Sequence[Row], own: bool = False) -> str:
    """The front page's tally: how much is measured, by what evidence, a dot for every claim.

    found: all `rows`. own: of a reader's own run, of which nothing is said as of the book.
    """
    editions = [r["edition"] for r in found if r["edition"]]
    return render(
        "tally.html",
        total=len(found),
        measured=len(editions),
        counts=counts(found),
        by_edition=[(name, editions.count(name)) for name in EDITIONS],
        words={name: text.format(right=_right()) for name, text in _EVIDENCE.items()},
        trained=any(name != "mini" for name in editions),
        own=own,
        themes=_by_theme(found),
        fair=_turns(found, [r["fair"] for r in found]),
        by_deit=_turns(found, [r["by_deit"].get("verdict", "") for r in found]),
        once=all(r["by_deit"].get("trainings", 0) <= 1 for r in found),  # 0: not known
        known=_known_before(found),
        seen=set(editions),
        unanswered=[r for r in found if r["said"] == "no verdict"],
        idle=sum(not r["page"] for r in found),
        both=[r for r in found if {"photos", "mini"} <= _agreeing(r)],
    )


def _right(names: Iterable[str] | None = None) -> str:
    """How often the networks of the photographs are right, by group: "" without any.

    names: of the networks; None: the groups that stand for an architecture in its usual training.
    """
    nets = {name: net for name, net in zoo().items() if name.startswith("photos/")}
    groups: dict[str, list[float]] = {}
    for name, net in nets.items():
        if name in names if names is not None else net["group"] in _USUAL:
            groups.setdefault(net["group"], []).append(net["accuracy"])
    told = [f"{group} {100 * sum(of) / len(of):.0f} %" for group, of in groups.items()]
    return f" (right on clean test images: {'; '.join(told)})" if told else ""


_USUAL = ("ViT", "CNN", "CNN, equal accuracy")


def _agreeing(row: Row) -> set[str]:
    """The editions in which a claim is seen, or holds."""
    return {name for name, e in row["editions"].items() if e["verdict"] in ("seen", "holds")}


def _turns(found: Sequence[Row], beside: Sequence[str]) -> dict[str, int]:
    """What verdicts become beside other networks: how many stay, and how many turn to what.

    beside: of each claim the verdict there; "" without one.
    """
    both = zip(found, beside, strict=True)
    turns = ["the same" if there == r["verdict"] else there for r, there in both if there]
    return {to: turns.count(to) for to in ("the same", *claims.VERDICTS) if to in turns}


def _known_before(found: Sequence[Row]) -> int:
    """Of the numbers that decide, how many were known in their edition when it was asked."""
    called = {"mini": "miniature"}  # as the papers' files name an edition
    return sum(
        called.get(r["edition"], r["edition"]) in r["shown"]["known"] for r in found if r["shown"]
    )


_EVIDENCE = {
    "imagenet": "rest on ImageNet pictures and pretrained models",
    "photos": "on photographs (CIFAR-10, 32 px) and small networks trained here{right}",
    "mini": "on rendered miniatures",
}


def ledger(found: Sequence[Row]) -> str:
    """The front page's table, by theme; claims that no page measures yet stand by paper below."""
    idle = [r for r in found if not r["page"]]
    papers = [p for p in claims.papers().values() if any(r["paper"] == p["id"] for r in idle)]
    filters = {
        "paper": sorted({(r["paper"], f"{r['paper']}: {r['title']}"[:60]) for r in found}),
        "theme": [(theme, theme) for theme, _ in _by_theme(found)],
        "edition": [(e, e) for n, e in EDITIONS.items() if any(n in r["editions"] for r in found)],
        "verdict": [(v, v) for v in _WORDS if any(v in (r["said"], *_said(r)) for r in found)],
    }
    return render(
        "ledger.html",
        filters=list(filters.items()),
        themes=_by_theme(found),
        waiting=[(p, [r for r in idle if r["paper"] == p["id"]]) for p in papers],
        scale=svg.scale(),
    )


def no_verdict(found: Sequence[Row]) -> str:
    """Why runs gave no verdict, for the legend: of each edition the reason that most give."""
    reasons: dict[str, list[str]] = {}
    for r in found:
        for name, e in r["editions"].items():
            if said(e) == "no verdict":
                reasons.setdefault(name, []).append(e["reason"])
    told = [
        (name, len(of), max(of, key=of.count), max(map(of.count, of)))
        for name, of in reasons.items()
    ]
    return render("no_verdict.html", told=sorted(told, key=lambda one: [*EDITIONS].index(one[0])))


_WORDS = (*(v for v in claims.VERDICTS if v != "not run"), "no verdict", "not run")


def _said(row: Mapping[str, Any]) -> list[str]:
    return [said(e) for e in row["editions"].values()]


# --- the top of a finding page --------------------------------------------------------------------


def answer(record: Mapping[str, Any]) -> Markup:
    """What has been found of a claim, in one sentence made from its verdict.

    >>> print(answer({"short": "A is B", "verdict": "seen", "edition": "mini", "reason": ""}))
    <strong>Seen</strong> in miniature: A is B.

    Where the claim has further statements that say something else, so does the sentence.
    """
    short, verdict = inert(record["short"]), record["verdict"]
    here = where(record["edition"]) if record["edition"] in EDITIONS else ""
    shown = record.get("editions", {}).get(record["edition"] or "", {})
    parts = [part["verdict"] for part in shown.get("parts", ()) if part["verdict"] != "not run"]
    others = [v for v in dict.fromkeys(parts) if v != verdict]
    more = f" Its other statements: {', '.join(others)}." if others else ""
    if (equal := fair(shown)) not in ("", verdict):
        more = f" Against a CNN as accurate as the ViTs: {equal}.{more}"
    if (other := by_deit(shown).get("verdict", verdict)) != verdict:
        more = f" {sentence(BY_DEIT)[:-1]}: {other}.{more}"
    if said_otherwise := _otherwise(shown):
        more += f" {said_otherwise}"
    if verdict in ("seen", "holds"):
        return Markup(f"<strong>{verdict.capitalize()}</strong> {here}: {short}.{more}")
    quoted, upper = f"“{short}”", here[:1].upper() + here[1:]
    reason = inert(sentence(record["reason"])) if record["reason"] else ""
    return Markup(
        {
            "opposite seen": f"{upper} we see <strong>the opposite</strong> of {quoted}.{more}",
            "fails": f"<strong>Fails</strong> {here}: {quoted}.{more}",
            "not seen": f"<strong>Not seen</strong> {here}: {quoted}.{more}",
            "cannot tell": f"<strong>Cannot tell</strong> {here} whether {quoted}. {reason}",
            "not run": f"<strong>Not measured</strong>: {quoted}. {reason}",
        }[verdict].strip()
    )


def _photographs(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What a page's photographs are, and how good their networks; empty without any."""
    of = [r["editions"]["photos"] for r in records if "photos" in r["editions"]]
    if not of:
        return {}
    sets = [re.sub(r"^[\d,]+ images of ", "", e["images"]) for e in of if e["images"]]
    models = {name for e in of for name in e.get("models", ())}
    sets = [one.replace("cifar-10", "CIFAR-10") for one in sets]
    return {"sets": ", ".join(dict.fromkeys(sets)), "right": _right(models)}


def _unprinted(panels: Sequence[svg.Panel]) -> list[str]:
    """The series of a headline that have no number of the paper's beside them."""
    theirs = {name for panel in panels if panel.title == PUBLISHED for name in panel.lines}
    ours = dict.fromkeys(name for panel in panels for name in panel.lines)
    groups = {group_of(name) for name in theirs}
    beside = [n for n in ours if _FAIR in n or "DeiT's recipe" in n]
    lacks = [n for n in ours if n not in (*theirs, *beside) and group_of(n) not in groups]
    return lacks if theirs else []


def _chosen(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was chosen when results of another edition were known: edition, in words."""
    entry = claims.claim(record["paper"], record["claim"])
    stated = entry.get("chosen", {}).items()
    return [(edition, one["says"]) for edition, one in stated if edition in record["editions"]]


def _otherwise(shown: Mapping[str, Any]) -> str:
    """How many checks say what the first statement does, where some decide the opposite."""
    first: Mapping[str, Any] = next(iter(shown.get("parts", ())), {})
    checks = [c for c in shown.get("checks", ()) if _FAIR not in c["quantity"]]
    against = contrary(first, checks) if first else {}
    named = "; ".join(f"{verdict}: {inert(which)}" for verdict, which in against.items())
    agree, of = first.get("agree") or (0, 0)
    return f"{agree} of {of} checks say so; {named}." if named else ""


def top(
    name: str,
    records: Sequence[Mapping[str, Any]],
    panels: Sequence[svg.Panel],
    drawn: bool = False,
) -> str:
    """The top of a finding page: the answer, the evidence in each edition, the headline figure.

    records: the page's claims in its order; the first is the one that is answered. panels: of its
    headline, with their words (see `headline`). drawn: whether a cell of the page draws it.
    """
    first, *rest = records
    idle = sum(r["verdict"] == "not run" for r in rest)
    figure = Markup("")
    if panels:
        words = panels[0]
        figure = svg.headline(panels, words.x, words.y)
    return render(
        "answer.html",
        says=answer(first),
        first=first,
        others=counts(rest) + ([("not run", idle)] if idle else []),
        figure=figure,
        name=name,
        published=any(panel.title == PUBLISHED for panel in panels),
        drawn=drawn,
        photos=_photographs(records),
        unprinted=_unprinted(panels),
        chosen=_chosen(first),
    )


def claims_of_page(records: Sequence[Mapping[str, Any]]) -> str:
    """A page's claims as lines of the ledger."""
    return lines([with_link(r, f"#{r['id']}") for r in rows(records, "../")])


def lines(found: Sequence[Row], named: bool = True) -> str:
    """Claims as lines of the ledger; each leads to its ``links.page``.

    named: whether each names its paper. Where none is measured there is nothing but the claims.
    """
    measured = any(r["editions"] for r in found)
    return render("lines.html", rows=found, scale=svg.scale(), named=named, measured=measured)


def with_link(row: Row, page: str) -> Row:
    """A line that leads elsewhere."""
    return {**row, "links": {**row["links"], "page": page}}


PUBLISHED = "published"


def headline(folder: Path, runs: Sequence[Mapping[str, Any]]) -> list[svg.Panel]:
    """The panels of a page's headline: the paper's numbers, recorded runs, this run's.

    folder: the page's; runs: its recorded ones.
    """
    own = _read(folder, "")
    kept = [_read(run["folder"], run["run"]) for run in runs]
    found = [panel for panel in (*kept, own) if panel and panel.lines]
    if not found:
        return []
    words = own or found[0]
    return [panel for panel in [_published(words), *found] if panel.lines]


def _read(folder: Path, run: str) -> svg.Panel | None:
    """The headline that a run has left in its folder; one called like its edition needs no name."""
    path = folder / "headline.json"
    if not path.exists():
        return None
    h = read_json(path)
    try:
        panel = _panel(h, run)
        svg.headline([panel], panel.x, panel.y)
        return panel
    except Exception as error:  # whoever wrote it may have written anything
        raise FileError(f"{path} is no headline: {type(error).__name__}: {error}") from None


def _panel(h: Mapping[str, Any], run: str) -> svg.Panel:
    about = {key: h[key] for key in ("x", "y", "chance", "paper", "claim")}
    if odd := [v for k, v in about.items() if k != "chance" and not isinstance(v, str)]:
        raise TypeError(f"{odd[0]!r} is no text")
    claims.claim(h["paper"], h["claim"])
    named = f", run {run}" if run not in ("", h["edition"]) else ""
    called = _series(h["paper"], h["claim"], h["edition"])
    lines = {
        called.get(series, series): [
            [_level(place), *_numbers(*numbers)] for place, *numbers in points
        ]
        for series, points in h["lines"].items()
    }
    return svg.Panel(f"{EDITIONS.get(h['edition'], h['edition'])}{named}", lines, **about)


def _numbers(value: float, low: float, high: float, n: int, *remark: str) -> list[Any]:
    """The numbers of a headline's point. Raises TypeError for what is none."""
    for one in (value, low, high, n):
        if one is not None:
            _check_number(one)
    return [value, low, high, n, *map(str, remark)]


def _series(paper: str, claim: str, edition: str) -> dict[str, str]:
    """What a run calls its series -> what they are called beside those of other runs."""
    return claims.claim(paper, claim).get("series", {}).get(edition, {})


def _check_number(one: Any) -> None:
    if not claims.is_number(one):
        raise TypeError(f"{one!r} is no number")


def _level(place: Any) -> str | float:
    """A level, or a row's name as it is read: corruptions are called gaussian_noise and the like.

    Raises TypeError for what is neither.
    """
    if isinstance(place, str):
        return place.replace("_", " ")
    _check_number(place)
    return place


def _published(words: svg.Panel) -> svg.Panel:
    """The paper's own numbers of a headline: those that say ``at: [series, x]``."""
    lines: dict[str, list[list[Any]]] = {}
    called = _series(words.paper, words.claim, PUBLISHED)
    for p in claims.claim(words.paper, words.claim)["published"]:
        if "at" in p:
            series, x = p["at"]
            series = called.get(series, series)
            value = p["value"] / 100 if p["unit"] == "%" else p["value"]
            rounded = "" if p["exact"] else "read off or rounded; "
            remark = f"{p['model']}, {p['condition']}; {rounded}{p['where']}"
            lines.setdefault(series, []).append([x, value, None, None, None, remark])
    return svg.Panel(PUBLISHED, lines, words.x, words.y, None, words.paper, words.claim)


def headline_table(panels: Sequence[svg.Panel]) -> pd.DataFrame:
    """A headline's numbers as a table."""
    columns = ["panel", "series", "x", "value", "low", "high", "n", "remark"]
    return pd.DataFrame(list(svg.flat(panels)), columns=columns)
