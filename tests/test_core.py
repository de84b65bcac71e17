"What notebook 00 can't check by itself: odd arguments, permissions, the disk, other processes."

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cam_course.base import core

QUIET = """
import random, sys
import numpy as np, torch

def state():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist(), torch.get_num_threads()

before = state()
import cam_course.base.core, cam_course.app.main, cam_course.app.trainer
assert before == state()
heavy = "matplotlib.pyplot torchvision pyarrow accelerate tensorboard pytorch_grad_cam tyro anywidget".split()
print([name for name in heavy if name in sys.modules])
"""


def test_import_has_no_side_effect_and_is_light():
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "0", None, True])
def test_bad_seeds_are_refused_by_name(seed):
    with pytest.raises(ValueError, match="seed must be a whole number"):
        core.seed_everything(seed)


@pytest.mark.parametrize(
    ("value", "kwargs", "ok"),
    [
        (0, {"low": 0}, True),
        (0, {"low": 0, "open_low": True}, False),
        (float("nan"), {}, False),
        (float("inf"), {}, False),
        (2.0, {"integer": True}, False),
        (3, {"high": 2}, False),
        (2, {"high": 2, "integer": True}, True),
        ("1", {}, False),
    ],
)
def test_check_number(value, kwargs, ok):
    if ok:
        assert core.check_number("it", value, **kwargs) == value
    else:
        with pytest.raises(ValueError, match=r"^it must be a .*number"):
            core.check_number("it", value, **kwargs)


def test_keyed_generators_differ_by_key_and_not_by_history():
    draw = lambda *key: torch.rand(4, generator=core.keyed_generator(*key))
    assert draw(0, "order", 1).equal(draw(0, "order", 1))
    keys = [(0, "order", 1), (0, "order", 11), (0, "augment", 1), (1, "order", 1), (0, "order1")]
    drawn = [tuple(draw(*k).tolist()) for k in keys]
    assert len(set(drawn)) == len(keys)


def test_atomic_write_leaves_nothing_and_keeps_the_old(tmp_path):
    target = tmp_path / "a.txt"
    core.write_text(target, "old")
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), core.atomic_write(target, "w") as file:
            file.write("new")
            raise error
    assert target.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_atomic_write_obeys_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        core.write_text(tmp_path / "a", "x")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_atomic_write_into_a_missing_folder_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"), core.atomic_write(tmp_path / "nowhere" / "a"):
        pass


def test_run_dir_exists_and_bad_names(tmp_path):
    folder = core.create_run_dir(tmp_path, "one")
    (folder / ".lock").touch()
    assert core.create_run_dir(tmp_path, "one") == folder  # left by a run that was killed before it began
    (folder / "config.json").touch()
    with pytest.raises(FileExistsError, match="one.*another name"):
        core.create_run_dir(tmp_path, "one")
    for name in ("../out", "a/b", ".hidden"):
        with pytest.raises(ValueError, match="plain folder name"):
            core.create_run_dir(tmp_path, name)


def test_rng_state_round_trips_through_plain_values():
    core.seed_everything(5)
    random.random(), np.random.randn(), torch.randn(3)  # randn leaves a cached second normal in NumPy's state
    state = core.get_rng_state()
    first = random.gauss(0, 1), np.random.randn(), torch.rand(2).tolist()
    core.set_rng_state(state)
    assert first == (random.gauss(0, 1), np.random.randn(), torch.rand(2).tolist())


@pytest.mark.parametrize("fail", [False, True])
def test_preserved_puts_everything_back(fail):
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2).eval(), nn.Dropout())
    kept = []
    handle = model[0].register_forward_hook(lambda *a: kept.append(1))
    model(torch.ones(3, 2)).sum().backward()
    model[1].weight.requires_grad_(False)
    grads = [p.grad for p in model.parameters()]
    values = [None if g is None else g.clone() for g in grads]
    modes, needs = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
    rng = torch.get_rng_state()
    try:
        with core.preserved(model):
            assert all(p.grad is None for p in model.parameters())
            handle.remove()
            model.eval().requires_grad_(True)
            model[2].register_full_backward_hook(lambda *a: None)
            model[1].register_forward_pre_hook(lambda *a: None)
            model(torch.rand(3, 2)).sum().backward()
            if fail:
                raise ZeroDivisionError
    except ZeroDivisionError:
        assert fail
    assert [m.training for m in model.modules()] == modes and [p.requires_grad for p in model.parameters()] == needs
    for p, grad, value in zip(model.parameters(), grads, values, strict=True):
        assert p.grad is grad and (value is None or grad.equal(value))
    assert len(model[0]._forward_hooks) == 1 and not model[2]._backward_hooks and not model[1]._forward_pre_hooks
    assert torch.get_rng_state().equal(rng)


