"""cam_course.bias against networks whose attention is known by construction, and what it refuses."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cam_course.bias import Audit, _dyed, _margins, audit, map_shares, rebalanced
from cam_course.data import ImageData, shapes
from cam_course.gradcam import GradCAM
from cam_course.localization import mass_in_mask
from cam_course.resnet import ResNet18
from cam_course.training import predict
from cam_course.transforms import Normalize

PAIR = ("disc", "cross")


def scene(flip: bool) -> ImageData:
    "12 images of four channels: two cues (9 pixels), two objects (16 pixels); one lamp shines for each."
    y = torch.arange(12) % 2
    cue = 1 - y if flip else y
    x = torch.zeros(12, 4, 16, 16, dtype=torch.uint8)
    cue_mask, masks = torch.zeros(12, 16, 16, dtype=torch.bool), torch.zeros(12, 1, 16, 16, dtype=torch.bool)
    for i in range(12):
        x[i, cue[i], 1:4, i:i + 3], cue_mask[i, 1:4, i:i + 3] = 255, True
        x[i, 2 + y[i], 8:12, i:i + 4], masks[i, 0, 8:12, i:i + 4] = 255, True
    return ImageData(x, y, ("a", "b"), mean=(.5,)*4, std=(.5,)*4, masks=masks,
                     extra={"cue": cue.to(torch.int8), "cue_mask": cue_mask})


def judge(cue: float, thing: float) -> nn.Module:
    "Adds up the lamps of each class: `cue` for a pixel of the cue, `thing` for one of the object."
    net = nn.Sequential(nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    net[0].weight.data, net[0].bias.data = torch.eye(4)[:, :, None, None].clone(), torch.zeros(4)
    net[3].weight.data, net[3].bias.data = torch.tensor([[cue, 0, thing, 0], [0, cue, 0, thing]]).float(), torch.zeros(2)
    return net.eval()


def unit(x): return x.float()/255


def test_an_audit_of_networks_that_are_known():
    agree, against = scene(False), scene(True)
    seen = audit(judge(2, 1), agree, against, unit, "0")  # the cue weighs 2*9 = 18, the object 16
    both = 18/(18 + 16)  # agreeing, the map of the class named shows both; against each other, the cue alone
    assert (seen.agree, seen.against, seen.flips, seen.images) == (1.0, 0.0, 1.0, 12) and seen.balanced == 0.5
    assert seen.on_cue == pytest.approx((both + 1)/2, abs=1e-6)
    assert seen.on_object == pytest.approx((1 - both)/2, abs=1e-6)

    sound = audit(judge(0, 1), agree, against, unit, "0")
    assert (sound.agree, sound.against, sound.flips) == (1.0, 1.0, 0.0)
    assert sound.on_cue == pytest.approx(0, abs=1e-6) and sound.on_object == pytest.approx(1, abs=1e-6)
    assert sound.no_evidence == seen.no_evidence == 0


def test_the_layer_is_the_deepest_with_a_map_unless_one_is_named():
    torch.manual_seed(0)
    net, twins = ResNet18(2, width=2).eval(), [shapes(6, seed=0, classes=PAIR, cue=cue) for cue in (1.0, 0.0)]
    normalize = Normalize.of(twins[0])
    assert audit(net, *twins, normalize) == audit(net, *twins, normalize, "layer3") != audit(net, *twins, normalize, "layer2")


def test_maps_without_evidence_are_counted_and_share_nothing():
    data = scene(False)
    shares, empty = map_shares(judge(1, 1), data, unit, 1 - data.y, "0")  # nothing speaks for the other class
    assert empty.all() and (shares == 0).all()
    assert audit(judge(0, 0), data, scene(True), unit, "0").no_evidence == 1
    shares, empty = map_shares(judge(1, 0), data, unit, data.y, "0")
    assert not empty.any() and torch.allclose(shares, torch.tensor([[1.0], [1.0], [0.0]]).expand(3, 12), atol=1e-6)


def test_the_difference_of_scores_sees_what_one_score_does_not():
    "These networks name a class because the score of the other falls: that class's own map is empty."
    data = scene(False)
    named = predict(judge(-1, -1), data, unit).argmax(1)
    assert torch.equal(named, 1 - data.y) and not GradCAM(judge(-1, -1), "0").explain(unit(data.x)).evidence.any()
    shares, empty = map_shares(judge(-1, -1), data, unit, named, "0")
    assert not empty.any() and torch.allclose(shares[0] + shares[2], torch.ones(12), atol=1e-6)
    rows = torch.tensor([[1.0, 4.0, 2.0], [5.0, 0.0, -1.0]])
    assert [f(row).item() for f, row in zip(_margins(torch.tensor([1, 2])), rows, strict=True)] == [2.0, -6.0]


def test_near_is_one_cell_of_the_map_around_the_cue():
    data = scene(False)
    net = judge(1, 1)
    pooled = nn.Sequential(nn.AvgPool2d(2), *net)  # maps of 8x8: a cell is 2 px wide
    shares, _ = map_shares(pooled.eval(), data, unit, data.y, "1")
    assert (shares[1] > shares[0]).all() and (shares[0] > 0).all()
    near = F.max_pool2d(data.extra["cue_mask"][:, None].float(), 5, 1, 2)[:, 0] > 0
    raw = GradCAM(pooled, "1").explain(unit(data.x), data.y).raw[0]
    assert torch.allclose(shares[1], mass_in_mask(raw, near), atol=1e-5)


def test_balanced_is_the_mean_of_the_subgroups():
    assert Audit(.9, .1, .8, .5, .6, .2, 0, 10).balanced == .5


def test_twins_must_be_twins():
    agree, against = scene(False), scene(True)
    net = judge(1, 1)
    for one, two, says in ((agree.subset(slice(6)), against, "same images but for the cue"),
                           (agree, against.subset(torch.arange(11, -1, -1)), "same images but for the cue"),
                           (shapes(4, classes=PAIR), against, r"agree has no masks or no extra\['cue_mask'\]"),
                           (agree, replace(against, extra={**against.extra, "cue_mask": against.extra["cue_mask"][..., 1:]}),
                            r"against.extra\['cue_mask'\] must have shape \(N, H, W\), here \(12, 16, 16\), got \(12, 16, 15\)"),
                           (agree, shapes(4, classes=PAIR), "against has no masks")):
        with pytest.raises(ValueError, match=says): audit(net, one, two, unit, "0")


def count(data): return torch.bincount(2*data.y + data.extra["cue"], minlength=4).tolist()


def test_rebalanced_groups_are_equal_and_come_from_the_data():
    data = shapes(400, seed=5, classes=PAIR, cue=0.9)
    even = rebalanced(data, seed=3)
    assert count(even) == [100]*4 and max(count(data)) > 150
    rows = {x.numpy().tobytes() for x in data.x}
    assert all(x.numpy().tobytes() in rows for x in even.x)
    rare = (data.extra["cue"] != data.y).nonzero()[:, 0]
    kept = {x.numpy().tobytes() for x in even.x}
    assert all(data.x[i].numpy().tobytes() in kept for i in rare)    # no rare image is lost
    common = even.x[(even.extra["cue"] == even.y)]
    assert len({x.numpy().tobytes() for x in common}) == len(common)  # common ones are not repeated
    assert torch.equal(rebalanced(data, seed=3).x, even.x) and not torch.equal(rebalanced(data, seed=4).x, even.x)
    assert even.masks.shape[0] == even.extra["cue_mask"].shape[0] == 400


def test_what_never_occurs_cannot_be_repeated():
    with pytest.raises(ValueError, match="only 2 of 4 pairs of class and cue occur: .* collect some"):
        rebalanced(shapes(40, classes=PAIR, cue=1.0))
    with pytest.raises(ValueError, match="data.extra has no 'cue', only 'center', 'width'"): rebalanced(shapes(40, classes=PAIR))


def test_images_without_a_cue_are_refused_and_other_classes_ask_for_nothing():
    data = shapes(300, seed=2, cue=0.8)   # ten classes; -1 where there is no cue
    with pytest.raises(ValueError, match=r"of 300 images have no cue \(-1\)"):
        rebalanced(data)
    some = data.subset((data.extra["cue"] >= 0).nonzero()[:, 0])
    even = rebalanced(some)
    pairs = {(int(y), int(c)) for y, c in zip(even.y, even.extra["cue"], strict=True)}
    assert len(pairs) == 4 and len(even) == 4*(len(some)//4)


def test_dye_lies_on_the_object_alone():
    data = shapes(300, seed=5, classes=PAIR)
    painted = _dyed(data, 0.9, seed=1)
    outside = ~data.masks.expand(-1, 3, -1, -1)
    assert torch.equal(painted.x[outside], data.x[outside]) and not torch.equal(painted.x, data.x)
    assert torch.equal(painted.extra["cue_mask"], data.masks[:, 0])
    assert (painted.extra["cue"] == data.y).float().mean().item() == pytest.approx(0.9, abs=0.05)
    assert torch.equal(_dyed(data, 0.5, strength=0).x, data.x)
    pure = _dyed(data, 1.0, strength=1)
    for c, color in ((0, (13, 76, 255)), (1, (255, 140, 0))):
        inside = pure.x.movedim(1, -1)[data.masks[:, 0] & (data.y == c)[:, None, None]]
        assert (inside.int() - torch.tensor(color)).abs().max() <= 1
    twins = _dyed(data, 0.0, strength=1)
    assert (twins.extra["cue"] != data.y).all()


@pytest.mark.parametrize(("call", "says"), [
    (lambda: _dyed(shapes(20), 0.9), "two classes with one object each"),
    (lambda: _dyed(shapes(20, classes=PAIR, second_object=True), 0.9), "one object each"),
    (lambda: _dyed(shapes(20, classes=PAIR), 9), "agreement must be .* got 9"),
    (lambda: _dyed(shapes(20, classes=PAIR), 0.9, strength=2), "strength must be"),
])
def test_wrong_data_is_refused(call, says):
    with pytest.raises(ValueError, match=says): call()
