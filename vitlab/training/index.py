"""What the zoos hold: their index, and the curves beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from filelock import FileLock

from vitlab.files import read_json, whole, write_json, write_text
from vitlab.models import zoos
from vitlab.training.recipe import Recipe, recipes


def curves() -> dict[str, list[dict[str, float]]]:
    """Training curves by model: images shown so far, loss of that batch, accuracy when watched."""
    path = zoos.ZOO / "curves.json"
    return read_json(path) if path.exists() else {}


def answers() -> dict[str, str]:
    """What networks of photographs answer on their test images, a digit an image, by model.

    The right answers are those of "cifar-10". Its photographs are nobody's to pass on, so this is
    what a stated accuracy can be checked by without them.
    """
    path = zoos.ZOO / "answers.json"
    return read_json(path) if path.exists() else {}


def publish(recipe: Recipe, record: dict[str, Any], work: Path) -> None:
    """Put finished weights into ``vitlab/zoo``, their record and curve into its two tables."""
    entry = {k: v for k, v in record.items() if k not in ("curve", "stamp", "answers")}
    zoos.ZOO.mkdir(exist_ok=True)
    with FileLock(work / "index.lock"):  # two trainings may end at once
        with whole(zoos.ZOO / record["file"], lasting=True) as part:
            part.write_bytes((work / record["file"]).read_bytes())
        told = curves() | {recipe.name: record["curve"]}
        lines = (f" {json.dumps(name)}: {json.dumps(told[name])}" for name in _sorted(told))
        write_text(zoos.ZOO / "curves.json", "{\n" + ",\n".join(lines) + "\n}\n")
        if "answers" in record:
            right = {recipe.images: record["answers"]["right"]}
            write_json(
                zoos.ZOO / "answers.json",
                right | answers() | {recipe.name: record["answers"]["given"]},
            )
        path = zoos.ZOO / "index.json"
        index = read_json(path) if path.exists() else {"zoos": {}, "models": {}}
        index["zoos"][recipe.zoo] = {"classes": recipe.classes, "config": recipe.config}
        entries = index["models"] | {recipe.name: entry}
        index["models"] = {name: entries[name] for name in _sorted(entries)}
        write_json(path, index, lasting=True)
    zoos.zoo.cache_clear()


def _sorted(names: dict[str, Any]) -> list[str]:
    """Names in the order of the recipes; those of no recipe are dropped."""
    return [name for name in recipes() if name in names]


def table() -> str:
    """Every recipe in a line: name, architecture, group, objective, accuracy where trained."""
    rows: list[tuple[str, ...]] = [("name", "architecture", "group", "objective", "accuracy")]
    for name, recipe in recipes().items():
        trained = zoos.zoo().get(name)
        reached = f"{trained['accuracy']:.4f}" if trained else "not trained"
        rows.append((name, recipe.arch, recipe.group, *recipe.objective, reached))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
