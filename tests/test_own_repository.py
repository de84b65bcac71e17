"""The chapter that builds a repository: followed word for word it passes; doctored it fails for its own reason; `cam-course new`
and its tests; nothing of a repository is run unless it is asked for."""
import functools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import chapters
import execute
import numpy as np
import pytest
import stamps
import student
from test_check import log, png, stream

from cam_course.__main__ import cli
from cam_course.app.repository_check import (
    REPOSITORY_RULES,
    TRIALS,
    _move_of,
    _pattern,
    _rows,
    check_repository,
    new_repository,
)

CHAPTER = chapters.chapter(student.OWN)
READING = tuple(REPOSITORY_RULES)


@functools.cache
def chapter() -> dict: return stamps.load(CHAPTER)


def type_blocks(folder: Path) -> None:
    "Every file of the chapter, typed block by block as a reader does."
    for name, text in student.typed(chapter()).items():
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        (folder/name).write_text(text, encoding="utf-8")


def picture(seed: int, axes: int) -> dict:
    made = png(seed)
    made["data"]["text/plain"] = f"<Figure size 900x440 with {axes} Axes>"
    return made


@functools.cache
def pattern(room: Path) -> Path:
    "The chapter's files, with a notebook as it looks after a run, so that reading it needs no training."
    folder = room/"mine"
    folder.mkdir()
    type_blocks(folder)
    rows = log()["text"]
    with open(folder/"README.md", "a", encoding="utf-8") as file: file.write(f"```text\n{rows}```\n")
    (folder/"images").mkdir()
    for name in ("curves", "misclassified", "gradcam"): (folder/f"images/{name}.png").write_bytes(b"png")
    cells = [c["source"] for c in chapter()["cells"] if c["cell_type"] == "code" and c["source"].startswith("# notebook")]
    pull, train, *draw = cells
    outputs = [[], [], [stream(rows)], [picture(1, 2)], [picture(2, 10)], [picture(3, 10)]]
    write_notebook(folder, [pull, "epochs, width = 20, 16\nn_train, n_test = 8000, 2000", train, *draw], outputs)
    return folder


def write_notebook(folder: Path, sources: list[str], outputs: list[list[dict]]) -> None:
    code = [{"cell_type": "code", "source": s, "outputs": o, "execution_count": i, "metadata": {}}
            for i, (s, o) in enumerate(zip(sources, outputs, strict=True), 1)]
    (folder/"assignment.ipynb").write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": code}))


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path: return tmp_path_factory.mktemp("own")


@pytest.fixture
def mine(room, tmp_path) -> Path:
    "A copy of the good repository, to be changed."
    return Path(shutil.copytree(pattern(room), tmp_path/"mine"))


def broken(folder: Path, **given) -> dict[str, str]:
    return {f.rule: f.why for f in check_repository(folder, **given).findings if not f.met}


def sub(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder/name).read_text(encoding="utf-8")
    assert old in text, old
    (folder/name).write_text(text.replace(old, new), encoding="utf-8")


# ---- the chapter, followed

@pytest.fixture(scope="module")
def followed(tmp_path_factory, warm_kernels) -> tuple[Path, object]:
    "The chapter at smoke scale in an empty folder, offline and without a data set, and what that leaves there."
    folder, before = tmp_path_factory.mktemp("followed"), CHAPTER.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.delenv("CAM_COURSE_DATA", raising=False)
        if warm_kernels: patch.setenv("JUPYTER_PATH", warm_kernels)
        nb = execute.execute(CHAPTER, smoke=True, cwd=folder, watch=True)
    assert CHAPTER.read_bytes() == before
    return folder/"my-resnet", nb


def test_its_hash_misses_nothing_that_it_runs(followed):
    "What test_notebooks asks of every other notebook, in the same run."
    stamp = followed[1].metadata[stamps.KEY]
    assert stamp["code_hash"] == stamps.code_hash(stamps.load(CHAPTER)) and stamp["missed"] == []


def test_followed_word_for_word_it_ends_in_a_repository_that_passes(followed):
    folder, nb = followed
    report = check_repository(folder)
    assert report.ok and len(report.findings) == len(READING), str(report)
    assert {p.name for p in (folder/"images").glob("*.png")} >= {"curves.png", "misclassified.png", "gradcam.png"}
    assert all(p.stat().st_size > 5000 for p in (folder/"images").glob("*.png"))
    assert len((folder/"runs/assignment/log.txt").read_text().splitlines()) == 20
    assert list((folder/"runs/assignment").glob("events.out*")), "TensorBoard has something to show"
    printed = "".join("".join(o.get("text", "")) for c in nb.cells if c.cell_type == "code" for o in c.outputs)
    assert f"meets all {len(READING)} rules" in printed and printed.count("moves by up to 4 px") == 1


