"""The remedy walk: what a message tells its reader to do is done here, on the input that raised it, and it helps.

The messages are read from the library's source (remedies.py), so that a new one without a case fails. Cases are here, and by
place in the library in remedy_cases_base.py, remedy_cases_course.py and remedy_cases_app.py.
"""
import contextlib
import copy
import importlib
import re
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from remedies import CASES, case, follows, modules, part, remedies
from test_reported_finder import tried
from torch import nn
from torch.optim import lr_scheduler as lrs

from cam_course import optimizers, plateau, schedules
from cam_course.app.trainer import Interrupted
from cam_course.base.lr_curve import LRFinderResult
from cam_course.data import opened, shapes
from cam_course.gallery import TensorBoardGallery
from cam_course.lr_finder import LRFinder
from cam_course.transforms import Normalize
from cam_course.weight_averaging import SAM, WeightAverage, update_bn

# What the rule takes for a remedy, and isn't: a value or a noun is called like a verb.
NO_REMEDIES = frozenset({
    "start must be two numbers, got {}", "start must be in [-3, 3], got {}", "start must be in [-4, 4], got {}",
    "Normalize needs one mean and one std > 0 per channel, got {} and {}",
    "Step {} of {} of an attack within {}/255: {} {} %, {} {} %; the network says {}."})

for place in ("base", "course", "app"): importlib.import_module(f"remedy_cases_{place}")     # whose cases stand beside those below


# ---- lr_curve

def steps(why: str) -> int: return int(re.search(r"num_iter=(\d+)", why)[1])
def end(why: str) -> float: return float(re.search(r"end_lr=([\d.e+-]*\d)", why)[1])
def start(why: str) -> float: return float(re.search(r"start_lr \(try (\S+)\)", why)[1])


def finds(r: LRFinderResult, without: str = "\n") -> None:
    assert r.suggestion() is not None and without not in r.why(), r.why()


case("{} rates, {} losses: give as many", lambda: LRFinderResult(np.array([1.0, 2.0]), np.array([1.0])),
     lambda _: LRFinderResult(np.array([1.0, 2.0]), np.array([1.0, 1.0])))
case("; but the loss is still falling at the end of the range: repeat with a larger end_lr",
     lambda: tried(1e-5, 0.01, 100, budget=4.0).why(),
     lambda _: finds(tried(1e-5, 10, 100, budget=4.0), "larger end_lr"))
case("; but the fall begins before the range does: repeat with a smaller start_lr", lambda: tried(1e-2, 10, 100).why(),
     lambda _: finds(tried(1e-6, 10, 100), "smaller start_lr"))
case("repeat with more steps (num_iter={})", lambda: tried(1e-3, 0.02, 9).why(), lambda why: finds(tried(1e-3, 0.02, steps(why))))
case("it rises at lr {}, at once: repeat with a smaller start_lr (try {})", lambda: tried(3.0, 100, 30).why(),
     lambda why: finds(tried(start(why), 100, 100)))
case("it rises at lr {}: repeat with end_lr={} and more steps (num_iter={})", lambda: tried(1e-5, 1e6, 20).why(),
     lambda why: finds(tried(1e-5, end(why), steps(why))))
case("repeat with end_lr={} and more steps (num_iter={})", lambda: tried(1e-7, 10, 60, smooth_f=1, budget=150, hump=True).why(),
     lambda why: finds(tried(1e-7, end(why), steps(why), smooth_f=1, budget=150, hump=True)))
case("the loss only rises: repeat with a smaller start_lr (try {})", lambda: tried(1.0, 100, 100).why(),
     lambda why: finds(tried(start(why), 100, 100)))
case("{}repeat with a larger end_lr or more steps (num_iter={})", lambda: tried(1e-7, 1e-4, 60, best=1e-4, budget=200.0).why(),
     lambda why: finds(tried(1e-7, 1e-4, steps(why), best=1e-4, budget=200.0)),
     lambda _: finds(tried(1e-7, 10, 60, best=1e-4, budget=200.0)))

# ---- lr_finder

X, Y = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3


def finder(net=None, loss=F.cross_entropy, optimizer=None, **kw):
    net = net or nn.Linear(4, 3)
    return LRFinder(net, optimizer or torch.optim.SGD(net.parameters(), lr=0.1), loss, **kw)


