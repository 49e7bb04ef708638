import hashlib
import json
import zipfile

import numpy as np
import pytest

from c2al.schema import DataError
from c2al.serving import archive
from c2al.serving.archive import ALIGNMENT, OWN, Archive, written

MATRIX = np.arange(12, dtype=np.float32).reshape(4, 3)


def made(path, **manifest):
    with written(str(path)) as writer:
        writer.add(f"{OWN}note", b"hello")
        writer.add(f"{OWN}matrix", (row.tobytes() for row in MATRIX))
        writer.add(f"{OWN}nothing", b"")
        return writer.finish(manifest)


def test_records_come_back(tmp_path):
    said = made(tmp_path / "m.pt2", name="one")
    opened = Archive(str(tmp_path / "m.pt2"))
    assert opened.manifest == json.loads(json.dumps(said))
    assert opened.read(f"{OWN}note") == b"hello"
    assert opened.manifest["records"][f"{OWN}note"]["sha256"] == hashlib.sha256(b"hello").hexdigest()
    np.testing.assert_array_equal(opened.mapped(f"{OWN}matrix", "float32", 3), MATRIX)
    assert opened.mapped(f"{OWN}nothing", "float32", 3).shape == (0, 3)


def test_matrices_lie_aligned(tmp_path):
    made(tmp_path / "m.pt2")
    opened = Archive(str(tmp_path / "m.pt2"))
    assert opened.mapped(f"{OWN}matrix", "float32", 3).ctypes.data % ALIGNMENT == 0


def test_the_checksum_is_that_of_the_contents(tmp_path):
    one, same, other = made(tmp_path / "a"), made(tmp_path / "b"), made(tmp_path / "c", name="other")
    assert one["checksum"] == same["checksum"] != other["checksum"]


def test_any_cut_is_seen(tmp_path):
    path = tmp_path / "m.pt2"
    made(path)
    whole = path.read_bytes()
    for keep in range(4, len(whole), 97):
        path.write_bytes(whole[:keep])
        with pytest.raises(DataError, match=r"cut short|not a model"):
            Archive(str(path))


def test_any_changed_byte_of_a_record_is_seen(tmp_path):
    path = tmp_path / "m.pt2"
    made(path)
    whole = path.read_bytes()
    place = whole.index(MATRIX[1].tobytes())
    path.write_bytes(whole[:place] + b"\x07" + whole[place + 1 :])
    with pytest.raises(DataError, match="another checksum"):
        Archive(str(path))
    Archive(str(path), check=False)


def test_what_is_no_model(tmp_path):
    with pytest.raises(DataError, match="no model there"):
        Archive(str(tmp_path / "none.pt2"))
    (tmp_path / "text").write_text("hello")
    with pytest.raises(DataError, match="not a model"):
        Archive(str(tmp_path / "text"))
    with zipfile.ZipFile(tmp_path / "zip", "w") as other:
        other.writestr("a", "b")
    with pytest.raises(DataError, match="no manifest"):
        Archive(str(tmp_path / "zip"))


def test_another_format(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "FORMAT", 9)
    made(tmp_path / "m.pt2")
    monkeypatch.undo()
    with pytest.raises(DataError, match="format 9"):
        Archive(str(tmp_path / "m.pt2"))


@pytest.mark.parametrize("place", ["name", "sha256"])
def test_half_a_surrogate_pair_is_no_text(tmp_path, place):
    name, digest = ("\ud800", "x") if place == "name" else ("x", "\ud800")
    with written(str(tmp_path / "m.pt2")) as writer, writer._new(archive.MANIFEST) as record:
        said = {"format": 1, "records": {name: {"bytes": 1, "sha256": digest}}, "checksum": "x"}
        record.write(json.dumps(said).encode())
    with pytest.raises(DataError, match="its manifest has another checksum"):
        Archive(str(tmp_path / "m.pt2"))


def test_a_record_more_or_less_is_seen(tmp_path):
    made(tmp_path / "m.pt2")
    with zipfile.ZipFile(tmp_path / "m.pt2", "a") as opened:
        opened.writestr("model/more", b"1")
    with pytest.raises(DataError, match="model/more"):
        Archive(str(tmp_path / "m.pt2"))


def test_nothing_is_left_half_written(tmp_path):
    made(tmp_path / "m.pt2", name="old")

    def fails():
        with written(str(tmp_path / "m.pt2")) as writer:
            writer.add("model/x", b"1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt2"]
    assert Archive(str(tmp_path / "m.pt2")).manifest["name"] == "old"


def test_a_place_where_no_file_can_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="to="), written(str(tmp_path / "file" / "m.pt2")):
        pass
