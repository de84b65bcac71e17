"""What the recipe `quick` reaches, and in how many seconds from the command to the report: three seeds.

    CAM_COURSE_DATA=... python tests/bench/bench_quick.py [--seeds 3]

Needs CIFAR-10; says which copy it was. Nothing else should run on the machine.
"""
import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pairs


def train(seed: int, folder: Path) -> dict:
    "One training through the command line: accuracy of the last epoch, with and without mirror images, seconds."
    code = "import sys; from cam_course.__main__ import cli; sys.exit(cli())"
    args = ["train", "--recipe", "quick", "--seed", str(seed), "--runs", str(folder), "--name", f"quick-{seed}"]
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *args], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    with open(folder/f"quick-{seed}"/"history.csv", newline="", encoding="utf-8") as file:
        last = list(csv.DictReader(file))[-1]
    found = {"seed": seed, "seconds": round(seconds, 1), "epochs": int(last["epoch"])}
    found |= {name: float(last[name]) for name in ("test_accuracy", "tta_accuracy")}
    print(found, flush=True)
    return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args(argv)
    from cam_course.data import load_cifar10
    data = load_cifar10(split="test").name  # also fills the cache, which is not the training's cost
    with tempfile.TemporaryDirectory() as folder:
        runs = [train(seed, Path(folder)) for seed in range(args.seeds)]
    for name in ("test_accuracy", "tta_accuracy", "seconds"):
        values = [run[name] for run in runs]
        print(f"{name}: {statistics.mean(values):.4g} ± {statistics.stdev(values) if len(values) > 1 else 0:.2g}")
    pairs.write("quick", [], runs=runs, data=data, threads_asked=os.environ.get("OMP_NUM_THREADS", "all"))


if __name__ == "__main__":
    main()
