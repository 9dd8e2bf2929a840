"""A ViT as an ensemble of its blocks, and modules that refine what they say (Naseer et al. 2022).

The final norm and head can read the class token of every block. A token refinement module stands
between norm and head of a block; nothing of the network itself is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from vitlab.images.imagenet import decision_matrix
from vitlab.images.images import Images
from vitlab.inside.tokens import require
from vitlab.models.model import Model

Weights = Mapping[str, Tensor]


class Refinement(nn.Module):
    """A token refinement module, as in the released code (class TransformerHead).

    Tokens of a block after the final norm, float [B, 1 + rows * columns, width], to what the head
    reads instead of the class token, [B, width]: a linear map of the class token, plus the mean
    over places of a residual block on the map of patch tokens. Its two convolutions are one and
    the same, and so are its two batch norms.
    """

    def __init__(self, width: int):
        super().__init__()
        self.token = nn.Linear(width, width)
        self.convolution = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """What the head reads, [B, width]; grid: rows and columns of the patches."""
        here = tokens[:, 1:].transpose(1, 2).unflatten(2, grid)
        inner = self.norm(self.convolution(here)).relu()
        change = self.norm(self.convolution(inner))
        return self.token(tokens[:, 0]) + (here + change).relu().mean((2, 3))


def block_tokens(model: Model, pixels: Tensor) -> list[Tensor]:
    """Class and patch tokens after each block and the final norm: float [B, 1 + patches, width].

    Unlike `vitlab.inside.tokens.block_tokens` it can be differentiated, and keeps every patch.
    pixels: float [B, 3, size, size] in [0, 1]. Raises ValueError for a model whose head does not
    read the class token, or that has a second token.
    """
    require(model, "block decisions")
    if model.net.num_prefix_tokens != 1:
        raise ValueError(
            f"{model.name} has {model.net.num_prefix_tokens} tokens beside the patches"
        )
    blocks = model.net.forward_intermediates(
        model.normalise(pixels.to(model.device)),
        norm=True,
        output_fmt="NLC",
        return_prefix_tokens=True,
        intermediates_only=True,
    )
    return [torch.cat([prefix, patches], 1) for patches, prefix in blocks]


def block_logits(
    model: Model, tokens: Sequence[Tensor], weights: Sequence[Weights] = ()
) -> list[Tensor]:
    """The head's logits for each block, float32 [B, classes]; those of the last are the model's.

    tokens: of `block_tokens`. weights: of the modules of the first blocks, from
    `vitlab.training.refining.train`; without, the head reads the class token.
    """
    read = [one[:, 0] for one in tokens]
    for block, state in enumerate(weights):
        module = Refinement(tokens[block].shape[2])
        module.load_state_dict(dict(state))
        module = module.to(tokens[block].device).eval().requires_grad_(False)
        read[block] = module(tokens[block], model.net.patch_embed.grid_size)
    return [model.net.forward_head(vector[:, None]).float() for vector in read]


def heads(
    model: Model, images: Images, weights: Sequence[Weights] = ()
) -> Callable[[Tensor], list[Tensor]]:
    """How to ask all blocks about images: pixels -> scores of each block, [B, categories].

    As `Model.decide` asks the last one: logits where the model's classes are the categories,
    otherwise log probabilities, kept above 1e-12. weights: as in `block_logits`.

    Raises ValueError as `block_tokens` does, DataError where the model cannot decide about them.
    """
    matrix = decision_matrix(model.classes, images.classes)

    def scores(logits: Tensor) -> Tensor:
        if matrix is None:
            return logits
        return (logits.softmax(1) @ matrix.to(logits.device)).clamp_min(1e-12).log()

    return lambda pixels: [
        scores(logits) for logits in block_logits(model, block_tokens(model, pixels), weights)
    ]
