import numpy as np
import pytest
import timm
import torch
from sklearn.metrics import jaccard_score
from torch import nn
from torchvision.transforms import v2

from vitlab import images as data
from vitlab import models
from vitlab.conditions.patchdrop import object_share
from vitlab.inside import attention
from vitlab.inside import tokens as features
from vitlab.models import Model, hub, load
from vitlab.rng import generator


@pytest.fixture(scope="module")
def vit():
    return load("mini/vit-0", "cpu")


@pytest.fixture(scope="module")
def stack(vit):
    return features.pixel_stack(vit, data.load("stimuli", n=6))


@pytest.fixture(scope="module")
def two_tokens():
    """A distilled DeiT with random weights that spread its attention."""
    torch.manual_seed(1)
    net = timm.create_model("deit_tiny_distilled_patch16_224", img_size=64)
    net.pretrained_cfg["input_size"] = (3, 64, 64)
    with torch.no_grad():  # as they start, all tokens look alike: attention would be flat
        for name, parameter in net.named_parameters():
            if name.endswith(("weight", "_token", "pos_embed")) and "norm" not in name:
                parameter.mul_(4)
    return hub.from_timm("timm/deit_tiny_distilled_patch16_224", net, "random")


@torch.inference_mode()
def attention_by_hand(model, stack):
    """Softmax of queries and keys of each block: a list of [n, heads, tokens, tokens]."""
    net, found = model.net, []
    x = net._pos_embed(net.patch_embed(model.normalise(stack)))
    for block in net.blocks:
        normed = block.norm1(x)
        n, tokens, _ = normed.shape
        q, k, _ = block.attn.qkv(normed).view(n, tokens, 3, -1, block.attn.head_dim).unbind(2)
        scores = torch.einsum("nqhd,nkhd->nhqk", q, k) / block.attn.head_dim**0.5
        found.append(scores.softmax(-1))
        x = block(x)
    return found


@pytest.fixture(params=["vit", "two_tokens"])
def model(request):
    return request.getfixturevalue(request.param)


def test_rollout_is_the_product_over_blocks_with_the_residual(model, stack):
    layers = [layer.mean(1).double().numpy() for layer in attention_by_hand(model, stack)]
    prefix = model.net.num_prefix_tokens
    ours = attention.rollout(model, stack, batch_size=4)
    assert ours.shape == (6, *model.net.patch_embed.grid_size)
    for image in range(len(stack)):
        joint = np.eye(layers[0].shape[-1])
        for layer in layers:
            mixed = layer[image] + np.eye(len(joint))
            joint = mixed / mixed.sum(1, keepdims=True) @ joint
        expected = joint[0, prefix:] / joint[0, prefix:].sum()
        assert np.allclose(ours[image].flatten(), expected, atol=1e-5)
        assert expected.std() / expected.mean() > 0.05  # not flat: the test can tell maps apart


def test_token_attention_is_the_last_blocks_softmax_of_each_token(model, stack):
    last = attention_by_hand(model, stack)[-1]
    prefix = model.net.num_prefix_tokens
    for token in range(prefix):
        ours = attention.token_attention(model, stack, token, batch_size=4)
        assert ours.shape == (
            6,
            model.net.blocks[-1].attn.num_heads,
            *model.net.patch_embed.grid_size,
        )
        assert torch.allclose(ours.flatten(2), last[:, :, token, prefix:], atol=1e-5)
    of_class = attention.token_attention(model, stack)
    assert torch.allclose(of_class.mean(1), features.class_attention(model, stack), atol=1e-6)


def test_watching_leaves_the_model_as_it_was(vit, stack):
    fused = [block.attn.fused_attn for block in vit.net.blocks]
    attention.rollout(vit, stack)
    assert [block.attn.fused_attn for block in vit.net.blocks] == fused
    assert not any(block.attn.attn_drop._forward_pre_hooks for block in vit.net.blocks)


def test_a_token_that_is_not_there_is_refused(vit, stack):
    with pytest.raises(ValueError, match=r"mini/vit-0: there is no token 1.*tokens are 0"):
        attention.token_attention(vit, stack, token=1)


class LinearCNN(nn.Module):
    """Three fixed channels, global mean, linear head: its Grad-CAM can be written down."""

    num_features = 3

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 4, stride=4, bias=False)
        self.head = nn.Linear(3, 16)
        with torch.no_grad():  # each channel is the mean of one colour over 4 x 4 pixels
            self.convolution.weight.copy_(torch.eye(3)[:, :, None, None].expand(3, 3, 4, 4) / 16)
            self.head.weight.copy_(torch.from_numpy(generator("head").normal(size=(16, 3))))
            self.head.weight[5] = -1  # nothing in a picture, which is not negative, speaks for it
            self.head.bias.zero_()

    def forward_features(self, x):
        return self.convolution(x)

    def forward_head(self, x, pre_logits=False):
        pooled = x.mean((2, 3))
        return pooled if pre_logits else self.head(pooled)

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


