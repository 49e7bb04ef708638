"""The folder of a run: which names it may have, what a run writes into it, and when a run may begin there.

Checked before torch is imported and before any data is read or made. Imports nothing heavy.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from c2al.own_files import enclosing, nested, refuse_foreign, remove_own
from c2al.schema import SPLITS, DataError
from c2al.training.lock import NAME as LOCK
from c2al.training.lock import FolderLock, goes_on

LAUNCH = "launch"  # in a run's folder, what the launchers of this job and of former ones write
PARTS = (".partial", ".*.partial")  # of former versions, and as c2al.plain_files names them
WHOLE = ("config.yaml", "asked.yaml", "report.json", "metrics.jsonl", "pairs.json", "pairs.png", "evaluation_*.json")
CHECKPOINT_FILES = (".metadata", ".metadata.tmp", "__*_*.distcp", "progress.json", "progress.json.damaged")
LEARNED_SUFFIXES = ("", ".partial", ".c2al-replaced")  # as c2al.data.prepared_folder has them
RUN_FILES = (  # all that c2al writes into a run's folder: train, and by default evaluate and discover
    *WHOLE,
    *(f"{name}{part}" for name in WHOLE for part in PARTS),
    *(LOCK, "output.log", "non_finite_step_*_rank_*.pt"),
    *(f"checkpoints/step_[0-9]*/{name}" for name in CHECKPOINT_FILES),
    *(f"scores/{split}{suffix}" for split in SPLITS for suffix in (".parquet", ".partial", ".parquet.*.partial")),
    *(f"scores/{split}_step_[0-9]*" for split in SPLITS),
    *(f"scores/{split}_units.*" for split in SPLITS),
    *("weights/step_[0-9]*.npz", "weights/step_[0-9]*.partial"),
    *("tensorboard/events.out.tfevents.*", "logs/rank_[0-9]*.log", f"{LAUNCH}/**"),
    *(f"learned{suffix}/schema.yaml" for suffix in LEARNED_SUFFIXES),
    *(f"learned{suffix}/{s}/*.parquet" for suffix in LEARNED_SUFFIXES for s in SPLITS),
    "learned.lock",
)
WRITTEN = ("scores", "weights", "tensorboard", "logs", LAUNCH)  # folders in which files are written
LEARNED = tuple(pattern for pattern in RUN_FILES if pattern.startswith("learned"))
ELSEWHERE = "choose another name=…, or run_dir=…"
MOVE_IT = "move it away, or choose another name=… or run_dir=…"


def check_name(name: object, key: str = "name") -> None:
    """Raise a DataError where a run's or a study's name would not give it a folder of its own below ``outputs/``."""
    text, shown = ("", "null") if name is None else (str(name), repr(name))
    remedy = f"set {key}=… to a name such as first, or exp/first"
    if isinstance(name, bool) or not isinstance(name, str | int | float | None):
        raise DataError(f"{key} is no name", value=name, remedy=remedy)
    if not text.strip():
        raise DataError(
            f"{key} is empty; was a shell variable not set?",
            value=shown,
            remedy=remedy,
        )
    if text.startswith("/"):
        raise DataError(
            f"{key} is a path", value=text, remedy=f"{remedy}; a folder elsewhere is run_dir=… or study.dir=…"
        )
    if any(part.strip() in ("", ".", "..") for part in text.split("/")):
        raise DataError(f"{key} has a part that names no folder of its own", value=text, remedy=remedy)
    _check_characters(text, key, remedy)


def check_folder(folder: object, key: str = "run_dir") -> Path:
    """Return the folder as a path; DataError where it can be none for a run or a study."""
    remedy = f"set {key}=… to a folder of its own, such as outputs/first"
    if not isinstance(folder, str | int | float | os.PathLike) or isinstance(folder, bool):
        folder = "null" if folder is None else folder
        raise DataError(f"{key} is no folder", value=folder, remedy=remedy)
    text = str(folder)
    if not text.strip():
        raise DataError(f"{key} is empty; was a shell variable not set?", value=repr(folder), remedy=remedy)
    if "://" in text:
        problem = f"{key} is a URL, and a run writes its files into a folder"
        raise DataError(problem, value=text, remedy=f"{remedy}; checkpoints may go to a URL: training.checkpoints=…")
    _check_characters(text, key, remedy)
    path = Path(text)
    if os.path.abspath(path).replace("//", "/") in ("/", os.path.expanduser("~").rstrip("/")):
        raise DataError(f"{key} is the root or the home folder", value=text, remedy=remedy)
    if os.path.lexists(path) and not path.is_dir():
        raise DataError("a file stands where the folder is to be", file=text, remedy=remedy)
    return path


def _check_characters(text: str, key: str, remedy: str) -> None:
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise DataError(f"{key} has a control character", value=repr(text), remedy=remedy)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise DataError(f"{key} is no UTF-8", value=ascii(text), remedy=remedy)
    if any(len(part.encode("utf-8", "surrogateescape")) > 255 for part in text.split("/")):
        raise DataError(f"{key} has a part of more than 255 bytes", value=f"{text[:60]}…", remedy=remedy)


def check_run_dir(config: Any) -> None:
    """Raise a DataError where the run that a config describes may not begin in its folder.

    Every rank asks for itself: no rank has written anything there before all have come together. Of the ranks on one
    host one says it.
    """
    try:
        check_name(config.name)
        path = check_folder(config.run_dir)
        refuse_misplaced(path)
        if path.is_dir():
            refuse_links(path, checkpoints=True)
        before = FolderLock(path).read()
        if not (config.resume or goes_on(before)):
            refuse_existing(path, overwrite=config.overwrite, clearing=bool(before.get("clearing")))
    except DataError as error:
        error.agreed = int(os.environ.get("RANK", 0)) == 0 or int(os.environ.get("LOCAL_RANK", 0)) > 0
        raise


def refuse_existing(path: Path, *, overwrite: bool, clearing: bool = False) -> None:
    """Raise a DataError where a run is there already, or where overwriting would meet files that are not a run's."""
    if clearing:
        return  # begun by a run that was killed, after it had looked
    if overwrite:
        if path.is_dir():
            refuse_foreign(path, RUN_FILES, what="a run", remedy=MOVE_IT)
    elif has_run_files(path):
        raise DataError(
            "a run is there already",
            file=str(path),
            remedy="go on with it by resume=true, replace it by overwrite=true, or choose another name=…",
        )


