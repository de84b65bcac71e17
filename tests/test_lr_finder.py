"""cam_course.lr_finder: everything restored, loaders, groups."""
import copy
import itertools
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cam_course.averages import ewma
from cam_course.base.lr_curve import METHODS
from cam_course.data import LoadedBatches, shapes
from cam_course.lr_finder import DataBatches, LRFinder, WatchedRangeTest
from cam_course.weight_averaging import SAM


class Net(nn.Module):
    "BatchNorm, dropout, a frozen layer, a frozen BatchNorm in eval mode, a buffer that the forward pass replaces."

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.drop = nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.3)
        self.frozen, self.fixed, self.last = nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Linear(16, 3)
        self.frozen.requires_grad_(False)
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, x):
        self.calls = self.calls + 1
        x = self.drop(torch.relu(self.norm(self.first(x))))
        return self.last(self.fixed(torch.relu(self.frozen(x))))


class Temperature(nn.Module):
    "A loss with a parameter of its own."

    def __init__(self):
        super().__init__()
        self.log_t = nn.Parameter(torch.zeros(()))

    def forward(self, out, y): return F.cross_entropy(out*self.log_t.exp(), y)


class Noisy(torch.utils.data.Dataset):
    "A data set with a generator of its own."

    def __init__(self, x, y): self.x, self.y, self.rng = x, y, np.random.default_rng(3)
    def __len__(self): return len(self.x)
    def __getitem__(self, i): return self.x[i] + float(self.rng.normal(0, 0.01)), self.y[i]


def mid_training(kind="adam"):
    "A model, optimizer, loss and loader in the middle of a training, gradients still there."
    torch.manual_seed(0)
    model, criterion = Net(), Temperature()
    x, y = torch.randn(96, 8), torch.randint(0, 3, (96,))
    loader = DataLoader(Noisy(x, y), 16, shuffle=True, generator=torch.Generator().manual_seed(5))
    slow, fast = [*model.first.parameters(), *model.norm.parameters()], [*model.last.parameters(), criterion.log_t]
    groups = [{"params": slow, "lr": 1e-3}, {"params": fast, "lr": 4e-3}]
    optimizer = {"adam": lambda: torch.optim.Adam(groups, amsgrad=True), "sgd": lambda: torch.optim.SGD(groups, momentum=0.9),
                 "tensor lr": lambda: torch.optim.Adam([{**g, "lr": torch.tensor(g["lr"])} for g in groups], foreach=False),
                 }[kind]()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    model.train()
    model.fixed.eval()
    for a, b in itertools.islice(itertools.cycle(loader), 7):
        optimizer.zero_grad()
        criterion(model(a), b).backward()
        optimizer.step()
        scheduler.step()
    model.first.bias.grad = None                      # None must stay None
    return model, optimizer, criterion, loader


def bits(t): return None if t is None else (t.dtype, tuple(t.shape), t.stride(), t.detach().numpy().tobytes())


def everything(model, optimizer, criterion, loader):
    "All that a range test might change, by name; tensors as their bytes and their identity."
    seen = {}
    for part, module in {"model": model, "criterion": criterion}.items():
        for name, p in module.named_parameters():
            seen[f"{part}.{name}"] = id(p), bits(p), p.requires_grad
            seen[f"{part}.{name}.grad"] = id(p.grad), bits(p.grad)
        for name, b in module.named_buffers(): seen[f"{part}.{name}"] = id(b), bits(b)
        for name, m in module.named_modules(): seen[f"{part}.{name}.training"] = m.training
    for i, group in enumerate(optimizer.param_groups):
        for k, v in group.items():
            seen[f"group {i} {k}"] = bits(v) if torch.is_tensor(v) else [id(p) for p in v] if k == "params" else v
    names = {p: i for i, p in enumerate(p for g in optimizer.param_groups for p in g["params"])}
    for p, entries in optimizer.state.items():
        for k, v in entries.items(): seen[f"state {names[p]} {k}"] = (id(v), bits(v)) if torch.is_tensor(v) else v
    seen["optimizer attributes"] = {k: id(v) for k, v in vars(optimizer).items()}
    seen["python"], seen["torch"] = random.getstate(), bits(torch.get_rng_state())
    seen["numpy"] = [a.tolist() if isinstance(a, np.ndarray) else a for a in np.random.get_state()]
    seen["loader"], seen["data set"] = bits(loader.generator.get_state()), loader.dataset.rng.bit_generator.state
    if torch.cuda.is_available(): seen["cuda"] = [bits(s) for s in torch.cuda.get_rng_state_all()]
    return copy.deepcopy(seen)


