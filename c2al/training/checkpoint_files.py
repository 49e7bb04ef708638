"""How the files of a checkpoint are written and read: DCP's writer and reader, with digests and without pickle."""

import hashlib
import io
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint._fsspec_filesystem import FileSystem as UrlFiles
from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader, FsspecWriter
from torch.distributed.checkpoint.filesystem import FileSystem as LocalFiles
from torch.distributed.checkpoint.metadata import Metadata

from c2al.training import checkpoint_metadata

METADATA = ".metadata"


class _Hashed:
    """A file that is written to, with the SHA-256 of what was written; for the rest it is that file."""

    def __init__(self, file: Any) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def write(self, data: Any) -> Any:
        """Write and count in. Hashing lets other threads run, so that training goes on meanwhile."""
        self.digest.update(data)
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _Hashing:
    """Of a file system: keeps the digest of every file that it has written, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.digests: dict[str, str] = {}

    @contextmanager
    def create_stream(self, path: Any, mode: str) -> Iterator[Any]:
        """Open a file."""
        with super().create_stream(path, mode) as stream:  # type: ignore[misc]
            if "w" not in mode:
                yield stream
                return
            hashed = _Hashed(stream)
            yield hashed
        self.digests[os.path.basename(path)] = hashed.digest.hexdigest()

    def rename(self, path: Any, new_path: Any) -> None:
        """Give a file another name."""
        super().rename(path, new_path)  # type: ignore[misc]
        self.digests[os.path.basename(new_path)] = self.digests.pop(os.path.basename(path))


class _HashedLocalFiles(_Hashing, LocalFiles):
    """A folder."""


class _HashedUrlFiles(_Hashing, UrlFiles):
    """What fsspec knows."""


def writer(place: str, *, is_url: bool) -> Any:
    """Return DCP's writer into a folder or behind a URL; ``digests_of`` says afterwards what it has written."""
    made: Any = FsspecWriter(place) if is_url else dcp.FileSystemWriter(place)
    made.fs = _HashedUrlFiles() if is_url else _HashedLocalFiles()
    made.path = made.fs.init_path(place)
    return made


def digests_of(written: Any) -> dict[str, str]:
    """Return the SHA-256 of each file that a ``writer`` has written on this rank."""
    found: dict[str, str] = written.fs.digests
    return found


class _Guarded:
    """Of a reader: ``.metadata`` is not unpickled, and what a tensor unpacks to is no larger than its bytes."""

    files: Mapping[str, int] = {}

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        """Return what is stored; ``checkpoint_metadata.RefusedError`` where it is not what DCP writes."""
        itself: Any = self
        with itself.fs.create_stream(itself.fs.concat_path(itself.path, METADATA), "rb") as file:
            data = file.read(checkpoint_metadata.MOST_BYTES + 1)
        return checkpoint_metadata.check(checkpoint_metadata.read(data), self.files)

    def _slice_file(self, file: Any, info: Any) -> IO[bytes]:
        try:
            with zipfile.ZipFile(_Part(file, info.offset, info.length)) as archive:
                packed = any(each.compress_type != zipfile.ZIP_STORED for each in archive.infolist())
                whole = sum(each.file_size for each in archive.infolist())
        except zipfile.BadZipFile:
            raise ValueError(f"{info.relative_path} holds no tensor where .metadata says so") from None
        if packed or whole > info.length:
            raise ValueError(f"{info.relative_path} holds a tensor that unpacks to more than its bytes")
        part: IO[bytes] = super()._slice_file(file, info)  # type: ignore[misc]
        return part


class _Part(io.RawIOBase):
    """Some bytes of a file as a file of their own. Torch's has ``seek`` from the end the wrong way round."""

    def __init__(self, file: Any, start: int, length: int) -> None:
        super().__init__()
        self._file, self._start, self._length, self._at = file, start, length, 0

    def seekable(self) -> bool:
        """True."""
        return True

    def readable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Return the position from the part's start."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move, not beyond the part's start."""
        from_there = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        if from_there + offset < 0:
            raise OSError("before the start")
        self._at = from_there + offset
        return self._at

    def readinto(self, into: Any) -> int:
        """Read up to the part's end."""
        self._file.seek(self._start + self._at)
        found = self._file.read(max(0, min(len(into), self._length - self._at)))
        into[: len(found)] = found
        self._at += len(found)
        return len(found)


class _FolderReader(_Guarded, dcp.FileSystemReader):
    """Of a folder."""


class _UrlReader(_Guarded, FsspecReader):
    """Of what fsspec knows."""


def reader(place: str, files: Mapping[str, int], *, is_url: bool) -> Any:
    """Return DCP's reader of a checkpoint that holds ``files`` (name to bytes), which runs none of its code."""
    made: Any = _UrlReader(place) if is_url else _FolderReader(place)
    made.files = files
    return made
