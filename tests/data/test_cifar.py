import hashlib
import os
import tarfile
from http.client import IncompleteRead
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision.datasets

from spectral_repro.errors import UserError


@pytest.fixture
def original(cifar, monkeypatch):
    """torchvision's class, its md5 sums those of the small folder: this folder is the original archive's."""
    archive = getattr(torchvision.datasets, cifar.name.upper())
    cifar.write()

    def md5(name: str) -> str:
        return hashlib.md5((cifar.folder / name).read_bytes()).hexdigest()

    monkeypatch.setattr(archive, "train_list", [[name, md5(name)] for name in cifar.train_files])
    monkeypatch.setattr(archive, "test_list", [[cifar.test_file, md5(cifar.test_file)]])
    monkeypatch.setattr(archive, "meta", {**archive.meta, "md5": md5(cifar.meta_file)})
    return archive


@pytest.fixture
def downloads(monkeypatch):
    """Addresses that were asked for; there is no network."""
    asked = []

    def urlopen(request, *args, **kwargs):
        asked.append(request.full_url)
        raise URLError("[Errno -2] Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    return asked


def error_of(load, *args, **kwargs) -> str:
    with pytest.raises(UserError) as caught:
        load(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_images_and_labels_as_torchvision(cifar, original):
    data = cifar.load(cifar.root)
    for split, train in ((data.train, True), (data.test, False)):
        expected = original(cifar.root, train=train)
        assert split.images.dtype == torch.uint8
        assert split.labels.dtype == torch.int64
        np.testing.assert_array_equal(split.images.permute(0, 2, 3, 1).numpy(), expected.data)
        assert split.labels.tolist() == expected.targets


def test_original_files_leave_no_md5_note(cifar, original):
    assert not any("md5" in note for note in cifar.load(cifar.root).notes)


def test_different_files_are_refused_and_stay_as_they_are(cifar, downloads):
    cifar.write()
    before = contents(cifar.root)
    message = error_of(cifar.load, cifar.root, download=True)
    assert str(cifar.folder) in message
    assert "dataset.check_integrity=false" in message
    assert all(name in message for name in cifar.files)
    assert contents(cifar.root) == before
    assert not downloads


def test_one_different_file_is_named(cifar, original):
    name = cifar.train_files[-1]
    cifar.write_file(name, {**cifar.entry(name), b"batch_label": b"another"})
    message = error_of(cifar.load, cifar.root)
    assert f"md5 of {name} differs" in message
    md5_notes = [note for note in cifar.load(cifar.root, check_integrity=False).notes if "md5" in note]
    assert md5_notes == [f"the md5 of {name} in {cifar.folder_name} differs from the original archive's"]


def test_different_files_are_accepted_and_noted_without_the_check(cifar, downloads):
    cifar.write()
    data = cifar.load(cifar.root, download=True, check_integrity=False)
    expected = [cifar.entry(name) for name in cifar.train_files]
    np.testing.assert_array_equal(data.train.images.flatten(1).numpy(), np.concatenate([entry[b"data"] for entry in expected]))
    assert data.train.labels.tolist() == [label for entry in expected for label in entry[cifar.label_key]]
    np.testing.assert_array_equal(data.test.images.flatten(1).numpy(), cifar.entry(cifar.test_file)[b"data"])
    assert f"the md5 of {', '.join(cifar.files)} in {cifar.folder_name} differs from the original archive's" in data.notes
    assert f"{len(expected) * 6} training and 6 test images" in data.notes[-1]
    assert not downloads


def test_missing_without_download(cifar, downloads):
    message = error_of(cifar.load, cifar.root, download=False)
    assert str(cifar.folder) in message
    assert "dataset.download=true" in message
    assert "dataset.root" in message
    assert not downloads
    assert not cifar.root.exists()


def test_missing_file_is_named_and_the_folder_stays(cifar, original, downloads):
    (cifar.folder / cifar.test_file).unlink()
    before = contents(cifar.root)
    for check_integrity in (True, False):
        message = error_of(cifar.load, cifar.root, download=True, check_integrity=check_integrity)
        assert f"{cifar.folder / cifar.test_file} is missing" in message
    assert contents(cifar.root) == before
    assert not downloads


@pytest.mark.parametrize("empty_folder", [False, True])
def test_no_network(cifar, downloads, empty_folder):
    if empty_folder:
        cifar.folder.mkdir(parents=True)
    message = error_of(cifar.load, cifar.root)
    assert downloads
    assert downloads[0] in message
    assert "Name or service not known" in message
    assert "dataset.root" in message
    assert not contents(cifar.root)
    assert {path.name for path in cifar.root.iterdir()} <= {cifar.folder_name}


@pytest.mark.parametrize("error", [None, IncompleteRead(b"half"), TimeoutError("timed out")], ids=repr)
def test_failed_download_leaves_nothing(cifar, monkeypatch, error):
    def retrieve(url, filename):
        Path(filename).write_bytes(b"half of it")
        if error:
            raise error

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, max_hops: url)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", retrieve)
    message = error_of(cifar.load, cifar.root)
    assert f"{cifar.folder_name.split('-')[1]}-python.tar.gz could not be downloaded" in message
    assert not list(cifar.root.iterdir())


@pytest.fixture
def served(cifar, original, monkeypatch, tmp_path):
    """The small folder as an archive that can be downloaded, no longer as a folder."""
    served = tmp_path / "served.tar.gz"
    with tarfile.open(served, "w:gz") as tar:
        tar.add(cifar.folder, cifar.folder_name)
    cifar.folder.rename(tmp_path / "unpacked")
    monkeypatch.setattr(original, "tgz_md5", hashlib.md5(served.read_bytes()).hexdigest())
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, max_hops: url)

    def retrieve(url, filename):
        assert url == original.url
        Path(filename).write_bytes(served.read_bytes())

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", retrieve)
    return retrieve


