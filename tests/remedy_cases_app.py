"What the messages of cam_course.app and of the command tell to do: see remedies.py."
import contextlib
import dataclasses
import errno
import io
import json
import re
import shlex
import shutil
import signal
import sys
from functools import cache
from pathlib import Path
from unittest import mock

import nbformat
import pytest
import test_own_repository as ours
import torch
from PIL import Image
from remedies import case, follows, part, quoted, room
from remedy_cases_base import option
from test_check import TAIL, WAYS, log, png, stream, written
from torch import nn
from torch.optim import lr_scheduler as lrs
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from cam_course.__main__ import cli
from cam_course.app import repository_check as tried
from cam_course.app.config import TrainConfig, recipe
from cam_course.app.experiments import read_finished, read_runs, results_table, sweep
from cam_course.app.explanation import explain, explain_files, find_net
from cam_course.app.factory import load_model
from cam_course.app.main import resume_run, run
from cam_course.app.report import write_report, write_submission
from cam_course.app.repository_check import check_repository, new_repository
from cam_course.app.static_analysis import read_notebook
from cam_course.app.submission_check import check_notebook
from cam_course.app.trainer import Trainer, _batches
from cam_course.base.checkpoints import Checkpoints
from cam_course.base.core import create_run_dir
from cam_course.base.weights import read_weights, write_weights
from cam_course.data import shapes
from cam_course.photographs import PhotoNet, shipped_photographs
from cam_course.resnet import ResNet18
from cam_course.training import History
from cam_course.transforms import Cutout, Normalize
from cam_course.weight_averaging import SAM

TINY = {"dataset": "shapes", "n_train": 64, "n_test": 20, "width": 2, "epochs": 1, "batch_size": 32, "device": "cpu",
        "precision": "fp32", "gallery": 2}


def config(name="a", **changes) -> TrainConfig: return recipe("assignment", **{**TINY, "runs": str(room()), "name": name, **changes})


def trained(named: TrainConfig) -> Path: return run(named, figures=False).folder


@cache
def pattern() -> Path: return run(config()).folder


def finished() -> Path:
    "A finished run that may be changed."
    return Path(shutil.copytree(pattern(), room()/"a"))


def command(*words) -> str:
    "What the command says on its error output; '' if it succeeds."
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said: code = cli(list(map(str, words)))
    told = re.sub(r"[^\r\n]*\d+%\|[^\r\n]*", "", said.getvalue()).strip()    # but for a bar, which a slow machine shows
    assert bool(code) == bool(told), told
    return told


def resumed(said: str, folder: Path) -> None:
    "As a message says: `cam-course resume`, with the folder if it is left out."
    words = shlex.split(part("`cam-course (resume.*?)`", said))
    assert not command(*words, *([folder] if len(words) == 1 else []))
    assert read_finished(folder)


# ---- run folders: base.core, app.config, app.main

@follows("run folder {} exists: {}")
@follows("give another name, or continue it with `cam-course resume`")
def folder_of_a_run():
    folder = finished()
    said = yield lambda: create_run_dir(folder.parent, "a")
    assert create_run_dir(folder.parent, "b").is_dir()
    resumed(said, folder)


@follows("scheduler 'plateau' decides by a held-out loss, but held_out is 0: set held_out=0.1")
def plateau():
    said = yield lambda: recipe("assignment", scheduler="plateau")
    assert trained(config(scheduler="plateau", **option("held_out", said)))


@follows("norm, pool and residual are choices of the ResNets: leave them out, or set model='resnet18'")
def whitened_with_norm():
    said = yield lambda: recipe("quick", norm="layer")
    assert recipe("quick").model == "whitened" and recipe("quick", norm="layer", **option("model", said)).norm == "layer"


@follows("a run can't go on to {} epochs under scheduler {}: it was made with epochs={}, and its rates are planned for them. Give the "
         "new run another name")
def longer():
    folder = finished()
    yield lambda: resume_run(folder, epochs=2)
    assert read_finished(trained(config("b", epochs=2, runs=str(folder.parent)))).history[-1]["epoch"] == 2


@follows("run {} was made with {}={}, not {}: {}")
@follows("give the new run another name")
def other_settings():
    folder = finished()
    yield lambda: run(config("a", width=3, runs=str(folder.parent)), resume=True)
    assert trained(config("b", width=3, runs=str(folder.parent))).name == "b" and read_finished(folder).config.width == 2


@follows("run folder {} has just been taken: give another name")
def two_at_once():
    wanted = config()

    def other_process(root, name):
        folder = create_run_dir(root, name)
        (folder/"config.json").write_text("{}")
        return folder

    with mock.patch("cam_course.app.main.create_run_dir", other_process): yield lambda: run(wanted)
    assert trained(dataclasses.replace(wanted, name="b"))


@follows("give a batch_size of {} or less, for there are {} training images: got {}")
def large_batches():
    for changes in ({}, {"held_out": 0.25}):
        said = yield lambda changes=changes: run(config(batch_size=100, **changes))
        assert trained(config(batch_size=int(part(r"batch_size of (\d+)", said)), **changes))


