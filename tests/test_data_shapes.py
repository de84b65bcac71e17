"The built-in data set: what it promises about seeds, masks, classes, difficulty and speed."
import time

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from cam_course.base.shapes import OUTLINES, contact_sheet, draw_shapes, pink_noise


@pytest.fixture(scope="module")
def drawn():
    return draw_shapes(4000, seed=7)


def same(a, b):
    parts = [(a.x, b.x), (a.y, b.y), (a.masks, b.masks), *((a.extra[k], b.extra[k]) for k in a.extra)]
    return a.extra.keys() == b.extra.keys() and all(p.equal(q) for p, q in parts)


OPTIONS = [
    {}, {"second_object": True}, {"cue": 0.9}, {"size": 48}, {"distractors": 0}, {"classes": ("star", "disc", "moon")},
    {"cue": 0.0, "cue_pair": ("moon", "star"), "classes": ("star", "disc", "moon")},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_seeds_fix_every_pixel_and_fewer_are_the_first_of_more(options):
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    many = draw_shapes(300, seed=3, **options)
    assert same(many, draw_shapes(300, seed=3, **options)) and not many.x.equal(draw_shapes(300, seed=4, **options).x)
    for n in (1, 7, 128, 129):
        few = draw_shapes(n, seed=3, **options)
        assert few.x.equal(many.x[:n]) and few.y.equal(many.y[:n]) and few.masks.equal(many.masks[:n])
        assert all(few.extra[k].equal(many.extra[k][:n]) for k in few.extra)
    assert torch.get_rng_state().equal(state[0]) and (np.random.get_state()[1] == state[1]).all()


def test_threads_do_not_change_the_labels_and_hardly_a_pixel():
    threads = torch.get_num_threads()
    try:
        drawn = []
        for n in (1, 2):
            torch.set_num_threads(n)
            drawn.append(draw_shapes(200, seed=1))
    finally:
        torch.set_num_threads(threads)
    assert drawn[0].y.equal(drawn[1].y)
    assert (drawn[0].x.int() - drawn[1].x.int()).abs().max() <= 1


def test_types_and_balance(drawn):
    assert drawn.x.dtype == torch.uint8 and drawn.x.shape == (4000, 3, 32, 32) and drawn.y.dtype == torch.int64
    assert drawn.masks.dtype == torch.bool and drawn.masks.shape == (4000, 1, 32, 32)
    assert drawn.class_names == tuple(OUTLINES) and len(OUTLINES) == 10
    for n in (10, 250, 4000):
        assert drawn.y[:n].bincount(minlength=10).tolist() == [n // 10] * 10
    assert drawn.y[:10].tolist() != drawn.y[10:20].tolist()


def test_grounds_and_textures_vary():
    plain = draw_shapes(1000, seed=5, distractors=0)
    outside = torch.where(plain.masks, torch.nan, plain.x / 255).flatten(2)
    ground = outside.nanmean(2)
    assert torch.allclose(ground.mean(0), torch.tensor(0.5), atol=0.02)
    assert torch.allclose(ground.std(0), torch.tensor(0.4 / 12**0.5), atol=0.015)  # uniform from 0.3 to 0.7
    rough = (outside - ground[..., None]).square().nanmean(2).sqrt().mean(1)
    assert rough.min() > 0.015 and rough.max() < 0.12 and rough.max() > 2 * rough.min()


def test_mask_is_where_the_object_is(drawn):
    "Without strokes, a threshold between the ground's and the object's color finds the object again."
    plain = draw_shapes(400, seed=5, distractors=0, contrast=(0.9, 0.9))
    agree = []
    for x, mask in zip(plain.x.float() / 255, plain.masks[:, 0], strict=True):
        ground = x[:, ~torch.from_numpy(ndimage.binary_dilation(mask.numpy(), iterations=2))].mean(1)
        core = torch.from_numpy(ndimage.binary_erosion(mask.numpy()))
        object_ = x[:, core if core.any() else mask].mean(1)
        axis = object_ - ground
        found = ((x - ground[:, None, None]) * axis[:, None, None]).sum(0) > 0.5 * axis.square().sum()
        agree.append(((found & mask).sum() / (found | mask).sum()).item())
    assert np.mean(agree) > 0.97 and np.quantile(agree, 0.02) > 0.85


def test_masks_are_whole_and_of_the_planned_size(drawn):
    box = torch.stack([drawn.masks[:, 0].any(d).sum(1) for d in (1, 2)]).amax(0)
    assert box.min() >= 7 and box.max() <= 17
    assert drawn.extra["width"].min() >= 10 and drawn.extra["width"].max() <= 16
    shadows = [drawn.masks[:, 0].any(d).float() for d in (1, 2)]
    middle = torch.stack([(s * (torch.arange(32) + 0.5)).sum(1) / s.sum(1) for s in shadows], 1)
    assert (middle - drawn.extra["center"][:, 0]).abs().max() < 1.6
    ring = drawn.y == drawn.class_names.index("ring")
    for i in range(0, 4000, 20):  # one piece each; a ring has a hole
        pieces = ndimage.label(drawn.masks[i, 0].numpy(), structure=np.ones((3, 3)))[1]
        filled = ndimage.binary_fill_holes(drawn.masks[i, 0].numpy()).sum() > drawn.masks[i, 0].sum().item()
        assert pieces == 1 and filled == ring[i]


@pytest.mark.parametrize("size", [16, 33, 64, 96])
def test_objects_grow_with_the_image(size):
    large = draw_shapes(200, seed=2, size=size)
    box = torch.stack([large.masks[:, 0].any(d).sum(1) for d in (1, 2)]).amax(0)
    assert large.x.shape == (200, 3, size, size)
    assert 0.7 * 10 * size / 32 - 2 <= box.min() and box.max() <= 16 * size / 32 + 1


def test_positions_colors_and_grounds_say_nothing_about_the_class(drawn):
    width = drawn.extra["width"][:, 0]
    free = (drawn.extra["center"][:, 0] - width[:, None] / 2) / (32 - width[:, None])
    inside = drawn.masks[:, 0, None].float()
    color = (drawn.x * inside).sum((2, 3)) / inside.sum((2, 3))
    ground = (drawn.x * (1 - inside)).sum((2, 3)) / (1 - inside).sum((2, 3))
    for values in (free, width[:, None], color, ground):
        for column in values.T.numpy():
            groups = [column[drawn.y.numpy() == k] for k in range(10)]
            assert stats.kruskal(*groups).pvalue > 1e-4
    for column in free.T.numpy():
        assert stats.kstest(column, "uniform").pvalue > 1e-3


def logistic_accuracies(train, train_y, test, test_y, penalties):
    """Multinomial logistic regression, trained to convergence by L-BFGS; accuracy on train and test for each penalty.

    The weights are found in coordinates in which the loss is about as steep in every direction: 10 to 25 evaluations, not 250.
    """
    train, test = (torch.cat([x, torch.ones(len(x), 1)], 1) for x in (train, test))
    second_moments, found = train.T @ train / len(train), []
    for penalty in penalties:
        root = torch.linalg.cholesky(0.09 * second_moments + 2 * penalty * torch.eye(train.shape[1]))  # 0.09 = p (1 - p), ten classes
        turned = torch.linalg.solve_triangular(root, train.T, upper=False).T.contiguous()
        weights = lambda u, root=root: torch.linalg.solve_triangular(root.T, u, upper=True)
        u = torch.zeros(train.shape[1], 10, requires_grad=True)
        optimizer = torch.optim.LBFGS([u], max_iter=120, history_size=10, line_search_fn="strong_wolfe")

        def closure(u=u, turned=turned, weights=weights, penalty=penalty, optimizer=optimizer):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(turned @ u, train_y) + penalty * weights(u).square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        closure()
        assert u.grad.abs().max() < 1e-3  # converged
        right = [(x @ weights(u.detach())).argmax(1) == y for x, y in ((train, train_y), (test, test_y))]
        found.append(tuple(r.float().mean().item() for r in right))
    return found


def test_a_linear_classifier_stays_under_a_quarter():
    train, test = draw_shapes(6000, seed=0), draw_shapes(2000, seed=1)
    x, v = ((d.x.flatten(1).float() / 255 - 0.5) / 0.165 for d in (train, test))
    results = logistic_accuracies(x, train.y, v, test.y, (1e-3, 3e-2))
    assert results[0][0] > 0.5  # it has learned its training images by heart, so it was trained
    assert max(accuracy for _, accuracy in results) < 0.25


def test_two_objects():
    two = draw_shapes(2000, seed=1, second_object=True)
    assert two.masks.shape == (2000, 2, 32, 32) and not (two.masks[:, 0] & two.masks[:, 1]).any()
    assert (two.y != two.extra["y2"]).all() and two.extra["y2"].bincount(minlength=10).min() > 140
    pairs = torch.stack([two.y, two.extra["y2"]], 1).unique(dim=0)
    assert len(pairs) == 90  # every pair of two classes occurs
    assert two.extra["width"].min() >= 10 and two.extra["width"].max() <= 13
    assert (two.masks.flatten(2).sum(2) > 15).all()
    touching = ndimage.binary_dilation(two.masks[:, 0].numpy(), structure=np.ones((1, 3, 3))) & two.masks[:, 1].numpy()
    assert touching.sum() < 0.02 * 2000


def test_objects_of_both_positions_look_alike():
    "The class of the second object is drawn as that of the first: masks of a class have equal mean areas."
    two = draw_shapes(4000, seed=3, second_object=True)
    for k in range(10):
        first = two.masks[two.y == k, 0].flatten(1).sum(1).float()
        second = two.masks[two.extra["y2"] == k, 1].flatten(1).sum(1).float()
        error = (first.var() / len(first) + second.var() / len(second)).sqrt()
        assert (first.mean() - second.mean()).abs() < 4.5 * error


@pytest.mark.parametrize("cue", [0.0, 0.5, 0.9, 1.0])
def test_cue(cue):
    drawn = draw_shapes(3000, seed=2, cue=cue, cue_pair=("moon", "star"))
    moon, star = (drawn.y == drawn.class_names.index(name) for name in ("moon", "star"))
    kind, where = drawn.extra["cue"], drawn.extra["cue_mask"]
    assert ((kind >= 0) == (moon | star)).all() and (where.flatten(1).any(1) == (kind >= 0)).all()
    agree = (kind[moon | star] == star[moon | star]).float().mean().item()
    assert abs(agree - cue) <= 4 * (cue * (1 - cue) / 600) ** 0.5
    assert not (where & drawn.masks[:, 0]).any() and where[kind >= 0].flatten(1).sum(1).min() >= 30
    badge = torch.where(where[:, None], drawn.x.float(), torch.nan)[kind >= 0].flatten(2)
    mean, kinds = badge.nanmean(2), kind[kind >= 0]
    assert (mean[kinds == 0, 2] > mean[kinds == 0, 0]).all() and (mean[kinds == 1, 0] > mean[kinds == 1, 2]).all()


def test_the_cue_changes_nothing_else():
    plain, blue, mixed = (draw_shapes(500, seed=2, cue=cue) for cue in (None, 0.0, 0.7))
    assert plain.y.equal(mixed.y) and plain.masks.equal(mixed.masks)
    assert blue.extra["cue_mask"].equal(mixed.extra["cue_mask"])
    near = torch.nn.functional.max_pool2d(mixed.extra["cue_mask"].float(), 3, 1, 1).bool()  # the rim is smooth
    assert ((plain.x != mixed.x).any(1) <= near).all()
    assert ((blue.x != mixed.x).any(1) <= mixed.extra["cue_mask"]).all()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"n": 0}, "n must be a whole number >= 1, got 0"),
        ({"n": 2.0}, "n must be a whole number"),
        ({"n": 10**9}, "ask for 16 GiB at most"),
        ({"seed": -1}, "seed must be"),
        ({"seed": "a"}, "seed must be"),
        ({"size": 15}, "size must be a whole number >= 16 and <= 512"),
        ({"size": 513}, "size must be"),
        ({"distractors": -1}, "distractors must be"),
        ({"contrast": (0.9, 0.5)}, "the lower bound comes first"),
        ({"contrast": (0.5, 1.5)}, "contrast must be"),
        ({"classes": ("disc",)}, "give two different ones or more"),
        ({"classes": ("disc", "disc")}, "give two different ones or more"),
        ({"classes": ("disc", "sqare")}, "unknown class 'sqare'.*Did you mean 'square'"),
        ({"cue": 1.1}, "cue must be a number >= 0 and <= 1"),
        ({"cue": 0.5, "second_object": True}, "can't be had together"),
        ({"cue": 0.5, "cue_pair": ("disc", "disc")}, "two different classes"),
        ({"cue": 0.5, "cue_pair": ("disc", "star"), "classes": ("disc", "moon")}, "unknown class of cue_pair 'star'"),
    ],
)
def test_wrong_options_are_named(options, text):
    with pytest.raises(ValueError, match=text):
        draw_shapes(**{"n": 10} | options)


