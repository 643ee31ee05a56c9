"""The documentation site: bash scripts/docs.sh."""

import sys
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.writers.html5 import HTML5Translator

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]

from configuration import configuration_reference  # noqa: E402

import spectral_repro  # noqa: E402

project = "spectral_repro"
author = "The spectral_repro authors"
version = release = spectral_repro.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton"]
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "results/*/README.md",
    "results/*/claims.md",
    "results/common_ground/tables.md",
    "results/common_ground/measured.md",
    "examples/plugin/README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
]
exclude_patterns = ["docs/_build"]
default_role = "py:obj"

html_theme = "furo"
html_title = project
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["site.css"]

myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!spectral_repro).*"),  # other packages' names: their sites are not read
    (
        r"py:class",
        r"spectral_repro\.(bounds|data|models|studies|training|optim\.mixed|linalg\.tucker)\..*",
    ),  # in signatures alone
]


def inline_formula(writer: HTML5Translator, node: nodes.math) -> None:
    writer.body.append(convert(node.astext()))
    raise nodes.SkipNode


def displayed_formula(writer: HTML5Translator, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="formula">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def escape_bars(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """|x| is an absolute value or a norm in our docstrings, and a substitution in reStructuredText."""
    lines[:] = [line.replace("|", r"\|") for line in lines]


def resolve_by_name(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Node) -> nodes.Node | None:
    """A class is documented where users import it from, and known to Python by the module that defines it."""
    python, name = env.domains["py"], node["reftarget"].rpartition(".")[2]
    places = [place for place in python.objects if place.rpartition(".")[2] == name]
    if len(places) != 1:
        return None
    return python.resolve_xref(env, node["refdoc"], app.builder, "obj", places[0], node, content)


def write_reference(app: Sphinx) -> None:
    (DOCS / "reference" / "configuration.md").write_text(configuration_reference(DOCS.parent / "conf"))


def setup(app: Sphinx) -> None:
    """Formulas are MathML, which browsers draw without a network."""
    app.connect("builder-inited", write_reference)
    app.connect("missing-reference", resolve_by_name)
    app.connect("autodoc-process-docstring", escape_bars)
    app.add_html_math_renderer("mathml", (inline_formula, None), (displayed_formula, None))
