"""What all tests share: the folders of the book's tools (book/*.py and book/_ext/*.py are scripts, no package), a browser, the site,
and the mark `long`: `make test` leaves these tests out, `make test-long` runs them and writes down what became of them."""

import functools
import http.server
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BOOK = Path(__file__).resolve().parent.parent/"book"
sys.path[:0] = [str(BOOK), str(BOOK/"_ext")]

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync",
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"]   # nothing else can be reached


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-long", action="store_true", help="write what became of the long tests to tests/results/long.json")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: takes minutes; runs with CAM_COURSE_LONG=1")
    if config.getoption("--record-long") and not hasattr(config, "workerinput"):
        import long_results
        config.pluginmanager.register(long_results.Recorder())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("CAM_COURSE_LONG"): return
    for item in items:
        if item.get_closest_marker("long"): item.add_marker(pytest.mark.skip(reason="takes minutes: make test-long"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    "Headless Chromium. One per process: playwright's synchronous interface can't be started twice in one thread."
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    why = "no Chromium: install it (Debian, Ubuntu: `apt install chromium`) to run the browser checks"
    if path is None:
        pytest.fail(why) if os.environ.get("CAM_COURSE_REQUIRE_BROWSER") == "1" else pytest.skip(why)
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def site() -> Path:
    "The site that `make book` made."
    import build
    if not (build.SITE/"index.html").exists(): pytest.fail("there is no site: run `make book` first")
    return build.SITE


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    "The site, served on this machine alone."
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None: pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            "A page that is left while it loads hangs up: no fault."
            if not isinstance(sys.exc_info()[1], ConnectionError): super().handle_error(request, client_address)

    server = Server(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="session")
def warm_kernels() -> Iterator[str | None]:
    "A value of JUPYTER_PATH for which kernels start at once (Linux; elsewhere None). Kernels of this process import nothing twice."
    if sys.platform != "linux":
        yield None
        return
    import warm_kernel
    with tempfile.TemporaryDirectory(prefix="kernels-") as folder, \
         warm_kernel.served(Path(folder), PYTHONPATH=str(BOOK.parent), OMP_NUM_THREADS="1") as path: yield path
