"""The optimizers against torch.optim, their state, and their errors."""

import copy
import io
import json
import math
import re

import chapters
import numpy as np
import pytest
import torch
from safetensors.torch import load as st_load
from safetensors.torch import save as st_save
from torch import nn

from cam_course import optimizers as O
from cam_course.optimizers import OPTIMIZERS, _first_difference, _state_bytes, make_optimizer

NOTEBOOK = chapters.chapter("optimizers")
T = torch.optim
PAIRS = [  # name, torch's class, what only torch's needs, hyper-parameters of both
    ("sgd", T.SGD, {}, [{}, {"weight_decay": 0.1}]),
    (
        "momentum",
        T.SGD,
        {"momentum": 0.9},
        [
            {"momentum": 0.9},
            {"momentum": 0.99, "weight_decay": 0.01},
            {"momentum": 0.5, "dampening": 0.5},
            {"momentum": 0},
            {"momentum": 0.9, "dampening": 1.0, "weight_decay": 0.1},
            {"momentum": 0, "dampening": 0.5},
        ],
    ),
    (
        "nesterov",
        T.SGD,
        {"nesterov": True},
        [{"momentum": 0.9}, {"momentum": 0.99, "weight_decay": 0.1}, {"momentum": 0.3}],
    ),
    (
        "adagrad",
        T.Adagrad,
        {},
        [{}, {"lr_decay": 0.1}, {"weight_decay": 0.1, "eps": 1e-3}, {"initial_accumulator_value": 0.5}],
    ),
    ("adadelta", T.Adadelta, {}, [{}, {"rho": 0.5, "eps": 1e-3}, {"weight_decay": 0.1, "rho": 0.99}]),
    (
        "rmsprop",
        T.RMSprop,
        {},
        [
            {},
            {"alpha": 0.9, "eps": 1e-3},
            {"weight_decay": 0.1, "centered": True},
            {"momentum": 0.9},
            {"momentum": 0.9, "centered": True, "weight_decay": 0.1},
        ],
    ),
    ("adam", T.Adam, {}, [{}, {"betas": (0.5, 0.9)}, {"weight_decay": 0.1, "eps": 1e-3}, {"betas": (0.0, 0.99)}]),
    ("adamw", T.AdamW, {}, [{}, {"betas": (0.5, 0.9), "weight_decay": 0.5}, {"weight_decay": 0.0, "eps": 1e-3}]),
]
OWN = [  # no twin in torch, or one that computes in bfloat16 only; shapes that they take
    ("lion", [{}, {"betas": (0.5, 0.9), "weight_decay": 0.5}]),
    ("muon", [{}, {"momentum": 0.5, "nesterov": False, "weight_decay": 0.0, "ns_steps": 3}]),
]
SETTINGS = [(n, s[-1]) for n, *_, s in PAIRS + OWN]
CASES = [
    pytest.param(name, theirs, {**extra, **hyper}, hyper, id=f"{name}-{i}")
    for name, theirs, extra, sets in PAIRS
    for i, hyper in enumerate(sets)
]


# ---- equal to torch


def test_registry_names():
    assert list(OPTIMIZERS) == [
        "sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "adam", "adamw", "lion", "muon",
    ]
    assert {n for n, *_ in PAIRS + OWN} == set(OPTIMIZERS)


