"""Metrics of trials, each with a 95 % interval over images."""

from vitlab.statistics.accuracy import correct
from vitlab.statistics.corruption import mce, relative_mce
from vitlab.statistics.interval import Interval
from vitlab.statistics.quantity import (
    Asked,
    Measured,
    Quantity,
    average,
    every,
    function,
    lacking,
    mean,
    pseudo,
    rises,
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
    "Asked",
    "Interval",
    "Measured",
    "Quantity",
    "average",
    "correct",
    "decision_values",
    "every",
    "function",
    "group_shape_bias",
    "lacking",
    "mce",
    "mean",
    "pseudo",
    "relative_mce",
    "rises",
    "shape_bias_of_means",
    "shape_decisions",
    "stated",
    "together",
]
