"""Code and values as keys: what a kept result depends on.

A module counts by its syntax tree, with comments and docstrings left out, and so do the modules of
vitlab that it imports in turn: a new docstring keeps every result, a changed step in an attack
loses those that the attack made. A package's ``__init__`` counts where it is named itself
(``from vitlab import statistics``), not where a module below it is: it only passes names on. So
does an ``__init__.pyi``, which says what a package passes on when it is asked for it.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import pickle
import re
import sysconfig
import textwrap
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from datetime import date, timedelta
from enum import Enum
from functools import cache, partial
from importlib import metadata
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any

import numpy as np

from vitlab import once
from vitlab.files import digest

_PACKAGE = Path(__file__).parent
# They change no number and no figure of a page: how keys are made (where that changes one, the key
# says so itself), bars, and what draws cards and headlines, which the site draws at every build.
_ASIDE = {"vitlab/keys.py", "vitlab/markup.py", "vitlab/progress.py", "vitlab/book/svg.py"}
_LIBRARIES = {sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")}
# Values whose text is all that they are.
_PLAIN: tuple[type, ...] = (str, bytes, int, float, complex, type(None), type(...), slice)
_PLAIN += (np.generic, np.dtype, Enum, PurePath, date, timedelta, re.Pattern)
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


def function(made_by: Callable, passing_over: Iterable[str] = ()) -> str:
    """A function as a key: its syntax, and all that it uses by name.

    Values count by their content, functions of the same module by their code, vitlab's modules,
    functions and classes by `modules`, other modules by name. An object with a method ``used``
    (see `vitlab.lab.Lab`) is asked for what the function's attributes of it are worth.

    passing_over: names that no result depends on.
    """
    made_by = inspect.unwrap(made_by)  # a decorator's own names are none of the function's
    tree = _tree(made_by)
    scope = made_by.__globals__ | dict(inspect.getclosurevars(made_by).nonlocals)
    if tree is None:  # a lambda amid other code
        code = made_by.__code__
        text = digest(code.co_code.hex(), *(c for c in code.co_consts if not inspect.iscode(c)))
        names, asked = {*code.co_names, *code.co_freevars} & set(scope), set(code.co_names)
    else:
        text = digest(ast.dump(tree))
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & set(scope)
        asked = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    # A lambda's line names what holds the lambda itself: it is followed once.
    busy = _FOLLOWED.__dict__.setdefault("codes", [])
    if made_by.__code__ in busy:
        return text
    busy.append(made_by.__code__)
    try:
        parts = _defaults(made_by)
        for name in sorted(names - {made_by.__name__, *passing_over}):
            thing = scope[name]
            parts.append(value(thing.used(asked) if hasattr(thing, "used") else thing, made_by))
    finally:
        busy.pop()
    return digest(text, *parts)


_FOLLOWED = threading.local()  # the functions whose names are being followed


def _defaults(made_by: Any) -> list[str]:
    """What a function's arguments are where they are not given, as keys: a loop's ``k=k``."""
    given = made_by.__defaults__ or (), made_by.__kwdefaults__ or {}
    return [value(given)] if any(given) else []


def _tree(made_by: Callable) -> ast.Module | None:
    """A function's syntax tree without docstrings; None where its source cannot be told apart."""
    try:
        return _without_docstrings(ast.parse(textwrap.dedent(inspect.getsource(made_by))))
    except (OSError, SyntaxError):
        return None


def _installed(routine: Any) -> bool:
    """Whether a function or method is a library's, and so counts by its name alone."""
    if not inspect.isfunction(routine):
        return True
    source = Path(routine.__code__.co_filename)
    ours = routine.__module__.split(".")[0] == "vitlab"
    return not ours and any(source.is_relative_to(place) for place in _LIBRARIES)


