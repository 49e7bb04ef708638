"""Digests of what is written, and tensors that unpack to no more than their bytes."""

import hashlib
import io
import os
import pickle
import zipfile
from types import SimpleNamespace

import pytest
import torch
import torch.distributed.checkpoint as dcp

from c2al.parallel.rectangles import LoadPlanner, SavePlanner
from c2al.training import checkpoint_files, checkpoint_metadata

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
STATE = {"x": torch.arange(12.0).reshape(4, 3), "y": torch.ones(3, dtype=torch.int64)}


def written(place, is_url):
    writer = checkpoint_files.writer(place, is_url=is_url)
    dcp.save(dict(STATE), storage_writer=writer, planner=SavePlanner(), no_dist=True)
    return checkpoint_files.digests_of(writer)


@pytest.mark.parametrize("is_url", [False, True])
def test_digests_are_those_of_the_files(tmp_path, is_url):
    digests = written(f"file://{tmp_path}" if is_url else str(tmp_path), is_url)
    assert digests == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()}
    assert set(digests) == {".metadata", "__0_0.distcp"}


def loaded(folder, is_url=False):
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    state = {name: torch.zeros_like(value) for name, value in STATE.items()}
    place = f"file://{folder}" if is_url else str(folder)
    reader = checkpoint_files.reader(place, files, is_url=is_url)
    dcp.load(state, storage_reader=reader, planner=LoadPlanner(), no_dist=True)
    return state


@pytest.mark.parametrize("is_url", [False, True])
def test_what_was_written_is_read(tmp_path, is_url):
    written(str(tmp_path), is_url=False)
    assert all(torch.equal(value, STATE[name]) for name, value in loaded(tmp_path, is_url).items())


def test_a_tensor_that_unpacks_to_more_than_its_bytes(tmp_path):
    """torch unpacks what is compressed in a file of tensors: a few kB would become GB."""
    written(str(tmp_path), is_url=False)
    path = tmp_path / "__0_0.distcp"
    first = io.BytesIO()
    torch.save(STATE["x"], first)
    packed = io.BytesIO()
    with zipfile.ZipFile(first) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name) + (bytes(10**6) if "/data/" in name else b""))
    size = path.stat().st_size
    packed.write(bytes(0))
    content = path.read_bytes()
    start, length = content.index(first.getvalue()), len(first.getvalue())
    forged = packed.getvalue()
    path.write_bytes(content[:start] + forged + content[start + length :])
    metadata = checkpoint_metadata.read((tmp_path / ".metadata").read_bytes())
    for place, info in metadata.storage_data.items():
        if place.fqn == "x":
            info.length = len(forged)
        elif info.offset > start:
            info.offset += len(forged) - length
    (tmp_path / ".metadata").write_bytes(pickle.dumps(metadata))
    assert path.stat().st_size < size + 10_000
    with pytest.raises(dcp.api.CheckpointException, match="unpacks to more than its bytes"):
        loaded(tmp_path)


class Fires:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_a_pickle_in_the_place_of_a_tensor(tmp_path):
    """As an object that torch would unpickle, and as what only pickle can read."""
    written(str(tmp_path), is_url=False)
    path, mark = tmp_path / "__0_0.distcp", tmp_path / "fired"
    whole, forged = io.BytesIO(), io.BytesIO()
    torch.save(STATE["x"], whole)
    torch.save(Fires(mark), forged)
    content = path.read_bytes()
    path.write_bytes(content.replace(whole.getvalue(), forged.getvalue().ljust(len(whole.getvalue()), b"\0")))
    assert path.read_bytes() != content
    with pytest.raises(dcp.api.CheckpointException):
        loaded(tmp_path)
    with pytest.raises(ValueError, match="only pickle could read it"):
        LoadPlanner().load_bytes(SimpleNamespace(dest_index=dcp.metadata.MetadataIndex("x")), io.BytesIO())
    assert not mark.exists()
