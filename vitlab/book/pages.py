"""The book's notebooks: which there are, their parameters and sizes, and what a run depends on."""

from __future__ import annotations

import ast
import json
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import yaml

from vitlab import claims
from vitlab.book import profiles
from vitlab.files import digest, nearest, sha256, write_text

_PACKAGE = Path(__file__).parents[1]
_NOT_SETTABLE = ("profile", "out")


class PageError(ValueError):
    """A page, profile or parameter that does not exist, or a value of the wrong kind."""


@dataclass(frozen=True)
class Page:
    """One notebook and what a run of it depends on.

    parameters: what is set from outside. settings: the parameters as the page will choose them,
    its profile's and then those from outside. parts: name of each thing the key is made of -> its
    fingerprint.
    """

    name: str
    source: Path
    parameters: dict[str, Any]
    settings: dict[str, Any]
    parts: dict[str, str]

    @property
    def key(self) -> str:
        """Fingerprint of all parts."""
        return digest(json.dumps(self.parts, sort_keys=True))


def find_root(start: Path | None = None) -> Path:
    """The checkout that `start` (the working folder) is in.

    Raises PageError outside of one.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "_config.yml").exists() and (folder / "notebooks").is_dir():
            return folder
    raise PageError(f"{start} is not inside a checkout of the book (_config.yml, notebooks/)")


def names(root: Path) -> list[str]:
    """The names of all pages, in the book's order."""
    return sorted(path.stem for path in (root / "notebooks").glob("*.md"))


def choose(
    root: Path, wanted: list[str], overrides: dict[str, str], profile: str = "mini"
) -> list[Page]:
    """The pages to run: the wanted ones, or all that have the profile and every parameter.

    overrides: parameters as text, e.g. {"n_images": "100"}; the kind is that of the default.

    Raises PageError for unknown pages, profiles and parameters and for values of another kind.
    """
    profiles.name(profile)
    known = names(root)
    for name in wanted:
        if name not in known:
            raise PageError(f"unknown page {name!r}{nearest(name, known)}")
    chosen, problems = [], []
    for name in wanted or known:
        try:
            chosen.append(_page(root, name, overrides, profile))
        except _NotFor as error:
            if wanted:
                raise PageError(str(error)) from None
            problems.append(str(error))
    if not chosen:  # no page knows it: most likely mistyped
        raise PageError(problems[0])
    for problem in problems:
        print(f"left out: {problem}")
    return chosen


class _NotFor(PageError):
    """A profile or parameter that this page does not have."""


def parameters(notebook: nbformat.NotebookNode) -> dict[str, Any]:
    """Names and defaults in the cell tagged ``parameters``."""
    return {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(_tagged(notebook, "parameters")).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }


def sizes(notebook: nbformat.NotebookNode) -> dict[str, dict[str, Any]]:
    """The literal ``PROFILES`` in the cell tagged ``profiles``; a mini page if there is none."""
    for node in ast.parse(_tagged(notebook, "profiles")).body:
        if isinstance(node, ast.Assign):
            return ast.literal_eval(node.value)
    return {"mini": {}}


_SOURCE = re.compile(r'(os\.environ\.get\("VITLAB_SOURCE", ")([^"]*)("\))')


def address(root: Path) -> str:
    """The repository's address as `_config.yml` gives it; empty if it gives none."""
    config = yaml.safe_load((root / "_config.yml").read_text())
    return (config.get("repository") or {}).get("url") or ""


def sync(root: Path) -> None:
    """Bring notebooks/*.ipynb in step with notebooks/*.md, and both with the book's address.

    A notebook opened alone, on Colab, installs vitlab from there.
    """
    source = f"git+{address(root)}" if address(root) else ""
    for path in sorted((root / "notebooks").glob("*.md")):
        text = path.read_text()
        fresh = _SOURCE.sub(lambda found: found[1] + source + found[3], text)
        if fresh != text:
            write_text(path, fresh)
        command = [sys.executable, "-m", "jupytext", "--quiet", "--sync", str(path)]
        subprocess.run(command, check=True)


def _tagged(notebook: nbformat.NotebookNode, tag: str) -> str:
    found = [cell.source for cell in notebook.cells if tag in cell.metadata.get("tags", [])]
    return found[0] if found else ""


def _page(root: Path, name: str, overrides: dict[str, str], profile: str) -> Page:
    source = root / "notebooks" / f"{name}.md"
    notebook = jupytext.read(source)
    defaults, page_sizes = parameters(notebook), sizes(notebook)
    if profile not in page_sizes:
        raise _NotFor(f"{name} has no profile {profile!r}; it has {', '.join(page_sizes)}")
    given: dict[str, Any] = {"profile": profile} if "profile" in defaults else {}
    for key, text in overrides.items():
        if key not in defaults or key in _NOT_SETTABLE:
            settable = [k for k in defaults if k not in _NOT_SETTABLE]
            raise _NotFor(f"{name} has no parameter {key!r}{nearest(key, settable)}")
        default = defaults[key] if defaults[key] is not None else page_sizes[profile].get(key, "")
        given[key] = _value(name, key, text, default)
    if "images" in given:
        given["images"] = _images(given["images"])
    if "models" in given:  # a page runs in the checkout, weights lie where the reader is
        given["models"] = ",".join(_weights(part) for part in given["models"].split(","))
    settings = {**page_sizes[profile], **given}
    if "images" in given and settings.get("needs") == "cue-conflict images":
        _need_cues(name, given["images"])
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return Page(name, source, given, settings, _parts(root, name, code, given, settings))


