"""How a picture is read from its file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from vitlab.files import printable
from vitlab.images import jpeg
from vitlab.images.errors import DataError

# What is read, whatever a file is called. Pillow's other readers may start programs (EPS) or wait.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


def decode(path: Path) -> Image.Image:
    """A file's picture as RGB, not turned by its EXIF orientation (as in published evaluations).

    Grey of 16 bits is scaled to 8. What is transparent is seen on white.

    Raises DataError for a file that cannot be read, has numbers of other kinds or so many pixels
    that Pillow warns of them.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            check_size(image)
            return as_rgb(image)
    except UnidentifiedImageError:
        raise DataError(f"{printable(path)} is not an image") from None
    except Exception as error:  # readers raise all kinds for broken headers
        content = path.read_bytes() if path.is_file() else b""
        if content[:2] == b"\xff\xd8" and jpeg.end(content) < 0 and _whole(content):
            with Image.open(io.BytesIO(content + jpeg.END), formats=FORMATS) as image:
                return as_rgb(image)
        raise DataError(
            f"{printable(path)} cannot be read: {str(error) or type(error).__name__}"
        ) from None


def _whole(content: bytes) -> bool:
    try:
        return jpeg.is_whole(content)
    except Exception:
        return False


def check_size(image: Image.Image) -> None:
    """Raises DecompressionBombError where Pillow would warn that a file could be a bomb.

    A small file can hold pixels of gigabytes; it is opened, and not yet decoded.
    """
    pixels, most = image.width * image.height, Image.MAX_IMAGE_PIXELS
    if most and pixels > most:
        raise Image.DecompressionBombError(
            f"{image.width} x {image.height} are {pixels} pixels, at most {most} are read"
        )


def as_rgb(image: Image.Image) -> Image.Image:
    """A picture as RGB, see `decode`. Raises DataError for numbers of other kinds."""
    if image.mode == "F":
        raise DataError("its pixels are floating point; save it with 8 or 16 bits a colour")
    if image.mode.startswith("I"):  # 16 bits, which Pillow would cut at 255
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            values = f"{grey.min()} to {grey.max()}"
            raise DataError(f"its pixels go from {values}; save it with 8 or 16 bits a colour")
        seen = np.where(grey == image.info.get("transparency"), 65535, grey)
        return Image.fromarray(np.round(seen / 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        above = image.convert("RGBA")
        ground = Image.new("RGBA", above.size, "white")
        return Image.alpha_composite(ground, above).convert("RGB")
    return image.convert("RGB")
