"""scripts/gpu.sh from beginning to end, on the CPU."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu.sh"
FEW = {"ROWS": "batch", "SEEDS": "0", "NORMS": "batch", "EPOCHS": "1", "PYTEST_ADDOPTS": "-k optimisers"}
PARTS = ("correctness", "bench", "common_ground", "resnet18")


def call(out: Path, **settings: str) -> str:
    environment = os.environ | FEW | {"NO_SETUP": "1", "OUT": str(out), "OMP_NUM_THREADS": "1"} | settings
    command = ["bash", str(SCRIPT), "device=cpu", "scale=smoke", "dataset=random"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.slow
def test_everything_at_the_smallest_scale_and_once(tmp_path):
    assert f"Not finished: {' '.join(PARTS)}. The same command continues from here." in call(tmp_path, MINUTES="0")
    printed = call(tmp_path)
    assert all(f"{part}: finished after" in printed for part in (*PARTS, "reports"))
    assert "5 passed" in (tmp_path / "correctness.log").read_text()
    runs = sorted(folder.name.partition("-seed0")[0] for folder in (tmp_path / "runs").glob("*"))
    assert runs == ["common_ground_batch", "wang2019_resnet18_batch"]
    for page in ("bench", "common_ground", "wang2019"):
        assert (tmp_path / page / "index.html").exists()
    again = call(tmp_path, MINUTES="0")
    assert all(f"{part}: finished before" in again for part in PARTS)
