"""Everything in conf/ composes and can be built."""

import re
from functools import cache

import pytest
import torch
from omegaconf import DictConfig, OmegaConf, open_dict

from spectral_repro.configuration.compose import compose
from spectral_repro.configuration.folders import CONF, parse_value, read_yaml
from spectral_repro.configuration.groups import options
from spectral_repro.configuration.identity import digest, identity
from spectral_repro.configuration.rules import check
from spectral_repro.configuration.sources import FolderSource
from spectral_repro.errors import UserError
from spectral_repro.training.build import build_model, build_optimizer, build_schedule

# of the large photographs one experiment of each kind: the others differ in their gradient alone, and tests of the papers'
# tables check the configuration of every experiment
PHOTOGRAPHS = [
    "imagenet_alexnet_taylor_hybrid",
    "imagenet_resnet50_average",
    "imagenet_resnet101_isqrt_cov",
    "birds_topn",
    "dogs_seb",
    "cars_newton_schulz",
    "aircraft_pade",
]
ON_SMALL_IMAGES = [name for name in options("experiment") if not re.match(r"song2021/(?!cifar10)", name)]
# and one of those whose names differ in numbers alone, as resnet18_zca_d4 and resnet18_zca_d64
KINDS = {re.sub(r"[\d.]+", "", name): name for name in ON_SMALL_IMAGES}


@pytest.mark.parametrize("paper", sorted({name.partition("/")[0] for name in ON_SMALL_IMAGES}))
def test_every_kind_of_experiment_builds(paper: str, composed, subtests):
    for experiment in [*KINDS.values(), *(f"song2021/{name}" for name in PHOTOGRAPHS)]:
        if experiment.startswith(f"{paper}/"):
            with subtests.test(experiment=experiment):
                config = composed(f"experiment={experiment}")
                config.model.width = 64 if paper == "common_ground" else 4  # whose groups of channels are to fit
                with open_dict(config):
                    config.pop("init", None)
                assert_builds(config)


@pytest.mark.parametrize("scale", options("scale"))
def test_every_scale_builds(scale: str):
    config = compose(["experiment=wang2019/resnet18_zca_d16", f"scale={scale}"])
    check(config)
    assert_builds(config)


def assert_builds(config: DictConfig) -> None:
    model = build_model(config)
    build_optimizer(config, model)
    build_schedule(config)
    size = config.dataset.image_size
    with torch.no_grad():
        logits = model(torch.rand(2, config.dataset.channels, size, size))
    assert logits.shape == (2, config.dataset.num_classes)


@pytest.mark.parametrize("group", ["model", "norm", "pooling", "conv", "backward", "dataset", "optimizer", "schedule", "init"])
def test_every_option_builds_and_every_key_of_it_has_a_rule(group: str, subtests):
    for option in options(group):
        if option in ("checkpoint", "pretrained"):  # which need to be told what
            continue
        with subtests.test(option=option):
            config = compose([*(["norm=zca"] if group == "backward" else []), f"{group}={option}", "scale=smoke"])
            check(config)
            config.dataset.num_classes = config.dataset.num_classes or 3  # of a folder of images, which are counted there
            build_optimizer(config, build_model(config))
            build_schedule(config)


# of a network that has one
POOLING = [name for name in options("protocol") if not re.search("lipconvnet|figure[34]", name)]


def test_every_protocol_builds_under_another_pooling(subtests):
    for protocol in POOLING:
        with subtests.test(protocol=protocol):
            config = compose([f"+protocol={protocol}", "pooling=seb", "model.width=4", "~init"])
            check(config)
            assert config.pooling._target_.endswith("ScalingEigenBranch")
            build_optimizer(config, build_model(config))
            build_schedule(config)


@cache
def alone(backward: str) -> DictConfig:
    return compose([f"backward={backward}"]).backward


def test_any_backward_in_any_norm(subtests):
    pairs = [(norm, "taylor") for norm in options("norm") if norm != "batch"]
    pairs += [("zca_pi", backward) for backward in options("backward") if backward != "taylor"]
    for norm, backward in pairs:
        with subtests.test(norm=norm, backward=backward):
            config = compose([f"norm={norm}", f"backward={backward}"])
            assert config.norm.backward == config.backward
            assert config.backward == alone(backward)


