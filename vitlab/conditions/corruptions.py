"""The 15 common corruptions of ImageNet-C at five severities (Hendrycks & Dietterich 2019).

Images of 32 px get CIFAR-10-C's, whose constants are others (see `cifar_c`). Of all others thirteen
are computed by the package imagecorruptions (``pip install 'vitlab[corruptions]'``). Its constants
are the paper's, made for 224 px. Its elastic transform and its frost are not those of ImageNet-C,
which are here. Unlike the files of ImageNet-C, images are not stored as JPEG after a corruption.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from vitlab.conditions import cifar_c
from vitlab.conditions.condition import Batch, Condition
from vitlab.conditions.elastic import bent
from vitlab.files import nearest
from vitlab.rng import check_seed, generator

GROUPS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
NAMES = tuple(name for group in GROUPS.values() for name in group)
# AlexNet's error on each corruption of ImageNet-C, mean of five severities, in the order of NAMES:
# what published mCEs are relative to (github.com/hendrycks/robustness).
ALEXNET = (
    *(0.886428, 0.894468, 0.922640),
    *(0.819880, 0.826268, 0.785948, 0.798360),
    *(0.866816, 0.826572, 0.819324, 0.564592),
    *(0.853204, 0.646056, 0.717840, 0.606500),
)
# The same at each severity.
_ALEXNET = (
    *((0.69528, 0.82542, 0.93554, 0.98138, 0.99452), (0.71224, 0.85108, 0.93574, 0.98182, 0.99146)),
    *((0.78374, 0.89808, 0.94870, 0.98720, 0.99548), (0.65624, 0.73202, 0.85036, 0.91364, 0.94714)),
    *((0.64308, 0.75054, 0.88806, 0.91622, 0.93344), (0.58430, 0.70048, 0.82108, 0.89750, 0.92638)),
    *((0.70008, 0.76992, 0.80784, 0.84198, 0.87198), (0.71726, 0.88392, 0.86468, 0.91870, 0.94952)),
    *((0.61390, 0.79734, 0.88790, 0.89942, 0.93430), (0.67474, 0.76050, 0.84378, 0.87260, 0.94500)),
    *((0.45140, 0.48502, 0.54048, 0.62166, 0.72440), (0.64548, 0.76150, 0.88874, 0.97760, 0.99270)),
    *((0.52596, 0.70116, 0.55686, 0.64076, 0.80554), (0.52218, 0.54620, 0.73728, 0.87092, 0.91262)),
    (0.51002, 0.54718, 0.57294, 0.65458, 0.74778),
)
# Its error on the clean images: torchvision lists 56.522 % accuracy for AlexNet, whose weights the
# released code loads. That the paper's table 1 prints the same 43.5 is from memory, unchecked.
ALEXNET_CLEAN = 0.435
SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST = 32  # pixels; the library takes no less

# These two do not draw from NumPy's global state and take a seed of their own.
_SEEDED = ("impulse_noise", "glass_blur")
_LOCK = threading.Lock()  # NumPy's global state is one for all threads


def corrupt(picture: np.ndarray, name: str, severity: int, seed: int, image_id: str) -> np.ndarray:
    """One corrupted image: uint8 [h, w, 3] to uint8 [h, w, 3].

    Its randomness depends on name, severity, seed and image id alone, and NumPy's global random
    state is left as it was.

    Raises ImportError where the package is missing, KeyError at 32 px for what CIFAR-10-C lacks.
    """
    library = _library()
    number = int(generator("corruption", name, severity, seed, image_id).integers(2**32))
    small = cifar_c.BY_NAME[name] if picture.shape[:2] == (cifar_c.SIZE, cifar_c.SIZE) else None
    if name in _OURS and not small:
        shown = _OURS[name](picture, severity, np.random.RandomState(number))
        return np.clip(shown, 0, 255).astype(np.uint8)
    own = {"seed": number} if name in _SEEDED else {}
    with _LOCK:
        state = np.random.get_state()
        np.random.seed(number)
        try:
            if small:
                shown = small(picture, severity, library.corruptions)
                return np.clip(shown, 0, 255).astype(np.uint8)
            return library.corrupt(picture, severity=severity, corruption_name=name, **own)
        finally:
            np.random.set_state(state)


def alexnet(severities: Sequence[int] = SEVERITIES) -> dict[str, float]:
    """AlexNet's error on each corruption of ImageNet-C, the mean over some severities.

    An mCE over these severities is relative to it. Raises ValueError for no or unknown severities.

    >>> alexnet()["fog"], alexnet([1])["fog"]
    (0.819324, 0.67474)
    """
    chosen = sorted({*severities})
    if not chosen or not {*chosen} <= {*SEVERITIES}:
        raise ValueError(f"a severity is 1, 2, 3, 4 or 5, got {[*severities]}")
    if chosen == [*SEVERITIES]:
        return dict(zip(NAMES, ALEXNET, strict=True))
    each = (float(np.mean([errors[s - 1] for s in chosen])) for errors in _ALEXNET)
    return dict(zip(NAMES, each, strict=True))


def conditions(
    names: Sequence[str] = NAMES, severities: Sequence[int] = SEVERITIES, seed: int = 0
) -> list[Condition]:
    """Every corruption at every severity; a condition's level is its severity.

    names: of the library, its four extra ones (speckle_noise, gaussian_blur...) included.

    Raises ValueError for an unknown name or severity and a seed that is no integer, ImportError
    where the package is missing; the conditions raise ValueError for images below 32 px.
    """
    check_seed(seed)
    library = _library()
    for name in names:
        known = library.get_corruption_names("all")
        if name not in known:
            raise ValueError(f"unknown corruption {name!r}{nearest(name, known)}")
    for severity in severities:
        if severity not in SEVERITIES:
            raise ValueError(f"a severity is 1, 2, 3, 4 or 5, got {severity}")
    key = f"seed {seed}, imagecorruptions {version('imagecorruptions-imaug')}, "
    key += f"scikit-image {version('scikit-image')}, OpenCV {library.corruptions.cv2.__version__}"

    def condition(name: str, severity: int) -> Condition:
        def apply(batch: Batch) -> Tensor:
            # Pixels come from 8 bits, so rounding back is exact.
            bytes_ = (batch.pixels * 255).round().to(torch.uint8)
            pictures = bytes_.permute(0, 2, 3, 1).cpu().numpy()
            shown = np.stack(
                [
                    corrupt(picture, name, severity, seed, image_id)
                    for picture, image_id in zip(pictures, batch.ids, strict=True)
                ]
            )
            stack = torch.from_numpy(shown).permute(0, 3, 1, 2).contiguous()
            return stack.to(batch.pixels.device).float() / 255

        return Condition(name, severity, apply, check=_check_size, key=key)

    return [condition(name, severity) for name in names for severity in severities]


# Of 224 px: amplitude and width of the smooth displacements, reach of the corners' shifts. The
# released code multiplies by 244, and so do the files of ImageNet-C.
_ELASTIC = (
    (2, 0.7, 0.1),
    (2, 0.08, 0.2),
    (0.05, 0.01, 0.02),
    (0.07, 0.01, 0.02),
    (0.12, 0.01, 0.02),
)
_FROST = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))  # weights: image, frost


def elastic_transform(
    picture: np.ndarray, severity: int, draw: np.random.RandomState
) -> np.ndarray:
    """The picture bent: uint8 [h, w, 3] to float, 0 to 255 (see `elastic.bent`).

    At 224 px that of ImageNet-C's released code; lengths scale with the image. At 1 and 2 the
    displacements are as wide as the image, so it is bent; from 3 on it is rippled.
    """
    cv2 = _library().corruptions.cv2
    unit = 244 * min(picture.shape[:2]) / 224
    return bent(picture, [c * unit for c in _ELASTIC[severity - 1]], draw, cv2)


def frost(picture: np.ndarray, severity: int, draw: np.random.RandomState) -> np.ndarray:
    """A random cut of one of five pictures of frost, added: uint8 [h, w, 3] to float.

    That of ImageNet-C's released code. Its sixth picture was never drawn; where an image is larger
    than the frost, the frost is enlarged.
    """
    cv2 = _library().corruptions.cv2
    h, w = picture.shape[:2]
    ice = cifar_c.ice(draw.randint(len(cifar_c.FROSTS)), cv2)[..., ::-1]
    if (grow := max((h + 1) / ice.shape[0], (w + 1) / ice.shape[1])) > 1:
        ice = cv2.resize(ice, None, fx=grow, fy=grow, interpolation=cv2.INTER_CUBIC)
    top = draw.randint(0, ice.shape[0] - h)
    left = draw.randint(0, ice.shape[1] - w)
    a, b = _FROST[severity - 1]
    return a * picture + b * ice[top : top + h, left : left + w]


_OURS = {"elastic_transform": elastic_transform, "frost": frost}


def _check_size(size: int) -> None:
    if size < SMALLEST:
        raise ValueError(f"corruptions need images of at least {SMALLEST} px, got {size} px")


@cache
def _library() -> ModuleType:
    try:
        import imagecorruptions
    except ImportError as error:
        raise ImportError(
            "corruptions need the package imagecorruptions-imaug: pip install "
            "'vitlab[corruptions]'. Its OpenCV needs libGL (Debian: apt install libgl1). "
            f"Python says: {error}"
        ) from error
    return imagecorruptions
