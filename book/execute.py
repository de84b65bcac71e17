"""Run notebooks and keep what they show.

    python book/execute.py                        run every notebook whose outputs are stale, but the expensive ones
    python book/execute.py 10_data nbs/12_*.ipynb run these, in place; each is stamped
    python book/execute.py --smoke 10_data        run at smoke scale in an empty folder, solutions too, and throw the result away
    python book/execute.py --smoke --watch        and name the functions that ran though no stamp counts them: there should be none
    python book/execute.py --check                list the stale ones; exit status 1 if any may not be

A notebook runs in an empty temporary folder, as on a new machine; `--cwd DIR` runs it in DIR, so that the files it
makes are kept. `CAM_COURSE_DATA` and the rest of the environment are passed on.
"""
import argparse
import contextlib
import glob
import json
import os
import re
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import outputs
import stamps

TIMEOUT, SMOKE_TIMEOUT = 6*3600, 300
_smoke = re.compile(r"^(\s*\w+\s*(?::[^=]+)?=\s*)(.*?)(\s*# smoke: )(.*?)\s*$", re.M)

# Runs in the notebook's kernel after its last cell. Data sets are asked of the objects themselves, the device of CUDA.
PROBE = r"""
import gc as _gc, importlib.metadata as _md, json as _json, os as _os, platform as _pl, sys as _sys
def _version(name):
    try: return _md.version(name)
    except _md.PackageNotFoundError: return None
def _device():
    torch = _sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized(): return torch.cuda.get_device_name()
    cores = len(_os.sched_getaffinity(0)) if hasattr(_os, "sched_getaffinity") else _os.cpu_count()
    return f"CPU, {cores} core" + "s"*(cores != 1)
def _data():
    return sorted({str(o.name) for o in _gc.get_objects() if type(o).__name__ == "ImageData" and hasattr(o, "name")})
print(_json.dumps({"data": _data(), "device": _device(), "versions": {"python": _pl.python_version(), **{
    n: v for n in ("torch", "torchvision", "numpy", "matplotlib") if (v := _version(n))}}}))
"""

# Runs before the first cell, if it is to be told which functions of the library ran; WATCHED runs at the end.
WATCH = f"import sys as _sys; _sys.path.insert(0, {str(Path(__file__).resolve().parent)!r}); import watch as _watch_of_the_run; " \
    "_sys.path.pop(0); _watch_of_the_run.install()"
WATCHED = "print(_json.dumps(_watch_of_the_run.ran()))"


def smoke_values(source: str) -> str:
    "`epochs = 20  # smoke: 1` -> `epochs = 1`."
    return _smoke.sub(r"\1\4", source)


def is_parameters(cell) -> bool:
    return "parameters" in cell.metadata.get("tags", [])


def apply_smoke(nb) -> None:
    for cell in nb.cells:
        if cell.cell_type == "code" and is_parameters(cell): cell.source = smoke_values(cell.source)


def unfold(nb) -> None:
    "The code in a fold (a hidden solution) becomes a cell, where it stands: a reader will try it there."
    import nbformat
    cells = []
    for cell in nb.cells:
        cells.append(cell)
        if cell.cell_type != "markdown": continue
        folded = re.findall(r"```python\n(.*?)```", "".join(re.findall(r"<details.*?</details>", cell.source, re.S)), re.S)
        cells += [nbformat.v4.new_code_cell(code) for code in folded]
    nb.cells = cells


