"CIFAR-10 from every source and in every layout, whole and damaged, on a small stand-in; and the JPEG copy."
import errno
import hashlib
import io
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_faults import ROWS, StandIn, encoded, file_limit, loopback, names, write_table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cam_course.base import cifar10 as module
from cam_course.base.cifar10 import channel_stats, cifar10_arrays, fetch, image_files, write_pack
from cam_course.base.core import DataError
from cam_course.data import CIFAR_MEAN, CIFAR_STD, load_cifar10, load_data

JPEG_COPY = Path(__file__).parents[2]/"shared"/"cifar10-jpeg"
HOSTS = ("HUB", "MIRROR", "TORONTO")
NOBODY = "http://127.0.0.1:9"
BODY = bytes(range(256))*1000


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return StandIn(tmp_path_factory.mktemp("standin"))


@pytest.fixture
def standin(prepared, tmp_path, monkeypatch):
    "The stand-in, in a world with an empty home, an empty cache, and no host that answers."
    home = tmp_path/"home"
    (home/"work").mkdir(parents=True)
    monkeypatch.chdir(home/"work")
    for name, value in [("HOME", home), ("CAM_COURSE_CACHE", tmp_path/"cache"), ("NO_PROXY", "127.0.0.1")]:
        monkeypatch.setenv(name, str(value))
    for name in ("CAM_COURSE_DATA", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path/"hf"))
    for name in HOSTS:
        monkeypatch.setenv(f"CAM_COURSE_{name}", NOBODY)
    prepared.use(monkeypatch.setattr)
    return prepared


def load(*args, **kwargs):
    said = []
    return cifar10_arrays(*args, say=said.append, progress=False, **kwargs), said


# ---- folders


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    "layout", ["hub", "hub/plain_text", "packs", "torchvision", "torchvision/cifar-10-batches-py", "archive"]
)
def test_every_layout_gives_the_same_pixels(standin, layout, split, monkeypatch):
    result, said = load(standin.folder/layout, split=split)
    assert standin.is_right(result, split) and result[0].dtype == np.uint8 and result[1].dtype == np.int64
    assert len(said) == 1 and "the originals" in said[0] and str(standin.folder) not in said[0]
    monkeypatch.setenv("CAM_COURSE_DATA", str(standin.folder/layout))
    assert standin.is_right(load(split=split)[0], split)
    assert standin.is_right(load(source="folder", split=split)[0], split)


@pytest.mark.parametrize(
    "file", ["hub/plain_text/train-00000-of-00001.parquet", "packs/train.npz", "archive/cifar-10-python.tar.gz"]
)
def test_a_single_file_may_be_named(standin, file):
    assert standin.is_right(load(standin.folder/file)[0])


@pytest.mark.parametrize("layout", ["hub", "torchvision", "archive"])
def test_second_call_is_mapped_not_decoded_and_changes_stay_private(standin, layout, monkeypatch):
    load(standin.folder/layout)
    for name in ("_read_files", "_read_batches", "_read_archive"):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("decoded again"))
    (x, _, _), _ = load(standin.folder/layout)
    assert isinstance(x, np.memmap)
    x[:] = 0
    assert standin.is_right(load(standin.folder/layout)[0])


def test_image_data_of_the_stand_in(standin, capsys):
    data = load_cifar10(standin.folder/"hub")
    assert data.mean == CIFAR_MEAN and data.std == CIFAR_STD and data.name == "cifar10"
    assert (data.x.numpy() == standin.x["train"]).all() and data.class_names[3] == "cat"
    assert "CIFAR-10 train: train-00000-of-00001.parquet from the folder that root names" in capsys.readouterr().out
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # none from mapped arrays either
        load_cifar10(standin.folder/"hub", verbose=False)
    assert capsys.readouterr().out == ""


def test_wrong_arguments(standin, tmp_path):
    for kwargs, text in [
        ({"split": "valid"}, "unknown split 'valid'"),
        ({"source": "hubb"}, "unknown source 'hubb'.*Did you mean 'hub'"),
        ({"root": "x", "source": "hub"}, "contradict"),
        ({"source": "folder"}, "needs root="),
    ]:
        with pytest.raises(ValueError, match=text):
            load(**kwargs)
    with pytest.raises(FileNotFoundError, match=r"root names '.*nowhere', which does not exist"):
        load(tmp_path/"nowhere")
    (tmp_path/"empty").mkdir()
    (tmp_path/"notes.txt").write_text("hello")
    for place in ("empty", "notes.txt"):
        with pytest.raises(FileNotFoundError, match=r"no CIFAR-10 \(test\) in .*root names.*CAM_COURSE_DATA"):
            load(tmp_path/place, split="test")
    assert names(tmp_path/"cache") == []


