"""The whole training loop against the usual one: same net, same augmentation, same batches, in turn.

    python tests/bench/bench_loop.py [--width 16] [--pairs 5] [--steps 40] [--bf16]

The usual way, written anew after the manner of pytorch-cifar: torchvision transforms on PIL images, a DataLoader with
two workers, float32 NCHW, `.item()` in every step. Starting the workers is not counted, nor the four batches that they
read ahead while they rest: so a turn must be many steps long.
"""

import argparse
import itertools

import numpy as np
import pairs
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T

from cam_course.app.trainer import _accelerator
from cam_course.base.core import get_device, resolve_precision
from cam_course.base.geometric import RandomCrop, RandomHorizontalFlip
from cam_course.data import shapes
from cam_course.resnet import ResNet18
from cam_course.training import Meter, epoch_batches, train_step
from cam_course.transforms import Compose, Cutout, Normalize, RandomRotation

BATCH = 128


class PilCutout:
    "A square of zeros at a random place, as the Cutout paper's code does it on a tensor."

    def __init__(self, size: int):
        self.size = size

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        h, w = x.shape[-2:]
        y, z = np.random.randint(h), np.random.randint(w)
        half = self.size // 2
        x[:, max(y - half, 0) : y + half, max(z - half, 0) : z + half] = 0
        return x


class Images(Dataset):
    "What torchvision's CIFAR10 is inside: an array of images and a transform for each."

    def __init__(self, data, transform):
        self.pixels, self.labels = data.x.permute(0, 2, 3, 1).contiguous().numpy(), data.y.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int):
        return self.transform(Image.fromarray(self.pixels[i])), self.labels[i]


def optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)


def usual(data, width: int, steps: int, device: torch.device):
    "A call that does `steps` steps in the usual way."
    flow = T.Compose(
        [
            T.RandomCrop(32, padding=4),
            T.RandomHorizontalFlip(),
            T.RandomRotation(5),
            T.ToTensor(),
            T.Normalize(data.mean, data.std),
            PilCutout(16),
        ]
    )
    loader = DataLoader(
        Images(data, flow), batch_size=BATCH, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True
    )
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    model = ResNet18(width=width).to(device).train()
    opt = optimizer(model)

    def work() -> None:
        total = correct = 0.0
        for x, y in itertools.islice(batches, steps):
            x, y = x.to(device), y.to(device)
            opt.zero_grad()
            out = model(x)
            loss = F.cross_entropy(out, y)
            loss.backward()
            opt.step()
            total += loss.item()
            correct += out.argmax(1).eq(y).sum().item()

    return work


def ours(data, width: int, steps: int, device: torch.device, precision: str = "fp32"):
    "A call that does `steps` steps with this library's loop."
    data = data.to(device)
    augment = Compose([RandomCrop(32, padding=4), RandomHorizontalFlip(), RandomRotation(5), Cutout(16)])
    accelerator = _accelerator(device, resolve_precision(precision, device))
    model = ResNet18(width=width).to(device, memory_format=torch.channels_last).train()
    opt, meter, model = optimizer(model), Meter(device), accelerator.prepare_model(model)
    epochs = (epoch_batches(data, BATCH, augment, Normalize.of(data), epoch=e) for e in itertools.count())
    batches = itertools.chain.from_iterable(epochs)

    def work() -> None:
        for x, y in itertools.islice(batches, steps):
            loss, hits = train_step(model, x, y, F.cross_entropy, opt, accelerator)
            meter.add(loss, hits, len(y), 0)
        meter.means()

    return work


GROUPS = {"convolution": "convolution", "batch_norm": "batch norm", "threshold": "relu", "clamp_min": "relu", "relu": "relu",
          "Optimizer": "optimizer", "index": "augmentation and batches", "gather": "augmentation and batches",
          "where": "augmentation and batches", "copy_": "augmentation and batches"}


def profile(data, width: int, device: torch.device) -> dict[str, float]:
    "Where the time of our loop goes, in percent of the time of all operations."
    work = ours(data, width, 8, device)
    work()
    with torch.profiler.profile() as seen:
        work()
    found: dict[str, float] = {}
    for row in seen.key_averages():
        group = next((g for key, g in GROUPS.items() if key in row.key), "the rest")
        found[group] = found.get(group, 0) + row.self_cpu_time_total
    return {g: round(100 * t / sum(found.values()), 1) for g, t in sorted(found.items(), key=lambda item: -item[1])}


def main(argv: list[str] | None = None) -> list[pairs.Ratio]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--bf16", action="store_true", help="measure ours with precision=bf16 as well")
    args = parser.parse_args(argv)
    device, data = get_device(), shapes(20_000, seed=0)
    found = []
    for width in args.width:
        steps = max(4, args.steps * 16 // width)
        a, b = ours(data, width, steps, device), usual(data, width, steps, device)
        goal = {16: 1.5, 64: 1.2}.get(width)
        name = f"training loop, ResNet18 width {width}"
        found.append(pairs.compare(name, ("cam_course", a), ("PIL, DataLoader, .item()", b), args.pairs,
                                   goal=goal, settle=3))
        if args.bf16:
            a = ours(data, width, steps, device, "bf16")
            name += ", ours with precision=bf16"
            found.append(pairs.compare(name, ("cam_course", a), ("PIL, DataLoader, .item()", b), args.pairs, settle=3))
    shares = {str(width): profile(data, width, device) for width in args.width}
    pairs.write("loop", found, profile=shares)
    return found


if __name__ == "__main__":
    main()