def test_what_a_readme_leaves_open_is_said(mine):
    def said() -> str: return next(f.why for f in check_repository(mine).findings if f.rule == "README answers")
    assert "still to fill in: Trained on ... images, github.com/YOU/, (your sentences)" in said()
    file = mine/"README.md"
    text = file.read_text().replace("(Trained on ... images of ..., width ...: what was less than everything)", "All images, width 64.")
    file.write_text(text.replace("github.com/YOU/", "github.com/ada/").replace("(your sentences)", "The ears say cat."))
    assert said().endswith("3 pictures")


def test_the_chapter_says_nothing_of_the_library_in_the_students_files():
    for name, text in student.typed(chapter()).items(): assert "cam_course" not in text and "cam-course" not in text, name


def test_a_resumed_training_is_the_uninterrupted_one(tmp_path):
    "Stopped after two of three epochs and called again, it ends with the same weights as in one go."
    type_blocks(tmp_path)
    code = """
import sys, torch, main
g = torch.Generator().manual_seed(0)
images = torch.randint(256, (96, 3, 32, 32), generator=g).to(torch.uint8), torch.randint(10, (96,), generator=g)
main.load = lambda split: images
given = dict(epochs=3, batch_size=32, width=2, lr=0.05)
whole, log, _ = main.train(**given, folder="whole")
seen, epoch = [], main.train_epoch
def stops(*args):
    if len(seen) == 2: raise KeyboardInterrupt
    seen.append(1)
    return epoch(*args)
main.train_epoch = stops
try: main.train(**given, folder="cut")
except KeyboardInterrupt: main.train_epoch = epoch
again, log2, _ = main.train(**given, folder="cut")
assert len(seen) == 2 and log == log2
assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values()))
try: main.train(**given | {"lr": 0.1}, folder="cut")
except SystemExit as error: print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "is of another run" in done.stdout


# ---- doctored

def all_in_one(f: Path) -> None:
    shutil.rmtree(f/"models")
    sub(f, "main.py", "from models.resnet import ResNet18", "from utils import ResNet18")


def no_readme(f: Path) -> None: (f/"README.md").unlink()


def bottleneck(f: Path) -> None: sub(f, "models/resnet.py", "def ResNet34", "class Bottleneck(nn.Module):\n    pass\n\n\ndef ResNet34")


def no_resnet34(f: Path) -> None: sub(f, "models/resnet.py", "def ResNet34", "def ResNetBig")


def defines(f: Path) -> None: notebook(f, "# notebook: loss curves", "def helper(): pass")


def not_run(f: Path) -> None: sub(f, "assignment.ipynb", '"execution_count": 4', '"execution_count": null')


def pasted(f: Path) -> None: notebook(f, "!git clone https://github.com/YOU/my-resnet", "!unzip my-resnet.zip")


def twelve(f: Path) -> None: notebook(f, "epochs, width = 20", "epochs, width = 12")


def short_log(f: Path) -> None: sub(f, "assignment.ipynb", " 20/20 ", " ")


def mirrored(f: Path) -> None: sub(f, "utils.py", "CutOut(16)])", "CutOut(16), v2.RandomHorizontalFlip()])")


def no_padding(f: Path) -> None: sub(f, "utils.py", "RandomCrop(32, padding=4)", "RandomCrop(32, padding=0)")


def idle_padding(f: Path) -> None: sub(f, "utils.py", "RandomCrop(32, padding=4)", "A.PadIfNeeded(4, 4), RandomCrop(32, 32)")


def small_hole(f: Path) -> None: sub(f, "utils.py", "CutOut(16)", "CutOut(8)")


def once_an_epoch(f: Path) -> None:
    sub(f, "main.py", "        if isinstance(scheduler, OneCycleLR):\n            scheduler.step()  # it counts batches\n", "")
    sub(f, "main.py", "        log.append(row)", "        parts['scheduler'].step()\n        log.append(row)")


def never_stepped(f: Path) -> None:
    sub(f, "main.py", "scheduler.step()", "pass")
    sub(f, "main.py", 'scheduler.step(row["train_loss"])', "pass")


def plateau_each_batch(f: Path) -> None:
    sub(f, "main.py", 'scheduler.step(row["train_loss"])', "pass")
    sub(f, "main.py", "            scheduler.step()  # it counts batches", "            scheduler.step()\n        scheduler.step(loss)")


def plateau_on_test(f: Path) -> None: sub(f, "main.py", '.step(row["train_loss"])', '.step(row["test_loss"])')


def plateau_on_renamed_test(f: Path) -> None:
    sub(f, "main.py", 'scheduler.step(row["train_loss"])',
        'val = test\n            val_loss, _ = test_epoch(model, *val)\n            scheduler.step(val_loss)')


def finder_on_test(f: Path) -> None:
    sub(f, "main.py", "    log, file = []",
        '    val_x, val_y = load("test")\n    find_lr(None, val_x, val_y)\n    log, file = []')


def finder_on_train_false(f: Path) -> None:
    sub(f, "main.py", "    log, file = []",
        "    held_out = DataLoader(CIFAR10('data', train=False))\n    lr_finder.range_test(held_out)\n    log, file = []")


def training_mode(f: Path) -> None: sub(f, "utils.py", "    model.eval()\n    parts", "    parts")


def no_curves(f: Path) -> None: notebook(f, 'curves("images/curves.png", log)', "pass", outputs=[])


def six(f: Path) -> None: notebook(f, "n=10", "n=6")


def own_cams(f: Path) -> None:
    for name in ("pytorch_grad_cam", "pytorch_grad_cam.utils.model_targets"):
        sub(f, "utils.py", f"from {name} import", f"from {name.replace('pytorch_grad_cam', 'gradcam')} import")


def blank_maps(f: Path) -> None: notebook(f, "# notebook: their Grad-CAMs", "# notebook: their Grad-CAMs", outputs=[png(None)])


def coarse(f: Path) -> None: notebook(f, 'layer="layer3"', 'layer="layer4"')


def lost_picture(f: Path) -> None: (f/"images/gradcam.png").unlink()


def no_links(f: Path) -> None: sub(f, "README.md", "utils.py", "my tools")


def notebook(f: Path, old: str, new: str, outputs: list | None = None) -> None:
    "Change the cell that has `old` in it."
    nb = json.loads((f/"assignment.ipynb").read_text())
    cell = next(c for c in nb["cells"] if old in c["source"])
    cell["source"] = cell["source"].replace(old, new)
    if outputs is not None: cell["outputs"] = outputs
    (f/"assignment.ipynb").write_text(json.dumps(nb))


DOCTORED: dict[Callable[[Path], object], dict[str, str]] = {
    all_in_one: {"files in their places": "missing: models/resnet.py", "ResNet18 and 34 alone": "no models/resnet.py"},
    no_readme: {"files in their places": "missing: README.md", "README answers": "names no resnet.py"},
    bottleneck: {"ResNet18 and 34 alone": "models/resnet.py has Bottleneck: remove"},
    no_resnet34: {"ResNet18 and 34 alone": "has no ResNet34"},
    defines: {"notebook defines nothing": "`def helper`"},
    not_run: {"notebook ran in order": "was not run"},
    pasted: {"notebook pulls the code": "git clone"},
    twelve: {"twenty epochs": "asks for 12 epochs"},
    short_log: {"twenty epochs": "log shows 19 epochs"},
    mirrored: {"only crop and cutout": "has RandomHorizontalFlip"},
    no_padding: {"only crop and cutout": "has RandomCrop(32, padding=0)"},
    idle_padding: {"only crop and cutout": "PadIfNeeded(4, 4) pads to that size, and the images have 32 px"},
    small_hole: {"only crop and cutout": "has CutOut(8)"},
    once_an_epoch: {"schedule stepped in time": "steps OneCycleLR once an epoch"},
    never_stepped: {"schedule stepped in time": "nothing steps it"},
    plateau_each_batch: {"schedule stepped in time": "steps ReduceLROnPlateau once a batch"},
    plateau_on_test: {"test set decides nothing": "the plateau looks at 'test_loss'"},
    plateau_on_renamed_test: {"test set decides nothing": "the plateau looks at 'test'"},
    finder_on_test: {"test set decides nothing": "the finder find_lr is given 'test'"},
    finder_on_train_false: {"test set decides nothing": "is given 'the test set (train=False)'"},
    training_mode: {"tested in eval mode": "test_epoch() never calls model.eval()"},
    no_curves: {"curves of the losses": "no picture of the losses"},
    six: {"ten errors": "shows 6 of misclassified images, not ten"},
    own_cams: {"ten maps by grad-cam": "nothing imports pytorch_grad_cam"},
    blank_maps: {"ten maps by grad-cam": "no picture of Grad-CAMs"},
    coarse: {"layer of 5 px or more": "takes layer4, 4 x 4 px, under 5"},
    lost_picture: {"README answers": "images/gradcam.png, which is not in the repository"},
    no_links: {"README answers": "names no utils.py"},
}


def test_the_good_repository_passes(room):
    report = check_repository(pattern(room))
    assert report.ok, str(report)
    told = str(report).splitlines()
    assert told[0] == f"mine meets all {len(READING)} rules"
    assert told[-2].startswith("not seen by reading") and "nothing of it was run" in told[-1]


def test_each_rule_has_a_doctored_repository():
    assert {rule for told in DOCTORED.values() for rule in told} == set(READING) and len(DOCTORED) >= 12


@pytest.mark.parametrize("change", DOCTORED, ids=lambda f: f.__name__)
def test_a_doctored_repository_fails_for_its_own_reason(change, mine):
    change(mine)
    found = broken(mine)
    assert found.keys() == DOCTORED[change].keys(), found
    for rule, words in DOCTORED[change].items(): assert words in found[rule]


# ---- what strangers write

ALBUMENTATIONS = """
import albumentations as A
train_transforms = A.Compose([A.PadIfNeeded(min_height={0}, min_width={0}), A.RandomCrop(32, 32),
    A.CoarseDropout(max_holes=1, max_height={1}, max_width={1}, p=1.0), A.Normalize((0.49,), (0.25,))])
