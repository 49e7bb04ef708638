"""The file that is served: a zip of plain records, one of which, the manifest, knows all others by their checksums.

Records lie uncompressed and on multiples of 64 bytes, so that matrices can be mapped into memory where they are:
processes that open the same file share its pages. The records of a program that torch has packed keep their names, so
that ``torch.export.load`` opens the same file. Reading is strict (``directory.py``) and unpacks nothing: no record is
larger in memory than it is in the file.
"""

import hashlib
import json
import mmap
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from c2al.plain_files import without_waiting
from c2al.schema import DataError
from c2al.serving.directory import MOST_DIRECTORY_BYTES, NotAsWrittenError, NoZipError, Record, read_directory

ROOT = "model"  # of all records, as torch's own reader wants it
OWN = f"{ROOT}/c2al/"
MANIFEST = f"{OWN}manifest.json"
FORMAT = 1
ALIGNMENT = 64
CHUNK_BYTES = 2**24
ZIP64_BYTES = 20  # of the field that Python adds to a record's header
PADDING = 0x4246  # the name that torch gives to such fields
ANEW = "export it again: c2al export run=… to=…"
COPY_AGAIN = f"copy it again as it is, without unpacking and packing it, or {ANEW}"
MOST_MANIFEST_BYTES = 2**26
MOST_READ_BYTES = 2**31  # of a record that is read whole; tables are mapped


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
                inside = info.filename.partition("/")[2]
                if inside.startswith("data/sample_inputs/"):  # a pickle, if anything
                    self.add(f"{ROOT}/{inside}", b"")
                    continue
                with other.open(info) as record:
                    self.add(f"{ROOT}/{inside}", iter(lambda file=record: file.read(CHUNK_BYTES), b""))  # type: ignore[misc]

    def finish(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Write the manifest, with all records and the checksum by which a model is known; what was written."""
        manifest = json.loads(json.dumps(manifest))  # as a reader will find it
        whole = {"format": FORMAT, **manifest, "records": self.records, "checksum": checksum_of(manifest, self.records)}
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
        raise DataError(f"no file can be written there: {error.strerror}", file=path, remedy="fix to=…") from None
    try:
        yield Writer(partial)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


def checksum_of(manifest: Mapping[str, Any], records: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what a model is known by: the SHA-256 of all records' checksums and of the rest of the manifest."""
    lines = "".join(f"{name} {record['sha256']}\n" for name, record in sorted(records.items()))
    return hashlib.sha256((lines + json.dumps(manifest, sort_keys=True)).encode()).hexdigest()


class Archive:
    """A file that was written so, opened for reading: its manifest, records by name, matrices where they lie."""

    def __init__(self, path: str, *, check: bool = True) -> None:
        """DataError where it is none, not whole, of another version or (with ``check``) not as it was written."""
        self.path = path
        self._open()
        self.manifest: dict[str, Any] = self._read_manifest()
        self._check_sizes()
        if check:
            self.check_contents()

    @classmethod
    def under_way(cls, writer: Writer, manifest: dict[str, Any]) -> "Archive":
        """What has been written so far, with a manifest that is not there yet."""
        archive = cls.__new__(cls)
        archive.path, archive.manifest = str(writer.path), json.loads(json.dumps(manifest))
        archive._open()
        return archive

    def read(self, name: str, *, most_bytes: int = MOST_READ_BYTES) -> bytes:
        """Return a record; a DataError where there is none or it is larger than ``most_bytes``."""
        if name not in self._records:
            raise DataError("the model lacks a record", file=self.path, value=name, remedy=COPY_AGAIN)
        record = self._records[name]
        if record.num_bytes > most_bytes:
            problem = f"a record of {record.num_bytes:,} bytes where {most_bytes:,} are the most"
            raise DataError(problem, file=self.path, value=name, remedy=f"do not trust the file; {ANEW}")
        return self._pages[record.begin : record.begin + record.num_bytes]

    def json(self, name: str, *, most_bytes: int) -> Any:
        """Return a record that is JSON; a DataError where it is none, too large, too deep or says a key twice."""
        content = self.read(name, most_bytes=most_bytes)
        try:
            return json.loads(content.decode("utf-8"), object_pairs_hook=_each_key_once)
        except (ValueError, RecursionError) as error:
            problem = f"{name} does not read: {str(error)[:200] or 'too deep'}"
            raise DataError(problem, file=self.path, remedy=COPY_AGAIN) from None

    def names(self) -> list[str]:
        """Return the names of all records."""
        return list(self._records)

    def num_bytes(self, name: str) -> int:
        """Return the size of a record."""
        return self._records[name].num_bytes

    def mapped(self, name: str, dtype: str, columns: int) -> np.ndarray:
        """Return a record as a matrix, in the file's own pages; what is written to it stays in this process."""
        record, itemsize = self._records[name], np.dtype(dtype).itemsize
        rows, rest = divmod(record.num_bytes, itemsize * columns)
        if rest or record.begin % ALIGNMENT:
            problem = f"{name} does not hold rows of {columns} numbers on multiples of {ALIGNMENT} bytes"
            raise DataError(problem, file=self.path, remedy=COPY_AGAIN)
        if not rows:
            return np.empty((0, columns), dtype)
        flat = np.frombuffer(self._pages, dtype, count=rows * columns, offset=record.begin)
        return flat.reshape(rows, columns)

    def check_contents(self) -> None:
        """Read the whole file once; a DataError at the first record whose checksum is not the manifest's."""
        pages = memoryview(self._pages)
        try:
            for name, said in self.manifest["records"].items():
                record = self._records[name]
                digest = hashlib.sha256(pages[record.begin : record.begin + record.num_bytes])
                if digest.hexdigest() != said["sha256"]:
                    problem = f"the model is not as it was written: {name} has another checksum"
                    raise DataError(problem, file=self.path, remedy=COPY_AGAIN)
        finally:
            pages.release()
        if hasattr(mmap, "MADV_DONTNEED"):  # nothing is written yet: what is used comes back from the file
            self._pages.madvise(mmap.MADV_DONTNEED)

    def _open(self) -> None:
        """Map the file: it is read through the same pages from the first check to the last use."""
        try:
            with open(self.path, "rb", opener=without_waiting) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise NoZipError("no plain file")
                self._records: dict[str, Record] = read_directory(file, ROOT)
                self._pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except FileNotFoundError:
            raise DataError("no model there", file=self.path, remedy=f"fix model=…, or {ANEW}") from None
        except NotAsWrittenError as error:
            if not _names_a_manifest(self.path):
                raise self._no_manifest() from None
            problem = f"the model is not as it was written: {error}"
            raise DataError(problem, file=self.path, remedy=COPY_AGAIN) from None
        except (OSError, NoZipError) as error:
            short = _begins_as_zip(self.path)
            problem = "the model is cut short, or something was added to it" if short else f"not a model: {error}"
            remedy = COPY_AGAIN if short else f"name a file that `c2al export` wrote, or {ANEW}"
            raise DataError(problem, file=self.path, remedy=remedy) from None

    def _no_manifest(self) -> DataError:
        remedy = f"name a file that `c2al export` wrote, or {ANEW}"
        return DataError("not a model: it has no manifest of c2al's", file=self.path, remedy=remedy)

    def _read_manifest(self) -> dict[str, Any]:
        if MANIFEST not in self._records:
            raise self._no_manifest()
        if zlib.crc32(self.read(MANIFEST, most_bytes=MOST_MANIFEST_BYTES)) != self._records[MANIFEST].crc:
            problem = "the model is not as it was written: its manifest has another checksum"
            raise DataError(problem, file=self.path, remedy=COPY_AGAIN)
        manifest = self.json(MANIFEST, most_bytes=MOST_MANIFEST_BYTES)
        version = manifest.get("format") if isinstance(manifest, dict) else None
        if version != FORMAT or isinstance(version, bool):
            found = f"a model of format {str(version)[:40]}, and this is c2al of format {FORMAT}"
            raise DataError(found, file=self.path, remedy=f"take the c2al that wrote it, or {ANEW}")
        records = manifest.get("records")
        rest = {key: value for key, value in manifest.items() if key not in ("format", "records", "checksum")}
        if not _are_records(records) or checksum_of(rest, records) != manifest.get("checksum"):
            problem = "the model is not as it was written: its manifest has another checksum"
            raise DataError(problem, file=self.path, remedy=COPY_AGAIN)
        return manifest

    def _check_sizes(self) -> None:
        """What is there and what the manifest says must be the same records."""
        there = {name: record.num_bytes for name, record in self._records.items() if name != MANIFEST}
        said = {name: record["bytes"] for name, record in self.manifest["records"].items()}
        for name in sorted({*there, *said}):
            if there.get(name) != said.get(name):
                problem = (
                    f"the model is not as it was written: {name} has {there.get(name)} bytes, not {said.get(name)}"
                )
                raise DataError(problem, file=self.path, remedy=COPY_AGAIN)


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key that is there twice")
    return found


def _are_records(records: Any) -> bool:
    return isinstance(records, dict) and all(
        isinstance(record, dict)
        and record.keys() == {"bytes", "sha256"}
        and type(record["bytes"]) is int
        and isinstance(record["sha256"], str)
        and _is_text(name)
        and _is_text(record["sha256"])
        for name, record in records.items()
    )


def _is_text(text: str) -> bool:
    """Whether a text can be written: JSON may say half a surrogate pair, which no file holds."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _names_a_manifest(path: str) -> bool:
    """Whether the end of a zip, where its directory is, has the manifest's name."""
    with open(path, "rb", opener=without_waiting) as file:
        file.seek(max(0, file.seek(0, 2) - MOST_DIRECTORY_BYTES))
        return MANIFEST.encode() in file.read()


def _begins_as_zip(path: str) -> bool:
    try:
        with open(path, "rb", opener=without_waiting) as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError:
        return False
