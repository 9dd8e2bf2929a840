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
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from copy import deepcopy
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from vitlab import images as data
from vitlab.attacks import cell, gradient, spectral
from vitlab.conditions import patchdrop
from vitlab.files import write_json
from vitlab.images import catalogue
from vitlab.inside import episodes as fewshot
from vitlab.inside import tokens as features
from vitlab.models import Model, best_device, load
from vitlab.training import test_time
from vitlab.trials import run as evaluate

LEVELS = [k / 10 for k in range(10)]


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():  # which works on after a call has returned
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _note(moments: list[float]) -> Callable[..., None]:
    """A hook that writes down when it is called."""
    return lambda *_: moments.append(time.perf_counter())


@contextmanager
def _nothing_kept() -> Iterator[None]:
    """An empty store, so that nothing is read that was measured before."""
    with tempfile.TemporaryDirectory() as place, patch.dict(os.environ, VITLAB_TRIALS=place):
        yield


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch with a thread, as the book's pages have it: on every core another page runs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def engine(
    models: list[Model], images: data.Images, grid: int, batch_size: int, rounds: int = 7
) -> dict[str, Any]:
    """Engine throughput over that of bare forward passes: same models, batch size, one thread.

    After each batch the engine waits for as many bare passes as it has just made, so both meet the
    same machine. A round draws its cells anew and decodes photographs anew; stimuli were rendered
    in the warm-up, and CIFAR-10's pictures lie in memory. Beside the ratio stands the share of the
    engine's own time that is spent in the networks: no drift of the machine moves it.

    images: whole batches of them.
    """
    batch = evaluate.batch_of(images, models[0], range(batch_size)).pixels
    normalised = [model.normalise(batch.to(model.device)) for model in models]

    @torch.inference_mode()
    def bare() -> None:
        for _ in LEVELS:
            for model, pixels in zip(models, normalised, strict=True):
                model.net(pixels)

    inside: list[float] = []  # moments at which a network begins and ends, in bare passes too

    def one_round(seed: int) -> tuple[float, float, float]:
        inside.clear()
        conditions = patchdrop.random(LEVELS, (grid, grid), seed=seed)
        between: list[float] = []
        bar = nullcontext(SimpleNamespace(update=lambda n: between.append(_seconds(bare))))
        with _nothing_kept(), patch.object(evaluate, "progress_bar", lambda *_: bar):
            whole = _seconds(lambda: evaluate.run(models, images, conditions, batch_size))
        passes = sum(inside[1::2]) - sum(inside[::2]) - sum(between)
        return sum(between), whole - sum(between), passes

    with _one_thread(), ExitStack() as hooks:
        for model in models:
            hooks.callback(model.net.register_forward_pre_hook(_note(inside)).remove)
            hooks.callback(model.net.register_forward_hook(_note(inside)).remove)
        one_round(0)  # warm up
        found = [one_round(seed) for seed in range(1, 1 + rounds)]
        pairs = [(b, o) for b, o, _ in found]
    forwards = len(images) * len(LEVELS) * len(models)
    return {
        "ratio": round(median(b / o for b, o in pairs), 3),
        "ratios": [round(b / o, 3) for b, o in pairs],
        "in the networks": round(median(passes / o for _, o, passes in found), 3),
        "forwards_per_second": round(forwards / median(o for _, o in pairs), 1),
        "images": len(images),
        "conditions": len(LEVELS),
        "models": [model.name for model in models],
        "batch_size": batch_size,
    }


def photo_pair() -> dict[str, Any]:
    """The engine over CIFAR-10 with the photo zoo's pair, where the set is here."""
    if not catalogue.available("cifar-10"):
        return {"not run": "no CIFAR-10: vitlab data fetch cifar-10"}
    pair = [load("photos/vit-0"), load("photos/cnn-0")]
    return engine(pair, data.load("cifar-10", n=512), 8, 64)


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


def photographs(root: Path, name: str) -> dict[str, Any]:
    """The engine over real JPEGs with a network of the papers' size (random weights)."""
    folder = _photographs(root)
    return engine([_random(name)], data.load(folder, n=64), 14, 32) if folder else _NONE


