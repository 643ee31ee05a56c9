"""Networks, each taking its layers as factories."""

from spectral_repro.models.alexnet import AlexNet, alexnet, alexnet_small
from spectral_repro.models.lipconvnet import LipConvnet, lipconvnet5, lipconvnet20, lipconvnet30
from spectral_repro.models.resnet import (
    ResNet,
    resnet18,
    resnet34,
    resnet50,
    resnet50_large,
    resnet101,
    resnet101_large,
    resnet152,
    resnext50_32x4d,
    resnext101_32x8d,
)
from spectral_repro.models.vgg import VGG, vgg16, vgg19

__all__ = [
    "VGG",
    "AlexNet",
    "LipConvnet",
    "ResNet",
    "alexnet",
    "alexnet_small",
    "lipconvnet5",
    "lipconvnet20",
    "lipconvnet30",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet50_large",
    "resnet101",
    "resnet101_large",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "vgg16",
    "vgg19",
]
