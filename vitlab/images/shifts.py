"""Natural shifts: what the pages on hard images, renditions, strange objects, backgrounds share.

An image set is narrowed down (`subset`), a model's answer to some classes (`restricted`,
`in_nine`), models to the very same pixels (`by_size`); objects are pasted onto grounds (`pasted`).
All give image sets and models again, so that `evaluate.run` does the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from vitlab.conditions import CLEAN
from vitlab.files import digest, nearest
from vitlab.images import catalogue as datasets
from vitlab.images import load as data
from vitlab.images.download import DownloadError
from vitlab.images.load import DataError, Images
from vitlab.inside import tokens as features
from vitlab.models import Model
from vitlab.rng import generator
from vitlab.statistics import RESAMPLES, Interval, weights
from vitlab.stimuli import scenes as stimuli
from vitlab.trials import run as evaluate

# --- image sets -------------------------------------------------------------------------------


def available(where: str, variant: str = "natural", **how: int | bool | None) -> Images | None:
    """`data.load`, or None where a set by name is not here and cannot be had; prints why.

    Raises DataError as `data.load` does for anything that is not the name of a set.
    """
    if not datasets.is_set(where):
        return data.load(where, variant, **how)  # type: ignore[arg-type]
    try:
        datasets.check(where)
        return data.load(where, variant, **how)  # type: ignore[arg-type]
    except (DataError, DownloadError) as error:
        print(f"left out, {where}: {str(error).splitlines()[0]}")
        return None


def subset(images: Images, places: Sequence[int] | np.ndarray, name: str = "") -> Images:
    """The images at some places of a set, in that order; table, pictures and masks go along.

    name: of the new set, the old one's if empty.

    Raises ValueError where no place is left.
    """
    chosen = [int(i) for i in places]
    if not chosen:
        raise ValueError(f"no image of {images.name} is left")
    mask = images.mask
    return replace(
        images,
        name=name or images.name,
        table=images.table.iloc[chosen].reset_index(drop=True),
        picture=lambda i: images.picture(chosen[i]),
        mask=None if mask is None else lambda i: mask(chosen[i]),
        fingerprint=digest(images.fingerprint, "subset", chosen),
    )


def renditions(where: str, n: int, seed: int = 0) -> dict[str, Images]:
    """Renditions by kind: five of the stimuli, of different objects each, or one image set.

    where: "stimuli", or as in `data.load`. n: images of all kinds together. Empty where a set by
    name cannot be had.
    """
    if where != "stimuli":
        found = available(where, n=n, seed=seed)
        return {} if found is None else {found.name: found}
    each = max(1, n // len(stimuli.RENDITIONS))
    kinds = {}
    for k, kind in enumerate(stimuli.RENDITIONS):
        rendered = data.load("stimuli", kind, n=(k + 1) * each, seed=seed)
        kinds[kind] = subset(rendered, range(k * each, (k + 1) * each))
    return kinds


def in_and_out(
    known: Images, strange: Images, n: int, seed: int = 0
) -> tuple[Images, Images, list[int]]:
    """Images of known classes, strange ones to tell from them, and which classes; `n` of each.

    The folders of ImageNet-O (Hendrycks et al. 2021) name its 200 reference classes: known images
    are those of these classes. Against held-out stimuli all 16 categories are. The strange images
    come with the classes of the known ones, so that models decide; their labels mean nothing.

    Raises DataError where the two do not go together or no image is of a reference class.
    """
    rendered = strange.categories == stimuli.HELD_OUT
    if rendered != (known.classes == "stimuli"):
        raise DataError(f"{known.name} and {strange.name} do not go together: give both as images")
    classes = list(range(16)) if rendered else sorted(set(strange.labels.tolist()))
    fitting = np.flatnonzero(np.isin(known.labels.numpy(), classes))
    if not len(fitting):
        raise DataError(f"no image of {known.name} is of a reference class of {strange.name}")
    drawn = [
        np.sort(generator("strange", seed, total).permutation(total)[:n])
        for total in (len(fitting), len(strange))
    ]
    outside = replace(strange, classes=known.classes, categories=known.categories)
    return subset(known, fitting[drawn[0]]), subset(outside, drawn[1]), classes


def filtered(
    judges: Sequence[Model], images: Images, out: Path | str, batch_size: int = 64
) -> dict[str, np.ndarray]:
    """Adversarial filtering (Hendrycks et al. 2021): places of the images that judges get wrong.

    ImageNet-A keeps what a ResNet-50 gets wrong. There is an entry "unfiltered", one for each
    judge, and "all filters err" where there are several; those without images are left out. Where
    no judge can decide about the images, all of them stand under the set's name.

    out: folder for the trials.
    """
    able = [j for j in judges if not features.why_not(j, "decisions", images)]
    everything = np.arange(len(images))
    if not able:
        return {images.name: everything}
    trials = evaluate.run(able, images, [CLEAN], out, batch_size=batch_size)
    errs = (trials["prediction"] != trials["label"]).groupby([trials["model"], trials["image"]])
    table = errs.first().unstack("image")
    kept = {"unfiltered": everything}
    kept |= {f"{j.name} errs": np.flatnonzero(table.loc[j.name]) for j in able}
    if len(able) > 1:
        kept["all filters err"] = np.flatnonzero(table.all(axis=0))
    return {name: places for name, places in kept.items() if len(places)}


# --- models -----------------------------------------------------------------------------------


class _Answering(nn.Module):
    """A network whose logits are changed before they are read."""

    def __init__(self, net: nn.Module, change: Callable[[Tensor], Tensor]):
        super().__init__()
        self.net, self.change = net, change

    def forward(self, pixels: Tensor) -> Tensor:
        return self.change(self.net(pixels))


def restricted(model: Model, classes: Iterable[int]) -> Model:
    """The model with all but some classes out of its reach, e.g. the 200 of ImageNet-A.

    Its probabilities are a softmax over those classes alone; the others have 0. Its name tells how
    many are left.
    """
    kept = torch.tensor(sorted(set(classes)))
    if kept.tolist() == list(range(16)) and model.classes == "stimuli":
        return model

    def change(logits: Tensor) -> Tensor:
        only = torch.full_like(logits, float("-inf"))
        return only.index_copy(1, kept.to(logits.device), logits[:, kept])

    key = digest(kept.tolist())[:8]
    return replace(
        model,
        name=f"{model.name}, {len(kept)} classes",
        net=_Answering(model.net, change),
        weights=f"{model.weights}-{key}",
    )


# The nine classes of ImageNet-9 as indices into ImageNet's 1,000: in_to_in9.json of Xiao et al.'s
# repository backgrounds_challenge. The other 630 count as wrong.
NINE = {
    "dog": "151-170 173-268",
    "bird": "7-24 87-100 127-146",
    "wheeled vehicle": "407 408 428 436 444 468 511 547 555 561 565 569 573 586 603 609 612 627 "
    "656 661 665 670 671 675 690 705 717 734 751 757 791 802 803 817 820 829 847 864 866 867 870 "
    "880",
    "reptile": "33-68",
    "carnivore": "269-280 286-299 356-362 387 388",
    "insect": "300-326",
    "musical instrument": "401 402 420 432 486 494 513 541 546 558 566 577 579 593 594 641 642 683 "
    "684 687 699 776 822 875 881 889",
    "primate": "365-384",
    "fish": "0-6 389-397",
}


def nine() -> list[list[int]]:
    """The members of ImageNet-9's nine classes, then the 630 others: indices into the 1,000."""
    members = []
    for text in NINE.values():
        ends = [[int(end) for end in part.split("-")] for part in text.split()]
        members.append([i for end in ends for i in range(end[0], end[-1] + 1)])
    seen = {i for part in members for i in part}
    return [*members, [i for i in range(1000) if i not in seen]]


