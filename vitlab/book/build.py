"""Build the book: run the pages that need it, settle the ledger, render the site.

A page is run again when its key changes: its code, its parameters, the vitlab modules it imports,
the weights, image sets, papers and manifests it names, lock file, Python or device; and when a file
that it made is missing or changed. The build says which. What the pages measured image by image is
kept in ``build/trials``, which no run of a page clears.
"""

from __future__ import annotations

import glob
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import yaml
from filelock import FileLock, Timeout
from tqdm import tqdm

from vitlab import claims, keys
from vitlab.book import api, disagreements, front, pages, papers, recorded, svg
from vitlab.book import pdf as printer
from vitlab.book import site as book
from vitlab.book.pages import Page, read_text
from vitlab.book.runner import Killed, RunError, Runner, Stopped
from vitlab.files import (
    FileError,
    clear,
    digest,
    read_json,
    read_yaml,
    restore,
    sealed,
    sha256,
    swap,
    write_json,
    write_text,
)
from vitlab.images import contents
from vitlab.markup import EDITIONS, calling

_PACKAGE = Path(__file__).parents[1]


class BuildError(ValueError):
    """A build that cannot be: another one is at work."""


class SiteError(RuntimeError):
    """A book that Jupyter Book cannot render."""


@dataclass
class Result:
    """What became of a page in this build."""

    page: Page
    reason: str = ""  # why it was run; empty if it was not
    error: str = ""
    state: dict[str, Any] = field(default_factory=dict)


def build(
    names: list[str] | None = None,
    parameters: dict[str, str] | None = None,
    profile: str = "mini",
    jobs: int = 0,
    root: Path | None = None,
    site: bool = True,
    scheduler: str = "",
    pdf: bool = False,
    verify: bool = False,
) -> int:
    """Build the whole book, or some pages, and return the exit code: 0, or 1 if a page failed.

    names: pages to run, all if empty. parameters: overrides as text. A build with these, or of
    another profile than mini, is a book of its own (see `place`) and leaves the main one alone.
    jobs: pages at a time, the number of cores if 0; they share the cores, but that those of the
    small networks (mini, photos) take one each. scheduler: of a Dask cluster that does the pages'
    trials. pdf: whether the site is printed, too. verify: whether all image files are read again,
    those that seem unchanged included.

    Before anything is run, raises PdfError where no browser can print it, and PageError for unknown
    pages, profiles and parameters.
    """
    root = root or pages.find_root()
    if verify:
        contents.forget()
    with pages.parsed_once(root):
        chosen = pages.choose(root, names or [], parameters or {}, profile)
        if pdf:
            printer.browser()
        base = place(root, [page.name for page in chosen], parameters or {}, profile)
        own = base != root / "build"
        for page in filter(lambda page: pages.edited(page.source), chosen):
            print(f"{page.name}: its .ipynb was edited; the book is made from {page.source.name}")
        whole = [page.name for page in chosen] if own else pages.names(root)
        pages.settle_once(root, whole)
        stale = [page for page in chosen if reason_to_run(page, base / "pages" / page.name)]
        pages.check(stale)  # what is refused leaves nothing behind
    with _locked(base):
        folders = {name: base / "pages" / name for name in whole}
        for folder in [*folders.values(), base / "html"]:
            restore(folder)
        results = _run_all(root, base, chosen, jobs or _cores(), scheduler, profile)
        failed = {r.page.name: r.error for r in results if r.error}
        states = {name: read_state(folder) for name, folder in folders.items()}
        kept: dict[str, list[dict[str, Any]]] = {name: [] for name in whole}
        settled: dict[str, list[dict[str, Any]]] = {name: [] for name in whole}
        for name, folder in folders.items():
            # What is damaged is named, and the rest of the book is made without it.
            try:
                settled[name] += claims.records(folder) if states[name] else []
                kept[name] += [] if own else recorded.runs(name, root / "book" / "recorded")
                settled[name] += [c for run in kept[name] for c in run["claims"]]
                front.headline(folder, kept[name])
            except (ValueError, OSError) as error:
                failed.setdefault(name, str(error))
        settings = {"profile": profile, **(parameters or {})} if own else {}
        try:
            records = claims.ledger(settled)
            if (base / "ledger.json").is_dir():
                clear(base / "ledger.json")
            write_json(base / "ledger.json", records)
            counts = {v: sum(r["verdict"] == v for r in records) for v in claims.VERDICTS}
            print(f"ledger: {', '.join(f'{n} {v}' for v, n in counts.items())}")
            if not site and any(states.values()):
                print(f"results: {(base / 'pages').relative_to(root)}/PAGE")
            if site:
                with calling(**_names(records) if parameters else {}):
                    _site(root, base, states, records, kept, settings, pdf)
        except Exception as error:  # told last, after its causes
            failed["ledger and site"] = f"{_words(error)}; the last ones stay"
    for name, why in failed.items():
        print(f"FAILED {name}: {why}", file=sys.stderr)
    return 1 if failed else 0


