"ImageData, its splits, folders and data sets of others, and loading by name."
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from cam_course.base.core import DataError
from cam_course.data import ImageData, from_dataset, from_folder, load_data, shapes


def some(n=40, classes=4, size=8, channels=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(256, (n, channels, size, size), generator=g, dtype=torch.uint8)
    return ImageData(x, torch.arange(n) % classes, tuple("abcdefghij"[:classes]))


# ---- the container


def test_statistics_are_those_of_all_pixels():
    data = some()
    pixels = data.x.double() / 255
    assert np.allclose(data.mean, pixels.mean((0, 2, 3)), atol=1e-12)
    assert np.allclose(data.std, pixels.std((0, 2, 3), correction=0), atol=1e-12)
    black = ImageData(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]), ("a", "b"))
    assert black.std == (1 / 255,)  # nobody divides by 0


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"x": torch.zeros(4, 3, 8, 8)}, "x must be a uint8 tensor"),
        ({"x": torch.zeros(4, 8, 8, dtype=torch.uint8)}, "x must be a uint8 tensor"),
        ({"x": torch.zeros(0, 3, 8, 8, dtype=torch.uint8)}, "at least one image"),
        ({"x": np.zeros((4, 3, 8, 8), np.uint8)}, "got ndarray"),
        ({"y": torch.zeros(3, dtype=torch.int64)}, "y must be an int64 tensor with 4 labels"),
        ({"y": torch.zeros(4)}, "y must be an int64 tensor"),
        ({"y": [0, 1, 0, 1]}, "got list"),
        ({"y": torch.tensor([0, 1, 2, 0])}, "labels go from 0 to 2, but there are 2 class names"),
        ({"y": torch.tensor([0, -1, 0, 0])}, "labels go from -1 to 0"),
        ({"mean": (0.5,)}, "mean=.*give 3 numbers"),
        ({"std": 0.5}, "std=0.5: give 3 numbers"),
        ({"masks": torch.ones(4, 8, 8, dtype=torch.bool)}, "masks must be bool"),
        ({"masks": torch.ones(4, 1, 7, 8, dtype=torch.bool)}, "masks must be bool"),
        ({"masks": torch.ones(3, 1, 8, 8, dtype=torch.bool)}, "masks must be bool"),
        ({"masks": torch.ones(4, 1, 8, 8)}, "masks must be bool"),
        ({"masks": torch.ones(4, 1, 8, 7, dtype=torch.bool)}, r"here \(4, objects, 8, 8\), got torch.bool of shape \(4, 1, 8, 7\)"),
        ({"masks": [[True]]}, "masks must be bool .* got list"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, text):
    good = {"x": torch.zeros(4, 3, 8, 8, dtype=torch.uint8), "y": torch.tensor([0, 1, 0, 1]), "class_names": ("a", "b")}
    assert len(ImageData(**good)) == 4
    with pytest.raises(ValueError, match=text):
        ImageData(**good | changes)


def test_mean_and_std_of_any_kind_become_numbers():
    given = np.array([0.5, 0.4, 0.3], np.float32)
    plain, kinds = some(), ((given, None), (None, torch.from_numpy(given)), (given.tolist(), list(given)))
    made = [ImageData(plain.x, plain.y, plain.class_names, mean=mean, std=std) for mean, std in kinds]
    for data in made: assert all(type(v) is float for v in (*data.mean, *data.std))
    assert made[0].mean == made[1].std == made[2].mean == made[2].std == tuple(given.tolist())
    assert made[0].std == plain.std and made[1].mean == plain.mean


