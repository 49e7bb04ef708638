"""One folder a run: opened once, written whole, cut back to where a run goes on."""

import errno
import json
import logging

import numpy as np
import pytest

from c2al import __version__
from c2al.parallel.ranks import Ranks
from c2al.schema import DataError
from c2al.training.run_folder import RunFolder, _LogFile, provenance, start_logged

ALONE = Ranks(rank=0, world_size=1, local_rank=0, local_world_size=1, device=None)
SECOND = Ranks(rank=1, world_size=1, local_rank=0, local_world_size=1, device=None)


@pytest.fixture(autouse=True)
def _keep_logging():
    """A run folder takes the root logger for itself."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, _ = handlers, root.setLevel(level)


def open_folder(path, **options):
    return RunFolder(str(path), ranks=ALONE, **options)


def finished(path):
    with open_folder(path) as folder:
        folder.write("config.yaml", "a: 1")
        folder.write_report({"metrics": {}})
    return path


def test_a_run_that_is_there_needs_a_word(tmp_path):
    run = finished(tmp_path / "run")
    with pytest.raises(DataError, match=r"a run is there already.*resume=true.*overwrite=true"):
        open_folder(run)
    with open_folder(run, resume=True):
        assert (run / "report.json").exists()
    with open_folder(run, overwrite=True):
        assert not (run / "report.json").exists()


@pytest.mark.parametrize("with_a_run", [False, True])
def test_overwriting_refuses_a_folder_that_holds_anything_else(tmp_path, with_a_run):
    """Say of a mistyped run_dir; also where a run has been laid into it before."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "precious.py").write_text("x")
    if with_a_run:
        finished(tmp_path)
    with pytest.raises(DataError, match=r"something that a run did not write.*src.*move it away"):
        open_folder(tmp_path, overwrite=True)
    assert (tmp_path / "src" / "precious.py").exists()
    assert (tmp_path / "report.json").exists() == with_a_run
    with open_folder(tmp_path, resume=True):
        assert (tmp_path / "src" / "precious.py").exists(), "nothing is removed where nothing is overwritten"


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"the run folder cannot be made.*set run_dir"):
        open_folder(tmp_path / "file" / "run")


def test_files_are_whole(tmp_path):
    with open_folder(tmp_path / "run") as folder:
        folder.write("config.yaml", "a: 1")
        folder.write_weights(7, {"a.b": np.arange(3, dtype=np.float32)})
        folder.write_report({"rows": 5})
    assert not list((tmp_path / "run").rglob("*.partial"))
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == {"rows": 5}
    with np.load(tmp_path / "run" / "weights" / "step_00000007.npz") as file:
        assert set(file) == {"a.b"}
        assert file["a.b"].tolist() == [0, 1, 2]


def test_other_ranks_write_their_log_alone(tmp_path):
    finished(tmp_path / "run")
    with RunFolder(str(tmp_path / "run"), ranks=SECOND, resume=True) as folder:
        folder.write("config.yaml", "b: 2")
        folder.write_weights(1, {"a": np.zeros(1)})
        folder.log_metrics({"step": 1})
        folder.forget_after(0)
    assert (tmp_path / "run" / "config.yaml").read_text() == "a: 1"
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    assert not list((tmp_path / "run" / "weights").iterdir())
    assert sorted(path.name for path in (tmp_path / "run" / "logs").iterdir()) == ["rank_0.log", "rank_1.log"]


def test_what_a_killed_run_wrote_too_far_is_dropped(tmp_path):
    with open_folder(tmp_path / "run") as folder:
        for step in (4, 8, 12):
            folder.log_metrics({"step": step, "split": "train", "loss": 0.5})
            folder.write_weights(step, {"a": np.zeros(1)})
        with (folder.path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 13, "spl')  # the kill came here
        folder.forget_after(8)
        folder.log_metrics({"step": 9, "split": "train", "loss": 0.4})
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 9]
    assert sorted(path.name for path in (tmp_path / "run" / "weights").iterdir()) == [
        *("step_00000004.npz", "step_00000008.npz"),
    ]