@pytest.mark.filterwarnings("ignore:Python 3.14 will, by default, filter extracted tar archives:DeprecationWarning")
def test_download(cifar, served):
    data = cifar.load(cifar.root)
    assert data.train.labels.tolist() == [label for name in cifar.train_files for label in cifar.entry(name)[cifar.label_key]]
    assert [path.name for path in cifar.root.iterdir()] == [cifar.folder_name]


@pytest.mark.filterwarnings("ignore:Python 3.14 will, by default, filter extracted tar archives:DeprecationWarning")
def test_two_downloads_at_the_same_time(cifar, served, monkeypatch, tmp_path):
    def retrieve_while_another_run_finishes(url, filename):
        served(url, filename)
        (tmp_path / "unpacked").rename(cifar.folder)

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", retrieve_while_another_run_finishes)
    assert len(cifar.load(cifar.root).test.labels) == 6
    assert [path.name for path in cifar.root.iterdir()] == [cifar.folder_name]


def without(entry: dict, key: bytes) -> dict:
    return {name: value for name, value in entry.items() if name != key}


@pytest.mark.parametrize(
    ("cut", "reason"),
    [
        (lambda content: content[:-2000], "truncated"),
        (lambda content: b"", "EOFError"),
        (lambda content: b"<html>404 Not Found</html>", "UnpicklingError"),
        (lambda content: b"cno_such_module\nthing\n.", "ModuleNotFoundError"),
    ],
)
def test_file_that_is_no_pickle_is_named(cifar, cut, reason):
    cifar.write()
    path = cifar.folder / cifar.train_files[-1]
    path.write_bytes(cut(path.read_bytes()))
    message = error_of(cifar.load, cifar.root, check_integrity=False)
    assert message.startswith(f"{path} is damaged")
    assert reason in message


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda entry, key: [entry], "TypeError"),
        (lambda entry, key: without(entry, b"data"), "KeyError('data')"),
        (lambda entry, key: without(entry, key), "labels')"),
        (lambda entry, key: {**entry, b"data": entry[b"data"][:, :3000]}, "(6, 3000) torch.uint8"),
        (lambda entry, key: {**entry, b"data": entry[b"data"].astype(np.float32)}, "torch.float32"),
        (lambda entry, key: {**entry, b"data": entry[b"data"][:0], key: []}, "(0, 3072)"),
        (lambda entry, key: {**entry, key: entry[key][:-1]}, "(5,) torch.int64 for 6 images"),
        (lambda entry, key: {**entry, key: [0.5] * 6}, "torch.float32 for 6 images"),
        (lambda entry, key: {**entry, key: [0, 1, 2, 3, 4, 100]}, "0..100, not within 0.."),
        (lambda entry, key: {**entry, key: [0, 1, 2, 3, 4, -1]}, "-1..4, not within 0.."),
    ],
)
def test_file_with_wrong_content_is_named(cifar, damage, reason):
    cifar.write()
    name = cifar.train_files[-1]
    cifar.write_file(name, damage(cifar.entry(name), cifar.label_key))
    message = error_of(cifar.load, cifar.root, check_integrity=False)
    assert message.startswith(f"{cifar.folder / name} is damaged")
    assert reason in message


