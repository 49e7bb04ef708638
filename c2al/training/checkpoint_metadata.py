"""DCP's ``.metadata`` without pickle: the file is a pickle, and a pickle can name any function to be called.

``read`` goes through the file's instructions by itself and makes plain values and DCP's own records, nothing else: no
name in the file is looked up, imported or called. What it refuses, it names. ``check`` then holds the records against
the files that are there, so that no tensor is larger than the bytes that are stored for it, and no path leaves the
checkpoint's folder.
"""

import pickletools
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

MOST_BYTES = 2**26  # of a .metadata; 300 bytes describe a part of a tensor
MOST_NUMBERS = 2**48  # along one side of a tensor
DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
DCP = "torch.distributed.checkpoint"


class RefusedError(ValueError):
    """Says what the file holds that no checkpoint of c2al does."""


class _Name:
    """A name in the file. It stands for nothing but itself until a table below says what to make of it."""

    def __init__(self, module: object, name: object) -> None:
        if type(module) is not str or type(name) is not str:
            raise RefusedError("a name that is no text")
        self.full = f"{module}.{name}"


def read(data: bytes) -> Metadata:
    """Return what a ``.metadata`` describes.

    Raises:
        RefusedError: The file is cut short, is no pickle, or names anything but DCP's records.
    """
    if len(data) > MOST_BYTES:
        raise RefusedError(f".metadata has {len(data):,} bytes, and may have {MOST_BYTES:,}")
    machine = _Machine()
    try:
        for instruction, argument, _ in pickletools.genops(data):
            machine.step(instruction.name, argument)
    except RefusedError:
        raise
    except Exception as error:  # whatever half a file, or a forged one, makes of the stack
        raise RefusedError(f".metadata does not read: {type(error).__name__}: {error}") from None
    if len(machine.stack) != 1 or not isinstance(machine.stack[0], Metadata):
        raise RefusedError(".metadata is not DCP's")
    return machine.stack[0]


