"""A pretrained network trained further on an image set's own classes."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitlab.images.images import Images
from vitlab.inside.tokens import require
from vitlab.models.identity import fingerprint
from vitlab.models.model import Model
from vitlab.models.wrapping import ready
from vitlab.rng import generator


def fine_tuned(
    model: Model,
    images: Images,
    seed: int = 0,
    steps: int = 300,
    batch: int = 32,
    rate: float = 3e-4,
) -> dict[str, Tensor]:
    """The weights of a network with a new head, all of it trained on an image set, in 16 bits.

    Cross entropy; AdamW; a rate that rises for a tenth of the steps and falls linearly to zero;
    gradients clipped to 1; autocast to bfloat16. Which images a step shows is keyed by the seed.
    The model itself is left as it was.

    Raises ValueError for a network without timm's head.
    """
    net = _with_head(model, images, seed).train()
    device = torch.device(model.device)
    if device.type == "cpu":  # where the fused kernel's backward takes twice as long
        for part in net.modules():
            if hasattr(part, "fused_attn"):
                part.fused_attn = False  # type: ignore[assignment]
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.05)
    rises = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / rises, 1 - step / steps)
    )
    order = generator("fine-tuning", seed).integers(len(images), size=(steps, batch))
    for chosen in order:
        shown = torch.stack([model.pixels(images.picture(int(i))) for i in chosen])
        with torch.autocast(device.type, torch.bfloat16):
            answer = net(model.normalise(shown.to(device).float() / 255))
        loss = F.cross_entropy(answer.float(), images.labels[chosen].to(device))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    state = net.state_dict()
    return {k: (v.half() if v.is_floating_point() else v).cpu() for k, v in state.items()}


def with_weights(model: Model, images: Images, weights: dict[str, Tensor], seed: int = 0) -> Model:
    """The model that `fine_tuned` gave the weights of; it decides among the set's categories."""
    net = _with_head(model, images, seed)
    net.load_state_dict(weights)
    return replace(
        model,
        name=f"{model.name}, tuned {seed}",
        net=ready(net),
        classes=images.classes,
        weights=fingerprint(net),
        seed=seed,
    )


def _with_head(model: Model, images: Images, seed: int) -> nn.Module:
    require(model, "features")
    net = deepcopy(model.net)
    with torch.random.fork_rng():
        torch.manual_seed(int(generator("head", seed).integers(2**31)))
        net.reset_classifier(len(images.categories))
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    return net.to(model.device)