def test_ground_has_the_spectrum_of_photographs():
    field = pink_noise(np.random.default_rng(0), 60, 2, 64)
    assert field.shape == (60, 2, 64, 64) and field.mean((2, 3)).abs().max() < 1e-5
    assert (field.std((2, 3)) - 1).abs().max() < 1e-4
    power = torch.fft.fft2(field).abs().square().mean((0, 1))
    f = torch.fft.fftfreq(64)
    radius = torch.hypot(f[:, None], f)
    band = (radius > 0.03) & (radius < 0.45)
    slope = np.polyfit(radius[band].log(), power[band].log(), 1)[0]
    assert abs(slope + 2) < 0.05  # power 1/f^2 is amplitude 1/f
    odd = pink_noise(np.random.default_rng(0), 3, 1, 33)
    assert odd.shape == (3, 1, 33, 33) and odd.isfinite().all()


def test_contact_sheet():
    x = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 1, 4, 4)
    sheet = contact_sheet(x, torch.tensor([0, 2, 0, 0, 2]), columns=2)
    assert sheet.shape == (3 * 6, 2 * 6, 3)
    assert [sheet[6 * r + 2, 6 * c + 2, 0].item() for r in range(3) for c in range(2)] == [0, 2, 255, 255, 1, 4]
    masks = torch.zeros(5, 1, 4, 4, dtype=torch.bool)
    masks[..., :2] = True
    wide = contact_sheet(x + 100, torch.tensor([0, 2, 0, 0, 2]), 2, masks)
    assert wide.shape == (18, 20, 3) and wide[2, 1:9, 0].tolist() == [100, 100, 100, 100, 100, 100, 25, 25]


def test_fifty_thousand_in_fifteen_seconds():
    spent = []
    for _ in range(3):
        start = time.process_time()
        draw_shapes(2500)
        spent.append(time.process_time() - start)
        if spent[-1] < 0.75:
            break
    assert min(spent) < 0.75
