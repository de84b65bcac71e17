"""The same question elsewhere: what the chapter and its pages define, held to the formula, to grad-cam and to captum.

The pages export nothing. `defined` takes functions out of their cells, so that what is tested is what the reader sees.
"""
import ast
import copy
import warnings
from functools import cache
from types import SimpleNamespace

import chapters
import pytest
import stamps
import torch
import torch.nn.functional as F
import torchvision
from cams import Small, formula, images
from torch import nn

from cam_course.cam_methods import AnyCAM
from cam_course.gradcam import GradCAM
from cam_course.resnet import ResNet18

CHAPTER, VIT, SWIN, PIXEL, ALIKE = PAGES = (
    "The same question elsewhere", "A vision transformer", "Channels last", "Why this pixel", "Alike where")


@cache
def defined(page: str) -> SimpleNamespace:
    "The functions, classes, imports and constants that a page's cells define at top level; nothing is drawn or trained."
    nodes = [n for n in stamps.parse_cells(stamps.code_cells(stamps.load(chapters.chapter(page)))).body if _is_definition(n)]
    names = {"draws": 4, "epochs": 1}
    exec(compile(ast.Module(nodes, []), page, "exec"), names)
    return SimpleNamespace(**names)


def _is_definition(node: ast.stmt) -> bool:
    constant = isinstance(node, ast.Assign) and all(isinstance(t, ast.Name) and t.id in ("NAMES", "LAST") for t in node.targets)
    return constant or isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)


def from_grad_cam(net, layer, x, targets, reshape=None):
    from pytorch_grad_cam import GradCAM as Library
    with Library(net, [net.get_submodule(layer)], reshape_transform=reshape) as cam:
        return torch.from_numpy(cam(x, targets))


def classes(*wanted):
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    return [ClassifierOutputTarget(k) for k in wanted]


# ---- a vision transformer

@pytest.fixture
def vit():
    torch.manual_seed(0)
    page = defined(VIT)
    net = page.small_vit().eval()
    nn.init.normal_(net.heads.head.weight)   # torchvision's is 0
    return page, net, torch.randn(3, 3, 32, 32)


def test_tokens_become_the_map_that_grad_cam_draws(vit):
    page, net, x = vit
    got = GradCAM(net, page.LAST, page.as_map)(x, [0, 2, 3])
    assert (got - from_grad_cam(net, page.LAST, x, classes(0, 2, 3), page.as_map)).abs().max() < 1e-5 and got.max() > .9
    tokens = torch.arange(2*65*3).view(2, 65, 3)
    assert page.as_map(tokens).shape == (2, 3, 8, 8) and page.as_map(tokens)[1, 2, 7, 6] == tokens[1, 63, 2]


def test_behind_the_last_attention_there_is_no_map(vit):
    page, net, x = vit
    output = page.LAST.rpartition(".")[0]
    looks = GradCAM(net, [output, page.LAST], page.as_map).explain(x, "all")
    assert not looks.raw[0].any() and not looks.evidence[0].any() and looks.evidence[1].any()


def test_rollout_is_the_product_of_the_attentions(vit):
    "By hand from the weights of the blocks: softmax of queries and keys, a mean over heads, half past it."
    page, net, x = vit
    seen = page.attention(net, x)
    tokens = torch.cat([net.class_token.expand(3, -1, -1), net._process_input(x)], 1) + net.encoder.pos_embedding
    want = torch.eye(65).double()
    for block, a in zip(net.encoder.layers, seen, strict=True):
        h, layer = block.ln_1(tokens), block.self_attention
        q, k, _ = (h @ layer.in_proj_weight.T + layer.in_proj_bias).chunk(3, -1)
        q, k = (t.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2) for t in (q, k))
        by_hand = (q @ k.mT/q.shape[-1]**.5).softmax(-1).mean(1)
        torch.testing.assert_close(a, by_hand.detach(), atol=1e-5, rtol=1e-4)
        want = (by_hand.double() + torch.eye(65))/2 @ want
        tokens = block(tokens)
    got = page.rollout(net, x)
    torch.testing.assert_close(got.double(), want[:, 0, 1:].unflatten(1, (8, 8)), atol=1e-5, rtol=1e-4)
    assert got.min() >= 0 and got.sum((1, 2)).max() <= 1 + 1e-5    # a share of what is read; the rest is the class token's own
    assert not net._forward_hooks and all(not m._forward_hooks and not m._forward_pre_hooks for m in net.modules())


