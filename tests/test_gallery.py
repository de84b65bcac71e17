"Errors found, ordered and drawn; nothing disturbed; what is written can be read back."
import base64
import io
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from cam_course.app.trainer import Trainer
from cam_course.base.confusion import confusion_matrix, plot_confusion
from cam_course.data import ImageData, shapes
from cam_course.gallery import (
    _ORDERS,
    VERDICTS,
    Misclassified,
    TensorBoardGallery,
    WouldYouKnow,
    _browse,
    _known,
    _original_numbers,
    _pair_maps,
    _pair_pictures,
    _save_html,
    practice_images,
    verdict_of,
)
from cam_course.resnet import ResNet18
from cam_course.transforms import Normalize


@pytest.fixture(scope="module")
def found():
    "An untrained net (nearly all wrong), its data and errors."
    torch.manual_seed(0)
    model, data = ResNet18(width=4).train(), shapes(60, seed=3)
    return model, data, Misclassified.find(model, data, Normalize.of(data), batch_size=16)


def pixels(fig):
    fig.savefig(buffer := io.BytesIO(), format="png", dpi=60)
    from PIL import Image
    return np.asarray(Image.open(buffer).convert("RGB"))


def test_errors_are_those_of_a_plain_loop(found):
    model, data, errors = found
    normalize = Normalize.of(data)
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(normalize(data.x[i:i + 1])) for i in range(len(data))])
    model.train()
    wrong = [i for i in range(len(data)) if int(logits[i].argmax()) != int(data.y[i])]
    assert errors.index.tolist() == wrong and len(errors) == len(wrong)
    assert torch.equal(errors.true, data.y[wrong]) and torch.equal(errors.x, data.x[wrong])
    assert torch.allclose(errors.confidence, logits[wrong].softmax(1).amax(1), atol=1e-5)
    assert errors.accuracy == 1 - len(wrong)/60
    assert int(errors.confusion().sum()) == 60 and int(errors.confusion().trace()) == 60 - len(wrong)


def test_finding_and_drawing_leave_the_model_alone(found):
    model, data, errors = found
    model(Normalize.of(data)(data.x[:4])).sum().backward()
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    grads = [p.grad.clone() for p in model.parameters()]
    torch.manual_seed(5)
    rng = torch.get_rng_state()
    Misclassified.find(model, data)
    errors.plot(3), errors.plot_cams(model, 3), errors.compare(model, 3)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in weights.items())
    assert all(torch.equal(a, p.grad) for a, p in zip(grads, model.parameters(), strict=True))
    assert torch.equal(rng, torch.get_rng_state())
    model.zero_grad()


def test_orders(found):
    _, _, errors = found
    m = len(errors)
    assert all(sorted(errors.order(by).tolist()) == list(range(m)) for by in _ORDERS)
    sure = errors.confidence[errors.order("confidence")]
    assert (sure.diff() <= 0).all() and torch.equal(sure.flip(0), errors.confidence[errors.order("doubt")])
    assert torch.equal(errors.order("random", 1), errors.order("random", 1))
    assert not torch.equal(errors.order("random", 1), errors.order("random", 2))
    pairs = [(int(errors.true[i]), int(errors.predicted[i])) for i in errors.order("pair")]
    counts = [pairs.count(p) for p in pairs]
    assert counts == sorted(counts, reverse=True)
    assert all(pairs.index(p) + counts[k] > k for k, p in enumerate(pairs))  # each pair in one run
    true, predicted = pairs[0]
    by_number, by_name = (errors.order("confidence", pair=p) for p in
                          [(true, predicted), (errors.class_names[true], errors.class_names[predicted])])
    assert torch.equal(by_number, by_name) and len(by_number) == counts[0]


