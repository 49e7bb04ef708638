"""Where a run's checkpoints lie: a folder, or any URL that fsspec knows. A checkpoint is whole, or it does not count.

``step_<8 digits>/`` holds the tensors as DCP writes them and, written last, ``progress.json`` with the names, sizes and
SHA-256 of all other files, and with a digest of its own content. In a folder it is written under ``….partial`` and
renamed; behind a URL, where nothing is renamed at once, it counts as soon as ``progress.json`` is there.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from c2al.schema import DataError

PROGRESS = "progress.json"
DAMAGED = ".damaged"
PARTIAL = ".partial"
DIGEST = "digest"  # of progress.json without it
MOST_PROGRESS_BYTES = 2**26
MOST_FILE_BYTES = 2**53
BLOCK_BYTES = 2**22
LEAST_FREE_BYTES = 2**20  # with less, that is why a write failed


class Store:
    """The checkpoints under one path or URL, by step. Whoever writes is one rank; all may read."""

    def __init__(self, place: str) -> None:
        self.place = place.rstrip("/")
        self.is_url = "://" in place
        try:
            self.fs, root = fsspec.core.url_to_fs(self.place)
        except Exception as error:  # those of stores have no class in common
            remedy = "install what it asks for, or fix training.checkpoints"
            raise DataError(
                f"no such place for checkpoints: {str(error) or type(error).__name__:.200}",
                file=self.place,
                remedy=remedy,
            ) from None
        self._root = root.rstrip("/")

    def where(self, step: int, suffix: str = "") -> str:
        """The path or URL of a step's checkpoint, for DCP and for messages."""
        return f"{self.place}/{_name(step)}{suffix}"

    def where_written(self, step: int) -> str:
        """Where its files are put before it is whole."""
        return self.where(step, "" if self.is_url else PARTIAL)

    def steps(self) -> list[int]:
        """All that have a ``progress.json``, oldest first."""
        return sorted(
            step for step in map(_step, self._names()) if step is not None and self.fs.isfile(self._file(step))
        )

    def unfinished(self) -> list[int]:
        """Those that were under way when a run ended, oldest first."""
        names = [name.removesuffix(PARTIAL) for name in self._names()]
        return sorted({step for step in map(_step, names) if step is not None} - set(self.steps()))

    def read(self, step: int) -> dict[str, Any]:
        """Return its ``progress.json``.

        Raises:
            ValueError: A file is missing, has another size, or ``progress.json`` is not as it was written.
        """
        found = self.describe(step)
        if cause := self.fault(step, found):
            raise ValueError(cause)
        return found

    def describe(self, step: int) -> dict[str, Any]:
        """Return its ``progress.json``, whatever the other files. ValueError where that is not as it was written."""
        try:
            with self.fs.open(self._file(step), "rb") as file:
                text = file.read(MOST_PROGRESS_BYTES + 1)
            if len(text) > MOST_PROGRESS_BYTES:
                raise ValueError(f"it has more than {MOST_PROGRESS_BYTES:,} bytes")
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{PROGRESS} is cut short or damaged: {error}") from None
        if not isinstance(found, dict) or "files" not in found:
            raise ValueError(f"{PROGRESS} is not of this version of c2al: it names no files")
        digest = found.pop(DIGEST, None)
        if digest is None and "sha256" in found:
            raise ValueError(f"{PROGRESS} is damaged: its own digest is missing")
        if digest is not None and digest != _digest_of(found):
            raise ValueError(f"{PROGRESS} is damaged: it is not as it was written, by its own digest")
        if found.get("step", step) != step:
            raise ValueError(f"{PROGRESS} is that of step {found['step']}")
        _check_files(found)
        return found

    def fault(self, step: int, found: Mapping[str, Any]) -> str:
        """Return which file is missing or has another size; empty where all are there."""
        there = self._files(_name(step))
        for name, size in found["files"].items():
            if name not in there:
                return f"{name} is missing"
            if there[name] != size:
                return f"{name} has {there[name]:,} bytes of {size:,}"
        return ""

    def damage(self, step: int, found: Mapping[str, Any], names: Iterable[str] | None = None) -> str:
        """Return which of the files (all, or ``names``) has other bytes than were written; empty where none has.

        Reads them whole. Checkpoints of before 2026-11-26 have no digests: nothing is found in them.
        """
        digests = found.get("sha256", {})
        for name in found["files"] if names is None else names:
            if name in digests and self._sha256(f"{_name(step)}/{name}") != digests[name]:
                return f"{name} has the right size and other bytes than were written (SHA-256)"
        return ""

    def strangers(self, step: int, found: Mapping[str, Any]) -> list[str]:
        """Return the files in its folder that are none of its own; nothing reads them."""
        return sorted(set(self._files(_name(step))) - set(found["files"]))

    def begin(self, step: int) -> None:
        """Make room for a new one: what a killed run left half written goes."""
        for each in (*self.unfinished(), step):
            self._remove(_name(each))
            self._remove(f"{_name(each)}{PARTIAL}")
        self.fs.makedirs(f"{self._root}/{_name(step)}{'' if self.is_url else PARTIAL}", exist_ok=True)

    def finish(self, step: int, progress: dict[str, Any], digests: Mapping[str, str] | None = None) -> None:
        """All files are written: add ``progress.json``, and from here on it counts.

        ``digests`` are those of the bytes that went into the files; a file without one is read again for it.
        """
        name = f"{_name(step)}{'' if self.is_url else PARTIAL}"
        files, known = self._files(name), digests or {}
        sha256 = {file: known.get(file) or self._sha256(f"{name}/{file}") for file in files}
        whole = progress | {"files": files, "sha256": sha256}
        with self.fs.open(f"{self._root}/{name}/{PROGRESS}", "wb") as file:
            file.write(json.dumps(whole | {DIGEST: _digest_of(whole)}).encode())
            if isinstance(self.fs, LocalFileSystem):
                file.flush()
                os.fsync(file.fileno())
        if not self.is_url:
            os.rename(f"{self._root}/{name}", f"{self._root}/{_name(step)}")

    def set_aside(self, step: int) -> None:
        """Out of the way of one that will be written there again, but not gone."""
        name = _name(step)
        if self.is_url:
            self.fs.mv(self._file(step), f"{self._root}/{name}/{PROGRESS}{DAMAGED}")
            return
        self._remove(f"{name}{DAMAGED}")
        os.rename(f"{self._root}/{name}", f"{self._root}/{name}{DAMAGED}")

    def keep(self, newest: int, *, protect: Sequence[int | None]) -> None:
        """Remove all but the newest ones and those protected; what cannot be removed stays."""
        for step in self.steps()[:-newest]:
            if step not in protect:
                self._remove(_name(step))

    def full(self) -> str:
        """Says so where the disk is: torch's zip writer makes "unexpected pos 704 vs 598" of it."""
        with contextlib.suppress(OSError):
            if not self.is_url and shutil.disk_usage(self.place).free < LEAST_FREE_BYTES:
                return "No space left on device"
        return ""

    def clear(self) -> None:
        """Remove all."""
        for name in self._names():
            self._remove(name)

    def _names(self) -> list[str]:
        self.fs.invalidate_cache()
        try:
            found = self.fs.ls(self._root, detail=False)
        except FileNotFoundError:
            return []
        names = (path.rstrip("/").rsplit("/", 1)[-1] for path in found)
        return sorted(name for name in names if _step(name.split(".")[0]) is not None)

    def _files(self, name: str) -> dict[str, int]:
        found = self.fs.find(f"{self._root}/{name}", detail=True)
        files = {path.rsplit("/", 1)[-1]: each for path, each in found.items() if not path.endswith(f"/{PROGRESS}")}
        return {name: each["size"] for name, each in files.items() if each["type"] != "other"}  # pipes have no end

    def _sha256(self, path: str) -> str:
        digest = hashlib.sha256()
        with self.fs.open(f"{self._root}/{path}", "rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
        return digest.hexdigest()

    def _file(self, step: int) -> str:
        return f"{self._root}/{_name(step)}/{PROGRESS}"

    def _remove(self, name: str) -> None:
        """``progress.json`` first: a kill half way leaves none that seems whole."""
        for path in (f"{self._root}/{name}/{PROGRESS}", f"{self._root}/{name}"):
            try:
                self.fs.rm(path, recursive=True)
            except FileNotFoundError:
                continue


def _name(step: int) -> str:
    return f"step_{step:08d}"


def _step(name: str) -> int | None:
    digits = name.removeprefix("step_")
    return (
        int(digits)
        if name.startswith("step_") and len(digits) == 8 and digits.isascii() and digits.isdecimal()
        else None
    )


def _digest_of(progress: Mapping[str, Any]) -> str:
    """Of the content and not of the bytes: other spaces or another order say the same."""
    plain = json.loads(json.dumps(progress))  # as it is read again: keys are texts
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _check_files(found: Mapping[str, Any]) -> None:
    files, digests = found["files"], found.get("sha256", {})
    if not isinstance(files, dict) or not isinstance(digests, dict):
        raise ValueError(f"{PROGRESS} names no files: {files!r:.60}")
    for name, size in files.items():
        if not name or "/" in name or "\\" in name or "\0" in name or name in (".", ".."):
            raise ValueError(f"{PROGRESS} names the file {name!r:.60}, which cannot be one of a checkpoint's")
        if type(size) is not int or not 0 <= size < MOST_FILE_BYTES:
            raise ValueError(f"{PROGRESS} has {size!r:.60} for the bytes of {name}")
    if digests and set(digests) != set(files):
        raise ValueError(f"{PROGRESS} has no digest of {', '.join(sorted(set(files) ^ set(digests)))[:200]}")