@follows("train: a batch of {} can't be shared by {} processes: make the DataLoader with drop_last=True")
def a_last_batch_of_one():
    images = shapes(9, seed=0, size=16)
    data = TensorDataset(Normalize.of(images)(images.x), images.y)

    def shares(**options) -> list[int]:
        "How many images the second of two processes gets in each step."
        model, loader = nn.Sequential(nn.Flatten(), nn.Linear(768, 10)), DataLoader(data, 4, **options)
        t = Trainer(model, loader, loader, torch.optim.SGD(model.parameters(), 0.1), device="cpu", epochs=1)
        return [len(y) for _, y in _batches(t, 0, (1, 2))]

    said = yield shares
    assert shares(**option("drop_last", said)) == [2, 2]


@follows("scores={} is for a module alone, and this net says itself where its scores are: leave scores out")
def scores_of_a_net_that_knows_them():
    given = {"scores": 0}
    said = yield lambda: find_net("cifar10_jpeg", **given)
    del given[part(r"leave (\w+) out", said)]
    assert find_net("cifar10_jpeg", **given).layer


@follows("{}. Put this right, then {}")
def disk_is_full():
    wanted = config()
    with mock.patch.object(Checkpoints, "save", side_effect=OSError(errno.ENOSPC, "No space left on device")):
        said = yield lambda: run(wanted)
    resumed(said, Path(wanted.runs)/"a")


@follows("give the folder that `train` made: {}")
@follows("give the folder that `train` made: {} is no run folder (no config.json in it)")
def no_run_folder():
    folder = finished()
    for work in (write_report, resume_run):
        yield lambda work=work: work(folder.parent)
        assert work(folder)


@follows("{}; but there is none in {}: begin a new run")
def nothing_is_left():
    folder = finished()
    history = folder/"history.csv"
    history.write_text(history.read_text().rpartition(",")[0])
    shutil.rmtree(folder/"checkpoints")
    yield lambda: resume_run(folder)
    assert read_finished(trained(config("b", runs=str(folder.parent))))


# ---- app.experiments

@follows("a run of a sweep needs a name, so that it is found again: set name='...'")
def nameless():
    nameless = config(name=None)
    yield lambda: sweep([nameless], None)
    assert sweep([dataclasses.replace(nameless, name="b")], None)[0].config.name == "b"


@follows("the runs of {} differ in more than the seed: give each setting a row of its own")
def rows():
    one = read_finished(pattern())
    other = dataclasses.replace(one, config=dataclasses.replace(one.config, width=8))
    yield lambda: results_table({"all": [one, other]})
    assert len(results_table({"narrow": [one], "wide": [other]})) == 2


@follows("give a run folder, or a folder of them: {} is neither")
def no_runs():
    yield lambda: read_runs([room()])
    assert [len(read_runs([folder])[0]) for folder in (pattern(), pattern().parent)] == [1, 1]


# ---- app.factory, app.explanation

@follows("build it yourself, then net.load_state_dict(read_weights(file)[0])")
def weights_of_an_own_net():
    file, built = room()/"own.safetensors", linear()
    write_weights(file, built.state_dict(), model="Linear")
    said = yield lambda: load_model(file)
    known = {"net": linear(), "file": file, "read_weights": read_weights}
    eval(part("then (.*)", said), known)
    assert known["net"][1].weight.equal(built[1].weight)


@follows("{} has no weights yet: finish it with `cam-course resume {}`")
def no_weights_yet():
    folder = finished()
    (folder/"last.safetensors").unlink()
    said = yield lambda: find_net(folder)
    resumed(said, folder)
    assert find_net(folder).class_names


def pictures() -> Path:
    "A folder with two photographs."
    folder = room()
    for name in ("cat", "coffee"): Image.fromarray(shapes(1, size=64).x[0].permute(1, 2, 0).numpy()).save(folder/f"{name}.png")
    return folder


@follows("weights {} do not say their {}: give them to `write_weights`")
def nameless_weights():
    state, file = ResNet18(4, width=2).state_dict(), room()/"net.safetensors"
    known = {"class_names": list("abcd"), "mean": (0.5,)*3, "std": (0.2,)*3}
    write_weights(file, state, model="resnet18")
    said = yield lambda: find_net(file)
    write_weights(file, state, model="resnet18", **{name: known[name] for name in part("their (.*?):", said).split(", ")})
    assert find_net(file).class_names == tuple("abcd")


@follows("{} exists: move it, give another place with --out, or say --overwrite")
def explained_before():
    folder = pictures()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = "explain", "cat.png", "--model", pattern()
        assert not command(*words)
        said = yield lambda: command(*words)
        file = Path(quoted(said)[0])
        assert not command(*words, "--out", "elsewhere") and not command(*words, "--overwrite")
        file.rename("moved.png")
        assert not command(*words) and file.exists()