class _Machine:
    """The stack and the memory of pickle, with the instructions that DCP's metadata needs; none calls a function."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memory: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Follow one instruction."""
        if name in ("PROTO", "FRAME", "STOP"):
            return
        if name in ("BINUNICODE", "SHORT_BINUNICODE", "UNICODE", "BININT", "BININT1", "BININT2", "LONG1", "INT"):
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memory[argument])
        elif name == "MEMOIZE":
            self.memory[len(self.memory)] = self.stack[-1]
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memory[argument] = self.stack[-1]
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            self.stack.append(tuple(self._pop(int(name[-1]))))
        elif name == "TUPLE":
            self.stack.append(tuple(self._since_mark()))
        elif name in ("APPEND", "APPENDS"):
            self._append(self._pop(1) if name == "APPEND" else self._since_mark())
        elif name in ("SETITEM", "SETITEMS"):
            self._set(self._pop(2) if name == "SETITEM" else self._since_mark())
        elif name == "STACK_GLOBAL":
            self.stack.append(_Name(*self._pop(2)))
        elif name == "GLOBAL":
            self.stack.append(_known(_Name(*argument.split(" ", 1))))
        elif name in ("NEWOBJ", "REDUCE", "BUILD"):
            self.stack.append(_RECORDS[name](*self._pop(2)))
        else:
            raise RefusedError(f".metadata has the pickle instruction {name}, which DCP's has not")
        if name == "STACK_GLOBAL":
            self.stack[-1] = _known(self.stack[-1])

    def _pop(self, count: int) -> list[Any]:
        if len(self.stack) - count < (self.marks[-1] if self.marks else 0):
            raise RefusedError(".metadata takes more from the stack than is there")
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def _since_mark(self) -> list[Any]:
        start = self.marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def _append(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise RefusedError(".metadata appends to something that is no list")
        self.stack[-1].extend(items)

    def _set(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not dict or len(items) % 2:
            raise RefusedError(".metadata sets items of something that is no mapping")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_NEW: dict[str, type] = {
    f"{DCP}.metadata.{kind.__name__}": kind
    for kind in (ChunkStorageMetadata, Metadata, MetadataIndex, StorageMeta, TensorProperties, TensorStorageMetadata)
} | {f"{DCP}.filesystem._StorageInfo": _StorageInfo}
_LAYOUT, _FORMAT, _SIZE = "torch.serialization._get_layout", f"{DCP}.metadata._MEM_FORMAT_ENCODING", "torch.Size"
# How Python 3.11.2, which is Debian 12's, writes a member of an enum.
_MEMBER, _CONTIGUOUS = {"builtins.getattr", "__builtin__.getattr"}, "TORCH_CONTIGUOUS_FORMAT"
_PATHS = {f"{module}.{kind}Path" for module in ("pathlib", "pathlib._local") for kind in ("Posix", "Windows")}
_FIELDS: dict[type, dict[str, Any]] = {  # of each record, with what it has where the file does not say
    ChunkStorageMetadata: {"offsets": None, "sizes": None},
    Metadata: {"state_dict_metadata": None, "planner_data": None, "storage_data": None, "storage_meta": None}
    | {"version": None},
    MetadataIndex: {"fqn": None, "offset": None, "index": None},
    StorageMeta: {"checkpoint_id": None, "save_id": None, "load_id": None, "modules": ()},
    TensorStorageMetadata: {"properties": None, "size": None, "chunks": None},
    _StorageInfo: {"relative_path": None, "offset": None, "length": None, "transform_descriptors": None},
}


def _known(name: _Name) -> Any:
    """A dtype for its name; other names stay names. RefusedError for one that DCP's metadata does not have."""
    if name.full in {f"torch.{dtype}" for dtype in DTYPES}:
        return getattr(torch, name.full.removeprefix("torch."))
    if name.full not in {*_NEW, _LAYOUT, _FORMAT, _SIZE, *_MEMBER, *_PATHS}:
        raise RefusedError(
            f".metadata names {name.full}, which is none of DCP's records: opening it could run any code"
        )
    return name


def _new(name: Any, arguments: Any) -> Any:
    if not isinstance(name, _Name) or name.full not in _NEW or arguments != ():
        raise RefusedError(".metadata makes a record that DCP's has not")
    kind: Any = _NEW[name.full]
    return kind.__new__(kind)


def _reduce(name: Any, arguments: Any) -> Any:
    full = name.full if isinstance(name, _Name) else ""
    if full == _SIZE and len(arguments) == 1:
        if type(arguments[0]) is tuple and all(type(n) is int and 0 <= n < MOST_NUMBERS for n in arguments[0]):
            return torch.Size(arguments[0])
        raise RefusedError(".metadata has a size that is none")
    if full == _LAYOUT and arguments == ("torch.strided",):
        return torch.strided
    if full == _FORMAT and arguments == (0,):
        return torch.contiguous_format
    if full in _MEMBER and _of_format(arguments):
        return torch.contiguous_format
    if full in _PATHS and type(arguments) is tuple:
        return None  # where it was written: nobody asks
    raise RefusedError(f".metadata calls {full or 'something that is no name'} with other arguments than DCP does")


def _of_format(arguments: Any) -> bool:
    """Whether these are DCP's enum of memory formats and the one member of it that checkpoints have."""
    if type(arguments) is not tuple or len(arguments) != 2 or not isinstance(arguments[0], _Name):
        return False
    return arguments[0].full == _FORMAT and arguments[1] == _CONTIGUOUS


def _build(record: Any, state: Any) -> Any:
    if type(record) is TensorProperties:
        dtype, layout, _, memory_format, _ = state
        if not isinstance(dtype, torch.dtype) or layout is not torch.strided:
            raise RefusedError(".metadata has properties that are no tensor's of c2al")
        record.dtype, record.layout, record.memory_format = dtype, layout, memory_format
        record.requires_grad = record.pin_memory = False
        return record
    fields = _FIELDS.get(type(record))
    if fields is None or type(state) is not dict or not set(state) <= set(fields):
        raise RefusedError(f".metadata fills a {type(record).__name__} with what DCP's does not have")
    for field, otherwise in fields.items():
        object.__setattr__(record, field, state.get(field, otherwise))  # one kind is frozen
    if type(record) is MetadataIndex and not (
        type(record.fqn) is str and (record.offset is None or type(record.offset) is torch.Size)
    ):
        raise RefusedError(".metadata has the place of a tensor that has no name or offset")
    return record


_RECORDS: dict[str, Callable[[Any, Any], Any]] = {"NEWOBJ": _new, "REDUCE": _reduce, "BUILD": _build}


def check(metadata: Metadata, files: Mapping[str, int]) -> Metadata:
    """Return metadata whose every part is stored in ``files`` (name to bytes), with what nobody needs left out.

    Raises:
        RefusedError: A record is of another kind, a part lies outside of the files, or a tensor has holes.
    """
    tensors, stored = metadata.state_dict_metadata, metadata.storage_data
    if type(tensors) is not dict or type(stored) is not dict:
        raise RefusedError(".metadata describes no tensors")
    for place, info in stored.items():
        if type(place) is not MetadataIndex or type(info) is not _StorageInfo:
            raise RefusedError(".metadata stores something that is no tensor's part")
        _check_place(place, info, files)
    for name, tensor in tensors.items():
        if type(name) is not str or type(tensor) is not TensorStorageMetadata:
            raise RefusedError(f".metadata has {name}, which is no tensor: only pickle could read it")
        _check_tensor(name, tensor, stored)
    return Metadata(tensors, None, stored, StorageMeta(), str(metadata.version))


def _check_place(place: MetadataIndex, info: _StorageInfo, files: Mapping[str, int]) -> None:
    if type(info.relative_path) is not str or info.relative_path not in files:
        raise RefusedError(f".metadata has {place.fqn} in {info.relative_path!r}, which is no file of the checkpoint")
    inside = all(type(number) is int and number >= 0 for number in (info.offset, info.length))
    if not inside or info.offset + info.length > files[info.relative_path]:
        raise RefusedError(f".metadata has {place.fqn} beyond the end of {info.relative_path}")
    if info.transform_descriptors:
        raise RefusedError(
            f".metadata has {place.fqn} transformed by {info.transform_descriptors}, which c2al never does"
        )


def _check_tensor(name: str, tensor: TensorStorageMetadata, stored: Mapping[MetadataIndex, _StorageInfo]) -> None:
    size, chunks = tensor.size, tensor.chunks
    if type(tensor.properties) is not TensorProperties or type(size) is not torch.Size or type(chunks) is not list:
        raise RefusedError(f".metadata describes {name} by half")
    there = 0
    for chunk in chunks:
        if type(chunk) is not ChunkStorageMetadata or not _within(chunk, size):
            raise RefusedError(f".metadata has a part of {name} that lies outside of it")
        info = stored.get(MetadataIndex(name, chunk.offsets))
        numbers = prod(chunk.sizes)
        if info is None or numbers * tensor.properties.dtype.itemsize > info.length:
            raise RefusedError(f".metadata has a part of {name} for which no bytes are stored")
        there += numbers
    if there != prod(size):
        raise RefusedError(f".metadata has {there:,} of the {prod(size):,} numbers of {name}")


def _within(chunk: ChunkStorageMetadata, size: torch.Size) -> bool:
    if type(chunk.offsets) is not torch.Size or type(chunk.sizes) is not torch.Size:
        return False
    parts = list(zip(chunk.offsets, chunk.sizes, strict=False))
    return len(parts) == len(chunk.offsets) == len(chunk.sizes) == len(size) and all(
        start + length <= whole for (start, length), whole in zip(parts, size, strict=True)
    )
