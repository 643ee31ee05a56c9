"""What every value of a configuration may be."""

from collections.abc import Callable
from dataclasses import dataclass

from omegaconf import DictConfig

from spectral_repro.configuration.groups import options
from spectral_repro.configuration.identity import flatten, within
from spectral_repro.errors import UserError
from spectral_repro.parts import part


@dataclass(frozen=True)
class Rule:
    allowed: str
    holds: Callable[[object], bool]

    def check(self, key: str, value: object) -> None:
        """
        Raises:
            UserError: for a value that breaks the rule, with what is allowed.
        """
        if not self.holds(value):
            raise UserError(f"{key}={'null' if value is None else value}: must be {self.allowed}")

    def or_null(self) -> "Rule":
        return Rule(f"{self.allowed}, or null", lambda value: value is None or self.holds(value))


def whole(least: int, below: float = float("inf")) -> Rule:
    high = f" and < {below}" if below < float("inf") else ""
    return Rule(
        f"a whole number >= {least}{high}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value < below,
    )


def number(
    above: float | None = None, least: float | None = None, below: float = float("inf"), most: float = float("inf")
) -> Rule:
    low = f"> {above:g}" if above is not None else f">= {least:g}"
    high = f" and < {below:g}" if below < float("inf") else f" and <= {most:g}" if most < float("inf") else ""

    def holds(value: object) -> bool:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return (value > above if above is not None else value >= least) and value < below and value <= most

    return Rule(f"a number {low}{high}", holds)


def one_of(*options: str) -> Rule:
    return Rule(", ".join(options[:-1]) + f" or {options[-1]}", lambda value: value in options)


def list_of(rule: Rule, length: int | None = None) -> Rule:
    def holds(value: object) -> bool:
        return isinstance(value, list) and all(map(rule.holds, value)) and length in (None, len(value))

    return Rule(f"a list{f' of {length}' if length else ''}, each {rule.allowed}", holds)


def _is_part(value: object) -> bool:
    try:
        part(value)
    except ValueError:
        return False
    return not isinstance(value, bool)


def _is_device(value: object) -> bool:
    if value in ("auto", "cpu"):
        return True
    name, _, index = str(value).partition(":")
    if name != "cuda" or not (index or "0").isdigit():
        return False
    import torch

    return int(index or 0) < torch.cuda.device_count()


SWITCH = Rule("true or false", lambda value: isinstance(value, bool))
TEXT = Rule("a text", lambda value: isinstance(value, str) and value != "")
PROJECT = Rule(
    r"a text of at most 128 characters, none of them / \ # ? % :",
    lambda value: TEXT.holds(value) and len(value) <= 128 and not set(value) & set(r"/\#?%:"),
)
PART = Rule("a part of the training in [0, 1], a number or a fraction such as 100/350", _is_part)
POSITIVE_PART = Rule(PART.allowed.replace("[0", "(0"), lambda value: _is_part(value) and part(value) > 0)
RESIZE = Rule(
    "a whole number >= 1, or a list of 2 of them",
    lambda value: whole(1).holds(value) or list_of(whole(1), length=2).holds(value),
)
START = Rule(
    "a list of 2 numbers, the first >= 0 and the second > 0",
    lambda value: list_of(number(least=0), 2).holds(value) and value[1] > 0,
)
WIDTHS = Rule(
    "a list of at least 2 whole numbers >= 1, ascending",
    lambda value: list_of(whole(1)).holds(value) and len(value) >= 2 and value == sorted(set(value)),
)
DEVICE = Rule("auto, cpu, or a CUDA device that this machine has (cuda, cuda:0, ...)", _is_device)

BACKWARD = {
    "iterations": whole(1),
    "limit": number(above=0),
    "n": whole(1),
    "degree": whole(1),
    "digits": whole(1),
    "forward": one_of("eigh", "mpa", "mtp", "newton_schulz"),
    "order": whole(1).or_null(),
    "switch": number(least=0, most=1),
}
BACKWARDS = [f"{user}backward{turn}" for user in ("", "norm.", "pooling.") for turn in ("", ".first", ".second")]

