"""Verdicts on claims, with runs made up for the test."""

import numpy as np
import pytest
from omegaconf import OmegaConf
from scipy.stats import beta

from spectral_repro.errors import UserError
from spectral_repro.reporting.claims import read_claim
from spectral_repro.reporting.intervals import interval, p_value, rate_interval, seeds_needed
from spectral_repro.reporting.papers import load_paper
from spectral_repro.reporting.sections import gather
from spectral_repro.reporting.verdicts import judge

PAPER = """
name: quickstart
title: Claims
source: Someone, 2019
compare: [norm]
metric: test_accuracy
tables:
  digits:
    title: Digits
    rows:
      - {label: A, overrides: [norm=batch], published: {mean: 90.0}}
      - {label: B, overrides: [norm=zca_svd], published: {mean: 92.0, success_rate: 40.0}}
      - {label: C, overrides: [norm=zca_pi]}
"""


@pytest.fixture
def judged(read, tmp_path, runs_folder):
    """The judgement of a claim with these numbers, in the table unless they are in a file."""
    runs_folder.mkdir(exist_ok=True)

    def run(*numbers: dict, reduced: bool = False, **others: object):
        placed = [number if "file" in number else {"table": "digits"} | number for number in numbers]
        settings = OmegaConf.to_container(OmegaConf.create(PAPER))
        settings["claims"] = {"it": {"claim": "It is so.", "published": None, "numbers": placed} | others}
        (judgement,) = judge(gather(load_paper(settings | {"reduced": reduced}), read()), tmp_path)
        return judgement

    return run


@pytest.fixture
def runs(make_run):
    """Three seeds each: B is 1.5 to 2.5 above A over the same seeds, though their ranges overlap; C is A at another scale."""
    for seed, (low, gain) in enumerate([(80.0, 1.5), (85.0, 2.0), (90.0, 2.5)]):
        make_run("norm=batch", accuracies=[low], seed=seed)
        make_run("norm=zca_svd", accuracies=[low + gain], seed=seed)
        make_run("norm=zca_pi", "scale=cpu", accuracies=[low], seed=seed)


@pytest.mark.parametrize(
    ("bounds", "verdict"),
    [
        ({"at_least": 0.5}, "agrees"),
        ({"at_most": 0.5}, "disagrees"),
        ({"at_least": 1}, "undecided"),
        ({"at_least": 0, "at_most": 4}, "agrees"),
    ],
)
def test_a_difference_over_common_seeds_against_its_bounds(runs, judged, bounds, verdict):
    judgement = judged({"row": ["B"], "difference_to": "A"} | bounds)
    (finding,) = judgement.findings
    assert (judgement.verdict, judgement.scale, judgement.seeds) == (verdict, "full", [3])
    assert finding.mean == pytest.approx(2) and finding.published == pytest.approx(2)
    assert finding.interval == pytest.approx(interval(np.array([1.5, 2.0, 2.5])))


def test_a_ratio_of_two_rows(runs, judged):
    (finding,) = judged({"row": ["B"], "ratio_to": "A", "at_least": 1}).findings
    assert finding.mean == pytest.approx(np.mean([81.5 / 80, 87 / 85, 92.5 / 90]))


def test_runs_of_different_scales_are_not_paired(runs, judged):
    judgement = judged({"row": ["C"], "difference_to": "A", "at_least": 0})
    assert judgement.verdict == "not measured" and judgement.findings == ()


def test_a_verdict_at_reduced_scale(runs, judged):
    number = {"row": ["C"], "at_least": 70}
    assert [(each.verdict, each.words) for each in (judged(number), judged(number, full=True))] == [
        ("agrees", "agrees at reduced scale"),
        ("undecided", "undecided"),
    ]


def test_a_verdict_of_a_paper_whose_full_protocol_is_a_reduced_one(runs, judged):
    judgement = judged({"row": ["B"], "difference_to": "A", "at_least": 0}, reduced=True)
    assert (judgement.words, judgement.scale) == ("agrees at reduced scale", "reduced")


def test_one_number_outside_its_bounds_disagrees_and_a_missing_row_is_undecided(runs, judged, make_run):
    held, broken = {"row": ["B"], "difference_to": "A", "at_least": 1}, {"row": ["A"], "at_most": 10}
    assert judged(held, broken).verdict == "disagrees"
    make_run("norm=zca_pi", accuracies=[80.0])
    few = judged(held, {"row": ["C"], "at_least": 10})
    assert few.verdict == "undecided" and few.findings[1].seeds == 1, "one seed decides nothing"


def test_a_rate_of_success_has_its_own_interval(make_run, judged):
    for seed in range(3):
        make_run("norm=zca_svd", state="diverged", accuracies=[30.0], seed=seed)
    never, seldom = judged({"row": ["B"], "metric": "success", "at_least": 90}), judged(
        {"row": ["B"], "metric": "success", "at_most": 10}
    )  # fmt: skip
    assert (never.verdict, seldom.verdict) == ("disagrees", "undecided")
    assert never.findings[0].mean == 0 and never.findings[0].published == 40
    assert never.findings[0].interval == pytest.approx((0, 100 * beta.ppf(0.975, 1, 3)))
    assert rate_interval(np.array([100.0, 0.0])) == pytest.approx((100 * beta.ppf(0.025, 1, 2), 100 * beta.ppf(0.975, 2, 1)))