@pytest.mark.parametrize(("call", "words"), [
    (lambda m, d, e: e.order("worst"), "unknown order 'worst': choose one of 'random'"),
    (lambda m, d, e: e.order(pair=("cat", 1)), "unknown class 'cat'"),
    (lambda m, d, e: e.order(pair=(0, 10)), "class must be"),
    (lambda m, d, e: e.plot(0), "n must be"), (lambda m, d, e: e.plot(3, columns=0), "columns must be"),
    (lambda m, d, e: e.plot(3, pair=(0, 0)), r"no error to show of the pair \(0, 0\)"),
    (lambda m, d, e: e.plot_cams(m, 3, "layer4"), r"layer4 gives 4x4 maps.*use 'layer3' \(8x8\)"),
    (lambda m, d, e: e.compare(m, 3, "layer4"), r"layer4 gives 4x4 maps.*use 'layer3' \(8x8\)"),
    (lambda m, d, e: Misclassified.find(m, d, Normalize.of(d), batch_size=0), "batch_size must be"),
    (lambda m, d, e: Misclassified.find(m, SimpleNamespace(x=d.x[:0], y=d.y[:0], class_names=d.class_names), None), "empty"),
    (lambda m, d, e: TensorBoardGallery("x", every=0), "every must be"),
])
def test_wrong_use(found, call, words):
    with pytest.raises(ValueError, match=words):
        call(*found)


def test_a_perfect_model_has_no_gallery():
    data = shapes(20, seed=0)
    oracle = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    labelled = ImageData(data.x, torch.zeros(20, dtype=torch.int64), ("a", "b"), mean=data.mean, std=data.std)
    errors = Misclassified.find(oracle, labelled, lambda x: torch.tensor([1., 0.]).view(1, 2, 1, 1).expand(len(x), 2, 1, 1))
    assert len(errors) == 0 and errors.accuracy == 1 and "100.00 %" in repr(errors)
    with pytest.raises(ValueError, match="no error to show"):
        errors.plot()
    with pytest.raises(ValueError, match="no error to browse"):
        _browse(errors, oracle)
    assert "All 20 right" in plot_confusion(errors.confusion(), errors.class_names).alt_text


@pytest.mark.parametrize("n", [1, 10, 20])
def test_galleries_show_each_image_pixel_by_pixel(found, n):
    model, _, errors = found
    chosen = errors.order("confidence")[:n]
    fig = errors.plot(n, by="confidence")
    assert len(fig.axes) == n == len(chosen)
    for ax, i in zip(fig.axes, chosen.tolist(), strict=True):
        shown = ax.images[0].get_array()
        assert shown.shape == (224, 224, 3)  # 32 px, each 7 x 7
        assert np.array_equal(shown[3::7, 3::7], errors.x[i].permute(1, 2, 0).numpy())
        texts = " ".join(t.get_text() for t in ax.texts)
        assert errors.class_names[errors.predicted[i]] in texts and f"true: {errors.class_names[errors.true[i]]}" in texts
        assert f"{100*float(errors.confidence[i]):.0f} %" in texts
    cams = errors.plot_cams(model, n, by="confidence")
    assert len(cams.axes) == 2*n and pixels(cams).std() > 10
    assert cams.alt_text.count(" taken for ") == n


def test_pair_maps_share_a_scale(found):
    model, data, errors = found
    positions = torch.arange(4)
    maps = _pair_maps(errors, model, positions)
    assert maps.layers == ("layer3",) and maps.raw[0].shape == (4, 2, 8, 8)
    assert torch.equal(maps.targets, torch.stack([errors.predicted[:4], errors.true[:4]], 1))
    raw = torch.tensor([[[4., -1.], [0., 0.]], [[1., 0.], [0., -9.]]])
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    _, answer, truth, difference = _pair_pictures(image, raw, opacity=1, size=32)
    from cam_course.base.rendering import heat_map, signed_map
    assert np.array_equal(answer[0, 0], heat_map(np.ones((1, 1)), "viridis")[0, 0])
    assert np.array_equal(truth[0, 0], heat_map(np.full((1, 1), .25), "viridis")[0, 0])  # a quarter of the answer's peak
    assert np.array_equal(difference[-1, -1], signed_map(np.array([[9., -9.]]))[0, 0])
    silent = _pair_pictures(image, -raw.abs(), opacity=1)
    assert np.array_equal(silent[1][0, 0], heat_map(np.zeros((1, 1)), "viridis")[0, 0])  # no NaN without evidence