# of the whole root alone: neither where truncation leaves a part of it, nor for a projector
@pytest.mark.parametrize(
    "overrides",
    [
        ["norm=zca_pi", "backward=newton_schulz"],
        ["norm=zca_pi", "backward=lyapunov"],
        ["norm=zca", "norm.truncation=reference_svd", "backward=newton_schulz"],
        ["norm=pca", "backward=newton_schulz"],
        ["norm=pca", "backward=lyapunov", "backward.forward=mpa"],
        ["norm=pca", "backward=hybrid"],
    ],
    ids=" ".join,
)
def test_gradients_of_roots_are_refused_for_other_layers(overrides: list[str]):
    config = compose([*overrides, "scale=smoke"])
    check(config)
    with pytest.raises(UserError, match=r"^norm: \w+ has a gradient of the square root and the inverse") as error:
        build_model(config)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("backward", ["newton_schulz", "lyapunov", "hybrid"])
def test_gradients_of_roots_are_those_of_covariance_pooling(backward: str):
    config = compose(["pooling=gcp", f"backward={backward}", "scale=smoke"])
    check(config)
    assert config.pooling.backward == alone(backward)
    methods = [getattr(module, "backward_method", None) for module in build_model(config).modules()]
    assert [type(method).__name__ for method in methods if method] == [config.backward._target_.rpartition(".")[2]]


def test_a_backward_that_needs_a_shift_is_refused_by_covariance_pooling_in_one_line():
    with pytest.raises(UserError, match=r"shift=0\.0: must be > 0") as error:
        build_model(compose(["pooling=gcp", "backward=power", "scale=smoke"]))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["norm=zca", "backward=pade", "backward.degree=10"], "backward.degree"),
        (["pooling=gcp", "backward=hybrid", "backward.second.degree=10"], "backward.second.degree"),
    ],
)
def test_an_argument_of_a_gradient_method_is_named_by_its_key(overrides: list[str], key: str):
    config = compose([*overrides, "scale=smoke"])
    check(config)
    with pytest.raises(UserError, match=rf"^{key}=10: its system is singular"):
        build_model(config)
    check(compose([*overrides, f"{key}=50"]))


def test_a_gradient_method_of_a_layers_own_is_named_there():
    config = compose(["norm=zca", "scale=smoke"])
    config.norm.backward = {"_target_": "spectral_repro.linalg.backward.Pade", "degree": 10}
    with pytest.raises(UserError, match=r"^norm\.backward\.degree=10: "):
        build_model(config)


def test_zca_pi_is_the_published_zca_with_pi_and_the_published_truncation():
    named = compose(["norm=zca_pi"])
    spelled = compose(["norm=zca_published", "backward=pi", "norm.truncation=reference"])
    assert named == spelled


VALUES = """
dates: [2024-11-29, 2024-11-29 10:30:00, 2024-11-29T10:30:00Z]
2024-11-29: a key
numbers: [1e-3, 1.5e3, -2E+4, .5, 1_000, 0x1f, 0o17, 017, 1:30, .inf, -.inf, 1e5x, 1.2.3]
others: [yes, off, null, ~, "", '1e-3', "2024-11-29", {a: 1.0}]
"""


def test_a_file_of_options_is_read_like_omegaconf_reads_it(tmp_path):
    (tmp_path / "mine.yaml").write_text(VALUES)
    assert OmegaConf.create(read_yaml(tmp_path / "mine.yaml")) == OmegaConf.load(tmp_path / "mine.yaml")
    assert parse_value("2024-11-29") == "2024-11-29"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("root: !!set {a, b}", "root: Value 'set' is not a supported primitive type"),
        ("load: {folder: '${x'}", "load.folder: "),
        ("root: a\nroot: b", "cannot be read as YAML (line 1: root occurs twice)"),
        ("root: a\n  mean: 1", "cannot be read as YAML (line 2: mapping values are not allowed in this context)"),
    ],
)
def test_a_file_of_options_that_cannot_be_read_is_named(tmp_path, text: str, message: str):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "mine.yaml").write_text(text)
    with pytest.raises(UserError) as raised:
        FolderSource("own", f"options://{tmp_path}").load_config("dataset/mine")
    assert str(raised.value).startswith(f"{tmp_path / 'dataset' / 'mine.yaml'}: {message}")


