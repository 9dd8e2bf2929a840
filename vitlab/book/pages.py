"""The book's notebooks: which there are, their parameters and sizes, and what a run depends on."""

from __future__ import annotations

import ast
import fnmatch
import json
import math
import platform
import re
from collections.abc import Container, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cache
from glob import escape
from importlib import metadata
from itertools import chain, count
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import yaml
from nbformat.v4 import new_code_cell

from vitlab import claims, keys, once
from vitlab.book import profiles
from vitlab.files import FileError, digest, nearest, read_yaml, sha256, write_text

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


def read_text(path: Path) -> str:
    """What a source of the book holds. Raises FileError, with the file, for what is no text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is not text: {error}") from None


def read(source: Path) -> nbformat.NotebookNode:
    """A page's notebook, from its .md. Raises FileError, with the file, for what holds none."""
    text = read_text(source)
    if not text.strip():
        raise FileError(f"{source} is empty")
    try:
        return nbformat.from_dict(once.asked(_notebook, text, source.suffix))
    except Exception as error:  # of YAML, of MyST, and others
        raise FileError(f"{source} is no notebook: {' '.join(str(error).split())}") from None


def _notebook(text: str, kind: str) -> dict[str, Any]:
    return jupytext.reads(text, fmt={"extension": kind})


def names(root: Path) -> list[str]:
    """The names of all pages, in the book's order."""
    return [path.stem for path in _sources_of(root)]


def _sources_of(root: Path) -> list[Path]:
    """The pages' files; hidden ones are an editor's or a file system's."""
    return sorted((root / "notebooks").glob("[!.]*.md"))


def choose(
    root: Path, wanted: list[str], overrides: dict[str, str], profile: str = "mini"
) -> list[Page]:
    """The pages to run: the wanted ones, or all that have the profile and every parameter.

    overrides: parameters as text, e.g. {"n_images": "100"}; the kind is that of the default.

    Raises PageError for unknown pages, profiles and parameters and for values of another kind.
    """
    profiles.name(profile)
    _content.cache_clear()
    _images_in.cache_clear()
    known = names(root)
    wanted = list(dict.fromkeys(wanted))
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
    if not known:
        raise PageError(f"{root / 'notebooks'} holds no pages")
    if not chosen:  # no page knows it: most likely mistyped
        raise PageError(problems[0])
    for problem in problems:
        print(f"left out: {problem}")
    return chosen


def largest_profile(root: Path, wanted: list[str]) -> str:
    """The largest profile that all wanted pages have; "full" where none is wanted or known."""
    known = profiles.pages(profiles_file(root))
    have = [known.get(name, {"mini": {}}) for name in wanted]
    return next((one for one in reversed(profiles.PROFILES) if all(one in h for h in have)), "full")


def parsed_once(root: Path) -> AbstractContextManager[None]:
    """Within the block, what was parsed for an earlier `choose` is not parsed again.

    It is kept for the next one unless there is an error: what is refused leaves nothing behind.
    """
    return once.kept(root / "build" / "parsed.json", Path(keys.__file__), Path(__file__))


_NAMED = r"""\s*(?:\w+\s*=\s*)?["']([\w-]+)["']"""
_SETTLES = rf"settles?\({_NAMED},{_NAMED}"  # the paper, the claim


def settle_once(root: Path, book: list[str]) -> None:
    """Raise PageError where two pages of a book settle the same claim: a copy, most likely."""
    found: dict[tuple[str, str], str] = {}
    for name in book:
        text = read_text(root / "notebooks" / f"{name}.md")
        for claim in re.findall(_SETTLES, text):
            if (first := found.setdefault(claim, name)) != name:
                raise PageError(
                    f"{' '.join(claim)} is settled by both {first} and {name}; take the check out "
                    "of one, or begin a page for another claim with vitlab new-finding"
                )


class _NotFor(PageError):
    """A profile or parameter that this page does not have."""


