"""The training loop: one for every recipe.

``vitlab zoo`` (``make zoo``) trains models from nothing, one after the other, with a progress bar.
A checkpoint is written twice a minute; a killed run goes on from the last one and reaches the same
weights.
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from vitlab.files import (
    FileError,
    digest,
    is_whole,
    nearest,
    read_json,
    sealed,
    sha256,
    whole,
    write_json,
)
from vitlab.models import weights, zoos
from vitlab.models.hub import load
from vitlab.models.identity import fingerprint
from vitlab.models.model import Model
from vitlab.models.small import ARCHITECTURES
from vitlab.models.wrapping import ready
from vitlab.models.zoos import zoo
from vitlab.rng import generator
from vitlab.training import index
from vitlab.training.augmentation import AUGMENTATIONS, Batch
from vitlab.training.objectives import OBJECTIVES
from vitlab.training.recipe import Recipe, RecipeError, recipes
from vitlab.training.schedule import SCHEDULES, STREAMS, epoch_generator
from vitlab.training.sources import SOURCES, Source

_CHECKPOINT_SECONDS = 30
_WATCHED_EVERY, _WATCHED_IMAGES = 250, 480  # steps, images


def begin(recipe: Recipe, device: str) -> Model:
    """The model of a recipe before its first step, in training mode."""
    torch.manual_seed(STREAMS[recipe.streams].weights(recipe.seed))
    net = ARCHITECTURES[recipe.arch]().to(device)
    if recipe.start:
        net.load_state_dict(load(recipe.start, device).net.state_dict())
    if recipe.channels_last:
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if not recipe.fused_attention:
        for part in net.modules():
            if hasattr(part, "fused_attn"):
                part.fused_attn = False  # type: ignore[assignment]
    return Model(
        recipe.name,
        net.train(),
        recipe.group,
        recipe.classes,
        "",
        recipe.config,
        seed=recipe.seed,
        precision=recipe.precision,
    )


def untrained(net: Model) -> Model:
    """The same architecture at random initialisation: a sceptic's control.

    Of a zoo's model the very weights that its training began from; without positions if it has
    none.
    """
    if net.name in recipes():
        fresh: Any = begin(recipes()[net.name], net.device).net
    else:
        torch.manual_seed(int(generator("weights", net.seed).integers(2**31)))
        fresh = timm.create_model(net.net.pretrained_cfg["architecture"])
        if not getattr(net.net, "pos_embed", torch.ones(1)).any():
            fresh.pos_embed.data.zero_()
        fresh = fresh.to(net.device)
    name = f"{net.name}, untrained"
    return replace(net, net=ready(fresh), name=name, weights=fingerprint(fresh))


@torch.no_grad()
def answers(model: Model, source: Source, split: str, count: int) -> tuple[Tensor, Tensor]:
    """What a model answers on a split's first `count` images, in float32, and their labels."""
    exact = replace(model, precision="float32")
    was_training = model.net.training
    model.net.eval()
    given, right = [], []
    for pictures, labels in source.shown(split, count):
        given.append(exact.logits(pictures.to(model.device).float() / 255).argmax(1).cpu())
        right.append(labels)
    model.net.train(was_training)
    return torch.cat(given), torch.cat(right)


def accuracy(model: Model, source: Source, split: str, count: int) -> float:
    """The share of a split's first `count` images that a model classifies rightly, in float32."""
    given, right = answers(model, source, split, count)
    return float((given == right).double().mean())


def _objective(recipe: Recipe, origins: dict[str, Model]) -> Callable[[Model, Batch], Tensor]:
    """The recipe's objective with its settings; models named there come loaded."""
    ((name, settings),) = recipe.objective.items()
    named = {k: origins[v] if k == "teacher" else v for k, v in settings.items()}
    return partial(OBJECTIVES[name], **named)


