"""What Colab does: a new environment that has torch and the like, an empty folder, one .ipynb."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import pytest

from vitlab.book import profiles

ROOT = Path(__file__).parents[1]
# Two pages at every push; all of them every week, see the workflow.
NAMES = ["01-occlusion", "07-adversaries"]
if os.environ.get("VITLAB_ALL_PAGES"):
    NAMES = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
SHIPPED = ("torch", "numpy", "pandas", "matplotlib")  # what Colab has before any cell is run
KERNEL = ("ipykernel", "pip")
# Every page that can be small is: what is tested is that it runs, not what it finds.
SMALL = {"n_images": 16, "models": "mini/vit-0,mini/cnn-0"}
OWN = {
    "00-stimuli": {"n_images": 32},
    "02-shape-bias": {"n_images": 48},
    "03-dct-energy": {"n_images": 6, "models": "mini/vit-0,mini/cnn-0"},
    "04-feature-ensembles": {"n_images": 240, "n_episodes": 20, "models": SMALL["models"]},
}
# Pages whose models all see all images under all conditions, by the engine alone.
ONE_RUN = ("01-occlusion", "02-shape-bias", "06-corruptions")


def run(*command, **options):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, **options
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def versions(python):
    names = ", ".join(f"'{name}'" for name in SHIPPED)
    program = f"import importlib.metadata as m; print([m.version(n) for n in ({names})])"
    return run(python, "-c", program, cwd="/")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"  # a copy: building leaves things in the folder it builds
    source.mkdir()
    for name in ("vitlab", "book", "data_manifests", "notebooks"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "LICENSE-text"):
        shutil.copy(ROOT / name, source)
    base = getattr(sys, "_base_executable", sys.executable)
    run(base, "-m", "pip", "wheel", "-q", "--no-deps", "-w", place, source)
    [wheel] = place.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def colab(tmp_path_factory):
    """An environment with what Colab ships, and a Jupyter that knows it as the kernel "colab"."""
    place = tmp_path_factory.mktemp("colab")
    locked = dict(
        line.split("==")
        for line in (ROOT / "requirements.lock").read_text().split()
        if "==" in line
    )
    wanted = [f"{name}=={locked[name]}" if name in locked else name for name in SHIPPED + KERNEL]
    python = place / "env" / "bin" / "python"
    if uv := shutil.which("uv"):
        run(uv, "venv", "-q", "--python", sys.executable, place / "env")
        links = os.environ.get("PIP_FIND_LINKS")
        more = ["--find-links", links] if links else []
        run(uv, "pip", "install", "-q", "--python", python, *more, *wanted)
    else:
        run(sys.executable, "-m", "venv", place / "env")
        run(python, "-m", "pip", "install", "-q", *wanted)
    kernel = place / "jupyter" / "kernels" / "colab"
    kernel.mkdir(parents=True)
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(
        json.dumps({"argv": argv, "display_name": "colab", "language": "python"})
    )
    return place / "jupyter", python, versions(python)


@pytest.mark.build
def test_the_wheel_holds_both_licences(wheel):
    with zipfile.ZipFile(wheel) as packed:
        held = {Path(name).name for name in packed.namelist() if ".dist-info/" in name}
    assert {"LICENSE", "LICENSE-text"} <= held


@pytest.mark.build
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", NAMES)
def test_a_page_runs_on_colab_from_its_ipynb_alone(page, colab, wheel, tmp_path, monkeypatch):
    jupyter, python, before = colab
    monkeypatch.setenv("JUPYTER_PATH", str(jupyter))
    monkeypatch.setenv("VITLAB_SOURCE", str(wheel))
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    for name in ("VITLAB_PAPERS", "VITLAB_PROFILES", "VITLAB_TRIALS"):
        monkeypatch.delenv(name, raising=False)
    shutil.copy(ROOT / "notebooks" / f"{page}.ipynb", tmp_path)
    notebook = nbformat.read(tmp_path / f"{page}.ipynb", as_version=4)
    [cell] = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    parameters = {k: v for k, v in OWN.get(page, SMALL).items() if f"{k} =" in cell.source}
    papermill.execute_notebook(
        str(tmp_path / f"{page}.ipynb"),
        str(tmp_path / "run.ipynb"),
        parameters={"profile": "mini", "out": "out", **parameters},
        cwd=str(tmp_path),
        kernel_name="colab",
        progress_bar=False,
    )
    assert versions(python) == before, "the install cell changed what Colab ships"
    where = run(python, "-c", "import vitlab; print(vitlab.__file__)", cwd=tmp_path)
    assert where.startswith(str(python.parents[1])), "not the wheel's vitlab"
    assert page == "00-stimuli" or list((tmp_path / "out").glob("claims/*.json"))
    if page in ONE_RUN:  # `passes`, written down by hand for `vitlab plan`, are its conditions
        trials = pd.read_parquet(tmp_path / "out" / "trials.parquet")
        passes = profiles.sizes(page)["mini"]["passes"]
        assert len(trials[["condition", "level", "draw"]].drop_duplicates()) == passes
