"Transforms against torchvision, over types and sizes; what depends on what; what they refuse."
import pytest
import torch
import torchvision.transforms.v2.functional as V
from figpage import opened
from jsbox import load

from cam_course.base.geometric import RandomCrop, RandomHorizontalFlip
from cam_course.transforms import AddGaussianNoise, Compose, Cutout, Normalize, RandomRotation, drawn_again

SIZES = [(32, 32), (33, 31), (17, 40), (1, 1), (5, 2)]
ODD = (-179.98, 179.99)  # all round, but never 30, 90, ...: there torchvision's rounding noise breaks exact ties


def images(n, size, dtype, channels=3, seed=0):
    x = torch.randint(0, 256, (n, channels, *size), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return x if dtype == torch.uint8 else x.to(dtype) / 255


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def as_list(fill):
    return list(fill) if isinstance(fill, tuple) else fill


def theirs(t, image, p):
    "What torchvision makes of one image with the parameters p."
    if isinstance(t, RandomCrop):
        return V.crop(V.pad(image, [t.padding], fill=as_list(t.fill)), int(p["top"]), int(p["left"]), t.size, t.size)
    if isinstance(t, RandomHorizontalFlip):
        return V.horizontal_flip(image) if p["flip"] else image
    if isinstance(t, RandomRotation):  # in float64: float32 coordinates are off by more than ours
        return V.rotate(image.double(), float(t.angle(p["step"])), fill=as_list(t.fill)).to(image.dtype)
    top, left = int(p["row"]) - t.size // 2, int(p["col"]) - t.size // 2
    bottom, right = min(top + t.size, image.shape[1]), min(left + t.size, image.shape[2])
    top, left = max(top, 0), max(left, 0)
    fill = torch.tensor(t.fill, dtype=image.dtype).view(-1, 1, 1).expand(len(image), bottom - top, right - left)
    return V.erase(image, top, left, bottom - top, right - left, fill)


def chain_of_theirs(chain, x, params):
    "The members of `chain` in turn, each image apart."
    out = []
    for k, image in enumerate(x):
        for i, t in enumerate(chain.transforms):
            own = {name[2:]: value[k] for name, value in params.items() if name.startswith(f"{i}.")}
            image = theirs(t, image, own)
        out.append(image)
    return torch.stack(out)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_each_move_equals_torchvision(size, dtype):
    x, side = images(40, size, dtype), min(size)
    moves = [RandomCrop(side, padding=4), RandomCrop(max(1, side - 2)), RandomCrop(side + 5, padding=3, fill=1),
             RandomHorizontalFlip(), RandomRotation(5), RandomRotation(ODD, fill=1), Cutout(16), Cutout(5, fill=1),
             Cutout(1), Cutout(99)]  # fmt: skip
    for move in moves:
        chain = Compose([move])
        params = chain.draw(len(x), size, dice())
        got = chain.apply(x, **params)
        assert got.dtype == dtype and got.is_contiguous()
        assert torch.equal(got, chain_of_theirs(chain, x, params)), move


CHAINS = {
    "usual": lambda: [RandomCrop(32, 4), RandomHorizontalFlip(), RandomRotation(5), Cutout(16, fill=(9, 99, 199))],
    "fills": lambda: [RandomCrop(16, 4, 1), RandomHorizontalFlip(), RandomRotation(ODD, fill=7), Cutout(7, fill=1)],
    "flip first": lambda: [RandomHorizontalFlip(), RandomCrop(30, 4, 3), RandomRotation(20), RandomHorizontalFlip()],
    "cutout first": lambda: [Cutout(7, fill=1), RandomRotation(20), RandomCrop(20, 4, fill=1), RandomHorizontalFlip()],
    "crops": lambda: [RandomCrop(30, 4, fill=2), RandomHorizontalFlip(), RandomCrop(20), RandomCrop(24, 4, fill=5)],
    "flips": lambda: [RandomHorizontalFlip(), RandomHorizontalFlip(1.0), RandomCrop(9), RandomHorizontalFlip()],
    "turns": lambda: [RandomRotation(ODD, fill=3), RandomRotation(ODD, fill=4), Cutout(4), RandomRotation(9, fill=3)],
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("size", [(32, 32), (35, 30)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
def test_a_fused_chain_equals_torchvision_step_by_step(name, size, dtype):
    chain, x = Compose(CHAINS[name]()), images(60, size, dtype)
    params = chain.draw(len(x), size, dice(1))
    assert torch.equal(chain.apply(x, **params), chain_of_theirs(chain, x, params))


@pytest.mark.parametrize("size", [(32, 32), (33, 31), (17, 40)])
def test_table_and_computed_rotation_agree(size, monkeypatch):
    "Few angles are looked up in a table, many are computed: same pixels, mirrored or not."
    move, x = RandomRotation(9), images(300, size, torch.uint8)
    for chain in (Compose([move]), Compose([RandomHorizontalFlip(), move])):
        params = chain.draw(len(x), size, dice())
        by_table = chain.apply(x, **params)
        with monkeypatch.context() as patch:
            patch.setattr(move, "steps", 10**9)
            assert torch.equal(by_table, chain.apply(x, **params))


@pytest.mark.parametrize("size", [(32, 32), (33, 31), (17, 40)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bilinear_rotation(size, dtype):
    "To 1e-5 of torchvision. Its fill fades the border twice, so ours is compared without fill, on shifted images."
    x = images(50, size, dtype)
    for degrees, fill in ((5, 0), (ODD, 0.25)):
        move = RandomRotation(degrees, "bilinear", fill=fill)
        params = move.draw(len(x), size, dice())
        turn = [V.rotate(i - fill, float(a), V.InterpolationMode.BILINEAR) + fill
                for i, a in zip(x, move.angle(params["step"]), strict=True)]  # fmt: skip
        assert (move.apply(x, **params) - torch.stack(turn)).abs().max() < 1e-5


def test_bilinear_uint8_is_rounded_float():
    x, move = images(50, (32, 32), torch.uint8), RandomRotation(30, "bilinear", fill=(1, 2, 3))
    params = move.draw(len(x), 32, dice())
    assert torch.equal(move.apply(x, **params), move.apply(x.float(), **params).round().to(torch.uint8))


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channel_counts(channels):
    x, chain = images(30, (28, 28), torch.uint8, channels), Compose(CHAINS["fills"]())
    params = chain.draw(len(x), 28, dice())
    assert torch.equal(chain.apply(x, **params), chain_of_theirs(chain, x, params))


def test_memory_layout_does_not_matter():
    chain, x = Compose(CHAINS["usual"]()), images(20, (32, 32), torch.uint8)
    params, last = chain.draw(len(x), 32, dice()), torch.channels_last
    want = chain.apply(x, **params)
    big = images(40, (40, 40), torch.uint8)
    big[::2, :, 4:36, 4:36] = x
    for other in (x.contiguous(memory_format=last), big[::2, :, 4:36, 4:36]):
        assert torch.equal(chain.apply(other, **params), want)


def test_input_is_left_alone():
    x = images(20, (32, 32), torch.uint8)
    before = x.clone()
    Compose([*CHAINS["usual"](), AddGaussianNoise(0.1), Normalize((0.5,) * 3, (0.2,) * 3)])(x, dice())
    assert torch.equal(x, before)


def test_a_sample_depends_on_its_own_parameters_alone():
    "Any subset of the batch, in any order, comes out as it did in the whole batch: noise too."
    chain = Compose([*CHAINS["usual"](), AddGaussianNoise(0.05)])
    x, params = images(101, (32, 32), torch.uint8), chain.draw(101, 32, dice())
    whole = chain.apply(x, **params)
    for rows in torch.randperm(101, generator=dice(3)).split(33):
        assert torch.equal(chain.apply(x[rows], **{k: v[rows] for k, v in params.items()}), whole[rows])


def test_one_generator_state_one_result():
    chain, x = Compose(CHAINS["usual"]()), images(64, (32, 32), torch.uint8)
    assert torch.equal(chain(x, dice(5)), chain(x, dice(5)))
    assert not torch.equal(chain(x, dice(5)), chain(x, dice(6)))
    state = torch.get_rng_state()
    chain(x, dice(5))
    assert torch.equal(torch.get_rng_state(), state), "a generator is given: torch's own must not move"


def test_parameters_cover_their_range():
    n = 20_000
    crop = RandomCrop(32, padding=4).draw(n, 32, dice())
    cut = Cutout(16).draw(n, (32, 20), dice())
    for value, count in ((crop["top"], 9), (crop["left"], 9), (cut["row"], 32), (cut["col"], 20)):
        share = torch.bincount(value, minlength=count) / n
        assert len(share) == count and (share - 1 / count).abs().max() < 4 * (1 / count / n) ** 0.5
    assert abs(RandomHorizontalFlip(0.3).draw(n, 32, dice())["flip"].float().mean() - 0.3) < 0.015
    turn = RandomRotation((-3, 7))
    angle = turn.angle(turn.draw(n, 32, dice())["step"])
    assert (angle.min(), angle.max()) == (-3, 7) and abs(angle.mean() - 2) < 0.1
    assert not torch.equal(crop["top"], crop["left"])


def test_empty_batch():
    chain = Compose([*CHAINS["usual"](), Normalize((0.5,) * 3, (0.2,) * 3)])
    assert chain(images(0, (32, 32), torch.uint8)).shape == (0, 3, 32, 32)


def test_no_transform_is_identity():
    x = images(3, (8, 8), torch.uint8)
    assert torch.equal(Compose([])(x), x)


def test_sizes_go_through_a_chain():
    chain = Compose([RandomCrop(40, padding=4), AddGaussianNoise(0.1), Cutout(8), RandomCrop(24)])
    assert chain.output_size(32) == (24, 24)
    assert chain.draw(500, 32, dice())["2.row"].max() > 32, "cutout is drawn for the cropped size"
    nested = Compose([Compose([RandomCrop(24)]), Cutout(8)])
    assert set(nested.draw(2, 32)) == {"0.0.top", "0.0.left", "1.row", "1.col"}
    assert nested(images(2, (32, 32), torch.uint8)).shape == (2, 3, 24, 24)


# ---- normalize

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalize(dtype, layout):
    x, normalize = images(6, (9, 13), dtype).contiguous(memory_format=layout), Normalize(MEAN, STD)
    out = normalize(x)
    want = V.normalize(V.to_dtype(x, torch.float32, scale=True) if dtype == torch.uint8 else x, MEAN, STD)
    assert out.dtype == want.dtype and (out - want).abs().max() < 2e-6
    assert out.is_contiguous(memory_format=layout), "the layout must survive: a copy per batch otherwise"
    back = V.to_dtype(x, torch.float32, scale=True) if dtype == torch.uint8 else x
    assert (normalize.inverse(out) - back).abs().max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
def test_normalize_inside_a_chain_is_the_same(dtype):
    x, moves, normalize = images(30, (32, 32), dtype), CHAINS["usual"](), Normalize(MEAN, STD)
    if dtype != torch.uint8:
        moves[-1] = Cutout(16, fill=MEAN)
    assert torch.equal(Compose([*moves, normalize])(x, dice()), normalize(Compose(moves)(x, dice())))
    assert torch.equal(Compose([normalize, *moves])(x, dice()), Compose(moves)(normalize(x), dice()))


def test_normalize_lets_gradients_through():
    x = images(2, (8, 8), torch.float64).requires_grad_()
    for layout in (torch.contiguous_format, torch.channels_last):
        (grad,) = torch.autograd.grad(Normalize(MEAN, STD)(x.contiguous(memory_format=layout)).sum(), x)
        assert torch.allclose(grad, 1 / torch.tensor(STD, dtype=torch.float64).view(1, 3, 1, 1).expand_as(x))


def test_moves_let_gradients_through():
    x = images(4, (12, 12), torch.float64).requires_grad_()
    chain = Compose([RandomCrop(12, 2), RandomRotation(5), Cutout(4)])
    params = chain.draw(4, 12, dice())
    (grad,) = torch.autograd.grad(chain.apply(x, **params).sum(), x)
    count = chain.apply(torch.ones_like(x), **params).sum()
    assert grad.sum() == count and grad.min() == 0


def test_inference_mode_leaves_nothing_unusable_behind():
    "Tables made inside inference mode are used again outside of it, under autograd."
    chain = Compose([RandomCrop(11, 2, fill=0.125), RandomRotation(4), Cutout(3), Normalize((0.125,), (0.3,))])
    with torch.inference_mode():
        chain(images(3, (11, 11), torch.float32, 1), dice())
    x = images(3, (11, 11), torch.float32, 1).requires_grad_()
    chain(x, dice()).square().sum().backward()
    assert x.grad is not None


# ---- repr

def test_repr_says_all():
    more = [RandomRotation((-3, 7), "bilinear"), AddGaussianNoise(0.1), Normalize(MEAN, STD)]
    chain = Compose([*CHAINS["usual"](), *more])
    same = eval(repr(chain))
    assert repr(same) == repr(chain) and "RandomCrop(32, padding=4, fill=0)" in repr(chain)


# ---- refused

BAD = {
    "crop size": (lambda: RandomCrop(0), "crop size must be a whole number >= 1, got 0"),
    "padding": (lambda: RandomCrop(32, -1), "crop padding must be a whole number >= 0, got -1"),
    "crop too large": (lambda: RandomCrop(50, 4).draw(2, 32), "does not fit 32x32 px padded by 4"),
    "crop too large to apply": (lambda: RandomCrop(50, 9).apply(images(1, (16, 16), torch.uint8),
                                top=torch.tensor([0]), left=torch.tensor([0])), "use size <= 34 or padding >= 17"),
    "p": (lambda: RandomHorizontalFlip(1.5), "got 1.5"),
    "negative degrees": (lambda: RandomRotation(-5), r"degrees must be >= 0.*got -5"),
    "infinite degrees": (lambda: RandomRotation(float("inf")), "rotation must be"),
    "interpolation": (lambda: RandomRotation(5, "bilinaer"), "Did you mean 'bilinear'"),
    "cutout size": (lambda: Cutout(0), "cutout size must be a whole number >= 1, got 0"),
    "fill for other channels": (lambda: Cutout(4, fill=(1, 2))(images(1, (8, 8), torch.uint8)), "2 channels.* have 3"),
    "fill in [0, 1] for uint8": (lambda: Cutout(4, fill=MEAN)(images(1, (8, 8), torch.uint8)), r"\[255\*m for m in mean\]"),
    "fill over 255": (lambda: RandomCrop(9, 1, 256)(images(1, (8, 8), torch.uint8)), "give 0...255"),
    "fill nan": (lambda: Cutout(4, fill=float("nan")), "finite"),
    "one image": (lambda: Cutout(4)(images(1, (8, 8), torch.uint8)[0]), r"got \(3, 8, 8\)"),
    "integers": (lambda: Cutout(4)(torch.zeros(1, 3, 8, 8, dtype=torch.int64)), "got torch.int64"),
    "integers to normalize": (lambda: Normalize(MEAN, STD)(torch.zeros(1, 3, 8, 8, dtype=torch.int64)), "torch.int64"),
    "other batch": (lambda: Cutout(4).apply(images(2, (8, 8), torch.uint8), **Cutout(4).draw(3, 8)), "for 3 samples"),
    "other parameters": (lambda: Cutout(4).apply(images(2, (8, 8), torch.uint8), top=torch.zeros(2)), "use draw"),
    "parameters missing": (lambda: Compose([Cutout(4)]).apply(images(2, (8, 8), torch.uint8)), r"got \[\]"),
    "parameters of another chain": (lambda: Compose([Cutout(4)]).apply(images(2, (8, 8), torch.uint8),
                                    **{"1.row": torch.zeros(2)}), "'1.row'"),
    "no transform": (lambda: Compose([len]), "draw"),
    "std 0": (lambda: Normalize((0.5,), (0,)), "std > 0"),
    "mean in 0...255": (lambda: Normalize((125, 123, 114), (63, 62, 67)), "divide by 255"),
    "channels": (lambda: Normalize((0.5,), (0.2,))(images(2, (8, 8), torch.uint8)), r"\(N, 1, H, W\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refused_with_value_and_remedy(name):
    work, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        work()


# ---- the figure that draws again

def test_the_page_moves_pixels_as_the_library_does():
    js, chain = load("math/transforms.js"), Compose([RandomCrop(9, 3, 255), RandomHorizontalFlip(), Cutout(4, 255)])
    numbers = torch.arange(81, dtype=torch.uint8).view(1, 1, 9, 9)
    drawn = chain.draw(30, 9, dice())
    ours = chain.apply(numbers.expand(30, -1, -1, -1), **drawn)
    each = "((n, s, d) => d.map((own) => Array.from({ length: n }, (_, p) => originOf(Math.floor(p/s), p % s, s, 3, 4, own))))"
    theirs = js(each, 81, 9, torch.stack([v.long() for v in drawn.values()], 1).tolist())
    assert torch.tensor(theirs).where(torch.tensor(theirs) >= 0, torch.tensor(255)).equal(ours.flatten(1).long())


def test_a_press_draws_again(browser, tmp_path):
    figure = drawn_again(images(1, (32, 32), torch.uint8)[0], (125, 123, 114))
    first = figure.pictures()
    assert figure.ways() == 81 * 2 * 1024 and len(first) == 9 and len({p.numpy().tobytes() for p in first}) == 9
    with opened(browser, [figure], tmp_path) as page:
        before = page.evaluate("document.querySelector('canvas').toDataURL()")
        page.get_by_role("button", name="Draw again").click()
        page.wait_for_function("(old) => document.querySelector('canvas').toDataURL() !== old", arg=before)
        page.get_by_label("cutout", exact=True).uncheck()
        page.wait_for_function("document.querySelector('.cc-readout').textContent.includes('162 possible')")
    figure.round, figure.crop, figure.flip, figure.cutout = 1, False, False, False
    assert figure.ways() == 1 and len({p.numpy().tobytes() for p in figure.pictures()}) == 1


# ---- a GPU, where there is one

@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_equals_cpu_and_never_waits():
    chain, x = Compose(CHAINS["usual"]()), images(256, (32, 32), torch.uint8)
    params = chain.draw(len(x), 32, dice())
    there, normalize = {k: v.cuda() for k, v in params.items()}, Normalize(MEAN, STD)
    y = x.cuda()
    normalize(chain.apply(y, **there))  # tables are made
    torch.cuda.set_sync_debug_mode("error")
    try:
        got, normal = chain.apply(y, **there), normalize(chain.apply(y, **there))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(got.cpu(), chain.apply(x, **params))
    assert (normal.cpu() - normalize(chain.apply(x, **params))).abs().max() < 1e-6
