import subprocess
import sys

import pytest

from vitlab import cli


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "01-oclusion"], "unknown page '01-oclusion'; nearest: 01-occlusion"),
        (["build", "--profile", "ful"], "unknown profile 'ful'"),
        (["build", "-p", "n_images"], "write it as NAME=VALUE"),
        (["build", "01-occlusion", "-p", "n_image=3"], "no parameter 'n_image'; nearest: n_images"),
        (["build", "01-occlusion", "-p", "models=mini/vot-0"], "nearest: mini/vit-0"),
        (["zoo", "mini/vit-9"], "unknown model 'mini/vit-9'"),
    ],
)
def test_bad_input_is_answered_in_words_and_exit_code_2(
    arguments, message, root, monkeypatch, capsys
):
    monkeypatch.chdir(root)
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "program",
    [
        "import vitlab, timm, torchvision",
        "import torch, vitlab, timm; timm.create_model('resnet10t')",
        "import multiprocessing as m, vitlab; "
        "m.get_context('fork').Process(target=__import__, args=['timm']).start()",
    ],
)
def test_vitlab_makes_timm_importable_whatever_torchvision_is_there(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr


def test_a_torchvision_that_loads_is_left_alone(tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("marker = 'matched pair'\n")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
        "from vitlab import _torchvision; import torchvision; "
        "assert torchvision.marker == 'matched pair'; assert _torchvision._declared is None"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_another_fault_of_torchvision_is_not_hidden(tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('broken disk')\n")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import vitlab"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "broken disk" in done.stderr
