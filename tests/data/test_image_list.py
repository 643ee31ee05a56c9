"""ImageNet, birds, cars, dogs and aircraft: small copies in the published file formats, loaded, cut and trained on."""

import hashlib
import multiprocessing
import re
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import scipy.io
import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2

from spectral_repro.configuration.compose import compose
from spectral_repro.data import Batches, ImageData, aircraft, cars, cub, dogs, fine_grained, imagenet
from spectral_repro.evaluation import load_trained
from spectral_repro.training.build import load_images

Listed = list[tuple[str, int]]  # path and class
TRAIN = [("a", 0), ("b", 1), ("c", 2), ("d", 1), ("e", 0), ("f", 2)]
TEST = [("g", 2), ("h", 0), ("i", 1), ("j", 2)]
LOAD = {"imagenet": imagenet, "cub": cub, "cars": cars, "dogs": dogs, "aircraft": aircraft}
SIZES = {
    "imagenet": (1281167, 50000),
    "cub": (5994, 5794),
    "cars": (8144, 8041),
    "dogs": (12000, 8580),
    "aircraft": (6667, 3333),
}
VARIANTS = ("707-320", "DH-82 Tiger", "F/A-18")


def photograph(path: Path) -> None:
    """Another one for every name, larger than it is cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(list(path.stem.encode())).integers(256, size=(5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((35 - len(path.name) % 2, 25), Image.BICUBIC).save(path, format="JPEG", quality=95)


def write_imagenet(root: Path) -> tuple[Path, Listed, Listed]:
    def split(name: str, images: Listed) -> Listed:
        return sorted((f"{name}/n0{number}/{image}.JPEG", number) for image, number in images)

    return root, split("train", TRAIN), split("val", TEST)


def write_cub(root: Path) -> tuple[Path, Listed, Listed]:
    folder, images = root / "CUB_200_2011", [*TRAIN, *TEST]
    folder.mkdir(parents=True)
    paths = [f"00{number + 1}.A_bird/{image} 1.jpg" for image, number in images]
    columns = {
        "images": paths,
        "image_class_labels": [number + 1 for _, number in images],
        "train_test_split": [int(index < len(TRAIN)) for index in range(len(images))],
    }
    for name, column in columns.items():
        (folder / f"{name}.txt").write_text("".join(f"{index + 1} {value}\n" for index, value in enumerate(column)))
    listed = [(f"images/{path}", number) for path, (_, number) in zip(paths, images, strict=True)]
    return folder, listed[: len(TRAIN)], listed[len(TRAIN) :]


def write_cars(root: Path) -> tuple[Path, Listed, Listed]:
    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    scipy.io.savemat(folder / "devkit" / "cars_meta.mat", {"class_names": np.array([["one", "two", "three"]], dtype=object)})
    kind = [("bbox_x1", object), ("class", object), ("fname", object)]
    for name, images in (("devkit/cars_train_annos", TRAIN), ("cars_test_annos_withlabels", TEST)):
        entries = np.array([[(np.uint16(3), np.uint8(number + 1), f"{image}.jpg") for image, number in images]], dtype=kind)
        scipy.io.savemat(folder / f"{name}.mat", {"annotations": entries})
    return folder, [(f"cars_train/{image}.jpg", n) for image, n in TRAIN], [(f"cars_test/{image}.jpg", n) for image, n in TEST]


def write_dogs(root: Path) -> tuple[Path, Listed, Listed]:
    root.mkdir()

    def split(name: str, images: Listed) -> Listed:
        files = [f"n0{number}-Hound/n0{number}_{image}.jpg" for image, number in images]
        column = np.array([[file] for file in files], dtype=object)
        labels = np.array([[number + 1.0] for _, number in images])
        scipy.io.savemat(root / f"{name}_list.mat", {"file_list": column, "annotation_list": column, "labels": labels})
        return [(f"Images/{file}", number) for file, (_, number) in zip(files, images, strict=True)]

    return root, split("train", TRAIN), split("test", TEST)


def write_aircraft(root: Path) -> tuple[Path, Listed, Listed]:
    folder = root / "fgvc-aircraft-2013b"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "variants.txt").write_text("".join(f"{variant}\n" for variant in VARIANTS))

    def split(name: str, images: Listed) -> Listed:
        lines = [f"00{image} {VARIANTS[number]}\n" for image, number in images]
        (folder / "data" / f"images_variant_{name}.txt").write_text("".join(lines))
        return [(f"data/images/00{image}.jpg", number) for image, number in images]

    return folder, split("trainval", TRAIN), split("test", TEST)


WRITE = {"imagenet": write_imagenet, "cub": write_cub, "cars": write_cars, "dogs": write_dogs, "aircraft": write_aircraft}


@dataclass(frozen=True)
class Copy:
    """A small copy, all of whose files lie in ``folder``."""

    name: str
    root: Path
    folder: Path
    train: Listed
    test: Listed

    def load(self, **changes) -> ImageData:
        classes = {"num_classes": 3} if self.name == "imagenet" else {}
        options = {"image_size": 16, "resize": 20, "crop": "random", "workers": 0}
        return LOAD[self.name](str(self.root), **classes | options | changes)

    def overrides(self, *more: str) -> list[str]:
        sizes = ["dataset.num_classes=3", "dataset.image_size=16", "dataset.resize=20", "dataset.batch_size=4"]
        limits = ["dataset.train_images=6", "dataset.test_images=4", "dataset.workers=0"]
        return [f"dataset={self.name}", f"dataset.root={self.root}", *sizes, *limits, *more]


def small_copy(name: str, root: Path) -> Copy:
    folder, train, test = WRITE[name](root)
    for path, _ in (*train, *test):
        photograph(folder / path)
    return Copy(name, root, folder, train, test)


@pytest.fixture(params=LOAD)
def copy(request, tmp_path) -> Copy:
    return small_copy(request.param, tmp_path / "root")


@pytest.fixture
def birds(tmp_path) -> Copy:
    return small_copy("cub", tmp_path / "root")


def test_files_and_classes_are_those_of_the_lists(copy):
    data = copy.load()
    for split, listed in ((data.train, copy.train), (data.test, copy.test)):
        assert split.images.shape == (len(listed), 3, 16, 16)
        assert split.labels.tolist() == [number for _, number in listed]
    assert data.train.images.paths == [str(copy.folder / path) for path, _ in copy.train]
    preprocess = v2.Compose([v2.PILToTensor(), v2.Resize(20), v2.CenterCrop(16)])
    expected = [preprocess(Image.open(copy.folder / path)) for path, _ in copy.test]
    assert torch.equal(data.test.images, torch.stack(expected))
    assert "holds 6 training and 4 test images, not {} and {}".format(*SIZES[copy.name]) in data.notes[0]


@pytest.mark.parametrize("name", ["imagenet", "cars", "aircraft"])
def test_same_as_torchvision(name: str, tmp_path):
    copy = small_copy(name, tmp_path / "root")
    preprocess = v2.Compose([v2.PILToTensor(), v2.Resize([20, 18]), v2.CenterCrop(16)])
    datasets = torchvision.datasets
    expected = {
        "imagenet": lambda train: datasets.ImageFolder(str(copy.root / ("train" if train else "val")), preprocess),
        "cars": lambda train: datasets.StanfordCars(copy.root, "train" if train else "test", preprocess),
        "aircraft": lambda train: datasets.FGVCAircraft(copy.root, "trainval" if train else "test", transform=preprocess),
    }[name]
    data = copy.load(resize=[20, 18], crop="centre")
    for split, train in ((data.train, True), (data.test, False)):
        images, labels = zip(*expected(train), strict=True)
        assert torch.equal(split.images, torch.stack(images))
        assert split.labels.tolist() == list(labels)


def test_images_with_fixed_crops_are_held_in_memory_up_to_the_limit(birds):
    centre, streamed = birds.load(crop="centre"), birds.load(crop="centre", memory_limit_gib=0)
    assert isinstance(centre.train.images, torch.Tensor)
    assert torch.equal(streamed.train.images.read(), centre.train.images)
    assert torch.equal(streamed.test.images.read(), birds.load().test.images)
    assert not isinstance(birds.load(views="ten_crop").test.images, torch.Tensor)


def test_subset(birds):
    chosen = birds.load(train_images=3, test_images=2)
    assert chosen.train.images.paths == birds.load(train_images=5).train.images.paths[:3]
    assert len(chosen.train.labels) == 3 and len(chosen.test.images) == 2
    assert (
        dict(zip(chosen.train.images.paths, chosen.train.labels.tolist(), strict=True)).items()
        <= {str(birds.folder / path): number for path, number in birds.train}.items()
    )


def test_every_missing_part_is_named_with_its_source(copy, error_of):
    top = {path.split("/")[0] for path, _ in (*copy.train, *copy.test)}
    parts = {
        "imagenet": ["train", "val"],
        "cub": ["images", "images.txt", "image_class_labels.txt", "train_test_split.txt"],
        "cars": ["cars_train", "cars_test", "devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat"],
        "dogs": ["Images", "train_list.mat", "test_list.mat"],
        "aircraft": ["data/images", "data/variants.txt", "data/images_variant_trainval.txt", "data/images_variant_test.txt"],
    }[copy.name]
    assert top <= {part.split("/")[0] for part in parts}
    for part in parts:
        (copy.folder / part).rename(copy.root / "aside")
        message = error_of(copy.load)
        (copy.root / "aside").rename(copy.folder / part)
        assert message.startswith(f"{copy.folder / part} is missing: get ")
        assert "https://" in message or "http://" in message
        assert f"so that {copy.folder} holds {', '.join(parts)}, or set dataset.root" in message
    assert copy.load().train.labels.tolist() == [number for _, number in copy.train]


@pytest.mark.parametrize("name", ["cub", "cars", "dogs", "aircraft"])
def test_a_listed_image_that_is_missing_is_named(name: str, tmp_path, error_of):
    copy = small_copy(name, tmp_path / "root")
    path = copy.folder / copy.test[1][0]
    path.unlink()
    assert error_of(copy.load).startswith(f"{path} is missing, and {copy.folder}")


DAMAGE: list[tuple[str, str, Callable[[bytes], bytes]]] = [
    ("cub", "images.txt", lambda content: content.replace(b"2 0", b"20", 1)),
    ("cub", "image_class_labels.txt", lambda content: b"\xff" + content),
    ("cub", "images.txt", lambda content: content + b"11 more.jpg\n"),
    ("cub", "images.txt", lambda content: b""),
    ("cars", "devkit/cars_train_annos.mat", lambda content: content[:300]),
    ("cars", "cars_test_annos_withlabels.mat", lambda content: b"<html>404 Not Found</html>"),
    ("dogs", "train_list.mat", lambda content: content[:-70]),
    ("dogs", "test_list.mat", lambda content: b""),
    ("aircraft", "data/images_variant_test.txt", lambda content: content.replace(b"707-320", b"747")),
    ("aircraft", "data/images_variant_trainval.txt", lambda content: b""),
]


@pytest.mark.parametrize(("name", "part", "damage"), DAMAGE)
def test_damaged_list_is_named(name: str, part: str, damage: Callable, tmp_path, error_of):
    copy = small_copy(name, tmp_path / "root")
    path = copy.folder / part
    path.write_bytes(damage(path.read_bytes()))
    message = error_of(copy.load)
    assert message.startswith(f"{path} is damaged (") and message.endswith("): restore it")


def test_class_zero_is_refused(birds, error_of):
    path = birds.folder / "image_class_labels.txt"
    path.write_text(path.read_text().replace("1 1\n", "1 0\n", 1))
    assert error_of(birds.load) == f"{path} is damaged (line 1: class 0, not a whole number of at least 1): restore it"


def rewritten(copy: Copy, part: str, change: Callable[[bytes], bytes]) -> None:
    path = copy.folder / part
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.replace(b"\n", b"  \n"),
        lambda content: content.replace(b"\n", b"\n\n") + b"   \n",
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: b"\xef\xbb\xbf" + content,
        lambda content: re.sub(rb"(?m)^(\d+) ", rb"\1\t ", content),
        lambda content: content.rstrip(b"\n"),
    ],
    ids=["trailing spaces", "blank lines", "Windows ends", "byte order mark", "tabs", "no last end"],
)
@pytest.mark.parametrize("name", ["cub", "aircraft"])
def test_lists_are_read_however_they_are_written(tmp_path, name: str, change: Callable):
    copy = small_copy(name, tmp_path / "root")
    for path in copy.folder.rglob("*.txt"):
        rewritten(copy, path, change)
    data = copy.load()
    assert data.train.images.paths == [str(copy.folder / path) for path, _ in copy.train]
    for split, listed in ((data.train, copy.train), (data.test, copy.test)):
        assert split.labels.tolist() == [number for _, number in listed]


LINES = [
    ("cub", "train_test_split.txt", lambda content: content.replace(b"2 1\n", b"2 2\n", 1), "line 2: 2, neither 0 nor 1"),
    ("cub", "train_test_split.txt", lambda content: content.replace(b"2 1\n", b"2 true\n", 1), "line 2: true, neither 0 nor 1"),
    (
        "cub",
        "image_class_labels.txt",
        lambda content: content.replace(b"1 1\n", b"1 1.5\n", 1),
        "line 1: class 1.5, not a whole",
    ),
    ("cub", "image_class_labels.txt", lambda content: b"\n1\n" + content, "line 2: 1 is not a number and a value"),
    ("cub", "image_class_labels.txt", lambda content: content + b"1 1\n", "line 11: image 1 occurs twice"),
    ("cub", "images.txt", lambda content: b"one " + content, "line 1: invalid literal for int"),
    ("cub", "images.txt", lambda content: content + b"12 a.jpg", "image 12 is in only one of it and image_class_labels.txt"),
    (
        "aircraft",
        "data/images_variant_test.txt",
        lambda content: content + b"7 747\n",
        "line 5: 747 is not one of the variants in",
    ),
    ("aircraft", "data/images_variant_test.txt", lambda content: content + b"7\n", "line 5: 7 is not one of the variants in"),
    ("aircraft", "data/images_variant_test.txt", lambda content: content * 2, "line 5: .* occurs twice"),
    ("aircraft", "data/variants.txt", lambda content: content * 2, "line 4: .* occurs twice"),
    ("aircraft", "data/variants.txt", lambda content: content.decode().encode("utf-16"), "byte 0 is not UTF-8"),
]


@pytest.mark.parametrize(("name", "part", "change", "fault"), LINES)
def test_other_lines_are_refused_with_their_number(tmp_path, name: str, part: str, change: Callable, fault: str, error_of):
    copy = small_copy(name, tmp_path / "root")
    rewritten(copy, part, change)
    assert re.match(rf"{re.escape(str(copy.folder / part))} is damaged \({fault}.*\): restore it$", error_of(copy.load))


def test_matlab_lists(tmp_path, error_of):
    """Names padded with spaces are read; classes that are no whole numbers and images that occur twice are refused."""
    dogs = small_copy("dogs", tmp_path / "dogs")
    path = dogs.folder / "train_list.mat"
    files = [path.removeprefix("Images/") for path, _ in dogs.train]

    def write(files: list[str], labels: list[float]) -> None:
        cells = np.array([*files, None], dtype=object)[:-1, None]
        scipy.io.savemat(path, {"file_list": cells, "labels": np.array(labels)[:, None]})

    classes = [number + 1.0 for _, number in dogs.train]
    write([f"{file}  " for file in files], classes)
    assert dogs.load().train.labels.tolist() == [number for _, number in dogs.train]
    assert dogs.load().train.images.paths == [str(dogs.folder / path) for path, _ in dogs.train]
    for labels, fault in (
        ([1.5, *classes[1:]], "entry 1: class 1.5, not a whole number of at least 1"),
        ([classes[0], -2, *classes[2:]], "entry 2: class -2.0, not a whole number"),
        ([float("nan"), *classes[1:]], "entry 1: class nan, not a whole number"),
        (classes[1:], "6 files and 5 labels"),
    ):
        write(files, labels)
        assert error_of(dogs.load).startswith(f"{path} is damaged ({fault}")
    write([files[1], *files[1:]], classes)
    assert "entry 2: " in error_of(dogs.load) and "occurs twice" in error_of(dogs.load)


def test_names_of_the_classes(copy):
    names = copy.load().class_names
    folders = {number: Path(path).parent.name for path, number in (*copy.train, *copy.test)}
    published = {"aircraft": VARIANTS, "cars": ("one", "two", "three")}
    assert names == tuple(published.get(copy.name, [folders[number] for number in sorted(folders)]))


def test_cars_without_their_names(tmp_path):
    cars = small_copy("cars", tmp_path / "root")
    (cars.folder / "devkit" / "cars_meta.mat").unlink()
    assert cars.load().class_names == ()


def test_an_archive_of_birds_next_to_its_missing_folder_is_unpacked(tmp_path, monkeypatch, error_of):
    birds = small_copy("cub", tmp_path / "root")
    archive = birds.root / "CUB_200_2011.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(birds.folder, birds.folder.name)
    shutil.rmtree(birds.folder)
    assert f"{archive}: its md5 is not that of the original archive" in error_of(birds.load)
    published = replace(fine_grained._CUB.archive, md5=hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(fine_grained._CUB, "archive", published)
    assert birds.load().train.labels.tolist() == [number for _, number in birds.train]
    assert sorted(path.name for path in birds.root.iterdir()) == ["CUB_200_2011", "CUB_200_2011.tgz"]


def test_imagenet_without_class_folders(tmp_path, error_of):
    copy = small_copy("imagenet", tmp_path / "root")
    assert "dataset.num_classes=1000" in error_of(copy.load, num_classes=1000)
    for path, _ in copy.test:
        (copy.folder / path).rename(copy.folder / "val" / Path(path).name)
    shutil.rmtree(copy.folder / "val" / "n00")
    assert "val" in (message := error_of(copy.load)) and "folder" in message


def test_root_that_is_no_folder(copy, error_of):
    shutil.rmtree(copy.root)
    copy.root.touch()
    assert str(copy.root) in error_of(copy.load)


def test_squares_larger_than_the_resized_image_are_refused(birds, error_of):
    assert error_of(birds.load, resize=15) == "dataset.resize=15: must be at least dataset.image_size=16"
    assert error_of(birds.load, resize=[30, 12]) == "dataset.resize=12: must be at least dataset.image_size=16"


def test_download_of_aircraft(tmp_path, monkeypatch, error_of):
    original = small_copy("aircraft", tmp_path / "original")
    copy = Copy("aircraft", tmp_path / "root", tmp_path / "root" / original.folder.name, original.train, original.test)
    asked, archive = [], tmp_path / "archive.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(original.folder, original.folder.name)
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, max_hops: url)

    def answer(result: Exception | None) -> None:
        def retrieve(url: str, filename: str) -> None:
            asked.append(url)
            if result:
                raise result
            shutil.copy(archive, filename)

        monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", retrieve)

    def refused() -> str:
        message = error_of(copy.load)
        assert not list(copy.root.iterdir())
        return message

    assert "dataset.download=false" in error_of(copy.load, download=False)
    answer(URLError("no route"))
    assert "fgvc-aircraft-2013b.tar.gz could not be downloaded" in (message := refused()) and "no route" in message
    answer(None)
    assert "corrupted" in refused().lower(), "its md5 is not the published one"
    monkeypatch.setattr(fine_grained._Aircraft, "md5", hashlib.md5(archive.read_bytes()).hexdigest())
    assert copy.load().train.labels.tolist() == [number for _, number in copy.train]
    asked.clear()
    copy.load()
    assert not asked and list(copy.root.iterdir()) == [copy.folder]


def plain(data: ImageData, **options) -> Batches:
    """Batches whose values are those of the pixels, 0..255, but for round-off."""
    split = data.test if "views" in options else data.train
    return Batches(split, 4, (0.0,) * 3, (1 / 255,) * 3, **options)


def pixels(batches: Batches, epoch: int = 0, start: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*batches.epoch(epoch, start), strict=True)
    return torch.cat(images), torch.cat(labels)


@pytest.mark.parametrize("crop", ["random", "random_resized"])
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_random_cuts_depend_on_seed_and_epoch_alone(birds, crop: str):
    batches = plain(birds.load(crop=crop), flip=True, seed=3)
    first, labels = pixels(batches, epoch=1)
    state = torch.get_rng_state()
    others = plain(birds.load(crop=crop, workers=2), flip=True, seed=3)
    assert torch.equal(pixels(others, epoch=1)[0], first)
    assert torch.equal(torch.get_rng_state(), state)
    del others
    assert not multiprocessing.active_children()
    rest, rest_labels = pixels(batches, epoch=1, start=1)
    assert torch.equal(rest, first[4:]) and torch.equal(rest_labels, labels[4:])

    def sums(batches: Batches, epoch: int) -> set[float]:
        return {round(float(value)) for value in pixels(batches, epoch)[0].sum((1, 2, 3))}

    assert len(sums(batches, 1) & sums(batches, 2)) < 3
    assert len(sums(batches, 1) & sums(plain(birds.load(crop=crop), flip=True, seed=4), 1)) < 3


def test_training_images_are_random_parts_and_their_mirrors(birds):
    """Every one is a place of its own resized image, as it is or mirrored."""
    resized = {path: v2.Resize(20)(v2.PILToTensor()(Image.open(path))) for path in birds.load().train.images.paths}
    labels = {path: number for path, number in zip(resized, birds.load().train.labels.tolist(), strict=True)}
    batches, seen = plain(birds.load(), flip=True), set()
    for epoch in range(4):
        for image, label in zip(*pixels(batches, epoch), strict=True):
            for path, whole in resized.items():
                places = whole.unfold(1, 16, 1).unfold(2, 16, 1).permute(1, 2, 0, 3, 4).float()
                for mirrored in (False, True):
                    expected = image.flip(-1) if mirrored else image
                    for top, left in (places - expected).abs().amax((2, 3, 4)).lt(1e-2).nonzero().tolist():
                        assert labels[path] == label
                        seen.add((path, epoch, top, left, mirrored))
    assert len(seen) == 24
    assert {mirrored for *_, mirrored in seen} == {False, True}
    assert len({(top, left) for *_, top, left, _ in seen}) > 10


@pytest.mark.parametrize("limit", [0, 4])
@pytest.mark.parametrize("views", ["mirrored", "ten_crop"])
def test_views_of_test_images(birds, views: str, limit: float):
    data = birds.load(views=views, memory_limit_gib=limit)
    batches = plain(data, views=views, shuffle=False)
    found, labels = pixels(batches)
    expected, resize = [], v2.Compose([v2.PILToTensor(), v2.Resize(20)])
    for path, _ in birds.test:
        image = resize(Image.open(birds.folder / path))
        places = v2.FiveCrop(16)(image) if views == "ten_crop" else [v2.CenterCrop(16)(image)]
        expected += [view for place in places for view in (place, place.flip(-1))]
    torch.testing.assert_close(found, torch.stack(expected).float(), rtol=0, atol=1e-3)
    assert labels.tolist() == [number for _, number in birds.test for _ in range(batches.views)]
    assert [len(labels) for _, labels in batches.epoch(0)] == [4, 4] if views == "mirrored" else [10] * 4
    assert len(batches) == len(list(batches.epoch(0)))


def test_ten_crops_need_the_files(birds):
    with pytest.raises(ValueError, match="views=ten_crop"):
        plain(birds.load(), views="ten_crop")


def test_as_the_trainer_loads_it(copy):
    data = load_images(compose([*copy.overrides(), "dataset.train_images=null"]))
    assert (len(data.train.labels), len(data.test.labels)) == (6, 4)
    assert data.train.images.cut is not copy.load(crop="centre", memory_limit_gib=0).train.images.cut


def test_short_training(copy, train):
    run = train(*copy.overrides("model=alexnet_small", "pooling=gcp", "trainer.epochs=1"))
    assert len((run / "metrics.csv").read_text().splitlines()) == 2
    network, transforms, names = load_trained(run)
    assert names == (copy.load().class_names or ("0", "1", "2"))
    with torch.no_grad(), Image.open(copy.folder / copy.test[0][0]) as image:
        assert network(transforms.all_views(image)).shape == (1 if copy.name == "imagenet" else 2, 3)


def test_training_is_resumed_within_an_epoch(tmp_path, train, interrupt):
    copy = small_copy("imagenet", tmp_path / "root")
    overrides = copy.overrides("model=alexnet_small", "trainer.epochs=1")

    def result(run: Path) -> dict[str, torch.Tensor]:
        return torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model"]

    expected = result(train(*overrides))
    interrupt(*overrides, "force=true")
    found = result(train(*overrides, "dataset.workers=1"))
    assert all(torch.equal(found[key], expected[key]) for key in expected)
