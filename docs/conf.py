"""How `make docs` builds the site. Sphinx reads the Markdown of the whole checkout, so relative links hold as they are.

The pages stay plain Markdown on a code host: the table of contents is added here, to README.md.
"""

import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import shoal.node

project = "Shoal"
author = "The Shoal contributors"
version = release = shoal.node.VERSION

extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "README"
include_patterns = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/*.md"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 3
nitpicky = True

html_theme = "furo"
html_title = "Shoal"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_static_path = ["site"]
html_css_files = ["shoal.css"]

default_role = "literal"  # docstrings write `name`, as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}

CONTENTS = {
    "Using Shoal": ["docs/tutorial", "docs/folders", "docs/your-data", "docs/volunteer", "docs/web", "docs/cli"],
    "How it works": ["ARCHITECTURE", "docs/care", "docs/choices", "docs/threat-model", "docs/glossary"],
    "Protocols and formats": ["docs/protocol", "docs/format", "docs/dht", "docs/channel", "docs/store"],
    "The library": ["docs/api"],
    "The project": ["CONTRIBUTING", "SECURITY", "CHANGELOG"],
}


def add_contents(app: Sphinx, name: str, source: list[str]) -> None:
    """Append the table of contents to the first page. It is hidden there; the theme shows it at the side."""
    if name == root_doc:
        for caption, pages in CONTENTS.items():
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(pages) + "\n```\n"


def find_public_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.Node | None:
    """Link a type of a signature to its public name; what is not ours, or not public, stays plain text."""
    if node.get("refdomain") != "py":
        return None
    public = f"shoal.node.{node['reftarget'].rpartition('.')[2]}"
    page = env.domains["py"].data["objects"].get(public)
    if page is None:
        return content
    return app.builder and _reference(app, node, content, page.docname, public)


def _reference(app: Sphinx, node: pending_xref, content: nodes.Node, page: str, target: str) -> nodes.Node:
    uri = app.builder.get_relative_uri(node["refdoc"], page)
    return nodes.reference("", "", content, refuri=f"{uri}#{target}", internal=True)


def add_front_page(app: Sphinx, error: Exception | None) -> None:
    """The first page is README.html; a folder's first page has to be index.html."""
    if error is None and app.builder.format == "html":
        shutil.copy(Path(app.outdir) / "README.html", Path(app.outdir) / "index.html")


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", add_contents)
    app.connect("missing-reference", find_public_name)
    app.connect("build-finished", add_front_page)
    return {"parallel_read_safe": True}
