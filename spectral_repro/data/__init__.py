"""Data sets as uint8 tensors, and batches of them."""

from spectral_repro.data.batches import Batches
from spectral_repro.data.cifar import cifar10, cifar100
from spectral_repro.data.downloaded import DownloadedDataset
from spectral_repro.data.fine_grained import aircraft, cars, cub, dogs
from spectral_repro.data.handwritten import digits
from spectral_repro.data.image_folder import image_folder
from spectral_repro.data.image_list import ImageListDataset
from spectral_repro.data.imagenet import imagenet
from spectral_repro.data.images import ImageData, Split
from spectral_repro.data.noise import random_images
from spectral_repro.data.svhn import svhn

__all__ = [
    "Batches",
    "DownloadedDataset",
    "ImageData",
    "ImageListDataset",
    "Split",
    "aircraft",
    "cars",
    "cifar10",
    "cifar100",
    "cub",
    "digits",
    "dogs",
    "image_folder",
    "imagenet",
    "random_images",
    "svhn",
]
