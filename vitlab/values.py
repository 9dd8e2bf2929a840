"""Values as keys: by all that they hold.

One rule: what is fully understood counts by its content; anything else (a lock, a generator, a
file, what a library keeps in C) gets a key that nothing else has, so that it is measured again and
never stale. Nothing counts by its text or its pickle where that is not known to be all of it.

What is equal has the same key in every process, and whether two equal things are one object makes
no difference. Libraries count by name: their versions are part of every kept result.
"""

from __future__ import annotations

import ast
import dis
import functools
import hashlib
import inspect
import linecache
import marshal
import random
import re
import sys
import textwrap
import types
import typing
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import cache, cached_property, partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path, PurePath
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from vitlab import keys
from vitlab.files import digest

# Values whose text is all that they are, if they are of this very class.
_TEXTS = {bool, float, complex, str, bytes, type(None), type(...), type(NotImplemented), Decimal}
_TEXTS |= {date, timedelta, timezone, Fraction, range, type(pd.NaT), type(pd.NA)}
_TEXTS |= {torch.dtype, torch.device, torch.layout, torch.memory_format}
_FLAT = {bool, int, float, complex, str, bytes, type(None)}  # as marshal writes them, class and all
# What a class holds that says nothing about what it does, or that others have put there.
_ASIDE = {"__dict__", "__weakref__", "__doc__", "__module__", "_abc_impl", "__firstlineno__"}
_ASIDE |= {"__static_attributes__", "__annotations_cache__"}
_BLIND = {"eval", "exec", "globals", "__import__"}  # what they use stands in no code
# What makes up a type hint, beside what it is of.
_HINTS = ("_name", "__name__", "__forward_arg__", "__bound__", "__constraints__", "__metadata__")
# Their objects tell by __reduce__ all that they keep in C.
_REDUCED = {"operator", "_collections", "sklearn", "scipy"}
_counted = count()


def unknown() -> str:
    """The key of what is not understood: another one every time."""
    return digest("unknown", keys._THIS_PROCESS, next(_counted))


@dataclass(slots=True)
class _Visit:
    """A thing that a walk has come to, kept so that its place in memory stays its own."""

    thing: Any
    number: int
    key: str = ""  # empty as long as the walk is inside
    named: bool = False  # by something that it holds


