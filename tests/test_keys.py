import importlib
import json
import linecache
import os
import subprocess
import sys
import time
from collections import deque
from functools import lru_cache
from types import ModuleType, SimpleNamespace

import cells
import numpy as np
import pandas as pd
import pytest
import timm
import torch
from sklearn.linear_model import LinearRegression
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

import vitlab
from vitlab import keys
from vitlab.attacks import gradient
from vitlab.conditions import patchdrop

FACTOR = 2


def helper(x):
    return x + FACTOR


def body(net, batch):
    """Says what it does."""
    return {"a": helper(batch.pixels)}  # a comment


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("def f(x):\n    '''a'''\n    return x", "def f(x):  # b\n    return (x)", True),
        ("class A:\n    '''a'''\n    x = 1", "class A:\n    x = 1", True),
        ("'''module'''\nx = 1", "x = 1", True),
        ("x = 1", "x = 2", False),
        ("def f(x): return x", "def f(y): return y", False),
    ],
)
def test_syntax_is_code_without_words(one, other, same):
    assert (keys.syntax(one) == keys.syntax(other)) == same


def test_modules_follow_imports_and_stop_at_the_house():
    found = keys.modules("vitlab.attacks.gradient")
    assert "vitlab/attacks/gradient.py" in found
    assert "vitlab/rng.py" in found
    assert not any("plots" in name or "numpy" in name for name in found)
    assert "vitlab.models" in keys.wanted("import vitlab\nnet = vitlab.models.load('mini/vit-0')")


def test_no_trial_depends_on_how_figures_and_pages_look():
    """A new colour, a new card or another attack keeps every trial of the engine."""
    measured = keys.modules("vitlab.trials.run", "vitlab.trials.measure")
    rooms = {name.split("/")[1] for name in measured}
    assert not rooms & {"plots.py", "claims.py", "lab.py", "book", "attacks", "stimuli", "training"}


def test_types_alone_are_no_imports():
    code = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from vitlab import plots\n"
    assert keys.wanted(code) == []


def test_a_function_counts_with_what_it_names(monkeypatch):
    before = keys.function(body)
    assert keys.function(body) == before
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 3)
    after = keys.function(body)
    assert after != before, "a value that its helper names has changed"


@torch.no_grad()
def decorated(net, batch):
    return {"a": helper(batch.pixels)}


def test_a_decorated_function_counts_with_what_it_names_too(monkeypatch):
    before = keys.function(decorated)
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 3)
    assert keys.function(decorated) != before


def edit_gradient(monkeypatch):
    """From here on the house's module of gradient attacks is another."""
    real = keys._module

    def edited(path, changed):
        found, imports = real(path, changed)
        return (found + "!" if path.name == "gradient.py" else found), imports

    monkeypatch.setattr(keys, "_module", edited)


def test_a_function_that_uses_a_module_counts_with_its_syntax(monkeypatch):
    def attack(net, batch):
        return {"a": gradient.fgsm(net, batch.pixels, batch.labels, 0.1)}

    before = keys.function(attack)
    edit_gradient(monkeypatch)
    assert keys.function(attack) != before


def test_a_helper_that_is_loaded_again_counts_by_what_is_run(tmp_path, monkeypatch):
    """Python keeps the lines of a file that it has read; what is run may be older or newer."""
    file = tmp_path / "own_helper.py"
    file.write_text("def g(x):\n    return x + 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    own = importlib.import_module("own_helper")
    file.write_text("def g(x):\n    return x + 2\n")
    first = keys.value(own.g)
    linecache.clearcache()
    assert keys.value(own.g) == first
    importlib.reload(own)
    assert own.g(0) == 2
    assert keys.value(own.g) != first


def test_a_library_counts_with_its_version(monkeypatch):
    before = keys.value(timm.create_model)
    monkeypatch.setattr(timm, "__version__", "0.0.0")
    assert keys.value(timm.create_model) != before


def test_what_a_module_of_the_house_is_asked_for_counts(monkeypatch):
    def named(net, batch):
        return vitlab.attacks.gradient.fgsm(net, batch.pixels, batch.labels, 0.1)

    def given(net, batch):
        house = vitlab
        return house.attacks.gradient.fgsm(net, batch.pixels, batch.labels, 0.1)

    def other(net, batch):
        return vitlab.statistics.accuracy

    before = [keys.function(one) for one in (named, given, other)]
    edit_gradient(monkeypatch)
    after = [keys.function(one) for one in (named, given, other)]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, False, True]