def test_subsets_take_everything_along():
    data = shapes(30, seed=1, cue=0.5)
    data.extra["note"] = "kept"
    flags = (torch.arange(30) - 5.5).abs() < 3
    for index in (slice(3, 9), [3, 4, 5, 6, 7, 8], torch.arange(3, 9), np.arange(3, 9), flags, flags.tolist()):
        part = data.subset(index)
        assert part.x.equal(data.x[3:9]) and part.y.equal(data.y[3:9]) and part.masks.equal(data.masks[3:9])
        assert part.extra["cue"].equal(data.extra["cue"][3:9]) and part.extra["note"] == "kept"
        assert (part.mean, part.std, part.name, part.class_names) == (data.mean, data.std, data.name, data.class_names)
    with pytest.raises(ValueError, match="rows must be whole numbers, or a bool for each image, got torch.float32"):
        data.subset([0.5, 1.7])
    assert data.to("cpu").x.data_ptr() == data.x.data_ptr()
    assert (data.image_size, some(size=5).image_size, len(data), data.num_classes) == (32, 5, 30, 10)
    assert ImageData(data.x[:, :, 4:], data.y, data.class_names).image_size == (28, 32)
    assert repr(data) == "ImageData(shapes: 30 images 3x32x32, 10 classes, 1 mask(s) each, on cpu)"


@settings(max_examples=150, deadline=None)
@given(
    counts=st.lists(st.integers(0, 30), min_size=2, max_size=8).filter(lambda c: sum(c) > 2),
    part=st.floats(0.02, 0.98),
    whole=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_split_is_exact_even_and_reproducible(counts, part, whole, seed):
    n = sum(counts)
    y = torch.cat([torch.full((c,), k) for k, c in enumerate(counts)])[torch.randperm(n)]
    x = torch.zeros(n, 1, 1, 2, dtype=torch.uint8)
    x[:, 0, 0, 0], x[:, 0, 0, 1] = torch.arange(n), torch.arange(n) // 256  # each image knows its row
    data = ImageData(x, y, tuple(map(str, range(len(counts)))), mean=(0.0,), std=(1.0,))
    held_out = min(max(round(part * n), 1), n - 1) if whole else part
    total = held_out if whole else round(part * n)
    if not 0 < total < n:
        with pytest.raises(ValueError, match="leaves one part empty"):
            data.split(held_out, seed)
        return
    rest, held = data.split(held_out, seed)
    rows = [d.x[:, 0, 0, 0].long() + 256 * d.x[:, 0, 0, 1].long() for d in (rest, held)]
    assert len(held) == total and torch.cat(rows).sort().values.equal(torch.arange(n))
    assert all(r.equal(r.sort().values) for r in rows)
    assert rest.y.equal(y[rows[0]]) and held.y.equal(y[rows[1]])
    share = torch.tensor(counts).double() * total / n
    assert ((held.y.bincount(minlength=len(counts)) - share).abs() < 1).all()
    assert data.split(held_out, seed)[1].x.equal(held.x)


def test_other_seeds_choose_other_images():
    data = some(400)
    first, second = (data.split(0.1, seed)[1] for seed in (0, 1))
    assert not first.x.equal(second.x)
    low_bytes = torch.arange(400).view(-1, 1, 1, 1).to(torch.uint8)
    data = ImageData(low_bytes, data.y, data.class_names)
    times = torch.zeros(256)
    for seed in range(300):  # every image has the same chance: 30 of 300 times on average
        times += data.split(40, seed)[1].x.flatten().long().bincount(minlength=256)
    per_image = times / torch.where(torch.arange(256) < 144, 2, 1)
    assert times.sum() == 300 * 40 and (per_image - 30).abs().max() < 5 * (300 * 0.1 * 0.9) ** 0.5


@pytest.mark.parametrize("held_out", [0, 1.0, 40, 41, -1, 0.0, 1.5, float("nan"), True, "3", None, 0.001])
def test_wrong_splits_are_refused(held_out):
    with pytest.raises(ValueError, match="held_out"):
        some(40).split(held_out)


def test_image_data_is_a_data_set_for_a_loader():
    data = some(10)
    x, y = next(iter(DataLoader(data, batch_size=10)))
    assert x.equal(data.x) and y.equal(data.y)


# ---- data sets of others


def pil(pixels):
    return Image.fromarray(pixels.permute(1, 2, 0).numpy() if pixels.shape[0] == 3 else pixels[0].numpy())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["tensor", "float", "array", "float array", "pil", "half"])
