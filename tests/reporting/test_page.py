import re
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import pytest

from spectral_repro.reporting.figures import pictures
from spectral_repro.reporting.page import render
from spectral_repro.reporting.runs import read_runs
from spectral_repro.reporting.sections import gather

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """Elements, text, and whether every element is closed in its turn."""

    def __init__(self, text: str):
        super().__init__()
        self.elements, self.texts, self.open, self.within = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), tuple(self.open)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "svg", "script"} & set(self.open):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def runs_root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def source(write_run, runs_root, paper) -> str:
    make_run = partial(write_run, runs_root)
    for seed, accuracy in enumerate([90.0, 91.0, 95.0]):
        make_run("norm=batch", seed=seed, accuracies=[99.0, accuracy], git={"commit": "0123456789abcdef", "dirty": True})
    make_run("norm=zca_svd", accuracies=[30.0], state="diverged", failure={"step": 1, "layer": "<norm>", "during": "output"})
    make_run("norm=zca_svd", "scale=smoke", accuracies=[], state="running", wall_time_s=3725, images_per_second=None)
    whole = gather(paper, read_runs(runs_root, made_by="nobody")[0])
    return render(whole, {section.name: pictures(section)[0] for section in whole.sections})


@pytest.fixture
def page(source) -> Page:
    return Page(source)


def test_the_page_is_one_file(source, page, runs_root):
    assert "http" not in source and "//" not in source and "@import" not in source and "url(" not in source.replace("url(#", "")
    assert str(runs_root) not in source
    links = [value for _, attributes, _ in page.elements for key, value in attributes.items() if key.endswith(("href", "src"))]
    assert all(link.startswith("#") or link == "data:," for link in links)
    assert not {tag for tag, _, _ in page.elements} & {"iframe", "object", "img"}


def test_several_tables_are_listed_with_their_runs(make_run, read, sizes_paper):
    make_run("norm=zca_pi", "norm.group_size=8", "scale=smoke")
    whole = gather(sizes_paper, read())
    page = Page(render(whole, {section.name: [] for section in whole.sections}))
    ids = {attributes["id"] for _, attributes, _ in page.elements if "id" in attributes}
    targets = [attributes["href"] for tag, attributes, _ in page.elements if tag == "a"]
    assert len(targets) == 2 and {target.removeprefix("#") for target in targets} <= ids
    assert "Two gradients , 1 run Time of a step , no runs" in page.text


def test_the_page_has_the_numbers_of_the_tables(page):
    assert "Norm layers & digits" in page.text and "Someone, 2019" in page.text
    assert "92.00 ± 2.65" in page.text and "90.00 ± 0.50" in page.text and "+2.00" in page.text
    assert "full scale" in page.text and "scale smoke" in page.text
    assert "first the output of <norm>" in page.text, "text is escaped, not lost"
    assert "python -m spectral_repro.train norm=zca_pi scale=smoke" in page.text


def test_the_page_begins_with_the_result_its_figure_and_its_table(make_run, report):
    for seed, (batch, pi) in enumerate([(90.0, 94.0), (91.0, 95.1), (95.0, 99.2)]):
        make_run("norm=batch", seed=seed, accuracies=[50.0, batch])
        make_run("norm=zca_pi", seed=seed, accuracies=[50.0, pi])
    whole = report()
    page = Page(render(whole, {section.name: pictures(section)[0] for section in whole.sections}))
    assert "Digits_1: ZCA, SVD-PI has the highest test accuracy of 2 methods, 96.10 %, and none of the others" in page.text
    found = [tag for tag, attributes, _ in page.elements if tag in ("figure", "table") or attributes.get("class") == "found"]
    assert found[:3] == ["p", "figure", "table"]


def test_the_page_lists_every_run(page):
    assert page.text.count("finished seeds") == 1
    assert "diverged 1 30.00 – – 1 min 15 s 1,000 2 x Some CPU python 3.11.9, torch 2.14.1" in page.text
    assert "torch 2.14.1, commit 0123456 with changes" in page.text
    assert "running 0 – – – 1 h 02 min – 2 x Some CPU" in page.text
    assert "4 runs" in page.text and "1 run " in page.text


def test_wide_tables_scroll_and_there_is_a_dark_scheme(source, page):
    tables = [(within, attributes) for tag, attributes, within in page.elements if tag == "table"]
    assert len(tables) == 7 and all(within[-1] == "div" for within, _ in tables)
    boxes = [attributes for tag, attributes, _ in page.elements if tag == "div" and attributes.get("class") == "scroll"]
    assert len(boxes) == len(tables) and "overflow-x: auto" in source
    assert "prefers-color-scheme: dark" in source and 'name="viewport"' in source


def test_a_section_without_a_figure_has_none(page):
    assert [tag for tag, _, _ in page.elements].count("figure") == 1


def test_rows_without_a_run_are_folded_with_their_commands(make_run, read, sizes_paper):
    make_run("norm=zca_pi", "norm.group_size=8", "scale=smoke")
    whole = gather(sizes_paper, read())
    page = Page(render(whole, {section.name: pictures(section)[0] for section in whole.sections}))
    first, *commands = [within for tag, _, within in page.elements if tag == "code"]
    assert "header" in first and len(commands) == 4 + 5 + 2 and all("details" in within for within in commands)
    assert "4 rows without a run" in page.text and "5 rows without a run" in page.text
    assert re.search(
        r"SVD, d = 4 92.00 40 \d+ s at 1,000 images/s of other runs, 2 x Some CPU, 2 threads python -m spectral_", page.text
    )
    assert "python -m spectral_repro.train norm=zca_svd norm.group_size=4 scale=smoke" in page.text
    open_tables = [within for tag, _, within in page.elements if tag == "table" and "details" not in within]
    assert len(open_tables) == 1, "a section without a run is folded as a whole"


def test_many_notes_are_folded(make_run, report):
    for seed in range(7):
        make_run("norm=zca_svd", seed=seed, accuracies=[], state="diverged")
    whole = report()
    page = Page(render(whole, {section.name: [] for section in whole.sections}))
    (within,) = (within for tag, attributes, within in page.elements if attributes.get("class") == "notes")
    assert within[-1] == "details" and "7 notes" in page.text


def test_extremes_of_a_run(make_run, report):
    make_run("norm=zca_pi", columns={"largest_gradient": [12.345, 1.0], "smallest_gap": [1e-3, 2e-9]})
    make_run("norm=zca_pi", seed=1)
    whole = report()
    page = Page(render(whole, {section.name: [] for section in whole.sections}))
    assert "Test accuracy (%) Largest gradient Smallest gap" in page.text
    assert "80.00 12.3 2e−09 1 min 15 s" in page.text and "80.00 – – 1 min 15 s" in page.text


def test_labels_are_escaped(make_run, report):
    make_run("norm=batch")
    whole = report()
    (section,) = whole.sections
    first, *others = section.entries
    section = replace(section, entries=(replace(first, row=replace(first.row, label="<b>bold</b>")), *others))
    source = render(replace(whole, sections=(section,)), {section.name: pictures(section)[0]})
    assert "<b>" not in source and Page(source).text.count("<b>bold</b>") >= 2
