"What the data tests share: a server of files, small disks, and a small stand-in for CIFAR-10 in all layouts."
import hashlib
import io
import pickle
import resource
import tarfile
import threading
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from torchvision.datasets import CIFAR10

from cam_course.base import cifar10

ROWS = {"train": 200, "test": 60}


class Loopback(ThreadingHTTPServer):
    "A file server on 127.0.0.1; `asked` has the paths. Of a file in `cut` half is sent."

    daemon_threads = True

    def __init__(self, files, cut=()):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.cut, self.asked = files, cut, []
        self.address = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.rsplit("/", 1)[-1]
        self.server.asked.append(self.path)
        if (body := self.server.files.get(name)) is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:len(body)//2] if name in self.server.cut else body)

    def log_message(self, *_):
        pass


@contextmanager
def loopback(files, cut=()):
    server = Loopback(files, cut)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def names(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


@contextmanager
def file_limit(size):
    "Writes beyond `size` bytes fail with EFBIG, as on a full disk."
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(file, kind, **options)
    return file.getvalue()


def write_table(path, files, labels):
    table = pa.table({"img": [{"bytes": f, "path": None} for f in files], "label": pa.array(labels, pa.int64())})
    pq.write_table(table, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


class StandIn:
    "A small data set in all layouts below `folder`; `use(setattr)` lets the library and torchvision take it for CIFAR-10."

    def __init__(self, folder):
        self.folder, rng = folder, np.random.default_rng(0)
        self.x, self.y, self.files, self.tables = {}, {}, {}, {}
        hub, batches, archives = folder/"hub"/"plain_text", folder/"torchvision"/"cifar-10-batches-py", folder/"archive"
        packs, self.packs = folder/"packs", []
        for inner in (hub, batches, archives, packs):
            inner.mkdir(parents=True)
        for split, n in ROWS.items():
            grey = np.kron(rng.integers(20, 200, (n, 1, 4, 4)), np.ones((8, 8))) + rng.integers(-9, 9, (n, 1, 32, 32))
            self.x[split] = (grey * np.array([1, 0.9, 0.8]).reshape(3, 1, 1)).astype(np.uint8)
            self.y[split] = rng.permutation(n) % 10
            self.files[split] = [encoded(image) for image in self.x[split]]
            self.tables[split] = write_table(hub/f"{split}-00000-of-00001.parquet", self.files[split], self.y[split])
            cifar10.write_pack(packs/f"{split}.npz", self.files[split], self.y[split])
            self.packs.append(hashlib.sha256((packs/f"{split}.npz").read_bytes()).hexdigest())
        blobs = {"batches.meta": pickle.dumps({"label_names": list(cifar10.CLASS_NAMES)})}
        for k in range(6):
            split, rows = ("train", slice(40*k, 40*k + 40)) if k < 5 else ("test", slice(None))
            batch = {"data": self.x[split][rows].reshape(-1, 3072), "labels": self.y[split][rows].tolist()}
            blobs[f"data_batch_{k + 1}" if k < 5 else "test_batch"] = pickle.dumps(batch)
        self.md5 = {name: hashlib.md5(blob).hexdigest() for name, blob in blobs.items()}
        for name, blob in blobs.items():
            (batches/name).write_bytes(blob)
        with tarfile.open(archives/"cifar-10-python.tar.gz", "w:gz") as archive:
            archive.add(batches, batches.name)
        self.archive = hashlib.sha256((archives/"cifar-10-python.tar.gz").read_bytes()).hexdigest()

    def use(self, put: Callable[[Any, str, Any], None]) -> None:
        "Replace what is known of CIFAR-10 by what is known of the stand-in, with `setattr` or monkeypatch's."
        put(cifar10, "_ROWS", ROWS)
        put(cifar10, "_TABLES", self.tables)
        put(cifar10, "_ARCHIVE", self.archive)
        put(cifar10, "_KNOWN", dict.fromkeys([*self.tables.values(), *self.packs, self.archive], "cifar10"))
        put(cifar10, "_STATS", {("cifar10", split): cifar10.channel_stats(x) for split, x in self.x.items()})
        put(CIFAR10, "train_list", [(n, m) for n, m in self.md5.items() if n.startswith("data")])
        put(CIFAR10, "test_list", [("test_batch", self.md5["test_batch"])])
        put(CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": self.md5["batches.meta"]})

    def known(self) -> set[str]:
        "Hashes of what may be downloaded."
        return {*self.tables.values(), self.archive}

    def served(self) -> dict[str, bytes]:
        paths = [*(self.folder/"hub"/"plain_text").iterdir(), *(self.folder/"archive").iterdir()]
        return {p.name: p.read_bytes() for p in paths}

    def is_right(self, result, split="train", name="cifar10"):
        x, y, found = result
        return (x == self.x[split]).all() and (y == self.y[split]).all() and found == name
