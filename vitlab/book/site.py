"""What the build writes into the book: the ledger, the status page, provenance and banners."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import nbformat
import pandas as pd
from nbformat.v4 import new_markdown_cell, new_notebook
from PIL import Image

from vitlab import claims
from vitlab.book import front, svg
from vitlab.book.pages import read_text
from vitlab.files import FileError, read_json
from vitlab.markup import inert, placeless, render
from vitlab.models.zoos import zoo

State = dict[str, Any]  # what is known of a page's last run; empty if there is none


def failure(folder: Path) -> dict[str, str]:
    """What is known of a page's failed last run; empty if it went well."""
    path = folder / "failure.json"
    if not path.exists():
        return {}
    try:
        known = read_json(path)
    except FileError as error:
        known = {"error": str(error)}
    told = known if isinstance(known, dict) else {"error": str(known)}
    found = {"error": "unknown", "time": "at an unknown time"} | told
    return {name: placeless(str(text)) for name, text in found.items()}


def data_files(folder: Path) -> list[Path]:
    """The files of a page that its readers can have: trials, tables, figure data, claims."""
    kinds = {".parquet", ".csv", ".npz", ".json"}
    private = {"state.json", "failure.json", "trials.json", "headline.json"}
    return sorted(p for p in folder.rglob("*") if p.suffix in kinds and p.name not in private)


Cell = nbformat.NotebookNode


