"""Does a test notice when the library is wrong? Draws small faults ("mutants"), one at a time, and runs the tests that
execute the changed line, cheapest first, until one fails. The module is changed in the memory of a forked process only.

    python tests/mutants.py [--resume]    writes tests/results/mutants.json; after a stop, --resume goes on where it was

The status is 1 if fewer than nine of ten are noticed, or if a survivor has no reason.
A survivor that changes nothing that can be seen gets a "why" in the results by hand; it is kept, and shown with the others.
"""

import argparse
import ast
import copy
import datetime
import hashlib
import importlib
import importlib.abc
import importlib.util
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT/"book"))
import stamps  # noqa: E402

RESULTS = ROOT/"tests"/"results"/"mutants.json"
GROUPS = {  # what is changed, and the tests that may notice
    "optimizers": (["optimizers"], ["test_optimizers", "test_race", "test_details"]),
    "transforms": (["transforms", "base.geometric"], ["test_transforms", "test_properties", "test_details"]),
    "gradcam": (["gradcam", "base.target_layers"],
                ["test_gradcam", "test_gradcam_details", "test_gradcam_parity", "test_gradcam_traces", "test_live", "test_properties"]),
}
WARM = ["torch", "torchvision.transforms.v2.functional", "torchvision.models", "torch.func", "matplotlib.pyplot", "pytorch_grad_cam",
        "scipy.stats", "scipy.ndimage", "pandas", "hypothesis", "pytest", "anywidget", "py_mini_racer", "safetensors.torch",
        "PIL.Image", "captum.attr", "torchcam.methods", "nbformat"]
LIMIT = 60       # s for one mutant: an endless loop counts as noticed
BUDGET = 20.0    # s of tests for one mutant, as measured without a change

SWAP: dict[type, list[type]] = {
    ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Div], ast.Div: [ast.Mult], ast.Pow: [ast.Mult],
    ast.FloorDiv: [ast.Mult], ast.Mod: [ast.Mult], ast.BitAnd: [ast.BitOr], ast.BitOr: [ast.BitAnd],
    ast.Lt: [ast.LtE, ast.GtE], ast.LtE: [ast.Lt, ast.Gt], ast.Gt: [ast.GtE, ast.LtE], ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is], ast.In: [ast.NotIn], ast.NotIn: [ast.In],
    ast.And: [ast.Or], ast.Or: [ast.And],
}


def changes(node: ast.AST) -> Iterator[tuple[str, Any]]:
    "What may be put in the place of `node`: (kind of fault, new node)."
    match node:
        case ast.BinOp() | ast.AugAssign() | ast.BoolOp():
            kind = "and/or" if isinstance(node, ast.BoolOp) else "arithmetic"
            for op in SWAP.get(type(node.op), []): yield kind, _with(node, op=op())
        case ast.Compare(ops=[op]):
            for new in SWAP.get(type(op), []): yield "comparison", _with(node, ops=[new()])
        case ast.Constant(value=bool() as v): yield "constant", ast.Constant(not v)
        case ast.Constant(value=int() as v): yield "constant", ast.Constant(v + 1)
        case ast.Constant(value=float() as v): yield "constant", ast.Constant(v*2 if v else 1.0)
        case ast.UnaryOp(op=ast.USub() | ast.Not()): yield "sign", node.operand
        case ast.If() | ast.IfExp() | ast.While():
            yield "negated condition", _with(node, test=ast.UnaryOp(ast.Not(), node.test))
        case ast.Call(args=[a, b, *rest]) if not any(isinstance(x, ast.Starred) for x in (a, b)) and ast.dump(a) != ast.dump(b):
            yield "swapped arguments", _with(node, args=[b, a, *rest])
        case ast.Expr(value=ast.Call()): yield "removed statement", ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]): yield "removed statement", ast.Pass()
        case ast.Return(value=ast.expr()): yield "nothing returned", ast.Return(ast.Constant(None))
    if isinstance(node, ast.AugAssign): yield "removed statement", ast.Pass()


def _with(node: ast.AST, **new: Any) -> ast.AST:
    twin = copy.copy(node)
    for name, value in new.items(): setattr(twin, name, value)
    return twin


HIDDEN = {"annotation", "returns", "decorator_list", "exc", "cause", "msg"}  # types and the words of messages


def file_of(module: str) -> Path:
    "The file of a module of the library."
    return ROOT.joinpath("cam_course", *module.split(".")).with_suffix(".py")


