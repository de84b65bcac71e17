"What the data tests share: a server with faults, small disks, archives and pickles, a small stand-in for CIFAR-10."
import hashlib
import io
import resource
import subprocess
import tarfile
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from cam_course.cifar10 import CIFAR10, Catalog, channel_stats
from cam_course.sources import Remote
from cam_course.unpack import write_pack

BODY = bytes(np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8))
ROWS = {"train": 200, "test": 60}


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


def tar_gz(path, members):
    "An archive of (name or TarInfo, content); returns its sha256."
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for member, content in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = info.size or len(content)
            archive.addfile(info, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def python2_batch(x, labels):
    "The pickle (protocol 2) that Python 2's cPickle wrote for {'data': x, 'labels': labels}."
    shape = b"".join(b"J" + int(n).to_bytes(4, "little") for n in x.shape)
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    raw = b"T" + x.nbytes.to_bytes(4, "little") + x.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    array += b"(K\x01(" + shape + b"t" + dtype + b"\x89" + raw + b"tb"
    numbers = b"".join(b"K" + bytes([k]) for k in labels)
    return b"\x80\x02}(U\x04data" + array + b"U\x06labels](" + numbers + b"eu."


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(file, kind, **options)
    return file.getvalue()


def write_table(path, files, labels):
    table = pa.table({"img": [{"bytes": f, "path": None} for f in files], "label": pa.array(labels, pa.int64())})
    pq.write_table(table, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


class StandIn:
    "A small data set in all layouts below `folder`, and the catalog that knows it."

    def __init__(self, folder):
        self.folder, rng = folder, np.random.default_rng(0)
        self.x, self.y, self.files, parquet, known = {}, {}, {}, {}, {}
        (folder / "hub" / "plain_text").mkdir(parents=True)
        (folder / "torchvision" / "cifar-10-batches-py").mkdir(parents=True)
        (folder / "archive").mkdir()
        (folder / "packs").mkdir()
        for split, n in ROWS.items():
            grey = np.kron(rng.integers(20, 200, (n, 1, 4, 4)), np.ones((8, 8))) + rng.integers(-9, 9, (n, 1, 32, 32))
            self.x[split] = (grey * np.array([1, 0.9, 0.8]).reshape(3, 1, 1)).astype(np.uint8)
            self.y[split] = rng.permutation(n) % 10
            self.files[split] = [encoded(image) for image in self.x[split]]
            path = folder / "hub" / "plain_text" / f"{split}-00000-of-00001.parquet"
            digest = write_table(path, self.files[split], self.y[split])
            known[digest] = "cifar10"
            pack = folder / "packs" / f"{split}.npz"
            write_pack(pack, self.files[split], self.y[split])
            known[hashlib.sha256(pack.read_bytes()).hexdigest()] = "cifar10"
            parquet[split] = Remote("hub", f"https://hub.invalid/{path.name}", digest, path.stat().st_size)
        batches, members = {"train": {}, "test": {}}, [("cifar-10-batches-py/batches.meta", b"not read")]
        for k, name in enumerate([*CIFAR10.batches["train"], "test_batch"]):
            split, rows = ("train", slice(40 * k, 40 * k + 40)) if k < 5 else ("test", slice(None))
            blob = python2_batch(self.x[split][rows].reshape(-1, 3072), self.y[split][rows])
            (folder / "torchvision" / "cifar-10-batches-py" / name).write_bytes(blob)
            batches[split][name] = hashlib.md5(blob).hexdigest()
            members.append((f"cifar-10-batches-py/{name}", blob))
        archive = folder / "archive" / "cifar-10-python.tar.gz"
        digest = tar_gz(archive, members)
        known[digest] = "cifar10"
        size, hosts = archive.stat().st_size, ("mirror", "toronto")
        hosts = [Remote(n, f"https://{n}.invalid/{archive.name}", digest, size) for n in hosts]
        stats = {("cifar10", split): channel_stats(x) for split, x in self.x.items()}
        self.catalog = Catalog(parquet, tuple(hosts), batches, known, ROWS, stats, CIFAR10.class_names)

    def served(self):
        paths = [*(self.folder / "hub" / "plain_text").iterdir(), *(self.folder / "archive").iterdir()]
        return {p.name: p.read_bytes() for p in paths}

    def is_right(self, result, split="train", name="cifar10"):
        x, y, found = result
        return (x == self.x[split]).all() and (y == self.y[split]).all() and found == name
