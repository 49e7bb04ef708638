"""Find the data files below a folder, behind links too, and say which files were left out and why.

Left out are hidden files and folders, those that begin with ``_`` (but ``_key=value`` is a partition), files of other
endings, empty text files, prepared data, and what is reached a second time. A link that leads nowhere is an error.
"""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import glob_translate

from c2al.schema import REPLACED, SPLITS, DataError

ENDINGS = (
    *(".parquet", ".pq"),
    *(f"{kind}{packed}" for kind in (".csv", ".tsv") for packed in ("", ".gz", ".bz2", ".xz", ".zst")),
)
_TEXT = (".csv", ".tsv")


@dataclass(frozen=True)
class DataFile:
    """One file: its path, the ``key=value`` folders above it, and the split where folders are named by split."""

    path: str
    partitions: dict[str, str]
    split: str | None


@dataclass
class FoundFiles:
    """The data files in order of their names, and (path, reason) of what was left out."""

    files: list[DataFile] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    @property
    def told(self) -> str | None:
        """One line about what was left out; None where nothing was."""
        if not self.left_out:
            return None
        reasons = ", ".join(f"{num} {reason}" for reason, num in Counter(why for _, why in self.left_out).items())
        return f"not read: {reasons}; the first: {self.left_out[0][0]}"


HIDDEN, OTHER, EMPTY = "hidden or named _…", "of other endings", "empty"
AGAIN, LOOP, PREPARED = "reached twice", "linked to a folder above", "prepared data"


def find_data_files(folder: str, *, skip: str | None = None) -> FoundFiles:
    """Find the data files of a folder, a single file, or a pattern with ``*``, ``?`` or ``[``.

    Args:
        folder: any fsspec path or pattern. Folders that a pattern matches are searched.
        skip: a folder that is about to be written; what is in it is not raw data.

    Raises:
        DataError: nothing is there, no such kind of path can be read, a link leads nowhere, or the only file lies in
            ``skip``.
    """
    try:
        storage, root = fsspec.url_to_fs(folder.rstrip("/") or folder)
    except (ImportError, ValueError) as error:  # a file system whose package is missing, or that nobody knows
        remedy = "install the package of that file system, or fix the path"
        raise DataError(f"the path cannot be read: {error}", file=folder, remedy=remedy) from None
    local = isinstance(storage, LocalFileSystem)
    search = _Search(storage, _own(skip) if skip else (), local)
    if not storage.exists(root) and any(sign in root for sign in "*?["):
        fixed = re.split(r"[*?\[]", root)[0].rpartition("/")[0]
        search.match(root, fixed)
        remedy = f"fix the pattern, or the path; files end in {', '.join(ENDINGS)}"
        return search.result(folder, fixed, "no data file of that pattern", remedy)
    if not storage.exists(root):
        raise DataError("no such file or folder", file=folder, remedy="fix the path")
    if storage.isfile(root):
        if search.is_own(root):
            remedy = "choose another to=DIR"
            raise DataError("the file lies in the folder that is to be written", file=folder, remedy=remedy)
        return FoundFiles([DataFile(storage.unstrip_protocol(root), {}, None)])
    search.walk(root)
    return search.result(folder, root, f"no file that ends in {', '.join(ENDINGS)}", "fix the path")


def _own(skip: str) -> tuple[str, ...]:
    storage, path = fsspec.url_to_fs(str(skip).rstrip("/"))
    path = os.path.realpath(path) if isinstance(storage, LocalFileSystem) else path
    return (path, f"{path}.partial", f"{path}{REPLACED}", f"{path}.lock")


