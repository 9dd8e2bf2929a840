"""Image sets by name: what they are, whether they can be had, fetching and checking them.

One file of ``data_manifests/`` describes one set. Sets lie under `folder()`, each in a folder of
its name; a copy got by hand is put (or linked) there too.

>>> sorted(manifests())[:3]
['ade20k', 'bdd-anomaly', 'caltech-101']
>>> manifests()["imagenet-1k"].access
'form'
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd
import yaml

from vitlab.files import nearest, write_json
from vitlab.images.download import (
    DownloadError,
    check_room,
    disk_errors,
    resuming,
    unpack,
    was_resumed,
)

ACCESS = ("open", "form", "gone")
CLASSES = ("imagenet", "imagenet-16", "own", "none")
_TEXTS = ("name", "purpose", "what", "licence", "access", "layout", "classes", "mapping")
_REQUIRED = (*_TEXTS, "citation", "by_hand", "homepage", "papers", "named", "size_gb", "files")
_OPTIONAL = ("images", "count", "tree", "unpacked_gb")
_FILE_KEYS = ("name", "urls", "hash", "bytes", "only", "into")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm")
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
_CHUNK = 1 << 20


class DataError(ValueError):
    """Images that cannot be used or had: missing, gated, damaged, or of unknown classes."""


@dataclass(frozen=True)
class File:
    """One file to download.

    urls: the publisher's address, then mirrors. hash: "md5:..." or "sha256:..." as published, None
    where none is. bytes: its published length. only: the folder inside the archive that is taken
    (all of it if empty). into: the folder of the set that it is unpacked in.
    """

    name: str
    urls: tuple[str, ...]
    hash: str | None = None
    bytes: int | None = None
    only: str = ""
    into: str = ""

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
    access: str
    size_gb: float | None
    files: tuple[File, ...]
    layout: str
    classes: str
    mapping: str
    citation: str
    by_hand: str
    papers: tuple[str, ...]
    named: tuple[str, ...]
    images: str = ""
    count: int | None = None
    tree: str | None = None
    unpacked_gb: float | None = None

    @property
    def state(self) -> str:
        """ "here", "can be fetched", "by hand", "by hand: form" or "gone"."""
        if available(self.name):
            return "here"
        if self.access == "open":
            return "can be fetched" if self.files else "by hand"
        return "by hand: form" if self.access == "form" else "gone"


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
    found = [read(path) for path in sorted(where.glob("*.yml"))]
    return {manifest.name: manifest for manifest in found}


def read(path: Path) -> Manifest:
    """One manifest.

    Raises DataError, with file and key, where a key is missing, unknown, or of the wrong kind.
    """

    def refuse(key: str, problem: str) -> DataError:
        return DataError(f"{path}: {key}: {problem}")

    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise DataError(f"{path} is not YAML: {error}") from None
    if not isinstance(given, dict):
        raise DataError(f"{path} is not a mapping of keys to values")
    for key in _REQUIRED:
        if key not in given:
            raise refuse(key, "missing")
    for key in given:
        if key not in (*_REQUIRED, *_OPTIONAL):
            raise refuse(key, "unknown" + nearest(key, (*_REQUIRED, *_OPTIONAL)))
    for key in (*_TEXTS, "citation", "by_hand"):
        if not isinstance(given[key], str) or not given[key].strip():
            raise refuse(key, f"must be text, not {given[key]!r}")
    if given["name"] != path.stem:
        raise refuse("name", f"{given['name']!r} is not the file's name")
    if given["access"] not in ACCESS:
        raise refuse("access", f"{given['access']!r} is none of {', '.join(ACCESS)}")
    if given["classes"] not in CLASSES:
        raise refuse("classes", f"{given['classes']!r} is none of {', '.join(CLASSES)}")
    for key in ("size_gb", "unpacked_gb", "count"):
        if not isinstance(given.get(key), int | float | None) or (given.get(key) or 0) < 0:
            raise refuse(key, f"must be a number or null, not {given[key]!r}")
    for key in ("papers", "named", "files"):
        if not isinstance(given[key], list):
            raise refuse(key, "must be a list")
    if given["access"] != "open" and given["files"]:
        raise refuse("files", f"a set whose access is {given['access']} is not downloaded")
    files = []
    for entry in given["files"]:
        if not isinstance(entry, dict) or not {"name", "urls", "hash"} <= set(entry):
            raise refuse("files", f"each needs name, urls and hash (null if unknown): {entry!r}")
        for key in entry:
            if key not in _FILE_KEYS:
                raise refuse(f"files: {key}", "unknown" + nearest(key, _FILE_KEYS))
        kind, _, digits = (entry["hash"] or "md5:" + "0" * 32).partition(":")
        if len(digits) != {"md5": 32, "sha256": 64}.get(kind):
            raise refuse("files: hash", f"{entry['hash']!r} is neither md5:... nor sha256:...")
        if not entry["urls"] or "/" in entry["name"]:
            raise refuse("files", f"needs an address and a plain name: {entry!r}")
        files.append(File(**{**entry, "urls": tuple(entry["urls"])}))
    return Manifest(
        **{
            **given,
            "files": tuple(files),
            "papers": tuple(given["papers"]),
            "named": tuple(given["named"]),
        }
    )


def manifest(name: str) -> Manifest:
    """The manifest of a set.

    Raises DataError, with the nearest names, for one that there is none of.
    """
    known = manifests()
    if name not in known:
        raise DataError(f"unknown image set {name!r}{nearest(name, list(known))}")
    return known[name]


def table() -> pd.DataFrame:
    """A row per set: name, purpose, access, licence, size_gb, state (see `Manifest.state`)."""
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
    raise DataError(f"image set {name} is not here. {_way(m)}")


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


def check(where: str) -> None:
    """Raise DataError, with the way to get it, for a set that is not here nor can be fetched.

    where: as in `set_name`; only the set is looked at.
    """
    name = set_name(where)
    if manifest(name).state != "can be fetched" or _offline():
        path(name)


def _offline() -> bool:
    return os.environ.get("VITLAB_OFFLINE", "0") not in ("", "0")


def _way(m: Manifest) -> str:
    if m.access == "open" and m.files:
        size = "" if m.size_gb is None else f" ({m.size_gb:g} GB)"
        return f"Get it with: vitlab data fetch {m.name}{size}"
    why = {
        "open": "It cannot be fetched by a program",
        "form": "It is given out only to those who ask for it or accept its terms",
        "gone": "It cannot be had any more, or never could",
    }[m.access]
    steps = " ".join(m.by_hand.split())
    said = f"{why} ({m.homepage or 'no homepage'}; licence: {m.licence}). {steps}"
    place = folder() / m.name
    return said if m.access == "gone" else f"{said} Then put the folder at, or link it to, {place}"


def verify(name: str) -> list[str]:
    """What is wrong with a set that is here; empty if nothing is.

    Every file is read. The unpacked files are compared with the manifest's `tree`, or else with
    what was here at the first fetch or the first `verify`, which records it. The number of images
    is compared where the manifest tells it.

    Raises DataError where the set is not here.
    """
    m = manifest(name)
    place = path(name)
    problems = []
    if m.count is not None:
        here = sum(file.lower().endswith(SUFFIXES) for file in _files(images_folder(name)))
        if here != m.count:
            problems.append(f"{here} images are here, {m.count} belong to it")
    found = tree(place)
    expected = m.tree or _recorded(name).get("tree")
    if expected is None:
        _record(name, {"tree": found})
    elif found != expected:
        problems.append(
            f"its files are not those that belong to it: expected tree {expected}, got {found}; "
            f"{_acceptance(m)}"
        )
    return problems


def _files(place: Path) -> Iterator[str]:
    """Relative paths of all files, hidden ones left out, links followed."""
    for base, folders, names in os.walk(place, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        inside = Path(base).relative_to(place).as_posix()
        for name in sorted(names):
            if not name.startswith("."):
                yield name if inside == "." else f"{inside}/{name}"


def tree(place: Path) -> str:
    """A digest of a folder's content: SHA-256 over the sorted lines ``path blob``.

    blob is the name that git gives a file's content (SHA-1 of a header and the bytes), so that the
    digest of a folder of a Git repository is known without downloading it.
    """
    lines = []
    for name in _files(place):
        with open(place / name, "rb") as file:
            blob = hashlib.sha1(b"blob %d\0" % os.fstat(file.fileno()).st_size)
            while chunk := file.read(_CHUNK):
                blob.update(chunk)
        lines.append(f"{name} {blob.hexdigest()}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


# --- what was seen -----------------------------------------------------------------------------


def _recorded(name: str) -> dict[str, str]:
    """The hashes of a set seen on first download: file name or "tree" -> hash."""
    path = folder() / "hashes.json"
    return json.loads(path.read_text()).get(name, {}) if path.exists() else {}


def _record(name: str, seen: dict[str, str]) -> None:
    path = folder() / "hashes.json"
    with _locked("hashes.json"):
        known = json.loads(path.read_text()) if path.exists() else {}
        write_json(path, {**known, name: {**known.get(name, {}), **seen}})


def _acceptance(m: Manifest) -> str:
    """How to take a changed set for the right one."""
    if m.tree or any(file.hash for file in m.files):
        return f"if the publisher changed it, write the new one in {m.name}.yml (data_manifests/)"
    return f"to accept a new version, remove {m.name!r} from {folder() / 'hashes.json'}"


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """One process at a time; the next one waits. The lock goes with the process that holds it."""
    place = folder() / ".locks"
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = open(place / name, "a+")  # noqa: SIM115
    except OSError as error:
        raise DataError(
            f"image sets cannot be kept in {folder()}: {error.strerror}; "
            "set VITLAB_DATA to a folder that you may write to"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{name}: another process is at it, waiting", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# --- fetching ----------------------------------------------------------------------------------


def fetch(name: str, again: bool = False) -> Path:
    """Download an open set, check it, unpack it, and return its folder; nothing if it is here.

    again: do so even if it is here; the old folder stays until the new one is whole. A transfer
    that broke off goes on where it stopped. Each file's hash (as published, or as recorded on
    first download) is checked before it gets its name.

    Raises DataError for sets that are not open, and with VITLAB_OFFLINE set; DownloadError where
    the server, the content, the archive or the disk fails.
    """
    m = manifest(name)
    if available(name) and not again:
        return folder() / name
    if m.access != "open" or not m.files:
        raise DataError(f"image set {name} is not downloaded. {_way(m)}")
    if _offline():
        raise DataError(f"image set {name} is not here, and VITLAB_OFFLINE forbids to download it")
    with _locked(name):
        if available(name) and not again:  # another process fetched it while this one waited
            return folder() / name
        with disk_errors(folder()):
            return _fetch(m)


def _fetch(m: Manifest) -> Path:
    place, waiting = folder() / m.name, folder() / ".downloads" / m.name
    new = folder() / f".{m.name}.new"
    shutil.rmtree(new, ignore_errors=True)  # of a process that was killed while it unpacked
    waiting.mkdir(parents=True, exist_ok=True)
    here = sum(p.stat().st_size for p in waiting.iterdir())
    download = sum(file.bytes or 0 for file in m.files) or int(1e9 * (m.size_gb or 0))
    check_room(
        folder(), max(0, download - here) + _unpacked_bytes(m), f"to download and unpack {m.name}"
    )
    seen = {file.name: _download(m, file, waiting) for file in m.files}
    check_room(folder(), _unpacked_bytes(m), f"to unpack {m.name}")
    try:
        new.mkdir()
        for file in m.files:
            target = new / file.into
            target.mkdir(parents=True, exist_ok=True)
            if file.is_archive:
                unpack(waiting / file.name, target, file.only, _cap(m, waiting / file.name))
            else:
                shutil.copyfile(waiting / file.name, target / file.name)
        found = tree(new)
        if m.tree is not None and found != m.tree:
            raise DownloadError(
                f"{m.name}: the files in the download are not those that belong to it: expected "
                f"tree {m.tree}, got {found}; {_acceptance(m)}"
            )
        old = folder() / f".{m.name}.old"
        shutil.rmtree(old, ignore_errors=True)
        if place.is_symlink():
            place.unlink()
        elif place.exists():
            place.rename(old)
        new.rename(place)
        shutil.rmtree(old, ignore_errors=True)
    except DownloadError:
        for file in m.files:
            if not file.hash:  # what could not be told apart from a good file before
                (waiting / file.name).unlink(missing_ok=True)
        raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
    _record(m.name, {**({} if m.tree else seen), "tree": found})
    shutil.rmtree(waiting, ignore_errors=True)
    return place


def _download(m: Manifest, file: File, waiting: Path) -> str:
    """One file, whole and checked, in `waiting`; returns its hash."""
    import pooch

    # Archives that a server packs anew on each request have no stable hash: `tree` is checked then.
    known = file.hash or (None if m.tree else _recorded(m.name).get(file.name))
    target, part = waiting / file.name, waiting / f"{file.name}.part"
    pooch.get_logger().setLevel("WARNING")
    failures = []
    for url in file.urls:
        for attempt in (1, 2):
            try:
                downloader = resuming(part, file.bytes)
                pooch.retrieve(url, known, file.name, waiting, downloader=downloader)
                return known or f"sha256:{pooch.file_hash(str(target))}"
            except DownloadError as error:
                failures.append(f"{url}: {error}")
                break
            except ValueError as error:  # a wrong hash: pooch threw the download away
                # Halves of two versions may have been glued: once more, from the start.
                if attempt == 2 or not was_resumed(part):
                    failures.append(f"{url}: {str(error).partition('. ')[0]}; {_acceptance(m)}")
                    break
    raise DownloadError(f"{m.name}: {file.name} could not be downloaded.\n" + "\n".join(failures))


def _unpacked_bytes(m: Manifest) -> int:
    return int(1e9 * (m.unpacked_gb or m.size_gb or 0)) if any(f.is_archive for f in m.files) else 0


def _cap(m: Manifest, archive: Path) -> int:
    """The most bytes an archive may unpack to."""
    if m.unpacked_gb is not None:
        return int(1.5e9 * m.unpacked_gb)
    return max(1_000_000_000, 20 * archive.stat().st_size)