def test_device_and_precision_errors_name_the_remedy():
    with pytest.raises(ValueError, match="unknown device 'gpu'.*auto"):
        core.get_device("gpu")
    with pytest.raises(ValueError, match="not available here.*auto"):
        core.get_device(f"cuda:{torch.cuda.device_count()}")
    with pytest.raises(ValueError, match="unknown precision 'bf61'.*Did you mean 'bf16'"):
        core.resolve_precision("bf61", torch.device("cpu"))
    with pytest.raises(ValueError, match="fp16.*CPU"):
        core.resolve_precision("fp16", torch.device("cpu"))


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_auto_precision_by_capability(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    found = core.resolve_precision("auto", torch.device("cuda"))
    assert found.format == expected and ".".join(map(str, capability)) in found.reason


@pytest.mark.parametrize(("tiles", "avx512", "limit", "onednn", "expected"), [
    (True, True, None, True, "AMX"), (True, True, "ALL", True, "AMX"), (True, True, "AVX512_CORE_AMX", True, "AMX"),
    (True, True, "AVX2", True, ""), (True, True, "avx512_core_bf16", True, "AVX-512"), (True, True, None, False, ""),
    (False, True, None, True, "AVX-512"), (False, True, "AVX512_CORE_FP16", True, "AVX-512"),
    (False, True, "AVX10_1_512", True, "AVX-512"), (False, True, "AVX512_CORE_AMX", True, "AVX-512"),
    (False, True, "AVX512_CORE_VNNI", True, ""),
    (False, False, None, True, ""), (False, False, "AVX512_CORE_AMX", True, ""), (False, None, None, True, ""),
])
def test_auto_precision_on_a_cpu_asks_what_multiplies_bf16(monkeypatch, tiles, avx512, limit, onednn, expected):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    if avx512 is None: monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")  # torch 2.6
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    if limit:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    found = core.resolve_precision("auto", torch.device("cpu"))
    assert found.format == ("bf16" if expected else "fp32") and expected in found.reason
    assert core.resolve_precision("fp32", torch.device("cpu")) == ("fp32", "as asked")


def git(*words, cwd) -> str:
    "Git with a name and no settings of this machine's."
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    return subprocess.run(["git", *who, *words], cwd=cwd, env=env, capture_output=True, text=True, check=True).stdout.strip()


ASK = "from cam_course.base.core import environment; print(environment().get('commit'))"


@pytest.mark.parametrize(("place", "tracked", "own"), [
    (".venv/lib", False, False),  # installed in the user's repository, as people do
    ("lib", True, False),         # kept among the user's own files
    (".", False, False),          # put beside them
    (".", True, True),            # the package's own checkout
])
def test_t18_the_commit_is_the_packages_or_nothing(tmp_path, place, tracked, own):
    if shutil.which("git") is None: pytest.skip("no git")
    package = Path(core.__file__).parent
    (tmp_path / "mine.py").write_text("x = 1")
    git("init", "-q", ".", cwd=tmp_path)
    shutil.copytree(package, tmp_path / place / "cam_course", ignore=shutil.ignore_patterns("js", "__pycache__"))
    git("add", *(["."] if tracked else ["mine.py"]), cwd=tmp_path)
    git("commit", "-qm", "theirs", cwd=tmp_path)
    env = {**os.environ, "PYTHONPATH": str(tmp_path / place), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", ASK], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (git("rev-parse", "--short", "HEAD", cwd=tmp_path) if own else "None")
