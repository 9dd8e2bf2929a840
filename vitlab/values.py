"""Values as keys: by all that they hold.

One rule: what is fully understood counts by its content; anything else (a lock, a file, whatever
cannot be pickled) gets a key that nothing else has, so that it is measured again and never stale.

What an object is made of, pickle's own protocol tells: a callable, what it is called with, a state,
items. These are walked in turn. Written out below is only what pickle leaves out or refuses: code,
classes, what subclasses of arrays hold. What is equal has the same key in every process, and
whether two equal things are one object makes no difference. Libraries count by name and version.
"""

from __future__ import annotations

import builtins
import copyreg
import functools
import inspect
import itertools
import pickle
import sys
import types
import uuid
from collections import ChainMap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from vitlab import keys
from vitlab.files import digest

# Values whose text is all that they are, if they are of this very class; hex has no upper limit.
_TEXTS: dict[type, Callable[[Any], str]] = {int: hex}
_TEXTS |= dict.fromkeys((bool, float, complex, str, bytes, type(None), type(...)), repr)
# What says nothing about what a class does, or is put into it when it is looked at.
_ASIDE = {"__dict__", "__weakref__", "__doc__", "__module__", "__slotnames__", "_abc_impl"}
_ASIDE |= {"__parameters__", "__orig_bases__", "__firstlineno__", "__static_attributes__"}
# By these a class may tell pickle less than it holds.
_TELLING = {"__reduce__", "__reduce_ex__", "__getstate__", "__getnewargs__", "__getnewargs_ex__"}
_IN_C = {types.MethodDescriptorType, types.WrapperDescriptorType}
_BLIND = (eval, exec, globals, locals, __import__)  # what they use stands in no code
# What a module has because it was imported.
_OF_IMPORT = {"__name__", "__doc__", "__package__", "__loader__", "__spec__", "__file__"}
_OF_IMPORT |= {"__cached__", "__builtins__", "__path__", "__warningregistry__"}


def unknown() -> str:
    """The key of what is not understood: another one every time."""
    return digest("unknown", uuid.uuid4().hex)


@dataclass(slots=True)
class _Visit:
    """A thing that a walk has come to, kept so that its place in memory stays its own."""

    thing: Any
    key: str = ""  # empty as long as the walk is inside
    loop: int | None = None  # its number among the things that lead back to themselves


