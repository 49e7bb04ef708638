from pathlib import Path

from c2al.analysis.markdown import markdown, write_markdown


def test_every_cell_has_a_row_and_every_row_as_many_columns(fake_study):
    study, _ = fake_study
    lines = [line for line in markdown(study).splitlines() if line.startswith("|")]
    assert len(lines) == len(study["cells"]) + 2 * (len(study["arms"]) - 1)
    assert len({line.count("|") for line in lines}) == 1


def test_the_pair_and_the_verdict_are_said(fake_study):
    study, _ = fake_study
    page = markdown(study)
    assert "revenue: top 5% (head)" in page
    assert "c2al against baseline over 3 seeds" in page


def test_written_whole(fake_study, tmp_path):
    study, _ = fake_study
    path = Path(write_markdown(study, str(tmp_path)))
    assert [each.name for each in tmp_path.iterdir()] == ["report.md"]
    assert path.read_text(encoding="utf-8") == markdown(study)
