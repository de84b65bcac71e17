"""The fault table of the book: which faults are tried, by which tests, and what came of it.

    python tests/fault_table.py [PART ...]     # runs the tests of all parts (or of these) and writes tests/results/faults.json
    python tests/fault_table.py --fault "Disk full from"     # one row again, by the beginning of its name

The tests are run with CAM_COURSE_LONG=1. A fault counts as often as it was tried: once for each passed test, or as the test says
(`record_property("tried", n)`). test_fault_table.py holds the file against this list; a table that is older than the code says so.
"""
import ast
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent/"book"))
import stamps  # noqa: E402

RESULTS = HERE/"results"/"faults.json"


@dataclass(frozen=True)
class Fault:
    part: str
    name: str  # what goes wrong
    outcome: str  # what then happens; "nothing lost" is what the tests check besides
    tests: tuple[str, ...]  # beginnings of test names, "file::function[parameters"


CODE = {  # what each part is about: modules, or functions of a module that does much else
    "Runs": ["base.core", "base.checkpoints", "training", "app.trainer", "app.report",
             "app.main:run,_make_folder,_find_folder,_begin,_train,_how_to_go_on,"
             "resume_run,_is_finished,_load_finished,_write_figures", "__main__:cli,_sigterm_interrupts"],
    "Data": ["base.core:atomic_write", "base.cifar10"],
    "Other people's files": ["base.cifar10", "base.checkpoints", "app.report"],
    "Several processes": ["app.trainer", "app.main:_together,_begin,_train,_how_to_go_on", "__main__:cli"],
}
F, FF, FP, C, M = (f"test_{n}.py::test_" for n in ("faults", "faults_files", "faults_processes", "data_cifar10", "main"))
GOES_ON = "goes on, and ends bit for bit as if undisturbed"
FAULTS = (
    Fault("Runs", "Killed at each point where a training writes, renames or removes a file", GOES_ON,
          (f"{F}killed_where_it_writes[train]",)),
    Fault("Runs", "Killed at each such point of report and hand-in", "made again, the same", (f"{F}killed_where_it_writes[report]",)),
    Fault("Runs", "Killed at random moments of training, caching and report", GOES_ON, (f"{F}killed_at_random_moments",)),
    Fault("Runs", "Killed with other recipes (averaged weights, plateau and cosine schedules, bf16, whitened net)", GOES_ON,
          (f"{F}every_recipe_goes_on",)),
    Fault("Runs", "Stopped with a loss scaler at work", GOES_ON, (f"{F}what_a_loss_scaler",)),
    Fault("Runs", "SIGTERM or Ctrl-C: during a step, an evaluation, at points where files are written",
          "saves, names the command that goes on, ends with status 143 or 130; " + GOES_ON, (f"{F}asked_to_stop", f"{M}sigterm_saves")),
    Fault("Runs", "Disk full from any such point on (simulated)", "one line, status 1, no half-written file; " + GOES_ON,
          (f"{F}disk_full_where_it_writes",)),
    Fault("Runs", "Disk full (a real one of 600 kB)", "one line, status 1, the checkpoints before are whole", (f"{M}a_full_disk",)),
    Fault("Runs", "Newest checkpoint torn, edited or replaced", "reported, the one before is used; " + GOES_ON,
          (f"{F}newest_checkpoint_damaged",)),
    Fault("Runs", "All checkpoints damaged, or of another training", "refused; nothing is changed",
          (f"{F}all_checkpoints_damaged", f"{F}a_checkpoint_of_another")),
    Fault("Runs", "Weights of a finished run torn, edited or replaced", "reported, taken from the last checkpoint",
          (f"{F}weights_of_a_finished_run",)),
    Fault("Runs", "Folder taken by another process", "refused, naming the process; a killed process leaves no lock",
          (f"{F}a_folder_that_another", f"{F}the_same_name_twice")),
    Fault("Runs", "Folder not writable", "refused before the first step; goes on later", (f"{F}a_folder_that_can_not",)),
    Fault("Data", "Killed at each point where a cache is written", "made again, the same pixels; a temporary file may stay",
          (f"{F}killed_where_it_writes[cache]",)),
    Fault("Data", "Transfer cut, or other bytes than wanted from a server", "refused, nothing kept; the next source is asked",
          (f"{C}a_download_that_is_cut", f"{C}mirror_where_the_hub_fails")),
    Fault("Data", "Archive or batch with another hash, or missing", "not opened; named, with the remedy",
          (f"{C}nothing_with_another_hash", f"{C}half_of_the_batches")),
    Fault("Data", "Torn parquet, or table of another kind", "named, with the remedy",
          (f"{C}torn_parquet", f"{C}tables_of_another_kind", f"{C}fuzzed_parquet")),
    Fault("Data", "Corrupt image, a picture bomb", "its row is named", (f"{C}corrupt_image",)),
    Fault("Data", "Several processes build a cache at once, one is killed", "all get the same pixels", (f"{C}two_processes",)),
    Fault("Data", "Damaged cache", "built anew", (f"{C}damaged_arrays", f"{C}damaged_and_copied_caches")),
    Fault("Data", "Disk full or read-only while downloading or caching", "said; training goes on without a cache where it can",
          (f"{C}a_full_disk", f"{C}a_place_that_can_not", f"{C}a_file_that_may_not")),
    Fault("Other people's files", "Malicious pickle as batch, checkpoint or weights", "refused, not run",
          (f"{C}nothing_with_another_hash", f"{FF}evil_weights", "test_checkpoint.py::test_a_pickle_is_refused")),
    Fault("Other people's files", "Markup and formulas in class names, file names, settings", "shown as they are, run nowhere",
          (f"{FF}names_are_shown", f"{FF}strings_of_a_config")),
    Fault("Other people's files", "Damaged or hostile config, history, log", "one line naming the folder", (f"{FF}a_damaged_run",)),
    Fault("Several processes", "One of two processes killed or asked to stop", "all end, with the command that goes on; " + GOES_ON,
          (f"{FP}one_of_two_is_killed",)),
)


