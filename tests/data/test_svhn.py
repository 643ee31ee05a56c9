import numpy as np
import pytest


def test_same_images_and_labels_as_torchvision(svhn, monkeypatch):
    svhn.write(count=30)
    svhn.publish(monkeypatch)
    data = svhn.load(svhn.root)
    for split, names in ((data.train, svhn.train_files), (data.test, [svhn.test_file])):
        expected = [svhn.archive(svhn.root, split=name.partition("_")[0]) for name in names]
        np.testing.assert_array_equal(split.images.numpy(), np.concatenate([part.data for part in expected]))
        assert split.labels.tolist() == [label for part in expected for label in part.labels]
    assert {*data.train.labels.tolist()} >= {0, 9}


def test_only_the_missing_file_is_downloaded(svhn, monkeypatch):
    svhn.write()
    served = svhn.publish(monkeypatch)
    missing = svhn.folder / svhn.train_files[-1]
    missing.unlink()
    asked = []

    def retrieve(url, filename):
        asked.append(url)
        with open(filename, "wb") as file:
            file.write(served[url])

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, max_hops: url)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", retrieve)
    assert len(svhn.load(svhn.root).train.labels) == 6 * len(svhn.train_files)
    assert [url.rpartition("/")[2] for url in asked] == [missing.name]
    assert sorted(path.name for path in svhn.root.iterdir()) == sorted(svhn.files)


def test_missing_file_without_download_is_named(svhn, error_of):
    svhn.write()
    (svhn.folder / svhn.test_file).unlink()
    message = error_of(svhn.load, svhn.root, download=False)
    assert message.startswith(f"{svhn.folder / svhn.test_file} is missing")
    assert "dataset.root to the folder that holds test_32x32.mat" in message


@pytest.mark.parametrize(
    "cut",
    [
        lambda content: content[:-2000],
        lambda content: content[:100],
        lambda content: b"",
        lambda content: b"<html>404 Not Found</html>",
        lambda content: content[:9000] + bytes(100) + content[9100:],
    ],
)
def test_file_that_is_no_mat_file_is_named(svhn, cut, error_of):
    svhn.write()
    path = svhn.folder / svhn.train_files[-1]
    path.write_bytes(cut(path.read_bytes()))
    message = error_of(svhn.load, svhn.root, check_integrity=False)
    assert message.startswith(f"{path} is damaged")
    assert f"move {path} away" in message


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"X": None}, "KeyError('X')"),
        ({"y": None}, "KeyError('y')"),
        ({"X": np.zeros((31, 32, 3, 6), np.uint8)}, "X is (31, 32, 3, 6) uint8"),
        ({"X": np.zeros((32, 32, 3, 6))}, "X is (32, 32, 3, 6) float64"),
        ({"X": np.zeros((32, 32), np.uint8)}, "X is (32, 32) uint8"),
        ({"y": np.ones((5, 1), np.uint8)}, "y is (5, 1) for 6 images"),
        ({"y": np.array([[1, 2, 3, 4, 5, 11]], np.uint8).T}, "y is 1..11, not the whole numbers 1..10"),
        ({"y": np.array([[0, 1, 2, 3, 4, 5]], np.uint8).T}, "y is 0..5, not the whole numbers 1..10"),
        ({"y": np.array([[1, 2, 3, 4, 5, 1.5]]).T}, "not the whole numbers 1..10"),
    ],
)
def test_file_with_wrong_content_is_named(svhn, damage, reason, error_of):
    svhn.write()
    name = svhn.train_files[-1]
    svhn.write_file(name, {key: value for key, value in {**svhn.entry(name), **damage}.items() if value is not None})
    message = error_of(svhn.load, svhn.root, check_integrity=False)
    assert message.startswith(f"{svhn.folder / name} is damaged")
    assert reason in message
