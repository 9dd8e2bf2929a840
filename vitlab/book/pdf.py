"""The book as one PDF, printed by a headless browser from the site."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, unquote

from bs4 import BeautifulSoup, Tag

NAME = "vitlab.pdf"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "microsoft-edge")
# What of a claim's card stands elsewhere in the book, by the pages that leave it out: a paper's
# numbers stand on its page, all checks on the page that measures.
_ELSEWHERE = {"notebooks/": ".claim .published", "book/papers/": ".claim .evidence details"}
# What only works on a screen.
_DROP = "script, .headerlink, .toggle-details, .filter, .copybtn, .figure-links, .badge, .mathjax"


class PdfError(RuntimeError):
    """A PDF that cannot be printed: no browser, or one that fails."""


def browser() -> str:
    """A browser that prints without a window: $VITLAB_BROWSER, or a Chromium that is installed.

    Raises PdfError if there is none.
    """
    wanted = (os.environ.get("VITLAB_BROWSER", ""), *_BROWSERS)
    found = next((path for path in map(shutil.which, filter(None, wanted)) if path), None)
    if found is None:
        raise PdfError(
            "a PDF is printed by Chromium or Chrome, and none is installed: "
            "apt-get install chromium, or name one in VITLAB_BROWSER"
        )
    return found


def write(site: Path, pages: Sequence[str], target: Path) -> None:
    """Print pages of a site, such as ``book/intro``, one after the other into one PDF.

    Raises PdfError for a browser that fails.
    """
    text = one_page(site, pages)
    with tempfile.NamedTemporaryFile("w", suffix=".html", dir=site, delete=False) as whole:
        whole.write(text)
    printed = target.with_suffix(".part.pdf")
    try:
        done = subprocess.run(
            [
                *(
                    browser(),
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--no-pdf-header-footer",
                ),
                "--disable-pdf-tagging",  # it halves the size; the site is read aloud
                *("--virtual-time-budget=60000", f"--print-to-pdf={printed}"),
                Path(whole.name).resolve().as_uri(),
            ],
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode or not printed.exists() or not printed.stat().st_size:
            why = done.stderr[-500:] or f"exit code {done.returncode}, and no PDF"
            raise PdfError(f"the browser could not print the book: {why}")
        printed.replace(target)
    finally:
        os.unlink(whole.name)
        printed.unlink(missing_ok=True)


def one_page(site: Path, pages: Sequence[str]) -> str:
    """The articles of some pages as one page of HTML; links between them stay inside."""
    articles: list[str] = []
    styles: list[str] = []
    for page in pages:
        place = f"{page}.html"
        soup = BeautifulSoup((site / place).read_text(), "html.parser")
        styles = styles or [
            _moved(str(link["href"]).partition("?")[0], place)
            for link in soup.select("link[rel=stylesheet]")
        ]
        article = soup.select_one("article")
        if article is None:
            raise PdfError(f"{place} has no article")
        _join(article, place, set(pages))
        articles.append(
            f'<section class="page" id="{_id(page)}">{article.decode_contents()}</section>'
        )
    links = "".join(f'<link rel="stylesheet" href="{style}">' for style in styles)
    return (
        '<!doctype html><html lang="en" data-theme="light"><meta charset="utf-8">'
        f"<title>vitlab</title>{links}<style>{_PRINT}</style><body><main>{''.join(articles)}</main></body></html>"
    )


_PRINT = """
@page { size: A4; margin: 16mm 14mm; }
html { font-size: 10pt; } body { background: white; }
main { max-width: none; } .page { break-before: page; } .page:first-child { break-before: avoid; }
h1, h2, h3 { break-after: avoid; } img, .headline figure { break-inside: avoid; }
img { max-width: 100%; height: auto; } pre { white-space: pre-wrap; font-size: 8pt; }
.ledger { font-size: 8pt; } .headline figure { max-width: 8.5cm; }
"""


def _join(article: Tag, place: str, pages: set[str]) -> None:
    """Make a page's article part of a larger page: its ids, links and pictures."""
    twice = [what for where, what in _ELSEWHERE.items() if place.startswith(where)]
    for tag in article.select(", ".join([_DROP, *twice])):
        tag.decompose()
    page = place.removesuffix(".html")
    for tag in article.select("[id]"):
        tag["id"] = f"{_id(page)}--{tag['id']}"
    for tag in article.select("img[src]"):
        if ":" not in str(tag["src"]):
            tag["src"] = _moved(str(tag["src"]).partition("?")[0], place)
    for tag in article.select("a[href]"):
        where, _, anchor = str(tag["href"]).partition("#")
        if ":" in where:
            continue
        file = _moved(where, place) if where else place
        to = file.removesuffix(".html")
        if to in pages:
            tag["href"] = f"#{_id(to)}--{anchor}" if anchor else f"#{_id(to)}"
        else:  # data and pages that are not printed
            del tag["href"]


def _moved(link: str, place: str) -> str:
    """A relative link of a page, seen from the site's top."""
    parts: list[str] = list(Path(place).parent.parts)
    for part in unquote(link).split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in (".", ""):
            parts.append(part)
    return quote("/".join(parts))


def _id(page: str) -> str:
    return page.replace("/", "-")
