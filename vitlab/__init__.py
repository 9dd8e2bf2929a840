"""The thin library behind a book that measures again what papers say about Vision Transformers.

Data flows one way: images -> conditions -> models -> trials -> statistics -> claims -> page.

Modules are imported when they are first used: ``import vitlab; vitlab.models.wrap(...)``.
"""

import importlib
import pkgutil
from types import ModuleType

from vitlab import _torchvision as _torchvision  # timm cannot be imported without it

__version__ = "0.1.0"


def __getattr__(name: str) -> ModuleType:
    if name in __dir__():
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    modules = [module.name for module in pkgutil.iter_modules(__path__)]
    return sorted({*globals(), *modules})
