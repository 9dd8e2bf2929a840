import numpy as np
import pytest
import torch
from PIL import Image

from vitlab.conditions import Batch, corner


def batch(n=3, size=64):
    """Smooth pictures, so that a resampled one has values between black and white."""
    noise = torch.rand(n, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    pixels = torch.nn.functional.interpolate(noise, (size, size), mode="bicubic").clamp(0, 1)
    pixels = (pixels * 255).round() / 255
    return Batch(pixels, tuple(f"image{i}" for i in range(n)), torch.arange(n))


def test_the_paper_shrinks_to_128_of_224_and_miniature_to_36_of_64():
    assert corner.shrunken_side(224) == 128
    assert corner.shrunken_side(64) == 36
    assert [corner.shrunken_side(k, 1) for k in (1, 63, 64)] == [1, 63, 64]


@pytest.mark.parametrize(
    ("place", "top", "left"),
    [
        ("top left", 0, 0),
        ("top right", 0, 28),
        ("bottom left", 28, 0),
        ("bottom right", 28, 28),
        ("centre", 14, 14),
    ],
)
def test_the_picture_is_pillows_and_all_else_is_black(place, top, left):
    shown_to = batch()
    [condition] = corner.conditions([place])
    shown = condition.apply(shown_to)
    assert shown.shape == (3, 3, 64, 64)
    for pixels, result in zip(shown_to.pixels, shown, strict=True):
        picture = Image.fromarray((pixels * 255).round().byte().permute(1, 2, 0).numpy())
        small = np.asarray(picture.resize((36, 36), Image.Resampling.BILINEAR))  # antialiased
        canvas = np.zeros((64, 64, 3), np.uint8)
        for y in range(36):
            for x in range(36):
                canvas[top + y, left + x] = small[y, x]
        ours = (result * 255).permute(1, 2, 0).numpy()
        assert np.abs(ours - canvas).max() <= 1.01  # Pillow rounds to 8 bits twice
        outside = np.ones((64, 64), bool)
        outside[top : top + 36, left : left + 36] = False
        assert (ours[outside] == 0).all()


def test_all_corners_show_the_same_picture():
    shown = [c.apply(batch()) for c in corner.conditions()]
    assert [c.name for c in corner.conditions()] == [
        "corner, top left",
        "corner, top right",
        "corner, bottom left",
        "corner, bottom right",
    ]
    top_left = shown[0][..., :36, :36]
    for pixels, (y, x) in zip(shown, [(0, 0), (0, 28), (28, 0), (28, 28)], strict=True):
        assert torch.equal(pixels[..., y : y + 36, x : x + 36], top_left)


@pytest.mark.parametrize("place", [*corner.CORNERS, "centre"])
def test_on_another_canvas_the_picture_is_the_same_and_only_its_ground_differs(place):
    [black], [grey], [mirrored] = (
        corner.conditions([place], canvas=canvas) for canvas in corner.CANVASES
    )
    inside = corner.paste(torch.ones(1, 3, 36, 36), 64, place)[0, 0] == 1
    shown = [c.apply(batch()) for c in (black, grey, mirrored)]
    for other in shown[1:]:
        assert torch.equal(other[..., inside], shown[0][..., inside])
    assert (shown[1][..., ~inside] == 0.5).all()
    top, left = inside.nonzero()[0].tolist()
    small = shown[0][..., top : top + 36, left : left + 36].numpy()
    around = (top, 64 - 36 - top), (left, 64 - 36 - left)
    numpys = np.pad(small, ((0, 0), (0, 0), *around), mode="symmetric")
    assert np.array_equal(shown[2].numpy(), numpys)


def test_a_mirrored_picture_goes_on_as_often_as_it_takes():
    small = torch.arange(6.0).reshape(1, 1, 2, 3)
    shown = corner.paste(small, 9, "bottom left", "mirrored")
    numpys = np.pad(small.numpy(), ((0, 0), (0, 0), (7, 0), (0, 6)), mode="symmetric")
    assert np.array_equal(shown.numpy(), numpys)


def test_a_picture_larger_than_the_canvas_is_refused():
    with pytest.raises(ValueError, match="9 x 8 px picture does not fit on 8 x 8 px"):
        corner.paste(torch.zeros(1, 3, 9, 8), 8, "centre")
