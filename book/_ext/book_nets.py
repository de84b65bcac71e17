"""The networks that run in the page: code and weights as scripts in _static/nets, which a page loads when its reader wakes a figure."""
from pathlib import Path


def write_files(app, exception) -> None:
    "Each file that a figure may ask for, unless it lies there already."
    if exception or app.builder.format != "html": return
    from cam_course.base.page_network import site_files
    folder = Path(app.outdir)/"_static"/"nets"
    folder.mkdir(parents=True, exist_ok=True)
    for name, script in site_files().items():
        path = folder/name
        if not path.exists() or path.read_text(encoding="utf-8") != script: path.write_text(script, encoding="utf-8")


def setup(app) -> None: app.connect("build-finished", write_files)