_NONE = {"not run": "no photographs: set VITLAB_REAL_DATA"}


def _photographs(root: Path) -> Path | None:
    folder = Path(os.environ.get("VITLAB_REAL_DATA", root.parent / "shared" / "data"))
    folder = folder / "imagenet-samples"
    return folder if folder.is_dir() else None


def _random(name: str) -> Model:
    """A timm network with random weights, on the best device: for speed they do as well."""
    import timm  # after vitlab, which mends torchvision's operators

    net = timm.create_model(name, pretrained=False).eval().requires_grad_(False)
    config = timm.data.resolve_model_data_config(net)
    model = Model(f"{name} (random weights)", net, "ViT", "imagenet", "random", config)
    return model.to(best_device())


def gpu(root: Path) -> dict[str, Any]:
    """On a GPU: engine over bare forward at the batch size that saturates it, decoding included."""
    folder = _photographs(root)
    if best_device() != "cuda" or folder is None:
        return {"not run": "no CUDA device" if folder else _NONE["not run"]}
    model = _random("deit_small_patch16_224")

    @torch.inference_mode()
    def speed(batch_size: int) -> float:
        pixels = model.normalise(torch.rand(batch_size, 3, 224, 224, device=model.device))

        def bare() -> None:
            for _ in range(2048 // batch_size):
                model.net(pixels)
            torch.cuda.synchronize()

        bare()
        return 2048 / _seconds(bare)

    speeds = {size: speed(size) for size in (32, 64, 128, 256, 512)}
    best = max(speeds, key=lambda size: speeds[size])
    conditions = patchdrop.random(LEVELS, (14, 14))
    images = data.load(folder)
    workers = os.cpu_count() or 1

    def ours() -> None:
        with _nothing_kept():
            evaluate.run([model], images, conditions, best, workers, progress=False)

    seconds = min(_seconds(ours) for _ in range(3))
    engine_speed = len(images) * len(conditions) / seconds
    return {
        "card": torch.cuda.get_device_name(),
        "batch_size": best,
        "forwards_per_second_bare": {size: round(value) for size, value in speeds.items()},
        "forwards_per_second_engine": round(engine_speed),
        "ratio": round(engine_speed / speeds[best], 3),
        "decoding_threads": workers,
    }


def attacks(name: str, steps: int = 5) -> dict[str, Any]:
    """Attacks over bare passes: as many forwards and backwards in the pixels."""
    model, images = load(name), data.load("stimuli", n=64)
    batch = evaluate.batch_of(images, model, range(64))
    pixels, normalised, logits = batch.pixels, model.normalise(batch.pixels), model.logits
    with torch.no_grad():
        answers = logits(pixels).argmax(1)
    where = cell.inside(cell.drawn(batch.ids, 4, 1), 4, model.size)

    def bare() -> None:
        for _ in range(steps):
            here = normalised.clone().requires_grad_(True)
            loss = F.cross_entropy(model.net(here), answers, reduction="sum")
            torch.autograd.grad(loss, here)
        with torch.no_grad():  # the last images are looked at once more
            model.net(normalised)

    # Neither loses a pair on its way: PGD takes all steps, and steps of 0 in the image itself fool
    # nobody. What is left of a batch once some are fooled would be another batch size.
    loops: dict[str, Callable[[], object]] = {
        "PGD": lambda: gradient.pgd(logits, pixels, answers, 8 / 255, steps, 1 / 255),
        "patch": lambda: cell.attack(logits, pixels, answers, where, pixels, steps, 0.0),
        "phase": lambda: spectral.attack(logits, pixels, answers, "phase", steps=steps),
    }
    return {loop: _ratio(bare, ours) for loop, ours in loops.items()}


def adaptation(name: str, batches: int = 8) -> dict[str, Any]:
    """CFA on a stream, a step a batch, over bare passes: as many, back to the same parameters."""
    model, images = load(name), data.load("stimuli", n=64)
    pixels = evaluate.batch_of(images, model, range(64)).pixels
    known = test_time.statistics(test_time.frozen(model, [pixels])[0], images.labels)
    normalised, net = model.normalise(pixels), deepcopy(model.net)
    moving = [p.requires_grad_(True) for p in test_time.chosen(net, "LayerNorm").values()]

    def bare() -> None:
        for _ in range(batches):
            torch.autograd.grad(F.cross_entropy(net(normalised), images.labels), moving)

    def ours() -> None:
        test_time.adapt(model, [pixels] * batches, test_time.cfa, known)

    return {"CFA": _ratio(bare, ours)}


def _ratio(bare: Callable[[], object], ours: Callable[[], object]) -> dict[str, Any]:
    """Bare seconds over ours, nine times in turns after a warm-up: the median, and all."""
    bare(), ours()
    ratios = [round(_seconds(bare) / _seconds(ours), 3) for _ in range(9)]
    return {"ratio": median(ratios), "ratios": ratios}


def released_loop(root: Path) -> dict[str, Any]:
    """The engine against the way of naseer2021's released evaluation, written anew.

    That script goes over the data once per level and draw: it decodes every image 50 times, ours
    once. Same images, model, levels (10), draws (5), batch size and decoding threads.
    """
    folder = _photographs(root)
    if folder is None:
        return _NONE
    model, images = _random("deit_tiny_patch16_224"), data.load(folder, n=32)
    labels = images.labels
    conditions = patchdrop.random(LEVELS, (14, 14), draws=5, shared=True)

    @torch.inference_mode()
    def theirs() -> None:
        for condition in conditions:
            right = 0
            for chosen in torch.arange(len(images)).split(32):
                batch = evaluate.batch_of(images, model, chosen.tolist())
                answers = model.logits(condition.apply(batch).to(model.device)).argmax(1).cpu()
                right += int((answers == labels[chosen]).sum())

    def ours() -> None:
        with _nothing_kept():
            evaluate.run([model], images, conditions, 32, progress=False)

    pairs = [(_seconds(theirs), _seconds(ours)) for _ in range(3)]
    return {
        "ratio": round(median(t / o for t, o in pairs), 2),
        "ratios": [round(t / o, 2) for t, o in pairs],
        "images": len(images),
        "conditions": len(conditions),
    }


def _alone(count: int) -> float:
    """Seconds of a run of its own over `count` stimuli, a thread."""
    torch.set_num_threads(1)
    conditions = patchdrop.random(LEVELS, (8, 8))
    images, model = data.load("stimuli", n=count), load("mini/vit-0")
    with _nothing_kept():
        return _seconds(lambda: evaluate.run([model], images, conditions, progress=False))


def _two_processes() -> float:
    """How much faster two runs are at once than one after the other: what the cores allow.

    They share nothing; two hyperthreads of one core are no two cores.
    """
    with get_context("spawn").Pool(2) as pool:
        pool.map(_alone, [64] * 2, chunksize=1)  # imports, first allocations
        (one,) = pool.map(_alone, [512])
        return 2 * one / max(pool.map(_alone, [512] * 2, chunksize=1))


def dask() -> dict[str, Any]:
    """Two local Dask workers against one, and one against none; a thread each."""
    from distributed import Client, LocalCluster

    images, model = data.load("stimuli", n=1024), load("mini/vit-0")
    conditions = patchdrop.random(LEVELS, (8, 8))

    def once() -> float:
        with _nothing_kept():
            return _seconds(lambda: evaluate.run([model], images, conditions, progress=False))

    def on(workers: int) -> float:
        with (
            LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address=None, memory_limit=0
            ) as cluster,
            Client(cluster) as client,
        ):
            small = data.load("stimuli", n=256 * workers)  # imports, first allocations
            with _nothing_kept():
                evaluate.run([model], small, conditions[:1], progress=False)
            client.wait_for_workers(workers)
            return once()

    with _one_thread():
        rounds = [(once(), on(1), on(2)) for _ in range(3)]
    none, one, two = (median(times) for times in zip(*rounds, strict=True))
    return {
        "seconds": {"no cluster": round(none, 1), "one": round(one, 1), "two": round(two, 1)},
        "two_over_one": round(median(o / t for _, o, t in rounds), 2),
        "two_processes_over_one": round(median(_two_processes() for _ in range(3)), 2),
        "overhead_of_one": round(median(o / n for n, o, _ in rounds) - 1, 3),
    }


