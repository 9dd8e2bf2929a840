"""Look through a rendered site for what a reader would stumble over; exit code 1 if there is any.

    python tools/check_site.py build/html

Dead links and anchors, ids used twice, tags left open, pictures without words, places of this
machine, and what is too heavy: the site, a page with its own pictures, the front page with all
that it loads.
"""

from __future__ import annotations

import re
import socket
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

SITE, PAGE, FRONT = 30_000_000, 1_500_000, 1_000_000  # bytes
FRONT_PAGE = "book/intro.html"
_OWN = {"a", "div", "section", "table", "thead", "tbody", "tr", "ul", "ol", "details", "figure"}
_OWN |= {"svg", "g", "form", "article", "main", "nav", "span", "summary", "button", "select"}


_UNFILLED = re.compile(r"(?<!`)\{\{ (tally|ledger|status|pdf) \}\}").findall


class _Page(HTMLParser):
    """What a page has: ids, links, what it loads, and its faults."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.images: list[str] = []
        self.faults: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = dict(attrs)
        if has.get("id"):
            self.ids.append(str(has["id"]))
        elif tag == "a" and has.get("name"):
            self.ids.append(str(has["name"]))
        if tag == "a" and has.get("href"):
            self.links.append(str(has["href"]))
        if tag == "img":
            self.images.append(str(has.get("src")))
            if not (has.get("alt") or "").strip():
                self.faults.append(f"picture without words: {has.get('src')}")
        if tag == "svg" and not (has.get("aria-label") or has.get("aria-hidden")):
            self.faults.append("a drawing without words")
        if tag == "script" and has.get("src"):
            self.loads.append(str(has["src"]))
        if tag == "link" and has.get("rel") in ("stylesheet", "icon"):
            self.loads.append(str(has.get("href")))
        if tag in _OWN:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag in _OWN:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in _OWN and (not self.open or self.open.pop() != tag):
            line, column = self.getpos()
            self.faults.append(f"</{tag}> closes another tag, line {line}, column {column}")
            self.open = []


def faults(site: Path, machine: tuple[str, ...] = ()) -> list[str]:
    """All faults of a site, each as "page: what". machine: texts that no page may hold."""
    pages: dict[Path, _Page] = {}
    found: list[str] = []
    for path in sorted(site.rglob("*.html")):
        if "_static" in path.parts:  # templates that the theme brings along
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        page = pages[path.resolve()] = _Page()
        page.feed(text)
        page.close()
        name = path.relative_to(site).as_posix()
        found += [f"{name}: {fault}" for fault in page.faults]
        found += [f"{name}: {tag} is never closed" for tag in page.open]
        twice = [i for i, n in Counter(page.ids).items() if n > 1 and i != "search-input"]
        found += [f"{name}: id {i} twice" for i in twice]  # the theme's search page has two boxes
        found += [f"{name}: holds {word}" for word in machine if word in text]
        found += [f"{name}: {{{{ {word} }}}} was not filled in" for word in _UNFILLED(text)]
        own = {path.parent / unquote(src) for src in page.images if _local(src)}
        weight = path.stat().st_size + sum(p.stat().st_size for p in own if p.exists())
        if weight > PAGE:
            found.append(f"{name}: {weight / 1e6:.2f} MB with its pictures, {PAGE / 1e6} at most")
        if name == FRONT_PAGE:
            loaded = {path.parent / unquote(urlsplit(u).path) for u in page.loads if _local(u)}
            weight += sum(p.stat().st_size for p in loaded if p.exists())
            if weight > FRONT:
                found.append(f"{name}: {weight / 1e6:.2f} MB with all it loads, {FRONT / 1e6}")
    for path, page in pages.items():
        for link in filter(_local, [*page.links, *page.loads, *page.images]):
            where, _, anchor = link.partition("#")
            target = (path.parent / _path(where)).resolve() if where else path
            name = path.relative_to(site.resolve()).as_posix()
            if site.resolve() not in (target, *target.parents):
                found.append(f"{name}: leaves the site {link}")
            elif not target.exists():
                found.append(f"{name}: dead link {link}")
            elif (
                anchor not in ("", "top")
                and not anchor.startswith(":~:")
                and target in pages
                and unquote(anchor) not in pages[target].ids
            ):
                found.append(f"{name}: no such place {link}")
    files = [path for path in site.rglob("*") if path.is_file() and path.suffix != ".pdf"]
    weight = sum(path.stat().st_size for path in files)
    if weight > SITE:
        found.append(f"the site: {weight / 1e6:.1f} MB, {SITE / 1e6} at most")
    return found


def _local(link: str) -> bool:
    if link.startswith("file:"):
        return True  # and it leaves the site
    try:
        return not urlsplit(link).scheme and not link.startswith("//")
    except ValueError:  # no address at all
        return True


def _path(link: str) -> str:
    try:
        return unquote(urlsplit(link).path).replace("\0", "")
    except ValueError:
        return link


def main() -> int:
    """Print the faults of the site that is named; 0 if there are none."""
    site = Path(sys.argv[1])
    places = (f"{Path.home()}/", f"{site.resolve().parents[1]}/", socket.gethostname())
    found = faults(site, tuple(place for place in places if len(place) > 5))
    print("\n".join(found) or f"{site}: no faults")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
