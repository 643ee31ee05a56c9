import numpy as np
import pytest
from scipy.stats import t

from spectral_repro.reporting.intervals import interval
from spectral_repro.reporting.page import Cost, Speeds, render
from spectral_repro.reporting.statistics import best_within_noise, statistics


def test_statistics_of_methods(make_run, report):
    for seed, value in enumerate([90.0, 91.0, 95.0]):
        make_run("norm=batch", seed=seed, accuracies=[value])
    for seed, value in ((1, 93.0), (2, 96.0), (7, 50.0)):
        make_run("norm=zca_pi", seed=seed, accuracies=[value])
    make_run("norm=zca_pi", seed=8, accuracies=[], state="diverged")
    (section,) = report().sections
    batch, pi = statistics(section).to_dict("records")
    assert (batch["seeds"], batch["mean"], batch["median"], batch["best"]) == (3, 92, 91, 95)
    assert batch["std"] == pytest.approx(np.std([90, 91, 95], ddof=1))
    assert (batch["low"], batch["high"]) == pytest.approx(interval(np.array([90.0, 91.0, 95.0])))
    assert np.isnan(batch["difference"]), "it is what the others are compared with"
    assert (pi["difference"], pi["pairs"]) == (1.5, 2), "seeds 1 and 2 are common: +2 and +1"
    reach = t.ppf(0.975, 1) * np.std([2, 1], ddof=1) / np.sqrt(2)
    assert (pi["difference_low"], pi["difference_high"]) == pytest.approx((1.5 - reach, 1.5 + reach))
    assert pi["success_rate"] == 75 and pi["success_low"] < 75 < pi["success_high"]


@pytest.mark.parametrize(
    ("accuracies", "best"),
    [
        ([91.5, 90.5, 95.5], {"Batch norm", "ZCA, SVD-PI"}),
        ([80.0, 81.0, 85.2], {"Batch norm"}),
        ([94.0, 95.0, 99.2], {"ZCA, SVD-PI"}),
        ([90.0, 91.0, 95.0], {"Batch norm", "ZCA, SVD-PI"}),
        ([99.0], set()),
    ],
)
def test_the_best_within_noise_by_paired_differences(make_run, report, accuracies, best):
    for seed, value in enumerate([90.0, 91.0, 95.0]):
        make_run("norm=batch", seed=seed, accuracies=[value])
    for seed, value in enumerate(accuracies):
        make_run("norm=zca_pi", seed=seed, accuracies=[value])
    whole = report()
    assert best_within_noise(whole.sections[0]) == best, "one seed of the best has no noise to judge by"
    source = render(whole, {section.name: [] for section in whole.sections})
    assert source.count('<td class="best">') == len(best)


def test_a_time_is_estimated_from_runs_of_the_same_network(make_run, read):
    make_run("norm=batch", images_per_second=100.0)
    make_run("norm=zca_pi", images_per_second=40.0, seed=1)
    make_run("norm=zca_pi", images_per_second=400.0, seed=2, device="A GPU")
    make_run("norm=zca_pi", "model.width=8", images_per_second=9.0)
    runs = {(run.identity["norm._target_"].rpartition(".")[2], run.seed): run for run in read()}
    batch, pi = runs["BatchNorm2d", 0].identity, runs["ZCAWhitening", 1].identity

    def cost(values, **changes):
        compared = {key: value for key, value in values.items() if key.startswith("norm.")}
        return {each.machine: each for each in Speeds(runs.values()).cost(values | changes, compared)}

    images = 1437 * batch["trainer.epochs"]
    assert cost(batch)["2 x Some CPU, 2 threads"] == Cost("2 x Some CPU, 2 threads", images / 100, 100.0, 1, same=True)
    assert cost(batch)["A GPU, 2 threads"] == Cost("A GPU, 2 threads", images / 400, 400.0, 1, same=False)
    assert cost(pi)["2 x Some CPU, 2 threads"].seconds == pytest.approx(images / 40)
    assert cost(pi, **{"dataset.train_images": 100})["A GPU, 2 threads"].seconds == pytest.approx(
        100 * pi["trainer.epochs"] / 400
    )
    assert cost(pi, **{"model.width": 16}) == {}, "nobody has measured that network"
