"""The notebooks: in step with the library, one-way imports, plain marks, fresh outputs, runnable at smoke scale.

A rule is a function of a notebook that tells what breaks it; its test lists what it found in all of them.
"""
import ast
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import chapters
import execute
import export_check
import nbformat
import outputs
import prose
import pytest
import readme
import stamps
import student

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = stamps.notebooks()
SETTINGS = readme.settings(ROOT)
FOLLOWED = chapters.chapter(student.OWN)   # test_own_repository runs it, and looks at what it leaves
load = functools.cache(stamps.load)   # of all rules: they only read
Rule = Callable[[Path, dict], Iterator[str]]


def found(rule: Rule, paths: list[Path] | None = None) -> list[str]:
    "'nbs/04_momentum.ipynb, cell 3: what it found', for all notebooks."
    told = []
    for path in paths or NOTEBOOKS:
        try: told += [f"{chapters.at(path)}{', ' if what.startswith('cell') else ': '}{what}" for what in rule(path, load(path))]
        except Exception as e:
            e.add_note(f"while looking at {chapters.at(path)}")
            raise
    return told


def nothing(rule: Rule, remedy: str = "") -> None:
    "Fails with what the rule finds, a line each, and the remedy."
    told = found(rule)
    assert not told, f"{rule.__name__}{', ' + remedy if remedy else ''}:\n" + "\n".join(told)


def tree(nb: dict) -> ast.Module:
    return stamps.parse_cells(stamps.code_cells(nb))


def markdown(nb: dict) -> Iterator[tuple[int, str]]:
    "(number, text) of each markdown cell."
    yield from ((i, c["source"]) for i, c in enumerate(nb["cells"]) if c["cell_type"] == "markdown")


# ---- which

EXCLUDED: dict[str, str] = {}   # notebooks that git knows and the book doesn't: path -> reason


@pytest.mark.skipif(not (ROOT/".git").exists(), reason="not a checkout")
def test_every_notebook_that_git_knows_is_checked():
    "A folder can't drop out of the checks, whatever finds the notebooks."
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.ipynb"],
                            cwd=ROOT, capture_output=True, text=True, check=True)
    known = {name for name in listed.stdout.split("\0") if name and (ROOT/name).exists()}
    assert EXCLUDED.keys() <= known and all(EXCLUDED.values())
    checked = {chapters.at(p) for p in NOTEBOOKS}
    assert checked == known - EXCLUDED.keys(), (f"unchecked: {sorted(known - checked - EXCLUDED.keys())}; "
                                                f"unknown to git: {sorted(checked - known)}")


def test_chapters_are_found_by_what_they_are():
    "By the module that they export, or by their title; a name that no chapter or more than one has is an error."
    wanted = {"core", "data", "trainer", "gradcam", "resnet", "main", "The assignment", "CAM course"}
    assert wanted <= chapters.names().keys() and list(chapters.names().values()) == NOTEBOOKS
    assert stamps.default_exp(load(chapters.chapter("gradcam"))) == "gradcam"
    with pytest.raises(KeyError, match=r"no chapter 'gradcom'; there are: .*\bcore, "): chapters.chapter("gradcom")


def test_two_chapters_of_one_name_are_refused(tmp_path):
    for name, text in (("1.ipynb", "# A: b"), ("2.ipynb", "# A? c"), ("3.ipynb", "no title")):
        cell = {"cell_type": "markdown", "metadata": {}, "source": text}
        (tmp_path/name).write_text(json.dumps({"cells": [cell], "metadata": {}}))
    with pytest.raises(ValueError, match=r"2\.ipynb and .*1\.ipynb are both called 'A'"): chapters.names(tmp_path)
    (tmp_path/"2.ipynb").unlink()
    with pytest.raises(ValueError, match=r"3\.ipynb exports no module and has no title"): chapters.names(tmp_path)


# ---- sources

@functools.cache
def differences() -> list[str]: return export_check.differences()


def test_library_is_what_the_notebooks_export():
    assert not differences(), "run nbdev_export:\n" + "\n".join(differences())


def test_export_check_sees_a_difference(tmp_path):
    "A changed, a missing and a left-over module are each reported."
    for name in ("settings.ini", "nbs", "cam_course"):
        (shutil.copytree if (ROOT/name).is_dir() else shutil.copy)(ROOT/name, tmp_path/name)
    package = tmp_path/"cam_course"
    (package/"base/core.py").write_text((package/"base/core.py").read_text(encoding="utf-8") + "\nx = 1\n", encoding="utf-8")
    (package/"base/figures.py").unlink()
    (package/"stray.py").write_text(f"# {export_check.HEADER} File to edit: ../nbs/99.ipynb.\n", encoding="utf-8")
    before, after = ({line.split(":")[0] for line in told} for told in (differences(), export_check.differences(tmp_path)))
    assert after - before == {"base/core.py", "base/figures.py", "stray.py"}


