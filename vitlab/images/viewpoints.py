"""The same objects from elsewhere: turned, and further away."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image

from vitlab import keys
from vitlab.files import digest
from vitlab.images.images import Images
from vitlab.images.loading import load
from vitlab.rng import generator
from vitlab.stimuli import scenes as stimuli

# Degrees that an object is turned by, either way, and how large it is left. Chosen on validation
# stimuli with mini/cnn-2 alone, which errs on about one in four of them.
TURN = (25.0, 50.0)
SIZE = (0.65, 0.85)


def moved(scene: stimuli.Scene) -> stimuli.Scene:
    """A stimulus whose object is turned and further away; all else, its texture too, stays."""
    rng = generator("viewpoint", scene.id)
    scale = scene.scale * rng.uniform(*SIZE)
    angle = scene.angle + rng.choice([-1, 1]) * rng.uniform(*TURN)
    x, y = rng.uniform(-1, 1, 2) * (0.95 - scale)
    pose = {"angle": float(angle), "scale": float(scale), "x": float(x), "y": float(y)}
    return replace(scene, **pose)  # type: ignore[arg-type]


def elsewhere(n: int, seed: int = 0, split: str = "test") -> Images:
    """Natural stimuli seen from elsewhere, of the same objects in the same order as `load`'s.

    Raises DataError as `load` does.
    """
    usual = load("stimuli", split=split, n=n, seed=seed)
    scenes = [moved(stimuli.describe(split, i, seed)) for i in range(n)]
    table = usual.table.assign(id=[f"viewpoint/{name}" for name in usual.table["id"]])
    return replace(
        usual,
        name="stimuli (other viewpoint)",
        table=table,
        picture=lambda i: Image.fromarray(stimuli.draw(scenes[i])[0]),
        mask=lambda i: stimuli.draw_mask(scenes[i]),
        fingerprint=digest(usual.fingerprint, keys.function(moved), *scenes),
    )
