"""The whole site as one zip that opens from the file system.

    python book/zip.py       build/site -> build/site/downloads/cam-course-book.zip (with the PDF, if there is one)

The same site gives the same bytes. Unpacked, `cam-course-book/index.html` works without a network, search included.
"""
import argparse
import os
import sys
import time
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import downloads

import build

FOLDER = "cam-course-book"
STORED = {".png", ".jpg", ".jpeg", ".pdf", ".woff", ".woff2", ".gz", ".zip"}   # these do not get smaller
DATE = (2020, 1, 1, 0, 0, 0)


def make(site: Path, out: Path) -> int:
    "Write the zip; the number of files in it. Half a zip is never left behind."
    if not (site/"index.html").is_file(): raise FileNotFoundError(f"no site in {site}: run `make site` first")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary, marked = out.with_name(out.name + ".tmp"), set(downloads.marked(site))
    files = [f for f in sorted(site.rglob("*")) if f.is_file() and f != out and f.suffix != ".tmp"
             and f.name not in (".buildinfo", downloads.ZIP.name)]
    try:
        with zipfile.ZipFile(temporary, "w") as z:
            for f in files:
                where, data = f.relative_to(site), f.read_bytes()
                if f in marked:   # a zip can't offer itself
                    up = "../"*(len(where.parts) - 1)
                    data = downloads.filled(data.decode(), downloads.offers(site, up, (downloads.PDF,))).encode()
                info = zipfile.ZipInfo(f"{FOLDER}/{where.as_posix()}", DATE)
                info.external_attr = 0o644 << 16
                info.compress_type = zipfile.ZIP_STORED if f.suffix in STORED else zipfile.ZIP_DEFLATED
                z.writestr(info, data)
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
    return len(files)


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--site", type=Path, default=build.SITE)
    p.add_argument("--out", type=Path, default=None, help="default: SITE/downloads/cam-course-book.zip")
    args = p.parse_args(argv)
    start, out = time.monotonic(), args.out or args.site/downloads.ZIP
    try:
        n = make(args.site, out)
    except FileNotFoundError as e:
        print(f"zip: {e}", file=sys.stderr)
        return 1
    downloads.link(args.site)
    print(f"{out}: {n} files, {out.stat().st_size/1e6:.1f} MB ({time.monotonic() - start:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
