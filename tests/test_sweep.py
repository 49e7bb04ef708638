"""Sweeps: real ones by each of Hydra's launchers, and what is said of jobs that fail."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from c2al.parallel.signals import CTRL_C
from c2al.schema import DataError
from c2al.sweep import MOST_BYTES, Job, conclude, jobs_of, refuse_shared, stop, suffix_of
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
        f"c2al: of 4 jobs 3 failed; their files are in {tmp_path}",
    ]


def test_a_sweep_of_good_jobs_is_good(tmp_path, capsys):
    ran(tmp_path, 0, lambda: 0)
    assert conclude(str(tmp_path)) == 0
    assert capsys.readouterr().err == ""


def test_what_jobs_print_apart_is_in_their_files(tmp_path, capsys):
    ran(tmp_path, 3, lambda: print("step 1") or 0, apart=True)
    assert capsys.readouterr().out == ""
    assert (tmp_path / "3.txt").read_text() == "step 1\n"
    assert jobs_of(str(tmp_path)) == [Job(3, "seed=3", "outputs/3", status=0, pid=os.getpid())]


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
    assert counted.startswith(f"c2al: of {len(kinds)} jobs 1 failed; their files are in outputs/multirun/")
    for kind, folder in folders.items():
        report = runs.report_of(tmp_path / folder)
        assert report["config"]["training"]["sparse"]["optimizer"] == kind
        assert report["world_size"] == 1
    (sweep,) = (tmp_path / "outputs" / "multirun").iterdir()
    number = kinds.index("sgd")
    assert f"{folders['sgd']}/report.json" in (sweep / f"{number}.txt").read_text()


def test_jobs_of_a_stopped_sweep_do_not_begin(tmp_path, capsys):
    ran(tmp_path, 0, lambda: 0, apart=True)
    Job(1, "seed=1", "outputs/1").write(str(tmp_path))
    stop(str(tmp_path), "SIGTERM")
    ran(tmp_path, 2, lambda: pytest.fail("it began"), apart=True)
    assert conclude(str(tmp_path), stopped=True) == 1
    assert capsys.readouterr().err.splitlines() == [
        "c2al: job seed=1 had not ended when the sweep was stopped: outputs/1",
        "c2al: job seed=2 stopped by SIGTERM before it began",
        f"c2al: of 3 jobs 2 stopped; their files are in {tmp_path}",
    ]


def test_a_job_that_the_signal_did_not_reach_is_stopped(tmp_path):
    with subprocess.Popen(["sleep", "1000"]) as other:
        Job(0, "seed=0", "outputs/0", pid=other.pid).write(str(tmp_path))
        stop(str(tmp_path), CTRL_C)
        assert other.poll() is None, "it has had the terminal's own"
        stop(str(tmp_path), "SIGTERM")
        assert other.wait(runs.PATIENT_S) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("words", "same", "suffix"),
    [
        (["seed=1", "model=dhen"], ["model"], "seed=1"),
        (["+b=2", "a=1"], [], "a=1,b=2"),
        (["name=x", "run_dir=y", "seed=1"], [], "seed=1"),
        (["data.path='s3://b/c d'"], [], "data.path=s3:__b_c d"),
        (["method=c2al"], ["method"], ""),
        ([], [], ""),
    ],
)
def test_a_job_has_its_own_values_in_its_folder(words, same, suffix):
    assert suffix_of(words, same) == suffix


def test_long_values_are_cut_and_stay_apart():
    found = {suffix_of([f"x={'ä' * 100}{end}"], []) for end in "ab"}
    assert len(found) == 2
    assert all(len(each.encode()) <= MOST_BYTES for each in found)


def test_two_jobs_do_not_share_a_place():
    made: dict[str, str] = {}
    refuse_shared("outputs/a", "seed=0", made, key="to")
    refuse_shared("outputs/ab", "seed=1", made, key="to")
    for target in ("outputs/a", "outputs/./a/", "outputs/a/b", "outputs"):
        with pytest.raises(DataError, match=r"two jobs of the sweep would write into one place, seed=.* and seed=2"):
            refuse_shared(target, "seed=2", made, key="to")


@pytest.mark.slow
def test_jobs_under_a_name_of_the_users_own_have_a_folder_each(tiny_rows, tmp_path):
    words = [word for word in runs.overrides(tiny_rows, tmp_path) if not word.startswith(("run_dir", "training.steps"))]
    ended = runs.c2al("train", "-m", *words, "training.steps=2", "name=mine", "seed=3,4", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    made = sorted(path.name for path in (tmp_path / "outputs").glob("mine*"))
    assert made == ["mine,seed=3", "mine,seed=4"]
    assert [runs.report_of(tmp_path / "outputs" / name)["config"]["seed"] for name in made] == [3, 4]
