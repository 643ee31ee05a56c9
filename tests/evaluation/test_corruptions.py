import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from spectral_repro.data.corrupted import generated_corruptions
from spectral_repro.data.images import fixed_order, subset
from spectral_repro.errors import UserError
from spectral_repro.evaluation.corruptions import Corruptions
from spectral_repro.evaluation.measure import measure
from spectral_repro.evaluation.subjects import find


def corruptions(root: Path, **changes: object) -> Corruptions:
    options = {"source": "generated", "names": ["contrast", "pixelate"], "severities": [1, 5], "root": str(root)}
    return Corruptions(**(options | {"images": None, "download": False, "workers": 0} | changes))


def right(trained, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Accuracy of images in [0, 255], independently of batches."""
    mean, std = (torch.tensor(list(trained.config.dataset[key]))[:, None, None] for key in ("mean", "std"))
    return 100 * (trained.model((images / 255 - mean) / std).argmax(1) == labels).double().mean().item()


def test_generated_from_the_test_images(noise_run, restored, tmp_path):
    trained = restored(noise_run)
    found = corruptions(tmp_path)(trained)
    images = generated_corruptions("random", trained.images.test, tmp_path, workers=0)
    for name in ("contrast", "pixelate"):
        splits = [images.split(name, severity) for severity in (1, 5)]
        assert found["accuracy"][name] == [pytest.approx(right(trained, split.images, split.labels)) for split in splits]
    assert found["generated_corruption_accuracy"] == pytest.approx(np.mean(list(found["accuracy"].values())))
    assert "corruption_accuracy" not in found and found["images"] == 6
    assert found["conditions"] == "generated, 2 of 19 corruptions, severity 1, 5, 6 images"


def test_generated_from_some_of_the_test_images(noise_run, restored, tmp_path):
    trained = restored(noise_run)
    found = corruptions(tmp_path, names=["contrast"], images=4)(trained)
    images = generated_corruptions("random", subset(trained.images.test, 4), tmp_path, workers=0)
    splits = [images.split("contrast", severity) for severity in (1, 5)]
    assert found["accuracy"]["contrast"] == [pytest.approx(right(trained, split.images, split.labels)) for split in splits]
    assert found["images"] == 4 and found["conditions"].endswith(", 4 images")


@pytest.mark.parametrize(("tested", "asked", "count"), [(None, None, None), (4, None, 4), (None, 4, 4), (6, 4, 4), (4, 6, 4)])
def test_published_files(noise_run, restored, tmp_path, tested, asked, count):
    trained = restored(noise_run)
    trained.config.dataset.update(name="cifar10", test_images=tested)
    generator = np.random.default_rng(0)
    images = generator.integers(256, size=(50, 32, 32, 3), dtype=np.uint8)
    labels = np.tile(generator.integers(10, size=10), 5)
    (tmp_path / "CIFAR-10-C").mkdir()
    np.save(tmp_path / "CIFAR-10-C" / "fog.npy", images)
    np.save(tmp_path / "CIFAR-10-C" / "labels.npy", labels)
    found = corruptions(tmp_path, source="published", names=["fog"], severities=[2], images=asked)(trained)
    chosen = fixed_order(10)[:count].numpy() if count else np.arange(10)
    pixels = torch.tensor(images[10:20][chosen].transpose(0, 3, 1, 2))
    assert found["corruption_accuracy"] == pytest.approx(right(trained, pixels, torch.tensor(labels[chosen])))
    assert found["conditions"] == f"CIFAR-10-C, 1 of 19 corruptions, severity 2, {count or 10} images"


def test_an_unknown_corruption_is_named(tmp_path):
    with pytest.raises(UserError, match=r"corruptions\.names=rain: must be among gaussian_noise, "):
        corruptions(tmp_path, names=["fog", "rain"])


def test_the_place_of_files_does_not_change_the_result(tmp_path):
    assert corruptions(tmp_path).settings == corruptions(tmp_path / "b", workers=3, download=True).settings
    assert corruptions(tmp_path).settings != corruptions(tmp_path, severities=[1]).settings


def test_the_version_of_the_package_belongs_to_what_it_made(noise_run, tmp_path):
    run = shutil.copytree(noise_run, tmp_path / "run")
    corrupted = corruptions(tmp_path, names=["contrast"], severities=[1])
    assert measure(find(run, "last"), {"corruptions": corrupted}, torch.device("cpu")) == []
    entry = json.loads((run / "evaluation.json").read_text())["corruptions"]
    assert entry["environment"]["versions"]["imagecorruptions-imaug"] and entry["settings"]["names"] == ["contrast"]
    assert (run / "evaluation.png").read_bytes().startswith(b"\x89PNG")
