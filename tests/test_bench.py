"""python -m spectral_repro.bench as a user runs it."""

import re
from pathlib import Path

import pandas as pd
import pytest

FIGURES = ("error_by_condition", "feature_error_by_condition", "error_by_gap", "error_by_time")
KEYS = ["method", "function", "size", "spectrum", "dtype"]


@pytest.fixture(scope="module")
def measured(call_in, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that suite=gradients writes at its smallest, and what it prints."""
    folder = tmp_path_factory.mktemp("bench")
    result = call_in(folder, "bench", "suite=gradients", "scale=smoke", "threads=1")
    assert result.returncode == 0 and not result.stderr, result.stderr
    assert [path.name for path in folder.iterdir()] == ["results"]
    return folder / "results" / "gradients", result.stdout


def test_numbers(measured: tuple[Path, str]):
    folder, _ = measured
    numbers = pd.read_csv(folder / "gradients.csv")
    assert not numbers.duplicated(KEYS).any()
    assert set(numbers["dtype"]) == {"float32", "float64"} and set(numbers["size"]) == {4, 8}
    assert {"separated", "clustered", "repeated", "tied", "deficient", "condition 1e8", "gap 1e-8"} <= set(numbers["spectrum"])
    exact = numbers.query("method == 'exact' and dtype == 'float64' and spectrum == 'separated'")
    assert set(exact["function"]) == {"whitening", "sqrt", "pca"} and (exact["error"] < 1e-13).all()
    assert (numbers.query("method == 'pi_whole' and dtype == 'float64'")["gain_max"] < 1e-6).all()
    times = pd.read_csv(folder / "times.csv")
    assert not times.duplicated(["method", "function", "size", "dtype"]).any() and (times["total_ms"] > 0).all()
    precision = pd.read_csv(folder / "precision.csv").query("spectrum == 'separated'")
    assert len(precision) == 3 and (precision[["reference_error", "exact_error"]] < 1e-13).all(axis=None)


def test_tables_and_figures(measured: tuple[Path, str]):
    folder, printed = measured
    for name in FIGURES:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    tables = {path.stem: path.read_text() for path in folder.glob("*.md")}
    assert {
        f"errors_{function}_{dtype}" for function in ("whitening", "sqrt", "pca") for dtype in ("float32", "float64")
    } < set(tables)
    assert all(text in printed for text in tables.values())
    assert re.search(r"\| svd +\|.*not finite", tables["errors_whitening_float64"])
    assert "Measured on " in tables["approximation_error"] and "1 thread, torch " in tables["approximation_error"]
    assert len(re.findall(r"\de[+-]\d\d", tables["approximation_error"])) == 7 * 6
    assert "6.00e+36 | 6.00e+36" in re.sub(" +", " ", tables["largest_factor"])


def test_the_page_is_one_file(measured: tuple[Path, str]):
    folder, _ = measured
    page = (folder / "index.html").read_text()
    assert page.count("<svg") == len(list(folder.glob("*.png"))) and page.count("<table") == len(list(folder.glob("*.md")))
    assert "<script" not in page and "<img" not in page and "<link" not in page
    targets = set(re.findall(r'href="#([^"]+)"', page))
    assert targets >= set(FIGURES) and all(f'id="{target}"' in page for target in targets if not target.startswith("m"))


def test_a_folder_that_cannot_be_written_to(call, tmp_path: Path):
    (tmp_path / "made" / "index.html").mkdir(parents=True)
    result = call("bench", "suite=series", "scale=smoke", "out=made")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "out=made: nothing can be written there (Is a directory); name another folder" in result.stderr.splitlines()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "suite=null: name one of clipping, cuda, gradients, layers, performance, series, sphere, steps"),
        (
            ["suite=gradients", "+sizes=[4]"],
            "+sizes: unknown key; this suite takes suite, scale, out, device, threads, seed",
        ),
        (["suite=gradients", "seed=-1"], "seed=-1: must be a whole number >= 0 and < 4294967296"),
        (
            ["suite=series", "experiments=common_ground/batch"],
            "experiments: unknown key; this suite takes suite, scale, out, device, threads, seed",
        ),
        (["suite=layers", "out=taken"], "out=taken: nothing can be written there (File exists); name another folder"),
    ],
)
def test_errors_in_one_line(call, tmp_path: Path, arguments: list[str], message: str):
    (tmp_path / "taken").touch()
    result = call("bench", *arguments)
    assert result.returncode == 1 and message in result.stderr.splitlines()
    assert "Traceback" not in result.stderr and not result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
