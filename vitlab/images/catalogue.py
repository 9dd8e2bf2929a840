"""Image sets by name: what they are, whether they are here, how to get them.

One file of ``data_manifests/`` describes one set. Sets lie under `folder()`, each in a folder of
its name; a copy got by hand is put (or linked) there too.

>>> sorted(manifests())[:3]
['ade20k', 'bdd-anomaly', 'caltech-101']
>>> manifests()["imagenet-1k"].access
'form'
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import yaml

from vitlab.files import nearest, parse_yaml, printable
from vitlab.images.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm")
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
_DIGITS = {"md5": 32, "sha256": 64}


@dataclass(frozen=True)
class File:
    """One file to download.

    urls: the publisher's address, then mirrors. hash: "md5:..." or "sha256:..." as published, None
    where none is. bytes: its published length. only: the folder inside the archive that is taken
    (all of it if empty). into: the folder of the set that it is unpacked in.
    """

    name: str
    urls: tuple[str, ...]
    hash: str | None
    bytes: int | None = None
    only: str = ""
    into: str = ""

    def __post_init__(self) -> None:
        if self.name != PurePosixPath(self.name).name or self.name.startswith("."):
            raise ValueError(f"name: {self.name!r} is a path, not a plain name")
        if not self.urls:
            raise ValueError("urls: needs an address")
        kind, _, digits = (self.hash or "").partition(":")
        if self.hash is not None and len(digits) != _DIGITS.get(kind):
            raise ValueError(f"hash: {self.hash!r} is neither md5:... nor sha256:...")
        _stays_inside("into", self.into)

    @property
    def is_archive(self) -> bool:
        """Whether it is unpacked."""
        return self.name.endswith(_ARCHIVES)


@dataclass(frozen=True)
class Manifest:
    """What is known of an image set; the fields are the keys of its file.

    access: "open" (no form; `files` is empty where it takes a browser or a program of its own),
    "form" (an account, a request or terms to accept), "gone". size_gb: of the download, None where
    unknown. images: the folder, inside the set, of the class folders. count: its image files.
    tree: `tree` of the unpacked set, pinned where an archive's own bytes are not stable.
    """

    name: str
    purpose: str
    what: str
    homepage: str | None
    licence: str
    access: Literal["open", "form", "gone"]
    size_gb: float | None
    files: tuple[File, ...]
    layout: str
    classes: Literal["imagenet", "imagenet-16", "own", "none"]
    mapping: str
    citation: str
    by_hand: str
    papers: tuple[str, ...]
    named: tuple[str, ...]
    images: str = ""
    count: int | None = None
    tree: str | None = None
    unpacked_gb: float | None = None

    def __post_init__(self) -> None:
        if self.access != "open" and self.files:
            raise ValueError(f"files: a set whose access is {self.access} is not downloaded")
        _stays_inside("images", self.images)

    @property
    def state(self) -> str:
        """ "here", "can be fetched", "by hand", "by hand: form" or "gone"."""
        if available(self.name):
            return "here"
        if self.access == "open":
            return "can be fetched" if self.files else "by hand"
        return "by hand: form" if self.access == "form" else "gone"


def _stays_inside(field: str, folder: str) -> None:
    path = PurePosixPath(folder)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{field}: {folder!r} leads out of the set's folder")


# --- manifests ---------------------------------------------------------------------------------


def manifests_folder() -> Path:
    """Where the manifests lie: inside the installed package, or in the checkout."""
    inside = Path(__file__).parents[1] / "data_manifests"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "data_manifests"


def manifests() -> dict[str, Manifest]:
    """All image sets by name.

    Raises DataError, with file and key, for a manifest that is not one.
    """
    return _manifests(manifests_folder())


@cache
def _manifests(where: Path) -> dict[str, Manifest]:
    found = [read(path) for path in sorted(where.glob("[!.]*.yml"))]
    return {manifest.name: manifest for manifest in found}


def read(path: Path) -> Manifest:
    """One manifest.

    Raises DataError, with file and field, where a field is missing, unknown, or of the wrong kind.
    """
    try:
        found = _checked(Manifest, parse_yaml(path.read_text(encoding="utf-8")), "")
        if found.name != path.stem:
            raise ValueError(f"name: {found.name!r} is not the file's name")
    except yaml.YAMLError as error:
        raise DataError(f"{path} is not YAML: {error}") from None
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    return found


_WORDS = {str: "text", int: "a whole number", float: "a number"}


def _checked(kind: Any, given: Any, at: str) -> Any:
    """A YAML value as its annotation says: text, a number, a choice, a list, a dataclass of these.

    Raises ValueError, with the field's place, for anything else.
    """
    if isinstance(kind, UnionType):  # X | None
        return None if given is None else _checked(get_args(kind)[0], given, at)
    if get_origin(kind) is Literal:
        if given not in get_args(kind):
            raise ValueError(f"{at}: {given!r} is none of {', '.join(get_args(kind))}")
        return given
    if get_origin(kind) is tuple:
        if not isinstance(given, list):
            raise ValueError(f"{at}: must be a list, not {given!r}")
        return tuple(_checked(get_args(kind)[0], g, f"{at}[{i}]") for i, g in enumerate(given))
    if is_dataclass(kind):
        return _built(kind, given, at)
    fits = isinstance(given, int | float if kind is float else kind)
    if not fits or (not given.strip() if kind is str else given < 0):
        raise ValueError(f"{at}: must be {_WORDS[kind]}, not {given!r}")
    return given


def _built(kind: Any, given: Any, at: str) -> Any:
    if not isinstance(given, dict):
        raise ValueError(f"{at or 'the file'} must be a mapping of keys to values, not {given!r}")
    dot = f"{at}." if at else ""
    kinds = get_type_hints(kind)
    if unknown := [key for key in given if key not in kinds]:
        raise ValueError(f"{dot}{unknown[0]}: unknown{nearest(str(unknown[0]), list(kinds))}")
    needed = [field.name for field in fields(kind) if field.default is MISSING]
    if missing := [name for name in needed if name not in given]:
        raise ValueError(f"{dot}{missing[0]}: missing")
    values = {key: _checked(kinds[key], value, dot + key) for key, value in given.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{dot}{error}") from None


def manifest(name: str) -> Manifest:
    """The manifest of a set.

    Raises DataError, with the nearest names, if the set is unknown.
    """
    known = manifests()
    if name not in known:
        raise DataError(f"unknown image set {name!r}{nearest(name, list(known))}")
    return known[name]


def table() -> pd.DataFrame:
    """A row per set: name, purpose, access, licence, size_gb, state (see `Manifest.state`)."""
    import pandas as pd  # takes longer than all the rest of a listing

    columns = ["name", "purpose", "access", "licence", "size_gb", "state"]
    rows = [[getattr(m, column) for column in columns] for m in manifests().values()]
    return pd.DataFrame(rows, columns=columns).astype({"size_gb": float})


def info(name: str) -> str:
    """All that the manifest of a set says, as text to read."""
    m = manifest(name)
    size = "unknown" if m.size_gb is None else f"{m.size_gb:g} GB to download"
    lines = [
        f"{m.name}: {m.what}",
        f"purpose   {m.purpose}",
        f"homepage  {m.homepage or 'none'}",
        f"licence   {m.licence}",
        f"access    {m.access}; now: {m.state}",
        f"size      {size}",
        f"layout    {m.layout}",
        f"classes   {m.classes}: {m.mapping}",
        f"papers    {', '.join(m.papers) or 'none'}",
        f"cite      {m.citation}",
        f"folder    {folder() / m.name}",
    ]
    for file in m.files:
        known = file.hash or ("the unpacked files are checked" if m.tree else "on first download")
        lines.append(f"file      {file.name} ({known})")
        lines += [f"          {url}" for url in file.urls]
    return "\n".join([*lines, f"by hand   {' '.join(m.by_hand.split())}"])


# --- what is here ------------------------------------------------------------------------------


def folder() -> Path:
    """Where the sets lie: ``$VITLAB_DATA``, or the user's cache folder."""
    import pooch

    given = os.environ.get("VITLAB_DATA")
    return Path(given).expanduser().resolve() if given else Path(pooch.os_cache("vitlab"))