@follows("{} exists: move it, give another path, or say overwrite=True")
def saved_before():
    found, file = explain(pictures()/"cat.png", pattern()), room()/"map.png"
    found.save(file)
    said = yield lambda: found.save(file)
    assert found.save(file.with_name("other.png")).exists()
    assert found.save(file, **{part("say (.*)=True", said): True}) == file
    file.rename(file.with_name("moved.png"))
    assert found.save(file).exists()


@follows("{}: only PNG is written: give {}")
def saved_as_another_kind():
    found, file = explain(pictures()/"cat.png", pattern()), room()/"map.jpg"
    said = yield lambda: found.save(file)
    assert found.save(quoted(said)[1]) == file.with_suffix(".png")


@follows("there is no folder {}: make it first")
def saved_nowhere():
    found, file = explain(pictures()/"cat.png", pattern()), room()/"maps"/"map.png"
    said = yield lambda: found.save(file)
    Path(quoted(said)[0]).mkdir()
    assert found.save(file).exists()


@follows("{} is no file of `write_weights` (.safetensors): load the network yourself, and give the module")
def a_file_of_torch_s():
    file = room()/"net.pth"
    torch.save(ResNet18(4, width=2), file)
    yield lambda: find_net(file)
    assert len(find_net(torch.load(file, weights_only=False)).class_names) == 4


@follows("{} doesn't take 3x224x224 ({}): say what it takes, by PhotoNet(net, class_names, normalize, size=...)")
def a_net_for_small_pictures():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4*30*30, 2))
    yield lambda: explain(pictures()/"cat.png", net)
    named = PhotoNet(net, ("a", "b"), Normalize((0.5,)*3, (0.2,)*3), size=32)
    assert explain(pictures()/"cat.png", named).answer in "ab"


@follows("no pictures: name at least one, such as cat.jpg")
def no_pictures():
    yield lambda: explain_files([], pattern())
    assert not explain_files([shipped_photographs()["cat_chelsea"].path], pattern(), out=room())


@follows("{} is one file for {} pictures: give a folder")
def one_file_for_two():
    images, out = sorted(pictures().iterdir()), room()
    yield lambda: explain_files(images, pattern(), out=out/"both.png")
    assert not explain_files(images, pattern(), out=out) and len(list(out.iterdir())) == 2


# ---- app.report

@follows("{} can't be read: {}. Delete it and go on with `cam-course resume`")
def damaged_words():
    folder = finished()
    (folder/"figures"/"alt.json").write_text("{")
    said = yield lambda: write_report(folder)
    Path(quoted(said)[0]).unlink()
    resumed(said, folder)
    assert write_report(folder)


@follows("run {} has not finished an epoch yet: continue it with `cam-course resume {}`")
def before_the_first_epoch():
    folder = finished()
    for file in ("history.csv", "log.txt", "last.safetensors", "report.html"): (folder/file).unlink()
    for inner in ("checkpoints", "figures"): shutil.rmtree(folder/inner)
    said = yield lambda: write_report(folder)
    resumed(said, folder)
    assert write_report(folder)


case("{} is not empty: give a new folder for the submission", lambda: write_submission(pattern(), pictures()),
     lambda _: write_submission(pattern(), room()/"new"))


@follows("run {} lacks the figures {}: finish it with `cam-course resume`")
def without_figures():
    folder = trained(config())
    said = yield lambda: write_submission(folder, room()/"new")
    resumed(said, folder)
    assert write_submission(folder, room()/"new").is_file()
    faultless = finished()                                  # there is nothing to draw, now or later
    rows = History.from_csv(faultless/"history.csv")
    rows[-1]["test_accuracy"] = 1.0
    rows.to_csv(faultless/"history.csv")
    (faultless/"figures"/"alt.json").write_text('{"curves": "Curves"}')
    assert write_submission(faultless, room()/"new").is_file()


# ---- app.static_analysis, app.submission_check

def saved(cells: list[tuple]) -> Path: return written(room()/"x.ipynb", cells)


@follows("no notebook {}: give the path of an .ipynb file")
def missing_notebook():
    file = saved([("1 + 1",)])
    yield lambda: read_notebook(file.parent)
    assert read_notebook(file)


@follows("{} is no notebook: {}; give the .ipynb that Jupyter or Colab saved")
def script():
    file = room()/"x.py"
    for text in ("", "print(1)"):
        file.write_text(text)
        yield lambda: read_notebook(file)
    assert read_notebook(saved([("print(1)",)]))


@follows("{} is no notebook of format 4: open it in Jupyter, save it, and check it again")
def format_three():
    file, old = room()/"x.ipynb", nbformat.v3
    sheet = old.new_worksheet(cells=[old.new_code_cell(input="print(1)")])
    file.write_text(nbformat.writes(old.new_notebook(worksheets=[sheet]), 3))
    yield lambda: read_notebook(file)
    nbformat.write(nbformat.read(file, 4), file)      # what Jupyter does
    assert read_notebook(file)


