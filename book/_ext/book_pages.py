"""What the book adds to a page: the stamp of its outputs, the fresh run, search that works from the file system."""
import html
import json
import re
from configparser import ConfigParser
from datetime import date
from pathlib import Path

import stamps
from docutils import nodes
from docutils.parsers.rst import Directive

DATA = {"cifar10": "CIFAR-10", "cifar10-jpeg": "CIFAR-10 (JPEG copy)", "cifar10-copy": "CIFAR-10 (re-encoded copy)"}


def settings(root: Path) -> dict[str, str]:
    "settings.ini as nbdev reads it."
    parser = ConfigParser(delimiters=["="])
    if not parser.read(root/"settings.ini", encoding="utf-8"): raise FileNotFoundError(f"no settings.ini in {root}")
    return dict(parser["DEFAULT"])


def duration(seconds: float) -> str:
    if seconds < 90: return f"{seconds:.0f} s"
    return f"{seconds/60:.0f} min" if seconds < 5400 else f"{seconds/3600:.1f} h"


def stamp_html(nb) -> str:
    "One quiet line: when and where the outputs of this page were made."
    stamp = stamps.stamp_of(nb)
    if not stamp: return ""
    versions = stamp.get("versions", {})
    day = date.fromisoformat(stamp["date"])
    parts = [f'<time datetime="{day}">{day.day} {day:%B %Y}</time>', html.escape(stamp["device"])]
    if stamp.get("data"): parts.append("data: " + html.escape(", ".join(DATA.get(d, d) for d in stamp["data"])))
    parts.append(duration(stamp["seconds"]))
    names = {"python": "Python", "torch": "torch"}
    parts += [f"{name} {html.escape(versions[k])}" for k, name in names.items() if k in versions]
    full = ", ".join(f"{k} {v}" for k, v in versions.items())
    changed = stamp.get("library_hash") != stamps.library_hash(nb)
    note = ' <strong class="stamp-old">The library has changed since.</strong>' if changed else ""
    return (f'<p class="stamp" title="{html.escape(full, quote=True)}">Outputs made on '
            + " · ".join(parts).replace("\n", " ") + f".{note}</p>")


def under_title(nb, text: str) -> None:
    "Insert raw HTML after the first level-1 heading."
    if not text: return
    for cell in nb.cells:
        if cell.cell_type != "markdown" or not cell.source.lstrip().startswith("# "): continue
        head, _, rest = cell.source.lstrip().partition("\n")
        cell.source = f"{head}\n\n{text}\n\n{rest.lstrip()}"
        return


class FreshRun(Directive):
    "`{fresh-run}`: the report of the training that `make book` made on this machine, in a frame."
    has_content = False

    def run(self) -> list[nodes.Node]:
        env = self.state.document.settings.env
        folder = Path(env.srcdir)/"build"/"extra"/"fresh_run"
        summary = folder/"summary.json"
        env.note_dependency(str(summary))
        if not summary.exists():
            text = "No fresh run was made when this site was built: the command was “make site”. “make book” makes one."
            return [nodes.note("", nodes.paragraph("", text))]
        s = json.loads(summary.read_text(encoding="utf-8"))
        up = "../"*env.docname.count("/")
        shown = {k: html.escape(v) for k, v in s["shown"].items()}
        shown["command"] = f"<code>{shown['command']}</code>"
        rows = "".join(f"<tr><th scope=row>{k}</th><td>{v}</td></tr>" for k, v in shown.items())
        report = f"{up}fresh_run/report.html"
        raw = (f'<table class="fresh-run"><tbody>{rows}</tbody></table>\n'
               f'<p><a href="{report}">Open the report on a page of its own</a></p>\n'
               f'<iframe class="fresh-run" src="{report}" title="Report of the fresh run" loading="lazy"></iframe>')
        return [nodes.raw("", raw, format="html")]


def mend_html(app, pagename, templatename, context, doctree) -> None:
    """What the writers get wrong for screen readers: a fold's label hides its text, references have a role that is no
    more, and the parameters of a long signature are a definition list without terms."""
    if not (body := context.get("body")): return
    body = re.sub(r' aria-label="Toggle hidden content"| role="doc-biblioentry"|(?<=<div) role="list"', "", body)
    context["body"] = re.sub(r'<dt class="sig.*?</dt>', lambda m: _parameters(m[0]), body, flags=re.S)


def _parameters(signature: str) -> str:
    signature = signature.replace("<dl>", '<span class="sig-params">').replace("<dd>", "<span>")
    return re.sub("</d[ld]>", "</span>", signature)


def setup(app) -> None:
    app.connect("html-page-context", mend_html)
    app.add_directive("fresh-run", FreshRun)