def test_run(loader, **kw): assert len(finder(**kw).range_test(loader, num_iter=3, progress=False).lr) == 3


test_run.__test__ = False
NETS = [nn.Linear(4, 3), nn.Linear(4, 3)]
case("a batch is a {}{}, not (input, target): give a loader of pairs", lambda: test_run([X]), lambda _: test_run([(X, Y)]))
case("a batch is a {} of {}, not (input, target): wrap the loader, for instance [(b[{}], b[{}]) for b in loader]",
     lambda: test_run([{"x": X, "y": Y}]),
     lambda why: test_run(eval(why.rpartition("for instance ")[2], {"loader": [{"x": X, "y": Y}]})))
case("{} holds {}, none that this {} trains: make it anew after the model, {}(model.parameters(), ...)",
     lambda: finder(NETS[0], optimizer=torch.optim.SGD(NETS[1].parameters(), lr=0.1)),
     lambda _: test_run([(X, Y)], net=NETS[0], optimizer=torch.optim.SGD(NETS[0].parameters(), lr=0.1)))


@follows("{} computes the loss several times a step, a range test once: test {}")
def one_gradient_a_step():
    model = nn.Linear(4, 3)
    said = yield lambda: finder(model, optimizer=torch.optim.LBFGS(model.parameters()))
    test_run([(X, Y)], net=model, optimizer=eval(part(r"(torch\.optim\.SGD\(.*\))", said), {"torch": torch, "model": model}))
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1))
    said = yield lambda: finder(model, optimizer=sam)
    assert type(sam.optimizer).__name__ == part("test the (.*) inside it", said)
    test_run([(X, Y)], net=model, optimizer=sam.optimizer)


case("the model is on {}, not on {}: call model.to({}) first", lambda: finder(NETS[0], device="meta"),
     lambda _: finder(nn.Linear(4, 3).to("meta"), device="meta"))
case("the model gives {} scores, a target is class {}: give the model {} outputs or more",
     lambda: test_run([(X, Y)], net=nn.Linear(4, 2)),
     lambda why: test_run([(X, Y)], net=nn.Linear(4, int(re.search(r"(\d+) outputs", why)[1]))))
case("the criterion must return one number as a tensor, got {}: take its mean",
     lambda: test_run([(X, Y)], loss=nn.CrossEntropyLoss(reduction="none")),
     lambda _: test_run([(X, Y)], loss=lambda out, y: nn.CrossEntropyLoss(reduction="none")(out, y).mean()))


def seeds(loader, *weights): assert len(finder().over_seeds(2, loader, *weights, num_iter=3, progress=False).results) == 2


case("an iterator can be read once, and each run begins anew: give the loader itself, or a function of the seed that makes one",
     lambda: seeds(iter([(X, Y)])), lambda _: seeds(torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), 4, shuffle=True)),
     lambda _: seeds(lambda seed: iter([(X + seed, Y)])))
case("two seeds gave the same run: batches, dropout and first weights don't depend on the seed; give a function of the seed that "
     "makes the loader, or weights=a function that makes a model", lambda: seeds([(X, Y)]),
     lambda _: seeds(lambda seed: [(X + seed, Y)]), lambda _: seeds([(X, Y)], lambda: nn.Linear(4, 3)))

# ---- optimizers

W = torch.tensor([1 + 2j])


def stepped(optimizer) -> None:
    for p in optimizer.param_groups[0]["params"]: p.grad = torch.ones_like(p)
    optimizer.step()


def embedded(sparse, make) -> None:
    table = nn.Embedding(5, 2, sparse=sparse)
    table(torch.tensor([1])).sum().backward()
    make(table.parameters()).step()


def by_shape(net: nn.Module) -> None:
    "Matrices by Muon, the rest by AdamW."
    net(X).sum().backward()
    optimizers.Muon([p for p in net.parameters() if p.ndim > 1]).step()
    optimizers.AdamW([p for p in net.parameters() if p.ndim < 2]).step()


case("{} takes real weights, not complex ones: give torch.view_as_real(w) of a detached w, or use torch's optimizer",
     lambda: optimizers.Adam([W.requires_grad_()]),
     lambda _: stepped(optimizers.Adam([torch.view_as_real(W.detach()).requires_grad_()])),
     lambda _: stepped(torch.optim.Adam([W.detach().requires_grad_()])))
