"""No text is code: HTML and Markdown are put together here, and what enters them stays text.

The templates lie in ``vitlab/book/templates``. A name, an error or a parameter can hold anything a
user, a file system or a model hub came up with; on its way into a page it passes `inert`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

# What HTML, Markdown, MyST (roles, directives, formulas, substitutions) and Jinja read as theirs.
_MARKS = str.maketrans({mark: f"&#{ord(mark)};" for mark in "&<>\"'`{}[]|$*_\\~="})


def inert(text: object) -> Markup:
    """Text that HTML, Markdown and MyST show as it is: one line, all their marks as references.

    >>> print(inert("{{ 1 + 1 }} <b>"))
    &#123;&#123; 1 + 1 &#125;&#125; &#60;b&#62;

    What is `Markup` already, such as a rendered template, is left alone.
    """
    if isinstance(text, Markup):
        return text
    line = str(text)
    if not line.isprintable():
        line = "".join(c if c.isprintable() else " " for c in line)
    line = " ".join(line.split()).translate(_MARKS)
    # At its start a line may be a heading, a comment or an item of a list.
    line = re.sub(r"^[!-%'-/:-@^]", lambda mark: f"&#{ord(mark[0])};", line)
    return Markup(re.sub(r"^(\d+)([.)])(?=\s|$)", lambda m: f"{m[1]}&#{ord(m[2])};", line))


# Folders of an absolute path; neither those of an address (https://...) nor fractions (1/2/3).
_FOLDERS = re.compile(
    # In quotes a folder may have a space in its name.
    r"(?<=['\"])/(?!/)(?:[^/'\"\n<>|]+/+)+(?=[^/'\"\n<>|])"
    r"|(?:(?<=file://)|(?<![\w/.~-]))/(?!/)(?:[^/\s'\"<>|,;]+/+)+(?=[^/\s'\"<>|,;])"
)


_HOSTS = re.compile(r"\b(tcp|tls|ucx|inproc)://[^\s'\"<>]+")  # of a cluster


def placeless(text: str) -> str:
    """Text without folders of this machine and hosts of its cluster: a path's last part is left.

    >>> placeless("/home/ann/photos/cats/1.jpg is damaged; see https://a.org/b/c")
    '…/1.jpg is damaged; see https://a.org/b/c'
    """
    return _HOSTS.sub(r"\1://…", _FOLDERS.sub("…/", text))


def number(value: float | None, digits: int = 3) -> str:
    """A number as the book prints it: three decimals, a true minus sign; ? for none."""
    if value is None:
        return "?"
    return f"{value:.{digits}f}".replace("-", "−")


# Sign and kind of each verdict: colour says no more than the kind, and never says it alone.
_SIGNS = {
    "holds": ("✓", "yes"),
    "seen": ("✓", "yes"),
    "fails": ("✗", "no"),
    "opposite seen": ("✗", "no"),
    "not seen": ("–", "no"),
    "cannot tell": ("?", "open"),
    "no verdict": ("○", "open"),
    "not run": ("·", "none"),
}


def demand(text: str) -> str:
    """A demand as the book prints it: "within 0.02" -> "within ±0.02"."""
    return text.replace("within ", "within ±").replace("-", "−")


def _published(p: dict[str, Any]) -> str:
    return f"{'' if p['exact'] else '≈ '}{p['value']:g} {p['unit']}"


def measured(item: Mapping[str, Any]) -> str:
    """A number with its interval: 0.500 [0.400, 0.600]."""
    value, low, high = (number(item[key]) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def sentence(text: str) -> str:
    """A remark as a sentence with true minus signs: "at -1" -> "At −1."."""
    text = re.sub(r"(?<![\w.-])-(?=\d)", "−", text)
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


_NOT_CHECKED = re.compile(r".*: not checked, (.*)", re.DOTALL)


def gathered(text: str) -> str:
    """Remarks on many checks that lack the same, said once.

    >>> gathered("One patch. A at 1/255: not checked, no CNN. A at 2/255: not checked, no CNN.")
    'One patch. 2 checks were not made: no CNN.'
    """
    said = re.split(r"(?<=\.) ", text)
    lacks = [m[1] if (m := _NOT_CHECKED.fullmatch(one)) else "" for one in said]
    shown = {
        f"{lacks.count(why)} checks were not made: {why}"
        if lacks.count(why) > 1 and why
        else one: 0
        for one, why in zip(said, lacks, strict=True)
    }
    return " ".join(shown)


BY_DEIT = "by DeiT's recipe"  # so a check names the pair that was trained by it

_DECIDED = ("holds", "seen", "fails", "opposite seen", "not seen")


def contrary(part: Mapping[str, Any], checks: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Of the further checks of a claim's statement, those that decide otherwise: verdict -> which.

    What a pair by DeiT's recipe says stands by itself.

    >>> checks = [{"quantity": f"gap, Q = .{k}", "verdict": "opposite seen"} for k in (1, 2)]
    >>> contrary({"part": "", "verdict": "seen"}, [{**c, "part": ""} for c in checks])
    {'opposite seen': 'gap, Q = .1; Q = .2'}
    """
    found: dict[str, list[str]] = {}
    for c in checks:
        other = c.get("part") == part["part"] and not c.get("primary") and c["verdict"] in _DECIDED
        if other and c["verdict"] != part["verdict"] and BY_DEIT not in c["quantity"]:
            found.setdefault(c["verdict"], []).append(c["quantity"])
    return {verdict: _listed(quantities) for verdict, quantities in found.items()}


