"""LaTeX tables of sections."""

import unicodedata
from collections.abc import Iterable

from spectral_repro.reporting.sections import Report, Section
from spectral_repro.reporting.tables import caption, formatted, notes, spans

GREEK = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi", "pi"),
    *("rho", "varsigma", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega"),
)
ESCAPES = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "]": "{]}"}
    | {"–": "--", "—": "---", "…": r"\ldots{}", "“": "``", "”": "''", "‘": "`", "’": "'", "²": "$^2$", "°": r"$^\circ$"}
    | {"±": r"$\pm$", "−": "$-$", "×": r"$\times$", "·": r"$\cdot$", "√": r"$\surd$", "→": r"$\to$", "∞": r"$\infty$"}
    | {"≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$", "ᵀ": r"$^\top$"}
    | {letter: rf"$\{name}$" for letter, name in zip("αβγδεζηθικλμνξπρςστυφχψω", GREEK, strict=True)}
    | {letter: rf"$\{unicodedata.name(letter).split()[-1].capitalize()}$" for letter in "ΓΔΘΞΠΣΥΦΨΩ"}
    | {"Λ": r"$\Lambda$", "ο": "o"}
    | {letter: rf"$\mathrm{{{latin}}}$" for letter, latin in zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧ", "ABEZHIKMNOPTX", strict=True)}
)


PREAMBLE = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[margin=2.5cm]{geometry}
\usepackage{array,booktabs,graphicx}
\begin{document}
"""
ON_A_PAGE = 3  # tables in tables.tex before all floats are placed


def escape(text: str) -> str:
    """Escapes a text for LaTeX. Greek letters become formulas, without accents; other characters that Latin fonts lack become
    their code, such as U+4E2D.
    """
    return "".join(map(_escaped, unicodedata.normalize("NFC", text)))


def _escaped(character: str) -> str:
    base = unicodedata.normalize("NFD", character)[0]
    if ord(character) in ESCAPES or (ord(base) in ESCAPES and not base.isascii()):
        return base.translate(ESCAPES)
    latin = character.isascii() or unicodedata.name(character, "").startswith("LATIN")
    return character if latin else f"U+{ord(character):04X}"


def latex(section: Section) -> str:
    """A table environment that is at most as wide as the line. Needs the packages array, booktabs and graphicx."""
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
    """A complete LaTeX document with every table that has a run or published values."""
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
