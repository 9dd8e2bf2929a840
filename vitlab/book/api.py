"""The page about the library: what each public function is, read from the source."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]

# The rooms that a notebook uses, in the order of the flow.
ROOMS = (
    "lab",
    "images",
    "stimuli.scenes",
    "conditions",
    "conditions.patchdrop",
    "conditions.shuffle",
    "conditions.corruptions",
    "conditions.sequences",
    "conditions.fourier",
    "conditions.cutout",
    "conditions.corner",
    "models",
    "attacks.gradient",
    "attacks.patch",
    "attacks.cell",
    "inside.tokens",
    "inside.attention",
    "inside.lesions",
    "inside.temperature",
    "inside.probes",
    "inside.episodes",
    "trials.run",
    "trials.measure",
    "trials.store",
    "statistics",
    "claims",
    "plots",
)


def markdown() -> str:
    """The page: a section per room, in it each public function and class with its docstring."""
    parts = [
        "# The library",
        "What a notebook can use, in the order in which data flows: images, conditions, models, "
        "trials, statistics, claims, page. `import vitlab` makes all of it reachable, for example "
        "as `vitlab.models.load`.",
    ]
    for room in ROOMS:
        path = _file(f"vitlab.{room}")
        parts += [f"## vitlab.{room}", _fenced(ast.get_docstring(_parsed(path)) or "")]
        for name, node in _public(path):
            parts += [f"### {name}", _fenced(f"{_signature(node)}\n\n{_words(node)}".strip())]
    return "\n\n".join(parts) + "\n"


def _file(module: str) -> Path:
    stem = _PACKAGE.parent.joinpath(*module.split("."))
    return stem.with_suffix(".py") if stem.with_suffix(".py").exists() else stem / "__init__.py"


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


_Described = ast.FunctionDef | ast.ClassDef


def _public(path: Path) -> Iterator[tuple[str, _Described]]:
    """What a module defines, or a package passes on from the modules below it."""
    passed_on = path.with_suffix(".pyi")
    body = [*_parsed(path).body, *(_parsed(passed_on).body if passed_on.exists() else ())]
    package = ".".join(path.parent.relative_to(_PACKAGE.parent).parts)
    for node in body:
        if isinstance(node, _Described) and not node.name.startswith("_"):
            yield node.name, node
        elif isinstance(node, ast.ImportFrom) and path.name == "__init__.py" and node.module:
            module = f"{package}.{node.module}" if node.level else node.module
            below = {n.name: n for n in _parsed(_file(module)).body if isinstance(n, _Described)}
            yield from (
                (alias.name, below[alias.name]) for alias in node.names if alias.name in below
            )


def _signature(node: _Described) -> str:
    if isinstance(node, ast.ClassDef):
        inits = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        if not inits:
            return f"class {node.name}"
        arguments = ast.unparse(inits[0].args).removeprefix("self, ")
        return f"class {node.name}({arguments})"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{node.name}({ast.unparse(node.args)}){returns}"


def _words(node: _Described) -> str:
    """The docstring; of a class with what its public methods say first."""
    said = inspect.cleandoc(ast.get_docstring(node) or "")
    if isinstance(node, ast.ClassDef):
        methods = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name[0] != "_"]
        lines = [f".{m.name}: {(ast.get_docstring(m) or '').splitlines()[0]}" for m in methods]
        said = "\n\n".join([said, "\n".join(lines)]) if lines else said
    return said


def _fenced(text: str) -> str:
    """Text as it is: no markup in a docstring is taken for the page's."""
    return f"``````text\n{text}\n``````"
