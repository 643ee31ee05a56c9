"""The figure of the largest singular values."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from spectral_repro.reporting.figures import draw_spectra, pictures
from spectral_repro.reporting.runs import read_runs
from spectral_repro.reporting.sections import gather
from spectral_repro.reporting.style import image, svg

LAYERS = ["stem", "stages.0.conv10", "stages.0.conv9", "classifier"]


def write_spectra(folder, values):
    """`values` (epochs, layers)."""
    rows = [(e, name, value, 0.9 * value) for e, row in enumerate(values, 1) for name, value in zip(LAYERS, row, strict=True)]
    pd.DataFrame(rows, columns=["epoch", "layer", "exact", "power"]).to_csv(folder / "spectra.csv", index=False)


@pytest.fixture
def section(make_run, report):
    """Two seeds of one method, a diverged run of another, a third without spectra."""
    write_spectra(make_run("norm=batch", seed=0), [[1, 2, 3, 4], [5, 6, 7, 8]])
    write_spectra(make_run("norm=batch", seed=1), [[3, 4, 5, 6], [7, 8, 9, 10]])
    diverged = make_run("norm=zca_svd", state="diverged")
    write_spectra(diverged, [[0.5, 40, 1, 1], [np.inf, 20, 1, np.nan]])
    make_run("norm=zca_pi")
    (section,) = report().sections
    return section


@pytest.fixture
def figure(section) -> Figure:
    return draw_spectra(section)


def test_a_panel_for_each_method_with_spectra(figure):
    panels = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in panels] == ["Batch norm", "ZCA, SVD"]
    first, second = (np.ma.filled(axes.images[0].get_array(), np.nan) for axes in panels)
    assert first.tolist() == [[2, 6], [3, 7], [4, 8], [5, 9]], "layers in their order, epochs, the mean over seeds"
    np.testing.assert_array_equal(second, [[0.5, np.nan], [40, 20], [1, 1], [1, np.nan]])
    assert panels[0].images[0].get_extent() == [0.5, 2.5, 4.5, 0.5]


def test_one_scale_of_colours(figure):
    first, second = (axes.images[0].norm for axes in figure.axes if axes.images)
    assert first is second and (first.vmin, first.vmax) == (0.5, 40)
    assert "Largest singular value" in [axes.get_ylabel() for axes in figure.axes]


def test_the_figure_is_part_of_the_report(section):
    picture = pictures(section)[0][-1]
    assert picture.name == f"{section.name}-spectra" and "circular padding" in picture.caption
    assert picture.files["png"].startswith(b"\x89PNG")
    assert picture.svg == svg(draw_spectra(section), picture.description)


def test_no_figure_without_spectra(make_run, report):
    make_run("norm=batch")
    (section,) = report().sections
    assert draw_spectra(section) is None


@pytest.mark.parametrize("value", [1.0, 0.0, np.nan])
def test_values_that_are_all_the_same(value, make_run, report):
    write_spectra(make_run("norm=batch"), [[value] * 4])
    (section,) = report().sections
    assert image(draw_spectra(section), "png").startswith(b"\x89PNG")


def test_many_methods_take_several_rows(make_run, sizes_paper, read):
    for norm in ("batch", "zca_pi", "zca_svd"):
        for size in (4, 8) if norm != "batch" else ("",):
            options = (f"norm={norm}", f"norm.group_size={size}") if size else ("norm=batch",)
            write_spectra(make_run(*options), [[1, 2, 3, 4]])
    section = next(each for each in gather(sizes_paper, read()).sections if each.table.name == "sizes")
    assert len([axes for axes in draw_spectra(section).axes if axes.images]) == 5


def test_a_damaged_file_is_named(make_run, runs_folder):
    (make_run("norm=batch") / "spectra.csv").write_text("epoch,layer\n1,stem\n")
    _, (notice,) = read_runs(runs_folder, made_by="nobody")
    assert notice.endswith("left out, spectra.csv has no exact, power")
