"""The engine: models x images x conditions -> trials.

An image is decoded once; all conditions of all models are computed from it while the next batch is
being decoded. Trials go to the store in pieces of 256 images, so memory does not grow with the
data and a killed run goes on from its last piece. What the store holds already is read: a new
condition or model is measured alone. Where a Dask cluster is at hand (see `vitlab.trials.dask`) its
workers do the pieces, a model at a time.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from vitlab import keys
from vitlab.conditions import Batch, Condition
from vitlab.conditions.condition import check_pixels
from vitlab.images.imagenet import decision_matrix
from vitlab.images.images import Images
from vitlab.models.model import Model, best_device
from vitlab.progress import bar as progress_bar
from vitlab.trials import dask, store

VALUES = {"prediction": np.int16, "confidence": np.float32, "p_label": np.float32}
Column = tuple[int, int]  # places of a model and a condition
Answers = dict[str, np.ndarray]  # VALUES, each [columns, images] or [models, conditions, images]


class EvaluationError(RuntimeError):
    """A run that must not go on: a condition gave no pixels in [0, 1], a model returned NaN or
    infinity, or one image alone is too much for the memory."""


def run(
    models: Sequence[Model],
    images: Images,
    conditions: Sequence[Condition],
    batch_size: int = 64,
    workers: int = 1,
    order: Sequence[int] | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Show every image under every condition to every model and return the trials.

    batch_size, workers (decoding threads), order (a permutation: in which images are worked on):
        have no influence on pixels or predictions; confidences agree within 1e-5. A batch that
        does not fit into the memory is halved, and the run goes on with the smaller size.
    progress: show a bar; if None, where standard error is a terminal.

    Returns a row per model x condition x level x draw x image, ordered so: ``image`` (place in the
    image set), ``label``, ``prediction`` (indices into ``images.categories``), ``confidence`` (of
    the prediction) and ``p_label`` (probability of the label's category).

    Raises ValueError or DataError before any compute where a condition, model and image set do not
    go together, EvaluationError for a condition that gives no pixels and a non-finite output,
    StoreError for a disk that cannot be written.
    """
    order = range(len(images)) if order is None else order
    _check(models, images, conditions, batch_size, workers, order)
    client = dask.client()
    identities = [model.identity for model in models]  # each is told from all weights
    series = [
        _Series(m, chosen, _entry(model, identities[m], images, [conditions[c] for c in chosen]))
        for m, model in enumerate(models)
        for chosen in _by_name(conditions)
    ]
    pieces = store.pieces(len(images))
    blocks: list[Answers] = []
    missing: dict[int, list[_Series]] = {}
    for p, members in enumerate(pieces):
        shape = len(models), len(conditions), len(members)
        blocks.append({name: np.zeros(shape, kind) for name, kind in VALUES.items()})
        about = models, images, conditions, members
        if absent := [one for one in series if not one.read(p, *about, blocks[p])]:
            missing[p] = absent
    places: dict[int, list[int]] = {p: [] for p in missing}
    for i in order:
        if i // store.PIECE in missing:
            places[i // store.PIECE].append(i)
    todo = [
        _Job(p, places[p], [(one.model, c) for one in absent for c in one.conditions])
        for p, absent in missing.items()
    ]
    total = sum(len(job.places) for job in todo)
    what = f"{len(models)} models x {len(conditions)} conditions"
    with progress_bar(total, what, progress) as bar:
        arguments = models, images, conditions, todo, batch_size, workers, bar
        for job, answers in _here(*arguments) if client is None else _there(client, *arguments):
            in_order = np.argsort(job.places)
            m, c = np.array(job.columns).T
            for name, block in blocks[job.piece].items():
                block[m, c] = answers[name][:, in_order]
            for one in missing[job.piece]:
                rows = one.rows(models, images, conditions, pieces[job.piece], blocks[job.piece])
                one.entry.put_rows(job.piece, rows)
    tables = [
        _table(models, images, conditions, members, block)
        for members, block in zip(pieces, blocks, strict=True)
    ]
    table = pd.concat(tables, ignore_index=True)
    for column in ("model", "condition"):  # concatenation drops the categories
        table[column] = table[column].astype(tables[0][column].dtype)
    return table


def batch_of(images: Images, model: Model, chosen: Sequence[int]) -> Batch:
    """Some images of a set as a model is shown them, before any condition."""
    pixels = torch.stack([model.pixels(images.picture(i)) for i in chosen]).float() / 255
    masks = torch.from_numpy(np.stack([images.mask(i) for i in chosen])) if images.mask else None
    return Batch(pixels, tuple(images.table["id"].iloc[list(chosen)]), torch.tensor(chosen), masks)


def _check(
    models: Sequence[Model],
    images: Images,
    conditions: Sequence[Condition],
    batch_size: int,
    workers: int,
    order: Sequence[int],
) -> None:
    if not models or not conditions or not len(images):
        counts = f"{len(models)} models, {len(conditions)} conditions, {len(images)} images"
        raise ValueError(f"nothing to do: {counts}")
    if batch_size < 1 or workers < 1:
        raise ValueError(f"batch_size and workers must be >= 1, got {batch_size} and {workers}")
    if sorted(order) != list(range(len(images))):
        raise ValueError(f"order must hold the place of each of the {len(images)} images once")
    _once("models", [model.name for model in models])
    _once("conditions", [(c.name, c.level, c.draw) for c in conditions])
    for model in models:
        decision_matrix(model.classes, images.classes)
        for condition in conditions:
            condition.check(model.size)


def _once(what: str, names: list) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two {what} are called {name}")


# --- what is kept ---------------------------------------------------------------------------------


def _by_name(conditions: Sequence[Condition]) -> list[list[int]]:
    """Places of the conditions, those of one name (levels and draws) together."""
    found: dict[str, list[int]] = {}
    for c, condition in enumerate(conditions):
        found.setdefault(condition.name, []).append(c)
    return list(found.values())


def _entry(
    model: Model, identity: list, images: Images, conditions: Sequence[Condition]
) -> store.Entry:
    """Where one model's trials under a condition are kept."""
    shown = [[c.name, c.level, c.draw, c.key, keys.value(c.apply)] for c in conditions]
    device = torch.device(model.device).type
    of = [keys.house(__name__), identity, device, images.fingerprint, len(images), shown]
    about = {"what": conditions[0].name, "model": model.name}
    about |= {"images": f"{len(images)} of {images.name}", "fingerprint": images.fingerprint}
    return store.Entry(of, about)


@dataclass(frozen=True)
class _Series:
    """A model under a condition with its levels and draws: what is kept together."""

    model: int
    conditions: list[int]
    entry: store.Entry

    def read(
        self,
        piece: int,
        models: Sequence[Model],
        images: Images,
        conditions: Sequence[Condition],
        members: range,
        block: Answers,
    ) -> bool:
        """Fill in a piece from the store; whether it was there, a row per image and condition."""
        empty = self.rows(models, images, conditions, members, block)
        asked = empty.drop(columns=list(VALUES))
        rows = self.entry.rows(piece, lambda kept: _same(kept, asked))
        if rows is None:
            return False
        for name, values in block.items():
            found = rows[name].to_numpy().reshape(len(self.conditions), -1)
            values[self.model, self.conditions] = found
        return True

    def rows(
        self,
        models: Sequence[Model],
        images: Images,
        conditions: Sequence[Condition],
        members: range,
        block: Answers,
    ) -> pd.DataFrame:
        mine = {k: values[self.model, self.conditions][None] for k, values in block.items()}
        shown = [conditions[c] for c in self.conditions]
        return _table([models[self.model]], images, shown, members, mine)


def _same(kept: pd.DataFrame, asked: pd.DataFrame) -> bool:
    """Whether kept rows are of the models, conditions and images asked for, in that order."""
    whole = len(kept) == len(asked) and {*asked, *VALUES} <= {*kept}
    return whole and all(
        np.array_equal(kept[name].astype(asked[name].dtype), asked[name]) for name in asked
    )


def _table(
    models: Sequence[Model],
    images: Images,
    conditions: Sequence[Condition],
    members: range,
    block: Answers,
) -> pd.DataFrame:
    """Trials as rows, of answers [models, conditions, images]."""
    shape = len(models), len(conditions), len(members)

    def spread(values: Any, axis: int, kind: type) -> np.ndarray:
        at = [1, 1, 1]
        at[axis] = -1
        return np.broadcast_to(np.asarray(values, kind).reshape(at), shape).reshape(-1)

    def named(names: list[str], axis: int) -> Any:
        known = list(dict.fromkeys(names))
        codes = spread([known.index(name) for name in names], axis, np.int16)
        return pd.Categorical.from_codes(codes, categories=pd.Index(known))

    labels = images.table["label"].iloc[list(members)]
    return pd.DataFrame(
        {
            "model": named([model.name for model in models], 0),
            "condition": named([c.name for c in conditions], 1),
            "level": spread([c.level for c in conditions], 1, np.float32),
            "draw": spread([c.draw for c in conditions], 1, np.int16),
            "image": spread(members, 2, np.int32),
            "label": spread(labels, 2, np.int16),
            **{name: values.reshape(-1) for name, values in block.items()},
        }
    )


# --- the work -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """What is to be measured of a piece: its images, in order, and the columns that it lacks."""

    piece: int
    places: list[int]
    columns: list[Column]


def _here(
    models: Sequence[Model],
    images: Images,
    conditions: Sequence[Condition],
    todo: Sequence[_Job],
    batch_size: int,
    workers: int,
    bar: tqdm,
) -> Iterator[tuple[_Job, Answers]]:
    """Do the jobs on this machine; yields the answers of each, in the order of its places."""
    batches = [
        (job, job.places[first : first + batch_size])
        for job in todo
        for first in range(0, len(job.places), batch_size)
    ]
    loading = _load(models, images, [chosen for _, chosen in batches], workers)
    collected: list[Answers] = []
    at_once = batch_size
    checked: set[tuple] = set()  # which conditions gave pixels, at which geometry
    for (job, chosen), loaded in zip(batches, loading, strict=True):
        parts, at_once = _within_memory(
            models, images, conditions, job.columns, chosen, loaded, at_once, checked
        )
        collected += parts
        bar.update(len(chosen))
        if chosen[-1] == job.places[-1]:
            yield job, {k: np.concatenate([part[k] for part in collected], 1) for k in VALUES}
            collected = []


def _there(
    client: dask.Client,
    models: Sequence[Model],
    images: Images,
    conditions: Sequence[Condition],
    todo: Sequence[_Job],
    batch_size: int,
    workers: int,
    bar: tqdm,
) -> Iterator[tuple[_Job, Answers]]:
    """Do the jobs on a cluster, a model at a time; yields the answers of each when it is whole."""
    shared = {"images": images, "conditions": list(conditions)}
    shared |= {f"model {m}": model.to("cpu") for m, model in enumerate(models)}
    jobs = {}
    for j, job in enumerate(todo):
        for m in dict.fromkeys(m for m, _ in job.columns):
            mine = _Job(job.piece, job.places, [(0, c) for k, c in job.columns if k == m])
            jobs[j, m] = (f"model {m}", "images", "conditions", mine, batch_size, workers)
    finished: dict[int, dict[int, Answers]] = {j: {} for j in range(len(todo))}
    for (j, m), answers in dask.spread(client, _shard, jobs, shared):
        finished[j][m] = answers
        wanted = list(dict.fromkeys(m for m, _ in todo[j].columns))
        bar.update(len(todo[j].places) / len(wanted))
        if len(finished[j]) == len(wanted):  # the columns stand model by model
            parts = finished.pop(j)
            yield todo[j], {k: np.concatenate([parts[m][k] for m in wanted]) for k in VALUES}


def _shard(
    model: Model,
    images: Images,
    conditions: Sequence[Condition],
    job: _Job,
    batch_size: int,
    workers: int,
) -> Answers:
    """A worker's job: one model, some conditions, one piece of the images."""
    dask.keep_memory()
    bar = tqdm(disable=True)
    model = model.to(best_device())
    [(_, answers)] = _here([model], images, conditions, [job], batch_size, workers, bar)
    return answers


_Loaded = tuple[dict[tuple, Tensor], Tensor | None]


def _load(
    models: Sequence[Model], images: Images, batches: Sequence[list[int]], workers: int
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
            for chosen in batches:
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
    columns: Sequence[Column],
    chosen: list[int],
    loaded: _Loaded,
    at_once: int,
    checked: set[tuple],
) -> tuple[list[Answers], int]:
    """The answers about one batch, `at_once` images at a time or fewer; and how many went."""
    parts: list[Answers] = []
    done = 0
    while done < len(chosen):
        part = slice(done, done + at_once)
        pixels, masks = loaded
        some = {k: v[part] for k, v in pixels.items()}, None if masks is None else masks[part]
        try:
            parts.append(_answers(models, images, conditions, columns, chosen[part], some, checked))
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


def _check_shown(condition: Condition, shown: Any, pixels: Tensor) -> None:
    """Raises EvaluationError for what a condition gives, if it is no pixels like those it got."""
    got = f"{shown.dtype} {[*shown.shape]}" if isinstance(shown, Tensor) else type(shown).__name__
    wrong = got if got != f"torch.float32 {[*pixels.shape]}" else ""
    if not wrong:
        try:
            check_pixels(shown)
        except ValueError as error:
            wrong = str(error)
    if wrong:
        raise EvaluationError(
            f"{condition.name} at level {condition.level} must give float32 {[*pixels.shape]} in "
            f"[0, 1]: {wrong}"
        )


@torch.inference_mode()
def _answers(
    models: Sequence[Model],
    images: Images,
    conditions: Sequence[Condition],
    columns: Sequence[Column],
    chosen: list[int],
    loaded: _Loaded,
    checked: set[tuple],
) -> Answers:
    """The answers about one batch: VALUES, each [columns, B]."""
    pixels, masks = loaded
    ids = tuple(images.table["id"].iloc[chosen])
    index = torch.tensor(chosen)
    labels = torch.tensor(images.table["label"].iloc[chosen].to_numpy())
    # A model's pixels are changed where the model is: decoded ones are small, 8 bit.
    devices = {model.geometry: model.device for model in models}
    kinds = {
        kind: Batch(stack.to(devices[kind]).float() / 255, ids, index, masks)
        for kind, stack in pixels.items()
    }
    ask = {m: models[m].probabilities(images) for m, _ in columns}
    found: dict[Column, tuple[Tensor, Tensor, Tensor]] = {}
    for c in dict.fromkeys(c for _, c in columns):
        asked = [m for m, of in columns if of == c]
        # Models that agree on size, crop and interpolation are shown the very same pixels.
        geometries = dict.fromkeys(models[m].geometry for m in asked)
        shown = {kind: conditions[c].apply(kinds[kind]) for kind in geometries}
        for kind in {*geometries} - {g for k, g in checked if k == c}:
            _check_shown(conditions[c], shown[kind], kinds[kind].pixels)
            checked.add((c, kind))
        for m in asked:
            probabilities = ask[m](shown[models[m].geometry])
            confidence, prediction = probabilities.max(1)
            truth = labels.to(probabilities.device)[:, None]
            found[m, c] = prediction, confidence, probabilities.gather(1, truth)[:, 0]
    answers = {
        name: torch.stack([found[column][k] for column in columns]).cpu().numpy().astype(kind)
        for k, (name, kind) in enumerate(VALUES.items())
    }
    if not np.isfinite(answers["confidence"]).all():
        k, i = np.argwhere(~np.isfinite(answers["confidence"]))[0]
        model, condition = models[columns[k][0]], conditions[columns[k][1]]
        raise EvaluationError(
            f"{model.name} returned NaN or infinity for image {ids[i]} under "
            f"{condition.name} at level {condition.level}"
        )
    return answers