def place(root: Path, names: list[str], parameters: dict[str, str], profile: str) -> Path:
    """Where a build's results go: ``build``, ``build/<profile>`` or ``build/custom/<digest>``."""
    if parameters:
        return root / "build" / "custom" / digest(names, sorted(parameters.items()), profile)
    return root / "build" if profile == "mini" else root / "build" / profile


def _cores() -> int:
    """Cores that this process may use; a scheduler or taskset can leave fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# --- running -----------------------------------------------------------------------------------


@contextmanager
def _locked(base: Path) -> Iterator[None]:
    """One build at a time. The lock goes with the process, however it ends."""
    base.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(base / ".lock", timeout=0), base / ".process"
    try:
        lock.acquire()
    except Timeout:
        who = holder.read_text(errors="replace") if holder.exists() else "unknown"
        raise BuildError(f"another build is at work in {base} (process {who})") from None
    try:
        write_text(holder, str(os.getpid()))
        yield
    finally:
        lock.release()


def read_state(folder: Path) -> dict[str, Any]:
    """What is known of a page's last good run; empty if there is none, or its files are not whole.

    A page's files are those listed in ``state.json``, with their SHA-256.
    """
    state = _state(folder)
    return {} if damaged(folder, state) else state


def _state(folder: Path) -> dict[str, Any]:
    try:
        state = read_json(folder / "state.json")
    except (OSError, FileError):
        return {}
    return state if recorded.is_state(state, parts=dict, reason=str) else {}


def damaged(folder: Path, state: dict[str, Any]) -> list[str]:
    """The files of a page's last run that are missing or are not as the run left them."""
    return [
        name
        for name, known in state.get("files", {}).items()
        if not (folder / name).is_file() or sha256(folder / name) != known
    ]


