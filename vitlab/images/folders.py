"""Image sets from folders: which files, of which classes, with which content."""

from __future__ import annotations

import os
import re
from collections.abc import Container
from functools import cache
from pathlib import Path

import pandas as pd
import timm

from vitlab.files import digest, nearest, printable
from vitlab.images import catalogue, contents
from vitlab.images.decoding import decode
from vitlab.images.errors import DataError
from vitlab.images.imagenet import imagenet_16, imagenet_wnids
from vitlab.images.images import Images
from vitlab.rng import generator


def read(
    folder: Path,
    n: int | None = None,
    seed: int = 0,
    name: str = "",
    subset: str | Path | None = None,
    kind: str = "",
) -> Images:
    """The images of a folder, or `n` of them at random, the same on every machine.

    name: of the set; the folder's if empty. subset: a list of ids, see `load.load`.
    kind: "own" where the class folders, however deep, are classes of their own; "none" where the
        labels mean nothing; otherwise they are ImageNet's or the 16 categories (see `load.load`).

    Raises DataError as `load.load` and `load.own` do.
    """
    if not folder.is_dir():
        near = nearest(str(folder), list(catalogue.manifests()))
        stimuli = "" if kind == "own" else "'stimuli', "
        raise DataError(
            f"image folder {str(folder)!r} does not exist; give {stimuli}a folder with a folder "
            f"per class, or the name of an image set{near}"
        )
    _check_names(str(folder), [])
    try:
        folder, class_of = _own_classes(folder) if kind == "own" else _listing(folder)
    except OSError as error:
        raise DataError(f"image folder {str(folder)!r} cannot be read: {error}") from None
    _check_names(str(folder), list(class_of))
    if subset is not None:
        class_of = {file: class_of[file] for file in _listed(list(class_of), subset, folder)}
    found = set(class_of.values())
    if kind == "own":
        categories = tuple(sorted(found))
        label_of, classes = {name: i for i, name in enumerate(categories)}, "own"
    else:
        label_of, classes, categories = _classes(found, folder)
    files = list(class_of)
    if n is not None and n < len(files):
        chosen = generator("subset", seed, len(files)).permutation(len(files))[:n]
        files = [files[i] for i in sorted(chosen)]
    table = pd.DataFrame({"id": files, "label": [label_of[class_of[file]] for file in files]})
    cues = [re.fullmatch(r"([a-z]+)\d+-([a-z]+)\d+", Path(file).stem) for file in files]
    if kind != "own" and all(m and m[1] in label_of and m[2] in label_of for m in cues):
        table["shape"] = [label_of[m[1]] for m in cues if m]
        table["texture"] = [label_of[m[2]] for m in cues if m]
    return Images(
        name or folder.name,
        table,
        categories,
        "new" if kind == "none" else classes,
        lambda i: decode(folder / files[i]),
        None,
        digest(classes, *categories, table.to_csv(), *contents.hashes(folder, files)),
    )


def _check_names(folder: str, files: list[str]) -> None:
    """Raises DataError for names that are not UTF-8: no text can name them."""
    for name in (folder, *files):
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(f"the name of {name!a} in {folder!a} is not UTF-8; rename it") from None


# Files are kept as texts relative to their folder: a tenth of the memory of paths.


def _own_classes(folder: Path) -> tuple[Path, dict[str, str]]:
    """The folder, and file -> class: its folder, or what ``labels.txt`` says in a flat one.

    Beside folders of images those that lie loose are of no class, and left out.
    """
    every = [file for file in catalogue.files(folder) if not _is_litter(file)]
    files = [file for file in every if is_image(file)]
    class_of = {file: file.rpartition("/")[0] for file in files}
    loose, inside = (sorted(f for f in files if bool(class_of[f]) == deep) for deep in (0, 1))
    told = (folder / "labels.txt").is_file()
    if loose and inside and told:
        raise DataError(
            f"labels.txt in {str(folder)!r} can tell the classes of a flat folder, and this one "
            f"holds both images ({', '.join(map(printable, loose[:5]))}) and folders of images "
            f"({', '.join(map(printable, sorted({class_of[f] for f in inside})[:5]))}): move "
            "either away"
        )
    if loose and inside:
        class_of = {file: class_of[file] for file in files if class_of[file]}
    _tell_left_out(folder, every, class_of)
    if loose and told:
        class_of = _flat_labels(folder, files)
    if (count := len(set(class_of.values()))) < 2:
        raise DataError(
            f"image folder {str(folder)!r} holds {len(class_of)} images of {count} class; "
            "give a folder per class, or a file labels.txt with a line for each image: name class"
        )
    return folder, class_of