def _value(page: str, key: str, text: str, default: Any) -> Any:
    kind = type(default)
    value = text if kind is str else yaml.safe_load(text)
    if kind is float and isinstance(value, int):
        value = float(value)
    if type(value) is not kind:
        raise PageError(
            f"{page}: parameter {key}={text} is not of the kind of its default, {default!r}"
        )
    return value


def _images(where: str) -> str:
    """Folders as absolute paths; the stimuli and data sets by name as they are."""
    from vitlab.images import catalogue as datasets

    def one(part: str) -> str:
        known = part == "stimuli" or datasets.is_set(part)
        return part if known else str(Path(part).resolve())

    return ",".join(one(part) for part in datasets.several(where))


def _need_cues(page: str, images: str) -> None:
    from vitlab import images as data
    from vitlab.images import catalogue as datasets

    if datasets.is_set(images) and not datasets.available(datasets.set_name(images)):
        return  # what is not here yet is told when it is
    try:
        data.cue_conflict(images, n=1)
    except ValueError as error:
        raise _NotFor(f"{page}: {error}") from None


def _weights(model: str) -> str:
    """A model's name with the path of its weights made absolute, if it has one."""
    for mark in ("=", "local-dir:"):
        kind, found, path = model.strip().partition(mark)
        if found:
            return f"{kind}{mark}{Path(path).resolve()}"
    return model


def _parts(
    root: Path, name: str, code: list[str], given: dict[str, Any], settings: dict[str, Any]
) -> dict[str, str]:
    from vitlab.images import catalogue as datasets
    from vitlab.models.model import best_device

    text = "\n".join(code)
    parts = {
        "code": digest(*code),
        "parameters": digest(json.dumps(given, sort_keys=True)),
        "lock file": digest((root / "requirements.lock").read_text()),
        "Python": platform.python_version(),
        "device": given.get("device") or best_device(),
    }
    modules = imported(text)
    for module in modules:
        parts[str(module.relative_to(_PACKAGE.parent))] = sha256(module)
    if _PACKAGE / "models.py" in modules:
        zoo = sorted((_PACKAGE / "zoo").glob("*.*"))
        parts["weights"] = _contents(tuple((path, path.stat().st_mtime_ns) for path in zoo))
    if _PACKAGE / "data.py" in modules:
        manifests = sorted((root / "data_manifests").rglob("*.*"))
        facts = sorted([*_PACKAGE.glob("*.json"), *_PACKAGE.glob("*.csv")])
        parts["data manifests"] = digest(*(path.read_text() for path in [*manifests, *facts]))
    for paper in sorted(set(re.findall(r'claims\.settle\(\s*"(\w+)"', text))):
        path = claims.papers_folder() / f"{paper}.yml"
        parts[f"papers/{paper}.yml"] = sha256(path) if path.exists() else "missing"
    if _PACKAGE / "recorded.py" in modules:
        files = sorted((root / "book" / "recorded").glob(f"*/{name}/**/*.*"))
        parts["recorded runs"] = digest(*(f"{path.name} {sha256(path)}" for path in files))
    listing: list[str] = []
    for folder in map(Path, datasets.several(settings.get("images", "stimuli"))):
        if folder.is_absolute() and folder.is_dir():
            found = folder.glob("*/*")
            listing += sorted(f"{p.relative_to(folder)} {p.stat().st_size}" for p in found)
    if listing:
        parts["images"] = digest(*listing)
    return parts


@cache
def _contents(files: tuple[tuple[Path, int], ...]) -> str:
    """Fingerprint of files' names and bytes; read once for all pages. files: (path, mtime)."""
    return digest(*(f"{path.name} {sha256(path)}" for path, _ in files))


def imported(code: str) -> list[Path]:
    """The vitlab modules that a piece of code imports, and those they import in turn."""
    found: set[Path] = set()
    waiting = [code]
    while waiting:
        for module in _wanted(waiting.pop()):
            stem = _PACKAGE.parent.joinpath(*module.split("."))
            for path in (stem.with_suffix(".py"), stem / "__init__.py"):
                if path.exists() and path not in found:
                    found.add(path)
                    waiting.append(path.read_text())
    return sorted(found)


@cache  # every page imports much the same modules
def _wanted(code: str) -> list[str]:
    """The names below ``vitlab`` that a piece of code imports itself; some may be no modules."""
    wanted: list[str] = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            wanted += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            wanted += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in wanted if name.split(".")[0] == "vitlab"]


def check(pages: list[Page]) -> None:
    """Let a wrong model name or image folder fail here, before any page is run.

    Raises PageError.
    """
    from vitlab import images as data
    from vitlab import models
    from vitlab.images import catalogue as datasets

    for where, wanted, needs in {
        tuple(page.settings.get(key, "") for key in ("images", "models", "needs")) for page in pages
    }:
        read = data.own if needs == "classes of their own" else data.load
        try:
            if wanted:
                models.select(wanted)
            for images in datasets.several(where):
                if datasets.is_set(images):
                    datasets.check(images)
                elif images != "stimuli":
                    read(images, n=1)
        except (ValueError, OSError) as error:
            raise PageError(str(error)) from None
