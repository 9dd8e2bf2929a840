import pytest
import timm
import torch
import torchvision

from vitlab import images as data
from vitlab import models
from vitlab.conditions import Batch
from vitlab.conditions.patchdrop import random_cells
from vitlab.inside import lesions
from vitlab.models import load
from vitlab.models.wrapping import ready
from vitlab.trials import run as evaluate

SHARES = [0.25, 0.5, 0.75]


def random_net(net, size=64, name="random"):
    config = {**models.MINI_CONFIG, "input_size": (3, size, size)}
    return models.Model(name, ready(net), "", "imagenet", name, config)


@pytest.fixture(scope="module")
def vit():
    return load("mini/vit-0", "cpu")


@pytest.fixture(scope="module")
def cnn():
    return load("mini/cnn-0", "cpu")


@pytest.fixture(scope="module")
def batch(vit):
    return evaluate.batch_of(data.load("stimuli", n=6), vit, range(6))


def part(batch, places):
    ids = tuple(batch.ids[i] for i in places)
    return Batch(batch.pixels[places], ids, batch.index[places])


@torch.inference_mode()
def vit_by_hand(model, batch, place, share):
    """Block after block, with a loop over the images and their zeroed tokens."""
    net, number = model.net, int(place.removeprefix("block "))
    x = net.norm_pre(net._pos_embed(net.patch_embed(model.normalise(batch.pixels))))
    for b, block in enumerate(net.blocks, 1):
        if b == number:
            x = x.clone()
            patches = x.shape[1] - net.num_prefix_tokens
            for i, key in enumerate(batch.ids):
                [[row]] = random_cells([("lesion", 0, 0, place, key)], (1, patches), share)
                assert row.sum() == int(share * patches)
                for place_ in row.nonzero()[:, 0].tolist():
                    x[i, net.num_prefix_tokens + place_] = 0
        x = block(x)
    return net.forward_head(net.norm(x))


@pytest.mark.parametrize("place", ["block 1", "block 4", "block 6"])
def test_a_vit_is_lesioned_token_by_token(vit, batch, place):
    ours = lesions.logits(vit, batch, place, SHARES)
    assert ours.shape == (3, 6, 16)
    for share, found in zip(SHARES, ours, strict=True):
        assert torch.allclose(found, vit_by_hand(vit, batch, place, share), atol=1e-4)


def test_a_distilled_vit_keeps_both_of_its_tokens():
    torch.manual_seed(0)
    net = timm.create_model("deit_tiny_distilled_patch16_224", img_size=64, depth=3)
    model = random_net(net)
    shown_to = Batch(torch.rand(2, 3, 64, 64), ("a", "b"), torch.arange(2))
    [ours] = lesions.logits(model, shown_to, "block 2", [0.5])
    assert torch.allclose(ours, vit_by_hand(model, shown_to, "block 2", 0.5), atol=1e-5)


@torch.inference_mode()
def resnet_by_hand(model, batch, place, share, head):
    """Stage after stage; a position that falls is zero in every channel."""
    net = model.net
    x = net.conv1(model.normalise(batch.pixels))
    x = net.maxpool(net.act1(net.bn1(x)) if hasattr(net, "act1") else net.relu(net.bn1(x)))
    for name, stage in [
        ("stage 1", net.layer1),
        ("stage 2", net.layer2),
        ("stage 3", net.layer3),
        ("stage 4", net.layer4),
        ("pool", head),
    ]:
        if name == place:
            x = x.clone()
            rows, columns = x.shape[2:]
            for i, key in enumerate(batch.ids):
                [lost] = random_cells([("lesion", 0, 0, place, key)], (rows, columns), share)
                assert lost.sum() == int(share * rows * columns)
                for r, c in lost.nonzero().tolist():
                    x[i, :, r, c] = 0
        x = stage(x)
    return x


@pytest.mark.parametrize("place", ["stage 1", "stage 2", "stage 3", "stage 4", "pool"])
def test_a_cnn_is_lesioned_position_by_position(cnn, batch, place):
    ours = lesions.logits(cnn, batch, place, SHARES)
    for share, found in zip(SHARES, ours, strict=True):
        expected = resnet_by_hand(cnn, batch, place, share, cnn.net.forward_head)
        assert torch.allclose(found, expected, atol=1e-4)


def test_torchvisions_resnet_has_the_same_places():
    torch.manual_seed(0)
    net = torchvision.models.resnet18()
    model = random_net(net)
    shown_to = Batch(torch.rand(2, 3, 64, 64), ("a", "b"), torch.arange(2))
    for place in ("stage 3", "pool"):
        [ours] = lesions.logits(model, shown_to, place, [0.5])
        expected = resnet_by_hand(
            model, shown_to, place, 0.5, lambda x: net.fc(net.avgpool(x).flatten(1))
        )
        assert torch.allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["vit", "cnn"])
def test_a_lesion_of_nothing_changes_nothing_and_hooks_go(request, batch, kind):
    model = request.getfixturevalue(kind)
    before = model.logits(batch.pixels)
    for place in lesions.places(model):
        [ours] = lesions.logits(model, batch, place, [0])
        assert torch.allclose(ours, before, atol=1e-4)
    double = Batch(batch.pixels.double(), batch.ids, batch.index)
    with pytest.raises(RuntimeError):  # nor does a failed pass leave its hook
        lesions.logits(model, double, lesions.places(model)[-1], [1.0])
    assert torch.equal(model.logits(batch.pixels), before)


def test_a_lesion_of_all_hides_the_image(vit, cnn, batch):
    for model, place in [(vit, "block 1"), (cnn, "stage 1"), (cnn, "pool")]:
        [ours] = lesions.logits(model, batch, place, [1])
        assert torch.allclose(ours, ours[:1].expand_as(ours), atol=1e-5)
    [last] = lesions.logits(vit, batch, "block 6", [1])  # what the class token holds is left
    assert not torch.allclose(last, last[:1].expand_as(last), atol=1e-2)


