"""Decoding of single files, and streams of them."""

import multiprocessing
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

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


ALPHA = PIXELS[..., :1]


def with_alpha(pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([pixels, ALPHA], -1)


def on_white(pixels: np.ndarray, alpha: np.ndarray = ALPHA) -> np.ndarray:
    """Pixels (6, 6, C) over white."""
    return 255 - (255.0 - pixels) * alpha / 255


def four_inks(values: np.ndarray) -> Image.Image:
    return Image.merge("CMYK", [Image.fromarray(np.ascontiguousarray(ink)) for ink in np.moveaxis(values, -1, 0)])


def subtractive(cmyk: np.ndarray) -> np.ndarray:
    return (255.0 - cmyk[..., :3]) * (255.0 - cmyk[..., 3:]) / 255


def alpha_of_palette(alphas: list[int]) -> np.ndarray:
    return np.array([*alphas, *[255] * 253])[np.asarray(palette())][..., None]


def tiff(values: np.ndarray, bits: int, photometric: int = 1) -> bytes:
    """A file of one grey image with 12 or 16 bits, which Pillow does not write in every form."""
    rows = ["".join(f"{value:012b}" for value in row) for row in values.tolist()]
    packed = b"".join(int(row, 2).to_bytes(len(row) // 8, "big") for row in rows) if bits == 12 else b""
    pixels = packed or values.astype("<u2").tobytes()
    height, width = values.shape
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height, 279: len(pixels)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<2sHI", b"II", 42, 8 + len(pixels)) + pixels + struct.pack("<H", len(tags)) + entries + bytes(4)


SIXTEEN = GREY.astype(np.uint16) * 256 + 255 - GREY
RED = np.array([255, 0, 0])
KINDS = {
    "grey.png": (Image.fromarray(GREY), {}, grey(GREY)),
    "grey.tiff": (Image.fromarray(GREY), {}, grey(GREY)),
    "one_bit.png": (Image.fromarray(GREY > 127), {}, grey((GREY > 127) * 255)),
    "sixteen_bits.png": (Image.fromarray(SIXTEEN), {}, grey(GREY)),
    "sixteen_bits.tiff": (Image.fromarray(SIXTEEN), {}, grey(GREY)),
    "sixteen_bits_transparent.png": (
        *(Image.fromarray(SIXTEEN), {"transparency": int(SIXTEEN[0, 0])}),
        grey(np.where(SIXTEEN[0, 0] == SIXTEEN, 255, GREY)),
    ),
    "one_grey_transparent.png": (
        *(Image.fromarray(GREY), {"transparency": int(GREY[1, 1])}),
        grey(np.where(GREY[1, 1] == GREY, 255, GREY)),
    ),
    "red_transparent.png": (
        *(Image.fromarray(FEW_COLOURS), {"transparency": tuple(RED.tolist())}),
        colour(np.where((FEW_COLOURS == RED).all(-1, keepdims=True), 255, FEW_COLOURS)),
    ),
    "grey_alpha.png": (Image.fromarray(with_alpha(GREY[..., None])), {}, grey(on_white(GREY[..., None])[..., 0])),
    "colour.png": (Image.fromarray(PIXELS), {}, colour(PIXELS)),
    "colour.bmp": (Image.fromarray(PIXELS), {}, colour(PIXELS)),
    "colour.webp": (Image.fromarray(PIXELS), {"lossless": True}, colour(PIXELS)),
    "colour_without_an_ending": (Image.fromarray(PIXELS), {"format": "PPM"}, colour(PIXELS)),
    "alpha.png": (Image.fromarray(with_alpha(PIXELS)), {}, colour(on_white(PIXELS))),
    "palette.png": (palette(), {}, colour(FEW_COLOURS)),
    "palette.gif": (palette(), {}, colour(FEW_COLOURS)),
    "palette_alpha.png": (
        *(palette(), {"transparency": bytes([0, 100, 200])}),
        colour(on_white(FEW_COLOURS, alpha_of_palette([0, 100, 200]))),
    ),
    "palette_alpha.gif": (
        *(palette(), {"transparency": 1}),
        colour(on_white(FEW_COLOURS, alpha_of_palette([255, 0, 255]))),
    ),
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


@pytest.mark.parametrize(
    ("content", "values"),
    [
        (tiff(SIXTEEN, 16), GREY),
        (tiff(SIXTEEN, 16, photometric=0), 255 - GREY),
        (tiff(SIXTEEN >> 4, 12), GREY),
        (b"P5 6 6 65535\n" + SIXTEEN.astype(">u2").tobytes(), GREY),
        (b"P5 6 6 4095\n" + (SIXTEEN >> 4).astype(">u2").tobytes(), GREY),
        (b"P5 6 6 15\n" + (GREY >> 4).tobytes(), (GREY >> 4) * 17),
        (b"P1 6 6\n" + " ".join(map(str, (GREY < 128).ravel().astype(int))).encode(), (GREY > 127) * 255),
    ],
    ids=["TIFF", "TIFF, white is zero", "TIFF of 12 bits", "PGM", "PGM of 12 bits", "PGM of 4 bits", "PBM"],
)
def test_every_depth_has_the_same_white(tmp_path, content: bytes, values: np.ndarray):
    (tmp_path / "image").write_bytes(content)
    found = decode(str(tmp_path / "image"), 1, size=6)[0].numpy().astype(int)
    np.testing.assert_allclose(found, values, rtol=0, atol=1)


STORED = {  # by the orientation tag: what a camera wrote of an upright image
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, 1),
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: lambda image: np.rot90(image, -1),
}


@pytest.mark.parametrize("ending", ["png", "tiff", "webp"])
def test_orientation_tags_are_applied(tmp_path, ending: str):
    upright = np.random.default_rng(1).integers(256, size=(6, 8, 3), dtype=np.uint8)
    for orientation, stored in STORED.items():
        exif, path = Image.Exif(), tmp_path / f"{orientation}.{ending}"
        exif[ExifTags.Base.Orientation] = orientation
        options = {"lossless": True} if ending == "webp" else {}
        Image.fromarray(np.ascontiguousarray(stored(upright))).save(path, exif=exif, **options)
        found = decode(str(path), 3, 6).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(found, upright[:, 1:7])


def test_a_damaged_tag_turns_nothing(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "image.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"no tags")
    found = decode(str(tmp_path / "image.png"), 3, 6).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found, PIXELS)


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
        with pytest.raises(UserError, match=r"\)?: restore it, or remove it$") as error:
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


def test_workers_of_a_reader_serve_one_stream_after_the_other(tmp_path):
    reader = ImageFiles(write(tmp_path, 40), 1, 4, 1).reader()
    batches = torch.arange(40).split(2)

    def values(stream) -> list[list[int]]:
        return [batch[:, 0, 0, 0].tolist() for batch in stream]

    expected = [batch.tolist() for batch in batches]
    assert values(reader.stream(batches)) == expected
    (worker,) = multiprocessing.active_children()
    abandoned = reader.stream(batches)
    next(abandoned)
    abandoned.close()
    assert values(reader.stream(batches[5:])) == expected[5:]
    assert [each.pid for each in multiprocessing.active_children()] == [worker.pid]
    first, second = reader.stream(batches), reader.stream(batches)  # at the same time
    assert [value for pair in zip(values(first), values(second), strict=True) for value in pair] == [
        value for value in expected for _ in range(2)
    ]
    del reader, first, second, abandoned
    assert not multiprocessing.active_children()


def test_signals_to_the_process_group_do_not_stop_workers(tmp_path):
    """A terminal's Ctrl-C and the end of `timeout` go to every process of a group."""
    stream = ImageFiles(write(tmp_path, 40), 1, 4, 1).stream(torch.arange(40).split(2))
    next(stream)
    (worker,) = multiprocessing.active_children()
    assert os.getpgid(worker.pid) != os.getpgrp()
    stream.close()
