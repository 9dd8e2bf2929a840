"""Getting a file over HTTP and out of an archive, so that it is whole or not there.

A transfer that breaks off is resumed, a changed file is not glued to the old one's start, a web
page is not taken for an archive, and no archive writes outside of the folder it is unpacked in.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import shutil
import stat
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from vitlab.files import FileError, read_json, write_json

_ATTEMPTS = 5  # without a byte gained
_CHUNK = 1 << 16  # what a transfer that breaks off loses at most
_MOST_MEMBERS = 5_000_000
_LARGEST_HEADER = 1 << 18  # bytes; of a member's name, owner, times and attributes
_FULL = (errno.ENOSPC, errno.EDQUOT)


class DownloadError(RuntimeError):
    """A download or an archive that failed; what was there before is as it was."""


def resuming(part: Path, length: int | None = None, checked: bool = False) -> Callable[..., None]:
    """A downloader for `pooch.retrieve`: it fills `part`, going on where it ends, then moves it.

    part: ``NAME.part`` beside the file, kept when a transfer fails. length: in bytes, as published.
    checked: whether the content is compared with a hash afterwards.

    The downloader raises DownloadError for an answer other than success, a web page in the file's
    place, another length, a file that nothing shows to be whole (neither hash nor length is known),
    too little room, and a transfer that broke off five times without gain.
    """

    def download(url: str, target: str, _: Any) -> None:
        without_gain, last = 0, ""
        while without_gain < _ATTEMPTS:
            before = _size(part)
            if last:
                print(f"{part.stem}: {last}; trying again", file=sys.stderr)
                time.sleep(_pause(without_gain))
            try:
                _stream(url, part, length, checked)
                break
            except _Again as error:
                last = str(error)
                without_gain = 0 if _size(part) > before else without_gain + 1
        else:
            raise DownloadError(f"{last} ({_ATTEMPTS} times in a row; the part is kept)")
        os.replace(part, target)

    return download


def was_resumed(part: Path) -> bool:
    """Whether what was last downloaded by way of `part` came in more than one transfer."""
    return bool(_noted(part).get("resumed", True))


class _Again(Exception):
    """A failure that may pass."""


def _pause(failures: int) -> float:
    """Seconds to wait before another attempt."""
    return min(2.0**failures, 30.0)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _noted(part: Path) -> dict[str, Any]:
    """What is known of the transfer that `part` is from; nothing where that is lost."""
    try:
        note = read_json(_note(part))
    except (OSError, FileError):
        return {}
    return note if isinstance(note, dict) else {}


def _stream(url: str, part: Path, expected: int | None, checked: bool) -> None:
    """Bring `part` to the full length, going on where it ends if the server still has that file."""
    import requests
    from tqdm import tqdm

    name = part.name.removesuffix(".part")
    have = _size(part)
    note = _noted(part) if have else {}
    headers = {"Accept-Encoding": "identity"}
    if have and note.get("url") == url and note.get("tag"):
        headers |= {"Range": f"bytes={have}-", "If-Range": note["tag"]}
    else:
        have = 0
    try:
        with requests.get(url, headers=headers, stream=True, timeout=(15, 60)) as answer:
            if answer.status_code == 416 and have == note.get("length"):
                return  # killed between the last byte and the new name
            if answer.status_code == 416:
                part.unlink(missing_ok=True)
                raise _Again("the server has another file now")
            if answer.status_code in (408, 425, 429) or answer.status_code >= 500:
                raise _Again(f"the server answered {answer.status_code} {answer.reason}")
            if answer.status_code not in (200, 206):
                raise DownloadError(f"the server answered {answer.status_code} {answer.reason}")
            if answer.status_code == 206:
                start, total = _range(answer.headers.get("Content-Range", ""))
                if start != have or total != note.get("length"):
                    part.unlink(missing_ok=True)
                    raise _Again("the server has another file now")
            else:
                have = 0
                length = answer.headers.get("Content-Length", "")
                total = int(length) if length.isdigit() else None
            content = answer.iter_content(_CHUNK)
            first = next(content, b"")
            if have == 0 and _is_page(answer.headers, first, name):
                raise DownloadError(
                    "the server sent a web page instead of the file (a login, a notice, an error)"
                )
            if None not in (expected, total) and total != expected:
                raise DownloadError(
                    f"the server's file has {total} bytes, the published one has {expected}"
                )
            total = expected if total is None else total
            # Sent in chunks, it ends with an empty one.
            in_chunks = "chunked" in answer.headers.get("Transfer-Encoding", "").lower()
            if total is None and not checked and not in_chunks:
                raise DownloadError(
                    "the server does not tell the file's length, and its manifest has neither "
                    "hash nor bytes: nothing would show that the file is whole"
                )
            check_room(part.parent, (total or 0) - have, f"for {name}")
            if have == 0:
                part.unlink(missing_ok=True)  # before the note tells of the new version
            tag = _tag(answer.headers) or (note.get("tag") if have else None)
            note = {"url": url, "tag": tag, "length": total, "resumed": have > 0}
            write_json(_note(part), note)
            with (
                open(part, "ab" if have else "wb") as out,
                tqdm(
                    desc=name, total=total, initial=have, unit="B", unit_scale=True, disable=None
                ) as bar,
            ):
                for chunk in chain([first], content):
                    out.write(chunk)
                    have += len(chunk)
                    bar.update(len(chunk))
    except requests.RequestException as error:
        raise _Again(f"the transfer broke off after {_size(part)} bytes: {error}") from None
    if total is not None and have < total:
        raise _Again(f"the transfer broke off after {have} of {total} bytes")
    if total is not None and have > total:
        part.unlink(missing_ok=True)
        raise DownloadError(f"the server sent {have} bytes, more than the {total} of the file")
    if have == 0:
        raise _Again("the server sent nothing")


def _is_page(headers: Any, start: bytes, name: str) -> bool:
    if name.endswith((".html", ".htm")):
        return False
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    text = start[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return kind == "text/html" or text.startswith((b"<!doctype html", b"<html"))


def _tag(headers: Any) -> str | None:
    """What tells one version of a file from the next, fit for If-Range."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _range(text: str) -> tuple[int, int | None]:
    """Start and full length in ``bytes 10-99/100``; (-1, None) if it is not of that form."""
    span, _, total = text.removeprefix("bytes ").partition("/")
    start = span.partition("-")[0]
    return (int(start), int(total)) if start.isdigit() and total.isdigit() else (-1, None)