def test_curves_hold_the_numbers_of_the_metrics(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with open_folder(tmp_path / "run") as folder:
        for step in (10, 20):
            folder.log_metrics({"step": step, "epoch": 0, "split": "train", "loss": 1 / step, "losses": [1.0]})
        folder.log_metrics({"step": 20, "epoch": 0, "split": "validation", "ne": 0.9, "auc": None})
    curves = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert set(curves.Tags()["scalars"]) == {"train/loss", "train/losses/0", "validation/ne"}
    assert [(event.step, event.value) for event in curves.Scalars("train/loss")] == [
        (10, pytest.approx(0.1)),
        (20, pytest.approx(0.05)),
    ]


def test_a_failure_is_in_the_log_with_its_traceback(tmp_path):
    def fail():
        with open_folder(tmp_path / "run"):
            logging.getLogger("c2al.some").info("step 3")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    text = (tmp_path / "run" / "logs" / "rank_0.log").read_text()
    assert "INFO c2al.some: step 3" in text
    assert "the run failed" in text
    assert "ZeroDivisionError" in text


def test_a_job_started_again_goes_on_with_its_own_run_alone(tmp_path, monkeypatch):
    """Also where it was asked to replace what was there before; another job's run is replaced or refused as asked."""
    run = finished(tmp_path / "run")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    with open_folder(run, overwrite=True) as folder:
        assert folder.resume
        assert (run / "report.json").exists()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "another job")
    with pytest.raises(DataError, match="a run is there already"):
        open_folder(run)
    with open_folder(run, overwrite=True) as folder:
        assert not folder.resume
        assert not (run / "report.json").exists()


def test_what_the_launcher_of_a_job_writes_meanwhile_stays(tmp_path):
    log = finished(tmp_path / "run") / "launch" / "app" / "stderr.log"
    log.parent.mkdir(parents=True)
    log.write_text("rank 0 is on its way")
    with open_folder(tmp_path / "run", overwrite=True):
        assert log.exists()
        assert not (tmp_path / "run" / "report.json").exists()


def test_a_kill_while_a_run_is_replaced_leaves_nothing_of_it(tmp_path, monkeypatch):
    run = finished(tmp_path / "run")
    (run / "checkpoints" / "step_00000008").mkdir()
    (run / "checkpoints" / "step_00000008" / "progress.json").write_text("{}")
    monkeypatch.setattr("c2al.training.run_dir.remove_own", lambda *_, **__: exec("raise KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):
        open_folder(run, overwrite=True)
    monkeypatch.undo()
    with open_folder(run, resume=True):
        assert not list((run / "checkpoints").iterdir())
        assert not (run / "report.json").exists()


def test_one_run_writes_into_a_folder_and_others_may_evaluate_it(tmp_path, monkeypatch):
    monkeypatch.setattr("c2al.training.lock.WAIT_S", 0.2)
    with open_folder(tmp_path / "run"):
        with pytest.raises(DataError, match="another run writes into this folder"):
            open_folder(tmp_path / "run", resume=True)
        with open_folder(tmp_path / "run", resume=True, locked=False):
            pass
    with open_folder(tmp_path / "run", resume=True):
        pass


def test_a_validation_that_will_be_done_again_is_dropped(tmp_path):
    with open_folder(tmp_path / "run") as folder:
        for split in ("train", "validation"):
            folder.log_metrics({"step": 8, "split": split, "loss": 0.5})
        folder.forget_after(8)
        assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2
        folder.forget_after(8, validated=False)
    (line,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["split"] == "train"


def test_a_failure_before_the_folder_is_open_is_logged_too(tmp_path):
    with pytest.raises(ZeroDivisionError) as raised, start_logged(str(tmp_path / "run")):
        raise ZeroDivisionError
    log = tmp_path / "run" / "logs" / "rank_0.log"
    assert "ZeroDivisionError" in log.read_text()
    assert raised.value.__notes__ == [f"traceback in {log}"]


def test_provenance():
    import torch

    from c2al.parallel.ranks import start, stop

    ranks = start()
    try:
        told = provenance(ranks)
    finally:
        stop()
    assert told["c2al"] == __version__
    assert told["versions"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert told["versions"]["torchrec"]
    assert told["hardware"]["device"] == ranks.device.type
    assert told["world_size"] == 1
    json.dumps(told)


@pytest.mark.parametrize("failing", [["add_scalar", "close"], ["close"]])
def test_a_full_disk_is_named_whoever_writes(tmp_path, monkeypatch, failing):
    """The curves' writer may find it first, and closing it fails again; the lock is left all the same."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def log_twice() -> None:
        with open_folder(tmp_path / "run") as folder:
            folder.log_metrics({"step": 1, "ne": 0.9})
            for name in failing:
                monkeypatch.setattr(folder._tensorboard, name, full)
            folder.log_metrics({"step": 2, "ne": 0.9})

    with pytest.raises(OSError, match=f"No space left .*{tmp_path}"):
        log_twice()
    open_folder(tmp_path / "run", resume=True).__exit__(None, None, None)


def test_a_log_on_a_full_disk_hides_no_error(tmp_path):
    """What the disk does not take is dropped; closing must not raise in the place of what went wrong."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "rank_0.log").symlink_to("/dev/full")
    handler = _LogFile(tmp_path, 0)
    handler.handle(logging.makeLogRecord({"msg": "lost"}))
    handler.close()