def available(name: str) -> bool:
    """Whether a set is here: fetched, or put there by hand."""
    place = folder() / manifest(name).name
    return place.is_dir() and any(place.iterdir())


def path(name: str) -> Path:
    """The folder of a set that is here.

    Raises DataError, with the way to get it, where it is not.
    """
    m = manifest(name)
    if available(name):
        return folder() / name
    raise DataError(f"image set {name} is not here. {way(m)}")


def images_folder(name: str) -> Path:
    """The folder, in a set that is here, that holds its class folders.

    Raises DataError where the set is not here.
    """
    place = path(name)
    inside = place / manifest(name).images
    return inside if inside.is_dir() else place


def set_name(where: str) -> str:
    """The set that text names: itself, a folder inside one, or one of its lists of ids.

    >>> set_name("imagenet-c/defocus_blur/3"), set_name("imagenet-sample-images#500")
    ('imagenet-c', 'imagenet-sample-images')
    """
    return where.partition("#")[0].partition("/")[0]


def several(where: str) -> list[str]:
    """The sets or folders that text names, separated by commas; a folder with a comma is one.

    >>> several("cub-200, dtd/dtd/images")
    ['cub-200', 'dtd/dtd/images']
    """
    if where and Path(where).is_dir():
        return [where]
    return [part.strip() for part in where.split(",") if part.strip()]


