"The workflows for the public forge: valid, with the least permissions, and with what they promise."

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT/".github"/"workflows").glob("*.yml"))


def load(path: Path) -> dict:
    text = path.read_text(encoding="utf-8")
    return yaml.safe_load(text) | {"on": yaml.safe_load(text)[True]}  # YAML 1.1 reads the key `on` as true


def test_schema():
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", *map(str, FILES)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert len(FILES) == 2 and done.returncode == 0, done.stdout + done.stderr


def zizmor(folder: Path) -> subprocess.CompletedProcess:
    "The security linter for workflows, which needs no network for this."
    program = Path(sys.executable).with_name("zizmor")
    return subprocess.run([program, "--offline", "--persona", "pedantic", "--no-progress", folder], capture_output=True, text=True)


def test_no_security_finding(tmp_path):
    done = zizmor(ROOT/".github"/"workflows")
    assert done.returncode == 0 and "No findings" in done.stdout + done.stderr, done.stdout + done.stderr
    bad = (ROOT/".github"/"workflows"/"docs.yml").read_text().replace("permissions:\n  contents: read\n", "permissions: write-all\n")
    (tmp_path/"bad.yml").write_text(bad)
    assert "excessive-permissions" in zizmor(tmp_path/"bad.yml").stdout


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_house_rules(path):
    "Read-only unless a job says why, pinned actions, time limits, one run at a time."
    flow = load(path)
    assert flow["permissions"] == {"contents": "read"} and "concurrency" in flow
    for name, job in flow["jobs"].items():
        assert 0 < job["timeout-minutes"] <= 60 and job["runs-on"] != "ubuntu-latest", name
        assert set(job.get("permissions", {})) <= {"pages", "id-token"}, name
        for step in job["steps"]:
            if "uses" in step: assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"]), step
            if "checkout" in step.get("uses", ""): assert step["with"]["persist-credentials"] is False
    lines = [line for line in path.read_text().splitlines() if "uses:" in line]
    assert all(re.search(r"  # v\d+\.\d+\.\d+$", line) for line in lines)  # a hash alone says nothing to a reader


def test_the_matrix_covers_what_is_promised():
    flow = load(ROOT/".github"/"workflows"/"tests.yml")
    matrix = flow["jobs"]["library"]["strategy"]["matrix"]
    assert matrix["python"] == ["3.11", "3.12", "3.13"] and matrix["versions"] == ["newest"]
    assert matrix["os"] == ["ubuntu-24.04"] and matrix["isa"] == ["DEFAULT"]
    more = {(m["python"], m["versions"], m["os"].split("-")[0], m["isa"]) for m in matrix["include"]}
    for python, versions in (("3.11", "lowest"), ("3.12", "torch-2.6"), ("3.13", "torch-2.6")):
        assert (python, versions, "ubuntu", "DEFAULT") in more
    for os, isa in (("ubuntu", "AVX2"), ("macos", "DEFAULT"), ("windows", "DEFAULT"), ("windows", "AVX2")):
        assert any(m[2:] == (os, isa) for m in more), f"no job on {os} with {isa}"
    for job in ("library", "all"): assert flow["jobs"][job]["env"] == {"ONEDNN_MAX_CPU_ISA": "${{ matrix.isa }}"}
    assert flow["jobs"]["all"]["strategy"]["matrix"]["isa"] == ["DEFAULT", "AVX2"]
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", flow["on"]["schedule"][0]["cron"])  # weekly, and the library job runs then
    assert "if" not in flow["jobs"]["library"] and "schedule" in flow["jobs"]["all"]["if"]


def test_commands_exist():
    "What the workflows run is here: targets of the Makefile, scripts, folders."
    text = "".join(path.read_text() for path in FILES)
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT/"Makefile").read_text(), flags=re.M))
    made = set(re.findall(r"run: make ([a-z-]+)", text))
    assert made == {"test", "site"} and made <= targets
    scripts = set(re.findall(r"python (\S+\.py)", text))
    assert scripts == {"tests/versions.py"} and all((ROOT/s).exists() for s in scripts)
