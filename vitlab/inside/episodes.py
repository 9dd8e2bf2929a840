"""Few-shot episodes on frozen features: sampling, logistic regression for all, intervals."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vitlab.rng import check_seed, generator


class Episodes(NamedTuple):
    """N-way K-shot episodes as places in an image set; targets are 0..N-1 within each episode.

    support: long [E, N * K]; query: long [E, N * Q]; both ordered by class.
    """

    support: Tensor
    query: Tensor
    support_target: Tensor
    query_target: Tensor


def sample(
    labels: Tensor, way: int, shot: int, queries: int, count: int, seed: int = 0
) -> Episodes:
    """Draw episodes: `way` classes, then `shot` + `queries` different images of each.

    labels: long [n]. Episode e of a seed is the same whatever `count` is.

    Raises ValueError if there are too few classes or images, and for less than one episode.
    """
    if count < 1 or labels.ndim != 1 or not len(labels):
        raise ValueError(f"{count} episodes of labels {[*labels.shape]}: need one or more, of [n]")
    check_seed(seed)
    places = {int(c): np.flatnonzero(labels.numpy() == c) for c in labels.unique()}
    fewest = min(len(p) for p in places.values())
    if not 2 <= way <= len(places):
        raise ValueError(f"{way}-way episodes need {way} classes, there are {len(places)}")
    if shot < 1 or queries < 1 or shot + queries > fewest:
        raise ValueError(
            f"{shot} support and {queries} query images per class are needed, one or more of "
            f"each; the smallest class has {fewest}"
        )
    support, query = [], []
    for episode in range(count):
        draw = generator("episode", seed, episode)
        classes = draw.permutation(sorted(places))[:way]
        chosen = np.stack([draw.permutation(places[c])[: shot + queries] for c in classes])
        support.append(chosen[:, :shot].ravel())
        query.append(chosen[:, shot:].ravel())
    target = torch.arange(way)
    return Episodes(
        torch.from_numpy(np.stack(support)),
        torch.from_numpy(np.stack(query)),
        target.repeat_interleave(shot).expand(count, -1),
        target.repeat_interleave(queries).expand(count, -1),
    )


def logistic_regression(
    gram: Tensor, target: Tensor, cross: Tensor, c: float = 1.0, steps: int = 50
) -> Tensor:
    """Logits of multinomial logistic regressions, one per episode, fitted together.

    gram: double [E, n, n], the inner products of the support features; target: long [E, n]; cross:
    double [E, m, n], of query with support features. Returns [E, m, classes].

    Each minimises scikit-learn's objective ``|W|^2 / 2 + C * sum of cross entropies`` with a free
    intercept, by Newton's method. The optimum lies in the span of the n support features, so their
    inner products are all that is needed, and there are n + 1 unknowns per class, however long the
    features are.

    Raises ValueError for a single class, and for NaN or infinity.
    """
    if not (gram.isfinite().all() and cross.isfinite().all()):
        raise ValueError("features hold NaN or infinity: no class can be told from them")
    if int(target.max()) < 1:
        raise ValueError("a regression needs two classes or more")
    episodes, n, _ = gram.shape
    classes = int(target.max()) + 1
    # Coordinates of the features in their span; the jitter is for features that coincide.
    jitter = 1e-9 * gram.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)
    x = torch.linalg.cholesky(gram + jitter[:, None, None] * torch.eye(n, dtype=torch.float64))
    unseen = torch.linalg.solve_triangular(x, cross.mT, upper=False).mT
    x, unseen = F.pad(x, (0, 1), value=1.0), F.pad(unseen, (0, 1), value=1.0)  # the intercept
    # At the optimum the classes' weights sum to zero: look for them in that subspace only.
    centred = torch.eye(classes, dtype=torch.float64) - 1 / classes
    free = torch.linalg.qr(centred).Q[:, : classes - 1]
    onehot = F.one_hot(target, classes).double()
    # Of two classes scikit-learn fits the difference of the weights, whose square is twice theirs.
    ridge = torch.full((n + 1, 1), 2.0 if classes == 2 else 1.0, dtype=torch.float64)
    ridge[-1] = 0  # the intercept is free
    weights = torch.zeros(episodes, n + 1, classes - 1, dtype=torch.float64)
    # The Hessian where all classes are as likely, the same for each of them: a fair guess.
    even = torch.linalg.cholesky(c / classes * x.mT @ x + torch.diag(ridge[:, 0] + 1e-9))
    guess = torch.cholesky_inverse(even)

    def loss(weights: Tensor) -> Tensor:
        logits = x @ (weights @ free.T)
        errors = (torch.logsumexp(logits, 2) - (onehot * logits).sum(2)).sum(1)
        return 0.5 * (ridge * weights**2).sum((1, 2)) + c * errors

    now = loss(weights)
    for _ in range(steps):
        p = (x @ (weights @ free.T)).softmax(2)
        gradient = ridge * weights + c * x.mT @ ((p - onehot) @ free)
        if gradient.abs().max() < 1e-5:
            break

        def hessian(v: Tensor, p: Tensor = p) -> Tensor:
            moved = p * (x @ (v @ free.T))
            return ridge * v + c * x.mT @ ((moved - p * moved.sum(2, keepdim=True)) @ free)

        step = _solve(hessian, gradient, guess)
        length = torch.ones(episodes, 1, 1, dtype=torch.float64)
        for _ in range(30):  # halve the step of the episodes that it made worse
            trial = loss(weights - length * step)
            worse = trial > now + 1e-12 * now.abs()
            if not worse.any():
                break
            length[worse] /= 2
        weights, now = weights - length * step, trial
    return unseen @ (weights @ free.T)


def _solve(times: Callable[[Tensor], Tensor], b: Tensor, guess: Tensor, rounds: int = 50) -> Tensor:
    """x of A x = b, each episode's own, by conjugate gradients; a hundredth of b may be left.

    times: A, symmetric and positive, applied to a tensor like b [E, k, j]. guess: about its
    inverse, [E, k, k].
    """
    x, left = torch.zeros_like(b), b
    direction = scaled = guess @ left
    size = (left * scaled).sum((1, 2), keepdim=True)
    enough = 1e-4 * size
    for _ in range(rounds):
        if (size <= enough).all():
            break
        ahead = times(direction)
        length = size / (direction * ahead).sum((1, 2), keepdim=True).clamp_min(1e-300)
        x, left = x + length * direction, left - length * ahead
        scaled, before = guess @ left, size
        size = (left * scaled).sum((1, 2), keepdim=True)
        direction = scaled + size / before.clamp_min(1e-300) * direction
    return x


def accuracy(features: Tensor, episodes: Episodes, c: float = 1.0, chunk: int = 300) -> Tensor:
    """Query accuracy of every episode with logistic regression on unit-length features: float [E].

    features: float [n, d], of the image set that `episodes` was drawn from. Features are scaled to
    unit length, as in "Rethinking few-shot image classification" (Tian et al. 2020).

    Raises ValueError for features that are not [n, d], hold NaN or infinity, or are too few.
    """
    places = [part.max() for part in (episodes.support, episodes.query) if part.numel()]
    if features.ndim != 2 or len(features) <= max(map(int, places)):
        raise ValueError(
            f"features are [n, d] of the images that episodes were drawn from, here {max(places)} "
            f"and more; got {[*features.shape]}"
        )
    if not features.isfinite().all():
        raise ValueError("features hold NaN or infinity: no class can be told from them")
    features = F.normalize(features.double(), dim=1)
    # Of a pool that is not too large all inner products are taken once.
    products = features @ features.T if len(features) <= 4000 else None

    def between(rows: Tensor, columns: Tensor) -> Tensor:
        if products is None:
            return features[rows] @ features[columns].mT
        return products[rows[:, :, None], columns[:, None, :]]

    scores = []
    for first in range(0, len(episodes.support), chunk):
        part = slice(first, first + chunk)
        support, query = episodes.support[part], episodes.query[part]
        target = episodes.support_target[part]
        logits = logistic_regression(between(support, support), target, between(query, support), c)
        scores.append((logits.argmax(2) == episodes.query_target[part]).double().mean(1))
    return torch.cat(scores)


def over_pools(
    features: Tensor,
    labels: Tensor,
    whole: Tensor,
    way: int,
    shot: int,
    queries: int,
    seed: int = 0,
    halves: int = 40,
    count: int = 15,
) -> Tensor:
    """A pool's mean accuracy as rows [halves] whose standard error is for other pools of images.

    whole: float [E], the accuracy of each episode of the whole pool; the rows' mean is theirs.

    Episodes share their images, so their own spread tells nothing of other images. What random
    halves of a sample differ by is the standard error of the whole (a jackknife that leaves out
    half). Here each class is halved and `count` episodes are drawn from a half alone, with as many
    queries as it has images for. Episode e has the same classes in each half, so the noise of few
    episodes is what the effects of halves and of episodes leave unexplained: it is taken off. The
    noise of the whole pool's episodes is added.
    """
    drawn = _from_halves(tuple(labels.tolist()), way, shot, queries, seed, halves, count)
    found = accuracy(features, drawn).view(halves, count)
    away = found.mean(1, keepdim=True) - found.mean()
    left = found - found.mean(0) - away
    spread = away.square().sum() / (halves - 1)
    noise = left.square().sum() / (halves - 1) / (count - 1) / count
    error = (spread - noise).clamp_min(0) + whole.var() / len(whole)
    return whole.mean() + (halves * error / spread.clamp_min(1e-12)).sqrt() * away[:, 0]


@lru_cache(maxsize=4)  # every feature of a pool is asked the same episodes
def _from_halves(
    classes: tuple[int, ...], way: int, shot: int, queries: int, seed: int, halves: int, count: int
) -> Episodes:
    """`count` episodes from each of some random halves of a pool, as places in the pool."""
    labels = torch.tensor(classes)
    fewest = int(labels.unique(return_counts=True)[1].min()) // 2
    drawn = []
    for half in range(halves):
        order = torch.from_numpy(generator("half of a pool", seed, half).permutation(len(labels)))
        by_class = [order[labels[order] == c] for c in labels.unique()]
        places = torch.cat([members[: len(members) // 2] for members in by_class])
        own = sample(labels[places], way, shot, min(queries, fewest - shot), count, seed)
        drawn.append(own._replace(support=places[own.support], query=places[own.query]))
    return Episodes(*map(torch.cat, zip(*drawn, strict=True)))