def walk(node: ast.AST, scope: str = "", path: tuple = ()) -> Iterator[tuple[ast.AST, str, tuple]]:
    "Every node that may be changed, with the function it is in and the way to it."
    for field, value in ast.iter_fields(node):
        if field in HIDDEN: continue
        for i, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.JoinedStr | ast.Import | ast.ImportFrom): continue
            if isinstance(child, ast.Assign) and isinstance(child.targets[0], ast.Name) and child.targets[0].id == "__all__": continue
            inner = f"{scope}.{child.name}".lstrip(".") if isinstance(child, ast.FunctionDef | ast.ClassDef) else scope
            here = (*path, (field, i))
            yield child, scope, here
            yield from walk(child, inner, here)


def replaced(tree: ast.Module, path: tuple, new: ast.AST) -> ast.Module:
    "A copy of `tree` with `new` where `path` leads."
    tree = copy.deepcopy(tree)
    at: Any = tree
    for field, i in path[:-1]: at = getattr(at, field) if i is None else getattr(at, field)[i]
    field, i = path[-1]
    old = getattr(at, field) if i is None else getattr(at, field)[i]
    ast.copy_location(new, old)
    if i is None: setattr(at, field, new)
    else: getattr(at, field)[i] = new
    return ast.fix_missing_locations(tree)


def all_mutants(group: str) -> list[dict]:
    "Every fault of the group's modules, in the order of the source."
    found = []
    for module in GROUPS[group][0]:
        tree = ast.parse(file_of(module).read_text(encoding="utf-8"))
        for node, scope, path in walk(tree):
            for kind, new in changes(node):
                old, text = ast.unparse(node).splitlines()[0], ast.unparse(new).splitlines()[0]
                key = f"{module}|{scope}|{kind}|{old}|{text}|{sum(m['path'] < path for m in found if m['scope'] == scope)}"
                found.append({"id": hashlib.sha1(key.encode()).hexdigest()[:8], "module": module, "scope": scope, "line": node.lineno,
                              "kind": kind, "old": old, "new": text, "path": path, "node": new})
    return found


def draw(count: int, seed: int) -> list[dict]:
    "`count` mutants, the same number of each group."
    rng, drawn = random.Random(seed), []
    for i, group in enumerate(GROUPS):
        n = count//len(GROUPS) + (i < count % len(GROUPS))
        everything = all_mutants(group)
        drawn += [m | {"group": group} for m in rng.sample(everything, min(n, len(everything)))]
    return drawn


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    "Imports one module of the library from a changed tree."

    def __init__(self, name: str, tree: ast.Module): self.name, self.tree = name, tree

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != self.name: return None
        file = str(ROOT/(fullname.replace(".", "/") + ".py"))
        spec = importlib.util.spec_from_loader(fullname, self, origin=file)
        spec.has_location = True
        return spec

    def exec_module(self, module: Any) -> None: exec(compile(self.tree, module.__spec__.origin, "exec"), module.__dict__)


class Times:
    "Pytest plugin: what each test took, and which one failed first."

    def __init__(self) -> None: self.seconds, self.failed = {}, None

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if report.failed: self.failed = self.failed or report.nodeid

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed: self.failed = self.failed or f"{report.nodeid} (import)"


def in_child(work: Any, limit: float) -> Any:
    "What `work()` returns in a forked process, as JSON can hold it; 'timeout' after `limit` seconds, 'crash' without an answer."
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2): os.dup2(null, fd)
        try: os.write(write, json.dumps(work()).encode())
        finally: os._exit(0)
    os.close(write)
    end, data = time.monotonic() + limit, b""
    os.set_blocking(read, False)
    while time.monotonic() < end:
        try: part = os.read(read, 1 << 16)
        except BlockingIOError:
            time.sleep(0.01)
            continue
        if not part: break
        data += part
    else:
        data = b'"timeout"'
        os.killpg(pid, signal.SIGKILL)
    os.close(read)
    os.waitpid(pid, 0)
    return json.loads(data or b'"crash"')


def pytest_run(arguments: list[str]) -> Times:
    import pytest
    times = Times()
    os.chdir(ROOT)
    pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments], plugins=[times])
    return times


def baseline(group: str) -> dict:
    "Seconds of each test, and for each line of the group's modules the tests that execute it."
    files = [f"tests/{name}.py" for name in GROUPS[group][1] if (ROOT/"tests"/f"{name}.py").exists()]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COVERAGE_FILE"] = f"{folder}/data"

        def work() -> dict:
            chosen = ["-k", "not browser and not fits and not claims"]
            times = pytest_run([*files, "--cov=cam_course", "--cov-context=test", "--cov-report=", *chosen])
            return {"seconds": times.seconds, "failed": times.failed}

        told = in_child(work, 900)
        if told in ("timeout", "crash") or told["failed"]: raise SystemExit(f"{group}: the tests fail without a change: {told}")
        from coverage import CoverageData
        data = CoverageData(f"{folder}/data")
        data.read()
        told["lines"] = {}
        for module in GROUPS[group][0]:
            by_line = data.contexts_by_lineno(str(file_of(module)))
            told["lines"][module] = {n: sorted({c.split("|")[0] for c in cs if c}) for n, cs in by_line.items()}
    return told