@pytest.mark.parametrize("name, theirs, all_hyper, hyper", CASES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_torch_for_100_steps_while_the_rate_changes(name, theirs, all_hyper, hyper, seed):
    changes = {20: 3.0, 51: 0.1, 80: 0.0, 81: 1.0}
    assert (
        _first_difference(
            lambda p: OPTIMIZERS[name](p, lr=0.01, **hyper),
            lambda p: theirs(p, lr=0.01, **all_hyper),
            lr_factors=changes,
            seed=seed,
        )
        is None
    )


def test_the_parity_check_can_fail():
    "A change in the fifteenth digit of the rate, and one that shows only after the rate changes."
    base = lambda p: O.Adam(p, lr=0.01)
    assert _first_difference(base, lambda p: O.Adam(p, lr=0.01 * (1 + 1e-9))).step <= 3
    assert _first_difference(base, lambda p: O.Adam(p, lr=0.01, eps=1.01e-8)).step == 1
    cached = lambda p: T.SGD([{"params": p[:1]}, {"params": p[1:], "lr": 0.02}], lr=0.01)
    assert _first_difference(cached, lambda p: O.SGD(p, lr=0.01)).step == 1


@pytest.mark.parametrize("name, theirs, all_hyper, hyper", [c for c in CASES if c.id.endswith("-1")])
def test_parameter_groups_have_hyper_parameters_of_their_own(name, theirs, all_hyper, hyper):
    groups = lambda p, **more: [{"params": p[:1]}, {"params": p[1:], "lr": 0.05, "weight_decay": 0.3, **more}]
    assert (
        _first_difference(
            lambda p: OPTIMIZERS[name](groups(p), lr=0.01, **hyper),
            lambda p: theirs(groups(p), lr=0.01, **all_hyper),
            lr_factors={30: 0.5},
        )
        is None
    )


@pytest.mark.parametrize("name, theirs, all_hyper, hyper", [c for c in CASES if c.id.endswith("-0")])
def test_trains_a_network_like_torch(name, theirs, all_hyper, hyper):
    "The same network, batch norm included, under OneCycleLR, which changes momentum or betas as well as the rate."
    losses = []
    for make in (lambda p: OPTIMIZERS[name](p, lr=0.01, **hyper), lambda p: theirs(p, lr=0.01, **all_hyper)):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)).double()
        x, y = torch.randn(64, 5).double(), torch.randint(3, (64,))
        optimizer = make(net.parameters())
        cycled = name not in ("sgd", "adagrad", "adadelta")  # torch's SGD would get a momentum that ours has not
        schedule = T.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=20, cycle_momentum=cycled)
        for _ in range(20):

            def closure(net=net, optimizer=optimizer, x=x, y=y):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(net(x), y)
                loss.backward()
                return loss

            loss = optimizer.step(closure)
            schedule.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)


# ---- Lion and Muon against their papers


def test_lion_is_algorithm_2():
    "Chen et al. 2023, in NumPy, with a rate that changes; a weight without a gradient is left alone."
    rng, lr, decay, (beta1, beta2) = np.random.default_rng(0), 0.02, 0.3, (0.8, 0.95)
    theta, m = rng.standard_normal((4, 3)), np.zeros((4, 3))
    w, unused = (torch.tensor(theta, requires_grad=True) for _ in range(2))
    optimizer = O.Lion([w, unused], lr=lr, betas=(beta1, beta2), weight_decay=decay)
    for t in range(100):
        if t == 50:
            lr = optimizer.param_groups[0]["lr"] = 0.002
        g = rng.standard_normal(theta.shape) + theta
        c = beta1 * m + (1 - beta1) * g
        theta = theta - lr * (np.sign(c) + decay * theta)
        m = beta2 * m + (1 - beta2) * g
        w.grad = torch.tensor(g)
        optimizer.step()
        np.testing.assert_allclose(w.detach(), theta, rtol=0, atol=1e-12)
    assert list(optimizer.state[w]) == ["exp_avg"] and unused not in optimizer.state


def newton_schulz(x, steps):
    "The iteration as Jordan et al. print it, on a matrix that is not tall."
    x = x / np.linalg.norm(x)
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (5, 5), (6, 2, 3, 3), (1, 3)])
@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_is_the_published_step(shape, nesterov):
    rng, lr, decay, mu, steps = np.random.default_rng(1), 0.02, 0.3, 0.9, 4
    theta = rng.standard_normal((shape[0], math.prod(shape[1:])))
    v, tall = np.zeros_like(theta), theta.shape[0] > theta.shape[1]
    w = torch.tensor(theta.reshape(shape), requires_grad=True)
    optimizer = O.Muon([w], lr=lr, weight_decay=decay, momentum=mu, nesterov=nesterov, ns_steps=steps)
    for t in range(60):
        if t == 30:
            lr = optimizer.param_groups[0]["lr"] = 0.002
        g = rng.standard_normal(theta.shape) + theta
        v = mu * v + (1 - mu) * g
        d = (1 - mu) * g + mu * v if nesterov else v
        o = newton_schulz(d.T, steps).T if tall else newton_schulz(d, steps)
        theta = theta - lr * decay * theta - lr * max(1, theta.shape[0] / theta.shape[1]) ** 0.5 * o
        w.grad = torch.tensor(g.reshape(shape))
        optimizer.step()
        np.testing.assert_allclose(w.detach().reshape(theta.shape), theta, rtol=0, atol=1e-12)


