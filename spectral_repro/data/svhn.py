"""The cropped digits of SVHN (Netzer et al., 2011) from its published files."""

from pathlib import Path

import numpy as np
import torch

from spectral_repro.data.downloaded import DownloadedDataset, Published
from spectral_repro.data.images import ImageData, Split


def svhn(
    root: str,
    extra: bool = False,
    download: bool = True,
    check_integrity: bool = True,
    train_images: int | None = None,
    test_images: int | None = None,
) -> ImageData:
    """73,257 training and 26,032 test images (3, 32, 32) of the digits 0..9 from ``root``/{train,test}_32x32.mat.

    Args:
        root: folder that holds, or is to hold, the published files.
        extra: train on the 531,131 images of extra_32x32.mat as well, 604,388 in all.
        download: download missing files. An existing file is never changed.
        check_integrity: raise an error for files whose md5 differs from the published one. False: read them, with a note.
        train_images, test_images: size of a fixed random subset; None: all.

    Returns:
        Training and test split.

    Raises:
        UserError: in one line, for data that are missing, cannot be fetched or read, differ from the original or are damaged.

    Example:
        >>> data = svhn("FOLDER", train_images=1000)  # doctest: +SKIP
    """
    return _SVHN(root, extra).load(download, check_integrity, train_images, test_images)


class _SVHN(DownloadedDataset):
    """Matlab files: X (32, 32, 3, n) uint8, and y (n, 1), the digits 1..9 and 10 for 0."""

    def __init__(self, root: str, extra: bool):
        from torchvision.datasets import SVHN

        place, sources, checksums = Path(root).expanduser(), {}, {}
        for part in ("train", "extra", "test") if extra else ("train", "test"):
            url, name, md5 = SVHN.split_list[part]
            sources[name], checksums[part] = Published(url, name, md5, is_archive=False), {name: md5}
        super().__init__(
            name="svhn",
            root=place,
            folder=place,
            sources=sources,
            train_files=checksums["train"] | checksums.get("extra", {}),
            test_files=checksums["test"],
            sizes=(73_257 + 531_131 * extra, 26_032),
        )

    def class_names(self) -> tuple[str, ...]:
        return tuple("0123456789")

    def read(self, path: Path) -> Split:
        from scipy.io import loadmat

        with path.open("rb") as file:
            try:
                content = loadmat(file, variable_names=["X", "y"])
                images, digits = content["X"], content["y"]
            except Exception as error:  # a damaged file may raise anything
                raise ValueError(repr(error)) from error
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[:3] != (32, 32, 3) or not images.size:
            raise ValueError(f"its X is {images.shape} {images.dtype}, not (32, 32, 3, n) uint8")
        if digits.shape != (images.shape[3], 1):
            raise ValueError(f"its y is {digits.shape} for {images.shape[3]} images")
        if not np.isin(digits, range(1, 11)).all():
            raise ValueError(f"its y is {digits.min()}..{digits.max()}, not the whole numbers 1..10")
        labels = torch.from_numpy(digits[:, 0].astype(np.int64)) % 10
        return Split(torch.from_numpy(images.transpose(3, 2, 0, 1)).contiguous(), labels)
