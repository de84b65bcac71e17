"""Stop a program at every point where it writes, and see what is left: the harness of test_faults.py.

    python tests/faults.py JOB WAY [--points N] [--moments N] [--seed S] [--out FILE.json]

JOB is `cache` (download, check, decode, keep CIFAR-10), `train` (a whole run by the command line, report and all) or `report`
(report.html and the hand-in of a finished run). WAY is `kill` (SIGKILL and os._exit in turn), `full` (from that point on the disk
is full), `term` (SIGTERM) or `interrupt` (Ctrl-C). Every trial runs in a child of a parent that has imported everything already. An
audit hook in the child counts the points: each file opened for writing, each fsync (before a kill half of the file's content is
cut off), each rename, removal and new folder. After the fault every file that has its final name must be whole; then the same
command is given again, and the end must be that of an undisturbed run, bit for bit, except for times of day and durations.
"""
import argparse
import contextlib
import errno
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from faults_left import differences, fingerprint, torn

os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

SMALL = ["--dataset", "shapes", "--n-train", "48", "--n-test", "30", "--epochs", "2", "--batch-size", "16", "--width", "2",
         "--gallery", "2", "--device", "cpu", "--checkpoint-seconds", "0", "--runs", "runs", "--name", "a", "--resume"]
RECIPES = {
    "assignment": [],
    "eva_s8": ["--recipe", "eva_s8", "--held-out", "0.3"],
    "quick": ["--recipe", "quick"],
    "averaged": ["--ema-decay", "0.9", "--optimizer", "adamw", "--max-lr", "0.01", "--scheduler", "cosine", "--clip-norm", "1"],
    "bf16": ["--precision", "bf16", "--optimizer", "rmsprop", "--max-lr", "0.01", "--scheduler", "step"],
}


# ---- what the child does


def cache(box: Path) -> int:
    "CIFAR-10's stand-in from a server on this machine into an empty cache, both splits."
    from cam_course.base.cifar10 import cifar10_arrays

    world = json.loads((box.parent/"world.json").read_text())
    for name in ("HUB", "MIRROR", "TORONTO"):
        os.environ[f"CAM_COURSE_{name}"] = world["address"]
    os.environ.update(CAM_COURSE_CACHE=str(box/"cache"), NO_PROXY="127.0.0.1", HOME=str(box))
    os.environ.pop("CAM_COURSE_DATA", None)
    found = {}
    for split, source in (("train", "hub"), ("test", "mirror")):
        try:
            x, y, _ = cifar10_arrays(source=source, split=split, progress=False)
        except OSError as error:  # as the command line says it
            print(f"cam-course: failed: {error}")
            return 1
        found[split] = hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()
    print("pixels", json.dumps(found))
    return 0


def train(box: Path, recipe: str = "assignment") -> int:
    from cam_course.__main__ import cli

    return cli(["train", *SMALL, *RECIPES[recipe]])


def report(box: Path) -> int:
    "The report and the hand-in of a finished run, which is put there before the points are counted."
    from cam_course.__main__ import cli

    finished = (box/"handin"/"README.md").exists()  # a second time it would be refused, rightly
    return cli(["report", "runs/a", *([] if finished else ["--submission", "handin"])])


JOBS: dict[str, Callable[..., int]] = {"cache": cache, "train": train, "report": report}
STANDIN: dict = {}


def warm() -> None:
    "Import and draw once, so that children begin at once. Nothing is differentiated: autograd's threads don't survive a fork."
    import matplotlib
    import pooch
    import pyarrow.parquet
    import pytorch_grad_cam
    import tensorboard.backend.event_processing.event_accumulator
    import torch
    import torch.utils.tensorboard
    import torchvision.datasets
    import torchvision.models
    import tyro
    from accelerate import Accelerator
    from PIL import Image

    import cam_course.__main__
    import cam_course.app.report
    from cam_course.training import History

    assert all((matplotlib, pooch, pyarrow, pytorch_grad_cam, tensorboard, torchvision, tyro, Accelerator, Image))
    torch.set_num_threads(1)
    names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    with tempfile.TemporaryDirectory() as folder:
        rows = History([{"epoch": 1, "step": 1, **dict.fromkeys(names, 0.5)}])
        cam_course.app.report.save_figures(folder, {"curves": cam_course.app.report.plot_curves(rows)})


# ---- the points


