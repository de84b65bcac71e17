"""How long Grad-CAM takes: ours beside grad-cam, torchcam and captum, in turn on the same images, as ratios.

    python tests/bench/bench_gradcam.py [--width 64] [--rounds 5] [--device cpu] [--threads 1] [--many 1000]

Peers that are not installed are left out. Exits with 1 if a ratio misses its mark (marks: see `MARKS`).
"""
import argparse
import importlib.util
import resource
import statistics
import subprocess
import sys
import time

import pairs
import torch

from cam_course.gradcam import GradCAM, normalize_maps
from cam_course.resnet import ResNet18

LAYERS = ["layer1", "layer2", "layer3", "layer4"]
CLASSES = 10
MARKS = {"grad-cam, an object per layer": 10, "grad-cam, its best use": 2, "torchcam": 1.2, "inference without layer4's maps": 0.9}
PLAIN = "inference without {}'s maps"


def ours(model, x):
    "(layers, N, K, H, W)"
    maps = GradCAM(model, LAYERS, min_size=1).explain(x, "all")
    return torch.stack([normalize_maps([raw], x.shape[-2:]) for raw in maps.raw])


def library_per_layer(model, x):
    from pytorch_grad_cam import GradCAM as Library
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    found = []
    for name in LAYERS:
        per_class = []
        for c in range(CLASSES):
            with Library(model=model, target_layers=[model.get_submodule(name)]) as cam:
                per_class.append(torch.from_numpy(cam(input_tensor=x, targets=[ClassifierOutputTarget(c)]*len(x))))
        found.append(torch.stack(per_class, 1))
    return torch.stack(found)


def library_best(model, x):
    from pytorch_grad_cam import GradCAM as Library
    from pytorch_grad_cam.utils.image import scale_cam_image
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    class PerLayer(Library):
        def aggregate_multi_layers(self, cam_per_target_layer):
            return [scale_cam_image(maps[:, 0]) for maps in cam_per_target_layer]

    found = []
    with PerLayer(model=model, target_layers=[model.get_submodule(n) for n in LAYERS]) as cam:
        for c in range(CLASSES):
            layers = cam(input_tensor=x, targets=[ClassifierOutputTarget(c)]*len(x))
            found.append(torch.stack([torch.from_numpy(m) for m in layers]))
    return torch.stack(found, 2)


def torchcam(model, x):
    from torchcam.methods import GradCAM as Torchcam

    found = []
    with Torchcam(model, LAYERS) as cam:
        scores = model(x)
        for c in range(CLASSES):
            maps = cam(c, scores, normalized=False, retain_graph=c + 1 < CLASSES)
            found.append(torch.stack([normalize_maps([m], x.shape[-2:]) for m in maps]))
    return torch.stack(found, 2)


def captum(model, x):
    from captum.attr import LayerGradCam

    per_layer = []
    for name in LAYERS:
        cam = LayerGradCam(model, model.get_submodule(name))
        raw = torch.stack([cam.attribute(x, c)[:, 0].detach() for c in range(CLASSES)], 1)
        per_layer.append(normalize_maps([raw], x.shape[-2:]))
    return torch.stack(per_layer)


PEERS = {"grad-cam, an object per layer": ("pytorch_grad_cam", library_per_layer),
         "grad-cam, its best use": ("pytorch_grad_cam", library_best),
         "torchcam": ("torchcam", torchcam), "captum": ("captum", captum)}


def seconds(call):
    "Seconds that `call()` takes and what it returned: of processor time, or on a GPU machine of the clock."
    gpu = torch.cuda.is_available()
    clock = time.perf_counter if gpu else time.process_time  # other programs on the machine don't count
    if gpu:
        torch.cuda.synchronize()
    start = clock()
    result = call()
    if gpu:
        torch.cuda.synchronize()
    return clock() - start, result