# --- disk --------------------------------------------------------------------------------------


def check_room(place: Path, needed: int, why: str) -> None:
    """Raise DownloadError where the disk of `place` has less than `needed` bytes free."""
    free = shutil.disk_usage(place).free
    if needed > free:
        raise DownloadError(
            f"not enough room {why}: {needed / 1e9:.2f} GB more are needed in {place}, "
            f"{free / 1e9:.2f} GB are free; free some, or set VITLAB_DATA to a larger disk"
        )


@contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """Turn a disk that is full into a DownloadError that says so."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise DownloadError(
            f"the disk of {place} is full; nothing that was whole is lost, what was downloaded is "
            "kept and the next fetch goes on from it. Free some room, or set VITLAB_DATA to a "
            "larger disk"
        ) from None


# --- unpacking ---------------------------------------------------------------------------------


def unpack(archive: Path, target: Path, only: str = "", cap: int = 1_000_000_000) -> None:
    """Unpack a zip or tar archive into an existing folder, and nowhere else.

    only: a folder of the archive; what is in it is taken, without its name. cap: the most bytes.

    Raises DownloadError for absolute paths, ``..``, links that lead out, paths through links,
    devices, encrypted members, more than `cap` bytes or 5,000,000 members, headers of more than
    256 kB, an archive without the folder `only`, and archives that are damaged or cut, to the last
    byte and checksum.
    """
    if not hasattr(tarfile, "data_filter"):
        raise DownloadError(
            f"unpacking safely needs Python 3.11.4 or later, this is {sys.version.split()[0]}"
        )
    try:
        taken = (_unzip if archive.name.endswith(".zip") else _untar)(archive, target, only, cap)
    except DownloadError:
        raise
    except Exception as error:  # tarfile, zipfile and their decompressors raise all sorts
        if isinstance(error, OSError) and error.errno in _FULL:
            raise
        why = str(error) or type(error).__name__
        raise DownloadError(f"{archive.name} is damaged or unsafe: {why}") from None
    if not taken:
        raise DownloadError(f"{archive.name} holds nothing" + (f" in {only}" if only else ""))


class _Unpacked:
    """A tar archive's bytes as `tarfile` reads them: members in small steps, a header at once."""

    def __init__(self, file: BinaryIO):
        self._file, self.last = file, b""
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        self.last = self._file.read(size)
        return self.last

    def finish(self) -> None:
        """Read on to the end, where decompressors compare length and checksum.

        `tarfile` takes a damaged header for the end: there have to be zeros.
        """
        if self.last != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it breaks off, or a header in it is damaged")
        while self._file.read(_CHUNK):
            pass


