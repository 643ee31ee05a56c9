"""Rules for the values of a configuration."""

from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from spectral_repro.configuration.arguments import check_arguments
from spectral_repro.configuration.groups import options
from spectral_repro.configuration.identity import flatten, within
from spectral_repro.configuration.settings import SETTINGS
from spectral_repro.configuration.values import DEVICE, SWITCH, TEXT, THREADS, WORKERS, any_of, list_of, number, one_of, whole
from spectral_repro.errors import UserError, first_line

WITH_CUDA_GRAPHS = ("reduce-overhead", "max-autotune")  # modes of torch.compile
RULES = {
    "seed": SETTINGS["seed"],
    "device": DEVICE,
    "precision": any_of(SETTINGS["precision"], one_of("auto")),
    "results_dir": TEXT,
    "force": SWITCH,
    "output_gap.batches": whole(1).or_null(),
    "dataset.name": TEXT,
    "dataset.num_classes": whole(1).or_null(),
    "dataset.channels": whole(1),
    "dataset.image_size": whole(1),
    "dataset.resize": any_of(whole(1), list_of(whole(1), length=2)),
    "dataset.crop": one_of("centre", "random", "random_resized"),
    "dataset.views": one_of("plain", "mirrored", "ten_crop"),
    "dataset.mean": list_of(number(least=0, most=1)),
    "dataset.std": list_of(number(above=0)),
    "dataset.crop_padding": whole(0),
    "dataset.crop_fill": one_of("black", "reflect", "symmetric"),
    "dataset.flip": any_of(SWITCH, one_of("alternating")),
    "dataset.batch_size": SETTINGS["batch_size"],
    "dataset.drop_last": SWITCH,
    "dataset.epochs": whole(1),
    "dataset.train_images": whole(1).or_null(),
    "dataset.test_images": whole(1).or_null(),
    "dataset.validation_images": whole(1).or_null(),
    "dataset.validation_fraction": number(above=0, below=1).or_null(),
    "dataset.test_fraction": number(above=0, below=1),
    "dataset.split_seed": whole(0),
    "dataset.root": TEXT,
    "dataset.content": TEXT.or_null(),
    "dataset.download": SWITCH,
    "dataset.check_integrity": SWITCH,
    "dataset.extra": SWITCH,
    "dataset.memory_limit_gib": number(least=0),
    "dataset.workers": WORKERS,
    **{f"loss.{key}": SETTINGS[key] for key in ("label_smoothing", "reduction")},
    "param_groups.norms.lr": number(above=0),
    "param_groups.norms.weight_decay": number(least=0),
    "param_groups.biases.lr": number(above=0),
    "param_groups.biases.weight_decay": number(least=0),
    "gradient_clipping.max_norm": SETTINGS["max_norm"],
    "finetune.classifier_factor": number(above=0),
    "finetune.frozen": list_of(TEXT),
    **{f"trainer.{key}": SETTINGS[key] for key in ("epochs", "accumulate", "ema_decay", "evaluate_every")},
    **{f"trainer.{key}": SETTINGS[key] for key in ("recalibrate_batches", "log_every", "checkpoint_every")},
    "trainer.channels_last": SWITCH,
    "trainer.compile": any_of(SWITCH, one_of(*WITH_CUDA_GRAPHS, "max-autotune-no-cudagraphs")),
    "trainer.autotune": SWITCH,
    "trainer.matmul_precision": one_of("highest", "high", "medium"),
    "trainer.cudnn_benchmark": SWITCH,
    "trainer.mixup": number(least=0),
    "trainer.cutmix": number(least=0),
    "trainer.extend": TEXT.or_null(),
    "trainer.threads": THREADS.or_null(),
}

OF_THE_DATA_SET = {
    "model.num_classes": "dataset.num_classes",
    "model.in_channels": "dataset.channels",
    "model.image_size": "dataset.image_size",
}

OF_A_GROUP = {  # a key of every option of a group; other keys may also be set elsewhere, such as by scale
    **dict.fromkeys(("model", "optimizer", "schedule"), "_target_"),
    "dataset": "load",
    "trainer": "log_every",
    "scale": "name",
}
NEEDED = (
    *("seed", "device", "precision", "results_dir", "force"),
    *(f"dataset.{key}" for key in ("name", "num_classes", "channels", "image_size", "mean", "std", "flip", "batch_size")),
    *(f"trainer.{key}" for key in ("epochs", "channels_last", "compile", "threads", "checkpoint_every", "recalibrate_batches")),
    *(f"trainer.{key}" for key in ("autotune", "matmul_precision", "cudnn_benchmark")),
)


def check(config: DictConfig) -> None:
    """Checks every key and value by its rule, or by the signature of the class or function that it is an argument of.

    Raises:
        UserError: for the first unknown key or invalid value, with the allowed ones.
    """
    for group, key in OF_A_GROUP.items():
        if not config.get(group) or key not in config[group]:
            raise UserError(f"{group}=null: every run needs one of {', '.join(options(group))}")
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True)
        plain.pop("paper", None)
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key or 'configuration'}: {first_line(error)}") from error
    values = flatten(plain)
    if missing := [key for key in NEEDED if key not in values]:
        raise UserError(f"{', '.join(missing)}: missing; every run needs {'it' if len(missing) == 1 else 'them'}")
    of_objects = tuple(key.removesuffix("._target_") for key in values if key.endswith("._target_"))
    rules = RULES | {"scale.name": one_of(*options("scale"))}
    for key, value in values.items():
        if within(key, of_objects) or value == {}:
            continue
        if key not in rules:
            parent = key.rpartition(".")[0]
            beside = sorted(known for known in values if known in rules and known.rpartition(".")[0] == parent)
            raise UserError(f"{key}: no such key; allowed here: {', '.join(beside)}")
        rules[key].check(key, value)
    if values["dataset.num_classes"] is None:  # counted when the data set is read
        plain["model"].pop("num_classes", None)
    check_arguments(plain)
    for key in ("dataset.mean", "dataset.std"):
        if len(values[key]) != values["dataset.channels"]:
            raise UserError(f"{key}={values[key]}: must be a list of dataset.channels={values['dataset.channels']} numbers")
    sizes = {key: values.get(key) for key in ("dataset.validation_images", "dataset.validation_fraction")}
    if None not in sizes.values():
        raise UserError(f"{', '.join(f'{key}={value}' for key, value in sizes.items())}: give one of the two")
    if values["trainer.compile"] in WITH_CUDA_GRAPHS and values.get("trainer.accumulate", 1) > 1:
        raise UserError(
            f"trainer.compile={values['trainer.compile']}, trainer.accumulate={values['trainer.accumulate']}: with CUDA graphs "
            "each part of a batch overwrites the gradients of the one before; take trainer.compile=true or trainer.accumulate=1"
        )
    for key, source in OF_THE_DATA_SET.items():
        if values.get(key, values[source]) != values[source]:
            raise UserError(f"{key}={values[key]}: must be {source}={values[source]}")
