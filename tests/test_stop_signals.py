"""The first signal saves and leaves at the next step, the second ends at once, also where a step hangs in foreign code."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from cam_course.app.trainer import Interrupted, Trainer, last_resort, stop_signals
from cam_course.base.checkpoints import Checkpoints
from cam_course.data import shapes

posix = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
STOPS = [signal.SIGINT, signal.SIGTERM]

TRAINING = """
import ctypes, sys, torch
from torch import nn
from cam_course.data import shapes
from cam_course.app.trainer import Interrupted, Trainer

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.steps = nn.Linear(3072, 10), 0

    def forward(self, x):
        self.steps += 1
        if self.steps == 3:
            print("in the step", flush=True)
            if sys.argv[1] == "hangs":   # in code that isn't Python, and isn't woken by signals: as oneDNN did
                libc, lock = ctypes.CDLL(None), ctypes.create_string_buffer(64)
                libc.pthread_mutex_lock(lock), libc.pthread_mutex_lock(lock)
            while sys.argv[1] == "is long": pass
        return self.fc(x.flatten(1))

net, data = Net(), shapes(64, seed=0)
trainer = Trainer(net, data, data, torch.optim.SGD(net.parameters(), lr=.1), batch_size=8, device="cpu", run_dir=sys.argv[2])
try:
    trainer.fit()
except Interrupted as stopped:
    print(stopped, flush=True)
    sys.exit(7)
"""


@contextlib.contextmanager
def training(how: str, folder: Path, program: str = TRAINING, **env: str):
    "A program that has come to where it hangs."
    code = [sys.executable, "-c", program, how, str(folder)]
    with subprocess.Popen(code, stdout=subprocess.PIPE, text=True, env={**os.environ, **env}) as process:
        try:
            while process.stdout.readline().strip() != "in the step": assert process.poll() is None
            yield process
        finally:
            process.kill()


def stop(process, number: int, wait: float) -> int | None:
    "Send a signal; the exit status if the process ends within `wait` s, else None."
    process.send_signal(number)
    with contextlib.suppress(subprocess.TimeoutExpired): return process.wait(wait)
    return None


@posix
@pytest.mark.parametrize("second", STOPS, ids=lambda s: s.name)
def test_a_hung_step_ends_at_the_second_signal(tmp_path, second):
    with training("hangs", tmp_path) as process:
        assert stop(process, signal.SIGINT, 1) is None, "the first one waits for the step"
        assert stop(process, second, 20) == 128 + second


@posix
def test_a_long_step_ends_at_the_second_signal_with_what_asked(tmp_path):
    with training("is long", tmp_path) as process:
        assert stop(process, signal.SIGTERM, 1) is None
        assert stop(process, signal.SIGTERM, 20) == 7
        assert "stopped at once by a second SIGTERM" in process.stdout.read()


@posix
def test_a_launcher_follows_a_ctrl_c_with_a_sigterm(tmp_path):
    "Under torch's launcher that is no second request: there the same signal has to come twice."
    with training("hangs", tmp_path, TORCHELASTIC_RUN_ID="none") as process:
        assert stop(process, signal.SIGINT, 0.5) is None and stop(process, signal.SIGTERM, 3) is None
        assert stop(process, signal.SIGINT, 20) == 128 + signal.SIGINT


HANGS = """
import ctypes, sys, threading
from cam_course import __main__ as command
from cam_course.app import main

def stuck(*_, **__):
    threading.Timer(0.5, lambda: print("in the step", flush=True)).start()   # it is in there by then
    libc, lock = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(lock), libc.pthread_mutex_lock(lock)

main.load_images = stuck
command.cli(["train", "--dataset", "shapes", "--runs", sys.argv[2]])
"""


@posix
def test_the_command_line_ends_at_the_second_signal_wherever_it_hangs(tmp_path):
    with training("hangs", tmp_path, HANGS) as process:
        assert stop(process, signal.SIGTERM, 1) is None and stop(process, signal.SIGTERM, 20) == 128 + signal.SIGTERM


class Signals(nn.Module):
    "A net that sends this process a signal in its third step."

    def __init__(self):
        super().__init__()
        self.fc, self.steps = nn.Linear(3072, 10), 0

    def forward(self, x):
        self.steps += self.training
        if self.steps == 3: signal.raise_signal(signal.SIGINT)
        return self.fc(x.flatten(1))


def test_the_first_signal_saves_after_its_step(tmp_path):
    net, data = Signals(), shapes(64, seed=0)
    optimizer = torch.optim.SGD(net.parameters(), lr=.1)
    trainer = Trainer(net, data, data, optimizer, batch_size=8, device="cpu", run_dir=tmp_path, progress=False)
    with pytest.raises(Interrupted, match="stopped by SIGINT after step 3; resume from"): trainer.fit()
    assert Checkpoints(tmp_path/"checkpoints").latest()["step"] == 3


def test_handlers_are_as_before():
    before = [signal.getsignal(n) for n in STOPS]
    ours, threads = lambda *_: None, threading.active_count()
    signal.signal(signal.SIGTERM, ours)
    try:
        with stop_signals() as received:
            signal.raise_signal(signal.SIGTERM)
            assert received == [signal.SIGTERM]
            with pytest.raises(Interrupted, match="a second SIGINT"): signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before[1])
    assert [signal.getsignal(n) for n in STOPS] == before and threading.active_count() == threads
    assert signal.set_wakeup_fd(-1) == -1


def test_another_thread_may_train():
    found = []

    def body():
        with stop_signals() as received: found.append(received)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert found == [[]]


def test_one_inside_the_other():
    "The command line's covers a training's own."
    with last_resort():
        outer = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(outer)
        with stop_signals(): assert threading.active_count() >= 3
        assert signal.set_wakeup_fd(outer) == outer != -1
    assert signal.set_wakeup_fd(-1) == -1
