"""Checkpoints are whole or not there; what is damaged is passed over, and said."""

import errno
import json
import shutil
import subprocess

import pytest
import torch.distributed.checkpoint as dcp

from c2al.schema import DataError
from c2al.training.checkpoint import Checkpoints
from c2al.training.checkpoint_store import Store
from c2al.training.evaluate_run import evaluate_run
from c2al.training.show_checkpoint import look
from tests import runs

C2AL = ("method=c2al", *runs.PAIR)


@pytest.fixture
def run(whole_run, tmp_path):
    """A copy of the whole run, with checkpoints of steps 16 and 24, to be spoilt."""
    return shutil.copytree(whole_run, tmp_path / "run")


def names(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def resumed(rows, run):
    (run / "report.json").unlink()
    return runs.trained(rows, run, *C2AL, "resume=true")


def test_what_a_kill_left_half_written_is_passed_over(run, whole_run, tiny_rows):
    """A partial folder of a later step, and one in the way of the next checkpoint."""
    newest = run / "checkpoints" / "step_00000024"
    newest.rename(newest.with_suffix(".partial"))
    (newest.with_suffix(".partial") / "stray").write_text("of before")
    resumed(tiny_rows, run)
    runs.assert_same_run(whole_run, run)
    assert names(run) == ["step_00000016", "step_00000024"]
    assert not (newest / "stray").exists()


def empty_tensors(checkpoint):
    for path in checkpoint.glob("*.distcp"):
        path.write_bytes(b"")


def truncate_tensors(checkpoint):
    for path in checkpoint.glob("*.distcp"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove_tensors(checkpoint):
    for path in checkpoint.glob("*.distcp"):
        path.unlink()


def remove_metadata(checkpoint):
    (checkpoint / ".metadata").unlink()


def empty_metadata(checkpoint):
    (checkpoint / ".metadata").write_bytes(b"")


def empty_progress(checkpoint):
    (checkpoint / "progress.json").write_text("")


DAMAGES = [
    *(empty_tensors, truncate_tensors, remove_tensors),
    *(remove_metadata, empty_metadata, empty_progress),
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_from_a_damaged_checkpoint_back_to_the_one_before(run, whole_run, tiny_rows, damage, capfd):
    """The run ends in the same numbers, the user is told, and the damaged one is replaced."""
    damage(run / "checkpoints" / "step_00000024")
    resumed(tiny_rows, run)
    runs.assert_same_run(whole_run, run)
    told = [line for line in capfd.readouterr().err.splitlines() if "step_00000024" in line]
    assert len(told) == 1
    assert "step_00000016" in told[0]
    assert names(run) == ["step_00000016", "step_00000024", "step_00000024.damaged"]
    resumed(tiny_rows, run)
    assert "damaged" not in capfd.readouterr().err


def test_nothing_but_damaged_ones(run, tiny_rows):
    for checkpoint in (run / "checkpoints").iterdir():
        truncate_tensors(checkpoint)
    before = names(run)
    with pytest.raises(DataError, match=r"no checkpoint can be read: .* bytes of .*Remedy: .*overwrite=true"):
        resumed(tiny_rows, run)
    assert names(run) == before, "nothing is thrown away"


def runs_out(*_, **__):
    raise MemoryError


@pytest.mark.parametrize(
    ("owner", "name"), [(Store, "read"), (Store, "damage"), (dcp, "load"), (dcp.FileSystemReader, "read_data")]
)
def test_no_checkpoint_is_taken_for_damaged_where_memory_runs_out(run, tiny_rows, owner, name, monkeypatch, capfd):
    before = names(run)
    monkeypatch.setattr(owner, name, runs_out)
    with pytest.raises(DataError, match=r"memory ran out .*MemoryError.* Remedy: give the process more memory"):
        resumed(tiny_rows, run)
    assert "damaged" not in capfd.readouterr().err
    assert names(run) == before
    if owner is dcp.FileSystemReader:
        with pytest.raises(DataError, match="memory ran out while a checkpoint was read: rank 0: MemoryError"):
            evaluate_run(str(run), split="test", step=None, axes=None)


def test_a_checkpoint_of_another_model(run, tiny_rows):
    """Refused by name, in one short line, and no checkpoint is taken for damaged."""
    before = names(run)
    (run / "config.yaml").unlink()  # else the config is found to be another, see test_resume
    with pytest.raises(DataError, match=r"table \w+ is .* × 8 in the checkpoint, and .* × 16 in the model") as raised:
        runs.trained(tiny_rows, run, *C2AL, "resume=true", "model.dim=16")
    assert len(str(raised.value)) < 1000
    assert names(run) == before


@pytest.mark.parametrize(
    ("options", "state"),
    [
        (("training.sparse.optimizer=rowwise_adagrad",), "optimizer"),
        (("training.sparse.optimizer=sgd",), "optimizer"),
        (("training.average=0.9",), "average"),
    ],
)
def test_a_state_that_does_not_fit_is_left_only_by_name(run, tiny_rows, options, state, capfd):
    (run / "config.yaml").unlink()
    with pytest.raises(DataError, match=rf"resume_without=\[{state}\]"):
        runs.trained(tiny_rows, run, *C2AL, "resume=true", *options)
    shutil.rmtree(run / "checkpoints" / "step_00000024")
    runs.trained(tiny_rows, run, *C2AL, "resume=true", *options, f"resume_without=[{state}]")
    assert f"going on from {run}/checkpoints/step_00000016 without its {state}" in capfd.readouterr().err
    runs.trained(tiny_rows, run, *C2AL, "resume=true", *options, f"resume_without=[{state}]")
    assert "without its" not in capfd.readouterr().err, "what fits is not left"


def test_what_was_under_way_at_a_kill_is_told(run, tiny_rows, capfd):
    newest = run / "checkpoints" / "step_00000024"
    newest.rename(newest.with_suffix(".partial"))
    resumed(tiny_rows, run)
    said = capfd.readouterr().err
    assert "step_00000024 was not finished when the run ended, going on from that of step 16" in said


def test_written_at_once_or_beside_the_steps_it_is_the_same(whole_run, tiny_rows, tmp_path):
    runs.trained(tiny_rows, tmp_path / "run", *C2AL, "training.checkpoint_async=false")
    runs.assert_same_run(whole_run, tmp_path / "run")
    files = [sorted(path.name for path in (each / "checkpoints").rglob("*")) for each in (whole_run, tmp_path / "run")]
    assert files[0] == files[1]


def test_a_save_that_fails_stops_the_run(tiny_rows, tmp_path, monkeypatch):
    """The checkpoint before is whole."""
    finish = Store.finish

    def full(self, step, progress, digests):
        if step == 16:
            raise OSError(errno.ENOSPC, "No space left on device")
        finish(self, step, progress, digests)

    monkeypatch.setattr(Store, "finish", full)
    with pytest.raises(DataError, match=r"step 16 could not be written: .*No space left .*free disk space"):
        runs.trained(tiny_rows, tmp_path / "run", *C2AL)
    assert names(tmp_path / "run") == ["step_00000008", "step_00000016.partial"]
    assert not (tmp_path / "run" / "report.json").exists()


def test_a_full_disk(tiny_rows, tmp_path):
    """A real one: the run ends and names it, the checkpoint before is whole, and with more room the run goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)], check=False).returncode:
        pytest.skip("mounting is not permitted here")
    words = (f"training.checkpoints={disk}/checkpoints", "training.evaluations=0", "training.snapshots=0")
    try:
        with pytest.raises(DataError, match=r"step 16 could not be written: .*No space left .*free disk space"):
            runs.trained(tiny_rows, tmp_path / "run", *words)
        assert sorted(path.name for path in (disk / "checkpoints").iterdir()) == [
            "step_00000008",
            "step_00000016.partial",
        ]
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        report = runs.trained(tiny_rows, tmp_path / "run", *words, "resume=true")
        assert report["progress"]["step"] == 24
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_checkpoints_behind_a_url(whole_run, tiny_rows, tmp_path, monkeypatch):
    """Storage without a folder of its own; what it says of itself is found there."""
    url = f"memory:/{tmp_path}/far"
    save = Checkpoints.save

    def killed(self, progress, **options):
        save(self, progress, **options)
        if progress["step"] == 16:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        runs.trained(tiny_rows, tmp_path / "run", *C2AL, f"training.checkpoints={url}")
    monkeypatch.undo()
    assert not list((tmp_path / "run" / "checkpoints").iterdir())
    runs.trained(tiny_rows, tmp_path / "run", *C2AL, f"training.checkpoints={url}", "resume=true")
    runs.assert_same_run(whole_run, tmp_path / "run")
    assert [each["step"] for each in look(url)] == [16, 24]


def test_how_many_are_kept(tiny_rows, tmp_path):
    options = ("training.checkpoint_every=4", "training.evaluations=0", "training.snapshots=0")
    runs.trained(tiny_rows, tmp_path / "three", *options, "training.keep_checkpoints=3")
    assert names(tmp_path / "three") == ["step_00000016", "step_00000020", "step_00000024"]
    runs.trained(tiny_rows, tmp_path / "one", *options, "training.keep_checkpoints=1")
    assert names(tmp_path / "one") == ["step_00000024"]


def test_the_best_is_kept_however_old(tiny_rows, tmp_path):
    """A learning rate that only makes it worse: the first evaluation stays the best."""
    options = ("training.early_stopping=9", "training.evaluations=12", "training.dense.learning_rate=0.3")
    report = runs.trained(tiny_rows, tmp_path / "run", *options, "training.checkpoint_every=4", "training.warmup=0")
    best = report["progress"]["best_step"]
    assert best < 16
    assert names(tmp_path / "run") == [f"step_{best:08d}", "step_00000020", "step_00000024"]


def test_progress_is_that_of_the_step(whole_run):
    progress = json.loads((whole_run / "checkpoints" / "step_00000016" / "progress.json").read_text())
    assert (progress["step"], progress["step_in_epoch"], progress["rows"]) == (16, 16, 16 * 128)
