"""Whether a JPEG file is whole. Decoders fill what is missing with grey and say nothing."""

from __future__ import annotations

import io

from PIL import Image

END = b"\xff\xd9"  # the marker that ends a picture
_DATA = bytes(range(1, 255))
# Data that no whole picture needs, also where they begin anew with a restart marker.
_MORE = _DATA + b"".join(bytes([0xFF, 0xD0 + k]) + _DATA for k in range(8))


def end(content: bytes) -> int:
    """Where the marker stands that ends the first picture of a JPEG file; -1 if it has none.

    What follows it (a phone's film, a second view) belongs to no decoder of pictures.
    """
    at = 2
    while 0 <= (at := content.find(b"\xff", at)) < len(content) - 1:
        kind = content[at + 1]
        if kind == END[1]:
            return at
        if kind == 0xFF:  # padding
            at += 1
        elif kind in (0x00, 0x01) or 0xD0 <= kind <= 0xD8:  # without content
            at += 2
        else:
            at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return -1


def is_whole(content: bytes) -> bool:
    """Whether all of the picture is there, with or without its end marker.

    Data behind a whole picture change nothing; where some is missing they are taken for it. A
    progressive file without an end marker counts as cut off: it may lack its last details. One that
    was ended between two of its scans is coarser, and cannot be told.

    Raises what Pillow raises for a file that it cannot read.
    """
    stop = end(content)
    with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
        coarse = not image.info.get("progressive")
    if stop < 0 and not coarse:
        return False
    data = content if stop < 0 else content[:stop]
    return _pixels(data + END, coarse) == _pixels(data + _MORE + END, coarse)


def _pixels(content: bytes, coarse: bool) -> bytes:
    """The decoded picture; coarse: a pixel for each 8 x 8, which is quicker."""
    with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
        if coarse:
            image.draft("L", (1, 1))
        return image.tobytes()
