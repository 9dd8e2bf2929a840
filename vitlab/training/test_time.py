"""Test-time adaptation: a finished network goes on learning from the images it is asked about.

An objective is a function ``(features, logits, source) -> loss`` of one batch without labels;
`adapt` takes one gradient step of it per batch. T3A moves no weight. All follow the released code
of Kojima et al. 2022 (github.com/kojima-takeshi188/CFA).

features: what enters the last linear layer, float [B, d]; logits: float [B, classes].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitlab.files import nearest
from vitlab.models.model import Model

# How features are squashed before their moments are taken; the LayerNorm has no scale or shift.
SQUASHED: dict[str, Callable[[Tensor], Tensor]] = {
    "raw": lambda h: h,
    "LayerNorm": lambda h: F.layer_norm(h, h.shape[-1:]),
    "LayerNorm and tanh": lambda h: F.layer_norm(h, h.shape[-1:]).tanh(),
}
WIDTH = 2.0  # of (-1, 1), where squashed features lie: b - a in the paper

# Which parameters move, by their names.
WHICH: dict[str, Callable[[str], bool]] = {
    "LayerNorm": lambda name: "norm" in name,
    "CLS token": lambda name: "cls_token" in name,
    "feature extractor": lambda name: not name.startswith("head"),
    "all weights": lambda name: True,
}


class Statistics(NamedTuple):
    """What is kept of the source images' features.

    squash: how features were squashed, a key of `SQUASHED`. moments: [K, d], the mean and the
    central moments 2 to K of each feature. means: [classes, d], the mean of each class.
    """

    squash: str
    moments: Tensor
    means: Tensor


def moments(h: Tensor, highest: int) -> Tensor:
    """The mean and the central moments 2 to `highest` over a batch: [B, d] to [highest, d]."""
    mean = h.mean(0)
    return torch.stack([mean, *(((h - mean) ** k).mean(0) for k in range(2, highest + 1))])


def statistics(
    features: Tensor, labels: Tensor, squash: str = "LayerNorm and tanh", highest: int = 3
) -> Statistics:
    """What alignment needs to know of source images: features [n, d], their classes, long [n].

    highest: the highest moment, K. Raises ValueError for an unknown way to squash, less than one
    moment, and a class that no image shows.
    """
    if squash not in SQUASHED:
        raise ValueError(f"unknown squash {squash!r}{nearest(squash, list(SQUASHED))}")
    if highest < 1:
        raise ValueError(f"there is a first moment, the mean; got highest={highest}")
    h = SQUASHED[squash](features)
    if len(empty := sorted({*range(int(labels.max()) + 1)} - {*labels.tolist()})):
        raise ValueError(f"no source image of class {empty[0]}; each class needs one")
    means = torch.stack([h[labels == c].mean(0) for c in range(int(labels.max()) + 1)])
    return Statistics(squash, moments(h, highest), means)


# --- objectives -----------------------------------------------------------------------------------


def entropy(logits: Tensor) -> Tensor:
    """Of the softmax, in nats: [B, classes] to [B]."""
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


def tent(features: Tensor, logits: Tensor, source: Statistics | None = None) -> Tensor:
    """Mean entropy of the predictions (Wang et al. 2021)."""
    return entropy(logits).mean()


def pseudo_labels(features: Tensor, logits: Tensor, source: Statistics | None = None) -> Tensor:
    """Cross entropy with the model's own decisions (Lee 2013)."""
    return F.cross_entropy(logits, logits.argmax(1))


def shot_im(features: Tensor, logits: Tensor, source: Statistics | None = None) -> Tensor:
    """Sure predictions that differ: mean entropy less that of the mean (Liang et al. 2020)."""
    p = logits.softmax(1).mean(0)
    return entropy(logits).mean() + (p * p.log().clamp_min(-100)).sum()


def cfa(features: Tensor, logits: Tensor, source: Statistics) -> Tensor:
    """Distance of the batch's moments, and of its classes' means, from the source's.

    The sum over k of ||m_k - mu_k|| / (b - a)^k, plus the mean over the classes that the model
    sees in the batch of ||m^c - mu^c|| / (b - a) (Kojima et al. 2022).
    """
    h = SQUASHED[source.squash](features)
    apart = (moments(h, len(source.moments)) - source.moments).norm(dim=1)
    powers = torch.arange(1, len(apart) + 1, device=h.device)
    seen = F.one_hot(logits.argmax(1), len(source.means)).to(h.dtype)
    present = seen.sum(0) > 0
    means = (seen.T @ h)[present] / seen.sum(0)[present, None]
    by_class = (means - source.means[present]).norm(dim=1)
    return (apart / WIDTH**powers).sum() + by_class.mean() / WIDTH


