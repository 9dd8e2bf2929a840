"""The papers' claims and what this book's own runs say of them.

A claim's statement, published numbers and the check that decides it stand in
``book/papers/*.yml``. A page asks for the same of its fresh numbers; `settle` judges them by rules
that simulated worlds have tried (`judge`), and the build collects the verdicts into the ledger.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Literal, cast, get_args

import pandas as pd
import yaml

from vitlab.files import LOADER, nearest, read_json, read_yaml, whole, write_json
from vitlab.markup import BY_DEIT, render, sentence
from vitlab.statistics.check import (
    BAND,
    Answer,
    Check,
    beyond,
    edge,
    judge,
    judge_every,
    margin,
)
from vitlab.statistics.evidence import plain, unplain
from vitlab.statistics.interval import Interval

Edition = Literal["imagenet", "photos", "mini"]
Verdict = Literal["holds", "seen", "fails", "opposite seen", "not seen", "cannot tell", "not run"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
EDITIONS: tuple[Edition, ...] = ("imagenet", "photos", "mini")  # the nearest to the papers first


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
    paths = sorted(folder.glob("[!.]*.yml"))
    found = {path.stem: _paper(path, path.stat().st_mtime_ns) for path in paths}
    if not found:
        raise ClaimError(f"no papers in {folder}")
    return found


@cache
def _paper(path: Path, changed: int) -> dict[str, Any]:
    paper = read_yaml(path)
    if not isinstance(paper, dict):
        raise ClaimError(f"{path} is not a mapping with id, title and claims")
    missing = {"id", "title", "authors", "venue", "idea", "claims"} - set(paper)
    if missing or paper["id"] != path.stem:
        raise ClaimError(f"{path}: {f'lacks {missing}' if missing else 'id is not the file name'}")
    for at, wrong in _unlike(paper, _OF_PAPER):
        raise ClaimError(f"{path}, line {_line(path, at)}: {_place(paper, at)} {wrong}")
    for k, entry in enumerate(paper["claims"]):
        try:
            _check_entry(entry)
        except ClaimError as error:
            line = _line(path, ("claims", k))
            raise ClaimError(f"{path}, line {line}: {error}") from None
    try:  # as the ledger and the pages' keys have it
        json.dumps(paper, default=str, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ClaimError(f"{path} has what cannot be kept as JSON: {error}") from None
    ids = [claim["id"] for claim in paper["claims"]]
    if len(ids) != len(set(ids)):
        raise ClaimError(f"{path}: a claim id is used twice")
    return paper


def paper(name: str) -> dict[str, Any]:
    """One paper with its claims, whatever the files of the others are like.

    Raises ClaimError for an unknown one, and otherwise as `papers` does.
    """
    path = papers_folder() / f"{name}.yml"
    if path.name != f"{name}.yml" or not path.is_file():
        known = sorted(one.stem for one in papers_folder().glob("[!.]*.yml"))
        raise ClaimError(f"unknown paper {name!r}{nearest(name, known)}")
    return _paper(path, path.stat().st_mtime_ns)


At = tuple[str | int, ...]  # where in a file a value stands: its keys and places in lists


def is_number(value: Any) -> bool:
    """Whether a value from a file is a number that can be drawn and kept: finite, and no bool."""
    return type(value) in (int, float) and -1e300 < value < 1e300


def _unlike(value: Any, kind: Any, at: At = ()) -> Iterator[tuple[At, str]]:
    """Where a YAML value is not of a kind, and what is wrong there.

    kind: a type; [kind], a list of it; (kind, kind), a list of these; {key: kind}, a mapping, in
    which a key with ? can be left out; {str: kind}, a mapping of texts.
    """
    of: Any = {tuple: list}.get(type(kind), type(kind)) if not isinstance(kind, type) else kind
    if of is float:
        fits = is_number(value)
    else:
        fits = isinstance(value, of) and not (of is int and isinstance(value, bool))
    if not fits:
        yield at, f"is no {_KINDS[of]}, but {repr(value)[:80]}"
    elif isinstance(kind, list):
        for k, one in enumerate(value):
            yield from _unlike(one, kind[0], (*at, k))
    elif isinstance(kind, tuple) and len(value) != len(kind):
        yield at, f"has {len(value)} parts, not {len(kind)}"
    elif isinstance(kind, tuple):
        for k, one in enumerate(value):
            yield from _unlike(one, kind[k], (*at, k))
    elif isinstance(kind, dict):
        inside = {name: kind[str] for name in value} if str in kind else kind
        for name in inside:
            if (key := str(name).removesuffix("?")) in value:
                yield from _unlike(value[key], inside[name], (*at, key))
            elif key == name:
                yield at, f"lacks {key}"


def _line(path: Path, at: At) -> int:
    """The line, from 1, in which a value of a YAML file stands, or what it would stand in."""
    node: Any = yaml.compose(path.read_text(encoding="utf-8"), Loader=LOADER)
    line = 0
    for key in at:
        if isinstance(node, yaml.MappingNode):
            found = [(k, v) for k, v in node.value if k.value == key]
        else:
            found = [(node.value[key], node.value[key])]
        if not found:
            break  # merged from elsewhere
        line, node = found[0][0].start_mark.line, found[0][1]
    return line + 1


def _place(paper: Mapping[str, Any], at: At) -> str:
    """A place in a paper in words; a claim goes by its id."""
    if at[:1] == ("claims",) and len(at) > 2 and (name := paper["claims"][at[1]].get("id")):
        at = (f"{name}:", *at[2:])
    return " ".join(map(str, at))


def _check_entry(entry: Mapping[str, Any]) -> None:
    """Raises ClaimError where a claim's record lacks something, or has what nobody reads."""
    name = entry.get("id", "a claim without id")
    if missing := {*_OF_CLAIM} - set(entry):
        raise ClaimError(f"{name} lacks {', '.join(sorted(missing))}")
    if not re.fullmatch(r"[a-z0-9-]+", name):
        raise ClaimError(f"an id is made of a-z, 0-9 and -, got {name!r}")
    if entry["theme"] not in THEMES:
        near = nearest(str(entry["theme"]), list(THEMES))
        raise ClaimError(
            f"{name} has the theme {entry['theme']!r}{near}; themes: {', '.join(THEMES)}"
        )
    if not entry["published"] and not entry.get("unpublished"):
        raise ClaimError(
            f"{name} has no published numbers: say unpublished: not found, or curves only"
        )
    for number in entry["published"]:
        at = number.get("at", ["", 0])
        if not (isinstance(at, list) and [type(x) for x in at] in _PLACES):
            raise ClaimError(f"{name}: at is [series, level or row], got {at!r}")
    primaries(entry)


