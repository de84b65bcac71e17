"What people install: the wheel, used outside the checkout."

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WHEEL_LIMIT = 8_000_000  # bytes


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(out), str(ROOT)]
    subprocess.run(build, check=True, cwd=out, capture_output=True)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory) -> Path:
    "The wheel unpacked in a folder of its own, which comes first on the path: the checkout is not used."
    target = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def python(installed: Path, code: str, cwd: Path) -> str:
    env = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_wheel_has_what_the_pages_and_types_need(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert "cam_course/py.typed" in names
    js = {str(p.relative_to(ROOT)) for p in (ROOT / "cam_course" / "js").rglob("*") if p.is_file()}
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "cam_course").rglob("*.py")}
    assert js and js | modules <= names
    data = {str(p.relative_to(ROOT)) for part in ("weights", "photos", "verdicts") for p in (ROOT / "cam_course" / part).iterdir()}
    assert len(data) > 8 and data <= names
    assert {"cam_course/weights/LICENSE-mobilenet_v2-Apache-2.0", "cam_course/photos/credits.csv",
            "cam_course/verdicts/SOURCES.txt"} <= names
    assert not [n for n in names if n.startswith(("tests", "nbs", "book"))]
    assert wheel.stat().st_size <= WHEEL_LIMIT


def test_sdist_makes_the_same_wheel(wheel, tmp_path):
    "What the source archive builds is file for file what the checkout builds."
    build = [sys.executable, "-m", "build", "-q", "--sdist", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, cwd=tmp_path, capture_output=True)
    sdist = next(tmp_path.glob("*.tar.gz"))
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    source = next((tmp_path / "source").iterdir())
    assert {"LICENSE", "settings.ini", "README.md"} <= {p.name for p in source.iterdir()}
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(source)]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    assert files_of(next(tmp_path.glob("*.whl"))) == files_of(wheel)


def files_of(wheel: Path) -> dict[str, str]:
    "Hash of each file of the package, and of its licence."
    with zipfile.ZipFile(wheel) as archive:
        inside = [n for n in archive.namelist() if n.startswith("cam_course/") or "licenses" in n]
        return {n: hashlib.sha256(archive.read(n)).hexdigest() for n in inside}


def test_it_is_the_wheel_that_runs(installed, tmp_path):
    assert python(installed, "import cam_course.app.main as m; print(m.__file__)", tmp_path).startswith(str(installed))


def brought(installed: Path, cwd: Path, code: str) -> set[str]:
    "Packages that `code` loads beyond those of `import torch` and of Python itself."
    measure = (
        "import sys, torch; before = set(sys.modules); sys.stdout = open('out.txt', 'w')\n"
        f"{code}\n"
        "named = {m.partition('.')[0] for m in set(sys.modules) - before if sys.modules[m].__spec__}\n"
        "print(*(named - sys.stdlib_module_names), file=sys.__stdout__)"
    )
    return set(python(installed, measure, cwd).split())


LIGHT = {"cam_course", "numpy", "tqdm"}  # tests/bench/bench_import.py has the seconds


def test_the_import_brings_nothing_heavy(installed, tmp_path):
    found = brought(installed, tmp_path, "from cam_course.app.main import run")
    assert found >= {"cam_course"}
    assert found <= LIGHT, f"from cam_course.main import run also imports {sorted(found - LIGHT)}"


def test_help_brings_the_command_line_alone(installed, tmp_path):
    code = "import contextlib; from cam_course.__main__ import cli\nwith contextlib.suppress(SystemExit): cli(['--help'])"
    found = brought(installed, tmp_path, code)
    assert "train" in (tmp_path / "out.txt").read_text()
    heavy = {"torchvision", "matplotlib", "pyarrow", "pandas", "tensorboard", "accelerate", "IPython", "PIL", "safetensors"}
    assert "tyro" in found and not found & heavy, sorted(found)


