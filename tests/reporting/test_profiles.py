"""Tables and figures of studies."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from spectral_repro.configuration.compose import compose
from spectral_repro.errors import UserError
from spectral_repro.reporting.figures import draw_profiles, pictures
from spectral_repro.reporting.page import render
from spectral_repro.reporting.papers import Paper, load_paper
from spectral_repro.reporting.runs import read_runs
from spectral_repro.reporting.sections import Section, gather
from spectral_repro.reporting.tables import aggregate, formatted, markdown
from spectral_repro.training.execute import execute

BATCH = ("study=depth", "study.layers=6", "study.repeats=4", "study.width=8")
PLAIN = (*BATCH, "study.batch_norm=false", "study.start=[0,1]")
WIDTHS = ("study=width", "study.widths=[4,8,16]", "study.layers=9", "study.repeats=3")


def row(label: str, overrides: tuple[str, ...], **more: object) -> dict[str, object]:
    return {"label": label, "overrides": list(overrides), **more}


PAPER = {
    "name": "daneshmand2021",
    "title": "Random networks",
    "source": "Someone, 2021",
    "compare": ["study"],
    "metric": "abs_cosine_similarity",
    "tables": {
        "depth": {
            "title": "Cosines",
            "axis": {"label": "Layer"},
            "rows": [
                row("BN, layers 3 to 5", BATCH, series="BN", over=[3, 5], published={"mean": 0.5}),
                row("BN, layer 1", BATCH, series="BN", at=1),
                row("Plain, layer 6", PLAIN, series="Plain", at=6),
            ],
        },
        "slope": {"title": "Slopes", "metric": "slope", "rows": [row("BN", WIDTHS, published={"mean": -0.4})]},
        "width": {
            "title": "Widths",
            "metric": "log_gram_distance",
            "axis": {"label": "Width", "log": True},
            "rows": [row(f"Width {width}", WIDTHS, series="BN", at=width) for width in (4, 8, 16)],
        },
    },
}


@pytest.fixture(scope="module")
def paper() -> Paper:
    return load_paper(OmegaConf.create(PAPER))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):
    """Two seeds of a deep study with batch norm, one without, and two of the widths."""
    results = tmp_path_factory.mktemp("runs")
    for overrides, seeds in ((BATCH, 2), (PLAIN, 1), (WIDTHS, 2)):
        for seed in range(seeds):
            common = ["trainer.threads=1", "logger=none", f"seed={seed}", f"results_dir={results}"]
            execute(compose([*overrides, *common]), "study", [])
    return results


@pytest.fixture
def sections(paper: Paper, folder) -> Callable[[], list[Section]]:
    runs, notices = read_runs(folder, made_by="nobody")
    assert notices == []
    return gather(paper, runs).sections


def metrics_of(folder, words: str) -> list[pd.DataFrame]:
    """metrics.csv of the runs whose configuration holds these words, by seed."""
    found = [path for path in folder.iterdir() if words in (path / ".hydra" / "config.yaml").read_text()]
    seeds = {OmegaConf.load(path / ".hydra" / "config.yaml").seed: path for path in found}
    return [pd.read_csv(seeds[seed] / "metrics.csv") for seed in sorted(seeds)]


def test_a_value_is_the_mean_over_the_layers_of_its_row(sections, folder):
    depth, *_ = sections
    table = aggregate(depth).set_index("method")
    batch, plain = metrics_of(folder, "- 0.999"), metrics_of(folder, "batch_norm: false")
    values = [run["abs_cosine_similarity"][2:5].mean() for run in batch]
    row = table.loc["BN, layers 3 to 5"]
    assert (row["mean"], row["std"]) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert row["difference"] == pytest.approx(np.mean(values) - 0.5)
    assert table.loc["BN, layer 1", "mean"] == pytest.approx(batch[0]["abs_cosine_similarity"][0])
    assert table.loc["Plain, layer 6", "mean"] == pytest.approx(plain[0]["abs_cosine_similarity"][5])


def test_a_slope_is_that_of_the_last_row(sections, folder):
    _, slope, _ = sections
    values = [run["slope"].iloc[-1] for run in metrics_of(folder, "widths:")]
    (row,) = aggregate(slope).itertuples()
    assert (row.mean, row.seeds) == (pytest.approx(np.mean(values)), 2)


def test_studies_have_no_best_value_and_no_success_rate(sections):
    for section in sections:
        names = {name for _, name in formatted(section).columns}
        assert {"mean ± std", "seeds"} <= names and not any("best" in name or "success" in name for name in names)


def test_the_protocol_in_words(sections):
    assert [section.label for section in sections] == ["random networks, full scale"] * 3
    assert "averaged over the repeats of a run, mean ± sample standard deviation over seeds 0–1" in markdown(sections[0])


def test_runs_of_several_rows_count_once(sections, paper):
    assert len(sections[0].runs) == 3
    page = render(gather(paper, sections[0].runs), {section.name: [] for section in sections})
    assert "Cosines</a>, 3 runs" in page


def test_lines_are_means_over_seeds_with_the_deviation_of_the_repeats(sections, folder):
    depth, slope, _ = sections
    (axes,) = draw_profiles(depth).axes
    batch = metrics_of(folder, "- 0.999")
    line, band = axes.lines[0], axes.collections[0]
    mean = np.mean([run["abs_cosine_similarity"] for run in batch], axis=0)
    spread = np.sqrt(np.mean([run["abs_cosine_similarity_std"] ** 2 for run in batch], axis=0))
    np.testing.assert_allclose(line.get_xydata(), np.column_stack([range(1, 7), mean]))
    vertices = band.get_paths()[0].vertices
    assert vertices[:, 1].max() == pytest.approx((mean + spread).max())
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Layer", "Absolute cosine similarity")
    (published,) = [line for line in axes.lines if line.get_markerfacecolor() == "none"]
    assert published.get_xydata().tolist() == [[3, 0.5], [5, 0.5]] and published.get_color() == line.get_color()
    assert draw_profiles(slope) is None


def test_a_study_has_neither_curves_nor_points(sections):
    (picture,), _ = pictures(sections[0])
    assert picture.name == "depth" and picture.description.startswith("Absolute cosine similarity against Layer")
    assert picture.caption.endswith("published values with open markers.")
    assert pictures(sections[1]) == ([], [])


def test_widths_are_drawn_on_a_logarithmic_axis(sections, folder):
    (axes,) = draw_profiles(sections[2]).axes
    assert axes.get_xscale() == "log" and axes.get_xticks().tolist() == [4, 8, 16]
    expected = np.mean([run["log_gram_distance"] for run in metrics_of(folder, "widths:")], axis=0)
    np.testing.assert_allclose(axes.lines[0].get_xydata(), np.column_stack([[4, 8, 16], expected]))


def test_a_series_needs_a_place_on_the_axis():
    settings = OmegaConf.create(PAPER)
    del settings.tables.depth.rows[1].at
    with pytest.raises(UserError, match="BN, layer 1 has only one of series and at"):
        load_paper(settings)
