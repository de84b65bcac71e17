"The tests that `make test` leaves out: that each of their files has its last results, and how these are written down."

import json
from pathlib import Path

import long_results
import pytest
import stamps
from book_faults import long_html

HERE = Path(__file__).resolve().parent
TRIAL = """
import pytest
@pytest.mark.long
@pytest.mark.parametrize("k", range(3))
def test_numbers(k): assert k < 2
@pytest.mark.long
@pytest.mark.skipif(True, reason="no <reason>")
def test_never(): pass
@pytest.fixture
def broken(): raise OSError("no fixture")
@pytest.mark.long
def test_fixture(broken): pass
def test_short(): pass
"""


def test_every_file_with_long_tests_has_its_last_results():
    mark = ("pytest.mark.long", "marks=long", "@long")
    files = {p.name for p in HERE.glob("test_*.py") if any(m in p.read_text(encoding="utf-8") for m in mark)}
    files -= {Path(__file__).name, "test_faults.py"}   # the fault table has those
    rows = json.loads(long_results.RESULTS.read_text(encoding="utf-8"))["files"]
    assert len(files) >= 8 and files <= set(rows), "run `make test-long ONLY=tests/...` for " + ", ".join(sorted(files - set(rows)))
    for name, row in rows.items():
        assert row["passed"] and row["seconds"] and {"date", "commit", "torch"} <= set(row["stamp"]), name
        assert row["failed"] == [], f"{name} failed when it was last run: {row['failed']}"


def test_a_run_is_written_down(tmp_path, monkeypatch):
    (tmp_path/"tests"/"results").mkdir(parents=True)
    trial, path = tmp_path/"tests"/"test_trial.py", tmp_path/"tests"/"results"/"long.json"
    trial.write_text(TRIAL, encoding="utf-8")
    (tmp_path/"tests"/"test_kept.py").touch()
    path.write_text(json.dumps({"files": {"test_kept.py": {"passed": 1}, "test_gone.py": {"passed": 1}}}), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore", "--rootdir", str(tmp_path), str(trial)]
    code = pytest.main(options, plugins=[long_results.Recorder(path)])
    files = json.loads(path.read_text(encoding="utf-8"))["files"]
    assert code == pytest.ExitCode.TESTS_FAILED and set(files) == {"test_kept.py", "test_trial.py"}
    row = files["test_trial.py"]
    assert row["passed"] == 2 and row["failed"] == ["test_numbers[2]", "test_fixture"]
    assert row["skipped"] == {"test_never": "Skipped: no <reason>"} and row["stamp"]["date"]
    assert list(row["code"]) == ["tests/test_trial.py", "cam_course", "book", "nbs"]
    assert stamps.changed_since(row["code"], tmp_path) == []
    trial.write_text(TRIAL.replace("k < 2", "k < 3"), encoding="utf-8")
    assert stamps.changed_since(row["code"], tmp_path) == ["tests/test_trial.py"]


def test_the_page_says_what_failed(tmp_path):
    (tmp_path/"test_a.py").write_text('"Holds to <this>."\n', encoding="utf-8")
    stamp = {"date": "2026-01-02 03:04:05"}
    row = {"passed": 1234, "failed": ["test_x"], "skipped": {"test_y": "no GPU"}, "seconds": 600, "stamp": stamp, "code": {}}
    page = long_html({"test_a.py": row}, tmp_path)
    assert "Holds to &lt;this&gt;." in page and "1,234" in page and "10 min" in page and "2026-01-02<" in page
    assert "<strong>1 failed</strong>, 1 left out" in page and "all passed" not in page
    assert "all passed<" in long_html({"test_a.py": row | {"failed": [], "skipped": {}}}, tmp_path)
    assert "The code has changed" not in page
    assert "changed since: core, main.run." in long_html({"test_a.py": row | {"code": {"core": "x", "main:run": "y"}}}, tmp_path)