def parameters(notebook: nbformat.NotebookNode) -> dict[str, Any]:
    """Names and defaults in the cell tagged ``parameters``; ``a = b = None`` gives two.

    Raises ValueError or SyntaxError for a cell that assigns something else than literals.
    """
    return {
        target.id: ast.literal_eval(node.value)
        for cell in notebook.cells
        if "parameters" in cell.metadata.get("tags", [])
        for node in ast.parse(cell.source).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def config(root: Path) -> dict[str, Any]:
    """Jupyter Book's settings, of ``_config.yml``.

    Raises FileError, with file and line, for a file that holds none.
    """
    path = root / "_config.yml"
    found = read_yaml(path)
    if not isinstance(found, dict):
        raise FileError(f"{path} is not a mapping of settings to values")
    repository = found.get("repository") or {}
    if not isinstance(repository, dict) or not isinstance(repository.get("url") or "", str):
        raise FileError(f"{path}: repository is not a mapping with url")
    return found


def address(root: Path) -> str:
    """The repository's address as `_config.yml` gives it; empty if it gives none."""
    return (config(root).get("repository") or {}).get("url") or ""


_INSTALL = """\
# On Colab: install vitlab. What is there already (torch, numpy...) stays as it is.
import importlib.metadata
import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("vitlab") is None:
    source = os.environ.get("VITLAB_SOURCE", {source})
    assert source, "set VITLAB_SOURCE to a wheel of vitlab or to git+https://..."
    here = {{d.name: d.version for d in importlib.metadata.distributions()}}
    with open("here.txt", "w") as file:
        file.writelines(f"{{name}}=={{version}}\\n" for name, version in here.items())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "-c", "here.txt"]
    subprocess.run([*pip, source], check=True)"""


def notebook_for_colab(source: Path, address: str = "") -> nbformat.NotebookNode:
    """The .ipynb of a page: what its .md says, without outputs, and the cell that installs vitlab.

    address: the repository's, from where a notebook that is opened alone installs vitlab.
    """
    notebook = read(source)
    install = _INSTALL.format(source=json.dumps(f"git+{address}" if address else ""))
    tags = {"tags": ["setup", "remove-cell"]}
    notebook.cells.insert(1, new_code_cell(install, metadata=tags))
    counted: dict[str, int] = {}
    for cell in notebook.cells:  # an id that stays as long as the cell does
        counted[cell.source] = counted.get(cell.source, 0) + 1
        cell.id = digest(cell.source, counted[cell.source])[:8]
    kernel = notebook.metadata.get("kernelspec", {"name": "python3", "display_name": "Python 3"})
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": kernel, "made_from_md": _sources(notebook)}
    )
    return notebook


def edited(source: Path) -> bool:
    """Whether the .ipynb beside a page's .md holds cells that it was not written with.

    One that is damaged holds none: `sync` writes it anew.
    """
    try:
        notebook = nbformat.reads(read_text(source.with_suffix(".ipynb")), as_version=4)
    except Exception:  # nbformat raises all kinds for what is no notebook
        return False
    made = notebook.metadata.get("made_from_md")
    return made is not None and made != _sources(notebook)


def _sources(notebook: nbformat.NotebookNode) -> str:
    return digest(*(f"{cell.cell_type}\n{cell.source}" for cell in notebook.cells))


def sync(root: Path) -> None:
    """Write notebooks/*.ipynb from notebooks/*.md, never the other way round.

    Raises PageError, before anything is written, where an .ipynb was edited by hand.
    """
    sources = _sources_of(root)
    for source in filter(edited, sources):
        pair = source.with_suffix(".ipynb").name
        raise PageError(
            f"notebooks/{pair} was edited, and is written from {source.name}: make the change "
            f"there, delete {pair} and try again"
        )
    for source in sources:
        text = nbformat.writes(notebook_for_colab(source, address(root)))
        write_text(source.with_suffix(".ipynb"), text + "\n")


