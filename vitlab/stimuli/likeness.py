"""How like photographs pictures are: a few statistics, of which none knows a class or a network.

All are of luma (Rec. 601) in [0, 1] of pictures shrunk to 32 px, CIFAR-10's size, and none needs
a mask, for CIFAR-10 has none: what stands in the *middle*, the inner square of half the side, is
set against the *rim*, the outermost eighth of the side all around.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from vitlab.files import read_json

SIDE = 32  # pixels; larger pictures are averaged down to it
_LUMA = (0.299, 0.587, 0.114)
_BINS = np.linspace(0, 0.5, 26)  # of the contrast's histogram; a luma in [0, 1] has no larger SD


def _grey(pictures: Tensor) -> Tensor:
    return (pictures.double() / 255 * torch.tensor(_LUMA)[:, None, None]).sum(1)


def luma(pictures: Tensor) -> np.ndarray:
    """Pictures, uint8 [n, 3, s, s] with s a multiple of 32, as luma: float64 [n, 32, 32]."""
    grey = _grey(pictures)
    return F.avg_pool2d(grey, grey.shape[-1] // SIDE).numpy()


def spectrum_slope(grey: np.ndarray) -> float:
    """The exponent of power against spatial frequency, 2 to 12 cycles a picture; about -2 is 1/f.

    Of the mean power of all pictures [n, 32, 32], each less its mean, under a Hann window, averaged
    around the circle; a least-squares line through the logarithms.
    """
    window = np.hanning(SIDE + 1)[:SIDE]
    centred = grey - grey.mean((1, 2), keepdims=True)
    power = (np.abs(np.fft.fft2(centred * np.outer(window, window))) ** 2).mean(0)
    along = np.fft.fftfreq(SIDE, 1 / SIDE)
    ring = np.hypot(along[:, None], along[None]).round().astype(int)
    frequencies = np.arange(2, 13)
    mean = [power[ring == f].mean() for f in frequencies]
    return float(np.polyfit(np.log(frequencies), np.log(mean), 1)[0])


def contrast(grey: np.ndarray) -> np.ndarray:
    """The standard deviation of each picture's luma: [n, 32, 32] to [n]."""
    return grey.std((1, 2))


def contrast_histogram(grey: np.ndarray) -> np.ndarray:
    """Share of the pictures in each of 25 equal bins of `contrast`, 0 to 0.5: [25], sum 1."""
    return np.histogram(contrast(grey), _BINS)[0] / len(grey)


def _middle_and_rim() -> tuple[np.ndarray, np.ndarray]:
    place = np.arange(SIDE)
    from_edge = np.minimum(place, SIDE - 1 - place)
    depth = np.minimum(from_edge[:, None], from_edge[None])
    return depth >= SIDE // 4, depth < SIDE // 8


def middle_over_rim(grey: np.ndarray) -> np.ndarray:
    """Mean luma of each picture's middle less its rim's, in SDs of the picture: [n]."""
    middle, rim = _middle_and_rim()
    apart = grey[:, middle].mean(1) - grey[:, rim].mean(1)
    return apart / np.maximum(contrast(grey), 1e-6)


def area_unlike_rim(pictures: Tensor) -> np.ndarray:
    """Share of each picture's pixels that are further in colour from the rim's mean than the rim.

    Further than two root mean squared distances of the rim's own pixels: [n, 3, s, s] to [n]. A
    stand-in for the area of the object where no mask is known.
    """
    colour = F.avg_pool2d(pictures.double() / 255, pictures.shape[-1] // SIDE)
    rim = torch.from_numpy(_middle_and_rim()[1])
    mean = colour[:, :, rim].mean(2)[..., None, None]
    squared = (colour - mean).square().sum(1)
    spread = squared[:, rim].mean(1)[:, None, None]
    return (squared > 4 * spread).double().mean((1, 2)).numpy()


def statistics(pictures: Tensor) -> dict[str, float]:
    """All of them in one number each, of pictures uint8 [n, 3, s, s]."""
    grey = luma(pictures)
    apart = middle_over_rim(grey)
    low, median, high = np.quantile(contrast(grey), [0.1, 0.5, 0.9])
    return {
        "spectrum slope": spectrum_slope(grey),
        "mean luma": float(grey.mean()),
        "SD of the pictures' mean luma": float(grey.mean((1, 2)).std()),
        "contrast, median": float(median),
        "contrast, 10th percentile": float(low),
        "contrast, 90th percentile": float(high),
        "middle against rim, median": float(np.median(np.abs(apart))),
        "middle brighter than rim": float((apart > 0).mean()),
        "area unlike the rim": float(area_unlike_rim(pictures).mean()),
    }


def objects(pictures: Tensor, masks: Tensor) -> dict[str, float]:
    """What exact masks tell: polarity and area. uint8 [n, 3, s, s], float [n, s, s] in [0, 1]."""
    grey = _grey(pictures)
    inside, outside = masks.double(), 1 - masks.double()
    apart = (grey * inside).sum((1, 2)) / inside.sum((1, 2))
    apart -= (grey * outside).sum((1, 2)) / outside.sum((1, 2))
    return {
        "objects brighter than their ground": float((apart > 0).double().mean()),
        "area of the object, median": float(inside.mean((1, 2)).median()),
    }


def photographs() -> dict[str, Any]:
    """The statistics of CIFAR-10's 10,000 test photographs, kept, for the set is not always here.

    Keys `source`, `statistics` and `contrast histogram`; made by `measured` of the whole test set.
    """
    return read_json(Path(__file__).with_name("photographs.json"))


def measured(pictures: Tensor) -> dict[str, Any]:
    """What `photographs` keeps, without the source, of pictures uint8 [n, 3, s, s]."""
    histogram = contrast_histogram(luma(pictures))
    return {
        "statistics": {name: round(value, 4) for name, value in statistics(pictures).items()},
        "contrast histogram": histogram.round(4).tolist(),
    }


# How far from the photographs' the stimuli's may be, and what else is asked of them; written down
# on the book's page of methods before the stimuli were drawn.
_WITHIN = {
    "spectrum slope": 0.3,
    "mean luma": 0.1,
    "contrast, median": 0.04,
    "middle against rim, median": 0.2,
    "area unlike the rim": 0.1,
}
_RANGES = {
    "middle brighter than rim": (0.4, 0.6),
    "contrast, histogram in common": (0.75, 1.0),
    "objects brighter than their ground": (0.45, 0.55),
    "area of the object, median": (0.15, 0.4),
}


def compared(pictures: Tensor, masks: Tensor) -> pd.DataFrame:
    """Stimuli beside photographs: a row a statistic, with the bounds it has to keep, if any.

    Columns: statistic, CIFAR-10, stimuli, least, most; NaN where there is nothing to say.
    """
    kept = photographs()
    common = np.minimum(contrast_histogram(luma(pictures)), kept["contrast histogram"]).sum()
    ours = statistics(pictures) | {"contrast, histogram in common": float(common)}
    ours |= objects(pictures, masks)
    theirs = kept["statistics"]
    bounds = _RANGES | {k: (theirs[k] - far, theirs[k] + far) for k, far in _WITHIN.items()}
    none = (np.nan, np.nan)
    rows = [(k, theirs.get(k, np.nan), v, *bounds.get(k, none)) for k, v in ours.items()]
    return pd.DataFrame(rows, columns=["statistic", "CIFAR-10", "stimuli", "least", "most"])