class Walk:
    """A way through a value and all that it holds, each object once.

    home: the module whose functions count by their own code, though it is vitlab's.
    passing_over: names in code that no result depends on.
    """

    def __init__(self, home: str = "", passing_over: Iterable[str] = ()) -> None:
        self.home, self.passing_over = home, {*passing_over}
        self.seen: dict[int, _Visit] = {}
        self.loops = itertools.count()
        self.house = cache(keys.house)

    def key(self, thing: Any) -> str:
        """The key of the thing that a walk begins with, or of one on the way. Raises nothing."""
        kind = type(thing)
        if any(kind is one for one in _TEXTS):  # a class may refuse to be looked up
            return _TEXTS[kind](thing)
        visit = self.seen.get(id(thing))
        if visit is None:
            visit = self.seen[id(thing)] = _Visit(thing)
            try:
                key = _way(kind)(self, thing)
            except Exception:  # whatever an odd object raises, or what is nested too deeply
                key = unknown()
            visit.key = key if visit.loop is None else digest(key, "is", visit.loop)
        elif not visit.key:
            visit.loop = next(self.loops) if visit.loop is None else visit.loop
            return digest("inside", visit.loop)
        return visit.key

    def all(self, *things: Any) -> str:
        """Several things as one key."""
        return digest(*[self.key(one) for one in things])

    def _reduced(self, thing: Any) -> str:
        """An object by what pickle would make it of."""
        kind = type(thing)
        if any(thing is one for one in _BLIND):
            return unknown()
        if _name(kind).startswith("vitlab."):
            if type(known := getattr(thing, "fingerprint", None)) is str:  # an image set
                return known
            if (identity := getattr(thing, "identity", None)) is not None:  # a model
                return digest(self.key(identity), thing.device)
        of_page = [base for base in kind.__mro__ if not _name(base)]
        if any(_tells(base, issubclass(kind, list | dict)) for base in of_page):
            return unknown()
        reduce = copyreg.dispatch_table.get(kind)
        made: Any = reduce(thing) if reduce else thing.__reduce_ex__(4)
        if isinstance(made, str):  # a name
            place = pickle.whichmodule(thing, made)  # type: ignore[attr-defined]
            return digest("named", place, made) if _has(place, made, thing) else unknown()
        items = [part and [*part] for part in made[3:5]]  # of lists and of dicts
        # What a page's class adds to a builtin one, the builtin's own way leaves out.
        also = object.__getstate__(thing) if of_page else None
        return digest("made", self.all(*made[:3], *items, *made[5:], also))

    # --- collections and arrays ------------------------------------------------------------------

    def _sequence(self, thing: list | tuple) -> str:
        if _TEXTS.keys() >= {*map(type, thing)}:
            return digest(repr(thing))
        return digest(type(thing).__name__, "of", *[self.key(one) for one in thing])

    def _pairs(self, thing: dict | types.MappingProxyType) -> str:
        held = [one for pair in thing.items() for one in pair]
        return digest(type(thing).__name__, self.key(held))

    def _set(self, thing: Any) -> str:
        """A set, also of a derived class, whose pickle has no lasting order."""
        base = set if isinstance(thing, set) else frozenset
        members = sorted([self.key(one) for one in base.__iter__(thing)])
        return digest("set", self.all(type(thing), object.__getstate__(thing)), *members)

    def _array(self, thing: np.ndarray) -> str:
        plain = np.asarray(thing)
        objects = plain.dtype.hasobject
        content = plain.tolist() if objects else sha256(plain.tobytes()).hexdigest()
        held = object.__getstate__(thing)  # a mask, for example
        return digest("array", self.all(type(thing), thing.dtype, thing.shape, content, held))

    def _tensor(self, thing: torch.Tensor) -> str:
        if thing.is_quantized:
            return unknown()
        plain = thing.detach().as_subclass(torch.Tensor).cpu().resolve_conj().resolve_neg()
        content = sha256(plain.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        about = str(thing.dtype), tuple(thing.shape), thing.requires_grad, content.hexdigest()
        slope = thing.grad if thing.is_leaf else None
        return digest("tensor", self.all(type(thing), about, slope, object.__getstate__(thing)))

    # --- code ------------------------------------------------------------------------------------

    def _function(self, thing: types.FunctionType) -> str:
        code, module = thing.__code__, str(thing.__globals__.get("__name__"))
        ours = module.split(".")[0] == "vitlab"
        of_page = module == self.home or not (ours or keys.is_installed(code.co_filename))
        if not of_page and thing.__module__ != self.home and (named := self._named(thing)):
            return named
        held = thing.__defaults__ or (), thing.__kwdefaults__ or {}, thing.__dict__
        given = self.all(*held) if any(map(len, held)) else ""
        if of_page:
            return digest(self._code(thing), given)
        # A decorator's, or a condition's: what it was made with counts as well.
        place = f"{module}.{code.co_qualname}", self.house(module) if ours else ""
        ran = keys.ran(code) if code.co_name == "<lambda>" else ""
        return digest(*place, ran, given, self.key(_closed(thing)))

    def _code(self, made_by: types.FunctionType) -> str:
        """A function by its code, and by all that it names."""
        code, scope = keys.read(made_by.__code__), made_by.__globals__
        if code.is_blind:
            return unknown()
        closed = _closed(made_by)
        known = ChainMap(closed, scope, vars(builtins))
        # What a nested function alone takes is closed in as well.
        names = [name for name in {**code.uses, **closed} if name in known]
        parts = [
            f"{name} {self._used(known[name], code.uses.get(name, frozenset()))}"
            for name in sorted(names)
            if name not in self.passing_over
        ]
        return digest(code.text, *parts, *[self._imported(*one) for one in sorted(code.imports)])

    def _used(self, thing: Any, of: frozenset[str]) -> str:
        """What a name in some code is worth, of which the code takes something; "": all."""
        if _is_ours(thing):
            names = [f"{thing.__name__}.{part}".rstrip(".") for part in of]
            every = keys.below(thing.__name__) if "" in of else []
            return self.house(*sorted({*itertools.chain(*map(_beginnings, names)), *every}))
        if type(thing).__module__ == "vitlab.lab" and hasattr(thing, "used"):
            return self.key(thing.used(None if "" in of else {part.split(".")[0] for part in of}))
        return self.key(thing)

    def _imported(self, level: int, name: str, names: tuple[str, ...]) -> str:
        """What a function imports itself."""
        top = name.partition(".")[0]
        if top == "vitlab" and not level:
            every = [f"{name}.{one}" for one in names] or keys.below(top)
            return self.house(name, *every)
        found = None if level else find_spec(top)
        of_library = found and keys.is_installed(found.origin or "")
        return digest("imported", name, *names, _version(top)) if of_library else unknown()

    def _named(self, thing: Any) -> str:
        """What vitlab or a library has under a name; empty if none has it so."""
        name = _name(thing)
        top = name.partition(".")[0]
        by = self.house(thing.__module__) if top == "vitlab" else _version(top)
        return name and digest("named", name, by)

    def _module(self, thing: types.ModuleType) -> str:
        if _is_ours(thing):
            return self.house(*keys.below(thing.__name__))
        if _is_library(thing) and sys.modules.get(thing.__name__) is thing:
            return digest("module", thing.__name__, _version(thing.__name__.partition(".")[0]))
        held = [pair for pair in vars(thing).items() if pair[0] not in _OF_IMPORT]
        kind = type(thing)
        return self.all("module", kind if kind is not types.ModuleType else "", *held)

    def _class(self, kind: type) -> str:
        if named := self._named(kind):
            return named
        # Looking for annotations leaves an empty dict behind.
        held = [one for one in vars(kind).items() if one != ("__annotations__", {})]
        members = [one for one in held if one[0] not in _ASIDE]
        return digest("class", kind.__qualname__, self.all(type(kind), kind.__bases__, *members))


def _is_ours(thing: Any) -> bool:
    return isinstance(thing, types.ModuleType) and thing.__name__.split(".")[0] == "vitlab"


def _beginnings(name: str) -> list[str]:
    """``vitlab.models.load``: ["vitlab", "vitlab.models", "vitlab.models.load"]."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _version(top: str) -> str:
    """Of a library, as it says itself; what comes with Python has none."""
    return str(getattr(sys.modules.get(top), "__version__", ""))


def _closed(made_by: types.FunctionType) -> dict[str, Any]:
    """What a function was made with. Raises ValueError where that is not bound yet."""
    cells = zip(made_by.__code__.co_freevars, made_by.__closure__ or (), strict=True)
    return {name: cell.cell_contents for name, cell in cells}


def _has(module: Any, name: str, thing: Any) -> bool:
    """Whether a library or vitlab has a thing under a name."""
    found: Any = sys.modules.get(module)
    if found is None or not (module.split(".")[0] == "vitlab" or _is_library(found)):
        return False
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is thing


def _is_library(module: types.ModuleType) -> bool:
    if file := getattr(module, "__file__", None):
        return keys.is_installed(file)
    return module.__name__.split(".")[0] in sys.stdlib_module_names


def _name(thing: Any) -> str:
    """The full name under which a library or vitlab has a thing; empty if none has it so."""
    module, name = thing.__module__, thing.__qualname__
    return f"{module}.{name}" if _has(module, name, thing) else ""


def _tells(base: type, listed: bool) -> bool:
    """Whether a page's class has a way of its own to tell pickle what it holds."""
    names = _TELLING | ({"__iter__", "items"} if listed else set())
    own = [inspect.unwrap(vars(base)[name]) for name in names & vars(base).keys()]
    files = [one.__code__.co_filename for one in own if type(one) not in _IN_C]
    return not all(map(keys.is_installed, files))


def _way(kind: type) -> Callable[[Walk, Any], str]:
    """How an object of a class is walked through."""
    if kind in _EXACT:
        return _EXACT[kind]
    return next((way for of, way in _FAMILIES.items() if issubclass(kind, of)), Walk._reduced)


_EXACT: dict[type, Callable[[Walk, Any], str]] = {
    list: Walk._sequence,
    tuple: Walk._sequence,
    dict: Walk._pairs,
    types.MappingProxyType: Walk._pairs,
    types.FunctionType: Walk._function,
    types.MethodType: lambda walk, one: walk.all("method", one.__func__, one.__self__),
    functools._lru_cache_wrapper: lambda walk, one: (
        walk._named(one) or walk.all("cached", one.__dict__, one.cache_parameters())
    ),
    functools.cached_property: lambda walk, one: walk.all("kept", one.func, one.attrname),
    property: lambda walk, one: walk.all("property", one.fget, one.fset, one.fdel),
    classmethod: lambda walk, one: walk.all("of a class", one.__func__),
    staticmethod: lambda walk, one: walk.all("of none", one.__func__),
}
_FAMILIES: dict[type, Callable[[Walk, Any], str]] = {
    type: Walk._class,
    types.ModuleType: Walk._module,
    set: Walk._set,
    frozenset: Walk._set,
    np.ndarray: Walk._array,
    torch.Tensor: Walk._tensor,
}
