"""The documentation site: `make docs`."""

import re
import sys
from pathlib import Path

import windrow

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # tools/ and benchmarks/ are no part of the package

from tools import race_page  # noqa: E402

race_page.write(HERE / "generated")

project = "windrow"
author = "the windrow developers"
project_copyright = author
version = release = windrow.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
default_role = "py:obj"  # docstrings name things in single backticks; one that is no object of ours is text

myst_heading_anchors = 3
myst_url_schemes = ["http", "https", "mailto"]

autosummary_generate = True
autodoc_typehints = "none"  # the tables of parameters say it
numpydoc_show_class_members = False
# What adapters stand on need not be installed to document them.
autodoc_mock_imports = ["autograd", "dask", "keras", "onnx", "scipy", "sklearn", "threadpoolctl", "torch"]

html_theme = "pydata_sphinx_theme"
html_title = "windrow"
html_static_path = ["static"]
html_css_files = ["windrow.css"]
html_show_sourcelink = False
html_theme_options = {
    "header_links_before_dropdown": 5,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
# Only the reference and the guide have pages below them.
GUIDE = ("guide", "convolution", "borders", "transposed", "pooling", "unfold")
html_sidebars = {"*": [], "generated/race": [], **{page: ["sidebar-nav-bs"] for page in ("api", *GUIDE)}}


def _read(app, name, source):
    """What pages need on the site and not as files.

    The benchmarks' README is a page here, so links to it lead there; and the blank line that ends a
    transcript for doctest is not shown.
    """
    text = source[0].replace("(../benchmarks/README.md", "(benchmarks.md")
    source[0] = re.sub(r"\n\n```$", "\n```", text, flags=re.MULTILINE)


def setup(app):
    app.connect("source-read", _read)
