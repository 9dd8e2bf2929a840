"""The engine: models x images x conditions -> trials.

An image is decoded once; all conditions of all models are computed from it while the next batch is
being decoded. Trials go to Parquet in pieces of 256 images, each written whole, so memory does not
grow with the data and a killed run goes on from its last piece. Where a Dask cluster is at hand
(see `vitlab.trials.dask`) its workers do the pieces, a model at a time.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from tqdm.auto import tqdm

from vitlab.conditions import Batch, Condition, patchdrop
from vitlab.files import digest, whole, write_json
from vitlab.images.load import Images, decision_matrix
from vitlab.models.model import Model, best_device
from vitlab.trials import dask as cluster

VALUES = ("prediction", "confidence", "p_label")
PIECE = 256  # images in a piece; never the batch size, so that another batch size can resume


class EvaluationError(RuntimeError):
    """A run that must not go on: a model gave a number that is none, results cannot be written,
    one image alone is too much for the memory."""


def run(
    models: Sequence[Model],
    images: Images,
    conditions: Sequence[Condition],
    out: Path | str,
    batch_size: int = 64,
    workers: int = 1,
    order: Sequence[int] | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Show every image under every condition to every model and return the trials.

    out: folder for the trials of this and other runs; a run is kept in a subfolder named by what it
        depends on (models' weights, images, conditions), so an equal run is not repeated.
    batch_size, workers (decoding threads), order (in which images are worked on): have no influence
        on pixels or predictions; confidences agree within 1e-5. A batch that does not fit into the
        memory is halved, and the run goes on with the smaller size.
    progress: show a bar; if None, where standard error is a terminal.

    Returns a row per model x condition x level x draw x image, ordered so: ``image`` (place in the
    image set), ``label``, ``prediction`` (indices into ``images.categories``), ``confidence`` (of
    the prediction) and ``p_label`` (probability of the label's category).

    Raises ValueError or DataError before any compute where a condition, model and image set do not
    go together, EvaluationError for a non-finite output or a disk that cannot be written.
    """
    _check(models, images, conditions, batch_size, workers)
    client = cluster.client()
    folder = Path(out) / _key(models, images, conditions)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "run.json").exists():
            write_json(folder / "run.json", _description(models, images, conditions))
    except OSError as error:
        raise EvaluationError(f"trials cannot be written to {folder}: {error}") from None

    todo: dict[int, list[int]] = {}
    for i in range(len(images)) if order is None else order:
        todo.setdefault(i // PIECE, []).append(i)
    todo = {piece: chosen for piece, chosen in todo.items() if not _path(folder, piece).exists()}
    bar = tqdm(
        total=sum(len(chosen) for chosen in todo.values()),
        desc=f"{len(models)} models x {len(conditions)} conditions",
        unit="image",
        disable=None if progress is None else not progress,
    )
    arguments = models, images, conditions, todo, batch_size, workers, bar
    for piece, trials in _here(*arguments) if client is None else _there(client, *arguments):
        _write(folder, piece, trials, images, models, conditions)
    bar.close()
    return read(folder, len(images))


Trials = dict[str, np.ndarray]


def _here(
    models: Sequence[Model],
    images: Images,
    conditions: Sequence[Condition],
    todo: dict[int, list[int]],
    batch_size: int,
    workers: int,
    bar: tqdm,
) -> Iterator[tuple[int, Trials]]:
    """Do the pieces on this machine; yields each when it is whole."""
    batches = [
        (piece, chosen[first : first + batch_size])
        for piece, chosen in todo.items()
        for first in range(0, len(chosen), batch_size)
    ]
    collected: list[Trials] = []
    at_once = batch_size
    for (piece, chosen), loaded in zip(
        batches, _load(models, images, batches, workers), strict=True
    ):
        parts, at_once = _within_memory(models, images, conditions, chosen, loaded, at_once)
        collected += parts
        bar.update(len(chosen))
        if sum(len(part["image"]) for part in collected) == len(todo[piece]):
            yield piece, {k: np.concatenate([part[k] for part in collected]) for k in collected[0]}
            collected = []


def _there(
    client: cluster.Client,
    models: Sequence[Model],
    images: Images,
    conditions: Sequence[Condition],
    todo: dict[int, list[int]],
    batch_size: int,
    workers: int,
    bar: tqdm,
) -> Iterator[tuple[int, Trials]]:
    """Do the pieces on a cluster, a job per model and piece; yields each when it is whole."""
    shared = {"images": images, "conditions": list(conditions)}
    shared |= {f"model {m}": model.to("cpu") for m, model in enumerate(models)}
    jobs = {
        (piece, m): (f"model {m}", "images", "conditions", chosen, batch_size, workers)
        for piece, chosen in todo.items()
        for m in range(len(models))
    }
    finished: dict[int, dict[int, Trials]] = {}
    for (piece, m), trials in cluster.spread(client, _shard, jobs, shared):
        finished.setdefault(piece, {})[m] = trials
        bar.update(len(todo[piece]) / len(models))
        if len(finished[piece]) == len(models):
            parts = [part for _, part in sorted(finished.pop(piece).items())]
            whole_piece = {k: np.concatenate([part[k] for part in parts], 1) for k in VALUES}
            yield piece, {"image": parts[0]["image"], **whole_piece}


def _shard(
    model: Model,
    images: Images,
    conditions: Sequence[Condition],
    chosen: list[int],
    batch_size: int,
    workers: int,
) -> Trials:
    """A worker's job: one model, one piece of the images."""
    cluster.keep_memory()
    bar = tqdm(disable=True)
    model = model.to(best_device())
    [(_, trials)] = _here([model], images, conditions, {0: chosen}, batch_size, workers, bar)
    return trials


def read(folder: Path | str, n_images: int | None = None) -> pd.DataFrame:
    """The trials of a finished run's folder.

    Raises EvaluationError where a piece is missing.
    """
    pieces = sorted(Path(folder).glob("piece-*.parquet"))
    if n_images is not None and len(pieces) < math.ceil(n_images / PIECE):
        raise EvaluationError(
            f"{folder} holds {len(pieces)} pieces of {math.ceil(n_images / PIECE)}"
        )
    parts = [pd.read_parquet(piece) for piece in pieces]
    trials = pd.concat(parts, ignore_index=True)
    for column in ("model", "condition"):  # concatenation drops the categories
        trials[column] = trials[column].astype(parts[0][column].dtype)
    return trials


def batch_of(images: Images, model: Model, chosen: Sequence[int]) -> Batch:
    """Some images of a set as a model is shown them, before any condition."""
    pixels = torch.stack([model.pixels(images.picture(i)) for i in chosen]).float() / 255
    masks = torch.from_numpy(np.stack([images.mask(i) for i in chosen])) if images.mask else None
    return Batch(pixels, tuple(images.table["id"].iloc[list(chosen)]), torch.tensor(chosen), masks)


TOLERANCE = 0.01  # by how much a probability may differ in a faster form of a model


@torch.inference_mode()
def faster(
    models: Sequence[Model],
    images: Images,
    sample: int = 64,
    precision: str | None = None,
    compiled: bool = True,
) -> list[Model]:
    """The models in 16 bit and compiled, where that leaves what they say as it was.

    Each form is tried on the first `sample` images, as they are and with half of their cells blank:
    it is taken if no probability differs by more than `TOLERANCE` and no prediction changes but
    between classes that are closer than that. Otherwise the model stays as it was. Prints what was
    taken. A prediction can still change on an image outside of the sample, if its two best
    classes are as close.

    precision: "float16" or "bfloat16"; float16 on a GPU and none elsewhere if None.
    """
    chosen = []
    for model in models:
        batch = batch_of(images, model, range(min(sample, len(images))))
        grid = (model.size // 4, model.size // 4)
        half = patchdrop.random([0.5], grid)[0].apply(batch) if model.size % 4 == 0 else None
        shown = torch.cat([batch.pixels, *([] if half is None else [half])])
        before = _probabilities(model, shown)
        bits = precision or ("float16" if model.device.startswith("cuda") else None)
        forms: list[tuple[str, Callable[[Model], Model]]] = []
        if bits:
            forms.append((bits, lambda m, bits=bits: replace(m, precision=bits)))  # type: ignore[misc]
        if compiled:
            forms.append(("compiled", lambda m: replace(m, net=torch.compile(m.net))))
        taken: list[str] = []
        for form, change in forms:
            try:
                candidate = change(model)
                after = _probabilities(candidate, shown)
            except Exception as error:  # no compiler, an operator without a 16 bit form...
                print(f"{model.name}: not {form}: {str(error).splitlines()[0]}")
                continue
            if _agree(before, after):
                model, taken = candidate, [*taken, form]
            else:
                print(f"{model.name}: not {form}: its predictions would change")
        print(f"{model.name}: {', '.join(taken) or 'as it was'}")
        chosen.append(model)
    return chosen


def _probabilities(model: Model, pixels: Tensor) -> Tensor:
    return torch.cat([model.logits(part).softmax(1).cpu() for part in pixels.split(32)])


def _agree(before: Tensor, after: Tensor) -> bool:
    if not torch.isfinite(after).all() or (before - after).abs().max() > TOLERANCE:
        return False
    rows = torch.arange(len(before))
    lost = before.max(1).values - before[rows, after.argmax(1)]  # 0 where the prediction stays
    return bool((lost <= TOLERANCE).all())


def _check(
    models: Sequence[Model],
    images: Images,
    conditions: Sequence[Condition],
    batch_size: int,
    workers: int,
) -> None:
    if not models or not conditions:
        raise ValueError(f"nothing to do: {len(models)} models, {len(conditions)} conditions")
    if batch_size < 1 or workers < 1:
        raise ValueError(f"batch_size and workers must be >= 1, got {batch_size} and {workers}")
    columns = [(c.name, c.level, c.draw) for c in conditions]
    for column in columns:
        if columns.count(column) > 1:
            raise ValueError(f"two conditions are called {column}")
    for model in models:
        decision_matrix(model.classes, images.classes)
        for condition in conditions:
            condition.check(model.size)


def _key(models: Sequence[Model], images: Images, conditions: Sequence[Condition]) -> str:
    description = _description(models, images, conditions)
    return digest(json.dumps(description, sort_keys=True), torch.__version__)


def _description(
    models: Sequence[Model], images: Images, conditions: Sequence[Condition]
) -> dict[str, object]:
    return {
        "models": [m.identity for m in models],
        "images": [images.name, images.fingerprint, len(images)],
        "conditions": [[c.name, c.level, c.draw, c.key] for c in conditions],
    }


def _path(folder: Path, piece: int) -> Path:
    return folder / f"piece-{piece:06d}.parquet"


_Loaded = tuple[dict[tuple, Tensor], Tensor | None]


def _load(
    models: Sequence[Model], images: Images, batches: list[tuple[int, list[int]]], workers: int
) -> Iterator[_Loaded]:
    """Decode each batch in background threads, one batch ahead: pixels per geometry, masks."""
    kinds = {model.geometry: model for model in models}

    def one(i: int) -> tuple[list[Tensor], np.ndarray | None]:
        picture = images.picture(i)
        return [m.pixels(picture) for m in kinds.values()], images.mask(i) if images.mask else None

    def gather(futures: list[Future]) -> _Loaded:
        results = [future.result() for future in futures]
        pixels = {kind: torch.stack([r[0][k] for r in results]) for k, kind in enumerate(kinds)}
        masks = [r[1] for r in results]
        return pixels, torch.from_numpy(np.stack(masks)) if masks[0] is not None else None

    with ThreadPoolExecutor(workers) as pool:
        ahead: list[list[Future]] = []
        try:
            for _, chosen in batches:
                ahead.append([pool.submit(one, i) for i in chosen])
                if len(ahead) == 2:
                    yield gather(ahead.pop(0))
            if ahead:
                yield gather(ahead.pop())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _within_memory(
    models: Sequence[Model],
    images: Images,
    conditions: Sequence[Condition],
    chosen: list[int],
    loaded: _Loaded,
    at_once: int,
) -> tuple[list[Trials], int]:
    """The trials of one batch, `at_once` images at a time or fewer; and how many went."""
    parts: list[Trials] = []
    done = 0
    while done < len(chosen):
        part = slice(done, done + at_once)
        pixels, masks = loaded
        some = {k: v[part] for k, v in pixels.items()}, None if masks is None else masks[part]
        try:
            parts.append(_trials(models, images, conditions, chosen[part], some))
            done += at_once
        except RuntimeError as error:
            if "out of memory" not in str(error) and not isinstance(error, torch.OutOfMemoryError):
                raise
            if at_once == 1:
                raise EvaluationError(
                    f"one image at a time is too much for the memory of {models[0].device}: {error}"
                ) from None
            at_once = (min(at_once, len(chosen) - done) + 1) // 2
            warnings.warn(f"out of memory: going on with {at_once} images at once", stacklevel=2)
        # Outside of `except`: the error's traceback would keep what did not fit.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return parts, at_once


@torch.inference_mode()
def _trials(
    models: Sequence[Model],
    images: Images,
    conditions: Sequence[Condition],
    chosen: list[int],
    loaded: _Loaded,
) -> Trials:
    """All trials of one batch: arrays [B, models x conditions] and the images' places [B]."""
    pixels, masks = loaded
    ids = tuple(images.table["id"].iloc[chosen])
    index = torch.tensor(chosen)
    labels = torch.tensor(images.table["label"].iloc[chosen].to_numpy())
    # A model's pixels are changed where the model is: decoded ones are small, 8 bit.
    devices = {model.geometry: model.device for model in models}
    kinds: dict[tuple, Batch] = {
        kind: Batch(stack.to(devices[kind]).float() / 255, ids, index, masks)
        for kind, stack in pixels.items()
    }
    asked = [model.probabilities(images) for model in models]
    rows: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}
    for c, condition in enumerate(conditions):
        # Models that agree on size, crop and interpolation are shown the very same pixels.
        shown = {kind: condition.apply(batch) for kind, batch in kinds.items()}
        for m, model in enumerate(models):
            probabilities = asked[m](shown[model.geometry])
            confidence, prediction = probabilities.max(1)
            truth = labels.to(probabilities.device)[:, None]
            rows[m, c] = prediction, confidence, probabilities.gather(1, truth)[:, 0]
    columns = [(m, c) for m in range(len(models)) for c in range(len(conditions))]
    predictions, confidences, p_labels = (
        torch.stack([rows[column][k] for column in columns], 1).cpu().numpy() for k in range(3)
    )
    if not np.isfinite(confidences).all():
        i, column = np.argwhere(~np.isfinite(confidences))[0]
        model, condition = models[columns[column][0]], conditions[columns[column][1]]
        raise EvaluationError(
            f"{model.name} gave a number that is none for image {ids[i]} under "
            f"{condition.name} at level {condition.level}"
        )
    return {
        "image": np.array(chosen),
        "prediction": predictions,
        "confidence": confidences,
        "p_label": p_labels,
    }


def _write(
    folder: Path,
    piece: int,
    trials: Trials,
    images: Images,
    models: Sequence[Model],
    conditions: Sequence[Condition],
) -> None:
    image = trials["image"]
    by_image = np.argsort(image)
    image = image[by_image].astype(np.int32)
    n, per_model = len(image), len(conditions)

    def column(name: str, kind: type) -> np.ndarray:
        return trials[name][by_image].T.reshape(-1).astype(kind)

    def repeated(values: list, kind: type) -> np.ndarray:
        return np.tile(np.repeat(np.array(values, kind), n), len(models))

    def named(codes: np.ndarray, names: list[str]) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int16)), names)

    condition_names = list(dict.fromkeys(c.name for c in conditions))
    label = images.table["label"].to_numpy()[image].astype(np.int16)
    table = pa.table(
        {
            "model": named(
                np.repeat(np.arange(len(models)), n * per_model), [m.name for m in models]
            ),
            "condition": named(
                repeated([condition_names.index(c.name) for c in conditions], np.int16),
                condition_names,
            ),
            "level": repeated([c.level for c in conditions], np.float32),
            "draw": repeated([c.draw for c in conditions], np.int16),
            "image": np.tile(image, len(models) * per_model),
            "label": np.tile(label, len(models) * per_model),
            "prediction": column("prediction", np.int16),
            "confidence": column("confidence", np.float32),
            "p_label": column("p_label", np.float32),
        }
    )
    try:
        with whole(_path(folder, piece)) as part:
            pq.write_table(table, part, compression="zstd")
    except OSError as error:
        raise EvaluationError(
            f"trials cannot be written to {folder}: {error}; what is there is kept, make room "
            "and run again"
        ) from None
