"""suite=performance and suite=cuda at their smallest scale; `pytest -m benchmark` measures every ratio at scale=cpu."""

from dataclasses import replace
from pathlib import Path

import hydra
import pandas as pd
import pytest
import torch
from hydra.utils import instantiate

from spectral_repro.benchmarks.comparisons import Target
from spectral_repro.benchmarks.machine import processor, short_name
from spectral_repro.benchmarks.performance import moved, read_ratios
from spectral_repro.benchmarks.scaling import PANELS, exponents, theory
from spectral_repro.benchmarks.write import write
from spectral_repro.configuration.folders import CONF
from spectral_repro.errors import UserError

RESULTS = Path(__file__).parents[2] / "results" / "performance"
COMPARISONS = (
    *("whitening", "new_memory", "memory", "pooling", "clipping", "norms", "optimizers", "pipeline", "photographs", "networks"),
    *("trainer", "trainer_common_ground", "processes"),
)


def test_targets_bound_ratios_of_times():
    times = {"ours": 2.0, "plain": 3.0}
    slower, faster = Target("", "ours", "plain", 0.5), Target("", "ours", "plain", 1.4, faster=True)
    assert slower.reached(times) == pytest.approx(2 / 3) and not slower.met(times)
    assert faster.reached(times) == 1.5 and faster.met(times)


def test_ratios_that_changed():
    now = pd.DataFrame({"what": list("abcd"), "reached": [1.0, 1.29, 1.31, 0.7]})
    before = pd.DataFrame({"what": list("bcda"), "reached": [1.0, 1.0, 1.0, 1.0]})
    assert moved(now, before)["what"].tolist() == ["c", "d"]


def test_a_table_to_compare_with_must_be_one(tmp_path: Path):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    for path in (tmp_path / "other.csv", tmp_path / "none.csv"):
        with pytest.raises(UserError, match=r"against=.*: no table of suite=performance"):
            read_ratios(str(path))


def test_exponents_of_power_laws():
    values = [1, 2, 4, 8]
    rows = [
        {"layer": layer, "axis": axis, "value": v, "ms": 3 * v**1.5, "mib": 7.0 * v} for layer, axis in PANELS for v in values
    ]
    table = exponents(pd.DataFrame(rows))
    assert table["time"].tolist() == pytest.approx([1.5] * len(PANELS))
    assert table["memory"].tolist() == pytest.approx([1] * len(PANELS))


def test_theory_counts_operations_and_numbers():
    assert theory("whitening", batch=2, channels=4, positions=3, group_size=2) == {"ms": 48, "mib": 24}
    assert theory("pooling", batch=1, channels=4, positions=2, group_size=0) == {"ms": 2 * (8 + 16 + 4), "mib": 24}


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_every_ratio_has_a_row_and_the_scaling_a_figure(suite, tmp_path: Path):
    earlier = {"what": ["conv_norm / all singular values, dirac", "not measured any more"], "reached": [1e9, 1.0]}
    pd.DataFrame(earlier).to_csv(tmp_path / "earlier.csv")
    made = replace(suite("performance"), against=str(tmp_path / "earlier.csv"))
    printed = write(made.measure(), "Measured here.", tmp_path)
    rows = pd.read_csv(tmp_path / f"performance_{short_name()}.csv")
    assert rows["torch"].eq(processor()["torch"]).all()
    assert (
        "1 of 1 ratios are" in printed[1]
        and f"{len(rows) - 1} more are not in" in printed[1]
        and printed[1].count("dirac") == 1
    )
    assert set(rows["comparison"]) == set(COMPARISONS) - {"processes"} and (rows["reached"] > 0).all()
    assert all(f"| {what}" in printed[0] for what in rows["what"])
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")
    assert len(pd.read_csv(tmp_path / "scaling.csv").groupby(["layer", "axis"])) == len(PANELS)


def test_the_suite_for_a_gpu_runs_anywhere(suite, tmp_path: Path):
    write(suite("cuda").measure(), "Measured here.", tmp_path)
    roots = pd.read_csv(tmp_path / "roots.csv")
    exact = roots.query("way == 'eigh'")
    assert (exact["error"] < exact["dtype"].map({"float64": 1e-14, "float32": 2e-6})).all()
    assert (pd.read_csv(tmp_path / "waits.csv")["waits"] == 0).all()


@pytest.mark.benchmark
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", COMPARISONS)
def test_ratios(name: str):
    """All targets are met. With a committed table of this processor: no ratio that met its target there has moved beyond it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(torch.multiprocessing.cpu_count())
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("bench", ["suite=performance", "scale=cpu"]).suite
    suite = instantiate(config.measure, **config.scales.cpu, device=torch.device("cpu"), seed=0, _convert_="all")
    try:
        targets, _ = suite.held(name)
    finally:
        torch.set_num_threads(threads)
    missed = targets[~targets["met"]]
    if (committed := RESULTS / f"performance_{short_name()}.csv").exists():
        earlier = pd.read_csv(committed)
        missed = missed[
            missed["what"].isin(moved(missed, earlier)["what"]) & missed["what"].isin(earlier["what"][earlier["met"]])
        ]
    assert missed.empty, targets.to_string()
