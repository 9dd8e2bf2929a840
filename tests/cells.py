"""Cells as a page's body uses them, for keys: run as a program it prints the keys of all as JSON.

A cell defines ``X``, ``f`` or a ``body`` of its own. CASES: name -> a cell, and edits of it
("old => new | old => new"), each of which makes another thing. ODD: what no key can be told of.
HARMLESS: what looks odd and is understood all the same.
"""

import json
import linecache
import sys
import textwrap
import types

from vitlab import keys

IMPORTS = """
import abc, collections, contextlib, dataclasses, datetime, decimal, enum, fractions, functools
import io, itertools, operator, pathlib, random, re, sys, threading, types, typing, weakref
import numpy as np, pandas as pd, torch
from torch import nn
"""
BODIES = {"X": "def body(net, batch): return X", "f": "def body(net, batch): return f(batch)"}


def key(cell: str) -> str:
    """The key of the body that a cell defines, as in a notebook."""
    cell = IMPORTS + textwrap.dedent(cell)
    page = types.ModuleType("__main__")
    name = f"<cell {hash(cell)}>"
    before, sys.modules["__main__"] = sys.modules["__main__"], page
    try:
        exec(compile(cell, name, "exec"), page.__dict__)
        used = next(one for one in ("body", "X", "f") if one in vars(page))
        if used != "body":
            exec(compile(BODIES[used], "<body>", "exec"), page.__dict__)
        linecache.cache[name] = (len(cell), None, cell.splitlines(keepends=True), name)
        return keys.function(page.body)
    finally:
        sys.modules["__main__"] = before


def edits(cell: str, changes: str) -> list[str]:
    """The cell, and what each of the changes makes of it."""
    changed = [cell.replace(*one.split(" => ")) for one in changes.split(" | ")]
    assert len({cell, *changed}) == 1 + len(changed), cell
    return [cell, *changed]