def ending(
    part: Mapping[str, Any], checks: Sequence[Mapping[str, Any]], with_: str
) -> list[Mapping[str, Any]]:
    """The checks of a claim's statement whose quantity ends so."""
    return [c for c in checks if c.get("part") == part["part"] and c["quantity"].endswith(with_)]


FEW = 4  # names in a sentence


def _listed(names: Sequence[str]) -> str:
    """Names, each without the beginning that it shares with the one before; many are counted."""
    said, before = [], [""]
    for name in names[:FEW]:
        words = name.split(", ")
        same = next((k for k, w in enumerate(words) if [w] != before[k : k + 1]), len(words) - 1)
        said.append(", ".join(words[same:]))
        before = words
    more = f"; and {len(names) - FEW} more" if len(names) > FEW else ""
    return "; ".join(said) + more


def unit_of(item: Mapping[str, Any]) -> str:
    """The unit of a number, where neither it goes without saying nor its name has it."""
    unit = item.get("unit") or "share"
    named = unit == "share" or unit.lower() in str(item.get("primary")).lower()
    return "" if named else str(unit)


def said(edition: Mapping[str, Any]) -> str:
    """The verdict of an edition as it is printed: a run that could not answer has none."""
    return edition["verdict"] if edition["verdict"] != "not run" else "no verdict"


# The editions in words, the nearest to the papers first.
EDITIONS = {"imagenet": "ImageNet", "photos": "photographs", "mini": "miniature"}


@contextmanager
def calling(**names: str) -> Iterator[None]:
    """Call editions otherwise for a while, or leave out those without a name.

    Pictures of a reader's own are no ImageNet, and a book of them has no other editions.
    """
    before = dict(EDITIONS)
    EDITIONS.update(names)
    for name in [name for name, word in EDITIONS.items() if not word]:
        del EDITIONS[name]
    try:
        yield
    finally:
        EDITIONS.clear()
        EDITIONS.update(before)


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "book" / "templates"),
    autoescape=True,
    finalize=inert,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {
    "number": number,
    "sign": lambda verdict: _SIGNS[verdict][0],
    "kind": lambda verdict: _SIGNS[verdict][1],
    "demand": demand,
    "published": _published,
    "measured": measured,
    "sentence": sentence,
    "gathered": gathered,
    "said": said,
    "unit": unit_of,
    "cores": lambda machine: machine.replace(" 1 cores", " 1 core"),
    "minute": lambda time: time[:16].replace("T", " "),  # 2026-11-30T02:49:23+00:00
    "edition": lambda name: EDITIONS[name],
    "claimed": lambda p: f"{p['model']}, {p['condition']}: {_published(p)}",
    "thousands": "{:,}".format,
    "anchor": lambda theme: f"theme-{theme.replace(' ', '-')}",
}
_TEMPLATES.globals |= {"contrary": contrary, "ending": ending}
_TEMPLATES.globals["editions"] = EDITIONS  # as they are called at the moment


def render(template: str, **values: Any) -> str:
    """A template of ``vitlab/book/templates`` with values put in, each of them `inert`.

    HTML comes without empty lines, at which Markdown would end it.
    """
    text = _TEMPLATES.get_template(template).render(values)
    return re.sub(r"\n\s*\n", "\n", text) if template.endswith(".html") else text
