"""What users of such tools report elsewhere: maps, galleries, attacks. A test or more for each row of their table, C1 to C15.

A row stands for a kind of fault, and is tried at every entry point that shares it.
"""
import copy
import gc
import threading
import time
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from cams import Small, images
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cam_course.adversarial import PixelModel, _attack_trace, _image_gradient, accuracy_under, fgsm, pgd
from cam_course.app.explanation import explain
from cam_course.base.cam_explorer import explore_maps
from cam_course.base.core import DataError
from cam_course.base.rendering import as_rgb, overlay
from cam_course.base.target_layers import (
    _LAYOUTS,
    check_layer,
    known_layouts,
    resolve_layer,
    spatial_layers,
    suggest_layer,
)
from cam_course.bias import audit
from cam_course.data import ImageData, from_dataset, from_folder
from cam_course.gallery import Misclassified, _save_html
from cam_course.gradcam import GradCAM, gradcam_steps, library_cam, live_cam
from cam_course.localization import (
    MapThreshold,
    class_preference,
    deletion_curve,
    insertion_curve,
    iou_at,
    mass_in_mask,
    pointing_game,
    randomization_test,
    rank_correlation,
)
from cam_course.photographs import PhotoNet
from cam_course.transforms import Normalize

RAW = Normalize((0.0,)*3, (1.0,)*3)   # bytes to [0, 1]


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Small().eval()


def pictures(n=6, classes=4, size=16):
    "Random images as a data set."
    x = torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageData(x, torch.arange(n) % classes, [f"c{k}" for k in range(classes)], "pictures", (0.5,)*3, (0.25,)*3)


def pixels(n=4, size=16):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def state(*models):
    "All that a call could leave on a model."
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks),
        m.training) for net in models for m in net.modules()]
    return hooks, [(p.requires_grad, id(p.grad)) for net in models for p in net.parameters()], torch.get_rng_state().tolist()


# Every entry point that takes a classifier, as a function of the model, how its scores are found, and the layer.
DOORS = {
    "GradCAM": lambda m, s, layer="conv2": GradCAM(m, layer, scores=s)(images()),
    "explain of GradCAM": lambda m, s, layer="conv2": GradCAM(m, layer, scores=s).explain(images(), "all").raw[0],
    "gradcam_steps": lambda m, s, layer="conv2": gradcam_steps(m, images()[0], layer, scores=s).heat,
    "library_cam": lambda m, s, layer="conv2": library_cam(m, images(), layer, scores=s),
    "live_cam": lambda m, s, layer=None: torch.tensor([len(live_cam(m, pixels(), lambda x: x - 0.5, list("abcd"), scores=s).children)]),
    "find": lambda m, s, layer=None: Misclassified.find(m, pictures(), None, scores=s).logits,
    "plot_cams": lambda m, s, layer=None: drawn(mistakes().plot_cams(m, 2, scores=s)),
    "compare": lambda m, s, layer=None: drawn(mistakes().compare(m, 2, scores=s)),
    "fgsm": lambda m, s, layer=None: fgsm(m, pixels(), 0, scores=s),
    "pgd": lambda m, s, layer=None: pgd(m, pixels(), 0, steps=2, scores=s),
    "accuracy_under": lambda m, s, layer=None: torch.tensor(accuracy_under(m, pixels(), torch.zeros(4).long(), fgsm, scores=s)),
    "attack_trace": lambda m, s, layer=None: _attack_trace(m, pixels()[0], 0, steps=1, scores=s).probabilities,
    "insertion_curve": lambda m, s, layer=None: insertion_curve(m, images(), grid(), torch.zeros(4).long(), 2, scores=s),
    "deletion_curve": lambda m, s, layer=None: deletion_curve(m, images(), torch.ones(4, 8, 8), torch.zeros(4).long(), 2, scores=s),
    "randomization_test": lambda m, s, layer="conv2": randomization_test(m, images(), layer, scores=s, stages=["fc"]).maps,
    "audit": lambda m, s, layer="conv2": torch.tensor(audit(m, *twins(), RAW, layer, s).agree),
    "explain": lambda m, s, layer=None: explain(np.zeros((300, 300, 3), np.uint8), m, scores=s).probabilities,
}
NO_LAYERS = {"find", "fgsm", "pgd", "accuracy_under", "insertion_curve", "deletion_curve"}   # these need no look inside


def drawn(figure):
    return torch.tensor([len(figure.axes)])


def grid():
    "Maps (4, 8, 8)."
    return torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(1))


def mistakes():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Misclassified.find(Small().eval(), pictures(), None)


def twins():
    "Two data sets for an audit."
    base, masks = pictures(), torch.zeros(6, 1, 16, 16, dtype=torch.bool)
    masks[:, :, 4:8, 4:8] = True
    return [ImageData(base.x, base.y, base.class_names, "twins", base.mean, base.std, masks, {"cue_mask": masks[:,
        0]}) for _ in range(2)]


# ---- C1: the layout is known, not assumed

class ChannelsLast(nn.Module):
    "The net of the report: a stem, then LayerNorm over channels that come last."

    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.head = nn.Conv2d(3, 24, 4, stride=4), nn.LayerNorm(24), nn.Linear(24, 5)

    def forward(self, x):
        return self.head(self.norm(self.stem(x).permute(0, 2, 3, 1)).mean((1, 2)))


def test_a_layout_is_kept_for_a_module_not_for_its_place_in_memory():
    model, x = ChannelsLast().eval(), images(2, 32)
    assert known_layouts(model, {"norm": model.norm}, x) == {"norm": "last"} and len(_LAYOUTS[model]) == 1
    model.norm = nn.Identity()   # the old one is gone, and what is made next may lie where it was
    gc.collect()
    assert len(_LAYOUTS[model]) == 0


class Attention(nn.Module):
    "Tokens, and attention weights whose last two axes are places, not height and width."

    def __init__(self):
        super().__init__()
        self.stem, self.keep, self.tokens, self.head = nn.Conv2d(3, 16, 2, 2), nn.Identity(), nn.Identity(), nn.Linear(16, 5)

    def forward(self, x):
        t = self.tokens(self.stem(x).flatten(2).transpose(1, 2))
        near = torch.cdist(self.grid(x), self.grid(x))
        weights = self.keep((t @ t.transpose(1, 2))[:, None].tanh() - near)
        return self.head((weights.softmax(-1)[:, 0] @ t).mean(1))

    def grid(self, x):
        h, w = x.shape[2]//2, x.shape[3]//2
        return torch.cartesian_prod(torch.arange(h), torch.arange(w)).float()


