"Other people's files and words: nothing in them is run, and pages show them as they are."
import ast
import html.parser
import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image
from test_faults import Evil, cli, finished  # noqa: F401 (a fixture)

from cam_course.data import shapes

PACKAGE = Path(__file__).resolve().parents[1]/"cam_course"
EVIL = '<script>alert(1)<'  # a file name holds no slash
NAMES = {
    "class": (EVIL, "<img src=x onerror=alert(2)>", '"\'><svg onload=alert(3)>', "a & b", r"$\frac{$", "$x^2$",
              "[x](javascript:alert(4))"),
    "folder": '<img src=x onerror="alert(5)">',
}


class Page(html.parser.HTMLParser):
    "The elements and attributes that a browser would find, and the text."

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.attributes, self.words = set(), set(), []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.words += [value or "" for _, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def harmless(text: str) -> Page:
    page = Page(text)
    assert not page.tags & {"script", "svg", "iframe", "object", "embed", "link"}, page.tags
    assert not {a for a in page.attributes if a.startswith("on")}
    assert not [w for w in page.words if w.strip().lower().startswith("javascript:")]
    return page


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    "A run on images whose folders, and so classes and data set, have names that bite."
    root = tmp_path_factory.mktemp("hostile")
    for part, n, seed in (("train", 64, 1), ("test", 21, 2)):
        for i, x in enumerate(shapes(n, seed=seed).x):
            target = root/NAMES["folder"]/part/NAMES["class"][i % len(NAMES["class"])]
            target.mkdir(parents=True, exist_ok=True)
            Image.fromarray(x.permute(1, 2, 0).numpy()).save(target/f"{EVIL}{i}.png")
    args = ["--dataset", str(root/NAMES["folder"]), "--epochs", "1", "--batch-size", "32", "--width", "2", "--gallery", "4"]
    assert cli(["train", *args, "--device", "cpu", "--runs", str(root), "--name", "a"]) == 0
    return root


def test_names_are_shown_as_they_are(hostile, tmp_path):
    "In the report, and in the words for its pictures. TeX in a class name is no formula: the figures were drawn."
    page = harmless((hostile/"a"/"report.html").read_text())
    assert any(NAMES["folder"] in word for word in page.words) and page.tags >= {"table", "img", "pre"}
    alts = json.loads((hostile/"a"/"figures"/"alt.json").read_text())
    assert set(alts) == {"curves", "confusion", "misclassified", "gradcam"}
    assert any(name in " ".join(page.words) for name in NAMES["class"])
    assert cli(["report", str(hostile/"a"), "--submission", str(tmp_path/"out")]) == 0
    text = (tmp_path/"out"/"README.md").read_text()
    assert not re.search(r"<(script|img|svg)", text) and not re.search(r"(?<!\\)\]\(javascript:", text)


@pytest.mark.parametrize("key", ["model", "dataset", "data_name", "recipe", "width", "epochs", "transforms", EVIL])
def test_strings_of_a_config_are_shown_as_they_are(hostile, tmp_path, key):
    box = shutil.copytree(hostile/"a", tmp_path/"a")
    words = "</table><script>alert('x')</script>\"><img src=x onerror=alert(1)>"
    for file in ("config.json", "environment.json"):
        values = json.loads((box/file).read_text())
        (box/file).write_text(json.dumps({**values, key: words, "device": words}))
    (box/"log.txt").write_text(words)
    alts = json.loads((box/"figures"/"alt.json").read_text())
    (box/"figures"/"alt.json").write_text(json.dumps({name: words for name in alts}))
    assert cli(["report", str(box)]) == 0
    page = harmless((box/"report.html").read_text())
    assert sum(words in word for word in page.words) >= 3


@pytest.mark.parametrize(("file", "content"), [
    ("config.json", "[]"), ("config.json", "{}"), ("config.json", "null"), ("environment.json", "{"), ("environment.json", "{}"),
    ("history.csv", ""), ("history.csv", "epoch,step\n1,1\n"), ("history.csv", "\x00\x01"), ("figures/alt.json", "[1]"),
    ("figures/alt.json", "{")])
def test_a_damaged_run_is_one_error(hostile, tmp_path, capsys, file, content):
    box = shutil.copytree(hostile/"a", tmp_path/"a")
    (box/file).write_text(content)
    (box/"report.html").unlink()
    capsys.readouterr()
    assert cli(["report", str(box)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("cam-course: failed: ") and str(box) in err and not (box/"report.html").exists()


def test_evil_weights_are_refused(tmp_path):
    "A pickle under any name that this library reads weights from."
    import torch

    from cam_course.base.checkpoints import load_checkpoint
    from cam_course.base.core import DataError
    from cam_course.base.weights import read_weights
    from cam_course.photographs import imagenet_net

    for name in ("w.safetensors", "w.pth", "w.pt"):
        torch.save({"w": Evil(tmp_path/"ran")}, tmp_path/name)
        for load in (read_weights, load_checkpoint, lambda p: imagenet_net(weights=p)):
            with pytest.raises((DataError, ValueError)):
                load(tmp_path/name)
    assert not (tmp_path/"ran").exists()


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_nothing_in_the_library_opens_files_that_can_run_code():
    "torch.load only with weights_only=True, np.load only with allow_pickle=False; no pickle, eval, exec, yaml, shell."
    found = 0
    for path in PACKAGE.rglob("*.py"):
        for name, call in calls(ast.parse(path.read_text(encoding="utf-8"))):
            given = {k.arg: getattr(k.value, "value", None) for k in call.keywords}
            where = f"{path.name}:{call.lineno} {name}"
            if name == "torch.load": assert given.get("weights_only") is True, where
            if name == "np.load": assert given.get("allow_pickle") is False, where
            assert name not in ("eval", "exec", "pickle.load", "pickle.loads", "yaml.load", "os.system", "torch.hub.load"), where
            assert given.get("shell") is not True, where
            found += name in ("torch.load", "np.load", "safe_open")
    assert found >= 3
