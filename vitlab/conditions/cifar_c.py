"""The 15 corruptions of CIFAR-10-C, for images of 32 px (Hendrycks & Dietterich 2019).

Constants are those of the released ``make_cifar_c.py`` (github.com/hendrycks/robustness), weaker
than ImageNet-C's at any size. Its ImageMagick, for motion blur and snow, is replaced by the
package's own motion blur. Each function takes a picture, uint8 [32, 32, 3], and a severity from 1
to 5, draws from NumPy's global state, as the script does, and gives float [32, 32, 3], 0 to 255.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import as_file, files
from io import BytesIO
from types import ModuleType

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.ndimage import zoom as enlarge

from vitlab.conditions.elastic import bent

SIZE = 32
Corruption = Callable[[np.ndarray, int, ModuleType], np.ndarray]


def _whole(shares: np.ndarray) -> np.ndarray:
    return np.clip(shares, 0, 1) * 255


def _blurred(shares: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of each channel, as scikit-image's default: four sigmas, nearest edge."""
    return gaussian_filter(shares, (sigma, sigma, 0), mode="nearest")


def gaussian_noise(x: np.ndarray, severity: int, _: ModuleType) -> np.ndarray:
    """White noise of a standard deviation."""
    c = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    return _whole(x / 255 + np.random.normal(size=x.shape, scale=c))


def shot_noise(x: np.ndarray, severity: int, _: ModuleType) -> np.ndarray:
    """Poisson counts of a brightest value."""
    c = (500, 250, 100, 75, 50)[severity - 1]
    return _whole(np.random.poisson(x / 255 * c) / c)


def impulse_noise(x: np.ndarray, severity: int, library: ModuleType) -> np.ndarray:
    """Salt and pepper on a share of the values."""
    c = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    rng = np.random.default_rng(np.random.randint(2**31))
    return _whole(library.sk.util.random_noise(x / 255, mode="s&p", amount=c, rng=rng))


def defocus_blur(x: np.ndarray, severity: int, library: ModuleType) -> np.ndarray:
    """A disk, its edge smoothed."""
    radius, edge = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))[severity - 1]
    kernel = library.disk(radius=radius, alias_blur=edge)
    return _whole(np.stack([library.cv2.filter2D(c, -1, kernel) for c in (x / 255).T], 0).T)


def glass_blur(x: np.ndarray, severity: int, _: ModuleType) -> np.ndarray:
    """Pixels take the place of a neighbour: blurred before and after.

    The script means to swap them; what it swaps are views, so one is copied over the other.
    """
    sigma, reach, rounds = (
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))[severity - 1]
    )  # fmt: skip
    x = (_blurred(x / 255, sigma) * 255).astype(np.uint8)
    places = range(SIZE - reach, reach, -1)
    for h, w in ((h, w) for _ in range(rounds) for h in places for w in places):
        dx, dy = np.random.randint(-reach, reach, size=(2,))
        x[h, w] = x[h + dy, w + dx]
    return _whole(_blurred(x / 255, sigma))


def motion_blur(x: np.ndarray, severity: int, library: ModuleType) -> np.ndarray:
    """A line in a random direction."""
    radius, sigma = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))[severity - 1]
    angle = np.random.uniform(-45, 45)
    return np.clip(library._motion_blur(x, radius=radius, sigma=sigma, angle=angle), 0, 255)


def zoom_blur(x: np.ndarray, severity: int, _: ModuleType) -> np.ndarray:
    """The mean of the image and its enlargements."""
    most = (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1]
    factors = np.arange(1, most, 0.01)
    shares = (x / 255).astype(np.float32)
    seen = sum(_zoomed(shares, factor) for factor in factors)
    return _whole((shares + seen) / (len(factors) + 1))


def _zoomed(x: np.ndarray, factor: float) -> np.ndarray:
    """The middle of an image, enlarged to its size: [h, w, channels]."""
    inner = int(np.ceil(len(x) / factor))
    top = (len(x) - inner) // 2
    grown = enlarge(x[top : top + inner, top : top + inner], (factor, factor, 1), order=1)
    trim = (len(grown) - len(x)) // 2
    return grown[trim : trim + len(x), trim : trim + len(x)]


