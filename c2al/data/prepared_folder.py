"""Write a prepared folder whole or not at all, one process at a time, and replace an old one without a gap.

A folder ``DIR`` is written as ``DIR.partial``. When it is complete, an old ``DIR`` is renamed to ``DIR.c2al-replaced``,
the new one takes the name, and the old one is deleted: a kill at any point leaves one of the two whole, and the next
preparation into ``DIR`` puts right what the kill left. ``DIR.lock`` is held meanwhile and goes when it is done. Object
stores have no locks and no renames: there, two preparations at once are the user's to avoid.
"""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from c2al.folder_lock import FileLock
from c2al.schema import REPLACED, SPLITS, DataError

log = logging.getLogger(__name__)

_SPLITS = "|".join(SPLITS)
# What preparing writes, relative to the folder. A view's files bear the names of the files of its rows.
_OWN = re.compile(
    rf"schema\.yaml|({_SPLITS})/part-\d+\.parquet|vocabularies/[^/]+\.parquet|examples/[^/]+\.(parquet|jsonl?|csv)"
)
_OWN_VIEW = re.compile(rf"schema\.yaml|({_SPLITS})/[^/]+\.parquet")


@contextmanager
def prepared_folder(to: str, overwrite: bool = False) -> Iterator[str]:
    """Yield a folder ``to + ".partial"`` to write in, which takes the name ``to`` when the block ends.

    The partial folder is deleted where the block raises; old data stays until the new is complete.

    Args:
        to: the folder, any fsspec path. It may be empty.
        overwrite: replace prepared data, in a folder that holds nothing else.

    Raises:
        DataError: the folder cannot be made or written, it holds something, or another process prepares it now.
    """
    files, target = _place(to)
    lock = _lock(files, target, to)
    partial = f"{target}.partial"
    made: list[str] = []
    try:
        with _said(to, "the folder cannot be made"):
            made = _make_parents(files, target)
            if lock:
                lock.take()
                lock.write()
        with _said(to, "the folder cannot be made"):
            _put_right(files, target)
            _refuse(files, target, to, overwrite)
            files.makedirs(partial)
        try:
            with _said(to, "the prepared data cannot be written", only_below=target):
                yield files.unstrip_protocol(partial)
                _replace(files, partial, target)
        except BaseException:
            with suppress(OSError):
                files.rm(partial, recursive=True)
            raise
        made = []
    finally:
        if lock:
            lock.release(remove=True)
        for folder in reversed(made):
            with suppress(OSError):
                os.rmdir(folder)


def is_view(folder: str) -> bool:
    """Whether a folder's ``schema.yaml`` says that it is a view, whatever has become of its rows."""
    files, root = fsspec.url_to_fs(folder.rstrip("/"))
    if not files.exists(f"{root}/schema.yaml"):
        return False
    return bool(re.search(rb"^view_of:", files.cat_file(f"{root}/schema.yaml"), re.MULTILINE))


def _place(to: str) -> tuple[fsspec.AbstractFileSystem, str]:
    name = "" if to is None else str(to).strip()
    if not name.rstrip("/"):
        raise DataError("to names no folder", value=repr(to), remedy="pass to=DIR, a new or empty folder")
    try:
        files, target = fsspec.url_to_fs(name.rstrip("/"))
    except (ValueError, ImportError) as error:
        remedy = "pass a local to=DIR, or install the package of that file system"
        raise DataError(f"the path cannot be used: {str(error).splitlines()[0]}", file=name, remedy=remedy) from None
    if isinstance(files, LocalFileSystem):
        target = os.path.realpath(target)  # a link to a folder stays a link
    return files, target


def _lock(files: fsspec.AbstractFileSystem, target: str, to: str) -> FileLock | None:
    if not isinstance(files, LocalFileSystem):
        return None
    remedy = "wait for it or stop it, or choose another to=DIR"
    return FileLock(Path(f"{target}.lock"), folder=to, problem="another process prepares this folder", remedy=remedy)


@contextmanager
def _said(to: str, problem: str, *, only_below: str | None = None) -> Iterator[None]:
    """Turn an OSError, of paths below ``only_below`` or of no path, into a DataError."""
    try:
        yield
    except OSError as error:
        other = only_below and error.filename and not str(error.filename).startswith(only_below)
        if other:
            raise
        reason = error.strerror or str(error).splitlines()[0]
        remedy = "free disk space, or choose another to=DIR" if only_below else "choose another to=DIR"
        raise DataError(f"{problem}: {reason}", file=str(to), remedy=remedy) from error


