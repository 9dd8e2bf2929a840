"""Pretrained models from a Hugging Face cache, without a network."""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import huggingface_hub
import pytest
import timm
import torch
from hub import fill_hub
from huggingface_hub.errors import LocalEntryNotFoundError

from vitlab import models
from vitlab.models import ModelError

VIT, CNN = "test_vit.r160_in1k", "resnet10t.c3_in1k"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A cache with one ViT, and a CNN at two revisions; what was put in, by (name, ref)."""
    folder = tmp_path_factory.mktemp("hf")
    put = {(VIT, "main"): fill_hub(folder, VIT)}
    put[CNN, "v1"] = fill_hub(folder, CNN, seed=1, ref="v1")
    put[CNN, "main"] = fill_hub(folder, CNN, seed=2)
    put["someone/theirs", "main"] = fill_hub(folder, VIT, seed=3, repo="someone/theirs")
    return folder, put


@pytest.fixture
def offline(home, monkeypatch):
    """The cache, with HF_HUB_OFFLINE as huggingface_hub reads it at its import."""
    folder, put = home
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return put


@pytest.mark.parametrize(
    ("name", "which"),
    [
        (f"timm/{VIT}", (VIT, "main")),
        ("timm/test_vit", (VIT, "main")),
        (f"timm/{CNN}", (CNN, "main")),
        (f"timm/{CNN}@v1", (CNN, "v1")),
        (f"hf-hub:timm/{CNN}@v1", (CNN, "v1")),
        ("hf-hub:someone/theirs", ("someone/theirs", "main")),
    ],
)
def test_a_filled_cache_is_enough(offline, name, which):
    commit, state = offline[which]
    model = models.load(name, "cpu")
    assert model.name == (f"timm/{VIT}" if name == "timm/test_vit" else name)
    loaded = model.net.state_dict()
    assert set(loaded) == set(state)
    assert all(torch.equal(loaded[key], state[key]) for key in state)
    assert f"hub revision {commit}" in model.source
    assert f"weights sha256 {model.weights}" in model.source
    assert model.classes == "imagenet"


def test_a_commit_pins_the_weights_whatever_main_is(offline):
    (old, old_state), (new, _) = offline[CNN, "v1"], offline[CNN, "main"]
    assert old != new
    model = models.load(f"timm/{CNN}@{old}")
    assert torch.equal(model.net.conv1[0].weight.cpu(), old_state["conv1.0.weight"])
    assert f"hub revision {old}" in model.source
    assert model.weights != models.load(f"timm/{CNN}").weights


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("timm/resnet18.a1_in1k", "hf download timm/resnet18.a1_in1k"),
        (f"timm/{CNN}@v9", f"hf download timm/{CNN} --revision v9"),
        (f"timm/{CNN}@{'0' * 40}", f"hf download timm/{CNN} --revision {'0' * 40}"),
        ("hf-hub:someone/else", "hf download someone/else"),
    ],
)
def test_what_the_cache_lacks_is_told_with_the_way_to_get_it(offline, name, command):
    with pytest.raises(ModelError) as error:
        models.load(name)
    assert "not in the Hugging Face cache" in str(error.value)
    assert "HF_HUB_OFFLINE is set" in str(error.value)
    assert str(error.value).endswith(f"with a network: {command}")


def test_a_network_that_fails_is_not_taken_for_the_offline_switch(offline, monkeypatch):
    def fail(*arguments, **more):
        raise LocalEntryNotFoundError("nothing found") from ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(ModelError, match=r"cannot be reached \(no route to host\); with a net"):
        models.load("timm/resnet18")


def test_damaged_and_foreign_repositories_are_refused(offline, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    commit, _ = fill_hub(tmp_path, CNN)
    snapshot = tmp_path / "hub" / f"models--timm--{CNN}" / "snapshots" / commit
    weights = snapshot / "model.safetensors"
    content = weights.read_bytes()
    weights.resolve().write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=f"weights of timm/{CNN} cannot be used"):
        models.load(f"timm/{CNN}")
    weights.resolve().write_bytes(content)
    models.load(f"timm/{CNN}")
    (snapshot / "config.json").write_text(json.dumps({"architectures": ["ViTModel"]}))
    with pytest.raises(ModelError, match="in timm's format: 'architecture' is missing"):
        models.load(f"hf-hub:timm/{CNN}")


def test_a_local_folder_in_timms_layout_is_loaded(home):
    folder, put = home
    commit, state = put[CNN, "v1"]
    snapshot = folder / "hub" / f"models--timm--{CNN}" / "snapshots" / commit
    model = models.load(f"local-dir:{snapshot}")
    assert torch.equal(model.net.conv1[0].weight.cpu(), state["conv1.0.weight"])
    assert model.name == f"local-dir:{commit}"
    assert "resnet10t" in model.source
    assert str(folder) not in model.source


def load_elsewhere(name, **environment):
    """Load a model in a process of its own, where the environment is read as it is."""
    code = f"from vitlab import models; print(models.load({name!r}, 'cpu').source)"
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
    )


def test_a_hub_that_says_no_is_quoted(tmp_path):
    class No(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(404)
            self.send_header("X-Error-Code", "RevisionNotFound")
            self.end_headers()

        do_GET = do_HEAD

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), No)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        done = load_elsewhere(
            f"timm/{CNN}@v9", HF_HOME=str(tmp_path), HF_ENDPOINT=address, HF_HUB_OFFLINE="0"
        )
    finally:
        server.shutdown()
    [message] = [line for line in done.stderr.splitlines() if ".ModelError: " in line]
    assert f"timm/{CNN} at revision v9 could not be loaded; the hub answers: " in message


def test_the_script_fills_a_cache_and_the_environment_alone_is_enough(tmp_path):
    script = Path(__file__).with_name("hub.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path, VIT], capture_output=True, text=True, check=True
    )
    commit = json.loads(done.stdout)[VIT]
    found = load_elsewhere(f"timm/{VIT}", HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert commit in found.stdout