def _files(folder: Path) -> dict[str, str]:
    """A page's files: path below its folder -> SHA-256."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): sha256(path)
        for path in found
        if path.name not in ("state.json", "failure.json")
    }


def reason_to_run(page: Page, folder: Path) -> str:
    """Why a page has to be run, in words; empty if its last run still stands."""
    state = _state(folder)
    if not state:
        return "never run"
    if lost := damaged(folder, state):
        return f"missing or not as it was left: {', '.join(lost)}"
    old = state["parts"]
    changed = [part for part in page.parts if page.parts[part] != old.get(part)]
    gone = [part for part in old if part not in page.parts]
    return f"changed: {', '.join(changed + gone)}" if changed or gone else ""


def _run_all(
    root: Path, base: Path, chosen: list[Page], jobs: int, scheduler: str, profile: str
) -> list[Result]:
    folders = [base / "pages" / page.name for page in chosen]
    results = [
        Result(page, reason_to_run(page, folder), state=_state(folder))
        for page, folder in zip(chosen, folders, strict=True)
    ]
    for result, folder in zip(results, folders, strict=True):
        page = result.page
        if result.reason:
            print(f"{page.name}: running, {result.reason}")
        else:
            anew = _refresh_prose(page, folder)
            print(f"{page.name}: {'text refreshed, nothing run again' if anew else 'up to date'}")
            clear(folder / "failure.json")
    stale = [r for r in results if r.reason]
    # Once, before any page runs beside another, whose folder would be in the way.
    for place in (base / "work", base / "pages"):
        if not place.is_dir():  # it may well be a link to another disk
            with suppress(OSError):  # what cannot be cleared is told of each page
                clear(place)
    jobs = max(1, min(jobs, len(stale)))
    # Sums over another number of threads round otherwise, and a training or an attack makes that
    # another number: what the repository keeps must not hang on how many pages run at once.
    threads = 1 if profile in ("mini", "photos") else max(1, _cores() // jobs)
    environment = _environment(root, threads, scheduler)
    runners = [Runner(environment, root) for _ in range(jobs)]
    # Longest first, by their last run, so that no core is left with one long page at the end.
    waiting = deque(sorted(stale, key=lambda r: -r.state.get("seconds", 1e9)))

    def work(runner: Runner) -> None:
        while True:
            try:
                result = waiting.popleft()
            except IndexError:  # none is left
                return
            _run(root, base, result, environment, runner)

    pool = ThreadPoolExecutor(max_workers=jobs)
    try:
        for _ in pool.map(work, runners):
            pass
    finally:  # Ctrl-C: stop the pages, keep the pieces they have written
        waiting.clear()
        for runner in runners:
            runner.stop()
        pool.shutdown(wait=False, cancel_futures=True)
    return results


def _run(
    root: Path, base: Path, result: Result, environment: dict[str, str], runner: Runner
) -> None:
    page = result.page
    folder = base / "pages" / page.name
    # Named by the key: a broken-off run of the same page is taken up, any other is thrown away.
    work = base / "work" / f"{page.name}-{page.key}"
    started = time.monotonic()
    settable: Container[str] = ()
    try:
        for other in (base / "work").glob(f"{glob.escape(page.name)}-{'[0-9a-f]' * 16}"):
            if other != work:
                clear(other)
        _clear_unless_folder(work)
        _clear_unless_folder(work / "out")
        (work / "out").mkdir(parents=True, exist_ok=True)
        for half in (work / "out").rglob(".*.part*"):  # of a run that was killed while it wrote
            half.unlink()
        notebook = pages.read(page.source)
        jupytext.write(notebook, work / "in.ipynb", fmt="ipynb")
        settable = pages.parameters(notebook)
        parameters = {**page.parameters, "out": os.path.relpath(work / "out", root)}
        with _line(page.name) as tell:
            peak = runner.run(work / "in.ipynb", work / "run.ipynb", parameters, tell)
        seconds = round(time.monotonic() - started, 1)
        result.state = {
            "key": page.key,
            "parts": page.parts,
            "settings": page.settings,
            "reason": result.reason,
            "seconds": seconds,
            "peak_mb": peak,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            **provenance(root, page.settings.get("device"), environment),
        }
        shutil.move(work / "run.ipynb", work / "out" / "page.ipynb")
        result.state["files"] = _files(work / "out")
        write_json(work / "out" / "state.json", sealed(result.state))
        _put(work / "out", folder)
        shutil.rmtree(work)
        tqdm.write(f"{page.name}: done in {seconds:.0f} s, {peak} MB at most")
    except Stopped as stopped:
        result.error = str(stopped)
    except Exception as error:  # whatever it is, it is this page's, and the others go on
        hint = _when_killed(page, settable) if isinstance(error, Killed) else ""
        result.error = f"{_words(error)}{hint}"
        seconds = round(time.monotonic() - started)
        tqdm.write(f"{page.name}: failed after {seconds} s", file=sys.stderr)
        failure = {"error": result.error, "time": datetime.now(UTC).isoformat(timespec="seconds")}
        try:
            _clear_unless_folder(folder)
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / "failure.json", failure)
        except OSError as second:  # a full disk; the other pages go on
            print(f"{page.name}: nor could this be written down: {second}", file=sys.stderr)


def _clear_unless_folder(place: Path) -> None:
    """Remove what is no folder of this build's own; what a link leads to stays."""
    if place.is_symlink() or not place.is_dir():
        clear(place)


def _put(new: Path, place: Path) -> None:
    """`swap`, whatever lies in the place."""
    _clear_unless_folder(place)
    _clear_unless_folder(place.with_name(f".old-{place.name}"))
    swap(new, place)


def _words(error: Exception) -> str:
    """An error's message; where it is none of ours or of a file, with its kind."""
    ours = isinstance(error, RunError | SiteError | printer.PdfError | ValueError | OSError)
    return str(error) if ours else f"{type(error).__name__}: {error}"