@follows("is it a notebook? If so, clear the outputs that nobody asked for")
def large_notebook():
    file = saved([("print('a'*9999)", stream("a"*9999))])
    with mock.patch("cam_course.app.static_analysis._LARGEST", 5000):       # in place of 100 MB
        yield lambda: read_notebook(file)
        notebook = nbformat.read(file, 4)
        notebook.cells[0].outputs.clear()
        nbformat.write(notebook, file)
        assert read_notebook(file)


BASE, OWN = WAYS["a module by its name"], WAYS["Trainer"]


def changed(cells: list[tuple], old: str, *new) -> list[tuple]:
    "The cells, with another one in the place of each whose source has `old`; none: without it."
    assert any(old in cell[0] for cell in cells)
    return [cell for before in cells for cell in ([new] if new and old in before[0] else [] if old in before[0] else [before])]


def judged(cells: list[tuple], rule: str | None = None) -> str:
    "What the check finds wrong with cells, by one rule or by all; '' if they keep it."
    return "\n".join(f.why for f in check_notebook(saved(cells)).findings if not f.met and rule in (None, f.rule))


def described(seed: int, alt: str) -> dict: return {**png(seed), "metadata": {"image/png": {"alt": alt}}}


@follows("cell {} can't be read as Python ({}): mend or remove it")
def broken_cell():
    cells = [*BASE, ("x = = 3",)]
    said = yield lambda: judged(cells)
    number = int(part(r"cell (\d+)", said))
    assert not judged([*cells[:number - 1], ("x = 3",), *cells[number:]]) and not judged([*cells[:number - 1], *cells[number:]])


@follows("cell {} has `{}`{}: move it into a module and import it")
def definition():
    said = yield lambda: judged([*BASE, ("def shout(text): return text.upper()",)])
    assert not judged([*BASE, (f"from helpers import {part('`def (.*)`', said)}",)])


@follows("cell {} runs code from a string: import it from a module")
def code_in_a_string():
    yield lambda: judged([*BASE, ("exec('x = 3')",)])
    assert not judged([*BASE, ("from helpers import x",)])


