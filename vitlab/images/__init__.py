"""Image sets: load them, narrow them down, and what is known of their classes.

>>> from vitlab import images
>>> len(images.load("stimuli", n=32))
32
"""

import lazy_loader

# What `__init__.pyi` imports, when it is first asked for: torch takes seconds to import.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
