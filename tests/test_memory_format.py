"""Every processor gets the same gradients: nets meet no fault of oneDNN's, however they are laid out in memory."""

import os
import subprocess
import sys
import time
from pathlib import Path

import gradients
import pytest
import torch
from torch import nn

from cam_course.base.core import memory_format
from cam_course.resnet import ResNet18, _Shortcut

ROOT = Path(__file__).resolve().parent.parent
ISAS = ["AVX2", *(["DEFAULT"] if torch.backends.cpu.get_cpu_capability() != "AVX2" else [])]
forks = pytest.mark.skipif(sys.platform != "linux", reason="nets are tried in forked processes")


def python(*args: str, threads: int, isa: str, limit: float = 600) -> str:
    "What a Python process prints; it dies here without taking pytest along."
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive", "ONEDNN_MAX_CPU_ISA": isa,
           "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT/"tests")])}
    done = subprocess.run([sys.executable, *args], env=env, capture_output=True, text=True, timeout=limit, check=False)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-2000:]}"
    return done.stdout


# ---- gradients

@forks
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("isa", ISAS)
def test_gradients_are_those_of_float64(isa, threads):
    "Of every width from 1 to 33 and every other kind of net here: to 1e-3 of a tensor's largest."
    told = python(str(ROOT/"tests"/"gradients.py"), "--isa", isa, "--threads", str(threads), threads=threads, isa=isa)
    assert told.count("\nok ") == len(gradients.NETS) and told.endswith("\n0 wrong\n"), told


class Wrong(torch.autograd.Function):
    "The identity, with a gradient that is a hundredth too large."

    @staticmethod
    def forward(_, x): return x.clone()

    @staticmethod
    def backward(_, grad): return 1.01*grad if grad.dtype == torch.float32 else grad


@forks
def test_a_wrong_gradient_a_crash_and_a_hang_are_seen(monkeypatch):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    net[1].forward = lambda x: Wrong.apply(x.mean((2, 3), keepdim=True))
    monkeypatch.setitem(gradients.NETS, "wrong", lambda: net)
    error, where = gradients.measure("wrong")
    assert 0.0099 < error < 0.0101 and where in ("images", "0.weight", "0.bias")
    assert gradients.apart(os.abort, {}) == "died of SIGABRT"
    assert gradients.apart(lambda: time.sleep(60), {}, limit=0.2) == "hung"
    assert gradients.apart(lambda: os.environ["A"], {"A": "b"}) == "b"


# ---- own nets

@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("channels", "stride"), [(16, 2), (19, 2), (16, 3), (16, 1)])
def test_a_shortcut_is_the_strided_convolution(channels, stride, layout):
    "The same maps and gradients to rounding, torchvision's names of weights."
    torch.manual_seed(0)
    ours = _Shortcut(channels, 2*channels, stride, "batch").to(memory_format=layout)
    usual = nn.Sequential(nn.Conv2d(channels, 2*channels, 1, stride, bias=False), nn.BatchNorm2d(2*channels)).to(memory_format=layout)
    usual.load_state_dict(ours.state_dict())
    x = torch.randn(4, channels, 13, 10).to(memory_format=layout).requires_grad_()
    a, b = ours(x), usual(x)
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)   # with AVX-512 oneDNN sums the two in another order
    up = torch.randn_like(a)
    inputs = lambda net: [x, *net.parameters()]
    for mine, theirs in zip(torch.autograd.grad(a, inputs(ours), up), torch.autograd.grad(b, inputs(usual), up), strict=True):
        assert (mine - theirs).abs().max() <= 1e-5*theirs.abs().max()


def test_own_nets_lie_channels_last():
    for name, make in gradients.NETS.items():
        want = torch.contiguous_format if name in ("foreign",) else torch.channels_last
        assert memory_format(make()) == want or "Lazy" in str(make()), name


# ---- other people's

