"""Decoding of single files, and streams of them."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spectral_repro.data.image_files import ImageFiles, decode
from spectral_repro.errors import UserError

PIXELS = np.random.default_rng(0).integers(256, size=(6, 6, 3), dtype=np.uint8)
GREY = PIXELS[..., 0]
RED_OF_LUMA, GREEN_OF_LUMA, BLUE_OF_LUMA = 0.299, 0.587, 0.114  # ITU-R BT.601
FEW_COLOURS = PIXELS // 128 * 255


def colour(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grey (6, 6) and colour (6, 6, 3) of what was written in colour."""
    return pixels @ np.array([RED_OF_LUMA, GREEN_OF_LUMA, BLUE_OF_LUMA]), pixels


def grey(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return pixels, np.stack([pixels] * 3, -1)


def palette() -> Image.Image:
    return Image.fromarray(FEW_COLOURS).quantize(8)


def with_alpha(pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([pixels, PIXELS[..., :1]], -1)


def four_inks(values: np.ndarray) -> Image.Image:
    return Image.merge("CMYK", [Image.fromarray(np.ascontiguousarray(ink)) for ink in np.moveaxis(values, -1, 0)])


def subtractive(cmyk: np.ndarray) -> np.ndarray:
    return (255.0 - cmyk[..., :3]) * (255.0 - cmyk[..., 3:]) / 255


KINDS = {
    "grey.png": (Image.fromarray(GREY), {}, grey(GREY)),
    "grey.tiff": (Image.fromarray(GREY), {}, grey(GREY)),
    "one_bit.png": (Image.fromarray(GREY > 127), {}, grey((GREY > 127) * 255)),
    "sixteen_bits.png": (Image.fromarray(GREY.astype(np.uint16) * 256 + 255 - GREY), {}, grey(GREY)),
    "sixteen_bits.tiff": (Image.fromarray(GREY.astype(np.uint16) * 256 + 255 - GREY), {}, grey(GREY)),
    "grey_alpha.png": (Image.fromarray(with_alpha(GREY[..., None])), {}, grey(GREY)),
    "colour.png": (Image.fromarray(PIXELS), {}, colour(PIXELS)),
    "colour.bmp": (Image.fromarray(PIXELS), {}, colour(PIXELS)),
    "colour.webp": (Image.fromarray(PIXELS), {"lossless": True}, colour(PIXELS)),
    "colour_without_an_ending": (Image.fromarray(PIXELS), {"format": "PPM"}, colour(PIXELS)),
    "alpha.png": (Image.fromarray(with_alpha(PIXELS)), {}, colour(PIXELS)),
    "palette.png": (palette(), {}, colour(FEW_COLOURS)),
    "palette.gif": (palette(), {}, colour(FEW_COLOURS)),
    "palette_alpha.png": (palette(), {"transparency": bytes([0, 100, 200])}, colour(FEW_COLOURS)),
    "cmyk.tiff": (four_inks(with_alpha(PIXELS)), {}, colour(subtractive(with_alpha(PIXELS)))),
    "frames.gif": (palette(), {"save_all": True, "append_images": [Image.new("P", (6, 6))]}, colour(FEW_COLOURS)),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_mode_becomes_grey_or_colour(tmp_path, name: str):
    image, options, (as_grey, as_colour) = KINDS[name]
    image.save(tmp_path / name, **options)
    for channels, expected in ((1, as_grey[None]), (3, as_colour.transpose(2, 0, 1))):
        found = decode(str(tmp_path / name), channels, size=6)
        assert found.dtype == torch.uint8
        np.testing.assert_allclose(found.numpy().astype(float), expected, rtol=0, atol=1)


def test_cmyk_jpeg(tmp_path):
    cmyk = np.full((6, 6, 4), (200, 40, 90, 30), np.uint8)
    four_inks(cmyk).save(tmp_path / "image.jpg", quality=100)
    found = decode(str(tmp_path / "image.jpg"), 3, 6).permute(1, 2, 0).numpy().astype(float)
    np.testing.assert_allclose(found, subtractive(cmyk), rtol=0, atol=3)


def resized(pixels: np.ndarray, short: int) -> torch.Tensor:
    """The centre (3, short, short) of an image (h, w, 3), resampled by a triangle as wide as the scale asks for."""
    height, width = pixels.shape[:2]
    out = [max(short, int(short * side / min(height, width))) for side in (height, width)]

    def weights(before: int, after: int) -> np.ndarray:
        step = before / after
        distance = (np.arange(before) + 0.5)[None] - ((np.arange(after) + 0.5) * step)[:, None]
        triangle = np.clip(1 - np.abs(distance) / max(step, 1), 0, None)
        return triangle / triangle.sum(1, keepdims=True)

    whole = np.einsum("ih,jw,hwc->cij", weights(height, out[0]), weights(width, out[1]), pixels.astype(float))
    top, left = ((side - short) // 2 for side in out)
    return torch.from_numpy(whole[:, top : top + short, left : left + short])


@pytest.mark.parametrize("shape", [(40, 40), (37, 80), (90, 31), (16, 50), (5, 9), (16, 16), (1, 30)])
def test_shorter_side_is_resized_and_the_centre_cropped(tmp_path, shape: tuple[int, int]):
    pixels = np.random.default_rng(1).integers(256, size=(*shape, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    found = decode(str(tmp_path / "image.png"), 3, 16)
    assert found.shape == (3, 16, 16)
    torch.testing.assert_close(found.double(), resized(pixels, 16), rtol=0, atol=1.6)  # two roundings


def write(folder: Path, count: int) -> list[str]:
    paths = [str(folder / f"{number}.png") for number in range(count)]
    for number, path in enumerate(paths):
        Image.new("L", (4, 4), number).save(path)
    return paths


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_reading_and_streaming_keep_the_order(tmp_path, workers: int):
    files = ImageFiles(write(tmp_path, 70), 1, 4, workers)
    state = torch.get_rng_state()
    assert files.shape == (70, 1, 4, 4)
    assert files.read()[:, 0, 3, 3].tolist() == list(range(70))
    chosen = [torch.tensor(numbers) for numbers in ([5, 5], [69, 0, 3], [8], [2, 1], [7])]
    assert [batch[:, 0, 0, 0].tolist() for batch in files.stream(chosen)] == [numbers.tolist() for numbers in chosen]
    assert files[torch.tensor([60, 4])].read()[:, 0, 0, 0].tolist() == [60, 4]
    assert torch.equal(torch.get_rng_state(), state)
    assert not multiprocessing.active_children()


def truncated(path: Path) -> None:
    Image.fromarray(PIXELS.repeat(40, 0).repeat(40, 1)).save(path)
    path.write_bytes(path.read_bytes()[:-200])


DAMAGE: dict[str, Callable[[Path], object]] = {
    "text.png": lambda path: path.write_text("no image"),
    "empty.jpg": lambda path: path.touch(),
    "folder.png": lambda path: path.mkdir(),
    "gone.png": lambda path: None,
    "range.tiff": lambda path: Image.fromarray(PIXELS[..., 0].astype(np.float32)).save(path),
    "range.png": lambda path: Image.fromarray(PIXELS[..., 0].astype(np.int32)).save(path, format="TIFF"),
    "truncated.png": truncated,
    "truncated.jpg": truncated,
}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_file_is_named(tmp_path, name: str, workers: int):
    DAMAGE[name](tmp_path / name)
    files = ImageFiles([*write(tmp_path, 5), str(tmp_path / name)], 3, 4, workers)
    uses = [files.read, lambda: [*files.stream([torch.tensor([0, 1]), torch.tensor([2, 5])])]]
    for use in uses if name.startswith("truncated") else [*uses, files.check]:
        with pytest.raises(UserError, match=r"\)?: restore it, or take it out$") as error:
            use()
        assert str(error.value).startswith(f"{tmp_path / name} cannot be read as an image (")
        assert "\n" not in str(error.value)
    assert not multiprocessing.active_children()


def test_header_of_a_truncated_file_is_in_order(tmp_path):
    truncated(tmp_path / "truncated.jpg")
    ImageFiles([str(tmp_path / "truncated.jpg")], 3, 4, 0).check()


def test_workers_end_with_an_abandoned_stream(tmp_path):
    files = ImageFiles(write(tmp_path, 40), 1, 4, 1)
    stream = files.stream(torch.arange(40).split(2))
    next(stream)
    assert len(multiprocessing.active_children()) == 1
    stream.close()
    assert not multiprocessing.active_children()


def test_what_stops_the_group_of_a_run_leaves_the_workers_at_work(tmp_path):
    """A terminal's Ctrl-C and the end of `timeout` go to every process of a group."""
    stream = ImageFiles(write(tmp_path, 40), 1, 4, 1).stream(torch.arange(40).split(2))
    next(stream)
    (worker,) = multiprocessing.active_children()
    assert os.getpgid(worker.pid) != os.getpgrp()
    stream.close()
