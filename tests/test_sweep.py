"""Sweeps: real ones by each of Hydra's launchers, and what is said of jobs that fail."""

from pathlib import Path

import pytest

from c2al.schema import DataError
from c2al.sweep import Job, conclude, jobs_of
from tests import runs


def fail(error: Exception):
    raise error


def ran(sweep: Path, number: int, program, *, apart: bool = False) -> Job:
    job = Job(number, f"seed={number}", f"outputs/{number}")
    job.run(program, sweep=str(sweep), blame=lambda e: e if isinstance(e, DataError) else None, apart=apart)
    return job


def test_failed_jobs_are_named_with_their_values_and_cause(tmp_path, capsys):
    ran(tmp_path, 0, lambda: 0)
    ran(tmp_path, 1, lambda: fail(DataError("no such column", value="x", remedy="mend it")))
    ran(tmp_path, 10, lambda: fail(KeyError("a bug")))
    assert "Traceback" in capsys.readouterr().err, "a bug's alone"
    Job(2, "seed=2", "outputs/2").write(str(tmp_path))
    assert conclude(str(tmp_path)) == 2
    printed = capsys.readouterr()
    assert printed.out == "job seed=0: outputs/0\n"
    assert printed.err.splitlines() == [
        "c2al: job seed=1 failed: no such column (value x). Remedy: mend it",
        "c2al: job seed=2 was lost: its process ended without a word; if memory ran out, run fewer at once",
        "c2al: job seed=10 failed: KeyError: 'a bug'",
        f"c2al: 3 of 4 jobs failed; their files are in {tmp_path}",
    ]


def test_a_sweep_of_good_jobs_is_good(tmp_path, capsys):
    ran(tmp_path, 0, lambda: 0)
    assert conclude(str(tmp_path)) == 0
    assert capsys.readouterr().err == ""


def test_what_jobs_print_apart_is_in_their_files(tmp_path, capsys):
    ran(tmp_path, 3, lambda: print("step 1") or 0, apart=True)
    assert capsys.readouterr().out == ""
    assert (tmp_path / "3.txt").read_text() == "step 1\n"
    assert jobs_of(str(tmp_path)) == [Job(3, "seed=3", "outputs/3", status=0)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "kinds"), [("joblib", ["adagrad", "sgd", "sdg"]), ("submitit_local", ["sgd", "sdg"])]
)
def test_jobs_at_once_have_folders_of_their_own_and_a_failing_one_is_named(launcher, kinds, tiny_rows, tmp_path):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher", reason="extra [launch]")
    key = "training.sparse.optimizer"
    others = [*runs.overrides(tiny_rows, tmp_path), *(["hydra.launcher.n_jobs=2"] if launcher == "joblib" else [])]
    words = [word for word in others if not word.startswith(("run_dir", "training.threads", "training.steps"))]
    own = [f"hydra/launcher={launcher}", "training.steps=2", f"{key}={','.join(kinds)}"]
    ended = runs.c2al("train", "-m", *words, *own, cwd=tmp_path)
    folders = {kind: f"outputs/synthetic-dhen-baseline-seed0,{key}={kind}" for kind in kinds[:-1]}
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout.splitlines() == [f"job {key}={kind}: {folder}" for kind, folder in folders.items()]
    failed, counted = ended.stderr.splitlines()[-2:]
    assert failed.startswith(f"c2al: job {key}=sdg failed: {key} cannot be that (value sdg). Remedy: ")
    assert counted.startswith(f"c2al: 1 of {len(kinds)} jobs failed; their files are in outputs/multirun/")
    for kind, folder in folders.items():
        report = runs.report_of(tmp_path / folder)
        assert report["config"]["training"]["sparse"]["optimizer"] == kind
        assert report["world_size"] == 1
    (sweep,) = (tmp_path / "outputs" / "multirun").iterdir()
    number = kinds.index("sgd")
    assert f"{folders['sgd']}/report.json" in (sweep / f"{number}.txt").read_text()
