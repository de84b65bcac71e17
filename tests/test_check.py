"`cam-course check`: the assignment passes, each doctored copy fails for its own reason, other people's ways are understood."

import base64
import copy
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import chapters
import numpy as np
import pytest
import stamps
from PIL import Image

import cam_course.app.static_analysis
from cam_course.__main__ import cli
from cam_course.app.repository_check import REPOSITORY_RULES
from cam_course.app.submission_check import RULES, check_notebook

ROOT = Path(__file__).resolve().parent.parent
ASSIGNMENT = chapters.chapter("The assignment")


def png(seed: int | None = 0, size: int = 80) -> dict:
    pixels = np.full((size, size, 3), 90) if seed is None else np.random.default_rng(seed).integers(0, 256, (size, size, 3))
    file = io.BytesIO()
    Image.fromarray(pixels.astype("uint8")).save(file, "PNG")
    return {"output_type": "display_data", "data": {"image/png": base64.b64encode(file.getvalue()).decode()}, "metadata": {}}


def stream(text: str) -> dict:
    return {"output_type": "stream", "name": "stdout", "text": text}


def broken(path: Path) -> dict[str, str]:
    return {f.rule: f.why for f in check_notebook(path).findings if not f.met}


# ---- the assignment and its doctored copies


class Copy:
    "The assignment, to be changed cell by cell; a cell is found by its source."

    def __init__(self) -> None:
        self.nb = json.loads(ASSIGNMENT.read_text(encoding="utf-8"))
        self.code = [c for c in self.nb["cells"] if c["cell_type"] == "code"]
        for c in self.code:
            c["source"] = "".join(c["source"])

    def cell(self, words: str) -> dict:
        return next(c for c in self.code if words in c["source"])

    def sub(self, cell: str, old: str, new: str) -> None:
        c = self.cell(cell)
        assert old in c["source"]
        c["source"] = c["source"].replace(old, new)

    def remove(self, words: str) -> None:
        self.nb["cells"] = [c for c in self.nb["cells"] if c is not self.cell(words)]

    def log(self) -> dict:
        return next(o for o in self.cell("result.log")["outputs"] if "20/20" in "".join(o["text"]))

    def number(self) -> None:
        for i, c in enumerate(self.code, 1):
            c["execution_count"] = i

    def picture(self, words: str) -> dict:
        return next(o for o in self.cell(words)["outputs"] if "image/png" in o.get("data", {}))


CURVES, GALLERY, CAMS = "plot_curves", "plot_misclassified(", 'plot_cams(10, target_layers="layer3")'


def define(c: Copy) -> None:
    c.sub("environment().items()", "for", "def shout(x):\n    return x.upper()\nfor")


def assign_lambda(c: Copy) -> None:
    c.sub("environment().items()", "for", "double = lambda x: 2 * x\nfor")


def write_a_file(c: Copy) -> None:
    c.cell("config.transforms")["source"] = "%%writefile train.py\ndef f(): pass"


def fewer_epochs(c: Copy) -> None:
    c.sub("epochs = 20", "epochs = 20", "epochs = 12")


def shorter_log(c: Copy) -> None:
    "Twelve rows, and a picture of the curves that says nothing about epochs."
    for o in [o for cell in c.code for o in cell["outputs"] if "20/20" in "".join(o.get("text", ""))]:
        o["text"] = [line for line in "".join(o["text"]).splitlines(keepends=True) if not re.match(r" *(1[3-9]|20)/20 ", line)]
    c.picture(CURVES)["metadata"]["image/png"]["alt"] = "Train loss and test loss"


def flip_too(c: Copy) -> None:
    c.sub('recipe("assignment"', "**size", 'transforms=("crop", "flip", "cutout"), **size')


def small_hole(c: Copy) -> None:
    c.sub('recipe("assignment"', "**size", "cutout_size=8, **size")


def other_data(c: Copy) -> None:
    c.sub('dataset = "cifar10"', '"cifar10"', '"shapes"')


def other_net(c: Copy) -> None:
    c.sub('recipe("assignment"', "**size", "model='resnet34', **size")


def no_curves(c: Copy) -> None:
    c.remove(CURVES)


def curves_of_another_run(c: Copy) -> None:
    about = c.picture(CURVES)["metadata"]["image/png"]
    about["alt"] = re.sub(r"Train loss ends at \S+,", "Train loss ends at 0.111,", about["alt"])


def five_errors(c: Copy) -> None:
    c.sub(GALLERY, "plot_misclassified(10)", "plot_misclassified(5)")


