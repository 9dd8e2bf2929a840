from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch

from vitlab import images as data
from vitlab import models
from vitlab.inside import attention
from vitlab.inside import tokens as features
from vitlab.models import hub, load


@pytest.fixture(scope="module")
def vit():
    return load("mini/vit-0")


@pytest.fixture(scope="module")
def stack(vit):
    return features.pixel_stack(vit, data.load("stimuli", n=20))


def test_tokens_of_every_block_are_those_of_a_truncated_network(vit, stack):
    tokens = features.block_tokens(vit, stack, batch_size=7)
    assert tokens.classes.shape == (20, 6, 96)
    x = vit.normalise(stack)
    with torch.inference_mode():
        x = vit.net.patch_drop(vit.net._pos_embed(vit.net.patch_embed(x)))
        for b, block in enumerate(vit.net.blocks):
            x = block(x)
            normed = vit.net.norm(x)
            assert torch.allclose(tokens.classes[:, b], normed[:, 0], atol=1e-4)
            assert torch.allclose(tokens.patches[:, b], normed[:, 1:].mean(1), atol=1e-4)


def test_all_blocks_come_from_one_forward_pass(vit, stack):
    calls = []
    hook = vit.net.blocks[0].register_forward_hook(lambda *_: calls.append(1))
    features.block_tokens(vit, stack, batch_size=20)
    hook.remove()
    assert len(calls) == 1


def test_the_last_blocks_prediction_is_the_models(vit, stack):
    predictions = features.block_predictions(vit, features.block_tokens(vit, stack))
    assert torch.equal(predictions[:, -1], vit.logits(stack).argmax(1))


def random_vit(arch, **more):
    """A timm ViT with random weights that spread its attention."""
    torch.manual_seed(1)
    net = timm.create_model(arch, **more)
    net.pretrained_cfg["input_size"] = (3, *net.patch_embed.img_size)
    with torch.no_grad():  # as they start, all tokens look alike: attention would be flat
        for name, parameter in net.named_parameters():
            if name.endswith(("weight", "_token", "pos_embed")) and "norm" not in name:
                parameter.mul_(4)
            if name.endswith("gamma"):  # DINOv2's layer scale would silence random blocks
                parameter.fill_(0.5)
    return hub.from_timm(f"timm/{arch}", net, "random")