def _page(root: Path, name: str, overrides: dict[str, str], profile: str) -> Page:
    source = root / "notebooks" / f"{name}.md"
    notebook = read(source)
    try:
        defaults = parameters(notebook)
    except SyntaxError as error:
        line = f"line {error.lineno}: {(error.text or '').strip()}"
        raise PageError(f"{name}: its parameters cell, {line}: {error.msg}") from None
    except ValueError as error:
        raise PageError(f"{name}: its parameters are no literals: {error}") from None
    where = profiles_file(root)
    # A page that is not in profiles.yml is a mini page.
    sizes = profiles.sizes(name, where) if name in profiles.pages(where) else {"mini": {}}
    if profile not in sizes:
        raise _NotFor(f"{name} has no profile {profile!r}; it has {', '.join(sizes)}")
    given: dict[str, Any] = {"profile": profile}
    for key, text in overrides.items():
        if key not in defaults or key in _NOT_SETTABLE:
            settable = [k for k in defaults if k not in _NOT_SETTABLE]
            raise _NotFor(f"{name} has no parameter {key!r}{nearest(key, settable)}")
        every = [v.get(key) for v in (defaults, sizes[profile], *sizes.values())]
        known = [value for value in every if value is not None]
        given[key] = _value(name, key, text, known)
        if isinstance(
            given[key], str
        ):  # a page runs in the checkout, files lie where the reader is
            try:
                given[key] = _absolute(given[key], [v for v in known if isinstance(v, str)])
            except ValueError as error:
                raise PageError(f"{name}: parameter {key}={text[:80]}: {error}") from None
    settings = {**sizes[profile], **given}
    if "images" in given and settings.get("needs") == "cue-conflict images":
        _need_cues(name, given["images"])
    return Page(name, source, given, settings, _parts(root, name, notebook, given, settings))


def profiles_file(root: Path) -> Path:
    """The ``profiles.yml`` of a checkout."""
    return root / "notebooks" / "profiles.yml"


LARGEST = 2**63 - 1  # of whole numbers: arrays, and the seeds of libraries, hold no more

# What a parameter's numbers may be, where its known values do not tell: the least and the most.
_RANGES = {
    "areas": (0.001, 1),
    "factors": (0.001, 1),
    "frames": (2, 31),
    "mass": (0.01, 1),
    "severities": (1, 5),
}


def _value(page: str, key: str, text: str, known: list[Any]) -> Any:
    """A parameter as the reader wrote it, as a value of the kind of its known ones.

    known: its values elsewhere, that of the run first; a parameter that is None everywhere, such as
    the device, takes text. Raises PageError, with what would do, for any other kind or range.
    """
    like = next(iter(known), "")
    kind = type(like)
    try:
        value = text if kind is str else _read_value(text, kind)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError):
        # A day such as 2026-99-99, a deep nest, a number of a thousand digits.
        said = f"cannot be read; write it like {like!r}"
        raise PageError(f"{page}: parameter {key}={text[:80]} {said}") from None
    if type(value) is not kind:
        said = f"is not of the kind of its default, {like!r}: give {_in_words(like)}"
    else:
        said = _device_fault(text) if key == "device" else fault(key, value, known)
    if said:
        raise PageError(f"{page}: parameter {key}={text[:80]} {said}")
    return value


_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _in_words(value: Any) -> str:
    """The kind of a value, in words.

    >>> _in_words(960), _in_words([0.5, 1])
    ('a whole number', 'a list of numbers')
    """
    if not isinstance(value, list):
        return _WORDS.get(type(value), f"a {type(value).__name__}")
    kinds = [_kind(one) for one in value] or [list]
    of = {float: " of numbers", str: " of texts"}.get(kinds[0], "")
    return f"a list{of if len({*kinds}) == 1 else ''}"


