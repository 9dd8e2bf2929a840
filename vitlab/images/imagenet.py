"""Facts about ImageNet: its classes, the 16 of Geirhos et al. and the nine of ImageNet-9."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pandas as pd
import timm
import torch
from torch import Tensor

from vitlab.images.errors import DataError


@cache
def imagenet_wnids() -> tuple[str, ...]:
    """ImageNet-1k's class folders in the order of a model's 1,000 outputs."""
    return tuple(timm.data.ImageNetInfo().label_names())


@cache
def imagenet_16() -> dict[str, list[str]]:
    """The 16 categories of Geirhos et al. (2019) and the ImageNet classes that belong to each."""
    return json.loads(Path(__file__).with_name("imagenet_16.json").read_text())


def decision_matrix(model_classes: str, image_classes: str) -> Tensor | None:
    """How a model's class probabilities become decisions about the images' categories.

    None: the model's own classes are the categories. Otherwise float [classes, categories]:
    probabilities times this is the mean over each category's member classes (Geirhos et al. 2019).

    Raises DataError where the model cannot decide about such images.
    """
    if model_classes == image_classes:
        return None
    if (model_classes, image_classes) == ("imagenet", "imagenet-16"):
        matrix = torch.zeros(len(imagenet_wnids()), len(imagenet_16()))
        for column, members in enumerate(imagenet_16().values()):
            rows = [imagenet_wnids().index(wnid) for wnid in members]
            matrix[rows, column] = 1 / len(rows)
        return matrix
    raise DataError(
        f"a model trained on {model_classes} classes cannot decide about {image_classes} images; "
        "give models= and images= that go together, e.g. models=efficientnet-lite0 for photographs"
    )


def human_decisions() -> pd.DataFrame:
    """People's decisions on the cue-conflict images of Geirhos et al. 2019, a row per category.

    Columns: category, shape, texture, other (counts, ten people pooled, conflicts only). CC BY 4.0.
    """
    return pd.read_csv(Path(__file__).with_name("human_cue_conflict.csv"))


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