# ---- Swin

def test_swin_is_known_without_being_told_and_grad_cam_is_not():
    torch.manual_seed(0)
    page = defined(SWIN)
    net, x, k = page.small_swin().eval(), torch.randn(3, 3, 32, 32), torch.tensor([0, 2, 3])
    told, untold = page.from_grad_cam(net, x, k, lambda t: t.permute(0, 3, 1, 2)), page.from_grad_cam(net, x, k)
    alone = GradCAM(net, "norm")(x, k)
    assert (alone - told).abs().max() < 1e-5 and (alone - untold).abs().amax((1, 2)).min() > .3


def test_swins_last_map_adds_up_to_the_score():
    torch.manual_seed(0)
    net = defined(SWIN).small_swin().eval()
    look = GradCAM(net, "norm").explain(torch.randn(2, 3, 32, 32), "all")
    torch.testing.assert_close(look.raw[0].sum((2, 3)) + net.head.bias.detach(), look.logits, atol=1e-4, rtol=1e-4)


# ---- segmentation

@pytest.fixture
def pixels():
    torch.manual_seed(0)
    page = defined(PIXEL)
    net = page.small_net().eval()
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d): nn.init.uniform_(m.running_var, .02, .05)   # as after a training: maps of some size
    return page, net, torch.randn(3, 32, 64)


def test_a_region_is_grad_cams_target(pixels):
    from pytorch_grad_cam.utils.model_targets import SemanticSegmentationTarget

    _, net, x = pixels
    mask = torch.zeros(32, 64)
    mask[5:12, 8:20] = 1
    for layer in ("edges", "parts", "whole"):
        want = from_grad_cam(net, layer, x[None], [SemanticSegmentationTarget(2, mask.numpy())])
        assert (GradCAM(net, layer, scores=lambda s: (s*mask).sum((2, 3)))(x[None], 2) - want).abs().max() < 1e-5


def test_what_a_pixel_can_see_is_what_can_change_it(pixels):
    "Noise outside of the frame changes nothing; inside of it, at each side, something. HiResCAM stays in; Grad-CAM doesn't."
    page, net, x = pixels
    row, column = 15, 12
    cells, frame = page.reach((32, 64), row, column)
    (top, *_, low), (left, *_, right) = (frame.any(d).nonzero()[:, 0].tolist() for d in (1, 0))
    assert frame.sum() == (low - top + 1)*(right - left + 1) and left < column < right < 40   # a box, and not all of the image

    def scores(image):
        with torch.no_grad(): return net(image[None])[0, :, row, column]
    outside = torch.where(frame, x, torch.randn_like(x))
    assert torch.equal(scores(outside), scores(x))
    for edge in ((slice(None), right), (top, slice(None)), (low, slice(None)), (slice(None), left)):
        changed = x.clone()
        changed[(slice(None), *edge)] += 5*frame[edge]
        assert not torch.equal(scores(changed), scores(x)), edge
    maps = {m: page.ask(net, x, row, column, 1, method=m) for m in ("gradcam", "hirescam")}
    assert not (maps["hirescam"]*~cells).any() and maps["hirescam"].any() and (maps["gradcam"]*~cells).any()


def test_scores_per_pixel_are_refused_until_a_question_is_given(pixels):
    _, net, x = pixels
    with pytest.raises(ValueError, match="for a class per pixel take the mean"): GradCAM(net, "parts")(x[None])


# ---- embeddings

def test_a_likeness_sums_to_zero_and_a_product_to_itself():
    torch.manual_seed(0)
    body, x = Small().eval(), images(3)
    body.fc = nn.Identity()
    with torch.no_grad(): embedding, r = body(x), body(images(1, seed=5))[0]
    like = lambda e: F.cosine_similarity(e, r, dim=0)
    maps = {name: GradCAM(body, "act2", min_size=1).explain(x, target).raw[0] for name, target in {
        "like": like, "unlike": lambda e: -like(e), "product": lambda e: e @ r}.items()}
    assert maps["like"].sum((1, 2)).abs().max() < 1e-5*maps["like"].abs().sum((1, 2)).min() + 1e-7 and maps["like"].abs().max() > 1e-4
    torch.testing.assert_close(maps["unlike"], -maps["like"])
    torch.testing.assert_close(maps["product"].sum((1, 2)), embedding @ r)
    known = F.normalize(torch.stack([r, -r]))
    many = GradCAM(body, "act2", min_size=1, scores=lambda e: F.normalize(e) @ known.T).explain(x, "all").raw[0]
    torch.testing.assert_close(many[:, 0], maps["like"], atol=1e-6, rtol=1e-4)


