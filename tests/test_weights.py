import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file as plain
from safetensors.torch import save_file

from vitlab import models
from vitlab.models import weights


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


STATE = {
    "conv.weight": drawn(6, 3, 3, 3) * torch.logspace(-30, 3, 6).view(-1, 1, 1, 1),
    "fc.weight": drawn(5, 7, seed=1),
    "fc.bias": drawn(5, seed=2),
    "pos_embed": drawn(1, 4, 8, seed=3),
    "bn.num_batches_tracked": torch.tensor(7),
}


def test_a_channel_of_known_steps_by_hand():
    """Its largest number is 127 steps; halves of a step go to the even one."""
    step = torch.tensor([2.0**-5, 2.0**3])
    levels = torch.tensor([[127.0, -3.0, 0.4, 2.5], [-127.0, 126.0, -0.6, 1.5]])
    tensors = weights.pack({"w": levels * step[:, None]})
    assert tensors["w"].tolist() == [[127, -3, 0, 2], [-127, 126, -1, 2]]
    assert tensors["w"].dtype == torch.int8
    assert torch.equal(tensors["w.scale"], step)
    assert torch.equal(weights.unpack(tensors)["w"], tensors["w"].float() * step[:, None])


@pytest.mark.parametrize("seed", range(20))
def test_the_error_is_half_a_step_of_the_channel_at_most(seed):
    w = drawn(64, 30, seed=seed) * torch.exp(5 * drawn(64, 1, seed=seed + 100))
    tensors = weights.pack({"w": w})
    error = (weights.unpack(tensors)["w"].double() - w.double()).abs()
    step = tensors["w.scale"].double()
    assert (error <= step[:, None] / 2).all()
    np.testing.assert_allclose(step, w.abs().amax(1).double() / 127, rtol=2**-8)
    assert tensors["w"].abs().amax(1).tolist() == [127] * 64, "all levels are used"


def test_what_was_unpacked_is_packed_to_itself():
    """Bit for bit, over many scales: else weights would creep with every writing."""
    once = weights.pack(STATE | {"many.weight": drawn(20_000, 3, seed=4)})
    state = weights.unpack(once)
    twice = weights.pack(state)
    assert once.keys() == twice.keys()
    for name, value in once.items():
        assert torch.equal(value, twice[name]), name
        assert value.dtype == twice[name].dtype
    for name, value in weights.unpack(twice).items():
        assert torch.equal(value, state[name]), name


def test_what_is_no_matrix_is_kept_as_in_16_bits():
    half, packed = weights.keep(STATE, 16), weights.keep(STATE, 8)
    assert weights.bits(half) == 16
    assert weights.bits(packed) == 8
    assert half.keys() == STATE.keys()
    assert packed.keys() - half.keys() == {"conv.weight.scale", "fc.weight.scale"}
    for name in ("fc.bias", "pos_embed", "bn.num_batches_tracked"):
        assert torch.equal(packed[name], half[name])
    assert half["pos_embed"].dtype == torch.float16
    assert half["bn.num_batches_tracked"].dtype == torch.int64
    assert {k: v.shape for k, v in weights.unpack(packed).items()} == {
        k: v.shape for k, v in STATE.items()
    }
    assert all(weights.unpack(half)[name] is value for name, value in half.items())


@pytest.mark.parametrize("value", [0.0, 1e-44, 1e-39])
def test_a_channel_of_zeros_stays_one(value):
    tensors = weights.pack({"w": torch.full((2, 3), value)})
    assert not weights.unpack(tensors)["w"].any()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="w is not finite"):
        weights.pack({"w": torch.tensor([[1.0], [value]])})


@pytest.mark.parametrize("bits", weights.BITS)
@pytest.mark.parametrize(
    "value",
    [
        torch.full((4,), 1e5),
        torch.full((1, 4), 1e5),
        torch.full((2, 3), 1e39, dtype=torch.float64),
        torch.full((2, 3), 1e300, dtype=torch.float64),
    ],
)
def test_what_is_not_finite_after_rounding_is_refused(value, bits):
    with pytest.raises(ValueError, match="w is not finite in"):
        weights.keep({"w": value}, bits)


@pytest.mark.parametrize("bits", weights.BITS)
def test_what_holds_nothing_passes_through(bits):
    for shape in ((3, 0), (0, 3), (3, 0, 2)):
        kept = weights.unpack(weights.keep({"w": torch.empty(shape)}, bits))
        assert kept["w"].shape == shape


@pytest.mark.parametrize("bits", weights.BITS)
def test_whole_numbers_that_would_be_taken_for_levels_are_refused(bits):
    with pytest.raises(ValueError, match="w would be taken for levels"):
        weights.keep({"w": torch.ones(2, 2, dtype=torch.int8)}, bits)


@pytest.mark.parametrize(
    ("scale", "said"),
    [
        (None, "w has 8 bits and no w.scale"),
        (torch.ones(2), "w.scale is not a number for each channel of w"),
        (torch.ones(1), "w.scale is not a number for each channel of w"),
        (torch.ones(3, 1), "w.scale is not a number for each channel of w"),
        (torch.tensor([1.0, float("nan"), 1.0]), "w.scale is not finite"),
        (torch.tensor([1.0, float("inf"), 1.0]), "w.scale is not finite"),
    ],
)
def test_levels_without_their_steps_are_refused(scale, said):
    tensors = {"w": torch.ones(3, 4, dtype=torch.int8), "w.scale": scale}
    with pytest.raises(ValueError, match=said):
        weights.unpack({name: value for name, value in tensors.items() if value is not None})
    with pytest.raises(ValueError, match=r"w\.scale is not a number"):
        weights.unpack({"w": torch.tensor(1, dtype=torch.int8), "w.scale": torch.ones(3)})


def test_a_name_that_would_be_taken_for_a_scale_is_refused():
    with pytest.raises(ValueError, match=r"block\.scale"):
        weights.pack({"block.scale": torch.ones(3)})


def test_the_file_is_read_without_this_library(tmp_path):
    """As the docstring says, with numpy alone."""
    save_file(weights.pack(STATE), tmp_path / "net.safetensors")
    found = plain(tmp_path / "net.safetensors")
    scale = found["conv.weight.scale"].reshape(-1, 1, 1, 1)
    ours = weights.unpack(weights.pack(STATE))["conv.weight"].numpy()
    assert np.array_equal(found["conv.weight"] * scale, ours)


def test_the_zoo_is_kept_as_its_recipes_say():
    """And a network of 8 bits is about half as large as one of 16."""
    from vitlab.training.recipe import recipes

    for name, entry in models.zoo().items():
        path = models.ZOO / entry["file"]
        with path.open("rb") as file:  # the head of safetensors: its length, then JSON
            head = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        kept = 8 if any(one["dtype"] == "I8" for k, one in head.items() if k[0] != "_") else 16
        assert kept == recipes()[name].bits, name
        if kept == 8:
            assert path.stat().st_size < 1.1 * entry["parameters"]


def test_the_photo_zoo_is_no_more_than_20_megabytes():
    assert sum(path.stat().st_size for path in models.ZOO.glob("photos/*")) <= 20e6
