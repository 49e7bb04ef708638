"""Forged ``.metadata``: nothing in it runs, and one line says what was refused. pickle itself runs the forgeries."""

import copyreg
import functools
import io
import operator
import os
import pickle
import struct
from enum import Enum
from pathlib import PosixPath
from types import SimpleNamespace

import pytest
import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

from c2al.training.checkpoint_metadata import RefusedError, check, read

SIZE, FILES = torch.Size((4, 3)), {"__0_0.distcp": 100}


def tensor(size=SIZE, chunks=None, dtype=torch.float32):
    chunks = [ChunkStorageMetadata(torch.Size([0] * len(size)), size)] if chunks is None else chunks
    return TensorStorageMetadata(TensorProperties(dtype), size, chunks)


def metadata(found=None, stored=None, **more):
    place = MetadataIndex("x", torch.Size((0, 0)))
    return Metadata(
        {"x": tensor()} if found is None else found,
        planner_data={"x": ("x",)},
        storage_data={place: _StorageInfo("__0_0.distcp", 2, 90)} if stored is None else stored,
        storage_meta=StorageMeta(PosixPath("a/b"), "save"),
        **more,
    )


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_dcp_writes_is_read(protocol):
    whole = metadata(version="1.0.0")
    found = check(read(pickle.dumps(whole, protocol)), FILES)
    assert found.state_dict_metadata == whole.state_dict_metadata
    assert found.storage_data == whole.storage_data
    assert found.version == "1.0.0"


class OldPickler(pickle.Pickler):
    """As Python 3.11.2 writes a member of an enum; ``name`` in place of the member's own."""

    name: str | None = None

    def reducer_override(self, thing):
        if isinstance(thing, Enum):
            return getattr, (type(thing), self.name or thing.name)
        return NotImplemented


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_another_python_wrote_is_read(protocol):
    file, whole = io.BytesIO(), metadata()
    OldPickler(file, protocol).dump(whole)
    assert check(read(file.getvalue()), FILES).state_dict_metadata == whole.state_dict_metadata


@pytest.mark.parametrize("name", ["TORCH_CHANNELS_LAST", "__class__", "mro", "_missing_"])
def test_nothing_else_of_the_enum_is_taken(name):
    file = io.BytesIO()
    pickler = OldPickler(file)
    pickler.name = name
    pickler.dump(metadata())
    with pytest.raises(RefusedError, match=r"calls builtins\.getattr with other arguments"):
        read(file.getvalue())


class Calls:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *arguments, state=None):
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.call


def fire(mark: str) -> str:
    """What a forger wants to happen: a file is there."""
    return f"touch {mark}"


def by_opcodes(*parts: bytes) -> bytes:
    return b"".join(parts)


def short(text: str) -> bytes:
    return b"\x8c" + struct.pack("<B", len(text)) + text.encode()