def test_a_likeness_is_grad_cams_target_too():
    torch.manual_seed(0)
    body, x = Small().eval(), images(2)
    body.fc, body.act2 = nn.Identity(), nn.ReLU()    # grad-cam keeps no copy of what is overwritten
    with torch.no_grad(): r = body(images(1, seed=5))[0]
    like = lambda e: F.cosine_similarity(e, r, dim=0)
    assert (GradCAM(body, "act2", min_size=1)(x, [like]*2) - from_grad_cam(body, "act2", x, [like]*2)).abs().max() < 1e-5


# ---- one logit, and any number

class YesNo(Small):
    def __init__(self):
        super().__init__(2)
        self.act2 = nn.ReLU()

    def forward(self, x):
        z = super().forward(x)
        return z[:, [0]] - z[:, [1]]


@pytest.mark.parametrize(("category", "target"), [(1, None), (0, lambda z: -z[0])])
def test_one_logit_is_grad_cams_binary_target(category, target):
    from pytorch_grad_cam.utils.model_targets import BinaryClassifierOutputTarget

    torch.manual_seed(0)
    net, x = YesNo().eval(), images(4)
    got = GradCAM(net, "act2")(x, target)
    assert (got - from_grad_cam(net, "act2", x, [BinaryClassifierOutputTarget(category)]*4)).abs().max() < 1e-5
    two = GradCAM(net, "act2", scores=lambda z: torch.cat([-z/2, z/2], 1))(x, category)
    assert (got - two).abs().max() < 1e-5 and got.max() > .9


def test_a_sure_sigmoid_has_no_map():
    torch.manual_seed(0)
    net, x = YesNo().eval(), images(1)
    z = net(x).item()
    sign, times, cam = 1 if z > 0 else -1, 200/abs(z), GradCAM(net, "act2")
    raw = {s: cam.explain(x, lambda z, s=s: torch.sigmoid(s*sign*z[0])).raw[0] for s in (1, times)}
    logit = cam.explain(x, lambda z: sign*z[0]).raw[0]
    p = torch.sigmoid(torch.tensor(abs(z))).item()
    torch.testing.assert_close(raw[1], p*(1 - p)*logit, atol=1e-7, rtol=1e-3)
    assert not raw[times].any()


def test_a_difference_has_the_difference_of_the_maps():
    torch.manual_seed(0)
    net, x = Small().eval(), images(2)
    both = GradCAM(net, "conv2").explain(x, "all").raw[0]
    got = GradCAM(net, "conv2").explain(x, lambda z: z[0] - z[3]).raw[0]
    torch.testing.assert_close(got, both[:, 0] - both[:, 3], atol=1e-6, rtol=1e-4)


# ---- other ways to ask

@pytest.fixture
def resnet():
    torch.manual_seed(0)
    net = ResNet18(width=4).eval()
    plain = copy.deepcopy(net)       # captum's hooks can't stand an operation in place
    for m in plain.modules():
        if isinstance(m, nn.ReLU): m.inplace = False
    return net, plain, torch.randn(2, 3, 32, 32), torch.tensor([1, 5])


def same(a, b):
    assert (a - b).abs().max() <= 1e-5*b.abs().max() and b.abs().max() > 0


def test_they_are_captums(resnet):
    captum = pytest.importorskip("captum.attr")
    page, (net, plain, x, k) = defined(CHAPTER), resnet
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")   # it announces its hooks
        same(page.gradient(net, x, k), captum.Saliency(plain).attribute(x, k, abs=False))
        theirs = captum.IntegratedGradients(plain).attribute(x, target=k, n_steps=6, method="riemann_middle")
        same(page.integrated(net, x, k, 6), theirs.float())
        same(page.guided(net, x, k), captum.GuidedBackprop(plain).attribute(x, k))
        for side, stride in ((8, 4), (8, 8)):
            want = captum.Occlusion(plain).attribute(x, (3, side, side), (3, stride, stride), target=k)
            same(page.occlusion(net, x, k, side, stride)[:, None].expand_as(want), want)