def _read_value(text: str, kind: type) -> Any:
    """A parameter's text as a value: a number as Python reads it, all else as YAML.

    YAML would read 010 as 8, 1:30 as 90 and 1e-3 as text. Raises ValueError for such forms.
    """
    if kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    value = yaml.safe_load(text)
    if isinstance(value, int | float) and type(value) is kind and math.isfinite(value):
        raise ValueError(f"{text} is no number")
    return value


def fault(key: str, value: Any, known: list[Any]) -> str:
    """Why a value of the right kind will not do for a parameter, in words; empty if it does.

    What is empty does where a known value is. A count is at least 1, a number with decimals above
    0; or 0 where that is known, for it often means "all".

    >>> fault("n_images", -5, [160])
    'must be at least 1; write it like 160'
    """
    write = f"write it like {next(iter(known), '')!r}"
    if isinstance(value, str):
        named = [part for part in value.split(",") if part.strip()]
        return f"names nothing; {write}" if known and all(known) and not named else ""
    items, examples = [value], known
    if isinstance(value, list):
        items, examples = value, [one for some in known for one in some]
        if not value and all(known):
            return f"is empty; {write}"
    kinds = {_kind(one) for one in examples}
    if any(_kind(one) not in kinds for one in items):
        like = _in_words(next(iter(known), ""))
        return f"holds what is not of the kind of its default: give {like}; {write}"
    for number in (one for one in items if _kind(one) is float):
        counts = all(type(one) is int for one in examples)
        least, most = _RANGES.get(key, (min([1 if counts else 1e-9, *examples]), math.inf))
        most = min(most, LARGEST) if type(number) is int else most
        if not least <= number <= most or math.isinf(number):
            lower = f"at least {least:g}" if least != 1e-9 else "above 0"
            upper = f" and at most {most}" if most < LARGEST or number > most else ""
            return f"must be {lower}{upper}; {write}"
    return ""


def _kind(value: Any) -> type:
    return float if type(value) is int else type(value)


def _device_fault(device: str) -> str:
    from vitlab.models.model import ModelError, check_device

    try:
        check_device(device)
    except ModelError as error:
        return f"cannot be used: {error}"
    return ""


def _absolute(value: str, known: list[str]) -> str:
    """A parameter's value with the paths in it made absolute.

    known: values that it has elsewhere; where they name image sets, other parts are folders. Names
    of models hold a path after ``=`` or ``local-dir:``. Raises ValueError for a folder that is not
    there.
    """
    from vitlab.images import catalogue as datasets

    def is_name(part: str) -> bool:
        if datasets.is_set(part):
            datasets.stays_inside(part)
        return part == "stimuli" or datasets.is_set(part)

    parts = [part for text in known for part in datasets.several(text)]
    if parts and all(map(is_name, parts)):
        given = datasets.several(value)
        for part in given:
            if not is_name(part) and not Path(part).is_dir():
                near = nearest(part, ["stimuli", *datasets.manifests()])
                if near.startswith("; known"):  # some sixty names help nobody
                    near = "; vitlab data list shows them"
                raise ValueError(
                    f"image folder {part!r} does not exist; give one, or an image set by name{near}"
                )
        return ",".join(part if is_name(part) else str(Path(part).resolve()) for part in given)
    return ",".join(map(_weights, value.split(",")))


def _weights(model: str) -> str:
    """A model's name with the path of its weights made absolute, if it has one."""
    kind, path = _path_in(model)
    return f"{kind}{Path(path).resolve()}" if path else model


def _path_in(model: str) -> tuple[str, str]:
    """A model's name up to the path of its weights, and that path; empty if it has none."""
    for start, mark in (("timm/", "="), ("local-dir:", ":")):
        kind, found, path = model.strip().partition(mark)
        if found and model.strip().startswith(start):
            return kind + mark, path
    return model, ""


