"""What every condition promises, whatever it does to an image."""

import inspect

import pytest
import torch

from vitlab.conditions import (
    CLEAN,
    Batch,
    condition,
    corner,
    corruptions,
    cutout,
    fourier,
    patchdrop,
    shuffle,
)

N, SIZE = 4, 64
GRID = (8, 8)
WAVES = [(0, 0), (3, 5), (0, 7), (-4, 2), (9, 9), (1, 0)]
ROUNDS = fourier.assign(len(WAVES), N, 2, 0)
SALIENCY = torch.rand(N, *GRID, generator=torch.Generator().manual_seed(1))

# Per maker of conditions: arguments, and for each of them another value.
MAKERS = {
    patchdrop.random: (
        {"levels": [0.3], "grid": GRID, "draws": 1, "seed": 0, "offset": 0, "shared": False}
        | {"fill": 0.0, "name": "a"},
        {"levels": [0.6], "grid": (4, 16), "draws": 2, "seed": 1, "offset": 3, "shared": True}
        | {"fill": 0.5, "name": "b"},
    ),
    patchdrop.salient: (
        {"levels": [0.3], "saliency": SALIENCY, "keep": False, "name": "a"},
        {"levels": [0.6], "saliency": SALIENCY.flip(0), "keep": True, "name": "b"},
    ),
    shuffle.random: (
        {"grids": [(2, 8)], "draws": 1, "seed": 0, "shared": False, "name": "a"},
        {"grids": [(4, 4)], "draws": 2, "seed": 1, "shared": True, "name": "b"},
    ),
    cutout.random: (
        {"factors": [0.3], "draws": 1, "seed": 0, "as_released": False, "name": "a"},
        {"factors": [0.6], "draws": 2, "seed": 1, "as_released": True, "name": "b"},
    ),
    corner.conditions: (
        {"places": ["top left"], "share": 0.5, "name": "a", "canvas": "grey"},
        {"places": ["centre"], "share": 0.7, "name": "b", "canvas": "mirrored"},
    ),
    corruptions.conditions: (
        {"names": ["gaussian_noise"], "severities": [2], "seed": 0},
        {"names": ["shot_noise"], "severities": [3], "seed": 1},
    ),
    fourier.conditions: (
        {"chosen": WAVES[1:2], "norm": 2.0, "seed": 0},
        {"chosen": WAVES[3:4], "norm": 3.0, "seed": 1},
    ),
    fourier.assigned: (
        {"rounds": ROUNDS[:1], "chosen": WAVES, "norm": 2.0, "seed": 0, "name": "a"},
        {"rounds": ROUNDS[1:2], "chosen": WAVES[::-1], "norm": 3.0, "seed": 1, "name": "b"},
    ),
}


def named(maker):
    return f"{maker.__module__.rpartition('.')[2]}.{maker.__name__}"


def every():
    """Conditions of all kinds: a function that makes each, and the module it is from."""
    several = {
        patchdrop.random: [{"levels": [0, 1]}, {"shared": True, "offset": 3, "fill": 0.7}],
        patchdrop.salient: [{"keep": True}],
        shuffle.random: [{"grids": [(1, 1), (64, 64)]}, {"shared": True}],
        cutout.random: [{"factors": [0, 1]}, {"as_released": True}],
        corner.conditions: [
            {"places": [*corner.CORNERS, "centre"], "name": "{}", "canvas": canvas}
            for canvas in corner.CANVASES
        ],
        corruptions.conditions: [{"names": corruptions.NAMES, "severities": [3]}],
        fourier.conditions: [{"chosen": WAVES}],
        fourier.assigned: [{"rounds": ROUNDS}],
    }
    for maker, (arguments, _) in MAKERS.items():
        for k, more in enumerate(({}, *several[maker])):
            for i, made in enumerate(maker(**arguments | more)):
                yield pytest.param(
                    lambda maker=maker, given=arguments | more, i=i: maker(**given)[i],
                    maker.__module__,
                    id=f"{named(maker)} {k}: {made.name} {made.level:g} {made.draw}",
                )
    yield pytest.param(lambda: CLEAN, condition.__name__, id="clean")