def test_smoothgrad_is_captums_with_the_same_noise(resnet, monkeypatch):
    captum = pytest.importorskip("captum.attr")
    page, (net, plain, x, k) = defined(CHAPTER), resnet
    noise = torch.randn(2, 3, 3, 32, 32)           # image, draw, ...
    monkeypatch.setattr(torch, "normal", lambda mean, std: mean + std*noise.flatten(0, 1))
    want = captum.NoiseTunnel(captum.Saliency(plain)).attribute(x, nt_type="smoothgrad", nt_samples=3, stdevs=.3, target=k, abs=False)
    draws = iter(noise.transpose(0, 1))
    monkeypatch.setattr(torch, "randn", lambda *a, **kw: next(draws))
    same(page.smoothgrad(net, x, k, 3, .3), want)


def test_integrated_gradients_add_up_to_the_score(resnet):
    page, (net, _, x, k) = defined(CHAPTER), resnet
    with torch.no_grad(): rise = (net(x) - net(0*x)).gather(1, k[:, None])[:, 0]
    torch.testing.assert_close(page.integrated(net, x, k, 300).sum((1, 2, 3)), rise, atol=.02*float(rise.abs().max()), rtol=0)


def test_guided_drops_what_is_negative_and_leaves_the_net_alone(resnet):
    page = defined(CHAPTER)
    x = torch.tensor([-1., 2., 3.], requires_grad=True)
    page.Guided.apply(x).backward(torch.tensor([1., -1., 5.]))
    assert x.grad.tolist() == [0., 0., 5.]
    net, _, x, k = resnet
    before = page.gradient(net, x, k)
    assert not torch.equal(page.guided(net, x, k), before) and torch.equal(page.gradient(net, x, k), before)


def test_occlusion_is_the_mean_fall_over_the_squares_that_cover_a_pixel():
    "A net whose score is the sum of red: each square of 4 costs its own sum."
    class Red(nn.Module):
        def forward(self, x): return torch.stack([x[:, 0].sum((1, 2)), x[:, 1].sum((1, 2))], 1)
    x = torch.rand(1, 3, 8, 8)
    got = defined(CHAPTER).occlusion(Red(), x, torch.tensor([0]), 4, 4)
    want = F.avg_pool2d(x[:, :1], 4).repeat_interleave(4, 2).repeat_interleave(4, 3)[:, 0]*16
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


# ---- the pages

def test_each_page_is_reached_from_the_chapter_and_leads_back():
    cells = {page: stamps.load(chapters.chapter(page))["cells"] for page in PAGES}
    text = {page: "\n".join(c["source"] for c in own if c["cell_type"] == "markdown") for page, own in cells.items()}
    for page in PAGES[1:]:
        assert f"app/{chapters.chapter(page).name}" in text[CHAPTER], page
        assert f"../{chapters.chapter(CHAPTER).name}" in text[page], page


@pytest.mark.parametrize("method", ["gradcam", "hirescam"])
def test_any_method_takes_a_question_about_pixels(pixels, method):
    "By the bare formula at `parts`, for one pixel."
    page, net, x = pixels

    class Asked(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x): return self.net(x)[:, :, 10, 20]
    got = page.ask(net, x, 10, 20, 3, method=method)
    assert torch.equal(got, AnyCAM(Asked().eval(), "net.parts", method=method)(x[None], 3, normalize=False)[0])
    if method == "gradcam":
        torch.testing.assert_close(got, formula(Asked(), "net.parts", x[None], torch.tensor([3]))[0], atol=1e-6, rtol=1e-4)


def test_a_full_size_swin_is_known():
    "torchvision's, with random weights, at a size at which it is quick."
    torch.manual_seed(0)
    net, x = torchvision.models.swin_t().eval(), torch.randn(1, 3, 160, 160)
    want = from_grad_cam(net, "norm", x, classes(7), lambda t: t.permute(0, 3, 1, 2))
    assert (GradCAM(net, "norm")(x, 7) - want).abs().max() < 1e-4
