"""How the site is made from its staged pages; see ``stage.py``."""

from typing import Any

from pygments.lexers.javascript import TypeScriptLexer
from sphinx.application import Sphinx

from bridge import __version__

project = "ic-bridge"
author = "the ic-bridge authors"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
copybutton_prompt_text = "$ "
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 60
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_use_ivar = True  # attributes as a list of the class, not as entries of their own
default_role = "code"  # single backquotes in documentation strings are code
html_theme = "furo"
html_title = "ic-bridge"
html_static_path = ["_static"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False  # the licence has a page in the tree
html_css_files = ["site.css"]
html_js_files = [("tables.js", {"defer": "defer"})]


def _draw(app: Sphinx, _page: str, _template: str, context: dict[str, Any], _tree: object) -> None:
    """Load what draws diagrams, which is large, on the pages that have one."""
    if '<pre class="mermaid">' in context.get("body", ""):
        app.add_js_file("mermaid.min.js", defer="defer")
        app.add_js_file("diagrams.js", defer="defer")


def setup(app: Sphinx) -> None:
    """Colour the languages that the highlighter does not know like the nearest that it does."""
    app.add_lexer("motoko", TypeScriptLexer)
    app.add_lexer("candid", TypeScriptLexer)
    app.connect("html-page-context", _draw)