KINDS = {
    "mini": lambda: load("mini/vit-0", "cpu"),
    "distilled": lambda: random_vit("deit_tiny_distilled_patch16_224", img_size=64, depth=4),
    "registers": lambda: random_vit("vit_small_patch14_reg4_dinov2", img_size=56, depth=4),
    "query and key norms": lambda: random_vit(
        "vit_tiny_patch16_224", img_size=64, depth=4, qk_norm=True
    ),
    "rotary": lambda: random_vit("eva02_tiny_patch14_224", img_size=56, depth=4),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    model = KINDS[request.param]()
    torch.manual_seed(2)
    return model, torch.rand(5, 3, model.size, model.size)


def rotated(layer, x, rope, prefix):
    """Rotary position embedding of the patches: pairs of channels are turned, by definition."""
    sin, cos = rope.chunk(2, -1)
    turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
    patches = (x * 1)[:, :, prefix:] * cos + turned[:, :, prefix:] * sin
    return torch.cat([x[:, :, :prefix], patches], 2)


def softmax_by_hand(model, stack, block=-1):
    """Attention of the class token from queries and keys, head by head: float [n, patches]."""
    net, seen = model.net, []
    layer = net.blocks[block].attn
    hook = layer.register_forward_pre_hook(lambda _, a, k: seen.append((a, k)), with_kwargs=True)
    with torch.inference_mode():
        model.logits(stack)
    hook.remove()
    [(arguments, named)] = seen
    x = arguments[0]
    batch, length, width = x.shape
    heads = layer.num_heads
    if layer.qkv is None:
        q, k = layer.q_proj(x), layer.k_proj(x)
    else:
        bias = getattr(layer, "q_bias", None)
        bias = layer.qkv.bias if bias is None else torch.cat([bias, 0 * bias, layer.v_bias])
        q, k, _ = torch.nn.functional.linear(x, layer.qkv.weight, bias).chunk(3, -1)
    q, k = (v.view(batch, length, heads, -1).transpose(1, 2) for v in (q, k))
    q, k = layer.q_norm(q), layer.k_norm(k)
    rope = named.get("rope", arguments[1] if len(arguments) > 1 else None)
    if rope is not None:
        q, k = (rotated(layer, v, rope, net.num_prefix_tokens) for v in (q, k))
    maps = torch.zeros(batch, length)
    for image in range(batch):
        for head in range(heads):
            scores = k[image, head] @ q[image, head, 0] / (width // heads) ** 0.5
            maps[image] += (scores - scores.max()).exp() / (scores - scores.max()).exp().sum()
    return maps[:, net.num_prefix_tokens :] / heads


def test_attention_is_the_softmax_of_queries_and_keys(kind):
    model, stack = kind
    fused = model.net.blocks[-1].attn.fused_attn
    ours = features.class_attention(model, stack, batch_size=2)
    rows, columns = model.net.patch_embed.grid_size
    assert ours.shape == (5, rows, columns)
    expected = softmax_by_hand(model, stack)
    assert torch.allclose(ours.flatten(1), expected, atol=1e-5)
    assert expected.std() / expected.mean() > 0.1  # not flat: the test can tell maps apart
    assert (ours.sum((1, 2)) < 1).all()  # the rest is on the prefix tokens
    assert model.net.blocks[-1].attn.fused_attn == fused


def test_attention_of_every_block_is_the_softmax_of_its_queries_and_keys(kind):
    model, stack = kind
    ours = features.block_attention(model, stack, batch_size=2)
    rows, columns = model.net.patch_embed.grid_size
    assert ours.shape == (5, len(model.net.blocks), rows, columns)
    for block in range(len(model.net.blocks)):
        expected = softmax_by_hand(model, stack, block)
        assert torch.allclose(ours[:, block].flatten(1), expected, atol=1e-5)
    # Fused kernels in the other blocks round differently.
    last = features.class_attention(model, stack, batch_size=2)
    assert torch.allclose(ours[:, -1], last, atol=1e-5)


def test_watching_attention_leaves_the_network_as_it_was(kind):
    model, stack = kind
    before = [block.attn.fused_attn for block in model.net.blocks]
    logits = model.logits(stack[:2])
    features.block_attention(model, stack[:2])
    with pytest.raises(AssertionError):  # nor does a failed pass (of another size) leave its hooks
        features.block_attention(model, stack[:2, :, ::2, ::2])
    assert [block.attn.fused_attn for block in model.net.blocks] == before
    assert not any(block.attn.attn_drop._forward_pre_hooks for block in model.net.blocks)
    assert torch.equal(model.logits(stack[:2]), logits)


def test_a_stack_is_the_pictures_in_256ths(vit, stack):
    images = data.load("stimuli", n=20)
    pictures = np.stack([np.array(images.picture(i)) for i in range(20)])
    assert stack.dtype == torch.float32
    assert np.array_equal(stack.permute(0, 2, 3, 1).numpy(), pictures.astype("f4") / 255)


TAKE_A_STACK = {
    "vit": (
        features.block_tokens,
        features.pooled,
        features.class_attention,
        features.block_attention,
        attention.token_attention,
        attention.rollout,
    ),
    "cnn": (features.pooled, attention.grad_cam),
}


@pytest.mark.parametrize(
    ("kind", "take"), [(kind, take) for kind, several in TAKE_A_STACK.items() for take in several]
)
def test_pixels_beyond_0_to_1_are_refused(kind, take, stack):
    model = load(f"mini/{kind}-0", "cpu")
    with pytest.raises(ValueError, match="these go from 0 to 255"):
        take(model, 255 * stack[:2])
    with pytest.raises(ValueError, match=r"not torch\.uint8"):
        take(model, (255 * stack[:2]).byte())


def test_attention_is_asked_of_every_block():
    model = load("mini/vit-0", "cpu")
    assert not features.why_not(model, "attention")
    model.net.blocks[2].attn = torch.nn.Identity()
    assert features.why_not(model, "attention") == "its blocks' attention cannot be seen"
    with pytest.raises(ValueError, match="blocks' attention cannot be seen; give a plain ViT"):
        features.block_attention(model, torch.zeros(1, 3, 64, 64))


def test_tokens_of_every_kind_are_those_that_leave_the_blocks(kind):
    model, stack = kind
    net, left = model.net, []
    hooks = [block.register_forward_hook(lambda *a: left.append(a[2])) for block in net.blocks]
    with torch.inference_mode():
        model.logits(stack)
        # EVA's last norm stands behind the pooling.
        norm = net.fc_norm if isinstance(net.norm, torch.nn.Identity) else net.norm
        expected = norm(torch.stack(left, 1))  # [images, blocks, tokens, d]
    for hook in hooks:
        hook.remove()
    tokens = features.block_tokens(model, stack, batch_size=3)
    prefix = net.num_prefix_tokens
    assert torch.allclose(tokens.prefix, expected[:, :, :prefix], atol=1e-4, rtol=1e-4)
    assert torch.allclose(tokens.patches, expected[:, :, prefix:].mean(2), atol=1e-4, rtol=1e-4)
    assert torch.equal(tokens.classes, tokens.prefix[:, :, 0])


def test_the_last_blocks_logits_are_the_models_even_with_two_heads():
    model = KINDS["distilled"]()
    stack = torch.rand(4, 3, 64, 64)
    logits = features.block_logits(model, features.block_tokens(model, stack))
    assert logits.shape == (4, 4, 1000)
    with torch.inference_mode():
        assert torch.allclose(logits[:, -1], model.logits(stack), atol=1e-4)


def test_block_predictions_can_be_over_categories(photo_folder):
    model = random_vit("vit_tiny_patch16_224", img_size=64)
    photo_folder.joinpath("n01440764").rename(photo_folder / "cat")
    photo_folder.joinpath("n01443537").rename(photo_folder / "dog")
    images = data.load(photo_folder)
    tokens = features.block_tokens(model, features.pixel_stack(model, images))
    ours = features.block_predictions(model, tokens, images)
    members = data.imagenet_16()
    wnids = data.imagenet_wnids()
    for i in range(3):
        p = features.block_logits(model, tokens)[i, 4].double().softmax(0)
        means = [sum(p[wnids.index(w)] for w in ws) / len(ws) for ws in members.values()]
        assert int(ours[i, 4]) == max(range(16), key=means.__getitem__)


def test_what_a_model_lacks_is_told_in_a_few_words(photo_folder):
    vit, cnn = load("mini/vit-0", "cpu"), load("mini/cnn-0", "cpu")
    cait = hub.from_timm("timm/cait", timm.create_model("cait_xxs24_224", depth=1), "random")
    dino = random_vit("vit_small_patch14_dinov2", img_size=56, depth=2)
    swin = timm.create_model("swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1), embed_dim=24)
    swin = hub.from_timm("timm/swin", swin, "random")
    backbone = replace(cnn, name="backbone", classes="features")
    nets = [vit, cnn, cait, dino, swin, backbone]

    def lacking(need, images=None):
        why = {net.name: features.why_not(net, need, images) for net in nets}
        return {name: reason for name, reason in why.items() if reason}

    none = dict.fromkeys(["mini/cnn-0", "timm/swin", "backbone"], "no class token")
    through = {"timm/cait": "its class token does not pass through all blocks"}
    assert lacking("class token") == none
    assert lacking("blocks") == lacking("attention") == none | through
    assert lacking("features") == {}
    undecided = dict.fromkeys([dino.name, "backbone"], "no classifier, features only")
    others = dict.fromkeys(["timm/cait", "timm/swin"], "knows imagenet classes, not stimuli")
    found = lacking("decisions", data.load("stimuli", n=4))
    assert found.pop(dino.name).startswith(undecided.pop(dino.name))
    assert found == undecided | others
    found = lacking("decisions", data.load(photo_folder))
    assert set(found) == {"mini/vit-0", "mini/cnn-0", dino.name, "backbone"}
    with pytest.raises(ValueError, match="unknown need 'block'; nearest: blocks"):
        features.why_not(vit, "block")


def test_heads_that_read_no_class_token_predict_nothing():
    beit = timm.create_model("beit_base_patch16_224", img_size=32, depth=1)
    beit.pretrained_cfg["input_size"] = (3, 32, 32)
    model = hub.from_timm("timm/beit", beit, "random")
    assert not features.why_not(model, "blocks")
    with pytest.raises(ValueError, match="its classifier does not read the class token"):
        features.block_logits(model, features.Tokens(torch.zeros(1, 1, 1, 768), None))


def test_any_network_without_timms_interface_is_told_so():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64 * 64, 16))
    model = models.Model("plain", net, "own", "stimuli", "")
    with pytest.raises(ValueError, match="plain: no forward_features and forward_head"):
        features.pooled(model, torch.zeros(1, 3, 64, 64))


def test_a_part_of_the_images_can_be_stacked(vit, stack):
    images = data.load("stimuli", n=20)
    part = features.pixel_stack(vit, images, torch.tensor([3, 17]))
    assert torch.equal(part, stack[[3, 17]])


def test_pooled_features_give_the_models_logits(stack):
    cnn = load("mini/cnn-0")
    pooled = features.pooled(cnn, stack)
    assert torch.allclose(cnn.net.fc(pooled), cnn.logits(stack), atol=1e-4)


def test_a_cnn_is_told_to_have_no_class_tokens(stack):
    with pytest.raises(ValueError, match="mini/cnn-0: no class token; give a plain ViT"):
        features.block_tokens(load("mini/cnn-0"), stack)


@pytest.mark.parametrize(
    "arch", ["beit_base_patch16_224", "eva02_tiny_patch14_224", "vit_tiny_patch16_224"]
)
def test_a_norm_behind_the_pooling_is_applied_to_tokens_too(arch):
    more = {"depth": 2, "img_size": 112} | (
        {"embed_dim": 48, "num_heads": 4} if "beit" in arch else {}
    )
    model = random_vit(arch, **more)
    found = features.block_tokens(model, torch.rand(2, 3, model.size, model.size))
    # A LayerNorm of untrained weights leaves every token with mean 0 and variance 1.
    assert torch.allclose(found.prefix.std(-1, correction=0), torch.tensor(1.0), atol=0.05)
    assert found.prefix.mean(-1).abs().max() < 1e-3


@pytest.mark.parametrize(
    "take", [features.pooled, features.block_tokens, features.class_attention, attention.rollout]
)
def test_a_model_of_nan_gives_no_features(vit, stack, take):
    net = deepcopy(vit.net)
    net.blocks[-1].attn.qkv.bias[0] = float("nan")
    with pytest.raises(ValueError, match="broken returned NaN or infinity"):
        take(replace(vit, name="broken", net=net), stack)


@pytest.mark.parametrize("shape", [(3, 64, 64), (2, 1, 64, 64), (2, 4, 64, 64), (2, 64, 64, 3)])
def test_a_stack_has_a_shape(vit, shape):
    with pytest.raises(ValueError, match=r"pixels are \[images, 3, height, width\], not"):
        features.pooled(vit, torch.rand(shape))
