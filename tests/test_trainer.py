"The loop: keyed batches, exact resume with everything switched on, wrong use."

import signal
import time
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau

from cam_course.app.trainer import Interrupted, TensorBoardLogger, Trainer, _scheduler_interval
from cam_course.base.geometric import RandomCrop, RandomHorizontalFlip
from cam_course.data import ImageData, shapes
from cam_course.resnet import ResNet18
from cam_course.training import LOG_HEADER, History, TrainingDiverged, epoch_batches, evaluate, log_line, predict
from cam_course.transforms import Compose, Cutout, Normalize

TRAIN, TEST = shapes(96, seed=1), shapes(40, seed=2)
AUGMENT = Compose([RandomCrop(32, padding=4), RandomHorizontalFlip(), Cutout(8)])


class Net(nn.Sequential):
    "Small, and with everything that can go wrong: batch norm, dropout, a convolution in channels_last."

    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 8, 3, stride=4),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(32, 10),
        )


def make(run_dir=None, *, optimizer="sgd", scheduler="onecycle", epochs=3, seed=0, **kwargs) -> Trainer:
    torch.manual_seed(seed)
    model = Net()
    p = model.parameters()
    opt = {
        "sgd": lambda: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
        "adam": lambda: torch.optim.AdamW(p, lr=0.01),
    }[optimizer]()
    sched = {
        "onecycle": lambda: OneCycleLR(opt, 0.05, total_steps=epochs * 6),
        "cosine": lambda: CosineAnnealingLR(opt, epochs),
        "plateau": lambda: ReduceLROnPlateau(opt, patience=0, factor=0.5),
        "none": lambda: None,
    }[scheduler]()
    train, held_out = (TRAIN, TEST if scheduler == "plateau" else None)
    return Trainer(
        model,
        train,
        TEST,
        opt,
        sched,
        epochs=epochs,
        batch_size=16,
        transform=AUGMENT,
        held_out=held_out,
        device="cpu",
        run_dir=run_dir,
        progress=False,
        **kwargs,
    )


def signal_after(trainer: Trainer, step: int, by: signal.Signals = signal.SIGTERM) -> None:
    calls = []

    def hook(*args):
        calls.append(1)
        if len(calls) == step:
            signal.raise_signal(by)

    trainer.optimizer.register_step_post_hook(hook)


def test_what_a_sample_looks_like_does_not_depend_on_batch_size_or_process():
    normalize = Normalize.of(TRAIN)

    def images(**kwargs) -> torch.Tensor:
        return torch.cat(
            [x for x, _ in epoch_batches(TRAIN, transform=AUGMENT, normalize=normalize, epoch=4, **kwargs)]
        )

    whole = images(batch_size=48)
    assert images(batch_size=16).equal(whole)
    shares = [
        torch.cat([x for x, _ in epoch_batches(TRAIN, 16, AUGMENT, normalize, 0, 4, share=(r, 2))]) for r in (0, 1)
    ]
    merged = torch.cat([torch.cat(pair) for pair in zip(shares[0].split(8), shares[1].split(8), strict=True)])
    assert merged.equal(whole)
    odd = [next(epoch_batches(TRAIN, 5, epoch=4, share=(r, 4))) for r in range(4)]  # as torch.tensor_split cuts: 2, 1, 1, 1
    assert [len(y) for _, y in odd] == [2, 1, 1, 1]
    alone = next(epoch_batches(TRAIN, 5, epoch=4))
    assert all(torch.cat(found).equal(wanted) for found, wanted in zip(zip(*odd, strict=True), alone, strict=True))
    assert images(batch_size=16, start=2).equal(whole[32:])
    assert not images(batch_size=16, seed=1).equal(whole)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer": "adam", "scheduler": "cosine"},
        {"scheduler": "plateau"},
        {"ema_decay": 0.9, "clip_norm": 0.5, "label_smoothing": 0.1},
        {"scheduler": "none", "precision": "bf16"},
    ],
)
@pytest.mark.parametrize("step", [1, 8, 12])
def test_resume_is_bit_identical(tmp_path, options, step):
    undisturbed = make(**options)
    undisturbed.fit()
    first = make(tmp_path, checkpoint_seconds=1e9, **options)
    signal_after(first, step)
    with pytest.raises(Interrupted, match=f"SIGTERM after step {step}; resume from") as stopped:
        first.fit()
    assert stopped.value.signal == signal.SIGTERM
    second = make(tmp_path, seed=99, **options)
    assert second.resume() and second.step == step
    torch.manual_seed(1234)
    second = make(tmp_path, seed=98, **options)
    second.resume()
    second.fit()
    for (name, a), b in zip(undisturbed.model.state_dict().items(), second.model.state_dict().values(), strict=True):
        assert a.equal(b), name
    timing = ("images_per_second", "seconds")
    for a, b in zip(undisturbed.history, second.history, strict=True):
        assert {k: v for k, v in a.items() if k not in timing} == {k: v for k, v in b.items() if k not in timing}
    assert History.from_csv(tmp_path / "history.csv") == second.history
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert len(lines) == 5 and lines[0] == str(second.precision)


