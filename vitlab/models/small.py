"""The small architectures that the zoo's models are trained in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from timm.models.deit import VisionTransformerDistilled
from timm.models.regnet import RegNet, RegNetCfg
from timm.models.resnet import BasicBlock, ResNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitlab.models import small_photos

# The miniatures: about 0.7 million parameters each (patch 32: 0.97), all plain.
_MINI_VIT: dict[str, Any] = {"img_size": 64, "embed_dim": 96, "depth": 6, "num_heads": 3}
_MINI_CNN: dict[str, Any] = {"channels": (16, 32, 64, 128), "stem_width": 16}
ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "vit": lambda: VisionTransformer(**_MINI_VIT, patch_size=8, num_classes=16),
    "cnn": lambda: ResNet(
        BasicBlock,  # type: ignore[arg-type]
        (2, 2, 2, 2),
        num_classes=16,
        **_MINI_CNN,
    ),
    # What single findings ask for beside the pair.
    "vit-no-position": lambda: VisionTransformer(
        **_MINI_VIT, patch_size=8, num_classes=16, pos_embed="none"
    ),
    "vit-patch16": lambda: VisionTransformer(**_MINI_VIT, patch_size=16, num_classes=16),
    "vit-patch32": lambda: VisionTransformer(**_MINI_VIT, patch_size=32, num_classes=16),
    "vit-two-tokens": lambda: VisionTransformerDistilled(**_MINI_VIT, patch_size=8, num_classes=16),
    "swin": lambda: SwinTransformer(
        img_size=64,
        patch_size=4,
        window_size=4,
        embed_dim=36,
        depths=(2, 2, 2),
        num_heads=(2, 4, 8),
        num_classes=16,
        drop_path_rate=0.0,
    ),
    "cnn-se": lambda: ResNet(
        BasicBlock,  # type: ignore[arg-type]
        (2, 2, 2, 2),
        num_classes=16,
        block_args={"attn_layer": "se"},
        **_MINI_CNN,
    ),
    "regnety": lambda: RegNet(
        RegNetCfg(depth=12, w0=24, wa=16, wm=2, group_size=8, se_ratio=0.25, stem_width=16),
        num_classes=16,
    ),
    "photo-vit": small_photos.vit,
    "photo-cnn": small_photos.cnn,
    "photo-vit-no-position": lambda: small_photos.vit(pos_embed="none"),
    "photo-vit-patch8": lambda: small_photos.vit(patch_size=8),
    "photo-vit-two-tokens": small_photos.vit_two_tokens,
    "photo-swin": small_photos.swin,
    "photo-regnety": small_photos.regnety,
}