class Fails:
    "The criterion, but for one call."

    def __init__(self, criterion, step, error): self.criterion, self.step, self.error, self.calls = criterion, step, error, 0

    def __call__(self, out, y):
        self.calls += 1
        random.random(), np.random.random()
        if self.calls == self.step: raise self.error
        return self.criterion(out, y)


@pytest.mark.parametrize("kind", ["adam", "sgd", "tensor lr"])
@pytest.mark.parametrize("error", [None, RuntimeError("out of memory"), KeyboardInterrupt()])
def test_everything_is_as_before(kind, error):
    parts = model, optimizer, criterion, loader = mid_training(kind)
    before = everything(*parts)
    assert len(before) > 70 and "model.calls" in before
    assert f"state 3 {'momentum_buffer' if kind == 'sgd' else 'exp_avg_sq'}" in before
    finder = LRFinder(model, optimizer, Fails(criterion, 37 if error else 10**9, error))
    if error is None:
        assert len(finder.range_test(loader, num_iter=60, end_lr=1, progress=False).lr) == 60
    else:
        with pytest.raises(type(error)): finder.range_test(loader, num_iter=60, end_lr=1, progress=False)
        assert finder.criterion.calls == 37
    after = everything(*parts)
    assert after.keys() == before.keys()
    assert not [name for name in before if before[name] != after[name]]


def test_a_criterion_that_is_a_module_is_restored_too_and_reruns_are_alike():
    parts = model, optimizer, criterion, loader = mid_training()
    before, finder = everything(*parts), LRFinder(model, optimizer, criterion)
    runs = [finder.range_test(loader, num_iter=40, progress=False) for _ in range(2)]
    assert np.array_equal(runs[0].loss, runs[1].loss)
    assert everything(*parts) == before


def by_hand(model, optimizer, criterion, batches, rates=None):
    "The losses of a training without a finder, at rates of its own or the optimizer's."
    found = []
    for lr, (x, y) in zip(itertools.repeat(None) if rates is None else rates, batches, strict=False):
        for group in optimizer.param_groups: group["lr"] = group["lr"] if lr is None else float(lr)
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def test_the_training_goes_on_as_if_nothing_had_been():
    losses = []
    for test in (False, True):
        model, optimizer, criterion, loader = mid_training()
        if test: LRFinder(model, optimizer, criterion).range_test(loader, progress=False)
        losses.append(by_hand(model, optimizer, criterion, loader))
    assert losses[0] == losses[1] and len(losses[0]) == 6


def test_an_optimizer_in_its_first_step_and_a_factory():
    torch.manual_seed(0)
    model = Net()
    finder = LRFinder(model, lambda p: torch.optim.Adam(p, lr=1e-3), F.cross_entropy)
    assert {id(p) for p in finder.optimizer.param_groups[0]["params"]} == {id(p) for p in model.parameters() if p.requires_grad}
    finder.range_test([(torch.randn(16, 8), torch.randint(0, 3, (16,)))], num_iter=20, progress=False)
    assert not finder.optimizer.state and all(p.grad is None for p in model.parameters())
    assert finder.optimizer.param_groups[0]["lr"] == 1e-3


def watched(optimizer):
    "The rates of all groups at each step."
    seen, step = [], optimizer.step
    optimizer.step = lambda *a: (seen.append([float(g["lr"]) for g in optimizer.param_groups]), step(*a))[1]
    return seen