def test_any_images_and_any_net(installed, tmp_path):
    "A 64-px folder of images and a torchvision net go through Trainer, Misclassified and GradCAM."
    code = """
import torch, torchvision, numpy as np
from pathlib import Path
from PIL import Image
from cam_course.data import from_folder
from cam_course.gallery import Misclassified
from cam_course.gradcam import GradCAM, library_cam
from cam_course.base.target_layers import suggest_layer
from cam_course.training import evaluate
from cam_course.app.trainer import Trainer
rng = np.random.default_rng(0)
for part in ("train", "test"):
    for k, name in enumerate(("dark", "bright", "grey <b>")):
        Path(part, name).mkdir(parents=True)
        for i in range(16):
            pixels = np.clip(rng.normal(40 + 90 * k, 60, (70 + i, 64, 3)), 0, 255).astype("uint8")
            Image.fromarray(pixels).save(Path(part, name, f"{i}.png"))
train, test = from_folder("train", 64), from_folder("test", 64)
assert train.x.shape == (48, 3, 64, 64) and train.class_names == ("bright", "dark", "grey <b>"), train.class_names
torch.manual_seed(0)
net = torchvision.models.resnet18(num_classes=3)
optimizer = torch.optim.SGD(net.parameters(), 0.01)
trainer = Trainer(net, train, test, optimizer, epochs=1, batch_size=8, device="cpu", progress=False)
trainer.fit()
errors = Misclassified.find(net, test, trainer.normalize)
assert abs(errors.accuracy - evaluate(net, test, trainer.normalize)[1]) < 1e-9
layer = suggest_layer(net, 64)
print(layer, len(errors))
x = trainer.normalize(test.x[:3])
maps = library_cam(net, x, layer, [0, 1, 2])
assert maps.shape == (3, 64, 64)
ours = GradCAM(net, layer)(x, [0, 1, 2])
ours = getattr(ours, "maps", ours)
assert np.abs(np.asarray(ours).reshape(3, 64, 64) - np.asarray(maps)).max() < 1e-4
if len(errors): errors.plot_cams(net, 2, layer).savefig("cams.png")
"""
    assert python(installed, code, tmp_path).splitlines()[-1].startswith("layer2")


NOBODY = 65534


def ordinary_user() -> list[str]:
    "What to put before a command so that it runs as somebody who may not write anywhere: root would notice nothing."
    if os.getuid() != 0:
        return []
    if not (setpriv := shutil.which("setpriv")):
        pytest.skip("root needs setpriv (util-linux) to become an ordinary user")
    return [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


def python_for(user: list[str]) -> str:
    "A Python that this user may run: root's own may lie in root's home, and would then run with another's library."
    ask = ["-c", "import sys, venv, ensurepip; print(sys.base_prefix if sys.version_info >= (3, 11) else '/nowhere')"]
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3", "/usr/local/bin/python3"):
        if os.path.exists(python):
            done = subprocess.run([*user, python, *ask], cwd="/", capture_output=True, text=True)
            if done.returncode == 0 and Path(python).is_relative_to(done.stdout.strip()):
                return python
    return pytest.skip("no Python 3.11 or later that an ordinary user may run")


@pytest.fixture
def home() -> Iterator[Path]:
    "A home that nobody may write to, in a folder that everybody may enter (other sessions of pytest close theirs)."
    with tempfile.TemporaryDirectory(prefix="alone-") as place:
        Path(place).chmod(0o755)
        folder = Path(place) / "home"
        folder.mkdir()
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)


