"""metrics.csv, as a run writes it."""

from spectral_repro.training.files import write_metrics


def test_columns_may_change_when_a_run_is_resumed(tmp_path):
    write_metrics(tmp_path / "metrics.csv", [{"epoch": 1, "output_gap": 0.5}, {"epoch": 2}])
    assert (tmp_path / "metrics.csv").read_text() == "epoch,output_gap\n1,0.5\n2,\n"