def run_tests(faults: list[Fault]) -> list[tuple[str, int, bool]]:
    "(test, times tried, passed) of every test that belongs to one of `faults`; skipped tests are left out."
    ids = []
    for test in sorted({t for f in faults for t in f.tests}):
        file, _, name = test.partition("::")
        functions = (n.name for n in ast.walk(ast.parse((HERE/file).read_text(encoding="utf-8"))) if isinstance(n, ast.FunctionDef))
        ids += [f"{HERE/file}::{n if '[' not in name else name}" for n in functions if n.startswith(name.split("[")[0])]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)/"junit.xml"
        env = {**os.environ, "OMP_NUM_THREADS": "1", "CAM_COURSE_LONG": "1"}
        subprocess.run([sys.executable, "-m", "pytest", "-q", *ids, f"--junitxml={out}"], env=env, cwd=HERE.parent)
        done = []
        for case in ET.parse(out).iter("testcase"):
            if case.find("skipped") is not None:
                continue
            tried = [p.get("value") for p in case.iter("property") if p.get("name") == "tried"]
            name = f"{case.get('classname').split('.')[-1]}.py::{case.get('name')}"
            done.append((name, int(tried[0]) if tried else 1, case.find("failure") is None and case.find("error") is None))
    return done


def main(parts: list[str]) -> int:
    sys.path.insert(0, str(HERE.parent))
    from cam_course.base.core import environment

    one = parts[1] if parts[:1] == ["--fault"] else ""
    if one:
        parts = sorted({f.part for f in FAULTS if f.name.startswith(one)})
    unknown = [p for p in parts if p not in CODE]
    if unknown:
        raise SystemExit(f"no part {unknown[0]!r}: choose from {', '.join(map(repr, CODE))}")
    for part in parts or CODE:
        code = stamps.code_of(CODE[part])
        faults = [f for f in FAULTS if f.part == part and f.name.startswith(one)]
        done = run_tests(faults)
        rows = []
        for f in faults:
            mine = [d for d in done if d[0].startswith(f.tests)]
            rows.append({**asdict(f), "tried": sum(n for _, n, _ in mine), "right": sum(n for _, n, ok in mine if ok)})
        env = environment()
        found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"parts": {}}
        if one:  # the others stay, if the code is still theirs
            changed = stamps.changed_since(found["parts"][part]["code"])
            assert not changed, f"the code has changed since ({', '.join(changed)}): run python tests/fault_table.py {part!r}"
            rows = [next((r for r in rows if r["name"] == old["name"]), old) for old in found["parts"][part]["rows"]]
        found["parts"][part] = {"code": code, "rows": rows,
                                "stamp": {k: env[k] for k in ("date", "device", "system", "python", "torch", "commit") if k in env}}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    wrong = [r for p in found["parts"].values() for r in p["rows"] if not r["tried"] or r["right"] < r["tried"]]
    for row in wrong:
        print(f"{row['part']}: {row['name']}: {row['right']} of {row['tried']}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
