"""Training token refinement modules on a frozen ViT (Naseer et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from vitlab.inside.refinement import Refinement, block_tokens
from vitlab.models.model import Model
from vitlab.rng import generator
from vitlab.training.recipe import recipes
from vitlab.training.sources import SOURCES


def why_not(model: Model) -> str:
    """Why there are no images to train a model's modules on; empty if there are."""
    known = model.name in recipes()
    return "" if known else f"the training images of {model.name} are not here"


def images_of(model: Model, count: int) -> tuple[Tensor, Tensor]:
    """Some of the images that a model of the zoo was trained on, and their labels.

    Returns float [count, 3, h, w] in [0, 1] and long [count]. Raises ValueError for a model that is
    not of the zoo, DataError where its images are not here.
    """
    if why := why_not(model):
        raise ValueError(why)
    shown = list(SOURCES[recipes()[model.name].images].shown("train", count))
    pictures, labels = (torch.cat(parts)[:count] for parts in zip(*shown, strict=True))
    return pictures.float() / 255, labels


def train(
    model: Model,
    pixels: Tensor,
    labels: Tensor,
    steps: int = 50,
    batch: int = 32,
    rate: float = 0.01,
    seed: int = 0,
) -> list[dict[str, Tensor]]:
    """Train a module for every block but the last; returns their weights, on the CPU.

    The network stays as it is, and the modules share no weights: training them side by side, on
    the same batches, is training them one after the other. SGD on the cross-entropy of each block's
    output, momentum 0.9 and weight decay 1e-4 as released, at a constant `rate`.

    pixels: float [n, 3, size, size] in [0, 1]; labels: long [n], in the model's own classes. A step
    takes `batch` of them; an epoch takes all in random order.

    Raises ValueError for no images or steps, and as `block_tokens` does.
    """
    if not (len(pixels) == len(labels) >= batch >= 1 and steps >= 1):
        raise ValueError(
            "modules need as many labels as images, a batch of them at least, and steps >= 1; got "
            f"{len(pixels)} images, {len(labels)} labels, batches of {batch}, {steps} steps"
        )
    grid, per_epoch = model.net.patch_embed.grid_size, len(pixels) // batch
    modules = _fresh(model, seed)
    optimiser = torch.optim.SGD(modules.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4)
    for step in range(steps):
        epoch, place = divmod(step, per_epoch)
        order = generator("refinement", seed, epoch).permutation(len(pixels))
        chosen = torch.from_numpy(order[place * batch : (place + 1) * batch])
        with torch.no_grad():
            tokens = block_tokens(model, pixels[chosen])
        truth = labels[chosen].to(model.device)
        read = [module(one, grid) for module, one in zip(modules, tokens, strict=False)]
        answers = [model.net.forward_head(vector[:, None]).float() for vector in read]
        loss = torch.stack([cross_entropy(given, truth) for given in answers]).sum()
        gradients = torch.autograd.grad(loss, list(modules.parameters()))
        for weight, gradient in zip(modules.parameters(), gradients, strict=True):
            weight.grad = gradient  # and none for the network's own weights
        optimiser.step()
    return [{k: v.cpu() for k, v in module.state_dict().items()} for module in modules]


def _fresh(model: Model, seed: int) -> torch.nn.ModuleList:
    """A module for each block but the last, in training mode; the seed decides its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator("refinement weights", seed).integers(2**31)))
        modules = [Refinement(model.net.embed_dim) for _ in model.net.blocks[:-1]]
    return torch.nn.ModuleList(modules).to(model.device).train()