def snow(x: np.ndarray, severity: int, library: ModuleType) -> np.ndarray:
    """Flakes, blurred by their fall, twice, on a whitened image."""
    mean, spread, zoom, least, radius, sigma, keep = (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )[severity - 1]
    shares = (x / 255).astype(np.float32)
    flakes = np.random.normal(size=x.shape[:2], loc=mean, scale=spread)
    flakes = _zoomed(flakes[..., None], zoom)[..., 0]
    flakes = np.clip(np.where(flakes < least, 0, flakes), 0, 1)
    flakes = (flakes * 255).astype(np.uint8) / 255
    angle = np.random.uniform(-135, -45)
    flakes = library._motion_blur(flakes, radius=radius, sigma=sigma, angle=angle)
    flakes = np.clip(np.round(flakes * 255), 0, 255)[..., None] / 255
    grey = library.cv2.cvtColor(shares, library.cv2.COLOR_RGB2GRAY)[..., None]
    shares = keep * shares + (1 - keep) * np.maximum(shares, grey * 1.5 + 0.5)
    return _whole(shares + flakes + np.rot90(flakes, k=2))


FROSTS = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")


@cache
def ice(which: int, cv2: ModuleType) -> np.ndarray:
    """One of five pictures of frost, uint8 [h, w, 3], blue first; each is read once."""
    with as_file(files("imagecorruptions") / "frost" / FROSTS[which]) as path:
        return cv2.imread(str(path))


def frost(x: np.ndarray, severity: int, library: ModuleType) -> np.ndarray:
    """A random cut of one of five pictures of frost, a fifth as large, added."""
    a, b = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))[severity - 1]
    picture = ice(np.random.randint(len(FROSTS)), library.cv2)
    picture = library.cv2.resize(picture, (0, 0), fx=0.2, fy=0.2)
    top, left = (np.random.randint(0, side - SIZE) for side in picture.shape[:2])
    return a * x + b * picture[top : top + SIZE, left : left + SIZE, ::-1]


def fog(x: np.ndarray, severity: int, library: ModuleType) -> np.ndarray:
    """A random relief, added."""
    c, decay = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))[severity - 1]
    shares = x / 255
    brightest = shares.max()
    shares = shares + c * library.plasma_fractal(mapsize=SIZE, wibbledecay=decay)[..., None]
    return _whole(shares * brightest / (brightest + c))


def brightness(x: np.ndarray, severity: int, library: ModuleType) -> np.ndarray:
    """A higher value in HSV."""
    c = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    hsv = library.sk.color.rgb2hsv(x / 255)
    hsv[..., 2] = np.clip(hsv[..., 2] + c, 0, 1)
    return _whole(library.sk.color.hsv2rgb(hsv))


def contrast(x: np.ndarray, severity: int, _: ModuleType) -> np.ndarray:
    """Nearer to the image's mean colour."""
    c = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    shares = x / 255
    mean = shares.mean((0, 1), keepdims=True)
    return _whole((shares - mean) * c + mean)


def elastic_transform(x: np.ndarray, severity: int, library: ModuleType) -> np.ndarray:
    """A random affine map, then smooth random displacements."""
    shares = (
        (0, 0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    )[severity - 1]
    return bent(x, [SIZE * share for share in shares], np.random, library.cv2)


def pixelate(x: np.ndarray, severity: int, _: ModuleType) -> np.ndarray:
    """Fewer pixels, by their areas, and back."""
    side = int(SIZE * (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1])
    box = Image.Resampling.BOX
    return np.asarray(Image.fromarray(x).resize((side, side), box).resize((SIZE, SIZE), box), float)


def jpeg_compression(x: np.ndarray, severity: int, _: ModuleType) -> np.ndarray:
    """Saved as JPEG."""
    packed = BytesIO()
    Image.fromarray(x).save(packed, "JPEG", quality=(80, 65, 58, 50, 40)[severity - 1])
    return np.asarray(Image.open(packed), float)


BY_NAME: dict[str, Corruption] = {
    f.__name__: f
    for f in (
        *(gaussian_noise, shot_noise, impulse_noise),
        *(defocus_blur, glass_blur, motion_blur, zoom_blur),
        *(snow, frost, fog, brightness),
        *(contrast, elastic_transform, pixelate, jpeg_compression),
    )
}
