import io

import pytest
from rich.console import Console

from c2al import printing
from c2al.cohorts.pairs import Discovery, Pair, Side
from c2al.schema import CohortAxis, DenseColumn, Schema, SparseColumn, Split


@pytest.fixture
def terminal(monkeypatch):
    """What is printed by rich in 80 columns."""
    written = io.StringIO()
    monkeypatch.setattr(printing, "Console", lambda **_: Console(file=written, width=80))
    return written


def test_metrics_show_a_dash_where_a_value_is_not_defined(terminal):
    cell = {"ne": 0.81234567, "auc": 0.7, "calibration": 1.0, "rows": 1234, "positives": 56}
    none = cell | {"ne": None, "auc": None, "calibration": None, "positives": 0}
    printing.print_metrics({"test": {"overall": cell, "cohorts": {"age": {"old": none}}}})
    lines = terminal.getvalue().splitlines()
    assert any("overall" in line and "0.81235" in line and "1,234" in line for line in lines)
    assert any("age: old" in line and line.count("–") == 3 for line in lines)


def test_data_shows_splits_notes_and_axes(terminal, capsys):
    schema = Schema(
        name="mine",
        label="clicked",
        sparse=(SparseColumn("user", 10),),
        dense=(DenseColumn("age"),),
        axes=(CohortAxis("country", ("de", "fr")),),
        splits={"train": Split(2000, 100, 4000.0, 100.0)},
        notes={"check_numbers": [{"split": "train", "exposures": 12345}]},
    )
    printing.print_data(schema, "there")
    assert "2.50000%" in terminal.getvalue()
    assert "12,345" in terminal.getvalue()
    assert "1 sparse and 1 dense columns; cohort axes: country (2)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("significant", "low", "said"),
    [(True, 0.1, ""), (False, 0.0, "may be chance"), (False, 0.1, "too small to matter")],
)
def test_pairs_say_when_the_first_is_not_sure(terminal, capsys, significant, low, said):
    side = Side("old", rows=1000, units=50.0, weight=1000.0, positives=30, positive_rate=0.03, mean_prediction=0.03)
    pair = Pair(
        axis="age",
        head=side,
        tail=side,
        divergences={"js": 0.1234},
        excess=0.1,
        interval=(low, 0.15),
        p=0.5,
        p_holm=0.5,
        significant=significant,
    )
    found = Discovery(
        axes=("age",),
        divergence="js",
        rows=2000,
        pairs=(pair,),
        bins=(),
        histograms=(),
        left_out=(),
        settings={"alpha": 0.05},
    )
    printing.print_pairs(found, 5, title="pairs")
    assert "0.1234" in terminal.getvalue()
    assert capsys.readouterr().out == (f"the first pair is not a sure one: {said}\n" if said else "")


def test_names_cannot_speak_to_the_terminal(terminal, capsys):
    """Neither in rich's markup nor by escape sequences."""
    cell = {"ne": 0.8, "auc": 0.7, "calibration": 1.0, "rows": 10, "positives": 5}
    printing.print_metrics({"[red]test": {"overall": cell, "cohorts": {"a[/]": {"\x1b[31mold\n": cell}}}})
    shown = terminal.getvalue()
    assert "[red]test" in shown
    assert "a[/]: \\x1b[31mold\\n" in shown
    assert "\x1b" not in shown


def test_what_auc_may_err_by_is_shown_where_it_can_be_seen(terminal):
    cell = {"ne": 1e34, "auc": 0.7, "calibration": 1.0, "rows": 10, "positives": 5}
    printing.print_metrics({"test": {"overall": cell | {"auc_error": 2e-5}, "cohorts": {}}})
    printing.print_metrics({"test": {"overall": cell | {"auc_error": 2e-6}, "cohorts": {}}})
    assert terminal.getvalue().count("0.70000 ±2e-05") == 1
    assert "0.70000 ±2e-06" not in terminal.getvalue()
    assert "1e+34" in terminal.getvalue()


def test_bar_takes_an_unknown_total(capsys):
    with printing.PrepareBar("mine") as bar:
        bar.update(5, 0)
        bar.update(10, 10)
    assert capsys.readouterr().out == ""
