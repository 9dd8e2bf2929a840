import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from PIL import Image

import vitlab  # noqa: F401  before anything imports timm
from vitlab.files import digest
from vitlab.models import Model

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))  # small tensors, many processes
# The same examples in every run, however slow the machine; one fixture serves all of a test's.
settings.register_profile(
    "book",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("book")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))  # tests import the tools by their names
REAL = Path(os.environ.get("VITLAB_REAL_DATA", ROOT.parent / "shared" / "data"))


def pytest_collection_modifyitems(items):
    if REAL.is_dir():
        return
    skip = pytest.mark.skip(reason=f"no real photographs: {REAL} is missing")
    for item in items:
        if "real" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def real() -> Path:
    return REAL


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(autouse=True)
def trial_store(tmp_path, monkeypatch) -> Path:
    """A store of its own for every test: nothing measured elsewhere is read."""
    monkeypatch.setenv("VITLAB_TRIALS", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def never_waiting():
    """A test that opens a pipe, for which it would wait for ever, fails."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("a pipe was opened"))
    signal.alarm(100)
    yield
    signal.alarm(0)


class Means(torch.nn.Module):
    """A transparent stand-in for a network: 16 logits from the means of 4 x 4 areas."""

    def forward(self, x):
        return 3 * torch.nn.functional.adaptive_avg_pool2d(x.mean(1), 4).flatten(1)


@pytest.fixture
def means_model() -> Model:
    return Model("means", Means(), "CNN", "stimuli", digest("means"))


def photograph(path: Path, seed: int, size=(90, 70)) -> None:
    """A file that is a photograph to a decoder: smooth colours, saved as its suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def photo_folder(tmp_path) -> Path:
    """Ten small photographs in two ImageNet classes (tench and goldfish)."""
    folder = tmp_path / "photos"
    for i in range(10):
        photograph(folder / ["n01440764", "n01443537"][i % 2] / f"picture{i}.jpg", i)
    return folder
