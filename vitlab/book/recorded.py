"""Runs at ImageNet scale that were kept: ``book/recorded/<run>/<page>/``.

Such a run takes real models, photographs and often a GPU, so the book cannot repeat it at every
build. ``vitlab record`` keeps what a reader needs of one: each claim's evidence (what every image
adds to every number, so that verdicts follow the rules whenever they change), the trials (image ids
and decisions, no images), small tables, and where all of it comes from (models, revisions, images,
commit, versions, device, time). The hash of every kept file stands in ``state.json``.
"""

from __future__ import annotations

import glob
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from vitlab import claims
from vitlab.files import FileError, is_whole, read_json, restore, sealed, sha256, swap, write_json
from vitlab.markup import placeless

LARGEST = 200_000  # bytes of a table that is kept
TRIALS = 2_000_000  # bytes of a page's trials that are kept


class RecordError(ValueError):
    """A run that cannot be kept: not there, failed, in miniature, or of unknown models."""


def folder() -> Path:
    """Where recorded runs are kept in this checkout: ``book/recorded``; elsewhere it is missing."""
    return Path(__file__).resolve().parents[2] / "book" / "recorded"


def record(build: Path, run: str, into: Path | None = None) -> list[str]:
    """Keep the pages of a finished build as the recorded run `run`; returns the pages' names.

    build: a build's folder, e.g. ``build/colab`` or ``build/custom/0123456789abcdef``. Pages that
    the run already has are replaced, others stay.

    Raises RecordError, before anything is written, for a folder without finished pages, a page that
    failed, a run in miniature, and a name that is not plain (see `check_name`).
    """
    check_name(run)
    pages = sorted(path.parent for path in (build / "pages").glob("*/state.json"))
    if not pages:
        raise RecordError(
            f"{build} holds no finished pages; give a build's folder, e.g. build/colab "
            "or one under build/custom"
        )
    for page in pages:
        if (page / "failure.json").exists():
            raise RecordError(f"the last run of {page.name} in {build} failed; build it again")
        state = read_json(page / "state.json")
        if not is_state(state):
            raise RecordError(f"{page / 'state.json'} is not what a run left; build it again")
        if lost := [n for n, known in state["files"].items() if _sha256(page / n) != known]:
            raise RecordError(
                f"{page.name} in {build} is not as its run left it: {', '.join(lost)} differ; "
                "build it again"
            )
        models = _models(page)
        small = [m["name"] for m in models if m["classes"] == "stimuli"]
        if small or not models:
            raise RecordError(
                f"{page.name} in {build} is no run of real models "
                f"({', '.join(small) or 'none is recorded in models.json'}); miniatures are "
                "measured again at every build"
            )
    for page in pages:
        place = (into or folder()) / run / page.name
        new = place.with_name(f".{place.name}.part")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        for table in sorted(page.glob("*.csv")):
            if table.stat().st_size <= LARGEST:
                shutil.copy(table, new)
        left = TRIALS
        for trials in sorted(page.glob("*.parquet"), key=lambda path: path.stat().st_size):
            if trials.stat().st_size <= left:
                shutil.copy(trials, new)
                left -= trials.stat().st_size
        if (page / "claims").is_dir():
            shutil.copytree(page / "claims", new / "claims")
        for name in ("models.json", "headline.json"):
            if (page / name).exists():
                shutil.copy(page / name, new)
        state = read_json(page / "state.json")
        known = ("key", "settings", "seconds", "finished", "commit", "versions", "machine")
        kept = {name: state[name] for name in known}
        kept["settings"] = {  # a place on somebody's machine: its last part is enough
            name: placeless(value) if isinstance(value, str) else value
            for name, value in kept["settings"].items()
        }
        kept["image sets"] = _image_sets(page, _store(build))
        kept["files"] = _hashes(new)
        write_json(new / "state.json", sealed(kept))
        swap(new, place, lasting=True)
    return [page.name for page in pages]


def check_name(run: str) -> None:
    """Raises RecordError for a name that is not plain: it becomes a folder, and part of pages."""
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", run):
        raise RecordError(
            "a recorded run is called like a folder, by up to 100 of a-z, A-Z, 0-9, -, _ and ., "
            f"not beginning with a dot, e.g. lite0; got {run!r}"
        )


def _hashes(place: Path) -> dict[str, str]:
    """The files of a recorded page but its state, with their SHA-256."""
    files = sorted(path for path in place.rglob("*") if path.is_file())
    return {
        path.relative_to(place).as_posix(): sha256(path)
        for path in files
        if path != place / "state.json"
    }


def _sha256(path: Path) -> str:
    return sha256(path) if path.is_file() else "no file"


