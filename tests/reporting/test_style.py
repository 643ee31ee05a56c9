import struct
from io import BytesIO

import matplotlib
import pytest
from matplotlib.figure import Figure
from PIL import Image

from spectral_repro.reporting.style import MOST_LINES, STYLE, finish, image, looks, svg


def figure() -> Figure:
    with matplotlib.rc_context(STYLE):
        drawing = Figure(figsize=(7.2, 2), layout="constrained")
        drawing.subplots().plot([1, 2], [3, 4])
        return finish(drawing, [look.handle(label) for label, look in looks(["a", "b"], ["c"]).items()])


def test_lines_and_references_have_different_looks():
    references = [f"reference {number}" for number in range(6)]
    found = looks((f"line {number}" for number in range(10)), references)
    assert len({(look.colour, look.dashes) for look in found.values()}) == 16
    assert len({look.colour for look in list(found.values())[:MOST_LINES]}) == MOST_LINES
    assert [label for label, look in found.items() if not look.marker] == references
    first, second, *_ = found.values()
    assert (first.dashes, first.marker) != (second.dashes, second.marker)


@pytest.mark.parametrize(
    ("labels", "columns"), [(["short"] * 9, 3), (["short"] * 4, 4), (["a label of thirty-two characters"] * 4, 2)]
)
def test_a_legend_has_room_for_its_labels(labels, columns):
    handle = next(iter(looks(["a"]).values())).handle
    with matplotlib.rc_context(STYLE):
        (legend,) = finish(Figure(figsize=(7.2, 2), layout="constrained"), [handle(label) for label in labels]).legends
    assert legend._ncols == columns


def test_files_have_their_format_and_are_reproducible():
    first, second = figure(), figure()
    png = image(first, "png")
    width, height = struct.unpack(">II", png[16:24])
    assert png.startswith(b"\x89PNG") and width == 1440 and height > 400
    with Image.open(BytesIO(png)) as opened:
        assert opened.mode == "RGB" and opened.info["dpi"] == pytest.approx((200, 200), abs=0.01)
    assert image(first, "pdf").startswith(b"%PDF")
    for kind in ("png", "pdf"):
        assert image(first, kind) == image(second, kind)
    assert svg(first, "text") == svg(second, "text")


def test_svg_is_an_element_in_the_colour_of_the_page():
    drawing = svg(figure(), 'accuracy & "loss"')
    assert drawing.startswith("<svg ") and drawing.rstrip().endswith("</svg>")
    assert 'aria-label="accuracy &amp; &quot;loss&quot;"' in drawing
    assert "currentColor" in drawing and "http" not in drawing and "#1b1b1f" not in drawing