def test_c01_channels_last_is_seen():
    torch.manual_seed(0)
    model, x = ChannelsLast().eval(), images(2, 32)
    assert suggest_layer(model, 32) == "norm"
    assert check_layer(model, "norm", 32) == ("norm", 24, 8, 8)
    found = GradCAM(model, "norm").explain(x, 1)
    assert found.raw[0].shape == (2, 8, 8)
    seen = model.norm(model.stem(x).permute(0, 2, 3, 1)).detach()   # by hand: the head is linear in the mean over places
    want = (seen*model.head.weight[1].detach()/64).sum(-1)
    torch.testing.assert_close(found.raw[0], want, atol=1e-6, rtol=1e-4)
    assert (library_cam(model, x, "norm", 1) - GradCAM(model, "norm")(x, 1)).abs().max() < 1e-5
    steps = gradcam_steps(model, x[0], "norm", 1)
    assert steps.activations.shape == (24, 8, 8)
    torch.testing.assert_close(steps.summed, want[0], atol=1e-6, rtol=1e-4)
    hand = GradCAM(model, "norm", lambda t: t.permute(0, 3, 1, 2))(x, 1, normalize=False)
    torch.testing.assert_close(hand, found.raw[0])


def test_c01_tokens_and_attention_are_refused_with_a_remedy_that_helps():
    torch.manual_seed(0)
    model, x = Attention().eval(), images(2, 16)
    assert [s.name for s in spatial_layers(model, 16)] == ["stem"] and suggest_layer(model, 16) == "stem"
    for call in (lambda: GradCAM(model, "keep")(x), lambda: library_cam(model, x, "keep"), lambda: check_layer(model, "keep", 16),
                 lambda: gradcam_steps(model, x[0], "keep")):
        with pytest.raises(ValueError, match=r"attention weights.*: use 'stem' \(8x8\)"): call()
    assert GradCAM(model, "stem")(x).shape == (2, 16, 16)
    for call in (lambda: GradCAM(model, "tokens")(x), lambda: library_cam(model, x, "tokens"), lambda: check_layer(model, "tokens",
        16)):
        with pytest.raises(ValueError, match="tokens .N, 64, 16.*reshape_transform=") as told: call()
    remedy = eval(str(told.value).partition("reshape_transform=")[2])   # as the message writes it
    assert GradCAM(model, "tokens", reshape_transform=remedy)(x).shape == (2, 16, 16)
    moved = GradCAM(model, "tokens", reshape_transform=remedy)
    assert (library_cam(model, x, "tokens", 1, reshape_transform=remedy) - moved(x, 1)).abs().max() < 1e-5


@pytest.mark.parametrize(("wrong", "says"), [
    (lambda t: t[:, :3].unflatten(1, (2, 2)), "reshape_transform fails on what 'tokens' gives"),
    (lambda t: t, r"reshape_transform must make maps \(N, C, h, w\)"),
    (lambda t: t.unflatten(1, (32, 2)).permute(0, 3, 1, 2), "32x2 maps after reshape_transform"), (5,
        "must be a function, got 5.*min_size=5")])
def test_c01_a_wrong_reshape_is_named(wrong, says):
    model = Attention().eval()
    with pytest.raises(ValueError, match=says): GradCAM(model, "tokens", wrong)(images(1, 16))


def vit():
    torch.manual_seed(0)
    net = torchvision.models.VisionTransformer(64, 8, 2, 4, 48, 96, num_classes=10)
    nn.init.normal_(net.heads.head.weight)   # torchvision's is 0
    return net.eval(), "encoder.layers.encoder_layer_1.ln_1", lambda t: t[:, 1:].unflatten(1, (8, 8)).permute(0, 3, 1, 2)


def swin():
    torch.manual_seed(0)
    net = torchvision.models.SwinTransformer([4, 4], 24, [2, 2], [2, 2], [4, 4], num_classes=10)
    return net.eval(), "norm", lambda t: t.permute(0, 3, 1, 2)


@pytest.mark.parametrize("make", [vit, swin])
def test_c01_reshape_transform_is_grad_cams(make):
    from pytorch_grad_cam import GradCAM as Library
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    (model, name, reshape), x = make(), images(2, 64)
    with Library(model, [model.get_submodule(name)], reshape_transform=reshape) as cam:
        want = torch.from_numpy(cam(x, [ClassifierOutputTarget(k) for k in (3, 7)]))
    got = GradCAM(model, name, reshape)(x, [3, 7])
    assert (got - want).abs().max() < 1e-5 and want.max() > 0.9
    assert (library_cam(model, x, name, [3, 7], reshape_transform=reshape) - want).abs().max() < 1e-5
    for cam in (library_cam, lambda model, x, name, **kw: GradCAM(model, name, **kw)(x)):
        with pytest.raises(ValueError, match="maps after reshape_transform, under min_size=99 px"):
            cam(model, x, name, reshape_transform=reshape, min_size=99)
    if make is swin:   # known without being told
        assert torch.equal(GradCAM(model, name)(x, [3, 7]), got)