def test_the_log_says_in_which_precision_and_that_it_changed(tmp_path, monkeypatch):
    from cam_course.base import core
    monkeypatch.setattr(core, "_bf16_unit", lambda: "in AMX tiles")
    first = make(tmp_path, epochs=1, scheduler="none", precision="auto")
    first.fit()
    assert (tmp_path / "log.txt").read_text().startswith("precision bf16: this processor")
    monkeypatch.setattr(core, "_bf16_unit", lambda: None)
    second = make(tmp_path, epochs=2, scheduler="none", precision="auto")
    second.resume()
    second.fit()
    line = (tmp_path / "log.txt").read_text().splitlines()[0]
    assert line.startswith("precision fp32: ") and line.endswith(f"; bf16 up to step {first.step}")


def test_a_loss_that_turns_nan_stops_with_step_rate_and_remedy(tmp_path):
    trainer = make(tmp_path, scheduler="none")
    trainer.optimizer.param_groups[0]["lr"] = 1e30
    with pytest.raises(
        TrainingDiverged, match=r"not finite at step \d+, where the learning rate was 1e\+30: use a smaller"
    ):
        trainer.fit()
    assert not list(tmp_path.glob("**/*.safetensors"))  # no poisoned weights are kept


def test_plateau_without_held_out_data_is_refused():
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(ValueError, match="held-out loss, never the test set.*split"):
        Trainer(model, TRAIN, TEST, optimizer, ReduceLROnPlateau(optimizer), batch_size=16, device="cpu")


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("batch_size", 0), ("label_smoothing", 2), ("clip_norm", 0), ("ema_decay", -1), ("ema_decay", 1),
     ("batch_size", 97)],
)
def test_wrong_arguments_are_named(name, value):
    model = Net()
    with pytest.raises(ValueError, match=f"{name}.*{value}"):
        Trainer(model, TRAIN, TEST, torch.optim.SGD(model.parameters(), 0.1), device="cpu", **{name: value})


def test_scheduler_intervals():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    assert _scheduler_interval(None) == "never"
    assert _scheduler_interval(OneCycleLR(optimizer, 0.1, total_steps=3)) == "batch"
    assert _scheduler_interval(CosineAnnealingLR(optimizer, 3)) == "epoch"
    assert _scheduler_interval(ReduceLROnPlateau(optimizer)) == "plateau"


def test_evaluate_is_plain_and_leaves_the_model():
    torch.manual_seed(0)
    model = Net().train()
    normalize = Normalize.of(TEST)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    loss, accuracy = evaluate(model, TEST, normalize, batch_size=7)
    assert model.training and all(v.equal(before[k]) for k, v in model.state_dict().items())
    model.eval()
    with torch.no_grad():
        logits = model(normalize(TEST.x))
        flipped = model(normalize(TEST.x).flip(-1))
    assert loss == pytest.approx(nn.functional.cross_entropy(logits, TEST.y).item(), abs=1e-6)
    assert accuracy == (logits.argmax(1) == TEST.y).double().mean().item()
    assert torch.allclose(predict(model, TEST, normalize, tta=True), (logits + flipped) / 2, atol=1e-6)