def test_every_kind_of_image_gives_the_same_bytes(kind, channels):
    data = some(12, channels=channels)
    convert = {
        "tensor": lambda t: t,
        "float": lambda t: t.float() / 255,
        "half": lambda t: (t.double() / 255).to(torch.float64),
        "array": lambda t: t.permute(1, 2, 0).numpy(),
        "float array": lambda t: t.permute(1, 2, 0).numpy() / 255,
        "pil": pil,
    }[kind]
    labels = [int, np.int64, torch.tensor, float]
    pairs = [(convert(x), labels[i % 4](y)) for i, (x, y) in enumerate(data)]
    for dataset in (pairs, tuple(pairs), (p for p in pairs)):
        found = from_dataset(dataset, data.class_names)
        assert found.x.equal(data.x) and found.y.equal(data.y)
    assert from_dataset(pairs).class_names == ("0", "1", "2", "3")


def test_torch_and_torchvision_data_sets(tmp_path):
    from torchvision.datasets import FakeData
    from torchvision.transforms import ToTensor

    data = some(6)
    assert from_dataset(TensorDataset(data.x, data.y)).x.equal(data.x)
    plain, tensors = FakeData(5, (3, 8, 8), 4), FakeData(5, (3, 8, 8), 4, transform=ToTensor())
    assert from_dataset(plain).x.equal(from_dataset(tensors).x) and from_dataset(plain).name == "FakeData"
    plain.classes = ["w", "x", "y", "z"]
    assert from_dataset(plain, size=4).class_names == ("w", "x", "y", "z")
    assert from_dataset(plain, size=4).image_size == 4
    assert from_dataset(plain, channels=1).x.shape == (5, 1, 8, 8)


@pytest.mark.parametrize(
    ("items", "text"),
    [
        ([], "empty"),
        ([(torch.zeros(3, 4, 4), 0), (torch.zeros(3, 4, 5), 0)], "item 1 has shape .* give size="),
        ([(torch.zeros(3, 4, 4), 0), (torch.zeros(1, 4, 4), 0)], "item 1 has shape"),
        ([(torch.zeros(3, 4, 4) - 1, 0)], "item 0.*floats from -1 to -1, .* without Normalize"),
        ([(torch.full((3, 4, 4), torch.nan), 0)], "floats from nan"),
        ([(torch.zeros(2, 4, 4), 0)], "2 channels"),
        ([(torch.zeros(4), 0)], "not an image: shape"),
        ([(np.zeros((4, 0, 3)), 0)], "not an image: shape"),
        ([("cat.png", 0)], "not an image: str"),
        ([(np.zeros((4, 4), np.int32), 0)], "an array of int32"),
        ([(torch.zeros(3, 4, 4), 0.5)], "its label is 0.5"),
        ([(torch.zeros(3, 4, 4), torch.zeros(10))], "its label has shape"),
        ([(torch.zeros(3, 4, 4), "cat")], "item 0 of the data set"),
        ([(torch.zeros(3, 4, 4), -1)], "labels go from -1"),
        ([(torch.zeros(3, 4, 4), None)], "item 0 of the data set"),
        ([torch.zeros(3, 4, 4)], "item 0 of the data set"),
        ([5], "item 0 of the data set"),
        (5, "not a data set: 5"),
        ({"a": 1}, "item 0 of the data set can't be had by its number"),
    ],
)
def test_wrong_items_are_named(items, text):
    with pytest.raises(ValueError, match=text):
        from_dataset(items, ("a", "b"))


# ---- folders