def test_grad_cam_of_a_linear_cnn_is_its_heads_weights_on_the_colours(stack):
    transform = v2.Compose([v2.CenterCrop(64), v2.PILToTensor(), v2.ToDtype(torch.float32, True)])
    model = models.wrap(LinearCNN(), transform, "linear", "CNN", "stimuli")
    classes = torch.tensor([5, 0, 1, 2, 3, 4])
    ours = attention.grad_cam(model, stack, classes, batch_size=4)
    colours = (stack.double()).unflatten(2, (16, 4)).unflatten(4, (16, 4)).mean((3, 5))
    weights = model.net.head.weight[classes].double()
    for image in range(6):
        # d logit / d feature = weight / 256 everywhere, so the map is relu(sum_c w_c colour_c).
        expected = torch.einsum("c,cyx->yx", weights[image], colours[image]).clamp_min(0)
        if expected.any():
            expected = expected / expected.sum()
        assert torch.allclose(ours[image].double(), expected, atol=1e-6)
    assert not ours[0].any()
    positive = ours.sum((1, 2)) > 0
    assert positive.any()
    assert torch.allclose(ours.sum((1, 2))[positive], torch.tensor(1.0))
    assert torch.equal(ours, attention.grad_cam(model, stack, classes, layer="convolution"))


def test_grad_cam_asks_for_the_predicted_class_by_default(stack):
    cnn = load("mini/cnn-0", "cpu")
    predicted = cnn.logits(stack).argmax(1)
    ours = attention.grad_cam(cnn, stack)
    assert torch.equal(ours, attention.grad_cam(cnn, stack, predicted))
    other = attention.grad_cam(cnn, stack, (predicted + 1) % 16)
    assert not torch.allclose(ours, other, atol=1e-3)


def test_grad_cam_of_an_inner_layer_points_at_the_object():
    """The mini CNN decides by texture and hue, which only the object has."""
    cnn, images = load("mini/cnn-0", "cpu"), data.load("stimuli", n=32)
    maps = attention.grad_cam(cnn, features.pixel_stack(cnn, images), layer="layer2")
    assert maps.shape == (32, 8, 8)
    on_object = object_share(data.masks(images), (8, 8))
    inside = (maps * on_object).sum((1, 2)).mean()
    assert inside > on_object.mean()  # what a uniform map has


def test_a_vit_has_no_grad_cam_and_a_cnn_no_rollout(vit, stack):
    with pytest.raises(ValueError, match=r"mini/vit-0: its features are .* give a CNN"):
        attention.grad_cam(vit, stack)
    with pytest.raises(ValueError, match="mini/cnn-0 has no layer 'layer5'; nearest: layer4"):
        attention.grad_cam(load("mini/cnn-0"), stack, layer="layer5")
    with pytest.raises(ValueError, match="mini/cnn-0: no class token"):
        attention.rollout(load("mini/cnn-0"), stack)


def test_the_mass_mask_is_the_smallest_set_that_holds_the_mass():
    maps = torch.from_numpy(generator("maps").random((3, 2, 4, 5)))
    ours = attention.mass_mask(maps, 0.9)
    assert ours.shape == maps.shape
    for found, values in zip(ours.flatten(0, 1), maps.flatten(0, 1), strict=True):
        shares = np.sort(values.flatten().numpy())[::-1] / values.sum().item()
        needed = next(n for n in range(1, 21) if shares[:n].sum() >= 0.9)
        assert found.sum() == needed
        assert values[found].min() > values[~found].max()


def test_the_area_mask_keeps_the_highest_cells_however_concentrated_the_map_is():
    maps = torch.from_numpy(generator("maps").random((3, 2, 4, 5)))
    ours = attention.area_mask(maps, 0.32)  # 6.4 of 20 cells
    for found, values in zip(ours.flatten(0, 1), maps.flatten(0, 1), strict=True):
        assert found.sum() == 6
        assert values[found].min() > values[~found].max()
    assert torch.equal(ours, attention.area_mask(maps**9, 0.32))
    assert not torch.equal(attention.mass_mask(maps), attention.mass_mask(maps**9))
    assert attention.area_mask(maps, 0.001).sum() == 6  # one cell of each


def test_jaccard_is_scikit_learns():
    coin = generator("jaccard")
    masks = torch.from_numpy(coin.random((4, 6, 5)) < 0.5)
    truth = torch.from_numpy(coin.random((4, 6, 5)) < 0.3)
    masks[3], truth[3] = False, False
    expected = [
        jaccard_score(t.flatten(), m.flatten(), zero_division=0)
        for m, t in zip(masks, truth, strict=True)
    ]
    assert np.allclose(attention.jaccard(masks, truth), expected)
    assert expected[3] == 0 < min(expected[:3])