def _flat_labels(folder: Path, files: list[str]) -> dict[str, str]:
    """File -> class by ``labels.txt``, whose lines name files with or without their suffix."""
    names = {*files, *(Path(file).stem for file in files)}
    told: dict[str, str] = {}
    for number, line in enumerate(_lines(folder / "labels.txt"), 1):
        parted = [(name, label) for name, label in _parted(line) if name in names]
        where = f"labels.txt in {str(folder)!r}, line {number}: "
        if len(parted) > 1:
            either = " or ".join(repr(name) for name, _ in parted)
            raise DataError(
                f"{where}{line.strip()!r} can be of the image {either}; write a tab between name "
                "and class"
            )
        for name, label in parted:
            if told.setdefault(name, label) != label:
                raise DataError(
                    f"{where}{printable(name)} is {printable(told[name])} and {printable(label)}"
                )
    class_of = {file: told.get(file) or told.get(Path(file).stem, "") for file in files}
    if lost := [file for file, label in class_of.items() if not label]:
        raise DataError(
            f"labels.txt in {str(folder)!r} lacks {', '.join(map(printable, lost[:5]))}; it needs "
            "a line for each image: its name, a space or tab, its class"
        )
    return class_of


def _listing(folder: Path, depth: int = 1) -> tuple[Path, dict[str, str]]:
    """The folder of the class folders, and file -> class folder.

    In a flat folder the wnid at the beginning of a file's name stands for the class folder.
    """
    names = sorted(name for name in os.listdir(folder) if not _is_litter(name))
    folders = [name for name in names if (folder / name).is_dir()]
    inside = {name: sorted(os.listdir(folder / name)) for name in folders}
    every = [f"{name}/{file}" for name in folders for file in inside[name] if not _is_litter(file)]
    class_of = {file: file.partition("/")[0] for file in every if is_image(file)} or {
        name: re.split(r"[_.]", name)[0] for name in names if is_image(name) and name not in folders
    }
    if class_of:
        _tell_left_out(folder, [name for name in names if name not in folders] + every, class_of)
        return folder, class_of
    if depth and len(folders) == 1:
        return _listing(folder / folders[0], 0)
    raise DataError(
        f"image folder {str(folder)!r} holds no images in class subfolders "
        f"({', '.join(sorted(catalogue.SUFFIXES))})"
    )


def is_image(file: str) -> bool:
    """Whether a file is taken for an image, by its suffix."""
    return file.lower().endswith(catalogue.SUFFIXES)


# Pictures by their suffix that no set is known to be made of.
_OTHERS = (".tif", ".tiff", ".gif", ".jfif", ".jpe", ".jp2", ".avif", ".heic", ".pgm")


def _is_picture(file: str) -> bool:
    return file.lower().endswith((*catalogue.SUFFIXES, *_OTHERS))


def _is_litter(file: str) -> bool:
    """Whether a path is hidden or what macOS puts into archives beside their content."""
    return any(part.startswith(".") or part == "__MACOSX" for part in file.split("/"))


def _tell_left_out(folder: Path, every: list[str], read: Container[str]) -> None:
    """Print what is not read: in class folders anything, beside them pictures, and empty folders.

    every: what lies in the folder and in those below, as far as it counts.
    """
    left = [file for file in every if file not in read and ("/" in file or _is_picture(file))]
    full = {file.partition("/")[0] for file in every}
    empty = sorted(
        name
        for name in os.listdir(folder)
        if name not in full and (folder / name).is_dir() and not _is_litter(name)
    )
    named = [ascii(file) for file in sorted(left, key=lambda file: not _is_picture(file))]
    named = [f"{name!a} (empty)" for name in empty] + named
    if named:
        more = f" and {len(named) - 5} more" if len(named) > 5 else ""
        known = ", ".join(sorted(catalogue.SUFFIXES))
        print(
            f"left out of {str(folder)!r}: {', '.join(named[:5])}{more} "
            f"(read are {known} files, where there are class folders those in them, and of known "
            "classes those in the class folder itself)"
        )


def _lines(path: Path) -> list[str]:
    """The lines of a text file in UTF-8, with or without a mark at its beginning.

    Raises DataError, with the file, for other text and for a file that cannot be read.
    """
    try:
        # Not splitlines, which ends lines at characters that names can hold, such as U+2028.
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{printable(path)} is not text in UTF-8 ({error}); save it as UTF-8"
        ) from None
    except OSError as error:
        raise DataError(f"{printable(path)} cannot be read: {error.strerror}") from None


def _parted(line: str) -> list[tuple[str, str]]:
    """How a line can be parted into a name and what is said of it, the longest name first.

    At its first tab; without one at any white space, as both may hold spaces.
    """
    line = line.strip()
    gaps = list(re.finditer(r"\s*\t\s*", line))[:1] or list(re.finditer(r"\s+", line))
    return [(line[: gap.start()], line[gap.end() :]) for gap in reversed(gaps)]