case("the state has no {}, {} needs it: load it into the class that saved it",
     lambda: optimizers.Adam([X]).load_state_dict(optimizers.SGD([X]).state_dict()),
     lambda _: optimizers.SGD([X]).load_state_dict(optimizers.SGD([X]).state_dict()))
case("the state has {}={}, {} has {}: load it into the class that saved it",
     lambda: optimizers.Momentum([X]).load_state_dict(optimizers.Nesterov([X]).state_dict()),
     lambda _: optimizers.Nesterov([X]).load_state_dict(optimizers.Nesterov([X]).state_dict()))
case("sparse gradient: use nn.Embedding(..., sparse=False) or torch.optim.SparseAdam", lambda: embedded(True, optimizers.Adam),
     lambda _: embedded(False, optimizers.Adam), lambda _: embedded(True, lambda p: torch.optim.SparseAdam(list(p))))

case("Muon turns matrices and kernels, of two dimensions or more, not a weight of shape {}: give such weights to AdamW",
     lambda: optimizers.Muon(nn.Linear(4, 3).parameters()), lambda _: by_shape(nn.Linear(4, 3)))


# ---- schedules and plateau


def sgd(groups=1, **kw): return torch.optim.SGD([{"params": [torch.zeros(1, requires_grad=True)]} for _ in range(groups)], lr=0.1, **kw)


def added(make, late):
    "A schedule before the last add_param_group, or after it."
    optimizer = sgd()
    schedule = None if late else make(optimizer)
    optimizer.add_param_group({"params": [torch.zeros(1)]})
    schedule = schedule or make(optimizer)
    for _ in range(2): schedule.step(1.0) if hasattr(schedule, "num_bad_epochs") else schedule.step()


def cycled(total, steps):
    schedule = schedules.OneCycleLR(sgd(momentum=0.9), 0.1, total_steps=total)
    for _ in range(steps): schedule.step()


def again(initial=None, state=None):
    "A cosine that goes on at step 5: without what it needs, with the optimizer's state, or as a fresh one with its own state."
    old = schedules.CosineAnnealingLR(sgd(), 9)
    for _ in range(5): old.step()
    optimizer = sgd()
    if initial: optimizer.load_state_dict(old.optimizer.state_dict())
    if state: schedules.CosineAnnealingLR(optimizer, 9).load_state_dict(old.state_dict())
    else: schedules.CosineAnnealingLR(optimizer, 9, last_epoch=4)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(old.get_last_lr()[0])


def warmed(optimizer):
    "As WarmupLR's message says: it first, the plateau after it."
    first, after = schedules.WarmupLR(schedules.LambdaLR(optimizer, lambda k: 1.0), 5), plateau.ReduceLROnPlateau(optimizer, patience=0)
    for epoch in range(7): after.step(1.0) if epoch >= 5 else first.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)


def joined():
    "LinearLR and the wanted schedule by torch's SequentialLR."
    optimizer = sgd()
    parts = [lrs.LinearLR(optimizer, 1/3, total_iters=5), lrs.StepLR(optimizer, 3)]
    whole = lrs.SequentialLR(optimizer, parts, [5])
    assert whole.get_last_lr() == [pytest.approx(0.1/3)]
    for _ in range(5): whole.step()
    assert whole.get_last_lr() == [pytest.approx(0.1)]


case("{} has {} values, the optimizer {} param groups: give one number, or one for each group",
     lambda: schedules.OneCycleLR(sgd(2, momentum=0.9), [0.1], total_steps=9),
     lambda _: schedules.OneCycleLR(sgd(2, momentum=0.9), 0.1, total_steps=9),
     lambda _: schedules.OneCycleLR(sgd(2, momentum=0.9), [0.1, 0.2], total_steps=9))
case("the state is of another kind of schedule than {}, it has no {}: make the schedule that was saved",
     lambda: schedules.StepLR(sgd(), 3).load_state_dict(schedules.CosineAnnealingLR(sgd(), 3).state_dict()),
     lambda _: schedules.CosineAnnealingLR(sgd(), 3).load_state_dict(schedules.CosineAnnealingLR(sgd(), 3).state_dict()))
case("the state was saved with {}={}, this {} has {}={}: make it with the settings that were saved, or don't load its state",
     lambda: schedules.StepLR(sgd(), 3).load_state_dict(schedules.StepLR(sgd(), 4).state_dict()),
     lambda _: schedules.StepLR(sgd(), 4).load_state_dict(schedules.StepLR(sgd(), 4).state_dict()),
     lambda _: schedules.StepLR(sgd(), 3).step())
