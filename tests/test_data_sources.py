"Downloads, archives, pickles and the cache of decoded arrays, with every fault that we could think of."
import errno
import gzip
import hashlib
import io
import os
import pickle
import resource
import subprocess
import sys
import tarfile
import textwrap
import threading
import warnings
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from cam_course import sources
from cam_course.core import DataError
from cam_course.sources import (
    Remote,
    archive_members,
    cached_arrays,
    download,
    download_first,
    known_hash,
    safe_unpickle,
)

BODY = bytes(np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CAM_COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class Loopback(ThreadingHTTPServer):
    "A file server on 127.0.0.1 with faults: `script` holds one per request to come, as (kind, number)."

    daemon_threads = True

    def __init__(self, files, script=()):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.script, self.asked = files, list(script), []

    def remote(self, path="file.bin", body=None, name="loopback"):
        body = self.files[path] if body is None else body
        url = f"http://127.0.0.1:{self.server_port}/{path}"
        return Remote(name, url, hashlib.sha256(body).hexdigest(), len(body))


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        server.asked.append((self.path, start))
        kind, number = server.script.pop(0) if server.script else ("good", 0)
        body = server.files.get(self.path.lstrip("/"))
        if kind == "status" or body is None:
            return self.send_error(number if kind == "status" else 404)
        if kind == "no ranges":
            start = 0
        if start >= len(body) and start:
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if kind != "endless":
            self.send_header("Content-Length", str(len(body) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        try:
            if kind == "endless":
                while True:
                    self.wfile.write(body)
            self.wfile.write(body[start : start + number] if kind in ("cut", "stall") else body[start:])
            if kind == "stall":
                self.wfile.flush()
                threading.Event().wait(2)
        except OSError:
            pass  # the client hung up
        self.close_connection = True

    def log_message(self, *_):
        pass


@contextmanager
def loopback(files=None, script=()):
    server = Loopback({"file.bin": BODY} if files is None else files, script)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def closed_port():
    with loopback() as server:
        return server.remote()


def names(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


# ---- downloads


def test_good_file_is_fetched_once(tmp_path):
    with loopback() as server:
        for _ in range(2):
            path = download(server.remote(), tmp_path / "d", progress=False)
            assert path.read_bytes() == BODY
        assert server.asked == [("/file.bin", 0)]
    assert names(tmp_path / "d") == ["file.bin"]


def test_wrong_hash_leaves_nothing(tmp_path):
    with loopback() as server, pytest.raises(DataError, match="is not the file wanted"):
        download(server.remote(body=BODY[::-1]), tmp_path / "d", progress=False)
    assert names(tmp_path / "d") == []


def test_cut_transfer_is_continued_by_range(tmp_path):
    with loopback(script=[("cut", 100_000), ("cut", 123), ("cut", 50_000)]) as server:
        assert download(server.remote(), tmp_path, progress=False).read_bytes() == BODY
        assert [start for _, start in server.asked] == [0, 100_000, 100_123, 150_123]


def test_server_without_ranges_starts_over(tmp_path):
    with loopback(script=[("cut", 100_000), ("no ranges", 0)]) as server:
        assert download(server.remote(), tmp_path, progress=False).read_bytes() == BODY
        assert [start for _, start in server.asked] == [0, 100_000]


def test_next_call_goes_on_with_the_part(tmp_path):
    with loopback(script=[("cut", 70_000), ("status", 404)]) as server:
        with pytest.raises(ConnectionError, match="404"):
            download(server.remote(), tmp_path / "d", progress=False)
        assert names(tmp_path / "d") == ["file.bin.part"]
        download(server.remote(), tmp_path / "d", progress=False)
        assert server.asked[-1] == ("/file.bin", 70_000)
    assert names(tmp_path / "d") == ["file.bin"]


@pytest.mark.parametrize("part", [b"spoilt" * 1000, BODY + b"too long", BODY[:-1] + b"?"])
def test_part_that_does_not_fit_is_thrown_away(tmp_path, part):
    (tmp_path / "file.bin.part").write_bytes(part)
    with loopback() as server:
        assert download(server.remote(), tmp_path, progress=False).read_bytes() == BODY
        assert server.asked[-1] == ("/file.bin", 0)
    assert "file.bin.part" not in names(tmp_path)


def test_busy_server_is_asked_again(tmp_path):
    with loopback(script=[("status", 503), ("status", 429)]) as server:
        assert download(server.remote(), tmp_path, progress=False).read_bytes() == BODY
        assert len(server.asked) == 3


def test_stalled_server_times_out_and_is_continued(tmp_path):
    with loopback(script=[("stall", 65_536)]) as server:
        assert download(server.remote(), tmp_path, progress=False, timeout=0.5).read_bytes() == BODY
        assert len(server.asked) >= 2


def test_gives_up_after_some_attempts_without_progress(tmp_path):
    with loopback(script=[("cut", 10)] * 9) as server:
        with pytest.raises(ConnectionError, match="cut off at 30 of 300,000 bytes"):
            download(server.remote(), tmp_path, progress=False, attempts=3)
        assert len(server.asked) == 3


def test_endless_answer_is_refused(tmp_path):
    with loopback(script=[("endless", 0)]) as server, pytest.raises(DataError, match="more than the 300,000 bytes"):
        download(server.remote(), tmp_path / "d", progress=False)
    assert names(tmp_path / "d") == []


def test_page_in_place_of_the_file_is_seen_at_once_and_the_part_is_kept(tmp_path):
    with loopback({"file.bin": BODY, "page": b"<html>please log in</html>"}) as server:
        (tmp_path / "file.bin.part").write_bytes(BODY[:1000])
        good, page = server.remote(), server.files["page"]
        server.files["file.bin"] = page
        with pytest.raises(ConnectionError if len(page) < 1000 else DataError):  # 416: nothing from byte 1000 on
            download(good, tmp_path, progress=False, attempts=1)
        with pytest.raises(DataError, match="gives a file of 26 bytes, not 300,000"):
            download(good, tmp_path, progress=False)
    assert names(tmp_path) == []


def test_next_source_after_404_wrong_hash_and_no_server(tmp_path):
    said = []
    with loopback({"file.bin": BODY, "other": b"login page"}) as server:
        good = server.remote(name="good")
        missing = Remote("missing", good.url + ".gone", good.sha256, good.size)
        page = Remote("page", good.url.replace("file.bin", "other"), good.sha256, good.size)
        dead = Remote("dead", closed_port().url, good.sha256, good.size)
        remotes = [missing, page, dead, good]
        path, source = download_first(remotes, tmp_path, said.append, attempts=1, progress=False)
        assert (path.read_bytes(), source) == (BODY, good)
        assert sum("gone" in path for path, _ in server.asked) == 1  # 404 is final
        assert [line.split()[0] for line in said if "failed" in line] == ["missing", "page", "dead"]
        with pytest.raises(DataError) as error:
            download_first(remotes[:3], tmp_path / "none", said.append, attempts=1, progress=False)
    assert all(f"\n  {r.name}: http" in str(error.value) for r in remotes[:3]) and "404" in str(error.value)
    assert "refused" in str(error.value)


def test_many_at_once_get_the_file(tmp_path):
    with loopback(script=[("cut", 1000)] * 3) as server:
        remote, failed = server.remote(), []

        def fetch():
            try:
                assert download(remote, tmp_path, progress=False).read_bytes() == BODY
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=fetch) for _ in range(6)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        assert not failed
    assert [n for n in names(tmp_path) if not n.endswith(".json")] == ["file.bin"]


# ---- full disks


@contextmanager
def small_disk(folder):
    "A tmpfs of 100 kB at `folder` where we may mount one; else yields False."
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "none", folder]
    mounted = subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", folder], check=True)


@contextmanager
def file_limit(size):
    "Writes beyond `size` bytes fail with EFBIG, as on a full disk."
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_disk_full_while_downloading(tmp_path):
    with loopback() as server, file_limit(100_000), pytest.raises(OSError, match="CAM_COURSE_CACHE") as error:
        download(server.remote(), tmp_path / "d", progress=False)
    assert error.value.errno == errno.EFBIG and names(tmp_path / "d") == []


def test_too_small_a_disk_is_seen_before_downloading(tmp_path):
    with small_disk(tmp_path / "d") as mounted, loopback() as server:
        if not mounted:
            return test_disk_full_while_downloading(tmp_path / "other")
        with pytest.raises(OSError, match="CAM_COURSE_CACHE") as error:
            download(server.remote(), tmp_path / "d", progress=False)
        assert error.value.errno == errno.ENOSPC and names(tmp_path / "d") == [] and server.asked == []


def arrays():
    return np.arange(30 * 3072, dtype=np.uint8).reshape(30, 3, 32, 32), np.arange(30)


def test_disk_full_while_caching_warns_and_goes_on(tmp_path, monkeypatch):
    with small_disk(tmp_path / "d") as mounted:
        monkeypatch.setenv("CAM_COURSE_CACHE", str(tmp_path / "d"))
        big = lambda: (np.zeros((100, 3, 32, 32), np.uint8), np.zeros(100, np.int64))
        with file_limit(resource.RLIM_INFINITY if mounted else 50_000), pytest.warns(UserWarning, match="not cached"):
            x, _ = cached_arrays("key", big)
        assert x.shape == (100, 3, 32, 32) and not [n for n in names(tmp_path / "d") if n != "y.npy"]


# ---- the cache of decoded arrays


def test_second_call_maps_the_file_and_changes_stay_private():
    first = cached_arrays("key", arrays)
    second = cached_arrays("key", lambda: pytest.fail("built twice"))
    assert isinstance(second[0], np.memmap) and all((a == b).all() for a, b in zip(first, second, strict=True))
    second[0][:] = 0
    assert (cached_arrays("key", arrays)[0] == arrays()[0]).all()


@pytest.mark.parametrize("name", ["x", "y"])
@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "text", "pickle", "dtype"])
def test_damaged_cache_is_built_anew(tmp_path, name, damage):
    cached_arrays("key", arrays)
    file = tmp_path / "cache" / "arrays" / "key" / f"{name}.npy"
    blob = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "pickle":
        np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    elif damage == "dtype":
        np.save(file, np.zeros(30, np.float32))
    else:
        file.write_bytes({"cut": blob[:-1], "empty": b"", "text": b"hello"}[damage])
    x, y = cached_arrays("key", arrays)
    assert (x == arrays()[0]).all() and (y == arrays()[1]).all()
    assert isinstance(cached_arrays("key", lambda: pytest.fail("not repaired"))[0], np.memmap)