def is_set(where: str) -> bool:
    """Whether text names a set (see `set_name`)."""
    return set_name(where) in manifests()


def stays_inside(where: str) -> None:
    """Raise DataError for text that leads out of the set that it names: ``imagenet-c/../..``."""
    if ".." in where.replace("#", "/").split("/"):
        raise DataError(
            f"{where} leads out of the set; give a folder in it, or the path of another, ./..."
        )


def check(where: str) -> None:
    """Raise DataError, with the way to get it, for a set that is not here nor can be fetched.

    where: as in `set_name`; only the set is looked at.
    """
    stays_inside(where)
    name = set_name(where)
    if manifest(name).state != "can be fetched" or offline():
        path(name)


def offline() -> bool:
    """Whether VITLAB_OFFLINE forbids to download."""
    return os.environ.get("VITLAB_OFFLINE", "0") not in ("", "0")


def way(m: Manifest) -> str:
    """How to get a set, in a sentence."""
    if m.access == "open" and m.files:
        size = "" if m.size_gb is None else f" ({m.size_gb:g} GB)"
        return f"Get it with: vitlab data fetch {m.name}{size}"
    why = {
        "open": "It cannot be fetched by a program",
        "form": "It is given out only to those who ask for it or accept its terms",
        "gone": "It is no longer given out, or never was",
    }[m.access]
    steps = " ".join(m.by_hand.split())
    said = f"{why} ({m.homepage or 'no homepage'}; licence: {m.licence}). {steps}"
    place = folder() / m.name
    return said if m.access == "gone" else f"{said} Then put the folder at, or link it to, {place}"


def files(place: Path) -> Iterator[str]:
    """Relative paths of all files, hidden ones left out, links followed.

    Raises DataError for a link to a folder that it lies in, which would have no end.
    """
    above: dict[str, set[tuple[int, int]]] = {}  # of each folder, it and those that it lies in
    for base, folders, names in os.walk(place, followlinks=True):
        state = os.stat(base)
        here, over = (state.st_dev, state.st_ino), above.get(os.path.dirname(base), set())
        if here in over:
            raise DataError(
                f"{printable(base)} is a link to a folder that it lies in; remove the link"
            )
        above[base] = over | {here}
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        inside = Path(base).relative_to(place).as_posix()
        for name in sorted(names):
            if not name.startswith("."):
                yield name if inside == "." else f"{inside}/{name}"
