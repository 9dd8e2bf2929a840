"""A Hugging Face cache filled with random weights: what a machine without a network needs.

    python tests/hub.py FOLDER ARCH.TAG...

then HF_HOME=FOLDER HF_HUB_OFFLINE=1 vitlab build -p models=timm/ARCH.TAG,...
"""

import hashlib
import json
import sys
from pathlib import Path

import vitlab  # noqa: F401  before anything imports timm

# isort: split
import timm
import torch
from timm.models import save_for_hf


def fill_hub(
    home: Path | str, name: str, seed: int = 0, repo: str = "", ref: str = "main"
) -> tuple[str, dict[str, torch.Tensor]]:
    """Put random weights for a timm model into a cache and return commit and state dict.

    home: what HF_HOME is set to. name: timm's arch.tag. repo: where on the hub, timm/<name> if
    empty. ref: the branch or tag that shall point at the new snapshot.
    """
    torch.manual_seed(seed)
    net = timm.create_model(name, pretrained=False)
    state = {key: value.clone() for key, value in net.state_dict().items()}
    commit = hashlib.sha1(f"{repo} {name} {seed}".encode()).hexdigest()
    cached = Path(home) / "hub" / ("models--" + (repo or f"timm/{name}").replace("/", "--"))
    snapshot = cached / "snapshots" / commit
    for folder in (snapshot, cached / "refs", cached / "blobs"):
        folder.mkdir(parents=True, exist_ok=True)
    save_for_hf(net, snapshot, safe_serialization=True)
    for path in snapshot.iterdir():  # as the hub's client lays it out: names point at contents
        blob = cached / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        path.rename(blob)
        path.symlink_to(Path("../../blobs") / blob.name)
    (cached / "refs" / ref).write_text(commit)
    return commit, state


if __name__ == "__main__":
    target, *wanted = sys.argv[1:]
    for number, each in enumerate(wanted):
        print(json.dumps({each: fill_hub(target, each, number)[0]}))