class Walk:
    """A way through a value and all that it holds, each object once.

    home: the module whose functions count by their own code, though it is vitlab's.
    passing_over: names in code that no result depends on.
    """

    def __init__(self, home: str = "", passing_over: Iterable[str] = ()) -> None:
        self.home, self.passing_over = home, {*passing_over}
        self.seen: dict[int, _Visit] = {}
        self.houses: dict[tuple[str, ...], str] = {}

    def whole(self, thing: Any) -> str:
        """The key of the thing that a walk begins with; what is nested too deeply has its own."""
        try:
            return self.key(thing)
        except RecursionError:
            return unknown()

    def key(self, thing: Any) -> str:
        """The key of something on the way. Raises RecursionError alone."""
        kind = type(thing)
        if kind is int:
            return repr(thing) if -(2**63) < thing < 2**63 else hex(thing)
        if kind in _TEXTS:
            text = repr(thing)
            return text if len(text) < 100 else digest(kind.__name__, text)
        if (kind is tuple or kind is list) and thing and _FLAT.issuperset(map(type, thing)):
            # The second form of marshal has no references, which would tell one object from two.
            return digest(kind.__name__, _hash(marshal.dumps(thing, 2)))
        if (visit := self.seen.get(id(thing))) is not None:
            visit.named |= not visit.key
            return visit.key or digest("inside", visit.number)
        visit = self.seen[id(thing)] = _Visit(thing, len(self.seen))
        try:
            key = self._content(thing, kind)
        except RecursionError:
            raise
        except Exception:  # whatever an odd object raises
            key = unknown()
        visit.key = digest(key, "is", visit.number) if visit.named else key
        return visit.key

    def all(self, *things: Any) -> str:
        """Several things as one key."""
        return digest(*[self.key(one) for one in things])

    def _content(self, thing: Any, kind: type) -> str:
        if (way := _EXACT.get(kind)) is not None:
            return way(self, thing)
        for family, way in _FAMILIES:
            if issubclass(kind, family):
                return way(self, thing)
        if _top(kind) == "typing":
            return self._hint(thing)
        if _is_pure(kind):
            return self._instance(thing)
        if name := _name(thing):  # a routine of some kind
            return digest("named", name)
        if _top(kind) in _REDUCED:
            return digest("reduced", self.key(list(thing.__reduce__())))
        return unknown()

    # --- collections -----------------------------------------------------------------------------

    def _sequence(self, thing: list | tuple) -> str:
        return digest(type(thing).__name__, "of", *[self.key(one) for one in thing])

    def _pairs(self, thing: dict) -> str:
        pairs = [self.key(one) for pair in thing.items() for one in pair]
        return digest(type(thing).__name__, *pairs)

    def _set(self, thing: set | frozenset) -> str:
        return digest(type(thing).__name__, *sorted([self.key(one) for one in thing]))

    def _derived(self, base: type, thing: Any) -> str:
        """An object of a class that is derived from a builtin one."""
        also: list[Any] = [thing.default_factory] if isinstance(thing, defaultdict) else []
        also += [thing.maxlen] if isinstance(thing, deque) else []
        held = dict(_attributes(thing))
        return digest(base.__name__, self.all(type(thing), _COPIED[base](thing), also, held))

    # --- arrays and tables -----------------------------------------------------------------------

    def _array(self, thing: Any) -> str:
        kind = type(thing)
        if kind is np.ndarray:
            return _numbers(self, thing)
        if kind is np.ma.MaskedArray:
            parts = np.ma.getdata(thing).view(np.ndarray), np.ma.getmaskarray(thing)
            return digest("masked", self.all(*parts, thing.fill_value, thing.hardmask))
        held = {} if kind in (np.recarray, np.memmap) else dict(_attributes(thing))
        return digest("array", self.all(kind, held), _numbers(self, np.asarray(thing)))

    def _scalar(self, thing: np.generic) -> str:
        return digest("scalar", self.key(type(thing)), _numbers(self, np.asarray(thing)))

    def _tensor(self, thing: torch.Tensor) -> str:
        if thing.layout != torch.strided or thing.is_quantized or thing.is_meta or thing.is_nested:
            return unknown()
        plain = thing.detach().as_subclass(torch.Tensor).cpu().resolve_conj().resolve_neg()
        content = _hash(plain.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        about = thing.dtype, tuple(thing.shape), thing.requires_grad
        slope = thing.grad if thing.requires_grad and thing.is_leaf else None
        also = self.all(type(thing), slope, dict(thing.__dict__))
        return digest("tensor", *about, content, also)

    def _frame(self, thing: pd.DataFrame) -> str:
        columns = [_column(thing.iloc[:, k]) for k in range(thing.shape[1])]
        return digest("frame", self.all(thing.columns, thing.index, thing.attrs, columns))

    def _series(self, thing: pd.Series) -> str:
        about = self.all(thing.name, thing.index, thing.attrs)
        return digest("series", about, self.key(_column(thing)))

    def _index(self, thing: pd.Index) -> str:
        if isinstance(thing, pd.MultiIndex):
            levels = [thing.get_level_values(k) for k in range(thing.nlevels)]
            return digest("levels", self.key(levels))
        about = type(thing).__name__, list(thing.names), getattr(thing, "freqstr", None)
        return digest("index", self.all(*about, _column(thing)))

    # --- code ------------------------------------------------------------------------------------

    def code_of(self, made_by: types.FunctionType) -> str:
        """A function by its code, and by all that it names or holds."""
        code, scope = _read(made_by.__code__), made_by.__globals__
        names = code.names - self.passing_over
        if any(name in _BLIND and name not in scope for name in names):
            return unknown()
        parts = [code.text, self._given(made_by)]
        for name, thing in self._closed(made_by).items():
            if name not in self.passing_over:
                parts.append(f"with {name} {self._used(thing, code.attributes)}")
        for name in sorted(names):
            if name in scope:
                parts.append(f"{name} {self._used(scope[name], code.attributes)}")
        parts += [self._imported(name) for name in sorted(code.modules)]
        return digest(*parts, *([self.house(*sorted(code.wanted))] if code.wanted else []))

    def house(self, *modules: str) -> str:
        """`keys.house`, asked once on a way."""
        if modules not in self.houses:
            self.houses[modules] = keys.house(*modules)
        return self.houses[modules]

    def _imported(self, name: str) -> str:
        """A module that a function imports itself, by its full name."""
        if name in sys.modules:
            return self.key(sys.modules[name])
        found = find_spec(name.partition(".")[0])
        return name if found and _is_installed(found.origin or "") else unknown()

    def _used(self, thing: Any, attributes: frozenset[str]) -> str:
        """What a name in some code is worth; of a `Lab` what the code's attributes of it are."""
        if _is_ours(type(thing)) and callable(getattr(type(thing), "used", None)):
            return self.key(thing.used({*attributes}))
        return self.key(thing)

    def _closed(self, made_by: types.FunctionType) -> dict[str, Any]:
        """What a function was made with; `_Empty` for what is not bound yet."""
        names, found = made_by.__code__.co_freevars, {}
        for name, cell in zip(names, made_by.__closure__ or (), strict=True):
            try:
                found[name] = cell.cell_contents
            except ValueError:
                found[name] = _Empty
        return found

    def _given(self, made_by: types.FunctionType) -> str:
        """What a function's arguments are where they are not given, and its attributes."""
        held = made_by.__defaults__ or (), made_by.__kwdefaults__ or {}, made_by.__dict__
        return self.all(*held) if any(map(len, held)) else ""

    def _function(self, thing: types.FunctionType) -> str:
        code, module = thing.__code__, str(thing.__globals__.get("__name__"))
        ours = module.split(".")[0] == "vitlab"
        if module == self.home or not (ours or _is_installed(code.co_filename)):
            return self.code_of(thing)
        if not ours and (name := _name(thing)):
            return digest("named", name)
        name = f"{module}.{code.co_qualname}"
        if name == "functools.singledispatch.<locals>.wrapper":
            return digest(name, self.key(dict(thing.registry)))  # type: ignore[attr-defined]
        if code.co_name == "<lambda>":
            name += _read(code).text
        # It may be a decorator's, or a condition's: what it was made with counts as well.
        closed = [f"{name} {self.key(one)}" for name, one in self._closed(thing).items()]
        return digest(name, self.house(module) if ours else "", *closed, self._given(thing))

    def _method(self, thing: types.MethodType) -> str:
        return digest("method", self.all(thing.__func__, thing.__self__))

    def _routine(self, thing: Any) -> str:
        """A function or method that is no Python."""
        owner = getattr(thing, "__self__", None)
        if owner is None or isinstance(owner, types.ModuleType):
            return digest("routine", thing.__module__, thing.__qualname__)
        return digest("routine", thing.__qualname__, self.key(owner))

    def _slot(self, thing: Any) -> str:
        return digest("of", thing.__objclass__.__qualname__, thing.__name__)

    def _ufunc(self, thing: np.ufunc) -> str:
        return digest("ufunc", name) if (name := _ufuncs().get(id(thing))) else unknown()

    def _cached(self, thing: Any) -> str:
        if _top(thing) != "vitlab" and (name := _name(thing)):
            return digest("named", name)
        return digest("cached", self.all(thing.__wrapped__, thing.cache_parameters()))

    def _wrapper(self, thing: classmethod | staticmethod) -> str:
        return digest(type(thing).__name__, self.key(thing.__func__))

    def _property(self, thing: property) -> str:
        return digest("property", self.all(type(thing), thing.fget, thing.fset, thing.fdel))

    def _module(self, thing: types.ModuleType) -> str:
        if thing.__name__.split(".")[0] == "vitlab":
            return self.house(thing.__name__)
        if _is_library(thing):
            return thing.__name__
        held = [(k, v) for k, v in vars(thing).items() if not k.startswith("__")]
        return digest("module", self.key(held))

    def _class(self, kind: type) -> str:
        if name := _name(kind):
            return digest("class", name, self.house(kind.__module__) if _is_ours(kind) else "")
        members = [pair for pair in vars(kind).items() if pair[0] not in _ASIDE]
        if issubclass(kind, Enum):  # its members are told apart by name and value
            members = [pair for pair in members if not pair[0].startswith("_value2member")]
        # Looking for annotations leaves an empty dict behind.
        members = [pair for pair in members if pair[0] != "__annotations__" or pair[1]]
        made = [f"{name} {self.key(member)}" for name, member in members]
        return digest("class", kind.__qualname__, self.all(type(kind), kind.__bases__), *made)

    # --- other objects ---------------------------------------------------------------------------

    def _member(self, thing: Enum) -> str:
        return digest("member", thing._name_, self.all(type(thing), thing._value_))

    def _network(self, thing: nn.Module) -> str:
        held = dict(vars(thing))
        for name, value in held.items():
            if "_hooks" in name and isinstance(value, dict):
                held[name] = [*value.values()]  # by numbers that count all hooks of a process
        return digest("network", self.all(type(thing), held))

    def _picture(self, thing: Image.Image) -> str:
        return digest("picture", thing.mode, thing.size, _hash(thing.tobytes()), thing.getpalette())

    def _instance(self, thing: Any) -> str:
        kind = type(thing)
        if _is_ours(kind):
            if type(known := getattr(thing, "fingerprint", None)) is str:  # an image set
                return known
            if (identity := getattr(thing, "identity", None)) is not None:  # a model
                return digest(self.key(identity), thing.device)
        return digest("object", self.all(kind, dict(_attributes(thing))))

    def _hint(self, thing: Any) -> str:
        about = [getattr(thing, name, None) for name in _HINTS]
        of = typing.get_origin(thing), typing.get_args(thing)
        return digest("hint", type(thing).__name__, self.all(*about, *of))


class _Empty:
    """Stands for a variable that has no value yet."""


class _Code(NamedTuple):
    """What a piece of code is, as `_read` tells."""

    text: str
    names: frozenset[str]  # that it takes from its module
    attributes: frozenset[str]
    modules: frozenset[str]  # that it imports itself, vitlab's aside
    wanted: frozenset[str]  # vitlab's, and whatever is named below ``vitlab``


@cache
def _read(code: types.CodeType) -> _Code:
    """What a function's code is; its syntax where that can be told apart, else what is run."""
    tree = _tree(code)
    names: set[str] = set()
    attributes: set[str] = set()
    modules: set[str] = set()
    for part in _codes(code):
        for step in dis.get_instructions(part):
            if step.opname in ("LOAD_NAME", "DELETE_NAME") or "GLOBAL" in step.opname:
                names.add(step.argval)
            elif step.opname == "IMPORT_NAME":
                modules.add(step.argval)
            elif step.opcode in dis.hasname:
                attributes.add(step.argval)
    wanted = {name for name in modules if name.split(".")[0] == "vitlab"}
    text = _ran(code) if tree is None else digest(ast.dump(tree))
    asked = wanted if tree is None else keys.wanted(tree)
    return _Code(text, *map(frozenset, (names, attributes, modules - wanted, asked)))


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for one in code.co_consts:
        if inspect.iscode(one):
            yield from _codes(one)


def _ran(code: types.CodeType) -> str:
    """Code as a key by what is run, without its place in a file."""
    walk = Walk()
    constants = [_ran(one) if inspect.iscode(one) else walk.key(one) for one in code.co_consts]
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    takes = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    ran = code.co_code.hex(), code.co_exceptiontable.hex()
    return digest(*ran, *map(list, names), *takes, *constants)


def _tree(code: types.CodeType) -> ast.Module | None:
    """A function's syntax tree without docstrings; None where its source cannot be told apart."""
    if code.co_name == "<lambda>":  # others may stand in its line
        return None
    linecache.checkcache(code.co_filename)
    lines = linecache.getlines(code.co_filename)[code.co_firstlineno - 1 :]
    try:
        tree = ast.parse(textwrap.dedent("".join(inspect.getblock(lines))))
    except (SyntaxError, ValueError):
        return None
    return keys._without_docstrings(tree) if tree.body else None


@cache
def _is_installed(file: str) -> bool:
    """Whether code in a file is a library's."""
    if file.startswith("<frozen "):
        return True
    ours = Path(file).is_relative_to(keys._PACKAGE)
    return not ours and any(Path(file).is_relative_to(place) for place in keys._LIBRARIES)


def _is_library(module: types.ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    if type(file) is str:
        return _is_installed(file)
    return module.__name__.split(".")[0] in sys.stdlib_module_names


def _top(thing: Any) -> str:
    """The first part of the name of the module that a class or routine is said to be of."""
    module = getattr(thing, "__module__", None)
    return module.split(".")[0] if type(module) is str else ""


def _is_ours(kind: type) -> bool:
    return _top(kind) == "vitlab"


def _name(thing: Any) -> str:
    """The full name under which a library or vitlab has a thing; empty if none has it so."""
    module = getattr(thing, "__module__", None)
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None)
    if not (type(module) is str and type(name) is str) or module not in sys.modules:
        return ""
    found: Any = sys.modules[module]
    if module.split(".")[0] != "vitlab" and not _is_library(found):
        return ""
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}.{name}" if found is thing else ""