def _store(build: Path) -> Path:
    """The trials that a build's pages rest on: ``build/trials`` of its checkout."""
    inside = [place / "trials" for place in (build.resolve(), *build.resolve().parents)]
    return next((place for place in inside if place.is_dir()), inside[0])


def _image_sets(page: Path, store: Path) -> list[dict[str, Any]]:
    """The image sets that a page's trials were measured on: name, fingerprint, n at most."""
    from vitlab.trials.store import read_asked  # brings torch along

    most: dict[tuple[str, str], int] = {}
    for key in read_asked(page):
        try:
            about = read_json(store / key / "about.json")
        except (OSError, ValueError):  # a key may be any text, and the store is no record
            continue
        known = isinstance(about, dict) and isinstance(about.get("fingerprint"), str)
        if known and (said := re.fullmatch(r"(\d{1,15}) of (.+)", str(about.get("images")))):
            found = said[2], about["fingerprint"]
            most[found] = max(int(said[1]), most.get(found, 0))
    return [{"name": name, "fingerprint": f, "n": n} for (name, f), n in sorted(most.items())]


def _models(page: Path) -> list[dict[str, Any]]:
    path = page / "models.json"
    models = read_json(path) if path.exists() else []
    if not isinstance(models, list) or not all(_fits(m, _OF_MODEL) for m in models):
        raise RecordError(f"{path} is no list of models with {', '.join(_OF_MODEL)}{_HEAL}")
    return models


def runs(page: str, where: Path | None = None) -> list[dict[str, Any]]:
    """The recorded runs of a page: run, folder, state, models, claims (judged by today's rules).

    Raises RecordError where a file is not the one that was recorded, FileError, with file and
    line, for what is no JSON.
    """
    where = where or folder()
    for aside in where.glob(f"*/.old-{glob.escape(page)}"):  # a swap that was stopped
        restore(aside.with_name(page))
    return [_read(place) for place in sorted(where.glob(f"*/{glob.escape(page)}"))]


def _read(place: Path) -> dict[str, Any]:
    try:
        state = read_json(place / "state.json")
    except OSError as error:
        raise RecordError(
            f"{place / 'state.json'} cannot be read: {error.strerror}{_HEAL}"
        ) from None
    sets = state.get("image sets", []) if isinstance(state, dict) else ""
    told = isinstance(sets, list) and all(_fits(one, _OF_SET) for one in sets)
    if not told or not is_state(state):
        raise RecordError(f"{place / 'state.json'} is not what was recorded{_HEAL}")
    have, kept = _hashes(place), state["files"]
    if changed := sorted(name for name in {*have, *kept} if have.get(name) != kept.get(name)):
        raise RecordError(f"{place} is not what was recorded: {', '.join(changed)} differ{_HEAL}")
    run = {"run": place.parent.name, "folder": place, "state": state, "models": _models(place)}
    claims_ = []
    for path in sorted([*place.glob("*.csv"), *place.glob("claims/*.json")]):
        try:  # its hash is right, which says nothing of who wrote it
            if path.suffix == ".csv":
                pd.read_csv(path)
            else:
                judged = {**claims.judged(claims.read(path)), "recorded": run["run"]}
                json.dumps(judged, allow_nan=False)  # as the ledger has it
                claims_.append(judged)
        except FileError:
            raise
        except claims.ClaimError as error:
            if str(error).startswith(str(claims.papers_folder())):
                raise  # a paper's file is at fault, and not the run
            raise RecordError(f"{path}: {error}") from None
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            raise RecordError(f"{path} cannot be read: {why[:300]}{_HEAL}") from None
    return {**run, "claims": claims_}


Kinds = dict[str, type | tuple[type, ...]]

_HEAL = "; restore it, or record the run again with vitlab record"
_OF_STATE: Kinds = {
    **dict.fromkeys(("key", "finished", "commit", "versions", "machine"), str),
    **{"seconds": (int, float), "settings": dict, "files": dict},
}
_OF_MODEL: Kinds = dict.fromkeys(("name", "classes", "source"), str)
_OF_SET: Kinds = {"name": str, "fingerprint": str, "n": int}


def is_state(state: Any, **more: type | tuple[type, ...]) -> bool:
    """Whether a value tells of a run what pages show, and is as it was sealed.

    more: the kinds of further entries.
    """
    return _fits(state, _OF_STATE | more) and is_whole(state) and math.isfinite(state["seconds"])


def _fits(value: Any, kinds: Kinds) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(k), v) for k, v in kinds.items())


def table(page: str, name: str, where: Path | None = None) -> pd.DataFrame:
    """A table of a page from all its recorded runs, with a column ``run``; empty without any."""
    parts = [
        pd.read_csv(run["folder"] / name).assign(run=run["run"])
        for run in runs(page, where)
        if (run["folder"] / name).exists()
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