def in_nine(model: Model) -> Model:
    """An ImageNet model that answers in ImageNet-9's classes (Xiao et al. 2021, released code).

    Its decision is the nine-class of its best of 1,000 classes; the tenth answer is "none of them".

    Raises ValueError for a model of other classes.
    """
    if model.classes != "imagenet":
        raise ValueError(f"{model.name} knows {model.classes} classes, not ImageNet's")
    members = nine()

    def change(logits: Tensor) -> Tensor:
        return torch.stack([logits[:, part].amax(1) for part in members], 1)

    return replace(model, net=_Answering(model.net, change), classes="imagenet-9")


def by_size(models: Sequence[Model]) -> dict[int, list[Model]]:
    """Models that are compared at one resolution: side of the input -> models.

    There is an entry per input size of the run's ViTs. A CNN can take any size, so it joins each of
    them with the ViT's resizing and cropping and its own mean and std, and both see the same
    pixels. Where there is no ViT, and for other models, the size is their own.
    """
    own = {size: [m for m in models if m.size == size] for size in sorted({m.size for m in models})}
    vits = {m.size: m for m in reversed(models) if m.group == "ViT" and m.transform is None}
    if not vits:
        return own

    def joins(model: Model, size: int) -> bool:
        return model.size == size or (model.group == "CNN" and model.transform is None)

    return {
        size: [_seeing_as(m, vit) for m in models if joins(m, size)]
        for size, vit in sorted(vits.items())
    }