def write(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def test_folder_agrees_with_torchvision(tmp_path):
    from torchvision.datasets import ImageFolder

    data = some(12, classes=3)
    for i, (x, y) in enumerate(data):
        write(tmp_path / "cba"[y] / ("deep/er" if i % 5 == 0 else "") / f"{i}.png", pil(x))
    write(tmp_path / ".hidden" / "1.png", pil(data.x[0]))
    write(tmp_path / "a" / ".cache" / "1.png", pil(data.x[0]))
    (tmp_path / "a" / "notes.txt").write_text("hello")
    (tmp_path / "notes.png").write_text("not in a class folder")
    ours = from_folder(tmp_path)
    assert ours.class_names == ("a", "b", "c") and len(ours) == 12 and ours.name == tmp_path.name
    for name in (".hidden", "a/.cache"):
        (tmp_path / name / "1.png").unlink()
        (tmp_path / name).rmdir()
    theirs = from_dataset(ImageFolder(tmp_path))
    order = [sorted(map(bytes, d.x[d.y == k].numpy())) for d in (ours, theirs) for k in range(3)]
    assert order[:3] == order[3:] and ours.class_names == theirs.class_names


MODES = {
    "1": (1, [255] * 3), "L": (200, [200] * 3), "P": ((10, 200, 30), [10, 200, 30]), "RGB": ((1, 2, 3), [1, 2, 3]),
    "LA": ((100, 255), [100] * 3), "RGBA": ((9, 8, 7, 255), [9, 8, 7]), "CMYK": ((0, 0, 0, 0), [255] * 3),
    "I;16": (200 * 256 + 77, [200] * 3),
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_image_is_taken(tmp_path, mode):
    color, expected = MODES[mode]
    if mode == "P":
        image = Image.new("RGB", (9, 6), color).convert("P", palette=Image.Palette.ADAPTIVE)
    else:
        image = Image.new(mode, (9, 6), color)
    write(tmp_path / "a" / ("1.tif" if mode == "CMYK" else "1.png"), image)
    assert from_folder(tmp_path, size=4).x[0, :, 0, 0].tolist() == expected
    grey = from_folder(tmp_path, size=4, channels=1).x
    brightness = Image.new("RGB", (1, 1), tuple(expected)).convert("L").getpixel((0, 0))
    assert grey.shape == (1, 1, 4, 4) and abs(int(grey[0, 0, 0, 0]) - brightness) <= 1


def test_transparency_becomes_white(tmp_path):
    write(tmp_path / "a/1.png", Image.new("RGBA", (4, 4), (0, 0, 0, 0)))
    palette = Image.new("P", (4, 4), 3)
    palette.putpalette([0] * 768)
    write(tmp_path / "a/2.png", palette, transparency=3)
    write(tmp_path / "a/3.png", Image.new("RGBA", (4, 4), (0, 0, 0, 128)))
    assert [int(v) for v in from_folder(tmp_path).x[:, 0, 0, 0]] == [255, 255, 127]


def test_photographs_are_turned_upright(tmp_path):
    image = Image.new("RGB", (8, 8))
    image.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was held upside down
    write(tmp_path / "a/1.png", image, exif=exif)
    assert from_folder(tmp_path).x[0, 0].nonzero().tolist() == [[7, 7]]


def test_sizes(tmp_path):
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    write(tmp_path / "a/1.png", Image.fromarray(wide))
    assert (from_folder(tmp_path, size=10).x == 255).all()  # the middle, as it is
    assert (from_folder(tmp_path, size=5).x[..., 1:-1] == 255).all() and from_folder(tmp_path, size=64).image_size == 64
    assert from_folder(tmp_path).x.shape == (1, 3, 10, 30)
    write(tmp_path / "a/2.png", Image.fromarray(wide[:9]))
    with pytest.raises(ValueError, match=r"2.png has 30x9 px, 1.png 30x10: give size="):
        from_folder(tmp_path)
    for size in (0, -1, 2.5, "32", 10**9):
        with pytest.raises(ValueError, match="size must be a whole number"):
            from_folder(tmp_path, size=size)
    with pytest.raises(ValueError, match="channels=2"):
        from_folder(tmp_path, channels=2)


def test_bad_folders_say_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        from_folder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="has no folders: put the images of each class into one"):
        from_folder(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(FileNotFoundError, match="no images"):
        from_folder(tmp_path)
    buffer = io.BytesIO()
    Image.effect_noise((50, 50), 90).convert("RGB").save(buffer, "JPEG")
    for name, blob in [("empty.png", b""), ("text.jpg", b"hello"), ("cut.jpg", buffer.getvalue()[:700])]:
        file = tmp_path / "a" / name
        file.write_bytes(blob)
        with pytest.raises(DataError, match=f"{name} can't be read as an image.*repair it or take it away"):
            from_folder(tmp_path, size=32)
        file.unlink()
    write(tmp_path / "a/float.tif", Image.new("F", (4, 4), 0.5))
    with pytest.raises(DataError, match=r"float.tif can't be read as an image .*a 32-bit image"):
        from_folder(tmp_path)


# ---- by name


def split_folder(root, test="test", size=6):
    for part, n in (("train", 9), (test, 4)):
        data = some(n, classes=3, size=size, seed=n)
        for i, (x, y) in enumerate(data):
            write(root / part / "abc"[y] / f"{i}.png", pil(x))
    return root


@pytest.mark.parametrize("test", ["test", "val", "valid", "validation"])
def test_folders_by_name(tmp_path, test):
    train, held = load_data(split_folder(tmp_path / "mine", test))
    assert (len(train), len(held), train.name, held.name) == (9, 4, "mine", "mine")
    assert held.mean == train.mean and held.std == train.std and held.class_names == train.class_names
    assert load_data(str(tmp_path / "mine"), size=12)[1].image_size == 12
    few, fewer = load_data(tmp_path / "mine", n_train=6, n_test=2)
    assert few.y.bincount().tolist() == [2, 2, 2] and len(fewer) == 2


def test_test_folder_with_missing_and_strange_classes(tmp_path):
    root = split_folder(tmp_path)
    (root / "test/c").rename(tmp_path / "away")
    assert load_data(root)[1].class_names == ("a", "b", "c")
    (tmp_path / "away").rename(root / "test/d")
    with pytest.raises(ValueError, match="a class 'd' that is not among a, b, c"):
        load_data(root)


def test_shapes_by_name():
    train, test = load_data("shapes", n_train=300, n_test=100)
    again, other = load_data("shapes", n_train=300, n_test=100)[0], load_data("shapes", n_train=300, n_test=300, seed=1)
    assert train.x.equal(again.x) and not any(train.x.equal(d.x) for d in other) and len(test) == 100
    assert not (train.x[:100] == test.x).flatten(1).all(1).any()
    assert load_data("shapes", n_train=10, n_test=10, size=48)[0].image_size == 48
    with pytest.raises(ValueError, match="size must be a whole number >= 16 and <= 512, got 0"): load_data("shapes", n_train=10, size=0)
    assert np.allclose(train.mean, train.x.double().mean((0, 2, 3)) / 255, atol=0.02)
    assert np.allclose(train.std, train.x.double().std((0, 2, 3)) / 255, atol=0.02)


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "text"),
    [
        (("cifr10",), {}, ValueError, "unknown data set 'cifr10'. Did you mean 'cifar10'"),
        (("shapes", "somewhere"), {}, ValueError, "root='somewhere' is for 'cifar10' alone"),
        (("cifar10",), {"size": 64}, ValueError, "size=64: CIFAR-10 has 32x32 px"),
        (("cifar10", "nowhere"), {}, FileNotFoundError, "give a folder that holds CIFAR-10.*there is no 'nowhere'"),
        (("shapes",), {"n_train": 0}, ValueError, "n must be a whole number >= 1, got 0"),
        (("shapes",), {"size": 8}, ValueError, "size must be a whole number >= 16"),
    ],
)
def test_wrong_names_and_options(args, kwargs, error, text):
    with pytest.raises(error, match=text):
        load_data(*args, **kwargs)


def test_folder_without_parts(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(FileNotFoundError, match="needs train/ and test/"):
        load_data(tmp_path)


def test_folder_that_holds_cifar10_is_seen(tmp_path, monkeypatch):
    monkeypatch.setenv("CAM_COURSE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "d").mkdir()
    (tmp_path / "d/train-00000-of-00001.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match="can't be read as a table of images"):
        load_data(tmp_path / "d")


