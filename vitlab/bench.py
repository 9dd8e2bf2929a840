"""Measure the numbers the README promises: ``make bench`` writes ``build/bench.json``.

Ratios are taken within one run, the two sides in turns, so a busy machine slows both.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import timm
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from vitlab import data, evaluate, features, fewshot
from vitlab.conditions import CLEAN, patchdrop
from vitlab.files import write_json
from vitlab.models import Model, load

LEVELS = [k / 10 for k in range(10)]


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def engine(models: list[Model], images: data.Images, grid: int, batch_size: int) -> dict[str, Any]:
    """Engine throughput over that of bare forward passes: same models, batch size and threads."""
    conditions = patchdrop.random(LEVELS, (grid, grid))
    batch = evaluate.batch_of(images, models[0], range(batch_size)).pixels
    normalised = [model.normalise(batch) for model in models]
    rounds = len(images) // batch_size * len(conditions)

    @torch.inference_mode()
    def bare() -> None:
        for _ in range(rounds):
            for model, pixels in zip(models, normalised, strict=True):
                model.net(pixels)

    def ours() -> None:
        with tempfile.TemporaryDirectory() as out:
            evaluate.run(models, images, conditions, out, batch_size, progress=False)

    evaluate.run(models, images, [CLEAN], tempfile.mkdtemp(), batch_size, progress=False)  # warm up
    pairs = [(_seconds(bare), _seconds(ours)) for _ in range(3)]
    forwards = len(images) * len(conditions) * len(models)
    return {
        "ratio": round(median(b / o for b, o in pairs), 3),
        "ratios": [round(b / o, 3) for b, o in pairs],
        "forwards_per_second": round(forwards / median(o for _, o in pairs), 1),
        "images": len(images),
        "conditions": len(conditions),
        "models": [model.name for model in models],
        "batch_size": batch_size,
        "threads": torch.get_num_threads(),
    }


def episodes() -> dict[str, Any]:
    """600 five-way episodes through a ViT, features included; and a loop over scikit-learn."""
    images = data.load("stimuli", "stylised", n=320, held_out=True)
    vit = load("mini/vit-0")
    found: dict[str, Any] = {}

    def whole() -> None:
        tokens = features.block_tokens(vit, features.pixel_stack(vit, images))
        found["x"] = tokens.classes[:, -4:].flatten(1)
        found["episodes"] = fewshot.sample(images.labels, 5, 5, 15, 600)
        found["scores"] = fewshot.accuracy(found["x"], found["episodes"])

    total = _seconds(whole)
    x = F.normalize(found["x"], dim=1)
    drawn: fewshot.Episodes = found["episodes"]
    loop_scores = []

    def loop() -> None:
        for e in range(600):
            # The tolerance brings scikit-learn to the optimum that Newton's method reaches.
            model = LogisticRegression(tol=1e-6, max_iter=5000)
            model.fit(x[drawn.support[e]].numpy(), drawn.support_target[e].numpy())
            loop_scores.append(
                model.score(x[drawn.query[e]].numpy(), drawn.query_target[e].numpy())
            )

    batched_seconds = median(
        _seconds(lambda: fewshot.accuracy(found["x"], drawn)) for _ in range(3)
    )
    loop_seconds = _seconds(loop)
    ours, theirs = float(found["scores"].mean()), sum(loop_scores) / 600
    return {
        "seconds_with_features": round(total, 2),
        "batched_seconds": round(batched_seconds, 3),
        "scikit_learn_loop_seconds": round(loop_seconds, 2),
        "speedup": round(loop_seconds / batched_seconds, 1),
        "accuracy": ours,
        "accuracy_scikit_learn": theirs,
        "accuracy_difference_points": round(100 * abs(ours - theirs), 3),
    }


def photographs(root: Path) -> dict[str, Any]:
    """The engine over real JPEGs with a ViT of the paper's size (random weights)."""
    folder = Path(os.environ.get("VITLAB_REAL_DATA", root.parent / "shared" / "data"))
    folder = folder / "imagenet-samples"
    if not folder.is_dir():
        return {"not run": f"no photographs in {folder}"}
    net = timm.create_model("deit_tiny_patch16_224", pretrained=False).eval()
    config = timm.data.resolve_model_data_config(net)
    model = Model(
        "deit_tiny_patch16_224 (random weights)", net, "ViT", "imagenet", "random", config
    )
    return engine([model], data.load(folder, n=64), 14, 32)


def book(root: Path) -> dict[str, Any]:
    """A fresh clone to a finished book, with and without installation, and a second build."""
    with tempfile.TemporaryDirectory() as place:
        clone = Path(place) / "clone"
        quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL}
        environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}

        def make(*target: str) -> float:
            command = ["make", *target]
            return _seconds(lambda: subprocess.run(command, cwd=clone, env=environment, **quiet))

        subprocess.run(["git", "clone", "-q", str(root), str(clone)], **quiet)
        install = make(".venv/.ready")
        first = make("book")
        pages = {
            p.parent.name: json.loads(p.read_text())
            for p in (clone / "build" / "pages").glob("*/state.json")
        }
        second = make("book")
        untouched = all(
            json.loads((clone / "build" / "pages" / n / "state.json").read_text()) == s
            for n, s in pages.items()
        )
    return {
        "installation_seconds": round(install, 1),
        "book_seconds": round(first, 1),
        "clone_to_book_seconds": round(install + first, 1),
        "second_build_seconds": round(second, 1),
        "second_build_ran_no_page": untouched,
        "page_seconds": {name: s["seconds"] for name, s in sorted(pages.items())},
        "page_peak_mb": {name: s["peak_mb"] for name, s in sorted(pages.items())},
    }


def main(root: Path) -> int:
    """Measure everything, print it and write it to ``build/bench.json``."""
    results: dict[str, Any] = {
        "machine": {
            "cores": os.cpu_count(),
            "python": sys.version.split()[0],
            "torch": torch.__version__,
        }
    }
    pair = [load("mini/vit-0"), load("mini/cnn-0")]
    for name, work in {
        "engine, mini pair": lambda: engine(pair, data.load("stimuli", n=512), 8, 64),
        "engine, photographs": lambda: photographs(root),
        "episodes": episodes,
        "book": lambda: book(root),
    }.items():
        results[name] = work()
        print(name, json.dumps(results[name], indent=1), flush=True)
        write_json(root / "build" / "bench.json", results)
    return 0