# ---- the net


def test_hub_first_then_cache(standin, monkeypatch):
    with loopback(standin.served()) as server:
        monkeypatch.setenv("CAM_COURSE_HUB", server.address)
        (result, said), (again, _) = load(), load()
        assert standin.is_right(result) and standin.is_right(again)
        assert [p.rsplit("/", 1)[-1] for p in server.asked] == ["train-00000-of-00001.parquet"]
    assert said[0] == "downloading train-00000-of-00001.parquet from hub"
    assert standin.is_right(load(source="cache")[0])  # the net is gone
    for left in module.cache_dir().glob("downloads/*"):
        left.unlink()
    assert standin.is_right(load()[0])  # the download, too: the decoded images are enough


def test_mirror_where_the_hub_fails_and_both_splits_from_one_archive(standin, monkeypatch):
    served = standin.served() | {"train-00000-of-00001.parquet": b"<html>please log in</html>"}
    with loopback(served) as server:
        for name in HOSTS:
            monkeypatch.setenv(f"CAM_COURSE_{name}", server.address + "/")
        result, said = load()
        assert standin.is_right(result) and "hub failed" in said[1] and "mirror" in said[-1]
        assert names(module.cache_dir()/"downloads") == ["cifar-10-python.tar.gz"]  # nothing of the page is kept
        assert standin.is_right(load(split="test", source="mirror")[0], "test")
        assert len([p for p in server.asked if p.endswith(".gz")]) == 1


@pytest.mark.parametrize("source", ["hub", "mirror", "toronto"])
def test_a_named_source_is_the_only_one_asked(standin, source, monkeypatch):
    with loopback({}) as server:
        for name in HOSTS:
            monkeypatch.setenv(f"CAM_COURSE_{name}", f"{server.address}/{name}")
        with pytest.raises(DataError, match=f"Tried:\n  {source}: http.*404") as error:
            load(source=source)
        assert str(error.value).count("\n") == 2 and {p.split("/")[1] for p in server.asked} == {source.upper()}


def test_no_network_names_every_source_and_the_remedy(standin, tmp_path):
    start = time.perf_counter()
    with pytest.raises(DataError) as error:
        load()
    for text in ("caches", "hub: http", "mirror: http", "toronto: http", "refused", "root=", "CAM_COURSE_DATA", "'shapes'"):
        assert text in str(error.value)
    assert names(tmp_path/"cache") == [] and time.perf_counter() - start < 10
    with pytest.raises(DataError, match="caches: no originals in"):
        load(source="cache")


def test_hugging_face_endpoint_is_respected(standin, monkeypatch):
    monkeypatch.delenv("CAM_COURSE_HUB")
    with loopback(standin.served()) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        assert standin.is_right(load(source="hub")[0])


def test_a_download_that_is_cut_leaves_nothing(tmp_path):
    digest = hashlib.sha256(BODY).hexdigest()
    with loopback({"file.bin": BODY}, cut={"file.bin"}) as server, pytest.raises(ConnectionError, match=r"file.bin: .*IncompleteRead"):
        fetch(f"{server.address}/file.bin", digest, tmp_path/"d", progress=False)
    assert names(tmp_path) == []


def test_a_place_that_can_not_be_written(standin, monkeypatch, tmp_path):
    "Said, and the data are had all the same."
    (tmp_path/"cache").write_text("a file where the folder should be")
    with loopback(standin.served()) as server, pytest.warns(UserWarning, match=r"no cache: .*CAM_COURSE_CACHE"):
        monkeypatch.setenv("CAM_COURSE_HUB", server.address)
        assert standin.is_right(load()[0])


def test_a_full_disk(standin, monkeypatch, tmp_path):
    "While downloading an error with the remedy, while caching a warning; nothing half-written is left."
    with loopback(standin.served()) as server, file_limit(10_000):
        monkeypatch.setenv("CAM_COURSE_HUB", server.address)
        with pytest.raises(OSError, match="CAM_COURSE_CACHE") as error:
            load()
        assert error.value.errno == errno.EFBIG and names(tmp_path/"cache") == []
        with pytest.warns(UserWarning, match="no cache.*Set CAM_COURSE_CACHE"):
            assert standin.is_right(load(standin.folder/"hub")[0])
        assert names(tmp_path/"cache") == ["y.npy"]


# ---- caches


