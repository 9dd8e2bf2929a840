"""Files that appear under their final name only when whole."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml


class FileError(ValueError):
    """A file that does not hold what its name promises; says which file, and in what line."""


@contextmanager
def whole(path: Path | str, lasting: bool = False) -> Iterator[Path]:
    """A temporary path beside `path`; it becomes `path` when the block ends without an error.

    The reader of `path` sees the old file or the new one, never a part. After an error, a full disk
    included, the temporary file is removed and `path` is as it was.

    lasting: whether that holds through a power cut, too; for what cannot be made again.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: writers such as numpy and papermill choose their format by it.
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        if lasting:
            _to_disk(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Wait until a file's content is on the disk: a new name can get there before it."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def write_text(path: Path | str, text: str, lasting: bool = False) -> None:
    """Write `text` to `path`, whole or not at all; lasting: as in `whole`."""
    with whole(path, lasting) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any, lasting: bool = False) -> None:
    """Write `value` as JSON to `path`, whole or not at all. NaN is refused (ValueError)."""
    text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    write_text(path, text, lasting)


def clear(place: Path) -> None:
    """Remove what is there, of whatever kind; what a link leads to stays."""
    if place.is_symlink() or not place.is_dir():
        place.unlink(missing_ok=True)
    else:
        shutil.rmtree(place)


def _text(path: Path | str) -> str:
    """What a text file holds. Raises FileError for a pipe or a device, which may never end."""
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise FileError(f"{path} is no regular file")
    return path.read_text(encoding="utf-8")


def read_json(path: Path | str) -> Any:
    """What a JSON file holds. Raises FileError, with file and line, for what is no JSON."""
    try:
        return json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise FileError(f"{path}, line {error.lineno}: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is not text: {error}") from None
    except RecursionError:
        raise FileError(f"{path} is nested too deeply") from None


def sealed(value: dict[str, Any]) -> dict[str, Any]:
    """A value for a JSON file with a digest of the rest, so that `is_whole` notices a change."""
    rest = {name: part for name, part in value.items() if name != "seal"}
    return {**rest, "seal": digest(json.dumps(rest, sort_keys=True))}


def is_whole(value: dict[str, Any]) -> bool:
    """Whether a value is as it was `sealed`; one without a seal is not."""
    return value.get("seal") == sealed(value)["seal"]


def printable(name: object) -> str:
    """A name as a message shows it, in one line: escaped where it holds what cannot be printed.

    >>> print(printable("tench"), printable("new" + chr(10) + "line"))
    tench 'new\\nline'
    """
    text = str(name)
    return text if text.isprintable() else repr(text)


# libyaml's loader gives the same, ten times as fast; a source build of PyYAML may lack it.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_yaml(text: str) -> Any:
    """What a YAML text holds, by safe rules. Raises yaml.YAMLError for what is none."""
    return yaml.load(text, Loader=LOADER)


def read_yaml(path: Path | str) -> Any:
    """What a YAML file holds. Raises FileError, with file and line, for what is no YAML."""
    text = ""
    try:
        text = _text(path)
        return parse_yaml(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        line = min(line, text.count("\n") + 1)  # libyaml counts one more at an open end
        raise FileError(f"{path}, line {line}: {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FileError(f"{path} is not YAML: {error}") from None


def swap(new: Path, place: Path, lasting: bool = False) -> None:
    """Put a finished folder in its place; the old one is kept until the new one is there.

    lasting: as in `whole`.
    """
    for path in new.rglob("*") if lasting else ():
        if path.is_file():
            _to_disk(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    restore(place)
    old = _aside(place)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def restore(place: Path) -> None:
    """Finish what a `swap` that was stopped left behind: the old folder returns, or is removed."""
    old = _aside(place)
    if old.exists() and not place.exists():
        old.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def _aside(place: Path) -> Path:
    return place.with_name(f".old-{place.name}")


def sha256(path: Path | str) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(*parts: object) -> str:
    """A short fingerprint (16 hexadecimal digits) of the text of `parts`."""
    text = "\x1f".join(str(part) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def nearest(wanted: str, known: Sequence[str]) -> str:
    """The end of an error message: the known names nearest to `wanted`, or all of them.

    >>> nearest("mini/vot-0", ["mini/vit-0", "mini/cnn-0"])
    '; nearest: mini/vit-0, mini/cnn-0'
    """
    near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.4)
    return f"; {'nearest' if near else 'known'}: {', '.join(map(printable, near or known))}"