def test_a_number_of_a_file(judged, tmp_path):
    number = {"file": "bench/it.csv", "where": {"name": "a"}, "column": "ms", "ratio_to": {"name": "b"}, "at_least": 2}
    assert judged(number).verdict == "not measured"
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "it.csv").write_text("name,ms\na,3\na,5\nb,2\n")
    judgement = judged(number)
    assert (judgement.verdict, judgement.scale, judgement.seeds, judgement.findings[0].mean) == ("agrees", "full", [], 2.5)
    for damaged in ("label,ms\na,3\n", "name,seconds\na,3\nb,2\n", ""):
        (tmp_path / "bench" / "it.csv").write_text(damaged)
        with pytest.raises(UserError, match=r"bench/it\.csv: has no value of the claim's number ms of "):
            judged(number)


def test_a_number_with_several_rows_becomes_one_for_each():
    number = {"table": "t", "row": ["A", "B"], "difference_to": "C", "at_least": 0}
    claim = read_claim("in claim", "it", {"claim": "", "published": None, "numbers": [number]})
    assert [number.words for number in claim.numbers] == ["A − C", "B − C"]


@pytest.mark.parametrize(
    ("number", "named"), [({"row": ["D"]}, "D: no row of table digits"), ({"row": ["A"], "table": "x"}, "table=x")]
)
def test_an_unknown_row_is_named(judged, number, named):
    with pytest.raises(UserError, match=f"in claim it, {named}"):
        judged(number | {"at_least": 0})


def test_the_largest_protocol_decides(make_run, judged):
    for seed in range(3):
        make_run("norm=batch", "scale=cpu", accuracies=[70.0 + seed], seed=seed)
        make_run("norm=batch", "scale=cpu", "trainer.epochs=12", accuracies=[90.0 + seed], seed=seed)
        make_run("norm=batch", "scale=cpu", "dataset.train_images=500", accuracies=[50.0 + seed], seed=seed)
    judgement = judged({"row": ["A"], "at_least": 85})
    assert (judgement.verdict, judgement.scale, judgement.seeds, judgement.counted) == ("agrees", "reduced", [3], 1)
    means = [finding.mean for finding in judgement.findings]
    assert means[0] == 91 and sorted(means) == [51, 71, 91]
    make_run("norm=batch", accuracies=[80.0], seed=0)
    assert (again := judged({"row": ["A"], "at_least": 85})).scale == "full" and again.verdict == "undecided"


def test_runs_at_scale_smoke_are_not_used(make_run, judged):
    for seed in range(3):
        make_run("norm=batch", "scale=smoke", accuracies=[10.0 + seed], seed=seed)
    judgement = judged({"row": ["A"], "at_least": 85})
    assert judgement.verdict == "not measured" and len(judgement.missing) == 1


def test_claims_with_many_numbers_are_corrected(make_run, judged):
    """What is decided alone, and beside a number that is clear, is not decided among three that are as close."""
    for seed, value in enumerate([90.0, 90.5, 91.2]):
        make_run("norm=batch", accuracies=[value], seed=seed)
        make_run("norm=zca_svd", accuracies=[value], seed=seed)
        make_run("norm=zca_pi", accuracies=[value], seed=seed)
    near, clear = {"row": ["A"], "at_least": 89.0}, {"row": ["B"], "at_least": 50.0}
    alone = judged(near)
    assert 0.025 < alone.findings[0].p < 0.05 and alone.verdict == "agrees"
    assert judged(near, clear).verdict == "agrees"
    many = judged(near, {"row": ["B", "C"], "at_least": 89.0})
    assert many.verdict == "undecided" and {finding.verdict for finding in many.findings} == {"undecided"}
    assert many.needed == 4


def test_number_of_seeds_that_would_decide_a_claim(make_run, judged):
    for seed, (a, b) in enumerate([(80.0, 79.0), (85.0, 86.0), (90.0, 95.0)]):
        make_run("norm=batch", accuracies=[a], seed=seed)
        make_run("norm=zca_svd", accuracies=[b], seed=seed)
    inside, outside = {"row": ["A"], "at_least": 80}, {"row": ["B"], "at_most": 80}
    needed = [judged(number).needed for number in (inside, outside)]
    assert needed[0] == seeds_needed(p_value, np.array([80.0, 85.0, 90.0]), 80, np.inf, 0.05)
    both = judged(inside, outside)
    assert [finding.needed > alone for finding, alone in zip(both.findings, needed, strict=True)] == [True, True]
    assert both.needed == both.findings[1].needed, "one number out of its bounds decides"
    assert judged(inside, {"row": ["C"], "at_least": 1}).needed is None, "more seeds alone do not decide it"
    assert judged({"row": ["A"], "at_least": 1}).needed is None, "it is decided"


def test_numbers_of_one_table_are_never_taken_from_two_protocols(make_run, judged, evaluate):
    for seed in range(3):
        make_run("norm=batch", "scale=cpu", "trainer.epochs=12", accuracies=[90.0 + seed], seed=seed)
        evaluate(make_run("norm=batch", "scale=cpu", accuracies=[70.0 + seed], seed=seed), ece=0.1 + 0.01 * seed)
    judgement = judged({"row": ["A"], "at_least": 85}, {"row": ["A"], "metric": "ece", "at_most": 0.5})
    assert (judgement.verdict, judgement.counted, len(judgement.missing)) == ("undecided", 1, 1)
    assert [finding.verdict for finding in judgement.findings] == ["agrees", None, None]
