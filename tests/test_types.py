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
    "And mypy sees what is wrong with another: types, a function without any, a name that is another module's."
    wrong = tmp_path/"wrong_use.py"
    wrong.write_text("from cam_course.optimizers import Adam\nfrom cam_course.resnet import ResNet18\n"
                     "from cam_course.app.trainer import nn\n"
                     "Adam(ResNet18().parameters(), lr='fast')\nResNet18(width='wide')\ndef f(x): return x\n")
    found = mypy("tests/typed_use.py", str(wrong))
    assert "Found 4 errors in 1 file (checked 2" in found and "wrong_use.py:3" in found, found
    assert [found.count(f"[{kind}]") for kind in ("arg-type", "no-untyped-def", "attr-defined")] == [2, 1, 1], found


def test_the_programs_options_are_those_of_strict():
    "Every option that this mypy's --strict switches on holds for the program, or for all modules."
    from configparser import ConfigParser

    from mypy.main import process_options
    settings = ConfigParser()
    settings.read(ROOT/"mypy.ini", encoding="utf-8")
    plain, strict = (process_options([*flags, "--config-file=", "-c", "1"])[1].snapshot() for flags in ([], ["--strict"]))
    wanted = {k: v for k, v in strict.items() if v != plain.get(k) and isinstance(v, bool)}
    said = {k: v for part in settings.sections() for k, v in settings[part].items()}
    assert len(wanted) > 8
    missing = {k: v for k, v in wanted.items() if k != "warn_unused_configs" and said.get(k) != str(v)}
    assert not missing


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
