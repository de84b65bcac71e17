"CIFAR-10 from every source and in every layout, on a small stand-in with its own catalog; and the JPEG copy."
import hashlib
import io
import os
import pickle
import shutil
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_faults import ROWS, StandIn, closed_port, encoded, loopback, names, tar_gz, write_table
from PIL import Image

from cam_course import cifar10 as module
from cam_course.cifar10 import (
    CIFAR10,
    channel_stats,
    check_content,
    cifar10_arrays,
    decode_images,
)
from cam_course.core import DataError
from cam_course.data import CIFAR_MEAN, CIFAR_STD, load_cifar10, load_data
from cam_course.unpack import read_parquet, write_pack

JPEG_COPY = Path(__file__).parents[2] / "shared" / "cifar10-jpeg"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return StandIn(tmp_path_factory.mktemp("standin"))


@pytest.fixture
def standin(prepared, tmp_path, monkeypatch):
    "The stand-in, in a world with an empty home, an empty cache, and no host that answers."
    home = tmp_path / "home"
    (home / "work").mkdir(parents=True)
    monkeypatch.chdir(home / "work")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("CAM_COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("CAM_COURSE_DATA", "HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    nobody = closed_port().url.rsplit("/", 1)[0]
    for name in ("HUB", "MIRROR", "TORONTO"):
        monkeypatch.setenv(f"CAM_COURSE_{name}", nobody)
    return prepared


def load(standin, *args, **kwargs):
    said = []
    result = cifar10_arrays(*args, say=said.append, catalog=standin.catalog, progress=False, attempts=2, **kwargs)
    return result, said


# ---- folders


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    "layout", ["hub", "hub/plain_text", "packs", "torchvision", "torchvision/cifar-10-batches-py", "archive"]
)
def test_every_layout_gives_the_same_pixels(standin, layout, split, monkeypatch):
    result, said = load(standin, standin.folder / layout, split=split)
    assert standin.is_right(result, split) and result[0].dtype == np.uint8 and result[1].dtype == np.int64
    assert len(said) == 1 and "the originals" in said[0] and str(standin.folder) not in said[0]
    monkeypatch.setenv("CAM_COURSE_DATA", str(standin.folder / layout))
    assert standin.is_right(load(standin, split=split)[0], split)
    assert standin.is_right(load(standin, source="folder", split=split)[0], split)


@pytest.mark.parametrize(
    "file", ["hub/plain_text/train-00000-of-00001.parquet", "packs/train.npz", "archive/cifar-10-python.tar.gz"]
)
def test_a_single_file_may_be_named(standin, file):
    assert standin.is_right(load(standin, standin.folder / file)[0])


def test_second_call_is_mapped_not_decoded(standin, monkeypatch):
    load(standin, standin.folder / "hub")
    for name in ("read_parquet", "decode_images", "check_content"):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("decoded again"))
    result, _ = load(standin, standin.folder / "hub")
    assert standin.is_right(result) and isinstance(result[0], np.memmap)


def test_image_data_of_the_stand_in(standin, capsys):
    data = load_cifar10(standin.folder / "hub", catalog=standin.catalog)
    assert data.mean == (0.4914, 0.4822, 0.4465) and data.std == (0.2470, 0.2435, 0.2616) and data.name == "cifar10"
    assert (data.x.numpy() == standin.x["train"]).all() and data.class_names[3] == "cat"
    assert "CIFAR-10 train: parquet from the folder that root names" in capsys.readouterr().out
    load_cifar10(standin.folder / "hub", catalog=standin.catalog, verbose=False)
    assert capsys.readouterr().out == ""