def test_each_object_has_its_best_head_and_the_image_their_mean():
    left, top = torch.zeros(4, 4, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.bool)
    left[:, :2], top[:2] = True, True
    heads = torch.stack([left, torch.ones_like(left)])
    # left: head 0 is perfect; top: head 0 has 4 of 12, head 1 has 8 of 16.
    assert attention.best_head(heads, torch.stack([left, top])) == pytest.approx((1 + 0.5) / 2)


def test_enlarged_masks_repeat_their_cells():
    mask = torch.tensor([[True, False], [False, True]])
    big = attention.enlarged(mask, (4, 6))
    assert big.tolist() == np.kron(mask.numpy(), np.ones((2, 3), bool)).tolist()
    with pytest.raises(ValueError, match="2 x 2 cells do not divide 5 x 4"):
        attention.enlarged(mask, (5, 4))


@pytest.mark.parametrize("last", [False, True])
def test_grad_cam_reads_maps_whose_channels_are_last(stack, last):
    """The same network twice; in one the map stands as Swin's do."""

    class Turned(LinearCNN):
        def forward_features(self, x):
            return self.convolution(x).permute(0, 2, 3, 1)

        def forward_head(self, x, pre_logits=False):
            return super().forward_head(x.permute(0, 3, 1, 2), pre_logits)

    plain, turned = LinearCNN(), Turned()
    turned.load_state_dict(plain.state_dict())
    first, second = (
        Model(name, net.eval(), "CNN", "stimuli", name)
        for name, net in [("plain", plain), ("turned", turned)]
    )
    assert torch.allclose(attention.grad_cam(first, stack), attention.grad_cam(second, stack))
    swin = load("mini/swin-0", "cpu")
    layer = "layers.2.blocks.1" if last else ""
    assert attention.grad_cam(swin, stack[:2], layer=layer).shape[0] == 2
    rows, columns = attention.grad_cam(swin, stack[:2], layer=layer).shape[1:]
    assert rows == columns <= 4


def test_what_is_no_map_mask_or_class_is_refused(stack):
    cnn, nan = load("mini/cnn-0", "cpu"), torch.full((1, 2, 2), float("nan"))
    ones, bools = torch.ones(1, 2, 2), torch.ones(1, 2, 2, dtype=torch.bool)
    for call, message in [
        (lambda: attention.grad_cam(cnn, stack, torch.tensor([1])), "need as many classes"),
        (lambda: attention.grad_cam(cnn, stack, torch.full((6,), 16)), "go from 16 to 16"),
        (lambda: attention.mass_mask(nan), "nor NaN"),
        (lambda: attention.mass_mask(-ones), "no negative values"),
        (lambda: attention.area_mask(nan, 0.5), "no NaN"),
        (lambda: attention.area_mask(ones, 50), "a share is 0 to 1"),
        (lambda: attention.jaccard(ones, bools), "masks are bool, not torch.float32"),
        (lambda: attention.best_head(bools[:0], bools), "0 heads and 1 objects"),
        (lambda: attention.area_of_mass(-ones), "no negative values"),
        (lambda: attention.area_of_mass(nan), "nor NaN"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


CALLS = [
    attention.rollout,
    attention.token_attention,
    features.class_attention,
    features.block_attention,
    features.block_tokens,
    features.pooled,
    attention.grad_cam,
]


@pytest.mark.parametrize("call", CALLS)
def test_of_no_images_or_none_at_a_time_nothing_is_asked(call, vit, stack):
    net = load("mini/cnn-0", "cpu") if call is attention.grad_cam else vit
    with pytest.raises(ValueError, match="0 images, batch_size=64: give one image or more"):
        call(net, stack[:0])
    for size in (0, -1):
        with pytest.raises(ValueError, match=f"images, batch_size={size}: .* of 1 or more"):
            call(net, stack, batch_size=size)


def test_grad_cam_takes_square_pixels_of_other_sizes():
    cnn = load("mini/cnn-0", "cpu")
    small, large = (attention.grad_cam(cnn, torch.rand(2, 3, s, s)) for s in (32, 128))
    assert small.shape == (2, 1, 1)
    assert large.shape == (2, 4, 4)
    with pytest.raises(ValueError, match=r"not a square map .* and square pixels"):
        attention.grad_cam(cnn, torch.rand(2, 3, 64, 32))


def test_classes_are_whole_numbers(stack):
    with pytest.raises(ValueError, match=r"6 images need as many classes, long, got torch.float32"):
        attention.grad_cam(load("mini/cnn-0", "cpu"), stack, torch.zeros(6))


def test_a_mass_is_a_share_and_a_map_is_finite():
    for mass in (80, -1, float("nan")):
        with pytest.raises(ValueError, match=f"a share is 0 to 1, not per cent; got {mass}"):
            attention.area_of_mass(torch.ones(1, 2, 2), mass)
    endless = torch.tensor([[[float("inf"), 1.0], [1, 1]]])
    for call in (attention.area_of_mass, attention.mass_mask):
        with pytest.raises(ValueError, match="nor infinity"):
            call(endless)
