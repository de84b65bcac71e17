"What the recipe `best20` adds: flips that alternate, a whitened first layer; both survive a stop and a second load."
import pytest
import torch

from cam_course.app.config import recipe
from cam_course.app.factory import build_model
from cam_course.app.main import run
from cam_course.base.geometric import AlternatingFlip, RandomCrop
from cam_course.base.shapes import draw_shapes  # noqa: F401  (the data set below is made by it)
from cam_course.base.whitened import WhitenedStem
from cam_course.resnet import ResNet18
from cam_course.training import epoch_batches
from cam_course.transforms import Compose

SMALL = {"dataset": "shapes", "n_train": 200, "n_test": 100, "width": 4, "epochs": 2, "batch_size": 40, "precision": "fp32"}


def both_epochs(seed, size):
    from cam_course.data import shapes

    data = shapes(60, seed=3)
    transform = Compose([AlternatingFlip()])
    found = []
    for epoch in (0, 1):
        order = torch.empty(60, dtype=torch.long)
        images = torch.cat([x for x, _ in epoch_batches(data, size, transform, None, seed, epoch)])
        from cam_course.base.core import keyed_generator

        order = torch.randperm(60, generator=keyed_generator(seed, "order", epoch))
        back = torch.empty_like(images)
        back[order] = images
        found.append((back != data.x.float()).flatten(1).any(1))
    return found


@pytest.mark.parametrize("seed", [0, 1])
def test_each_image_is_seen_from_both_sides_whatever_the_batch_size(seed):
    first, second = both_epochs(seed, 20)
    assert torch.equal(first, ~second) and 10 < first.sum() < 50
    again, _ = both_epochs(seed, 12)
    assert torch.equal(first, again)


def test_seeds_differ():
    assert not torch.equal(both_epochs(0, 20)[0], both_epochs(1, 20)[0])


def test_members_that_know_no_epochs_stay_as_they_are():
    crop = RandomCrop(32, padding=4)
    class Other:
        def draw(self, n, image_size, generator=None, device="cpu"): return {}
        def apply(self, x): return x
    made = Compose([crop, Other()]).in_epoch(0, 3)
    assert made.transforms[0] is crop and isinstance(made.transforms[1], Other)


def test_the_stem_is_one_convolution_and_its_kernels_stay():
    torch.manual_seed(0)
    config = recipe("best20", **SMALL)
    model = build_model(config, 10, 3)
    assert isinstance(model.conv1, WhitenedStem) and not model.conv1[0].weight.requires_grad
    plain = sum(p.numel() for p in ResNet18(width=4).parameters())
    assert sum(p.numel() for p in model.parameters()) == plain + 27*27     # the kernels; 27 -> width is as many as 3x3x3


def test_a_run_can_be_loaded_and_is_the_same(tmp_path):
    config = recipe("best20", runs=str(tmp_path), name="a", **SMALL)
    first = run(config)
    again = run(config, resume=True)
    for (name, a), b in zip(first.model.state_dict().items(), again.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert first.history[-1] == again.history[-1] and 0 <= first.history[-1]["tta_accuracy"] <= 1
    kernels = first.model.conv1[0].weight
    assert kernels.abs().sum() > 0 and float(kernels.flatten(1).norm(dim=1).max()) > 1
