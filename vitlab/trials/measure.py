"""What a page measures by a function of its own: attacks, losses, features, probes.

`collect` calls ``body(net, batch)`` for every model and image and keeps what it returns, as the
engine keeps trials: under a key of everything that can change it, the function's code included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vitlab import keys
from vitlab.conditions import Batch
from vitlab.images.images import Images
from vitlab.models.model import Model
from vitlab.progress import bar as progress_bar
from vitlab.trials import store

Values = dict[Any, Tensor]  # what a page measures of a batch: key -> [B, ...]
SPEED = ("out", "device", "batch_size", "workers")  # parameters that no result depends on


def batch(net: Model, images: Images, index: Sequence[int] | Tensor) -> Batch:
    """Some images of a set as a model is shown them: pixels in [0, 1], on the model's device."""
    places = [int(i) for i in index]
    pixels = torch.stack([net.pixels(images.picture(i)) for i in places]).to(net.device)
    ids = tuple(images.table["id"].iloc[places])
    labels = images.labels[places].to(net.device)
    return Batch(pixels.float() / 255, ids, torch.tensor(places), None, labels)


def at_once(net: Model, batch_size: int) -> int:
    """How many images fit into the memory with their gradients: on a CPU, fewer large ones."""
    on_cpu = torch.device(net.device).type == "cpu"
    return max(1, batch_size * 64**2 // net.size**2 if on_cpu else batch_size)


def collect(
    body: Callable[[Model, Batch], Values],
    models: Sequence[Model],
    images: Images,
    index: Sequence[int] | Tensor | None = None,
    batch_size: int = 64,
) -> dict[tuple, Tensor]:
    """body(net, batch) of every model and image: {(model, *key): [items, ...]}, kept in the store.

    body: an item's values must not depend on its batch; a key that is no tuple becomes one.
    index: places in the set, all if None. batch_size: of 64 px images; larger ones go fewer at a
        time on a CPU.

    Models that agree on geometry share the decoded pixels. Raises StoreError where results cannot
    be written, ValueError for a body that does not give a value for each image.
    """
    index = torch.arange(len(images)) if index is None else torch.as_tensor(index)
    code = keys.function(body), keys.house(__name__)
    entries = {
        net.name: store.Entry(
            [
                *code,
                net.identity,
                torch.device(net.device).type,
                images.fingerprint,
                index.tolist(),
            ],
            {"what": body.__name__, "model": net.name, "images": f"{len(index)} of {images.name}"}
            | {"fingerprint": images.fingerprint},
        )
        for net in models
    }
    found: dict[tuple, list[Tensor]] = {}
    with progress_bar(len(index), body.__name__) as bar:

        def seen(images: int) -> None:
            bar.update(images / len(models))  # by one of the models

        for piece, places in enumerate(store.pieces(len(index))):
            chosen = index[places.start : places.stop]
            fits = partial(_of, len(places))
            kept = {name: entry.get(piece, fits) for name, entry in entries.items()}
            for one in kept.values():
                seen(len(chosen) if one is not None else 0)
            for kind in dict.fromkeys(net.geometry for net in models):
                absent = [net for net in models if net.geometry == kind and kept[net.name] is None]
                fresh = _measured(body, absent, images, chosen, batch_size, seen)
                for name, values in fresh.items():
                    entries[name].put(piece, values)
                    kept[name] = values
            for net in models:
                for key, value in kept[net.name].items():
                    found.setdefault((net.name, *key), []).append(value)
    return {name: torch.cat(parts) for name, parts in found.items()}


def _of(n: int, found: Any) -> bool:
    """Whether what was kept is values of `n` items by key."""
    return isinstance(found, dict) and all(len(values) == n for values in found.values())


def _measured(
    body: Callable[[Model, Batch], Values],
    alike: Sequence[Model],
    images: Images,
    index: Tensor,
    batch_size: int,
    seen: Callable[[int], None],
) -> dict[str, dict[tuple, Tensor]]:
    """What models of one geometry give for a piece: model's name -> key -> values.

    seen: is told how many images a model has just seen.
    """
    found: dict[str, dict[tuple, list[Tensor]]] = {net.name: {} for net in alike}
    for part in index.split(at_once(alike[0], batch_size)) if alike else []:
        shown = batch(alike[0], images, part)
        for net in alike:
            for key, values in body(net, shown).items():
                place = key if isinstance(key, tuple) else (key,)
                if len(values) != len(part):
                    raise ValueError(
                        f"{body.__name__} gives {len(values)} values of {key!r} for {len(part)} "
                        f"images of {net.name}; it has to give one for each image"
                    )
                found[net.name].setdefault(place, []).append(values.detach().cpu())
            seen(len(part))
    return {
        name: {key: torch.cat(parts) for key, parts in values.items()}
        for name, values in found.items()
    }


def keep(make: Callable[..., Any], *of: Any, also: Any = None, about: str = "") -> Any:
    """make(*of), kept in the store as long as its code and what it is made of stay.

    make: returns tensors, arrays and plain values, in dicts, lists and tuples; arrays come back as
        tensors. of: models, image sets, tensors, plain values. also: what else it depends on.
    about: for the listing.
    """
    parts = [keys.function(make), *(keys.value(one) for one in (*of, also))]
    models = [one for one in of if isinstance(one, Model)]
    said = {"what": make.__name__, "model": ", ".join(net.name for net in models), "images": about}
    entry = store.Entry(parts, said)
    found = entry.get(0, lambda kept: isinstance(kept, dict) and kept.keys() == {"made"})
    if found is None:
        entry.put(0, {"made": make(*of)})
        found = entry.get(0)  # as it will be read: arrays come back as tensors
    return found["made"]
