"Types: the library's signatures agree with themselves, and a user's strict program agrees with them."

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def mypy(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "mypy", *arguments], cwd=ROOT, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_library_is_clean():
    assert mypy() == ""


def test_a_users_program_is_clean_under_strict(tmp_path):
    strict = ("--strict", "--config-file=", "--follow-imports=silent", "--ignore-missing-imports", "--cache-dir=.mypy_cache/use")
    wrong = tmp_path/"wrong.py"
    wrong.write_text("from cam_course.optimizers import Adam\nfrom cam_course.models.resnet import ResNet18\n"
                     "Adam(ResNet18().parameters(), lr='fast')\nResNet18(width='wide')\n")
    found = mypy(*strict, "tests/typed_use.py", str(wrong))
    assert "Found 2 errors in 1 file (checked 2" in found and found.count("[arg-type]") == 2, found


def unannotated(module: Path) -> list[str]:
    "Public functions and methods with a parameter or a result that has no type."
    tree = ast.parse(module.read_text(encoding="utf-8"))
    named = [(node.name, node) for node in tree.body if isinstance(node, ast.FunctionDef)]
    for cls in (node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")):
        named += [(f"{cls.name}.{node.name}", node) for node in cls.body if isinstance(node, ast.FunctionDef)]
    bad = []
    for name, node in named:
        own = name.rsplit(".", 1)[-1]
        if own.startswith("_") and own != "__init__": continue
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
        bare = [a.arg for a in arguments if a is not None and a.annotation is None and a.arg not in ("self", "cls")]
        bad += [f"{module.stem}.{name}: {b}" for b in bare]
        if node.returns is None and own != "__init__": bad.append(f"{module.stem}.{name}: the result")
    return bad


def test_every_public_signature_has_types():
    modules = [m for m in (ROOT/"cam_course").rglob("*.py") if m.name != "_modidx.py"]
    assert len(modules) > 30
    assert [line for m in modules for line in unannotated(m)] == []