def _make_parents(files: fsspec.AbstractFileSystem, target: str) -> list[str]:
    """Make the folders above the target; return those that were not there, for a failure to remove."""
    if not isinstance(files, LocalFileSystem):
        return []
    missing = []
    parent = os.path.dirname(target)
    while not os.path.exists(parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    made = []
    try:
        for folder in reversed(missing):
            os.mkdir(folder)
            made.append(folder)
        if not os.path.isdir(parent):
            raise NotADirectoryError(20, "Not a directory", parent)
    except FileExistsError:  # another process is as far as this one
        os.makedirs(os.path.dirname(target), exist_ok=True)
    except OSError:
        for folder in reversed(made):
            with suppress(OSError):
                os.rmdir(folder)
        raise
    return made


def _put_right(files: fsspec.AbstractFileSystem, target: str) -> None:
    """Undo what a killed preparation left: half a folder, or the old data under its other name."""
    partial, old = f"{target}.partial", f"{target}{REPLACED}"
    if files.exists(partial):
        _remove(files, partial)
    if not files.exists(old):
        return
    if files.exists(f"{target}/schema.yaml"):
        _remove(files, old)
        return
    if files.isdir(target) and not files.ls(target):
        files.rmdir(target)
    if not files.exists(target):
        log.warning("%s is put back: a preparation was stopped while it replaced it", target)
        _move(files, old, target)


def _remove(files: fsspec.AbstractFileSystem, folder: str) -> None:
    """Delete what an earlier preparation left, and nothing that somebody else has put there."""
    if foreign := _foreign(files, folder, _OWN, _OWN_VIEW):
        remedy = "move it away: preparing uses this name for its own files"
        raise DataError("a folder that preparing did not write stands in the way", file=foreign, remedy=remedy)
    files.rm(folder, recursive=True)


def _refuse(files: fsspec.AbstractFileSystem, target: str, to: str, overwrite: bool) -> None:
    if not files.exists(target):
        return
    if not files.isdir(target):
        raise DataError("a file stands where the folder is to be", file=to, remedy="choose another to=DIR")
    if not files.ls(target):
        return
    if not files.exists(f"{target}/schema.yaml"):
        raise DataError("the folder holds something else", file=to, remedy="choose an empty or a new to=DIR")
    if not overwrite:
        raise DataError(
            "the folder holds prepared data already", file=to, remedy="pass overwrite=true, or choose another to=DIR"
        )
    if foreign := _foreign(files, target, _OWN_VIEW if is_view(target) else _OWN):
        raise DataError(
            "the folder holds something else beside prepared data, which overwrite=true would delete",
            file=foreign,
            remedy="move it elsewhere, or choose another to=DIR",
        )


def _foreign(files: fsspec.AbstractFileSystem, folder: str, *own: re.Pattern[str]) -> str | None:
    """Return the first file, link or empty folder that preparing does not write; None where there is none."""
    for path in sorted(_entries(files, folder)):
        name = path[len(folder) :].strip("/")
        if os.path.islink(path) or not any(pattern.fullmatch(name) for pattern in own):
            return path
    return None


def _entries(files: fsspec.AbstractFileSystem, folder: str) -> Iterator[str]:
    if not isinstance(files, LocalFileSystem):
        yield from files.find(folder)
        return
    if not os.path.isdir(folder) or os.path.islink(folder):
        yield folder
        return
    for place, folders, names in os.walk(folder):
        yield from (os.path.join(place, name) for name in names)
        for name in folders:
            path = os.path.join(place, name)
            known = place == folder and name in (*SPLITS, "vocabularies", "examples")
            if os.path.islink(path) or not (known or os.listdir(path)):
                yield path


def _replace(files: fsspec.AbstractFileSystem, partial: str, target: str) -> None:
    old = f"{target}{REPLACED}"
    there = files.exists(target)
    if there:
        _move(files, target, old)
    try:
        _move(files, partial, target)
    except BaseException:
        if there and not files.exists(target):
            _move(files, old, target)
        raise
    if there:
        with suppress(OSError):  # the next preparation tries again
            files.rm(old, recursive=True)


def _move(files: fsspec.AbstractFileSystem, source: str, target: str) -> None:
    if isinstance(files, LocalFileSystem):
        os.rename(source, target)
    else:
        files.mv(source, target, recursive=True)
