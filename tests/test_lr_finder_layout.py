"""The range test computes channels-last on a CPU where the model can: the same numbers, everything back."""
import itertools

import numpy as np
import pytest
import torch
from test_lr_finder import Fails, Noisy, by_hand, everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cam_course.lr_finder import LRFinder, _convolved


class Pictures(nn.Module):
    "Convolutions, one of them frozen, BatchNorm and dropout; notes how its weights lie at each forward pass."

    def __init__(self, flatten=lambda x: x.flatten(1), p=0.3):
        super().__init__()
        self.first, self.norm, self.drop = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(p)
        self.frozen, self.last = nn.Conv2d(8, 8, 3, stride=3).requires_grad_(False), nn.Linear(200, 3)
        self.flatten, self.seen, self.x = flatten, [], None

    def forward(self, x):
        self.seen.append([c.weight.is_contiguous(memory_format=torch.channels_last) for c in (self.first, self.frozen)])
        x = self.frozen(self.drop(torch.relu(self.norm(self.first(x)))))
        return self.last(self.flatten(x))


def pictures(model, make=lambda p: torch.optim.Adam(p, lr=1e-3, fused=True), dtype=torch.float32):
    "The model in the middle of a training, with optimizer, loss and loader."
    model, g = model.to(dtype), torch.Generator().manual_seed(1)
    data = TensorDataset(torch.randn(64, 3, 17, 17, generator=g).to(dtype), torch.randint(0, 3, (64,), generator=g))
    loader = DataLoader(Noisy(*data.tensors), 16, shuffle=True, generator=g)
    optimizer, criterion = make([p for p in model.parameters() if p.requires_grad]), nn.CrossEntropyLoss()
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
    model.seen.clear()
    return model, optimizer, criterion, loader


def memory(model, optimizer):
    "Where each parameter's and each state's numbers lie."
    return [t.data_ptr() for p in model.parameters() for t in (p, *(optimizer.state[p].values() if p in optimizer.state else ()))
            if torch.is_tensor(t)]


@pytest.mark.parametrize("make", [lambda p: torch.optim.Adam(p, lr=1e-3, fused=True),
                                  lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, foreach=True)])
@pytest.mark.parametrize("error", [None, RuntimeError("out of memory")])
def test_pictures_are_convolved_channels_last_and_all_is_as_before(make, error):
    torch.manual_seed(0)
    parts = model, optimizer, criterion, loader = pictures(Pictures(), make)
    before, places = everything(*parts), memory(model, optimizer)
    finder = LRFinder(model, optimizer, Fails(criterion, 37 if error else 10**9, error))
    if error is None:
        finder.range_test(loader, end_lr=1e-3, num_iter=40, progress=False)
    else:
        with pytest.raises(RuntimeError): finder.range_test(loader, end_lr=1e-3, num_iter=40, progress=False)
    assert np.all(model.seen) and len(model.seen) == 1 + (37 if error else 40)      # one to see whether it can
    assert everything(*parts) == before and memory(model, optimizer) == places


def both(model_of, dtype=torch.float32):
    "Losses of a range test and of the same steps by hand, and how the weights lay."
    found = []
    for test in (True, False):
        torch.manual_seed(0)
        parts = model, optimizer, criterion, loader = pictures(model_of(), dtype=dtype)
        if test:
            r = LRFinder(model, optimizer, criterion).range_test(loader, 1e-5, 1e-3, num_iter=20, progress=False)
            seen = list(model.seen)
        found.append(r.loss if test else by_hand(*parts[:3], itertools.chain.from_iterable(itertools.repeat(loader)), r.lr))
    return *found, seen


def test_channels_last_changes_only_the_rounding():
    ours, want, seen = both(lambda: Pictures(p=0))   # dropout draws in the order of memory: other pixels fall out
    assert np.all(seen) and np.allclose(ours, want, rtol=1e-4)


@pytest.mark.parametrize(("model_of", "dtype"), [
    (lambda: Pictures(lambda x: x.view(len(x), -1)), torch.float32),   # `view` of what lies channels-last is an error
    (Pictures, torch.float64)])                                        # as slow in either form
def test_left_as_they_lie(model_of, dtype):
    ours, want, seen = both(model_of, dtype)
    assert not np.any(seen[1:]) and np.array_equal(ours, want)


def test_weights_bound_to_their_layout_stay():
    model = Pictures()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ids = lambda *a: [id(t) for t in _convolved(*a, torch.channels_last)]
    assert ids(model, optimizer) == [id(model.first.weight), id(model.frozen.weight)]
    assert ids(torch.compile(model), optimizer) == []
    flat = torch.zeros(8*3*3*3 + 5)
    model.first.weight = nn.Parameter(model.first.weight)
    model.first.weight.data = flat[:8*3*3*3].view(8, 3, 3, 3)
    assert ids(model.to(memory_format=torch.channels_last), optimizer) == []
    model = Pictures()
    model.compile(backend="eager")
    assert ids(model, optimizer) == []
