"""Which lines and branches of the library do the tests execute? Writes tests/results/coverage.json (`make coverage`).

Counted is what runs inside pytest's own process: the tests that import the library, without `long` ones. The notebooks, which
call and check nearly all of the library too, run in processes of their own, as do the command line's and the packaging
tests: none of that is counted.
"""

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT/"book"))
import stamps  # noqa: E402

RESULTS = ROOT/"tests"/"results"/"coverage.json"


def summary(told: dict) -> dict:
    "Percentages of coverage.py's JSON report: in all, and by module."
    def shares(counts: dict) -> dict:
        lines, branches = counts["num_statements"], counts["num_branches"]
        return {"lines": lines, "lines_percent": round(100*counts["covered_lines"]/max(lines, 1), 1),
                "branches": branches, "branches_percent": round(100*counts["covered_branches"]/branches, 1) if branches else None}
    modules = {Path(name).relative_to("cam_course").as_posix(): shares(row["summary"]) for name, row in told["files"].items()}
    return shares(told["totals"]) | {"modules": dict(sorted(modules.items()))}


def importing() -> list[str]:
    "The test files that import the library, or a helper that does."
    found = re.compile(r"(?m)^\s*(?:from|import) cam(?:_course|s)\b")
    return sorted(str(p) for p in (ROOT/"tests").glob("test_*.py") if found.search(p.read_text(encoding="utf-8")))


def code() -> dict[str, str]:
    "Hashes of the library and of the tests that were run."
    return stamps.code_of([*stamps.modules(ROOT), *(f"tests/{Path(t).name}" for t in importing())])


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("tests", nargs="*", help="instead of all that import the library; nothing is written then")
    options.add_argument("-n", default="2", help="processes")
    o = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder)/"coverage.json"
        command = [sys.executable, "-m", "pytest", "-q", "-n", o.n, "--dist", "worksteal", "--cov=cam_course", "--cov-branch",
                   f"--cov-report=json:{report}", *(o.tests or importing())]
        code = subprocess.call(command, cwd=ROOT, env={**os.environ, "COVERAGE_FILE": f"{folder}/data"})
        if not report.exists(): return code or 1
        told = summary(json.loads(report.read_text()))
    print(f"{told['lines_percent']} % of {told['lines']:,} lines, {told['branches_percent']} % of {told['branches']:,} branches")
    if code == 0 and not o.tests:
        import torch
        stamp = {"made_by": "make coverage", "date": datetime.date.today().isoformat(), "python": sys.version.split()[0],
                 "torch": torch.__version__, "counted": "tests/ in pytest's process; not the notebooks, not other processes",
                 "code": code()}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(stamp | told, indent=1) + "\n", encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
