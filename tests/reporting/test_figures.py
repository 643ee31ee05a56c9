from dataclasses import replace

from spectral_repro.reporting import figures
from spectral_repro.reporting.figures import NotDrawn, pictures
from spectral_repro.reporting.sections import gather


def test_the_table_against_its_axis_comes_before_the_curves(make_run, read, sizes_paper):
    make_run("norm=batch", "scale=smoke", columns={"step_time": [60.0, 50.0]})
    sizes, full, times, _ = gather(sizes_paper, read()).sections
    (points, curves), _ = pictures(sizes)
    assert (points.name, curves.name) == (f"{sizes.name}-axis", sizes.name)
    assert points.description == f"Test accuracy against Group size d, {sizes.label}"
    assert points.caption == (
        "Mean ± sample standard deviation over the finished seeds, as in the table; horizontal line and band: Batch norm; "
        "published values in panels with their own scale."
    )
    assert (
        "sample standard deviation" in curves.caption
        and curves.description == f"Training loss and Test accuracy against the epoch, {sizes.label}"
    )
    assert pictures(full) == pictures(times) == ([], [])


def test_published_values_of_the_same_protocol_are_open_markers(make_run, read, sizes_paper):
    make_run("norm=batch")
    (points, _), _ = pictures(gather(sizes_paper, read()).sections[0])
    assert points.caption.endswith("; published values with open markers.")


def test_a_table_without_an_axis_has_curves_alone(make_run, report):
    make_run("norm=batch")
    (section,) = report().sections
    (picture,), _ = pictures(section)
    assert picture.name == section.name
    assert picture.files["png"].startswith(b"\x89PNG") and picture.files["pdf"].startswith(b"%PDF")
    assert picture.svg.startswith("<svg") and len(picture.panels) == 2


def test_a_figure_that_cannot_be_drawn_gives_a_notice(make_run, report, monkeypatch):
    def fail(_):
        raise ZeroDivisionError("no such scale")

    make_run("norm=batch")
    (section,) = report().sections
    monkeypatch.setattr(figures, "KINDS", [replace(figures.KINDS[0], ending="-broken", draw=fail), *figures.KINDS])
    (picture,), (notice,) = pictures(section)
    assert picture.name == section.name and isinstance(notice, NotDrawn)
    assert notice.startswith(f"quickstart, figure {section.name}-broken: not drawn, ZeroDivisionError: no such scale")