def tests_for(mutant: dict, base: dict) -> list[str]:
    "The tests that execute the line (all, for a line that runs at import), cheapest first, as many as the budget holds."
    last = mutant["line"] + 3  # a call over several lines is counted at its first or its last
    lines = base["lines"][mutant["module"]]
    hit = {t for n in range(mutant["line"], last) for t in lines.get(n, [])} if lines.get(mutant["line"]) else set()
    chosen, total = [], 0.0
    for test in sorted(hit or base["seconds"], key=lambda t: base["seconds"].get(t, 0)):
        total += base["seconds"].get(test, 0)
        if test in base["seconds"] and (total <= BUDGET or len(chosen) < 3): chosen.append(test)
    return chosen


def verdict(mutant: dict, tests: list[str]) -> str | None:
    "The test that noticed, 'timeout' or 'crash'; None if nobody did."
    name = f"cam_course.{mutant['module']}"

    def work() -> str | None:
        tree = ast.parse(file_of(mutant["module"]).read_text(encoding="utf-8"))
        sys.meta_path.insert(0, Changed(name, replaced(tree, mutant["path"], mutant["node"])))
        times = pytest_run(tests)
        return times.failed or (None if times.seconds else "collection")

    return in_child(work, LIMIT)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=150)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", nargs="*", help="ids: try these again, and keep what is known of the others")
    options.add_argument("--resume", action="store_true", help="keep the verdicts that are there")
    options.add_argument("--group", choices=GROUPS, help="these alone")
    options.add_argument("--out", type=Path, default=RESULTS)
    o = options.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", MPLBACKEND="Agg", HYPOTHESIS_MAX_EXAMPLES="20")
    sys.path[:0] = [str(ROOT), str(ROOT/"tests")]
    for name in WARM:
        try: importlib.import_module(name)
        except ImportError: print(f"without {name}")
    import torch
    torch.set_num_threads(1)
    last = json.loads(o.out.read_text(encoding="utf-8")) if o.out.exists() else {"mutants": []}
    known = {m["id"]: m for m in last["mutants"]}
    o.code = last["code"] if known and (o.resume or o.only is not None or o.group) else code()   # kept verdicts are as old as they are
    mutants, bases, rows, start = draw(o.count, o.seed), {}, [], time.monotonic()
    for m in mutants:
        row = {k: m[k] for k in ("id", "group", "module", "scope", "line", "kind", "old", "new")}
        done = o.resume and "killed_by" in known.get(m["id"], {}) and not (o.only and m["id"] in o.only)
        if done or (o.only is not None and m["id"] not in o.only) or o.group not in (None, m["group"]):
            if m["id"] in known: rows.append(row | {k: known[m["id"]][k] for k in ("killed_by", "why") if k in known[m["id"]]})
            continue
        if m["group"] not in bases: bases[m["group"]] = baseline(m["group"])
        tests = tests_for(m, bases[m["group"]])
        row["killed_by"] = verdict(m, tests)
        if row["killed_by"] is None and (why := known.get(m["id"], {}).get("why")): row["why"] = why
        rows.append(row)
        left = "" if row["killed_by"] else f"  SURVIVES {len(tests)} tests"
        where = f"{len(rows):3} {time.monotonic() - start:5.0f} s {m['id']} {m['module']}:{m['line']}"
        print(f"{where} {m['old'][:60]} -> {m['new'][:60]}{left}", flush=True)
        save(rows, o, time.monotonic() - start, len(mutants))
    save(rows, o, time.monotonic() - start, len(mutants))   # also what was known, after the last one tried
    survivors = [r for r in rows if r["killed_by"] is None]
    sys.exit(len(survivors) > 0.1*len(rows) or any(not r.get("why") for r in survivors))


def code() -> dict[str, str]:
    "Hashes of the modules that are changed and of the tests that may notice."
    names = chain.from_iterable([*modules, *(f"tests/{t}.py" for t in tests)] for modules, tests in GROUPS.values())
    return stamps.code_of(dict.fromkeys(names))


def save(rows: list[dict], o: Any, seconds: float, count: int) -> None:
    import torch
    killed = sum(r["killed_by"] is not None for r in rows)
    told = {
        "made_by": "python tests/mutants.py", "date": datetime.date.today().isoformat(),
        "seed": o.seed, "drawn": count, "tried": len(rows),
        "killed": killed, "rate": round(killed/len(rows), 4), "seconds": round(seconds), "python": sys.version.split()[0],
        "torch": torch.__version__, "code": o.code, "mutants": rows,
    }
    o.out.parent.mkdir(exist_ok=True)
    o.out.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
