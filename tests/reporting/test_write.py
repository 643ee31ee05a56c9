import pytest

from spectral_repro.errors import UserError
from spectral_repro.reporting.tables import markdown
from spectral_repro.reporting.write import write


@pytest.fixture
def whole(make_run, report):
    make_run("norm=batch", accuracies=[], state="running")
    return report()


def test_files_are_named_by_table_and_protocol_and_hold_what_is_said(whole, tmp_path):
    (section,) = whole.sections
    table, last = write(whole, tmp_path / "new" / "pages")
    assert table == markdown(section) == (tmp_path / "new" / "pages" / f"{section.name}.md").read_text(encoding="utf-8")
    assert section.name == section.table.name
    assert str(tmp_path / "new" / "pages") in last
    written = {path.name for path in (tmp_path / "new" / "pages").iterdir()}
    tables = {f"{section.name}.{kind}" for kind in ("md", "tex", "csv")}
    assert written == {"index.html", "tables.tex", "runs.csv", "curves.csv"} | tables
    document = (tmp_path / "new" / "pages" / "tables.tex").read_text()
    assert document.startswith("\\documentclass") and document.count("\\begin{table}") == document.count("\\end{table}") == 1


def test_a_place_that_cannot_be_written_is_named(whole, tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match=r"^out=.*file: nothing can be written there .*; name another folder$"):
        write(whole, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"