def test_pairs_say_both_shares_and_both_peaks(found):
    model, _, errors = found
    fig = errors.compare(model, 2)
    chosen = errors.order("confidence")[:2]
    maps = _pair_maps(errors, model, chosen)
    for k, i in enumerate(chosen.tolist()):
        shares = errors.logits[i].softmax(0)
        for ax, c, peak in zip(fig.axes[4*k + 1:4*k + 3], (errors.predicted[i], errors.true[i]), maps.raw_max[0][k], strict=True):
            texts = [t.get_text() for t in ax.texts]
            assert f"for {errors.class_names[c]}" in texts and f"{100*shares[c]:.0f} %, peak {peak:.2f}" in texts


def test_panels_without_evidence_are_labelled(found):
    model, data, errors = found
    cut = ResNet18(width=4)
    with torch.no_grad():
        cut.fc.weight.fill_(-1)  # after a ReLU every class has negative evidence only
    for fig in (errors.plot_cams(cut, 3, "layer4", min_size=1), errors.compare(cut, 3, "layer4", min_size=1)):
        assert sum("no positive" in t.get_text() for ax in fig.axes for t in ax.texts) in (3, 6)


def test_the_page_stands_alone(found, tmp_path):
    model, _, errors = found
    _save_html(errors, model, tmp_path/"page.html", n=5)
    text = (tmp_path/"page.html").read_text()
    assert text.count("<article>") == 5 and "http" not in text and "<script" not in text
    heading = f"5 of {len(errors)} errors on 60 images"
    assert f"<title>{heading}</title>" in text and f"<h1>{heading}</h1><p>Maps of layer3, both classes" in text
    sources = re.findall(r'src="data:image/(png|jpeg);base64,([^"]+)"', text)
    assert len(sources) == 20 == len(re.findall(r'alt="[^"]+"', text))
    from PIL import Image
    first = np.asarray(Image.open(io.BytesIO(base64.b64decode(sources[0][1]))))
    i = errors.order("confidence")[0]
    assert sources[0][0] == "png" and np.array_equal(first[1::3, 1::3], errors.x[i].permute(1, 2, 0).numpy())   # the image is exact
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
    named = Misclassified(**{**vars(errors), "class_names": ("<b>&",)*10})
    _save_html(named, model, tmp_path/"page.html", n=1)
    assert "<b>&" not in (tmp_path/"page.html").read_text().replace("<b>&lt;b&gt;&amp;", "")


def test_cards_say_what_a_map_lacks(found):
    model, _, errors = found
    cut = ResNet18(width=4)
    with torch.no_grad(): cut.fc.weight.fill_(-1)
    html = errors.cards(cut, 3, "layer4", min_size=1)._repr_mimebundle_()[0]["text/html"]
    assert html.count("<figcaption>for ") == 6 == html.count("no positive evidence</figcaption>")
    both, alone = errors.cards(model, 3), errors.cards(model, 3, both=False)
    assert [c._repr_mimebundle_()[0]["text/html"].count("<img") for c in (both, alone)] == [12, 6]
    assert "peaks above the truth's in" in both.alt() and both.alt().count(" taken for ") == 3
    assert "<p>" not in both._repr_mimebundle_()[0]["text/html"]   # shapes: nothing is known of them
    with pytest.raises(ValueError, match="positions must be"): errors.cards(model, positions=[])


# ---- verdicts

@pytest.fixture(scope="module")
def practice():
    "Practice images, and the errors of an untrained net on them."
    torch.manual_seed(0)
    data = practice_images(60)
    return data, Misclassified.find(ResNet18(width=4).eval(), data, None)


def test_what_is_known_is_what_the_sources_say():
    known = _known()
    assert known.labels.bincount().tolist() == [1000]*10 and (known.nets.sum(1) == 30).all()
    right = known.nets.gather(1, known.labels[:, None]).sum()/300_000   # the nets' mean accuracy, by the counts and by name
    assert abs(float(right) - float(known.accuracy.mean())) < 1e-6
    assert abs(float(known.accuracy.min()) - 0.8198) < 1e-6 and abs(float(known.accuracy.max()) - 0.9711) < 1e-6
    assert sorted(known.copy.tolist()) == list(range(10_000))
    assert len(known.doubted) == 275 and (known.doubted[:, 2:].sum(1) == 5).all() and int((known.doubted[:, 2] < 3).sum()) == 54