def _opened(archive: Path) -> BinaryIO:
    """The tar archive in a file, which may be compressed."""
    with open(archive, "rb") as file:
        start = file.read(6)
    opener = next((o for magic, o in _COMPRESSED.items() if start.startswith(magic)), open)
    return opener(archive, "rb")


_COMPRESSED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}


def _untar(archive: Path, target: Path, only: str, cap: int) -> int:
    taken = total = 0
    with _opened(archive) as file:
        content: Any = _Unpacked(file)
        with tarfile.open(fileobj=content, mode="r:") as tar:
            for count, member in enumerate(tar):
                name = _inside(archive, member.name, only)
                total += member.size
                _check_cap(archive, count, total, cap)
                if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
                    raise DownloadError(f"{archive.name}: {member.name} is a device")
                if name is None:
                    continue
                if member.islnk():
                    member = member.replace(linkname=_inside(archive, member.linkname, only) or "")
                _check_parent(archive, target, name)
                tar.extract(member.replace(name=name), target, filter="data")
                taken += member.isreg()
                tar.members = []  # type: ignore[attr-defined]  # else it keeps every header
        content.finish()
    return taken


def _unzip(archive: Path, target: Path, only: str, cap: int) -> int:
    taken = total = 0
    with zipfile.ZipFile(archive) as zipped:
        for count, member in enumerate(zipped.infolist()):
            name = _inside(archive, member.filename, only)
            total += member.file_size
            _check_cap(archive, count, total, cap)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise DownloadError(f"{archive.name}: {member.filename} is a link or a device")
            if member.flag_bits & 1:
                raise DownloadError(f"{archive.name} is encrypted")
            if name is None:
                continue
            _check_parent(archive, target, name)
            place = target / name
            if member.is_dir():
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            with zipped.open(member) as source, open(place, "wb") as out:
                shutil.copyfileobj(source, out, _CHUNK)
            taken += 1
    return taken


def _inside(archive: Path, name: str, only: str) -> str | None:
    """A member's name below `only`; None if it is not there.

    Raises DownloadError for a name that could lead out.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise DownloadError(f"{archive.name}: {name!r} leads out of the folder it is unpacked in")
    if not path.parts:
        return None
    if not only:
        return str(path)
    if not path.is_relative_to(only) or path == PurePosixPath(only):
        return None
    return str(path.relative_to(only))


def _check_cap(archive: Path, count: int, total: int, cap: int) -> None:
    if total > cap or count >= _MOST_MEMBERS:
        raise DownloadError(
            f"{archive.name} unpacks to more than {cap / 1e9:.1f} GB or {_MOST_MEMBERS} files: "
            "this is not the set that its manifest describes (unpacked_gb raises the limit)"
        )


def _check_parent(archive: Path, target: Path, name: str) -> None:
    """Refuse a path through, or over, a link that the same archive made."""
    place = target / name
    straight = place.parent.resolve() == target.resolve() / PurePosixPath(name).parent
    if place.is_symlink() or not straight:
        raise DownloadError(f"{archive.name}: {name!r} goes through a link")
