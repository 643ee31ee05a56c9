"""The effect of depth on batches of images in a random ReLU network."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from spectral_repro.bounds import Count
from spectral_repro.linalg.orthogonality import orthogonality_gap
from spectral_repro.studies.summary import rows, with_log

EPS = 1e-5  # torch's, in batch norm


@dataclass(frozen=True)
class ImageDepth:
    """Orthogonality gap of the images of a batch, and its logarithm, by layer (daneshmand2021, Figure 5).

    H_(l+1) = BN(W_l relu(H_l)) or W_l relu(H_l), W_l an MLP's layer or a 3 x 3 convolution of stride 1 over images continued by
    reflection, without biases. One network sees all batches; BN takes mean and variance of each by itself. Layer 1 is the
    input. The entries of W_l are normal of variance 4 / (fan in + fan out): Glorot and Bengio (2010) with the gain of ReLU; no
    gap depends on that gain, except through the eps of BN. In float32.

    Attributes:
        width: units or channels of every layer but the input.
        layers: number of layers to measure, including the input.
        batches: of training images; each gives one value of the mean and standard deviation.
        batch_norm: whether BN is there.
        convolutional: convolutions; False: an MLP on images as vectors.

    Example:
        >>> study = ImageDepth(width=32, layers=4, batches=2, batch_norm=True, convolutional=False)
        >>> rows = study(torch.Generator().manual_seed(0), torch.randn(2, 8, 1, 8, 8))
        >>> len(rows), sorted(rows[0])
        (4, ['layer', 'log_orthogonality_gap', 'log_orthogonality_gap_std', 'orthogonality_gap', 'orthogonality_gap_std'])
    """

    width: Count
    layers: Count
    batches: Count
    batch_norm: bool
    convolutional: bool

    def __call__(self, generator: torch.Generator, images: Tensor) -> list[dict[str, float]]:
        """The rows for images (batches, n, C, S, S); weights come from the generator, on its device."""
        representations = islice(self.representations(generator, images), self.layers)
        gaps = torch.stack([orthogonality_gap(hidden.flatten(2).mT) for hidden in representations])
        return rows("layer", range(1, self.layers + 1), with_log("orthogonality_gap", gaps))

    def representations(self, generator: torch.Generator, images: Tensor) -> Iterator[Tensor]:
        """H_1, H_2, ... without end, (batches, n, C, S, S) each; an MLP has S = 1."""
        size = 3 if self.convolutional else 1
        hidden = images if self.convolutional else images.flatten(2)[..., None, None]
        while True:
            yield hidden
            channels = hidden.shape[2]
            std = 2 / (size * (channels + self.width) ** 0.5)
            weight = std * torch.randn(self.width, channels, size, size, generator=generator, device=images.device)
            hidden = self.layer(hidden, weight)

    def layer(self, hidden: Tensor, weight: Tensor) -> Tensor:
        """BN(W relu(H)), or W relu(H), of H (batches, n, C, S, S) and W (C', C, k, k)."""
        frame = (weight.shape[-1] // 2,) * 4
        padded = pad(torch.relu(hidden).flatten(0, 1), frame, mode="reflect")
        hidden = conv2d(padded, weight).unflatten(0, hidden.shape[:2])
        if not self.batch_norm:
            return hidden
        variance, mean = torch.var_mean(hidden, (1, 3, 4), correction=0, keepdim=True)
        return (hidden - mean) * torch.rsqrt(variance + EPS)
