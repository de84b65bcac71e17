"Downloads and the cache of decoded arrays, with every fault that we could think of."
import errno
import hashlib
import os
import resource
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import numpy as np
import pytest
from data_faults import BODY, closed_port, file_limit, loopback, names, small_disk

from cam_course import sources
from cam_course.core import DataError
from cam_course.sources import (
    Remote,
    cached_arrays,
    download,
    download_first,
    known_hash,
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CAM_COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


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


def test_files_of_killed_processes_are_swept_unless_somebody_writes(tmp_path):
    import fcntl

    folder = tmp_path / "cache" / "arrays" / "key"
    folder.mkdir(parents=True)
    (folder / ".x.npy.abcd1234.tmp").write_bytes(b"half")
    other = os.open(folder, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_SH)  # as a process does that is writing
    cached_arrays("key", arrays)
    assert names(folder) == [".x.npy.abcd1234.tmp", "x.npy", "y.npy"]
    os.close(other)
    (folder / "x.npy").unlink()
    cached_arrays("key", arrays)
    assert names(folder) == ["x.npy", "y.npy"]


@pytest.mark.parametrize("state", ["dead", "alive", "silent", "elsewhere"])
def test_a_part_is_taken_over_from_the_dead_only(tmp_path, state):
    dead = subprocess.Popen(["true"])
    dead.wait()
    node, pid = sources.platform.node(), dead.pid if state == "dead" else os.getppid()
    part = tmp_path / f"file.bin.{'elsewhere' if state == 'elsewhere' else node}-{pid}-1.part"
    part.write_bytes(BODY[:70_000])
    litter = tmp_path / f".file.bin.{node}-{dead.pid}-1.dir"
    litter.mkdir()
    (litter / "tmpabc").write_bytes(b"half")
    if state == "silent":
        os.utime(part, (time.time() - 4000,) * 2)
    with loopback() as server:
        assert download(server.remote(), tmp_path, progress=False).read_bytes() == BODY
        assert server.asked == [("/file.bin", 70_000 if state in ("dead", "silent") else 0)]
    assert part.exists() == (state in ("alive", "elsewhere")) and not litter.exists()


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