"""


@pytest.mark.parametrize(("pad", "hole", "words"), [(40, 16, None), (4, 16, "pads to that size"), (40, 8, "has A.CoarseDropout")])
def test_albumentations_are_understood(pad, hole, words, mine):
    sub(mine, "utils.py", "RandomCrop(32, padding=4), test_transform, CutOut(16)", "test_transform")
    (mine/"transforms.py").write_text(ALBUMENTATIONS.format(pad, hole))
    found = broken(mine)
    assert (words is None and not found) or words in found["only crop and cutout"]


LOOP = """
class Trainer:
    def __init__(self, model, train_loader, test_loader, max_lr):
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, max_lr, epochs=20, steps_per_epoch=len(train_loader))
    def run(self):
        for epoch in range(20):
            for images, labels in tqdm(self.train_loader):
                loss = self.criterion(self.model(images), labels)
                loss.backward()
                self.optimizer.step()
                {0}
            {1}
"""


def test_a_schedule_in_a_class(mine):
    for where, wrong in (((LOOP.format("self.scheduler.step()", "pass")), False), (LOOP.format("pass", "self.scheduler.step()"), True)):
        (mine/"trainer.py").write_text(where)
        sub(mine, "main.py", "scheduler.step()  # it counts batches", "pass")
        assert ("schedule stepped in time" in broken(mine)) is wrong
        sub(mine, "main.py", "            pass\n", "            scheduler.step()  # it counts batches\n")


LINES = ["EPOCH: {}", "Epoch {}/20", "Epoch={} Batch 390 Loss 0.41", "epoch {:02d} | loss 0.5", " {}/20  1.8 31.9%", "[{}/20] loss 1"]


@pytest.mark.parametrize("line", LINES)
def test_logs_of_many_kinds_are_counted(line):
    assert _rows("\n".join(line.format(n) for n in range(1, 21))) == set(range(1, 21))
    assert _rows("\n".join(line.format(n) for n in range(20))) == set(range(1, 21))


def test_odd_folders_never_crash_it(tmp_path):
    "Whatever lies there, the answer is a report; nothing but a folder is an error."
    (tmp_path/"main.py").write_text("def f(:\n")
    (tmp_path/"utils.py").write_bytes(b"\xff\xfe\x00")
    (tmp_path/"deep.py").write_text("x = " + "(" * 5000)
    (tmp_path/"a.ipynb").write_text("no notebook")
    odd = "scheduler.step(*a)|f(**b)|x: int|for x.y in z: pass|GradCAM()|range_test(*q)|RandomCrop(*s)|epochs = [1]|CutOut()|a, *b = c"
    (tmp_path/"odd.py").write_text(odd.replace("|", "\n"))
    report = check_repository(tmp_path)
    assert not report.ok and len(report.findings) == len(READING)
    assert "is no Python" in report.findings[0].why
    with pytest.raises(FileNotFoundError, match="give the folder that git cloned"): check_repository(tmp_path/"none")


# ---- nothing is run, unless asked

def plant(f: Path, mark: Path) -> None:
    line = f"open({str(mark)!r}, 'a').write('x')\n"
    for name in ("utils.py", "main.py", "models/resnet.py", "models/__init__.py", "setup.py", "conftest.py", "sitecustomize.py"):
        (f/name).write_text((f/name).read_text() + line if (f/name).exists() else line)
    notebook(f, "# notebook: loss curves", line + "# notebook: loss curves")


def test_nothing_is_run_without_the_word(mine, tmp_path, capsys):
    mark = tmp_path/"ran"
    plant(mine, mark)
    assert check_repository(mine).ok and cli(["check", str(mine)]) == 0 and not mark.exists()
    assert "nothing of it was run" in capsys.readouterr().out
    assert cli(["check", str(mine), "--run"]) == 0 and mark.exists()     # and with the word it is, and says so
    told = capsys.readouterr()
    assert "outside of any sandbox" in told.err and "strangers' code, with your rights" in told.out
    assert "(2, 10) out, layer3 8 x 8" in told.out and "moves by up to 4 px, covers up to 16 x 16" in told.out


TRIED: dict[str, tuple[str, str, str, str]] = {   # what is tried -> file, what stands there, what is put there, what is said
    "an idle padding": ("utils.py", "[self.padding]*4", "[0]*4", "moves none of 64 images"),
    "a mirror in the crop": ("utils.py", "return torch.st", "x = x.flip(-1)\n        return torch.st", "mirrors 64 of 64 images"),
    "a small hole": ("utils.py", "self.size//2", "4", "covers up to 8 x 8 px"),
    "an endless import": ("utils.py", "MEAN, STD = ", "while True: pass\nMEAN, STD = ", "didn't end within"),
    "a missing library": ("utils.py", "from pathlib", "import no_such_library\nfrom pathlib", "imports no_such_library, which"),
    "an error": ("utils.py", "from pathlib import Path", "1/0", "raised ZeroDivisionError"),
    "an exit": ("utils.py", "from pathlib import Path", "import os; os._exit(3)", "ended without an answer (exit code 3)"),
    "eleven classes": ("models/resnet.py", "classes=10", "classes=11", "makes (2, 11) of 2 images"),
    "a coarse stem": ("models/resnet.py", "(3, width, 3, padding=1", "(3, width, 3, 2, padding=1", "layer3 has maps of 4 x 4 px"),
}


@pytest.mark.parametrize("what", TRIED)
def test_a_trial_finds_what_reading_can_not(what, mine):
    file, old, new, words = TRIED[what]
    sub(mine, file, old, new)
    assert not broken(mine), "reading sees nothing"
    seconds = 10 if what == "an endless import" else 300
    found = broken(mine, run=True, seconds=seconds)     # where time is short, a slow machine may miss the other trial too
    assert any(words in why for why in found.values()) and (len(found) == 1 or what == "an endless import"), found


def test_trials_have_names(): assert TRIALS.keys() == {"transforms, tried", "net, tried"}


def test_a_move_is_found():
    "Any crop out of a padded image, with any hole, whatever is filled in."
    rng, white = np.random.default_rng(1), _pattern() > 0
    for _ in range(20):
        i, j = rng.integers(0, 9, 2)
        r, c = rng.integers(0, 17, 2)
        out = np.pad(white, 4, constant_values=bool(rng.integers(2)))[i:i + 32, j:j + 32].copy()
        out[r:r + 16, c:c + 16] = False
        _, move, (height, width) = _move_of(out, white)
        assert move == (i - 4, j - 4) and max(height, width) <= 16


def test_a_run_is_for_a_folder(mine, capsys):
    assert cli(["check", str(mine/"assignment.ipynb"), "--run"]) == 2
    assert "give its folder" in capsys.readouterr().err


# ---- cam-course new

def test_the_folder_to_begin_in_is_the_chapter_with_its_bodies_out():
    "Written by `python book/student.py --start`."
    made = student.start_files(chapter())
    there = {p.relative_to(student.START).as_posix(): p.read_text(encoding="utf-8") for p in student.START.rglob("*.txt")}
    assert {name: there.get(name) for name in made} == made, "run python book/student.py --start"
    assert there.keys() == made.keys() | set(student.BY_HAND)


def test_bodies_go_and_signatures_stay():
    text = student.opened('"A."\nx = 1\n\n\nclass A:\n    "B."\n\n    def __init__(self, a):\n        self.a = a\n\n'
                          '    def f(self, b=2):\n        "C."\n        y = 3\n        return y\n\n\ntest_transform = [\n    1]\n')
    assert "self.a = a" in text and "x = 1" in text and "def f(self, b=2):" in text and '"C."' in text
    assert "y = 3" not in text and text.count("NotImplementedError") == 1 and "test_transform = None  # your turn\n" in text


def test_new_writes_over_nothing(tmp_path, capsys):
    for kind in ("visible", "hidden", "file"):
        place = tmp_path/kind
        if kind == "file": place.write_text("mine")
        else:
            place.mkdir()
            (place/("a.txt" if kind == "visible" else ".git")).write_text("mine")
        with pytest.raises(FileExistsError, match="give a new one"): new_repository(place)
        assert cli(["new", str(place)]) == 2 and "nothing is written over" in capsys.readouterr().err
        assert kind == "file" or [p.read_text() for p in place.iterdir()] == ["mine"]
    (tmp_path/"empty").mkdir()
    assert cli(["new", str(tmp_path/"empty")]) == 0 and (tmp_path/"empty/models/resnet.py").exists()
    assert set(capsys.readouterr().out.splitlines()) >= {f"{tmp_path}/empty/.gitignore", f"{tmp_path}/empty/test_progress.py"}


def progress(folder: Path) -> tuple[dict[str, bool], str]:
    "Test -> does it pass?, and what was said."
    words = ["-q", "-rA", "--tb=line", "-p", "no:cacheprovider", "-p", "no:xdist", "test_progress.py"]
    done = subprocess.run([sys.executable, "-m", "pytest", *words], cwd=folder, capture_output=True, text=True)
    found = re.findall(r"^(PASSED|FAILED) test_progress\.py::(\w+)", done.stdout, re.M)
    return {name: verdict == "PASSED" for verdict, name in found}, done.stdout


def test_its_tests_say_how_far_one_is(tmp_path):
    "All fail at first, each for what is open; they pass file by file; in the end all do."
    folder, files = tmp_path/"mine", student.typed(chapter())
    new_repository(folder)
    first, said = progress(folder)
    assert len(first) >= 15 and not any(first.values()), said
    waits = {"test_transforms_normalize": "is still open", "test_the_notebook_trains_and_defines_nothing": "doesn't call train yet"}
    assert said.count("NotImplementedError: your turn") >= len(first) - len(waits) and all(w in said for w in waits.values()), said
    passed = []
    for name in ("models/resnet.py", "utils.py", "main.py"):
        (folder/name).write_text(files[name], encoding="utf-8")
        found, said = progress(folder)
        passed.append({t for t, ok in found.items() if ok})
    assert len(passed[0]) == 4 and passed[0] < passed[1] < passed[2], said
    assert first.keys() - passed[2] == {"test_the_notebook_trains_and_defines_nothing"}, said
    cells = [c for c in chapter()["cells"] if c["cell_type"] == "code" and c["source"].startswith("# notebook")]
    write_notebook(folder, [c["source"] for c in cells], [[]]*len(cells))
    assert all(progress(folder)[0].values())


WRONG = {   # a slip in the finished files -> the test that notices
    "test_numbers_of_weights": ("models/resnet.py", "3, stride, 1, bias=False", "3, stride, 1"),
    "test_map_of_layer3_is_8_by_8": ("models/resnet.py", "blocks[2], 2)", "blocks[2], 1)"),
    "test_crop_moves_each_image_its_own_way": ("utils.py", "zip(x, corners)", "zip(x, corners[:1]*len(x))"),
    "test_cutout_covers_16_by_16": ("utils.py", "self.size//2", "4"),
    "test_predict_is_in_eval_mode": ("utils.py", "    model.eval()\n    parts", "    parts"),
    "test_an_epoch_learns_and_steps_the_schedule": ("main.py", "            scheduler.step()  # it", "            pass  # it"),
}


@pytest.mark.long
def test_its_tests_notice_slips(tmp_path):
    for i, (test, (file, old, new)) in enumerate(WRONG.items()):
        folder = tmp_path/str(i)
        new_repository(folder)
        type_blocks(folder)
        sub(folder, file, old, new)
        assert progress(folder)[0][test] is False, test
