"""What the build writes into the book: the ledger, the status page, provenance and banners."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from nbformat.v4 import new_markdown_cell, new_notebook

from vitlab import claims
from vitlab.files import FileError, read_json
from vitlab.markup import render

State = dict[str, Any]  # what is known of a page's last run; empty if there is none


def failure(folder: Path) -> dict[str, str]:
    """What is known of a page's failed last run; empty if it went well."""
    path = folder / "failure.json"
    try:
        return read_json(path) if path.exists() else {}
    except FileError as error:
        return {"error": str(error), "time": "at an unknown time"}


def data_files(folder: Path) -> list[Path]:
    """The files of a page that its readers can have: trials, tables, figure data, claims."""
    kinds = {".parquet", ".csv", ".npz", ".json"}
    private = {"state.json", "failure.json", "trials.json"}
    return sorted(p for p in folder.rglob("*") if p.suffix in kinds and p.name not in private)


def staged_page(
    name: str,
    folder: Path,
    state: State,
    kept: list[dict[str, Any]] | None = None,
    address: str = "",
) -> nbformat.NotebookNode:
    """The page as it goes into the book: executed notebook, banner if stale, provenance line.

    kept: the page's recorded runs, shown at its end. address: the repository's, for a link that
    opens the paired .ipynb on Colab; no link if empty.
    """
    problem = failure(folder)
    if not state:
        text = render("never_run.md", name=name, error=problem.get("error", ""))
        return new_notebook(cells=[new_markdown_cell(text, id="never-run")])
    notebook = nbformat.read(folder / "page.ipynb", as_version=4)
    notebook.metadata.pop("papermill", None)  # paths and durations of this machine
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata["tags"] = ["remove-cell"]
    if address.startswith("https://github.com/"):
        place = f"{address.removeprefix('https://github.com/')}/blob/main/notebooks/{name}.ipynb"
        notebook.cells.insert(1, new_markdown_cell(render("badge.html", place=place), id="colab"))
    if problem:
        banner = render("failed.md", problem=problem, state=state)
        notebook.cells.insert(1, new_markdown_cell(banner, id="failed"))
    if kept:
        runs = [run | {"tables": _tables(run["folder"])} for run in kept]
        text = render("recorded.md", runs=runs)
        notebook.cells.append(new_markdown_cell(text, id="recorded"))
    sizes = {
        path.relative_to(folder).as_posix(): max(1, path.stat().st_size // 1024)
        for path in data_files(folder)
        if path.parent.name != "claims"
    }
    text = render("provenance.html", name=name, state=state, files=sizes)
    notebook.cells.append(new_markdown_cell(text, id="provenance"))
    return notebook


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


def link(config: dict[str, Any], address: str) -> None:
    """Put Colab, source and issue links into the configuration, or leave all of them out."""
    config.pop("repository", None)
    if not address:
        return
    config["repository"] = {"url": address, "branch": "main", "path_to_book": ""}
    config["launch_buttons"] = {
        "notebook_interface": "classic",
        "colab_url": "https://colab.research.google.com",
        "binderhub_url": "",
    }
    config.setdefault("html", {}).update(
        use_repository_button=True, use_issues_button=True, use_edit_page_button=True
    )


def small_toc(toc: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The table of contents of a book of a few pages: front page, those pages, status."""
    kept = {f"notebooks/{name}" for name in names} | {"book/status", "book/references"}
    parts = [
        {**part, "chapters": [c for c in part["chapters"] if c["file"] in kept]}
        for part in toc["parts"]
    ]
    return {**toc, "parts": [part for part in parts if part["chapters"]]}


def small_intro(parameters: dict[str, str]) -> str:
    """The front page of a book that was built with parameters of the reader's own."""
    return render("intro.md", parameters=parameters)


def fill(
    folder: Path,
    records: list[dict[str, Any]],
    pages: Mapping[str, Path],
    states: Mapping[str, State],
) -> None:
    """Put the ledger into the staged front page and the pages' times into the status page."""
    counts = {v: sum(r["verdict"] == v for r in records) for v in claims.VERDICTS}
    ordered = sorted(records, key=lambda r: claims.VERDICTS.index(r["verdict"]))
    parts = {
        "counts": render("counts.html", counts=counts),
        "ledger": render("ledger.html", records=ordered),
        "status": render("status.html", pages=[_status(n, pages[n], states[n]) for n in pages]),
    }
    parts["ledger"] += f"\n<script>\n{(folder / 'ledger.js').read_text()}\n</script>"
    for page in folder.glob("*.md"):
        text = page.read_text()
        # In one pass: what is put in is not looked through for more.
        page.write_text(re.sub(r"{{ (counts|ledger|status) }}", lambda m: parts[m[1]], text))


def _status(name: str, folder: Path, state: State) -> dict[str, Any]:
    problem = failure(folder)
    result = f"failed: {problem['error']}" if problem else "good" if state else "never run"
    css = "fails" if problem else "holds" if state else "not-run"
    return {"name": name, "result": result, "css": css, "state": state}
