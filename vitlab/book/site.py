"""What the build writes into the book: the ledger, the status page, provenance and banners."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from nbformat.v4 import new_markdown_cell, new_notebook

from vitlab import claims
from vitlab.book import recorded

State = Callable[[Path], dict[str, Any]]


def failure(folder: Path) -> dict[str, str]:
    """What is known of a page's failed last run; empty if it went well."""
    path = folder / "failure.json"
    return json.loads(path.read_text()) if path.exists() else {}


def data_files(folder: Path) -> list[Path]:
    """The files of a page that its readers can have: trials, tables, figure data, claims."""
    kinds = {".parquet", ".csv", ".npz", ".json"}
    private = {"state.json", "failure.json"}
    return sorted(p for p in folder.rglob("*") if p.suffix in kinds and p.name not in private)


def staged_page(
    name: str,
    folder: Path,
    state: dict[str, Any],
    kept: list[dict[str, Any]] | None = None,
    address: str = "",
) -> nbformat.NotebookNode:
    """The page as it goes into the book: executed notebook, banner if stale, provenance line.

    kept: the page's recorded runs, shown at its end. address: the repository's, for a link that
    opens the paired .ipynb on Colab; no link if empty.
    """
    problem = failure(folder)
    if not state:
        text = f"# {name}\n\n" + _banner(
            f"This page has never been run: {problem.get('error', '')}"
        )
        return new_notebook(cells=[new_markdown_cell(text, id="never-run")])
    notebook = nbformat.read(folder / "page.ipynb", as_version=4)
    notebook.metadata.pop("papermill", None)  # paths and durations of this machine
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata["tags"] = ["remove-cell"]
    if address.startswith("https://github.com/"):
        place = f"{address.removeprefix('https://github.com/')}/blob/main/notebooks/{name}.ipynb"
        badge = (
            f'<p class="badge"><a href="https://colab.research.google.com/github/{place}">'
            "Open in Colab</a></p>"
        )
        notebook.cells.insert(1, new_markdown_cell(badge, id="colab"))
    if problem:
        banner = _banner(
            f"The last run of this page failed ({problem['time']}). What stands below is the "
            f"last good one, of {state['finished']}.\n\n`{problem['error']}`"
        )
        notebook.cells.insert(1, new_markdown_cell(banner, id="failed"))
    if kept:
        notebook.cells.append(new_markdown_cell(_recorded(kept), id="recorded"))
    notebook.cells.append(new_markdown_cell(_provenance(name, folder, state), id="provenance"))
    return notebook


def _banner(text: str) -> str:
    return f":::{{error}}\n{text}\n:::\n"


def _recorded(kept: list[dict[str, Any]]) -> str:
    """The section with a page's recorded runs: where each comes from, its numbers, its tables."""
    parts = [
        "## Recorded runs\n\nThe same notebook on real images with real models. Such runs are "
        "kept, not repeated at every build; they say what they were run on.\n"
    ]
    for run in kept:
        state, settings = run["state"], run["state"]["settings"]
        parts.append(
            f"**{run['run']}.** "
            + ", ".join(f"{m['name']} ({html.escape(m['source'])})" for m in run["models"])
            + f"; images: {html.escape(str(settings.get('images', '')))}"
            + "".join(
                f", {s['n']:,} of them (fingerprint <code>{s['fingerprint']}</code>)"
                for s in state.get("image sets", [])
            )
            + ". Measured "
            f"{state['finished']} in {state['seconds']:,.0f} s on {html.escape(state['machine'])}; "
            f"commit {html.escape(state['commit'])}; {html.escape(state['versions'])}.\n"
        )
        for record in run["claims"]:
            rows = "".join(
                f"<tr><td>{html.escape(i['quantity'])}</td><td>{claims.number(i['value'])}</td>"
                f"<td>{claims.number(i['low'])} … {claims.number(i['high'])}</td>"
                f"<td>{i['n']:,}</td></tr>"
                for i in record["fresh"]
            )
            if rows:
                parts.append(
                    f'<details><summary><span class="verdict {claims.css(record["verdict"])}">'
                    f"{record['verdict']}</span> {record['paper']} · {record['claim']}</summary>"
                    f"<p>{html.escape(record['reason'])}</p>"
                    '<div class="scroll"><table><thead><tr><th>quantity</th><th>value</th>'
                    f"<th>95 % interval</th><th>n</th></tr></thead><tbody>{rows}</tbody></table>"
                    "</div></details>\n"
                )
        for path in sorted(run["folder"].glob("*.csv")):
            table = pd.read_csv(path)
            shown = table.head(60).to_html(index=False, border=0, float_format="{:.3f}".format)
            rest = f"<p>and {len(table) - 60} rows more</p>" if len(table) > 60 else ""
            parts.append(
                f"<details><summary>{path.name}, {len(table)} rows</summary>"
                f'<div class="scroll">{shown}</div>{rest}</details>\n'
            )
    return "\n".join(parts)


def add_recorded(records: list[dict[str, Any]], pages: Iterable[str], where: Path) -> None:
    """Give each ledger record what recorded runs say of its claim: key ``recorded``, a list."""
    by_claim = {(record["paper"], record["claim"]): record for record in records}
    for record in records:
        record["recorded"] = []
    for page in pages:
        for run in recorded.runs(page, where):
            for claim in run["claims"]:
                known = by_claim.get((claim["paper"], claim["claim"]))
                if known is not None and claim["fresh"]:
                    known["recorded"].append(
                        {"run": run["run"], "page": page, "verdict": claim["verdict"]}
                        | {"models": [m["name"] for m in run["models"]]}
                        | {"finished": run["state"]["finished"], "fresh": claim["fresh"]}
                    )


