"""Which folder a run may have, and what of it overwriting removes."""

import os
import shutil

import pytest
from omegaconf import OmegaConf

from c2al.own_files import first_foreign
from c2al.schema import DataError
from c2al.training.lock import FolderLock
from c2al.training.run_dir import RUN_FILES, check_folder, check_name, check_run_dir, remove_run
from tests import runs


def config(run_dir, **own):
    return OmegaConf.create({"name": "x", "run_dir": str(run_dir), "resume": False, "overwrite": False} | own)


def a_run(folder):
    for name in ("config.yaml", "run.lock", "checkpoints/step_00000003/progress.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    return folder


def prepared(folder):
    (folder / "train").mkdir(parents=True)
    (folder / "schema.yaml").write_text("x")
    return folder


@pytest.mark.parametrize("name", ["", None, " ", "\t", ".", "..", "a/..", "a/../b", "../a", "./a", "a//b", "/a", "a/"])
def test_names_that_are_refused(name):
    with pytest.raises(DataError, match=r"name .*set name="):
        check_name(name)


@pytest.mark.parametrize("name", [True, {"a": 1}, ["a"], "a\0b", "a\nb", "é" * 200])
def test_names_of_another_kind(name):
    with pytest.raises(DataError, match=r"name .*set name="):
        check_name(name)


@pytest.mark.parametrize("name", ["first", "exp/lr=0.1,seed=0", 7, "..hidden", "点击", "a b", "sw,seed=0"])
def test_names_that_are_taken(name):
    check_name(name)


@pytest.mark.parametrize("folder", ["", " ", None, "/", "//", "~", "s3://bucket/run", "a\0", ["a"], True])
def test_folders_that_are_refused(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"run_dir .*set run_dir="):
        check_folder(str(tmp_path) if folder == "~" else folder)


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(DataError, match="a file stands where the folder is to be"):
        check_run_dir(config(tmp_path / "run"))


def test_a_run_inside_a_run(tmp_path):
    a_run(tmp_path / "exp" / "lr1")
    for own in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(DataError, match=r"has another run in it.*exp/lr1"):
            check_run_dir(config(tmp_path / "exp", **own))
        with pytest.raises(DataError, match=r"lies in the folder of another run.*exp/lr1"):
            check_run_dir(config(tmp_path / "exp" / "lr1" / "deep" / "er", **own))
    check_run_dir(config(tmp_path / "exp" / "lr2"))


def test_a_run_inside_prepared_data(tmp_path):
    prepared(tmp_path / "data")
    for folder in ("data", "data/run", "data/train/run"):
        with pytest.raises(DataError, match="prepared data"):
            check_run_dir(config(tmp_path / folder, overwrite=True))


def test_a_users_config_yaml_makes_no_run(tmp_path):
    """A project may have one, and checkpoints of its own."""
    (tmp_path / "config.yaml").write_text("mine: 1")
    (tmp_path / "checkpoints").mkdir()
    check_run_dir(config(tmp_path / "outputs" / "first"))


def test_a_run_that_is_there(tmp_path):
    run = a_run(tmp_path / "run")
    with pytest.raises(DataError, match="a run is there already"):
        check_run_dir(config(run))
    check_run_dir(config(run, resume=True))
    check_run_dir(config(run, overwrite=True))
    for name in ("notes.md", "scores/mine.parquet", "checkpoints/best.pt", "logs/mine/x"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("x")
        with pytest.raises(DataError, match="something that a run did not write"):
            check_run_dir(config(run, overwrite=True))
        (run / name).unlink()
        if name == "logs/mine/x":
            (run / "logs/mine").rmdir()
    check_run_dir(config(run, overwrite=True))


@pytest.mark.parametrize(("rank", "local", "silent"), [(0, 0, True), (1, 1, True), (8, 0, False)])
def test_one_rank_of_each_host_says_it(tmp_path, monkeypatch, rank, local, silent):
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("LOCAL_RANK", str(local))
    with pytest.raises(DataError) as raised:
        check_run_dir(config(a_run(tmp_path / "run")))
    assert raised.value.agreed == silent


def test_all_that_a_run_writes_is_its_own(tiny_rows, tmp_path):
    """Train, evaluate on another split and step, discover: no file of theirs is taken for the user's."""
    from c2al import verbs
    from c2al.cli import compose

    run = tmp_path / "run"
    runs.trained(tiny_rows, run, "training.steps=8")
    verbs.evaluate(compose("evaluate", [f"run={run}", "split=train", "step=8"]))
    own = ["min_rows=20", "num_permutations=19", "num_bootstraps=20", "axes=[learned]", "learned.cohorts=2"]
    verbs.discover(compose("discover", [f"run={run}", *own]))
    assert (run / "pairs.json").exists()
    assert (run / "learned" / "schema.yaml").exists()
    assert first_foreign(run, RUN_FILES) is None
    remove_run(run)
    assert not run.exists()


def test_a_run_under_way_is_not_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("c2al.training.lock.WAIT_S", 0.1)
    run = a_run(tmp_path / "run")
    holder = FolderLock(run)
    holder.take()
    with pytest.raises(DataError, match="another run writes into this folder"):
        remove_run(run)
    holder.release()
    assert (run / "config.yaml").exists()


@pytest.mark.parametrize(
    "name", ["report.json", "metrics.jsonl", "weights/step_1.npz", "checkpoints/a/b", "config.yaml"]
)
def test_files_of_a_run_without_its_config_are_not_written_over(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match="a run is there already"):
        check_run_dir(config(tmp_path))


@pytest.mark.parametrize(
    "name", ["run.lock", "report.json.partial", "metrics.jsonl", "logs", "logs/rank_0.log", "checkpoints", "weights/x"]
)
def test_links_in_a_run_that_goes_on(tmp_path, name):
    run, mine = a_run(tmp_path / "run"), tmp_path / "mine"
    check_run_dir(config(run, resume=True))
    shutil.rmtree(run / "checkpoints")
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(mine)
    with pytest.raises(DataError, match=r"has a link that leads out of it.*cp -rL"):
        check_run_dir(config(run, resume=True))


def test_a_pipe_in_a_run_and_a_folder_that_is_a_link(tmp_path):
    run = a_run(tmp_path / "run")
    (tmp_path / "link").symlink_to(run)
    check_run_dir(config(tmp_path / "link", resume=True))
    os.mkfifo(run / "metrics.jsonl")
    with pytest.raises(DataError, match="neither a file nor a folder"):
        check_run_dir(config(tmp_path / "link", resume=True))


def test_what_a_kill_leaves_is_a_runs_own(tmp_path):
    for name in (
        "config.yaml",
        "asked.yaml",
        "evaluation_test.json",
        "scores/test.parquet",
        "weights/step_00000001.npz",
    ):
        for part in (".0123456789abcdef.partial", ""):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / f"{name}{part}").write_text("x")
    assert first_foreign(tmp_path, RUN_FILES) is None