@pytest.mark.parametrize(("layer", "safe"), [
    (nn.Conv2d(16, 8, 1, stride=2), True), (nn.Conv2d(15, 8, 1, stride=2), False), (nn.Conv2d(4, 8, 1), True),
    (nn.Conv2d(4, 8, 1, stride=(1, 2)), False), (nn.Conv2d(32, 32, 1, stride=2, groups=4), False), (nn.Conv2d(4, 8, 3, stride=2), True),
    (nn.ConvTranspose2d(8, 4, 1, stride=2), False), (nn.LazyConv2d(8, 1, stride=2), False), (nn.Linear(4, 8), True),
    (nn.Conv1d(4, 8, 1, stride=2), True), (nn.Conv3d(4, 8, 1, stride=2), True), (nn.BatchNorm2d(4), True)])
def test_what_could_meet_the_fault_stays_contiguous(layer, safe):
    want = torch.channels_last if safe else torch.contiguous_format
    assert memory_format(layer) == memory_format(nn.Sequential(nn.ReLU(), nn.Sequential(layer))) == want
    assert memory_format(layer, "cuda") == memory_format(layer, torch.device("mps")) == torch.channels_last


def test_weights_of_a_functional_convolution_are_seen():
    class Functional(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(8, channels, 1, 1))

    assert memory_format(Functional(4)) == torch.contiguous_format and memory_format(Functional(16)) == torch.channels_last
    assert memory_format(nn.Module()) == torch.channels_last


FOREIGN = """
import copy, torch, torch.nn.functional as F
from gradients import foreign
from cam_course.data import shapes
from cam_course.training import epoch_batches
from cam_course.lr_finder import LRFinder
from cam_course.app.trainer import Trainer
from cam_course.transforms import Normalize

torch.manual_seed(0)
train, made = shapes(96, seed=1), foreign()
sgd = lambda net: torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
for laid in (False, True):  # as its maker left it, and as an owner may have laid it
    last = torch.channels_last if laid else torch.contiguous_format
    start = copy.deepcopy(made).to(memory_format=last)
    plain = copy.deepcopy(start).to(memory_format=torch.contiguous_format)
    optimizer = sgd(plain)
    for epoch in (0, 1):
        for x, y in epoch_batches(train, 16, None, Normalize.of(train), 0, epoch):
            optimizer.zero_grad()
            F.cross_entropy(plain(x.contiguous()), y).backward()
            optimizer.step()
    net = copy.deepcopy(start)
    Trainer(net, train, train, sgd(net), epochs=2, batch_size=16, device="cpu", precision="fp32", progress=False).fit()
    for a, b in zip(net.parameters(), plain.parameters(), strict=True): torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)

    x, y = Normalize.of(train)(train.x), train.y
    batches = [(x[i:i + 16].to(memory_format=last), y[i:i + 16]) for i in range(0, 96, 16)]
    net = copy.deepcopy(start)
    strides = [p.stride() for p in net.parameters()]
    tested = LRFinder(net, sgd(net), F.cross_entropy).range_test(batches, 1e-3, 0.1, num_iter=20, progress=False)
    assert [p.stride() for p in net.parameters()] == strides
    for p, q in zip(net.parameters(), start.parameters(), strict=True): assert p.equal(q)
    plain = copy.deepcopy(start).to(memory_format=torch.contiguous_format)
    optimizer, losses = sgd(plain), []
    for lr, (a, b) in zip(tested.lr, batches*4):
        optimizer.param_groups[0]["lr"] = float(lr)
        optimizer.zero_grad()
        loss = F.cross_entropy(plain(a.contiguous()), b)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    torch.testing.assert_close(torch.tensor(losses), torch.tensor(tested.loss, dtype=torch.float32), rtol=1e-4, atol=1e-5)
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_a_foreign_net_is_trained_and_tested_right(threads):
    "Trainer and range test beside the same steps in plain layout, also where its owner has laid it channels-last."
    python("-c", FOREIGN, threads=threads, isa="AVX2")


def test_trained_nets_are_measured_as_they_lie():
    net = ResNet18(width=2)
    assert memory_format(net) == torch.channels_last
    assert memory_format(nn.Sequential(net, nn.Conv2d(2, 2, 1, stride=2))) == torch.contiguous_format
