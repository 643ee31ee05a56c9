"""Common behaviour of CIFAR and SVHN: missing files, download, md5, permissions, subsets."""

import os
import shutil
from http.client import IncompleteRead
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch


@pytest.fixture
def original(published, monkeypatch) -> dict[str, bytes]:
    """The small copy is the original; what lies at the addresses of the download."""
    published.write()
    return published.publish(monkeypatch)


@pytest.fixture
def downloads(monkeypatch):
    """Addresses that were asked for; there is no network."""
    asked = []

    def urlopen(request, *args, **kwargs):
        asked.append(request.full_url)
        raise URLError("[Errno -2] Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    return asked


@pytest.fixture
def served(published, original, monkeypatch, tmp_path):
    """The small copy can be downloaded; it lies in tmp_path/unpacked, no longer in its place."""
    published.folder.rename(tmp_path / "unpacked")
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, max_hops: url)

    def retrieve(url, filename):
        Path(filename).write_bytes(original[url])

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", retrieve)
    return retrieve


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_holds_the_copy(data, published, count: int = 6) -> None:
    for split, files in ((data.train, published.train_files), (data.test, [published.test_file])):
        assert split.images.dtype == torch.uint8
        assert split.labels.dtype == torch.int64
        np.testing.assert_array_equal(split.images, np.concatenate([published.images(name, count) for name in files]))
        assert split.labels.tolist() == [label for name in files for label in published.labels(name, count)]


def test_original_files_leave_no_md5_note(published, original, downloads):
    data = published.load(published.root)
    assert_holds_the_copy(data, published)
    assert not any("md5" in note for note in data.notes)
    assert not downloads


def test_different_files_are_refused_and_stay_as_they_are(published, downloads, error_of):
    published.write()
    before = contents(published.root)
    message = error_of(published.load, published.root, download=True)
    assert str(published.folder) in message
    assert "dataset.check_integrity=false" in message
    assert all(name in message for name in published.files)
    assert contents(published.root) == before
    assert not downloads


def test_one_different_file_is_named(published, original, error_of):
    name = published.train_files[-1]
    published.alter(name)
    message = error_of(published.load, published.root)
    assert f"md5 of {name} differs" in message
    data = published.load(published.root, check_integrity=False)
    assert_holds_the_copy(data, published)
    md5_notes = [note for note in data.notes if "md5" in note]
    folder = published.folder.name if published.folder != published.root else "svhn"
    assert md5_notes == [f"the md5 of {name} in {folder} differs from the original archive's"]


def test_different_files_are_accepted_and_noted_without_the_check(published, downloads):
    published.write()
    data = published.load(published.root, download=True, check_integrity=False)
    assert_holds_the_copy(data, published)
    assert f"the md5 of {', '.join(published.files)} in " in data.notes[0]
    assert f"{len(published.train_files) * 6} training and 6 test images" in data.notes[1]
    assert not downloads


def test_missing_without_download(published, downloads, error_of):
    message = error_of(published.load, published.root, download=False)
    assert str(published.folder) in message
    assert "dataset.download=true" in message
    assert "dataset.root" in message
    assert not downloads
    assert not published.root.exists()


@pytest.mark.parametrize("empty_folder", [False, True])
def test_no_network(published, downloads, empty_folder, error_of):
    if empty_folder:
        published.folder.mkdir(parents=True)
    message = error_of(published.load, published.root)
    assert downloads
    assert downloads[0] in message
    assert "Name or service not known" in message
    assert "dataset.root" in message
    assert {path for path in published.root.iterdir()} <= {published.folder}


@pytest.mark.parametrize("error", [None, IncompleteRead(b"half"), TimeoutError("timed out")], ids=repr)
def test_failed_download_leaves_nothing(published, original, served, monkeypatch, error, error_of):
    def retrieve(url, filename):
        Path(filename).write_bytes(b"half of it")
        if error:
            raise error

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", retrieve)
    message = error_of(published.load, published.root)
    assert f"{next(iter(original))} could not be downloaded" in message
    assert not published.root.exists() or not list(published.root.iterdir())


def test_download(published, served, tmp_path):
    data = published.load(published.root)
    assert_holds_the_copy(data, published)
    assert contents(published.folder) == contents(tmp_path / "unpacked")
    assert published.folder == published.root or list(published.root.iterdir()) == [published.folder]


