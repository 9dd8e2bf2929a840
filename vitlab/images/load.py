"""Image sets: rendered stimuli, a set by name, or a folder of photographs, behind one face.

>>> images = load("stimuli", n=32)
>>> len(images), images.classes, images.categories[images.table["label"][3]]
(32, 'stimuli', 'star')
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from vitlab.files import digest, nearest
from vitlab.images import catalogue as datasets
from vitlab.images.catalogue import SUFFIXES, DataError
from vitlab.rng import generator
from vitlab.stimuli import scenes as stimuli

# How a whole file of the two common formats ends; a download or copy that broke off does not.
_ENDINGS = {".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9", ".png": b"IEND\xaeB`\x82"}


@dataclass(frozen=True)
class Images:
    """An image set.

    table: a row per image; ``id`` (stable text), ``label`` (index into `categories`), and where
        they are known ``shape`` and ``texture`` (indices too).
    classes: what the labels mean: "stimuli", "imagenet" (1,000 classes), "imagenet-16" (Geirhos'
        16 categories over ImageNet's classes), "own" (a set's own: no model here decides about
        them) or "new" (held-out stimuli, images without labels).
    picture: index -> PIL image, RGB.
    mask: index -> float32 [h, w] in [0, 1], the object; None where no mask is known.
    fingerprint: of the images' identity; part of every key that a result is stored under.
    """

    name: str
    table: pd.DataFrame
    categories: tuple[str, ...]
    classes: str
    picture: Callable[[int], Image.Image]
    mask: Callable[[int], np.ndarray] | None
    fingerprint: str

    def __len__(self) -> int:
        return len(self.table)

    @property
    def labels(self) -> Tensor:
        """The labels: long [n]."""
        return torch.tensor(self.table["label"].to_numpy())


def masks(images: Images) -> Tensor:
    """The object masks of all images: float [n, h, w] in [0, 1].

    Raises DataError where none are known.
    """
    if images.mask is None:
        raise DataError(f"no object masks are known for {images.name}")
    return torch.from_numpy(np.stack([images.mask(i) for i in range(len(images))]))


def load(
    where: str | Path,
    variant: str = "natural",
    split: str = "test",
    n: int | None = None,
    seed: int = 0,
    held_out: bool = False,
    subset: str | Path | None = None,
) -> Images:
    """The stimuli of a variant, the images of a set by name, or those of a folder.

    where: "stimuli"; the name of a set of `datasets.manifests`, with a folder inside it where it
        has several (``"imagenet-c/defocus_blur/3"``) or one of its lists of ids
        (``"imagenet-sample-images#500"``), fetched first if it is open and not here; or a folder
        (one that is named like a set is given as ``./name``).
    n: how many images, all of a folder if None (320 stimuli). Of a folder a fixed random subset,
        the same on every machine.
    subset: a list of ids, one a line (``#`` begins a comment): a file, or the name of one in
        ``data_manifests/subsets``. `n` is drawn from it.

    A folder holds a subfolder per class, named by ImageNet's wnids (``n01440764``), by the 16
    categories of Geirhos et al., by indices into ImageNet's 1,000 classes (``0``, ``000``), by
    their names (``great_white_shark``), or by anything that a file ``labels.txt`` or
    ``classes.txt`` in it gives a wnid or an index (``folder wnid`` a line). It may also be flat,
    with files that begin with a wnid, or hold one subfolder that is such a folder. Files named like
    ``cat7-car2.png`` also tell shape and texture. Pictures come as RGB and, as in published
    evaluations, are not turned by their EXIF orientation.

    Raises DataError for an unknown variant, a set that is not here and cannot be fetched, a
    missing, empty or unreadable folder, a truncated or unreadable image, ids of the list that are
    missing, and class names that cannot be told.
    """
    if n is not None and n < 1:
        raise DataError(f"n_images must be at least 1, got {n}")
    if str(where) == "stimuli":
        if subset is not None:
            raise DataError(f"subset={subset}: stimuli have no lists of ids; give n_images=")
        return _stimuli(variant, split, n or 320, seed, held_out)
    if isinstance(where, str) and datasets.is_set(where):
        where, _, listed = where.partition("#")
        name, _, inside = where.partition("/")
        return _set(name, inside, n, seed, f"{name}-{listed}" if listed else subset)
    return _folder(Path(where), n, seed, subset)


def own(where: str | Path, n: int | None = None, seed: int = 0) -> Images:
    """A set or a folder with its own classes, whatever they are called, for features and probes.

    where: as in `load`, without a list of ids. A class is a folder that holds images, however deep
        (``a/abbey`` in Places365); or, where all images lie in one folder, what a file
        ``labels.txt`` beside them gives each (``name class`` a line, the name with or without its
        suffix), as FGVC-Aircraft's lists do.

    Raises DataError as `load` does, for a single class, and for images that ``labels.txt`` lacks.
    """
    if n is not None and n < 1:
        raise DataError(f"n_images must be at least 1, got {n}")
    folder, name = Path(where), Path(where).name
    if isinstance(where, str) and datasets.is_set(where):
        folder, name = _place(*where.partition("/")[::2]), where
    if not folder.is_dir():
        near = nearest(str(where), list(datasets.manifests()))
        raise DataError(
            f"image folder {str(folder)!r} does not exist; give a folder with a folder per class, "
            f"or the name of an image set{near}"
        )
    files = [f for f in datasets._files(folder) if f.lower().endswith(SUFFIXES)]
    names = [file.rpartition("/")[0] for file in files]
    if set(names) == {""} and (folder / "labels.txt").is_file():
        lines = (folder / "labels.txt").read_text(encoding="utf-8").splitlines()
        told = {key: label.strip() for key, _, label in (line.partition(" ") for line in lines)}
        names = [told.get(file) or told.get(Path(file).stem, "") for file in files]
        if lost := [file for file, label in zip(files, names, strict=True) if not label]:
            raise DataError(f"labels.txt in {str(folder)!r} lacks {', '.join(lost[:5])}")
    categories = tuple(sorted(set(names)))
    if len(categories) < 2:
        raise DataError(
            f"image folder {str(folder)!r} holds {len(files)} images of {len(categories)} class; "
            "give a folder per class, or a file labels.txt with a line for each image: name class"
        )
    chosen = np.arange(len(files))
    if n is not None and n < len(files):
        drawn = generator("subset", seed, len(files)).permutation(len(files))[:n]
        chosen = np.sort(drawn)
    place = {category: i for i, category in enumerate(categories)}
    labels = [place[names[i]] for i in chosen]
    files = [files[i] for i in chosen]
    sizes = _check(folder, files)
    return Images(
        name,
        pd.DataFrame({"id": files, "label": labels}),
        categories,
        "own",
        lambda i: _open(folder / files[i]),
        None,
        digest(*(f"{file}:{size}" for file, size in zip(files, sizes, strict=True)), *labels),
    )


def _set(name: str, inside: str, n: int | None, seed: int, subset: str | Path | None) -> Images:
    kind = datasets.manifest(name).classes
    place = _place(name, inside)
    return _folder(place, n, seed, subset, f"{name}/{inside}".rstrip("/"), kind)


def _place(name: str, inside: str) -> Path:
    """The folder of a set's images, or one inside it; fetched first if it is open and not here."""
    known = datasets.manifest(name)
    if known.state == "can be fetched":
        size = "size unknown" if known.size_gb is None else f"{known.size_gb:g} GB"
        print(f"image set {name} is not here: fetching it ({size})")
        datasets.fetch(name)
    place = datasets.images_folder(name) / inside
    if inside and not place.is_dir():
        folders = [p.name for p in place.parent.glob("*/")] if place.parent.is_dir() else []
        raise DataError(f"image set {name} has no folder {inside!r}{nearest(place.name, folders)}")
    return place


def _stimuli(variant: str, split: str, n: int, seed: int, held_out: bool) -> Images:
    try:
        scenes = [
            stimuli.describe(split, _spread(variant, i, held_out), seed, variant, held_out)
            for i in range(n)
        ]
    except ValueError as error:
        raise DataError(str(error)) from None
    shapes = stimuli.HELD_OUT if held_out else stimuli.CATEGORIES
    textures = stimuli.TEXTURE_NAMES[16:] if held_out else stimuli.TEXTURE_NAMES[:16]
    table = stimuli.table(scenes)
    table["texture"] = [textures.index(t) for t in table["texture"]]
    table["shape"] = [shapes.index(s) for s in table["shape"]]
    return Images(
        f"stimuli ({'held-out, ' if held_out else ''}{variant})",
        table,
        shapes,
        "new" if held_out else "stimuli",
        lambda i: Image.fromarray(stimuli.draw(scenes[i])[0]),
        lambda i: stimuli.draw_mask(scenes[i]),
        stimuli.fingerprint(scenes),
    )


def _spread(variant: str, i: int, held_out: bool) -> int:
    """Order cue-conflict pairs so that the first n use every shape equally often."""
    if variant != "cue-conflict":
        return i
    count = 8 if held_out else 16
    rounds, shape = divmod(i, count)
    pair = shape * (count - 1) + (rounds + 4 * shape) % (count - 1)
    return pair + count * (count - 1) * (rounds // (count - 1))


def _folder(
    folder: Path,
    n: int | None,
    seed: int,
    subset: str | Path | None = None,
    name: str = "",
    kind: str = "",
) -> Images:
    if not folder.is_dir():
        sets = list(datasets.manifests())
        raise DataError(
            f"image folder {str(folder)!r} does not exist; give 'stimuli', a folder of class "
            f"subfolders, or the name of an image set{nearest(str(folder), sets)}"
        )
    try:
        folder, files = _listing(folder)
    except OSError as error:
        raise DataError(f"image folder {str(folder)!r} cannot be read: {error}") from None
    if not files:
        raise DataError(
            f"image folder {str(folder)!r} holds no images in class subfolders "
            f"({', '.join(sorted(SUFFIXES))})"
        )
    if subset is not None:
        files = _chosen(files, subset, folder)
    found = {_class_of(file) for file in files}
    if kind == "own":  # classes that no model here decides about: features and probes only
        categories = tuple(sorted(found))
        place, classes = {name: i for i, name in enumerate(categories)}, "own"
    else:
        place, classes, categories = _classes(found, folder)
    if n is not None and n < len(files):
        chosen = generator("subset", seed, len(files)).permutation(len(files))[:n]
        files = [files[i] for i in sorted(chosen)]
    sizes = _check(folder, files)
    table = pd.DataFrame({"id": files, "label": [place[_class_of(file)] for file in files]})
    cues = [re.fullmatch(r"([a-z]+)\d+-([a-z]+)\d+", Path(file).stem) for file in files]
    if all(m and m[1] in place and m[2] in place for m in cues):
        table["shape"] = [place[m[1]] for m in cues if m]
        table["texture"] = [place[m[2]] for m in cues if m]
    return Images(
        name or folder.name,
        table,
        categories,
        "new" if kind == "none" else classes,
        lambda i: _open(folder / files[i]),
        None,
        digest(*(f"{file}:{size}" for file, size in zip(files, sizes, strict=True))),
    )


# Files are kept as texts relative to their folder: a tenth of the memory of paths.


def _listing(folder: Path, depth: int = 1) -> tuple[Path, list[str]]:
    """The folder of the classes and its image files: ``class/name``, or ``name`` of a flat one."""
    folders, flat = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append(entry.name)
            elif entry.name.lower().endswith(SUFFIXES):
                flat.append(entry.name)
    files = []
    for name in sorted(folders):
        inside = os.listdir(folder / name)
        found = [f for f in inside if f.lower().endswith(SUFFIXES) and not f.startswith(".")]
        files += [f"{name}/{f}" for f in sorted(found)]
    if files or flat:
        return folder, files or sorted(flat)
    return _listing(folder / folders[0], 0) if depth and len(folders) == 1 else (folder, [])


def _class_of(file: str) -> str:
    """The class folder of a file, or what stands for it in a flat folder: the wnid in its name."""
    name, slash, _ = file.partition("/")
    return name if slash else re.split(r"[_.]", name)[0]


def _chosen(files: list[str], subset: str | Path, folder: Path) -> list[str]:
    lists = datasets.manifests_folder() / "subsets"
    path = Path(subset) if Path(subset).is_file() else lists / Path(subset).with_suffix(".txt").name
    if not path.is_file():
        known = sorted(p.stem for p in lists.glob("*.txt"))
        near = nearest(str(subset), known)
        raise DataError(f"subset {str(subset)!r} is no file and no known list{near}")
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    wanted = dict.fromkeys(line for line in lines if line)
    missing = sorted(wanted.keys() - set(files))
    if missing or not wanted:
        more = f" (and {len(missing) - 5} more)" if len(missing) > 5 else ""
        raise DataError(
            f"subset {path.name}: {len(missing)} of its {len(wanted)} ids are not in "
            f"{str(folder)!r}: {', '.join(missing[:5])}{more}"
        )
    return [file for file in files if file in wanted]


def _classes(found: set[str], folder: Path) -> tuple[dict[str, int], str, tuple[str, ...]]:
    """Class folder -> label, what the labels mean, and the categories."""
    wnids = {wnid: i for i, wnid in enumerate(imagenet_wnids())}
    sixteen = {name: i for i, name in enumerate(imagenet_16())}
    if found <= wnids.keys():
        return wnids, "imagenet", imagenet_wnids()
    if found <= sixteen.keys():
        return sixteen, "imagenet-16", tuple(imagenet_16())
    for name in ("labels.txt", "classes.txt"):
        if (folder / name).is_file():
            return _label_file(folder / name, found), "imagenet", imagenet_wnids()
    indices = {f: int(f) for f in found if re.fullmatch(r"\d{1,4}", f) and int(f) < len(wnids)}
    named = {f: _names()[_plain(f)] for f in found if _plain(f) in _names()}
    ways: tuple[set[str], ...] = (
        found & wnids.keys(),
        found & sixteen.keys(),
        set(indices),
        set(named),
    )
    known = max(ways, key=len)
    if strange := sorted(found - known):
        raise DataError(
            f"class folders of {str(folder)!r} are neither ImageNet wnids nor the 16 categories "
            f"({', '.join(imagenet_16())}), nor all indices from 0 to 999 or ImageNet's class "
            f"names: {', '.join(name + _near(name) for name in strange[:5])}. "
            "A file labels.txt in the folder can tell (a line for each: folder wnid)"
        )
    if known == ways[2]:
        return _each_once(indices, folder), "imagenet", imagenet_wnids()
    for name, members in sorted(named.items()):
        if len(members) > 1:
            either = " or ".join(imagenet_wnids()[i] for i in members)
            raise DataError(
                f"class folder {name!r} of {str(folder)!r} is the name of {len(members)} ImageNet "
                f"classes: name it by its wnid, {either}"
            )
    labels = {name: members[0] for name, members in named.items()}
    return _each_once(labels, folder), "imagenet", imagenet_wnids()


def _each_once(labels: dict[str, int], folder: Path) -> dict[str, int]:
    """The labels, if no two folders have the same one."""
    seen: dict[int, str] = {}
    for name, label in sorted(labels.items()):
        if label in seen:
            raise DataError(
                f"class folders {seen[label]!r} and {name!r} of {str(folder)!r} are the same class"
            )
        seen[label] = name
    return labels


def _near(name: str) -> str:
    """The nearest known class names, in brackets; nothing if none is near."""
    every = imagenet_wnids() if re.fullmatch(r"n\d+", name) else [*imagenet_16(), *_names()]
    near = nearest(_plain(name), every)
    return f" ({near[2:]})" if near.startswith("; nearest") else ""


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").split())


@cache
def _names() -> dict[str, tuple[int, ...]]:
    """ImageNet's class names in plain form, whole and first synonym -> indices that have it."""
    names: dict[str, tuple[int, ...]] = {}
    for i, text in enumerate(timm.data.ImageNetInfo().label_descriptions()):
        for name in {_plain(text), _plain(text.partition(",")[0])}:
            names[name] = (*names.get(name, ()), i)
    return names


def _label_file(path: Path, found: set[str]) -> dict[str, int]:
    """Labels of the class folders by a file of lines ``folder wnid`` or ``folder index``."""
    wnids = {wnid: i for i, wnid in enumerate(imagenet_wnids())}
    labels = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, label = re.sub(r"\s+(?=\S+$)", "\t", line.strip()).partition("\t")
        if label.isdecimal() and int(label) < len(wnids):
            labels[name] = int(label)
        elif label in wnids:
            labels[name] = wnids[label]
        else:
            raise DataError(
                f"{path}, line {number}: {line.strip()!r} is not a folder and its wnid or index "
                f"from 0 to {len(wnids) - 1}"
            )
    if strange := sorted(found - labels.keys()):
        raise DataError(f"{path} does not tell these class folders: {', '.join(strange[:5])}")
    return labels


def _check(folder: Path, files: list[str]) -> list[int]:
    """The sizes of the files, after each was found whole; large sets are looked at only once.

    Raises DataError with the first that is not.
    """
    sizes, times = np.zeros((2, len(files)), np.int64)
    for i, file in enumerate(files):
        state = os.stat(folder / file)
        sizes[i], times[i] = state.st_size, state.st_mtime_ns
    key = digest(folder.resolve(), *files, sizes.tobytes().hex(), times.tobytes().hex())
    seen = datasets.folder() / ".checked" / key
    if seen.exists():
        return sizes.tolist()
    problems: list[str] = []
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(files), 1000):
            batch = [folder / file for file in files[first : first + 1000]]
            problems += filter(None, pool.map(_problem, batch))
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{more}; replace or remove it and start again")
    if len(files) >= 1000:
        try:
            seen.parent.mkdir(parents=True, exist_ok=True)
            seen.touch()
        except OSError:
            pass  # it only saves time
    return sizes.tolist()


def _problem(path: Path) -> str:
    """What is wrong with an image file, seen without decoding it whole; empty if nothing is."""
    try:
        with Image.open(path) as image:
            image.verify()
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            tail = file.read()
    except UnidentifiedImageError:
        return f"{path} is not an image ({path.stat().st_size} bytes)"
    except (OSError, SyntaxError) as error:
        return f"{path} cannot be read: {error}"
    ending = _ENDINGS.get(path.suffix.lower())
    formats = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
    if ending and image.format == formats[path.suffix.lower()] and ending not in tail:
        return f"{path} is truncated: it does not end as a {image.format} file does"
    return ""


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


@cache
def imagenet_wnids() -> tuple[str, ...]:
    """ImageNet-1k's class folders in the order of a model's 1,000 outputs."""
    return tuple(timm.data.ImageNetInfo().label_names())


@cache
def imagenet_16() -> dict[str, list[str]]:
    """The 16 categories of Geirhos et al. (2019) and the ImageNet classes that belong to each."""
    return json.loads(Path(__file__).with_name("imagenet_16.json").read_text())


def decision_matrix(model_classes: str, image_classes: str) -> Tensor | None:
    """How a model's class probabilities become decisions about the images' categories.

    None: the model's own classes are the categories. Otherwise float [classes, categories]:
    probabilities times this is the mean over each category's member classes (Geirhos et al. 2019).

    Raises DataError where the model cannot decide about such images.
    """
    if model_classes == image_classes:
        return None
    if (model_classes, image_classes) == ("imagenet", "imagenet-16"):
        matrix = torch.zeros(len(imagenet_wnids()), len(imagenet_16()))
        for column, members in enumerate(imagenet_16().values()):
            rows = [imagenet_wnids().index(wnid) for wnid in members]
            matrix[rows, column] = 1 / len(rows)
        return matrix
    raise DataError(
        f"a model trained on {model_classes} classes cannot decide about {image_classes} images; "
        "give models= and images= that go together, e.g. models=efficientnet-lite0 for photographs"
    )


def cue_conflict(
    where: str | Path, n: int | None = None, seed: int = 0, subset: str | Path | None = None
) -> Images:
    """Cue-conflict images: stimuli, or a folder whose file names tell shape and texture.

    Raises DataError as `load` does, and where the folder's names do not tell the two cues.
    """
    images = load(where, "cue-conflict", n=n, seed=seed, subset=subset)
    if "texture" not in images.table:
        raise DataError(
            f"{str(where)!r} holds no cue-conflict images: their files are named like "
            "cat7-car2.png, in a folder of the shape's category"
        )
    return images


def human_decisions() -> pd.DataFrame:
    """People's decisions on the cue-conflict images of Geirhos et al. 2019, a row per category.

    Columns: category, shape, texture, other (counts, ten people pooled, conflicts only). CC BY 4.0.
    """
    return pd.read_csv(Path(__file__).with_name("human_cue_conflict.csv"))
