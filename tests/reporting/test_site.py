"""A report and the site on disk."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from spectral_repro.configuration.compose import compose
from spectral_repro.errors import UserError
from spectral_repro.reporting.load import read_places
from spectral_repro.reporting.papers import load_paper
from spectral_repro.reporting.site import write, write_site
from spectral_repro.reporting.tables import markdown
from spectral_repro.training.execute import execute

PAPER = """
name: quickstart
title: Norm layers & digits
source: Someone, 2019
compare: [norm]
metric: test_accuracy
protocol: Digits, one layer replaced.
errata: ["Its <ResNet> cannot be run."]
tables:
  digits:
    title: Digits
    rows:
      - {label: Batch norm, overrides: [norm=batch, model.width=4], published: {mean: 90.0}}
      - {label: "ZCA, SVD-PI", overrides: [norm=zca_pi, model.width=4], published: {mean: 91.0}}
      - {label: PCA, overrides: [norm=pca, model.width=4]}
claims:
  whitens:
    claim: Whitening does not lose a point.
    published: 91 against 90 %.
    numbers: [{table: digits, row: ["ZCA, SVD-PI"], difference_to: Batch norm, at_least: -1}]
  exact:
    claim: The factor is bounded.
    published: null
    command: python -m spectral_repro.bench suite=series
    numbers: [{file: series/series.csv, where: {method: pi}, column: factor, at_most: 20}]
"""
BROWSER = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
MISSING = shutil.which("chromium") is None or shutil.which("chromedriver") is None


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Written from three trainings on digits at the smallest scale and a half-written folder."""
    root = tmp_path_factory.mktemp("site")
    shared = ["scale=smoke", "scale.name=cpu", "trainer.threads=1", f"results_dir={root / 'results' / 'runs'}"]
    for overrides in (["norm=batch"], ["norm=batch", "seed=1"], ["norm=zca_pi"]):
        config = compose([*shared, *overrides])
        execute(config, "test", overrides)
    (root / "results" / "runs" / "broken-00000000").mkdir()
    (root / "results" / "series").mkdir()
    (root / "results" / "series" / "series.csv").write_text("method,factor\npi,18.98\n")
    lines = publish(root)
    assert "1 agrees" in lines[0] and "a page for each of 3 runs" in lines[-1]
    return root


def publish(root: Path) -> list[str]:
    paper = load_paper(OmegaConf.create(PAPER))
    runs, notices = read_places([str(root / "results" / "runs")], paper.command)
    return write_site([paper], runs, notices, root / "out", root / "results")


