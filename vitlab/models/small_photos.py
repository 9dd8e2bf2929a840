"""The small architectures for photographs of 32 px in ten classes: the photo zoo's."""

from __future__ import annotations

from typing import Any

from timm.models.deit import VisionTransformerDistilled
from timm.models.regnet import RegNet, RegNetCfg
from timm.models.resnet import BasicBlock, ResNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

_VIT: dict[str, Any] = {
    **{"img_size": 32, "embed_dim": 128, "depth": 6, "num_heads": 4},
    "num_classes": 10,
}


def vit(patch_size: int = 4, pos_embed: str = "learn") -> VisionTransformer:
    """A plain ViT: 8 x 8 tokens of 4 px, class token, learned positions; 1.2 M parameters."""
    return VisionTransformer(**_VIT, patch_size=patch_size, pos_embed=pos_embed)


def vit_two_tokens() -> VisionTransformerDistilled:
    """The same with a second token, which learns from a teacher (DeiT)."""
    return VisionTransformerDistilled(**_VIT, patch_size=4)


def swin() -> SwinTransformer:
    """Swin: 16 x 16 tokens of 2 px, windows of 4 x 4, three stages; 1.2 M parameters."""
    return SwinTransformer(
        img_size=32,
        patch_size=2,
        window_size=4,
        embed_dim=48,
        depths=(2, 2, 2),
        num_heads=(2, 4, 8),
        num_classes=10,
        drop_path_rate=0.0,
    )


def regnety() -> RegNet:
    """RegNetY: as wide and deep as the pair is large, a stem that keeps the picture's size."""
    plan = RegNetCfg(depth=12, w0=32, wa=20, wm=2, group_size=8, se_ratio=0.25, stem_width=24)
    net = RegNet(plan, num_classes=10)
    net.stem.conv.stride = 1, 1
    return net


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
