"""Prepare a folder that holds all that a machine with a GPU may lack: `make gpu-kit`, or python book/gpu_kit/make.py --for 3.12

The folder (build/gpu-kit) has the library, CIFAR-10 as two packs, and the wheels that neither torch nor numpy brings along;
run.py in it needs nothing else, no network either. Wheels are made of what is installed here where that fits the other
Python, and are fetched by pip where not; what is there already stays.
"""

import argparse
import base64
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from datetime import datetime
from importlib import metadata
from pathlib import Path

from PIL import Image

import cam_course
from cam_course.base.cifar10 import find_in, image_files, write_pack
from cam_course.base.core import atomic_write, environment, write_json
from cam_course.data import load_cifar10

HERE = Path(__file__).resolve().parent
SCRIPTS = ("run.py", "plan.py", "work.py", "checks.py", "table.py")
WHEELS = (  # what a training imports beside torch and numpy; for the decoding; and to compare maps with (it needs more)
    "accelerate", "safetensors", "tqdm", "packaging", "PyYAML", "tensorboard", "protobuf", "absl-py", "pillow", "grad-cam", "ttach",
)  # fmt: skip
PLATFORM = re.compile(r"any|manylinux(1|2010|2014|_2_\d+)_x86_64")
PLATFORMS = [f"manylinux_2_{n}_x86_64" for n in (34, 28, 27, 24, 17)] + ["manylinux2014_x86_64"]


# ---- wheels

def fits(python: str, abi: str, target: tuple[int, int]) -> bool:
    "Whether tags of a wheel are for the Python `target`."
    own = f"cp{target[0]}{target[1]}"
    least = re.fullmatch(r"cp3(\d+)", python)
    stable = abi == "abi3" and least is not None and int(least[1]) <= target[1]
    return stable or python == "py3" or (python == own and abi == own)


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def present(folder: Path, name: str, version: str, target: tuple[int, int]) -> Path | None:
    "The wheel of this version that is in `folder` and fits."
    for path in folder.glob("*.whl"):
        found, number, *_, python, abi, _ = path.stem.split("-")
        if (canonical(found), number) == (canonical(name), version) and any(fits(p, abi, target) for p in python.split(".")):
            return path
    return None


def repack(name: str, folder: Path, target: tuple[int, int]) -> Path | None:
    "Make a wheel of what is installed; None if that is for another Python or machine, or can't be told."
    dist = metadata.distribution(name)
    tags = re.findall(r"^Tag: (\S+)-(\S+)-(\S+)$", dist.read_text("WHEEL") or "", re.MULTILINE)
    usable = [tag for tag in tags if fits(tag[0], tag[1], target) and PLATFORM.fullmatch(tag[2])]
    if not usable or not dist.files or not all(f.locate().exists() for f in dist.files if f.suffix != ".pyc"):
        return None
    python, abi = usable[0][:2]
    platforms = ".".join(dict.fromkeys(tag[2] for tag in usable if tag[:2] == (python, abi)))
    path = folder/f"{canonical(name)}-{dist.version}-{python}-{abi}-{platforms}.whl"
    drop = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
    inside = [f for f in dist.files if ".." not in f.parts and not f.is_absolute() and f.suffix != ".pyc"]
    record = next(f for f in inside if f.name == "RECORD")
    lines = []
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as wheel:
        for member in inside:
            if member.name in drop and member.parent == record.parent:
                continue
            content = member.locate().read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            lines.append(f"{member.as_posix()},sha256={digest},{len(content)}")
            wheel.writestr(_entry(member.as_posix()), content)
        wheel.writestr(_entry(record.as_posix()), "\n".join([*lines, f"{record.as_posix()},,"]) + "\n")
    return path


def _entry(name: str) -> zipfile.ZipInfo:
    "Without a date: the same files give the same wheel."
    entry = zipfile.ZipInfo(name)
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    return entry


