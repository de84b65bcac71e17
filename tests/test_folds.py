"""What a page folds: the library behind its signature, figures' code behind a label, the idea in sight."""
import book_folds
import book_pages
import chapters
import nbdev_reader
import nbformat
import pytest
import stamps


@pytest.mark.parametrize(("source", "label"), [
    ("def f(x, /, y: int = 2, *, z=None, **kw) -> int:\n    'Adds, e.g. 2. And more.'", "`f(x, y=2, *, z=None, **kw)`: Adds, e.g. 2."),
    ("def _a(): 'Inner.'\n\ndef b(): 'Outer: see `c`.\\n\\nMore.'\n\ndef c(): pass", "`b()` and `c`: Outer: see `c`."),
    ("class A:\n    'One thing'\n    def __init__(self, model, lr=.1): ...", "`A(model, lr=0.1)`: One thing"),
    ("class A(Base):\n    'One (see et al. 2017) thing.'\n    x: int = 1", "`class A`: One (see et al. 2017) thing."),
    (f"def g({', '.join(f'argument_{i}=1' for i in range(6))}): ...", "`g(...)`"),
    (f"def g({', '.join(f'argument_{i}=1' for i in range(5))}): ...",
     "`g(argument_0, argument_1, argument_2, argument_3, argument_4)`"),
    ("INK, _GRID = 1, 2\nX: int = 3", "`INK`, `_GRID`, `X`"),
    ("OPTIMIZERS['a'] = 1", "`OPTIMIZERS`"), ("print(1)", "Code of the library")])
def test_label_of_the_library(source, label):
    assert book_folds.library_label(source) == label


def folded(source: str, *tags: str) -> str | None:
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)})
    nbdev_reader.directives_to_tags(cell)
    return cell.metadata.get("mystnb", {}).get("code_prompt_show") if "hide-input" in cell.metadata.tags else None


def test_what_is_folded():
    assert folded("#| export\ndef f(): 'One.'") == folded("#| exporti\ndef f(): 'One.'") == "`f()`: One."
    assert folded("#| export\ndef f(): 'One.'", "idea") is None and folded("x = 1") is None
    assert folded("#| export\nimport os") == "Imports" and folded("import os") is None
    assert folded("show(fig, 'a')", "figure") == "Code of this figure" and folded("assert 1", "aside") == "Show the code"


def test_a_label_shows_code_as_code():
    html = '<p class="collapsed admonition-title">`f(x)`: as `g`</p><p>`h`</p>'
    assert book_folds.set_code(html) == '<p class="collapsed admonition-title"><code>f(x)</code>: as <code>g</code></p><p>`h`</p>'


def test_pictures_open_in_their_own_size():
    img, still = '<img alt="a" src="../_images/a.png"/>', '<img class="widget-still" alt="a" src="../_images/b.png"/>'
    logo = '<img src="../_static/logo.svg"/>'
    assert book_pages.full_size(img + still + logo) == f'<a class="full-size" href="../_images/a.png">{img}</a>{still}{logo}'


def test_an_idea_is_short_and_code_in_sight_narrow():
    "Cells tagged `idea` have at most 15 lines; nothing in sight is wider than 80 columns."
    bad = []
    for path in stamps.notebooks():
        for cell in stamps.load(path)["cells"]:
            if cell["cell_type"] != "code": continue
            shown = nbformat.from_dict(cell)
            nbdev_reader.directives_to_tags(shown)
            tags = set(shown.metadata.get("tags", []))
            if tags & {"remove-cell", "remove-input", "hide-input"}: continue
            lines = shown.source.splitlines()
            bad += [f"{chapters.at(path)}: {len(line)} columns: {line}" for line in lines if len(line) > book_folds.COLUMNS]
            if book_folds.IDEA in tags and len(lines) > book_folds.IDEA_LINES:
                bad.append(f"{chapters.at(path)}: an idea of {len(lines)} lines: {lines[0]}")
    assert not bad, "\n".join(bad)
