"""Where training pictures come from: rendered stimuli, CIFAR-10."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from vitlab.files import sha256, whole
from vitlab.images import cifar
from vitlab.stimuli import scenes as stimuli


@dataclass(frozen=True)
class Source:
    """Labelled images to learn from and to be measured on.

    fingerprint: () -> a key of what its images are.
    learned: (count, folder to keep files in) -> pictures, uint8 [count, 3, h, w], and labels.
    shown: (split, count) -> pictures and labels of the split's first images, in pieces.
    watched: the split of a training's curve. tested: how many test images are measured.
    """

    fingerprint: Callable[[], str]
    learned: Callable[[int, Path], tuple[Tensor, Tensor]]
    shown: Callable[[str, int], Iterator[tuple[Tensor, Tensor]]]
    watched: str
    tested: int


def _described(variant: str, split: str, first: int, end: int) -> list[stimuli.Scene]:
    return [stimuli.describe(split, i, variant=variant) for i in range(first, end)]


def _stimuli_key(variant: str) -> str:
    return stimuli.fingerprint(_described(variant, "train", 0, 16))


def _stimuli_learned(variant: str, count: int, folder: Path) -> tuple[Tensor, Tensor]:
    """Rendered once and kept in `folder`, by the hash of the file: a damaged one is made again."""
    name = f"train-{variant}-{count}-{_stimuli_key(variant)}"
    for path in folder.glob(f"{name}-*.npy"):
        if path.stem == f"{name}-{sha256(path)[:16]}":
            break
        print(f"{path} is damaged: rendered again", file=sys.stderr)
        path.unlink()
    else:
        made = folder / f".{name}.{os.getpid()}.npy"  # another process may make the same
        with whole(made) as part:
            store = np.lib.format.open_memmap(
                part, "w+", np.uint8, (count, 3, stimuli.SIZE, stimuli.SIZE)
            )
            title = f"rendering {variant} stimuli"
            for first in tqdm(range(0, count, 500), desc=title, unit_scale=500):
                scenes = _described(variant, "train", first, min(first + 500, count))
                store[first : first + 500] = stimuli.render(scenes)[0].numpy()
            store.flush()
        path = made.rename(folder / f"{name}-{sha256(made)[:16]}.npy")
    labels = [scene.label for scene in _described(variant, "train", 0, count)]
    return torch.from_numpy(np.load(path)), torch.tensor(labels)


def _stimuli_shown(variant: str, split: str, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    for first in range(0, count, 200):
        scenes = _described(variant, split, first, min(first + 200, count))
        yield stimuli.render(scenes)[0], torch.tensor([scene.label for scene in scenes])


def _spread(pictures: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Images evenly spread over a set, whose files may be sorted by class; all in their order."""
    chosen = torch.arange(count) * len(labels) // count
    return pictures[chosen], labels[chosen]


def _photos_shown(split: str, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    pictures, labels = _spread(*cifar.load(split), count)
    yield from zip(pictures.split(500), labels.split(500), strict=True)


SOURCES: dict[str, Source] = {
    f"stimuli/{variant}": Source(
        partial(_stimuli_key, variant),
        partial(_stimuli_learned, variant),
        partial(_stimuli_shown, variant),
        watched="validation",
        tested=1_600,
    )
    for variant in stimuli.VARIANTS
} | {
    # CIFAR-10 has no validation split. Its recipe was fixed before; nothing is chosen by the curve.
    "cifar-10": Source(
        cifar.fingerprint,
        lambda count, _: _spread(*cifar.load("train"), count),
        _photos_shown,
        watched="test",
        tested=10_000,
    ),
}