def test_unwritable_cache_warns_and_goes_on(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("CAM_COURSE_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="no cache.*Set CAM_COURSE_CACHE"):
        x, _ = cached_arrays("key", arrays)
    assert (x == arrays()[0]).all()


BUILDER = """
import sys, time, numpy as np
from cam_course.sources import cached_arrays
def build():
    print("building", flush=True)
    sys.stdin.readline()  # wait until told: both have begun
    return np.random.default_rng(1).integers(0, 256, (2000, 3, 32, 32)).astype(np.uint8), np.arange(2000)
x, y = cached_arrays("key", build)
print(int(x.sum()), int(y.sum()), flush=True)
"""


def start_builder():
    pipe, one_thread = subprocess.PIPE, os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", BUILDER], stdin=pipe, stdout=pipe, text=True, env=one_thread)


def test_two_processes_build_at_once_and_one_is_killed(tmp_path):
    builders = [start_builder() for _ in range(3)]
    assert [b.stdout.readline().strip() for b in builders] == ["building"] * 3  # nobody has built it yet
    builders[2].kill()
    results = []
    for b in builders[:2]:
        b.stdin.write("go\n")
        b.stdin.flush()
    for b in builders[:2]:
        results.append(b.stdout.readline().split())
        assert b.wait(30) == 0
    builders[2].wait(30)
    assert results[0] == results[1]
    x, y = cached_arrays("key", lambda: pytest.fail("not there"))
    assert [str(int(x.sum())), str(int(y.sum()))] == results[0]
    assert names(tmp_path / "cache" / "arrays") == ["x.npy", "y.npy"]


def test_notes_of_hashes_follow_the_file(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(b"one")
    assert known_hash(file) == hashlib.sha256(b"one").hexdigest()
    with monkeypatch.context() as patch:
        patch.setattr(sources, "file_hash", lambda *_: pytest.fail("read again"))
        assert known_hash(file) == hashlib.sha256(b"one").hexdigest()
    file.write_bytes(b"two")
    os.utime(file, ns=(1, 1))
    assert known_hash(file) == hashlib.sha256(b"two").hexdigest()
    for note in (tmp_path / "cache" / "hashes").iterdir():
        note.write_text("{torn")
    assert known_hash(file) == hashlib.sha256(b"two").hexdigest()


# ---- archives


def tar_gz(path, members):
    "An archive of (name or TarInfo, content); returns its sha256."
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for member, content in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = info.size or len(content)
            archive.addfile(info, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
    monkeypatch.setattr(sources.tarfile, "open", lambda *_, **__: pytest.fail("opened"))
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


def python2_batch(x, labels):
    "The pickle (protocol 2) that Python 2's cPickle wrote for {'data': x, 'labels': labels}."
    shape = b"".join(b"J" + int(n).to_bytes(4, "little") for n in x.shape)
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    raw = b"T" + x.nbytes.to_bytes(4, "little") + x.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    array += b"(K\x01(" + shape + b"t" + dtype + b"\x89" + raw + b"tb"
    numbers = b"".join(b"K" + bytes([k]) for k in labels)
    return b"\x80\x02}(U\x04data" + array + b"U\x06labels](" + numbers + b"eu."


class Evil:
    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("call", [os.system, eval, exec, subprocess.call, getattr, np.load, __import__], ids=repr)
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


def test_library_says_nothing_at_import_and_needs_no_network_library():
    code = """
    import sys, torch
    before = set(sys.modules)
    import cam_course.data
    new = set(sys.modules) - before
    slow = {"requests", "pooch", "pyarrow", "PIL.Image", "torchvision", "matplotlib", "pandas"}
    print(sorted(slow & new))
    """
    out = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]" and not out.stderr


def test_no_warning_from_mapped_arrays():
    import torch

    cached_arrays("key", arrays)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = torch.from_numpy(cached_arrays("key", arrays)[0])
    assert x.shape == (30, 3, 32, 32)
