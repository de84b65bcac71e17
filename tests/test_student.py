"`make student`: notebooks without solutions, still valid, and runnable up to the exercises."

import functools
import re
from collections.abc import Iterator
from pathlib import Path

import chapters
import execute
import nbformat
import pytest
import stamps
import student

NOTEBOOKS = stamps.notebooks()
load = functools.cache(stamps.load)   # for tests that only read
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


def solution_text(nb: dict, new: dict) -> Iterator[str]:
    "Each line of each fold occurs no more often than the chapter itself, outside the folds, has it."
    text = text_of(new)
    told = [student.kept.sub("", c["source"]) for c in nb["cells"] if c["cell_type"] == "markdown"]   # asides stay
    folds = [m[0] for source in told for m in FOLD.finditer(source)]
    outside = FOLD.sub("", student.kept.sub(lambda m: re.sub("</?details>", "", m[0]), text_of(nb)))
    for line in {line for fold in folds for line in lines(fold)}:
        if text.count(line) > outside.count(line): yield f"of a solution: {line!r}"
    if "<details" in student.kept.sub("", text): yield "a fold is left"
    if "Solution" in text.replace("solution_", ""): yield "it speaks of a solution"


def solution_cells(nb: dict) -> Iterator[tuple[dict, str]]:
    "Code cells that carry out a solution, with the title of the exercise, by their place: they come after its fold."
    title, told, mark = "", False, re.compile(r"(?m)^#{1,6}[ \t]+(?:Exercise: *(.*?)[ \t]*$)?|<summary>\s*Solution")
    for c in nb["cells"]:
        if c["cell_type"] == "markdown":
            for m in mark.finditer(re.sub(r"(?ms)^```.*?^```$", "", c["source"])):
                if m[0][0] == "<": told = True
                else: title, told = m[1] or "", False
        elif title and told:
            yield c, title


def solution_outputs(nb: dict, new: dict) -> Iterator[str]:
    "Of the cells that carry out a solution nothing is left but the line that says whose turn it is; no other is tagged."
    kept = {c["id"]: c for c in new["cells"]}
    placed = {cell["id"]: title for cell, title in solution_cells(nb)}
    for at, title in placed.items():
        if kept[at]["outputs"] or kept[at]["source"] != student.TURN: yield f"{title!r}: tag its cell {at} 'solution'"
    for c in nb["cells"]:
        if student.TAG in c["metadata"].get("tags", []) and c["id"] not in placed: yield f"{c['id']} is no solution"


def invalid(nb: dict, new: dict) -> Iterator[str]:
    "A notebook as nbformat wants it, without a stamp, whose code differs from the chapter's at the tasks alone."
    try: nbformat.validate(new)
    except nbformat.ValidationError as e: yield f"not valid: {e}"
    if "cam_course" in new["metadata"]: yield "it has a stamp"
    before, after = ([c["source"] for c in n["cells"] if c["cell_type"] == "code"] for n in (nb, new))
    tasks = after.count(student.TURN)
    changed = sum(a != b for a, b in zip(before, after, strict=False))
    if len(before) != len(after): yield f"{len(after)} code cells of {len(before)}"
    elif changed != tasks: yield f"{changed} cells changed for {tasks} tasks"
    stamps.parse_cells(after)


@pytest.mark.parametrize("rule", [solution_text, solution_outputs, invalid])
def test_the_notebooks_of_a_class(rule, made):
    found = [f"{chapters.at(p)}: {what}" for p in NOTEBOOKS for what in rule(load(p), stamps.load(made/p.relative_to(stamps.NBS)))]
    assert not found, "\n".join(found)


def test_what_is_left_of_a_solution_is_seen():
    "The chapter itself, given out as it is, breaks every rule; so do notebooks that lost a cell, or have another one."
    path = chapters.chapter("averages")
    nb = load(path)
    told = "\n".join(what for rule in (solution_text, solution_outputs, invalid) for what in rule(nb, nb))
    wanted = ("of a solution: ", "a fold is left", "it speaks of", "'half-life': tag its cell", "a stamp")
    assert not [said for said in wanted if said not in told]
    new = student.student(nb, path.name)
    assert not list(invalid(nb, new))
    code = next(c for c in new["cells"] if c["cell_type"] == "code")

    def told_of(change: dict | None) -> str:
        cells = [c if c is not code else c | change for c in new["cells"] if c is not code or change is not None]
        return "\n".join(invalid(nb, new | {"cells": cells}))
    assert "code cells of" in told_of(None) and "not valid" in told_of({"outputs": 3})
    assert "cells changed for" in told_of({"source": "1"})


def test_every_exercise_that_code_checks_is_found():
    "A solution in code is known by its place; the ones below are known by hand."
    found = {(name, title) for name, p in chapters.names().items() for _, title in solution_cells(load(p))}
    known = {("core", "what is left out?"), ("averages", "half-life"), ("resnet", "Count the weights"),
             ("geometric", "Upside down"), ("target_layers", "the smallest image for layer4"), ("bias", "less of it")}
    assert known <= found and len(found) >= 40
    assert sum(len(FOLD.findall(c["source"])) for p in NOTEBOOKS for c in load(p)["cells"]) >= 40   # else the rules hold of nothing


@pytest.mark.parametrize("name", ["averages", "resnet"])
def test_it_runs_up_to_the_exercises(name, made, monkeypatch, warm_kernels):
    "Everything before the first task runs; the task, which is the last cell then, says that it is the student's turn."
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    if warm_kernels: monkeypatch.setenv("JUPYTER_PATH", warm_kernels)
    file = chapters.chapter(name).name
    nb = nbformat.read(made/file, as_version=4)
    place = next(i for i, c in enumerate(nb.cells) if "your turn" in c.source)
    nb.cells[place].source += "\n"
    path = made.parent/file
    nbformat.write(nbformat.v4.new_notebook(cells=nb.cells[:place + 1], metadata=nb.metadata), path)
    with pytest.raises(Exception, match="(?s)NotImplementedError.*your turn"):
        execute.execute(path, smoke=True)


def test_what_the_notes_say_stays():
    text = "Before\n\n<details><summary>What the notes say</summary>\n\nHalf of it.\n\n</details>"
    assert student.without_folds(text + "\n\n<details><summary>Answer</summary>\n\n42\n\n</details>") == text


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