def star_imports(path: Path, nb: dict) -> Iterator[str]:
    for n in ast.walk(tree(nb)):
        if isinstance(n, ast.ImportFrom) and n.names[0].name == "*": yield f"from {n.module} import *"


def test_no_star_import(): nothing(star_imports, "name what is imported")


def marks_that_stay_raw(path: Path, nb: dict) -> Iterator[str]:
    "CommonMark, $math$ and <details> alone: Colab and GitHub print roles, directives and targets raw."
    for i, text in markdown(nb):
        bad = re.findall(r"(?m)^\s*(?:`{3,}|~{3,}|:{3,})\s*\{.*$|\{[\w:.-]+\}`[^`]+`", text)
        bad += re.findall(r"(?m)^:{3,}.*$|^\([\w-]+\)=$", prose.strip(text))
        yield from (f"cell {i}: {b!r}" for b in bad)


def test_markdown_is_plain(): nothing(marks_that_stay_raw, "write it as CommonMark")


def rule_breaks(t: ast.AST) -> list[str]:
    "What a submission may not hold: definitions, and imports from elsewhere than cam_course."
    found = []
    for n in ast.walk(t):
        if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            found.append(type(n).__name__)
        elif isinstance(n, ast.Import | ast.ImportFrom):
            names = [n.module or "."] if isinstance(n, ast.ImportFrom) else [a.name for a in n.names]
            found += [f"import of {m}" for m in names if m.split(".")[0] != "cam_course"]
    return found


def test_the_assignment_defines_nothing_and_imports_cam_course_alone():
    assert not rule_breaks(tree(load(chapters.chapter("The assignment"))))


def test_a_submission_that_breaks_the_rules_is_seen():
    lines = ["def f(): pass", "class A: pass", "f = lambda x: x", "async def f(): pass",
             "import torch", "from torch import nn", "if x:\n    import numpy as np"]
    assert not [line for line in lines if not rule_breaks(ast.parse(line))]


def foreign_addresses(path: Path, nb: dict) -> Iterator[str]:
    "The repository's address stands once, in settings.ini: whatever a notebook says about it must agree."
    text, repo = json.dumps(nb, ensure_ascii=False), re.escape(SETTINGS["repo"])
    said = set(re.findall(rf"https?://[\w.]*github\.com/[\w.-]+/{repo}(?=[\W_]|$)", text))
    said |= {f"https://github.com/{m}" for m in re.findall(rf"github/([\w.-]+/{repo})/(?:blob|tree|raw)/", text)}
    yield from sorted(said - {SETTINGS["git_url"]})


def test_addresses_are_those_of_settings(): nothing(foreign_addresses, f"settings.ini says {SETTINGS['git_url']}")


# ---- outputs

def stale_outputs(path: Path, nb: dict) -> Iterator[str]:
    "Of an expensive notebook, outputs that are older than the library are tolerated: its page says so."
    problem = stamps.check(path)
    if problem and not (problem[0] == "library" and path.stem in stamps.expensive()): yield problem[1]


def test_outputs_are_fresh(): nothing(stale_outputs)


def test_expensive_names_exist():
    assert stamps.expensive() <= {p.stem for p in NOTEBOOKS}


def unshown_numbers(path: Path, nb: dict) -> Iterator[str]:
    if missing := prose.unsupported(nb): yield prose.message(path.name, missing)


def test_numbers_in_the_prose_are_shown(): nothing(unshown_numbers)


def test_prose_check_works():
    cell = {"cell_type": "code", "source": "n = 11_173_962  # not 555", "outputs": [
        {"output_type": "stream", "name": "stdout", "text": "accuracy 0.8652, 3.24 s\n"}]}

    def missing(text):
        return [q.text for q in prose.unsupported({"cells": [cell, {"cell_type": "markdown", "source": text}]})]

    assert missing("86.5 % in 3.24 s with 11.2 million weights, 11,173,962 to be exact, since 2016") == []
    assert missing("86.6 % in 3.25 s with 11.3 million weights, 555") == ["86.6 %", "3.25", "11.3 million", "555"]
    assert missing("`99.9 %`, $99.9$, [@smith2017, section 3.14], [a](b.html#999), <!-- claim: 345 -->") == []
    assert missing("<!-- constants -->\nTheirs took 99.9 %.") == []


