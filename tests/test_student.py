"`make student`: notebooks without solutions, still valid, and runnable up to the exercises."

import re
from pathlib import Path

import execute
import nbformat
import pytest
import stamps
import student

NOTEBOOKS = stamps.notebooks()
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
FOLD = re.compile(r"<details.*?</details>", re.S)   # of the test's own, so that a slip of the tool's can't hide itself


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("class")/"student"
    assert student.main(["--out", str(out)]) == 0
    return out


def text_of(nb: dict) -> str:
    "Sources and printed outputs of a notebook, a line each."
    parts = []
    for c in nb["cells"]:
        parts.append(c["source"])
        for o in c.get("outputs", []):
            parts += ["".join(o.get("text", "")), "".join(o.get("data", {}).get("text/plain", ""))]
    return "\n".join(parts)


def lines(text: str) -> list[str]:
    "What is worth looking for: lines with words in them, less the marks of lists and folds."
    found = (re.sub(r"<[^>]+>", "", line).strip(" -*") for line in text.splitlines())
    return [line for line in found if len(line) >= 12 and not line.startswith("```")]


@each
def test_no_text_of_a_solution_is_left(path, made):
    "Each line of each fold occurs no more often than the chapter itself, outside the folds, has it."
    nb, text = stamps.load(path), text_of(stamps.load(made/path.name))
    folds = [m[0] for c in nb["cells"] if c["cell_type"] == "markdown" for m in FOLD.finditer(c["source"])]
    outside = FOLD.sub("", text_of(nb))
    left = {line for fold in folds for line in lines(fold) if text.count(line) > outside.count(line)}
    assert not left and "<details" not in text and "Solution" not in text.replace("solution_", "")


@each
def test_what_a_solution_printed_is_gone(path, made):
    "The cells that carry out a solution keep no output, and of their code no line but the task's."
    nb, new = stamps.load(path), {c["id"]: c for c in stamps.load(made/path.name)["cells"]}
    for cell, title in student.solution_cells(nb):
        kept = new[cell["id"]]
        assert kept["outputs"] == [] and f"# Your turn: {title}" in kept["source"]
        body = [line for line in kept["source"].splitlines() if not re.match(r"\s*(def|class|#|raise NotImpl|$)", line)]
        assert all(re.match(r"(assert|[\w, ]+ = |torch\.testing| |[)}\]])", line) for line in body), body


def test_the_tool_finds_every_exercise_that_code_checks():
    "A solution in code is known by its place; the ones below are known by hand."
    found = {(p.stem, title) for p in NOTEBOOKS for _, title in student.solution_cells(stamps.load(p))}
    known = {("00_core", "what is left out?"), ("02_averages", "half-life"), ("12_resnet", "Count the weights"),
             ("10_moves", "Upside down"), ("29_layers", "the smallest image for layer4"), ("33_bias", "less of it")}
    assert known <= found and len(found) >= 40


@each
def test_what_is_left_is_a_valid_notebook(path, made):
    nb = nbformat.read(made/path.name, as_version=4)
    nbformat.validate(nb)
    assert "cam_course" not in nb.metadata
    before = [c["source"] for c in stamps.load(path)["cells"] if c["cell_type"] == "code"]
    after = [c.source for c in nb.cells if c.cell_type == "code"]
    tasks = sum("# Your turn" in s for s in after)
    assert len(before) == len(after) and sum(a != b for a, b in zip(before, after, strict=True)) == tasks
    stamps.parse_cells(after)


@pytest.mark.parametrize("stem", ["02_averages", "12_resnet"])
def test_it_runs_up_to_the_exercises(stem, made, monkeypatch):
    "Everything before the first task runs; the task says that it is the student's turn."
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    nb = nbformat.read(made/f"{stem}.ipynb", as_version=4)
    place = next(i for i, c in enumerate(nb.cells) if "your turn" in c.source)
    nb.cells[place].source += "\n"
    path = made.parent/f"{stem}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=nb.cells[:place], metadata=nb.metadata), path)
    execute.execute(path, smoke=True)
    nbformat.write(nbformat.v4.new_notebook(cells=nb.cells[:place + 1], metadata=nb.metadata), path)
    with pytest.raises(Exception, match="(?s)NotImplementedError.*your turn"):
        execute.execute(path, smoke=True)


def test_a_solution_that_is_done_passes_the_checks_that_are_left():
    "The checks are worth something: the right answer passes, a wrong one doesn't."
    source = "#| hide\ndef double(x: int = 3) -> int:\n    return 2 * x\ny = double(4)\nassert y == 8\nprint(y)\nassert z"
    left = student.stub(source, "twice", "")
    assert left == ('# Your turn: twice\ndef double(x: int=3) -> int:\n    raise NotImplementedError("your turn")\n\n\n'
                    "y = double(4)\nassert y == 8")
    exec(left.replace(student.TURN, "return 2 * x"), {})
    with pytest.raises(AssertionError):
        exec(left.replace(student.TURN, "return 3 * x"), {})


def test_a_check_that_tells_the_answer_goes():
    "A line of the fold, and a line that says so."
    assert "42" not in student.stub("def f(): return 42\nassert f() == 42", "t", "... assert f() == 42 ...")
    assert "42" not in student.stub("def f(): return 42\nassert f() == 42   # solution", "t", "")
    assert "42" not in student.stub("n = 42\nassert n == 42\nprint(n)", "t", "")


@pytest.mark.parametrize("text", [
    "### Exercise: x\n\n<details><summary>Solution</summary>\n\nIt is 42.",
    "### Exercise: x\n\n<details><summary>What we found</summary>\n\nIt is 42.\n\n</details>",
    "<details>\nIt is 42.\n</details>"])
def test_a_fold_that_it_does_not_know_stops_it(text, tmp_path, monkeypatch, capsys):
    "Rather no notebooks than one with its solution: nothing is written, what was there stays."
    (tmp_path/"nbs").mkdir()
    (tmp_path/"out").mkdir()
    (tmp_path/"out"/"old.ipynb").write_text("{}")
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
    nbformat.write(nb, tmp_path/"nbs"/"50_x.ipynb")
    with pytest.raises(student.Unfinished, match=r"50_x\.ipynb: '<details"):
        student.write_all(tmp_path/"out", tmp_path/"nbs")
    assert [p.name for p in (tmp_path/"out").iterdir()] == ["old.ipynb"]


def test_a_folder_with_other_things_is_left_alone(tmp_path, capsys):
    (tmp_path/"thesis.txt").write_text("years of work")
    assert student.main(["--out", str(tmp_path)]) == 2
    assert (tmp_path/"thesis.txt").exists() and "holds more than notebooks" in capsys.readouterr().err
