"""scripts/gpu.sh from beginning to end, on the CPU."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu.sh"
FEW = {"ROWS": "batch", "SEEDS": "0", "NORMS": "batch"}
PARTS = ("layers", "optimisers", "training", "compilation", "bench", "common_ground", "resnet18")


def call(out: Path, device: str = "cpu", **settings: str) -> subprocess.CompletedProcess:
    environment = os.environ | FEW | {"NO_SETUP": "1", "OUT": str(out), "OMP_NUM_THREADS": "1"} | settings
    command = ["bash", str(SCRIPT), f"device={device}", "scale=smoke", "dataset=random"]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_everything_at_the_smallest_scale_and_once(tmp_path):
    begun = call(tmp_path, MINUTES="1")
    assert begun.returncode == 0, begun.stdout + begun.stderr
    finished = [part for part in PARTS if f"{part}: finished after" in begun.stdout]
    left = [part for part in PARTS if part not in finished]
    assert left and f"Not finished: {' '.join(left)}. The same command continues from here." in begun.stdout
    went_on = call(tmp_path, MINUTES="15")
    assert went_on.returncode == 0, went_on.stdout + went_on.stderr
    assert [part for part in PARTS if f"{part}: finished after" in went_on.stdout] == left
    assert "10 passed" in (tmp_path / "optimisers.log").read_text()
    runs = {folder.name.partition("-seed0")[0] for folder in (tmp_path / "runs").glob("*")}
    assert runs == {"common_ground_batch", "wang2019_resnet18_batch"}
    for page in ("bench", "common_ground", "wang2019"):
        assert (tmp_path / page / "index.html").exists()
    again = call(tmp_path, MINUTES="0")
    assert again.returncode == 0 and not any(part in again.stdout for part in PARTS)


def test_a_device_that_torch_cannot_use_is_an_error_at_once(tmp_path):
    ended = call(tmp_path, device="cuda:77")
    assert ended.returncode == 1 and ended.stderr.endswith("Give device=cpu for a trial without one.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["device.log"]