@follows("restart the kernel, run all cells from the top, save with outputs")
def run_anew():
    cells = [*BASE, ("print(1)", stream("1"))]
    failed = {"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []}
    for wrong in ([*cells[:-1], ("print(1)", failed)], [*cells[:-1], ("print(1)",)]): yield lambda wrong=wrong: judged(wrong)
    file = saved(cells)
    for counts in ([2, 1], [1, None]):
        notebook = json.loads(file.read_text())
        for cell, count in zip(notebook["cells"][:2], counts, strict=True): cell["execution_count"] = count
        (other := room()/"x.ipynb").write_text(json.dumps(notebook))
        yield lambda other=other: "\n".join(f.why for f in check_notebook(other).findings if not f.met)
    assert not judged(cells)                                # `written` numbers them in order


@follows("no output shows 20 epochs: print the log, `print(result.log)`")
def no_log():
    silent = changed(BASE, "m.run", "result = m.run(c.recipe('assignment'))")
    said = yield lambda: judged(silent)
    assert not judged([*silent, (part("`(.*)`", said), log())])


@follows("no training found: call `run(recipe('assignment'))`, `Trainer(...)` or `!cam-course train`")
def no_training():
    rule = "ResNet18 on CIFAR-10"
    said = yield lambda: judged(changed(BASE, "m.run"), rule)
    for call in part("call (.*)", said).replace(" or ", ", ").split(", "):
        call = call.strip("`")
        assert not judged(OWN if call == "Trainer(...)" else changed(BASE, "m.run", call), rule)


@follows("no training found: call `run(...)`, or make a `Trainer`, with epochs=20")
def no_epochs():
    said, rule = (yield lambda: judged(changed(BASE, "m.run"), "20 epochs")), "20 epochs"
    given = part("with (epochs=.*)", said)
    assert not judged(changed(BASE, "m.run", f"result = run(recipe('assignment', {given}))\nprint(result.log)", log()), rule)
    assert not judged(changed(OWN, "t = Trainer", f"t = Trainer(model, train, test, optimizer, {given})"), rule)


@follows("the data set can't be read from the code: use dataset='cifar10' or `load_cifar10()`")
def unknown_data():
    rule, theirs = "ResNet18 on CIFAR-10", "from mine import train, test\nmodel = ResNet18()\nn = 20"
    said = yield lambda: judged(changed(OWN, "load_cifar10()", theirs), rule)
    given, call = part("use (.*?) or", said), part("`(.*)`", said)
    for data in (f"load_data({given})", f"{call}, mine"):
        assert not judged(changed(OWN, "load_cifar10()", theirs.replace("from mine import train, test", f"train, test = {data}")))


@follows("the network can't be read from the code: use model='resnet18' or `ResNet18()`")
def unknown_net():
    other = changed(OWN, "model = ResNet18()", "from mine import model, test\ntrain = load_cifar10()\nn = 20")
    said = yield lambda: judged(other)
    asked = f"t = run(recipe('assignment', {part('use (.*?) or', said)}))"
    assert not judged(changed(other, "t = Trainer", asked))
    assert not judged(changed(other, "from mine", f"model = {part('`(.*)`', said)}\ntrain = load_cifar10()\nn = 20"))


@follows("the curves show {} epochs: train for 20, and run all cells anew")
def short_curves():
    yield lambda: judged(changed(BASE, "display(figure)", "display(figure)", described(1, "Curves over 12 epochs.")))
    assert not judged(changed(BASE, "display(figure)", "display(figure)", described(1, "Curves over 20 epochs.")))


@follows("the log shows {} of {} epochs: train for 20, and print the whole log")
def short_log():
    training = next(source for source, *_ in BASE if "m.run" in source)
    for rows in (log(12), stream(log()["text"][:-200])): yield lambda rows=rows: judged(changed(BASE, "m.run", training, rows))
    assert not judged(changed(BASE, "m.run", training, log(20)))


@follows("they can't be read from the code: use `recipe('assignment')`, or print `config.transforms`")
def unknown_transforms():
    other = changed(OWN, "augment = ", "from mine import augment")
    said = yield lambda: judged(other)
    use, show = part("use `(.*?)`", said), part("print `(.*?)`", said)
    assert not judged(changed(other, "t = Trainer", f"t = run({use})"))
    assert not judged([*other, (f"print({show})", stream("('crop', 'cutout')"))])


@follows("the picture in cell {} shows nothing: run the cell anew")
def empty_picture():
    cells = list(BASE)
    for source, *_ in TAIL[1:]:
        blank = changed(cells, source, source, png(None))
        said = yield lambda blank=blank: judged(blank)
        number = int(part(r"cell (\d+)", said))
        assert blank[number - 1][0] == source and not judged([*blank[:number - 1], cells[number - 1], *blank[number:]])


@follows("{}: these are two runs; run all cells anew")
def two_runs():
    def ending(loss): return described(1, f"Curves over 20 epochs. Train loss ends at {loss}, test loss at 1.100.")
    yield lambda: judged(changed(BASE, "display(figure)", "display(figure)", ending("0.700")))
    assert not judged(changed(BASE, "display(figure)", "display(figure)", ending("1.000")))


@follows("{}: draw both from the same errors, with the same choice")
def other_errors():
    def drawn(errors, mapped):
        gallery = described(2, f"Gallery of 10 of 30 misclassified images. {errors}.")
        cams = described(3, f"10 of 30 misclassified images with their Grad-CAM. {mapped}.")
        return changed(changed(BASE, "errors.plot()", "result.errors.plot()", gallery), "plot_cams", TAIL[3][0], cams)

    yield lambda: judged(drawn("cat taken for dog; ship taken for car", "cat taken for dog; frog taken for deer"))
    assert not judged(drawn("cat taken for dog; ship taken for car", "cat taken for dog; ship taken for car"))


def mapped(layer: str) -> list[tuple]:
    return changed(BASE, "plot_cams", f"result.errors.plot_cams(result.model, 10, {layer})", png(3))


@follows("take target_layers='layer3', 8 x 8 px")
def small_layer():
    said = yield lambda: judged(mapped("'layer4'"))
    assert not judged(mapped(part("take (target_layers=.*?),", said)))


@follows("cell {}: how large are the maps of {}? Print it, or {}")
def unknown_layer():
    said = yield lambda: judged(mapped("'features.7'"))
    name = quoted(said)[0]
    assert not judged([*mapped(f"'{name}'"), ("print(layers)", stream(f"{name}: 64 channels, 8 x 8"))])
    assert not judged(mapped(part("or take (target_layers=.*?),", said)))


# ---- the command

def range_test(stem: Path) -> str:
    small = [f"--{name.replace('_', '-')}={TINY[name]}" for name in ("dataset", "n_train", "n_test", "width")]
    return command("find-lr", *small, "--num-iter=4", "--batch-size=16", "--out", stem)


@follows("give another --out, for {} exists")
def range_test_again():
    stem = room()/"lr"
    assert not range_test(stem)
    yield lambda: range_test(stem)
    assert not range_test(stem.with_name("other"))


@follows("make the folder first: there is no {}")
def range_test_nowhere():
    stem = room()/"new"/"lr"
    said = yield lambda: range_test(stem)
    Path(quoted(said)[0]).mkdir()
    assert not range_test(stem) and stem.with_suffix(".csv").exists()


@follows("give --csv or --json, not both")
def two_forms():
    said = yield lambda: command("results", pattern(), "--csv", "--json")
    for form in part("give (.*),", said).split(" or "): assert not command("results", pattern(), form)


# ---- app.trainer

DATA, COUNT = shapes(32, seed=0, size=16), 10
LOADED = TensorDataset(Normalize.of(DATA)(DATA.x), DATA.y)


def linear(classes: int = COUNT) -> nn.Sequential: return nn.Sequential(nn.Flatten(), nn.Linear(768, classes))
def sgd(model: nn.Module): return torch.optim.SGD(model.parameters(), lr=0.1)


def fitted(model=None, train=DATA, test=DATA, optimizer=sgd, scheduler=lambda _: None, fit=True, **options) -> Trainer:
    "A trainer that has trained; the optimizer is a function of the model, the schedule one of the optimizer."
    model = model or linear()
    made = optimizer(model)
    options = {"epochs": 2, "batch_size": 16, "device": "cpu", "precision": "fp32", "progress": False, **options}
    trainer = Trainer(model, train, test, made, scheduler(made), **options)
    if fit: trainer.fit()
    return trainer


@follows("give the net itself, model.module: {} is not needed (`accelerate launch` uses several GPUs)")
def data_parallel():
    model = nn.DataParallel(linear())
    said = yield lambda: fitted(model)
    fitted(eval(part("itself, (.*?):", said), {"model": model}))


@follows("make the DataLoader with persistent_workers=False: the draws of workers that live on can't be had again")
def workers_that_live_on():
    folder, workers = room(), {"num_workers": 1, "persistent_workers": True}
    said = yield lambda: fitted(train=DataLoader(LOADED, 16, **workers), test=LOADED, run_dir=folder, fit=False)
    workers |= eval(f"dict({part('with (.*?):', said)})")
    fitted(train=DataLoader(LOADED, 16, **workers), test=LOADED, run_dir=folder, fit=False)


@follows("transform= augments an ImageData: a DataLoader's data set does it itself, so leave it out")
def augmented_loader():
    loaders, given = {"train": DataLoader(LOADED, 16), "test": DataLoader(LOADED, 16)}, {"transform": Cutout(4)}
    said = yield lambda: fitted(**loaders, **given)
    del given[part(r"^(\w+)=", said)]
    fitted(**loaders, **given)


@follows("give an optimizer that holds the weights, {}(model.parameters(), lr=0.1): got {}")
def no_optimizer():
    for wrong in (torch.optim.AdamW, "adam"):
        said = yield lambda wrong=wrong: fitted(optimizer=lambda _: wrong)
        again = part("weights, (.*?): got", said)
        fitted(optimizer=lambda model, again=again: eval(again, {"torch": torch, "AdamW": torch.optim.AdamW, "model": model}))


@follows("the optimizer holds weights of another model, not of this one: make it anew, {}")
def weights_of_another():
    said = yield lambda: fitted(optimizer=lambda _: sgd(linear()))
    again = part("anew, (.*)", said).replace("...", "lr=0.1")
    fitted(optimizer=lambda model: eval(again, {"SGD": torch.optim.SGD, "model": model}))


@follows("{} asks for the loss several times a step, on the same batch, which this loop doesn't give: take {}")
def one_gradient_a_step():
    said = yield lambda: fitted(optimizer=lambda model: torch.optim.LBFGS(model.parameters()))
    for name in part(r"torch\.optim\.(.*) or another", said).split(", "):
        fitted(optimizer=lambda model, name=name: getattr(torch.optim, name)(model.parameters(), lr=0.01))
    sam = lambda model: SAM(torch.optim.SGD(model.parameters(), lr=0.01))
    said = yield lambda: fitted(optimizer=sam)
    assert type(sam(nn.Linear(4, 3)).optimizer).__name__ == part("take the (.*) inside it", said)
    fitted(optimizer=lambda model: sam(model).optimizer)


@follows("give a schedule that holds the optimizer, {}: got {}")
def no_schedule():
    for wrong in (lrs.OneCycleLR, "cosine", lrs.StepLR):
        said = yield lambda wrong=wrong: fitted(scheduler=lambda _: wrong)
        made = part("optimizer, (.*): got", said).replace("...", "1")
        fitted(scheduler=lambda optimizer, made=made: eval(made, {**vars(lrs), "optimizer": optimizer}))


@follows("the scheduler moves the rate of another optimizer: make it anew, {}(optimizer, ...)")
def schedule_of_another():
    said = yield lambda: fitted(scheduler=lambda _: lrs.StepLR(sgd(linear()), 1))
    made = part("anew, (.*)", said).replace("...", "1")
    fitted(scheduler=lambda optimizer: eval(made, {**vars(lrs), "optimizer": optimizer}))


@follows("train and {} are not of one kind: a DataLoader normalizes its images itself, an ImageData holds bytes. Give both in one way, "
         "or normalize=, which is then applied to both")
def two_kinds():
    yield lambda: fitted(train=DataLoader(LOADED, 16))
    fitted(train=DataLoader(LOADED, 16), test=DataLoader(LOADED, 16))
    fitted()
    plain = TensorDataset(DATA.x/255, DATA.y)
    fitted(train=DataLoader(plain, 16), normalize=Normalize.of(DATA))


@follows("the net has {} outputs, but {} has {} classes: make it with num_classes={}, or give it a last layer nn.Linear(..., {})")
def fewer_outputs():
    said = yield lambda: fitted(ResNet18(3, width=2))
    classes = int(part(r"num_classes=(\d+)", said))
    fitted(ResNet18(num_classes=classes, width=2))
    model = ResNet18(3, width=2)
    model.fc = eval(part(r"last layer (.*)", said).replace("...", str(model.fc.in_features)), {"nn": nn})
    fitted(model)


@follows("class_weights has {} numbers, but the net {} outputs: give one for each")
def weights_of_classes():
    said = yield lambda: fitted(class_weights=[1.0, 2.0])
    fitted(class_weights=[1.0]*int(part(r"net (\d+) outputs", said)))


@follows("{}{}. Give what it was, or another run_dir")
def other_arguments():
    folder, given = room(), {"label_smoothing": 0.1, "seed": 3}
    fitted(run_dir=folder, epochs=1)
    said = yield lambda: fitted(run_dir=folder, fit=False, **given).resume()
    was = {name: json.loads(part(rf"{name} was (\S+), and", said)) for name in given}
    trainer = fitted(run_dir=folder, fit=False, **was)
    assert trainer.resume() and trainer.fit()
    other = fitted(run_dir=room(), fit=False, **given)
    assert not other.resume() and other.fit()


class Stop:
    "As Ctrl-C after the first epoch."

    def on_epoch_end(self, trainer): signal.raise_signal(signal.SIGINT)


@follows("; resume from {}")
def stopped():
    folder = room()
    said = yield lambda: fitted(run_dir=folder, callbacks=[Stop()])
    trainer = fitted(run_dir=part("resume from (.*)", said), fit=False)
    assert trainer.resume() and trainer.epoch == 1 and len(trainer.fit()) == 2


# ---- app.repository_check

def own(change=None) -> Path:
    "A copy of the repository that passes, changed."
    folder = Path(shutil.copytree(ours.pattern(room_of_ours()), room()/"mine"))
    if change: change(folder)
    return folder


@cache
def room_of_ours() -> Path: return room()


def found_in(change=None) -> str: return "\n".join(f.why for f in check_repository(own(change)).findings if not f.met)


def repository(message: str, *changes) -> None:
    "Each change makes a repository that is told so; without it there is nothing to tell."
    @follows(message)
    def story():
        for change in changes: yield lambda change=change: found_in(change)
        assert not found_in()


def put(file: str, *pairs: tuple[str, str]):
    "A change of texts in a file; a new file for ('', text)."
    def change(folder: Path) -> None:
        for old, new in pairs:
            if old: ours.sub(folder, file, old, new)
            else: (folder/file).write_text(new)
    return change


def without_notebook(folder: Path) -> None: (folder/"assignment.ipynb").unlink()


def no_told_step(folder: Path) -> None: ours.sub(folder, "main.py", 'scheduler.step(row["train_loss"])', "pass")


def unnamed_layer(folder: Path) -> None:
    ours.sub(folder, "utils.py", 'layer="layer3"', "layer=None")
    ours.notebook(folder, ', layer="layer3"', "")


def one_picture(folder: Path) -> None:
    for picture in ("![Losses of training and test](images/curves.png)", "![Ten misclassified images](images/misclassified.png)"):
        ours.sub(folder, "README.md", picture, "")


repository("{} is no Python ({}): mend or remove it", put("old.py", ("", "x = = 3")))
repository("missing: {}: put each part where the assignment wants it", ours.all_in_one, ours.no_readme)
repository("no models/resnet.py: write ResNet18 and ResNet34 there", ours.all_in_one)
repository("{} has {}: remove what ResNet18 and ResNet34 don't need", ours.bottleneck)
repository("{} has no {}: write a function or class of that name", ours.no_resnet34)
repository("no notebook with code in it: add the one that ran, with its outputs", without_notebook)
repository("no cell of the notebook fetches the repository: begin it with `!git clone ADDRESS` and `%cd FOLDER`", ours.pasted)
repository("{} asks for {} epochs: train for 20, epochs=20", ours.twelve)
repository("the notebook's log shows {} epochs: train for 20, and print a line for each", ours.short_log)
repository("{}: {} pads to that size, and the images have 32 px: give min_height=40, min_width=40", ours.idle_padding)
repository("{} makes {}, and nothing steps it: call scheduler.step()", ours.never_stepped)
repository("{} steps {} once an epoch: it counts batches, so step it after each optimizer.step()", ours.once_an_epoch)
repository("{} makes ReduceLROnPlateau, and no step gives it a loss: call scheduler.step(loss) after each epoch", no_told_step)
repository("{} steps {} once a batch: step it after each epoch", ours.plateau_each_batch)
repository("{}: the finder {} is given {}: use training images, and hold some out if it needs others", ours.finder_on_test)
repository("{}: the plateau looks at {}: use the training loss, or a part of the training set that is held out", ours.plateau_on_test)
repository("no function that tests the net: write one, test or evaluate, that calls model.eval()",
           put("main.py", ("test_epoch", "score")))
repository("{}() never calls model.eval(): call it first, or batch norm uses the statistics of each test batch", ours.training_mode)
repository("no picture of the losses in the notebook: draw train and test loss over the epochs", ours.no_curves)
repository("show ten or more, in a cell whose code names them", ours.six)
repository("nothing imports pytorch_grad_cam: draw the maps with the grad-cam library, as the course demands", ours.own_cams)
repository("show ten or more, of the misclassified images", ours.blank_maps)
repository("the layer of the maps can't be read from the code: name it, as in target_layers=[model.layer3]", unnamed_layer)
repository("{} takes {}, {} x {} px, under 5: take layer3, 8 x 8 px", ours.coarse)
repository("README.md shows {}, which is not in the repository: add the file", ours.lost_picture)
repository("README.md shows {} pictures: show the misclassified images and their Grad-CAMs", one_picture)


@follows("no folder {}: give the folder that git cloned")
def no_repository():
    yield lambda: check_repository(room()/"none")
    assert check_repository(own()).ok


@follows("{} is not an empty folder: give a new one, for nothing is written over")
def new_over_old():
    folder = own()
    yield lambda: new_repository(folder)
    assert new_repository(folder/"new")


@follows("--run tries a repository: give its folder, for a notebook is read alone")
def run_a_notebook():
    folder = own()
    yield lambda: command("check", folder/"assignment.ipynb", "--run")
    with contextlib.redirect_stdout(io.StringIO()):
        assert cli(["check", str(folder/"assignment.ipynb")]) == 1   # read, by the nine rules that it doesn't keep
        assert cli(["check", str(folder)]) == 0


def hole(side: int):
    "Cut a square of `side` px out of one image (3, 32, 32)."
    def cut(x):
        row, col = torch.randint(32 - side + 1, (2,)).tolist()
        x = x.clone()
        x[:, row:row + side, col:col + side] = 0
        return x
    return cut


CROP = v2.RandomCrop(32, padding=4)


def judged_as(*parts) -> str:
    "What a trial says of these transforms, one after the other."
    torch.manual_seed(0)
    return tried._judged("t", tried._draws(v2.Compose([v2.PILToTensor(), *parts])))


def fits(_said: str) -> None: assert "covers up to 16 x 16" in judged_as(CROP, hole(16))


case("{} mirrors {} of {} images: leave RandomCrop(32, padding=4) and CutOut(16x16) alone",
     lambda: judged_as(CROP, v2.RandomHorizontalFlip(), hole(16)), fits)
case("{} does more than move and cover: leave RandomCrop and CutOut alone",
     lambda: judged_as(CROP, hole(16), lambda x: x if torch.rand(()) < .5 else torch.randint_like(x, 256)), fits)
case("{} covers nothing: add CutOut(16x16)", lambda: judged_as(CROP, lambda x: x), fits)
case("{} covers up to {} x {} px: make the square 16 x 16", lambda: judged_as(CROP, hole(8)), fits)


def module(text: str) -> str:
    "The name of a new module."
    folder = room()
    name = f"own_{folder.name.replace('-', '_')}"
    (folder/f"{name}.py").write_text("import torch\nfrom torch import nn\n" + text)
    sys.path.append(str(folder))
    return name


NET = "def ResNet18(): return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, {}))"
MAPPED = "class ResNet18(nn.Module):\n    def __init__(self):\n        super().__init__()\n" \
         "        self.layer3 = nn.AdaptiveAvgPool2d({})\n" \
         "    def forward(self, x): return self.layer3(x).mean((2, 3)).repeat(1, 4)[:, :10]"
case("ResNet18() makes {} of 2 images: make it (2, 10), a score for each class", lambda: tried._try_net([module(NET.format(11))], []),
     lambda _: tried._try_net([module(NET.format(10))], []))
case("{} has maps of {} x {} px, under 5: take an earlier layer", lambda: tried._try_net([module(MAPPED.format(4))], ["layer3"]),
     lambda _: tried._try_net([module(MAPPED.format(8))], ["layer3"]))
GOOD = ("from torchvision.transforms import v2\ndef hole(x):\n    x = x.clone()\n    x[:, 4:20, 4:20] = 0\n    return x\n"
        "{} = v2.Compose([v2.PILToTensor(), v2.RandomCrop(32, padding=4), hole])")
case("no training transform in {} took an image: call it train_transform, at the top of utils.py",
     lambda: tried._try_transforms([module(GOOD.format("steps"))]),
     lambda said: tried._try_transforms([module(GOOD.format(part("call it (.*?),", said)))]))


@follows("its code didn't end within {} s: move what trains or loads data under `if __name__ == '__main__'`")
def endless():
    folder, loop = own(), "\nwhile True: pass\n"
    text = (folder/"models/resnet.py").read_text()
    (folder/"models/resnet.py").write_text(text + loop)
    given = (folder, "net, tried", [["models.resnet"], []])
    said = yield lambda: tried._in_a_process(*given, 30).why
    (folder/"models/resnet.py").write_text(f"{text}\n{part('`(.*)`', said)}:\n    while True: pass\n")
    assert tried._in_a_process(*given, 300).met
