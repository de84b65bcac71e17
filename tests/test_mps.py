"""Apple's GPUs have no float64: nothing here asks them for it.

No such GPU is needed. Torch's fake tensors have a shape, a type and a place, and no numbers; what would compute in float64 there is
seen by its place. What looks at numbers on the way, or indexes, can't run on them: there the source is read.
"""
import ast
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cam_course.base.core import finest_float, in_float64
from cam_course.base.whitened import _whitening_kernels
from cam_course.cam_methods import _eigencam
from cam_course.localization import mean_interval
from cam_course.transforms import RandomRotation

LIB = Path(__file__).resolve().parent.parent/"cam_course"


class NoFloat64(TorchDispatchMode):
    "Every operation that makes a float64 tensor on such a GPU is an error, as it is there."

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for t in tree_leaves(out):
            if isinstance(t, torch.Tensor) and (t.device.type, t.dtype) == ("mps", torch.float64):
                raise TypeError(f"{func} makes float64 on MPS")
        return out


def on_mps(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor: return torch.empty(shape, dtype=dtype, device="mps")


WORK = {
    "Eigen-CAM": lambda: _eigencam(on_mps(2, 8, 5, 5)),
    "Eigen-CAM, few channels": lambda: _eigencam(on_mps(2, 3, 5, 5)),
}
ON_THE_CPU = {
    "interval": lambda: mean_interval(on_mps(5, 2)).mean,
    "whitening": lambda: _whitening_kernels(on_mps(20, 3, 8, 8), 4),
    "angles of a rotation": lambda: RandomRotation(10).angle(on_mps(2, dtype=torch.int64)),
    "numbers": lambda: in_float64(on_mps(3)),
}


def test_the_guard_sees_what_it_is_for():
    with FakeTensorMode(), NoFloat64():
        with pytest.raises(TypeError, match="makes float64 on MPS"): on_mps(2).double()
        with pytest.raises(TypeError, match="makes float64 on MPS"): torch.linspace(0, 1, 3, dtype=torch.float64, device="mps")


@pytest.mark.parametrize("name", [*WORK, *ON_THE_CPU])
def test_nothing_computes_in_float64_on_mps(name):
    with FakeTensorMode(), NoFloat64():
        found = {**WORK, **ON_THE_CPU}[name]()
    assert found.device.type == ("mps" if name in WORK else "cpu")
    if name == "interval": assert found.dtype == torch.float64


def test_the_finest_there_is():
    assert finest_float("cpu") == finest_float(torch.device("cuda:1")) == torch.float64 and finest_float("mps") == torch.float32
    x = torch.arange(3)
    assert in_float64(x).equal(torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)) and in_float64(x.double()).dtype == torch.float64


# (module, function): what they take is on the CPU by its making, or comes from `in_float64`
FROM_THE_CPU = {
    ("adversarial", "_toward_zero_from"), ("base.core", "in_float64"),
    ("base.geometric", "constant_fill"), ("base.page_network", "_folded"), ("bias", "audit"),
    ("training", "evaluate"), ("data", "_stratified"), ("app.explanation", "_words"), ("optimizers", "_count"),
    ("optimizers", "_zeros"), ("optimizers", "first_state"), ("optimizers", "_first_difference"), ("saddles", "path"),
}


def float64_on_a_device() -> list[str]:
    "Where the library makes float64 tensors of what may lie anywhere."
    found = []
    for path in sorted(LIB.rglob("*.py")):
        module = ".".join(path.relative_to(LIB).with_suffix("").parts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = {id(n): f.name for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or (module, inside.get(id(node))) in FROM_THE_CPU: continue
            text, device = ast.unparse(node), [ast.unparse(k.value) for k in node.keywords if k.arg == "device"]
            double = isinstance(node.func, ast.Attribute) and node.func.attr == "double" and ".cpu()" not in text
            made = device and any(ast.unparse(a) == "torch.float64" for a in [*node.args, *(k.value for k in node.keywords)])
            if double or (made and device[0] not in ("turn.device", "weight.device")):   # these two: of `in_float64`
                found.append(f"{module}, {inside.get(id(node), '')}: {text}")
    return found


def test_float64_is_asked_for_through_in_float64_alone(): assert not (found := float64_on_a_device()), "\n".join(found)
