"ResNet against torchvision; its options, stages and initialization; what it refuses."
import itertools
import pickle

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from cam_course import resnet
from cam_course.resnet import _NORMS, _POOLS, _STAGES, BasicBlock, ResNet18, ResNet34, _make_norm, _stages


def images(n=4, size=32, channels=3, seed=0):
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(seed))


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def torchvisions(make, norm_layer=None):
    "torchvision's net with the stem for small images."
    other = make(num_classes=10, norm_layer=norm_layer)
    other.conv1, other.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return other


@pytest.mark.parametrize(
    ("ours", "theirs", "count"),
    [(ResNet18, torchvision.models.resnet18, 11_173_962), (ResNet34, torchvision.models.resnet34, 21_282_122)],
)
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_torchvision_with_the_same_weights(ours, theirs, count, norm):
    "Same logits in evaluation and in training, same gradients, same running averages, to 1e-5."
    torch.manual_seed(0)
    a, b = ours(norm=norm), torchvisions(theirs, None if norm == "batch" else lambda c: nn.GroupNorm(1, c))
    assert parameters(a) == parameters(b) == count
    for p in a.parameters():  # no scale at 1, no shift at 0: every weight counts
        p.data.add_(torch.randn_like(p), alpha=0.02)
    b.load_state_dict(a.state_dict())
    x, y = images(3), torch.tensor([1, 2, 3])
    for train in (False, True):
        out_a, out_b = a.train(train)(x), b.train(train)(x)
        assert (out_a - out_b).abs().max() < 1e-5*max(1, out_b.abs().max())
    F.cross_entropy(out_a, y).backward()
    F.cross_entropy(out_b, y).backward()
    for (name, p), q in zip(a.named_parameters(), b.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, rtol=1e-4, atol=1e-5), name
    for (name, p), q in zip(a.named_buffers(), b.buffers(), strict=True):
        assert torch.allclose(p, q, atol=1e-6), name


def test_no_bottleneck():
    blocks = [m for m in ResNet34(width=4).modules() if isinstance(m, BasicBlock)]
    assert len(blocks) == 16 and not hasattr(resnet, "Bottleneck")
    assert {m.kernel_size for m in ResNet34(width=4).modules() if isinstance(m, nn.Conv2d)} == {(3, 3), (1, 1)}


@pytest.mark.parametrize("options", list(itertools.product(_NORMS, _POOLS, (True, False))), ids=str)
def test_every_combination_learns(options):
    "A batch of 16 is learned by heart, without a norm and without shortcuts too."
    norm, pool, residual = options
    torch.manual_seed(0)
    net = ResNet18(width=8, norm=norm, pool=pool, residual=residual)
    x, y = images(16, 16, seed=3), torch.arange(16) % 10
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    losses = []
    for _ in range(40):
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] < 6 and losses[-1] < 0.5 * losses[0], losses


@pytest.mark.parametrize("make", [ResNet18, ResNet34])
def test_without_a_norm_the_signal_keeps_its_size(make):
    "He's fan-in keeps the mean square of what passes a relu, and the blocks start as their shortcuts."
    torch.manual_seed(0)
    net, x = make(norm="none"), images(8)
    sizes = [net.forward_to(x, stage).square().mean().item() for stage in _STAGES]
    assert all(0.7 < size < 1.4 for size in sizes), sizes


def test_without_a_norm_blocks_start_as_their_shortcuts():
    net, x = ResNet18(width=8, norm="none"), images(2)
    maps = net.forward_to(x, "stem")
    assert torch.equal(net.layer1(maps), maps)


def test_options_change_what_they_say():
    assert parameters(ResNet18(norm="layer")) == parameters(ResNet18(norm="group")) == 11_173_962
    assert ResNet18(num_classes=100).fc.out_features == 100
    assert ResNet18(width=8, in_channels=1)(images(1, channels=1)).shape == (1, 10)
    plain = ResNet18(residual=False)
    assert not any("downsample" in name for name, _ in plain.named_parameters())
    assert parameters(plain) == 11_173_962 - sum(a * 2 * a + 2 * 2 * a for a in (64, 128, 256))
    maps = images(2, 4, channels=512).relu()
    for pool, want in (("avg", maps.mean((2, 3))), ("max", maps.amax((2, 3)))):
        net = ResNet18(pool=pool)
        assert torch.allclose(net.forward_from(maps, "layer4"), net.fc(want), atol=1e-5)


