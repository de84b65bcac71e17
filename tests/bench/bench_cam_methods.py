"""How long the eight kinds of maps take: ours beside grad-cam's best use, in turn on the same images, as ratios.

    python tests/bench/bench_cam_methods.py [--width 64] [--rounds 5] [--device cpu] [--threads 1] [--methods hirescam scorecam]

Gradient methods: 8 images, ten classes, four layers. grad-cam does all layers in one pass, a pass for each class. Ablation-CAM and
Score-CAM: the predicted class at layer3. grad-cam gets the batch of 32 that ours takes (its own is 16 for Score-CAM). Exits with 1 if
a ratio misses its mark.
"""
import argparse
import importlib
import sys
import time
from functools import partial

import pairs
import torch

from cam_course.cam_methods import AnyCAM
from cam_course.gradcam import normalize_maps
from cam_course.resnet import ResNet18

LAYERS = ["layer1", "layer2", "layer3", "layer4"]
CLASSES = 10
LIBRARY = {"gradcam": "GradCAM", "hirescam": "HiResCAM", "layercam": "LayerCAM", "gradcam++": "GradCAMPlusPlus", "xgradcam": "XGradCAM",
           "eigencam": "EigenCAM", "scorecam": "ScoreCAM", "ablationcam": "AblationCAM"}
MARKS = {"scorecam": 0.95, "eigencam": None}  # the others 2


def peer(method):
    import pytorch_grad_cam

    return getattr(pytorch_grad_cam, LIBRARY[method])


def ours(method, model, x):
    "(layers, N, K, H, W)"
    maps = AnyCAM(model, LAYERS, method=method, min_size=1).explain(x, "all")
    return torch.stack([normalize_maps([raw], x.shape[-2:]) for raw in maps.raw])


def library(method, model, x):
    from pytorch_grad_cam.utils.image import scale_cam_image
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    class PerLayer(peer(method)):
        def aggregate_multi_layers(self, cam_per_target_layer):
            return [scale_cam_image(maps[:, 0]) for maps in cam_per_target_layer]

    found = []
    with PerLayer(model=model, target_layers=[model.get_submodule(n) for n in LAYERS]) as cam:
        for c in range(1 if method == "eigencam" else CLASSES):  # Eigen-CAM's maps are the same for every class
            layers = cam(input_tensor=x, targets=[ClassifierOutputTarget(c)]*len(x))
            found.append(torch.stack([torch.from_numpy(m) for m in layers]))
    return torch.stack(found, 2)


def ours_of_one(method, model, x, layer):
    return AnyCAM(model, layer, method=method, min_size=1)(x)


def library_of_one(method, model, x, layer, batch_size):
    with peer(method)(model=model, target_layers=[model.get_submodule(layer)]) as cam:
        cam.batch_size = batch_size
        return torch.from_numpy(cam(input_tensor=x, targets=None))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"width": 64, "rounds": 5, "device": "cpu", "threads": 1, "images": 8, "few": 2, "layer": "layer3"}.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--methods", nargs="+", choices=list(LIBRARY), default=list(LIBRARY)[1:])
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    for name in ("score_cam", "ablation_cam"):  # no progress bars
        importlib.import_module(f"pytorch_grad_cam.{name}").tqdm.tqdm = lambda steps: steps
    clock = time.process_time if a.device == "cpu" and a.threads == 1 else time.perf_counter  # other programs don't count
    model, ratios = ResNet18(width=a.width).eval().to(a.device), []
    x = torch.randn(a.images, 3, 32, 32, device=a.device)
    for method in a.methods:
        if method in ("scorecam", "ablationcam"):
            some, batch = x[:a.few], 32
            ways = (partial(ours_of_one, method, model, some, a.layer), partial(library_of_one, method, model, some, a.layer, batch))
            what = f"{method}, {a.few} images, {a.layer}"
        else:
            ways = partial(ours, method, model, x), partial(library, method, model, x)
            what = f"{method}, {a.images} images, {CLASSES} classes, {len(LAYERS)} layers"
        both, mark = (("cam_course", ways[0]), ("grad-cam, its best use", ways[1])), MARKS.get(method, 2)
        ratios.append(pairs.compare(what, *both, a.rounds, goal=mark, clock=clock))
    pairs.write("cam_methods", ratios, width=a.width, threads=a.threads, device=a.device)
    sys.exit(any(r.goal and r.ratio < r.goal for r in ratios))


if __name__ == "__main__":
    main()