def train(recipe: Recipe, work: Path, stop_after: int = 0) -> dict[str, Any]:
    """Train one model and return its record for the index, with its curve.

    work: folder for rendered pictures, checkpoints and the finished weights. A checkpoint of the
    same recipe found there is taken up; the result is the same as that of an unbroken run.
    stop_after: leave after so many steps, as a kill would (for tests).

    Raises DataError for images, ModelError for a teacher or a start that cannot be had.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    source = SOURCES[recipe.images]
    origins = {name: load(name, device) for name in recipe.learns_from}
    stamp = digest(recipe.digest, source.fingerprint(), *(m.weights for m in origins.values()))
    checkpoint_file = work / f"{recipe.name}.checkpoint.pt"
    if done := _finished(recipe, work, stamp):
        return kept_again(recipe, done, work, work)

    pictures, labels = source.learned(recipe.image_count, work)
    model = begin(recipe, device)
    optimiser = torch.optim.AdamW(
        model.net.parameters(),
        lr=recipe.learning_rate,
        betas=recipe.betas,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    objective = _objective(recipe, origins)
    step, curve, seconds, stream = 0, [], 0.0, None
    if saved := _broken_off(checkpoint_file, stamp, device):
        model.net.load_state_dict(saved["net"])
        optimiser.load_state_dict(saved["optimiser"])
        step, curve, seconds = saved["step"], saved["curve"], saved["seconds"]
        stream = saved["stream"].cpu()

    started = saved_at = time.monotonic()
    bar = tqdm(
        total=recipe.steps * recipe.batch,
        initial=step * recipe.batch,
        desc=recipe.name,
        unit="image",
    )
    while step < recipe.steps:
        epoch, place = divmod(step, recipe.per_epoch)
        if place == 0 or stream is not None:
            rng = epoch_generator(recipe.seed, epoch)
            order = STREAMS[recipe.streams].order(recipe.seed, epoch, len(labels), rng)
            if place and stream is not None:
                rng.set_state(stream)
            stream = None
        chosen = order[place * recipe.batch : (place + 1) * recipe.batch]
        pixels = pictures[chosen].float() / 255
        batch = Batch(pixels, labels[chosen], chosen, recipe.seed, epoch, step, rng)
        for name, settings in recipe.augmentation.items():
            batch = AUGMENTATIONS[name](batch, **settings)
        rate = SCHEDULES[recipe.schedule](step, recipe.steps, recipe.warm_up)
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * rate
        loss = objective(model, batch.to(device))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.net.parameters(), recipe.gradient_norm)
        optimiser.step()
        step += 1
        bar.update(recipe.batch)
        if step % _WATCHED_EVERY == 0 or step == recipe.steps:
            score = accuracy(model, source, source.watched, min(_WATCHED_IMAGES, source.tested))
            shown = {"images": step * recipe.batch, "loss": round(loss.item(), 4)}
            curve.append({**shown, "accuracy": score})
            bar.set_postfix({"loss": f"{loss.item():.3f}", source.watched: f"{score:.3f}"})
        if time.monotonic() - saved_at > _CHECKPOINT_SECONDS or step == stop_after:
            saved_at = time.monotonic()
            kept = {
                "stamp": stamp,
                "net": model.net.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": step,
                "curve": curve,
                "seconds": seconds + saved_at - started,
                "stream": rng.get_state(),
            }
            _keep(kept, checkpoint_file)
        if step == stop_after:
            return {}
    bar.close()
    seconds += time.monotonic() - started
    record = finish(recipe, model, work, stamp=stamp, seconds=round(seconds), curve=curve)
    checkpoint_file.unlink(missing_ok=True)
    return record


_ENTRIES = {"stamp", "net", "optimiser", "step", "curve", "seconds", "stream"}  # of a checkpoint


def _keep(state: dict[str, Any], checkpoint: Path) -> None:
    """Write a checkpoint with the hash of its bytes behind them: torch notices no flipped bit."""
    store = io.BytesIO()
    torch.save(state, store)
    content = store.getvalue()
    with whole(checkpoint, lasting=True) as part:
        part.write_bytes(content + hashlib.sha256(content).digest())


def _broken_off(checkpoint: Path, stamp: str, device: str) -> dict[str, Any] | None:
    """The checkpoint of a training of this very stamp; None if there is none, or a damaged one."""
    if not checkpoint.exists():
        return None
    try:
        stored = checkpoint.read_bytes()
        content, seal = stored[:-32], stored[-32:]
        if hashlib.sha256(content).digest() != seal:
            raise ValueError("its bytes have another hash")
        saved = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        if saved["stamp"] != stamp:
            return None
        if absent := sorted(_ENTRIES - saved.keys()):
            raise ValueError(f"it has no {', '.join(absent)}")
        return saved
    except Exception as error:  # torch raises all sorts at what is no checkpoint
        if checkpoint.is_dir():  # in whose place none could be written
            shutil.rmtree(checkpoint)
        print(f"{checkpoint} is damaged ({error}); training begins anew", file=sys.stderr)
        return None


def _finished(recipe: Recipe, work: Path, stamp: str) -> dict[str, Any] | None:
    """The record of a training that is finished and of this very stamp; None if there is none."""
    record_file, file = (work / f"{recipe.name}.{end}" for end in ("json", "safetensors"))
    if not (record_file.exists() and file.exists()):
        return None
    try:
        record = read_json(record_file)
        kept = is_whole(record), record["stamp"], record["sha256"]
    except (AttributeError, FileError, KeyError, TypeError):  # a damaged one: trained again
        return None
    record.pop("seal", None)
    return record if kept == (True, stamp, sha256(file)) else None


def finish(recipe: Recipe, model: Model, work: Path, **facts: Any) -> dict[str, Any]:
    """Write a trained network's weights in the recipe's bits, measure it, and return its record.

    What is measured is what is shipped: the weights after rounding. facts: more for the record.
    """
    source, path = SOURCES[recipe.images], work / f"{recipe.name}.safetensors"
    kept = weights.keep(model.net.state_dict(), recipe.bits)
    with whole(path, lasting=True) as part:
        save_file(kept, part)
    model.net.load_state_dict(weights.unpack(kept))
    given, right = answers(model, source, "test", source.tested)
    record = {
        "arch": recipe.arch,
        "group": recipe.group,
        "seed": recipe.seed,
        "recipe": recipe.digest,
        "file": f"{recipe.name}.safetensors",
        "sha256": sha256(path),
        "parameters": sum(p.numel() for p in model.net.parameters()),
        "accuracy": float((given == right).double().mean()),
        "test_images": source.tested,
        "device": model.device,
        "torch": torch.__version__,
        **facts,
    }
    if not recipe.images.startswith("stimuli/"):  # which anybody can render and ask again
        record["answers"] = {"given": digits(given), "right": digits(right)}
    write_json(path.with_suffix(".json"), sealed(record), lasting=True)
    return record


def kept_again(recipe: Recipe, record: dict[str, Any], place: Path, work: Path) -> dict[str, Any]:
    """The record of finished weights in the bits that the recipe names, written if they are not.

    record: of the weights as they lie in the folder `place`. Raises RecipeError for weights of
    another recipe, and for those that are kept in fewer bits.
    """
    kept = load_file(place / record["file"])
    if (were := weights.bits(kept)) == recipe.bits:
        return record
    if record["recipe"] != recipe.digest:
        raise RecipeError(f"recipe {recipe.name}: its weights are of another; train them again")
    if were < recipe.bits:
        raise RecipeError(f"recipe {recipe.name}: bits: of {were} no {recipe.bits} can be made")
    model = begin(recipe, "cpu")
    model.net.load_state_dict(weights.unpack(kept))
    of_training = ("stamp", "seconds", "curve", "device", "torch")
    facts = {name: record[name] for name in of_training if name in record}
    return finish(recipe, model, work, **facts)


def digits(answers: Tensor) -> str:
    """Answers of ten classes as text, a digit an image.

    >>> digits(torch.tensor([3, 0, 9]))
    '309'
    """
    return "".join(map(str, answers.tolist()))


def chosen(wanted: list[str]) -> list[Recipe]:
    """The recipes of some names or patterns of names; those of the rendered zoo if there is none.

    Raises RecipeError for one that matches no recipe.
    """
    found: dict[str, Recipe] = {}
    for pattern in wanted or ["mini/*"]:
        names = fnmatch.filter(recipes(), pattern)
        if not names:
            raise RecipeError(f"unknown model {pattern!r}{nearest(pattern, list(recipes()))}")
        found |= {name: recipes()[name] for name in names}
    return list(found.values())


def check(wanted: list[str]) -> Iterator[tuple[str, float, float, int]]:
    """Finished models asked again on all their test images.

    Yields name, accuracy stated, accuracy measured, and how many answers are not the kept ones.

    wanted: names or patterns, all that are trained if empty. Raises as `chosen` does, and DataError
    where the images are not here.
    """
    for recipe in chosen(wanted):
        stated = zoo().get(recipe.name)
        if stated is not None:
            source = SOURCES[recipe.images]
            model = load(recipe.name, "cpu")
            given, right = answers(model, source, "test", stated["test_images"])
            measured = float((given == right).double().mean())
            kept = index.answers().get(recipe.name, digits(given))
            other = sum(a != b for a, b in zip(kept, digits(given), strict=True))
            yield recipe.name, stated["accuracy"], measured, other


def keep(wanted: list[str], work: Path) -> Iterator[tuple[str, float, float]]:
    """Publish finished weights again that are kept in more bits than their recipes name.

    Yields name, accuracy before, accuracy now. wanted: as of `check`. Raises as `chosen` and
    `kept_again` do, ModelError for weights that are damaged, and DataError where the images are not
    here.
    """
    for recipe in chosen(wanted):
        if (stated := zoo().get(recipe.name)) is not None:
            load(recipe.name, "cpu")
            told = stated | {"curve": index.curves()[recipe.name]}
            record = kept_again(recipe, told, zoos.ZOO, work)
            if record is not told:
                index.publish(recipe, record, work)
                yield recipe.name, stated["accuracy"], record["accuracy"]


def train_all(wanted: list[str], work: Path, fresh: bool = False) -> None:
    """Train and publish models by their recipes (see `chosen`), taking up what is unfinished.

    Raises RecipeError for a name that no recipe has, and as `train` does.
    """
    for recipe in chosen(wanted):
        if fresh:
            for old in work.glob(f"{recipe.name}.*"):
                old.unlink()
        index.publish(recipe, train(recipe, work), work)