@pytest.mark.parametrize("place", ["data", "../data", "hf"])
def test_caches_of_other_libraries_are_found(standin, place, tmp_path):
    if place == "hf":
        repository = tmp_path/"hf"/"datasets--uoft-cs--cifar10"
        shutil.copytree(standin.folder/"hub", repository/"snapshots"/"abc")
        (repository/"refs").mkdir()
        (repository/"refs"/"main").write_text("abc")
    else:
        shutil.copytree(standin.folder/"torchvision", place)
    result, said = load()
    assert standin.is_right(result) and ("Hugging Face" in said[0]) == (place == "hf")


def test_damaged_and_copied_caches_are_passed_over_and_reported(standin, monkeypatch):
    Path("data").mkdir()
    copies = [encoded(image, "JPEG", quality=75) for image in standin.x["train"]]
    digest = write_table(Path("data/train.parquet"), copies, standin.y["train"])
    monkeypatch.setattr(module, "_KNOWN", module._KNOWN | {digest: "cifar10-jpeg"})
    shutil.copytree(standin.folder/"torchvision", "../data")
    batch = Path("../data/cifar-10-batches-py/data_batch_3")
    batch.write_bytes(batch.read_bytes()[:-1])
    for _ in range(2):  # decoded, then from the cache of arrays, which is not taken unasked either
        with pytest.raises(DataError, match="'cifar10-jpeg', a copy; name it with root=") as error:
            load(source="cache")
        assert "missing or changed: data_batch_3" in str(error.value)
        (_, _, name), said = load("data")
        assert name == "cifar10-jpeg" and "the JPEG copy: say so" in said[0]


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "pickle", "dtype"])
@pytest.mark.parametrize("name", ["x", "y"])
def test_damaged_arrays_are_made_anew(standin, tmp_path, name, damage):
    load(standin.folder/"hub")
    file = next((tmp_path/"cache").rglob(f"{name}.npy"))
    blob = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage in ("pickle", "dtype"):
        np.save(file, np.array([{}]) if damage == "pickle" else np.zeros(ROWS["train"], np.float32), allow_pickle=True)
    else:
        file.write_bytes(blob[:-1] if damage == "cut" else b"")
    assert standin.is_right(load(standin.folder/"hub")[0]) and file.read_bytes() == blob


TOGETHER = """
import sys
from pathlib import Path
from data_faults import StandIn
from cam_course.base import cifar10
standin = StandIn(Path(sys.argv[1]))
standin.use(setattr)
decode = cifar10._decoded
def waiting(*given):
    print("decoding", flush=True)
    sys.stdin.readline()
    return decode(*given)
cifar10._decoded = waiting
print(standin.is_right(cifar10.cifar10_arrays(standin.folder/"hub", say=lambda _: None)), flush=True)
"""


def test_two_processes_at_once_and_a_third_is_killed(tmp_path):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CAM_COURSE_CACHE": str(tmp_path/"cache"),
           "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": env}
    started = [subprocess.Popen([sys.executable, "-c", TOGETHER, tmp_path/str(k)], **pipes) for k in range(3)]
    assert [p.stdout.readline() for p in started] == ["decoding\n"]*3  # nobody has finished
    started[2].kill()
    for p in started[:2]:
        p.stdin.write("go\n")
        p.stdin.flush()
    assert [p.communicate(timeout=60)[0] for p in started[:2]] == ["True\n"]*2
    started[2].communicate()
    assert names(tmp_path/"cache") == ["x.npy", "y.npy"]


# ---- files that are not what they should be


def test_nothing_with_another_hash_is_unpickled(standin, tmp_path, monkeypatch):
    marker = tmp_path/"ran"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    evil = pickle.dumps({"data": Evil(), "labels": []})
    pickle.loads(evil)
    assert marker.exists()  # so it would
    marker.unlink()
    shutil.copytree(standin.folder/"torchvision", tmp_path/"tv")
    (tmp_path/"tv/cifar-10-batches-py/data_batch_2").write_bytes(evil)
    with pytest.raises(DataError, match=r"missing or changed: data_batch_2\. Nothing was opened"):
        load(tmp_path/"tv")
    (tmp_path/"a").mkdir()
    shutil.make_archive(str(tmp_path/"a/cifar-10-python"), "gztar", tmp_path/"tv")
    with pytest.raises(DataError, match=r"is not the archive wanted: its sha256 is \w{64}\. Nothing in it was opened"):
        load(tmp_path/"a")
    with loopback({"cifar-10-python.tar.gz": (tmp_path/"a/cifar-10-python.tar.gz").read_bytes()}) as server:
        monkeypatch.setenv("CAM_COURSE_MIRROR", server.address)
        with pytest.raises(DataError, match=r"mirror: .* is not the file wanted: its hash is not"):
            load(source="mirror")
    assert not marker.exists() and names(tmp_path/"cache") == []