@pytest.mark.parametrize("left_there", [None, ".DS_Store"])
def test_an_archive_next_to_its_missing_folder_is_unpacked(cifar, monkeypatch, downloads, error_of, left_there):
    """It is unpacked after its md5 was compared, also where nothing may be downloaded, and stays."""
    cifar.write()
    (content,) = cifar.publish(monkeypatch).values()
    shutil.rmtree(cifar.folder)
    if left_there:
        cifar.folder.mkdir()
        (cifar.folder / left_there).touch()
    archive = cifar.root / cifar.archive.filename
    archive.write_bytes(content[:-1])
    assert error_of(cifar.load, cifar.root).startswith(f"{archive}: its md5 is not that of the original archive, ")
    assert not cifar.folder.exists() or left_there
    archive.write_bytes(content)
    assert_holds_the_copy(cifar.load(cifar.root, download=False), cifar)
    assert sorted(cifar.root.iterdir()) == sorted([archive, cifar.folder]) and not downloads


def test_names_of_the_classes(cifar):
    cifar.write()
    assert cifar.load(cifar.root, check_integrity=False).class_names == tuple(f"class {k}" for k in range(cifar.num_classes))
    (cifar.folder / cifar.meta_file).write_bytes(b"damaged")
    assert cifar.load(cifar.root, check_integrity=False).class_names == ()


def test_two_downloads_at_the_same_time(published, served, monkeypatch, tmp_path):
    """What another run has finished in the meantime stays."""
    unpacked = tmp_path / "unpacked"
    for path in unpacked.iterdir():
        os.utime(path, ns=(1, 1))

    def retrieve_while_another_run_finishes(url, filename):
        served(url, filename)
        shutil.copytree(unpacked, published.folder, dirs_exist_ok=True)

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", retrieve_while_another_run_finishes)
    assert_holds_the_copy(published.load(published.root), published)
    assert contents(published.folder) == contents(unpacked)
    assert {path.stat().st_mtime_ns for path in published.folder.iterdir()} == {1}


def test_root_without_permission(published, error_of):
    published.write()
    published.root.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:  # permissions do not bind root
            os.seteuid(65534)
        message = error_of(published.load, published.root, check_integrity=False)
    finally:
        os.seteuid(user)
        published.root.chmod(0o700)
    assert str(published.folder) in message
    assert "Permission denied" in message
    assert "dataset.root" in message


def test_root_that_cannot_be(published, tmp_path, downloads, error_of):
    file = tmp_path / "file"
    file.touch()
    assert str(file) in error_of(published.load, file)
    assert str(file) in error_of(published.load, file, download=False)
    assert "File name too long" in error_of(published.load, tmp_path / ("x" * 300))
    assert not downloads


def test_root_in_the_home_folder(published, monkeypatch):
    published.write()
    monkeypatch.setenv("HOME", str(published.root.parent))
    assert len(published.load("~/root", check_integrity=False).test.labels) == 6


def test_subset_is_fixed_nested_and_mixed(published):
    published.write(count=200)  # every file sorted by class

    def load(train_images: int | None):
        torch.manual_seed(train_images or 0)
        return published.load(published.root, check_integrity=False, train_images=train_images, test_images=40)

    whole, large, small = load(None), load(60), load(30)
    assert torch.equal(small.test.images, large.test.images)
    assert torch.equal(small.train.images, large.train.images[:30])
    assert torch.equal(small.train.labels, large.train.labels[:30])
    matches = (small.train.images.flatten(1)[:, None] == whole.train.images.flatten(1)[None]).all(-1)
    assert matches.sum(1).tolist() == [1] * 30
    assert torch.equal(whole.train.labels[matches.int().argmax(1)], small.train.labels)
    assert len(large.test.labels.unique()) > published.num_classes / 5
    assert large.test.labels.diff().lt(0).any()


def test_subset_larger_than_the_data_is_all(published):
    published.write()
    data = published.load(published.root, check_integrity=False, train_images=10**6, test_images=10**6)
    assert len(data.train.labels) == 6 * len(published.train_files)
    assert len(data.test.labels) == 6
    assert sorted(data.test.labels.tolist()) == published.labels(published.test_file)
