"""Scenes with an object of no known class in them, whose pixels are known."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image

from vitlab import keys
from vitlab.files import digest
from vitlab.images.backgrounds import pasted
from vitlab.images.images import Images
from vitlab.images.loading import load
from vitlab.rng import generator
from vitlab.stimuli import scenes as stimuli

SIZE = 0.5  # of the unknown object, beside that of a known one


def placed(scene: stimuli.Scene) -> stimuli.Scene:
    """A held-out stimulus's object at half its size, anywhere in the picture."""
    scale = SIZE * scene.scale
    x, y = generator("anomaly", scene.id).uniform(-1, 1, 2) * (0.95 - scale)
    return replace(scene, scale=scale, x=float(x), y=float(y))


def inserted(n: int, seed: int = 0) -> Images:
    """Natural test stimuli, each with a held-out shape of a held-out texture pasted into it.

    The mask is that of the unknown object, the label that of the known one (StreetHazards' part, in
    miniature). Raises DataError as `load` does.
    """
    known = load("stimuli", n=n, seed=seed)
    objects = [placed(stimuli.describe("test", i, seed, held_out=True)) for i in range(n)]
    filled = [replace(scene, variant="texture-only") for scene in objects]
    unknown = replace(
        known,
        name="unknown objects",
        picture=lambda i: Image.fromarray(stimuli.draw(filled[i])[0]),
        mask=lambda i: stimuli.draw_mask(objects[i]),
        fingerprint=digest(known.fingerprint, keys.function(placed), *objects),
    )
    return pasted(unknown, known, [[i] for i in range(n)], "unknown objects in stimuli")