def compare_peers(model, x, rounds):
    "The ratio of each peer, printed."
    peers = {n: f for n, (module, f) in PEERS.items() if importlib.util.find_spec(module)}
    want = ours(model, x)
    for name, draw in peers.items():
        print(f"  {name}: largest difference of a map {float((draw(model, x).to(want.device) - want).abs().max()):.1e}")
    times = {name: [] for name in ["ours", *peers]}
    for _ in range(rounds):
        for name, draw in {"ours": ours, **peers}.items():
            times[name].append(seconds(lambda draw=draw: draw(model, x))[0])
    return [ratio(f"{len(x)} images, {CLASSES} classes, {len(LAYERS)} layers", name, times["ours"], times[name]) for name in peers]


def ratio(what, name, ours, theirs):
    "How many times as long as ours theirs took, printed."
    found = [b/a for a, b in zip(ours, theirs, strict=True)]
    result = pairs.Ratio(what, "cam_course", name, statistics.median(found), min(found), max(found), statistics.median(ours),
                         statistics.median(theirs), len(found), MARKS.get(name))
    print(f"  {name:28} {result}", flush=True)
    return result


def throughput(model, x, rounds):
    "Maps of the predicted class against plain inference, for the layers one looks at."
    def inference():
        with torch.inference_mode():
            return model(x)

    cams = {name: GradCAM(model, name, min_size=1, batch_size=len(x)) for name in ["layer4", "layer3"]}
    times = {"inference": [], "layer4": [], "layer3": []}
    for i in range(rounds + 1):
        for name, call in {"inference": inference, **{n: lambda c=c: c(x) for n, c in cams.items()}}.items():
            taken = seconds(call)[0]
            if i:  # the first round warms up
                times[name].append(taken)
    for name in cams:
        print(f"  {name}: {len(x)/statistics.median(times[name]):,.0f} maps/s")
    return [ratio(f"maps of {name}, batch of {len(x)}", PLAIN.format(name), times[name], times["inference"]) for name in cams]


def memory(model, x):
    "How much more memory 1,000 images take than 128, beside the maps that are returned."
    cam = GradCAM(model, LAYERS, min_size=1, batch_size=64)
    on_gpu = next(model.parameters()).is_cuda

    def peak():
        return torch.cuda.max_memory_allocated()/2**20 if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024

    first = cam(x[:128], "all").nbytes/2**20
    before = peak()
    taken, maps = seconds(lambda: cam(x, "all"))
    grown, result = peak() - before, maps.nbytes/2**20
    print(f"{len(x)} x {CLASSES} x {len(LAYERS)}: {taken:.1f} s; peak memory {before:.0f} MB with 128 images, {grown:.0f} MB more "
          f"with all; the result itself takes {result - first:.0f} MB more", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"width": 64, "rounds": 5, "device": "cpu", "threads": 1, "many": 1000, "images": 8}.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--alone", action="store_true", help="only the memory of many images")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    model = ResNet18(width=a.width).eval().to(a.device)
    if a.alone:
        return memory(model, torch.randn(a.many, 3, 32, 32))
    x = torch.randn(a.images, 3, 32, 32, device=a.device)
    print(f"{a.images} images x {CLASSES} classes x {len(LAYERS)} layers, ResNet18 width {a.width}, {a.device}, "
          f"{a.threads} thread(s), torch {torch.__version__}")
    ratios = compare_peers(model, x, a.rounds)
    many = torch.randn(a.many, 3, 32, 32, device=a.device)
    many = many if a.many else torch.randn(64, 3, 32, 32, device=a.device)
    print(f"predicted class, {len(many[:256])} images in a batch")
    ratios += throughput(model, many[:256], a.rounds)
    pairs.write("gradcam", ratios, width=a.width, threads=a.threads, device=a.device)
    if a.many:  # in a process of its own: the peers' memory must not hide ours
        options = ["--many", str(a.many), "--width", str(a.width), "--device", a.device, "--threads", str(a.threads)]
        subprocess.run([sys.executable, __file__, "--alone", *options], check=True)
    missed = [f"{r.theirs}: {r.ratio:.2f}, mark {r.goal}" for r in ratios if r.goal and r.ratio < r.goal]
    print("missed: " + "; ".join(missed) if missed else "all marks met")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
