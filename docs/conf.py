"""Builds the documentation: ``sphinx-build -W docs build/docs``."""

from __future__ import annotations

from cbal_optuna import __version__


project = "cbal-optuna"
author = "The cbal-optuna founders"
release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
default_role = "py:obj"
html_theme = "furo"
html_title = f"{project} {release}"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_numpy_docstring = False
# As parameters are shown, several in one entry too.
napoleon_custom_sections = [("Attributes", "params_style")]
doctest_global_setup = """
import optuna

optuna.logging.set_verbosity(optuna.logging.WARNING)
"""
