"""Where a study may be, and what of its folder goes when it is made anew."""

import pytest

from c2al.analysis.study_dir import check_study_dir, clear_study
from c2al.schema import DataError


def a_study(folder):
    for name in (
        "study.json",
        "report.html",
        "pairs.json",
        "pairs.png",
        "learned/schema.yaml",
        "learned/train/0.parquet",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    for name in ("config.yaml", "run.lock", "asked.yaml", "output.log", "scores/test.parquet"):
        path = folder / "runs" / "c2al" / "seed_0" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    return folder


def test_all_of_a_study_goes_and_nothing_else(tmp_path):
    study = a_study(tmp_path / "st")
    check_study_dir("st", study, ["baseline", "c2al"], overwrite=True)
    (study / "appeared.txt").write_text("x")
    clear_study(str(study))
    assert [path.name for path in study.iterdir()] == ["appeared.txt"]
    clear_study(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("foreign", ["notes.md", "runs/mine.txt", "runs/c2al/seed_0/mine.txt", "runs/c2al/seed_0/x/y"])
def test_a_study_that_holds_something_else(tmp_path, foreign):
    study = a_study(tmp_path / "st")
    (study / foreign).parent.mkdir(parents=True, exist_ok=True)
    (study / foreign).write_text("x")
    with pytest.raises(DataError, match="something that a study did not write"):
        check_study_dir("st", study, ["c2al"], overwrite=True)
    check_study_dir("st", study, ["c2al"], overwrite=False)
    assert (study / "study.json").exists()


def test_folders_and_names_that_are_refused(tmp_path):
    study = a_study(tmp_path / "st")
    run = study / "runs" / "c2al" / "seed_0"
    for folder, said in (
        (run, "that of a run"),
        (run / "inner", "lies in that of a run"),
        ("", "empty"),
        ("/", "root"),
    ):
        with pytest.raises(DataError, match=said):
            check_study_dir("st", str(folder), ["c2al"], overwrite=False)
    for name in ("", None, "..", "a/../b"):
        with pytest.raises(DataError, match=r"study\.name"):
            check_study_dir(name, study, ["c2al"], overwrite=False)
    for arm in ("../x", "a/b", ""):
        with pytest.raises(DataError, match="arm"):
            check_study_dir("st", study, [arm], overwrite=False)