def test_what_a_library_gives_counts_by_its_name():
    def rate(net, batch):
        assert isinstance(batch.pixels, Tensor)
        return {"loss": cross_entropy(net.logits(batch.pixels), batch.labels)}

    found = keys.function(rate)
    assert found == keys.function(rate)
    assert len({keys.value(one) for one in (cross_entropy, mse_loss, Tensor, abs)}) == 4


def test_what_only_speeds_things_up_is_passed_over():
    class Bench:
        __module__ = "vitlab.lab"  # only a bench of vitlab's is asked what it is worth
        given = {"radius": 8, "batch_size": 64}  # noqa: RUF012

        def used(self, names):
            assert names == {"radius", "batch_size"}
            return {k: v for k, v in self.given.items() if k in names - {"batch_size"}}

    lab = Bench()

    def work(net, batch):
        return {"a": batch.pixels * lab.radius / lab.batch_size}

    before = keys.function(work)
    lab.given = {"radius": 8, "batch_size": 1}
    assert keys.function(work) == before
    lab.given = {"radius": 9, "batch_size": 1}
    assert keys.function(work) != before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.zeros(2), torch.ones(2)),
        (np.zeros(2), np.zeros(2, np.float32)),
        (np.zeros((1, 2)), np.zeros((2, 1))),
        ([1, 2], (1, 2)),
        ({"a": 1}, {"a": 2}),
        ("1", 1),
        (patchdrop.random([0.5], (8, 8))[0].apply, patchdrop.random([0.5], (4, 4))[0].apply),
        (SimpleNamespace(fingerprint="a"), SimpleNamespace(fingerprint="b")),
    ],
)
def test_values_count_by_content(one, other):
    assert keys.value(one) != keys.value(other)
    assert keys.value(one) == keys.value(one)


def test_keys_are_the_same_in_another_process():
    program = (
        "from vitlab import keys; from vitlab.conditions import patchdrop;"
        "c = patchdrop.random([0.5], (8, 8), 2, 3)[1];"
        "print(keys.value(c.apply), keys.house('vitlab.trials.run'), keys.value({'a', 'b', 'c'}))"
    )
    runs = {subprocess.check_output([sys.executable, "-c", program]) for _ in range(2)}
    assert len(runs) == 1


