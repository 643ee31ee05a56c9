"""The table that a sweep prints at its end."""

import shlex

import pytest
from hydra.core.utils import JobReturn, JobStatus

from spectral_repro.reporting.closing import closing_table


@pytest.mark.parametrize(
    ("folder", "earlier", "runs"),
    [
        ("runs", False, "runs=runs"),
        ("runs", True, "runs=[runs,results/quickstart/runs.csv]"),
        ("my, runs", True, "runs=['my, runs',results/quickstart/runs.csv]"),
    ],
)
def test_the_command_for_the_page_reads_the_runs_of_an_earlier_report(composed, tmp_path, monkeypatch, folder, earlier, runs):
    monkeypatch.chdir(tmp_path)
    if earlier:
        (tmp_path / "results" / "quickstart").mkdir(parents=True)
        (tmp_path / "results" / "quickstart" / "runs.csv").touch()
    config = composed("paper=quickstart")
    config.results_dir = folder
    last = closing_table([JobReturn(cfg=config, status=JobStatus.COMPLETED)]).splitlines()[-1]
    assert shlex.split(last.removeprefix("The page of it: "))[3:] == ["paper=quickstart", runs]
