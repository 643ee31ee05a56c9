"""How figures look, and how they are written."""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from io import BytesIO, StringIO
from itertools import cycle

import matplotlib
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

INK = "#1b1b1f"  # text and axes; the page puts its own colour there
STYLE = (
    sns.axes_style("ticks", {"axes.grid": True, "grid.color": "#8888883d", "grid.linewidth": 0.6})
    | sns.plotting_context("paper", font_scale=0.95)
    | dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    | {"font.sans-serif": ["DejaVu Sans"], "lines.linewidth": 1.4, "axes.linewidth": 0.8, "pdf.fonttype": 42}
    | {"svg.hashsalt": "spectral_repro", "axes.spines.top": False, "axes.spines.right": False}
)
UNDATED = {"png": {}, "pdf": {"CreationDate": None}}


@dataclass(frozen=True)
class Look:
    """What a line keeps in every panel and figure of its section; dashes keep lines on top of each other visible."""

    colour: object
    dashes: tuple[float, ...]
    marker: str

    def handle(self, label: str, **changes: object) -> Line2D:
        return Line2D([], [], **{"color": self.colour, "dashes": self.dashes or (1, 0), "label": label} | changes)


def looks(lines: Iterable[str], references: Iterable[str] = ()) -> dict[str, Look]:
    """A look for each line, and one without colour for each reference."""
    colours, greys = cycle(sns.color_palette("colorblind", 10)), cycle((INK, "#7f7f87"))
    dashes, markers = cycle(((), (4, 1.5), (1, 1), (3, 1.25, 1.5, 1.25), (5, 1, 1, 1))), cycle("osD^vPX")
    return {line: Look(next(colours), next(dashes), next(markers)) for line in lines} | {
        reference: Look(next(greys), (), "") for reference in references
    }


def finish(figure: Figure, handles: list[Line2D]) -> Figure:
    """Puts the legend under the panels and lays the figure out, once for all formats."""
    columns = max(1, min(4, 84 // max(len(handle.get_label()) for handle in handles)))
    rows = -(-len(handles) // columns)
    figure.set_figheight(figure.get_figheight() + 0.18 * rows)
    figure.legend(handles=handles, loc="outside lower center", ncols=-(-len(handles) // rows), frameon=False)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def image(figure: Figure, kind: str) -> bytes:
    """The figure as png (200 dpi) or pdf; the same bytes for the same runs."""
    with matplotlib.rc_context(STYLE), BytesIO() as buffer:
        figure.savefig(buffer, format=kind, dpi=200, metadata=UNDATED[kind])
        return buffer.getvalue()


def svg(figure: Figure, description: str) -> str:
    """The figure as an element of a page: transparent, in the text's colour."""
    with matplotlib.rc_context(STYLE), StringIO() as buffer:
        figure.savefig(buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        drawing = buffer.getvalue()
    inner = drawing[drawing.index(">", drawing.index("<svg")) + 1 :].replace(INK, "currentColor")
    width, height = figure.get_size_inches() * 72
    return f'<svg role="img" aria-label="{escape(description)}" viewBox="0 0 {width:g} {height:g}">{inner}'
