"""Outputs on the page: alt text for each picture, moving figures with a still behind them."""
from typing import Any

from nbformat import NotebookNode

STATE, VIEW = "application/vnd.jupyter.widget-state+json", "application/vnd.jupyter.widget-view+json"
IMAGES = ("image/png", "image/jpeg", "image/svg+xml", "image/gif")


def prepare(nb: NotebookNode) -> None:
    """Make each widget output fit for a page without a kernel.

    An anywidget becomes two outputs: its picture (for readers without JavaScript, for print) and its view, which
    `host.js` brings to life and then removes the picture. Any other widget falls back to its picture or its text.
    """
    state = nb.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    for cell in nb.cells:
        if cell.cell_type != "code": continue
        new = []
        for o in cell.outputs:
            view = o.get("data", {}).get(VIEW)
            if view is None:
                new.append(o)
                continue
            o.data.pop(VIEW)
            if "_esm" in state.get(view["model_id"], {}).get("state", {}):
                still = {k: v for k, v in o.data.items() if k in IMAGES}
                if still: new.append(display(still, {**o.metadata, "fallback": True}))
                new.append(display({VIEW: view}, {"fallback": bool(still)}))
            elif o.data:
                new.append(o)
        cell.outputs = [NotebookNode(o) for o in new]


def display(data: dict, metadata: dict) -> NotebookNode:
    return NotebookNode(output_type="display_data", data=data, metadata=metadata)


def alt_text(metadata: dict[str, Any], mime: str) -> str:
    "Alt text as saved in an output's metadata: `{'image/png': {'alt': ...}}`, or `{'alt': ...}`."
    of_mime = metadata.get(mime)
    return str((of_mime.get("alt") if isinstance(of_mime, dict) else None) or metadata.get("alt") or "").strip()


def install() -> None:
    """Teach myst-nb's renderer about alt text: it knows one for a whole cell only, and offers no hook but an installed
    entry point. A picture without alt text is a warning, which fails the build."""
    from myst_nb.core.render import NbElementRenderer as Renderer

    if getattr(Renderer, "_cam_course", False): return
    image, widget = Renderer.render_image, Renderer.render_widget_view

    def render_image(self, data):
        found = image(self, data)
        alt = alt_text(data.output_metadata, data.mime_type) or found[0].get("alt", "")
        if not alt:
            self.logger.warning(f"output {data.output_index} of cell {data.cell_index} is a picture without alt text: "
                                "use cam_course.figures.show(fig, alt=...)", subtype="alt_text", line=data.line)
        for node in found:
            node["alt"] = alt
            if data.output_metadata.get("fallback"): node["classes"].append("widget-still")
        return found

    def render_widget_view(self, data):
        if not data.output_metadata.get("fallback"):
            self.logger.warning(f"the moving figure of cell {data.cell_index} has no picture for readers without "
                                "JavaScript: give it a fallback()", subtype="alt_text", line=data.line)
        return widget(self, data)

    Renderer.render_image, Renderer.render_widget_view, Renderer._cam_course = render_image, render_widget_view, True
