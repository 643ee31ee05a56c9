"""Values are checked against the annotations of the class or function that takes them."""

from collections.abc import Sequence
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Gt, Interval, Predicate
from torch import Tensor, nn

from spectral_repro.bounds import each_once
from spectral_repro.configuration.arguments import check_arguments, parameters, rule_of
from spectral_repro.configuration.compose import compose
from spectral_repro.configuration.rules import check
from spectral_repro.configuration.targets import TRUSTED
from spectral_repro.errors import UserError


def is_even(value: int) -> bool:
    """an even number"""
    return value % 2 == 0


@pytest.mark.parametrize(
    ("annotation", "words", "held", "broken"),
    [
        (bool, "true or false", [True], [1, None, "true"]),
        (int, "a whole number", [3, -1], [1.0, True, "1", None]),
        (float, "a number", [3, 0.5], [True, "1", float("nan"), float("inf")]),
        (str, "a string", ["a"], [1, ""]),
        (int | None, "a whole number, or null", [3, None], [0.5]),
        (Literal["ones", "uniform"], "ones or uniform", ["ones"], ["two", None]),
        (Annotated[int, Ge(1)], "a whole number >= 1", [1], [0, 1.5]),
        (Annotated[float, Gt(0)] | None, "a number > 0, or null", [0.1, None], [0]),
        (Annotated[float, Interval(gt=0, le=1)], "a number > 0 and <= 1", [1], [0, 2]),
        (list[int], "a list, each a whole number", [[], [1, 2]], [[0.5], 3]),
        (tuple[float, float], "a list of 2, each a number", [[0.9, 1]], [[0.9], [1, 2, 3]]),
        (Sequence[Annotated[int, Ge(1)]], "a list, each a whole number >= 1", [[1]], [[0]]),
        (int | list[int], "a whole number, or a list, each a whole number", [1, [2]], ["a"]),
        (float | Tensor, "a number", [1.0], ["a"]),
        (Annotated[int, Predicate(is_even)], "an even number", [2], [1, 2.0]),
    ],
)
def test_annotations_give_rules(annotation: object, words: str, held: list, broken: list):
    rule = rule_of(annotation)
    assert rule.allowed == words
    assert all(map(rule.holds, held)) and not any(map(rule.holds, broken))


@pytest.mark.parametrize("annotation", [nn.Module, Tensor, dict, object, nn.Module | None, list[Tensor]])
def test_other_annotations_are_not_checked(annotation: object):
    assert rule_of(annotation) is None


OWN = """
from typing import Annotated, Literal

from annotated_types import Interval
from torch import nn


class Base(nn.Module):
    def __init__(self, num_features: int, eps: Annotated[float, Interval(gt=0)] = 1e-5):
        super().__init__()


class Shrunk(Base):
    def __init__(self, num_features: int, shrinkage: Annotated[float, Interval(ge=0, le=1)] = 0.1,
                 target: Literal["diagonal", "identity"] = "identity", rank: int | None = None, **options):
        super().__init__(num_features, **options)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_norms.py").write_text(OWN)
    (tmp_path / "own_broken.py").write_text("import a_package_that_is_missing\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(TRUSTED, "own_norms:own_broken")


def test_arguments_of_base_classes_are_known(own):
    import own_norms

    known, open_ended = parameters(own_norms.Shrunk)
    assert list(known) == ["num_features", "shrinkage", "target", "rank", "eps"] and not open_ended


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"shrinkage": 2}, r"norm\.shrinkage=2: must be a number >= 0 and <= 1$"),
        ({"shrinkage": "much"}, r"norm\.shrinkage=much: must be a number >= 0"),
        ({"target": "none"}, r"norm\.target=none: must be diagonal or identity$"),
        ({"rank": 1.5}, r"norm\.rank=1\.5: must be a whole number, or null$"),
        ({"eps": 0}, r"norm\.eps=0: must be a number > 0$"),
        (
            {"shrinkag": 0.1},
            r"norm\.shrinkag: own_norms\.Shrunk has no such argument; it takes num_features, shrinkage, target, rank, eps$",
        ),
        ({"_target_": "own_norms.Missing"}, r"norm\._target_=own_norms\.Missing: .*no attribute 'Missing'"),
        ({"_target_": "own_broken.Norm"}, r"norm\._target_=own_broken\.Norm: .*No module named 'a_package_that_is_missing'"),
    ],
    ids=str,
)
def test_arguments_of_a_class_of_the_user_are_checked(own, node: dict, message: str):
    with pytest.raises(UserError, match=message) as error:
        check_arguments({"norm": {"_target_": "own_norms.Shrunk", "_partial_": True} | node})
    assert len(str(error.value).splitlines()) == 1


def test_valid_values_pass(own):
    node = {"_target_": "own_norms.Shrunk", "_partial_": True, "shrinkage": 1, "target": "diagonal", "rank": None}
    check_arguments({"norm": node, "other": {"plain": {"value": 1}}})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.width=0"], "model.width=0: must be a whole number >= 1"),
        (["model=wrn16_4", "model.gain=0"], "model.gain=0: must be a number > 0, or null"),
        (["norm=zca", "norm.group_size=x"], "norm.group_size=x: must be a whole number, or auto, or null"),
        (
            ["norm=zca", "backward=lyapunov", "backward.forward=x"],
            "backward.forward=x: must be eigh, mpa, mtp or newt",
        ),
        (["norm.momentum=2"], "norm.momentum=2: must be a number > 0 and <= 1"),
        (["conv=tt", "conv.rank=x"], "conv.rank=x: must be a whole number, or null"),
        (["schedule=cosine", "schedule.warmup=2"], "schedule.warmup=2: must be a part of the training in .0, 1., a number or"),
        (["schedule.every=0"], "schedule.every=0: must be a part of the training in .0, 1., a number or"),
        (
            ["optimizer=adamw", "optimizer.betas=[0.9,1]"],
            "optimizer.betas=.0.9, 1.: must be a list of 2, each a number >= 0",
        ),
        (["optimizer=sgdg", "optimizer.reset_on_lr_change=1"], "optimizer.reset_on_lr_change=1: must be true or false"),
        (["init=pretrained", "init.network=resnet19", "init.weights=x"], "init.network=resnet19: must be alexnet, resnet18, "),
        (["logger=wandb", "logger.wandb.project=a/b"], "logger.wandb.project=a/b: must be a string of at most 128 characters"),
        (["+optimizer.fused=3"], "optimizer.fused=3: must be true or false, or null"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_errors_for_classes_of_the_package_list_allowed_values(overrides: list[str], message: str):
    with pytest.raises(UserError, match=message):
        check(compose(overrides))


def test_an_argument_of_torch_that_conf_does_not_name_can_be_given():
    check(compose(["+optimizer.fused=true"]))


def test_a_predicate_may_add_to_what_the_annotation_says():
    rule = rule_of(Annotated[list[Annotated[int, Ge(1)]], Predicate(each_once)])
    assert rule.allowed == "a list, each a whole number >= 1, with at least one value, and none twice"
    assert rule.holds([2, 1]) and not any(map(rule.holds, ([], [1, 1], [0], 3)))