def _provenance(name: str, folder: Path, state: dict[str, Any]) -> str:
    links = ""
    for path in data_files(folder):
        file, size = path.relative_to(folder).as_posix(), max(1, path.stat().st_size // 1024)
        if path.parent.name != "claims":
            links += f'<li><a href="../data/{name}/{file}" download>{file}</a> ({size:,} kB)</li>'
    return (
        '<div class="provenance">\n'
        f"<p>Measured {state['finished']} in {state['seconds']:.0f} s on {state['machine']}; "
        f"commit {html.escape(state['commit'])}; {html.escape(state['versions'])}; "
        f"page key <code>{state['key']}</code>.</p>\n"
        "<details><summary>Trials and figure data of this page</summary>"
        f"<ul>{links}</ul></details>\n"
        "</div>"
    )


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
    rows = "".join(f"- `{name}={value}`\n" for name, value in parameters.items())
    return (
        "---\nhtml_theme.sidebar_secondary.remove: true\n---\n\n"
        f"# A run of one's own\n\nSome pages of the book, run with\n\n{rows}\n"
        "{{ counts }}\n\n{{ ledger }}\n"
    )


def fill(folder: Path, records: list[dict[str, Any]], pages: dict[str, Path], state: State) -> None:
    """Put the ledger into the staged front page and the pages' times into the status page."""
    script = (folder / "ledger.js").read_text()
    for name, text in {
        "{{ counts }}": _counts(records),
        "{{ ledger }}": _table(records) + f"\n<script>\n{script}\n</script>",
        "{{ status }}": _status(pages, state),
    }.items():
        for page in folder.glob("*.md"):
            page.write_text(page.read_text().replace(name, text))


def _counts(records: list[dict[str, Any]]) -> str:
    tiles = "".join(
        f'<div class="tile {claims.css(v)}"><strong>{sum(r["verdict"] == v for r in records)}'
        f"</strong> {v}</div>"
        for v in claims.VERDICTS
    )
    return f'<div class="tiles">{tiles}<div class="tile">of {len(records)} claims</div></div>'


def _quantity(item: dict[str, Any]) -> str:
    value = f"{item['value']:.2f} [{item['low']:.2f}, {item['high']:.2f}]".replace("-", "−")
    return f"{html.escape(item['quantity'])}: {value}"


def _few(lines: list[str], most: int = 2) -> str:
    if len(lines) <= most:
        return "<br>".join(lines)
    rest = "<br>".join(lines[most:])
    return (
        "<br>".join(lines[:most])
        + f"<details><summary>{len(lines) - most} more</summary>{rest}</details>"
    )


def _table(records: list[dict[str, Any]]) -> str:
    rows = []
    order = {verdict: place for place, verdict in enumerate(claims.VERDICTS)}
    for r in sorted(records, key=lambda r: order[r["verdict"]]):
        statement = html.escape(r["statement"])
        if r["page"]:
            statement = f'<a href="../notebooks/{r["page"]}.html">{statement}</a>'
        published = [
            f"{html.escape(str(p['model']))}, {html.escape(str(p['condition']))}: "
            f"{'' if p['exact'] else '≈ '}{p['value']:g} {html.escape(str(p['unit']))}"
            for p in r["published"]
        ]
        fresh = [_quantity(item) for item in r["fresh"]]
        mark = '<span class="mini">in miniature</span><br>' if fresh and r["miniature"] else ""
        reason = f"<details><summary>why</summary>{html.escape(r['reason'])}</details>"
        reason = reason if r["reason"] else ""
        kept = "".join(
            f'<br><span class="mini">recorded run {html.escape(run["run"])}</span><br>'
            + _few([_quantity(item) for item in run["fresh"]], 1)
            for run in r.get("recorded", [])
        )
        rows.append(
            f'<tr><td><span class="verdict {claims.css(r["verdict"])}">{r["verdict"]}</span></td>'
            f"<td>{r['paper']}<br><small>{r['claim']}</small></td><td>{statement}{reason}</td>"
            f"<td>{_few(published)}</td><td>{mark}{_few(fresh)}{kept}</td></tr>"
        )
    head = "".join(
        f'<th><button type="button">{t}</button></th>'
        for t in ("verdict", "paper, claim", "statement", "published", "fresh, 95 % interval")
    )
    return (
        '<p><input id="ledger-search" type="search" placeholder="Search claims, papers, verdicts" '
        'aria-label="Search the ledger"> <span id="ledger-shown"></span></p>\n'
        '<div class="scroll"><table id="ledger" class="ledger"><thead><tr>'
        f"{head}</tr></thead><tbody>\n" + "\n".join(rows) + "\n</tbody></table></div>"
    )


def _status(pages: dict[str, Path], state: State) -> str:
    rows = []
    for name, folder in pages.items():
        known, problem = state(folder), failure(folder)
        result = f"failed: {problem['error']}" if problem else "good" if known else "never run"
        css = "fails" if problem else "holds" if known else "not-run"
        cells = [
            f'<a href="../notebooks/{name}.html">{name}</a>',
            f'<span class="verdict {css}">{html.escape(result)}</span>',
            f"{known['seconds']:.0f} s" if known else "",
            f"{known['peak_mb']:,} MB" if known else "",
            known.get("finished", ""),
            f"<code>{known['key']}</code>" if known else "",
            html.escape(known.get("reason", "")),
        ]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = "".join(
        f"<th>{t}</th>"
        for t in ("page", "result", "time", "memory, peak", "measured", "key", "why it was run")
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}'
        "</tbody></table></div>"
    )
