"""Let torchvision load beside a torch it was not compiled for.

PyPI's torchvision is compiled against CUDA. Beside a CPU-only torch its operators cannot load, and
importing it (timm does) fails because two of them, ``nms`` and ``qnms``, are described without
being declared. vitlab uses neither, so declare both and import again. A matched pair is left
untouched.
"""

import sys

import torch

_declared: torch.library.Library | None = None  # kept alive: the operators vanish with it


def _import_torchvision() -> None:
    global _declared
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        _declared = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            _declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401


_import_torchvision()
