import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import vitlab
from vitlab import cli
from vitlab.models import Model


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "01-oclusion"], "unknown page '01-oclusion'; nearest: 01-occlusion"),
        (["build", "--profile", "ful"], "unknown profile 'ful'"),
        (["build", "-p", "n_images"], "write it as NAME=VALUE"),
        (["build", "01-occlusion", "-p", "n_image=3"], "no parameter 'n_image'; nearest: n_images"),
        (["build", "01-occlusion", "-p", "models=mini/vot-0"], "nearest: mini/vit-0"),
        (["build", "01-occlusion", "-p", "n_images=["], "n_images=[ cannot be read"),
        (["plan", "01-occlusion", "-p", "n_images=-5"], "n_images=-5 must be at least 1"),
        (
            ["plan", "01-occlusion", "-p", f"seed={'9' * 20}"],
            f"01-occlusion: parameter seed={'9' * 20} must be at least 0 and at most {2**63 - 1}",
        ),
        (
            ["plan", "01-occlusion", "-p", "models=mini/vit-999"],
            "01-occlusion: models: unknown model 'mini/vit-999'; nearest: mini/vit-",
        ),
        (
            ["build", "01-occlusion", "-p", "models=<b>"],
            "01-occlusion: models: unknown model '<b>'",
        ),
        (["build", "01-occlusion", "-p", "device=tpu"], "no device 'tpu' here; there is cpu"),
        (["build", "01-occlusion", "-p", "images=,"], "images=, names nothing; write it like 'st"),
        (["build", "01-occlusion", "-p", "models="], "models= names nothing"),
        (["plan", "01-occlusion", "-p", "images=imagenet-c/../.."], "leads out of the set"),
        (["build", "06-corruptions", "-p", "severities=[]"], "severities=[] is empty; write it"),
        (["build", "06-corruptions", "-p", "severities=[6]"], "at least 1 and at most 5"),
        (
            ["build", "03-dct-energy", "-p", "steps=0"],
            "steps=0 must be at least 1; write it like 5",
        ),
        (["build", "--jobs", "-1"], "--jobs -1: give how many pages run at a time"),
        (
            ["build", "--scheduler", "tpc://host:8786"],
            "tpc://host:8786: write it as tcp://",
        ),
        (["build", "--scheduler", "tcp://host"], "--scheduler tcp://host: write it as tcp://HOST"),
        (
            ["plan", "13-natural-shifts", "-p", "hard=imagenet-b"],
            "hard=imagenet-b: image folder 'imagenet-b' does not exist; give one, or an image set "
            "by name; nearest: imagenet-",
        ),
        (["build", "13-natural-shifts", "-p", "renditions=/nowhere"], "'/nowhere' does not exist"),
        (["plan", "01-occlusion", "-p", "images=./qqqq"], "by name; vitlab data list shows them"),
        (
            ["build", "01-occlusion", "-p", "models=timm/resnet18=/nowhere/a,b.pth"],
            "there is no file '/nowhere/a' (names end at a comma",
        ),
        (["new-finding", "naseer2021", "occlusion-randm"], "nearest: occlusion-random"),
        (["new-finding", "naseer2021", "occlusion-random"], "01-occlusion has naseer2021"),
        (["zoo", "mini/vit-9"], "unknown model 'mini/vit-9'"),
    ],
)
def test_bad_input_is_answered_in_words_and_exit_code_2(
    arguments, message, root, monkeypatch, capsys
):
    monkeypatch.chdir(root)
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().err


def python(program, *folders):
    """Run a program in a process of its own, with more folders to import from."""
    path = os.pathsep.join([*map(str, folders), *sys.path])
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    "program",
    [
        "import vitlab, timm, torchvision",
        "import torch, vitlab, timm; timm.create_model('resnet10t')",
        "import vitlab; assert callable(vitlab.models.wrap); assert vitlab.statistics.correct",
        "import multiprocessing as m, vitlab; "
        "m.get_context('fork').Process(target=__import__, args=['timm']).start()",
    ],
)
def test_vitlab_makes_timm_importable_whatever_torchvision_is_there(program):
    done = python(program)
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr


@pytest.mark.parametrize("first", ["import vitlab", "from vitlab import cli"])
def test_importing_vitlab_imports_nothing_heavy(first):
    heavy = "{'torch', 'torchvision', 'timm', 'numpy', 'pandas', 'matplotlib', 'yaml'}"
    done = python(f"import sys; {first}; print(*sorted({heavy} & {{*sys.modules}}))")
    assert (done.stdout, done.stderr) == ("\n", "")


@pytest.mark.parametrize("command", [["data", "list"], ["data", "info", "cifar-10"]])
def test_a_listing_imports_neither_torch_nor_pandas(command):
    heavy = "{'torch', 'timm', 'numpy', 'pandas', 'matplotlib'}"
    done = python(
        f"import sys; from vitlab import cli; assert cli.main({command}) == 0; "
        f"print(*sorted({heavy} & {{*sys.modules}}), file=sys.stderr)"
    )
    assert (done.stderr, done.returncode) == ("\n", 0)
    assert "cifar-10" in done.stdout


def test_modules_are_reached_as_attributes_of_vitlab():
    assert {"models", "images", "statistics", "conditions", "claims"} <= {*dir(vitlab)}
    assert vitlab.models.Model is Model
    with pytest.raises(AttributeError, match="'vitlab' has no attribute 'model'"):
        vitlab.model  # noqa: B018


def test_a_fault_inside_a_module_is_not_taken_for_an_absent_one(monkeypatch):
    monkeypatch.setitem(sys.modules, "seaborn", None)
    monkeypatch.delitem(sys.modules, "vitlab.plots", raising=False)
    monkeypatch.delitem(vars(vitlab), "plots", raising=False)
    with pytest.raises(ModuleNotFoundError, match="seaborn"):
        vitlab.plots  # noqa: B018


def test_a_torchvision_that_loads_is_left_alone(tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("marker = 'matched pair'\n")
    (tmp_path / "torchvision" / "_C.so").symlink_to(next(Path(torch.__file__).parent.glob("_C.*")))
    done = python(
        "from vitlab import _torchvision; import torchvision; "
        "assert torchvision.marker == 'matched pair'; assert _torchvision._declared is None",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr


def test_a_torchvision_that_cannot_load_is_helped_once(tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise ImportError('at first')\n")
    (tmp_path / "torchvision" / "_C.so").write_text("compiled for another torch")
    done = python(
        """
import vitlab, sys
assert "torch" not in sys.modules
for _ in range(2):
    try:
        import torchvision
    except ImportError as error:
        assert str(error) == "at first"
import torch
print(torch.ops.torchvision.nms, torch.ops.torchvision.qnms)
""",
        tmp_path,
    )
    assert done.stdout == "torchvision.nms torchvision.qnms\n", done.stderr


def test_another_fault_of_torchvision_is_not_hidden(tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('broken disk')\n")
    done = python("import vitlab, torchvision", tmp_path)
    assert "broken disk" in done.stderr
