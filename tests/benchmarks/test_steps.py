"""suite=steps: training steps of rows of papers' tables."""

from dataclasses import replace

import pytest
import torch

from spectral_repro.benchmarks.steps import step_jobs
from spectral_repro.configuration.compose import compose
from spectral_repro.errors import UserError
from spectral_repro.training.autotune import ready
from spectral_repro.training.step import hybrids

CPU = torch.device("cpu")
SMALL = ["model.width=4", "dataset.batch_size=4", "precision=float32"]


def test_a_line_for_each_row(suite):
    names = ["common_ground/divide_1", "common_ground/clip_*", "common_ground/batch", "common_ground/clip_1"]
    made = replace(suite("steps"), experiments=names, overrides=SMALL)
    frame = made.measure().numbers["step_times"]
    found = dict(zip(frame["row"], frame["label"], strict=True))
    assert found == {"divide_1": "Division by 1", "clip_1": "Clipping to 1", "clip_2": "Clipping to 2", "batch": "Batch norm"}
    assert frame["row"].iloc[[0, -1]].tolist() == ["divide_1", "batch"]  # in the order of the patterns
    assert (frame["milliseconds"] > 0).all() and frame["batch_size"].eq(4).all() and frame["precision"].eq("float32").all()
    with pytest.raises(UserError, match=r"experiments=common_ground/none: no row"):
        replace(made, experiments="common_ground/none").measure()
    with pytest.raises(UserError, match=r"experiments=null: must be a string"):
        replace(made, experiments=None).measure()


def test_a_hybrid_gradient_is_timed_before_and_after_its_switch():
    options = ["model=alexnet_small", "scale=smoke", "pooling=gcp", "backward=hybrid", "backward.switch=0.25"]
    trainer, batch = ready(compose(options), CPU)
    jobs, shares = step_jobs(trainer, batch)
    assert shares == {"step": 0.25, "switched": 0.75}
    (hybrid,) = hybrids(trainer.model)
    for name, method in (("switched", hybrid.second), ("step", hybrid.first)):
        jobs[name]()()
        assert hybrid.current == method


@pytest.mark.parametrize(
    ("row", "shares"),
    [("batch", {"step": 1.0}), ("clip_1", {"step": 0.98, "bounded": 0.02}), ("divide_1", {"bounded": 1.0})],
)
def test_steps_keep_the_weights_and_constraints_start_above_their_bound(row: str, shares: dict[str, float]):
    trainer, batch = ready(compose([f"experiment=common_ground/{row}", *SMALL]), CPU)
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    jobs, found = step_jobs(trainer, batch)
    assert found == pytest.approx(shares) and jobs.keys() == shares.keys()
    if "step" in jobs:
        jobs["step"]()()
        assert all(map(torch.equal, before, trainer.model.parameters()))
    if "bounded" in jobs:
        largest = []
        bound = trainer.state.weights.constraint.bring_within

        def noted(bounded):
            largest.extend(operator.norm().item() for operator, _ in bounded)
            bound(bounded)

        trainer.state.weights.constraint.bring_within = noted
        jobs["bounded"]()()
        jobs["bounded"]()()
        assert largest == pytest.approx([2.0] * len(largest), rel=1e-4) and len(largest) == 12