def value(thing: Any, user: Callable | None = None) -> str:
    """A value as a key, by its content.

    user: the function that uses it; functions of the same module count by their own code.

    What has no lasting text (an object at a memory address) gets another key in every process, so
    that nothing stale can be found under it.
    """
    if isinstance(thing, ModuleType):
        ours = thing.__name__.split(".")[0] == "vitlab"
        return house(thing.__name__) if ours else thing.__name__
    if isinstance(thing, Mapping):
        return value([*thing.items()], user)
    if isinstance(thing, list | tuple | range):
        return digest(type(thing).__name__, *(value(one, user) for one in thing))
    if isinstance(thing, set | frozenset):
        return digest("set", *sorted(value(one, user) for one in thing))
    if isinstance(thing, _PLAIN):
        return repr(thing)
    if isinstance(thing, partial):
        return value([thing.func, thing.args, thing.keywords], user)
    if inspect.ismethod(thing) and _of_page(thing.__func__):
        return digest(value(thing.__func__, user), value(thing.__self__, user))
    if callable(thing) and hasattr(thing, "cache_info"):  # of functools.cache
        return value(inspect.unwrap(thing), user)
    if inspect.isclass(thing) and _of_page(thing):
        return _class(thing, user)
    if inspect.isclass(thing) or (inspect.isroutine(thing) and _installed(thing)):
        module = inspect.getmodule(thing)
        return digest(thing.__qualname__, value(module) if module else "")
    if hasattr(thing, "detach"):  # a torch.Tensor
        thing = thing.detach().cpu().numpy()
    if isinstance(thing, np.ndarray):
        content = hashlib.sha256(np.ascontiguousarray(thing).tobytes()).hexdigest()
        return digest("array", thing.dtype, thing.shape, content)
    if isinstance(key := getattr(thing, "fingerprint", None), str):  # an image set
        return key
    if (identity := getattr(thing, "identity", None)) is not None:  # a model
        return digest(identity, thing.device)
    if inspect.isfunction(thing) and user and thing.__module__ == user.__module__:
        return function(thing)
    if inspect.isfunction(thing):
        if thing.__module__.split(".")[0] != "vitlab":
            return function(thing)
        inside = inspect.getclosurevars(thing).nonlocals  # what a condition was made with
        return digest(thing.__qualname__, house(thing.__module__), value(inside), *_defaults(thing))
    kind = value(type(thing), user) if _of_page(type(thing)) else type(thing).__qualname__
    if is_dataclass(thing):
        return digest(kind, value(vars(thing), user))
    return digest(kind, _state(thing, user))


def _of_page(thing: Any) -> bool:
    """Whether a class or function is neither vitlab's nor a library's."""
    if thing.__module__.split(".")[0] in ("vitlab", "__main__"):
        return thing.__module__ == "__main__"
    code = vars(thing).values() if inspect.isclass(thing) else [thing]
    return any(inspect.isfunction(one) and not _installed(one) for one in code)


def _class(kind: type, user: Callable | None) -> str:
    """A page's class by its code: its bases, methods and attributes."""
    busy = _FOLLOWED.__dict__.setdefault("classes", [])
    if kind in busy:  # its methods name it
        return kind.__qualname__
    busy.append(kind)
    try:
        bases = [value(base, user) for base in kind.__bases__]
        return digest(kind.__qualname__, *bases, *_members(kind, user))
    finally:
        busy.pop()


def _members(kind: type, user: Callable | None) -> Iterator[str]:
    for name, member in sorted(vars(kind).items()):
        if isinstance(member, classmethod | staticmethod):
            member = member.__func__
        if isinstance(member, property):
            yield digest(name, *(value(part, user) for part in (member.fget, member.fset) if part))
        elif inspect.isfunction(member):
            yield digest(name, function(member) if not _installed(member) else "")
        elif not (name.startswith("__") or inspect.isdatadescriptor(member)):
            yield digest(name, value(member, user))


def _state(thing: Any, user: Callable | None) -> str:
    """What an object of some class holds; another key in every process where that is not known."""
    if callable(getattr(thing, "state_dict", None)) and hasattr(thing, "named_modules"):
        from vitlab.models.identity import configuration, fingerprint

        return digest(fingerprint(thing), configuration(thing))
    try:
        return hashlib.sha256(pickle.dumps(thing)).hexdigest()
    except Exception:  # whatever a class's own pickling raises
        if _of_page(type(thing)) and hasattr(thing, "__dict__"):
            return value(vars(thing), user)
        return digest(repr(thing), _THIS_PROCESS)
