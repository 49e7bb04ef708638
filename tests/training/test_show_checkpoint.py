"""What ``c2al checkpoint show`` says of a run's checkpoints."""

import shutil
import sys

import pytest
from rich.console import Console

from c2al import cli
from c2al.printable import printable
from c2al.schema import DataError
from c2al.training.show_checkpoint import listing, look


@pytest.fixture
def run(whole_run, tmp_path):
    return shutil.copytree(whole_run, tmp_path / "run")


def said(found) -> str:
    console = Console(width=200, record=True)
    console.print(listing(found))
    return console.export_text()


@pytest.mark.parametrize("place", ["", "/", "/checkpoints", "/checkpoints/step_00000024"])
def test_a_run_its_checkpoints_or_one_of_them(run, place):
    found = look(f"{run}{place}")
    assert [each["step"] for each in found][-1] == 24
    text = said(look(f"file://{run}{place}"))
    for part in ("step 24 of 24", "3,072 rows seen", "1 ranks × 128 rows", "20,001 × 8", "adagrad", "torch ", "Adam"):
        assert part in text


def test_what_is_not_whole_says_why(run, capsys, monkeypatch):
    file = next((run / "checkpoints" / "step_00000024").glob("*.distcp"))
    file.write_bytes(file.read_bytes()[:100])
    (run / "checkpoints" / "step_00000032.partial").mkdir()
    (run / "checkpoints" / "step_00000016" / "progress.json").write_text("{")
    text = said(look(str(run)))
    assert "has 100 bytes of" in text
    assert "progress.json is cut short" in text
    assert "step 32" in text
    assert "not finished" in text
    monkeypatch.setattr(sys, "argv", ["c2al", "checkpoint", "show", str(run)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2


def test_nothing_is_unpickled(run, monkeypatch):
    monkeypatch.setattr("pickle.load", lambda *_: pytest.fail("unpickled"))
    monkeypatch.setattr("torch.load", lambda *_, **__: pytest.fail("unpickled"))
    look(str(run))


@pytest.mark.parametrize("place", ["nowhere", "nowhere/step_00000001"])
def test_nothing_there(tmp_path, place):
    with pytest.raises(DataError, match=r"no checkpoints? there"):
        look(str(tmp_path / place))


@pytest.mark.parametrize("words", [[], ["show"], ["list", "x"], ["show", "x", "y"]])
def test_the_command_has_one_form(words):
    with pytest.raises(DataError, match="c2al checkpoint show DIR"):
        cli.run("checkpoint", words)


@pytest.mark.parametrize("text", ["[/foo]", "[link=https://example.org]x[/link]", "\x1b[2J", "\ud800"])
def test_texts_of_strangers_are_shown_as_they_stand(run, text):
    (run / "checkpoints" / "step_00000024" / "[b]").write_text("x")
    found = look(str(run), verify=False)
    found[-1]["contents"]["saved_at"] = found[-1]["contents"]["tables"][0]["table"] = text
    shown = said(found)
    assert printable(text) in shown
    assert "[b]" in shown
    assert "\x1b" not in shown


def test_digits_of_other_scripts_name_no_step(run):
    (run / "checkpoints" / "step_²²²²²²²²").mkdir()
    (run / "checkpoints" / "step_٣٣٣٣٣٣٣٣").mkdir()
    assert look(str(run), verify=False)[-1]["step"] == 24
    with pytest.raises(DataError, match="no checkpoint there"):
        look(f"{run}/checkpoints/step_²²²²²²²²")
