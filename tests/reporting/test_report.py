"""python -m spectral_repro.report as a user runs it."""


def test_report_of_the_runs_there_are(command, make_run, tmp_path):
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
    assert "index.html" in written and len(written) == 4 + 2 * 5
    assert {path.suffix for path in (tmp_path / "pages").iterdir()} == {".html", ".md", ".tex", ".csv", ".png", ".pdf"}
    assert all(path.stat().st_size > 100 for path in (tmp_path / "pages").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pages", "runs"], "nothing else is left behind"
    result = command("report", "status=true", "runs=runs")
    assert result.returncode == 0 and result.stdout.splitlines()[-1] == "3 runs: 1 diverged, 2 finished"


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
        (["paper=quickstart", "scale=cpu"], ["scale=cpu", "paper, runs, out, results, published, status"]),
    ]:
        result = call("report", *arguments)
        output = result.stdout + result.stderr
        assert result.returncode == 1 and "Traceback" not in output, output
        assert all(text in output for text in named), output
