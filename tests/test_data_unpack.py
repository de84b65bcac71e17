"Pickles, archives and tables that bite."
import gzip
import hashlib
import io
import os
import pickle
import subprocess
import tarfile
import warnings

import numpy as np
import pytest
from data_faults import BODY, ROWS, StandIn, names, python2_batch, tar_gz
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cam_course import unpack
from cam_course.core import DataError
from cam_course.unpack import archive_members, decode_images, read_pack, read_parquet, safe_unpickle, write_pack

# ---- archives


def link(name, target, kind):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_members_are_read_in_order(tmp_path):
    digest = tar_gz(tmp_path / "a.tar.gz", [("d/one", b"1"), ("d/two", b"22"), ("d/three", b"333")])
    assert archive_members(tmp_path / "a.tar.gz", ["d/three", "d/one"], digest) == {"d/three": b"333", "d/one": b"1"}
    assert names(tmp_path) == ["a.tar.gz"]  # nothing was unpacked


def test_other_archive_is_not_opened(tmp_path, monkeypatch):
    digest = tar_gz(tmp_path / "a.tar.gz", [("d/one", b"1")])
    monkeypatch.setattr(unpack.tarfile, "open", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(DataError, match=f"sha256 {digest}, not {'0' * 64}.*Nothing in it was opened"):
        archive_members(tmp_path / "a.tar.gz", ["d/one"], "0" * 64)


@pytest.mark.parametrize(
    "member",
    [
        "../outside", "d/../../outside", "/etc/outside", "..", "d\\..\\..\\outside", "C:\\outside", "\\\\host\\share",
        link("d/link", "/etc/passwd", tarfile.SYMTYPE), link("d/hard", "../../x", tarfile.LNKTYPE),
        link("d/pipe", "", tarfile.FIFOTYPE), link("d/device", "", tarfile.CHRTYPE),
    ],
)  # fmt: skip
def test_suspicious_member_is_refused(tmp_path, member):
    digest = tar_gz(tmp_path / "a.tar.gz", [("d/one", b"1"), (member, b"")])
    with pytest.raises(DataError, match=r"a.tar.gz: member .* (points out of the archive|is neither file nor folder)"):
        archive_members(tmp_path / "a.tar.gz", ["d/one"], digest)
    assert names(tmp_path) == ["a.tar.gz"]


def test_oversize_members_and_too_many_are_refused(tmp_path):
    digest = tar_gz(tmp_path / "a.tar.gz", [("d/one", bytes(40_000_001))])
    with pytest.raises(DataError, match=r"'d/one' \(40,000,001 bytes\) is over the limit"):
        archive_members(tmp_path / "a.tar.gz", ["d/one"], digest)
    digest = tar_gz(tmp_path / "b.tar.gz", [(f"d/{i}", b"") for i in range(65)])
    with pytest.raises(DataError, match="over the limit"):
        archive_members(tmp_path / "b.tar.gz", ["d/1"], digest)


def test_missing_member_and_torn_archives(tmp_path):
    digest = tar_gz(tmp_path / "a.tar.gz", [("d/one", BODY), ("d/two", BODY)])
    with pytest.raises(DataError, match="has no member 'd/three'"):
        archive_members(tmp_path / "a.tar.gz", ["d/three"], digest)
    blob = (tmp_path / "a.tar.gz").read_bytes()
    for torn in (blob[: len(blob) // 2], b"no gzip", b"", gzip.compress(b"no tar" * 300), bytes(blob[:10]) + bytes(90)):
        (tmp_path / "t.tar.gz").write_bytes(torn)
        with pytest.raises(DataError, match=r"t\.tar\.gz"):
            archive_members(tmp_path / "t.tar.gz", ["d/one"], hashlib.sha256(torn).hexdigest())


# ---- pickles


class Evil:
    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("call", [os.system, eval, exec, subprocess.call, getattr, np.load, __import__], ids=lambda f: f.__name__)
def test_malicious_pickle_is_refused(tmp_path, call, protocol):
    marker = tmp_path / "ran"
    argument = f"touch {marker}" if call in (os.system, subprocess.call) else f"open({str(marker)!r}, 'w')"
    blob = pickle.dumps({"data": Evil(call, argument)}, protocol=protocol)
    with pytest.raises(DataError, match="batch: pickle refused: it asks for"):
        safe_unpickle(blob, "batch")
    assert not marker.exists()


def test_nested_and_indirect_pickles_are_refused(tmp_path):
    marker = tmp_path / "ran"
    inner = pickle.dumps(Evil(os.system, f"touch {marker}"))
    for call, *args in [(pickle.loads, inner), (io.BytesIO, b"1"), (type, "X", (), {})]:
        with pytest.raises(DataError, match="pickle refused"):
            safe_unpickle(pickle.dumps({"data": Evil(call, *args)}), "batch")
    objects = np.array([Evil(os.system, f"touch {marker}")], dtype=object)
    for array in (objects, np.arange(3.0), np.asfortranarray(np.zeros((2, 2), np.uint8)), np.zeros(2, "V3")):
        with pytest.raises(DataError, match="pickle refused"):
            safe_unpickle(pickle.dumps({"data": array}, protocol=4), "batch")
    assert not marker.exists()


def test_arrays_of_both_pythons_are_read():
    "Python 2 writes the array's bytes as a string (BINSTRING), with names of the old NumPy."
    x = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    old = python2_batch(x, [1, 0, 2])
    new = pickle.dumps({"data": x, "labels": [1, 0, 2]}, protocol=4)
    for blob in (old, new):
        batch = safe_unpickle(blob, "batch")
        assert (batch["data"] == x).all() and batch["data"].flags.writeable and batch["labels"] == [1, 0, 2]
    assert (pickle.loads(old, encoding="latin1")["data"] == x).all()  # Python agrees that it is one


def test_damaged_pickles_are_data_errors():
    blob = python2_batch(np.arange(100, dtype=np.uint8), [1, 2, 3])
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(3000):
        torn = bytearray(blob[: rng.integers(1, len(blob) + 1)] if rng.random() < 0.5 else blob)
        torn[rng.integers(len(torn))] = rng.integers(256)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                safe_unpickle(bytes(torn), "batch")
            outcomes.add("read")  # a changed pixel, say
        except DataError as error:
            assert str(error).startswith("batch")
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


# ---- tables


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return (StandIn(tmp_path_factory.mktemp("s")).folder / "hub/plain_text/test-00000-of-00001.parquet").read_bytes()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_fuzzed_parquet_is_read_or_refused(table, tmp_path, data):
    blob = bytearray(table)
    footer = len(blob) - 2000  # the metadata, where a change does most
    places = st.integers(0, len(blob) - 1) | st.integers(footer, len(blob) - 1)
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(places)] = data.draw(st.integers(0, 255))
    path = tmp_path / "test.parquet"
    path.write_bytes(blob[: data.draw(st.integers(0, len(blob)) | st.just(len(blob)))])
    try:
        files, labels = read_parquet(path, ROWS["test"])
        assert decode_images(files, str(path)).shape == (60, 3, 32, 32) and labels.dtype == np.int64
    except DataError as error:
        assert str(path) in str(error)


# ---- packs


def test_a_pack_keeps_every_byte_and_is_always_the_same(tmp_path):
    files, labels = [b"one", b"", b"three"], np.array([2, 0, 1], np.uint8)
    for name in "ab":
        write_pack(tmp_path / f"{name}.npz", files, labels)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    found, kept = read_pack(tmp_path / "a.npz", 3)
    assert found == files and kept.tolist() == [2, 0, 1] and kept.dtype == np.int64


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ends": np.array([3, 8, 5])}, "don't lie where it says"),
        ({"ends": np.array([3, 5, 9])}, "don't lie where it says"),
        ({"ends": np.array([3, 8])}, "2 images and 3 labels, not 3"),
        ({"labels": np.array([0.5, 1, 2])}, "Cannot cast"),
        ({"labels": np.array([{}, 1, 2], object)}, "allow_pickle=False"),
        ({"files": np.zeros(300_000_000, np.uint8)}, "over the limit of 250,000,000"),
    ],
)
def test_a_pack_that_is_none_is_refused(tmp_path, change, reason):
    path = tmp_path / "train.npz"
    good = {"files": np.frombuffer(b"onethree", np.uint8), "ends": np.array([3, 3, 8]), "labels": np.array([2, 0, 1])}
    np.savez_compressed(path, **good)
    assert read_pack(path, 3)[0] == [b"one", b"", b"three"]
    np.savez_compressed(path, **good | change)
    with pytest.raises(DataError, match=f"train.npz can't be read as a pack of images: .*{reason}.*Get a good copy"):
        read_pack(path, 3)


def test_a_torn_pack_is_refused_and_none_is_left_half_written(tmp_path, monkeypatch):
    path = tmp_path / "train.npz"
    write_pack(path, [b"one"], np.array([1]))
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match="train.npz can't be read as a pack"):
            read_pack(path, 1)
    path.unlink()

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(unpack.np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space left"):
        write_pack(path, [b"one"], np.array([1]))
    assert not list(tmp_path.iterdir())
