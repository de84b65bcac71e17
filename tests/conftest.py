"""What all tests share: the folders of the book's tools (book/*.py and book/_ext/*.py are scripts, no package), a browser."""

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
         "--disable-component-update", "--disable-sync"]


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