def test_verdicts_by_hand(practice):
    data, errors = practice
    found, known = errors.verdicts(), _known()
    assert torch.equal(found.number, errors.index)   # these images stand in the original order
    doubted = {int(row[0]): row for row in known.doubted}
    for i, n in enumerate(errors.index.tolist()):
        right, row = int(known.nets[n, data.y[n]]), doubted.get(n)
        want = 0 if row is not None and row[2] < 3 else 1 if right <= 15 else 2 if right < 30 else 3
        assert found.kinds[i] == VERDICTS[want] and int(found.guess[i]) == (-1 if row is None else row[1])
        words = found.words(i)
        assert ("Five people" in words) is (row is not None) and data.class_names[data.y[n]] in words
    cards = errors.cards(ResNet18(width=4).eval(), positions=[0])._repr_mimebundle_()[0]["text/html"]
    assert f"<p><b>{found.kinds[0].capitalize()}.</b>" in cards


@pytest.mark.parametrize(("right", "confirmed", "kind"), [
    (30, None, 3), (29, None, 2), (16, None, 2), (15, None, 1), (0, None, 1), (30, 2, 0), (0, 2, 0), (30, 3, 3), (0, 5, 1)])
def test_the_first_verdict_that_fits(right, confirmed, kind):
    assert verdict_of(right, 30, confirmed) == VERDICTS[kind]


def test_the_order_is_found_by_labels_and_by_paths(practice):
    data, _ = practice
    known, all_of_it = _known(), practice_images(10_000)
    every = torch.arange(10_000)
    assert torch.equal(_original_numbers(all_of_it.y, every, all_of_it.x), every)            # as torchvision and the hub have it
    copy = all_of_it.subset(known.copy)                                                      # as the JPEG copy has it
    by_labels = _original_numbers(copy.y, every, copy.x)
    seen, ranks = [0]*10, torch.empty(10_000, dtype=torch.int64)
    for n, label in enumerate(known.labels.tolist()):
        ranks[n] = seen[label]
        seen[label] += 1
    paths = [f"test/{data.class_names[known.labels[n]]}/{int(ranks[n]):04}.jpg" for n in known.copy.tolist()]
    shuffled = torch.randperm(10_000, generator=torch.Generator().manual_seed(0))
    by_rank = _original_numbers(copy.y[shuffled], every, copy.x[shuffled], [paths[k] for k in shuffled.tolist()])
    assert torch.equal(by_labels, known.copy) and torch.equal(by_rank, known.copy[shuffled])
    part = copy.subset(slice(3000, 3100))
    assert torch.equal(_original_numbers(part.y, torch.arange(100), part.x), known.copy[3000:3100])