def blank_cams(c: Copy) -> None:
    c.picture(CAMS)["data"]["image/png"] = png(None)["data"]["image/png"]


def same_picture_twice(c: Copy) -> None:
    c.picture(CAMS)["data"] = copy.deepcopy(c.picture(GALLERY)["data"])


def cams_of_others(c: Copy) -> None:
    about = c.picture(CAMS)["metadata"]["image/png"]
    about["alt"] = about["alt"].replace(" taken for ", " taken for another ")


def coarse_layer(c: Copy) -> None:
    c.sub(CAMS, '"layer3"', '"layer4"')


def rule_switched_off(c: Copy) -> None:
    c.sub(CAMS, '"layer3"', '"layer3", min_size=1')


def cleared_cell(c: Copy) -> None:
    c.cell("environment().items()")["source"] = "print(environment())"
    c.cell("print(environment())")["outputs"] = []


def wrong_order(c: Copy) -> None:
    c.number()
    a, b = c.cell("result.log"), c.cell(CURVES)
    a["execution_count"], b["execution_count"] = b["execution_count"], a["execution_count"]


def not_run(c: Copy) -> None:
    c.number()
    c.cell("result.log")["execution_count"] = None


def an_error(c: Copy) -> None:
    c.cell("plot_confusion")["outputs"].append({"output_type": "error", "ename": "KeyError", "evalue": "", "traceback": []})


DOCTORED: dict[Callable[[Copy], None], tuple[str, str]] = {
    define: ("defines nothing", "`def shout`"),
    assign_lambda: ("defines nothing", "`double = lambda`"),
    write_a_file: ("defines nothing", "writefile"),
    fewer_epochs: ("20 epochs", "epochs=12"),
    shorter_log: ("20 epochs", "the log shows 12 of 20 epochs"),
    flip_too: ("crop and cutout alone", "crop, flip, cutout"),
    small_hole: ("crop and cutout alone", "cutout_size=8"),
    other_data: ("ResNet18 on CIFAR-10", "dataset='shapes'"),
    other_net: ("ResNet18 on CIFAR-10", "model='resnet34'"),
    no_curves: ("loss curves", "no picture of the losses"),
    curves_of_another_run: ("loss curves", "these are two runs"),
    five_errors: ("ten misclassified", "5 of misclassified images, not ten"),
    blank_cams: ("ten Grad-CAMs of them", "shows nothing"),
    same_picture_twice: ("ten Grad-CAMs of them", "the same picture"),
    cams_of_others: ("ten Grad-CAMs of them", "are not of the images"),
    coarse_layer: ("maps of 5 px or more", "'layer4', 4 x 4 px, under 5"),
    rule_switched_off: ("maps of 5 px or more", "min_size=1"),
    cleared_cell: ("ran from top to bottom", "no output"),
    wrong_order: ("ran from top to bottom", "ran before"),
    not_run: ("ran from top to bottom", "was not run"),
    an_error: ("ran from top to bottom", "ended in KeyError"),
}


def test_the_assignment_passes():
    report = check_notebook(ASSIGNMENT)
    assert report.ok, str(report)
    assert str(report).splitlines()[0] == f"{ASSIGNMENT.name} meets all {len(RULES)} rules"


def test_each_rule_has_a_doctored_copy():
    assert {rule for rule, _ in DOCTORED.values()} == set(RULES)


@pytest.mark.parametrize("change", DOCTORED, ids=lambda f: f.__name__)
def test_a_doctored_copy_fails_for_its_own_reason(change, tmp_path):
    "Just the one rule is broken, and the line says why."
    rule, words = DOCTORED[change]
    doctored, path = Copy(), tmp_path / "x.ipynb"
    change(doctored)
    path.write_text(json.dumps(doctored.nb))
    found = broken(path)
    assert list(found) == [rule] and words in found[rule], found
    assert f"NOT MET  {rule}" in str(check_notebook(path)) and "breaks 1 of" in str(check_notebook(path))


# ---- other ways to hand in the same


def log(epochs: int = 20) -> dict:
    row = "{:3}/{}     1.0000 60.00%     1.1000 60.00%   2.00e-01       455  118.8s  0:00:00\n"
    return stream("".join(row.format(e, epochs) for e in range(1, epochs + 1)))


