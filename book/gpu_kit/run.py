"""Everything that wants a GPU, in one call: checks of the fast path, speed, and the trainings, as many as fit the time.

    python book/gpu_kit/run.py --out DIR                 # in a checkout: with what is installed, data as load_cifar10 finds them
    python build/gpu-kit/run.py --out DIR --minutes 9    # as `make gpu-kit` made it: no network, no virtual environment

It needs Python 3.11, torch 2.6 and numpy 2.0, or later. It leaves in DIR: table.md and table.json (rewritten after each
step), log.txt, runs.zip (configuration, history, log and environment of each training), and weights as fp16: those of
narrow nets in weights.zip, those of a wide one in files of 15 MB and less, whose tensors together are the state dict.
Exit code: 0, or 1 if a step failed, 2 if nothing could be begun.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

BEGAN = time.monotonic()
HERE = Path(__file__).resolve().parent
GROUPS = ("checks", "speed", "assignment", "best20", "layernorm", "optimizers", "shipping")
RESERVE = 8.0  # s kept for writing everything down at the end


# ---- where the library and its requirements come from

def fits_here(wheel: str) -> bool:
    "Whether this Python can use a wheel, by the tags in its name."
    python, abi, _ = wheel.removesuffix(".whl").split("-")[-3:]
    own = f"cp{sys.version_info.major}{sys.version_info.minor}"
    least = re.fullmatch(r"cp3(\d+)", python)
    stable = abi == "abi3" and least is not None and int(least[1]) <= sys.version_info.minor
    return stable or "py3" in python.split(".") or own in python.split(".")


def add_wheels(kit: Path, site: Path) -> list[str]:
    "Unpack into `site` the wheels of whatever this machine lacks, and put it last on the path; returns their names."
    added = []
    for wheel in sorted((kit/"wheels").glob("*.whl")):
        try:
            importlib.metadata.version(wheel.name.split("-")[0])
            continue
        except importlib.metadata.PackageNotFoundError:
            pass
        if not fits_here(wheel.name):
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            print(f"run.py: error: the kit's {wheel.name} is not for Python {version}: make it with `make gpu-kit FOR={version}`",
                  file=sys.stderr)
            sys.exit(2)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
        added.append(wheel.name)
    return added


def set_path(kit: Path | None, site: Path) -> None:
    "The library of the kit, or of the checkout that this script lies in, before any that is installed."
    if kit is not None:
        sys.path[:0] = [str(kit)]
        sys.path.append(str(site))
    elif (HERE.parent.parent/"cam_course").is_dir():
        sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent)]


# ---- workers

class Stopped(Exception):
    "The worker ended in the middle of a task."


class Worker:
    "A process that does one task after another; it is started when it is first asked."

    def __init__(self, command: list[str], env: dict[str, str], log: Any):
        self.command, self.env, self.log = command, env, log
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        "Let the process begin, if there is none; it takes its first seconds for importing torch."
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(self.command, env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=self.log, text=True, encoding="utf-8")

    def ask(self, task: dict[str, Any], limit: float) -> dict[str, Any]:
        "The answer to a task; raises `Stopped` if the process ends instead, or is ended after `limit` seconds."
        self.start()
        timer = threading.Timer(limit, self.kill)
        timer.start()
        try:
            self.process.stdin.write(json.dumps(task) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            code = self.process.wait()
            raise Stopped(f"its process ended with code {code}, or took over {limit:.0f} s; see log.txt")
        return json.loads(line)

    def kill(self) -> None:
        "End the process, whatever it is at."
        if self.process is not None and self.process.poll() is None:
            self.process.kill()


# ---- the whole

class Session:
    "Steps, workers and time; every change is written to the table at once."

    def __init__(self, args: argparse.Namespace, work: Path):
        self.args, self.work = args, work
        self.deadline = BEGAN + 60 * args.minutes - RESERVE
        self.kit = json.loads((args.kit/"kit.json").read_text(encoding="utf-8")) if args.kit else {}
        self.log = open(args.out/"log.txt", "a", encoding="utf-8")  # noqa: SIM115 (`main` closes it)
        self.changed, self.running, self.rows = threading.Condition(), {}, []
        self.pace: dict[Any, float] = {}  # images a second of a whole training, by kind of net
        self.benchmark, self.about = False, {}
        cpus = os.cpu_count() or 1
        self.jobs = args.jobs or (3 if cpus >= 12 else 1)
        env = {**os.environ, "CAM_COURSE_CACHE": str(work/"cache"), "PYTHONUNBUFFERED": "1"}
        env.setdefault("OMP_NUM_THREADS", str(max(1, min(8, cpus // self.jobs))))
        command = [sys.executable, str(HERE/"run.py"), "--worker", str(work/"site")]
        command += ["--kit", str(args.kit)] if args.kit else []
        self.workers = [Worker(command, env, self.log) for _ in range(self.jobs)]
        self.where = {"dataset": args.dataset, "device": args.device, "runs": str(work/"runs")}
        if args.kit and args.dataset == "cifar10":
            self.where["data_dir"] = str(args.kit/"data")

    def say(self, line: str) -> None:
        "To the screen and to the log."
        print(line, flush=True)
        self.log.write(line + "\n")
        self.log.flush()

    @property
    def left(self) -> float:
        return self.deadline - time.monotonic()

    # -- what a step takes

    def kind(self, config: Any) -> tuple:
        return config.width, config.norm, config.whitening

    def estimate(self, step: Any) -> float:
        "Seconds that a step is likely to take, from those before it."
        from plan import images

        if step.config is None:
            return step.seconds if self.args.scale == "full" else 5.0
        small = self.about.get("device") != "cuda"
        guess = 200.0 if small else 8_000.0 if step.config.width > 16 else 16_000.0
        near = [v for k, v in self.pace.items() if k[0] == step.config.width]
        rate = self.pace.get(self.kind(step.config)) or (min(near) if near else guess)
        return 3.0 + images(step.config) / rate

    def learn(self, step: Any, result: Any) -> None:
        "Take over what a step says about speed."
        from plan import images

        if step.name == "speed":
            found = {(r["width"], r["compiled"], r["benchmark"]): r["found"] for r in result if "found" in r}
            for width in {k[0] for k in found}:
                best = max(v for k, v in found.items() if k[0] == width)
                self.pace[width, "batch", False] = best / (1 + 0.3 * (self.jobs - 1))  # they share the GPU
            plain, tuned = found.get((64, True, False)), found.get((64, True, True))
            self.benchmark = bool(plain and tuned and tuned > 1.03 * plain)
        elif step.config is not None:
            self.pace[self.kind(step.config)] = images(step.config) / result["wall"]

    # -- doing them

    def start(self) -> bool:
        "Ask the first worker what it runs on, and make the plan; False if there is nothing to run on."
        from plan import plan

        try:
            answer = self.workers[0].ask({"do": "hello", "device": self.args.device}, max(60.0, self.left))
        except Stopped as error:
            answer = {"error": str(error)}
        if "error" in answer:
            self.say(f"nothing can run: {answer['error']}")
            return False
        self.about = answer["result"]
        if self.args.scale == "full" and self.about["device"] != "cuda" and not self.args.force:
            self.say("no CUDA device here, and the full plan would take weeks on a CPU: give --scale tiny, or --force")
            return False
        if not self.args.jobs and (self.about["device"] != "cuda" or self.about["gigabytes"] < 32):
            self.jobs, self.workers = 1, self.workers[:1]
        for worker in self.workers:
            worker.start()
        self.steps = plan(self.args.scale, self.args.only, **self.where)
        self.rows = [{"step": s.name, "group": s.group, "label": s.label, "status": "to do"} for s in self.steps]
        for line in self.head():
            self.say(line)
        time_for = f"what doesn't fit into {self.args.minutes:g} minutes is left out"
        self.say(f"plan: {len(self.steps)} steps, {self.jobs} at a time; {time_for}")
        for step in self.steps:
            self.say(f"  {step.group:11} {step.name:44} about {self.estimate(step):5.0f} s")
        self.write()
        return True

    def next(self) -> int | None:
        "The first step that may begin now; those for which the time left is too short are passed over, and say so."
        if any(self.steps[i].alone for i in self.running):
            return None
        for i, (step, row) in enumerate(zip(self.steps, self.rows, strict=True)):
            if row["status"] != "to do":
                continue
            if step.alone and self.running:
                return None
            if (needs := self.estimate(step)) <= self.left:
                row |= {"status": "running", "estimate": round(needs, 1)}
                return i
            row |= {"status": "left out", "why": f"about {needs:.0f} s needed, {max(self.left, 0):.0f} s left"}
            self.say(f"left out: {step.name} ({row['why']})")
        return None

    def do(self, worker: Worker, i: int) -> None:
        "One step on one worker, in a thread of its own."
        step, row, began = self.steps[i], self.rows[i], time.monotonic()
        task: dict[str, Any] = {"commit": self.kit.get("commit"), "weights": str(self.work/"weights"), "keep": step.keep}
        if step.config is None:
            task |= {"do": "check", "check": step.name, "scale": self.args.scale, "where": self.where, "compile": self.args.compile}
        else:
            task |= {"do": "train", "config": dataclasses.asdict(step.config), "benchmark": self.benchmark}
        try:
            answer = worker.ask(task, max(120.0, 4 * row["estimate"]))
        except Stopped as error:
            answer = {"error": str(error)}
        with self.changed:
            del self.running[i]
            row["seconds"] = round(time.monotonic() - began, 1)
            if row["status"] == "running":
                self.note(step, row, answer)
                beside = f", beside {len(self.running)} other(s)" if self.running else ""
                self.say(f"{row['status']}: {step.name} in {row['seconds']:.1f} s{beside}{self.brief(row)}")
                self.write()
            self.changed.notify()

    def note(self, step: Any, row: dict[str, Any], answer: dict[str, Any]) -> None:
        "What became of a step, into its row."
        if "error" in answer:
            row |= {"status": "failed", "why": answer["error"], "traceback": answer.get("traceback", "")}
            return
        row |= {"status": "done", "result": answer["result"]}
        self.learn(step, answer["result"])
        wrong = [r["what"] for r in answer["result"] if not r.get("ok", True)] if step.config is None else []
        if wrong:
            row |= {"status": "failed", "why": "; ".join(wrong)}

    def brief(self, row: dict[str, Any]) -> str:
        "A result in a few words."
        if row["status"] != "done":
            return f": {row['why']}"
        found = row["result"]
        return f": {100 * found['test_accuracy']:.2f} %, {found['images_per_second']:,.0f} images/s" if isinstance(found, dict) else ""

    def loop(self) -> None:
        "Hand out steps until all are done or the time is over; what still runs then is cut."
        with self.changed:
            while self.left > 0:
                for worker in self.workers:
                    if worker in self.running.values():
                        continue
                    if (i := self.next()) is None:
                        break
                    self.running[i] = worker
                    threading.Thread(target=self.do, args=(worker, i), daemon=True).start()
                if not self.running:
                    break
                self.changed.wait(timeout=max(0.1, min(5.0, self.left)))
            for i in self.running:
                self.rows[i] |= {"status": "cut", "why": "the time was over"}
                self.say(f"cut: {self.steps[i].name}")
            for row in self.rows:
                if row["status"] == "to do":
                    row |= {"status": "left out", "why": "the time was over"}
        for worker in self.workers:
            worker.kill()
        with self.changed:
            self.write()

    # -- writing down

    def head(self) -> list[str]:
        "Where and with what, for the top of the table."
        about = self.about["environment"]
        versions = ", ".join(f"{k} {about[k]}" for k in ("python", "torch", "numpy", "cuda", "cudnn") if about.get(k))
        commit = self.kit.get("commit") or about.get("commit") or "unknown"
        what = f"library at commit {commit}; images: {self.args.dataset}; scale: {self.args.scale}"
        return [f"{about['date']}, {about['device']}", versions, what]

    def finished(self) -> dict[str, list[Any]]:
        "Label -> finished trainings."
        from cam_course.app.experiments import read_finished

        found: dict[str, list[Any]] = {}
        for step, row in zip(self.steps, self.rows, strict=True):
            if step.config is not None and row["status"] == "done":
                found.setdefault(step.label, []).append(read_finished(self.work/"runs"/step.name))
        return found

    def write(self) -> None:
        "table.json, table.md, runs.zip and the weights, each whole or as it was."
        from table import markdown

        from cam_course.app.experiments import results_table
        from cam_course.base.core import write_json, write_text

        trainings = results_table(self.finished())
        write_json(self.args.out/"table.json", {"environment": self.about["environment"], "kit": self.kit, "scale": self.args.scale,
                                                "minutes": self.args.minutes, "workers": self.jobs, "benchmark": self.benchmark,
                                                "steps": self.rows, "trainings": trainings})
        write_text(self.args.out/"table.md", markdown(self.head(), self.rows, trainings))
        self.pack_runs()
        self.pack_weights()

    def pack_weights(self) -> None:
        "Weights that are one file go into weights.zip, the parts of larger ones beside it: few files, none too large."
        from cam_course.base.core import atomic_write

        done = [row["result"].get("weights", []) for row in self.rows if row["status"] == "done" and isinstance(row["result"], dict)]
        single = [names[0] for names in done if len(names) == 1]
        for name in (n for names in done if len(names) > 1 for n in names):
            if not (self.args.out/name).exists():
                with atomic_write(self.args.out/name) as file:
                    file.write((self.work/"weights"/name).read_bytes())
        if single:
            with atomic_write(self.args.out/"weights.zip") as file, zipfile.ZipFile(file, "w") as archive:
                for name in single:
                    archive.write(self.work/"weights"/name, name)

    def pack_runs(self) -> None:
        "The run folders of what is done, without the places on this machine."
        from cam_course.base.core import atomic_write

        with atomic_write(self.args.out/"runs.zip") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for step, row in zip(self.steps, self.rows, strict=True):
                if step.config is None or row["status"] != "done":
                    continue
                for path in sorted((self.work/"runs"/step.name).iterdir()):
                    text = path.read_text(encoding="utf-8")
                    if path.name == "config.json":
                        text = json.dumps(json.loads(text) | {"data_dir": None, "runs": "runs"}, indent=2) + "\n"
                    if not path.name.startswith("."):
                        archive.writestr(f"{step.name}/{path.name}", text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--kit", type=Path, help="folder that `make gpu-kit` made; default: where this script lies, if that is one")
    parser.add_argument("--out", type=Path, default=Path("gpu-results"), help="folder for the results (%(default)s)")
    parser.add_argument("--minutes", type=float, default=9.0, help="when to stop (%(default)g)")
    parser.add_argument("--scale", choices=["full", "tiny"], default="full", help="tiny: a rehearsal, on a CPU too")
    parser.add_argument("--only", nargs="+", metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--jobs", type=int, help="trainings at a time; default: 3 on a large GPU with 12 CPU cores, else 1")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (%(default)s)")
    parser.add_argument("--dataset", choices=["cifar10", "shapes"], help="default: what the kit holds; without a kit, cifar10")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="torch.compile in the checks; default: on a GPU")
    parser.add_argument("--force", action="store_true", help="full scale on a CPU")
    args = parser.parse_args()
    if args.kit is None and (HERE/"kit.json").exists():
        args.kit = HERE
    if args.kit is not None and not (args.kit/"kit.json").exists():
        parser.error(f"--kit: {args.kit} is no kit (no kit.json in it): make one with `make gpu-kit`")
    args.kit = args.kit and args.kit.resolve()
    return args


def settle(args: argparse.Namespace) -> None:
    "Fill in what depends on the kit, and refuse what can't be, with exit code 2."
    held = json.loads((args.kit/"kit.json").read_text(encoding="utf-8"))["dataset"] if args.kit else "cifar10"
    args.dataset = args.dataset or held
    args.only = args.only or list(GROUPS)
    wrong = [f"--only: unknown group {name!r}, choose of {', '.join(GROUPS)}" for name in args.only if name not in GROUPS]
    if args.kit and args.dataset == "cifar10" != held:
        wrong.append("this kit holds no CIFAR-10: make it with `make gpu-kit`, or give --dataset shapes")
    if args.scale == "full" and args.dataset != "cifar10":
        wrong.append("the full plan is for CIFAR-10: make the kit with it (`make gpu-kit`), or give --scale tiny")
    if args.minutes <= 0 or (args.jobs is not None and args.jobs < 1):
        wrong.append(f"--minutes {args.minutes:g} and --jobs {args.jobs} must be positive")
    if wrong:
        print(f"run.py: error: {wrong[0]}", file=sys.stderr)
        sys.exit(2)


def scratch() -> Path | None:
    "Memory as a disk, where there is room: a checkpoint after each epoch is slow on a real one. None: the usual place."
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 * 2**30 else None


def main() -> int:
    args = arguments()
    if args.worker:
        set_path(args.kit, args.worker)
        import work

        work.main()
        return 0
    settle(args)
    args.out.mkdir(parents=True, exist_ok=True)
    args.out = args.out.resolve()
    with tempfile.TemporaryDirectory(prefix="gpu-kit-", dir=scratch(), ignore_cleanup_errors=True) as folder:
        site, weights = Path(folder)/"site", Path(folder)/"weights"
        site.mkdir()
        weights.mkdir()
        added = add_wheels(args.kit, site) if args.kit else []
        set_path(args.kit, site)
        session = Session(args, Path(folder))
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        try:
            if args.kit:
                session.say("from the kit, since they are missing here: " + (", ".join(added) or "nothing"))
            if not session.start():
                return 2
            session.loop()
        finally:
            for worker in session.workers:
                worker.kill()
            session.log.close()
        print((args.out/"table.md").read_text(encoding="utf-8"))
        return int(any(row["status"] == "failed" for row in session.rows))


if __name__ == "__main__":
    sys.exit(main())