@contextlib.contextmanager
def kernel_environment(smoke: bool):
    "The checkout is importable, IPython keeps no history, and the data folder is found from another folder."
    new = {"PYTHONPATH": os.pathsep.join(filter(None, [str(stamps.ROOT), os.environ.get("PYTHONPATH")])),
           "PYDEVD_DISABLE_FILE_VALIDATION": "1", "TQDM_MININTERVAL": "1"}
    if data := os.environ.get("CAM_COURSE_DATA"): new["CAM_COURSE_DATA"] = str(Path(data).expanduser().resolve())
    if smoke: new["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "2")
    old = {k: os.environ.get(k) for k in [*new, "IPYTHONDIR"]}
    with tempfile.TemporaryDirectory(prefix="ipython-", ignore_cleanup_errors=True) as home:
        os.environ.update(new, IPYTHONDIR=home)
        try:
            yield Path(home)
        finally:
            for k, v in old.items():
                if v is None: os.environ.pop(k, None)
                else: os.environ[k] = v


def run(nb, cwd: Path, timeout: float, smoke: bool, watch: bool = False) -> dict:
    """Execute in place; returns what the probe saw, with `watch` also the functions of the library that ran. Raises
    nbclient's CellExecutionError with the failing cell."""
    import nbformat
    from nbclient import NotebookClient
    from traitlets.config import Config

    config = Config()
    first, probe = (nbformat.v4.new_code_cell(code) for code in (WATCH, PROBE + WATCHED*watch))
    nb.cells = [first]*watch + nb.cells + [probe]
    try:
        with kernel_environment(smoke) as home:
            if os.name == "posix":   # notebooks that run side by side never fight over a port
                config.KernelManager.update(transport="ipc", ip=str(home/"k"))
            NotebookClient(nb, timeout=timeout, kernel_name="python3", record_timing=False, store_widget_state=True,
                           resources={"metadata": {"path": str(cwd)}}, config=config).execute()
    finally:
        nb.cells = nb.cells[watch:-1]
    told = "".join(o.text for o in probe.outputs if o.output_type == "stream" and o.name == "stdout").splitlines()
    return json.loads(told[0]) | ({"ran": json.loads(told[1])} if watch else {})


def execute(path: Path, smoke: bool = False, cwd: Path | None = None, timeout: float | None = None, watch: bool = False):
    """Run one notebook and return it with tidied outputs and a stamp; the file is not touched. With `watch` the stamp also
    names the functions that its hash `missed`."""
    import nbformat

    path = Path(path)
    nb = nbformat.read(path, as_version=4)
    if smoke:
        apply_smoke(nb)
        unfold(nb)
    plain, sources = stamps.load(path), [c.source for c in nb.cells if c.cell_type == "code"]
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        if cwd is None:
            folder = tempfile.TemporaryDirectory(prefix=path.stem + "-", ignore_cleanup_errors=True)
            cwd = Path(stack.enter_context(folder))
        cwd.mkdir(parents=True, exist_ok=True)
        seen = run(nb, cwd.resolve(), timeout or (SMOKE_TIMEOUT if smoke else TIMEOUT), smoke, watch)
        outputs.tidy(nb, outputs.machine_scrubber(stamps.ROOT, cwd))
    if watch: seen["missed"] = stamps.missed(sources, seen.pop("ran"))
    nb.metadata[stamps.KEY] = {
        "code_hash": stamps.code_hash(plain), "library_hash": stamps.library_hash(plain), **seen,
        "date": datetime.now(UTC).date().isoformat(), "seconds": round(time.monotonic() - start, 1)}
    return nb


def write(nb, path: Path) -> None:
    "Write the notebook as nbdev_clean would, whole or not at all."
    import nbformat

    text = nbformat.writes(nb).rstrip("\n") + "\n"
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(fd, "w", encoding="utf-8") as f: f.write(text)
        os.chmod(name, path.stat().st_mode & 0o777)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def find(names: list[str]) -> list[Path]:
    "Notebooks by stem, path or pattern; ValueError that lists what exists."
    found = []
    for n in names:
        hits = [p for p in stamps.notebooks() if p.stem == Path(n).stem] or [Path(p) for p in sorted(glob.glob(n))]
        if not hits:
            raise ValueError(f"no notebook called {n!r}; there are: {', '.join(p.stem for p in stamps.notebooks())}")
        found += hits
    return list(dict.fromkeys(found))


def report_check(paths: list[Path] | None) -> int:
    problems = stamps.stale(paths)
    for _, message, tolerated in problems.values():
        print(("tolerated: " if tolerated else "STALE: ") + message)
    if not problems: print("all outputs are up to date")
    return int(any(not tolerated for *_, tolerated in problems.values()))


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("notebooks", nargs="*", help="stems, paths or patterns (default: the stale ones that are cheap)")
    p.add_argument("--smoke", action="store_true", help="run at smoke scale and throw the result away")
    p.add_argument("--watch", action="store_true", help="with --smoke: fail if a function runs that the notebook's hash misses")
    p.add_argument("--check", action="store_true", help="only list what is stale")
    p.add_argument("--cwd", type=Path, help="folder to run in (default: an empty temporary one)")
    p.add_argument("--timeout", type=float, help="seconds allowed per cell")
    args = p.parse_args(argv)
    try:
        paths = find(args.notebooks)
    except ValueError as e:
        p.error(str(e))
    if args.watch and not args.smoke: p.error("--watch is for smoke runs, which are thrown away")
    if args.check: return report_check(paths or None)
    if not paths:
        paths = stamps.notebooks() if args.smoke else [q for q in stamps.stale() if q.stem not in stamps.expensive()]
        if not paths: print("nothing to run: all outputs are up to date (name a notebook to run it all the same)")
    failed = 0
    for path in paths:
        start = time.monotonic()
        print(f"{path.stem} ...", end=" ", flush=True)
        try:
            nb = execute(path, args.smoke, args.cwd, args.timeout, args.watch)
        except Exception as e:
            text = str(e) if sys.stderr.isatty() else re.sub(r"\x1b\[[0-9;]*m", "", str(e))
            print(f"failed after {time.monotonic() - start:.1f} s (the file is unchanged)\n{text}", file=sys.stderr)
            return 1
        if not args.smoke: write(nb, path)
        print(f"{time.monotonic() - start:.1f} s" + (" (smoke)" if args.smoke else ""))
        if found := nb.metadata[stamps.KEY].get("missed"):
            print("its hash misses: " + ", ".join(found), file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
