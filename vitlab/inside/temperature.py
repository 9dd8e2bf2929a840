"""Attention at a higher temperature: softmax(q k / (T sqrt(d))) in every block (Gu et al. 2022)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from vitlab.inside.tokens import require
from vitlab.models.model import Model


@contextmanager
def tempered(model: Model, temperature: float) -> Iterator[Model]:
    """The model with the logits of all its attention divided by a temperature; weights stay.

    1 changes nothing, more flattens attention. Gradients pass through it. When the block ends, by
    an error too, the network is as it was.

    Raises ValueError for a temperature that is not finite and above 0, and for a model without
    attention from a class token.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"a temperature is above 0 and finite, got {temperature}")
    require(model, "attention")
    layers = [block.attn for block in model.net.blocks]
    before = [(layer.scale, layer.fused_attn) for layer in layers]
    try:
        for layer in layers:
            # The fused kernel has a scale of its own, 1 / sqrt(d).
            layer.scale, layer.fused_attn = layer.scale / temperature, False
        yield model
    finally:
        for layer, (scale, fused) in zip(layers, before, strict=True):
            layer.scale, layer.fused_attn = scale, fused
