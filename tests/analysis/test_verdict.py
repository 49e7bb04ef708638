import io

from rich.console import Console

from c2al.analysis.verdict import cells_of, sentences, side, terminal_table


def rendered(table):
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    return console.file.getvalue()


def test_terminal_table(fake_study):
    study, _ = fake_study
    text = rendered(terminal_table(study, num_others=2))
    lines = [line.strip() for line in text.splitlines() if "[" in line and "negative" not in line]
    assert "[interval over seeds]" in text
    names = ["all rows", "revenue: top 5% (head)", "revenue: bottom 5% (tail)"]
    assert [line.startswith(name) for line, name in zip(lines, names, strict=False)] == [True] * 3
    assert len(lines) == 5
    row = cells_of(study, "c2al")["revenue", "top 5%"]
    assert f"{row['rows']:,}" in lines[1]
    assert f"{row['difference']:+.2f}".replace("-", "−") in lines[1]


def test_terminal_table_of_one_seed(make_study):
    study, _ = make_study("terminal", num_rows=1_500, seeds=(0,))
    assert "one seed" in rendered(terminal_table(study))


def test_sentences_count_every_cohort_once(fake_study):
    study, _ = fake_study
    rows = cells_of(study, "c2al").values()
    first, helped, hurt, untold, reach, few = sentences(study, "c2al")
    verdicts = [row["verdict"] for row in rows if row["axis"] != "overall"]
    assert helped.count("%)") == min(6, verdicts.count("better"))
    assert hurt.count("%)") == min(6, verdicts.count("worse"))
    assert untold.startswith(f"Cannot be told from zero: {verdicts.count('cannot be told from zero')} of 12")
    assert first.startswith("c2al against baseline over 3 seeds")
    assert "four of five" in reach
    assert few.startswith("With 3 seeds the first of 12 cohorts is told from zero only where its mean is")


def test_side():
    study = {"pair": {"axis": "age", "head": "young", "tail": "old"}}
    assert side(study, {"axis": "age", "cohort": "young"}) == "head"
    assert side(study, {"axis": "income", "cohort": "old"}) == ""
    assert side({"pair": None}, {"axis": "age", "cohort": "old"}) == ""