PLAIN = {
    "bool": ("X = True", "True => 1 | True => 1.0"),
    "huge": ("X = 10**5000", "5000 => 5001"),
    "text": (r"X = '\ud800'", "ud800 => ud801"),
    "long text": ("X = 'a' * 300 + 'b'", "'b' => 'c'"),
    "bytearray": ("X = bytearray(b'a')", "b'a' => b'b'"),
    "slice": ("X = slice(np.arange(2000), 2)", "(2000) => (2000) ** 2"),
    "range": ("X = range(3_000_000)", "3_000_000 => 3_000_001"),
    "time": ("X = datetime.datetime(2020, 1, 1)", "1, 1 => 1, 2 | 1) => 1, tzinfo=datetime.UTC)"),
    "decimal": ("X = [decimal.Decimal('1.0')]", "1.0 => 1.00 | decimal.Decimal => float"),
    "fraction": ("X = fractions.Fraction(1, 3)", "3 => 4"),
    "path": (r"X = pathlib.Path('\udcff')", "udcff => udcfe"),
    "number": ("X = np.float32(0.1)", "np.float32(0.1) => 0.1 | np.float32 => np.float64"),
    "dtype": ("X = torch.float32", "float32 => float64"),
    "device": ("X = torch.device('cpu')", "cpu => meta"),
    "pattern": ("X = re.compile('a' * 300 + 'b', re.I)", "'b' => 'c' | re.I => re.M"),
    "dict": ("X = {'a': 1, 'b': 2}", "{'a': 1, 'b': 2} => [('a', 1), ('b', 2)] | 'a' => 'c'"),
    "ordered": ("X = collections.OrderedDict(a=1, b=2)", "a=1, b=2 => b=2, a=1"),
    "default": ("X = collections.defaultdict(int, a=1)", "(int => (float | a=1 => a=2"),
    "counter": ("X = collections.Counter('ab')", "collections.Counter('ab') => dict(a=1, b=1)"),
    "proxy": ("X = types.MappingProxyType({'a': 1})", "1 => 2"),
    "set": ("X = types.SimpleNamespace(a={'a', 'b', 'c', ('d', 1)})", "'d' => 'e' | 'a' => 'f'"),
    "deque": ("X = collections.deque([{'a', 'b'}], maxlen=3)", "=3 => =4 | 'b' => 'c'"),
    "cycle": ("X = [1, []]; X[1].append(X)", "[1, => [2, | append(X) => append(X[1])"),
    "two cycles": (
        "p = [1]; p.append([p]); q = [1]; q.append([q]); X = [p, q, p[1]]",
        "p[1]] => q[1]]",
    ),
    "long list": ("X = [*range(100_000)]", "100_000 => 100_001"),
    "copies": ("X = []\nfor _ in range(60): X = [X, X]", "60 => 61"),
    "iterator": ("X = [iter([1, 2]), itertools.count(1)]", "2] => 3] | (1) => (2)"),
}
ARRAYS = {
    "record": (
        "X = np.array([(1, 2.0, 'u')], dtype=[('a', 'i1'), ('b', float), ('c', object)])",
        "'b' => 'd' | 2.0 => 3.0 | 'u' => 'v' | i1 => i2",
    ),
    "objects": (
        "X = np.array([{'a', 'b'}, np.arange(3)], dtype=object)",
        "'b' => 'c' | (3) => (4)",
    ),
    "masked": (
        "X = np.ma.array([1, 2], mask=[0, 1])",
        "[0, 1] => [1, 0] | 1] => 1], fill_value=3",
    ),
    "matrix": ("X = np.matrix([[1, 2]])", "matrix => array"),
    "bfloat16": ("X = torch.ones(3).bfloat16()", "ones => zeros | .bfloat16() => .half()"),
    "tensor": (
        "X = torch.ones(3)",
        "torch.ones(3) => np.ones(3, 'f4') | torch.ones(3) => nn.Parameter(torch.ones(3))"
        " | (3) => (3, requires_grad=True) | 3 => 3, 1 | torch.ones => np.ones | ones => zeros",
    ),
    "slope": ("X = torch.ones(3, requires_grad=True); (X * 2).sum().backward()", "X * 2 => X * 3"),
    "conjugate": ("X = torch.ones(3, dtype=torch.complex64).conj()", "ones => zeros"),
    "long table": ("X = pd.DataFrame({'a': range(9999)}); X.iloc[5000, 0] = 7", "= 7 => = 8"),
    "table": (
        "X = pd.DataFrame({'a': ['x', {'y', 'z'}] * 99}); X.attrs['k'] = 7",
        "'y' => 'w' | 'a' => 'b' | = 7 => = 8",
    ),
    "series": (
        "X = pd.Series(['a', 'b'], dtype='category', name='n')",
        "'b' => 'c' | 'n' => 'm' | 'category' => object",
    ),
    "random": ("X = random.Random(1)", "(1) => (2)"),
    "generator": ("X = np.random.default_rng(1)", "(1) => (2) | ) => ); X.random()"),
    "state": ("X = np.random.RandomState(1)", "(1) => (2)"),
    "torch's": ("X = torch.Generator().manual_seed(1)", "(1) => (2)"),
    "picture": ("from PIL import Image\nX = Image.new('RGB', (2, 2), 'red')", "'red' => 'blue'"),
}
DERIVED = {
    "list": (
        "class L(list):\n    def total(self): return 1\nX = L([1])",
        "return 1 => return 2 | L([1]) => L([2])",
    ),
    "dict": ("class L(dict): pass\nX = L(a=1); X.z = 3", "z = 3 => z = 4 | a=1 => a=2"),
    "set": (
        "class L(set): pass\nX = L('ab'); X.z = 3",
        "z = 3 => z = 4 | 'ab' => 'ac' | L( => set(",
    ),
    "int": ("class L(int):\n    def __add__(s, k): return 1\nX = L(4)", "return 1 => return 2"),
    "date": ("class D(datetime.date): pass\nX = D(2020, 1, 1); X.k = 3", "k = 3 => k = 4"),
    "named": ("T = collections.namedtuple('T', 'a b'); X = T(1, 2)", "a b => b a | 1, 2 => 1, 3"),
    "array": (
        "class T(np.ndarray):\n    def g(s): return 5\nX = np.ones(2).view(T); X.k = 7",
        "5 => 6 | ones => zeros | 7 => 8",
    ),
    "tensor": (
        "class T(torch.Tensor):\n    def g(s): return 5\nX = torch.ones(2).as_subclass(T)\nX.k = 7",
        "5 => 6 | ones => zeros | 7 => 8",
    ),
    "enum": (
        "class E(enum.IntEnum):\n    A = 1\n    B = 2\n    def f(s): return 5\nX = E.A; X.k = 7",
        "= 1 => = 3 | = 2 => = 4 | 5 => 6 | X = E.A => X = E.B | 7 => 8",
    ),
    "flag": ("class E(enum.Flag):\n    A = 1\n    B = 2\nX = E.A | E.B", "2 => 4"),
    "partial": (
        "def g(a, b): return a - b\n"
        "class P(functools.partial):\n    def __call__(s, x): return 1\nf = P(g, 2)",
        "return 1 => return 3 | (g, 2) => (g, 4) | a - b => a + b",
    ),
}
MAKE = "def make(k, h):\n    def f(x): return h(x) + k\n    return f\n"
DECO = "def deco(fn):\n    {}\n    def w(x): return fn(x) + 1\n    return w\n"
DECO += "@deco\ndef f(x): return x * 2"
FUNCTIONS = {
    "lambda": (
        "K = 1\nf = lambda x: (lambda y: y.a + K + 3)(x)",
        "+ 3 => + 4 | K = 1 => K = 2 | .a => .b",
    ),
    "two in a line": ("f, g = (lambda x: x + 1), (lambda x: x + 5)\nX = [f]", "[f] => [g]"),
    "set in code": (
        "h = [lambda x, y: x in {'a', 'b', 'c'}]\nX = h",
        "'c' => 'd' | x, y: => y, x:",
    ),
    "eval": ("f = eval('lambda x: sum(y * 2 for y in x)')", "* 2 => * 3"),
    "exec": (
        "K = 1\nexec('def f(x):\\n  def g(y): return y + K\\n  return g(x) * 3')",
        "K = 1 => K = 2 | * 3 => * 4",
    ),
    "chain": (
        MAKE + "f = make(1, make(2, make(3, abs)))",
        "make(3 => make(4 | make(2 => make(5 | abs => len",
    ),
    "same maker": (
        MAKE + "f = make(1, abs)\ng = make(2, abs)\ndef body(n, b): return f(g(b))",
        "make(2 => make(3",
    ),
    "recursion": ("def g(n): return f(n - 1) + 7\ndef f(n): return g(n)", "+ 7 => + 8"),
    "same name": (
        "def h(x): return x + 1\nold = h\ndef h(x): return old(x) + 3\nX = h",
        "+ 3 => + 4 | + 1 => + 2",
    ),
    "decorated": (DECO.format("pass"), "+ 1 => + 2 | * 2 => * 3"),
    "wrapped": (DECO.format("@functools.wraps(fn)"), "+ 1 => + 2 | * 2 => * 3"),
    "context": ("@contextlib.contextmanager\ndef f(x): yield x + 1", "+ 1 => + 2"),
    "no gradient": ("@torch.no_grad()\ndef f(x): return x + 1", "+ 1 => + 2 | no_ => enable_"),
    "cached": (
        "@functools.lru_cache(maxsize=3)\ndef f(x, k=3): return x + 1",
        "+ 1 => + 2 | k=3 => k=4",
    ),
    "default": (
        "def g(x): return x + 1\ndef f(x, k=g, *, j=(1, [2])): return k(x)",
        "+ 1 => + 2 | [2] => [3]",
    ),
    "attribute": ("def f(x): return f.k\nf.k = 1", "= 1 => = 2"),
    "attribute of the body": ("def body(n, b): return body.k\nbody.k = 1", "= 1 => = 2"),
    "partial method": (
        "class A:\n    def g(s, k): return k + 1\n    f = functools.partialmethod(g, 3)\nf = A().f",
        "+ 1 => + 2 | g, 3 => g, 4",
    ),
    "bound": (
        "class A:\n    def __init__(s, k): s.k = k\n    def g(s, x): return s.k + x\nf = A(1).g",
        "A(1) => A(2) | k + x => k - x",
    ),
    "of a list": ("f = [5, 6].count", "6 => 7 | count => index"),
    "slot of a list": ("f = [5, 6].__getitem__", "6 => 7"),
    "of a pattern": ("f = re.compile('ab').sub", "'ab' => 'ac'"),
    "of a text": ("f = '{:.1f}'.format", ".1f => .2f"),
    "of a generator": ("f = np.random.default_rng(1).normal", "(1) => (2)"),
    "ufunc": ("f = np.add", "add => subtract"),
    "of libraries": ("f = [np.mean, torch.relu]", "mean => median | relu => tanh"),
    "patched into numpy": (
        "from vitlab import keys\ndef g(x): return x + 1\n"
        "g.__module__, g.__qualname__ = 'numpy', 'mean'\n"
        "old, np.mean = np.mean, g\nX = keys.value(g)\nnp.mean = old",
        "+ 1 => + 2",
    ),
    "vectorized": ("def g(x): return x + 1\nf = np.vectorize(g)", "+ 1 => + 2"),
    "getter": ("f = operator.itemgetter(1)", "(1) => (2)"),
    "code given another": (
        "def g(x): return x + 1\ndef f(x): return x\nf.__code__ = g.__code__",
        "+ 1 => + 2",
    ),
    "attribute of a cached": (
        "@functools.lru_cache\ndef f(x): return f.k\nf.k = 1",
        "f.k = 1 => f.k = 2",
    ),
    "put into builtins": ("import builtins\nbuiltins.KK = 1\ndef f(x): return KK", "= 1 => = 2"),
    "imported inside": (
        "def body(n, b):\n    from math import sin as s\n    return s(b)",
        "sin => cos",
    ),
}
CLASSES = {
    "fields": (
        "@dataclasses.dataclass\nclass A:\n    a: int\n    b: int\nX = A",
        "    a: int\n    b: int =>     b: int\n    a: int | class\nc => class(order=True)\nc",
    ),
    "factory": (
        "@dataclasses.dataclass\nclass A:\n"
        "    a: list[int] = dataclasses.field(default_factory=lambda: [1])\nX = A",
        "[1] => [2]",
    ),
    "slots": (
        "@dataclasses.dataclass(slots=True)\n"
        "class A:\n    a: int\n    def g(s): return 1\nX = A(7)",
        "return 1 => return 2 | A(7) => A(8)",
    ),
    "inherited slots": (
        "class Z: __slots__ = ('z',)\nclass C(Z): a = 1\nX = C(); X.z = 4",
        "z = 4 => z = 5 | a = 1 => a = 2",
    ),
    "typed tuple": (
        "class T(typing.NamedTuple):\n    a: int = 1\n    b: int = 2\nX = T",
        "b: int = 2 => b: int = 3",
    ),
    "typed dict": ("class A(typing.TypedDict):\n    a: int\nX = A", "a: => b: | int => str"),
    "generic": (
        "T = typing.TypeVar('T')\nclass A(typing.Generic[T]):\n    def g(s): return 1\nX = A[int]",
        "return 1 => return 2 | [int] => [str]",
    ),
    "abstract": (
        "class A(abc.ABC):\n    @abc.abstractmethod\n    def g(s): return 1\nX = A",
        "1 => 2",
    ),
    "property": ("class A:\n    p = property(None, None, lambda s: 1)\nX = A()", "1) => 2)"),
    "cached property": (
        "class A:\n    @functools.cached_property\n    def p(s): return 1\nX = A()",
        "1 => 2",
    ),
    "static": (
        "class A:\n    @staticmethod\n    def p(): return 1\nX = A()",
        "1 => 2 | static => class",
    ),
    "descriptor": (
        "class D:\n    def __init__(s, k): s.k = k\n    def __get__(s, o, t=None): return s.k\n"
        "class A:\n    d = D(1)\nX = A()",
        "D(1) => D(2) | return s.k => return -s.k",
    ),
    "metaclass": (
        "class M(type):\n    def __call__(c, *a): return 1\nclass A(metaclass=M): pass\nX = A",
        "return 1 => return 2",
    ),
    "private": ("class A:\n    __k = 1\n    __l__ = 2\nX = A()", "= 1 => = 3 | = 2 => = 4"),
    "base": (
        "L = 3\nclass Z:\n    def j(s): return L\nclass A(Z): pass\nX = A()",
        "L = 3 => L = 4",
    ),
    "vitlab's names": (
        "class A:\n    def used(s, n): return 5\n"
        "X = A(); X.fingerprint = X.identity = 'a'; X.k = 1",
        "k = 1 => k = 2 | 5 => 6",
    ),
    "told by the object": ("class A: pass\nX = A(); X.k = 1; X.__reduce__ = int", "k = 1 => k = 2"),
    "in other things": (
        "class I:\n    def h(s): return 1\nX = [np.array([I()]), pd.Series([I()])]; X[0][0].k = 3",
        "1\n => 2\n | = 3 => = 4",
    ),
}
NETWORK = """
def h(x): return x + 1
class O:
    def __init__(s, k): s.k = k
class I(nn.Module):
    def __init__(s):
        super().__init__()
        s.o, s.a = [O(2)], np.full(3, 4)
    def forward(s, x): return h(x) + s.o[0].k
X = nn.Sequential(I())
"""
# Hooks are numbered by a process.
HOOK = "torch.utils.hooks.RemovableHandle.next_id = 0\nX = nn.ReLU()\n"
LIBRARIES = {
    "network": (NETWORK, "+ 1 => + 9 | O(2) => O(9) | 3, 4 => 3, 9 | h(x) + => h(x) -"),
    "weights": ("torch.manual_seed(0)\nX = [nn.Linear(2, 2).bfloat16()]", "(0) => (1)"),
    "training": (
        "X = nn.Sequential(nn.Dropout(.1)); X.train(True)",
        "True => False | .1 => .2",
    ),
    "hook": (HOOK + "X.register_forward_hook(lambda m, a, o: o + 1)", "+ 1 => + 2"),
    "patched": ("X = nn.ReLU(); X.forward = lambda x: x + 1", "+ 1 => + 2"),
    "buffer": (
        "X = nn.Module(); X.register_buffer('b', torch.ones(2), persistent=False)",
        "ones => zeros",
    ),
    "in itself": ("X = nn.ReLU(); X.l = [X, 1]", "1] => 2]"),
    "method": ("torch.manual_seed(0)\nf = nn.Linear(2, 2).forward", "(0) => (1)"),
    "loader": (
        "from torch.utils import data as d\n"
        "X = d.DataLoader(d.TensorDataset(torch.arange(9.)), batch_size=2, shuffle=True)",
        "=2 => =3 | 9. => 8.",
    ),
    "regression": (
        "from sklearn.linear_model import LogisticRegression as R\n"
        "f = R(C=1.0).fit([[0], [1], [2]], [0, 1, 1]).predict_proba",
        "1.0 => 2.0",
    ),
    "transformer": (
        "from sklearn.preprocessing import FunctionTransformer as T\n"
        "def g(x): return x + 1\nX = T(g)",
        "+ 1 => + 2",
    ),
    "sparse": ("import scipy.sparse as sp\nX = sp.csr_matrix(np.eye(3))", "(3) => (4)"),
    "transforms": (
        "from torchvision import transforms as T\ndef g(x): return x + 1\n"
        "X = T.Compose([T.Resize(3), T.Lambda(g)])",
        "(3) => (4) | + 1 => + 2",
    ),
}
KINDS = {"plain": PLAIN, "arrays": ARRAYS, "derived": DERIVED, "functions": FUNCTIONS}
KINDS |= {"classes": CLASSES, "libraries": LIBRARIES}
CASES = {f"{kind}: {name}": case for kind, cases in KINDS.items() for name, case in cases.items()}
ODD = {
    "lock": "X = [threading.Lock()]",
    "no hash": "class M(type):\n    __hash__ = None\nclass A(metaclass=M): pass\nX = A()",
    "eval by another name": "from builtins import eval as e\nK = 1\nf = lambda x: e('K')",
    "query": "K = 1\nt = pd.DataFrame({'a': [1]})\nf = lambda x: t.query('a > @K')",
    "helper imported inside": "def f(x):\n    from cells_helper import K\n    return K",
    "relative import": "def f(x):\n    from .random import K\n    return K",
    "in an object": "class A: __slots__ = ('l',)\nX = A(); X.l = threading.Lock()",
    "generator": "X = (i for i in range(3))",
    "file": "X = open('/dev/null')",
    "weak": "class A: pass\na = A()\nX = weakref.ref(a)",
    "sparse": "X = torch.eye(3).to_sparse()",
    "quantized": "X = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)",
    "meta": "X = torch.empty(3, device='meta')",
    "lazy": "X = nn.LazyLinear(2)",
    "scripted": "X = torch.jit.script(nn.ReLU())",
    "ufunc": "f = np.frompyfunc(lambda x: x + 1, 1, 1)",
    "deep": "X = []\nfor _ in range(5000): X = [X]",
    "deep object": "class A: pass\nX = None\nfor _ in range(5000):\n    a = A(); a.n = X; X = a",
    "by text": "K = 1\ndef body(n, b): return eval('K')",
    "locked network": "X = nn.ReLU(); X.l = threading.Lock()",
    "empty cell": "def make():\n    def f(x): return k\n    return f\n    k = 1\nf = make()",
    "dispatched": "@functools.singledispatch\ndef f(x): return x + 1",
    "own reduce": "class A:\n    def __reduce_ex__(s, p): return int, ()\nX = A(); X.k = 1",
    "own state": "class A:\n    def __getstate__(s): return {}\nX = A(); X.k = 1",
    "own items": "class A(dict):\n    def items(s): return []\nX = A(k=1)",
}
HARMLESS = {
    "equal": "class A:\n    def __eq__(s, o): raise OSError\n    __hash__ = None\nX = [A(), A()]",
    "true": "class A:\n    def __bool__(s): raise OSError\ndef f(x, k=A()): return k",
    "any attribute": "class A:\n    def __getattr__(s, n): raise AttributeError\nX = A()",
    "metaclass": "class M(type):\n    def __getattr__(c, n): return 5\n"
    "class A(metaclass=M): pass\nX = A",
    "__dict__": "class A:\n    @property\n    def __dict__(s): raise OSError\nX = A()",
    "module": "class A:\n    def g(s): return 1\nA.__module__ = None\nX = A()",
    "function": "def f(x): return x\nf.__module__ = None",
    "wrapped in itself": "def f(x): return x\nf.__wrapped__ = f",
    "repr": "class A:\n    def __repr__(s): raise OSError\nX = {A(): 1}",
    "namespace": "import unittest\nX = unittest",
}


if __name__ == "__main__":
    found = {name: [key(cell) for cell in edits(*case)] for name, case in CASES.items()}
    found |= {name: key(cell) for name, cell in (ODD | HARMLESS).items()}
    print(json.dumps(found))
