"""Recipes: how each model of the zoos is trained, read from one table, ``vitlab/zoo/recipes.yml``.

>>> recipe = recipes()["mini/vit-distilled-0"]
>>> recipe.arch, recipe.steps, recipe.augmentation
('vit-two-tokens', 4000, {'mixup_or_cutmix': {'classes': 16}})
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from vitlab.files import digest, nearest, parse_yaml
from vitlab.models.model import PRECISIONS
from vitlab.models.small import ARCHITECTURES
from vitlab.models.weights import BITS
from vitlab.models.zoos import ZOO
from vitlab.training.augmentation import AUGMENTATIONS
from vitlab.training.objectives import OBJECTIVES
from vitlab.training.schedule import SCHEDULES, STREAMS
from vitlab.training.sources import SOURCES


class RecipeError(ValueError):
    """A recipe that cannot be followed, or that there is none of."""


@dataclass(frozen=True)
class Recipe:
    """All that a training depends on beside the library's code and versions.

    name: of the model, ``<zoo>/<record>-<seed>``. group: whom it speaks for in a figure.
    classes, config: what the zoo's outputs mean, and its preprocessing (see `models.Model`).
    images: a key of `sources.SOURCES`; image_count: how many of them; epochs: how often each is
        shown, in batches of `batch`, the last incomplete one left out.
    objective: one of `objectives.OBJECTIVES` with its settings: ``{"labels": {"smoothing": 0.1}}``.
        A setting `teacher` names a model of the zoo.
    augmentation: any of `augmentation.AUGMENTATIONS` with their settings, applied in this order.
    start: the model of the zoo whose weights it begins with; random weights if empty.
    learning_rate, betas, weight_decay: of AdamW; warm_up: the share of the steps in which the
        learning rate rises; schedule: a key of `schedule.SCHEDULES`.
    gradient_norm: gradients are clipped to it.
    streams: how seeds become random numbers, a key of `schedule.STREAMS`.
    precision, fused_attention, channels_last: how it is computed. On a CPU bfloat16 without fused
        attention trains a ViT about twice as fast as float32, channels last a CNN.
    bits: in how many the weights are kept, 16 or 8 (see `models.weights`).
    """

    name: str
    arch: str
    group: str
    seed: int
    classes: str
    config: dict[str, Any]
    images: str
    image_count: int
    epochs: int
    batch: int
    objective: dict[str, dict[str, Any]]
    learning_rate: float
    betas: tuple[float, float]
    weight_decay: float
    warm_up: float
    schedule: str
    gradient_norm: float
    streams: str
    augmentation: dict[str, dict[str, Any]] = field(default_factory=dict)
    start: str = ""
    precision: str = "float32"
    fused_attention: bool = True
    channels_last: bool = False
    bits: int = 16

    def __post_init__(self) -> None:
        """Raise RecipeError, with the field and what would work, for what cannot be followed."""
        for key, known in _NAMES.items():
            if (value := getattr(self, key)) not in known:
                raise self._error(key, f"unknown {value!r}{nearest(str(value), list(known))}")
        for key in ("image_count", "epochs", "batch", "learning_rate", "gradient_norm"):
            value = getattr(self, key)
            if not isinstance(value, int | float) or value <= 0:
                raise self._error(key, f"{value!r} is not a number above 0")
        if self.batch > self.image_count:
            raise self._error("batch", f"{self.batch} of {self.image_count} images")
        if self.bits not in BITS:
            raise self._error("bits", f"{self.bits!r} is none of {', '.join(map(str, BITS))}")
        if not isinstance(self.objective, dict) or len(self.objective) != 1:
            raise self._error("objective", f"{self.objective!r} is not one name with its settings")
        if not isinstance(self.augmentation, dict):
            raise self._error("augmentation", f"{self.augmentation!r} is not names with settings")
        self._check("objective", OBJECTIVES)
        self._check("augmentation", AUGMENTATIONS)

    def _check(self, key: str, known: Mapping[str, Callable]) -> None:
        """Raise RecipeError where functions of `known` are named that are none, or set wrongly."""
        for name, settings in getattr(self, key).items():
            if name not in known:
                raise self._error(key, f"unknown {name!r}{nearest(name, list(known))}")
            takes = inspect.signature(known[name]).parameters.values()
            allowed = {p.name: p for p in takes if p.kind is inspect.Parameter.KEYWORD_ONLY}
            if unknown := [s for s in settings if s not in allowed]:
                near = nearest(unknown[0], list(allowed)) if allowed else "; it has none"
                raise self._error(key, f"{name} has no setting {unknown[0]!r}{near}")
            needed = (p.name for p in allowed.values() if p.default is inspect.Parameter.empty)
            if missing := [s for s in needed if s not in settings]:
                raise self._error(key, f"{name} needs a setting {missing[0]!r}")

    def _error(self, key: str, problem: str) -> RecipeError:
        return RecipeError(f"recipe {self.name}: {key}: {problem}")

    @property
    def zoo(self) -> str:
        """The part of the name before the slash."""
        return self.name.partition("/")[0]

    @property
    def per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        return self.image_count // self.batch

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return self.per_epoch * self.epochs

    @property
    def learns_from(self) -> list[str]:
        """The models of the zoo whose weights it needs: where it starts, and its teacher."""
        (settings,) = self.objective.values()
        return [name for name in (self.start, settings.get("teacher", "")) if name]

    @property
    def digest(self) -> str:
        """A fingerprint of what is trained; another name or group leaves it as it is.

        So do other bits, in which the same weights are kept: what was trained need not be again.
        """
        aside = "name", "group", "classes", "bits"
        return digest(json.dumps({k: v for k, v in asdict(self).items() if k not in aside}))


_NAMES: dict[str, Any] = {
    "arch": ARCHITECTURES,
    "images": SOURCES,
    "schedule": SCHEDULES,
    "streams": STREAMS,
    "precision": PRECISIONS,
}


@cache
def recipes() -> dict[str, Recipe]:
    """Every recipe of the table by the name of its model.

    Raises RecipeError as `read` does.
    """
    return read(ZOO / "recipes.yml")


def read(path: Path) -> dict[str, Recipe]:
    """The recipes of a table such as ``vitlab/zoo/recipes.yml``.

    Raises RecipeError, with the record and the key, for a table that is not one.
    """
    try:
        zoos = parse_yaml(path.read_text(encoding="utf-8"))
        sections = [(zoo, section, section["models"].items()) for zoo, section in zoos.items()]
        return {
            f"{zoo}/{record}-{seed}": _recipe(f"{zoo}/{record}-{seed}", seed, section, given)
            for zoo, section, records in sections
            for record, given in records
            for seed in given.get("seeds", [0])
        }
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise RecipeError(f"{path} is not a table of recipes: {error!r}") from None


def _recipe(name: str, seed: int, section: dict[str, Any], given: dict[str, Any]) -> Recipe:
    zoo = {"classes": section["classes"], "config": section["config"], "seed": seed}
    told = {**zoo, **section["shared"], **given, "name": name}
    told.pop("seeds", None)
    told["start"] = str(told.get("start", "")).format(seed=seed)
    known = {one.name: one for one in fields(Recipe)}
    for key in told:
        if key not in known:
            raise RecipeError(f"recipe {name}: unknown key {key!r}{nearest(key, list(known))}")
    for key, one in known.items():
        if key not in told and one.default is MISSING and one.default_factory is MISSING:
            raise RecipeError(f"recipe {name}: no {key}")
    told["config"] = {k: tuple(v) if isinstance(v, list) else v for k, v in told["config"].items()}
    return Recipe(**{**told, "betas": tuple(told["betas"])})