def test_explain_as_an_ordinary_user_with_a_read_only_home(installed, home):
    "From the wheel, in an empty folder, without a network: pictures of three modes and sizes, each with its map."
    user, place = ordinary_user(), home.parent
    if subprocess.run([*user, sys.executable, "-c", "import torch"], cwd="/", capture_output=True).returncode:
        pytest.skip("an ordinary user may not run this Python")
    shutil.copytree(installed, place / "site")
    (place / "site").chmod(0o755)  # a folder of pytest's is closed to others
    work = place / "work"
    work.mkdir()
    code = "import sys; from cam_course.__main__ import cli; sys.exit(cli())"
    make = """
import cam_course.photographs as p, numpy as np
from PIL import Image
rgb = p.open_photograph(p.shipped_photographs()["coffee"].path)
rgb.convert("RGBA").save("a.png")
Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16)*257).resize((90, 60)).save("b.png")
exif = Image.Exif()
exif[0x0112] = 6
rgb.resize((4000, 3000)).save("c.jpg", exif=exif)
print(p.__file__)
"""
    if user:
        os.chown(work, NOBODY, NOBODY)
    env = {"PATH": "/usr/bin:/bin", "HOME": str(home), "OMP_NUM_THREADS": "1", "LANG": "C.UTF-8"}
    env["PYTHONPATH"] = str(place / "site")
    offline = ["unshare", "--net"] if os.getuid() == 0 and shutil.which("unshare") else []

    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [*offline, *user, sys.executable, *arguments]
        return subprocess.run(command, cwd=work, env=env, capture_output=True, text=True)

    made = run("-c", make)
    assert made.returncode == 0 and made.stdout.startswith(str(place)), made.stderr
    done = run("-c", code, "explain", "a.png", "b.png", "c.jpg")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.count("espresso") == 3
    assert {f"{name}-explained.png" for name in "abc"} == {p.name for p in work.glob("*-explained.png")}
    assert not list(home.iterdir())


@pytest.mark.long
def test_alone_as_an_ordinary_user_with_a_read_only_home(wheel, home):
    """Installed alone in an empty environment (downloads of gigabytes), without the checkout, by nobody in particular:
    a training, its report and the trained net work, and the home stays empty. CAM_COURSE_ALONE names an environment
    that has the wheel's dependencies already.
    """
    place = home.parent
    target = Path(os.environ.get("CAM_COURSE_ALONE") or place / "venv")
    user = ordinary_user()
    if not target.exists():
        subprocess.run([python_for(user), "-m", "venv", str(target)], check=True)
    pip = [str(target / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, str(wheel)], check=True, cwd=place)
    subprocess.run([*pip, "--no-deps", "--force-reinstall", str(wheel)], check=True, cwd=place)
    work = place / "work"
    work.mkdir()
    if user:
        os.chown(work, NOBODY, NOBODY)
    env = {"PATH": f"{target / 'bin'}:/usr/bin:/bin", "HOME": str(home), "OMP_NUM_THREADS": "2", "LANG": "C.UTF-8"}

    def run(*command: str) -> str:
        done = subprocess.run([*user, *command], cwd=work, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    with pytest.raises(AssertionError, match=r"denied|Permission"):
        run("touch", str(home / "file"))
    where = run("python", "-c", "import cam_course, os; print(cam_course.__file__, os.getuid())")
    assert where.startswith(str(target)) and not where.endswith(" 0\n")
    run("cam-course", "train", "--dataset", "shapes", "--epochs", "1", "--width", "8", "--name", "run")
    run("cam-course", "report", "runs/run")
    assert {"config.json", "history.csv", "report.html"} <= {p.name for p in (work / "runs" / "run").iterdir()}
    run("python", "-c", "from cam_course.resnet import ResNet18; ResNet18(weights='cifar10_jpeg')")
    run("python", "-c", "import cam_course.photographs as p, shutil; shutil.copy(p.shipped_photographs()['coffee'].path, 'cup.jpg')")
    assert "espresso" in run("cam-course", "explain", "cup.jpg") and (work / "cup-explained.png").exists()
    assert "cup-explained.png" in run("cam-course", "explain", "cup.jpg", "--model", "runs/run", "--overwrite")
    assert not list(home.iterdir())