def follows(model, name, size):
    "Whether the map of a layer follows a spot that moves from one corner of the image to the other."
    places = []
    for corner in (slice(0, size//2), slice(size//2, size)):
        x = torch.full((2, 3, size, size), 0.4)
        x[1, :, corner, corner] = torch.rand(3, size//2, size//2, generator=torch.Generator().manual_seed(3))
        kept = {}
        handle = model.get_submodule(name).register_forward_hook(lambda m, a, out, kept=kept: kept.update(out=out.detach().clone()))
        with torch.no_grad():
            model(x)
        handle.remove()
        out = kept["out"]
        shape = check_layer(model, name, size)
        out = out if out.shape[1] == shape.channels and out.shape[2:] == shape[2:] else out.permute(0, 3, 1, 2)
        change = (out[1] - out[0]).abs().sum(0)
        rows, columns = torch.meshgrid(*(torch.linspace(0, 1, n) for n in change.shape), indexing="ij")
        places.append(((change*rows).sum()/change.sum(), (change*columns).sum()/change.sum()))
    (r0, c0), (r1, c1) = places
    return float(r1 - r0) > 0.1 and float(c1 - c0) > 0.1


FAMILIES = {  # a net of each of torchvision's families, and the side of its images
    "alexnet": 224, "maxvit_t": 224, "vit_b_32": 224, **dict.fromkeys(
        ("convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3", "mnasnet0_5",
            "mobilenet_v2",
         "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t",
             "swin_v2_t",
         "vgg11", "wide_resnet50_2"), 160)}
QUICK = ("mobilenet_v3_small", "shufflenet_v2_x0_5", "swin_t")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.long) for n in FAMILIES])
def test_c01_families_of_torchvision(name):
    "The layer that is suggested has the image's space in it, or the message says that there is none."
    torch.manual_seed(0)
    more = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model, size = torchvision.models.get_model(name, num_classes=10, **more).eval(), FAMILIES[name]
    try:
        layer = suggest_layer(model, size)
    except ValueError as error:
        assert "no layer of" in str(error)
        return
    assert follows(model, layer, size), layer


OTHERS = {  # nets of ten families of timm's, and the side of their images
    "vit_tiny_patch16_224": 224, "swin_tiny_patch4_window7_224": 224, "xcit_nano_12_p16_224": 224, **dict.fromkeys(
        ("convnext_atto", "mobilenetv3_small_050", "regnetx_002", "resnetv2_50", "ghostnet_100", "poolformer_s12", "edgenext_xx_small"),
        128)}


@pytest.mark.long
@pytest.mark.parametrize("name", OTHERS)
def test_c01_families_of_timm(name):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    torch.manual_seed(0)
    model, size = timm.create_model(name, pretrained=False, num_classes=10).eval(), OTHERS[name]
    layer = suggest_layer(model, size)
    assert follows(model, layer, size), layer


# ---- C2: as many scores as classes

@pytest.mark.parametrize("door", ["find", "fgsm", "pgd", "accuracy_under", "insertion_curve", "deletion_curve", "live_cam",
    "plot_cams", "compare",
                                  "audit", "attack_trace", "explain"])
@pytest.mark.parametrize("flat", [False, True])
def test_c02_one_score_is_refused_with_the_two_column_remedy(door, flat):
    torch.manual_seed(0)
    model = nn.Sequential(Small(1), nn.Flatten(0)) if flat else Small(1)
    before = state(model)
    with pytest.raises(ValueError, match=r"one score per image.*make two of it, scores=") as told:
        DOORS[door](model.eval(), None, "0.conv2" if flat else "conv2")
    remedy = eval(str(told.value).rpartition("scores=")[2])
    z = torch.tensor([[-2.0], [0.5]])
    two = remedy(z[:, 0] if flat else z)
    torch.testing.assert_close(two.softmax(1)[:, 1:], z.sigmoid())
    assert state(model)[1:] == before[1:]


def test_c02_two_columns_make_a_binary_net_right():
    torch.manual_seed(0)
    model, data = Small(1).eval(), pictures(8, 2)
    sign = (model(Normalize.of(data)(data.x)) > 0).long()[:, 0]
    labelled = ImageData(data.x, sign, ("no", "yes"), "binary", data.mean, data.std)
    pair = lambda z: torch.cat([-z/2, z/2], 1)
    assert Misclassified.find(model, labelled, None, scores=pair).accuracy == 1
    inside = PixelModel(model, Normalize.of(data))
    y = sign
    assert accuracy_under(inside, data.x/255, y, scores=pair)[0] == 1
    assert (fgsm(inside, data.x/255, torch.zeros_like(y), scores=pair) != data.x/255).any()


@pytest.mark.parametrize("door", ["find", "live_cam", "plot_cams", "compare", "audit"])
def test_c02_another_number_of_scores_than_names(door):
    with pytest.raises(ValueError, match="the model returns 10 scores per image, and there are 4 classes"):
        DOORS[door](Small(10).eval(), None)
    with pytest.raises(ValueError, match="10 scores per image, and there are 4 classes"):
        PhotoNet(Small(10).eval(), tuple("abcd"), RAW, "conv2", 16).top(pixels()[0])


# ---- C3: threads

class Slow(Small):
    "Sleeps around its convolution, so that two calls are sure to meet."

    pause = 0.02

    def forward(self, x):
        time.sleep(self.pause)
        out = super().forward(x)
        time.sleep(self.pause)
        return out


def together(jobs):
    "Run the jobs in threads of their own; what they raised."
    failed = []

    def safe(job):
        try: job()
        except BaseException as error: failed.append(error)

    threads = [threading.Thread(target=safe, args=(job,)) for job in jobs]
    for t in threads: t.start()
    for t in threads: t.join()
    return failed


CALLS = {"GradCAM": lambda m: GradCAM(m, "conv2")(images(2)), "library_cam": lambda m: library_cam(m, images(2), "conv2"),
         "find": lambda m: Misclassified.find(m, pictures(4), None), "fgsm": lambda m: fgsm(m, pixels(2), 0),
         "spatial_layers": lambda m: spatial_layers(m, 16), "insertion": lambda m: DOORS["insertion_curve"](m, None)}


