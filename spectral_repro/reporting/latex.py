"""A section as a table for LaTeX."""

from collections.abc import Iterable

from spectral_repro.reporting.sections import Report, Section
from spectral_repro.reporting.tables import caption, formatted, notes, spans

ESCAPES = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "]": "{]}"}
    | {"±": r"$\pm$", "−": "$-$", "×": r"$\times$", "–": "--"}
)


PREAMBLE = r"""\documentclass{article}
\usepackage[margin=2.5cm]{geometry}
\usepackage{array,booktabs,graphicx}
\begin{document}
"""
ON_A_PAGE = 3  # tables of tables.tex, so that no float waits for long


def escape(text: str) -> str:
    return text.translate(ESCAPES)


def latex(section: Section) -> str:
    """A table environment, no wider than the line; needs the packages array, booktabs and graphicx."""
    frame = formatted(section)
    lines = [
        r"\begin{table}",
        r"\centering\small\setlength{\tabcolsep}{3pt}\setlength{\belowcaptionskip}{6pt}",
        rf"\caption{{{escape(caption(section))}}}",
        rf"\label{{tab:{section.name}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{>{{\raggedright\arraybackslash}}p{{13em}}{'r' * (len(frame.columns) - 1)}}}",
        r"\toprule",
        *_spanners(spans(frame.columns)),
        _line(name for _, name in frame.columns),
        r"\midrule",
        *(_line(row) for row in frame.itertuples(index=False)),
        r"\bottomrule",
        r"\end{tabular}}",
    ]
    if remarks := notes(section):
        lines += [r"\par\smallskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright"]
        lines += [rf"{escape(remark)}\par" for remark in remarks]
        lines.append(r"\end{minipage}")
    return "\n".join([*lines, r"\end{table}", ""])


def document(report: Report) -> str:
    """Every table with a run, or with published values, as a document that compiles by itself."""
    shown = [section for section in report.sections if section.runs or section.published]
    parts = [latex(section).replace(r"\begin{table}", r"\begin{table}[p]", 1) for section in shown]
    cleared = [f"{part}\\clearpage\n" if place % ON_A_PAGE == 0 else part for place, part in enumerate(parts, 1)]
    return "".join([PREAMBLE, rf"\section*{{{escape(report.paper.title)}}}", "\n", *cleared, r"\end{document}", "\n"])


def _spanners(groups: list[tuple[str, int]]) -> list[str]:
    cells, rules, first = [], [], 1
    for group, width in groups:
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(group)}}}")
        rules += [rf"\cmidrule(lr){{{first}-{first + width - 1}}}"] if group else []
        first += width
    return [" & ".join(cells) + r" \\", "".join(rules)] if groups else []


def _line(cells: Iterable[str]) -> str:
    return " & ".join(map(_cell, cells)) + r" \\"


def _cell(text: str) -> str:
    escaped = escape(text).replace("\n", r" \\ ")
    return rf"\shortstack[r]{{{escaped}}}" if "\n" in text else escaped