FORGERIES = {
    "reduce": lambda mark: pickle.dumps(Calls(os.system, fire(mark))),
    "reduce of protocol 0": lambda mark: pickle.dumps(Calls(os.system, fire(mark)), 0),
    "reduce of protocol 2": lambda mark: pickle.dumps(Calls(os.system, fire(mark)), 2),
    "within the tensors": lambda mark: pickle.dumps(metadata({"x": Calls(os.system, fire(mark))})),
    "within the storage": lambda mark: pickle.dumps(metadata(stored={"x": Calls(os.system, fire(mark))})),
    "as a key": lambda mark: pickle.dumps(Metadata({}, storage_data=[Calls(os.system, fire(mark))])),
    "within what nobody reads": lambda mark: pickle.dumps(Metadata({}, planner_data=Calls(os.system, fire(mark)))),
    "inst": lambda mark: by_opcodes(b"(S'", fire(mark).encode(), b"'\nios\nsystem\n."),
    "obj": lambda mark: by_opcodes(b"(cos\nsystem\n", short(fire(mark)), b"o."),
    "eval": lambda mark: pickle.dumps(Calls(eval, f"__import__('os').system('{fire(mark)}')")),
    "exec": lambda mark: pickle.dumps(Calls(exec, f"open('{mark}', 'w')")),
    "partial": lambda mark: pickle.dumps(Calls(functools.partial(os.system), fire(mark))),
    "getattr": lambda mark: by_opcodes(
        b"\x80\x04cbuiltins\ngetattr\ncos\nsystem\n", short("__call__"), b"\x86R", short(fire(mark)), b"\x85R."
    ),
    "methodcaller": lambda mark: pickle.dumps(Calls(operator.methodcaller("__call__", fire(mark)), os.system)),
    "a dotted name": lambda mark: by_opcodes(
        b"\x80\x04", short("torch"), short("serialization.os.system"), b"\x93", short(fire(mark)), b"\x85R."
    ),
    "through a module of DCP's": lambda mark: by_opcodes(
        b"\x80\x04",
        *(short("torch.distributed.checkpoint.metadata"), short("os.system"), b"\x93", short(fire(mark)), b"\x85R."),
    ),
    "a nested pickle": lambda mark: pickle.dumps(Calls(pickle.loads, pickle.dumps(Calls(os.system, fire(mark))))),
    "torch.load": lambda mark: pickle.dumps(Calls(torch.load, mark)),
    "torch's rebuild": lambda mark: pickle.dumps(Calls(torch._utils._rebuild_tensor_v2, Calls(os.system, fire(mark)))),
    "torch's storage": lambda mark: pickle.dumps(Calls(torch.storage._load_from_bytes, b"x")),
    "a tensor": lambda mark: pickle.dumps(metadata({"x": torch.zeros(2)})),
    "a persistent id": lambda mark: b"\x80\x04" + short("x") + b"Q.",
    "build on a class": lambda mark: by_opcodes(
        b"\x80\x04",
        *(short("torch.distributed.checkpoint.metadata"), short("TensorProperties"), b"\x93"),
        *(b"N}", short("__setstate__"), b"cos\nsystem\ns\x86b."),
    ),
    "build with names of its own": lambda mark: pickle.dumps(
        Calls(object.__new__, Metadata, state={"__class__": SimpleNamespace, "x": 1})
    ),
    "newobj with arguments": lambda mark: by_opcodes(
        b"\x80\x04", short("torch"), short("Size"), b"\x93", short("x"), b"\x85\x81."
    ),
    "newobj_ex": lambda mark: by_opcodes(b"\x80\x04", short("os"), short("system"), b"\x93)}\x92."),
    "a name that is no text": lambda mark: by_opcodes(b"\x80\x04N", short("system"), b"\x93."),
    "bytes that only pickle reads": lambda mark: pickle.dumps(metadata({"x": BytesStorageMetadata()})),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_nothing_of_a_forged_file_runs(forge, tmp_path):
    mark = tmp_path / "fired"
    try:
        data = forge(str(mark))
    except (TypeError, pickle.PicklingError) as error:
        pytest.fail(f"no forgery: {error}")
    with pytest.raises(RefusedError) as raised:
        check(read(data), FILES)
    assert not mark.exists()
    assert "\n" not in str(raised.value)


def test_the_forgeries_are_real(tmp_path):
    """pickle itself runs them."""
    for name in ("reduce", "within the storage", "inst", "obj", "eval", "getattr", "a dotted name", "a nested pickle"):
        mark = tmp_path / name.replace(" ", "_")
        pickle.loads(FORGERIES[name](str(mark)))
        assert mark.exists(), name


def test_the_extension_registry_is_not_asked(tmp_path):
    copyreg.add_extension("os", "system", 240)
    try:
        data = by_opcodes(b"\x80\x04\x82\xf0", short(fire(str(tmp_path / "fired"))), b"\x85R.")
        with pytest.raises(RefusedError, match="EXT1"):
            read(data)
    finally:
        copyreg.remove_extension("os", "system", 240)
    assert not (tmp_path / "fired").exists()


def test_the_name_is_said():
    with pytest.raises(RefusedError, match=r"names posix\.system, which is none of DCP's records"):
        read(pickle.dumps(Calls(os.system, "true")))


INDEX = MetadataIndex("x", torch.Size((0, 0)))


@pytest.mark.parametrize(
    ("forged", "said"),
    [
        (metadata(stored={INDEX: _StorageInfo("/etc/passwd", 0, 90)}), "no file of the checkpoint"),
        (metadata(stored={INDEX: _StorageInfo("../__0_0.distcp", 0, 90)}), "no file of the checkpoint"),
        (metadata(stored={INDEX: _StorageInfo("__0_0.distcp", 50, 90)}), "beyond the end"),
        (metadata(stored={INDEX: _StorageInfo("__0_0.distcp", -1, 90)}), "beyond the end"),
        (metadata(stored={INDEX: _StorageInfo("__0_0.distcp", 0, 90, ["stream.zstd"])}), "transformed"),
        (metadata(stored={}), "no bytes are stored"),
        (metadata({"x": tensor(torch.Size((2**20, 2**20)))}), "no bytes are stored"),
        (metadata({"x": tensor(chunks=[])}), "0 of the 12 numbers of x"),
        (metadata({"x": tensor(chunks=[ChunkStorageMetadata(torch.Size((1, 0)), SIZE)])}), "outside of it"),
        (metadata({"x": tensor(chunks=[ChunkStorageMetadata(torch.Size((0,)), SIZE)])}), "outside of it"),
        (metadata({3: tensor()}), "which is no tensor"),
        (metadata(7), "describes no tensors"),
    ],
)
def test_records_must_fit_the_files(forged, said):
    with pytest.raises(RefusedError, match=said):
        check(read(pickle.dumps(forged)), FILES)


@pytest.mark.parametrize("cut", [0, 1, 40, -1])
def test_half_a_file(cut):
    with pytest.raises(RefusedError):
        read(pickle.dumps(metadata())[:cut])


def test_one_that_holds_itself():
    data = b"\x80\x04]\x94h\x00a."
    with pytest.raises(RefusedError, match="not DCP's"):
        read(data)
    loop = metadata()
    loop.planner_data = [loop]
    read(pickle.dumps(loop))


def test_every_byte_flipped_is_read_or_refused():
    data = pickle.dumps(metadata())
    for place in range(len(data)):
        for value in (0, 255, data[place] ^ 1, ord("R"), ord("b")):
            spoilt = bytearray(data)
            spoilt[place] = value
            try:
                check(read(bytes(spoilt)), FILES)
            except RefusedError:
                continue
