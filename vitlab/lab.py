"""A page's bench: its parameters, images, models and folder, and what it measures with them.

    lab = Lab("07-adversaries", globals())
    found = lab.measure(attack)          # values per image, by model, kept in the store

    @lab.settles("naseer2021", "fgsm-pgd")
    def fgsm_pgd():
        yield "ViT - CNN, FGSM, 8/255", found("ViT", "FGSM", 8) - found("CNN", "FGSM", 8) > 0

Without a page: `accuracy`, `occlusion` and `shape_bias` take any models and images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from math import isfinite
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pandas as pd
import torch
from IPython.display import display
from torch import Tensor

from vitlab import claims, plots
from vitlab.book import profiles, svg
from vitlab.claims import Part as Part
from vitlab.conditions import CLEAN, Batch, Condition, patchdrop
from vitlab.files import write_json
from vitlab.images import cifar
from vitlab.images.images import Images
from vitlab.images.loading import cue_conflict, load, own
from vitlab.inside.tokens import why_not
from vitlab.markup import BY_DEIT
from vitlab.models.hub import load_all
from vitlab.models.model import Model
from vitlab.models.taxonomy import by_group
from vitlab.statistics.accuracy import correct
from vitlab.statistics.check import Check, measured
from vitlab.statistics.quantity import Asked, Measured, Quantity
from vitlab.statistics.shape_bias import group_shape_bias, shape_decisions
from vitlab.trials import measure, store
from vitlab.trials.run import run

# How a page's images are read, by what its sizes say that it needs.
_READERS: dict[str, Callable[..., Images]] = {
    "": load,
    "cue-conflict images": cue_conflict,
    "classes of their own": own,
}

_BY_DEIT = "ViT, DeiT's recipe", "CNN, DeiT's recipe"  # groups of the photo zoo


def accuracy(
    models: Sequence[Model], images: Images, conditions: Sequence[Condition], **how: Any
) -> Measured:
    """Right answers per image: ``found("ViT", "random PatchDrop", 0.5)`` is an accuracy.

    how: batch_size, workers... of `vitlab.trials.run.run`, which says what is raised.
    """
    return _right(run(models, images, conditions, **how), models, images)


def _right(trials: pd.DataFrame, models: Sequence[Model], images: Images) -> Measured:
    per_image: dict[Any, Any] = dict(correct(trials).items())
    return Measured(
        per_image,
        by_group(list(models)),
        items=images.fingerprint,
        chance=1 / len(images.categories),
        classes={images.fingerprint: images.labels},
    )


def occlusion(
    models: Sequence[Model],
    images: Images,
    shares: Sequence[float] = (0, 0.25, 0.5, 0.75),
    seed: int = 0,
    **how: Any,
) -> Measured:
    """Accuracy with a share of the image's cells blanked at random (Naseer et al. 2021, sec. 3.1).

    The grid is 14 x 14 cells on 224 px images, 8 x 8 on 64 px: a cell is a ViT's patch. One mask
    per image. ``found("ViT", "random PatchDrop", 0.5)`` is an accuracy. how: as in `accuracy`.

    Raises ValueError for models of several input sizes, and for a size that has no such grid.
    """
    if len(sizes := sorted({model.size for model in models})) > 1:
        raise ValueError(f"models of one input size are compared; these have {sizes} pixels")
    side = cells_along(sizes[0])
    return accuracy(models, images, patchdrop.random(list(shares), (side, side), 1, seed), **how)


def cells_along(size: int) -> int:
    """Cells along a side of an image, each a ViT's patch: an eighth up to 64 px, then 16 px.

    Where 16 does not divide the image's side, the even divisor that is next to the paper's 14.

    >>> cells_along(64), cells_along(224), cells_along(384), cells_along(300)
    (8, 14, 24, 12)
    """
    if size <= 64:
        return 8
    if size % 16 == 0:
        return size // 16
    divisors = [side for side in range(1, size) if size % side == 0]
    return min(divisors, key=lambda side: (side == 1, side % 2, abs(side - 14)))


def shape_bias(models: Sequence[Model], images: Images, **how: Any) -> dict[str, Quantity]:
    """Shape bias of each group, as the mean over shape categories (Geirhos et al. 2019).

    images: of `vitlab.images.cue_conflict`. how: as in `accuracy`.
    """
    decided = shape_decisions(run(models, images, [CLEAN], **how), images.table)
    classes, items = len(images.categories), f"conflicts of {images.fingerprint}"
    return {
        group: group_shape_bias(decided, members, classes, items)
        for group, members in by_group(list(models)).items()
    }


def _all_know(models: Sequence[Model], classes: str) -> bool:
    return bool(models) and all(net.classes == classes for net in models)


class Lab:
    """A page's parameters (as attributes), images, models by group, and folder.

    page: its name. given: the page's globals(); a parameter that is None or absent there has the
        value that ``notebooks/profiles.yml`` gives for the profile.
    need: what a model must have to be on the page (see `vitlab.inside.tokens`), or a function that
        says it of each model.
    change: what is made of each model first, e.g. another group.
    read: how images are read; by what the page's sizes say it needs, if None; not at all if False.

    Attributes beside the parameters: images, models, groups (name -> names of models), first (a
    model of each group), size (pixels, of the first model), side (cells of a ViT's patch grid along
    a side, see `cells_along`), edition ("imagenet", "photos" or "mini"), mini and imagenet
    (whether it is that edition), chance.

    Raises ValueError for an unknown page or profile, a parameter that is hidden by a module, and
    where no model of the run has what is needed.
    """

    images: Images

    def __init__(
        self,
        page: str,
        given: Mapping[str, Any],
        need: str | Callable[[Model], str] = "decisions",
        change: Callable[[Model], Model] = lambda net: net,
        read: Callable[..., Images] | Literal[False] | None = None,
    ):
        profile = profiles.name(given.get("profile"))
        start = {"out": f"build/interactive/{page}"} | profiles.sizes(page)[profile]
        for name in start:
            if isinstance(given.get(name), ModuleType):
                raise ValueError(
                    f"{name} is a parameter of {page}, and here a module hides it: "
                    f"import what you need of it, from vitlab.{name} import ..."
                )
        self.given = {k: v if given.get(k) is None else given[k] for k, v in start.items()}
        sets = ("images", "models")  # attributes of that name are what was loaded
        self.__dict__ |= {k: v for k, v in self.given.items() if k not in sets}
        self.out = Path(self.given["out"])
        self.page, self.profile = page, profile
        self.models: list[Model] = []
        plots.style(self.out)
        loaded = []
        if "models" in self.given:
            loaded = load_all(self.given["models"], self.device, self.out)
        if "images" in self.given and read is not False:
            read = read or _READERS[self.given.get("needs", "")]
            self.images = read(self.given["images"], n=self.n_images, seed=self.seed)
            if self.images.classes == "imagenet-16" and _all_know(loaded, "cifar-10"):
                self.images = cifar.recast(self.images)
            self.chance = 1 / len(self.images.categories)
            own = self.given["images"] != start["images"]
            whose = "your choice" if own else f"profile {profile}"
            print(f"{whose}: {len(self.images)} images of {self.images.name}")
        self.edition = self._edition(loaded)
        self.mini, self.imagenet = self.edition == "mini", self.edition == "imagenet"
        if "models" in self.given:
            changed = [change(net) for net in loaded]
            self.models = self.able(need, changed)
            if not self.models:
                why = [f"{n}: {reason}" for n, reason in self._lacks(need, changed).items()]
                raise ValueError(
                    f"no model of {self.given['models']!r} can be used on this page "
                    f"({'; '.join(why[:3])}{'; ...' if len(why) > 3 else ''}); give models= and "
                    "images= that go together, e.g. models=efficientnet-lite0 for photographs"
                )
            self.size = self.models[0].size
            self.side = cells_along(self.size)
        self.regroup(lambda net: net.group)

    def _edition(self, loaded: Sequence[Model]) -> claims.Edition:
        """What kind of evidence this run is, by its images; without any, by its models."""
        if images := self.__dict__.get("images"):
            known: dict[str, claims.Edition] = {"stimuli": "mini", "cifar-10": "photos"}
            return known.get(images.classes, "imagenet")
        if self.given.get("images", "stimuli") == "stimuli":
            return "mini"
        return "photos" if _all_know(loaded, "cifar-10") else "imagenet"

    def regroup(self, group_of: Callable[[Model], str]) -> None:
        """Give every model the group that is said of it, and print the groups if they change."""
        before = self.__dict__.get("groups")
        self.models = [replace(net, group=group_of(net)) for net in self.models]
        self.groups = by_group(self.models)
        self.first = {g: next(n for n in self.models if n.group == g) for g in self.groups}
        for group, members in self.groups.items() if self.groups != before else ():
            print(f"{group}: {', '.join(members)}")

    def __getattr__(self, name: str) -> Any:
        known = ", ".join(self.__dict__.get("given", {}))
        raise AttributeError(f"no {name!r}; the page's parameters are {known}")

    def used(self, names: set[str] | None) -> dict[str, Any]:
        """What code that takes some attributes depends on (see `values`); None: on any of them."""
        if names is None or not names.isdisjoint(
            ("given", *vars(Lab))
        ):  # what takes the lab itself
            names = {*self.given, *self.__dict__} - {"given", "out"}
        asked = sorted(names - set(measure.SPEED))
        return {name: self.__dict__[name] for name in asked if name in self.__dict__}

    def able(
        self,
        need: str | Callable[[Model], str],
        among: Sequence[Model],
        images: Images | None = None,
    ) -> list[Model]:
        """The models that have what is needed; prints why the others are left out.

        images: that a model must decide about, if it is decisions that are needed; the page's set
            if None.
        """
        why = self._lacks(need, among, images)
        for name, reason in why.items():
            print(f"left out: {name} ({reason})")
        return [net for net in among if net.name not in why]

    def _lacks(
        self,
        need: str | Callable[[Model], str],
        among: Sequence[Model],
        images: Images | None = None,
    ) -> dict[str, str]:
        """Why some models cannot be used, by their names."""
        images = images or self.__dict__.get("images")
        why = {n.name: why_not(n, need(n) if callable(need) else need, images) for n in among}
        return {name: reason for name, reason in why.items() if reason}

    def named(self, part: str, group: str) -> str:
        """The model that a claim is about, by a part of its name; its group where it is not run."""
        return next((net.name for net in self.models if part in net.name), group)

    @property
    def as_accurate(self) -> list[str]:
        """The group of CNNs that are right as often as the ViTs, where the run has it; or none.

        What a level under damage says of two networks is mixed with how good they are; beside it
        stands the same against these.
        """
        return [group for group in self.groups if group == "CNN, equal accuracy"]

    @property
    def pairs_beside(self) -> dict[str, tuple[str, str]]:
        """Pairs of groups of which the same is asked as of ViT and CNN, by their name in a check.

        Where the run has them: the ViT with the CNNs that are `as_accurate`, and both by DeiT's
        recipe, by which the papers' ViTs were trained and their ResNets were not. They are never
        pooled with the main pair, and no verdict rests on them.
        """
        pairs = {f"ViT - {cnn}": ("ViT", cnn) for cnn in self.as_accurate}
        if set(_BY_DEIT) <= set(self.groups):
            pairs[f"ViT - CNN {BY_DEIT}"] = _BY_DEIT
        return pairs

    @property
    def compared(self) -> list[str]:
        """The groups that are compared: ViT, CNN, and those of the pairs beside."""
        pairs = [("ViT", "CNN"), *self.pairs_beside.values()]
        return list(dict.fromkeys(group for pair in pairs for group in pair))

    @property
    def usual(self) -> list[Model]:
        """The models but those by DeiT's recipe: what counts all networks of a run counts these."""
        return [net for net in self.models if net.group not in _BY_DEIT]

    # --- measuring --------------------------------------------------------------------------------

    def trials(
        self,
        conditions: Sequence[Condition],
        images: Images | None = None,
        among: Sequence[Model] | None = None,
    ) -> pd.DataFrame:
        """Every image (of the page's set, if None) under every condition, by the engine.

        The trials are kept as ``trials.parquet`` in the page's folder too, for its readers.
        """
        found = run(
            self.models if among is None else among,
            images or self.images,
            conditions,
            batch_size=self.batch_size,
            workers=self.workers,
        )
        self._keep(found, "trials")
        return found

    def accuracy(
        self,
        conditions: Sequence[Condition],
        images: Images | None = None,
        among: Sequence[Model] | None = None,
    ) -> Measured:
        """Right answers per image, of `trials`: ``found("ViT", "clean", 0)`` is an accuracy."""
        among, images = self.models if among is None else among, images or self.images
        return _right(self.trials(conditions, images, among), among, images)

    def accuracies(
        self,
        sets: Mapping[str, Images],
        among: Sequence[Model] | None = None,
        items: str = "",
    ) -> Measured:
        """Right answers about several sets of the same categories: ``found("ViT", "sketch")``.

        items: what their images are of, where all sets show the same, one by one; then formulas
            across sets are paired.
        """
        among = self.models if among is None else among
        values = {
            (net, name): right
            for name, images in sets.items()
            for (net, *_), right in self.accuracy([CLEAN], images, among).values.items()
        }
        named = {name: items or images.fingerprint for name, images in sets.items()}
        categories = next(iter(sets.values())).categories
        return Measured(
            values,
            by_group(list(among)),
            items=named,
            chance=1 / len(categories),
            classes={named[name]: images.labels for name, images in sets.items()},
        )

    def batch(
        self, net: Model, index: Sequence[int] | Tensor, images: Images | None = None
    ) -> Batch:
        """Some images of a set (the page's, if None) as a model is shown them."""
        return measure.batch(net, images or self.images, index)

    def collect(
        self,
        body: Callable[[Model, Batch], measure.Values],
        images: Images | None = None,
        among: Sequence[Model] | None = None,
        index: Sequence[int] | Tensor | None = None,
    ) -> dict[tuple, Tensor]:
        """body(net, batch) of every model and image: {(model, *key): [items, ...]}, kept.

        Models that agree on geometry share the decoded pixels. An item's values must not depend on
        its batch.
        """
        among, images = self.models if among is None else among, images or self.images
        return measure.collect(body, among, images, index, self.batch_size)

    def measure(
        self,
        body: Callable[[Model, Batch], measure.Values],
        images: Images | None = None,
        among: Sequence[Model] | None = None,
        index: Sequence[int] | Tensor | None = None,
        units: Mapping[str, str] | None = None,
        redraw: bool = False,
    ) -> Measured:
        """`collect` of numbers, ready for formulas (see `Measured` for units and redraw)."""
        images = images or self.images
        values = self.collect(body, images, among, index)
        items = images.fingerprint if index is None else f"{images.fingerprint} {list(index)}"
        labels = images.labels if index is None else images.labels[torch.as_tensor(index)]
        chance = 1 / len(images.categories)
        found = self.measured(values, items, units, redraw, chance, {items: labels})
        self._keep(found.frame(), body.__name__)
        return found

    def measured(
        self,
        values: Mapping[tuple, Any],
        items: str | Mapping[Any, str],
        units: Mapping[str, str] | None = None,
        redraw: bool = False,
        chance: float | None = None,
        classes: Mapping[str, Any] | None = None,
    ) -> Measured:
        """Values per item that a page has got otherwise, by (model, *key); see `Measured`."""
        return Measured(values, self.groups, units, items, chance, redraw, classes)

    def each(self, make: Callable[[Model], Any], among: Sequence[Model]) -> dict[str, Any]:
        """make(net) of every model, kept in the store: {model's name: what was made}."""
        return {net.name: self.keep(make, net) for net in among}

    def keep(self, make: Callable[..., Any], *of: Any) -> Any:
        """make(*of), kept in the store as long as its code and what it is made of stay.

        It depends on the page's images as well, where there are any.
        """
        images = self.__dict__.get("images")
        return measure.keep(make, *of, also=images, about=images.name if images else "")

    def _keep(self, table: pd.DataFrame, name: str) -> None:
        """A table as Parquet in the page's folder, numbered where there is one of that name."""
        self.out.mkdir(parents=True, exist_ok=True)
        taken = self.__dict__.setdefault("_taken", {})
        taken[name] = taken.get(name, 0) + 1
        number = f"-{taken[name]}" if taken[name] > 1 else ""
        table.to_parquet(self.out / f"{name}{number}.parquet", compression="zstd", index=False)
        store.save_asked(self.out)

    # --- claims -----------------------------------------------------------------------------------

    def settles(
        self, paper: str, claim: str, note: str = "", needs: Sequence[str] = ("ViT", "CNN")
    ) -> Callable[[Callable[[], Iterator]], claims.Settled]:
        """Settle a claim by what a generator yields: (text, check), (text, fact), or a remark.

        The first check decides, as the claim's ``primary`` in its paper's file says; the others are
        counted. ``Part("...")`` before it begins the claim's next statement. A third part of a pair
        is the unit, if it is not the quantity's own.

        Without all the groups in `needs` no check counts; a check of another group that is lacking
        is left out.
        """

        def settle(body: Callable[[], Iterator]) -> claims.Settled:
            facts, remarks, lacking = [], [note] * bool(note), []
            parts: dict[str, list[list[Check]]] = {}
            part, undecided = "", set()
            for said in body():
                if isinstance(said, claims.Part):
                    part = str(said)
                elif isinstance(said, str):
                    remarks.append(said)
                else:
                    text, what, unit = (*said, "")[:3]
                    if isinstance(what, Quantity):
                        if not what.lacks:
                            facts.append((text, what.interval, unit or what.unit))
                        continue
                    asked = {text: what} if isinstance(what, Asked) else what
                    lost = [one.quantity.lacks for one in asked.values() if one.quantity.lacks]
                    if lost:
                        lacking.append(f"{text}: not checked, no numbers of {lost[0]}.")
                        if part not in parts:  # what comes next decides nothing
                            undecided.add(part)
                    else:
                        demand = [measured(t, one, unit) for t, one in asked.items()]
                        parts.setdefault(part, []).append(demand)
            parts = {name: asked for name, asked in parts.items() if name not in undecided}
            if not set(needs) <= set(self.groups):
                parts, lacking = {}, []
                have = ", ".join(self.groups) or "no models"
                remarks = [f"needs a {' and a '.join(needs)}; this run has {have}"]
            why = " ".join(dict.fromkeys([*remarks, *lacking]))
            found = claims.Finding(paper, claim, self.run, parts, facts, why)
            settled = claims.settle(found, self.out)
            store.save_asked(self.out)
            display(settled)
            return settled

        return settle

    def headline(
        self,
        paper: str,
        claim: str,
        lines: Mapping[str, Mapping[Any, Quantity]],
        y: str,
        x: str = "",
        chance: bool = False,
    ) -> svg.Panel:
        """The figure that the page begins with: {series: {level, or a row's name: quantity}}.

        paper, claim: whose published numbers (those with ``at``) stand beside it in the book.
        chance: whether guessing is drawn in. Raises ClaimError for an unknown paper or claim.
        """
        claims.claim(paper, claim)

        def point(level: Any, interval: Sequence[float]) -> list[Any]:
            numbers = [float(x) if isfinite(x) else None for x in interval[:3]]
            return [level if isinstance(level, str) else float(level), *numbers, interval[3]]

        shown = {
            series: [
                point(k, q.interval)
                for k, q in points.items()
                if not q.lacks and isfinite(q.interval.value)
            ]
            for series, points in lines.items()
        }
        shown = {series: points for series, points in shown.items() if points}
        panel = svg.Panel("this run", shown, x, y, self.chance if chance else None, paper, claim)
        self.out.mkdir(parents=True, exist_ok=True)
        kept = {**asdict(panel), "edition": self.run.edition}
        write_json(self.out / "headline.json", kept)
        return panel

    @property
    def run(self) -> claims.Run:
        """What this page is measured on: its edition, models and images."""
        images = self.__dict__.get("images")
        about = f"{len(images)} images of {images.name}" if images else ""
        names = [net.name for net in self.models]
        return claims.Run(self.edition, names, about, images.name if images else "")