def _seeing_as(model: Model, other: Model) -> Model:
    if model.group != "CNN" or model.transform is not None or model.geometry == other.geometry:
        return model
    taken = ("input_size", "crop_pct", "crop_mode", "interpolation")
    config = {k: v for k, v in model.config.items() if k not in taken}
    config |= {k: other.config[k] for k in taken if k in other.config}
    return replace(model, config=config)


# --- the run ----------------------------------------------------------------------------------


def show(
    families: dict[int, list[Model]],
    images: Images,
    out: Path | str,
    change: Callable[[Model], Model] = lambda model: model,
    batch_size: int = 64,
    workers: int = 1,
) -> dict[int, pd.DataFrame]:
    """Trials of the models that can decide about the images, per input size (see `by_size`).

    change: what is done to every model before, e.g. `in_nine`.

    Beside the columns of `evaluate.run` a trial has ``group`` and ``right``. Sizes without a model
    that can decide are left out.
    """
    found = {}
    for size, members in families.items():
        able = [m for m in map(change, members) if _decides(m, images)]
        if able:
            trials = evaluate.run(
                able, images, [CLEAN], out, batch_size=batch_size, workers=workers
            )
            groups = {m.name: m.group for m in able}
            found[size] = trials.assign(
                group=trials["model"].astype(str).map(groups),
                right=(trials["prediction"] == trials["label"]).astype(float),
            )
    return found


def _decides(model: Model, images: Images) -> bool:
    own = model.classes == images.classes == "imagenet-9"
    return own or not features.why_not(model, "decisions", images)


def score(trials: pd.DataFrame, group: str, column: str = "right") -> np.ndarray:
    """Mean over a group's models of a column of `show`'s trials, per image: float [images].

    Raises KeyError for a group that is not there.
    """
    chosen = trials[trials["group"] == group]
    if chosen.empty:
        raise KeyError(f"no trials of {group!r}; groups: {', '.join(trials['group'].unique())}")
    return chosen.groupby("image")[column].mean().to_numpy()


