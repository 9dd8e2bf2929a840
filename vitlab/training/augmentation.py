"""What is done to training pictures: functions from a batch to a batch, on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import conv2d
from torchvision.transforms import v2

from vitlab.rng import generator
from vitlab.training.deepaugment import damaged


@dataclass(frozen=True)
class Batch:
    """Some training images, and what random choices about them are keyed by.

    pixels: float [B, 3, h, w] in [0, 1]. labels: classes, long [B], or their shares, float
    [B, classes]. images: which ones they are, long [B]. rng: the epoch's stream, for choices that
    are not keyed; a resumed training goes on where it stood.
    """

    pixels: Tensor
    labels: Tensor
    images: Tensor
    seed: int
    epoch: int
    step: int
    rng: torch.Generator

    def to(self, device: str) -> Batch:
        """The batch with pixels and labels on a device."""
        return replace(self, pixels=self.pixels.to(device), labels=self.labels.to(device))


def _seed(*key: object) -> None:
    """Begin torch's stream on the CPU, the one that transforms draw from, anew by a key.

    ``torch.manual_seed`` would do it for every device, too, which takes as long as a transform.
    """
    torch.default_generator.manual_seed(int(generator(*key).integers(2**31)))


def augmixed(pictures: Tensor, keys: Sequence[tuple]) -> Tensor:
    """AugMix (Hendrycks et al. 2020) without its consistency loss: uint8 [B, 3, h, w] to the same.

    None of its operations is one of ImageNet-C's corruptions. Each picture has its own key.
    """
    mix = v2.AugMix(all_ops=False)
    with torch.random.fork_rng(devices=[]):
        done = []
        for picture, key in zip(pictures, keys, strict=True):
            _seed("augmix", *key)
            done.append(mix(picture))
    return torch.stack(done)


def mixed(pixels: Tensor, labels: Tensor, key: tuple, classes: int = 16) -> tuple[Tensor, Tensor]:
    """Mixup (alpha 0.8) or CutMix (alpha 1) with even odds, as in DeiT's recipe.

    pixels: float [B, 3, h, w]; labels: long [B]. Returns pixels and shares of classes
    [B, classes].
    """
    choice = v2.RandomChoice(
        [v2.MixUp(alpha=0.8, num_classes=classes), v2.CutMix(alpha=1.0, num_classes=classes)]
    )
    with torch.random.fork_rng(devices=[]):
        _seed("mix", *key)
        return choice(pixels, labels)


def augmix(batch: Batch) -> Batch:
    """`augmixed`, another mixture in every epoch."""
    keys = [(batch.seed, batch.epoch, int(i)) for i in batch.images]
    pictures = (batch.pixels * 255).round().to(torch.uint8)
    return replace(batch, pixels=augmixed(pictures, keys).float() / 255)


def deepaugment(batch: Batch, *, share: float) -> Batch:
    """DeepAugment (`vitlab.training.deepaugment`) of a share of the pictures; the others stay.

    In the released Noise2Net training the share is 1/2.
    """
    drawn = [generator("deepaugmented", batch.seed, batch.epoch, int(i)) for i in batch.images]
    chosen = [place for place, rng in enumerate(drawn) if rng.random() < share]
    if not chosen:
        return batch
    keys = [(batch.seed, batch.epoch, int(batch.images[place])) for place in chosen]
    pixels = batch.pixels.index_copy(0, torch.tensor(chosen), damaged(batch.pixels[chosen], keys))
    return replace(batch, pixels=pixels)


def mixup_or_cutmix(batch: Batch, *, classes: int) -> Batch:
    """`mixed`, one choice for the whole batch."""
    pixels, labels = mixed(batch.pixels, batch.labels, (batch.seed, batch.step), classes)
    return replace(batch, pixels=pixels, labels=labels)


def randaugment(batch: Batch, *, number: int = 2, magnitude: int = 9) -> Batch:
    """RandAugment (Cubuk et al. 2020): some operations of one strength, drawn for each picture."""
    change = v2.RandAugment(num_ops=number, magnitude=magnitude)
    pictures = (batch.pixels * 255).round().to(torch.uint8)
    with torch.random.fork_rng(devices=[]):
        done = []
        for picture, image in zip(pictures, batch.images.tolist(), strict=True):
            _seed("randaugment", batch.seed, batch.epoch, image)
            done.append(change(picture))
    return replace(batch, pixels=torch.stack(done).float() / 255)


def erasing(
    batch: Batch, *, share: float, colour: Sequence[float], spread: Sequence[float]
) -> Batch:
    """Random Erasing (Zhong et al. 2020): a rectangle of a share of the pictures becomes noise.

    colour, spread: mean and standard deviation of the noise, as of the preprocessing.
    """
    mean, std = (torch.tensor(values)[:, None, None] for values in (colour, spread))
    erase = v2.RandomErasing(p=share, value="random")
    with torch.random.fork_rng(devices=[]):
        done = []
        for pixels, image in zip((batch.pixels - mean) / std, batch.images.tolist(), strict=True):
            _seed("erasing", batch.seed, batch.epoch, image)
            done.append(erase(pixels))
    return replace(batch, pixels=torch.stack(done) * std + mean)


def random_convolution(
    batch: Batch, *, colour: Sequence[float], spread: Sequence[float], sides: Sequence[int]
) -> Batch:
    """RandConv (Xu et al. 2021, algorithm 1): a random filter, which keeps shapes and no texture.

    Each picture has its own filter, of one of some odd sides; its weights are normal with variance
    1 / (3 side^2), so contrast stays about the same. colour, spread: mean and standard deviation
    of what the filter sees and leaves, as of the preprocessing; nothing is clipped.
    """
    mean, std = (torch.tensor(values)[:, None, None] for values in (colour, spread))
    done = []
    for pixels, image in zip((batch.pixels - mean) / std, batch.images.tolist(), strict=True):
        rng = generator("random convolution", batch.seed, batch.epoch, image)
        side = int(rng.choice(sides))
        weights = rng.normal(0, (3 * side**2) ** -0.5, (3, 3, side, side))
        done.append(conv2d(pixels, torch.from_numpy(weights).float(), padding=side // 2))
    return replace(batch, pixels=torch.stack(done) * std + mean)


def flip(batch: Batch) -> Batch:
    """Mirrored left to right, each picture with probability 1/2."""
    stays = torch.rand(len(batch.pixels), 1, 1, 1, generator=batch.rng) < 0.5
    return replace(batch, pixels=torch.where(stays, batch.pixels, batch.pixels.flip(-1)))


def crop(batch: Batch, *, padding: int, colour: Sequence[float] = (0.0, 0.0, 0.0)) -> Batch:
    """A crop of the picture's own size, anywhere in it with `padding` pixels of a colour around.

    colour: red, green, blue in [0, 1]; with the preprocessing's mean the rim is 0 to the network.
    """
    count, channels, height, width = batch.pixels.shape
    padded = torch.tensor(colour)[None, :, None, None].repeat(
        count, 1, height + 2 * padding, width + 2 * padding
    )
    padded[:, :, padding : padding + height, padding : padding + width] = batch.pixels
    top, left = torch.randint(0, 2 * padding + 1, (2, count), generator=batch.rng)
    rows = (top[:, None] + torch.arange(height))[:, None, :, None]
    columns = (left[:, None] + torch.arange(width))[:, None, None, :]
    image = torch.arange(count)[:, None, None, None]
    pixels = padded[image, torch.arange(channels)[:, None, None], rows, columns]
    return replace(batch, pixels=pixels)


# Settings of an augmentation are its keyword-only parameters.
AUGMENTATIONS: dict[str, Callable[..., Batch]] = {
    "augmix": augmix,
    "crop": crop,
    "deepaugment": deepaugment,
    "erasing": erasing,
    "flip": flip,
    "mixup_or_cutmix": mixup_or_cutmix,
    "randaugment": randaugment,
    "random_convolution": random_convolution,
}
