"""A Sphinx extension that keeps unused scripts, dead links and other hosts out of the pages.

Jupyter Book 1 loads sphinx-thebe (live code through a public server) on every page; the book does
not use it, it would call outside hosts, and its script is declared twice, an error in the console.
"""

from typing import Any


def drop_thebe(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Take thebe's scripts off a page."""
    context["script_files"][:] = [
        script
        for script in context.get("script_files", [])
        if "thebe" not in (getattr(script, "filename", None) or "")
        and "THEBE_JS_URL" not in (getattr(script, "attributes", {}).get("body") or "")
    ]


def drop_mathjax(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Take MathJax, a megabyte, off a page without a formula: the front page gets it otherwise."""
    formulas = tree is not None and any(tree.findall(lambda node: "math" in type(node).__name__))
    if not formulas:
        context["script_files"][:] = [
            script
            for script in context.get("script_files", [])
            if "mathjax" not in (getattr(script, "filename", None) or "")
        ]


def drop_source_button(
    app: Any, page: str, template: str, context: dict[str, Any], tree: Any
) -> None:
    """Take out the button that downloads a page's source: notebooks lie beside their data."""
    for button in context.get("header_buttons", ()):
        if "buttons" in button:
            button["buttons"] = [
                one for one in button["buttons"] if "_sources" not in one.get("url", "")
            ]


# A page takes scripts, styles and pictures from its own site alone, and sends nothing elsewhere.
# The theme's own small scripts stand in its pages, so those cannot be forbidden; that none of a
# reader's text becomes one is the part of `vitlab.markup`. "file:" is for a site that is opened
# from a folder.
POLICY = "; ".join(
    [
        "default-src 'self' file: data:",
        "script-src 'self' file: 'unsafe-inline'",
        "style-src 'self' file: 'unsafe-inline'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
    ]
)


def restrict(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Put the Content-Security-Policy into a page's head, before anything is loaded."""
    meta = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}" />\n'
    context["metatags"] = meta + context.get("metatags", "")


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    for change in (drop_thebe, drop_mathjax, drop_source_button, restrict):
        app.connect("html-page-context", change, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
