"""Image sets by name: fetching them, and checking what is here."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from vitlab.files import FileError, read_json, restore, swap, write_json
from vitlab.images.catalogue import (
    SUFFIXES,
    File,
    Manifest,
    available,
    files,
    folder,
    images_folder,
    manifest,
    offline,
    path,
    way,
)
from vitlab.images.download import (
    DownloadError,
    check_room,
    disk_errors,
    resuming,
    unpack,
    was_resumed,
)
from vitlab.images.errors import DataError

_CHUNK = 1 << 20


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
        here = sum(file.lower().endswith(SUFFIXES) for file in files(images_folder(name)))
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


def tree(place: Path) -> str:
    """A digest of a folder's content: SHA-256 over the sorted lines ``path blob``.

    blob is the name that git gives a file's content (SHA-1 of a header and the bytes), so that the
    digest of a folder of a Git repository is known without downloading it.
    """
    lines = []
    for name in files(place):
        with open(place / name, "rb") as file:
            blob = hashlib.sha1(b"blob %d\0" % os.fstat(file.fileno()).st_size)
            while chunk := file.read(_CHUNK):
                blob.update(chunk)
        lines.append(f"{name} {blob.hexdigest()}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


# --- what was seen -----------------------------------------------------------------------------


def _recorded(name: str) -> dict[str, str]:
    """The hashes of a set seen on first download: file name or "tree" -> hash."""
    return _all_recorded().get(name, {})


def _all_recorded() -> dict[str, dict[str, str]]:
    path = folder() / "hashes.json"
    heal = "delete it to take the sets that are here for the right ones"
    try:
        known = read_json(path) if path.exists() else {}
    except FileError as error:
        raise DataError(f"{error}; {heal}") from None
    if not isinstance(known, dict) or not all(isinstance(v, dict) for v in known.values()):
        raise DataError(f"{path} holds no hashes by set; {heal}")
    return known


def _record(name: str, seen: dict[str, str]) -> None:
    with _locked("hashes.json"):
        known = _all_recorded()
        now = {**known, name: {**known.get(name, {}), **seen}}
        write_json(folder() / "hashes.json", now, lasting=True)


def _acceptance(m: Manifest) -> str:
    """How to take a changed set for the right one."""
    if m.tree or any(file.hash for file in m.files):
        return f"if the publisher changed it, write the new one in {m.name}.yml (data_manifests/)"
    return f"to accept a new version, remove {m.name!r} from {folder() / 'hashes.json'}"


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """One process at a time; the next one waits. The lock goes with the process that holds it."""
    lock = FileLock(folder() / ".locks" / name)
    try:
        (folder() / ".locks").mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            print(f"{name}: another process is at it, waiting", file=sys.stderr)
            lock.acquire()
    except OSError as error:
        raise DataError(
            f"image sets cannot be kept in {folder()}: {error.strerror}; "
            "set VITLAB_DATA to a folder that you may write to"
        ) from None
    try:
        yield
    finally:
        lock.release()


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
        raise DataError(f"image set {name} is not downloaded. {way(m)}")
    if offline():
        raise DataError(f"image set {name} is not here, and VITLAB_OFFLINE forbids to download it")
    with _locked(name):
        restore(folder() / name)  # where a process was killed amid its last renames
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
        if place.is_symlink():
            place.unlink()
        swap(new, place)
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
                checked = bool(known or m.tree)
                downloader = resuming(part, file.bytes, checked)
                pooch.retrieve(url, known, file.name, waiting, downloader=downloader)
                return known or f"sha256:{pooch.file_hash(str(target))}"
            except DownloadError as error:
                failures.append(f"{url}: {error}")
                break
            except ValueError as error:  # a wrong hash: pooch threw the download away
                # The file may have changed between transfers: once more, from the start.
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