@pytest.mark.parametrize("channels", [8, 16, 24, 64, 512])
def test_norms(channels):
    x = images(6, 8, channels) * 3 + 2
    layer, group = _make_norm("layer", channels), _make_norm("group", channels)
    assert torch.allclose(layer(x), F.layer_norm(x, x.shape[1:]), atol=1e-5)
    size = channels // group.num_groups
    assert size <= 16 and channels % size == 0 and (size == 16) == (channels % 16 == 0)
    parts = group(x).view(6, group.num_groups, -1)
    assert parts.mean(2).abs().max() < 1e-5 and (parts.var(2, correction=0) - 1).abs().max() < 1e-3


def test_one_sample_at_a_time_only_without_batch_norm():
    "Layer and group norm give an image the same logits whatever else is in the batch, in training too."
    for norm in ("layer", "group", "none"):
        net, x = ResNet18(width=8, norm=norm).train(), images(5)
        assert torch.allclose(net(x)[2:3], net(x[2:3]), atol=1e-5), norm


@pytest.mark.parametrize("size", [(8, 8), (32, 32), (33, 47), (64, 40), (96, 96)])
def test_stages_are_what_comes_out(size):
    net, x = ResNet34(width=4).eval(), torch.zeros(1, 3, *size)
    table = _stages(net, size)
    assert [s.name for s in table] == list(_STAGES)
    for row in table:
        assert tuple(net.forward_to(x, row.name).shape[1:]) == row[1:4]
    assert sum(row.weights for row in table) + parameters(net.fc) == parameters(net)


def test_stages_say_what_a_cell_sees_and_what_it_costs():
    "The square is where the gradient of a cell isn't 0; the work is that of each convolution that runs, at each place."
    torch.manual_seed(0)
    net, side, work = ResNet18(width=8).eval(), 160, []
    for conv in (m for m in net.modules() if isinstance(m, nn.Conv2d)):
        conv.register_forward_hook(lambda m, _, out: work.append(m.weight.numel() * out[0, 0].numel()))
    for row in (table := _stages(net, side)):
        photo, work[:] = torch.rand(1, 3, side, side, requires_grad=True), []
        maps = net.forward_to(photo, row.name)
        maps[0, :, row.height // 2, row.width // 2].sum().backward()
        seen = photo.grad.abs().sum((0, 1)) > 0
        assert (int(seen.any(0).sum()), int(seen.any(1).sum())) == (row.sees, row.sees), row.name
        assert sum(work) == sum(r.multiply_adds for r in table[: table.index(row) + 1]), row.name


def test_course_sizes():
    assert [s.height for s in _stages(ResNet18(width=2))] == [32, 32, 16, 8, 4]


@pytest.mark.parametrize("stage", _STAGES)
def test_to_and_from_a_stage_is_the_whole(stage):
    net, x = ResNet18(width=8).eval(), images(2)
    maps = net.forward_to(x, stage)
    before = maps.clone()
    assert torch.equal(net.forward_from(maps, stage), net(x))
    assert torch.equal(maps, before), "the maps in the caller's hands must not change"


def test_channels_last_gives_the_same():
    net, x = ResNet18(width=16).eval(), images(2)
    want = net(x)
    last = net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert (want - last).abs().max() < 1e-5


def test_seed_decides_and_pickle_keeps():
    torch.manual_seed(1)
    a = ResNet18(width=4).eval()
    torch.manual_seed(1)
    b = ResNet18(width=4).eval()
    c, x = pickle.loads(pickle.dumps(a)), images(2)
    assert torch.equal(a(x), b(x)) and torch.equal(a(x), c(x))


BAD = {
    "width 0": (lambda: ResNet18(width=0), "width must be a whole number >= 1, got 0"),
    "width 1.5": (lambda: ResNet34(width=1.5), "width must be a whole number >= 1, got 1.5"),
    "no class": (lambda: ResNet18(num_classes=0), "num_classes must be a whole number >= 1, got 0"),
    "no channel": (lambda: ResNet18(in_channels=-1), "in_channels must be a whole number >= 1, got -1"),
    "norm": (lambda: ResNet18(norm="bacth"), "unknown norm 'bacth'.*Did you mean 'batch'"),
    "pool": (lambda: ResNet18(pool="average"), "unknown pool 'average'. Did you mean 'avg'?"),
    "stage": (lambda: ResNet18(width=2).forward_to(images(), "layr3"), "Did you mean 'layer3'"),
    "small": (lambda: ResNet18(width=2)(images(1, 7)), "7x7 px are too small.*8 px"),
    "channels": (lambda: ResNet18(width=2)(images(1, 8, 1)), r"\(N, 3, H, W\), got \(1, 1, 8, 8\)"),
    "one image": (lambda: ResNet18(width=2)(images()[0]), r"x\[None\]"),
    "uint8": (lambda: ResNet18(width=2)(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)), "normalize them first"),
}


@pytest.mark.parametrize("name", BAD)
def test_refused_with_value_and_remedy(name):
    work, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        work()