def _need_cues(page: str, images: str) -> None:
    from vitlab import images as data
    from vitlab.images import catalogue as datasets

    if datasets.is_set(images) and not datasets.available(datasets.set_name(images)):
        return  # what is not here yet is told when it is
    try:
        data.cue_conflict(images, n=1)
    except ValueError as error:
        raise _NotFor(f"{page}: {error}") from None


# --- what a run depends on ----------------------------------------------------------------------


def _parts(
    root: Path,
    name: str,
    notebook: nbformat.NotebookNode,
    given: dict[str, Any],
    settings: dict[str, Any],
) -> dict[str, str]:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    told = [once.asked(_facts, cell.source) for cell in cells]
    modules = keys.modules(*(name for one in told for name in one["wanted"]))
    locked = lock_file(root)
    parts = {
        "code": digest(*(one["key"] for one in told)),
        "parameters": digest(json.dumps(given, sort_keys=True)),
        "lock file": digest(*sorted(line.partition("#")[0].strip() for line in locked)),
        "libraries": installed(*locked),
        "Python": platform.python_version(),
        "device": settings.get("device") or _best_device(),
        **modules,
        "profiles.yml": digest(json.dumps(settings, sort_keys=True, default=str)),
    }
    used = {name for one in told for name in one["used"]}
    literals = list(dict.fromkeys(text for one in told for text in one["texts"]))
    tags = [cell.metadata.get("tags", ()) for cell in cells]
    defaults = [one["texts"] for one, of in zip(told, tags, strict=True) if "parameters" in of]
    chosen = [*_texts(settings), *(text for texts in defaults for text in texts)]
    parts |= _weight_parts(root, chosen, literals) | _image_parts(root, chosen, literals)
    parts |= _modules_beside(root, [name for one in told for name in one["imported"]])
    if "zoo" in used:  # vitlab.models.zoo: recipes and curves of all
        parts["zoo index"] = _content(_PACKAGE / "zoo" / "index.json")
    if "vitlab/looks.py" in modules:
        parts["groups and colours"] = _content(_PACKAGE / "zoo" / "groups.yml")
    if any(module.startswith("vitlab/images/") for module in modules):
        facts = sorted(f for f in (_PACKAGE / "images").iterdir() if f.suffix in (".csv", ".json"))
        parts["facts about ImageNet"] = digest(*map(_content, facts))
    text = "\n".join(cell.source for cell in cells)
    for paper in sorted({paper for paper, _ in re.findall(_SETTLES, text)}):
        parts[f"papers/{paper}.yml"] = _asked(paper)
    if "recorded" in used:
        files = sorted((root / "book" / "recorded").glob(f"*/{escape(name)}/**/*.*"))
        named = (f"{path.relative_to(root).as_posix()} {sha256(path)}" for path in files)
        parts["recorded runs"] = digest(*named)
    return parts


def _best_device() -> str:
    """`models.best_device`; a torch for CPUs alone has no other, and takes seconds to import."""
    if metadata.version("torch").endswith("+cpu"):
        return "cpu"
    from vitlab.models.device import best_device

    return best_device()


@cache
def _content(path: Path) -> str:
    """The SHA-256 of a file of the library that pages read, and tell if it is not there.

    Each is read once for all pages that `choose` looks at.
    """
    return sha256(path) if path.is_file() else "missing"


@cache
def _images_in(folder: Path) -> str:
    """What a folder of images holds, looked at once for all pages as `_content` is."""
    from vitlab.images import contents

    return contents.fingerprint(folder)


def lock_file(root: Path) -> list[str]:
    """The lines of the lock file of a checkout."""
    return read_text(root / "requirements.lock").splitlines()


@cache
def installed(*locked: str) -> str:
    """The versions, as they are installed, of what a lock file names."""
    names = sorted(filter(None, (re.split(r"[=<>~!;\[ #]", line)[0] for line in locked)))
    return digest(*(f"{name} {_version(name)}" for name in names if not name.startswith("-")))


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