def test_fast_path_equals_the_plain_loop():
    "Same batches, written as everybody writes it, float64: the weights after 20 steps agree to 1e-9."

    def build():
        torch.manual_seed(0)
        return ResNet18(width=4).double()

    small = ImageData(TRAIN.x[..., ::2, ::2].contiguous(), TRAIN.y, TRAIN.class_names)
    augment = Compose([RandomCrop(16, padding=4), RandomHorizontalFlip(), Cutout(8)])
    normalize = lambda x: Normalize.of(small)(x).double()
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    trainer = Trainer(
        model,
        small,
        small.subset(slice(8)),
        optimizer,
        epochs=4,
        batch_size=16,
        transform=augment,
        normalize=normalize,
        device="cpu",
        progress=False,
    )
    trainer.fit()
    plain = build()
    opt = torch.optim.SGD(plain.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=5e-4, foreach=False)
    for epoch in range(4):
        for x, y in epoch_batches(small, 16, augment, normalize, epoch=epoch):
            opt.zero_grad()
            nn.functional.cross_entropy(plain(x.contiguous()), y).backward()
            opt.step()
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        assert (a - b).abs().max() < 1e-9


def test_log_line_is_aligned():
    row = {
        "epoch": 3,
        "train_loss": 1.5,
        "train_accuracy": 0.5,
        "test_loss": 2.25,
        "test_accuracy": 1.0,
        "lr": 0.1,
        "images_per_second": 812.0,
        "seconds": 61.0,
    }
    assert len(log_line(row, 20, 3723)) == len(LOG_HEADER) and log_line(row, 20, 3723).endswith("1:02:03")


def test_history_keeps_every_digit(tmp_path):
    history = History(
        [
            {"epoch": 1, "step": 2, "train_loss": np.pi, "lr": 1e-7},
            {"epoch": 2, "step": 4, "train_loss": 1 / 3, "lr": 0.1, "tta_accuracy": 0.5},
        ]
    )
    history.to_csv(tmp_path / "h.csv")
    assert History.from_csv(tmp_path / "h.csv") == history
    assert np.isnan(history.arrays()["tta_accuracy"][0])


def test_no_warning_and_no_leftover_hooks():
    trainer = make(epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer.fit()
    assert not any(m._forward_hooks for m in trainer.model.modules())


def test_compiled_training_is_the_same_training(monkeypatch):
    "`compile=True` compiles the step, and leaves the model as it was; by default a CPU compiles nothing."
    real, calls = torch.compile, []

    def compile_eagerly(net):
        calls.append(net)
        return real(net, backend="eager")

    monkeypatch.setattr(torch, "compile", compile_eagerly)
    plain, compiled = make(epochs=1), make(epochs=1, compile=True)
    torch.manual_seed(1)  # dropout
    plain.fit()
    assert not calls and not plain.compile
    torch.manual_seed(1)
    compiled.fit()
    assert len(calls) == 1 and type(compiled.model) is Net
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(compiled.model.state_dict()[name], value, rtol=1e-5, atol=1e-6)


def test_the_newest_event_file_is_read_last(tmp_path):
    "A run that goes on within the second in which it was stopped: its file, with all rows, must not come before the old one."
    old = tmp_path/f"events.out.tfevents.{int(time.time())}.zzz.9999999.9"
    old.touch()
    logger = TensorBoardLogger(tmp_path)
    logger.on_epoch_end(SimpleNamespace(history=[{"epoch": 1, "train_loss": 0.5}]))
    logger.on_fit_end(SimpleNamespace(history=[]))
    assert len(files := sorted(f.name for f in tmp_path.iterdir())) == 2 and files[0] == old.name
