"""Runs in processes of their own: what is finished, what goes on, what one failure does to the others."""

import json
import os
import time

import pytest
import yaml
from omegaconf import OmegaConf

from c2al.analysis.arms import Run, Watch, _Tail, run_all
from c2al.schema import DataError
from tests import runs


def make_run(rows, folder, *own, arm="baseline", seed=0) -> Run:
    config = OmegaConf.to_container(runs.config(rows, folder, *own, f"seed={seed}"), resolve=True)
    return Run(arm=arm, seed=seed, folder=folder, config=config)


def pretend_finished(run: Run, **changed) -> None:
    run.folder.mkdir(parents=True)
    (run.folder / "config.yaml").write_text(yaml.safe_dump({**run.config, **changed}))
    (run.folder / "report.json").write_text("{}")


def test_a_run_is_finished_by_its_report(tmp_path):
    run = make_run("rows", tmp_path / "run")
    assert not run.finished
    pretend_finished(run)
    assert run.finished
    (run.folder / "report.json").unlink()
    assert not run.finished


def test_how_it_was_started_does_not_matter(tmp_path):
    run = make_run("rows", tmp_path / "run")
    pretend_finished(run, name="x", run_dir="elsewhere", resume=True, overwrite=True, progress=True)
    assert run.finished


@pytest.mark.parametrize("changed", [{"seed": 1}, {"training": {}}, {"method": {"name": "c2al"}}])
def test_a_folder_of_another_config_is_refused(tmp_path, changed):
    run = make_run("rows", tmp_path / "run")
    pretend_finished(run, **changed)
    with pytest.raises(DataError, match=r"a run of another config.*overwrite=true"):
        run_all([run], workers=1)


def test_nothing_left_to_do_starts_nothing(tmp_path, monkeypatch):
    run = make_run("rows", tmp_path / "run")
    pretend_finished(run)
    monkeypatch.setattr("subprocess.Popen", None)
    run_all([run], workers=4)


@pytest.mark.slow
def test_one_failure_stops_the_others(tiny_rows, tmp_path):
    """With the last line of the failed run's output; the other is ended, and could be resumed."""
    endless = make_run(tiny_rows, tmp_path / "endless", "training.steps=1000000", arm="endless")
    failing = make_run(tiny_rows, tmp_path / "failing", "data.sparse=[nowhere]", arm="failing")
    with pytest.raises(DataError) as raised:
        run_all([endless, failing], workers=2)
    assert raised.value.problem.startswith("run failing, seed 0 ended with exit status 2: c2al: ")
    assert "nowhere" in raised.value.problem
    assert raised.value.where["file"] == str(tmp_path / "failing" / "output.log")
    metrics = tmp_path / "endless" / "metrics.jsonl"
    size = metrics.stat().st_size if metrics.exists() else 0
    time.sleep(0.5)
    assert (metrics.stat().st_size if metrics.exists() else 0) == size, "it writes no more"


def line(step, **more):
    return json.dumps({"step": step, "split": "train", "rows_per_s": 1000.0, "loss": 0.5, "num_steps": 40, **more})


def test_a_tail_reads_only_whole_lines(tmp_path):
    path = tmp_path / "metrics.jsonl"
    tail = _Tail(path)
    tail.read()
    assert (tail.step, tail.numbers) == (0, "")
    path.write_text(line(10) + "\n" + line(20, note="é")[:-5])
    tail.read()
    assert (tail.step, tail.num_steps) == (10, 40)
    path.write_text(line(10) + "\n" + line(20, note="é") + "\n")
    tail.read()
    assert tail.step == 20
    with path.open("a") as file:
        file.write(json.dumps({"step": 20, "split": "validation", "ne": 0.9}) + "\n")
    tail.read()
    assert tail.numbers == "1,000 rows/s · loss 0.5000 · NE 0.9000"


def test_a_tail_starts_anew_where_a_resumed_run_wrote_a_shorter_file(tmp_path):
    """Read on from the old place, it would begin in the middle of a line."""
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f"{line(step)}\n" for step in (10, 20, 30)))
    tail = _Tail(path)
    tail.read()
    (tmp_path / "partial").write_text(f"{line(10)}\n{line(12, a=1)}\n{line(14, b='longer than before')}\n{line(16)}\n")
    os.replace(tmp_path / "partial", path)
    tail.read()
    assert tail.step == 16


def test_an_undefined_ne_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(line(10) + "\n" + json.dumps({"step": 10, "split": "validation", "ne": None}) + "\n")
    tail = _Tail(path)
    tail.read()
    assert "NE" not in tail.numbers


def test_without_a_terminal_each_run_is_said_once(tmp_path, capsys):
    run = make_run("rows", tmp_path / "run")
    with Watch([run], "arms") as watch:
        watch.update()
        pretend_finished(run)
        (run.folder / "metrics.jsonl").write_text(line(40) + "\n")
        watch.update()
        watch.update()
    assert capsys.readouterr().err.splitlines() == ["arms: baseline, seed 0 done · 1,000 rows/s · loss 0.5000"]
