"""What a network is: its family, its comparison group, what its outputs decide over."""

from __future__ import annotations

import fnmatch
from dataclasses import replace

import timm
from timm.models import PretrainedCfg, model_entrypoint
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitlab.models.model import Model

# timm's (and torchvision's) modules of convolutional networks, and what other modules hold.
_CNN = (
    "alexnet byobnet convmixer convnext cspnet cspnext densenet dla dpn efficientnet fasternet "
    "ghostnet googlenet hardcorenas hgnet hrnet inception inception_next inception_resnet_v2 "
    "inception_v3 inception_v4 lcnetv2 mnasnet mobilenet mobilenetv2 mobilenetv3 nasnet nfnet "
    "pnasnet rdnet regnet repghost repvit res2net resnest resnet resnetv2 rexnet selecsls senet "
    "shufflenetv2 sknet squeezenet starnet tresnet vgg vovnet xception xception_aligned"
)
_FAMILIES = {
    **dict.fromkeys(("vision_transformer", "deit", "eva", "beit", "naflexvit"), "ViT"),
    **{"vision_transformer_relpos": "ViT", "vision_transformer_hybrid": "hybrid ViT"},
    **{"swin_transformer": "Swin", "xcit": "XCiT", "cait": "CaiT", "pvt_v2": "PVT"},
    **dict.fromkeys(("swin_transformer_v2", "swin_transformer_v2_cr"), "Swin V2"),
    **{"mlp_mixer": "Mixer", "mobilevit": "MobileViT", "maxxvit": "MaxViT and CoAtNet"},
    **{"coat": "CoaT", "convit": "ConViT", "crossvit": "CrossViT", "davit": "DaViT"},
    **{"edgenext": "EdgeNeXt", "fastvit": "FastViT", "gcvit": "GC ViT", "hiera": "Hiera"},
    **{"levit": "LeViT", "mambaout": "MambaOut", "metaformer": "MetaFormer", "mvitv2": "MViT V2"},
    **{"nest": "NesT", "pit": "PiT", "tiny_vit": "TinyViT", "tnt": "TNT", "twins": "Twins"},
    **{"visformer": "Visformer", "vitamin": "ViTamin", "volo": "VOLO", "byoanet": "hybrid CNN"},
}
# Attention between places inside a network of a convolutional module.
_ATTENTION = {"AttentionPool2d", "BatNonLocalAttn", "MultiQueryAttention2d"}


def group_of(net: nn.Module) -> str:
    """The comparison group of a network: claims compare "ViT" and "CNN", others are families.

    "ViT": timm's VisionTransformer and its kin (DeiT, distilled too, DINOv2, BEiT, EVA). "CNN":
    timm's and torchvision's convolutional families. Mixtures of the two are "hybrid ViT" or
    "hybrid CNN"; any other network is named after its family, or else its class.
    """
    arch = getattr(net, "pretrained_cfg", {}).get("architecture") or ""
    # Families share classes (MobileViT is a ByobNet), so the entry point tells more than the class.
    code = model_entrypoint(arch).__module__ if timm.is_model(arch) else type(net).__module__
    module = code.rpartition(".")[2]
    if module in _CNN.split():
        attends = any(type(part).__name__ in _ATTENTION for part in net.modules())
        return "hybrid CNN" if attends else "CNN"
    fallback = "ViT" if isinstance(net, VisionTransformer) else type(net).__name__
    return _FAMILIES.get(module, fallback)


def classes_of(outputs: int) -> str:
    """What a head of so many outputs decides over."""
    known = {0: "features", 16: "stimuli", 1000: "imagenet", 11821: "imagenet-12k"}
    known |= dict.fromkeys((21841, 21842, 21843), "imagenet-21k")
    return known.get(outputs, f"{outputs} other")


def why_undecided(model: Model) -> str:
    """Why a model makes no decisions that the pages know; empty if it does.

    The pages decide over ImageNet-1k's 1,000 classes, the 16 of Geirhos et al., CIFAR-10's or the
    stimuli's. Where timm lists
    the same architecture fine-tuned for ImageNet-1k, the answer names it.
    """
    if model.classes in ("imagenet", "imagenet-16", "cifar-10", "stimuli"):
        return ""
    why = (
        "no classifier, features only"
        if model.classes == "features"
        else f"decides over {model.classes} classes, the pages over ImageNet-1k's 1,000"
    )
    arch, _, tag = model.name.removeprefix("timm/").partition("@")[0].partition(".")
    siblings = [
        name for name in timm.list_pretrained(f"{arch}.*") if timm_config(name).num_classes == 1000
    ]
    siblings.sort(key=lambda name: not name.startswith(f"{arch}.{tag}_ft_in1k"))
    return why + (
        f"; timm/{siblings[0]} does" if siblings and model.name.startswith("timm/") else ""
    )


def is_vit(net: nn.Module) -> bool:
    """Whether `net` is built like timm's VisionTransformer: class token, blocks, attention."""
    return isinstance(net, VisionTransformer)


def by_group(models: list[Model]) -> dict[str, list[str]]:
    """Names of models by their group: {"ViT": ["mini/vit-0", ...], "CNN": [...]}."""
    groups: dict[str, list[str]] = {}
    for model in models:
        groups.setdefault(model.group, []).append(model.name)
    return groups


def as_trained(model: Model, shape_distilled: str = "", stylised: str = "") -> Model:
    """The model with its training as its group: "ViT shape-distilled", "CNN stylised"...

    shape_distilled, stylised: patterns of names, for what the network cannot tell: which models
    have a shape token (Naseer et al. 2021, section 3.2), which learned from stylised images. A
    network with a second head is "ViT distilled" where no pattern says more.

    Raises ValueError where a model that should have a shape token has one token only.
    """
    group = model.group.removesuffix(" stylised")
    if fnmatch.fnmatchcase(model.name, shape_distilled):
        group = "ViT shape-distilled"
        if not hasattr(model.net, "head_dist"):
            raise ValueError(f"shape_distilled={shape_distilled}: {model.name} has one token")
    elif hasattr(model.net, "head_dist"):
        group = "ViT distilled"
    elif fnmatch.fnmatchcase(model.name, stylised):
        group += " stylised"
    return replace(model, group=group)


def token_names(model: Model) -> list[str]:
    """What a ViT answers by: its class token, in a distilled one also the second token."""
    second = "shape token" if model.group == "ViT shape-distilled" else "distillation token"
    return ["class token", second] if hasattr(model.net, "head_dist") else ["class token"]


def timm_config(arch: str) -> PretrainedCfg:
    """What timm knows of an architecture's (tag's) weights; its defaults if it knows nothing."""
    return timm.get_pretrained_cfg(arch) or PretrainedCfg()