def test_files_are_read_once_and_compositions_do_not_touch_each_other(monkeypatch):
    before = compose(["norm=zca"])
    assert compose(["norm=zca", "norm.eps=1"]).norm.eps == 1
    monkeypatch.delattr(FolderSource, "_load")
    assert compose(["norm=zca"]) == before


@pytest.mark.parametrize(
    ("overrides", "layer"),
    [([], "SOC"), (["conv=sott"], "SOTT"), (["conv=tt", "scale=smoke"], "TTConv2d"), (["conv=standard"], None)],
)
def test_lipconvnet_chooses_its_convolutions_and_has_no_norm(overrides: list[str], layer: str | None):
    config = compose(["model=lipconvnet30", *overrides])
    check(config)
    assert "norm" not in config
    assert config.conv.get("layer", {}).get("_target_") == (layer and f"spectral_repro.layers.{layer}")


def test_configs_are_short():
    lengths = {path.relative_to(CONF).as_posix(): len(path.read_text().splitlines()) for path in CONF.rglob("*.yaml")}
    assert lengths and {name: lines for name, lines in lengths.items() if lines > 60} == {}


def test_every_other_key_has_a_rule():
    check(compose(["logger=[tensorboard,wandb]", "finetune=default", "gradient_clipping=norm"]))
    check(compose(["init=checkpoint", "init.checkpoint=best.pt"]))
    check(compose(["init=pretrained", "init.network=resnet50"]))


@pytest.mark.parametrize(
    "path",
    [
        *("images", "my images/x", "café", "数据", "a=b", "a(b)", "a[b]", "a{b}", "a#b", "it's", 'a"b', "a&b;c", "100", "1e3"),
        *("C:\\x", "ends\\", "it\\'s", "a%b", "results/*/runs", "-x", "a b\\"),
    ],
)
def test_a_path_needs_no_quotes_but_those_of_the_shell(path: str):
    assert compose([f"results_dir={path}"]).results_dir == path


def test_a_path_may_begin_with_the_home_folder_and_have_a_comma_if_it_exists(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a,b").mkdir()
    assert compose(["dataset.root=~/a,b", "dataset=cifar10"]).dataset.root == f"{tmp_path}/a,b"


def test_quoted_paths_and_interpolations_are_unchanged():
    assert compose(["results_dir='a,b'"]).results_dir == "a,b"
    assert compose(["results_dir=runs/${seed}", "seed=3"]).results_dir == "runs/3"


PRESETS = re.findall(r"^((?:norm|pooling)=\w+): (.+)$", read_yaml(CONF / "train.yaml")["hydra"]["help"]["footer"], re.MULTILINE)


@pytest.mark.parametrize(("preset", "long_form"), PRESETS)
def test_a_preset_is_what_help_says_that_it_stands_for(preset: str, long_form: str):
    assert digest(identity(compose([preset]))) == digest(identity(compose(long_form.split())))


def test_help_has_a_line_for_every_preset(call):
    printed = call("train", "--help").stdout
    presets = [option for option in options("norm") if "_" in option]
    assert {preset for preset, _ in PRESETS} == {*(f"norm={option}" for option in presets), "pooling=isqrt_cov"}
    assert all(f"{preset}: {long_form}" in printed for preset, long_form in PRESETS)


def test_a_comma_separates_paths_and_the_error_says_how_to_quote_it(call):
    result = call("train", "results_dir=my runs,é", "scale=smoke")
    assert result.returncode == 1
    assert result.stderr.endswith("""for which -m is missing; one path is written "results_dir='my runs,é'"\n""")
    assert compose(["results_dir='my runs,é'"]).results_dir == "my runs,é"
