"""The small architectures for photographs of 32 px in ten classes: the pair of the photo zoo."""

from __future__ import annotations

from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import nn


def vit() -> VisionTransformer:
    """A plain ViT: 8 x 8 tokens of 4 px, class token, learned positions; 1.2 M parameters."""
    return VisionTransformer(
        img_size=32, patch_size=4, embed_dim=128, depth=6, num_heads=4, num_classes=10
    )


def cnn() -> ResNet:
    """ResNet-18's plan with 20 channels and a 3 x 3 stem without pooling; 1.1 M parameters."""
    net = ResNet(
        BasicBlock,  # type: ignore[arg-type]
        (2, 2, 2, 2),
        num_classes=10,
        channels=(20, 40, 80, 160),
        # A stem that is replaced at once; it decides which random numbers the weights get.
        stem_type="deep",
        stem_width=10,
    )
    net.conv1 = nn.Conv2d(3, 20, 3, padding=1, bias=False)  # type: ignore[assignment]
    net.bn1, net.maxpool = nn.BatchNorm2d(20), nn.Identity()  # type: ignore[assignment]
    return net