def test_muon_makes_all_singular_values_alike_and_knows_no_axes():
    g = torch.randn(12, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    u, s, vt = torch.linalg.svd(g, full_matrices=False)
    g = u @ torch.diag(torch.logspace(0, -1.5, 12, dtype=torch.float64)) @ vt
    made = torch.linalg.svdvals(O._orthogonalize(g))
    assert made.min() > 0.6 and made.max() < 1.3
    assert O._orthogonalize(torch.zeros(3, 4)).abs().max() == 0
    for matrix in (g, g.T):
        q, _ = torch.linalg.qr(torch.randn(len(matrix), len(matrix), dtype=torch.float64))
        torch.testing.assert_close(O._orthogonalize(q @ matrix), q @ O._orthogonalize(matrix), rtol=0, atol=1e-12)


@pytest.mark.skipif(not hasattr(T, "Muon"), reason="torch has Muon since 2.9")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("hyper", [{}, {"momentum": 0.5, "nesterov": False, "weight_decay": 0.0, "ns_steps": 3}])
def test_muon_equals_torchs_in_bfloat16(hyper, dtype):
    "And their states are interchangeable: torch's computes in bfloat16, so ours goes on in it."
    tol = {torch.float64: 1e-12, torch.float32: 1e-5}[dtype]
    shapes = ((4, 7), (9, 4))
    make = [lambda p: O.Muon(p, lr=0.02, bf16=True, **hyper), lambda p: T.Muon(p, lr=0.02, **hyper)]
    ends = []
    for first, second in ((0, 0), (1, 1), (0, 1), (1, 0)):
        rng = torch.Generator().manual_seed(5)
        params = [torch.randn(shape, generator=rng, dtype=dtype).requires_grad_() for shape in shapes]
        optimizer = make[first](params)
        run(optimizer, params, 20, seed=1)
        state = copy.deepcopy(optimizer.state_dict())
        optimizer = O.Muon(params, lr=0.5) if second == 0 else T.Muon(params, lr=0.5)
        optimizer.load_state_dict(state)
        run(optimizer, params, 20, seed=2)
        ends.append(torch.cat([p.detach().flatten() for p in params]))
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=0, atol=tol)


@pytest.mark.skipif(not hasattr(T, "Muon"), reason="torch has Muon since 2.9")
def test_a_muon_state_that_computes_something_else_is_refused():
    w = torch.zeros(2, 2, requires_grad=True)
    for wrong, words in (({"adjust_lr_fn": "match_rms_adamw"}, "adjust_lr_fn='match_rms_adamw', Muon has None"),
                         ({"ns_coefficients": (2.0, -1.5, 0.5)}, "ns_coefficients=(2.0, -1.5, 0.5), Muon has (3.4445")):
        with pytest.raises(ValueError, match=re.escape(words)):
            O.Muon([w]).load_state_dict(T.Muon([w], **wrong).state_dict())


# ---- state


def run(optimizer, params, steps, seed):
    rng = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for p in params:
            p.grad = torch.randn(p.shape, generator=rng, dtype=p.dtype) + p.detach()
        optimizer.step()