def staged_page(
    name: str,
    folder: Path,
    state: State,
    records: Sequence[Mapping[str, Any]] = (),
    kept: Sequence[Mapping[str, Any]] = (),
    panels: Sequence[svg.Panel] = (),
    differs: str = "",
    badge: str = "",
    paired: bool = False,
) -> nbformat.NotebookNode:
    """The page as it goes into the book, in the order that a reader wants.

    Title, answer and headline; then the page as it ran, its claims' cards with the evidence of
    every edition; then known deviations, recorded runs and provenance.

    records: the ledger's, of the page's claims. kept: its recorded runs. panels: of its headline.
    differs: its deviations, as Markdown. badge: the address of the paired .ipynb, for Colab; no
    link if empty.
    paired: whether the paired .ipynb is offered.
    """
    problem = failure(folder)
    if not state:
        text = render("never_run.md", name=name, error=problem.get("error", ""))
        return new_notebook(cells=[new_markdown_cell(text, id="never-run")])
    notebook = nbformat.read(folder / "page.ipynb", as_version=4)
    notebook.metadata.pop("papermill", None)  # paths and durations of this machine
    first = notebook.cells[0] if notebook.cells else _said("", "empty")
    if first.cell_type != "markdown" or not first.source.startswith("# "):
        notebook.cells.insert(0, first := _said(f"# {inert(name)}", "no-title"))
    title, _, rest = first.source.partition("\n")
    records = _in_order(records, notebook)
    cards = {f"{r['paper']} {r['claim']}": _card(r) for r in records}
    body = [new for cell in notebook.cells[1:] for new in _staged(cell, name, cards)]
    head = [_said(title, "title")]
    if badge:
        head.append(_said(render("badge.html", place=badge), "colab"))
    if problem:
        head.append(_said(render("failed.md", problem=problem, state=state), "failed"))
    if records:
        drawn = any(cell.id == _PLACE for cell in body if "id" in cell)
        head.append(_said(front.top(name, records, panels, drawn), "answer"))
    if len(records) > 1:
        head.append(_said(front.claims_of_page(records), "claims-of-this-page"))
    sizes = {
        path.relative_to(folder).as_posix(): max(1, path.stat().st_size // 1024)
        for path in data_files(folder)
        if path.parent.name != "claims"
    }
    tail = [_said(f"## Known deviations\n\n{differs}", "deviations")] if differs else []
    if kept:
        runs = [{**run, "tables": _tables(run["folder"])} for run in kept]
        tail.append(_said(render("recorded.md", runs=runs), "recorded"))
    about = {"name": name, "state": state, "files": sizes, "notebook": paired}
    tail.append(_said(render("provenance.html", **about), "provenance"))
    notebook.cells = [*head, _said(rest.strip(), "question"), *body, *tail]
    return notebook


_PLACE = "headline-place"  # the id of the empty cell before that which draws the headline


def _said(text: str, name: str) -> Cell:
    return new_markdown_cell(text, id=name)


def _in_order(
    records: Sequence[Mapping[str, Any]], notebook: nbformat.NotebookNode
) -> list[Mapping[str, Any]]:
    """A page's claims as it settles them, one after the other; others at the end."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    places = {
        (m[1], m[2]): m.start() for m in re.finditer(r'settles\(\s*"([^"]+)",\s*"([^"]+)"', text)
    }
    return sorted(records, key=lambda r: places.get((r["paper"], r["claim"]), len(text)))


def _card(record: Mapping[str, Any]) -> str:
    (row,) = front.rows([record], "../")
    return claims.card(record["paper"], record["claim"], record["editions"], row["links"])


def _staged(cell: Cell, name: str, cards: Mapping[str, str]) -> list[Cell]:
    """A cell of a page that ran, as the book shows it; with its figure's data, where it has one."""
    cell.metadata.pop("papermill", None)
    tags = cell.metadata.get("tags", [])
    if "injected-parameters" in tags:
        cell.metadata["tags"] = ["remove-cell"]
    if cell.cell_type != "code":
        return [cell]
    if "headline" in tags:  # it stands at the top
        cell.metadata["tags"] = ["remove-output", "hide-input"]
        return [_said('<span id="headline"></span>', _PLACE), cell]
    about: dict[str, str] = {}
    for output in cell.outputs:
        _hint(output.get("data", {}), cell)
        _lighten(output.get("data", {}))
        if "text" in output:  # what was printed, warnings of libraries too
            output["text"] = placeless("".join(output["text"]))
        about |= output.get("metadata", {}).pop("vitlab", {})
        html = "".join(output.get("data", {}).get("text/html", ""))
        if found := re.match(r'<div class="claim" [^>]*data-claim="([^"]+)"', html):
            output["data"]["text/html"] = cards.get(found[1], html)
        elif html and "base64," not in html:  # whose letters may look like folders
            output["data"]["text/html"] = placeless(html)
    if about.get("says"):
        image = cell.metadata.setdefault("mystnb", {}).setdefault("image", {})
        image["alt"] = f"{image.get('alt', '').rstrip('.')}. Found: {about['says']}.".lstrip(". ")
    if not about.get("data"):
        return [cell]
    links = render("figure.html", name=name, file=about["data"])
    return [cell, _said(links, f"{cell.get('id', 'cell')}-data")]


def _tables(folder: Path) -> list[dict[str, Any]]:
    """The tables of a recorded run: name, columns, rows as printed."""
    found = []
    for path in sorted(folder.glob("*.csv")):
        table = pd.read_csv(path)
        rows = [
            [f"{value:.3f}" if isinstance(value, float) else value for value in row]
            for row in table.itertuples(index=False)
        ]
        found.append({"name": path.name, "columns": list(table.columns), "rows": rows})
    return found


PHONE = 600  # pixels of a figure that a phone shows whole, at the size at which it is legible


def _hint(data: Mapping[str, Any], cell: Cell) -> None:
    """Mark a cell whose picture is wider than a phone: the look says that it moves sideways."""
    packed = data.get("image/png", "")
    try:
        head = base64.b64decode(packed[:32], validate=True)
    except ValueError:
        return
    # PNG, third edition, 11.2.1: signature, length and "IHDR", then the width.
    if head[12:16] == b"IHDR" and int.from_bytes(head[16:20]) > PHONE:
        cell.metadata.setdefault("mystnb", {}).setdefault("image", {})["classes"] = "wide"


HEAVY = 130_000  # characters of a picture that is worth packing


def _lighten(data: dict[str, Any]) -> None:
    """Pictures of pictures as JPEG, a third of the size; drawings, of few colours, stay PNG.

    What is no picture stays as it is: it may be anything that a page has put out.
    """
    if len(data.get("image/png", "")) < HEAVY:
        return
    try:
        packed = base64.b64decode(data["image/png"])
        image = Image.open(io.BytesIO(packed)).convert("RGBA")
        flat = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        smaller = io.BytesIO()
        flat.save(smaller, "JPEG", quality=88, subsampling=0)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return
    if flat.getcolors(5000) is None and len(smaller.getvalue()) < 0.8 * len(packed):
        del data["image/png"]
        data["image/jpeg"] = base64.b64encode(smaller.getvalue()).decode()


def deviations(text: str) -> dict[str, str]:
    """The tables of ``book/deviations.md`` by page: a section's heading links to its page."""
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    found = {}
    for section in sections:
        heading, _, table = section.partition("\n")
        if page := re.search(r"\(\.\./notebooks/([^)]+)\.ipynb\)", heading):
            found[page[1]] = table.strip()
    return found


def link(config: dict[str, Any], address: str) -> None:
    """Put Colab, Binder, source and issue links into the configuration, or leave all out."""
    config.pop("repository", None)
    if not address:
        return
    config["repository"] = {"url": address, "branch": "main", "path_to_book": ""}
    config["launch_buttons"] = {
        "notebook_interface": "jupyterlab",
        "colab_url": "https://colab.research.google.com",
        "binderhub_url": "https://mybinder.org" if "github.com" in address else "",
    }
    config.setdefault("html", {}).update(
        use_repository_button=True, use_issues_button=True, use_edit_page_button=True
    )


def small_toc(toc: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The table of contents of a book of a few pages: front page, those pages, papers, status."""
    kept = {f"notebooks/{name}" for name in names} | {"book/papers/index", "book/status"}
    kept.add("book/references")
    parts = [
        {**part, "chapters": [c for c in part["chapters"] if c["file"] in kept]}
        for part in toc["parts"]
    ]
    return {**toc, "parts": [part for part in parts if part["chapters"]]}


def unlinked(notebook: nbformat.NotebookNode, names: Iterable[str]) -> nbformat.NotebookNode:
    """A page of such a book: links to pages that are not in it become their words."""
    absent = rf"\[([^\]\[]+)\]\((?!(?:{'|'.join(map(re.escape, names))})\.ipynb)[\w-]+\.ipynb\)"
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(absent, r"\1", cell.source)
    return notebook


def small_intro(parameters: dict[str, str]) -> str:
    """The front page of a book that was built with parameters of the reader's own."""
    return render("intro.md", parameters={k: placeless(v) for k, v in parameters.items()})


def fill(
    folder: Path,
    records: list[dict[str, Any]],
    pages: Mapping[str, Path],
    states: Mapping[str, State],
    pdf: str = "",
    own: bool = False,
    kept: Mapping[str, Sequence[Mapping[str, Any]]] = MappingProxyType({}),
) -> None:
    """Put the ledger into the staged front page and the pages' times into the status page.

    kept: the recorded runs of each page.
    pdf: the name of the printed book at the site's top, which the front page offers; none if empty.
    own: whether it is a book of a reader's own run.
    """
    script = read_text(folder / "ledger.js")
    failed = [name for name, place in pages.items() if failure(place)]
    found = front.rows(records, "../", failed)
    nets = [(name, net) for name, net in zoo().items() if name.startswith("photos/")]
    parts = {
        "tally": front.tally(found, own),
        "no_verdict": front.no_verdict(found),
        "ledger": f"{front.ledger(found)}\n<script>\n{script}\n</script>",
        "status": render("status.html", **_status(pages, states), recorded=_recorded(kept)),
        "pdf": render("pdf.html", name=pdf) if pdf else "",
        "photo_zoo": render("photo_zoo.html", nets=nets),
    }
    for page in folder.glob("*.md"):
        text = read_text(page)
        # In one pass: what is put in is not looked through for more.
        page.write_text(re.sub(rf"{{{{ ({'|'.join(parts)}) }}}}", lambda m: parts[m[1]], text))


def _status(pages: Mapping[str, Path], states: Mapping[str, State]) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for name in pages:
        state, problem = states[name], failure(pages[name])
        done = "up to date" if state else "never run"
        result = f"failed: {problem['error']}" if problem else done
        kind = "no" if problem else "yes" if state else "none"
        why = state.get("reason", "").replace("never run", "first run")
        why = re.sub(r"^changed: (.*)", lambda m: _few(m[1].split(", ")), why)
        time = state.get("finished", "")
        rows.append(
            {"name": name, "result": result, "kind": kind, "state": state, "why": why, "time": time}
        )
    seconds = [row["state"].get("seconds", 0) for row in rows]
    return {"pages": rows, "total": sum(seconds), "most": max([1, *seconds])}


def _recorded(kept: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """The recorded runs, a row a page: when they were measured, how long that took, on what."""
    runs = [(run, name) for name, of_page in kept.items() for run in of_page]
    return [
        {
            "run": run["run"],
            "name": name,
            "images": _images(run["state"]),
            "time": run["state"]["finished"],
            "seconds": round(run["state"]["seconds"]),
            "machine": run["state"]["machine"],
            "commit": run["state"]["commit"],
        }
        for run, name in sorted(runs, key=lambda one: (one[0]["run"], one[1]))
    ]


def _images(state: State) -> str:
    """What a recorded run looked at: the sets that its trials name, or what was asked for."""
    sets = dict.fromkeys(one["name"] for one in state.get("image sets", ()))
    return ", ".join(sets) or str(state["settings"].get("images") or "")


def _few(changed: list[str]) -> str:
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return f"changed: {', '.join(changed[:3])}{more}"