def readable(nb: dict) -> str:
    "Everything that the reader of a page can read, less pictures."
    texts = [json.dumps(nb["metadata"], ensure_ascii=False)]
    for c in nb["cells"]:
        texts.append(c["source"])
        for o in c.get("outputs", []):
            data = {k: v for k, v in o.get("data", {}).items() if not k.startswith(("image/png", "image/jpeg"))}
            texts.append("".join(o.get("text", "")))
            texts.append(json.dumps([data, o.get("metadata"), o.get("traceback")], ensure_ascii=False))
    return "\n".join(texts)


@functools.cache
def index_hosts() -> set[str]:
    "Hosts of the package indexes that this machine is set up to use, unless they are the public ones."
    pip = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    told = [pip.stdout, *(v for k, v in os.environ.items() if k.upper().endswith(("INDEX_URL", "REGISTRY")))]
    hosts = set(re.findall(r"https?://(?:[^@/\s']*@)?([\w.-]+)", " ".join(told)))
    return {h for h in hosts if not h.endswith(("pypi.org", "npmjs.org", "pythonhosted.org"))}


@functools.cache
def machine() -> str:
    "A pattern of what only this machine knows."
    places = [re.escape(str(p)) for p in (ROOT, Path.home(), Path(sys.prefix)) if len(str(p)) > 1]
    return "|".join([*places, *map(re.escape, sorted(index_hosts())),
                     r"(?<![\w.<>])/(?:home|root|Users|tmp|var|mnt|work)/[\w.-]+",
                     r" at 0x[0-9a-f]{6,}", r"[/\\]site-packages", r"Looking in indexes", r"\b[A-Z]\w*Warning: "])


def left_by_the_machine(path: Path, nb: dict) -> Iterator[str]:
    "No folder of the machine, no registry's host, no object address, no warning: in sources and in outputs."
    text = readable(nb)
    yield from sorted({repr(text[max(0, m.start() - 40):m.end() + 20]) for m in re.finditer(machine(), text)})


def test_nothing_of_the_machine_is_left(): nothing(left_by_the_machine)


def untidy_outputs(path: Path, nb: dict) -> Iterator[str]:
    "No error, no carriage return, no progress bar as a widget, no view without its state."
    state = nb["metadata"].get("widgets", {}).get(outputs.STATE, {}).get("state", {})
    for i, c in enumerate(nb["cells"]):
        for o in c.get("outputs", []):
            if o["output_type"] == "error": yield f"cell {i}: the error {o['ename']}"
            if "\r" in "".join(o.get("text", "")): yield f"cell {i}: a carriage return"
            if outputs.VIEW not in o.get("data", {}): continue
            view = o["data"][outputs.VIEW]["model_id"]
            if view not in state: yield f"cell {i}: a widget without its state"
            elif outputs.is_progress_bar(view, state): yield f"cell {i}: a progress bar as a widget"


def test_saved_outputs_are_tidy(): nothing(untidy_outputs, "make outputs tidies them")


def words_of(output: dict, mime: str) -> str:
    "The alt text that an output keeps for its picture."
    return output["metadata"].get(mime, {}).get("alt") or output["metadata"].get("alt") or ""


def pictures_without_words(path: Path, nb: dict) -> Iterator[str]:
    "A picture that a cell draws, or that the text shows, needs an alt text. That it arrives on the page: test_book.py."
    for i, c in enumerate(nb["cells"]):
        drawn = [words_of(o, mime) for o in c.get("outputs", []) for mime in o.get("data", {}) if mime.startswith("image/")]
        yield from (f"cell {i}: a picture with the words {alt!r}" for alt in drawn if len(alt) <= 15)
        if c["cell_type"] == "markdown": yield from (f"cell {i}: {tag}" for tag in bare_pictures(c["source"]))


def bare_pictures(text: str) -> list[str]:
    "Pictures of a markdown text that have no words."
    return re.findall(r"!\[\s*\]\([^)]*\)", text) + [
        tag for tag in re.findall(r"<img\b[^>]*>", text) if not re.search(r"\balt\s*=\s*(\"\s*[^\s\"]|'\s*[^\s'])", tag)]


def test_pictures_have_alt_text(): nothing(pictures_without_words, "cam_course.base.figures.show(fig, alt=...)")