class _Search:
    def __init__(self, storage: fsspec.AbstractFileSystem, own: tuple[str, ...], local: bool) -> None:
        self.storage, self.own, self.local = storage, own, local
        self.paths: list[str] = []
        self.left_out: list[tuple[str, str]] = []

    def match(self, pattern: str, fixed: str) -> None:
        """Add the files that a pattern matches, and all that folders hold that it matches."""
        if self.local and "**" in pattern:  # glob would follow links in a circle until the system refuses
            self.walk(fixed or "/")
            matches = re.compile(glob_translate(pattern)).match
            self.paths = [path for path in self.paths if matches(path)]
            self.left_out = [(path, reason) for path, reason in self.left_out if matches(path)]
            return
        signs = pattern[len(fixed) :].strip("/").split("/")
        asked = [sign[:1] in "._" for sign in signs]  # _*.parquet asks for what begins with _
        for path in sorted(glob.glob(pattern) if self.local else self.storage.glob(pattern)):
            below = path[len(fixed) :].strip("/")
            root, names = path.removesuffix(below), below.split("/")
            above = [root + "/".join(names[:depth]) for depth in range(1, len(names))]
            reasons = [(folder, self._reason(folder, may)) for folder, may in zip(above, asked, strict=False)]
            if left_out := next(((folder, reason) for folder, reason in reasons if reason), None):
                self.left_out.append(left_out)
            elif self.local:
                self._visit(path, (), asked=asked[-1])
            elif reason := self._reason(path, asked[-1]):
                self.left_out.append((path, reason))
            elif self.storage.isdir(path):
                self.walk(path)
            else:
                self._file(path, self.storage.size(path))

    def walk(self, root: str) -> None:
        """Add all data files below a folder."""
        if self.local:
            self._walk(root, (os.path.realpath(root),))
            return
        for path, about in sorted(self.storage.find(root, detail=True).items()):
            if any(_is_hidden(part) for part in path[len(root) :].strip("/").split("/")):
                self.left_out.append((path, HIDDEN))
            else:
                self._file(path, about.get("size"))

    def _walk(self, folder: str, above: tuple[str, ...]) -> None:
        try:
            names = sorted(os.listdir(folder))
        except OSError as error:
            raise DataError(f"the folder does not read: {error.strerror}", file=folder, remedy="fix it") from None
        for name in names:
            self._visit(os.path.join(folder, name), above)

    def _visit(self, path: str, above: tuple[str, ...], *, asked: bool = False) -> None:
        """Add a file, or all that a folder holds; ``asked``: even where its name begins with _ or a point."""
        real = os.path.realpath(path)
        if real in self.own:
            return
        if os.path.isdir(path) and real in above:
            self.left_out.append((path, LOOP))
        elif reason := self._reason(path, asked):
            self.left_out.append((path, reason))
        elif os.path.isfile(path):
            self._file(path, os.path.getsize(path))
        elif os.path.isdir(path):
            self._walk(path, (*above, real))
        elif os.path.islink(path):
            remedy = "fix or remove the link"
            raise DataError("a link leads nowhere", file=path, value=os.readlink(path), remedy=remedy)
        else:
            self.left_out.append((path, OTHER))

    def _reason(self, path: str, asked: bool) -> str | None:
        """Why nothing of this name is read; None where it is."""
        if _is_hidden(path.rpartition("/")[2]) and not asked:
            return HIDDEN
        prepared = self.local and os.path.isfile(f"{path}/schema.yaml") and os.path.isdir(f"{path}/train")
        return PREPARED if prepared else None

    def _file(self, path: str, size: int | None) -> None:
        if self.is_own(path):
            return
        if not path.lower().endswith(ENDINGS):
            self.left_out.append((path, OTHER))
        elif size == 0 and path.lower().endswith(_TEXT):
            self.left_out.append((path, EMPTY))
        else:
            self.paths.append(path)

    def is_own(self, path: str) -> bool:
        """Whether a file lies in the folder that is to be written."""
        path = os.path.realpath(path) if self.local else path
        return any(path == own or path.startswith(f"{own}/") for own in self.own)

    def result(self, said: str, root: str, problem: str, remedy: str) -> FoundFiles:
        """The files with what their folders say; a DataError where there is none."""
        files = []
        for path in sorted(self._once()):
            *folders, _ = path[len(root) :].strip("/").split("/")
            split = folders[0] if folders and folders[0] in SPLITS else None
            files.append(DataFile(self.storage.unstrip_protocol(path), partitions(folders), split))
        if len({file.split is None for file in files}) > 1:
            files = [DataFile(file.path, file.partitions, None) for file in files]
        found = FoundFiles(files, list(dict.fromkeys(self.left_out)))
        if not files:
            raise DataError(f"{problem}{f' ({found.told})' if found.told else ''}", file=said, remedy=remedy)
        return found

    def _once(self) -> Iterator[str]:
        """Each file once, under its own path where it is reached by a link as well."""
        if not self.local:
            yield from dict.fromkeys(self.paths)
            return
        chosen: dict[str, str] = {}
        for path in dict.fromkeys(self.paths):
            real = os.path.realpath(path)
            kept = chosen.setdefault(real, path)
            if kept == path:
                continue
            if _num_links(path) < _num_links(kept):
                chosen[real], path = path, kept
            self.left_out.append((path, AGAIN))
        yield from chosen.values()


def _num_links(path: str) -> int:
    """How many links a path goes through."""
    parts = path.split("/")
    return sum(os.path.islink("/".join(parts[:i])) for i in range(2, len(parts) + 1))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def partitions(folders: list[str]) -> dict[str, str]:
    """The columns that ``key=value`` folders stand for; ``=value`` stands for none."""
    return dict(part.split("=", 1) for part in folders if "=" in part[1:])
