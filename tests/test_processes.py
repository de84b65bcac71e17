"""Two processes under `accelerate launch` (gloo, on the CPU) train as one does: the split of a batch is no matter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent


def launch(processes: int, folder: Path, *command: object) -> subprocess.CompletedProcess:
    start = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes), "--num_machines", "1",
             "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"] if processes > 1 else []
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent), "HF_HOME": str(folder)}
    return subprocess.run([sys.executable, *start, *map(str, command)], env=env, timeout=400, capture_output=True,
                          text=True, check=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[tuple[int, str], dict]:
    "What one process and two made, with each normalization."
    folder, made = tmp_path_factory.mktemp("processes"), {}
    for processes in (1, 2):
        done = launch(processes, folder, HERE/"two_processes.py", folder/str(processes))
        assert done.returncode == 0, done.stderr[-3000:]
        for norm in ("group", "batch"): made[processes, norm] = torch.load(folder/str(processes)/f"{norm}.pt", weights_only=True)
    return made


def difference(a: dict, b: dict) -> float:
    weights = [k for k, v in a["model"].items() if "running" not in k and v.is_floating_point()]
    return max((a["model"][k] - b["model"][k]).abs().max().item() for k in weights)


def test_two_processes_equal_one(trained):
    """Exactly, with a normalization of single samples. Batch norm takes each process's half of the batch for the whole:
    its statistics, and so the weights, are others (as everywhere with DistributedDataParallel; see the chapter on the trainer)."""
    for norm in ("group", "batch"):
        one, two = (trained[n, norm] for n in (1, 2))
        assert (one["processes"], two["processes"], one["step"], two["step"]) == (1, 2, 50, 50)
        found = difference(one, two)
        losses = [abs(a["train_loss"] - b["train_loss"]) for a, b in zip(one["history"], two["history"], strict=True)]
        print(f"{norm}: largest difference of a weight {found:.1e}, of an epoch's training loss {max(losses):.1e}")
        if norm == "group":
            assert found < 1e-6 and max(losses) < 1e-6
        else:
            assert found > 1e-3 and max(losses) < 0.2


def test_the_command_line_in_two_processes(tmp_path):
    "One run folder, one log; a refusal reaches both processes and is no traceback."
    command = Path(sys.executable).with_name("cam-course")
    args = ["train", "--dataset", "shapes", "--n-train", "256", "--n-test", "50", "--width", "2", "--epochs", "1",
            "--batch-size", "64", "--device", "cpu", "--gallery", "2", "--runs", tmp_path/"runs", "--name", "two"]
    done = launch(2, tmp_path, command, *args)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("run folder:") == 1 and [p.name for p in (tmp_path/"runs").iterdir()] == ["two"]
    assert (tmp_path/"runs"/"two"/"report.html").exists()
    again = launch(2, tmp_path, command, *args)
    assert again.returncode != 0 and "run folder" in again.stderr and "exists" in again.stderr
    assert "in _make_folder" not in again.stderr
