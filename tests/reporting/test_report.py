"""python -m spectral_repro.report as a user runs it."""

import io
import multiprocessing
import os
import sys
from dataclasses import replace

import pytest

from spectral_repro import report
from spectral_repro.reporting import figures
from spectral_repro.workers import workers


def test_report_of_a_paper(command, make_run, tmp_path):
    make_run("experiment=quickstart/batch", seed=0, accuracies=[50.0, 90.0])
    make_run("experiment=quickstart/batch", seed=1, accuracies=[50.0, 92.0])
    make_run(
        "experiment=quickstart/zca_svd",
        "scale=smoke",
        accuracies=[],
        state="diverged",
        failure={"step": 4, "layer": "norm1", "during": "output"},
    )
    (tmp_path / "runs" / "broken-00000000").mkdir()
    result = command("report", "paper=quickstart", "runs=runs", "out=pages")
    assert result.returncode == 0, result.stderr
    assert "91.00 ± 1.41" in result.stdout and "first the output of norm1" in result.stdout
    assert "python -m spectral_repro.train experiment=quickstart/zca_svd\n" in result.stdout
    assert result.stderr.splitlines() == ["broken-00000000: left out, no config.yaml"]
    written = sorted(path.name for path in (tmp_path / "pages").iterdir())
    assert "index.html" in written and len(written) == 5 + 2 * 5
    assert {path.suffix for path in (tmp_path / "pages").iterdir()} == {".html", ".md", ".tex", ".csv", ".png", ".pdf"}
    assert all(path.stat().st_size > 100 for path in (tmp_path / "pages").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pages", "runs"], "nothing else is left behind"
    result = command("report", "status=true", "runs=runs")
    assert result.returncode == 0 and result.stdout.splitlines()[-1] == "3 runs: 1 diverged, 2 finished"


@pytest.mark.parametrize("arguments", [["paper=quickstart", "out=pages"], ["compare=[norm]", "out=pages"], ["status=true"]])
def test_a_damaged_run_is_named_and_the_rest_is_reported(call, make_run, tmp_path, arguments):
    make_run("experiment=quickstart/batch", accuracies=[50.0, 90.0])
    damaged = make_run("experiment=quickstart/zca_svd", accuracies=[50.0, 80.0])
    (damaged / "evaluation.json").write_text('{"calibration": {"ece": 0.1}}')
    result = call("report", *arguments, "runs=runs")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    lines = result.stderr.splitlines()
    assert f"{damaged.name}: left out, evaluation.json is damaged: calibration has no conditions" in lines
    assert "1 place left out because of damage, see above; the rest is reported" in lines
    assert "90.00" in result.stdout or "1 runs: 1 finished" in result.stdout


def test_infinite_and_impossible_numbers_are_left_out_of_figures(call, make_run):
    make_run("norm=batch", accuracies=[50.0, 90.0])
    for seed, value in enumerate((float("inf"), 1e308)):
        make_run("norm=zca", seed=seed, losses=[value, value], accuracies=[80.0, 81.0], columns={"test_loss": [1.0, value]})
    result = call("report", "compare=[norm]", "runs=runs", "out=pages", "metric=test_loss")
    assert result.returncode == 0, result.stderr
    assert "inf" in result.stdout


def test_no_runs_still_make_tables(call, tmp_path):
    (tmp_path / "results" / "runs").mkdir(parents=True)
    result = call("report", "paper=quickstart")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("no run") == 4
    (line,) = result.stderr.splitlines()
    assert "no run" in line and "python -m spectral_repro.train -m paper=quickstart" in line
    assert (tmp_path / "results" / "quickstart" / "index.html").is_file()


def test_wrong_input_is_named(call):
    for arguments, named in [
        (["paper=wang2020"], ["wang2020", "quickstart", "wang2019"]),
        (["paper=quickstart"], ["runs=results/runs", "python -m spectral_repro.train -m paper=quickstart"]),
        (
            ["paper=quickstart", "scale=cpu"],
            ["scale: unknown key; the report takes paper, runs, out, results, published, status"],
        ),
    ]:
        result = call("report", *arguments)
        output = result.stdout + result.stderr
        assert result.returncode == 1 and "Traceback" not in output, output
        assert all(text in output for text in named), output


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_utf_8_is_no_error(make_run, monkeypatch, tmp_path, encoding):
    for seed, accuracy in enumerate([90.0, 92.0]):
        make_run("experiment=quickstart/batch", seed=seed, accuracies=[accuracy])
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding=encoding, write_through=True))
    monkeypatch.setattr(sys, "argv", ["report", "paper=quickstart", "runs=runs", "out=pages"])
    monkeypatch.chdir(tmp_path)
    report.main()
    assert {"ascii": "91.00 ? 1.41", "latin-1": "91.00 ± 1.41"}[encoding] in output.getvalue().decode(encoding)
    assert "91.00 ± 1.41" in next((tmp_path / "pages").glob("digits*.md")).read_text("utf-8")


