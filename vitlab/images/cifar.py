"""CIFAR-10 (Krizhevsky 2009): 60,000 photographs of 32 px in ten classes, as arrays.

Under ``$VITLAB_DATA/cifar-10`` lies one of: the official binary edition (``cifar-10-binary.tar.gz``
or its ``data_batch_*.bin`` and ``test_batch.bin``), or folders of image files ``train/<class>/``
and ``test/<class>/``. Editions in JPEG have slightly other pixels, and so another fingerprint.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from vitlab.files import digest, printable, whole
from vitlab.images.catalogue import SUFFIXES, folder, path
from vitlab.images.decoding import decode
from vitlab.images.errors import DataError
from vitlab.images.images import Images, subset
from vitlab.rng import generator

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
SPLITS = {"train": 50_000, "test": 10_000}
_ARCHIVE = "cifar-10-binary.tar.gz"
_RECORD = 1 + 3 * 32 * 32  # a label, then 32 x 32 reds, greens, blues


def load(split: str) -> tuple[Tensor, Tensor]:
    """The pictures, uint8 [n, 3, 32, 32], and labels, long [n], of "train" or "test".

    Decoded once; the arrays are kept under ``$VITLAB_DATA/.decoded``.

    Raises DataError where the set is not here (with the way to get it), or not whole.
    """
    if split not in SPLITS:
        raise DataError(f"CIFAR-10 has no split {split!r}; it has {', '.join(SPLITS)}")
    with np.load(_decoded()) as kept:
        return torch.from_numpy(kept[f"{split}_x"]), torch.from_numpy(kept[f"{split}_y"]).long()


def fingerprint() -> str:
    """A key of the decoded pictures and labels. Raises DataError as `load` does."""
    with np.load(_decoded()) as kept:
        return str(kept["digest"])


def images(n: int | None = None, seed: int = 0, split: str = "test") -> Images:
    """Photographs of a split, or `n` of them, as many of each class as can be.

    Classes take turns, so the first of them are of all classes, too; the files lie by class.

    Raises DataError as `load` does, and for a split that has fewer.
    """
    pictures, labels = load(split)
    if n is not None and n < 1:
        raise DataError(f"n must be at least 1, got {n}")
    if n is not None and n > len(labels):
        raise DataError(f"CIFAR-10 has {len(labels):,} images of {split}, not {n:,}")
    drawn = generator("cifar-10", seed, split).permutation(len(labels))
    # The k-th of every class comes before the k+1-th of any: a draw of n is balanced.
    rank = pd.Series(labels.numpy()[drawn]).groupby(labels.numpy()[drawn]).cumcount()
    chosen = drawn[np.argsort(rank, kind="stable")[:n]]
    ids = [f"{split}/{i:05d}" for i in chosen]
    return Images(
        "cifar-10",
        pd.DataFrame({"id": ids, "label": labels.numpy()[chosen]}),
        CLASSES,
        "cifar-10",
        lambda i: Image.fromarray(pictures[int(chosen[i])].permute(1, 2, 0).numpy()),
        None,
        digest(fingerprint(), *ids),
    )


# What the 16 categories of Geirhos et al. share with CIFAR-10, and its names for them.
SHARED = {
    **{"airplane": "airplane", "bird": "bird", "boat": "ship", "car": "automobile"},
    **{"cat": "cat", "dog": "dog", "truck": "truck"},
}


def recast(sixteen: Images) -> Images:
    """The images, among those of Geirhos' 16 categories, that show categories of CIFAR-10.

    Where texture is known it has to be one of them, too. Models shrink them to 32 px themselves.

    Raises DataError where none is left.
    """
    known = {i: CLASSES.index(SHARED[c]) for i, c in enumerate(sixteen.categories) if c in SHARED}
    named = [c for c in ("label", "shape", "texture") if c in sixteen.table]
    usable = sixteen.table[named].isin(list(known)).all(axis=1).to_numpy()
    if not usable.any():
        raise DataError(f"no image of {sixteen.name} shows a category of CIFAR-10")
    left = subset(sixteen, np.flatnonzero(usable))
    table = left.table.assign(**{c: left.table[c].map(known) for c in named})
    return replace(
        left,
        table=table,
        categories=CLASSES,
        classes="cifar-10",
        fingerprint=digest(left.fingerprint, "as CIFAR-10"),
    )


def _decoded() -> Path:
    return _decode(path("cifar-10"))


@cache
def _decode(place: Path) -> Path:
    """The file of the decoded set, made where there is none of these files; looked for once."""
    files = _batches(place) or [*_images(place, "train"), *_images(place, "test")]
    if not files:
        raise DataError(
            f"{place} holds neither {_ARCHIVE} nor its .bin files nor folders train/ and test/ "
            f"with a folder per class ({', '.join(CLASSES)})"
        )
    stats = ((file, file.stat()) for file in files)
    source = digest(
        *(
            f"{file.relative_to(place)} {s.st_size} {s.st_mtime_ns} {s.st_ctime_ns} {s.st_ino}"
            for file, s in stats
        )
    )
    kept = folder() / ".decoded" / f"cifar-10-{source}.npz"
    if kept.exists():
        return kept
    arrays: dict[str, np.ndarray] = {}
    for split, count in SPLITS.items():
        pairs = list(_binary(place, split) if _batches(place) else _folders(place, split))
        if sum(len(labels) for _, labels in pairs) != count:
            found = sum(len(labels) for _, labels in pairs)
            raise DataError(f"{place}: {found:,} images of {split}, not {count:,}")
        arrays[f"{split}_x"] = np.concatenate([pictures for pictures, _ in pairs])
        arrays[f"{split}_y"] = np.concatenate([labels for _, labels in pairs])
    content = hashlib.sha256()
    for values in arrays.values():
        content.update(values.tobytes())
    with whole(kept) as part:
        np.savez(part, **arrays, digest=np.array(content.hexdigest()[:16]))  # type: ignore[arg-type]
    return kept


def _batches(place: Path) -> list[Path]:
    """The files of the official edition: its .bin files, or the archive of them."""
    unpacked = sorted([*place.glob("*_batch*.bin"), *place.glob("*/*_batch*.bin")])
    return unpacked or sorted(place.glob(_ARCHIVE))


def _binary(place: Path, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pictures and labels of each .bin file of a split, in their order."""
    stem = {"train": "data_batch_", "test": "test_batch"}[split]
    files = _batches(place)
    try:
        if files[0].suffix == ".bin":
            contents = [file.read_bytes() for file in files if file.name.startswith(stem)]
        else:
            with tarfile.open(files[0]) as tar:
                members = sorted(tar.getmembers(), key=lambda m: m.name)
                wanted = [m for m in members if Path(m.name).name.startswith(stem)]
                contents = [file.read() for m in wanted if (file := tar.extractfile(m))]
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(f"{files[0]} cannot be read: {error}") from None
    for content in contents:
        if len(content) % _RECORD:
            raise DataError(f"{place}: a file of {split} images is cut off; get it again")
        rows = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
        if rows[:, 0].max(initial=0) >= len(CLASSES):
            raise DataError(
                f"{place}: a label of {split} is {rows[:, 0].max()}, of 0 to 9; get it again"
            )
        yield rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0]


def _images(place: Path, split: str) -> list[Path]:
    """The image files of a split's class folders, by class and name."""
    found = [file for kind in CLASSES for file in (place / split / kind).glob("*")]
    return sorted(file for file in found if file.suffix.lower() in SUFFIXES)


def _folders(place: Path, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each image file of a split as an array [1, 3, 32, 32] with its label [1]."""
    for file in _images(place, split):
        pixels = np.asarray(decode(file))
        if pixels.shape != (32, 32, 3):
            raise DataError(
                f"{printable(file)} has {pixels.shape[1]} x {pixels.shape[0]} pixels, not 32 x 32"
            )
        label = CLASSES.index(file.parent.name)
        yield pixels.transpose(2, 0, 1)[None], np.array([label], np.uint8)
