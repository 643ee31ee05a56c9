"""Networks, each taking its layers as factories."""

from spectral_repro.models.resnet import ResNet, resnet18, resnet34

__all__ = ["ResNet", "resnet18", "resnet34"]