class Points:
    "An audit hook that counts what this process is about to write below `box`, and does `act` at the point `at`."

    def __init__(self, box: Path, at: int, act: Callable[[str], None] | None):
        self.root, self.at, self.act, self.seen = str(box), at, act, []
        self.inside = self.done = False
        self.synced, os.fsync = os.fsync, self.sync
        sys.addaudithook(self.hook)

    def hook(self, event: str, args: tuple) -> None:
        if event == "open":
            path, mode, flags = args
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and isinstance(path, str | bytes | os.PathLike):
                self.point("open", path)
        elif event in ("os.rename", "os.mkdir", "os.remove", "os.truncate"):
            self.point(event[3:], args[1] if event == "os.rename" else args[0])

    def sync(self, descriptor: int) -> None:
        self.point("sync", os.readlink(f"/proc/self/fd/{descriptor}"), descriptor)
        self.synced(descriptor)

    def point(self, kind: str, path: object, descriptor: int | None = None) -> None:
        name = os.path.abspath(os.fsdecode(path))
        if self.inside or not name.startswith(self.root + os.sep):
            return
        self.seen.append(f"{kind} {re.sub(r'[a-z0-9_]{8}.tmp$', '*.tmp', name[len(self.root) + 1:])}")
        if self.act is None or len(self.seen) - 1 < self.at or (self.act in (term, interrupt) and self.done):
            return
        self.inside = self.done = True
        try:
            if descriptor is not None and self.act in (kill, leave):
                os.ftruncate(descriptor, os.fstat(descriptor).st_size//2)  # the other half never reached the disk
            self.act(kind)
        finally:
            self.inside = False


def kill(kind: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave(kind: str) -> None:
    os._exit(9)


def full(kind: str) -> None:
    if kind in ("open", "mkdir", "sync"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def term(kind: str) -> None:
    signal.raise_signal(signal.SIGTERM)


def interrupt(kind: str) -> None:
    signal.raise_signal(signal.SIGINT)


WAYS: dict[str, tuple[Callable[[str], None], ...]] = {
    "kill": (kill, leave), "full": (full,), "term": (term,), "interrupt": (interrupt,)}


def child(job: str, box: Path, at: int = -1, act: Callable[[str], None] | None = None, **options: str) -> int:
    "Fork, run the job in `box`, and return the child's process id; its words go to `box/../BOX.txt`."
    pid = os.fork()
    if pid:
        return pid
    code = 70
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what it puts in the background with Ctrl-C ignored
    try:
        os.chdir(box)
        for number in (1, 2):
            os.dup2(os.open(f"{box}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), number)
        points = Points(box, at, act)
        code = JOBS[job](box, **options)
        sys.stdout.flush()
        if act is None:
            Path(f"{box}.points").write_text("\n".join(points.seen))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(pid: int, limit: float = 120) -> tuple[int, float]:
    "(exit status, negative for a signal; seconds of processor time) of a child; one that hangs is killed and counts as status 99."
    end = time.monotonic() + limit
    while True:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return 99, limit
        time.sleep(0.002)


# ---- trials


@contextlib.contextmanager
def world(job: str) -> Iterator[Path]:
    "A folder for trials; for the job `cache` with a stand-in for CIFAR-10 and a server of its files."
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        root, server = Path(folder).resolve(), 0
        if job == "cache":
            from data_faults import Loopback, StandIn

            standin = StandIn(root/"standin")
            standin.use(setattr)
            STANDIN["known"] = standin.known()
            loop = Loopback(standin.served())
            (root/"world.json").write_text(json.dumps({"address": loop.address}))
            server = os.fork()  # a process of its own: threads don't survive a fork
            if not server:
                with contextlib.suppress(KeyboardInterrupt):
                    loop.serve_forever()
                os._exit(0)
            loop.socket.close()
        try:
            yield root
        finally:
            if server:
                os.kill(server, signal.SIGKILL)
                os.waitpid(server, 0)


class Trials:
    "Trials of one job: `at(point)` and `after(seconds)` give a dict with what happened."

    def __init__(self, root: Path, job: str, **options: str):
        self.root, self.job, self.options, self.count = root, job, options, 0
        self.start: Path | None = None
        if job == "report":
            self.start = root/"finished"
            self.start.mkdir()
            assert wait(child("train", self.start))[0] == 0, Path(f"{self.start}.txt").read_text()
            (self.start/"runs"/"a"/"report.html").unlink()
        box = self.box()
        begun = time.monotonic()
        code, self.processor = wait(child(job, box, **options))
        self.seconds = time.monotonic() - begun
        assert code == 0, Path(f"{box}.txt").read_text()
        self.points = Path(f"{box}.points").read_text().splitlines()
        self.undisturbed, self.said = fingerprint(box), self._pixels(box)
        assert not torn(box, self.known()), torn(box, self.known())

    def box(self) -> Path:
        self.count += 1
        box = self.root/f"box{self.count}"
        shutil.copytree(self.start, box) if self.start else box.mkdir()
        return box

    def at(self, point: int, act: Callable[[str], None]) -> dict:
        "Fault at a point, then the same command again."
        box = self.box()
        code, _ = wait(child(self.job, box, point, act, **self.options))
        return self._judge(box, f"{act.__name__} at {self.points[point]}", code)

    def after(self, seconds: float) -> dict:
        "SIGKILL after some seconds, then the same command again."
        box = self.box()
        pid = child(self.job, box, **self.options)
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return self._judge(box, f"kill after {seconds:.3f} s", wait(pid)[0])

    def _judge(self, box: Path, fault: str, code: int) -> dict:
        words = Path(f"{box}.txt")
        said = words.read_text() if words.exists() else ""
        left = [str(p.relative_to(box)) for p in box.rglob(".*.tmp")]
        bad, begun = torn(box, self.known()), (box/"runs"/"a"/"config.json").exists()
        words.unlink(missing_ok=True)
        again, _ = wait(child(self.job, box, **self.options))
        if self.job == "cache" and fault.split()[0] in ("kill", "leave"):  # pooch's and ours may stay: nobody takes them for data
            for litter in [*box.rglob(".*.tmp"), *box.glob("cache/downloads/tmp*")]:
                litter.unlink()
        differ = differences(box, self.undisturbed) if again == 0 else [f"again: status {again}: {words.read_text()[-600:]}"]
        if self._pixels(box) != self.said:
            differ.append("pixels")
        shutil.rmtree(box)
        return {"fault": fault, "status": code, "begun": begun, "said": said[-20000:], "left": left, "torn": bad, "differ": differ}

    def known(self) -> set[str]:
        "Hashes of what may be downloaded."
        return STANDIN.get("known", set())

    def _pixels(self, box: Path) -> list[str]:
        return [line for line in Path(f"{box}.txt").read_text().splitlines() if line.startswith("pixels")]


def right(trial: dict) -> bool:
    "Nothing torn, the end as if undisturbed; a full disk or a signal told in one line, with nothing half-written left."
    way, status = trial["fault"].split()[0], trial["status"]
    if trial["torn"] or trial["differ"]:
        return False
    if way in ("kill", "leave"):
        return status in (-signal.SIGKILL, 9) or (" after " in trial["fault"] and status == 0)
    thread = way == "full" and "Exception in thread" in trial["said"]  # TensorBoard's writer, with a traceback of its own
    if ("Traceback" in trial["said"] and not thread) or trial["left"]:
        return False
    if way == "full":
        return status in (0, 1)  # 0: where only a cache could not be kept
    return status == {"term": 143, "interrupt": 130}[way] and "stopped by SIG" in trial["said"]


def says_how_to_go_on(trial: dict) -> bool:
    "A run that had begun was left with the command that goes on with it."
    return not trial["begun"] or trial["status"] == 0 or "cam-course resume runs/a" in trial["said"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=JOBS)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("--points", type=int, default=10**6, help="so many, evenly from all (default: every one)")
    parser.add_argument("--moments", type=int, default=0, help="also so many kills at random moments")
    parser.add_argument("--recipe", default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    warm()
    rng, options = random.Random(args.seed), {"recipe": args.recipe} if args.recipe else {}
    with world(args.job) as root:
        trials = Trials(root, args.job, **options)
        n = len(trials.points)
        chosen = range(n) if args.points >= n else sorted(rng.sample(range(n), args.points))
        done = []
        for k, point in enumerate(chosen):
            done.append(trials.at(point, WAYS[args.way][k % len(WAYS[args.way])]))
        done += [trials.after(rng.uniform(0, trials.seconds)) for _ in range(args.moments)]
        told = args.job != "train" or args.way == "kill"
        wrong = [t for t in done if not right(t) or not (told or says_how_to_go_on(t))]
        result = {"job": args.job, "way": args.way, "recipe": args.recipe, "points": n, "at_points": len(chosen),
                  "at_moments": args.moments, "right": len(done) - len(wrong), "wrong": wrong}
    if args.out:
        args.out.write_text(json.dumps(result, indent=1))
    print(f"{args.job} {args.way}: {n} points, {len(done)} faults, {len(wrong)} wrong")
    for trial in wrong[:5]:
        print(json.dumps(trial, indent=1))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
