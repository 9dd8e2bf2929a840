"""Code and values as keys: what a kept result depends on.

A module counts by its syntax tree, with comments and docstrings left out, and so do the modules of
vitlab that it imports in turn: a new docstring keeps every result, a changed step in an attack
loses those that the attack made. A package's ``__init__`` counts where it is named itself
(``from vitlab import statistics``), not where a module below it is: it only passes names on. So
does an ``__init__.pyi``, which says what a package passes on when it is asked for it.

Values count by all that they hold (see `vitlab.values`): what is fully understood by its content,
anything else by a key that nothing else has.
"""

from __future__ import annotations

import ast
import dis
import inspect
import sysconfig
import textwrap
import types
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from importlib import metadata
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from vitlab import once
from vitlab.files import digest

_PACKAGE = Path(__file__).parent
# They change no number and no figure of a page: how keys are made (where that changes one, the key
# says so itself), bars, and what draws cards and headlines, which the site draws at every build.
_ASIDE = {"vitlab/keys.py", "vitlab/values.py", "vitlab/markup.py", "vitlab/progress.py"}
_ASIDE |= {"vitlab/book/svg.py"}
_LIBRARIES = {sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")}
# What decodes, resizes and computes: other versions may give other numbers.
LIBRARIES = ("numpy", "pandas", "pillow", "scikit-learn", "scipy", "timm", "torch", "torchvision")


def syntax(code: str) -> str:
    """Python code as a key: its syntax tree without comments and docstrings.

    >>> syntax("x = 1  # one") == syntax("x  =  1")
    True

    Raises SyntaxError for what is not Python.
    """
    return _key_of(ast.parse(textwrap.dedent(code)))


def _key_of(tree: ast.Module) -> str:
    """A syntax tree as a key; its docstrings are taken out."""
    return digest(ast.dump(_without_docstrings(tree)))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            said = node.body[0] if node.body else None
            if isinstance(said, ast.Expr) and isinstance(said.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
        waiting += [below for below in ast.iter_child_nodes(node) if isinstance(below, _STATEMENTS)]
    return tree


# In no expression is a class or a function with a docstring.
_STATEMENTS = (ast.stmt, ast.excepthandler, ast.match_case)


def standing(*folders: Path) -> dict[Path, tuple[int, int]]:
    """The files below some folders, compiled code aside, with size and time of change."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    found = {path: path.stat() for path in files if path.parent.name != "__pycache__"}
    return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}


# The library as this process (or the one that it was forked from) has it.
_STOOD = standing(_PACKAGE)
_THIS_PROCESS = uuid.uuid4().hex


def edited() -> list[Path]:
    """The library's files that have changed since this process began, which goes by the old."""
    now = standing(_PACKAGE)
    return sorted(path for path in {*now, *_STOOD} if now.get(path) != _STOOD.get(path))


@cache
def _module(path: Path, changed: tuple[int, int]) -> tuple[str, tuple[str, ...]]:
    """A module's syntax as a key, and what it imports from vitlab; read once per change.

    What has changed since it was imported has a key of this process, under which no other looks.
    """
    package = ".".join(path.parent.relative_to(_PACKAGE.parent).parts)
    key, imports = once.asked(_read, path.read_text(encoding="utf-8"), package)
    imported = _STOOD.get(path, changed) == changed
    return key if imported else digest(key, _THIS_PROCESS), tuple(imports)


def _read(code: str, package: str) -> tuple[str, list[str]]:
    tree = ast.parse(code)
    imports = wanted(tree, package)
    return _key_of(tree), imports


def wanted(code: str | ast.Module, package: str = "") -> list[str]:
    """The dotted names below ``vitlab`` that a piece of code uses; some may be no modules.

    code: as text, or as its syntax tree. package: that the code is in, for ``from . import``.

    >>> wanted("from vitlab.attacks import gradient")
    ['vitlab.attacks', 'vitlab.attacks.gradient']
    """
    found: list[str] = []
    only_for_types: set[ast.AST] = set()
    nodes = list(ast.walk(ast.parse(code) if isinstance(code, str) else code))
    names = [name for node in nodes if isinstance(node, ast.Import) for name in node.names]
    ours = {name.asname: name.name for name in names if name.name.split(".")[0] == "vitlab"}
    called = {short or "vitlab": name if short else "vitlab" for short, name in ours.items()}
    called.setdefault("vitlab", "vitlab")
    for node in nodes:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            only_for_types |= {inner for part in node.body for inner in ast.walk(part)}
        if node in only_for_types:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # ``from ..x import y`` begins a package above the code's own.
            above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            found += [module, *(f"{module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Attribute) and (first := _begins(node)) in called:
            # import vitlab; vitlab.models.load(...)
            found.append(called[first] + ast.unparse(node).removeprefix(first))
    return [name for name in dict.fromkeys(found) if name.split(".")[0] == "vitlab"]


def _begins(node: ast.expr) -> str:
    """The name that a dotted name begins with; empty for what is none, such as ``f(x).a``."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def modules(*names: str) -> dict[str, str]:
    """vitlab's modules behind some dotted names, with what they import: path -> syntax as a key.

    Names that are no modules (functions, classes) are passed over. Paths begin with ``vitlab/``.
    """
    found: dict[str, str] = {}
    waiting, seen = list(names), set(names)
    while waiting:
        stem = waiting.pop().replace(".", "/")
        for name in (f"{stem}.py", f"{stem}/__init__.py", f"{stem}/__init__.pyi"):
            path = _PACKAGE.parent / name
            if name not in _ASIDE and path.is_file():
                stat = path.stat()
                found[name], imports = _module(path, (stat.st_size, stat.st_mtime_ns))
                waiting += [one for one in imports if one not in seen]
                seen.update(imports)
    return dict(sorted(found.items()))


def house(*names: str) -> str:
    """`modules` as one key."""
    return digest(modules(*names))


@cache
def libraries() -> str:
    """The versions of the libraries that numbers depend on, e.g. "numpy 2.4.6, ..."."""
    return ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)


@cache
def is_installed(file: str) -> bool:
    """Whether code in a file is a library's."""
    ours = Path(file).is_relative_to(_PACKAGE)
    in_place = any(Path(file).is_relative_to(place) for place in _LIBRARIES)
    return (in_place and not ours) or file.startswith("<frozen ") or file in ("built-in", "frozen")


def below(name: str) -> list[str]:
    """A module of vitlab's and all below it, by dotted names."""
    place = _PACKAGE.parent.joinpath(*name.split("."))
    inside = [path.relative_to(_PACKAGE.parent).with_suffix("") for path in place.rglob("*.py")]
    return [name, *sorted(".".join(path.parts) for path in inside)]


class Code(NamedTuple):
    """What a piece of code is, as `read` tells."""

    text: str
    uses: dict[str, frozenset[str]]  # name -> what it takes of it, "attacks.fgsm"; "": all of it
    imports: frozenset[tuple[int, str, tuple[str, ...]]]  # levels up, module, names
    is_blind: bool  # texts in it name what is used


@cache
def read(code: types.CodeType) -> Code:
    """What a function's code is, and what it names; by what is run, for files may have changed."""
    uses: dict[str, set[str]] = {}
    imports, constants, attributes = set(), set(), set()
    for part in _parts(code):
        steps = [*dis.get_instructions(part)]
        for place, step in enumerate(steps):
            if step.opname in _TAKES:
                of = takewhile(lambda s: s.opname in _OF, steps[place + 1 :])
                uses.setdefault(step.argval, set()).add(".".join(s.argval for s in of))
            elif step.opname == "IMPORT_NAME":
                level, names = (s.argval for s in steps[place - 2 : place])
                imports.add((level, step.argval, names or ()))
            elif step.opname in _OF:
                attributes.add(step.argval)
            elif isinstance(step.argval, str) and step.opcode in dis.hasconst:
                constants.add(step.argval)
    # As in DataFrame.query("accuracy > @least").
    is_blind = bool(attributes & {"eval", "query"}) and any("@" in text for text in constants)
    of_each = {name: frozenset(of) for name, of in sorted(uses.items())}
    return Code(ran(code), of_each, frozenset(imports), is_blind)


_TAKES = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF"}
_OF = {"LOAD_ATTR", "LOAD_METHOD"}


def _parts(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for one in code.co_consts:
        if inspect.iscode(one):
            yield from _parts(one)


def ran(code: types.CodeType) -> str:
    """Code as a key by what is run: no place in a file counts, and no docstring."""
    takes = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    steps = [f"{step.opname} {_worth(step)}" for step in dis.get_instructions(code)]
    return digest(takes, code.co_varnames, code.co_exceptiontable.hex(), *steps)


def _worth(step: dis.Instruction) -> str:
    if inspect.iscode(step.argval):
        return ran(step.argval)
    if step.opcode in dis.hasconst:
        return value(step.argval)
    return step.argrepr or str(step.argval)


def function(made_by: Callable, passing_over: Iterable[str] = ()) -> str:
    """A function as a key: what it runs, and all that it uses by name.

    Values count as in `value`, functions of the same module by their code. A `vitlab.lab.Lab` is
    asked for what the function's attributes of it are worth.

    passing_over: names that no result depends on.
    """
    from vitlab.values import Walk

    return Walk(_home(made_by), passing_over).key(made_by)


def value(thing: Any) -> str:
    """A value as a key, by its content.

    What is fully understood counts by all that it holds, a page's functions and classes by their
    code and what they name, vitlab's modules, functions and classes by `modules`, a library's by
    name and version. Anything else gets a key that nothing else has, so that nothing stale can be
    found under it. Nothing is raised.
    """
    from vitlab.values import Walk

    return Walk().key(thing)


def _home(made_by: Any) -> str:
    """The name of the module that a function is of, whatever decorates it; empty if of none."""
    with suppress(Exception):  # what is no function, or is wrapped in itself
        return inspect.unwrap(made_by).__globals__["__name__"]
    return ""
