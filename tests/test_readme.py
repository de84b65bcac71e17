"""README.md, as somebody meets it on GitHub or on the package index: its links lead somewhere, its code runs as it stands."""
import os
import re
import shutil
import subprocess
import sys

import pytest
import readme
from stamps import ROOT

TEXT = (ROOT/"README.md").read_text(encoding="utf-8")
ABOUT = readme.settings(ROOT)
BLOCKS = re.findall(r"```(python|bash)\n(.*?)```", TEXT, re.S)
SMALL = {"width=16, epochs=3": "width=4, epochs=1, n_train=200, n_test=100", "shapes(10_000)": "shapes(300)",
         "--width 16 --epochs 3": "--width 4 --epochs 1 --n-train 200 --n-test 100", 'weights="DEFAULT"': "weights=None",
         "num_iter=200": "num_iter=20", "ResNet18(width=16)": "ResNet18(width=4)"}


def test_links_are_absolute_and_lead_to_what_is_there():
    links = re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", TEXT)
    links = [a or b for a, b in links]
    own = (f"{ABOUT['git_url']}/blob/main/", ABOUT["git_url"].replace("github.com", "raw.githubusercontent.com") + "/main/",
           ABOUT["git_url"].replace("https://github.com", "https://colab.research.google.com/github") + "/blob/main/")
    files = [link.removeprefix(o) for link in links for o in own if link.startswith(o)]
    assert len(links) >= 7 and len(files) >= 5 and not [f for f in files if not (ROOT/f).is_file()]
    assert all(link.startswith("https://") for link in links) and ABOUT["doc_host"] + ABOUT["doc_baseurl"] in links
    assert readme.PICTURE in files


def test_the_picture_is_that_of_its_first_lines(tmp_path):
    from PIL import Image, ImageChops
    readme.draw(tmp_path/"drawn.jpg")
    with Image.open(tmp_path/"drawn.jpg") as new, Image.open(ROOT/readme.PICTURE) as kept:
        assert new.size == kept.size, "run: make readme"
        difference = ImageChops.difference(new.convert("L"), kept.convert("L")).resize((32, 16))   # fonts may differ by a little
        assert max(difference.getextrema()) < 40, "run: make readme"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("empty")
    photos = ROOT/"cam_course"/"photos"
    shutil.copy(photos/"cat_chelsea.jpg", folder/"my_picture.jpg")
    for kind, file in (("cats", "cat_chelsea.jpg"), ("others", "teddy.jpg")):
        (folder/"my_pictures"/kind).mkdir(parents=True)
        shutil.copy(photos/file, folder/"my_pictures"/kind)
    return folder


@pytest.mark.parametrize("language, code", BLOCKS, ids=range(len(BLOCKS)))
def test_code_runs_where_it_is_pasted(folder, language, code):
    "In order, each in a process of its own, at a small scale; the weights of the foreign net are not fetched."
    if "pip install" in code: return
    for large, small in SMALL.items(): code = code.replace(large, small)
    before = set(folder.iterdir())
    if language == "bash": code = code.replace("cam-course", f"{sys.executable} -m cam_course")
    command = ["bash", "-ec", code] if language == "bash" else [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    named = re.findall(r'(?:save|savefig)\("([^"]+)"', code)
    assert not [n for n in named if not (folder/n).stat().st_size] and set(folder.iterdir()) > before


def test_every_block_of_code_is_tried():
    assert [language for language, _ in BLOCKS] == ["bash", "python", "python", "python", "python", "python", "bash"]
    tried = "".join(code for _, code in BLOCKS)
    assert not [large for large in SMALL if large not in tried], "SMALL names what README.md no longer says"