TAIL = [
    ("figure = result.plot_curves()",),
    ("from IPython.display import display\ndisplay(figure)", png(1)),
    ("result.errors.plot()", png(2)),
    ("result.errors.plot_cams(result.model, 10, 'layer3')", png(3)),
]
WAYS: dict[str, list[tuple]] = {
    "a module by its name": [
        ("import cam_course.app.main as m\nimport cam_course.app.config as c",),
        ("result = m.run(c.recipe('assignment', width=16))\nprint(result.log)", log()),
        *TAIL,
    ],
    "TrainConfig and replace": [
        ("from dataclasses import replace\nfrom cam_course.app.config import TrainConfig\nfrom cam_course.app.main import run",),
        ("base: TrainConfig = TrainConfig(epochs=2)\nkw = {**{'width': 16}, 'epochs': 4*5}\nprint(base)", stream("base")),
        ("result = run(config=replace(base, **kw))\nprint(result.log)", log()),
        *TAIL,
    ],
    "Trainer": [
        ("from cam_course.data import load_cifar10\nfrom cam_course.gallery import Misclassified",),
        ("from cam_course.base.geometric import RandomCrop; from cam_course.transforms import Cutout as CutOut, Normalize, Compose",),
        ("from cam_course.resnet import ResNet18\nfrom cam_course.app.trainer import Trainer\nimport torch",),
        ("train, test = load_cifar10(), load_cifar10(split='test')\nmodel = ResNet18()\nn = 20",),
        ("crop = RandomCrop(32, padding=4)\naugment = Compose([crop, CutOut(16), Normalize.of(train)])",),
        ("t = Trainer(model, train, test, torch.optim.SGD(model.parameters(), 0.1), epochs=n, transform=augment)",),
        ("history = t.fit()", log()),
        (
            "import matplotlib.pyplot as plt\nfor part in ('train_loss', 'test_loss'): plt.plot(history.arrays()[part])",
            png(1),
        ),
        ("errors = Misclassified.find(model, test, t.normalize)\nerrors.plot(n=12)", png(2)),
        ("errors.plot_cams(model, target_layers=[model.layer3[-1]])", png(3)),
    ],
    "the command line": [
        ("%%time\n!cam-course train --recipe assignment --width 16 --epochs 20 --name a  # two hours", log()),
        ("%matplotlib inline\nfrom IPython.display import Image\nfrom cam_course.app.main import resume_run",),
        ("Image('runs/a/figures/curves.png')", png(1)),
        ("Image('runs/a/figures/misclassified.png')", png(2)),
        ("result = resume_run('runs/a')\nresult.plot_cams()", png(3)),
    ],
    "the module as a command": [
        ("!python -m cam_course train --recipe assignment --width 16 --epochs 20 --name a", log()),
        ("from IPython.display import Image\nfrom cam_course.app.main import resume_run",),
        ("Image('runs/a/figures/curves.png')", png(1)),
        ("Image('runs/a/figures/misclassified.png')", png(2)),
        ("result = resume_run('runs/a')\nresult.plot_cams()", png(3)),
    ],
}
WRONG = {
    "a module by its name": ("width=16", "epochs=12", "20 epochs"),
    "TrainConfig and replace": ("4*5", "4*3", "20 epochs"),
    "Trainer": ("[crop, CutOut(16)", "[crop, CutOut(8)", "crop and cutout alone"),
    "the command line": ("--epochs 20", "--epochs 12", "20 epochs"),
    "the module as a command": ("--epochs 20", "--epochs 12", "20 epochs"),
}


def written(path: Path, cells: list[tuple]) -> Path:
    code = [
        {"cell_type": "code", "source": s.splitlines(keepends=True), "outputs": o, "execution_count": i, "metadata": {}}
        for i, (s, *o) in enumerate(cells, 1)
    ]
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": code}))
    return path


@pytest.mark.parametrize("way", WAYS)
def test_other_ways_are_understood(way, tmp_path):
    path = written(tmp_path / "x.ipynb", WAYS[way])
    assert broken(path) == {}
    old, new, rule = WRONG[way]
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert list(broken(path)) == [rule]


def test_nothing_of_a_submission_is_run(tmp_path):
    "Neither code nor shell lines nor magics; what looks like a value stays text."
    mark = tmp_path / "ran"
    evil = f"import os\nopen({str(mark)!r}, 'w')\nos.system('touch {mark}')\nx = __import__('os').getcwd()\n10 ** 10 ** 10"
    written(tmp_path / "x.ipynb", [(evil,), (f"!touch {mark}",), (f"%%bash\ntouch {mark}",), ("'a' * 10**12 + (1,) * 10**12",)])
    assert not check_notebook(tmp_path / "x.ipynb").ok and not mark.exists()


