"""python -m spectral_repro.predict as a user runs it."""

import csv
import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spectral_repro.configuration.compose import compose, replace_unprintable
from spectral_repro.errors import UserError
from spectral_repro.evaluation.prediction import _Pictures
from spectral_repro.evaluation.trained import restore
from spectral_repro.predict import main
from spectral_repro.training.execute import execute

COLOURS = {"blue sky": (40, 80, 220), "fire": (230, 60, 30), "grass": (50, 200, 60)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of three classes that colours tell apart, of several sizes, in train and test."""
    rng, root = np.random.default_rng(0), tmp_path_factory.mktemp("photos")
    for split, count in (("train", 12), ("test", 4)):
        for name, colour in COLOURS.items():
            (folder := root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.normal(colour, 30, size=(9 + number, 14, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """The folder of a finished run on them; to be copied, not changed."""
    results = tmp_path_factory.mktemp("runs")
    data = ["dataset=image_folder", f"dataset.root={photos}", "dataset.image_size=8"]
    short = ["model=alexnet_small", "trainer.threads=1", "trainer.epochs=6", "logger=none", "scale=smoke", "optimizer.lr=0.02"]
    execute(compose([*data, "dataset.workers=0", "dataset.batch_size=6", *short, f"results_dir={results}"]), "photos", [])
    (folder,) = results.iterdir()
    return folder


@pytest.fixture
def predict(call) -> Callable[..., tuple[int, list[dict[str, str]], str]]:
    """Runs the command within this process; returns its exit status, the rows that it prints and errors."""

    def run(*arguments: str) -> tuple[int, list[dict[str, str]], str]:
        result = call("predict", "workers=0", *arguments)
        return result.returncode, list(csv.DictReader(io.StringIO(result.stdout))), result.stderr

    return run


def test_predictions_agree_with_the_evaluation(predict, run, photos):
    code, rows, errors = predict(f"run={run}", f"images={photos}/test", "batch_size=5")
    assert (code, errors) == (0, "")
    paths = [str(path) for name in COLOURS for path in sorted((photos / "test" / name).iterdir())]
    assert [row["file"] for row in rows] == paths and {row["class"] for row in rows} <= COLOURS.keys()
    right = [Path(row["file"]).parent.name == row["class"] for row in rows]
    accuracy = json.loads((run / "summary.json").read_text())["final"]["test_accuracy"]
    assert 100 * np.mean(right) == pytest.approx(accuracy) and accuracy > 50
    assert all(1 / 3 <= float(row["probability"]) <= 1 for row in rows)


def test_unreadable_images_are_named_and_the_others_are_predicted(predict, run, tmp_path):
    name = "[some, new] images"  # a list for Hydra, a pattern for glob
    (folder := tmp_path / name).mkdir()
    Image.new("RGB", (30, 20), COLOURS["grass"]).save(folder / "b.png")
    Image.new("L", (8, 8)).save(folder / "d.png")
    (folder / "a.png").write_text("no image")
    (folder / "c.jpg").write_bytes((folder / "b.png").read_bytes()[:60])
    for file in (".DS_Store", "._b.png", "Thumbs.db", "desktop.ini", "__MACOSX/._b.png", "more/e.png"):
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).touch()
    code, rows, errors = predict(f"run={run}", f"images={name}", "out=found.csv")
    assert code == 1 and not rows
    lines = errors.splitlines()
    assert [line.partition(" cannot be read as an image")[0] for line in lines[:3]] == [
        f"{name}/{file}" for file in ("a.png", "c.jpg", "more/e.png")
    ]
    assert "3 of 5 files cannot be read as images, see above" in lines[3:]
    lines = (tmp_path / "found.csv").read_text().splitlines()
    assert lines[0] == "file,class,probability" and len(lines) == 3
    assert lines[1].startswith(f'"{name}/b.png",') and lines[2].startswith(f'"{name}/d.png",')


def test_a_pipe_is_no_image_and_a_link_to_a_folder_around_it_no_folder(predict, run, tmp_path):
    (folder := tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    os.mkfifo(folder / "b.png")
    (folder / "again").symlink_to(folder)
    code, rows, errors = predict(f"run={run}", "images=images")
    assert code == 1 and [row["file"] for row in rows] == ["images/a.png"]
    assert errors.startswith("images/b.png cannot be read as an image (a pipe, not a file)")


def test_names_that_are_not_utf8(predict, run, tmp_path):
    (folder := tmp_path / "images").mkdir()
    with (folder / os.fsdecode(b"caf\xe9.png")).open("wb") as file:
        Image.new("RGB", (8, 8)).save(file, "PNG")
    assert predict(f"run={run}", "images=images", "out=found.csv")[0] == 0
    assert b"\nimages/caf\xe9.png," in (tmp_path / "found.csv").read_bytes()


def test_prediction_of_one_image_with_a_checkpoint_file(command, run, photos, tmp_path):
    image = photos / "test" / "fire" / "0.png"
    result = command("predict", f"run={run}/checkpoints/best.pt", f"images={image}")
    assert result.returncode == 0 and not result.stderr
    assert len(result.stdout.splitlines()) == 2 and result.stdout.startswith("file,class,probability\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "run=null: name the folder of a run or a checkpoint file"),
        (["run=."], "images=null: name a folder"),
        (["run=nowhere", "images=empty/one.png"], "nowhere: no such file or folder; runs are made by"),
        (["run=nowhere", "images=empty"], "images=empty: holds no files"),
        (["run=nowhere", "images=nothing"], "images=nothing: cannot be read (No such file or directory)"),
        (["run=.", "images=empty", "workers=1000000"], "workers=1000000: must be a whole number >= 0 and < 1025"),
        (["run=.", "images=empty", "weights=average"], "weights=average: must be model or ema"),
        (["run=.", "images=empty", "batch_size=0"], "batch_size=0: must be a whole number >= 1"),
        (["run=a${x}", "images=empty"], "Interpolation key 'x' not found"),
        (["run=.", "images=of${x}"], "images=of${x}: ${ begins the name of another value in a configuration; rename"),
        (["run=.", "images=empty", "hydra.run.dir=/proc/x"], "hydra.run.dir=/proc/x: cannot be made (No such file"),
        (["run=.", "images=empty", "+top=3"], "+top: unknown key; predict takes run, images, out, "),
    ],
)
def test_errors_in_one_line(predict, tmp_path, arguments, message):
    for name in ("empty", "of${x}"):
        (tmp_path / name).mkdir()
    if "images=empty/one.png" in arguments:
        Image.new("L", (8, 8)).save(tmp_path / "empty" / "one.png")
    code, rows, errors = predict(*arguments)
    assert code == 1 and not rows and "Traceback" not in errors, errors
    assert any(line.startswith(message) for line in errors.splitlines()), errors


@pytest.mark.parametrize(
    ("out", "fault"), [("no/folder/found.csv", "No such file or directory"), ("/dev/full", "No space left")]
)
def test_an_output_that_cannot_be_written(predict, run, photos, out, fault):
    code, _, errors = predict(f"run={run}", f"images={photos}/test/fire", f"out={out}")
    assert code == 1 and f"\nout={out}: cannot be written ({fault}" in errors and "Traceback" not in errors


# torch raises the error in a signal handler, which may run inside a callback of the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_worker_that_is_killed(predict, run, photos, monkeypatch):
    monkeypatch.setattr(_Pictures, "__getitem__", lambda pictures, number: os.kill(os.getpid(), signal.SIGKILL))
    code, rows, errors = predict(f"run={run}", f"images={photos}/test/fire", "workers=1")
    assert code == 1 and not rows and "Traceback" not in errors
    assert (
        "\nworkers=1: a process that decodes images was killed, often because memory ran out; lower it, or start again"
        in errors
    )


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")])
def test_out_of_memory(predict, run, photos, monkeypatch, error):
    def fail(pictures: _Pictures, number: int) -> None:
        raise error

    monkeypatch.setattr(_Pictures, "__getitem__", fail)
    code, _, errors = predict(f"run={run}", f"images={photos}/test/fire")
    assert code == 1 and "\nbatch_size=64: out of memory, lower it\n" in errors


def test_a_closed_output(monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    replace_unprintable()
    for output in (sys.stdout, sys.stderr):
        with output:
            print("nothing", file=output, flush=True)


def test_a_current_folder_that_is_gone(monkeypatch, tmp_path, capsys):
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    monkeypatch.setattr(sys, "argv", ["predict", "run=x", "images=y"])
    gone.rmdir()
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 1
    assert capsys.readouterr().err == "the current folder: No such file or directory; change to another\n"


def test_an_unfinished_run(predict, run, photos, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "summary.json").write_text(json.dumps({"state": "interrupted"}))
    code, _, errors = predict(f"run={copy}", f"images={photos}")
    assert code == 1 and "Only finished runs can be evaluated" in errors
    assert predict(f"run={copy}/checkpoints/last.pt", f"images={photos}/test")[0] == 0


def test_a_folder_whose_images_changed_is_not_evaluated(run, photos, tmp_path):
    """Its split into training and test images may be another, so that some test images were trained on."""
    content = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    folder = shutil.copytree(photos, tmp_path / "photos")
    content["config"]["dataset"]["root"] = content["config"]["dataset"]["load"]["folder"] = str(folder)
    torch.save(content, tmp_path / "own.pt")
    count = len(restore(tmp_path / "own.pt", torch.device("cpu")).predictions[1])
    shutil.copy(picture := next(folder.rglob("*.png")), picture.with_name("new.png"))
    with pytest.raises(UserError, match=r"now has the content .*restore its files, or name a folder of test images with data"):
        restore(tmp_path / "own.pt", torch.device("cpu"))
    trained = restore(tmp_path / "own.pt", torch.device("cpu"), dataset={"root": str(folder)})
    assert len(trained.predictions[1]) >= count