def test_pictures_of_the_books_own_pages_have_alt_text():
    pages = {p: bare_pictures(p.read_text(encoding="utf-8")) for p in (ROOT/"book").rglob("*.md")}
    assert len(pages) > 10 and not (bad := {chapters.at(p): tags for p, tags in pages.items() if tags}), bad


def dirty_notebooks(path: Path, nb: dict) -> Iterator[str]:
    "Outputs, tags, widgets and stamp survive nbdev_clean as they are, so that it never dirties the tree."
    from nbdev.clean import clean_nb
    raw = json.loads(path.read_text(encoding="utf-8"))
    before = json.dumps(raw, sort_keys=True)
    keep = (SETTINGS[k].split() for k in ("allowed_metadata_keys", "allowed_cell_metadata_keys"))
    clean_nb(raw, False, *keep, True)
    if json.dumps(raw, sort_keys=True) != before: yield "nbdev_clean would change it"


def test_nbdev_clean_changes_nothing(): nothing(dirty_notebooks, "run nbdev_clean, or book/execute.py, on it")


def test_progress_bars_keep_their_last_state():
    states = [f"train: {p:3}%|{'#'*(p//10):10}| {p//10}/10 [00:01<00:01, 4.00it/s]" for p in (0, 50, 100)]
    assert outputs.tidy_stream("\r".join(states) + "\n") == states[-1] + "\n"
    assert outputs.tidy_stream("a\nb\n") == "a\nb\n"


def test_machine_paths_are_scrubbed():
    scrub = outputs.scrubber(("/somewhere/checkout", "."), ("/somewhere", "~"))
    text = "'/somewhere/checkout/nbs/x.ipynb' /somewhere/y /somewhere_else"
    assert scrub(text) == "'./nbs/x.ipynb' ~/y /somewhere_else"


def test_smoke_values():
    given = 'epochs = 20  # smoke: 1\nname: str = "cifar10"  # smoke: "shapes"\nx = 3'
    assert execute.smoke_values(given) == 'epochs = 1\nname: str = "shapes"\nx = 3'


def parameters_without_smoke(path: Path, nb: dict) -> Iterator[str]:
    "One cell at most is tagged `parameters`; each of its assignments has a smoke value."
    cells = [(i, c) for i, c in enumerate(nb["cells"]) if "parameters" in c["metadata"].get("tags", [])]
    if len(cells) > 1: yield f"cells {', '.join(str(i) for i, _ in cells)} are all tagged `parameters`"
    for i, c in cells:
        for line in c["source"].splitlines():
            if line.strip() and line[0] != "#" and execute.smoke_values(line) == line: yield f"cell {i}: {line!r}"


def test_parameters_have_smoke_values(): nothing(parameters_without_smoke, "append `# smoke: a small value`")


# ---- each rule can fail

