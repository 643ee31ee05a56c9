import numpy as np
import pytest


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_same_images_and_labels_as_torchvision(cifar, monkeypatch):
    cifar.write()
    cifar.publish(monkeypatch)
    data = cifar.load(cifar.root)
    for split, train in ((data.train, True), (data.test, False)):
        expected = cifar.archive(cifar.root, train=train)
        np.testing.assert_array_equal(split.images.permute(0, 2, 3, 1).numpy(), expected.data)
        assert split.labels.tolist() == expected.targets


def test_a_missing_file_is_named_and_the_folder_is_unchanged(cifar, monkeypatch, error_of):
    cifar.write()
    cifar.publish(monkeypatch)
    (cifar.folder / cifar.test_file).unlink()
    before = contents(cifar.folder)
    for check_integrity in (True, False):
        message = error_of(cifar.load, cifar.root, download=True, check_integrity=check_integrity)
        assert f"{cifar.folder / cifar.test_file} is missing" in message
        assert f"move {cifar.folder} away" in message
    assert contents(cifar.folder) == before


def without(entry: dict, key: bytes) -> dict:
    return {name: value for name, value in entry.items() if name != key}


@pytest.mark.parametrize(
    ("cut", "reason"),
    [
        (lambda content: content[:-2000], "truncated"),
        (lambda content: b"", "EOFError"),
        (lambda content: b"<html>404 Not Found</html>", "UnpicklingError"),
        (lambda content: b"cposix\nsystem\n(S'exit 1'\ntR.", "it names posix.system"),
    ],
)
def test_file_that_is_no_pickle_is_named(cifar, cut, reason, error_of):
    cifar.write()
    path = cifar.folder / cifar.train_files[-1]
    path.write_bytes(cut(path.read_bytes()))
    message = error_of(cifar.load, cifar.root, check_integrity=False)
    assert message.startswith(f"{path} is damaged")
    assert reason in message
    assert f"move {cifar.folder} away" in message


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
def test_file_with_wrong_content_is_named(cifar, damage, reason, error_of):
    cifar.write()
    name = cifar.train_files[-1]
    cifar.write_file(name, damage(cifar.entry(name), cifar.label_key))
    message = error_of(cifar.load, cifar.root, check_integrity=False)
    assert message.startswith(f"{cifar.folder / name} is damaged")
    assert reason in message


def test_label_limit(cifar, error_of):
    cifar.write()
    entry = cifar.entry(cifar.test_file)
    cifar.write_file(cifar.test_file, {**entry, cifar.label_key: [cifar.num_classes - 1] * 6})
    assert cifar.load(cifar.root, check_integrity=False).test.labels.tolist() == [cifar.num_classes - 1] * 6
    cifar.write_file(cifar.test_file, {**entry, cifar.label_key: [cifar.num_classes] * 6})
    assert f"not within 0..{cifar.num_classes - 1}" in error_of(cifar.load, cifar.root, check_integrity=False)
