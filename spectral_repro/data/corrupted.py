"""Test images under the 19 corruptions of Hendrycks and Dietterich (2019) at 5 severities, published or generated."""

import hashlib
import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from spectral_repro.data.downloaded import Published, fetch
from spectral_repro.data.image_files import START_METHOD
from spectral_repro.data.images import Split
from spectral_repro.errors import UserError, first_line

CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    *("speckle_noise", "gaussian_blur", "spatter", "saturate"),
)
SEVERITIES = (1, 2, 3, 4, 5)
PUBLISHED = {  # of a data set: folder of the archive, record on Zenodo, md5 of the archive
    "cifar10": ("CIFAR-10-C", 2535967, "56bf5dcef84df0e2308c6dcbcbbd8499"),
    "cifar100": ("CIFAR-100-C", 3555552, "11f0ed0f1191edbf9fa23466ae6021d3"),
}
OWN_GENERATOR = ("impulse_noise", "glass_blur")  # take a seed; the others draw from NumPy's global generator
PACKAGE = "imagecorruptions-imaug"


@dataclass(frozen=True)
class CorruptedImages:
    """A folder of labels.npy (5 n,) and, of each corruption, NAME.npy (5 n, S, S, 3) uint8, by severity."""

    folder: Path

    def split(self, name: str, severity: int) -> Split:
        """The n images (n, 3, S, S) of one corruption at one severity; nothing else is read from the files.

        Raises:
            UserError: for a file that is missing, damaged, or of another form.
        """
        images, labels = self._read(name), self._labels()
        form = images.dtype == np.uint8 and images.ndim == 4 and images.shape[1] == images.shape[2] and images.shape[3] == 3
        if not form or len(images) % len(SEVERITIES) or labels.shape != images.shape[:1]:
            raise UserError(
                f"{self.folder / name}.npy is {images.shape} {images.dtype} for {len(labels)} labels, not (5 n, S, S, 3) uint8 "
                f"for 5 n: restore it, or move {self.folder} away"
            )
        count = len(images) // len(SEVERITIES)
        part = slice((severity - 1) * count, severity * count)
        return Split(torch.tensor(images[part]).permute(0, 3, 1, 2), torch.tensor(labels[part].astype(np.int64)))

    def _labels(self) -> np.ndarray:
        return self._read("labels")

    def _read(self, name: str) -> np.ndarray:
        path = self.folder / f"{name}.npy"
        try:
            return np.load(path, mmap_mode="r")
        except FileNotFoundError as error:
            raise UserError(f"{path} is missing: add the file, or move {self.folder} away to get all of them again") from error
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{path} is damaged ({first_line(error)}): restore it, or move {self.folder} away") from error


def published_corruptions(dataset: str, root: Path, download: bool) -> CorruptedImages:
    """CIFAR-10-C or CIFAR-100-C in ``root``; a missing folder is downloaded from Zenodo and checked by its md5.

    Raises:
        UserError: for another data set, a missing folder that may not be downloaded, and a download that fails.
    """
    if dataset not in PUBLISHED:
        raise UserError(
            f"corruptions.source=published: there are none of {dataset}, only of {' and '.join(PUBLISHED)}; "
            "corruptions.source=generated makes them from the test images"
        )
    name, record, md5 = PUBLISHED[dataset]
    url = f"https://zenodo.org/records/{record}/files/{name}.tar?download=1"
    fetch(root / name, Published(url, f"{name}.tar", md5), download, group="corruptions")
    return CorruptedImages(root / name)


def check_generator() -> None:
    """Checks that the package that generates corruptions is installed.

    Raises:
        UserError: if it is not.
    """
    try:
        import imagecorruptions  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"corruptions.source=generated: {PACKAGE} is not installed; pip install 'spectral-repro[robust]'"
        ) from error


@dataclass(frozen=True)
class GeneratedCorruptions(CorruptedImages):
    """Images generated from ``test`` by imagecorruptions with the strengths of ImageNet-C (those of CIFAR-10-C are milder), in
    the same files but without labels.npy: the labels are those of ``test``. Each corruption is generated when it is first
    needed; random choices depend only on (corruption, severity, image). Several processes may use one folder.

    Attributes:
        workers: processes that generate them; 0: this one.
    """

    test: Split
    workers: int

    def split(self, name: str, severity: int) -> Split:
        path = self.folder / f"{name}.npy"
        if not path.exists():
            try:
                self._make(path)
            except OSError as error:
                raise UserError(
                    f"corruptions.root={self.folder.parent}: {path} cannot be written ({error.strerror})"
                ) from error
        return super().split(name, severity)

    def _labels(self) -> np.ndarray:
        return np.tile(self.test.labels.numpy(), len(SEVERITIES))

    def _make(self, path: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        assert isinstance(self.test.images, Tensor)  # as `generated_corruptions` makes them
        images = self.test.images.permute(0, 2, 3, 1).numpy()
        temporary = path.with_name(f".{path.stem}-{os.getpid()}.npy")
        shape = (len(SEVERITIES) * len(images), *images.shape[1:])
        file = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        batches = DataLoader(
            _Corrupted(images, path.stem),
            250,
            num_workers=self.workers,
            collate_fn=np.stack,
            multiprocessing_context=START_METHOD if self.workers else None,
        )
        try:
            for first, batch in zip(range(0, len(file), 250), batches, strict=True):
                file[first : first + 250] = batch
            file.flush()
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def generated_corruptions(dataset: str, test: Split, root: Path, workers: int) -> GeneratedCorruptions:
    """Corruptions of these images (N, 3, S, S), stored in a folder of ``root`` named by the hash of the images.

    Raises:
        UserError: without the package, and for images that it does not support.
    """
    check_generator()
    images = test.images if isinstance(test.images, Tensor) else test.images.read()
    _, channels, height, width = images.shape
    if channels != 3 or height < 32 or width < 32:
        raise UserError(
            f"corruptions.source=generated: {PACKAGE} takes images of 3 channels and at least 32 x 32 pixels; "
            f"those of {dataset} have {channels} and {height} x {width}"
        )
    content = hashlib.sha256(version(PACKAGE).encode() + images.numpy().tobytes()).hexdigest()[:8]
    return GeneratedCorruptions(root / f"{dataset}-generated-{content}", Split(images, test.labels), workers)


class _Corrupted(Dataset):
    """All images (n, S, S, 3) at severity 1, then at 2, ..."""

    def __init__(self, images: np.ndarray, name: str):
        self.images, self.name = images, name

    def __len__(self) -> int:
        return len(SEVERITIES) * len(self.images)

    def __getitem__(self, number: int) -> np.ndarray:
        from imagecorruptions import corrupt

        severity, image = divmod(number, len(self.images))
        words = np.random.SeedSequence((CORRUPTIONS.index(self.name), severity, image)).generate_state(2)
        np.random.seed(words)
        seed = {"seed": int(words[0])} if self.name in OWN_GENERATOR else {}
        try:
            with np.errstate(invalid="raise"):
                return corrupt(self.images[image], severity + 1, self.name, **seed)
        except FloatingPointError:  # of 32 x 32 pixels 1 in 100 gets no drop of spatter: 0 / 0 there, and all black
            return self.images[image]