def test_wrong_arguments(standin, tmp_path):
    for kwargs, text in [
        ({"split": "valid"}, "unknown split 'valid'"),
        ({"source": "hubb"}, "unknown source 'hubb'.*Did you mean 'hub'"),
        ({"root": "x", "source": "hub"}, "contradict"),
        ({"source": "folder"}, "needs root="),
    ]:
        with pytest.raises(ValueError, match=text):
            load(standin, **kwargs)
    with pytest.raises(FileNotFoundError, match=r"root names '.*nowhere', which does not exist"):
        load(standin, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no CIFAR-10 \(test\) in .*root names.*CAM_COURSE_DATA"):
        load(standin, tmp_path / "empty", split="test")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(FileNotFoundError, match="no CIFAR-10"):
        load(standin, tmp_path / "notes.txt")
    assert names(tmp_path / "cache") == []


# ---- the net


def test_hub_first_then_cache(standin, monkeypatch):
    with loopback(standin.served()) as server:
        monkeypatch.setenv("CAM_COURSE_HUB", f"http://127.0.0.1:{server.server_port}")
        (result, said), (again, _) = load(standin), load(standin)
        assert standin.is_right(result) and standin.is_right(again)
        assert [path for path, _ in server.asked] == ["/train-00000-of-00001.parquet"]
    assert "downloading train-00000-of-00001.parquet" in said[0] and "hub" in said[0]
    assert standin.is_right(load(standin, source="cache")[0])  # the net is gone


def test_mirror_where_the_hub_fails_and_both_splits_from_one_archive(standin, monkeypatch):
    served = standin.served() | {"train-00000-of-00001.parquet": b"<html>please log in</html>"}
    with loopback(served, script=[("good", 0), ("cut", 5000)]) as server:
        for name in ("HUB", "MIRROR"):
            monkeypatch.setenv(f"CAM_COURSE_{name}", f"http://127.0.0.1:{server.server_port}/")
        result, said = load(standin)
        assert standin.is_right(result) and "hub failed" in said[1] and "mirror" in said[-1]
        assert standin.is_right(load(standin, split="test", source="mirror")[0], "test")
        archives = [start for path, start in server.asked if path.endswith(".gz")]
        assert archives == [0, 5000]


@pytest.mark.parametrize("source", ["hub", "mirror", "toronto"])
def test_a_named_source_is_the_only_one_asked(standin, source, monkeypatch):
    with loopback(standin.served()) as server:
        for name in ("HUB", "MIRROR", "TORONTO"):
            path = f"http://127.0.0.1:{server.server_port}/{name}"
            monkeypatch.setenv(f"CAM_COURSE_{name}", path)
        with pytest.raises(DataError, match=f"Tried:\n  {source}: http.*404") as error:
            load(standin, source=source)
        assert str(error.value).count("http://") == 1 and {p.split("/")[1] for p, _ in server.asked} == {source.upper()}


def test_no_network_names_every_source_and_the_remedy(standin, tmp_path):
    with pytest.raises(DataError) as error:
        load(standin)
    for text in ("hub: http", "mirror: http", "toronto: http", "refused", "root=", "CAM_COURSE_DATA", "'shapes'"):
        assert text in str(error.value)
    assert not [n for n in names(tmp_path) if not n.endswith(".part")]  # an empty cache
    with pytest.raises(DataError, match="No cache has it"):
        load(standin, source="cache")


def test_hugging_face_endpoint_is_respected(standin, monkeypatch):
    monkeypatch.delenv("CAM_COURSE_HUB")
    with loopback(standin.served()) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        assert standin.is_right(load(standin, source="hub")[0])


def test_download_without_a_place_to_keep_it(standin, monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with loopback(standin.served()) as server, pytest.warns(UserWarning, match="no cache"):
        monkeypatch.setenv("CAM_COURSE_HUB", f"http://127.0.0.1:{server.server_port}")
        assert standin.is_right(load(standin)[0])


# ---- caches of others


@pytest.mark.parametrize("place", ["data", "../data", "hf", "hf-home"])
def test_caches_of_other_libraries_are_found(standin, place, monkeypatch, tmp_path):
    if place.startswith("hf"):
        hub = tmp_path / "hf" / "hub" if place == "hf-home" else Path.home() / ".cache/huggingface/hub"
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf")) if place == "hf-home" else None
        shutil.copytree(standin.folder / "hub", hub / "datasets--uoft-cs--cifar10/snapshots/abc")
    else:
        shutil.copytree(standin.folder / "torchvision", place)
    assert standin.is_right(load(standin)[0])


def test_damaged_and_copied_caches_are_passed_over_and_reported(standin, tmp_path):
    copies = [encoded(image, "JPEG", quality=75) for image in standin.x["train"]]
    Path("data").mkdir()
    digest = write_table(Path("data/train.parquet"), copies, standin.y["train"])
    x = decode_images(copies, "copies")
    known = standin.catalog.known | {digest: "cifar10-jpeg"}
    stats = standin.catalog.stats | {("cifar10-jpeg", "train"): channel_stats(x)}
    catalog = replace(standin.catalog, known=known, stats=stats)
    shutil.copytree(standin.folder / "torchvision", "../data")
    batch = Path("../data/cifar-10-batches-py/data_batch_3")
    batch.write_bytes(batch.read_bytes()[:-1])
    with pytest.raises(DataError, match="'cifar10-jpeg', a copy; name it with root=") as error:
        cifar10_arrays(source="cache", say=lambda _: None, catalog=catalog)
    assert "data_batch_3 was changed" in str(error.value)
    for _ in range(2):  # decoded, then from the cache of arrays, which is not taken unasked either
        assert cifar10_arrays("data", say=lambda _: None, catalog=catalog)[2] == "cifar10-jpeg"
        with pytest.raises(DataError):
            cifar10_arrays(source="cache", say=lambda _: None, catalog=catalog)


# ---- files that are not what they should be


def test_evil_batches_and_archives_are_not_opened(standin, tmp_path):
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    evil = pickle.dumps({"data": Evil(), "labels": []})
    shutil.copytree(standin.folder / "torchvision", tmp_path / "tv")
    (tmp_path / "tv/cifar-10-batches-py/data_batch_2").write_bytes(evil)
    with pytest.raises(DataError, match=r"data_batch_2 was changed: md5 .*not opened"):
        load(standin, tmp_path / "tv")
    (tmp_path / "a").mkdir()
    tar_gz(tmp_path / "a/cifar-10-python.tar.gz", [("cifar-10-batches-py/data_batch_1", evil)])
    with pytest.raises(DataError, match=r"is another archive than the one wanted: sha256 .* Nothing in it was opened"):
        load(standin, tmp_path / "a")
    # even with the right hash
    md5 = standin.catalog.batches["train"] | {"data_batch_2": hashlib.md5(evil).hexdigest()}
    trusting = replace(standin.catalog, batches={"train": md5, "test": {}})
    with pytest.raises(DataError, match="pickle refused"):
        cifar10_arrays(tmp_path / "tv", catalog=trusting)
    assert not marker.exists()


def test_missing_batch_is_named(standin, tmp_path):
    shutil.copytree(standin.folder / "torchvision", tmp_path / "tv")
    (tmp_path / "tv/cifar-10-batches-py/data_batch_4").unlink()
    with pytest.raises(FileNotFoundError, match="data_batch_4"):
        load(standin, tmp_path / "tv")


def parquet_in(folder, files, labels):
    folder.mkdir(exist_ok=True)
    write_table(folder / "train.parquet", files, labels)
    return folder


def test_unknown_hash_warns_and_is_judged_by_content(standin, tmp_path):
    order = np.random.default_rng(1).permutation(ROWS["train"])
    files, labels = [standin.files["train"][i] for i in order], standin.y["train"][order]
    folder = parquet_in(tmp_path / "reordered", files, labels)
    digest = hashlib.sha256((folder / "train.parquet").read_bytes()).hexdigest()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            (x, y, name), _ = load(standin, folder)
    assert len(caught) == 1 and digest in str(caught[0].message) and "unknown hash" in str(caught[0].message)
    assert name == "cifar10" and (x == standin.x["train"][order]).all() and (y == labels).all()
    copies = [encoded(image, "JPEG", quality=90) for image in standin.x["train"]]
    with pytest.warns(UserWarning, match="by its content 'cifar10-copy'"):
        assert load(standin, parquet_in(tmp_path / "copy", copies, standin.y["train"]))[0][2] == "cifar10-copy"


@pytest.mark.parametrize("size", [0, 3, 100, 0.3, 0.9, 0.999])
def test_truncated_parquet_names_file_and_remedy(standin, tmp_path, size):
    blob = (standin.folder / "hub/plain_text/train-00000-of-00001.parquet").read_bytes()
    (tmp_path / "train.parquet").write_bytes(blob[: size if size >= 3 or not size else int(size * len(blob))])
    with pytest.raises(DataError, match=r"train.parquet \([\d,]+ bytes\) can't be read.*cut.*Delete it and load again"):
        load(standin, tmp_path)
    assert names(tmp_path / "cache") == [n for n in names(tmp_path / "cache") if n.endswith(".json")]


def test_unreadable_parquet(standin, tmp_path):
    file = tmp_path / "train.parquet"
    if os.geteuid():
        shutil.copy(standin.folder / "hub/plain_text/train-00000-of-00001.parquet", file)
        file.chmod(0)
    else:  # root may read every file; this one fails for everybody
        file.symlink_to("/proc/self/mem")
    with pytest.raises(OSError, match="may be read, or name a good copy with root=.*train.parquet"):
        load(standin, tmp_path)


def test_a_cached_array_does_not_stand_in_for_a_damaged_file(standin, tmp_path):
    for layout, name in [("archive", "cifar-10-python.tar.gz"), ("torchvision", "cifar-10-batches-py/data_batch_1")]:
        shutil.copytree(standin.folder / layout, tmp_path / layout)
        assert standin.is_right(load(standin, tmp_path / layout)[0])
        file = tmp_path / layout / name
        file.write_bytes(file.read_bytes()[:-1])
        with pytest.raises(DataError, match=name.split("/")[-1]):
            load(standin, tmp_path / layout)


def test_tables_of_another_kind(standin, tmp_path):
    files, labels = standin.files["train"], standin.y["train"]
    column = [{"bytes": f, "path": None} for f in files]
    for k, (table, text) in enumerate([
        ({"image": column, "label": labels}, "can't be read"),
        ({"img": column, "label": [float(v) + 0.5 for v in labels]}, "can't be read"),
        ({"img": column, "label": [None, *labels[1:].tolist()]}, "can't be read"),
        ({"img": [f.hex() for f in files], "label": labels}, "can't be read"),
        ({"img": column[:-1], "label": labels[:-1]}, "it has 199 rows, not 200"),
        ({"img": column, "label": np.where(np.arange(200) == 9, 10, labels)}, "label 10 in row 9 is not in 0..9"),
        ({"img": column, "label": np.roll(labels, 1) * 0}, "images of class 0 .airplane., not 20"),
    ]):  # fmt: skip
        (tmp_path / str(k)).mkdir()
        pq.write_table(pa.table(table), tmp_path / str(k) / "train.parquet")
        with pytest.raises(DataError, match=text):
            load(standin, tmp_path / str(k))


@pytest.mark.parametrize("row", [0, 137, 199])
@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "none", "text", "size", "gif", "jpeg cut"])
def test_corrupt_image_names_its_row(standin, tmp_path, row, damage):
    files = list(standin.files["train"])
    good, image = files[row], standin.x["train"][row]
    files[row] = {
        "cut": good[:-40], "flip": good[:200] + bytes([good[200] ^ 255]) + good[201:],
        "empty": b"", "none": None, "text": b"hello",
        "size": encoded(image[:, :31]), "gif": encoded(image, "GIF"), "jpeg cut": encoded(image, "JPEG")[:-200],
    }[damage]  # fmt: skip
    with pytest.raises(DataError, match=rf"train.parquet: the image in row {row} can't be decoded"):
        load(standin, parquet_in(tmp_path / "d", files, standin.y["train"]))


