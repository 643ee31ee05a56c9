"""The code on the pages of the documentation runs."""

import re
from textwrap import dedent

import pytest

from spectral_repro.configuration.folders import CONF

DOCS = CONF.parent / "docs"
BLOCK = re.compile(r"^( *)```python\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
PAGES = {page: [dedent(code) for _, code in BLOCK.findall(page.read_text())] for page in sorted(DOCS.glob("*.md"))}


@pytest.mark.parametrize("page", [page for page, blocks in PAGES.items() if blocks], ids=lambda page: page.stem)
def test_code_runs_when_pasted(page, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(CONF.parent)
    for code in PAGES[page]:
        exec(compile(code, page.name, "exec"), {"__name__": "pasted"})