def has_run_files(path: Path) -> bool:
    """Whether a folder holds what only a run writes, finished or not."""
    files = any(os.path.lexists(path / name) for name in ("config.yaml", "report.json", "metrics.jsonl"))
    return files or any((path / name).is_dir() and any((path / name).iterdir()) for name in ("weights", "checkpoints"))


def refuse_links(run: Path, *, checkpoints: bool = False) -> None:
    """Raise a DataError where a link in a run's folder would have what is written into it land elsewhere.

    Whoever is given a run's folder evaluates it or goes on with it, and a link in it would be followed, a pipe waited
    for. The folder itself may be a link. ``checkpoints``: they are written as well, and not only read.
    """
    root = run.resolve()
    for path in _written_into(run, checkpoints):
        mode = path.lstat().st_mode
        if not (stat.S_ISLNK(mode) or stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            problem = "the run's folder has something that is neither a file nor a folder"
            raise DataError(problem, file=str(path), remedy="remove it")
        if stat.S_ISLNK(mode) and not path.resolve().is_relative_to(root):
            problem = "the run's folder has a link that leads out of it, and c2al writes there"
            remedy = "copy the folder with the files instead of the links: cp -rL FOLDER COPY"
            if path == run / "checkpoints":
                remedy += "; checkpoints elsewhere are training.checkpoints=…"
            raise DataError(problem, file=str(path), value=os.readlink(path), remedy=remedy)


def _written_into(run: Path, checkpoints: bool) -> Iterator[Path]:
    for path in sorted(run.iterdir()):
        if path.name != "checkpoints" or checkpoints:
            yield path
    for name in (*WRITTEN, *(("checkpoints",) if checkpoints else ())):
        if (run / name).is_dir():
            yield from sorted((run / name).iterdir())


def refuse_misplaced(path: Path, key: str = "the run's folder") -> None:
    """Raise a DataError where a folder lies in a run's or in prepared data, or has other runs in it."""
    if outer := enclosing(path, is_run):
        raise DataError(f"{key} lies in the folder of another run", file=str(path), value=str(outer), remedy=ELSEWHERE)
    if is_prepared(path):
        raise DataError(f"{key} holds prepared data", file=str(path), remedy=ELSEWHERE)
    if outer := enclosing(path, is_prepared):
        raise DataError(f"{key} lies in prepared data", file=str(path), value=str(outer), remedy=ELSEWHERE)
    if inner := nested(path, is_run):
        raise DataError(f"{key} has another run in it", file=str(path), value=str(inner), remedy=ELSEWHERE)


def is_run(path: Path) -> bool:
    """Whether a folder is a run's, finished or not."""
    return (path / "config.yaml").is_file() and any((path / name).is_file() for name in (LOCK, "metrics.jsonl"))


def is_prepared(path: Path) -> bool:
    """Whether a folder holds prepared data."""
    return (path / "schema.yaml").is_file() and (path / "train").is_dir()


def clear_run(path: Path, lock: FolderLock) -> None:
    """Remove all that a run wrote, under the lock that is held on it.

    The lock says ``clearing`` until its next writing: a kill half way must not leave an old checkpoint to a new run.
    """
    lock.write(clearing=True)
    remove_own(path, RUN_FILES, keep=(LOCK, LAUNCH))


def remove_run(path: Path) -> None:
    """Remove a run with its folder, unless another process writes into it or it has files of the user's."""
    lock = FolderLock(path)
    lock.take()
    try:
        clear_run(path, lock)
        remove_own(path, (LOCK, f"{LAUNCH}/**"))
    finally:
        lock.release()
    if not any(path.iterdir()):
        path.rmdir()