case("{} has no momentum to cycle: pass cycle_momentum=False", lambda: schedules.OneCycleLR(optimizers.SGD([X]), 0.1, total_steps=9),
     lambda _: schedules.OneCycleLR(optimizers.SGD([X]), 0.1, total_steps=9, cycle_momentum=False))
case("last_epoch={}, but param group {} has no 'initial_lr': load the optimizer's state first, or use load_state_dict of "
     "a fresh schedule",
     again, lambda _: again(initial=True), lambda _: again(state=True))
case("{} is over after {} steps (total_steps): make it with total_steps = epochs x batches per epoch, and call step() once per batch",
     lambda: cycled(4, 12), lambda _: cycled(4*3, 4*3))
case("the optimizer has {} param groups, the schedule knows {}: make the schedule after the last add_param_group",
     lambda: added(lambda o: schedules.StepLR(o, 3), late=False), lambda _: added(lambda o: schedules.StepLR(o, 3), late=True),
     lambda _: added(lambda o: plateau.ReduceLROnPlateau(o, patience=0), late=True))
case("one-cycle must know its length: give total_steps, or epochs and steps_per_epoch",
     lambda: schedules.OneCycleLR(sgd(momentum=0.9), 0.1),
     lambda _: schedules.OneCycleLR(sgd(momentum=0.9), 0.1, total_steps=9),
     lambda _: schedules.OneCycleLR(sgd(momentum=0.9), 0.1, epochs=3, steps_per_epoch=3))
case("{} steps of warm-up and {} of decay are more than total_steps={}: give fewer, or a larger total_steps",
     lambda: schedules.WSDLR(sgd(), 10, 8, 4), lambda _: schedules.WSDLR(sgd(), 10, 6, 4), lambda _: schedules.WSDLR(sgd(), 12, 8, 4))
case("an exponential decay never reaches final_factor=0: give final_factor=0.1, or decay='linear'",
     lambda: schedules.WSDLR(sgd(), 10, decay="exponential"),
     lambda _: schedules.WSDLR(sgd(), 10, decay="exponential", final_factor=0.1),
     lambda _: schedules.WSDLR(sgd(), 10, decay="linear"))
case("WarmupLR can't know the rates of {} beforehand: step WarmupLR(LambdaLR(optimizer, lambda k: 1.0), 5) in the first 5 epochs, "
     "the other one after them", lambda: schedules.WarmupLR(plateau.ReduceLROnPlateau(sgd()), 5), lambda _: warmed(sgd()))
case("WarmupLR takes a schedule of cam_course.schedules, got {}.{}: join LinearLR and yours by torch's SequentialLR",
     lambda: schedules.WarmupLR(lrs.StepLR(sgd(), 3), 5), lambda _: joined())
case("ReduceLROnPlateau waits for a value: call step(loss) after each epoch yourself, which torch's ChainedScheduler and SequentialLR "
     "don't do", lambda: lrs.ChainedScheduler([plateau.ReduceLROnPlateau(sgd())]).step(),
     lambda _: plateau.ReduceLROnPlateau(sgd()).step(1.0))


# ---- weight_averaging

def averaged(net: nn.Module) -> WeightAverage: return WeightAverage(net)
def lazy() -> nn.Module: return nn.Sequential(nn.LazyLinear(2))


def shaped(net: nn.Module) -> nn.Module:
    net(torch.ones(1, 3))
    return net


def sam_step(closure: bool) -> None:
    net = nn.Linear(2, 1)
    sam = SAM(torch.optim.SGD(net.parameters(), lr=.1))

    def loss():
        value = net(torch.ones(4, 2)).square().mean()
        value.backward()
        return value

    sam.step(*[loss]*closure)


PAIRS = [(torch.ones(4, 3, 2, 2), torch.zeros(4))]*2
case("{} has no shape yet: run the model on one batch, then average it", lambda: averaged(lazy()), lambda _: averaged(shaped(lazy())))
case("{} is {}, in which small changes are rounded away: give a float32 copy, WeightAverage(copy.deepcopy(model).float()); "
     "update_parameters takes the model as it is", lambda: averaged(nn.Linear(2, 1).half()),
     lambda _: averaged(copy.deepcopy(nn.Linear(2, 1).half()).float()).update_parameters(nn.Linear(2, 1).half()))