def _when_killed(page: Page, settable: Container[str]) -> str:
    """What may help a page whose kernel was ended; a smaller batch only where it has one."""
    size = page.settings.get("batch_size") if "batch_size" in settable else None
    smaller = f"-p batch_size={size // 2} or " if size and size > 1 else ""
    return f"; was it out of memory? try {smaller}--jobs 1"


EVERY = 30  # seconds between a running page's lines in a log


@contextmanager
def _line(page: str) -> Iterator[Callable[[str], object]]:
    """A function that shows how far a page is: in a line on a terminal, now and then in a log."""
    if sys.stdout.isatty():
        with tqdm(bar_format="{desc}", leave=False, file=sys.stdout) as bar:
            yield lambda text: bar.set_description_str(f"{page}: {text}")
        return
    told = time.monotonic()

    def say(text: str) -> None:
        nonlocal told
        if time.monotonic() - told >= EVERY:
            told = time.monotonic()
            print(f"{page}: {text}", flush=True)

    yield say


def _environment(root: Path, threads: int, scheduler: str) -> dict[str, str]:
    return {
        **os.environ,
        "VITLAB_TRIALS": str(root.resolve() / "build" / "trials"),
        "VITLAB_PROFILES": str(pages.profiles_file(root).resolve()),
        **({"VITLAB_SCHEDULER": scheduler} if scheduler else {}),
        "OMP_NUM_THREADS": str(threads),
        # glibc gives large arrays back and asks for them anew: at 64 images a small CNN
        # spends a third of its time on that.
        "MALLOC_MMAP_THRESHOLD_": str(2**32),
        "MALLOC_TRIM_THRESHOLD_": str(2**32),
        # Read where matplotlib is imported, which is before there is a kernel to show figures.
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "TQDM_DISABLE": "1",
        # tqdm's hint at ipywidgets would print a path of this machine into the page.
        "PYTHONWARNINGS": "ignore:IProgress not found",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def _refresh_prose(page: Page, folder: Path) -> bool:
    """Take over changed text and comments of a page whose code is what was run: outputs stay.

    Returns whether there were any. The code cells are the same and in the same order, or the page
    would be run again.
    """
    ran = nbformat.read(folder / "page.ipynb", as_version=4)
    code = [c for c in ran.cells if c.cell_type == "code" and not _injected(c)]
    outputs = iter(code)
    cells = []
    for cell in pages.read(page.source).cells:
        if cell.cell_type == "code":
            old = next(outputs)
            cell.update(outputs=old.outputs, execution_count=old.execution_count)
        cells.append(cell)
        if "parameters" in cell.metadata.get("tags", []):
            cells += filter(_injected, ran.cells)
    changed = list(map(_shown, cells)) != list(map(_shown, ran.cells))
    if changed:
        ran.cells = cells
        with_text = folder / "page.ipynb"
        write_text(with_text, nbformat.writes(ran) + "\n")
        state = _state(folder)
        state["files"]["page.ipynb"] = sha256(with_text)
        write_json(folder / "state.json", sealed(state))
    return changed


def _injected(cell: nbformat.NotebookNode) -> bool:
    return "injected-parameters" in cell.metadata.get("tags", [])


def _shown(cell: nbformat.NotebookNode) -> tuple[str, str, dict[str, Any]]:
    """What a reader sees of a cell, outputs aside; papermill's notes of a run are left out."""
    notes = ("papermill", "execution")
    kept = {name: value for name, value in cell.metadata.items() if name not in notes and value}
    return cell.cell_type, cell.source, kept


def provenance(
    root: Path, device: str | None = None, environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Commit, versions and machine of this run."""
    from vitlab.models.model import device_name  # torch takes seconds to import

    scheduler = environment.get("VITLAB_SCHEDULER", "")

    def git(*arguments: str) -> str:
        if not shutil.which("git"):
            return ""
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "--short=10", "HEAD") or "no commit"
    if git("status", "--porcelain", "--untracked-files=no"):
        commit += " with uncommitted changes"
    versions = {name: metadata.version(name) for name in ("torch", "timm", "numpy")}
    return {
        "commit": commit,
        "versions": ", ".join(
            [f"Python {platform.python_version()}", *(f"{k} {v}" for k, v in versions.items())]
        ),
        "machine": f"{device_name(device)} ({platform.machine()}, {_cores()} cores)"
        + (" and a Dask cluster" if scheduler else ""),
    }


# --- the site ----------------------------------------------------------------------------------


def _site(
    root: Path,
    base: Path,
    states: dict[str, dict[str, Any]],
    records: list[dict[str, Any]],
    kept: Mapping[str, list[dict[str, Any]]],
    parameters: dict[str, str],
    pdf: bool = False,
) -> None:
    """Stage executed pages and prose, render them with Jupyter Book, put the site in its place.

    A site stands where all that it can be made from is as it was (`_sources`), which is soon seen,
    or else where all that is staged is.
    """
    address = pages.address(root) or _github()
    if not address:
        print(
            "no repository address (_config.yml, GITHUB_REPOSITORY): "
            "Colab and source links left out"
        )
    site, stamp_file = base / "html", base / "site.json"
    known = stamp_file.read_bytes().split() if stamp_file.is_file() else []
    sources = _sources(root, base, states, records, parameters, pdf)
    if _stamp(sources, site).encode() in known:
        print(f"site up to date: {site / 'index.html'}")
        return
    staged = base / "src"
    shutil.rmtree(staged, ignore_errors=True)
    shutil.copytree(
        root / "book", staged / "book", ignore=shutil.ignore_patterns("papers", "recorded")
    )
    folders = {name: base / "pages" / name for name in states}
    (staged / "notebooks").mkdir()
    if parameters:
        records = [record for record in records if record["page"]]
    differs = book.deviations(read_text(root / "book" / "deviations.md"))
    # Of a page that never ran well nothing is shown.
    panels = {n: _headline(f, kept[n]) if states[n] else [] for n, f in folders.items()}
    for name, folder in folders.items():
        notebook = book.staged_page(
            name,
            folder,
            states[name],
            [record for record in records if record["page"] == name],
            kept[name],
            panels[name],
            differs.get(name, ""),
            _badge(root, name, address),
            (root / "notebooks" / f"{name}.ipynb").exists(),
        )
        if parameters:
            notebook = book.unlinked(notebook, states)
        nbformat.write(notebook, staged / "notebooks" / f"{name}.ipynb")
    config, toc = pages.config(root), _toc(root)
    if parameters:
        toc = book.small_toc(toc, states)
    (staged / "book" / "papers").mkdir()
    listed = disagreements.PAGE in _in_order(toc)
    pairs = disagreements.pairs() if listed else []
    of_papers = papers.pages(records, address, disagreements.others(pairs, "../../"))
    for name, text in of_papers.items():
        (staged / "book" / "papers" / f"{name}.md").write_text(text)
    if listed:
        (staged / f"{disagreements.PAGE}.md").write_text(disagreements.page(pairs, records))
    if parameters:
        (staged / "book" / "intro.md").write_text(book.small_intro(parameters))
    printed = printer.NAME if pdf else ""
    of_reader = bool(parameters)
    book.fill(staged / "book", records, folders, states, printed, of_reader, kept)
    (staged / "book" / "api.md").write_text(api.markdown())
    book.link(config, address)
    for chapter in (chapter for part in toc["parts"] for chapter in part["chapters"]):
        if chapter["file"] == "book/papers/index" and len(of_papers) > 1:
            below = [name for name in of_papers if name != "index"]
            chapter["sections"] = [{"file": f"book/papers/{name}"} for name in below]
    (base / "_config.yml").write_text(yaml.safe_dump(config))
    (base / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False))

    beside = _beside(root, folders)
    rendered = [staged, base / "_config.yml", base / "_toc.yml", root / "requirements.lock"]
    stamp = digest(*map(_content, rendered), beside.keys(), *map(sha256, beside.values()))
    stamp = digest(stamp, records, panels, pdf, *_finishing())
    if _stamp(stamp, site).encode() in known:
        _remember(stamp_file, site, sources, stamp)
        print(f"site up to date: {site / 'index.html'}")
        return
    shutil.rmtree(base / "_build", ignore_errors=True)
    log = base / "jupyter-book.log"
    with open(log, "w") as output:
        done = subprocess.run(
            [
                *(str(Path(sys.executable).with_name("jupyter-book")), "build", str(staged)),
                *("--config", str(base / "_config.yml"), "--toc", str(base / "_toc.yml")),
                *("--path-output", str(base), "--all", "-n", "-W", "--keep-going", "-q"),
            ],
            cwd=root,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    built = base / "_build" / "html"
    if done.returncode or not (built / "index.html").exists():
        tail = "\n".join(log.read_text().splitlines()[-25:])
        raise SiteError(f"Jupyter Book failed; {log} ends:\n{tail}")
    _prune(built)
    _name_buttons(built)
    (built / "data").mkdir(exist_ok=True)
    (built / "data" / "ledger.json").write_text(_in_a_line(records))
    for place, path in beside.items():
        _lay(path, built / place)
    for name, shown in panels.items():
        if shown:
            (built / "data" / name).mkdir(exist_ok=True)
            table = front.headline_table(shown)
            table.to_csv(built / "data" / name / "headline.csv", index=False)
    if pdf:
        printer.write(built, _in_order(toc), built / printer.NAME)
    _put(built, site)
    _remember(stamp_file, site, sources, stamp)
    print(f"site: {site / 'index.html'}")


def _headline(folder: Path, kept: Sequence[Mapping[str, Any]]) -> list[svg.Panel]:
    """A page's headline; none where it cannot be read, which `build` has told."""
    try:
        return front.headline(folder, kept)
    except (ValueError, OSError):
        return []


def _toc(root: Path) -> dict[str, Any]:
    """The book's table of contents. Raises FileError for what is none."""
    path = root / "book" / "_toc.yml"
    toc = read_yaml(path)
    try:
        chapters = [one for part in toc["parts"] for one in part["chapters"]]
        below = [one for chapter in chapters for one in chapter.get("sections", [])]
        named = [one["file"] for one in [*chapters, *below]]
        whole = all(isinstance(name, str) for name in [toc["root"], *named])
    except (KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise FileError(f"{path} is no table of contents: root, and parts with chapters of files")
    return toc


def _names(records: list[dict[str, Any]]) -> dict[str, str]:
    """What the editions are called in a book of a reader's own: those it lacks have no name."""
    here = {name for record in records for name in record["editions"]}
    return {"imagenet": "your pictures"} | {n: "" for n in claims.EDITIONS if n not in here}


def _in_order(toc: dict[str, Any]) -> list[str]:
    """The pages that are printed, as the table of contents has them; the library's are not."""
    chapters = [chapter for part in toc["parts"] for chapter in part["chapters"]]
    files = [toc["root"]]
    for chapter in chapters:
        files += [chapter["file"], *(one["file"] for one in chapter.get("sections", ()))]
    return [file for file in files if file not in ("book/api", "book/contributing", "book/status")]


def _prune(site: Path) -> None:
    """Take out what no page needs: most of MathJax, source maps, translations, icons twice more.

    The theme brings its icons as fonts of two kinds and as a script of 1.5 MB; one kind does. What
    opens a list of its navigation has no name there, and gets one.
    """
    opens, named = (
        f'<summary{name}><span class="toctree-toggle"' for name in ("", ' aria-label="Its pages"')
    )
    static, asked = site / "_static", set()
    for page in site.rglob("*.html"):
        text = page.read_text().replace(opens, named)
        asked |= set(re.findall(r"_static/mathjax/([\w.-]+\.js)", text))
        page.write_text(re.sub(r'\s*<script src="[^"]*/fontawesome/[^"]*"></script>', "", text))
    for path in [*(static / "mathjax").rglob("*"), *static.rglob("*.map")]:
        fonts = asked and {"chtml", "fonts"} <= set(path.parts)
        if path.is_file() and path.name not in asked and not fonts:
            path.unlink()
    (static / "readme.png").unlink(missing_ok=True)  # of the page on the repository
    icons = static / "vendor" / "fontawesome"
    for folder in [*icons.glob("*/js"), *static.glob("locales")]:
        shutil.rmtree(folder)
    for font in icons.rglob("*.ttf"):  # older than WOFF2, which every browser reads
        font.unlink()


def _name_buttons(site: Path) -> None:
    """Give copy buttons, which their extension leaves without one, a name."""
    script = site / "_static" / "copybutton.js"
    if script.exists():
        named = 'aria-label="Copy this code" class="copybtn'
        script.write_text(script.read_text().replace('class="copybtn', named))


def _badge(root: Path, name: str, address: str) -> str:
    """Where Colab finds a page's committed .ipynb; empty unless its first cell has an address."""
    path = root / "notebooks" / f"{name}.ipynb"
    here = address.removeprefix("https://github.com/")
    if here == address or not path.exists() or address not in read_text(path):
        return ""
    return f"{here}/blob/main/notebooks/{name}.ipynb"


def _beside(root: Path, folders: Mapping[str, Path]) -> dict[str, Path]:
    """What readers find beside the pages: its place in the site -> the file that is copied."""
    found = {
        f"data/{name}/{path.relative_to(folder).as_posix()}": path
        for name, folder in folders.items()
        for path in book.data_files(folder)
    }
    pairs = (root / "notebooks" / f"{name}.ipynb" for name in folders)
    return found | {f"data/{pair.stem}/{pair.name}": pair for pair in pairs if pair.exists()}


def _lay(path: Path, place: Path) -> None:
    """Put a file beside the pages."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json" and path.parent.name == "claims":
        place.write_text(_in_a_line(read_json(path)))
    else:
        shutil.copy(path, place)


def _in_a_line(records: Any) -> str:
    """JSON as one line: indented, the claims' evidence is a third larger."""
    return json.dumps(records, ensure_ascii=False)


def _finishing() -> list[str]:
    """The code that makes a site of what is staged, without comments."""
    names = ("build", "front", "pdf", "site", "sphinx")
    return [keys.syntax(read_text(_PACKAGE / "book" / f"{name}.py")) for name in names]


def _sources(
    root: Path,
    base: Path,
    states: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    parameters: Mapping[str, str],
    pdf: bool,
) -> str:
    """All that a site can be made from, as a key: the checkout's files, the pages as they ran, git.

    Rather too much than too little: where it differs, the site is staged, and that is compared.
    """
    of_papers = claims.papers_folder()
    files = (root / "_config.yml", root / "requirements.lock")
    folders = (_PACKAGE, root / "book", root / "notebooks", base / "pages", of_papers)
    made_by = platform.python_version(), pages.installed(*pages.lock_file(root))
    given = sorted(parameters.items()), pdf, _github(), sorted(EDITIONS.items())
    found = map(_content, (*files, *folders))
    return digest(*found, *made_by, *given, papers.history(of_papers), states, records)


def _content(place: Path) -> str:
    """A file, or all files below a folder, by name and content; compiled code does not count."""
    files = [place] if place.is_file() else list(_below(place))
    named = {ascii(str(path.relative_to(place.parent))): path for path in files}
    return digest(*(f"{name} {sha256(path)}" for name, path in sorted(named.items())))


def _below(folder: Path) -> Iterator[Path]:
    """All files below a folder, compiled code aside; links are followed, each place once."""
    seen = set()
    for place, below, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen or os.path.basename(place) == "__pycache__":
            below.clear()  # links may lead round in a circle
            continue
        below.sort()
        seen.add(real)
        yield from (path for name in files if (path := Path(place, name)).is_file())


def _remember(stamp_file: Path, site: Path, *made_from: str) -> None:
    """Keep what a site was made from; nothing where this process may have read what was before."""
    if stamp_file.is_dir():
        clear(stamp_file)
    if changed := keys.edited():
        print(f"{changed[0]} has changed since this build began: the next makes the site again")
        stamp_file.unlink(missing_ok=True)
        return
    write_text(stamp_file, "\n".join(_stamp(one, site) for one in made_from))


def _stamp(made_from: str, site: Path) -> str:
    """What a site was made from, and its files: a page that is lost or changed is made again."""
    return digest(made_from, _content(site))


def _github() -> str:
    name = os.environ.get("GITHUB_REPOSITORY", "")
    return f"{os.environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{name}" if name else ""