def test_half_of_the_batches(standin, tmp_path):
    shutil.copytree(standin.folder/"torchvision", tmp_path/"tv")
    for k in (1, 4):
        (tmp_path/f"tv/cifar-10-batches-py/data_batch_{k}").unlink()
    with pytest.raises(DataError, match=r"missing or changed: data_batch_1, data_batch_4\..*root="):
        load(tmp_path/"tv")
    shutil.copytree(standin.folder/"hub/plain_text", tmp_path/"half", ignore=lambda *_: ["test-00000-of-00001.parquet"])
    assert standin.is_right(load(tmp_path/"half")[0])
    with pytest.raises(FileNotFoundError, match=r"no CIFAR-10 \(test\)"):
        load(tmp_path/"half", split="test")


def parquet_in(folder, files, labels):
    folder.mkdir(exist_ok=True)
    write_table(folder/"train.parquet", files, labels)
    return folder


def test_unknown_hash_warns_and_is_judged_by_content(standin, tmp_path):
    order = np.random.default_rng(1).permutation(ROWS["train"])
    folder = parquet_in(tmp_path/"reordered", [standin.files["train"][i] for i in order], standin.y["train"][order])
    for _ in range(2):
        with pytest.warns(UserWarning, match="unknown hash .* by its content 'cifar10'"):
            (x, y, name), _ = load(folder)
        assert name == "cifar10" and (x == standin.x["train"][order]).all() and (y == standin.y["train"][order]).all()
    copies = [encoded(image, "JPEG", quality=90) for image in standin.x["train"]]
    with pytest.warns(UserWarning, match="by its content 'cifar10-copy'"):
        assert load(parquet_in(tmp_path/"copy", copies, standin.y["train"]))[0][2] == "cifar10-copy"
    others = [encoded(255 - image) for image in standin.x["train"]]
    with pytest.raises(DataError, match="mean .* and std .* are not those of CIFAR-10"):
        load(parquet_in(tmp_path/"other", others, standin.y["train"]))


@pytest.mark.parametrize("size", [0, 100, 0.3, 0.999])
def test_torn_parquet_names_file_and_remedy(standin, tmp_path, size):
    blob = (standin.folder/"hub/plain_text/train-00000-of-00001.parquet").read_bytes()
    (tmp_path/"train.parquet").write_bytes(blob[:size if size >= 3 or not size else int(size*len(blob))])
    with pytest.raises(DataError, match=r"train.parquet \([\d,]+ bytes\) can't be read.*Delete it and load again"):
        load(tmp_path)
    assert names(tmp_path/"cache") == []


def test_a_file_that_may_not_be_read(standin, tmp_path):
    file = tmp_path/"train.parquet"
    if os.geteuid():
        shutil.copy(standin.folder/"hub/plain_text/train-00000-of-00001.parquet", file)
        file.chmod(0)
    else:  # root may read every file; this one fails for everybody
        file.symlink_to("/proc/self/mem")
    with pytest.raises(OSError, match="may be read, or name a good copy with root=.*train.parquet"):
        load(tmp_path)


def test_a_cached_array_does_not_stand_in_for_a_damaged_file(standin, tmp_path):
    for layout, name in [("archive", "cifar-10-python.tar.gz"), ("torchvision", "cifar-10-batches-py/data_batch_1")]:
        shutil.copytree(standin.folder/layout, tmp_path/layout)
        assert standin.is_right(load(tmp_path/layout)[0])
        file = tmp_path/layout/name
        file.write_bytes(file.read_bytes()[:-1])
        with pytest.raises(DataError, match=name.split("/")[-1]):
            load(tmp_path/layout)


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
        ({"img": column, "label": np.roll(labels, 1)*0}, "images of class 0 .airplane., not 20"),
    ]):  # fmt: skip
        (tmp_path/str(k)).mkdir()
        pq.write_table(pa.table(table), tmp_path/str(k)/"train.parquet")
        with pytest.raises(DataError, match=text):
            load(tmp_path/str(k))
    shutil.copytree(standin.folder/"hub/plain_text", tmp_path/"d")
    shutil.copy(tmp_path/"d/train-00000-of-00001.parquet", tmp_path/"d/train2.parquet")
    with pytest.raises(DataError, match="holds 2 parquet files for 'train'"):
        load(tmp_path/"d")


