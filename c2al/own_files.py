"""Which files in a folder a verb wrote itself, so that overwriting removes these and nothing of the user's.

A verb lists what it writes as patterns, relative to its folder: ``scores/*.parquet``. ``*``, ``?`` and ``[…]`` match
within one name; ``**`` as the last part matches everything below. A symbolic link matches nothing: c2al writes none.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from c2al.schema import DataError

NESTED_DEPTH = 3  # how far below a folder runs are looked for


def first_foreign(folder: Path, own: Sequence[str]) -> Path | None:
    """Return the first file or folder, in the order of names, that no pattern of ``own`` matches; None if all match."""
    return next((path for path, is_own in _walk(folder, own) if not is_own), None)


def refuse_foreign(folder: Path, own: Sequence[str], *, what: str, remedy: str) -> None:
    """Raise a DataError that names the first thing in a folder that overwriting ``what`` would not replace."""
    try:
        foreign = first_foreign(folder, own)
    except OSError as error:
        raise DataError(f"the folder cannot be read: {error.strerror}", file=str(folder), remedy=remedy) from None
    if foreign is not None:
        raise DataError(
            f"the folder holds something that {what} did not write, and overwrite=true removes nothing else",
            file=str(folder),
            value=str(foreign.relative_to(folder)),
            remedy=remedy,
        )


def remove_own(folder: Path, own: Sequence[str], *, keep: Sequence[str] = ()) -> None:
    """Remove what the patterns match, file by file, and the folders that are then empty; ``keep`` are names that stay.

    A file of the user's that appears meanwhile is not touched.
    """
    for entry in sorted(folder.iterdir()):
        if entry.name not in keep:
            _remove(entry, folder, own)


def _remove(path: Path, folder: Path, own: Sequence[str]) -> None:
    if path.is_dir() and not path.is_symlink():
        for entry in sorted(path.iterdir()):
            _remove(entry, folder, own)
        if not any(path.iterdir()):
            path.rmdir()
    elif not path.is_symlink() and _matches(path.relative_to(folder).parts, own):
        path.unlink(missing_ok=True)


def _walk(folder: Path, own: Sequence[str], inside: Path | None = None) -> Iterator[tuple[Path, bool]]:
    for path in sorted((inside or folder).iterdir()):
        parts = path.relative_to(folder).parts
        if path.is_symlink():
            yield path, False
        elif path.is_dir():
            if not _leads_to(parts, own):
                yield path, False
            else:
                yield from _walk(folder, own, path)
        else:
            yield path, _matches(parts, own)


def _matches(parts: Sequence[str], own: Sequence[str]) -> bool:
    return any(_fits(parts, pattern.split("/")) for pattern in own)


def _leads_to(parts: Sequence[str], own: Sequence[str]) -> bool:
    """Whether a file that a pattern matches could lie in this folder."""
    for pattern in own:
        wanted = pattern.split("/")
        if "**" in wanted and _fits(parts, wanted):
            return True
        if len(wanted) > len(parts) and all(map(fnmatchcase, parts, wanted)):
            return True
    return False


def _fits(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    if wanted[-1] == "**":
        head = wanted[:-1]
        return len(parts) > len(head) and all(map(fnmatchcase, parts, head))
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def enclosing(folder: Path, is_one: Callable[[Path], bool]) -> Path | None:
    """Return the nearest folder above, up to the root, of which ``is_one`` holds."""
    return next((parent for parent in Path(os.path.abspath(folder)).parents if is_one(parent)), None)


def nested(folder: Path, is_one: Callable[[Path], bool], depth: int = NESTED_DEPTH) -> Path | None:
    """Return the first folder below, a few levels deep, of which ``is_one`` holds."""
    try:
        below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError:
        return None
    for path in below:
        if is_one(path):
            return path
        if depth > 1 and (found := nested(path, is_one, depth - 1)):
            return found
    return None
