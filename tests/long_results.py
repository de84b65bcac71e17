"""What became of the tests marked `long`: `make test-long` writes it to tests/results/long.json, a row for each file of tests.

A row has a stamp of its own, since the files may be run one by one (`make test-long ONLY=tests/test_pdf.py`), and hashes of
the code that it is about.
"""

import json
from pathlib import Path
from typing import Any

import stamps

RESULTS = Path(__file__).resolve().parent/"results"/"long.json"


def code(name: str, root: Path = stamps.ROOT) -> dict[str, str]:
    """Hashes of a file of tests and of the modules that it imports. One that imports none is about the whole: the site, the
    wheel, other versions of what the library needs."""
    modules = stamps.modules_behind((root/"tests"/name).read_text(encoding="utf-8"), root)
    return stamps.code_of([f"tests/{name}", *(modules or ["cam_course", "book", "nbs"])], root)


class Recorder:
    "A pytest plugin: counts the long tests that ran, by file, and writes the rows when the run is over."

    def __init__(self, path: Path = RESULTS) -> None:
        self.path, self.rows = path, {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        if "long" not in report.keywords: return
        new = {"passed": 0, "failed": [], "skipped": {}, "seconds": 0.0}
        row = self.rows.setdefault(Path(report.nodeid.partition("::")[0]).name, new)
        row["seconds"] += report.duration
        name = report.nodeid.partition("::")[2]
        if report.failed and name not in row["failed"]: row["failed"].append(name)
        elif report.skipped: row["skipped"][name] = report.longrepr[2] if isinstance(report.longrepr, tuple) else "xfail"
        elif report.when == "call" and report.passed: row["passed"] += 1

    def pytest_sessionfinish(self) -> None:
        from cam_course.base.core import environment
        if not self.rows: return
        old = json.loads(self.path.read_text(encoding="utf-8"))["files"] if self.path.exists() else {}
        for name, row in self.rows.items():
            row |= {"seconds": round(row["seconds"]), "stamp": environment(), "code": code(name, self.path.parents[2])}
        files = {k: v for k, v in sorted({**old, **self.rows}.items()) if (self.path.parents[1]/k).exists()}
        told = json.dumps({"made_by": "make test-long", "files": files}, indent=1) + "\n"
        self.path.write_text(told, encoding="utf-8")
