"""The fresh run: the assignment's recipe at a small scale, trained through the command line when the site is built.

Trained again only if code that the command reaches has changed, or the command itself. The page
book/fresh_run.md shows the report.
"""
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import stamps

OUT = stamps.ROOT/"build"/"extra"/"fresh_run"
ARGS = ["train", "--recipe", "assignment", "--dataset", "shapes", "--width", "8", "--epochs", "5", "--n-train", "6000",
        "--n-test", "1000", "--batch-size", "32", "--device", "cpu"]
LIMIT = 1800   # seconds; it takes about a minute


def key() -> str:
    "Changes when the code behind the command, or the command, changes."
    code = stamps.reached(["from cam_course.__main__ import cli", f"cli({ARGS})"]).digest(stamps.ROOT/stamps.PACKAGE/"js")
    return hashlib.sha256("\0".join([*ARGS, code]).encode()).hexdigest()[:16]


def summary(folder: Path, seconds: float) -> dict:
    "What the page says above the report."
    config, env = (json.loads((folder/f"{n}.json").read_text(encoding="utf-8")) for n in ("config", "environment"))
    rows = (folder/"history.csv").read_text(encoding="utf-8").splitlines()
    last = dict(zip(rows[0].split(","), rows[-1].split(","), strict=True))
    return {"key": key(), "shown": {
        "command": "cam-course " + " ".join(ARGS),
        "made on": f"{env['date'].replace('T', ' ')[:16]}, {env['device']}, {seconds:.0f} s in all",
        "network": f"ResNet18 of width {config['width']}, {config['epochs']} epochs",
        "test accuracy": f"{float(last['test_accuracy']):.1%} of the images the network never saw"}}


def train(folder: Path) -> None:
    "Run the command as a user would; the checkout need not be installed."
    path = os.pathsep.join(filter(None, [str(stamps.ROOT), os.environ.get("PYTHONPATH")]))
    env = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": path}   # one thread is fast enough, and fair to others
    command = [sys.executable, "-c", "import sys; from cam_course.__main__ import cli; sys.exit(cli())",
               *ARGS, "--runs", str(folder), "--name", "fresh"]
    subprocess.run(command, cwd=folder, env=env, check=True, timeout=LIMIT)


def main() -> int:
    done = OUT/"summary.json"
    if done.exists() and json.loads(done.read_text(encoding="utf-8")).get("key") == key(): return 0
    print("fresh run: cam-course " + " ".join(ARGS), flush=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fresh-run-") as tmp:
        try:
            train(Path(tmp))
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as e:
            print(f"fresh run: {e}", file=sys.stderr)
            return 1
        shutil.rmtree(OUT, ignore_errors=True)
        OUT.mkdir(parents=True)
        shutil.copy(Path(tmp)/"fresh"/"report.html", OUT)
        text = json.dumps(summary(Path(tmp)/"fresh", time.monotonic() - start), indent=1)
        done.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
