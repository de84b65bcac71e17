"What the tests of the maps share: a net with in-place operations, images, and the formula with none of our code."
import torch
from torch import nn


class Small(nn.Module):
    "Two convolutions, each followed by an in-place ReLU, pooling and a linear layer."

    def __init__(self, classes: int = 4):
        super().__init__()
        self.conv1, self.act1 = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True)
        self.conv2, self.act2 = nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU(inplace=True)
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, classes)

    def forward(self, x):
        return self.fc(self.pool(self.act2(self.conv2(self.act1(self.conv1(x))))).flatten(1))


class Frozen(Small):
    "Runs its backbone under torch.no_grad(), and may cut the graph after it."

    cut = False

    def forward(self, x):
        with torch.no_grad():
            x = self.act1(self.conv1(x))
        x = self.conv2(x.detach() if self.cut else x)
        return self.fc(self.pool(self.act2(x)).flatten(1))


def images(n=4, size=16, seed=0):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def formula(model, name, x, classes):
    "Raw maps with none of our code: zeros that need a gradient are added to the layer's output."
    seen = {}

    def add_zero(module, args, output):
        seen["a"] = output.detach().clone()
        seen["zero"] = torch.zeros_like(output, requires_grad=True)
        return output + seen["zero"]

    model.eval()
    handle = model.get_submodule(name).register_forward_hook(add_zero)
    with torch.enable_grad():
        scores = model(x)
    handle.remove()
    (g,) = torch.autograd.grad(scores[torch.arange(len(x)), classes].sum(), seen["zero"])
    return torch.einsum("nc,nchw->nhw", g.mean((2, 3)), seen["a"])