@cache
def _ufuncs() -> dict[int, str]:
    import scipy.special

    return {
        id(thing): f"{module.__name__}.{name}"
        for module in (scipy.special, np)
        for name, thing in vars(module).items()
        if isinstance(thing, np.ufunc)
    }


def _is_pure(kind: type) -> bool:
    """Whether an object of a class holds nothing but attributes: nothing in C."""
    slots = sum(
        type(m) is types.MemberDescriptorType for c in kind.__mro__ for m in vars(c).values()
    )
    pointers = slots + (kind.__dictoffset__ > 0) + (kind.__weakrefoffset__ > 0)
    room = object.__basicsize__ + _POINTER * pointers
    return kind.__basicsize__ <= room and not kind.__itemsize__


_POINTER = tuple.__itemsize__


def _attributes(thing: Any) -> Iterator[tuple[str, Any]]:
    for kind in type(thing).__mro__:
        for name, member in vars(kind).items():
            if type(member) is types.MemberDescriptorType:
                try:
                    yield f"{kind.__qualname__}.{name}", member.__get__(thing, kind)
                except AttributeError:  # not set
                    continue
    if type(thing).__dictoffset__:
        yield from object.__getattribute__(thing, "__dict__").items()


def _hash(content: Any) -> str:
    return hashlib.sha256(content).hexdigest()


