from pathlib import Path

import pytest

from benchmarks import choices

ROOT = Path(__file__).parents[2]


def test_readme_is_as_the_command_prints_it():
    """`python -m benchmarks.choices --into README.md` after a config was added or described otherwise."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.partition(choices.START)[2].partition(choices.END)[0].strip() == choices.table("model", "method")


def test_a_page_without_marks_is_left_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("no marks")
    with pytest.raises(SystemExit):
        choices.main(["--into", str(page)])
    assert page.read_text() == "no marks"