@pytest.fixture(scope="module")
def whole():
    """Smooth pictures in 8 bits, as decoded."""
    coarse = torch.rand(N, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    pixels = torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bicubic").clamp(0, 1)
    pixels = (pixels * 255).round() / 255
    return Batch(pixels, tuple(f"image{i}" for i in range(N)), torch.arange(N))


def part(whole, places):
    ids = tuple(whole.ids[i] for i in places)
    return Batch(whole.pixels[places], ids, whole.index[places])


def identity(condition):
    return condition.name, condition.level, condition.draw, condition.key


@pytest.mark.parametrize(("make", "module"), [*every()])
def test_pixels_stay_pixels_and_depend_on_the_image_and_not_on_its_batch(make, module, whole):
    before = whole.pixels.clone()
    made = make()
    made.check(SIZE)
    shown = made.apply(whole)
    assert shown.shape == whole.pixels.shape
    assert shown.dtype == torch.float32
    assert shown.min() >= 0
    assert shown.max() <= 1
    assert torch.equal(whole.pixels, before)
    assert torch.equal(make().apply(whole), shown)
    turned = list(reversed(range(N)))
    assert torch.equal(made.apply(part(whole, turned)), shown[turned])
    assert torch.equal(made.apply(part(whole, [2])), shown[2:3])
    assert made.apply.__module__ == module  # its code is part of a trial's key


RANDOM = [
    (patchdrop.random, {}),
    (shuffle.random, {}),
    (cutout.random, {}),
    (cutout.random, {"as_released": True}),
    (fourier.conditions, {}),
    (fourier.assigned, {"chosen": [(3, 5)] * len(WAVES)}),
    *(
        (corruptions.conditions, {"names": [name], "severities": [3]})
        for name in ("gaussian_noise", "impulse_noise", "glass_blur", "motion_blur", "frost", "fog")
    ),
]


@pytest.mark.parametrize(("maker", "more"), RANDOM, ids=lambda x: named(x) if callable(x) else None)
def test_what_is_random_differs_between_images_draws_and_seeds(maker, more, whole):
    same = Batch(whole.pixels[:1].expand(N, -1, -1, -1), whole.ids, whole.index)
    arguments = MAKERS[maker][0] | more
    wanted = [arguments, arguments | {"seed": 1}]
    if "draws" in arguments:
        wanted[0] = arguments | {"draws": 2}
    made = [one for each in wanted for one in maker(**each)]
    shown = [one.apply(same).numpy() for one in made]
    assert len({each.tobytes() for each in shown}) == len(made) >= 2
    pictures = {picture.tobytes() for each in shown for picture in each}
    assert len(pictures) > N  # two of eight signs, or of few angles, may agree


def identities():
    yield "clean", CLEAN
    yield "no cell, black", *patchdrop.random([0], GRID)
    yield "no cell, grey", *patchdrop.random([0], GRID, fill=0.5, offset=3)
    yield "nothing salient", *patchdrop.salient([0], SALIENCY)
    yield "all but the rest", *patchdrop.salient([1], SALIENCY, keep=True)
    yield "one cell", *shuffle.random([(1, 1)])
    yield "no hole", *cutout.random([0])
    yield "no hole, as released", *cutout.random([0], as_released=True)
    for place in [*corner.CORNERS, "centre"]:
        yield f"whole picture, {place}", *corner.conditions([place], share=1)


@pytest.mark.parametrize(
    ("name", "made"), [*identities()], ids=lambda x: x if isinstance(x, str) else ""
)
def test_level_zero_changes_nothing(name, made, whole):
    assert torch.equal(made.apply(whole), whole.pixels)


@pytest.mark.parametrize(
    ("maker", "more", "fits", "does_not", "message"),
    [
        (patchdrop.random, {"grid": (7, 7)}, 224, 64, r"7 x 7 grid does not .* 64 px .* 2, 4, 8"),
        (patchdrop.random, {"offset": 7}, 64, 56, "offset 7 is not below the side of a cell, 7 px"),
        (patchdrop.salient, {}, 64, 60, "8 x 8 grid does not divide the 60 px image; .* 2, 3, 4"),
        (shuffle.random, {"grids": [(14, 14)]}, 224, 64, "14 x 14 grid does not .* 2, 4"),
        (corner.conditions, {"share": 0.1}, 10, 9, r"0\.1 of 9 px is no pixel"),
        (corruptions.conditions, {}, 32, 28, "at least 32 px, got 28 px"),
        (fourier.conditions, {"chosen": [(40, 3)]}, 224, 64, r"no frequency \(40, 3\)"),
        (fourier.assigned, {"chosen": [(9, 9)] * 6}, 18, 16, "up to 8"),
    ],
)
def test_sizes_that_cannot_be_done_are_refused(maker, more, fits, does_not, message):
    [made] = maker(**MAKERS[maker][0] | more)
    made.check(fits)
    with pytest.raises(ValueError, match=message):
        made.check(does_not)


@pytest.mark.parametrize(
    ("maker", "wrong", "message"),
    [
        (patchdrop.random, {"levels": [0.5, -0.1]}, r"level -0\.1 is outside 0\.\.1"),
        (patchdrop.random, {"levels": [50]}, r"level 50 is outside 0\.\.1"),
        (patchdrop.random, {"levels": [float("nan")]}, r"level nan is outside 0\.\.1"),
        (patchdrop.random, {"offset": -1}, "offset must not be negative, got -1"),
        (patchdrop.random, {"fill": 128}, r"fill 128 is outside 0\.\.1"),
        (patchdrop.random, {"draws": 0}, "at least once, got draws=0"),
        *(
            (maker, {"seed": seed}, f"a seed is an integer, e.g. 0; got {seed!r}")
            for maker, (_, others) in MAKERS.items()
            if "seed" in others
            for seed in (None, "x", 1.5)
        ),
        (patchdrop.salient, {"levels": [1.1]}, r"level 1\.1 is outside 0\.\.1"),
        (patchdrop.salient, {"saliency": -SALIENCY}, "no negative values"),
        (patchdrop.salient, {"saliency": SALIENCY * float("nan")}, "nor NaN"),
        (patchdrop.salient, {"saliency": SALIENCY + float("inf")}, "nor infinity"),
        (shuffle.random, {"grids": [(0, 4)]}, "at least one row"),
        (shuffle.random, {"draws": 0}, "got draws=0"),
        (cutout.random, {"factors": [0.2, -0.1]}, r"factor -0\.1 is outside 0\.\.1"),
        (cutout.random, {"factors": [5]}, r"factor 5 is outside 0\.\.1"),
        (cutout.random, {"draws": 0}, "got draws=0"),
        (corner.conditions, {"places": ["top lft"]}, "unknown place 'top lft'; nearest: top left"),
        (corner.conditions, {"canvas": "gray"}, "unknown canvas 'gray'; nearest: grey"),
        *((corner.conditions, {"share": s}, r"outside 0\.\.1") for s in (0, -0.5, 1.5, 57)),
        (
            corruptions.conditions,
            {"names": ["gausian_noise"]},
            "'gausian_noise'; nearest: gaussian_",
        ),
        (corruptions.conditions, {"severities": [6]}, "got 6"),
        (fourier.conditions, {"norm": 0}, "norm must be positive"),
        (fourier.conditions, {"norm": float("inf")}, "positive and finite, got inf"),
        (fourier.assigned, {"norm": -1.0}, "norm must be positive"),
    ],
)
def test_arguments_out_of_range_are_refused(maker, wrong, message):
    with pytest.raises(ValueError, match=message):
        maker(**MAKERS[maker][0] | wrong)


@pytest.mark.parametrize("maker", MAKERS, ids=named)
def test_every_argument_is_in_a_conditions_identity(maker):
    """Trials are kept under it, so two conditions that differ must not share one."""
    arguments, others = MAKERS[maker]
    assert {*arguments} == {*others} == {*inspect.signature(maker).parameters}
    first = [identity(made) for made in maker(**arguments)]
    assert [identity(made) for made in maker(**arguments)] == first
    for name, other in others.items():
        changed = [identity(made) for made in maker(**arguments | {name: other})]
        assert changed != first, name


def test_a_map_counts_with_its_shape():
    one, other = (patchdrop.salient([0.3], SALIENCY.reshape(N, *grid)) for grid in [GRID, (4, 16)])
    assert identity(one[0]) != identity(other[0])


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), r"not torch.uint8; .* pixels.float\(\) / 255"),
        (torch.full((1, 3, 4, 4), 255.0), "these go from 255 to 255"),
        (torch.full((1, 3, 4, 4), -0.1), r"from -0\.1 to -0\.1"),
        (torch.full((1, 3, 4, 4), float("nan")), "from nan"),
    ],
)
def test_what_is_no_pixel_in_0_to_1_is_refused(pixels, message):
    with pytest.raises(ValueError, match=message):
        condition.check_pixels(pixels)
    for fine in (torch.rand(2, 3, 4, 4), torch.zeros(0, 3, 4, 4), torch.ones(1, 3, 4, 4).double()):
        assert condition.check_pixels(fine) is fine
