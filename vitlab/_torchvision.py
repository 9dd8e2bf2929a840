"""Let torchvision load beside a torch it was not compiled for.

PyPI's torchvision is compiled against CUDA. Beside a CPU-only torch its operators cannot load, and
importing it (timm does) fails because two of them, ``nms`` and ``qnms``, are described without
being declared. vitlab uses neither, so both are declared when torchvision is looked for, and not
before: that needs torch, which takes seconds to import. A matched pair is left untouched.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

_declared: Any = None  # the torch.library.Library, kept alive: the operators vanish with it


class _BeforeTorchvision:
    """A finder that finds nothing, but hears of every import before it happens."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        if name == "torchvision" and _declared is None:
            _declare()


def _declare() -> None:
    global _declared
    found = PathFinder.find_spec("torchvision")
    operators = found and found.origin and next(Path(found.origin).parent.glob("_C*.so"), None)
    if not operators:
        return
    import torch

    try:
        torch.ops.load_library(str(operators))
    except OSError:
        _declared = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            _declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


sys.meta_path.insert(0, _BeforeTorchvision)
