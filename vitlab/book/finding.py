"""A new page for a paper's claim: a notebook to fill in, its sizes, its place in the book."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from markupsafe import Markup

from vitlab import claims
from vitlab.book import pages
from vitlab.files import write_text
from vitlab.markup import render

_SIZES = """{name}:
  mini: {{images: stimuli, models: "mini/vit-?,mini/cnn-?", n_images: 160, draws: 2}}
  photos: {{images: cifar-10, models: "photos/vit-?,photos/cnn-?", n_images: 1000, draws: 1}}
  colab:
    images: imagenet-sample-images#500
    models: timm/deit_small_patch16_224.fb_in1k,timm/resnet50.a1_in1k
    n_images: 500
    draws: 1
"""


def begin(root: Path, paper: str, claim: str) -> list[Path]:
    """Write the page, a section of ``profiles.yml`` and a line of ``_toc.yml``; return the files.

    Raises ClaimError for an unknown paper or claim, PageError where a page has the claim already.
    """
    entry = claims.claim(paper, claim)
    known = pages.names(root)
    settles = re.compile(rf'settles?\(\s*"{re.escape(paper)}",\s*"{re.escape(claim)}"')
    for page in known:
        source = root / "notebooks" / f"{page}.md"
        if page.partition("-")[2] == claim or settles.search(source.read_text(encoding="utf-8")):
            raise pages.PageError(f"{page} has {paper} {claim} already: {source}")
    number = max((int(page[:2]) for page in known if page[:2].isdigit()), default=-1) + 1
    name = f"{number:02d}-{claim}"
    source = root / "notebooks" / f"{name}.md"
    title = claim.replace("-", " ").capitalize()
    text = render(
        "new_finding.md",
        name=name,
        title=title,
        paper=paper,
        claim=_prose(entry),
        primary=primaries(entry),
    )
    sizes, toc = pages.profiles_file(root), root / "book" / "_toc.yml"
    lines = toc.read_text(encoding="utf-8").splitlines()
    last = max((i for i, line in enumerate(lines) if "file: notebooks/" in line), default=None)
    if last is None:
        raise pages.PageError(f"{toc} lists no page after which the new one could stand")
    indent = lines[last][: lines[last].index("-")]
    lines.insert(last + 1, f"{indent}- file: notebooks/{name}")
    before = sizes.read_text(encoding="utf-8").rstrip() + "\n" if sizes.exists() else ""
    write_text(source, text)
    write_text(sizes, before + _SIZES.format(name=name))
    write_text(toc, "\n".join(lines) + "\n")
    return [source, sizes, toc]


def primaries(entry: dict[str, Any]) -> list[dict[str, Markup]]:
    """The checks that decide a claim, for prose and for code; those that only ImageNet has are left
    to the page's author. A claim without any is asked whether its number is above 0."""
    stated = list(claims.primaries(entry).values())
    asked = [one for one in stated if not one.get("only")] or stated
    found = []
    for one in asked or [{"quantity": "TODO", "demand": "> 0"}]:
        sign, _, bound = str(one["demand"]).partition(" ")
        code = f".within({bound})" if sign == "within" else f" {sign} {bound}"
        part = str(one.get("part", ""))
        text = f"{f'*{part}*: ' if part else ''}{one['quantity']}, {one['demand']}"
        if "control" in one:
            text += f"; control: {one['control']}"
        said = {"part": part, "text": text, "asked": code, "control": one.get("control", "")}
        found.append({name: Markup(value) for name, value in said.items()})
    return found


def _prose(entry: dict[str, Any]) -> dict[str, Any]:
    """A claim whose own sentences are Markdown, as those of the book's authors are."""
    said = {key: Markup(" ".join(str(entry[key]).split())) for key in ("statement", "check")}
    return entry | said
