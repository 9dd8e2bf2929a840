"""Train the mini zoo: small ViTs and CNNs on rendered stimuli, all by one recipe.

``vitlab zoo`` (``make zoo``) trains every model from nothing, one after the other, with a progress
bar. A checkpoint is written twice a minute; a killed run goes on from the last one and reaches the
same weights.
"""

from __future__ import annotations

import fcntl
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2
from tqdm.auto import tqdm

from vitlab import models
from vitlab.files import digest, sha256, whole, write_json
from vitlab.rng import generator
from vitlab.stimuli import scenes as stimuli

# One recipe for every model. It was chosen on validation images, before any page was run.
RECIPE: dict[str, Any] = {
    "images": 32_000,
    "epochs": 4,
    "batch": 32,
    "optimiser": "AdamW",
    "learning_rate": 1e-3,
    "betas": (0.9, 0.98),
    "weight_decay": 0.05,
    "warm_up": 0.1,
    "schedule": "cosine to zero",
    "label_smoothing": 0.1,
    "gradient_norm": 1.0,
    "augmentation": "none",
}
# What single findings ask for beside the pair and its stylised twins: name -> architecture, group,
# and where its recipe departs. A smaller share of the stimuli is seen more often: equal steps.
_QUARTER, _SIXTEENTH = {"images": 8_000, "epochs": 16}, {"images": 2_000, "epochs": 64}
_AUGMIX = {"augmentation": "AugMix"}
# Both teachers are always right on natural stimuli and would teach the same. On mixed ones, which
# DeiT's recipe has too, each answers by the cue it goes by.
_MIXED = {"augmentation": "Mixup or CutMix"}
SPECIAL: dict[str, tuple[str, str, dict[str, Any]]] = {
    "vit-no-position": ("vit-no-position", "ViT without position", {}),
    "vit-patch16": ("vit-patch16", "ViT, patch 16", {}),
    "vit-patch32": ("vit-patch32", "ViT, patch 32", {}),
    "vit-distilled": ("vit-two-tokens", "ViT distilled", {**_MIXED, "teacher": "mini/cnn-0"}),
    "vit-shape-distilled": (
        "vit-two-tokens",
        "ViT shape-distilled",
        {**_MIXED, "teacher": "mini/cnn-stylised-0"},
    ),
    "swin": ("swin", "Swin", {}),
    "cnn-se": ("cnn-se", "CNN with SE", {}),
    "regnety": ("regnety", "RegNetY", {}),
    "vit-augmix": ("vit", "ViT AugMix", _AUGMIX),
    "cnn-augmix": ("cnn", "CNN AugMix", _AUGMIX),
    "vit-quarter": ("vit", "ViT, 1/4 of the images", _QUARTER),
    "vit-sixteenth": ("vit", "ViT, 1/16 of the images", _SIXTEENTH),
    "cnn-quarter": ("cnn", "CNN, 1/4 of the images", _QUARTER),
    "cnn-sixteenth": ("cnn", "CNN, 1/16 of the images", _SIXTEENTH),
}
TEST_IMAGES = 1_600
_CHECKPOINT_SECONDS = 30


def plan() -> dict[str, dict[str, Any]]:
    """Every model of the zoo: name -> architecture, stimuli it learns from, seed, group.

    "recipe" is there where a model departs from `RECIPE`, and says in what.
    """
    pairs = {
        f"mini/{arch}{'-stylised' if diet == 'stylised' else ''}-{seed}": {
            "arch": arch,
            "stimuli": diet,
            "seed": seed,
            "group": {"vit": "ViT", "cnn": "CNN"}[arch] + (" stylised" * (diet == "stylised")),
        }
        for diet in ("natural", "stylised")
        for arch in ("vit", "cnn")
        for seed in (0, 1, 2)
    }
    special = {
        f"mini/{name}-0": {
            "arch": arch,
            "stimuli": "natural",
            "seed": 0,
            "group": group,
            **({"recipe": change} if change else {}),
        }
        for name, (arch, group, change) in SPECIAL.items()
    }
    return {**pairs, **special}


def _fingerprint(variant: str) -> str:
    scenes = [stimuli.describe("train", i, variant=variant) for i in range(16)]
    return stimuli.fingerprint(scenes)


def _pictures(variant: str, count: int, folder: Path) -> Tensor:
    """The training pictures, uint8 [count, 3, 64, 64], rendered once and kept in `folder`."""
    stamp = _fingerprint(variant)
    path = folder / f"train-{variant}-{count}-{stamp}.npy"
    if not path.exists():
        with whole(path) as part:
            store = np.lib.format.open_memmap(
                part, "w+", np.uint8, (count, 3, stimuli.SIZE, stimuli.SIZE)
            )
            title = f"rendering {variant} stimuli"
            for first in tqdm(range(0, count, 500), desc=title, unit_scale=500):
                batch = range(first, min(first + 500, count))
                scenes = [stimuli.describe("train", i, variant=variant) for i in batch]
                store[first : first + 500] = stimuli.render(scenes)[0].numpy()
            store.flush()
    return torch.from_numpy(np.load(path))