@pytest.mark.parametrize("turn", range(50))
def test_c03_two_threads_leave_no_trace(turn):
    "50 times in a row, with another pair of calls each time."
    first, second = list(CALLS)[turn % len(CALLS)], list(CALLS)[(turn//len(CALLS) + turn) % len(CALLS)]
    model = Slow()
    model.pause = 0.0005
    model(images(1)).sum().backward()
    model.train().conv1.eval()
    want = [CALLS[name](copy.deepcopy(model)) for name in (first, second)]
    before, got = state(model), [None, None]
    wrapped = PixelModel(model, lambda x: x)   # another model that shares its modules

    def job(i, name): got[i] = CALLS[name](wrapped if name == "fgsm" else model)

    assert not together([lambda: job(0, first), lambda: job(1, second)])
    assert state(model) == before
    for a, b in zip(got, want, strict=True):
        if isinstance(a, torch.Tensor): torch.testing.assert_close(a, b)
    model(images(1))


def test_c03_a_plain_forward_meanwhile_is_let_alone():
    "A forward of another thread meets the hooks of a call: they are none of its business."
    model, stop = Slow().eval(), threading.Event()
    model.pause = 0.001
    seen = []

    def use():
        while not stop.is_set():
            with torch.no_grad():
                seen.append(model(images(1)).isfinite().all())

    def look():
        try:
            for _ in range(20):
                GradCAM(model, "conv2")(images(1), 1)
                pytest.raises(ValueError, GradCAM(model, "conv2"), images(1, 4))
        finally:
            stop.set()

    want = GradCAM(model, "conv2", min_size=1)(images(1), 1)
    failed = together([use, look])
    assert not failed and seen and torch.equal(GradCAM(model, "conv2", min_size=1)(images(1), 1), want)
    assert not any(m._forward_hooks for m in model.modules())


def test_c03_a_hammer():
    "8 threads, 200 calls each, on one model."
    model = Small(3)
    model(images(1)).sum().backward()
    model.train().act1.eval()
    model.conv1.weight.requires_grad_(False)
    before, x = state(model), images(1, 12)
    cam = GradCAM(model, "conv2")
    jobs = [lambda: cam(x, 1), lambda: pgd(model, pixels(1, 12), 0, steps=1), lambda: pytest.raises(ValueError, cam, x[:, :, :4, :4]),
            lambda: GradCAM(model, "conv1").explain(x, "all")]
    assert not together([lambda job=job: [job() for _ in range(200)] for job in jobs*2])
    assert state(model) == before


# ---- C4: one unwrapping

def wrapped(model):
    in_place = copy.deepcopy(model)
    in_place.compile(backend="eager")
    return {"compiled": torch.compile(model, backend="eager"), "in place": in_place, "parallel": nn.DataParallel(model),
            "both": nn.DataParallel(torch.compile(model, backend="eager"))}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("how", ["compiled", "in place", "parallel", "both"])
def test_c04_wrapped_models_are_taken(small, door, how):
    torch.manual_seed(0)
    want = DOORS[door](small, None)
    torch.manual_seed(0)
    got = DOORS[door](wrapped(small)[how], None)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_c04_layers_have_one_name(small):
    for model in wrapped(small).values():
        assert suggest_layer(model, 16) == suggest_layer(small, 16)
        assert [s.name for s in spatial_layers(model, 16)] == [s.name for s in spatial_layers(small, 16)]
        assert check_layer(model, "conv2", 16).channels == 8
        for name in ("conv2", "_orig_mod.conv2", "module.conv2", "module._orig_mod.conv2"): assert resolve_layer(model,
            name)[0] == "conv2"
    assert GradCAM(torch.compile(small), small.conv2)(images()).shape == (4, 16, 16)
    inner = PixelModel(torch.compile(small, backend="eager"), lambda x: x)
    layer = suggest_layer(inner, pixels())
    torch.testing.assert_close(GradCAM(inner, layer)(images(), 1), GradCAM(small, suggest_layer(small, 16))(images(), 1))


def test_c04_distributed(small, tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path/'meet'}", rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(small)
        assert torch.equal(GradCAM(model, "conv2")(images(), 1), GradCAM(small, "conv2")(images(), 1))
        assert suggest_layer(model, 16) == suggest_layer(small, 16)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("door", sorted(DOORS.keys() - NO_LAYERS))
@pytest.mark.parametrize("how", ["traced", "quantized", "a function"])
def test_c04_what_has_no_layers_is_refused_by_name(small, door, how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if how == "traced": model, says = torch.jit.trace(small, images()), "traced or scripted.*the module from which it was made"
        if how == "quantized":
            model, says = nn.Sequential(torch.ao.nn.quantized.Conv2d(3, 4, 3), nn.Flatten()), "quantized.*float model"
    if how == "a function": model, says = (lambda x: x.mean((2, 3))), "must be a torch.nn.Module, got function"
    with pytest.raises((TypeError, ValueError), match=says): DOORS[door](model, None)


@pytest.mark.parametrize("door", sorted(NO_LAYERS))
def test_c04_a_traced_model_is_fine_where_no_layer_is_needed(small, door):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(small, images())
    torch.manual_seed(0)
    want = DOORS[door](small, None)
    torch.manual_seed(0)
    torch.testing.assert_close(DOORS[door](traced, None), want, atol=1e-5, rtol=1e-5)


# ---- C5: a vanished gradient is no robustness

class Louder(nn.Module):
    def __init__(self, net, k):
        super().__init__()
        self.net, self.k = net, k

    def forward(self, x):
        return self.k*self.net(x)


@pytest.mark.parametrize("k", [1, 30, 300, 3000, 30_000])
def test_c05_loud_scores_are_attacked_alike(k):
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Flatten(), nn.Linear(48, 4)).double().float(), pixels(40, 4)
    y = net(x).argmax(1)
    loud = Louder(net, k)
    exact = x.double().requires_grad_()
    F.cross_entropy(copy.deepcopy(net).double()(exact), y, reduction="sum").backward()
    away = pgd(loud, x, y, 32/255)
    with torch.no_grad():
        margin = lambda z: z.gather(1, y[:, None])[:, 0] - z.scatter(1, y[:, None], -torch.inf).amax(1)
        assert (margin(net(away)) < margin(net(x))).all()
    assert accuracy_under(loud, x, y, lambda m, a, b: pgd(m, a, b, 32/255))[0] == pytest.approx(
        accuracy_under(net, x, y, lambda m, a, b: pgd(m, a, b, 32/255))[0], abs=0.1)
    ours = _image_gradient(loud, x, y)
    assert (ours != 0).flatten(1).any(1).all()
    if k == 1: assert torch.equal(ours.sign(), exact.grad.float().sign())


class Rounded(Small):
    def forward(self, x):
        return super().forward((255*x).round()/255)


def test_c05_no_gradient_is_said_and_refused(small):
    model, x = Rounded().eval(), pixels()
    for attack in (fgsm, pgd):
        with pytest.warns(UserWarning, match="exactly 0 for 4 of 4 images.*nothing of robustness"): out = attack(model, x, 0)
        assert torch.equal(out, x)
        with pytest.raises(ValueError, match="exactly 0 for 4 of 4 images.*no sign of robustness"): accuracy_under(model, x, 0, attack)
    assert accuracy_under(model, x, 0)[0] >= 0   # without an attack it is an accuracy
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fgsm(small, x, 0)


# ---- C6: maps that belong to no image

class Frames(Small):
    "Takes four frames as channels, and folds them into the batch."

    def forward(self, x):
        return super().forward(x.view(-1, 3, *x.shape[2:])).view(len(x), 4, -1).mean(1)


def test_c06_frames_folded_into_the_batch():
    model, x = Frames().eval(), torch.randn(2, 12, 16, 16)
    for call in (lambda: GradCAM(model, "conv2")(x), lambda: gradcam_steps(model, x[0], "conv2"), lambda: library_cam(model, x,
        "conv2"),
                 lambda: check_layer(model, "conv2", x)):
        with pytest.raises(ValueError, match="'conv2' gives 8 maps for 2 images"): call()
    assert spatial_layers(model, x) == []
    with pytest.raises(ValueError, match="no layer of Frames"): suggest_layer(model, x)


# ---- C7: rounding, and remedies that help

def test_c07_rounding_of_the_inverse_is_taken_everywhere(small):
    normalize = Normalize((.4914, .4822, .4465), (.2023, .1994, .2010))
    x = torch.zeros(64, 3, 16, 16)
    x[32:] = 1
    back = normalize.inverse(normalize(x))
    assert back.min() == 0 and back.max() == 1
    overlay(back[0], torch.ones(7, 7)), fgsm(small, back, 0)
    explore_maps(back[:2], {"conv2": torch.rand(2, 4, 8, 8)}, list("abcd")).still()
    beyond = normalize.inverse(normalize(x) + 0.1)
    assert beyond.max() > 1.01   # what is no rounding is kept, to be noticed
    half = normalize.inverse(normalize(x).bfloat16())
    assert half.min() >= 0 and half.max() <= 1


def test_c07_full_maps_over_any_picture():
    for value in (1.0, 0.3, 0.0):
        out = overlay(np.zeros((20, 30, 3), np.uint8), np.full((7, 7), value, np.float32))
        assert out.shape == (20, 30, 3)
    overlay(np.zeros((37, 41, 3), np.uint8), torch.rand(7, 7).round())


@pytest.mark.parametrize(("image", "says", "mend"), [
    (Normalize((0.5,)*3, (0.25,)*3)(torch.rand(2, 3, 8, 8))[0], r"Normalize\(mean, std\).inverse\(x\)\[i\]",
     lambda x: Normalize((0.5,)*3, (0.25,)*3).inverse(x[None])[0]),
    (255*torch.rand(3, 8, 8), "divide by 255", lambda x: x/255), (np.full((8, 8), 9000, np.uint16), "image / 65535", lambda x: x/65535),
    (Image.fromarray(np.full((8, 8), 900, np.int32)), r"np.asarray\(image\)", lambda x: np.asarray(x)/65535),
    (Image.new("CMYK", (8, 8)), r"image.convert\('RGB'\)", lambda x: x.convert("RGB")),
    (Image.new("RGBA", (8, 8)), r"image.convert\('RGB'\)", lambda x: x.convert("RGB"))])
def test_c07_remedies_for_pictures_help(image, says, mend):
    with pytest.raises(ValueError, match=says): overlay(image, torch.ones(4, 4))
    overlay(mend(image), torch.ones(4, 4))


@pytest.mark.parametrize(("spoil", "says", "mend"), [
    (lambda x: x - 3e-8, r"rounding, give images.clamp\(0, 1\)", lambda x: x.clamp(0, 1)), (lambda x: 255*x, "divide them by 255",
        lambda x: x/255),
    (lambda x: (255*x).byte(), "give images/255", lambda x: x/255), (lambda x: x.bfloat16(), r"give images.float\(\)",
        lambda x: x.float()),
    (lambda x: x[0], r"one image is image\[None\]", lambda x: x[None]), (lambda x: x.numpy(), r"torch.from_numpy\(x\)",
        torch.from_numpy),
    (list, r"torch.stack\(x\)", torch.stack)])
def test_c07_remedies_for_attacks_help(small, spoil, says, mend):
    x = pixels()
    x[0, 0, 0, 0] = 0
    for attack in (lambda z: fgsm(small, z, 0), lambda z: pgd(small, z, 0, steps=1), lambda z: accuracy_under(small, z, 0)):
        with pytest.raises(ValueError, match=says): attack(spoil(x))
        attack(mend(spoil(x)))


# ---- C8: one check of shapes

@pytest.mark.parametrize("measure", [pointing_game, mass_in_mask, iou_at, lambda m, k: class_preference(m, k, k)])
def test_c08_masks_with_an_axis_of_objects(measure):
    masks = torch.zeros(4, 1, 32, 32, dtype=torch.bool)
    for i in range(4): masks[i, 0, 8*i:8*i + 8, 8:16] = True
    maps = F.adaptive_avg_pool2d(masks.float(), 8)[:, 0]
    got = measure(maps, masks)
    assert got.shape == (4,) and torch.equal(got, measure(maps, masks[:, 0]))
    assert measure(maps, masks[0, 0]).shape == (4,) and measure(maps[0], masks[:, 0]).shape == (4,)
    assert measure(maps.expand(3, 4, 8, 8), masks[:, 0]).shape == (3, 4)
    for m, k in ((maps, masks.expand(4, 3, 32, 32)), (maps[:1], masks[:, 0]), (maps[:, None], masks[:, 0]), (maps[:3], masks)):
        if m.shape[:1] == (1,): continue   # one map for all, said by its axis
        with pytest.raises(ValueError, match="don't match: give one mask per map"): measure(m, k)


# ---- C9: one way in

class Tuple(Small):
    def forward(self, x): return x, super().forward(x)


class Named(Small):
    def forward(self, x): return {"features": x, "logits": super().forward(x)}


class Output:
    def __init__(self, logits): self.loss, self.logits = None, logits


class Face(Small):
    "As Hugging Face's classifiers."

    def forward(self, x): return Output(super().forward(x))


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("kind", "where"), [(Tuple, 1), (Named, "logits"), (Face, "logits"), (Tuple, lambda out: out[1])])
def test_c09_outputs_of_any_kind(small, door, kind, where):
    model = kind().eval()
    model.load_state_dict(small.state_dict())
    torch.manual_seed(0)
    want = DOORS[door](small, None)
    torch.manual_seed(0)
    torch.testing.assert_close(DOORS[door](model, where), want, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("door", DOORS)
def test_c09_without_scores_the_remedy_is_named_and_helps(door):
    model = Named().eval()
    with pytest.raises(ValueError, match="must return scores .*'features'.*say which part: scores='logits'"): DOORS[door](model, None)
    with pytest.raises(ValueError, match="scores='logit' is not in what the model returns, dict with 'features'"): DOORS[door](model,
        "logit")
    DOORS[door](model, "logits")


def test_c09_segmentation_and_several_inputs():
    class Dense(Small):
        def forward(self, x): return self.conv1(x)

    class Two(Small):
        def forward(self, x, also): return super().forward(x)

    with pytest.raises(ValueError, match="for a class per pixel take the mean") as told: GradCAM(Dense(), "conv1")(images())
    remedy = eval(str(told.value).rpartition("scores=")[2])
    assert GradCAM(Dense(), "conv1", scores=remedy)(images()).shape == (4, 16, 16)
    for door in ("GradCAM", "find", "fgsm", "insertion_curve"):
        with pytest.raises(TypeError, match="takes more than images.*whose forward"): DOORS[door](Two(), None)


def test_c09_loaders_and_data_sets(small):
    data = pictures(8)
    want = Misclassified.find(small, data, Normalize.of(data))
    plain = TensorDataset(data.x/255, data.y)
    names = data.class_names
    for given in (DataLoader(plain, batch_size=3), plain, [(x, int(y)) for x, y in zip(data.x, data.y, strict=True)], DataLoader(data,
        batch_size=2)):
        found = Misclassified.find(small, given, Normalize.of(data), class_names=names)
        assert torch.equal(found.index, want.index) and torch.equal(found.x, want.x)
        torch.testing.assert_close(found.logits, want.logits)
        found.plot_cams(small, 2)
    with pytest.raises(ValueError, match="build it with shuffle=False"):
        Misclassified.find(small, DataLoader(plain, shuffle=True), None, class_names=names)
    with pytest.raises(ValueError, match="take the data set without Normalize"):
        Misclassified.find(small, TensorDataset(4*data.x/255 - 2, data.y), None, class_names=names)
    with pytest.raises(ValueError, match="data must be ImageData, a DataLoader or a Dataset, got int"): Misclassified.find(small, 3,
        None)
    errors = Misclassified.find(small, data, None)   # the data's own numbers
    errors.plot_cams(small, 2)


def test_c09_number_formats(small):
    x, want = images(), GradCAM(small, "conv2")(images(), 1)
    for kind in (torch.bfloat16, torch.float16, torch.float64):
        got = GradCAM(small, "conv2")(x.to(kind), 1)
        assert got.dtype == torch.float32 and (got - want).abs().max() < 0.2
        assert library_cam(small, x.to(kind), "conv2", 1).dtype == torch.float32
        insertion_curve(small, x.to(kind), torch.rand(4, 8, 8), torch.zeros(4).long(), 2)
    assert as_rgb(pixels()[0].bfloat16()).dtype == np.float32
    half = copy.deepcopy(small).bfloat16()
    assert GradCAM(half, "conv2")(x, 1).shape == want.shape


def test_c09_numpy_numbers(small):
    x = pixels()
    assert torch.equal(fgsm(small, x, 0, np.float32(8/255)), fgsm(small, x, 0, float(np.float32(8/255))))
    assert pgd(small, x, np.int64(0), np.float64(8/255), np.float32(2/255), np.int64(2)).shape == x.shape
    assert GradCAM(small, "conv2", min_size=np.int64(5), batch_size=np.int32(2))(x, np.int64(1)).shape == (4, 16, 16)
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[4:8] = True
    maps = torch.rand(4, 8, 8)
    assert torch.equal(iou_at(maps, mask, np.float32(0.5)), iou_at(maps, mask, 0.5))
    assert torch.equal(iou_at(maps, mask, np.array([0.25, 0.5])), iou_at(maps, mask, [0.25, 0.5]))
    assert mistakes().plot(np.int64(3)).axes and mistakes().plot_cams(small, np.int64(2)).axes
    assert suggest_layer(small, np.int64(16)) == suggest_layer(small, 16)
    assert accuracy_under(small, x, 0, batch_size=np.int64(2))[0] >= 0


def test_c09_a_model_built_in_inference_mode():
    with torch.inference_mode():
        model = Small().eval()
    doors = ("GradCAM", "gradcam_steps", "library_cam", "fgsm", "pgd", "randomization_test", "attack_trace")
    for door in doors:
        with pytest.raises(TypeError, match=r"built in torch.inference_mode.*copy.deepcopy\(model\)"): DOORS[door](model, None)
        DOORS[door](copy.deepcopy(model), None)   # the remedy
    assert len(Misclassified.find(model, pictures(), None).labels) == 6   # no gradient is needed
    DOORS["insertion_curve"](model, None)


# ---- C10: remedies that are true

class Siamese(nn.Module):
    "One encoder for both halves of an image."

    def __init__(self):
        super().__init__()
        self.e, self.mix, self.fc = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()), nn.Conv2d(4, 4, 3,
            padding=1), nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(self.mix(self.e(x) - self.e(x/2)).mean((2, 3)))


class Holder(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.m = inner

    def forward(self, x): return self.m(x)


def test_c10_a_shared_layer():
    for model, names in ((Siamese(), ("e", "e.0")), (Holder(Siamese()), ("m.e", "m.e.0"))):
        for name in names:
            with pytest.raises(ValueError, match=r"called 2 times .*: use '(m\.)?mix'") as told: GradCAM(model, name)(images())
            assert "take 'm'" not in str(told.value)
        better = str(told.value).partition("use '")[2].partition("'")[0]
        assert GradCAM(model, better)(images()).shape == (4, 16, 16)


@pytest.mark.parametrize(("spoil", "says", "mend"), [
    (lambda x: x.numpy(), r"an array: torch.from_numpy\(x\)", torch.from_numpy), (list, r"torch.stack\(x\)", torch.stack),
    (lambda x: x[0], r"one image is x\[None\]", lambda x: x[None]), (lambda x: x[:, :, None], r"frame by frame, x\[:, :, k\]",
        lambda x: x[:, :, 0]),
    (lambda x: x[:0], "it is empty", None), (lambda x: (255*x.abs()).byte(), r"Normalize\(mean, std\)\(x\)", Normalize((0.5,)*3, (0.2,
        )*3)),
    (lambda x: Image.new("RGB", (32, 32)), "a PIL image", None), (lambda x: "cat.png", "got str|got 'cat.png'", None)])
def test_c10_images_of_other_kinds(small, spoil, says, mend):
    x, targets, many = images(), torch.zeros(4).long(), lambda z: len(z) if isinstance(z, torch.Tensor) else 4
    for call in (lambda z: GradCAM(small, "conv2")(z), lambda z: library_cam(small, z, "conv2"), lambda z: suggest_layer(small, z),
                 lambda z: insertion_curve(small, z, torch.rand(many(z), 8, 8), targets[:many(z)], 1),
                     lambda z: randomization_test(small, z, stages=["fc"])):
        with pytest.raises(ValueError, match=says): call(spoil(x))
        if mend is not None: call(mend(spoil(x)))


def test_c10_a_photograph_of_pil_gets_a_remedy_that_works(small):
    from cam_course.photographs import load_photograph
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"load_photograph\(image\).*Normalize\(mean, std\)\(x\[None\]\)"): GradCAM(small,
        "conv2")(image)
    x = load_photograph(image, 16, 16)
    assert GradCAM(small, "conv2")(Normalize((0.5,)*3, (0.25,)*3)(x[None])).shape == (1, 16, 16)


def test_c10_larger_images_or_a_lower_min_size_help(small):
    with pytest.raises(ValueError, match="give larger images, or min_size=16, the largest there is") as told: suggest_layer(small, 16,
        min_size=40)
    assert suggest_layer(small, 16, min_size=int(str(told.value).partition("min_size=")[2].partition(",")[0]))
    assert suggest_layer(small, 64, min_size=40)
    with pytest.raises(ValueError, match="no convolution: give images"): suggest_layer(nn.Sequential(nn.AvgPool2d(2), nn.Flatten()), 16)
    assert suggest_layer(nn.Sequential(nn.AvgPool2d(2), nn.Flatten()), images()) == "0"


# ---- C11: NaN is named

class Broken(Small):
    "NaN in its scores, or only in the gradient."

    def __init__(self, where):
        super().__init__()
        self.where = where

    def forward(self, x):
        z = super().forward(x)
        return z*torch.nan if self.where == "scores" else z + (z.detach()*0 - z*0).abs().sqrt()


@pytest.mark.parametrize("door", DOORS)
def test_c11_a_net_that_gives_nan(door):
    with pytest.raises(ValueError, match="NaN|not finite"): DOORS[door](Broken("scores").eval(), None)


def test_c11_nan_in_gradients_and_maps():
    for call in (lambda m: GradCAM(m, "conv2")(images()), lambda m: GradCAM(m, "conv2").explain(images(), 1), lambda m: library_cam(m,
        images(), "conv2"),
                 lambda m: fgsm(m, pixels(), 0)):
        with pytest.raises(ValueError, match="NaN or infinity|not finite"): call(Broken("gradient").eval())
    bad = torch.full((4, 8, 8), torch.nan)
    mask, y = torch.ones(4, 16, 16, dtype=torch.bool), torch.zeros(4).long()
    x8 = torch.zeros(4, 3, 16, 16, dtype=torch.uint8)
    for call in (lambda: pointing_game(bad, mask), lambda: mass_in_mask(bad, mask), lambda: iou_at(bad, mask),
        lambda: rank_correlation(bad, bad),
                 lambda: insertion_curve(Small(), images(), bad, y), lambda: deletion_curve(Small(), images(), bad, y),
                     lambda: overlay(x8[0], bad[0]),
                 lambda: MapThreshold.of(x8, mask, {"bad": bad}, list("abcd")), lambda: explore_maps(x8, {"a": bad[:, None]}, ["k"])):
        with pytest.raises(ValueError, match="NaN|not finite"): call()


def test_c11_maps_of_16_bits():
    maps, mask = torch.full((2, 400, 400), 3.0), torch.zeros(2, 400, 400, dtype=torch.bool)
    mask[:, :100] = True
    for kind in (torch.float16, torch.bfloat16):
        for measure in (mass_in_mask, iou_at):
            torch.testing.assert_close(measure(maps.to(kind), mask), torch.full((2,), 0.25), atol=1e-4, rtol=0)


# ---- C12: pictures and probabilities

def test_c12_float_images_of_a_threshold():
    mask = torch.zeros(2, 16, 16, dtype=torch.bool)
    mask[:, :4] = True
    maps, floats = {"a": torch.rand(2, 8, 8)}, pixels(2)
    with pytest.raises(ValueError, match=r"x must be uint8 .* by \(255\*x\).round\(\).to\(torch.uint8\)"): MapThreshold.of(floats,
        mask, maps, list("ab"))
    figure = MapThreshold.of((255*floats).round().to(torch.uint8), mask, maps, list("ab"))
    assert np.frombuffer(figure.pixels, np.uint8).std() > 50
    with pytest.raises(ValueError, match="2 images need as many maps"): MapThreshold.of((255*floats).byte(), mask[0], maps, list("ab"))


def test_c12_a_picture_of_mode_i(tmp_path):
    "16 bits where the kind of file says so; elsewhere nobody knows, whatever the numbers are."
    values = np.arange(256, dtype=np.int32).reshape(16, 16)
    (tmp_path/"cat").mkdir()
    for top in (255, 3):   # a dark picture of 16 bits is one too
        deep = np.minimum(257*values, 256*top + 255)
        for name in ("deep.png", "deep.pgm"):
            Image.fromarray(deep.astype(np.uint16)).save(tmp_path/"cat"/name)
        assert Image.open(tmp_path/"cat"/"deep.pgm").mode == "I"
        found = from_folder(tmp_path, channels=1).x[:, 0].numpy()
        assert np.array_equal(found, np.stack([np.minimum(values, top)]*2))
    older = Image.fromarray(257*values)
    older.format = "PNG"   # as older Pillows open them
    assert np.array_equal(from_dataset([(older, 0)]).x[0, 0].numpy(), values)
    for image in (Image.fromarray(values), Image.fromarray(257*values), Image.fromarray(values.astype(np.float32))):
        with pytest.raises(ValueError, match="32-bit image .mode [IF]. has no known range"): from_dataset([(image, 0)])
        image.save(tmp_path/"cat"/"wide.tif")
        with pytest.raises(DataError, match="wide.tif can't be read .*no known range"): from_folder(tmp_path, channels=1)


@pytest.mark.parametrize("door", DOORS)
def test_c12_a_softmax_at_the_end_is_said_once_and_the_remedy_helps(small, door):
    layer = "0.conv2"
    model = nn.Sequential(copy.deepcopy(small), nn.Softmax(1))
    if door == "randomization_test":
        call = lambda m, s, layer: randomization_test(m, images(), layer, scores=s, stages=["0.fc"]).maps
    else: call = DOORS[door]
    with pytest.warns(UserWarning, match="sum to 1: the model ends in a softmax") as told: call(model, None, layer)
    remedy = eval(str(told[0].message).rpartition("scores=")[2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call(model, remedy, layer)
        DOORS[door](small, None)
    if door == "find":
        data = pictures()
        torch.testing.assert_close(Misclassified.find(model, data, None, scores=remedy).confidence, Misclassified.find(small, data,
            None).confidence)


# ---- C13 and C15: the calls of grad-cam

def test_c13_with(small):
    with GradCAM(small, ["conv2"]) as cam:
        maps = cam(images(), 1)
    assert torch.equal(maps, GradCAM(small, "conv2")(images(), 1))
    with pytest.raises(KeyError), GradCAM(small, "conv2"): raise KeyError("inside")   # nothing is swallowed


def test_c14_file_names(tmp_path, small):
    rng = np.random.default_rng(0)
    for name in ("cat/b.png", "cat/a.png", "dog/deep/c.png"):
        (tmp_path/name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(tmp_path/name)
    data = from_folder(tmp_path)
    assert data.extra["path"] == ("cat/a.png", "cat/b.png", "dog/deep/c.png")
    assert data.subset([2, 0]).extra["path"] == ("dog/deep/c.png", "cat/a.png")
    assert data.subset(torch.tensor([False, True, False])).extra["path"] == ("cat/b.png",) == data.subset(slice(1, 2)).extra["path"]
    assert data.to("cpu").extra["path"] == data.extra["path"]
    rest, held = data.split(1)
    assert sorted(rest.extra["path"] + held.extra["path"]) == sorted(data.extra["path"])
    two = Small(2).eval()
    with torch.no_grad():
        two.fc.weight.zero_(), two.fc.bias.copy_(torch.tensor([0.0, 2.0]))   # all are dogs
    errors = Misclassified.find(two, data, None)
    assert errors.paths == ("cat/a.png", "cat/b.png")
    figure = errors.plot(2, by="index")
    words = [t.get_text() for ax in figure.axes for t in ax.texts]
    assert any("a.png" in w for w in words) and "cat/a.png" in figure.alt_text   # the alt text is the report's and the hand-in's too
    assert "cat/b.png" in errors.plot_cams(two, 2).alt_text and "cat/b.png" in errors.compare(two, 2).alt_text
    _save_html(errors, two, tmp_path/"page.html", 2)
    assert "cat/a.png" in (tmp_path/"page.html").read_text(encoding="utf-8")
    folder = torchvision.datasets.ImageFolder(str(tmp_path))
    assert [p.rpartition("/")[2] for p in Misclassified.find(two, folder, None).paths] == ["a.png", "b.png"]
    assert mistakes().paths == () and " taken for " in mistakes().plot(2).alt_text


@pytest.mark.parametrize("aug", [False, True])
@pytest.mark.parametrize("eigen", [False, True])
def test_c15_calls_of_grad_cam(small, aug, eigen):
    "The same calls on both; theirs run on a copy, since they leave traces."
    from pytorch_grad_cam import GradCAM as Library
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    x, targets, other = images(), [ClassifierOutputTarget(k) for k in (0, 1, 2, 3)], copy.deepcopy(small)
    other.act2 = nn.ReLU()   # in-place operations overwrite what the library stores
    for given in (targets, None):
        with Library(model=other, target_layers=[other.conv2], reshape_transform=None) as cam:
            want = cam(input_tensor=x, targets=given, aug_smooth=aug, eigen_smooth=eigen)
            outputs = cam.outputs.detach()
        with GradCAM(model=small, target_layers=[small.conv2], reshape_transform=None) as cam:
            got = cam(input_tensor=x, targets=given, aug_smooth=aug, eigen_smooth=eigen)
            torch.testing.assert_close(cam.outputs, outputs, atol=1e-5, rtol=1e-4)
        if not eigen:
            assert (got - torch.from_numpy(want)).abs().max() < 1e-4
        else:   # the sign of a component is anybody's guess: the same cells stand out in the one or in the other
            assert got.shape == want.shape and float(got.max()) <= 1.0001


def test_c15_first_component_is_grad_cams(small):
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection

    from cam_course.gradcam import _first_component
    a, w = torch.randn(3, 5, 7, 6), torch.randn(2, 3, 5)
    got = _first_component(a, w)
    assert got.shape == (3, 2, 7, 6)
    for k in range(2):
        want = get_2d_projection((w[k][..., None, None]*a).numpy())
        for i in range(3):
            np.testing.assert_allclose(np.abs(got[i, k].numpy()), np.abs(want[i]), atol=1e-4)


@pytest.mark.parametrize(("call", "says"), [
    (lambda m: GradCAM(m, "conv2", 5), "third argument as in grad-cam, must be a function, got 5.*min_size=5"),
    (lambda m: GradCAM(m, "conv2")(images(), 1, aug_smooth=True, normalize=False), "leave it out for raw maps"),
    (lambda m: GradCAM(m, "conv2")(images(), 1, aug_smooth="yes"), "aug_smooth must be True or False"),
    (lambda m: GradCAM(m, "conv2")(images(), 1, eigen_smooth=2), "eigen_smooth must be True or False"),
    (lambda m: GradCAM(m, "conv2")(images(), [lambda row: row[0]]), "1 targets for 4 images")])
def test_c15_what_differs_says_so(small, call, says):
    with pytest.raises(ValueError, match=says): call(small)
