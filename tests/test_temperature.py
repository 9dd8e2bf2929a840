import pytest
import timm
import torch

from vitlab.inside.temperature import tempered
from vitlab.inside.tokens import watched
from vitlab.models import hub, load


@pytest.fixture(params=["zoo", "normed"], scope="module")
def vit(request):
    """A miniature; and one that normalises its queries and keys, with a distillation token."""
    if request.param == "zoo":
        return load("mini/vit-0", "cpu")
    torch.manual_seed(0)
    net = timm.create_model("deit_tiny_distilled_patch16_224", img_size=64, qk_norm=True).eval()
    net.pretrained_cfg["input_size"] = (3, 64, 64)
    return hub.from_timm("timm/deit_tiny_distilled_patch16_224", net, "random")


@pytest.fixture(scope="module")
def pixels():
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def by_hand(model, pixels, temperature):
    """The softmax of each block and the last tokens, with each block's parts applied one by one."""
    net, seen = model.net, []
    x = net._pos_embed(net.patch_embed(model.normalise(pixels)))
    for block in net.blocks:
        attn, n = block.attn, x.shape[1]
        q, k, v = attn.qkv(block.norm1(x)).view(len(x), n, 3, -1, attn.head_dim).unbind(2)
        q, k = attn.q_norm(q), attn.k_norm(k)
        scores = torch.einsum("nqhd,nkhd->nhqk", q, k) / (temperature * attn.head_dim**0.5)
        seen.append(scores.softmax(-1))
        x = x + attn.proj(torch.einsum("nhqk,nkhd->nqhd", seen[-1], v).flatten(2))
        x = x + block.mlp(block.norm2(x))
    return seen, net.forward_head(net.norm(x))


@pytest.mark.parametrize("temperature", [0.5, 1, 1.5, 5])
def test_attention_and_answer_are_those_written_out(vit, pixels, temperature):
    wanted, answers = by_hand(vit, pixels, temperature)
    layers = [block.attn for block in vit.net.blocks]
    with tempered(vit, temperature) as hot, watched(layers) as seen, torch.no_grad():
        found = hot.logits(pixels)
    for one, other in zip(seen, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    assert torch.allclose(found, answers, atol=1e-4)


def test_the_answers_change_and_the_network_is_as_before(vit, pixels):
    layers = [block.attn for block in vit.net.blocks]
    state = [(layer.scale, layer.fused_attn) for layer in layers]
    weights = {name: tensor.clone() for name, tensor in vit.net.state_dict().items()}
    with torch.no_grad():
        before = vit.logits(pixels)
        with tempered(vit, 3):
            assert not torch.allclose(vit.logits(pixels), before, atol=1e-3)
        with pytest.raises(KeyError), tempered(vit, 3):
            raise KeyError
        assert torch.equal(vit.logits(pixels), before)
    assert [(layer.scale, layer.fused_attn) for layer in layers] == state
    assert all(torch.equal(weights[k], tensor) for k, tensor in vit.net.state_dict().items())


def test_the_hotter_the_flatter(vit, pixels):
    with tempered(vit, 1e6), watched([vit.net.blocks[0].attn]) as seen, torch.no_grad():
        vit.logits(pixels)
    assert torch.allclose(seen[0], torch.full_like(seen[0], 1 / seen[0].shape[-1]), atol=1e-4)


def test_gradients_pass_through(pixels):
    vit = load("mini/vit-0", "cpu")
    direction = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(1))
    here = pixels[:1].clone().requires_grad_(True)
    with tempered(vit, 2):
        [slope] = torch.autograd.grad(vit.logits(here)[0, 0], here)
        ends = [vit.logits(pixels[:1] + h * direction[:1])[0, 0] for h in (1e-3, -1e-3)]
    difference = float(ends[0] - ends[1]) / 2e-3
    assert float((slope * direction[:1]).sum()) == pytest.approx(difference, rel=0.02)


@pytest.mark.parametrize("temperature", [0, -1, float("inf"), float("nan")])
def test_no_temperature(temperature):
    with (
        pytest.raises(ValueError, match="above 0 and finite"),
        tempered(load("mini/vit-0"), temperature),
    ):
        pass


def test_a_network_without_such_attention_is_refused():
    with (
        pytest.raises(ValueError, match="no class token; give a plain ViT"),
        tempered(load("mini/cnn-0"), 2),
    ):
        pass