@pytest.mark.parametrize("kind", ["adam", "tensor lr"])
def test_rates_of_the_groups(kind):
    model, optimizer, criterion, loader = mid_training(kind)
    seen = watched(optimizer)
    r = LRFinder(model, optimizer, criterion).range_test(loader, 1e-6, 10, 50, diverge_th=1e9, progress=False)
    seen = np.array(seen)
    assert r.lr[0] == 1e-6 and r.lr[-1] == 10 and np.allclose(r.lr, np.geomspace(1e-6, 10, 50), rtol=1e-12)
    assert np.allclose(seen[:, 1], r.lr[:-1], rtol=1e-6) and np.allclose(seen[:, 0], r.lr[:-1]/4, rtol=1e-6)
    linear = LRFinder(model, optimizer, criterion).range_test(loader, 0.1, 0.5, 5, "linear", progress=False)
    assert np.allclose(linear.lr, [0.1, 0.2, 0.3, 0.4, 0.5], rtol=1e-12) and linear.lr[-1] == 0.5
    first = LRFinder(model, optimizer, criterion).range_test(loader, None, 0.5, 5, progress=False).lr[0]
    assert first == max(float(g["lr"]) for g in optimizer.param_groups)


def scripted(losses):
    "A finder whose losses are these numbers."
    model, values = nn.Linear(1, 1), iter(losses)
    criterion = lambda out, y: out.sum()*0 + next(values)
    finder = LRFinder(model, lambda p: torch.optim.SGD(p, lr=1), criterion)
    data = [(torch.zeros(1, 1), torch.zeros(1))]
    return lambda **kw: finder.range_test(data, num_iter=len(losses), progress=False, **kw)


def test_smoothing_and_stop():
    r = scripted([2.3]*100)()
    assert np.abs(r.smoothed - r.loss).max() < 1e-12 and r.stopped_because.startswith("finished")
    losses = np.r_[np.linspace(2, 1, 60), np.geomspace(1, 400, 40)]
    r = scripted(losses)()
    want = ewma(losses, 0.95)
    stop = int(np.flatnonzero(want > 4*np.minimum.accumulate(want))[0]) + 1
    assert len(r.lr) == stop < 100 and r.stopped_because.startswith("diverged") and f"step {stop}" in r.stopped_because
    assert np.allclose(r.smoothed, want[:stop], rtol=1e-6)
    assert len(scripted(losses)(diverge_th=1e9).lr) == 100
    assert len(scripted(losses)(smooth_f=0).lr) == int(np.flatnonzero(losses > 4*np.minimum.accumulate(losses))[0]) + 1


def test_a_negative_loss_is_not_taken_for_a_divergence():
    losses = np.r_[np.linspace(3, -2, 90), np.linspace(-2, -1.5, 10)]
    assert len(scripted(losses)(smooth_f=0).lr) == 100
    assert scripted(np.r_[losses, 30.0])(smooth_f=0).stopped_because.startswith("diverged")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_stop_at_once(bad):
    r = scripted([2.0]*20 + [bad] + [2.0]*20)()
    assert len(r.lr) == 20 and r.stopped_because.startswith("not finite") and "step 21" in r.stopped_because
    r = scripted([bad]*30)()
    assert len(r.lr) == 0 and r.suggestion() is None and "no finite loss" in r.why()
    assert str(r) and r.alt() and r.plot()


# ---- loaders and arguments

def plain():
    torch.manual_seed(0)
    return LRFinder(nn.Linear(4, 3), lambda p: torch.optim.SGD(p, lr=0.1), F.cross_entropy)


def pairs(n=5): return [(torch.randn(6, 4), torch.randint(0, 3, (6,))) for _ in range(n)]


def test_any_iterable_of_pairs():
    torch.manual_seed(1)
    data = pairs()
    want = plain().range_test(data, num_iter=23, progress=False).loss
    for loader in (tuple(data), iter(data), (p for p in data), DataLoader(data, batch_size=None), [(*p, "more") for p in data],
                   map(list, data)):
        assert np.array_equal(plain().range_test(loader, num_iter=23, progress=False).loss, want)