def _augmix(pictures: Tensor, keys: list[tuple]) -> Tensor:
    """AugMix (Hendrycks et al. 2020) without its consistency loss: uint8 [B, 3, H, W] to the same.

    None of its operations is one of ImageNet-C's corruptions. Each picture has its own key.
    """
    mix = v2.AugMix(all_ops=False)
    with torch.random.fork_rng(devices=[]):
        done = []
        for picture, key in zip(pictures, keys, strict=True):
            torch.manual_seed(int(generator("augmix", *key).integers(2**31)))
            done.append(mix(picture))
    return torch.stack(done)


def mixed(pixels: Tensor, labels: Tensor, key: tuple) -> tuple[Tensor, Tensor]:
    """Mixup (alpha 0.8) or CutMix (alpha 1), even odds, DeiT's settings as we remember them.

    pixels: float [B, 3, H, W]; labels: long [B]. Returns pixels and shares of classes [B, 16].
    """
    choice = v2.RandomChoice(
        [v2.MixUp(alpha=0.8, num_classes=16), v2.CutMix(alpha=1.0, num_classes=16)]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator("mix", *key).integers(2**31)))
        return choice(pixels, labels)


def _loss(answer: Any, labels: Tensor, advice: Tensor | None, smoothing: float) -> Tensor:
    """Cross entropy with labels; with a teacher, its mean with that of the other head's answer.

    labels: classes, long [B], or their shares [B, classes]. advice: the teacher's decisions, long
    [B]: hard distillation, DeiT's default (Touvron et al. 2021); `answer` is then a pair.
    """
    if advice is None:
        return F.cross_entropy(answer, labels, label_smoothing=smoothing)
    by_class, by_teacher = answer
    own = F.cross_entropy(by_class, labels, label_smoothing=smoothing)
    return (own + F.cross_entropy(by_teacher, advice)) / 2


def _learning_rate(step: int, steps: int, recipe: dict[str, Any]) -> float:
    warm_up = max(1, int(recipe["warm_up"] * steps))
    rise = (step + 1) / warm_up
    fall = 0.5 * (1 + math.cos(math.pi * max(0, step - warm_up) / max(1, steps - warm_up)))
    return recipe["learning_rate"] * min(rise, fall)


@torch.no_grad()
def _accuracy(net: nn.Module, split: str, variant: str, count: int, device: str) -> float:
    model = models.Model("in training", net, "", "stimuli", "")
    was_training = net.training
    net.eval()
    right = 0
    for first in range(0, count, 200):
        scenes = [
            stimuli.describe(split, i, variant=variant)
            for i in range(first, min(first + 200, count))
        ]
        pictures, _ = stimuli.render(scenes)
        answer = model.logits(pictures.to(device).float() / 255).argmax(1).cpu()
        right += int((answer == torch.tensor([s.label for s in scenes])).sum())
    net.train(was_training)
    return right / count