def _asked(paper: str) -> str:
    """What a page asks of a paper's file: models, deciding checks, published numbers.

    Its words are put in when the site is made. A file that cannot be read is told by the page.
    """
    try:
        known = claims.paper(paper)
    except (ValueError, OSError) as error:
        return digest(str(error))
    asked = [[c["id"], c["primary"], c["published"]] for c in known["claims"]]
    return digest(json.dumps([known.get("models", []), asked], sort_keys=True, default=str))


def syntax(code: str) -> str:
    """A code cell as a key: `keys.syntax`, or the text itself where it is no plain Python."""
    try:
        return keys.syntax(code)
    except SyntaxError:
        return digest(code)


def _parsed(code: str) -> ast.Module | None:
    """A cell's syntax tree, magics left out; None for a mistake that the page's run will tell."""
    for text in (code, re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", code)):
        with suppress(SyntaxError):
            return ast.parse(text)
    return None


def _facts(code: str) -> dict[str, Any]:
    """A cell as a key, the dotted names of vitlab in it, all names, all texts."""
    tree = _parsed(code) or ast.Module([], [])
    nodes = list(ast.walk(tree))
    constants = [node.value for node in nodes if isinstance(node, ast.Constant)]
    return {
        "key": syntax(code),
        "wanted": keys.wanted(tree),
        "imported": _imported(nodes),
        "used": sorted({getattr(node, "id", getattr(node, "attr", "")) for node in nodes}),
        "texts": [text for text in constants if isinstance(text, str)],
    }


def _imported(nodes: Iterable[ast.AST]) -> list[str]:
    """The names of the modules that some code imports, as far as the first dot."""
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    froms = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return sorted({name.partition(".")[0] for name in [*plain, *froms] if name})


def _modules_beside(root: Path, names: list[str]) -> dict[str, str]:
    """A reader's own modules, which lie where pages run, with those that they import in turn."""
    parts: dict[str, str] = {}
    waiting = [*names]
    for name in waiting:  # which grows
        files = [root / f"{name}.py", *sorted((root / name).rglob("*.py"))]
        texts = [read_text(file) for file in files if file.is_file()]
        if name == _PACKAGE.name or f"module {name}" in parts or not texts:
            continue
        parts[f"module {name}"] = digest(*map(syntax, texts))
        for tree in filter(None, map(_parsed, texts)):
            waiting += _imported(list(ast.walk(tree)))
    return parts


def _texts(value: Any) -> Iterator[str]:
    """All text in a value, its lists and mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def _weight_parts(root: Path, chosen: list[str], literals: list[str]) -> dict[str, str]:
    """Weights that settings or code name: the zoo's by name, others by their files' bytes."""
    from vitlab.models.zoos import ZOO, zoo

    names = [part.strip() for text in chosen for part in text.split(",")]
    zoos = tuple(f"{place.name}/" for place in ZOO.iterdir() if place.is_dir())
    of_code = [part.strip() for text in literals for part in text.split(",")]
    wanted = [*names, *(part for part in of_code if any(zoo in part for zoo in zoos))]
    # Code may put a name together: f"mini/vit-{seed}" counts as mini/vit-*.
    wanted += [f"{part}*" for part in wanted[len(names) :] if part.endswith(("/", "-"))]
    index, parts = {}, {}
    try:
        index = zoo()
    except FileError as error:  # told by the pages that load from it
        if any(name.startswith(zoos) for name in wanted):
            parts["zoo index"] = digest(str(error))
    for model, record in index.items():
        if any(fnmatch.fnmatchcase(model, name) for name in wanted):
            about = {key: value for key, value in record.items() if key != "curve"}
            parts[f"weights of {model}"] = digest(about, _content(ZOO / record["file"]))
    names += [part for part in of_code if Path(_path_in(part)[1]).is_absolute()]
    for name in dict.fromkeys(names):
        if name.startswith(("timm/", "hf-hub:")) and (commit := _cached(name)):
            parts[f"hub revision of {name}"] = commit
        kind, path = _path_in(name)
        here = root / path if path else None
        if here and here.is_file():
            parts[_another(f"weights {kind}{here.name}", parts)] = sha256(here)
        elif here and here.is_dir():  # in timm's format: config.json beside the weights
            files = sorted(file for file in here.rglob("*") if file.is_file())
            parts[_another(f"weights {kind}{here.name}", parts)] = digest(
                *(f"{file.relative_to(here)} {sha256(file)}" for file in files)
            )
    return parts


def _another(name: str, parts: Container[str]) -> str:
    """A name for a further part: two folders or files of weights may be called alike."""
    numbered = (f"{name} ({k})" for k in count(2))
    return next(one for one in chain([name], numbered) if one not in parts)


def _cached(model: str) -> str:
    """The commit of the hub's weights that are here; empty if none are, or it is no such model."""
    from vitlab.models import hub

    try:
        return hub.cached_commit(model)
    except ValueError:  # told by `check`
        return ""


def _image_parts(root: Path, chosen: list[str], literals: list[str]) -> dict[str, str]:
    """Image sets that settings or code name: their manifests, and what lies in their folders.

    A folder in code counts if it is written from the disk's root on, and is none of those that lie
    there: in code, ``/`` and ``/tmp`` hardly mean the images in them.
    """
    from vitlab.images import catalogue as datasets

    parts: dict[str, str] = {}
    named = {part for text in chosen for part in datasets.several(text)}
    named |= {text for text in literals if datasets.is_set(text) or _is_folder(text)}
    for part in sorted(named):
        folder = root / part  # or the part, where that begins at the disk's root
        if not datasets.is_set(part) and part.strip("./") and folder.is_dir():
            name = _another(f"images in {folder.name}", parts)
            parts[name] = _images_in(folder)
        elif datasets.is_set(part):
            name = datasets.set_name(part)
            subsets = sorted((datasets.manifests_folder() / "subsets").glob(f"{name}-*.txt"))
            known = repr(datasets.manifest(name))
            parts[f"data_manifests/{name}.yml"] = digest(known, *map(sha256, subsets))
            if datasets.available(name):
                parts[f"images of {name}"] = _images_in(datasets.path(name))
    return parts


def _is_folder(text: str) -> bool:
    """Whether a text in code is the full path of a folder that is deep enough to be meant."""
    path = Path(text)
    with suppress(OSError, ValueError):  # texts that no path can be
        return path.is_absolute() and len(path.parts) > 2 and path.is_dir()
    return False


def models_of(page: Page) -> list[str]:
    """The names of a page's models; none where that is no parameter of it.

    Raises PageError, with page and parameter, for what names none; FileError for a damaged zoo.
    """
    from vitlab import models

    wanted = page.settings.get("models")
    try:
        return models.select(wanted) if wanted else []
    except FileError:
        raise
    except (ValueError, OSError) as error:
        raise PageError(f"{page.name}: models: {error}") from None


def check(pages: list[Page], sets: bool = True) -> None:
    """Let a wrong model name or image folder fail here, before any page is run.

    sets: whether image sets have to be here, or such that they can be fetched.

    A damaged file of the book's own, such as the zoo's index, is told by the pages that read it.

    Raises PageError.
    """
    from vitlab import images as data
    from vitlab.images import catalogue as datasets

    seen = set()
    for page in pages:
        with suppress(FileError):
            models_of(page)
        where, needs = named = tuple(page.settings.get(key, "") for key in ("images", "needs"))
        if named in seen:
            continue
        seen.add(named)
        read = data.own if needs == "classes of their own" else data.load
        try:
            for images in datasets.several(where):
                if datasets.is_set(images):
                    if sets:
                        datasets.check(images)
                elif images != "stimuli":
                    read(images, n=1)
        except (ValueError, OSError) as error:
            raise PageError(f"{page.name}: images: {error}") from None