@pytest.mark.parametrize("kind", ["vit", "cnn"])
def test_a_lesion_depends_on_the_image_and_not_on_its_batch(request, batch, kind):
    model = request.getfixturevalue(kind)
    place = lesions.places(model)[1]
    together = lesions.logits(model, batch, place, SHARES)
    alone = [lesions.logits(model, part(batch, [i]), place, SHARES) for i in reversed(range(6))]
    assert torch.allclose(together, torch.cat(alone[::-1], 1), atol=1e-4)
    others = [
        lesions.logits(model, batch, place, SHARES, seed=1),
        lesions.logits(model, batch, place, SHARES, draw=1),
    ]
    assert not any(torch.allclose(together, other, atol=1e-2) for other in others)


def masks(model, pixels, place, shares, released=(), **more):
    """What is zero at the place: bool [shares, B, ...], seen by a hook of the test's own."""
    n, seen = len(pixels), []
    shown_to = Batch(pixels, tuple(map(str, range(n))), torch.arange(n))
    own = {"block 3": "blocks.2", "stage 2": "layer2"}[place]

    def keep(module, inputs):
        seen.append(inputs[0])
        raise StopIteration  # what follows is not looked at

    first = next(model.net.get_submodule(own).children())
    hook = first.register_forward_pre_hook(keep)
    with pytest.raises(StopIteration):
        lesions.logits(model, shown_to, place, shares, released, **more)
    hook.remove()
    return (seen[0] == 0).unflatten(0, (len(shares) + len(released), n))


def test_tokens_fall_uniformly_and_nested(vit):
    zero = masks(vit, torch.rand(300, 3, 64, 64), "block 3", SHARES)  # [3, 300, 65, 96]
    assert (zero.all(-1) == zero.any(-1)).all()  # whole tokens
    lost = zero[..., 0]
    assert not lost[:, :, 0].any()  # never the class token
    assert (lost[0] <= lost[1]).all()
    assert (lost[1] <= lost[2]).all()
    # each of 64 tokens falls in a quarter of 300 images: 75 with standard deviation 7.5
    assert (lost[0, :, 1:].sum(0) - 75).abs().max() < 5 * 7.5


def test_as_released_one_draw_serves_256_images_and_a_position_falls_by_chance(vit, cnn):
    torch.manual_seed(0)
    shades = torch.rand(300, 3, 1, 1) * 0.9 + 0.05
    pixels = (shades + 0.05 * torch.rand(300, 3, 64, 64)).clamp(0, 1)
    lost = masks(vit, pixels, "block 3", [0.25], [0.5])[1, :, 1:, 0]
    assert (lost[:256] == lost[0]).all()
    assert (lost[256:] == lost[256]).all()
    assert not (lost[0] == lost[256]).all()
    assert lost[0].sum() == lost[256].sum() == 32
    lost = masks(cnn, pixels, "stage 2", [], [0.5])[0].all(1).flatten(1)  # [300, 256]
    assert (lost[:256] == lost[0]).all()
    assert (lost[256:] == lost[256]).all()
    counts = [
        int(masks(cnn, pixels[:1], "stage 2", [], [0.5], seed=s)[0].all(1).sum()) for s in range(8)
    ]
    assert len(set(counts)) > 1  # a fixed number would always be 128 of 256
    assert all(abs(count - 128) < 5 * 8 for count in counts)  # standard deviation 8


def test_what_is_drawn_as_released_comes_after_the_rest(vit, batch):
    both = lesions.logits(vit, batch, "block 2", SHARES, [0.5, 0.75])
    assert both.shape == (5, 6, 16)
    alone = lesions.logits(vit, batch, "block 2", SHARES)
    released = lesions.logits(vit, batch, "block 2", [], [0.5, 0.75])
    assert torch.allclose(both, torch.cat([alone, released]), atol=1e-4)


def test_places_are_told_of_every_build(vit, cnn):
    assert lesions.places(vit) == [f"block {b}" for b in range(1, 7)]
    assert lesions.places(cnn) == ["stage 1", "stage 2", "stage 3", "stage 4", "pool"]
    for arch, count in [
        ("regnety_002", 5),
        ("tf_efficientnet_lite0", 8),
        ("convnext_atto", 5),
        ("vgg11", 0),  # no stages
        ("tnt_s_legacy_patch16_224", 0),  # its blocks take two kinds of tokens
    ]:
        with torch.device("meta"):  # the build alone, no weights
            net = timm.create_model(arch)
        assert len(lesions.places(random_net(net))) == count, arch
    swin = models.ARCHITECTURES["swin"]()
    assert lesions.places(random_net(swin)) == []


def test_bad_input_is_refused_before_any_work(vit, batch):
    with pytest.raises(ValueError, match="mini/vit-0 has no 'blok 2'; nearest: block 2"):
        lesions.logits(vit, batch, "blok 2", [0.5])
    with pytest.raises(ValueError, match=r"share 25 is outside 0\.\.1"):
        lesions.logits(vit, batch, "block 2", [0.5], [25])
    with pytest.raises(ValueError, match="at least one share"):
        lesions.logits(vit, batch, "block 2", [])
    with pytest.raises(ValueError, match=r"pixels are in \[0, 1\]"):
        lesions.logits(vit, Batch(batch.pixels * 255, batch.ids, batch.index), "block 2", [0.5])
    plain = random_net(torch.nn.Sequential(torch.nn.Flatten()), name="plain")
    with pytest.raises(ValueError, match="plain has no 'pool' nor any other known place"):
        lesions.logits(plain, batch, "pool", [0.5])
