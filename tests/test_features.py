import pytest
import torch

from vitlab import data, features
from vitlab.models import load


@pytest.fixture(scope="module")
def vit():
    return load("mini/vit-0")


@pytest.fixture(scope="module")
def stack(vit):
    return features.pixel_stack(vit, data.load("stimuli", n=20))


def test_tokens_of_every_block_are_those_of_a_truncated_network(vit, stack):
    tokens = features.block_tokens(vit, stack, batch_size=7)
    assert tokens.classes.shape == (20, 6, 96)
    x = vit.normalise(stack.float() / 255)
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
    assert torch.equal(predictions[:, -1], vit.logits(stack.float() / 255).argmax(1))


def test_attention_is_what_the_unfused_layer_computes(vit, stack):
    seen = []
    attention = vit.net.blocks[-1].attn
    attention.fused_attn = False
    hook = attention.attn_drop.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    vit.logits(stack.float() / 255)
    hook.remove()
    attention.fused_attn = True
    expected = seen[0].mean(1)[:, 0, 1:].view(-1, 8, 8)
    ours = features.class_attention(vit, stack, batch_size=6)
    assert torch.allclose(ours, expected, atol=1e-5)
    assert (ours.sum((1, 2)) <= 1).all()


def test_pooled_features_give_the_models_logits(stack):
    cnn = load("mini/cnn-0")
    pooled = features.pooled(cnn, stack)
    assert torch.allclose(cnn.net.fc(pooled), cnn.logits(stack.float() / 255), atol=1e-4)


def test_a_cnn_is_told_to_have_no_class_tokens(stack):
    with pytest.raises(ValueError, match="mini/cnn-0 has no class tokens"):
        features.block_tokens(load("mini/cnn-0"), stack)
