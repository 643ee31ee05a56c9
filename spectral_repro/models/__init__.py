"""Networks; their norm and pooling layers are arguments (factories)."""

from spectral_repro.models.airbench import AirBench
from spectral_repro.models.alexnet import AlexNet, alexnet, alexnet_small
from spectral_repro.models.blocks import ImageClassifier
from spectral_repro.models.deep_alexnet import DeepAlexNet
from spectral_repro.models.init import FirstImages, Initialisation
from spectral_repro.models.lipconvnet import LipConvnet, lipconvnet5, lipconvnet20, lipconvnet30
from spectral_repro.models.mlp import MLP
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
from spectral_repro.models.vgg import VGG, vgg13_small, vgg16, vgg19, vgg19_small
from spectral_repro.models.wide_resnet import WideResNet, wrn16_4, wrn16_10, wrn22_8, wrn28_10, wrn40_10

__all__ = [
    "MLP",
    "VGG",
    "AirBench",
    "AlexNet",
    "DeepAlexNet",
    "FirstImages",
    "ImageClassifier",
    "Initialisation",
    "LipConvnet",
    "ResNet",
    "WideResNet",
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
    "vgg13_small",
    "vgg16",
    "vgg19",
    "vgg19_small",
    "wrn16_4",
    "wrn16_10",
    "wrn22_8",
    "wrn28_10",
    "wrn40_10",
]