_PEAK = """
import resource, sys
import torch
from vitlab import images as data
from vitlab.trials import run as evaluate
from vitlab.conditions import CLEAN
from vitlab.models import Model, MINI_CONFIG
class Means(torch.nn.Module):
    def forward(self, x):
        pool = torch.nn.functional.adaptive_avg_pool2d(x.mean(1), 4).flatten(1)
        return torch.nn.functional.pad(pool, (0, 984))
config = {**MINI_CONFIG, "crop_pct": 0.9, "input_size": (3, 32, 32)}
model = Model("means", Means(), "CNN", "imagenet", "means", config)
images = data.load(sys.argv[1])
evaluate.run([model], images, [CLEAN], progress=False)
print(len(images), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def memory() -> dict[str, Any]:
    """Peak memory over 800 and over 80,000 images (100 links to each of 800 small JPEGs), in MB."""
    import numpy as np
    from PIL import Image

    found = {}
    with tempfile.TemporaryDirectory() as place:
        wnids = data.imagenet_wnids()
        for repeats in (1, 100):
            folder = Path(place) / f"times {repeats}"
            for i in range(800):
                original = Path(place) / "originals" / f"{i}.jpg"
                if not original.exists():
                    original.parent.mkdir(exist_ok=True)
                    noise = np.random.default_rng(i).integers(0, 256, (48, 64, 3), dtype=np.uint8)
                    Image.fromarray(noise).save(original)
                (folder / wnids[i]).mkdir(parents=True)
                for k in range(repeats):
                    (folder / wnids[i] / f"{k}.jpg").symlink_to(original)
            done = subprocess.run(
                [sys.executable, "-c", _PEAK, str(folder)],
                check=True,
                capture_output=True,
                text=True,
                env={**os.environ, "VITLAB_DATA": place, "VITLAB_TRIALS": f"{place}/trials"},
            )
            n, peak = done.stdout.split()[-2:]
            found[n] = int(peak)
    low, high = found.values()
    return {"peak_mb": found, "ratio": round(high / low, 3)}


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
        install = make("venv")
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


def main(root: Path, wanted: Sequence[str] = ()) -> int:
    """Measure everything, or the parts whose names hold a wanted word, into ``build/bench.json``.

    What is there from an earlier call and not measured again stays. A word that is in no name is
    told, and nothing is measured.
    """
    parts: dict[str, Callable[[], object]] = {
        "engine, mini pair": lambda: engine(
            [load("mini/vit-0"), load("mini/cnn-0")], data.load("stimuli", n=512), 8, 64
        ),
        "engine, photo pair": photo_pair,
        "engine, photographs, ViT": lambda: photographs(root, "deit_tiny_patch16_224"),
        "engine, photographs, CNN": lambda: photographs(root, "resnet18"),
        "engine, GPU": lambda: gpu(root),
        "engine against the released loop": lambda: released_loop(root),
        "attack loops, ViT": lambda: attacks("mini/vit-0"),
        "attack loops, CNN": lambda: attacks("mini/cnn-0"),
        "adaptation loop, patch 16": lambda: adaptation("mini/vit-patch16-0"),
        "adaptation loop, patch 8": lambda: adaptation("mini/vit-0"),
        "Dask": dask,
        "memory": memory,
        "episodes": episodes,
        "book": lambda: book(root),
    }
    if unknown := [word for word in wanted if not any(word in name for name in parts)]:
        known = "".join(f"\n  {name}" for name in parts)
        print(f"bench: no part is called {unknown[0]!r}; there are{known}", file=sys.stderr)
        return 2
    path = root / "build" / "bench.json"
    before = json.loads(path.read_text()) if wanted and path.exists() else {}
    results: dict[str, Any] = {
        **before,
        "machine": {
            "cores": os.cpu_count(),
            "python": sys.version.split()[0],
            "torch": torch.__version__,
        },
    }
    for name, work in parts.items():
        if wanted and not any(word in name for word in wanted):
            continue
        results[name] = work()
        print(name, json.dumps(results[name], indent=1), flush=True)
        write_json(path, results)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).parents[1], sys.argv[1:]))