class Page(HTMLParser):
    """What a page links to and holds."""

    def __init__(self, path: Path):
        super().__init__()
        self.targets, self.ids, self.tags, self.texts = [], set(), [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for key, value in attributes:
            if key == "id":
                self.ids.add(value)
            elif key in ("href", "src") and not value.startswith("data:"):
                self.targets.append(value)

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def test_every_link_leads_somewhere(site):
    pages = {path.resolve(): Page(path) for path in (site / "out").rglob("*.html")}
    assert len(pages) == 2 + 3
    for path, page in pages.items():
        assert {"h1", "main", "title"} <= set(page.tags) and "http" not in " ".join(page.targets)
        for target in page.targets:
            file, _, anchor = target.partition("#")
            there = (path.parent / file).resolve() if file else path
            assert there.is_file(), (path, target)
            assert not anchor or anchor in pages[there].ids, (path, target)


def test_the_index_has_the_progress_of_a_paper(site):
    text = Page(site / "out" / "index.html").text
    assert "3 rows, 2 published: 0 reproduced in full, 2 at a reduced scale, 1 missing" in text
    assert "Whitening does not lose a point. quickstart" in text and "broken-00000000: left out, no config.yaml" in text


def test_the_page_has_claims_and_commands_for_missing_rows(site):
    page = Page(site / "out" / "quickstart" / "index.html")
    text = page.text
    assert {"#table-digits", "#protocol", "#claims", "#errata"} <= set(page.targets)
    assert "undecided at reduced scale Whitening does not lose a point. 1 seed" in text and "91 against 90 %" in text
    text_file = (site / "out" / "quickstart" / "claims.md").read_text()
    assert "**undecided** (reduced scale, 1 seed): Whitening does not lose a point. Published: 91 against 90 %." in text_file
    assert (
        "**agrees** (exact): The factor is bounded. Published: no figure" in text_file and "| series/series.csv |" in text_file
    )
    assert "agrees The factor is bounded. exact" in text and "bench suite=series" in text
    assert "Its <ResNet> cannot be run." in text and "Digits, one layer replaced." in text
    assert re.search(r"PCA (\d+ s) at [\d,]+ images/s of other runs, .*? python -m spectral_repro.train norm=pca", text)
    assert "not measured python -m spectral_repro.train norm=pca model.width=4" in text, "nobody ran the full protocol"


def test_the_page_of_a_run(site):
    texts = [Page(path).text for path in (site / "out" / "runs").iterdir()]
    (text,) = (text for text in texts if "quickstart: Digits, ZCA, SVD-PI" in text)
    for part in ("finished", "train accuracy", "Largest gradient norm", "norm.group_size", "torch 2", "Last epochs"):
        assert part in text, part


def test_unchanged_files_are_not_written_again(site):
    before = {path: path.stat().st_mtime_ns for path in (site / "out").rglob("*") if path.is_file()}
    publish(site)
    changed = {path.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed == set()


def test_other_runs_are_compared(make_run, read, tmp_path):
    for norm in ("batch", "zca_pi"):
        make_run(f"norm={norm}", "model.width=4")  # rows of the paper
        make_run(f"norm={norm}", "model.width=4", "optimizer=adam")
    make_run("norm=batch", "dataset=cifar10")
    lines = write_site([load_paper(OmegaConf.create(PAPER))], read(), [], tmp_path / "out", tmp_path)
    assert "comparisons: 1 table of runs that are not all rows of one paper" in lines
    text = Page(tmp_path / "out" / "comparisons" / "index.html").text
    assert all(label in text for label in ("batch, sgd", "batch, adam", "zca, sgd", "zca, adam")) and "cifar10" not in text
    assert "Norm, optimizer on digits" in Page(tmp_path / "out" / "index.html").text
    (run,) = (tmp_path / "out" / "runs").glob(f"{next(each for each in read() if 'Adam' in str(each.identity)).folder}.html")
    assert "../comparisons/index.html#digits" in Page(run).targets


@pytest.mark.skipif(MISSING, reason="no chromium and chromedriver on this machine")
def test_in_a_browser(site, tmp_path):
    """No error in its console, no broken image, tables sort, values show, and the command of a missing row fills it."""
    from selenium import webdriver
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in (*BROWSER.split(), "--window-size=1280,900", f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        for path in sorted((site / "out").rglob("*.html")):
            driver.get(path.as_uri())
            assert driver.get_log("browser") == []
            assert driver.execute_script("return [...document.images].every(i => i.loading === 'lazy' || i.naturalWidth > 0)")
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
            wide = driver.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
            driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            assert wide <= 0, f"{path} scrolls sideways on a phone"
        driver.get((site / "out" / "index.html").as_uri())
        verdicts = "return [...document.querySelectorAll('table.sortable tbody tr')].map(row => row.cells[0].textContent)"
        button = driver.find_element(By.CSS_SELECTOR, "table.sortable thead button")
        button.send_keys(Keys.ENTER)
        assert driver.execute_script(verdicts) == ["agrees", "undecided at reduced scale"]
        button.send_keys(Keys.ENTER)
        assert driver.execute_script(verdicts) == ["undecided at reduced scale", "agrees"]
        driver.get((site / "out" / "quickstart" / "index.html").as_uri())
        box = driver.find_element(By.CSS_SELECTOR, "[data-panels]")
        box.send_keys(Keys.ARROW_RIGHT)
        values = driver.find_element(By.CSS_SELECTOR, ".values").text
        assert values.startswith("1\n") and "Batch norm: " in values and "ZCA, SVD-PI: " in values
        ActionChains(driver).move_to_element_with_offset(box, -box.size["width"] // 20, 0).perform()
        assert driver.find_element(By.CSS_SELECTOR, ".values").text.startswith("2\n")
        commands = [code.get_attribute("textContent") for code in driver.find_elements(By.CSS_SELECTOR, "td code.command")]
        assert driver.get_log("browser") == []
    finally:
        driver.quit()
    (command,) = (text for text in commands if "norm=pca" in text and "scale=cpu" in text)
    python, *arguments = shlex.split(command)
    assert python == "python"
    subprocess.run(
        [sys.executable, *arguments], cwd=site, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, capture_output=True
    )
    publish(site)
    assert "0 reproduced in full, 3 at a reduced scale, 0 missing" in Page(site / "out" / "index.html").text


@pytest.fixture
def whole(make_run, report):
    make_run("norm=batch", accuracies=[], state="running")
    return report()


def test_files_of_a_report(whole, tmp_path):
    (section,) = whole.sections
    table, last = write(whole, tmp_path / "new" / "pages")
    assert table == markdown(section) == (tmp_path / "new" / "pages" / f"{section.name}.md").read_text(encoding="utf-8")
    assert section.name == section.table.name
    assert str(tmp_path / "new" / "pages") in last
    written = {path.name for path in (tmp_path / "new" / "pages").iterdir()}
    tables = {f"{section.name}.{kind}" for kind in ("md", "tex", "csv")}
    assert written == {"index.html", "tables.md", "tables.tex", "runs.csv", "curves.csv"} | tables
    page = (tmp_path / "new" / "pages" / "tables.md").read_text(encoding="utf-8")
    heading = f"## {section.table.title}\n\n"
    assert page == f"# {whole.paper.title}\n\n{heading}{table.removeprefix(f'{section.table.title}. ')}"
    document = (tmp_path / "new" / "pages" / "tables.tex").read_text()
    assert document.startswith("\\documentclass") and document.count("\\begin{table}") == document.count("\\end{table}") == 1


def test_a_folder_that_cannot_be_written_to(whole, tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match=r"^out=.*file: nothing can be written there .*; name another folder$"):
        write(whole, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"
