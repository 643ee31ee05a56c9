import re
from dataclasses import replace

import pytest

from spectral_repro.reporting.comparison import compare
from spectral_repro.reporting.latex import escape, latex


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("50 % & more_1 #2 $3", r"50 \% \& more\_1 \#2 \$3"),
        (r"{a}\b", r"\{a\}\textbackslash{}b"),
        ("~^<|>", r"\textasciitilde{}\textasciicircum{}\textless{}\textbar{}\textgreater{}"),
        ("1 ± 2 – −3 ×", r"1 $\pm$ 2 -- $-$3 $\times$"),
        ("[0.9, 0.999]", "{[}0.9, 0.999{]}"),
        ("ε = 1, λ, Σ, Λ, Η, ό, “x²”", r"$\epsilon$ = 1, $\lambda$, $\Sigma$, $\Lambda$, $\mathrm{H}$, o, ``x$^2$''"),
        ("fleurs, é, Łódź, 花, 😀", "fleurs, é, Łódź, U+82B1, U+1F600"),
    ],
)
def test_escape(text, escaped):
    assert escape(text) == escaped


@pytest.fixture
def lines(make_run, report):
    for seed, accuracy in enumerate([90.0, 91.0, 95.0]):
        make_run("norm=batch", seed=seed, accuracies=[99.0, accuracy])
    make_run("norm=zca_svd", accuracies=[], state="diverged", failure={"step": 1, "layer": "bn_1", "during": "output"})
    (section,) = report().sections
    first, *others = section.entries
    first = replace(first, row=replace(first.row, label="[100 %] a_b"))
    return latex(replace(section, entries=(first, *others))).splitlines()


def test_every_line_of_the_table_has_every_column(lines):
    columns = len(re.search(r"p\{\w+\}(r+)\}", "\n".join(lines))[1]) + 1
    assert columns == 9
    spanner, head, *rows = [line for line in lines if line.endswith(r" \\")]
    widths = [int(width) for width in re.findall(r"\\multicolumn\{(\d)\}", spanner)]
    assert sum(widths) == columns and r"\cmidrule(lr){6-8}" in "\n".join(lines)
    assert all(len(re.findall(r"(?<!\\)&", line)) == columns - 1 for line in (head, *rows))
    assert rows[0].startswith(r"{[}100 \%{]} a\_b & 92.00 $\pm$ 2.65 & 95.00 & 3 & 100 & 90.00 $\pm$ 0.50 & 91.00 & -- & +2.00")
    assert len(rows) == 3


def test_braces_match_and_special_characters_are_escaped(lines):
    text = "\n".join(lines)
    opened, closed = re.findall(r"\\begin\{(\w+)\}", text), re.findall(r"\\end\{(\w+)\}", text)
    assert sorted(opened) == sorted(closed) == ["minipage", "table", "tabular"]
    bare = re.sub(r"\\.", "", text)
    assert bare.count("{") == bare.count("}")
    label = next(line for line in lines if line.startswith(r"\label"))
    written = "\n".join(line for line in lines if line != label)
    assert not re.search(r"(?<!\\)[_#]", written) and written.isascii()
    assert r"Norm layers" not in written and r"Digits\_1." in written and r"output of bn\_1" in written


def test_no_published_group_without_published_values(make_run, read):
    make_run("norm=batch", "scale=smoke")
    (section,) = compare(read(), ["norm"]).sections
    text = latex(section)
    assert "multicolumn" not in text and "cmidrule" not in text and "published" not in text
