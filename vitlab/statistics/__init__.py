"""Metrics of trials, each with a 95 % interval over images."""

from vitlab.statistics.accuracy import correct
from vitlab.statistics.corruption import mce, relative_mce
from vitlab.statistics.interval import RESAMPLES, Interval, bootstrap, weights
from vitlab.statistics.quantity import (
    Asked,
    Measured,
    Quantity,
    average,
    function,
    lacking,
    largest,
    mean,
    rises,
    smallest,
    stated,
    together,
)
from vitlab.statistics.shape_bias import (
    decision_values,
    group_shape_bias,
    shape_bias_of_means,
    shape_decisions,
)

__all__ = [
    "RESAMPLES",
    "Asked",
    "Interval",
    "Measured",
    "Quantity",
    "average",
    "bootstrap",
    "correct",
    "decision_values",
    "function",
    "group_shape_bias",
    "lacking",
    "largest",
    "mce",
    "mean",
    "relative_mce",
    "rises",
    "shape_bias_of_means",
    "shape_decisions",
    "smallest",
    "stated",
    "together",
    "weights",
]
