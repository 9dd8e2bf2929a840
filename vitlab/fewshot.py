"""Few-shot episodes on frozen features: sampling, and logistic regression for all at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vitlab.rng import generator


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

    Raises ValueError where there are too few classes or images.
    """
    places = {int(c): np.flatnonzero(labels.numpy() == c) for c in labels.unique()}
    fewest = min(len(p) for p in places.values())
    if not 2 <= way <= len(places):
        raise ValueError(f"{way}-way episodes need {way} classes, there are {len(places)}")
    if shot < 1 or queries < 1 or shot + queries > fewest:
        raise ValueError(
            f"{shot} support and {queries} query images per class are asked for, "
            f"the smallest class has {fewest}"
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
    support: Tensor, target: Tensor, query: Tensor, c: float = 1.0, steps: int = 50
) -> Tensor:
    """Logits of multinomial logistic regressions, one per episode, fitted together.

    support: float [E, n, d]; target: long [E, n]; query: float [E, m, d]. Returns [E, m, classes].

    Each minimises scikit-learn's objective ``|W|^2 / 2 + C * sum of cross entropies`` with a free
    intercept, by Newton's method. The optimum lies in the span of the n support features, so the
    problem is first rotated into it: n + 1 unknowns per class however long the features are.
    """
    support, query = support.double(), query.double()
    episodes, n, d = support.shape
    classes = int(target.max()) + 1
    basis = torch.linalg.qr(support.mT).Q if n < d else torch.eye(d).double().expand(episodes, d, d)
    x = F.pad(support @ basis, (0, 1), value=1.0)  # the last column is the intercept's
    size = x.shape[2]
    onehot = F.one_hot(target, classes).double()
    ridge = torch.ones(size, dtype=torch.float64)
    ridge[-1] = 1e-9  # sets the intercepts' common shift, which no prediction depends on
    weights = torch.zeros(episodes, size, classes, dtype=torch.float64)

    def loss(weights: Tensor) -> Tensor:
        errors = (torch.logsumexp(x @ weights, 2) - (onehot * (x @ weights)).sum(2)).sum(1)
        return 0.5 * (ridge[:, None] * weights**2).sum((1, 2)) + c * errors

    now = loss(weights)
    for _ in range(steps):
        p = (x @ weights).softmax(2)
        gradient = ridge[:, None] * weights + c * x.mT @ (p - onehot)
        if gradient.abs().max() < 1e-7:
            break
        # Hessian over (feature, class) pairs: sum of x x' (diag p - p p') plus the ridge.
        spread = torch.diag_embed(p) - p[..., :, None] * p[..., None, :]
        hessian = c * torch.einsum("eni,enj,enkl->eikjl", x, x, spread)
        hessian = hessian.reshape(episodes, size * classes, size * classes)
        hessian = hessian + torch.diag(ridge.repeat_interleave(classes))
        factor = torch.linalg.cholesky(hessian)
        step = torch.cholesky_solve(gradient.reshape(episodes, -1, 1), factor).view_as(weights)
        length = torch.ones(episodes, 1, 1, dtype=torch.float64)
        for _ in range(30):  # halve the step of the episodes that it made worse
            trial = loss(weights - length * step)
            worse = trial > now + 1e-12 * now.abs()
            if not worse.any():
                break
            length[worse] /= 2
        weights, now = weights - length * step, trial
    return F.pad(query @ basis, (0, 1), value=1.0) @ weights


def accuracy(features: Tensor, episodes: Episodes, c: float = 1.0, chunk: int = 100) -> Tensor:
    """Query accuracy of every episode with logistic regression on unit-length features: float [E].

    features: float [n, d], of the image set that `episodes` was drawn from. Features are scaled to
    unit length, as in "Rethinking few-shot image classification" (Tian et al. 2020).
    """
    features = F.normalize(features.float(), dim=1)
    scores = []
    for first in range(0, len(episodes.support), chunk):
        part = slice(first, first + chunk)
        logits = logistic_regression(
            features[episodes.support[part]],
            episodes.support_target[part],
            features[episodes.query[part]],
            c,
        )
        scores.append((logits.argmax(2) == episodes.query_target[part]).double().mean(1))
    return torch.cat(scores)
