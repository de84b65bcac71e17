"A training from the command line learns what it should: `shapes` in three epochs, real images in two."

import csv
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cam_course.base.core import resolve_precision

pytestmark = pytest.mark.long

JPEG_COPY = Path(__file__).resolve().parents[2] / "shared" / "cifar10-jpeg"


def train(cwd: Path, *args: str, **env: str) -> tuple[Path, float]:
    "Run `cam-course train` in `cwd`; the run folder and the seconds it took."
    code = "import sys; from cam_course.__main__ import cli; sys.exit(cli())"
    command = [sys.executable, "-c", code, "train", *args, "--name", "run"]
    threads = {"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)))}
    start = time.perf_counter()
    cwd.mkdir(exist_ok=True)
    subprocess.run(command, cwd=cwd, env={**os.environ, **threads, **env}, check=True, capture_output=True, text=True)
    return cwd / "runs" / "run", time.perf_counter() - start


def last_row(folder: Path) -> dict[str, float]:
    with open(folder / "history.csv", encoding="utf-8", newline="") as file:
        return {k: float(v) for k, v in list(csv.DictReader(file))[-1].items()}


def test_shapes_are_learned_in_three_epochs(tmp_path):
    folder, seconds = train(tmp_path, "--dataset", "shapes", "--width", "16", "--epochs", "3")
    accuracy = last_row(folder)["test_accuracy"]
    assert 0.70 <= accuracy <= 0.95, f"test accuracy {accuracy:.1%}"
    assert seconds < 180, f"{seconds:.0f} s"
    assert (folder / "figures" / "gradcam.png").exists() and (folder / "report.html").exists()


@pytest.mark.skipif(not JPEG_COPY.is_dir(), reason="needs the JPEG copy of CIFAR-10 beside the checkout")
def test_two_epochs_on_real_images(tmp_path):
    "The plain reference loop reached 52 % after two of its twenty epochs; a run of two alone gets further."
    env = {"CAM_COURSE_DATA": str(JPEG_COPY), "CAM_COURSE_CACHE": str(tmp_path / "cache")}
    folder, _ = train(tmp_path, "--width", "16", "--epochs", "2", **env)
    assert last_row(folder)["test_accuracy"] > 0.52


@pytest.mark.skipif(resolve_precision("auto", torch.device("cpu")).format != "bf16", reason="this processor would take hours for bf16")
@pytest.mark.skipif(not JPEG_COPY.is_dir(), reason="needs the JPEG copy of CIFAR-10 beside the checkout")
def test_bf16_learns_as_well_as_fp32(tmp_path):
    "Five seeds of a short training in each format: the means differ by less than fp32's seeds do among themselves."
    env = {"CAM_COURSE_DATA": str(JPEG_COPY), "CAM_COURSE_CACHE": str(tmp_path / "cache")}
    short = ["--width", "16", "--epochs", "5", "--n-train", "10000"]
    found = {
        kind: [last_row(train(tmp_path / f"{kind}{seed}", *short, "--seed", str(seed), "--precision", kind, **env)[0])["test_accuracy"]
               for seed in range(5)]
        for kind in ("fp32", "bf16")
    }
    print({kind: [f"{a:.2%}" for a in each] for kind, each in found.items()})
    assert abs(statistics.mean(found["bf16"]) - statistics.mean(found["fp32"])) <= statistics.stdev(found["fp32"]), found