def test_the_marking_scheme_names_the_rules():
    "book/teaching.md gives points to each rule by the name that the check prints, for a repository and for a notebook."
    text = (ROOT / "book" / "teaching.md").read_text(encoding="utf-8").partition("## Marking")[2]
    others = sum(int(n) for n in re.findall(r"(?m)^\| (\d\d) \| ", text))
    for points, rules in ((3, REPOSITORY_RULES), (5, RULES)):
        assert re.findall(rf"(?m)^\| {points} \| ([^|]+?) \|", text) == list(rules) and points * len(rules) + others == 100


def test_the_session_plan_names_exercises_that_exist():
    plan = (ROOT / "book" / "teaching.md").read_text(encoding="utf-8").partition("## Marking")[0]
    titles = "".join(p.read_text(encoding="utf-8").lower() for p in stamps.notebooks())
    named = re.findall(r'"([^"\n]+)" \|', plan)
    assert len(named) >= 4
    assert not [t for t in named if f"### exercise: {t.lower()}" not in titles]


# ---- what is no notebook


BAD = {
    "empty": (b"", "it is empty"),
    "prose": (b"# My submission", "not JSON"),
    "binary": (bytes(range(256)), "not JSON"),
    "a list": (b"[1, 2]", "format 4"),
    "format 3": (b'{"nbformat": 3, "worksheets": []}', "format 4"),
    "cells of another kind": (b'{"cells": ["x", 3]}', "format 4"),
    "no code": (b'{"cells": [{"cell_type": "markdown", "source": "hello"}]}', "no code"),
    "too deep": (b"[" * 100_000, "not JSON"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_gets_one_clear_error(kind, tmp_path, capsys):
    path = tmp_path / "x.ipynb"
    path.write_bytes(BAD[kind][0])
    with pytest.raises(ValueError, match=BAD[kind][1]):
        check_notebook(path)
    assert cli(["check", str(path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("cam-course: error: ") and str(path) in said and said.count("\n") == 1


def test_missing_huge_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no notebook .*: give the path of an \.ipynb file"):
        check_notebook(tmp_path / "none.ipynb")
    with pytest.raises(FileNotFoundError, match="no notebook"):
        check_notebook(tmp_path)
    huge = tmp_path / "huge.ipynb"
    with open(huge, "wb") as file:
        file.truncate(cam_course.app.static_analysis._LARGEST + 1)  # sparse: takes no room
    with pytest.raises(ValueError, match="100 MB, the limit is 100"):
        check_notebook(huge)


@pytest.mark.parametrize(
    "cell",
    [
        {"cell_type": "code"},
        {"cell_type": "code", "source": 7, "outputs": 3},
        {"cell_type": "code", "source": ["x = 1", None], "outputs": [None, {"data": []}, {"data": {"image/png": 5}}]},
        {"cell_type": "code", "source": "x =", "execution_count": "one", "outputs": [{"output_type": "error"}]},
        {"cell_type": "code", "source": "a[{}] = {**b, 'c': 1}[{}]; x, *y = 1, 2; del x; f(**{1: 2}, *g); 1 // 0"},
        {"cell_type": "code", "source": "run(); recipe(); Trainer(*x, **y); TrainConfig(1, *[2]); Compose(3); plot_cams(())"},
        {"cell_type": "code", "source": "run(recipe(['a'])); run(recipe({}, epochs=[])); Image(); exec; !cam-course train 'x"},
        {"cell_type": "code", "source": "(" * 5000},
        {"cell_type": "code", "source": "\0"},
    ],
)
def test_odd_cells_never_crash_it(cell, tmp_path):
    "Whatever stands in a cell, the answer is a report with rules that are not met."
    path = tmp_path / "x.ipynb"
    path.write_text(json.dumps({"cells": [cell, {"cell_type": "code", "source": "pass", "outputs": [png(None)]}]}))
    report = check_notebook(path)
    assert not report.ok and len(str(report).splitlines()) == len(RULES) + 1


def test_exit_status(tmp_path, capsys):
    "0 for a submission that passes, 1 for one that doesn't: what a marker's loop in the shell needs."
    code = "import sys; from cam_course.__main__ import cli; sys.exit(cli())"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    bad = chapters.chapter("main")
    done = subprocess.run([sys.executable, "-c", code, "check", str(bad)], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, ""), done
    assert len(done.stdout.splitlines()) == len(RULES) + 1
    assert cli(["check", str(ASSIGNMENT)]) == 0      # which the line above makes the status; one process shows that it does
    told = capsys.readouterr()
    assert told.err == "" and len(told.out.splitlines()) == len(RULES) + 1
