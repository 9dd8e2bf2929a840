"""Four sizes of the same experiment: mini, photos, colab, full.

``notebooks/profiles.yml`` says what each size is: page -> profile -> parameter -> value, and under
"every page" what holds for all. Parameters given by the reader win.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

from vitlab.files import FileError, nearest, read_yaml

PROFILES = ("mini", "photos", "colab", "full")
EVERY = "every page"


def file() -> Path:
    """Where the sizes are: $VITLAB_PROFILES, the wheel, or the checkout's ``notebooks``."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "notebooks" / "profiles.yml"
    checkout = package.parent / "notebooks" / "profiles.yml"
    return Path(os.environ.get("VITLAB_PROFILES", inside if inside.exists() else checkout))


@cache
def _read(where: Path, changed: int) -> Any:
    return read_yaml(where)


def pages(where: Path | None = None) -> dict[str, dict[str, dict[str, Any]]]:
    """Every page's section, as it stands in ``profiles.yml``; empty without such a file.

    Raises FileError, with page and profile, for a file of another form.
    """
    where = where or file()
    found = _read(where, where.stat().st_mtime_ns) if where.exists() else {}
    if not isinstance(found, dict):
        raise FileError(f"{where} is not a mapping of pages to profiles")
    for page, section in found.items():
        if not isinstance(section, dict) or not section:
            raise FileError(f"{where}: {page} is not a mapping")
        for profile, values in section.items() if page != EVERY else ():
            if profile not in PROFILES or not isinstance(values, dict):
                raise FileError(
                    f"{where}: {page}: {profile!r} is no profile with parameters; "
                    f"profiles: {', '.join(PROFILES)}"
                )
        for values in section.values() if page != EVERY else [section]:
            for key, value in values.items():
                if not isinstance(key, str) or not _is_plain(value):
                    raise FileError(
                        f"{where}: {page}: {key}: {str(value)[:80]!r} is no number, text, or list "
                        "of these"
                    )
    return dict(found)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(one, str | int | float) for one in value)
    return value is None or isinstance(value, str | int | float)


def sizes(page: str, where: Path | None = None) -> dict[str, dict[str, Any]]:
    """What each profile of a page sets: profile -> parameter -> value, "every page" included.

    Raises ValueError for a page without a section.
    """
    found = pages(where)
    for_all = found.pop(EVERY, {})
    if page not in found:
        raise ValueError(f"{where or file()} has no page {page!r}{nearest(page, list(found))}")
    return {profile: {**for_all, **values} for profile, values in found[page].items()}


def name(profile: str | None) -> str:
    """The profile to run: as given, else "colab" on Google Colab and "mini" elsewhere.

    Raises ValueError for an unknown one.
    """
    if profile is None:
        return "colab" if "google.colab" in sys.modules else "mini"
    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}{nearest(profile, PROFILES)}")
    return profile
