"""Linear probes of frozen features, and features under BatchNorm's batch statistics."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn.modules.batchnorm import _BatchNorm

from vitlab.files import digest
from vitlab.models.model import Model

GRID = tuple(10.0**power for power in range(-4, 3))
FOLDS = 4


def fit(
    features: np.ndarray,
    labels: np.ndarray,
    grid: Sequence[float] = GRID,
    folds: int = FOLDS,
) -> Pipeline:
    """Logistic regression on standardised features, its regulariser chosen by cross-validation.

    features: float [n, d]; labels: [n]. C is the value of `grid` with the least log loss, summed
    over stratified folds in the order of the images; the smallest such C on ties. A test set plays
    no part in the choice.

    Returns scikit-learn's pipeline, fitted to all of `features`.

    Raises ValueError for features that are not finite numbers [n, d], for fewer than two classes
    and for a class with fewer images than folds.
    """
    if np.ndim(features) != 2 or len(features) != len(labels):
        shapes = f"{[*np.shape(features)]} and {[*np.shape(labels)]}"
        raise ValueError(f"features are [n, d] and labels [n], got {shapes}")
    if not np.isfinite(features).all():
        raise ValueError("features hold NaN or infinity: no class can be told from them")
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2 or counts.min() < folds:
        raise ValueError(
            f"a probe with {folds} folds needs two classes or more of {folds} images each; "
            f"there are {len(classes)}, the smallest has {counts.min() if len(counts) else 0}"
        )
    features, grid = np.asarray(features, float), sorted(grid)
    losses = np.zeros(len(grid))
    for train, held in StratifiedKFold(folds).split(features, labels):
        scale = StandardScaler().fit(features[train])
        x, unseen = scale.transform(features[train]), scale.transform(features[held])
        if x.shape[1] > len(x):  # the optimum lies in the span of x: the same problem, smaller
            basis = np.linalg.qr(x.T).Q
            x, unseen = x @ basis, unseen @ basis
        # From the strongest regulariser on, each solution is near the next one.
        model = LogisticRegression(solver="newton-cg", warm_start=True, max_iter=5000)
        truth = np.searchsorted(classes, labels[held])[:, None]
        for place, c in enumerate(grid):
            guess = model.set_params(C=c).fit(x, labels[train]).predict_proba(unseen)
            likely = np.take_along_axis(guess, truth, 1).clip(np.finfo(float).eps)
            losses[place] -= np.log(likely).sum()
    best = LogisticRegression(C=grid[int(losses.argmin())], solver="newton-cg", max_iter=5000)
    return make_pipeline(StandardScaler(), best).fit(features, labels)


def batch_statistics(model: Model) -> Model:
    """A copy of a model whose BatchNorm layers normalise by the batch at hand.

    As a network does without ``eval()``, e.g. in the released transfer script of Naseer et al.
    2021: its output for an image depends on the other images of the batch. Everything else in the
    copy stays in evaluation mode, and the model itself is unchanged.

    Raises ValueError for a model without BatchNorm.
    """
    net = deepcopy(model.net)
    layers = [layer for layer in net.modules() if isinstance(layer, _BatchNorm)]
    if not layers:
        raise ValueError(f"{model.name} has no BatchNorm layers")
    for layer in layers:
        layer.train()
    return replace(model, net=net, weights=digest(model.weights, "batch statistics"))
