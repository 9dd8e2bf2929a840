"""A Sphinx extension that keeps unused scripts out of the pages.

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


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("html-page-context", drop_thebe, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