def fetch(name: str, version: str, folder: Path, target: tuple[int, int]) -> Path:
    "Let pip download a wheel for the other Python, from wherever pip is configured to look."
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", f"{target[0]}.{target[1]}", "--implementation", "cp", "--dest", str(folder)]
    command += [word for platform in PLATFORMS for word in ("--platform", platform)]
    done = subprocess.run([*command, f"{name}=={version}"], capture_output=True, text=True, check=False)
    if (path := present(folder, name, version, target)) is None:
        said = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["no word from pip"]
        wanted = f"{name} {version} for Python {target[0]}.{target[1]}"
        sys.exit(f"no wheel of {wanted} could be fetched; is there a network? pip says: {said[0].strip()}")
    return path


def wheels(folder: Path, target: tuple[int, int]) -> list[Path]:
    "All of WHEELS, in the versions that are installed here."
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for name in WHEELS:
        version = metadata.version(name)
        found.append(present(folder, name, version, target) or repack(name, folder, target) or fetch(name, version, folder, target))
    for other in set(folder.iterdir()) - set(found):
        other.unlink()
    return found


# ---- images

def images(folder: Path, root: str | None) -> None:
    "CIFAR-10 as two packs: the encoded images as they are where we have them, else as PNG."
    folder.mkdir(parents=True, exist_ok=True)
    root = root or os.environ.get("CAM_COURSE_DATA") or None
    for split in ("train", "test"):
        found = find_in(root, split) if root else None
        if found and found.suffix in (".parquet", ".npz"):
            files, labels = image_files(found, split)
        else:
            data = load_cifar10(root, split=split)
            files, labels = [_png(x) for x in data.x.permute(0, 2, 3, 1).numpy()], data.y.numpy()
        write_pack(folder/f"{split}.npz", files, labels)


def _png(pixels: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return file.getvalue()


# ---- the whole

def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    parser.add_argument("--out", type=Path, default=HERE.parent.parent/"build"/"gpu-kit", help="the folder (%(default)s)")
    parser.add_argument("--for", dest="python", default=here, help="Python of the machine with the GPU (%(default)s)")
    parser.add_argument("--dataset", choices=["cifar10", "shapes"], default="cifar10", help="shapes: no files, for a rehearsal")
    parser.add_argument("--data", help="folder that holds CIFAR-10; default: as load_cifar10 finds it")
    parser.add_argument("--limit", type=float, default=60, help="largest size in MB (%(default)g)")
    args = parser.parse_args()
    if not re.fullmatch(r"3\.\d+", args.python) or int(args.python[2:]) < 11:
        parser.error(f"--for {args.python!r}: give a version such as 3.12, 3.11 or later")
    target = (3, int(args.python[2:]))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out/"kit.json").unlink(missing_ok=True)  # from here to the end it is no kit
    shutil.rmtree(args.out/"cam_course", ignore_errors=True)
    shutil.copytree(Path(cam_course.__file__).parent, args.out/"cam_course", ignore=shutil.ignore_patterns("__pycache__"))
    for script in (*(HERE/name for name in SCRIPTS), HERE.parent/"pack_weights.py"):
        shutil.copy(script, args.out/script.name)
    wheels(args.out/"wheels", target)
    shutil.rmtree(args.out/"data", ignore_errors=True)
    if args.dataset == "cifar10":
        images(args.out/"data", args.data)
    files = sorted(p for p in args.out.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    size = sum(p.stat().st_size for p in files) / 1e6
    if size > args.limit:
        largest = max(files, key=lambda p: p.stat().st_size)
        remedy = f"raise it with LIMIT={size * 1.1:.0f}, or name a JPEG copy in CAM_COURSE_DATA"
        sys.exit(f"the kit would have {size:.0f} MB, over the limit of {args.limit:g}, {largest.name} alone "
                 f"{largest.stat().st_size / 1e6:.0f}: {remedy}")
    write_json(args.out/"kit.json", {
        "made": f"{datetime.now():%Y-%m-%d %H:%M:%S}", "commit": environment().get("commit"), "python": args.python,
        "dataset": args.dataset,
        "sha256": {p.relative_to(args.out).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}})
    print(f"{args.out}: {size:.1f} MB, for Python {args.python}, with {args.dataset}. "
          f"On the machine with the GPU: python {args.out.name}/run.py --out DIR")


if __name__ == "__main__":
    main()
