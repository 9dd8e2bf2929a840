"""What a build would need before anything starts: data sets, gigabytes, model forwards, hours."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from vitlab import models, once
from vitlab.book import build
from vitlab.book.pages import Page, models_of
from vitlab.images import catalogue as datasets
from vitlab.images.folders import is_image

# What a free Colab GPU (NVIDIA T4, 8.1 TFLOP/s on paper) sustains in 32 bit on such networks.
# An assumption, not a measurement of this project: expect the hours to be off by a factor of two.
T4_FLOPS = 3e12


@cache
def flops(name: str) -> float | None:
    """Floating-point operations of one forward pass of a model on one image; None if unknown.

    A timm model is counted without its weights and without memory for them.
    """
    if name.startswith("timm/"):
        arch = name.removeprefix("timm/").split("=")[0].split("@")[0].split(".")[0]
        if not timm.is_model(arch):
            return None
    elif name == "efficientnet-lite0":
        arch = "tf_efficientnet_lite0"
    elif name in models.zoo():
        model = models.load(name, "cpu")
        return _count(model.net.to("meta"), model.config["input_size"])
    else:
        return None
    return once.asked(_timm_flops, arch, *map(metadata.version, ("timm", "torch")))


def _timm_flops(arch: str, *_versions: str) -> float:
    with torch.device("meta"):
        net = timm.create_model(arch, pretrained=False).eval()
    return _count(net, timm.data.resolve_model_data_config(net)["input_size"])


def _count(net: torch.nn.Module, size: tuple[int, int, int]) -> float:
    with FlopCounterMode(display=False) as counter:
        net(torch.empty(1, *size, device="meta"))
    return float(counter.get_total_flops())


def measured_flops(seconds: float = 1.0) -> float:
    """Floating-point operations a second that this machine sustains in a ResNet-18, roughly."""
    device = models.best_device()
    net = timm.create_model("resnet18", pretrained=False).eval().to(device)
    pixels = torch.rand(8, 3, 224, 224, device=device)
    work = 8 * (flops("timm/resnet18") or 0)
    done = 0
    with torch.inference_mode():
        net(pixels).sum().item()
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            net(pixels).sum().item()  # .item() waits for the device
            done += 1
    return done * work / (time.perf_counter() - started)


def table(pages: list[Page], here: float, built: Path | None = None) -> pd.DataFrame:
    """A row per page: images, how many, models, forwards, hours on a T4 and here, last minutes.

    here: operations a second on this machine (`measured_flops`). built: the folder of a build (see
    `build.place`), whose pages' last runs took so many minutes (NaN: none stands). Forwards count
    what a page's ``passes`` says: conditions per image, with a backward pass as two. Hours are
    computing time alone; decoding and downloads come on top. Models that cannot be counted are
    named, and the hours are unknown (NaN).
    """
    rows = []
    for page in pages:
        settings = page.settings
        chosen = models_of(page)
        images = str(settings.get("images", "stimuli"))
        n = min(int(settings.get("n_images", 0)), _here(images))
        each = n * int(settings.get("passes", 1))
        counted = {name: flops(name) for name in chosen}
        work = each * sum(math.nan if f is None else f for f in counted.values())
        last = build.read_state(built / "pages" / page.name) if built else {}
        rows.append(
            {
                "page": page.name,
                "images": _shortened(images),
                "n": n,
                "models": len(chosen),
                "forwards": each * len(chosen),
                "T4 hours": work / T4_FLOPS / 3600,
                "hours here": work / here / 3600,
                "last run, minutes": last.get("seconds", math.nan) / 60,
                "not counted": ", ".join(name for name, f in counted.items() if f is None),
            }
        )
    return pd.DataFrame(rows)


def _here(images: str) -> float:
    """How many files of images a folder holds, or the largest of some; of a set, no limit."""
    parts = datasets.several(images)
    if any(datasets.is_set(part) or not Path(part).is_dir() for part in parts):
        return math.inf
    return max(sum(map(is_image, datasets.files(Path(part)))) for part in parts)


def _shortened(images: str) -> str:
    """The first of several image sets, and how many more there are."""
    first, *more = images.split(",")
    return f"{first} and {len(more)} more" if more else first


def data_sets(pages: list[Page]) -> pd.DataFrame:
    """The data sets that the pages name: gigabytes (NaN: unknown), whether they can be had."""
    given = {str(page.settings.get("images", "stimuli")) for page in pages}
    each = {part for where in given for part in datasets.several(where)}
    names = {datasets.set_name(name) if datasets.is_set(name) else name for name in each}
    known = datasets.table().set_index("name")
    rows: list[dict[str, Any]] = []
    for name in sorted(names - {"stimuli"}):
        if name in known.index:
            row = known.loc[name]
            rows.append({"images": name, "gigabytes": row["size_gb"], "state": row["state"]})
        else:
            rows.append({"images": name, "gigabytes": 0.0, "state": "here: a folder"})
    return pd.DataFrame(rows, columns=["images", "gigabytes", "state"])


def text(pages: list[Page], built: Path | None = None, counted: Path | None = None) -> str:
    """The plan as the command line prints it.

    built: see `table`. counted: a file in which models' operations are kept for the next plan.
    """
    with once.kept(counted, Path(__file__)) if counted else nullcontext():
        work = table(pages, measured_flops(), built)
    data = data_sets(pages)
    wanted = data[~data["state"].str.startswith("here")]["gigabytes"]
    lost = int(wanted.isna().sum())
    unknown = f" and {lost} set{'s' if lost > 1 else ''} of unknown size" if lost else ""
    hours = work[["T4 hours", "hours here"]].sum()
    uncounted = ", ".join(dict.fromkeys(filter(None, work.pop("not counted"))))
    more = f" and what these take, whose work is unknown: {uncounted}" if uncounted else ""
    how: dict[str, Any] = {"index": False, "float_format": "{:,.2f}".format, "na_rep": "unknown"}
    ran = work.pop("last run, minutes")
    if ran.notna().any():
        work["last run, minutes"] = ["" if math.isnan(one) else f"{one:,.1f}" for one in ran]
    parts = [work.to_string(**how)]
    if len(data):
        parts.append(data.to_string(**how))
    profile = pages[0].settings["profile"]
    parts.append(
        f"profile {profile} (--profile names another; build's own is mini); "
        f"to get: {wanted.sum():,.2f} GB{unknown}; forwards: {work['forwards'].sum():,}; "
        "computing: "
        f"{hours['T4 hours']:,.2f} h on a T4 (assumed {T4_FLOPS / 1e12:g} TFLOP/s), "
        f"{hours['hours here']:,.2f} h here ({models.device_name()}){more}. Nothing was started."
    )
    return "\n\n".join(parts)
