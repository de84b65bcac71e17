"""What all tests share: the folders of the book's tools (book/*.py and book/_ext/*.py are scripts, no package), a browser,
and the mark `long`: `make test` leaves these tests out, `make test-long` runs them and writes down what became of them."""

import os
import shutil
import sys
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