def test_a_lambda_that_its_own_line_names_has_a_key(tmp_path, monkeypatch):
    """As in a page's cell: flipped = Condition(..., lambda batch: ...)."""
    (tmp_path / "of_a_page.py").write_text(
        "from vitlab.conditions import Condition\n"
        "flipped = Condition('flipped', 1.0, lambda batch: batch.pixels.flip(2))\n"
        "turned = Condition('turned', 1.0, lambda batch: batch.pixels.flip(3))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import of_a_page

    first, again = keys.value(of_a_page.flipped), keys.value(of_a_page.flipped)
    assert first == again != keys.value(of_a_page.turned)


def long_table(value):
    table = pd.DataFrame({"x": np.zeros(1000)})
    table.loc[500, "x"] = value  # amid what its text leaves out
    return table


def layer(weight):
    net = nn.Linear(1, 1)
    nn.init.constant_(net.weight, weight)
    nn.init.zeros_(net.bias)
    return net


class Scale:
    """Made here twice, with another method of the same name."""

    def __init__(self, by):
        self.by = by

    def __repr__(self):
        return "a scale"


def kind(by):
    class Scaled:
        def of(self, x):
            return Scaled.unit() * by * x

        def other(self):
            return Scaled().of(1)

        @staticmethod
        def unit():
            return 1

    return Scaled


def cached(by):
    @lru_cache
    def scaled(x):
        return x * by

    return scaled


@pytest.mark.parametrize(
    "made",
    [
        long_table,
        lambda by: long_table(by)["x"],
        layer,
        lambda by: nn.ModuleList([layer(by)]),
        lambda by: LinearRegression().fit([[0.0], [1.0]], [0.0, by]),
        lambda by: SimpleNamespace(table=long_table(by)),
        lambda by: deque([long_table(by)["x"].to_numpy()]),
        Scale,
        lambda by: Scale(by).__init__,
        kind,
        lambda by: kind(by)(),
        lambda by: kind(by)().of,
        cached,
    ],
)
def test_what_a_body_uses_counts_by_all_that_it_holds(made):
    """A body kept with one value must not be found with another."""

    def key_with(used):
        def body(net, batch):
            return {"a": used}

        return keys.function(body)

    assert key_with(made(1.0)) == key_with(made(1.0))
    assert key_with(made(1.0)) != key_with(made(2.0))


def test_a_default_is_part_of_a_function():
    """As of bodies that a loop makes: ``def body(net, batch, k=k)``."""
    made = []
    for k in (1, 2):

        def body(net, batch, k=k, *, also=k):
            return {"a": batch.pixels * k + also}

        made.append(body)
    assert keys.function(made[0]) != keys.function(made[1])


@pytest.mark.parametrize(
    ("code", "package", "found"),
    [
        ("import vitlab as v\nv.attacks.patch.train()", "", "vitlab.attacks.patch.train"),
        ("import vitlab.attacks as a\na.patch.train()", "", "vitlab.attacks.patch.train"),
        ("import vitlab.attacks.patch", "", "vitlab.attacks.patch"),
        ("from . import patch", "vitlab.attacks", "vitlab.attacks.patch"),
        ("from .patch import train", "vitlab.attacks", "vitlab.attacks.patch"),
        ("from .. import rng", "vitlab.attacks", "vitlab.rng"),
        ("from ..images import images", "vitlab.attacks", "vitlab.images.images"),
    ],
)
def test_every_way_to_name_a_module_is_followed(code, package, found):
    assert found in keys.wanted(code, package)


def test_what_has_changed_since_it_was_imported_is_found_by_no_other_process(tmp_path):
    """The old code runs on, and what it measures must not be taken for the new code's."""
    program = """
import sys, shutil
from pathlib import Path
from vitlab import keys
place = Path(sys.argv[1]) / "vitlab"
shutil.copytree(keys._PACKAGE / "attacks", place / "attacks", dirs_exist_ok=True)
keys._PACKAGE = place
keys._STOOD = keys.standing(place)
print(keys.house("vitlab.attacks.patch"), keys.edited())
(place / "attacks" / "patch.py").open("a").write("\\nEXTRA = 1\\n")
print(keys.house("vitlab.attacks.patch"), [p.name for p in keys.edited()])
print(keys.house("vitlab.attacks.patch"))
"""
    ran = [
        subprocess.check_output([sys.executable, "-c", program, str(tmp_path / k)], text=True)
        for k in ("a", "b")
    ]
    (one, two, again), (other, anew, _) = (said.splitlines() for said in ran)
    assert one.endswith(" []")
    assert one == other, "unchanged code has one key"
    assert two.endswith("['patch.py']")
    assert again == two.split()[0] != one.split()[0]
    assert anew != two, "another process looks elsewhere"


@pytest.fixture(scope="module")
def elsewhere():
    """The keys of all cells in another process, in which sets have another order."""
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    said = subprocess.check_output([sys.executable, cells.__file__], env=environment)
    return json.loads(said)


@pytest.mark.parametrize("name", cells.CASES)
def test_whatever_a_body_holds_counts_and_is_found_again(elsewhere, name):
    found = [cells.key(cell) for cell in cells.edits(*cells.CASES[name])]
    assert len({*found}) == len(found), "changed, and yet the old key"
    assert found == elsewhere[name], "unchanged, and yet another key"


@pytest.mark.parametrize("name", cells.ODD)
def test_what_is_not_understood_is_never_found_again(elsewhere, name):
    found = cells.key(cells.ODD[name])
    assert found not in (elsewhere[name], cells.key(cells.ODD[name]))


@pytest.mark.parametrize("name", cells.HARMLESS)
def test_odd_things_that_are_understood_all_the_same(elsewhere, name):
    assert cells.key(cells.HARMLESS[name]) == elsewhere[name]


def test_equal_content_has_one_key_whether_it_is_one_object_or_two():
    one, other = [{"a"}], [{"a"}]
    assert keys.value([one, one]) == keys.value([one, other])


def test_much_is_walked_through_in_no_time():
    many = [list(range(1_000_000)), np.zeros(10_000_000), [[k] for k in range(10_000)]]
    began = time.process_time()
    keys.value(many)
    assert time.process_time() - began < 5


def test_comments_and_docstrings_of_a_page_keep_its_keys():
    said = "def f(x):\n    '''What it does.'''\n    return x + 1  # one more\n"
    assert cells.key("def f(x):\n    return x + 1\n") == cells.key(said)


def test_a_module_of_the_readers_own_counts_by_what_it_holds():
    def key(code, name="own"):
        own = ModuleType(name)
        exec(code, own.__dict__)
        return keys.value(own)

    code = "def f(x): return x + K\nK = 1"
    assert key(code) == key(code) != key(code.replace("K = 1", "K = 2"))
    assert key(code, "json") != key(code.replace("K = 1", "K = 2"), "json")


def test_a_network_of_a_library_has_one_key():
    """Its pickle holds nothing of this process."""
    one, other = (timm.create_model("vit_tiny_patch16_224", img_size=32) for _ in range(2))
    other.load_state_dict(one.state_dict())
    assert keys.value(one) == keys.value(other)
    with torch.no_grad():
        other.head.bias[0] += 1
    assert keys.value(one) != keys.value(other)
