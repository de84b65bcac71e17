"The page `Using the library` leaves out no command, no recipe and no file of a run folder."
import functools
import re

import chapters
import stamps

from cam_course.__main__ import _COMMANDS
from cam_course.app.config import RECIPES


@functools.cache
def cells() -> list[dict]: return stamps.load(chapters.chapter("Using the library"))["cells"]


def first_column(head: str) -> list[str]:
    "The names in code of the first column of the table with this heading."
    text = "\n\n".join(c["source"] for c in cells() if c["cell_type"] == "markdown")
    table = re.search(rf"(?m)^\| {head} \|.*\n(?:\|.*\n?)+", text)[0]
    return [name for row in table.splitlines()[2:] for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


def test_each_command_is_there(): assert {line.split()[0] for line in first_column("command")} == set(_COMMANDS)


def test_each_recipe_is_there(): assert first_column("recipe") == list(RECIPES)


def test_each_file_of_a_run_folder_is_there():
    "What the page's own run left, against what its table explains."
    shown = next(c for c in cells() if "result.folder.glob" in c["source"])
    left = {name for o in shown["outputs"] for name in "".join(o["text"]).split()}
    assert left == {name.rstrip("/") for name in first_column("file")}
