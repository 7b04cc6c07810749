"""Sphinx: `make docs` builds docs/_build/index.html and treats every warning as an error."""

from __future__ import annotations

import re
from importlib.metadata import version as installed

from sphinx.application import Sphinx

project = "FARL"
release = version = installed("failure-aware-rl")
project_copyright = "The FARL maintainers"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
suppress_warnings = ["toc.empty_glob"]

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True

html_theme = "furo"
html_title = "FARL"


_OUTSIDE = re.compile(r"\]\((?=(?:\.\./)+(?:results|configs|experiments)/)")


def _offer_files_outside(app: Sphinx, docname: str, source: list[str]) -> None:
    """Files of the repository that are no pages, such as results, become downloads: links that work on GitHub work here."""
    source[0] = _OUTSIDE.sub("](path:", source[0])


def setup(app: Sphinx) -> None:
    app.connect("source-read", _offer_files_outside)