def seeded(*cells: dict, **metadata) -> dict:
    plain = {"metadata": {}, "id": "c", "outputs": [], "execution_count": None}
    return {"cells": [plain | c for c in cells], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def code(source: str, *outs: dict, **metadata) -> dict:
    return {"cell_type": "code", "source": source, "outputs": list(outs), "metadata": metadata}


def text(source: str) -> dict: return {"cell_type": "markdown", "source": source}


PICTURE, SAID = {"output_type": "display_data", "data": {"image/png": ""}}, "A line that falls from left to right."
VIEWED = {"output_type": "display_data", "metadata": {}, "data": {outputs.VIEW: {"model_id": "v"}}}
BAR = {outputs.STATE: {"state": {"v": {"model_name": "HBoxModel", "state": {"children": ["IPY_MODEL_f"]}},
                                 "f": {"model_name": "FloatProgressModel", "state": {}}}}}
SEEDS: dict[Rule, list[dict]] = {   # notebooks that break a rule, each in another way
    star_imports: [seeded(code("from math import *"))],
    marks_that_stay_raw: [seeded(text(t)) for t in ("```{note}\nx\n```", "a {ref}`x`", ":::\nx\n:::", "(a-target)=\n# x")],
    foreign_addresses: [seeded(text(f"{a}/{SETTINGS['repo']}")) for a in ("https://github.com/other", "see https://www.github.com/x")]
        + [seeded(text(f"https://colab.research.google.com/github/other/{SETTINGS['repo']}/blob/main/x.ipynb"))],
    stale_outputs: [seeded(code("x = 1"))],
    unshown_numbers: [seeded(text("It is 86.5 %."))],
    left_by_the_machine: [seeded(code("1", {"output_type": "stream", "text": t})) for t in (
        str(ROOT), "/tmp/x", "<f at 0x7f0011aa>", "lib/site-packages/x", "Looking in indexes", "UserWarning: old")],
    untidy_outputs: [seeded(code("1", {"output_type": "error", "ename": "E"})), seeded(code("1", VIEWED)),
                     seeded(code("1", {"output_type": "stream", "text": "a\rb"})), seeded(code("1", VIEWED), widgets=BAR)],
    pictures_without_words: [seeded(code("1", PICTURE | {"metadata": m})) for m in ({}, {"alt": "short"}, {"image/png": {"alt": ""}})]
        + [seeded(text(t)) for t in ("![](a.png)", '<img src="a.png">', '<img alt="" src="a.png">')],
    dirty_notebooks: [seeded(code("1", scrolled=True)), seeded(code("1"), other=1)],
    parameters_without_smoke: [seeded(code("x = 3", tags=["parameters"])), seeded(*[code("", tags=["parameters"])]*2)],
}


def test_each_rule_sees_what_breaks_it(tmp_path):
    "And finds nothing in a notebook without fault."
    rules = {f for f in globals().values() if getattr(f, "__annotations__", {}).get("return") == Iterator[str]}
    assert SEEDS.keys() == rules, "a rule without a notebook that breaks it"
    stamp = {"code_hash": "", "library_hash": ""}
    good = seeded(text(f"It is 3.14, ![{SAID}](a.png)."), code("print(3.14)", PICTURE | {"metadata": {"alt": SAID}}),
                  code("n = 9  # smoke: 1", tags=["parameters"]), cam_course=stamp)
    stamp |= {"code_hash": stamps.code_hash(good), "library_hash": stamps.library_hash(good)}

    def told(rule: Rule, nb: dict) -> list[str]:
        path = chapters.chapter("core")                     # whose place among the others counts, not what it holds
        if rule in (stale_outputs, dirty_notebooks): (path := tmp_path/"50_x.ipynb").write_text(json.dumps(nb))
        return list(rule(path, nb))

    blind = [(rule.__name__, nb["cells"]) for rule, seeds in SEEDS.items() for nb in seeds if not told(rule, nb)]
    assert not blind
    assert not {rule.__name__: said for rule in SEEDS if (said := told(rule, good))}


def test_what_is_found_is_named():
    "File, cell, what and the remedy."
    def every_heading(path: Path, nb: dict):
        yield from (f"cell {i}: {t.splitlines()[0]}" for i, t in markdown(nb) if t.startswith("# "))
    with pytest.raises(AssertionError, match=r"every_heading, mend it:\n(?s:.*)nbs/\S+gradcam\.ipynb, cell \d+: # Grad-CAM"):
        nothing(every_heading, "mend it")


# ---- how they run

def test_code_in_a_fold_runs_where_it_stands():
    fold = "Try.\n\n<details><summary>Solution</summary>\n\n```python\na = 1\n```\nthen\n```python\na += 1\n```\n</details>"
    cells = [nbformat.v4.new_markdown_cell(f"```python\nx\n```\n{fold}"), nbformat.v4.new_code_cell("b = a")]
    nb = nbformat.v4.new_notebook(cells=cells)
    execute.unfold(nb)
    assert [c.source for c in nb.cells[1:]] == ["a = 1\n", "a += 1\n", "b = a"]


def test_a_failing_cell_leaves_the_file_alone(tmp_path):
    "The error names the cell's error, and the notebook keeps the outputs that it had."
    path = tmp_path/"50_x.ipynb"
    cell = {"cell_type": "code", "id": "c", "metadata": {}, "outputs": [], "execution_count": None, "source": "1/0"}
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell]}))
    before = path.read_bytes()
    assert execute.main([str(path)]) == 1
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if p != FOLLOWED], ids=lambda p: p.stem)
def test_runs_at_smoke_scale(path, monkeypatch, warm_kernels):
    """Every cell, on `shapes`, in an empty folder, without a data set and without the network. No function of the library
    runs that the notebook's hash misses."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("CAM_COURSE_DATA", raising=False)
    if warm_kernels: monkeypatch.setenv("JUPYTER_PATH", warm_kernels)
    before = path.read_bytes()
    nb = execute.execute(path, smoke=True, watch=True)
    assert path.read_bytes() == before
    assert nb.metadata[stamps.KEY]["code_hash"] == stamps.code_hash(stamps.load(path))
    assert nb.metadata[stamps.KEY]["missed"] == []
