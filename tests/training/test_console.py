"""What a person sees while a run trains."""

from c2al.training.console import StepBar
from c2al.training.loop import Progress

TRAIN = {"rows_per_s": 12345.6, "loss": 0.98765}


def said(capsys, *, num_steps, shown=True, validation=None):
    with StepBar(num_steps, 0, shown=shown) as bar:
        for step in range(1, num_steps + 1):
            bar.update(Progress(step=step), TRAIN if step > 1 else {}, validation or {})
    return capsys.readouterr().err.splitlines()


def test_ten_lines_where_there_is_no_terminal(capsys):
    lines = said(capsys, num_steps=100, validation={"ne": 0.91234})
    assert [line.split(" · ")[0] for line in lines] == [f"step {step}/100" for step in range(10, 101, 10)]
    assert lines[-1] == "step 100/100 · 12,346 rows/s · loss 0.9877 · validation NE 0.9123"


def test_the_last_step_is_always_said(capsys):
    assert said(capsys, num_steps=25)[-1].startswith("step 25/25")
    assert len(said(capsys, num_steps=3)) == 3


def test_nothing_where_it_is_not_wanted(capsys):
    assert said(capsys, num_steps=20, shown=False) == []


def test_an_undefined_ne_is_left_out(capsys):
    assert "NE" not in said(capsys, num_steps=10, validation={"ne": None})[-1]