def fresh(dtype=torch.float64, name="sgd"):
    rng = torch.Generator().manual_seed(5)
    shapes = ((4, 3), (3, 7), (2, 3, 2, 2)) if name == "muon" else ((4, 3), (7,), ())
    return [torch.randn(shape, generator=rng, dtype=dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name, hyper", SETTINGS)
def test_state_survives_the_disk_exactly(name, hyper, dtype):
    "20 steps, saved, loaded by torch.load(weights_only=True), 20 more: bit for bit what 40 steps give."
    params = fresh(dtype, name)
    optimizer = OPTIMIZERS[name](params, lr=0.01, **hyper)
    run(optimizer, params, 20, seed=1)
    file = io.BytesIO()
    torch.save({"state": optimizer.state_dict(), "params": [p.detach() for p in params]}, file)
    run(optimizer, params, 20, seed=2)

    saved = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    again = [p.requires_grad_() for p in saved["params"]]
    resumed = OPTIMIZERS[name](again, lr=0.5)  # every hyper-parameter comes from the file
    resumed.load_state_dict(saved["state"])
    run(resumed, again, 20, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(params, again, strict=True))
    for mine, other in zip(optimizer.state.values(), resumed.state.values(), strict=True):
        assert mine.keys() == other.keys() and all(
            torch.equal(mine[k], other[k]) and mine[k].dtype == other[k].dtype for k in mine
        )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_is_tensors_that_safetensors_takes(name):
    params = fresh(name=name)
    optimizer = OPTIMIZERS[name](params, lr=0.01)
    run(optimizer, params, 3, seed=1)
    flat = {f"{i}.{k}": v for i, state in optimizer.state_dict()["state"].items() for k, v in state.items()}
    assert all(isinstance(v, torch.Tensor) for v in flat.values())
    back = st_load(st_save(flat)) if flat else {}
    assert all(torch.equal(v, back[k]) for k, v in flat.items())
    json.dumps(optimizer.state_dict()["param_groups"])  # and what is left is plain


@pytest.mark.parametrize("name, theirs, all_hyper, hyper", [c for c in CASES if c.id.endswith("-0")])
def test_checkpoints_are_interchangeable_with_torch(name, theirs, all_hyper, hyper):
    "20 steps with torch's, 20 with ours; and the reverse. Its SGD is three of ours, told apart by hyper-parameters."
    make = [lambda p: OPTIMIZERS[name](p, lr=0.01, **hyper), lambda p: theirs(p, lr=0.01, **all_hyper)]
    ends = []
    for first, second in ((0, 0), (1, 0), (0, 1)):
        params = fresh()
        optimizer = make[first](params)
        run(optimizer, params, 20, seed=1)
        state, optimizer = copy.deepcopy(optimizer.state_dict()), make[second](params)
        optimizer.load_state_dict(state)
        run(optimizer, params, 20, seed=2)
        ends.append(torch.cat([p.detach().flatten() for p in params]))
    torch.testing.assert_close(ends[1], ends[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(ends[2], ends[0], rtol=0, atol=1e-12)


def test_state_bytes_per_weight():
    each = {}
    for name in OPTIMIZERS:
        w = torch.zeros(100, 100, requires_grad=True)
        optimizer = make_optimizer(name, [w], lr=0.1)
        run(optimizer, [w], 2, seed=0)
        each[name] = (_state_bytes(optimizer) - 8 * ("step" in optimizer.state[w])) / w.numel()
    assert each == {
        "sgd": 0,
        "momentum": 4,
        "nesterov": 4,
        "adagrad": 4,
        "adadelta": 8,
        "rmsprop": 4,
        "adam": 8,
        "adamw": 8,
        "lion": 4,
        "muon": 4,
    }


@pytest.mark.parametrize("name, hyper", SETTINGS)
def test_a_step_reads_no_tensor_back(name, hyper, monkeypatch):
    "Anything that would make the CPU wait for a GPU: item, bool, float, tolist, numpy."
    params = fresh(torch.float32, name)
    optimizer = OPTIMIZERS[name](params, lr=0.01, **hyper)
    for p in params:
        p.grad = torch.ones_like(p)

    def refuse(self, *args):
        raise AssertionError("a tensor was read back")

    for method in ("item", "__bool__", "__float__", "__int__", "tolist", "numpy", "cpu"):
        monkeypatch.setattr(torch.Tensor, method, refuse)
    for _ in range(3):
        optimizer.step()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name, hyper", SETTINGS)
def test_a_step_does_not_synchronize_the_gpu_and_gives_what_the_cpu_gives(name, hyper):
    ends = []
    for device in ("cpu", "cuda"):
        params = [p.detach().to(device).requires_grad_() for p in fresh(name=name)]
        optimizer = OPTIMIZERS[name](params, lr=0.01, **hyper)
        for _ in range(10):
            for p in params:
                p.grad = p.detach() + 1
            torch.cuda.set_sync_debug_mode("error")
            try:
                optimizer.step()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        ends.append(torch.cat([p.detach().cpu().flatten() for p in params]))
    torch.testing.assert_close(ends[1], ends[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_bfloat16_and_memory_format_are_kept(name):
    w = torch.randn(2, 3, 4, 4).to(torch.bfloat16).to(memory_format=torch.channels_last).requires_grad_()
    optimizer = make_optimizer(name, [w], lr=0.01)
    w.grad = torch.randn_like(w)
    before = w.detach().clone()
    optimizer.step()
    assert (
        w.dtype == torch.bfloat16 and w.is_contiguous(memory_format=torch.channels_last) and not torch.equal(w, before)
    )
    assert all(v.is_contiguous(memory_format=torch.channels_last) for k, v in optimizer.state[w].items() if k != "step")


# ---- what is refused


@pytest.mark.parametrize(
    "name, hyper, words",
    [
        ("sgd", {"lr": -0.1}, "lr must be a number >= 0, got -0.1"),
        ("sgd", {"lr": float("nan")}, "lr must be a number >= 0, got nan"),
        ("sgd", {"lr": torch.tensor(0.1)}, "lr must be a number"),
        ("sgd", {"weight_decay": float("inf")}, "weight_decay must be"),
        ("momentum", {"momentum": 1.0}, "momentum must be a number >= 0 and < 1, got 1.0"),
        ("adam", {"betas": (0.9, 1.0)}, "betas must be a number >= 0 and < 1, got 1.0"),
        ("adam", {"betas": (0.9,)}, "betas must be (beta1, beta2), got (0.9,)"),
        ("adam", {"eps": -1e-8}, "eps must be"),
        ("adagrad", {"lr_decay": -1}, "lr_decay must be"),
        ("rmsprop", {"alpha": 1.5}, "alpha must be"),
        ("adadelta", {"rho": -0.1}, "rho must be"),
        ("lion", {"betas": (0.9, 1.0)}, "betas must be a number >= 0 and < 1, got 1.0"),
        ("lion", {"weight_decay": -1}, "weight_decay must be"),
        ("lion", {"eps": 1e-8}, "lion takes no 'eps': it takes lr, betas, weight_decay"),
        ("muon", {"momentum": 1.0}, "momentum must be a number >= 0 and < 1, got 1.0"),
        ("muon", {"ns_steps": 0}, "ns_steps must be a whole number >= 1 and <= 99, got 0"),
        ("muon", {"ns_steps": 2.5}, "ns_steps must be a whole number"),
        ("muon", {"eps": float("nan")}, "eps must be"),
        ("muon", {}, "not a weight of shape (2,): give such weights to AdamW"),
        ("sgd", {"momentum": 0.9}, "sgd takes no 'momentum': it takes lr, weight_decay"),
        ("adm", {}, "Did you mean 'adam'?"),
    ],
)
def test_bad_hyper_parameters_are_named(name, hyper, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        make_optimizer(name, [torch.zeros(2, requires_grad=True)], **hyper)


def test_a_bad_group_is_named_too():
    w = torch.zeros(2, requires_grad=True)
    with pytest.raises(ValueError, match="betas must be"):
        O.Adam([{"params": [w], "betas": (0.9, 2.0)}])


def test_a_refused_group_is_not_kept():
    optimizer = O.Muon([torch.zeros(2, 2, requires_grad=True)])
    for group, words in (
        ({"params": [torch.zeros(2, 2), torch.zeros(3)]}, "shape \\(3,\\)"),
        ({"params": [torch.zeros(2, 2)], "ns_steps": 200}, "ns_steps must be"),
        ({"params": [torch.zeros(2, 2)], "lr": -1}, "lr must be"),
    ):
        with pytest.raises(ValueError, match=words):
            optimizer.add_param_group(group)
        assert len(optimizer.param_groups) == 1
    optimizer.add_param_group({"params": [torch.zeros(2, 2, requires_grad=True)], "ns_steps": 7})
    assert [g["ns_steps"] for g in optimizer.param_groups] == [5, 7]


def test_no_parameters_and_sparse_gradients():
    with pytest.raises(ValueError, match="empty parameter list"):
        O.SGD([])
    table = nn.Embedding(5, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match="sparse gradient"):
        O.Adam(table.parameters()).step()


def test_betas_are_two():
    for wrong in (0.9, (0.9,), None):
        with pytest.raises(ValueError, match=r"betas must be \(beta1, beta2\), got"):
            O.Adam([torch.zeros(2, requires_grad=True)], betas=wrong)


def test_an_optimizer_is_an_sgd_only_if_it_is_one():
    "Adam is none, and a group of Lion's says nothing of a momentum that it hasn't."
    weights = [torch.zeros(2, 2, requires_grad=True)]
    kinds = {name: make_optimizer(name, weights) for name in OPTIMIZERS}
    assert [name for name, made in kinds.items() if isinstance(made, O.SGD)] == ["sgd"]
    assert isinstance(kinds["nesterov"], O.Momentum) and isinstance(kinds["adamw"], O.Adam)
    assert set(kinds["lion"].state_dict()["param_groups"][0]) == {"lr", "betas", "weight_decay", "params"}