def claim(of: str, claim_id: str) -> dict[str, Any]:
    """One claim as its paper's file gives it. Raises ClaimError for an unknown paper or claim."""
    entries = {entry["id"]: entry for entry in paper(of)["claims"]}
    if claim_id not in entries:
        raise ClaimError(f"{of} has no claim {claim_id!r}{nearest(claim_id, list(entries))}")
    return entries[claim_id]


class Part(str):
    """What a page yields before the checks of a claim's next statement: ``Part("pixels")``."""


def primaries(entry: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The checks that decide a claim, as its paper's file states them, by part.

    Raises ClaimError for what is no list of checks with a quantity and a demand such as "> 0", and
    for a check that contradicts itself.
    """
    stated: Any = entry.get("primary")
    found = {}
    for one in stated if isinstance(stated, list) and stated else [stated]:
        if wrong := _unlike_a_check(one):
            raise ClaimError(
                f"{entry['id']}: primary has {one!r}: {wrong}; write - {{quantity: ..., "
                f'demand: "> 0"}}, or "< 0.1", "within 0.02"; it can have {", ".join(_OF_CHECK)}'
            )
        if (name := str(one.get("part", ""))) in found:
            raise ClaimError(f"{entry['id']}: primary has two parts {name!r}")
        found[name] = one
    return found


_OF_CLAIM = (
    *("id", "short", "theme", "statement", "kind", "published", "check", "primary", "mini"),
)
_OF_NUMBER = {"model": str, "condition": str, "value": float, "unit": str}
_OF_NUMBER |= {"exact": bool, "where": str}
_OF_ENTRY = {
    **dict.fromkeys(("id?", "short?", "theme?", "statement?", "kind?", "check?", "mini?"), str),
    **dict.fromkeys(("metric?", "photos?", "unpublished?"), str),
    **{"published?": [_OF_NUMBER], "independent?": [_OF_NUMBER]},
    **{"chosen?": {str: {"says": str, "beside": str}}, "series?": {str: {str: str}}},
}
_OF_PAPER = {
    **dict.fromkeys(("title", "authors", "venue", "idea"), str),
    **{"models?": [dict], "cautions?": [str], "claims": [_OF_ENTRY]},
}
_OF_CHECKED = {"quantity": str, "unit": str, "against": str, "trainings": int}
_OF_EVIDENCE = {
    **{"run": list, "parts": {str: [[_OF_CHECKED]]}, "remarks": str},
    "facts": [(str, (object, object, object, int), str)],
}
_OF_RUN = (str, [str], str, str)  # of which earlier runs had fewer
_KINDS = {
    str: "text",
    float: "number",
    int: "whole number",
    bool: "true or false",
    list: "list",
    dict: "mapping",
}
_PLACES = [[str, kind] for kind in (int, float, str)]  # of a published number in a headline
# What is done to images first, then what is done to models: the order of the front page.
THEMES = (
    "occlusion and patches",
    "shape and texture",
    "frequencies",
    "corruptions and shifts",
    "adversaries",
    "features and transfer",
    "inside",
    "training for robustness",
    "self-supervision",
    "language",
    "architecture",
)
_OF_CHECK = (
    *("part", "quantity", "demand", "every", "control", "only", "speaks", "known"),
    "published",  # the value of the quantity in the paper, where it prints one
)
_DEMAND = re.compile(r"(>|<|within) (-?\d+(?:\.\d+)?)")
_SPEAKS = ("networks", "architectures")
_KNOWN = ("imagenet", "photos", "miniature")  # whose results can be known when a check is written


def _unlike_a_check(one: Any) -> str:
    """What is wrong with a check of a paper's file; empty if nothing is."""
    if not isinstance(one, dict) or not {"quantity", "demand"} <= set(one) <= {*_OF_CHECK}:
        return "it needs a quantity and a demand, and has nothing unknown"
    demand, every = _DEMAND.fullmatch(str(one["demand"])), one.get("every", ["one", "other"])
    if not demand or demand[0] != f"{demand[1]} {float(demand[2]) + 0:.12g}":
        return "a demand is >, < or within, a space and a plain number"
    if demand[1] == "within" and float(demand[2]) <= 0:
        return "a margin is above 0"
    if demand[1] == "within" and "control" in one:
        return "equality has no control"
    if not all(_text(one[name]) for name in ("part", "quantity", "control") if name in one):
        return "part, quantity and control are texts"
    if "published" in one and [*_unlike(one["published"], float)]:
        return "published is a number"
    if not isinstance(every, list) or not 2 <= len(every) <= 3 or not all(map(_text, every)):
        return "every is a list of two or three names"
    if one.get("only", "imagenet") != "imagenet":
        return "only imagenet can be all that it is asked of"
    if one.get("speaks", "networks") not in _SPEAKS:
        return f"speaks is {' or '.join(_SPEAKS)}"
    known = one.get("known", [])
    if not isinstance(known, list) or not set(map(str, known)) <= {*_KNOWN}:
        return f"known is a list of {', '.join(_KNOWN)}"
    return ""


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def in_words(word: str, primary: Check, edition: str, reproduction: bool) -> Verdict:
    """An answer in the words of an edition: only a reproduction holds or fails."""
    if word == "cannot tell" or reproduction:
        return cast(Verdict, word)
    if word == "holds":
        return "seen"
    return "opposite seen" if primary.within is None and primary.bound == 0 else "not seen"


@dataclass(frozen=True)
class Settled:
    """What a page says of a claim; shows itself in a notebook as a verdict and its evidence."""

    record: dict[str, Any]

    def __repr__(self) -> str:
        return f"{self.record['paper']} {self.record['claim']}: {self.record['verdict']}"

    def _repr_html_(self) -> str:
        return card(*self.key, {self.record["edition"]: self.record})

    @property
    def key(self) -> tuple[str, str]:
        """Paper and claim."""
        return self.record["paper"], self.record["claim"]


def card(
    paper: str,
    claim_id: str,
    records: Mapping[str, Mapping[str, Any]],
    links: Mapping[str, str] | None = None,
    held: Mapping[str, str] | None = None,
) -> str:
    """A claim, what decides it and what each edition has found, as HTML.

    records: by edition. links: of the claim in the book. held: commit, date and link of the check.
    """
    entry = claim(paper, claim_id)
    stated = [{**dict.fromkeys(_OF_CHECK), **one} for one in primaries(entry).values()]
    about = {"primaries": stated, "records": records, "links": links, "held": held}
    return render("claim.html", paper=paper, entry=entry, **about)


@dataclass(frozen=True)
class Run:
    """What a claim was measured on: edition, names of the models, images in words, data set."""

    edition: Edition
    models: Sequence[str] = ()
    images: str = ""
    data: str = ""

    def reproduces(self, paper: Mapping[str, Any]) -> bool:
        """Whether models and data are of the paper's own kind, so that a claim holds or fails.

        The data set is one that the paper names; each model has an architecture that it names, with
        the weights that it names, or those that timm gives where none are named.
        """
        if self.edition != "imagenet" or not self.models:
            return False
        from vitlab.images.catalogue import manifests

        known = manifests().get(self.data.partition("#")[0])
        theirs = {str(m["timm"]) for m in paper.get("models", ()) if m.get("timm")}

        def named(model: str) -> bool:
            arch, _, weights = model.removeprefix("timm/").partition(".")
            if arch not in theirs:
                return f"{arch}.{weights}" in theirs
            from timm.models import get_pretrained_cfg  # takes seconds to import

            usual = get_pretrained_cfg(arch)
            return f"{arch}.{weights}" in theirs or bool(usual and weights in ("", usual.tag))

        mine = known is not None and paper["id"] in known.papers
        return mine and all(map(named, self.models))


Demand = Sequence[Check]  # one check, or a few that must all hold


@dataclass(frozen=True)
class Finding:
    """What a page has found out about a claim.

    parts: the claim's statements -> their demands, the one that decides first.
    facts: further fresh numbers that no check rests on, as (quantity, interval, unit).
    remarks: what a reader should know of the verdict; required where no check could be run.
    """

    paper: str
    claim: str
    run: Run
    parts: Mapping[str, Sequence[Demand]] = field(default_factory=dict)
    facts: Sequence[tuple[str, Interval, str]] = ()
    remarks: str = ""


_COLUMNS = ("check", "of", "role", "items")  # of the table that keeps what each item adds


def settle(found: Finding, out: Path | str) -> Settled:
    """Give a claim its verdict, keep it and its evidence under `out`, return it for display.

    Raises as `judged` does.
    """
    record = judged(found)
    path = Path(out) / "claims" / f"{found.paper}.{found.claim}.json"
    checks = [c for demands in found.parts.values() for demand in demands for c in demand]
    columns = [(k, *column) for k, c in enumerate(checks) for column in c.columns()]
    rows = [
        pd.DataFrame({**dict(zip(_COLUMNS, names, strict=True)), "added": added})
        for *names, added in columns
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".parquet").unlink(missing_ok=True)
    if rows:
        with whole(path.with_suffix(".parquet")) as part:
            pd.concat(rows).to_parquet(part, compression="zstd", index=False)
    kept = {
        "run": [found.run.edition, list(found.run.models), found.run.images, found.run.data],
        "parts": {n: [[c.about() for c in d] for d in ds] for n, ds in found.parts.items()},
        "facts": [[text, plain(interval), unit] for text, interval, unit in found.facts],
        "remarks": found.remarks,
    }
    write_json(path, {**record, "evidence": kept})
    return Settled(record)


def read(path: Path) -> Finding:
    """The evidence that `settle` kept, whose verdict `judged` gives by today's rules.

    Raises ValueError for what `settle` did not write, as far as readers would meet it.
    """
    record = read_json(path)
    kept, items = record["evidence"], path.with_suffix(".parquet")
    run = kept["run"]
    of_run = _OF_RUN[: max(1, len(run))]
    for at, wrong in (*_unlike(kept, _OF_EVIDENCE), *_unlike(run, of_run, ("run",))):
        raise ValueError(f"evidence {' '.join(map(str, at))} {wrong}")
    if run[0] not in EDITIONS:
        raise ValueError(f"{run[0]!r} is none of the editions {', '.join(EDITIONS)}")
    columns: dict[Any, dict] = {}
    if items.exists():
        for (k, *name), rows in pd.read_parquet(items).groupby([*_COLUMNS], sort=False):
            columns.setdefault(k, {})[tuple(name)] = rows["added"].to_numpy()
    place = count()
    parts = {
        name: [[Check.read(c, columns.get(next(place), {})) for c in demand] for demand in demands]
        for name, demands in kept["parts"].items()
    }
    facts = [(text, Interval(*unplain(i)), unit) for text, i, unit in kept["facts"]]
    return Finding(record["paper"], record["claim"], Run(*run), parts, facts, kept["remarks"])


def judged(found: Finding) -> dict[str, Any]:
    """What a claim's evidence says: the record of one edition for the ledger.

    Raises ClaimError for an unknown claim and for a deciding check that is not the one which the
    paper's file states, ValueError for no checks and no remark.
    """
    where, run = f"{found.paper} {found.claim}", found.run
    stated = primaries(claim(found.paper, found.claim))
    asked = {name: demands for name, demands in found.parts.items() if demands}
    if not asked and not found.remarks:
        raise ValueError(f"{where}: no checks, so say in a remark why it was not run")
    reproduction = run.reproduces(paper(found.paper))
    parts = []
    for name, one in stated.items():
        if name in asked:
            parts.append(_part(name, asked[name], run.edition, reproduction, one))
        elif asked:
            elsewhere = one.get("only") and run.edition != "imagenet"
            why = "asked of ImageNet alone" if elsewhere else "not measured here"
            empty = dict.fromkeys(_OF_PRIMARY)
            parts.append({"part": name, "verdict": "not run", "reason": why, **empty})
    for name, demands in asked.items():
        for demand in (demands[0], *filter(_is_by_deit, demands)):
            _agrees(where, name, demand, stated)
        if stated[name].get("only") and run.edition != "imagenet":
            raise ClaimError(
                f"{where} {name}: asked of ImageNet alone; put it under `if lab.imagenet:`"
            )
    first = parts[0] if parts else {"verdict": "not run"}
    reasons = [text for text in (first.get("reason", ""), found.remarks) if text]
    reason = " ".join(map(sentence, reasons)) if len(reasons) > 1 else "".join(reasons)
    return {
        "paper": found.paper,
        "claim": found.claim,
        "edition": run.edition,
        "reproduction": reproduction,
        "models": list(run.models),
        "images": run.images,
        **{key: first.get(key) for key in _OF_PRIMARY},
        "verdict": first["verdict"],
        "reason": reason,
        "remarks": found.remarks,
        "checks": [c for part in parts for c in part.pop("checks", [])],
        "parts": parts,
        "facts": [
            {"quantity": text, **_number(i, unit)}
            for text, i, unit in found.facts
            if math.isfinite(i.value)
        ],
    }


_OF_PRIMARY = (
    *("primary", "value", "low", "high", "unit", "n", "bound", "demand", "trainings", "classes"),
    *(
        "speaks_for",
        "over_trainings",
        "spread",
        "sees",
        "takes",
        "agree",
        "room",
        "control",
        "known",
        "by_deit",
    ),
)


def _agrees(
    where: str, name: str, primary: Sequence[Check], stated: Mapping[str, Mapping[str, Any]]
) -> None:
    if name not in stated:
        have = ", ".join(map(repr, stated))
        raise ClaimError(f"{where}: the page has a part {name!r}, its paper's file {have}")
    demands = {c.demand for c in primary}
    if demands != {str(stated[name]["demand"])}:
        raise ClaimError(
            f"{where} {name}: the page demands {', '.join(sorted(demands))}, "
            f"the paper's file {stated[name]['demand']}"
        )
    variants = stated[name].get("every") or [name]
    if len(primary) > len(variants):
        raise ClaimError(
            f"{where} {name}: the page asks it of {', '.join(c.quantity for c in primary)}, "
            f"the paper's file of {', '.join(map(str, variants))}"
        )


def _part(
    name: str,
    demands: Sequence[Sequence[Check]],
    edition: str,
    reproduction: bool,
    stated: Mapping[str, Any],
) -> dict[str, Any]:
    """A part of a claim: what its first demand says, and how many of all say the same.

    What is asked of a pair by DeiT's recipe is not among those: it stands beside, by itself.
    """
    primary, *further = demands
    beside = [demand for demand in further if _is_by_deit(demand)]
    answer = _answered(primary, stated)
    answers = [answer, *(judge_every(demand) for demand in further if demand not in beside)]
    shown = _shown(primary, answer)
    return {
        "part": name,
        "verdict": in_words(answer.word, shown, edition, reproduction),
        "reason": answer.reason,
        "primary": _named(primary, shown),
        **_evidence(shown),
        "speaks_for": _speaks_for(primary, answer),
        "agree": [sum(a.word == answer.word for a in answers), len(answers)],
        "known": list(stated.get("known") or ()),
        "by_deit": _of_pair(beside[0], edition, reproduction, stated) if beside else None,
        "checks": [
            {
                "part": name,
                "primary": k == 0,
                "verdict": in_words(said.word, c, edition, reproduction),
                "reason": said.reason,
                "quantity": c.quantity,
                **_evidence(c),
            }
            for k, demand in enumerate(demands)
            for c in demand
            for said in [answer if k == 0 and len(demand) == 1 else judge(c)]
        ],
    }


def _answered(demand: Demand, stated: Mapping[str, Any]) -> Answer:
    """What the demand that decides says, given what its paper's file asks of it."""
    answer = judge_every(demand)
    if "control" in stated and answer.word == "holds" and any(c.excess is None for c in demand):
        return Answer("cannot tell", f"its control was not measured: {stated['control']}")
    every = stated.get("every") or ()
    if answer.word == "holds" and len(demand) < len(every):
        asked = ", ".join(map(str, every))
        return Answer(
            "cannot tell", f"it is asked of each of these, and not all were measured: {asked}"
        )
    return answer


def _is_by_deit(demand: Demand) -> bool:
    return any(BY_DEIT in check.quantity for check in demand)


def _of_pair(
    demand: Demand, edition: str, reproduction: bool, stated: Mapping[str, Any]
) -> dict[str, Any]:
    """What the check that decides says of a pair beside the one that decides."""
    answer = _answered(demand, stated)
    shown = _shown(demand, answer)
    return {
        "verdict": in_words(answer.word, shown, edition, reproduction),
        "reason": answer.reason,
        "quantity": _named(demand, shown),
        **_number(shown.interval, shown.unit),
        "trainings": shown.trainings,
        "speaks_for": _speaks_for(demand, answer),
    }


def _named(primary: Demand, shown: Check) -> str:
    if len(primary) == 1:
        return shown.quantity
    return f"{shown.quantity} (the weakest of {'; '.join(c.quantity for c in primary)})"


def _shown(primary: Demand, answer: Answer) -> Check:
    """Of several variants one that fails, if that is the answer; else the nearest to failing."""
    failing = [c for c in primary if judge(c).word == "fails"] if answer.word == "fails" else []
    finite = [c for c in failing or primary if math.isfinite(margin(c))]
    return min(finite or primary, key=margin)


def _evidence(check: Check) -> dict[str, Any]:
    """A check's numbers, as the ledger has them; what is not finite is null."""
    control = check.excess and {
        "against": check.against,
        **_number(check.excess.interval, check.unit),
    }
    wider = check.evidence.over_trainings
    edges = edge(check.levels, max(BAND, check.within or 0), clear=check.bound != 0)
    return {
        **_number(check.interval, check.unit),
        "bound": check.bound,
        "demand": check.demand,
        "trainings": check.trainings,
        "classes": check.classes,
        "over_trainings": wider and _number(wider, check.unit),
        "spread": _finite(check.spread),
        "sees": _finite(check.sees),
        "takes": check.takes,
        "room": edges or "yes",
        "control": control,
    }


def _number(i: Interval, unit: str) -> dict[str, Any]:
    ends = {"value": _finite(i.value), "low": _finite(i.low), "high": _finite(i.high)}
    return {**ends, "n": i.n, "unit": unit}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _speaks_for(primary: Demand, answer: Answer) -> str:
    """These networks, or other trainings of their kinds too; empty where nothing is said.

    Each variant has to say the same over trainings, and so has what is left of it by its control.
    """
    if answer.word == "cannot tell":
        return ""
    wide = True
    for c in primary if answer.word == "holds" else [_shown(primary, answer)]:
        wider = c.evidence.over_trainings
        wide = wide and wider is not None and beyond(c, wider) == answer.word
        if c.excess is not None and answer.word == "holds":
            rest = c.excess.over_trainings
            wide = (
                wide
                and rest is not None
                and (rest.high < 0 if c.below is not None else rest.low > 0)
            )
    return "these architectures" if wide else "these networks"


def records(folder: Path) -> list[dict[str, Any]]:
    """What a page settled, by the rules it was run with.

    Raises ClaimError for what `settle` did not write, FileError for what is no JSON.
    """
    found: list[dict[str, Any]] = []
    for path in sorted((folder / "claims").glob("*.json")):
        record = read_json(path)
        if not isinstance(record, dict) or not {"paper", "claim", "evidence"} <= set(record):
            raise ClaimError(f"{path} is not what a page settled; delete it and build again")
        found.append({key: value for key, value in record.items() if key != "evidence"})
    return found


def ledger(settled: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One record for every claim of every paper, with what each edition says of it.

    settled: page -> what it settled, in any edition, the record that counts first;
    ``vitlab/book/ledger.schema.json`` has the format of what is returned.

    Raises ClaimError where two pages settled the same claim.
    """
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    pages: dict[tuple[str, str], str] = {}
    for page, records in settled.items():
        for record in records:
            key = record["paper"], record["claim"]
            if pages.setdefault(key, page) != page:
                raise ClaimError(f"{key} is settled by both {pages[key]} and {page}")
            editions = found.setdefault(key, {})
            before = editions.get(record["edition"])
            if before is None or before["verdict"] == "not run":
                kept = {k: v for k, v in record.items() if k not in ("paper", "claim", "edition")}
                editions[record["edition"]] = {"recorded": None} | kept
    return [
        _of_claim(paper["id"], entry, found.get((paper["id"], entry["id"]), {}), pages)
        for paper in papers().values()
        for entry in paper["claims"]
    ]


def _of_claim(
    paper: str,
    entry: Mapping[str, Any],
    editions: Mapping[str, dict[str, Any]],
    pages: Mapping[tuple[str, str], str],
) -> dict[str, Any]:
    measured = [e for e in EDITIONS if e in editions and editions[e]["verdict"] != "not run"]
    asked = next(iter(editions.values()), {"reason": "no page measures it yet"})
    headline = editions[measured[0]] if measured else {"verdict": "not run", **asked}
    return {
        "paper": paper,
        "claim": entry["id"],
        "short": entry["short"],
        "theme": entry["theme"],
        "photos": entry.get("photos", ""),
        "statement": " ".join(entry["statement"].split()),
        "page": pages.get((paper, entry["id"])),
        "published": entry["published"],
        "unpublished": entry.get("unpublished", ""),
        "independent": entry.get("independent", []),
        "primary": entry["primary"],
        "verdict": headline["verdict"],
        "reason": headline["reason"],
        "edition": measured[0] if measured else None,
        "editions": {e: editions[e] for e in EDITIONS if e in editions},
    }