def test_other_images_are_refused_with_one_message(practice):
    data, errors = practice
    dark = ImageData(data.x//2, data.y, data.class_names)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    for other in (shapes(60), dark, data.subset(order), data.subset(slice(10))):
        with pytest.raises(ValueError, match=r"test images alone.*take load_cifar10\(split='test'\) or a slice of it, not \d+ other"):
            Misclassified.find(ResNet18(width=4).eval(), other, None).verdicts()
    assert len(errors.verdicts().kinds) == len(errors)


def cifar10() -> ImageData:
    "The test images, wherever they are; skips without them."
    import os

    from cam_course.data import load_cifar10
    if not os.environ.get("CAM_COURSE_DATA"): pytest.skip("CAM_COURSE_DATA names no data set")
    return load_cifar10(split="test", verbose=False)


def test_the_join_keeps_the_accuracy():
    "On real images: each is found once, its label is the original one, and the net is as good in the original order as stated."
    from cam_course.base.weights import read_weights
    data = cifar10()
    numbers = _original_numbers(data.y, torch.arange(len(data)), data.x)
    assert torch.equal(numbers.sort().values, torch.arange(len(data))) and torch.equal(_known().labels[numbers], data.y)
    assert float((data.x.float().mean((1, 2, 3)) - _known().gray[numbers]).abs().max()) < 1
    original = data.subset(numbers.argsort())
    model = ResNet18(weights="cifar10_jpeg")
    errors = Misclassified.find(model, original, Normalize.of(data))
    assert abs(errors.accuracy - read_weights("cifar10_jpeg")[1]["accuracy"]) < 0.002
    assert torch.equal(errors.verdicts().number, errors.index)


# ---- would you have known?

def test_twenty_images_half_of_them_errors(practice):
    data = practice_images(200)
    answers = torch.where(torch.arange(200) % 3 == 0, (data.y + 1) % 10, data.y)
    class Fixed(nn.Module):
        def forward(self, x): return nn.functional.one_hot(x[:, 0, 0, 0].long(), 10).float()
    number = torch.zeros(200, 3, 32, 32)
    number[:, 0, 0, 0] = answers
    errors = Misclassified.find(Fixed(), data, lambda x: number[:len(x)], batch_size=200)
    quiz = WouldYouKnow.of(errors, data, seed=1)
    assert len(quiz.labels) == 20 and sum(a != b for a, b in zip(quiz.labels, quiz.answers, strict=True)) == 10
    assert all(len(v) in (0, 5) for v in quiz.votes) and quiz.given == [-1]*20 and "Our net has 10 of them right" in quiz.alt()
    assert WouldYouKnow.of(errors, data, seed=1).labels == quiz.labels != WouldYouKnow.of(errors, data, seed=2).labels
    quiz.still()


def test_javascript_scores_and_speaks():
    from jsbox import load
    js = load("math/gallery.js")
    nets = [[30, 0, 0], [10, 15, 5], [0, 0, 30]]
    assert js("scores", [0, 1, 2], [0, 2, 2], nets, [0, 0, -1]) == {"seen": 2, "reader": 1, "net": 1, "nets": 1.5}
    assert js("scores", [0, 1, 2], [0, 2, 2], nets, [-1]*3)["seen"] == 0
    names = ["cat", "dog", "frog"]
    said = js("verdict", names, 1, 2, nets[1], [0, 3, 1, 1, 0])
    assert "15 of 30 published nets say dog; the most frequent other answer is cat (10)." in said
    assert "Of five people 3 chose dog, 1 cat, 1 both, 0 neither." in said
    assert js("verdict", names, 0, 0, nets[0], []) == "The label is cat. Our net says cat. 30 of 30 published nets say cat."


def test_the_quiz_in_the_page(browser, tmp_path, practice):
    from figpage import opened
    data, errors = practice
    quiz = WouldYouKnow.of(errors, data, 6)
    with opened(browser, [quiz], tmp_path) as page:
        said = lambda: page.inner_text(".cc-readout")
        assert said().startswith("What is it?")
        page.locator(".cc-button", has_text="cat").click()
        page.wait_for_function("document.querySelector('.cc-readout').textContent.includes('After 1 of 6')")
        first = said()
        page.keyboard.press("3")   # the first answer counts
        page.keyboard.press("Enter")   # on "Next image", which has the focus
        page.wait_for_function("document.querySelector('.cc-readout').textContent.startsWith('What is it?')")
        page.keyboard.press("0")
        page.wait_for_function("document.querySelector('.cc-readout').textContent.includes('After 2 of 6')")
        page.locator("text=Back").click()
        page.wait_for_function("(first) => document.querySelector('.cc-readout').textContent.startsWith(first)",
                               arg=first.partition("After")[0].strip())
        page.locator("text=Start again").click()
        page.wait_for_function("document.querySelector('.cc-readout').textContent.startsWith('What is it? Choose')")


def test_the_browser_follows_its_controls(found):
    pytest.importorskip("ipywidgets", reason="the live browser needs ipywidgets")
    model, _, errors = found
    box = _browse(errors, model)
    (by, pair, seed), number, picture = box.children[0].children, box.children[1], box.children[2]
    first = picture.value
    number.value = 2
    assert picture.value != first
    by.value = "doubt"
    least = int(errors.index[errors.order("doubt")[1]])
    assert f">image {least}<" in picture.value
    assert seed.disabled  # it is that of the random order
    by.value = "random"
    for seed.value in (1, 2):
        assert f">image {int(errors.index[errors.order('random', seed.value)[1]])}<" in picture.value
    assert not seed.disabled
    pair.value = pair.options[1][1]
    assert number.max == len(errors.order(pair=pair.value)) and number.value <= number.max


def test_tensorboard_has_the_figures(found, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model, data, _ = found

    class Trainer:
        best_model, test, normalize, epoch = model, data, Normalize.of(data), 0

    callback = TensorBoardGallery(tmp_path, n=3, every=2)
    for Trainer.epoch in range(1, 4):
        callback.on_epoch_end(Trainer)
    callback.on_fit_end(Trainer)
    callback.on_fit_end(Trainer)  # a second end writes nothing
    events = EventAccumulator(str(tmp_path)).Reload()
    for tag in ("errors/images", "errors/gradcam", "errors/confusion"):
        assert [e.step for e in events.Images(tag)] == [2, 3]
        assert events.Images(tag)[0].width > 200


@pytest.mark.parametrize("averaged", [0.0, 0.9])
def test_tensorboard_beside_a_training_in_16_bits(tmp_path, averaged):
    "NumPy knows no bf16; the pictures are those of the net in full precision, and the training goes on in 16 bits."
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    data, net = shapes(60, seed=3), ResNet18(width=2)
    seen: list[torch.dtype] = []
    net.conv1.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    trainer = Trainer(net, data, data, torch.optim.SGD(net.parameters(), 0.01), epochs=2, batch_size=30, device="cpu", precision="bf16",
                      ema_decay=averaged, progress=False, callbacks=[TensorBoardGallery(tmp_path, n=3, every=1)])
    trainer.fit()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [e.step for e in events.Images("errors/gradcam")] == [1, 2]
    assert averaged or torch.float32 in seen
    assert seen.count(torch.bfloat16) >= 4                   # both epochs were trained in it


def test_tensorboard_beside_a_training_on_a_data_loader(tmp_path):
    "Its images are normalized, so that pictures have to come from elsewhere; without them the training goes on, and says so."
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.data import DataLoader, TensorDataset
    data, net = shapes(40, seed=3), ResNet18(width=2)
    normalize = Normalize.of(data)
    loader = DataLoader(TensorDataset(normalize(data.x), data.y), 20)
    callbacks = [TensorBoardGallery(tmp_path/"a", n=3), TensorBoardGallery(tmp_path/"b", data, n=3, normalize=normalize)]
    trainer = Trainer(net, loader, loader, torch.optim.SGD(net.parameters(), 0.01), epochs=1, device="cpu", progress=False,
                      callbacks=callbacks)
    with pytest.warns(UserWarning, match="draws nothing.* Give data= .* and normalize="): trainer.fit()
    assert not (tmp_path/"a").exists()
    assert [e.step for e in EventAccumulator(str(tmp_path/"b")).Reload().Images("errors/images")] == [1]


@pytest.mark.parametrize(("true", "predicted", "n", "words"), [
    ([0, 1], [0], None, "equal"), ([], [], None, "not empty"), ([0, 3], [0, 0], 3, "0 to 2"), ([-1, 0], [0, 0], None, "0 to 0")])
def test_wrong_tables(true, predicted, n, words):
    with pytest.raises(ValueError, match=words):
        confusion_matrix(torch.tensor(true), torch.tensor(predicted), n)
    with pytest.raises(ValueError, match="class names"):
        plot_confusion(torch.zeros(2, 2), ("a",))


def test_other_sizes_and_nets():
    "A torchvision net on 64-px images, two classes with long names, grey."
    import torchvision

    torch.manual_seed(0)
    data = ImageData(torch.randint(0, 256, (12, 3, 64, 64), dtype=torch.uint8), torch.arange(12) % 2,
                     ("a very long name for one class", "b"))
    model = torchvision.models.resnet18(num_classes=2)
    errors = Misclassified.find(model, data, Normalize.of(data))
    fig = errors.plot_cams(model, 2)  # layer2 is the deepest with 8 px
    assert len(fig.axes) == 4 and pixels(fig).shape[1] < 400
    with pytest.raises(ValueError, match="layer3 gives 4x4 maps"):
        errors.plot_cams(model, 2, "layer3")