def _numbers(walk: Walk, array: np.ndarray) -> str:
    """An array's type, shape and numbers; what lies between the fields of a record is left out."""
    about = digest(repr(array.dtype), array.shape)
    if array.dtype.names:
        return digest(about, *[_numbers(walk, array[name]) for name in array.dtype.names])
    if array.dtype.char in "gG":  # between whose numbers lies whatever was there
        return unknown()
    if array.dtype.hasobject or array.dtype.kind == "T":
        return digest(about, walk.key(array.tolist()))
    return digest(about, _hash(np.ascontiguousarray(array).tobytes()))


def _column(of: pd.Series | pd.Index) -> Any:
    """A column of a table as something that a walk knows."""
    if isinstance(of.dtype, np.dtype):
        return of.to_numpy()
    if isinstance(of.array, pd.Categorical):
        return "category", of.array.codes, of.array.categories, of.array.ordered
    return str(of.dtype), of.array.astype(object).tolist()


# What an object of a derived class holds as one of the builtin class, whatever it overrides.
_COPIED: dict[type, Callable[[Any], Any]] = {
    OrderedDict: lambda one: dict(OrderedDict.items(one)),
    dict: lambda one: dict(dict.items(one)),
    deque: lambda one: [*deque.__iter__(one)],
    list: lambda one: [*list.__iter__(one)],
    tuple: lambda one: (*tuple.__iter__(one),),
    set: lambda one: {*set.__iter__(one)},
    frozenset: lambda one: {*frozenset.__iter__(one)},
    int: int.__int__,
    float: float.__float__,
    complex: complex.__complex__,
    str: str.__str__,
    bytes: lambda one: bytes.__getitem__(one, slice(None)),
    bytearray: lambda one: bytes(bytearray.__getitem__(one, slice(None))),
}
_Way = Callable[[Walk, Any], str]
_EXACT: dict[type, _Way] = {
    list: Walk._sequence,
    tuple: Walk._sequence,
    dict: Walk._pairs,
    OrderedDict: Walk._pairs,
    Counter: Walk._pairs,
    set: Walk._set,
    frozenset: Walk._set,
    types.MappingProxyType: lambda walk, one: digest("proxy", walk.key(dict(one))),
    deque: lambda walk, one: digest("deque", walk.all(one.maxlen, [*one])),
    defaultdict: lambda walk, one: digest("default", walk.all(one.default_factory, dict(one))),
    slice: lambda walk, one: digest("slice", walk.all(one.start, one.stop, one.step)),
    bytearray: lambda walk, one: digest("bytearray", walk.key(bytes(one))),
    time: lambda walk, one: digest(repr(one.replace(tzinfo=None)), walk.key(one.tzinfo)),
    datetime: lambda walk, one: digest(repr(one.replace(tzinfo=None)), walk.key(one.tzinfo)),
    ZoneInfo: lambda walk, one: digest("zone", one.key) if one.key else unknown(),
    pd.Timestamp: lambda walk, one: digest("stamp", one.value, one.unit, walk.key(one.tzinfo)),
    pd.Timedelta: lambda walk, one: digest("delta", one.value, one.unit),
    pd.DataFrame: Walk._frame,
    pd.Series: Walk._series,
    re.Pattern: lambda walk, one: digest("pattern", walk.all(one.pattern, one.flags)),
    random.Random: lambda walk, one: digest("random", walk.key(one.getstate())),
    np.random.Generator: lambda walk, one: digest("generator", walk.key(_stream(one))),
    np.random.RandomState: lambda walk, one: digest("state", walk.key(one.get_state(legacy=False))),
    torch.Generator: lambda walk, one: digest("torch", one.device, walk.key(one.get_state())),
    types.FunctionType: Walk._function,
    types.MethodType: Walk._method,
    types.MethodWrapperType: Walk._routine,
    types.WrapperDescriptorType: Walk._slot,
    types.MethodDescriptorType: Walk._slot,
    types.ClassMethodDescriptorType: Walk._slot,
    types.GetSetDescriptorType: Walk._slot,
    types.MemberDescriptorType: Walk._slot,
    types.GenericAlias: lambda walk, one: walk.all("alias", one.__origin__, one.__args__),
    types.UnionType: lambda walk, one: walk.all("union", one.__args__),
    functools._lru_cache_wrapper: Walk._cached,
    cached_property: lambda walk, one: digest("cached", walk.all(one.func, one.attrname)),
}


def _stream(thing: np.random.Generator) -> list[Any]:
    """Where a generator stands, and where those that it spawns begin."""
    bits = thing.bit_generator
    return [bits.state, getattr(bits.seed_seq, "state", None)]


_FAMILIES: list[tuple[Any, _Way]] = [
    (type, Walk._class),
    (types.ModuleType, Walk._module),
    (types.BuiltinFunctionType, Walk._routine),
    (Enum, Walk._member),
    (nn.Module, Walk._network),
    (torch.Tensor, Walk._tensor),
    (np.ndarray, Walk._array),
    (np.generic, Walk._scalar),
    (np.dtype, lambda walk, one: repr(one)),
    (np.ufunc, Walk._ufunc),
    (pd.Index, Walk._index),
    (PurePath, lambda walk, one: digest("path", walk.all(type(one), str(one)))),
    (Image.Image, Walk._picture),
    (partial, lambda walk, one: walk.all(type(one), one.func, one.args, one.keywords, vars(one))),
    ((classmethod, staticmethod), Walk._wrapper),
    (property, Walk._property),
    *((base, partial(lambda base, walk, one: walk._derived(base, one), base)) for base in _COPIED),
]