def test_picture_bomb_is_not_unpacked(standin, tmp_path):
    bomb = io.BytesIO()
    Image.new("1", (9000, 9000)).save(bomb, "PNG")  # 10 kB in the file, 243 MB as RGB
    files = [bomb.getvalue(), *standin.files["train"][1:]]
    start = time.process_time()
    with pytest.raises(DataError, match=r"row 0 can't be decoded \(9000x9000 px, not 32x32\)"):
        load(standin, parquet_in(tmp_path / "d", files, standin.y["train"]))
    assert time.process_time() - start < 2


def test_two_tables_for_one_split_are_refused(standin, tmp_path):
    shutil.copytree(standin.folder / "hub/plain_text", tmp_path / "d")
    shutil.copy(tmp_path / "d/train-00000-of-00001.parquet", tmp_path / "d/train2.parquet")
    with pytest.raises(DataError, match="holds 2 parquet files for 'train'"):
        load(standin, tmp_path / "d")


def test_other_pixels_are_refused(standin):
    x, y = standin.x["train"], standin.y["train"]
    assert check_content(x, y, "train", "f", "cifar10", standin.catalog) == "cifar10"
    pixels, shapes = [x[:, ::-1], x // 2, 255 - x], [x[:, :, :16], x[1:]]
    for wrong, text in [*((w, "mean") for w in pixels), *((w, "shape") for w in shapes)]:
        for name in ("cifar10", None):
            with pytest.raises(DataError, match=text):
                check_content(np.ascontiguousarray(wrong), y, "train", "f", name, standin.catalog)


# ---- the real thing


def test_catalog_agrees_with_torchvision():
    from torchvision.datasets import CIFAR10 as theirs

    ours = CIFAR10.batches["train"] | CIFAR10.batches["test"]
    assert ours == dict(theirs.train_list + theirs.test_list)
    assert CIFAR10.archives[1].url.split("://")[1] == theirs.url.split("://")[1]


@pytest.mark.skipif(not JPEG_COPY.exists(), reason="../shared/cifar10-jpeg is not here")
def test_jpeg_copy(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CAM_COURSE_CACHE", str(tmp_path))
    monkeypatch.setenv("CAM_COURSE_DATA", str(JPEG_COPY))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # its hash is known
        first = load_data("cifar10")
    assert "JPEG copy" in capsys.readouterr().out
    for data, n, split in zip(first, (50_000, 10_000), ("train", "test"), strict=True):
        assert data.name == "cifar10-jpeg" and len(data) == n and data.y.bincount().tolist() == [n // 10] * 10
        originals = np.array(CIFAR10.stats["cifar10", split])
        assert 1e-3 < np.abs(np.array(channel_stats(data.x.numpy())) - originals).max() < 2e-3
    start = time.perf_counter()
    again = load_data("cifar10", root=JPEG_COPY, verbose=False)
    assert time.perf_counter() - start < 0.5
    assert all((a.y == b.y).all() and (a.x[::997] == b.x[::997]).all() for a, b in zip(first, again, strict=True))
    for split, n in (("train", 50_000), ("test", 10_000)):
        files, labels = read_parquet(JPEG_COPY / f"{split}-00000-of-00001.parquet", n)
        write_pack(tmp_path / f"{split}.npz", files, labels)
        assert CIFAR10.known[hashlib.sha256((tmp_path / f"{split}.npz").read_bytes()).hexdigest()] == "cifar10-jpeg"
    packed = load_cifar10(tmp_path, split="test", verbose=False)
    assert packed.name == "cifar10-jpeg" and packed.y.equal(first[1].y) and packed.x.equal(first[1].x)
    _, test = load_data(JPEG_COPY, n_train=100, n_test=50, verbose=False)
    assert test.y.bincount().tolist() == [5] * 10 and (test.mean, test.std) == (CIFAR_MEAN, CIFAR_STD)
