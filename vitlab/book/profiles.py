"""Three sizes of the same experiment: mini, colab, full.

A page says in its cell tagged ``profiles`` what each size is; parameters given by the reader win.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from vitlab.files import nearest

PROFILES = ("mini", "colab", "full")


def name(profile: str | None) -> str:
    """The profile to run: as given, else "colab" on Google Colab and "mini" elsewhere.

    Raises ValueError for an unknown one.
    """
    if profile is None:
        return "colab" if "google.colab" in sys.modules else "mini"
    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}{nearest(profile, PROFILES)}")
    return profile


def choose(sizes: Mapping[str, Mapping[str, Any]], profile: str | None, **given: Any) -> list[Any]:
    """The values of the parameters `given`: their own, or the profile's where they are None.

    sizes: profile -> parameter -> value. Prints what was chosen, so that a page shows it.

    >>> sizes = {"mini": {"models": "mini/*", "n_images": 240}}
    >>> models, n = choose(sizes, "mini", models=None, n_images=12)
    profile mini: models=mini/*, n_images=12
    >>> models, n
    ('mini/*', 12)

    Raises ValueError for a profile that the page does not have.
    """
    profile = name(profile)
    if profile not in sizes:
        raise ValueError(f"this page has no profile {profile!r}; it has {', '.join(sizes)}")
    chosen = {k: sizes[profile][k] if value is None else value for k, value in given.items()}
    print(f"profile {profile}: " + ", ".join(f"{k}={value}" for k, value in chosen.items()))
    return list(chosen.values())


def sizes(page):
    from pathlib import Path

    import yaml

    every = yaml.safe_load((Path(__file__).parents[2] / "notebooks" / "profiles.yml").read_text())
    return {k: every["every page"] | v for k, v in every[page].items()}
