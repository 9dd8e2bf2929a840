"""What a training minimises: functions of a model and a batch.

An objective is called once a step with the model in training, its network in training mode, and
returns a scalar loss to differentiate. It may look at the pixels as often as it likes, change them
(an attack), make two views of them, or leave the labels alone. Settings are keyword-only
parameters; one called `teacher` is written in a recipe as a name and comes as a loaded `Model`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from vitlab.models.model import Model
from vitlab.training.augmentation import Batch


def answers(model: Model, pixels: Tensor) -> tuple[Tensor, ...]:
    """Logits, float32 [B, classes], of each head of a network in training; most have one.

    pixels: in [0, 1], float [B, 3, size, size]. Computed in the model's precision.
    """
    half = None if model.precision == "float32" else getattr(torch, model.precision)
    with torch.autocast(pixels.device.type, half, enabled=half is not None):
        found = model.net(model.normalise(pixels))
    return tuple(one.float() for one in (found if isinstance(found, tuple) else (found,)))


def labels(model: Model, batch: Batch, *, smoothing: float = 0.0) -> Tensor:
    """Cross entropy with the labels, of which `smoothing` is spread evenly over the classes."""
    (answer,) = answers(model, batch.pixels)
    return F.cross_entropy(answer, batch.labels, label_smoothing=smoothing)


def distillation(
    model: Model,
    batch: Batch,
    *,
    teacher: Model,
    smoothing: float = 0.0,
    temperature: float | None = None,
) -> Tensor:
    """Half the labels', half a teacher's, who is answered by a second token (Touvron et al. 2021).

    Without a temperature the teacher's part is the cross entropy with its decisions (hard
    distillation, DeiT's default); with one, temperature**2 times the Kullback-Leibler divergence
    from its probabilities, both sides softened by it (Hinton et al. 2015).
    """
    model.net.set_distilled_training(True)  # in training, a student answers once per token
    by_class, by_teacher = answers(model, batch.pixels)
    with torch.no_grad():
        advice = teacher.logits(batch.pixels)
    own = F.cross_entropy(by_class, batch.labels, label_smoothing=smoothing)
    if temperature is None:
        learned = F.cross_entropy(by_teacher, advice.argmax(1))
    else:
        own_soft, soft = ((x / temperature).log_softmax(1) for x in (by_teacher, advice))
        apart = F.kl_div(own_soft, soft, reduction="batchmean", log_target=True)
        learned = temperature**2 * apart
    return (own + learned) / 2


OBJECTIVES: dict[str, Callable[..., Tensor]] = {
    "distillation": distillation,
    "labels": labels,
}