def train(name: str, work: Path, recipe: dict[str, Any] = RECIPE, stop_after: int = 0) -> dict:
    """Train one model of `plan` and return its record for the index.

    work: folder for rendered pictures, checkpoints and the finished weights. A checkpoint of the
    same recipe found there is taken up; the result is the same as that of an unbroken run.
    stop_after: leave after so many steps, as a kill would (for tests).
    """
    entry = plan()[name]
    recipe = {**recipe, **entry.get("recipe", {})}
    seed, variant, arch = entry["seed"], entry["stimuli"], entry["arch"]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    teacher = recipe.get("teacher")
    taught = [models.zoo()[teacher]["sha256"]] if teacher else []
    stamp = digest(name, recipe, _fingerprint(variant), *taught)
    stem = name.removeprefix("mini/")
    weights_file, checkpoint_file = work / f"{stem}.safetensors", work / f"{stem}.checkpoint.pt"
    record_file = work / f"{stem}.json"
    if record_file.exists() and weights_file.exists():
        record = json.loads(record_file.read_text())
        if record["stamp"] == stamp and sha256(weights_file) == record["sha256"]:
            return record

    pictures = _pictures(variant, recipe["images"], work)
    labels = torch.arange(len(pictures)) % 16
    torch.manual_seed(int(generator("weights", seed).integers(2**31)))
    net = models.ARCHITECTURES[arch]().to(device)
    if arch in ("cnn", "cnn-se", "regnety"):
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if teacher:  # in training, a student answers once per token
        master = models.load(teacher, device)
        net.set_distilled_training(True)  # type: ignore[operator]
    normalise = models.Model(name, net, "", "stimuli", "").normalise
    optimiser = torch.optim.AdamW(
        net.parameters(),
        lr=recipe["learning_rate"],
        betas=recipe["betas"],
        weight_decay=recipe["weight_decay"],
        fused=True,
    )
    batch = recipe["batch"]
    per_epoch = len(pictures) // batch
    steps = per_epoch * recipe["epochs"]
    step, curve, seconds = 0, [], 0.0
    shuffled, order = -1, np.empty(0, int)
    if checkpoint_file.exists():
        saved = torch.load(checkpoint_file, map_location=device, weights_only=True)
        if saved["stamp"] == stamp:
            net.load_state_dict(saved["net"])
            optimiser.load_state_dict(saved["optimiser"])
            step, curve, seconds = saved["step"], saved["curve"], saved["seconds"]

    def save() -> None:
        with whole(checkpoint_file) as part:
            torch.save(
                {
                    "stamp": stamp,
                    "net": net.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "step": step,
                    "curve": curve,
                    "seconds": seconds + time.monotonic() - started,
                },
                part,
            )

    started = saved_at = time.monotonic()
    net.train()
    bar = tqdm(total=steps * batch, initial=step * batch, desc=name, unit="image")
    while step < steps:
        epoch, place = divmod(step, per_epoch)
        if epoch != shuffled:
            order = generator("order", seed, epoch).permutation(len(pictures))
            shuffled = epoch
        place *= batch
        chosen = torch.from_numpy(order[place : place + batch])
        shown = pictures[chosen]
        if recipe["augmentation"] == "AugMix":
            shown = _augmix(shown, [(seed, epoch, int(i)) for i in chosen])
        pixels, answers = shown.to(device).float() / 255, labels[chosen].to(device)
        if recipe["augmentation"] == "Mixup or CutMix":
            pixels, answers = mixed(pixels, answers, (seed, step))
        advice = None
        if teacher:
            with torch.no_grad():
                advice = master.logits(pixels).argmax(1)
        for group in optimiser.param_groups:
            group["lr"] = _learning_rate(step, steps, recipe)
        loss = _loss(
            net(normalise(pixels)),
            answers,
            advice,
            recipe["label_smoothing"],
        )
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), recipe["gradient_norm"])
        optimiser.step()
        step += 1
        bar.update(batch)
        if step % 250 == 0 or step == steps:
            score = _accuracy(net, "validation", variant, 480, device)
            curve.append({"images": step * batch, "loss": round(loss.item(), 4), "accuracy": score})
            bar.set_postfix(loss=f"{loss.item():.3f}", validation=f"{score:.3f}")
        if step == stop_after:
            save()
            return {}
        if time.monotonic() - saved_at > _CHECKPOINT_SECONDS:
            save()
            saved_at = time.monotonic()
    bar.close()
    seconds += time.monotonic() - started

    half = {
        k: (v.half() if v.is_floating_point() else v).contiguous().cpu()
        for k, v in net.state_dict().items()
    }
    with whole(weights_file) as part:
        save_file(half, part)
    # What is measured is what is shipped: the weights after rounding to 16 bits.
    net.load_state_dict(half)
    record = {
        **entry,
        "file": weights_file.name,
        "sha256": sha256(weights_file),
        "parameters": sum(p.numel() for p in net.parameters()),
        "accuracy": _accuracy(net, "test", variant, TEST_IMAGES, device),
        "accuracy_natural": _accuracy(net, "test", "natural", TEST_IMAGES, device),
        "test_images": TEST_IMAGES,
        "seconds": round(seconds),
        "device": device,
        "torch": torch.__version__,
        "stamp": stamp,
        "curve": curve,
    }
    write_json(record_file, record)
    checkpoint_file.unlink(missing_ok=True)
    return record


def publish(name: str, record: dict, work: Path, recipe: dict[str, Any] = RECIPE) -> None:
    """Put finished weights into ``vitlab/zoo`` and their record into its index."""
    models.ZOO.mkdir(exist_ok=True)
    index_file = models.ZOO / "index.json"
    with open(work / "index.lock", "w") as lock:  # two trainings may end at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        with whole(models.ZOO / record["file"]) as part:
            part.write_bytes((work / record["file"]).read_bytes())
        index = json.loads(index_file.read_text()) if index_file.exists() else {"models": {}}
        index["recipe"] = recipe
        index["models"] = {
            n: record if n == name else index["models"][n]
            for n in plan()
            if n == name or n in index["models"]
        }
        write_json(index_file, index)


def train_all(wanted: list[str], work: Path, fresh: bool = False) -> None:
    """Train and publish the models named (all of `plan` if none is), taking up what is unfinished.

    Raises ValueError for a name that is not in the plan.
    """
    unknown = [name for name in wanted if name not in plan()]
    if unknown:
        raise ValueError(f"unknown model {unknown[0]!r}; the zoo is {', '.join(plan())}")
    work.mkdir(parents=True, exist_ok=True)
    for name in wanted or plan():
        if fresh:
            for old in work.glob(f"{name.removeprefix('mini/')}.*"):
                old.unlink()
        publish(name, train(name, work), work)
