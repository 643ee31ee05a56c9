"""Style of figures, their files, and the values that a page shows under the pointer."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from io import BytesIO, StringIO
from itertools import cycle, product
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D
from PIL import Image

Panel = dict[str, Any]
Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]
INK = "#1b1b1f"  # text and axes; a page replaces it by its own text colour
FONT, SMALL = 9.12, 8.36  # points
STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    **dict.fromkeys(("font.size", "axes.labelsize", "axes.titlesize", "legend.title_fontsize"), FONT),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), SMALL),
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    **{"axes.grid": True, "axes.axisbelow": True, "grid.color": "#8888883d", "grid.linewidth": 0.6},
    **{"axes.linewidth": 0.8, "axes.spines.top": False, "axes.spines.right": False},
    **{"lines.linewidth": 1.4, "lines.markersize": 4.8, "lines.solid_capstyle": "round", "patch.linewidth": 0.8},
    **{"patch.edgecolor": "white", "patch.force_edgecolor": True},
    **dict.fromkeys(("xtick.major.width", "ytick.major.width"), 1.0),
    **dict.fromkeys(("xtick.major.size", "ytick.major.size"), 4.8),
    **dict.fromkeys(("xtick.minor.width", "ytick.minor.width"), 0.8),
    **dict.fromkeys(("xtick.minor.size", "ytick.minor.size"), 3.2),
    **{"pdf.fonttype": 42, "svg.hashsalt": "spectral_repro"},
}
# six colours that are distinct with any colour vision and in grey: their lightness is 27 to 79 of 100, in steps of about eleven
PALETTE = ("#446edb", "#dfa00f", "#780c61", "#f55980", "#5fd1f9", "#9e3809")
MOST_LINES = 6  # in a panel


@dataclass(frozen=True)
class Look:
    """Colour, dashes and marker of a line in all figures of its section. Dashes keep overlapping lines visible."""

    colour: str
    dashes: tuple[float, ...]
    marker: str

    def handle(self, label: str, **changes: object) -> Line2D:
        return Line2D([], [], **{"color": self.colour, "dashes": self.dashes or (1, 0), "label": label} | changes)


def looks(lines: Iterable[str], references: Iterable[str] = ()) -> dict[str, Look]:
    """A look for each line, different for up to 42 lines, and a grey one for each reference, different for up to six."""
    colours, greys = cycle(PALETTE), cycle(product(((), (6, 2), (2, 2)), (INK, "#7f7f87")))
    dashes, markers = cycle(((), (4, 1.5), (1, 1), (3, 1.25, 1.5, 1.25), (5, 1, 1, 1), (2, 0.8), (6, 2))), cycle("osD^vPX")
    return {line: Look(next(colours), next(dashes), next(markers)) for line in lines} | {
        reference: Look(grey, dashes, "") for reference, (dashes, grey) in zip(references, greys, strict=False)
    }


def finish(figure: Figure, handles: list[Line2D]) -> Figure:
    """Adds a legend below the panels, increases the height of the figure by that of the legend, and lays it out."""
    figure.set_figheight(figure.get_figheight() + legend_height(handles))
    add_legend(figure, handles)
    return laid_out(figure)


def legend_height(handles: list[Line2D]) -> float:
    """The height of a legend in inches."""
    return 0.18 * _legend_rows(handles)


def add_legend(place: FigureBase, handles: list[Line2D]) -> None:
    """Adds a legend below the panels of a figure or subfigure."""
    columns = -(-len(handles) // _legend_rows(handles))
    place.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)


def _legend_rows(handles: list[Line2D]) -> int:
    columns = max(1, min(4, 84 // max(len(handle.get_label()) for handle in handles)))
    return -(-len(handles) // columns)


def laid_out(figure: Figure) -> Figure:
    """Computes the constrained layout once for all file formats. The figure is not drawn for it."""
    if figure.axes and (engine := figure.get_layout_engine()):
        engine.execute(figure)
    figure.set_layout_engine("none")
    return figure


def image(figure: Figure, kind: Literal["png", "pdf"]) -> bytes:
    """The figure as PNG (200 dpi) or PDF. The same runs give the same bytes."""
    with _written(figure, 200), BytesIO() as buffer:
        if kind == "png":
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            opaque = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
            opaque.save(buffer, "png", dpi=(200, 200), compress_level=3)
        else:
            FigureCanvasPdf(figure).print_pdf(buffer, metadata={"CreationDate": None})
        return buffer.getvalue()


def svg(figure: Figure, description: str) -> str:
    """The figure as an element of a page, transparent and in the text colour of the page."""
    patches = [each.patch for each in (figure, *figure.subfigs, *figure.axes)]
    with _written(figure, 72), StringIO() as buffer:
        for patch in patches:
            patch.set_visible(False)
        FigureCanvasSVG(figure).print_svg(buffer, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        for patch in patches:
            patch.set_visible(True)
        drawing = buffer.getvalue()
    inner = drawing[drawing.index(">", drawing.index("<svg")) + 1 :].replace(INK, "currentColor")
    width, height = figure.get_size_inches() * 72
    return f'<svg role="img" aria-label="{escape(description)}" viewBox="0 0 {width:g} {height:g}">{inner}'


@contextmanager
def _written(figure: Figure, dpi: float) -> Iterator[None]:
    """Sets resolution and style for printing a figure that is laid out; `Figure.savefig` would draw it twice."""
    before = figure.dpi
    with matplotlib.rc_context(STYLE):
        figure.dpi = dpi
        yield
        figure.dpi = before


def panel(box: Sequence[float], limits: Sequence[float], log: bool, series: Mapping[Any, Sequence[Any]]) -> Panel:
    """The values of one panel for the script of a page.

    Args:
        box: left, top, right, bottom of the axes as fractions of the width and height of the figure.
        limits: of the horizontal axis.
        log: whether it is logarithmic.
        series: horizontal and vertical coordinates of the points of each line.
    """
    lines = {label: [[_short(x), _short(y)] for x, y in zip(*points, strict=True)] for label, points in series.items()}
    return {"box": [round(each, 4) for each in box], "x": [_short(each) for each in limits], "log": log, "lines": lines}


def panels(figure: Figure) -> list[Panel]:
    """The panels of a figure that is laid out, each with its labelled lines."""
    found = []
    for axes in figure.axes:
        lines = [line for line in axes.get_lines() if not line.get_label().startswith("_")]
        series = {line.get_label(): tuple(map(np.asarray, (line.get_xdata(), line.get_ydata()))) for line in lines}
        if series:
            (left, bottom), (right, top) = figure.transFigure.inverted().transform(axes.bbox.get_points())
            found.append(panel((left, 1 - top, right, 1 - bottom), axes.get_xlim(), axes.get_xscale() == "log", series))
    return found


def _short(value: float) -> float | None:
    return float(f"{value:.5g}") if np.isfinite(value) else None
