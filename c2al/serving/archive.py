"""The file that is served: a zip of plain records, one of which, the manifest, knows all others by their checksums.

Records lie uncompressed and on multiples of 64 bytes, so that matrices can be mapped into memory where they are:
processes that open the same file share its pages. The records of a program that torch has packed keep their names, so
that ``torch.export.load`` opens the same file.
"""

import hashlib
import json
import os
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from c2al.schema import DataError

ROOT = "model"  # of all records, as torch's own reader wants it
OWN = f"{ROOT}/c2al/"
MANIFEST = f"{OWN}manifest.json"
FORMAT = 1
ALIGNMENT = 64
CHUNK_BYTES = 2**24
ZIP64_BYTES = 20  # of the field that Python adds to a record's header
PADDING = 0x4246  # the name that torch gives to such fields
ANEW = "export it again: c2al export run=… to=…"


class Writer:
    """Records into a zip, each with its size and SHA-256 in ``records``. After each the file is a whole zip."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[str, dict[str, Any]] = {}

    def add(self, name: str, chunks: bytes | Iterable[bytes]) -> None:
        """One record, which may come in chunks and be larger than memory."""
        digest, num_bytes = hashlib.sha256(), 0
        with self._new(name) as record:
            for chunk in [chunks] if isinstance(chunks, bytes) else chunks:
                record.write(chunk)
                digest.update(chunk)
                num_bytes += len(chunk)
        self.records[name] = {"bytes": num_bytes, "sha256": digest.hexdigest()}

    def add_packed(self, packed: Path) -> None:
        """All records of a zip that torch wrote, under the same names but for the first folder."""
        with zipfile.ZipFile(packed) as other:
            for info in other.infolist():
                with other.open(info) as record:
                    inside = info.filename.partition("/")[2]
                    self.add(f"{ROOT}/{inside}", iter(lambda file=record: file.read(CHUNK_BYTES), b""))  # type: ignore[misc]

    def finish(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Write the manifest, with all records and the checksum by which a model is known; what was written."""
        lines = "".join(f"{name} {record['sha256']}\n" for name, record in sorted(self.records.items()))
        whole = {"format": FORMAT, **manifest, "records": self.records}
        whole["checksum"] = hashlib.sha256((lines + json.dumps(manifest, sort_keys=True)).encode()).hexdigest()
        with self._new(MANIFEST) as record:
            record.write(json.dumps(whole, indent=1).encode())
        return whole

    @contextmanager
    def _new(self, name: str) -> Iterator[IO[bytes]]:
        """A record with a header that is filled up until it begins on a multiple of ``ALIGNMENT``."""
        with zipfile.ZipFile(self.path, "a", zipfile.ZIP_STORED) as archive:
            info = zipfile.ZipInfo(name)
            begins = archive.start_dir + 30 + len(name.encode()) + ZIP64_BYTES + 4
            info.extra = struct.pack("<HH", PADDING, -begins % ALIGNMENT) + b"Z" * (-begins % ALIGNMENT)
            with archive.open(info, "w", force_zip64=True) as record:
                yield record


@contextmanager
def written(path: str) -> Iterator[Writer]:
    """A new file under a name of its own until it is whole; what was there stays until then, and if anything fails."""
    partial = Path(f"{path}.{os.getpid()}.partial")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        partial.touch()
    except OSError as error:
        raise DataError(f"no file can be written there: {error.strerror}", file=path, remedy="mend to=…") from None
    try:
        yield Writer(partial)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


class Archive:
    """A file that was written so, opened for reading: its manifest, records by name, matrices where they lie."""

    def __init__(self, path: str, *, check: bool = True) -> None:
        """DataError where it is none, not whole, of another version or (with ``check``) not as it was written."""
        self.path = path
        self._archive = self._opened()
        self.manifest: dict[str, Any] = self._read_manifest()
        self._check_sizes()
        if check:
            self._check_contents()

    @classmethod
    def under_way(cls, writer: Writer, manifest: dict[str, Any]) -> "Archive":
        """What has been written so far, with a manifest that is not there yet."""
        archive = cls.__new__(cls)
        archive.path, archive.manifest = str(writer.path), manifest
        archive._archive = archive._opened()
        return archive

    def read(self, name: str) -> bytes:
        """A record."""
        return self._archive.read(name)

    def names(self) -> list[str]:
        """Of all records."""
        return self._archive.namelist()

    def mapped(self, name: str, dtype: str, columns: int) -> np.ndarray:
        """A record as a matrix, in the file's own pages; what is written to it stays in this process."""
        info = self._archive.getinfo(name)
        rows = info.file_size // (np.dtype(dtype).itemsize * columns)
        if not rows:
            return np.empty((0, columns), dtype)
        return np.memmap(self.path, dtype, mode="c", offset=self._begin(info), shape=(rows, columns))

    def _opened(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except FileNotFoundError:
            raise DataError("no model there", file=self.path, remedy=f"mend model=…, or {ANEW}") from None
        except (OSError, zipfile.BadZipFile) as error:
            short = _begins_as_zip(self.path)
            problem = "the model is cut short" if short else f"not a model: {error}"
            remedy = f"copy it again, or {ANEW}" if short else f"name a file that `c2al export` wrote, or {ANEW}"
            raise DataError(problem, file=self.path, remedy=remedy) from None

    def _read_manifest(self) -> dict[str, Any]:
        try:
            manifest = json.loads(self._archive.read(MANIFEST))
        except (KeyError, ValueError, zipfile.BadZipFile):
            remedy = f"name a file that `c2al export` wrote, or {ANEW}"
            raise DataError("not a model: it has no manifest of c2al's", file=self.path, remedy=remedy) from None
        if manifest.get("format") != FORMAT:
            found = f"a model of format {manifest.get('format')}, and this is c2al of format {FORMAT}"
            raise DataError(found, file=self.path, remedy=f"take the c2al that wrote it, or {ANEW}")
        return manifest

    def _check_sizes(self) -> None:
        """What is there and what the manifest says must be the same records."""
        there = {info.filename: info.file_size for info in self._archive.infolist() if info.filename != MANIFEST}
        said = {name: record["bytes"] for name, record in self.manifest["records"].items()}
        for name in sorted({*there, *said}):
            if there.get(name) != said.get(name):
                problem = (
                    f"the model is not as it was written: {name} has {there.get(name)} bytes, not {said.get(name)}"
                )
                raise DataError(problem, file=self.path, remedy=f"copy it again, or {ANEW}")

    def _check_contents(self) -> None:
        for name, record in self.manifest["records"].items():
            digest = hashlib.sha256()
            try:
                with self._archive.open(name) as opened:
                    read: Callable[[], bytes] = lambda file=opened: file.read(CHUNK_BYTES)  # type: ignore[misc] # noqa: E731
                    for chunk in iter(read, b""):
                        digest.update(chunk)
            except (zipfile.BadZipFile, EOFError, OSError):
                pass
            if digest.hexdigest() != record["sha256"]:
                problem = f"the model is not as it was written: {name} has another checksum"
                raise DataError(problem, file=self.path, remedy=f"copy it again, or {ANEW}")

    def _begin(self, info: zipfile.ZipInfo) -> int:
        with open(self.path, "rb") as file:
            file.seek(info.header_offset)
            name, extra = struct.unpack("<HH", file.read(30)[26:])
        return info.header_offset + 30 + name + extra


def _begins_as_zip(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError:
        return False