def test_inputs_may_be_nested_and_losses_anything():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 1)

        def forward(self, inputs): return self.a(inputs["x"]) + inputs["more"][0]

    data = [({"x": torch.randn(8, 4), "more": [torch.ones(8, 1)]}, torch.randn(8, 1))]
    r = LRFinder(Two(), lambda p: torch.optim.SGD(p, lr=0.1), nn.HuberLoss()).range_test(data, progress=False)
    assert len(r.lr) > 50


def test_a_loader_gives_the_same_order_afterwards():
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(60, 4), torch.randint(0, 3, (60,)))
    for generator in (None, torch.Generator().manual_seed(1)):
        loader = DataLoader(data, 6, shuffle=True, generator=generator)
        state = (generator or torch.default_generator).get_state()
        want = [y.tolist() for _, y in loader]
        (generator or torch.default_generator).set_state(state)
        plain().range_test(loader, num_iter=25, progress=False) if generator else None
        finder = LRFinder(nn.Linear(4, 3), lambda p: torch.optim.SGD(p, lr=0.1), F.cross_entropy)
        (generator or torch.default_generator).set_state(state)
        finder.range_test(loader, num_iter=25, progress=False)
        assert [y.tolist() for _, y in loader] == want


def test_image_data_and_batches():
    data = shapes(64)
    finder = LRFinder(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), lambda p: torch.optim.SGD(p, lr=0.1), F.cross_entropy)
    r = finder.range_test(DataBatches(data, 16), num_iter=12, progress=False)
    assert len(r.lr) == 12
    first, again, other = (next(iter(b)) for b in (DataBatches(data, 16), DataBatches(data, 16), DataBatches(data, 16, seed=1)))
    assert torch.equal(first[0], again[0]) and not torch.equal(first[0], other[0])
    orders = [y.tolist() for _, y in itertools.islice(DataBatches(data, 16), 8)]
    epochs = [sorted(itertools.chain(*part)) for part in (orders[:4], orders[4:])]
    assert orders[:4] != orders[4:] and epochs == [sorted(data.y.tolist())]*2
    assert len(finder.range_test(shapes(130), num_iter=3, progress=False).lr) == 3      # 128 a batch


def test_loaded_batches_are_their_loader():
    "What the Trainer makes of a DataLoader, with a generator in the loader and another in its data set."
    torch.manual_seed(0)
    x, y = torch.randn(64, 4), torch.randint(0, 3, (64,))
    loader = DataLoader(Noisy(x, y), 16, shuffle=True, generator=torch.Generator().manual_seed(5))
    finder, loaded = plain(), LoadedBatches("train", loader)
    runs = [finder.range_test(given, num_iter=12, progress=False) for given in (loader, loaded, loader)]
    assert np.array_equal(runs[0].loss, runs[1].loss) and np.array_equal(runs[0].loss, runs[2].loss)
    spread = finder.over_seeds(3, loaded, num_iter=12, progress=False)
    again = finder.over_seeds(3, loader, num_iter=12, progress=False)
    losses = [r.loss for r in spread.results]
    assert all(np.array_equal(a, r.loss) for a, r in zip(losses, again.results, strict=True))
    assert not np.array_equal(losses[0], losses[1]) and not np.array_equal(losses[1], losses[2])


def test_optimizers_of_several_gradients_a_step_are_refused():
    model = nn.Linear(4, 3)
    inner = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="SAM computes the loss several times a step.*the SGD inside it"):
        LRFinder(model, SAM(inner), F.cross_entropy)
    with pytest.raises(ValueError, match="LBFGS computes .*torch.optim.SGD"):
        LRFinder(model, torch.optim.LBFGS(model.parameters()), F.cross_entropy)
    torch.optim.lr_scheduler.StepLR(inner, 5)            # wraps `step`: still one gradient
    assert len(LRFinder(model, inner, F.cross_entropy).range_test(pairs(), num_iter=3, progress=False).lr) == 3


