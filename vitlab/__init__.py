"""The thin library behind a book that measures again what papers say about Vision Transformers.

Data flows one way: images -> conditions -> models -> trials -> statistics -> claims -> page.
"""

from vitlab import _torchvision as _torchvision  # first: timm cannot be imported without it

__version__ = "0.1.0"
