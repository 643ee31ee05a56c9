"""The input of a network from images of any kind."""

from functools import partial

import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import to_pil_image

from spectral_repro.data import Batches, Split
from spectral_repro.data.cuts import corner_or_centre
from spectral_repro.data.image_files import ImageFiles
from spectral_repro.data.transforms import EvaluationTransforms
from tests.tolerance import assert_near

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)


def random_pixels(*shape: int) -> torch.Tensor:
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("views", "resize"), [("plain", None), ("plain", 12), ("mirrored", (14, 9)), ("ten_crop", 12)])
def test_they_are_those_of_the_batches(tmp_path, views, resize):
    """Of an image in a file, whatever its size, with all its views."""
    to_pil_image(random_pixels(3, 20, 30)).save(path := tmp_path / "wide.png")
    cut = partial(corner_or_centre, resize=resize or 8) if views == "ten_crop" else partial(_centre, resize=resize)
    files = ImageFiles([str(path)], 3, 8, workers=0, cut=cut)
    batches = Batches(Split(files, torch.zeros(1).long()), 16, MEAN, STD, shuffle=False, views=views)
    ((expected, _),) = batches.epoch(0)
    transforms = EvaluationTransforms(3, 8, resize, MEAN, STD, views)
    with Image.open(path) as image:
        assert_near(transforms.all_views(image), expected, terms=4)
        if views == "plain":
            assert_near(transforms(image)[None], expected, terms=4)


def _centre(image: Image.Image, size: int, choice: int, resize: int | tuple[int, int] | None) -> Image.Image:
    from spectral_repro.data.cuts import centre

    return centre(image, size, choice, resize)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 8), (2, 3, 8, 8), (3, 11, 9)])
@pytest.mark.parametrize("channels", [1, 3])
def test_tensors_of_any_size_and_colour(shape, channels):
    pixels = random_pixels(*shape)
    transforms = EvaluationTransforms(channels, 8, None, MEAN[:channels], STD[:channels])
    found = transforms(pixels)
    assert found.shape == (*shape[:-3], channels, 8, 8) and found.dtype == torch.float32
    image = pixels if pixels.dim() == 3 else pixels[1]
    of_pil = transforms(to_pil_image(image))
    step = 1 / (255 * min(STD))  # of one value of 255, by which PIL and torch may round and resize differently
    torch.testing.assert_close(found if pixels.dim() == 3 else found[1], of_pil, rtol=0, atol=1.01 * step)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (torch.rand(3, 8, 8), TypeError, "expected a PIL image or a torch.uint8 tensor, got a torch.float32 tensor"),
        ("cat.jpg", TypeError, "expected a PIL image or a torch.uint8 tensor, got str"),
        (random_pixels(8, 8), ValueError, r"expected a tensor \(..., 1 or 3, H, W\), got \(8, 8\)"),
        (random_pixels(8, 8, 3), ValueError, r"expected a tensor \(..., 1 or 3, H, W\), got \(8, 8, 3\)"),
    ],
    ids=["floats", "a path", "no channels", "channels last"],
)
def test_errors_for_inputs_that_are_no_images(image, error, message):
    with pytest.raises(error, match=message):
        EvaluationTransforms(3, 8, None, MEAN, STD)(image)
