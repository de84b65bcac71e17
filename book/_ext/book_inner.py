"""Links from page to page that an extension makes: a placeholder while pages are read, an address when they are written."""
from docutils import nodes


def inner_link(text: str, doc: str, anchor: str = "", classes: tuple[str, ...] = (), title: str = "") -> nodes.inline:
    "A link to `anchor` on the page `doc` (path without suffix); `resolve` makes it one."
    node = nodes.inline("", text, classes=list(classes))
    node["inner"], node["inner_title"] = (doc, anchor), title
    return node


def resolve(app, doctree: nodes.document, docname: str) -> None:
    "Placeholders -> references, relative to the page that they stand on."
    for node in list(doctree.findall(lambda n: isinstance(n, nodes.inline) and "inner" in n)):
        doc, anchor = node["inner"]
        uri = "" if doc == docname else app.builder.get_relative_uri(docname, doc)
        if anchor: uri = uri.partition("#")[0] + f"#{anchor}"
        link = nodes.reference("", "", *node.children, refuri=uri, internal=True, classes=node["classes"])
        if node["inner_title"]: link["reftitle"] = node["inner_title"]
        node.replace_self(link)


def setup(app) -> dict[str, bool]:
    app.connect("doctree-resolved", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
