"""What a network's answers depend on, as two digests: its tensors, and everything else."""

from __future__ import annotations

import dis
import hashlib
import inspect
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vitlab import keys
from vitlab.files import digest

# Attributes that change no answer in evaluation mode: torch's own bookkeeping (`training` too),
# how attention and gradients are computed, what timm was asked for.
_IRRELEVANT = {*vars(nn.Module()), "fused_attn", "grad_checkpointing"}
_IRRELEVANT |= {"pretrained_cfg", "default_cfg", "pretrained_model_args", "_model_args"}
_IRRELEVANT |= {"attention_bias_cache"}  # LeViT's note of what follows from its weights


def fingerprint(net: nn.Module) -> str:
    """SHA-256 over a network's state: names, types, shapes, bytes; its first 16 hex digits."""
    return _tensors(net.state_dict())


def configuration(net: nn.Module) -> str:
    """A digest of what the answers depend on beside the network's state; 16 hex digits.

    Every submodule counts with its place, class and attributes, so that another activation, pooling
    or image size is another network. Classes and attributes count by all that they hold (see
    `vitlab.values`), a library's by name and version. A network with an attribute that is not
    understood (a lock, a file) is another one every time. What `forward` itself writes down (a
    count, the last attention) says nothing about the next pass, or the network is none whose
    answers can be kept.
    """
    saved = net.state_dict()
    parts = []
    for place, module in net.named_modules(remove_duplicate=False):
        passed_over = _IRRELEVANT | _notes(type(module))
        attributes = {k: v for k, v in sorted(vars(module).items()) if k not in passed_over}
        program = getattr(module, "code", "")  # of a scripted or traced module
        parts.append([place, type(module), attributes, program])
    unsaved = {name: value for name, value in net.named_buffers() if name not in saved}
    return digest(_tensors(unsaved), keys.value(parts))


def _notes(kind: type) -> set[str]:
    """The attributes that a module's forward pass sets."""
    code = getattr(inspect.unwrap(getattr(kind, "forward", len)), "__code__", None)
    steps = dis.get_instructions(code) if code else ()
    return {step.argval for step in steps if step.opname == "STORE_ATTR"}


def hooked(net: nn.Module) -> str:
    """What hooks do to a network's passes, as a key; empty if it has none."""
    every = [
        (place, [*vars(module)[kind].values()])
        for place, module in net.named_modules(remove_duplicate=False)
        for kind in ("_forward_pre_hooks", "_forward_hooks")
        if vars(module)[kind]
    ]
    return keys.value(every) if every else ""


def _tensors(state: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name, value in sorted(state.items()):
        value = value.detach().cpu().contiguous()
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]
