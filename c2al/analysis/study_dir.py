"""The folder of a study: which it may be, what a study writes into it, and how it is made empty for a new one."""

from collections.abc import Iterable
from pathlib import Path

from c2al.own_files import enclosing, refuse_foreign, remove_own
from c2al.schema import DataError
from c2al.training.run_dir import LEARNED, PARTS, RUN_FILES, check_folder, check_name, is_prepared, is_run, remove_run

REMEDY = "move it away, or choose another study.name=… or study.dir=…"
RESULTS: tuple[str, ...] = ("study.json", "report.html", "report.md", "pairs.json", "pairs.png")
RESULTS += ("study.partial", "report.partial", "report.partial[0-9]*")
RESULTS += tuple(f"{name}{part}" for name in RESULTS for part in PARTS)
STUDY_FILES = (*RESULTS, *LEARNED, *(f"runs/*/seed_*/{pattern}" for pattern in RUN_FILES))


def check_study_dir(name: object, folder: object, arms: Iterable[object], *, overwrite: bool) -> None:
    """Raise a DataError where a study may not begin, or go on, in its folder. Reads no data and no run."""
    check_name(name, "study.name")
    path = check_folder(folder, "study.dir")
    for arm in arms:
        check_name(arm, "study.arms")
        if "/" in str(arm):
            raise DataError("an arm's name is no folder's", value=arm, remedy="rename it in study.arms and variants")
    if is_run(path):
        raise DataError("the study's folder is that of a run", file=str(path), remedy=REMEDY)
    if outer := enclosing(path, is_run):
        raise DataError("the study's folder lies in that of a run", file=str(path), value=str(outer), remedy=REMEDY)
    if outer := path if is_prepared(path) else enclosing(path, is_prepared):
        raise DataError("the study's folder lies in prepared data", file=str(path), value=str(outer), remedy=REMEDY)
    if overwrite and path.is_dir():
        refuse_foreign(path, STUDY_FILES, what="a study", remedy=REMEDY)


def clear_study(folder: str) -> None:
    """Remove what a study wrote: its results first, so that a kill half way leaves none that speak of runs now gone.

    DataError where a run is under way in it.
    """
    path = Path(folder)
    if not path.is_dir():
        return
    remove_own(path, (*RESULTS, *LEARNED), keep=("runs",))
    for run in sorted(path.glob("runs/*/seed_*")):
        remove_run(run)
    remove_own(path, STUDY_FILES)
