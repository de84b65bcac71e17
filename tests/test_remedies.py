"""The remedy walk: what a message tells its reader to do is done here, on the input that raised it, and it helps.

The messages are read from the library's source (remedies.py), so that a new one without a case fails.
"""
import copy
import re
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from remedies import modules, remedies
from test_reported_finder import tried
from torch import nn
from torch.optim import lr_scheduler as lrs

from cam_course import optimizers, plateau, schedules
from cam_course.lr_curve import LRFinderResult
from cam_course.lr_finder import LRFinder
from cam_course.weight_averaging import SAM, WeightAverage, update_bn

# Modules whose messages have no case yet. This list can only shrink.
NOT_WALKED = frozenset({
    "__main__", "adversarial", "app.config", "app.experiments", "app.explanation", "app.main", "app.report", "app.static_analysis",
    "app.submission_check", "app.trainer", "base.cam_explorer", "base.checkpoints", "base.cifar10",
    "base.confusion", "base.core", "base.figures",
    "base.geometric", "base.rendering", "base.shapes", "base.target_layers", "base.weights", "data", "gradcam", "localization",
    "photographs", "resnet", "training", "transforms"})
# What the rule takes for a remedy, and isn't: a value is called like a verb.
NO_REMEDIES = frozenset({"start must be two numbers, got {}", "start must be in [-3, 3], got {}", "start must be in [-4, 4], got {}"})

CASES: dict[str, tuple] = {}       # message -> (what raises or returns it, what does as it says)


def case(message: str, wrong, *right) -> None:
    CASES[message] = wrong, right


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
case("it {} at lr {}, at once: repeat with a smaller start_lr (try {})", lambda: tried(3.0, 100, 30).why(),
     lambda why: finds(tried(start(why), 100, 100)))
case("it {} at lr {}: repeat with end_lr={} and more steps (num_iter={})", lambda: tried(1e-5, 1e6, 20).why(),
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
case("{} computes the loss several times a step, a range test once: test the optimizer that you would use without it, "
     "torch.optim.SGD(model.parameters(), lr=0.1) for instance",
     lambda: finder(NETS[0], optimizer=torch.optim.LBFGS(NETS[0].parameters())),
     lambda why: test_run([(X, Y)], net=NETS[0], optimizer=eval(re.search(r"torch\.optim\.SGD\(.*\)", why)[0],
                                                                {"torch": torch, "model": NETS[0]})))
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


# ---- the walk

def template(message: str) -> str: return ".*".join(re.escape(part) for part in message.split("{}"))


def heard(wrong) -> str:
    "The message that a call raises, or returns."
    try:
        return str(wrong())
    except (ValueError, TypeError) as error:
        return str(error)


@pytest.mark.parametrize("message", CASES)
def test_what_a_message_says_helps(message):
    wrong, right = CASES[message]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")      # torch's, about the order of steps
        said = heard(wrong)
        assert re.search(template(message), said), said
        for follow in right: follow(said)


def test_every_message_with_a_remedy_has_a_case():
    walked = {m: remedies(m) for m in modules() if m not in NOT_WALKED}
    known, left = CASES.keys() | NO_REMEDIES, {m: remedies(m) for m in NOT_WALKED}
    missing = [f"{m}: {s}" for m, found in walked.items() for s in found if s not in known]
    assert not missing, "\n".join(missing)
    gone = known - {s for found in walked.values() for s in found}
    assert not gone, f"no longer in the source: {gone}"
    print(f"{sum(map(len, walked.values())) - len(NO_REMEDIES)} messages with a remedy followed, "
          f"{sum(map(len, left.values()))} in {len(left)} modules not yet")
    assert len(NOT_WALKED) <= 28 and set(modules()) >= NOT_WALKED and all(left.values()), "take it from the list"


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