def test_a_watched_test_holds_what_was_seen():
    r = plain().range_test(pairs(), num_iter=40, progress=False)
    watched = WatchedRangeTest.of(r)
    assert watched.step == len(watched.lr) == len(r.lr) and np.array_equal(watched.result().loss, r.loss)
    assert watched.alt() == r.alt() and watched.rules == {m: lr for m in METHODS if (lr := r.suggestion(m)) is not None}
    with pytest.raises(ValueError, match="nothing to watch"): WatchedRangeTest.of(type(r)(r.lr[:1], r.loss[:1]))
    fields = {name: getattr(watched, name) for name in watched.__dataclass_fields__}
    with pytest.raises(ValueError, match="step"): WatchedRangeTest(**{**fields, "step": 0})


@pytest.mark.parametrize(("call", "says"), [
    (lambda f: f.range_test([]), r"the loader \(list\) gives no batches"),
    (lambda f: f.range_test(iter([])), "gives no batches"),
    (lambda f: f.range_test([torch.zeros(2, 4)]), r"a batch is a Tensor, not \(input, target\): give a loader of pairs"),
    (lambda f: f.range_test([{"x": 1}]), "a batch is a dict"),
    (lambda f: f.range_test(pairs(), step_mode="log"), "unknown step_mode 'log'"),
    (lambda f: f.range_test(pairs(), start_lr=0), "start_lr must be a number > 0"),
    (lambda f: f.range_test(pairs(), start_lr=1, end_lr=0.1), "end_lr must be a number > 1"),
    (lambda f: f.range_test(pairs(), num_iter=1), "num_iter must be a whole number >= 2"),
    (lambda f: f.range_test(pairs(), smooth_f=2), "smooth_f must be"),
    (lambda f: f.range_test(pairs(), diverge_th=1), "diverge_th must be"),
    (lambda f: LRFinder(f.model, f.optimizer, F.cross_entropy, "meta"), "the model is on cpu, not on meta: call model.to"),
    (lambda f: LRFinder(f.model, f.optimizer, nn.CrossEntropyLoss(reduction="none")).range_test(pairs()),
     r"shape \(6,\): take its mean"),
    (lambda f: LRFinder(f.model, f.optimizer, lambda a, b: 1.0).range_test(pairs()), "got float"),
    (lambda f: DataBatches(shapes(20), 50), "batch_size must be a whole number >= 1 and <= 20"),
    (lambda f: f.over_seeds(0, pairs()), "k must be"),
])
def test_bad_input_names_the_value(call, says):
    finder = plain()
    with pytest.raises(ValueError, match=f"(?i){says}"): call(finder)


def test_train_mode():
    model, optimizer, criterion, loader = mid_training()
    seen = []
    model.norm.register_forward_hook(lambda m, *_: seen.append((m.training, model.fixed.training)))
    finder = LRFinder(model, optimizer, criterion)
    finder.range_test(loader, num_iter=3, progress=False)
    model.eval()
    finder.range_test(loader, num_iter=3, progress=False)
    assert seen == [(True, False)]*3 + [(True, True)]*3 and not model.training      # frozen BatchNorm stays frozen


def test_over_seeds():
    data, torch_state = shapes(64), None
    new = lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(3072, 10))
    model = new()
    before, torch_state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    finder = LRFinder(model, lambda p: torch.optim.SGD(p, lr=0.1), F.cross_entropy)
    make = lambda: finder.over_seeds(3, lambda seed: DataBatches(data, 16, seed=seed), new, num_iter=40, progress=False)
    spread, again = make(), make()
    losses = [r.loss for r in spread.results]
    assert all(np.array_equal(a.loss, b) for a, b in zip(again.results, losses, strict=True))
    assert not np.array_equal(losses[0][:20], losses[1][:20])
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), torch_state)
    for m in METHODS:
        found = [r.suggestion(m) for r in spread.results if r.suggestion(m) is not None]
        assert sorted(spread.all(m)) == sorted(found)
        if len(found) > 1:
            assert spread.range(m) == (min(found), max(found)) and spread.suggestion(m) == np.median(found)
    assert str(spread) and spread.alt() and spread.plot()
