"""From an image to the input of a trained network."""

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import rgb_to_grayscale

from spectral_repro.data.cuts import PLACES, Resize, centre, corner_or_centre
from spectral_repro.data.image_files import as_tensor


@dataclass(frozen=True)
class EvaluationTransforms:
    """The transform of evaluation images: resize, crop the centre, (x / 255 - mean) / std.

    Takes a PIL image of any size and mode or a uint8 tensor (..., 1 or 3, H, W). Orientation tags are applied, transparency is
    laid on white (``spectral_repro.data.image_files.as_channels``). The resizing is bilinear and antialiased.

    Attributes:
        channels: C, 1 (grey) or 3 (red, green, blue), of the result.
        image_size: S.
        resize: the shorter side before the centre S x S is cut, or height and width; None: S.
        mean, std: one value per channel, for images in [0, 1].
        views: of an image, over which the evaluation averages logits: "plain", "mirrored" or "ten_crop".

    Example:
        >>> network, transforms, class_names = load_trained("results/runs/RUN")
        >>> with torch.no_grad():
        ...     probabilities = network(transforms(Image.open("cat.jpg"))[None]).softmax(1)
    """

    channels: int
    image_size: int
    resize: Resize | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    views: str = "plain"

    def __call__(self, image: Image.Image | Tensor) -> Tensor:
        """The centre (..., C, S, S), float32.

        Raises:
            TypeError: for anything but a PIL image or a uint8 tensor.
            ValueError: for a tensor of another number of channels.
        """
        return self._normalised(centre(self._with_channels(image), self.image_size, resize=self.resize))

    def all_views(self, image: Image.Image | Tensor) -> Tensor:
        """The V views of an image (V, C, S, S), in the order of `spectral_repro.data.Batches`."""
        whole = self._with_channels(image)
        if self.views == "ten_crop":
            parts = [corner_or_centre(whole, self.image_size, place, self.resize or self.image_size) for place in range(PLACES)]
        else:
            parts = [centre(whole, self.image_size, resize=self.resize)]
        views = torch.stack([self._normalised(part) for part in parts])
        return views if self.views == "plain" else torch.stack([views, views.flip(-1)], 1).flatten(0, 1)

    def _with_channels(self, image: Image.Image | Tensor) -> Tensor:
        if isinstance(image, Image.Image):
            return as_tensor(image, self.channels)
        if not isinstance(image, Tensor) or image.dtype != torch.uint8:
            kind = f"a {image.dtype} tensor" if isinstance(image, Tensor) else type(image).__name__
            raise TypeError(f"expected a PIL image or a torch.uint8 tensor, got {kind}")
        if image.dim() < 3 or image.shape[-3] not in (1, 3):
            raise ValueError(f"expected a tensor (..., 1 or 3, H, W), got {tuple(image.shape)}")
        if image.shape[-3] == self.channels:
            return image
        return rgb_to_grayscale(image) if self.channels == 1 else image.expand(*image.shape[:-3], 3, -1, -1)

    def _normalised(self, pixels: Tensor) -> Tensor:
        mean, std = (torch.tensor(values, device=pixels.device)[:, None, None] for values in (self.mean, self.std))
        return torch.addcmul(-mean / std, pixels, 1 / (255 * std))