@pytest.mark.parametrize("damage", ["cut", "flip", "none", "text", "size", "gif", "jpeg cut", "bomb"])
def test_corrupt_image_names_its_row(standin, tmp_path, damage):
    files, row = list(standin.files["train"]), 137
    good, image, bomb = files[row], standin.x["train"][row], io.BytesIO()
    Image.new("1", (9000, 9000)).save(bomb, "PNG")  # 10 kB in the file, 243 MB as RGB
    files[row] = {
        "cut": good[:-40], "flip": good[:200] + bytes([good[200] ^ 255]) + good[201:], "none": None, "text": b"hello",
        "size": encoded(image[:, :31]), "gif": encoded(image, "GIF"), "jpeg cut": encoded(image, "JPEG")[:-200],
        "bomb": bomb.getvalue(),
    }[damage]  # fmt: skip
    with pytest.raises(DataError, match=rf"train.parquet: the image in row {row} can't be decoded"):
        load(parquet_in(tmp_path/"d", files, standin.y["train"]))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_fuzzed_parquet_is_read_or_refused(standin, tmp_path, data):
    blob = bytearray((standin.folder/"hub/plain_text/test-00000-of-00001.parquet").read_bytes())
    places = st.integers(0, len(blob) - 1) | st.integers(len(blob) - 2000, len(blob) - 1)  # the footer, where it does most
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(places)] = data.draw(st.integers(0, 255))
    path = tmp_path/"test.parquet"
    path.write_bytes(blob[:data.draw(st.integers(0, len(blob)) | st.just(len(blob)))])
    try:
        x, y = module._read_files(path, "test")
        assert x.shape == (60, 3, 32, 32) and y.dtype == np.int64
    except DataError as error:
        assert str(path) in str(error)


# ---- the real thing


def test_library_says_nothing_at_import_and_loads_no_network_library():
    code = """
    import sys, torch
    before = set(sys.modules)
    import cam_course.data
    new = set(sys.modules) - before
    slow = {"requests", "pooch", "pyarrow", "PIL.Image", "torchvision", "huggingface_hub", "matplotlib", "pandas"}
    print(sorted(slow & new))
    """
    out = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]" and not out.stderr


def test_the_address_is_torchvisions():
    from torchvision.datasets import CIFAR10

    assert module._URLS["toronto"].split("://")[1] == CIFAR10.url.split("://")[1]


@pytest.mark.skipif(not JPEG_COPY.exists(), reason="../shared/cifar10-jpeg is not here")
def test_jpeg_copy(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CAM_COURSE_CACHE", str(tmp_path))
    monkeypatch.setenv("CAM_COURSE_DATA", str(JPEG_COPY))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # its hash is known
        first = load_data("cifar10")
    assert "JPEG copy" in capsys.readouterr().out
    for data, n, split in zip(first, (50_000, 10_000), ("train", "test"), strict=True):
        assert data.name == "cifar10-jpeg" and len(data) == n and data.y.bincount().tolist() == [n//10]*10
        stats = np.array(channel_stats(data.x.numpy()))
        assert 1e-3 < np.abs(stats - module._STATS["cifar10", split]).max() < 2e-3
        assert np.abs(stats - module._STATS["cifar10-jpeg", split]).max() < 1e-6
    start = time.perf_counter()
    again = load_data("cifar10", root=JPEG_COPY, verbose=False)
    assert time.perf_counter() - start < 0.5
    assert all((a.y == b.y).all() and (a.x[::997] == b.x[::997]).all() for a, b in zip(first, again, strict=True))
    for split, n in (("train", 50_000), ("test", 10_000)):
        files, labels = image_files(JPEG_COPY/f"{split}-00000-of-00001.parquet", split)
        assert len(files) == n
        write_pack(tmp_path/f"{split}.npz", files, labels)
        assert module._KNOWN[hashlib.sha256((tmp_path/f"{split}.npz").read_bytes()).hexdigest()] == "cifar10-jpeg"
    packed = load_cifar10(tmp_path, split="test", verbose=False)
    assert packed.name == "cifar10-jpeg" and packed.y.equal(first[1].y) and packed.x.equal(first[1].x)
    _, test = load_data(JPEG_COPY, n_train=100, n_test=50, verbose=False)
    assert test.y.bincount().tolist() == [5]*10 and (test.mean, test.std) == (CIFAR_MEAN, CIFAR_STD)
