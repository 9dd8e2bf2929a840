"""The engine on a Dask cluster of two worker processes: same trials, whatever dies."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import pandas as pd
import pytest
from distributed import Client, LocalCluster

from vitlab import images as data
from vitlab.conditions import CLEAN, Condition, patchdrop
from vitlab.models import load
from vitlab.trials import dask as cluster
from vitlab.trials import run as evaluate

CONDITIONS = [CLEAN, *patchdrop.random([0.5], (8, 8), seed=1)]
EXACT = ["model", "condition", "level", "draw", "image", "label", "prediction"]


@pytest.fixture(scope="module")
def workers():
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0
    ) as local:
        yield local


@pytest.fixture
def client(workers):
    with Client(workers) as client:
        client.wait_for_workers(2, timeout=60)
        yield client


def agree(one, other):
    pd.testing.assert_frame_equal(one[EXACT], other[EXACT])
    assert (one["confidence"] - other["confidence"]).abs().max() < 1e-5
    assert (one["p_label"] - other["p_label"]).abs().max() < 1e-5


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A local run of 520 images (three pieces) and two models, before any cluster is there."""
    models = [load("mini/vit-0"), load("mini/cnn-0")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITLAB_TRIALS", str(tmp_path_factory.mktemp("here")))
        return evaluate.run(models, data.load("stimuli", n=520), CONDITIONS)


def test_trials_of_a_cluster_are_those_of_one_machine(here, client):
    models = [load("mini/vit-0"), load("mini/cnn-0")]
    there = evaluate.run(models, data.load("stimuli", n=520), CONDITIONS, batch_size=50)
    agree(here, there)
    assert list(there.columns) == list(here.columns)


def test_a_worker_killed_half_way_loses_nothing(here, workers, client, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()

    def slow(batch):
        (marks / f"{os.getpid()}-{time.time_ns()}").touch()
        time.sleep(0.1)
        return batch.pixels

    conditions = [Condition("clean", 0.0, slow), *CONDITIONS[1:]]
    killed = []

    def kill():
        while len(list(marks.iterdir())) < 6:
            time.sleep(0.01)
        # One that is at work, not the one that happens to come first.
        pid = int(max(marks.iterdir()).name.split("-")[0])
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    threading.Thread(target=kill, daemon=True).start()
    models = [load("mini/vit-0"), load("mini/cnn-0")]
    there = evaluate.run(models, data.load("stimuli", n=520), conditions, batch_size=64)
    assert killed
    agree(here, there)
    pids = {path.name.split("-")[0] for path in marks.iterdir()}
    assert len(pids) >= 2, "another worker took over"


def test_a_broken_off_run_goes_on_from_its_pieces(here, client, trial_store):
    models = [load("mini/vit-0"), load("mini/cnn-0")]
    images = data.load("stimuli", n=520)
    evaluate.run(models, images, CONDITIONS)
    pieces = sorted(trial_store.glob("*/piece-*"))
    assert len(pieces) == 2 * 2 * 3, "a model and a condition at a time, three pieces"
    written = {path: path.stat().st_mtime_ns for path in pieces}
    lost = next(path for path in pieces if path.name.startswith("piece-000001"))
    lost.unlink()
    agree(here, evaluate.run(models, images, CONDITIONS))
    again = {path for path in trial_store.glob("*/piece-*")}
    assert {p.parent for p in again} == {p.parent for p in pieces}
    kept = written.keys() - {lost}
    assert {path: path.stat().st_mtime_ns for path in kept} == {p: written[p] for p in kept}


def test_an_error_on_a_worker_is_raised_here_with_its_words(client):
    def broken(batch):
        raise data.DataError("picture 7 cannot be read")

    images, conditions = data.load("stimuli", n=8), [Condition("clean", 0.0, broken)]
    with pytest.raises(data.DataError, match="picture 7 cannot be read"):
        evaluate.run([load("mini/cnn-0")], images, conditions)


def test_a_scheduler_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setenv("VITLAB_SCHEDULER", "tcp://127.0.0.1:9")
    monkeypatch.setattr(cluster, "PATIENCE", 1)
    with pytest.raises(cluster.ClusterError, match=r"no Dask scheduler answers at .*127.0.0.1:9"):
        cluster.client()


def test_a_cluster_without_workers_is_told():
    with (
        LocalCluster(n_workers=0, dashboard_address=None) as empty,
        Client(empty),
        pytest.raises(cluster.ClusterError, match="has no workers"),
    ):
        cluster.client()


def test_without_a_cluster_dask_is_not_even_imported(tmp_path):
    program = (
        "import sys; from vitlab.trials import dask; assert dask.client() is None; "
        "assert 'distributed' not in sys.modules"
    )
    clean = {k: v for k, v in os.environ.items() if k != "VITLAB_SCHEDULER"}
    subprocess.run([sys.executable, "-c", program], check=True, env=clean)


def test_gpu_workers_are_used_as_resources(tmp_path):
    """Jobs go only to the worker that announces a GPU, one at a time."""

    def span(seconds):  # local, so that it travels to the workers by value
        started = time.time()
        time.sleep(seconds)
        return os.getpid(), started, time.time()

    with (
        LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as plain,
        Client(plain) as client,
    ):
        gpu = subprocess.Popen(
            [
                *(sys.executable, "-m", "distributed.cli.dask_worker", plain.scheduler_address),
                *("--nthreads", "2", "--resources", "GPU=1", "--no-dashboard", "--name", "gpu"),
            ]
        )
        try:
            client.wait_for_workers(2, timeout=60)
            jobs = {i: (0.3,) for i in range(3)}
            found = dict(cluster.spread(client, span, jobs, {}))
        finally:
            gpu.terminate()
            gpu.wait()
    assert len({pid for pid, _, _ in found.values()}) == 1
    spans = sorted((start, end) for _, start, end in found.values())
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans)), "two on one GPU"