# --- a stream -------------------------------------------------------------------------------------


def answers(model: Model, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Features, float32 [B, d], and logits, float32 [B, classes], of pixels in [0, 1].

    Raises ValueError for a network that does not say which layer is its classifier.
    """
    seen: list[Tensor] = []
    hook = _head(model).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        logits = model.logits(pixels)
    finally:
        hook.remove()
    return seen[0].float(), logits


def _head(model: Model) -> nn.Linear:
    head = getattr(model.net, "get_classifier", lambda: None)()
    head = head[0] if isinstance(head, tuple) else head  # DeiT's second head goes by
    if not isinstance(head, nn.Linear):
        raise ValueError(f"{model.name} has no linear classifier that get_classifier() gives")
    return head


@torch.no_grad()
def frozen(model: Model, stream: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Features [n, d] and logits [n, classes] of a stream that changes nothing, on the CPU."""
    pairs = [answers(model, pixels) for pixels in stream]
    features, logits = (torch.cat(parts).cpu() for parts in zip(*pairs, strict=True))
    return features, logits


def chosen(net: nn.Module, which: str) -> dict[str, nn.Parameter]:
    """The parameters that move, by name. Raises ValueError for an unknown choice, or an empty one.

    The released code calls them partial, partial_cls, partial_feature and all.
    """
    if which not in WHICH:
        raise ValueError(f"unknown parameters {which!r}{nearest(which, list(WHICH))}")
    found = {name: p for name, p in net.named_parameters() if WHICH[which](name)}
    if not found:
        raise ValueError(f"this network has no {which}")
    return found


def adapt(
    model: Model,
    stream: Iterable[Tensor],
    objective: Callable[[Tensor, Tensor, Statistics], Tensor],
    source: Statistics | None = None,
    which: str = "LayerNorm",
    rate: float = 0.001,
    momentum: float = 0.9,
    clip: float = 1.0,
) -> Tensor:
    """Logits, float32 [n, classes] on the CPU, of a stream that the network adapts to as it goes.

    One pass, one step of SGD per batch; a batch is answered before its step. The network is in
    evaluation mode. A copy moves, the model stays as it is.

    stream: batches of pixels in [0, 1], float [B, 3, size, size]. which: a key of `WHICH`. rate:
        the learning rate. clip: gradients together are no longer than this.

    Raises ValueError as `chosen` and `answers` do.
    """
    if source is not None:
        there = (kept.to(model.device) for kept in (source.moments, source.means))
        source = Statistics(source.squash, *there)
    copy = replace(model, net=deepcopy(model.net).eval())
    moving = chosen(copy.net, which)
    for name, parameter in copy.net.named_parameters():
        parameter.requires_grad_(name in moving)
    optimiser = torch.optim.SGD(moving.values(), lr=rate, momentum=momentum)
    answered = []
    for pixels in stream:
        features, logits = answers(copy, pixels)
        answered.append(logits.detach().cpu())
        optimiser.zero_grad()
        objective(features, logits, source).backward()  # type: ignore[arg-type]
        nn.utils.clip_grad_norm_(moving.values(), clip)
        optimiser.step()
    return torch.cat(answered)


@torch.no_grad()
def t3a(
    model: Model, features: Tensor, logits: Tensor, kept: int = 100, batch_size: int = 64
) -> Tensor:
    """Scores [n, classes] of a stream by prototypes, without gradients (Iwasawa & Matsuo 2021).

    A store begins with the rows of the classifier. Each batch adds its features, of length 1,
    under the class that the classifier gives them; each class keeps its `kept` surest. A score is
    the inner product with the sum over a class's store, of length 1 too.

    features, logits: of the stream in its order, see `frozen`.
    """
    head = _head(model)
    rows = head.weight.detach()
    store = F.normalize(rows).cpu()
    of_rows = head(rows).cpu()
    decided, unsure = of_rows.argmax(1), entropy(of_rows)
    scores = []
    for z, y in zip(features.split(batch_size), logits.split(batch_size), strict=True):
        store = torch.cat([store, F.normalize(z)])
        decided, unsure = torch.cat([decided, y.argmax(1)]), torch.cat([unsure, entropy(y)])
        by_surety = unsure.argsort(stable=True)
        of_class = [by_surety[decided[by_surety] == c][:kept] for c in range(logits.shape[1])]
        left = torch.cat(of_class)
        store, decided, unsure = store[left], decided[left], unsure[left]
        sums = F.one_hot(decided, logits.shape[1]).to(store.dtype).T @ store
        scores.append(z @ F.normalize(sums).T)
    return torch.cat(scores)