case("the model has other {} than the one that is averaged ({} instead of {}): make a WeightAverage of this model",
     lambda: averaged(nn.Linear(2, 1)).update_parameters(nn.Linear(3, 1)),
     lambda _: averaged(nn.Linear(3, 1)).update_parameters(nn.Linear(3, 1)))
case("a batch must be a tensor of inputs, or a tuple that begins with one, got {}: give such batches, as in [x for x, y in pairs]",
     lambda: update_bn([{"x": PAIRS[0][0]}], nn.BatchNorm2d(3)), lambda _: update_bn([x for x, y in PAIRS], nn.BatchNorm2d(3)))
case("the loader gave no batch, so there is nothing to measure: a generator that has been used is empty, make it anew",
     lambda: update_bn((x for x, _ in PAIRS[2:]), nn.BatchNorm2d(3)), lambda _: update_bn((x for x, _ in PAIRS), nn.BatchNorm2d(3)))
case("SAM needs two gradients a step: write step(closure), with a closure() that computes the loss, calls its backward() and returns "
     "it", lambda: sam_step(False), lambda _: sam_step(True))

# ---- gallery


def epochs_end(folder, **given) -> str:
    "A callback at the end of an epoch of a training on a DataLoader of normalized images, and what it warns of."
    net, images = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2*14*14, 10)), shapes(20, seed=0, size=16)
    batches = opened("test", torch.utils.data.TensorDataset(Normalize.of(images)(images.x), images.y))
    trainer = SimpleNamespace(epoch=1, best_model=net, test=batches, normalize=lambda x: x)
    options = {name: {"data": images, "normalize": Normalize.of(images)}[name] for name in given}
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        TensorBoardGallery(folder, n=2, **options).on_fit_end(trainer)
    return "".join(str(w.message) for w in found if "TensorBoardGallery" in str(w.message))


def draws(said: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert not epochs_end(folder, **dict.fromkeys(re.findall(r"(\w+)=", said))) and any(Path(folder).iterdir())


case("TensorBoardGallery draws nothing: the trainer's DataLoader gives normalized images. Give data= with images that aren't "
     "(ImageData, a Dataset), and normalize=", lambda: epochs_end("nowhere"), draws)


# ---- the walk

def template(message: str) -> str: return ".*".join(re.escape(part) for part in message.split("{}"))


def heard(wrong) -> str:
    "The message that a call raises, or returns."
    try:
        return str(wrong())
    except (Exception, Interrupted) as error:
        return str(error)


@pytest.mark.parametrize(("message", "story"), CASES, ids=[message for message, _ in CASES])
def test_what_a_message_says_helps(message, story):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")      # torch's, about the order of steps
        walk, said = story(), None
        with contextlib.suppress(StopIteration):
            while True:
                wrong = walk.send(said)
                said = heard(wrong)
                assert re.search(template(message), said), said


def test_every_message_with_a_remedy_has_a_case():
    named, known = {s: m for m in modules() for s in remedies(m)}, {message for message, _ in CASES} | NO_REMEDIES
    missing = [f"{module}: {message}" for message, module in named.items() if message not in known]
    assert not missing, "\n".join(missing)
    assert not (gone := known - named.keys()), f"no longer in the source: {gone}"
    print(f"{len(named) - len(NO_REMEDIES)} messages with a remedy followed, of {len(set(named.values()))} modules")


def test_a_new_message_is_seen():
    "In each of the places in which messages stand; and what is no remedy isn't."
    import ast

    from remedies import REMEDY, outermost, speaking
    source = '''
def f(x):
    if x: raise ValueError(f"{x} is wrong: use y{x} instead, "
                           "or z")
    warnings.warn("old: take another")
    remedy = "give more"
    if x > 2: return None, "flat; " + more + "repeat it longer"
    raise ValueError("steps must be >= 0, got {steps}")
'''
    found = [s for n in ast.walk(ast.parse(source)) for part in speaking(n) for s in outermost(part)]
    assert sorted(s for s in found if REMEDY.search(s)) == sorted([
        "{} is wrong: use y{} instead, or z", "old: take another", "give more", "flat; {}repeat it longer"])
    assert any("steps must" in s for s in found)
