"""Shapes: closed outlines in a box of about [-1, 1] x [-1, 1], y downwards."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def circle(radius: float, x: float = 0.0, y: float = 0.0) -> np.ndarray:
    """A circle: float [48, 2]."""
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], axis=1)


def polar(radius_of_angle: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The outline whose radius is a function of the angle, clockwise from the top: float [96, 2]."""
    turn = np.linspace(0, 2 * np.pi, 96, endpoint=False) - np.pi / 2
    radius = radius_of_angle(turn + np.pi / 2)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)


def spikes(points: int, inner: float) -> np.ndarray:
    """A star of so many points with notches at the radius `inner`: float [2 * points, 2]."""
    turn = np.linspace(0, 2 * np.pi, 2 * points, endpoint=False) - np.pi / 2
    radius = np.where(np.arange(2 * points) % 2 == 0, 1.0, inner)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    x = np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 17
    return np.stack([x, y], axis=1)


def _crescent() -> np.ndarray:
    outer = np.linspace(np.radians(50), np.radians(310), 40)
    inner = np.linspace(np.radians(285), np.radians(75), 40)
    rim = np.stack([np.cos(outer), np.sin(outer)], axis=1)
    bite = np.stack([0.45 + 0.74 * np.cos(inner), 0.79 * np.sin(inner)], axis=1)
    return np.concatenate([rim, bite])


def _drop() -> np.ndarray:
    arc = np.linspace(np.radians(-25), np.radians(205), 40)
    bowl = np.stack([0.62 * np.cos(arc), 0.35 + 0.62 * np.sin(arc)], axis=1)
    return np.concatenate([bowl, [[0.0, -1.0]]])


def _points(text: str) -> np.ndarray:
    return np.array([[float(n) for n in pair.split(",")] for pair in text.split()])


# A shape is a list of outlines; the first is filled, each further one is cut out of it.
SHAPES: dict[str, list[np.ndarray]] = {
    # the 16 categories
    "disc": [circle(0.9)],
    "square": [_points("-.8,-.8 .8,-.8 .8,.8 -.8,.8")],
    "triangle": [_points("0,-.95 .95,.75 -.95,.75")],
    "star": [spikes(5, 0.42)],
    "crescent": [_crescent()],
    "ring": [circle(0.95), circle(0.5)],
    "cross": [_points("-.3,-.95 .3,-.95 .3,-.3 .95,-.3 .95,.3 .3,.3 .3,.95 -.3,.95 -.3,.3 -.95,.3 -.95,-.3 -.3,-.3")],
    "heart": [_heart()],
    "trefoil": [polar(lambda a: 0.62 + 0.38 * np.cos(3 * a))],
    "hourglass": [_points("-.8,-.9 .8,-.9 .15,0 .8,.9 -.8,.9 -.15,0")],
    "letter L": [_points("-.75,-.95 -.2,-.95 -.2,.4 .8,.4 .8,.95 -.75,.95")],
    "letter T": [_points("-.9,-.9 .9,-.9 .9,-.35 .28,-.35 .28,.95 -.28,.95 -.28,-.35 -.9,-.35")],
    "letter U": [_points("-.85,-.9 -.35,-.9 -.35,.4 .35,.4 .35,-.9 .85,-.9 .85,.9 -.85,.9")],
    "arrow": [_points("0,-1 .9,-.05 .35,-.05 .35,.95 -.35,.95 -.35,-.05 -.9,-.05")],
    "bar": [_points("-.35,-1 .35,-1 .35,1 -.35,1")],
    "bolt": [_points("-.1,-1 .6,-1 .15,-.25 .7,-.25 -.35,1 -.05,.1 -.6,.1")],
    # the 8 held-out shapes, for few-shot work
    "hexagon": [spikes(3, 1.0)],
    "letter H": [_points("-.85,-.9 -.35,-.9 -.35,-.25 .35,-.25 .35,-.9 .85,-.9 .85,.9 .35,.9 .35,.25 -.35,.25 -.35,.9 -.85,.9")],
    "letter E": [_points("-.7,-.95 .75,-.95 .75,-.5 -.15,-.5 -.15,-.22 .6,-.22 .6,.22 -.15,.22 -.15,.5 .75,.5 .75,.95 -.7,.95")],
    "drop": [_drop()],
    "frame": [_points("-.9,-.9 .9,-.9 .9,.9 -.9,.9"), _points("-.45,-.45 .45,-.45 .45,.45 -.45,.45")],
    "chevron": [_points("-.9,-.8 0,-.1 .9,-.8 .9,0 0,.8 -.9,0")],
    "gear": [polar(lambda a: 0.82 + 0.17 * np.sign(np.cos(8 * a)))],
    "half disc": [polar(lambda a: np.where(np.cos(a) > 0, 0.95, 0.95 * 0.25 / np.maximum(np.abs(np.cos(a)), 0.25)))],
}  # fmt: skip