def test_label_limit(cifar):
    cifar.write()
    entry = cifar.entry(cifar.test_file)
    cifar.write_file(cifar.test_file, {**entry, cifar.label_key: [cifar.num_classes - 1] * 6})
    assert cifar.load(cifar.root, check_integrity=False).test.labels.tolist() == [cifar.num_classes - 1] * 6
    cifar.write_file(cifar.test_file, {**entry, cifar.label_key: [cifar.num_classes] * 6})
    assert f"not within 0..{cifar.num_classes - 1}" in error_of(cifar.load, cifar.root, check_integrity=False)


def test_root_without_permission(cifar):
    cifar.write()
    cifar.root.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:  # permissions do not bind root
            os.seteuid(65534)
        message = error_of(cifar.load, cifar.root, check_integrity=False)
    finally:
        os.seteuid(user)
        cifar.root.chmod(0o700)
    assert str(cifar.folder) in message
    assert "Permission denied" in message
    assert "dataset.root" in message


def test_root_that_cannot_be(cifar, tmp_path, downloads):
    file = tmp_path / "file"
    file.touch()
    assert str(file) in error_of(cifar.load, file)
    assert str(file) in error_of(cifar.load, file, download=False)
    assert "File name too long" in error_of(cifar.load, tmp_path / ("x" * 300))
    assert not downloads


def test_root_in_the_home_folder(cifar, monkeypatch):
    cifar.write()
    monkeypatch.setenv("HOME", str(cifar.root.parent))
    assert len(cifar.load("~/root", check_integrity=False).test.labels) == 6


def test_subset_is_fixed_nested_and_mixed(cifar):
    cifar.write(count=200)  # every file sorted by class

    def load(train_images: int | None):
        torch.manual_seed(train_images or 0)
        return cifar.load(cifar.root, check_integrity=False, train_images=train_images, test_images=40)

    whole, large, small = load(None), load(60), load(30)
    assert torch.equal(small.test.images, large.test.images)
    assert torch.equal(small.train.images, large.train.images[:30])
    assert torch.equal(small.train.labels, large.train.labels[:30])
    matches = (small.train.images.flatten(1)[:, None] == whole.train.images.flatten(1)[None]).all(-1)
    assert matches.sum(1).tolist() == [1] * 30
    assert torch.equal(whole.train.labels[matches.int().argmax(1)], small.train.labels)
    assert len(large.test.labels.unique()) > cifar.num_classes / 5
    assert large.test.labels.diff().lt(0).any()


def test_subset_larger_than_the_data_is_all(cifar):
    cifar.write()
    data = cifar.load(cifar.root, check_integrity=False, train_images=10**6, test_images=10**6)
    assert len(data.train.labels) == 6 * len(cifar.train_files)
    assert len(data.test.labels) == 6
    assert sorted(data.test.labels.tolist()) == cifar.entry(cifar.test_file)[cifar.label_key]
