"""What makes a network another network."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def fingerprint(net: nn.Module) -> str:
    """SHA-256 over a network's state: names, types, shapes, bytes; its first 16 hex digits."""
    found = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        value = value.detach().cpu().contiguous()
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()[:16]