def _listed(files: list[str], subset: str | Path, folder: Path) -> list[str]:
    """The files whose ids stand in a list: a file, or one of ``data_manifests/subsets``."""
    lists = catalogue.manifests_folder() / "subsets"
    path = Path(subset) if Path(subset).is_file() else lists / f"{Path(subset).stem}.txt"
    if not path.is_file():
        known = sorted(p.stem for p in lists.glob("*.txt"))
        near = nearest(str(subset), known)
        raise DataError(f"subset {str(subset)!r} is no file and no known list{near}")
    lines = (line.partition("#")[0].strip() for line in _lines(path))
    wanted = dict.fromkeys(line for line in lines if line)
    missing = sorted(wanted.keys() - set(files))
    if missing or not wanted:
        more = f" (and {len(missing) - 5} more)" if len(missing) > 5 else ""
        raise DataError(
            f"subset {printable(path.name)}: {len(missing)} of its {len(wanted)} ids are not in "
            f"{str(folder)!r}: {', '.join(map(printable, missing[:5]))}{more}"
        )
    return [file for file in files if file in wanted]


def _classes(found: set[str], folder: Path) -> tuple[dict[str, int], str, tuple[str, ...]]:
    """Class folder -> label, what the labels mean, and the categories."""
    wnids = {wnid: i for i, wnid in enumerate(imagenet_wnids())}
    sixteen = {name: i for i, name in enumerate(imagenet_16())}
    if found <= wnids.keys():
        _check_told(folder, wnids, found)
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
    if unknown := sorted(found.difference(*ways)):
        raise DataError(
            f"class folders of {str(folder)!r} are neither ImageNet wnids nor the 16 categories "
            f"({', '.join(imagenet_16())}), nor all indices from 0 to 999 or ImageNet's class "
            f"names: {', '.join(printable(name) + _near(name) for name in unknown[:5])}. "
            "A file labels.txt in the folder can say which they are (a line for each: folder wnid)"
        )
    if found != known:
        words = ("wnids", "the 16 categories", "indices", "class names")
        order = sorted(zip(words, ways, strict=True), key=lambda way: -len(way[1]))
        left, named_by = set(found), []
        for word, way in order:
            if mine := sorted(left & way):
                named_by.append(f"{word} ({', '.join(map(printable, mine[:5]))})")
            left -= way
        raise DataError(
            f"class folders of {str(folder)!r} are named in {len(named_by)} ways, by "
            f"{' and by '.join(named_by)}: name all in one of them, or say by a file labels.txt "
            "in the folder which they are (a line for each: folder wnid)"
        )
    if known == ways[2]:
        if len(indices) > 1 and sorted(indices.values()) == list(range(1, len(indices) + 1)):
            raise DataError(
                f"class folders of {str(folder)!r} are 1 to {len(indices)}: whether they count "
                "ImageNet's classes from 0 or from 1 cannot be told. Say it by a file labels.txt "
                "in the folder (a line for each: folder wnid)"
            )
        low, high = min(indices.values()), max(indices.values())
        print(
            f"class folders of {str(folder)!r} are read as places among ImageNet's classes: "
            f"{low} is {_called(low)}, {high} {_called(high)}"
        )
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


def _check_told(folder: Path, labels: dict[str, int], found: set[str]) -> None:
    """Raises DataError where a label file in the folder says other classes than the names do."""
    for path in (folder / "labels.txt", folder / "classes.txt"):
        try:
            told = _label_file(path, found) if path.is_file() else {}
        except DataError:  # of something else
            continue
        if wrong := sorted(name for name in found & told.keys() if told[name] != labels[name]):
            raise DataError(
                f"{printable(path)} gives {printable(wrong[0])} class {told[wrong[0]]}, by its "
                f"name it is class {labels[wrong[0]]}: remove the file, or rename the folders"
            )


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


def _called(place: int) -> str:
    return timm.data.ImageNetInfo().index_to_description(place).partition(",")[0]


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
    """Labels of the class folders by a file of lines: folder, and wnid, index or class name."""
    wnids = {wnid: i for i, wnid in enumerate(imagenet_wnids())}
    labels: dict[str, int] = {}
    for number, line in enumerate(_lines(path), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parted = _parted(line) or [("", "")]
        # With spaces in both: a folder that is there, and a label that is one.
        fits = [one for one in parted if one[0] in found and _plain(one[1]) in _names()]
        name, label = (fits or parted)[0]
        named = _names().get(_plain(label), ())
        place = int(label) if label.isdecimal() else wnids.get(label, *named[:1] or [len(wnids)])
        if place >= len(wnids) or (len(named) > 1 and label not in wnids):
            raise DataError(
                f"{printable(path)}, line {number}: {line.strip()!r} is not a folder and its wnid, "
                f"index from 0 to {len(wnids) - 1} or ImageNet's name of one class, such as "
                "tiger_shark"
            )
        if labels.setdefault(name, place) != place:
            raise DataError(f"{printable(path)}, line {number}: {name!r} has another label above")
    if unknown := sorted(found - labels.keys()):
        raise DataError(
            f"{printable(path)} lacks these class folders: {', '.join(map(printable, unknown[:5]))}"
        )
    return labels