PUBLISHED_NETWORKS = (
    *("alexnet", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d"),
    *("vgg16", "vgg16_bn", "vgg19", "vgg19_bn"),
)

INIT = {
    "checkpoint": Rule("a file such as results/runs/RUN/checkpoints/best.pt", TEXT.holds),
    "network": one_of(*PUBLISHED_NETWORKS),
    "weights": TEXT,
    "images": whole(1),
    "layers": one_of("conv", "linear", "all"),
}
INITS = ("init", "study.init")

RULES = {
    **{f"{backward}.{key}": rule for backward in BACKWARDS for key, rule in BACKWARD.items()},
    "seed": whole(0, below=2**32),
    "device": DEVICE,
    "precision": one_of("float32", "bfloat16", "float16"),
    "results_dir": TEXT,
    "force": SWITCH,
    "scale.name": one_of(*options("scale")),
    "model.num_classes": whole(1),
    "model.in_channels": whole(1),
    "model.width": whole(1),
    "model.stem_channels": whole(1),
    "model.norm_placement": one_of("stem", "all"),
    "model.depth": whole(2),
    "model.image_size": whole(1),
    "model.num_layers": whole(0),
    "model.level": whole(2, below=4),
    "model.extra_norm": SWITCH,
    "model.dropout": number(least=0, below=1),
    "model.shortcut": one_of("conv", "pool"),
    "model.gain": number(above=0).or_null(),
    "model.hidden_norm": SWITCH,
    "norm.group_size": whole(1).or_null(),
    "norm.eps": number(above=0),
    "norm.momentum": number(above=0, most=1),
    "norm.affine": SWITCH,
    "norm.weight_init": one_of("ones", "uniform"),
    "norm.truncation": one_of("none", "reference", "reference_svd"),
    "norm.decomposition": one_of("float64", "float32"),
    "norm.components": whole(1).or_null(),
    "norm.information": number(above=0, most=1).or_null(),
    "pooling.channels": whole(1).or_null(),
    "pooling.decomposition": one_of("float64", "float32"),
    "pooling.out_features": whole(1),
    "conv.rank": whole(1).or_null(),
    "conv.scale": number(above=0, most=1).or_null(),
    "conv.keep_first": SWITCH,
    "conv.train_terms": whole(1),
    "conv.eval_terms": whole(1),
    "constraint.clip_to": number(above=0),
    "constraint.every": whole(1),
    "constraint.rounds": whole(1),
    "constraint.tolerance": number(least=0),
    "constraint.iterations": whole(1),
    "constraint.linear_to": number(above=0).or_null(),
    "constraint.batch_norm_to": number(above=0).or_null(),
    "constraint.batch_norm_every": whole(1),
    "penalty.orthogonal_k": number(least=0),
    "spectra.iterations": whole(1),
    "gap.batches": whole(1).or_null(),
    "dataset.name": TEXT,
    "dataset.num_classes": whole(1),
    "dataset.channels": whole(1),
    "dataset.image_size": whole(1),
    "dataset.resize": RESIZE,
    "dataset.crop": one_of("centre", "random", "random_resized"),
    "dataset.views": one_of("plain", "mirrored", "ten_crop"),
    "dataset.mean": list_of(number(least=0, most=1)),
    "dataset.std": list_of(number(above=0)),
    "dataset.crop_padding": whole(0),
    "dataset.crop_fill": one_of("black", "reflect", "symmetric"),
    "dataset.flip": SWITCH,
    "dataset.batch_size": whole(1),
    "dataset.epochs": whole(1),
    "dataset.train_images": whole(1).or_null(),
    "dataset.test_images": whole(1).or_null(),
    "dataset.root": TEXT,
    "dataset.download": SWITCH,
    "dataset.check_integrity": SWITCH,
    "dataset.extra": SWITCH,
    "dataset.memory_limit_gib": number(least=0),
    "dataset.workers": whole(0),
    "optimizer.lr": number(above=0),
    "optimizer.momentum": number(least=0, below=1),
    "optimizer.weight_decay": number(least=0),
    "optimizer.eps": number(above=0),
    "optimizer.amsgrad": SWITCH,
    "optimizer.nesterov": SWITCH,
    "optimizer.betas": list_of(number(least=0, below=1), length=2),
    "optimizer.lrg": number(above=0),
    "optimizer.omega": number(least=0),
    "optimizer.grad_clip": number(above=0).or_null(),
    "optimizer.bn_decay": number(least=0),
    "optimizer.beta2": number(least=0, below=1),
    "optimizer.reset_on_lr_change": SWITCH,
    "gradient.max_norm": number(above=0),
    **{f"{init}.{key}": rule for init in INITS for key, rule in INIT.items()},
    "finetune.classifier_factor": number(above=0),
    "finetune.frozen": list_of(TEXT),
    "schedule.every": POSITIVE_PART,
    "schedule.factor": number(above=0),
    "schedule.milestones": list_of(PART),
    "schedule.warmup": PART,
    "schedule.final": number(least=0),
    "schedule.cycles": whole(1),
    "schedule.peak": POSITIVE_PART,
    "schedule.lowest": number(least=0, most=1),
    "study.width": whole(1),
    "study.depth": whole(2),
    "study.widths": WIDTHS,
    "study.samples": whole(2),
    "study.batch_norm": SWITCH,
    "study.activation": one_of("identity", "sigmoid", "relu", "tanh", "sin"),
    "study.start": START.or_null(),
    "study.layers": whole(1),
    "study.reference_layers": whole(1).or_null(),
    "study.repeats": whole(1),
    "study.batches": whole(1),
    "study.convolutional": SWITCH,
    "trainer.epochs": whole(1),
    "trainer.channels_last": SWITCH,
    "trainer.compile": SWITCH,
    "trainer.threads": whole(1).or_null(),
    "trainer.log_every": whole(1),
    "trainer.checkpoint_every": whole(1).or_null(),
    "logger.wandb.project": PROJECT,
    "logger.wandb.entity": TEXT.or_null(),
    "logger.wandb.group": TEXT.or_null(),
    "logger.wandb.mode": one_of("online", "offline", "disabled"),
}

OF_THE_DATA_SET = {
    "model.num_classes": "dataset.num_classes",
    "model.in_channels": "dataset.channels",
    "model.image_size": "dataset.image_size",
}

NEEDED = ("model", "dataset", "optimizer", "schedule", "trainer", "scale")

OBJECTS = (
    *BACKWARDS,
    "model",
    "norm",
    "pooling",
    "conv",
    "conv.layer",
    "constraint",
    "penalty",
    "spectra",
    *INITS,
    "optimizer",
    "schedule",
    "study",
    "dataset.load",
    "logger.tensorboard",
    "logger.wandb",
)


def check(config: DictConfig) -> None:
    """Holds every value against its rule.

    Raises:
        UserError: for the first key that is unknown or value that breaks its rule, with what is allowed.
    """
    for group in NEEDED:
        if not config.get(group):
            raise UserError(f"{group}=null: every run needs one of {', '.join(options(group))}")
    values = flatten(config)
    for key, value in values.items():
        parent, _, name = key.rpartition(".")
        if within(key, ("paper", "dataset.load")) or (parent in OBJECTS and name in ("_target_", "_partial_")):
            continue
        if key not in RULES:
            beside = sorted(known for known in values if known in RULES and known.rpartition(".")[0] == parent)
            raise UserError(f"{key}: no such key; allowed here: {', '.join(beside)}")
        RULES[key].check(key, value)
    for key in ("dataset.mean", "dataset.std"):
        if len(values[key]) != values["dataset.channels"]:
            raise UserError(f"{key}={values[key]}: must be a list of dataset.channels={values['dataset.channels']} numbers")
    for key, source in OF_THE_DATA_SET.items():
        if values.get(key, values[source]) != values[source]:
            raise UserError(f"{key}={values[key]}: must be {source}={values[source]}")