def vulnerable(trials: pd.DataFrame, group: str, tries: int) -> np.ndarray:
    """Share of a group's models that some ground misleads about each object: float [objects].

    trials: of objects on `tries` grounds each, object by object. An object is vulnerable when at
    least one of its grounds makes the decision wrong (backgrounds challenge, Xiao et al. 2021).
    """
    chosen = trials[trials["group"] == group]
    held = chosen.groupby([chosen["model"].astype(str), chosen["image"] // tries])["right"].min()
    return 1 - held.groupby(level="image").mean().to_numpy()


# --- backgrounds ------------------------------------------------------------------------------

# How much of a stimulus's ground is texture, the rest plain grey. Chosen on validation stimuli with
# mini/cnn-2 alone: a random ground costs it about 19 points (in the paper BiT loses 18).
GROUND = 0.6


def grounds(n: int, seed: int = 0, strength: float = GROUND, split: str = "test") -> Images:
    """Grounds that tell a category: its texture and hue, paler, with no object.

    strength: share of the texture in [0, 1]; the rest is light grey.
    """
    textures = data.load("stimuli", "texture-only", split, n, seed)

    def picture(i: int) -> Image.Image:
        pixels = np.asarray(textures.picture(i), np.float32)
        mixed = strength * pixels + (1 - strength) * 204
        return Image.fromarray(np.round(mixed).astype(np.uint8))

    return replace(
        textures,
        name="grounds",
        picture=picture,
        mask=None,
        fingerprint=digest(textures.fingerprint, strength),
    )


def choose_grounds(
    objects: Images, behind: Images, count: int, same: bool, seed: int = 0
) -> list[list[int]]:
    """For each object `count` different grounds, of its own class or (not `same`) of others.

    Drawn per object by its id, so an object's grounds do not depend on which others there are.

    Raises ValueError where there are too few.
    """
    labels = behind.labels.numpy()
    places = []
    for identity, label in zip(objects.table["id"], objects.labels.tolist(), strict=True):
        fitting = np.flatnonzero((labels == label) == same)
        if len(fitting) < count:
            raise ValueError(f"{len(fitting)} grounds of {behind.name} for {identity}, not {count}")
        drawn = generator("ground", seed, same, identity).permutation(len(fitting))[:count]
        places.append(fitting[drawn].tolist())
    return places


def pasted(objects: Images, behind: Images, places: Sequence[Sequence[int]], name: str) -> Images:
    """Every object on each of its grounds, object by object; the labels are the objects'.

    objects: their masks are what is pasted. behind: the grounds, resized to the objects' pictures.
    places: per object, places in `behind`.

    Raises DataError where no masks are known.
    """
    cut = objects.mask
    if cut is None:
        raise DataError(f"no object masks are known for {objects.name}")
    pairs = [(i, j) for i, row in enumerate(places) for j in row]
    table = objects.table.iloc[[i for i, _ in pairs]].reset_index(drop=True)
    below = behind.table["id"].iloc[[j for _, j in pairs]]
    table["id"] = [f"{a} on {b}" for a, b in zip(table["id"], below, strict=True)]

    def picture(p: int) -> Image.Image:
        i, j = pairs[p]
        above = objects.picture(i)
        mask = np.asarray(cut(i), np.float32)[..., None]
        under = np.asarray(behind.picture(j).resize(above.size), np.float32)
        mixed = mask * np.asarray(above, np.float32) + (1 - mask) * under
        return Image.fromarray(np.round(mixed).astype(np.uint8))

    return replace(
        objects,
        name=name,
        table=table,
        picture=picture,
        mask=lambda p: cut(pairs[p][0]),
        fingerprint=digest(objects.fingerprint, behind.fingerprint, pairs),
    )


def backgrounds(
    where: str, n: int, foregrounds: int, tries: int, seed: int = 0
) -> tuple[dict[str, Images], Images | None]:
    """`stimuli_backgrounds` or `imagenet_9_backgrounds`; ({}, None) where that set cannot be had.

    Raises DataError for other names than "stimuli" and "imagenet-9".
    """
    if where == "stimuli":
        return stimuli_backgrounds(n, foregrounds, tries, seed)
    if where != "imagenet-9":
        raise DataError(f"backgrounds={where}{nearest(where, ['stimuli', 'imagenet-9'])}")
    try:
        datasets.check(where)
        return imagenet_9_backgrounds(n, foregrounds, tries, seed)
    except (DataError, DownloadError) as error:
        print(f"left out, {where}: {str(error).splitlines()[0]}")
        return {}, None


BACKGROUNDS = ("original", "mixed-same", "mixed-rand", "no background", "only background")


def stimuli_backgrounds(
    n: int,
    foregrounds: int,
    tries: int,
    seed: int = 0,
    strength: float = GROUND,
    split: str = "test",
) -> tuple[dict[str, Images], Images]:
    """The variants of ImageNet-9 (Xiao et al. 2021) in miniature, and `foregrounds` objects to try.

    original: natural stimuli, on their own grey. mixed-same and mixed-rand: the same objects on a
    ground of their own or of a random other category. no background: on black. only background: the
    ground of mixed-same. The second set has some objects on `tries` grounds of other categories.
    """
    original = data.load("stimuli", "natural", split, n, seed)
    # The same objects before they are cut out: edges bring no grey along.
    objects = data.load("stimuli", "texture-only", split, n, seed)
    behind = grounds(16 * max(20, tries), seed + 1, strength, split)
    same = choose_grounds(objects, behind, 1, True, seed)
    other = choose_grounds(objects, behind, tries, False, seed)
    black = replace(
        subset(behind, [0]),
        picture=lambda i: Image.new("RGB", original.picture(0).size),
        fingerprint="black",
    )
    tried = _spread(n, foregrounds)
    sets = [
        original,
        pasted(objects, behind, same, "mixed-same"),
        pasted(objects, behind, [row[:1] for row in other], "mixed-rand"),
        pasted(objects, black, [[0]] * n, "no background"),
        subset(behind, [row[0] for row in same], "only background"),
    ]
    every = pasted(subset(objects, tried), behind, [other[i] for i in tried], "every ground")
    return dict(zip(BACKGROUNDS, sets, strict=True)), every


def _spread(n: int, count: int) -> list[int]:
    """`count` places, evenly spaced, of `n`; all of them if there are no more."""
    return list(range(n)) if count >= n else np.linspace(0, n - 1, count).astype(int).tolist()


def imagenet_9_backgrounds(
    n: int, foregrounds: int, tries: int, seed: int = 0
) -> tuple[dict[str, Images], Images]:
    """The same of ImageNet-9, where that set is here or can be fetched.

    The second set has some objects, cut out by their masks, on `tries` random ones of the tiled
    grounds of other classes; the released challenge tries all grounds.

    Raises DataError where the set cannot be had.
    """
    folders = ("original", "mixed_same", "mixed_rand", "only_fg", "only_bg_t")

    def load(folder: str, n: int | None) -> Images:
        found = data.load(f"imagenet-9/bg_challenge/{folder}/val", n=n, seed=seed)
        categories = (*NINE, "none of the nine")
        return replace(found, categories=categories, classes="imagenet-9")

    sets = {name: load(folder, n) for name, folder in zip(BACKGROUNDS, folders, strict=True)}
    masks = datasets.images_folder("imagenet-9") / "bg_challenge" / "fg_mask" / "val"
    original = subset(sets["original"], _spread(len(sets["original"]), foregrounds))
    files = [masks / Path(str(name)).with_suffix(".npy") for name in original.table["id"]]
    objects = replace(original, mask=lambda i: np.load(files[i]).astype(np.float32))
    behind = load("only_bg_t", None)
    other = choose_grounds(objects, behind, tries, False, seed)
    return sets, pasted(objects, behind, other, "every ground")


# --- metrics ----------------------------------------------------------------------------------


def aupr(inside: np.ndarray, outside: np.ndarray, resamples: int = RESAMPLES) -> np.ndarray:
    """Average precision of finding strange images by low confidence; positives: the strange ones.

    inside, outside: confidences of images of the known classes and of strange ones, [n] and [m].

    Returns float [1 + resamples]: first of the images as they are, then of bootstrap resamples of
    both kinds. The resamples are the same for every model, so differences are paired.
    """
    strange = np.r_[np.zeros(len(inside)), np.ones(len(outside))]
    scores = -np.r_[inside, outside]
    parts = enumerate((inside, outside))
    drawn = np.hstack([weights(len(p), resamples, seed) * len(p) for seed, p in parts])
    counts = np.vstack([np.ones(len(scores)), drawn])
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])  # of equal scores
    found = (counts * strange)[:, order].cumsum(1)[:, ends]
    named = counts[:, order].cumsum(1)[:, ends]
    precision = found / np.maximum(named, 1)
    recall = found / len(outside)
    return (np.diff(recall, prepend=0) * precision).sum(1)


def percentiles(values: np.ndarray, n: int) -> Interval:
    """The interval of a quantity and its resamples, as `aupr` gives them; n: images."""
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return Interval(float(values[0]), float(low), float(high), n)


def area_of_mass(maps: Tensor, mass: float = 0.8) -> Tensor:
    """Share of the area that the smallest region with `mass` of each map takes: float [n].

    maps: float [n, h, w], none negative, each with a positive sum. The last cell counts in part.

    >>> area_of_mass(torch.ones(1, 2, 2))
    tensor([0.8000])
    """
    shares = (maps / maps.sum((1, 2), keepdim=True)).flatten(1).sort(1, descending=True).values
    before = shares.cumsum(1) - shares
    return ((mass - before) / shares.clamp_min(1e-12)).clamp(0, 1).mean(1)