def test_report_of_a_comparison(call, make_run, tmp_path):
    values = {"batch": (90.0, 92.0), "zca": (80.0,), "zca_pi": (93.0, 94.0)}
    for place, (norm, accuracies) in enumerate(values.items()):
        for seed, accuracy in enumerate(accuracies):
            make_run(f"norm={norm}", seed=seed, accuracies=[50.0, accuracy], started=f"2026-01-01T00:00:0{place}")
    arguments = ("compare=[norm]", "where=[dataset.name=digits,scale=paper]", "runs=runs")
    result = call("report", *arguments)
    assert result.returncode == 0, result.stderr
    assert "| zca, pi " in result.stdout and "+2.50" in result.stdout
    made = tmp_path / "results" / "comparison"
    names = {
        "index.html",
        "runs.csv",
        "curves.csv",
        "tables.md",
        "tables.tex",
        *(f"digits.{kind}" for kind in ("md", "tex", "csv", "png", "pdf")),
    }
    assert {path.name for path in made.iterdir()} == names | {f"digits-sorted.{kind}" for kind in ("png", "pdf")}
    page = (made / "index.html").read_text()
    assert "compare=[norm]" in page and "where=[dataset.name=digits,scale=paper]" in page
    named = call("report", *arguments, "baseline=zca, pi", "metric=train_loss", "out=named")
    assert named.returncode == 0 and "Difference: to zca, pi," in named.stdout, named.stderr


def test_wrong_comparisons_are_named(call, make_run):
    make_run("norm=batch")
    for arguments, named in [
        (["compare=[colour]"], ["compare=colour", "no run has this key"]),
        (["compare=auto", "where=[dataset.name=mnist]"], ["no run matches", "digits"]),
        (["compare=", "metric=speed"], ["metric=speed", "test_accuracy"]),
        (["compare=auto", "baseline=zca"], ["baseline=zca", "there are"]),
        (["where=[seed=0]"], ["where=[seed=0]", "add compare=auto"]),
        (["compare=auto", "paper=quickstart"], ["paper=quickstart", "name one of them"]),
    ]:
        result = call("report", "runs=runs", *arguments)
        output = result.stdout + result.stderr
        assert result.returncode == 1 and "Traceback" not in output, output
        assert all(text in output for text in named), output


def test_work_in_other_processes_survives_a_killed_one():
    dies_elsewhere = "__import__('multiprocessing').parent_process() and __import__('os')._exit(1)"
    with workers("spectral_repro.reporting.commands") as mapper:
        assert list(mapper(str.upper, iter("abc"))) == ["A", "B", "C"]
        assert list(mapper(eval, [dies_elsewhere, "1"])) == [None, 1]


def test_work_in_other_processes_is_on_the_items_as_they_were():
    items = [{"number": number} for number in range(20)]
    with workers("spectral_repro.reporting.commands") as mapper:
        found = mapper(dict, items)
        for item in items:
            item.clear()
        assert list(found) == [{"number": number} for number in range(20)]


def test_with_one_core_no_process_is_started(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: pytest.fail("a process is prepared"))
    with workers("spectral_repro.reporting.commands") as mapper:
        assert mapper is map


def test_a_figure_that_cannot_be_drawn_is_an_error_at_the_end(call, make_run, tmp_path, monkeypatch):
    def fail(_):
        raise ZeroDivisionError("no such scale")

    make_run("experiment=quickstart/batch", accuracies=[50.0, 90.0])
    monkeypatch.setattr(figures, "KINDS", [replace(figures.KINDS[0], ending="-broken", draw=fail), *figures.KINDS])
    result = call("report", "paper=quickstart", "runs=runs", "out=pages")
    lines = result.stderr.splitlines()
    assert result.returncode == 1 and "-broken: not drawn, ZeroDivisionError: no such scale" in lines[0]
    assert "1 figure not drawn, see above; the rest is reported" in lines and "Traceback" not in result.stderr
    assert len(list((tmp_path / "pages").glob("*.png"))) == 1 and (tmp_path / "pages" / "index.html").is_file()
