"""One way in which a model file can lie; every other way of laying a zip is refused, whatever its checksums."""

import struct
import zipfile

import pytest

from c2al.schema import DataError
from c2al.serving import directory
from c2al.serving.archive import MANIFEST, OWN, Archive, written

NOTE, TABLE = f"{OWN}note", f"{OWN}tables/1.0"


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "m.pt2"
    with written(str(path)) as writer:
        writer.add(NOTE, b"hello")
        writer.add(TABLE, bytes(range(256)))
        writer.finish({"name": "one"})
    return path


def entry(whole: bytes, name: str) -> int:
    """Where the directory's entry of a record begins."""
    return whole.rindex(name.encode()) - directory.ENTRY_BYTES


def header(whole: bytes, name: str) -> int:
    return whole.index(name.encode()) - directory.RECORD_BYTES


def put(whole: bytes, at: int, new: bytes) -> bytes:
    return whole[:at] + new + whole[at + len(new) :]


def refused(model, content: bytes, said: str) -> None:
    model.write_bytes(content)
    with pytest.raises(DataError, match=said) as raised:
        Archive(str(model), check=False)
    assert "\n" not in str(raised.value)


def packed_again(model, target, method: int, order=sorted) -> str:
    with zipfile.ZipFile(model) as one, zipfile.ZipFile(target, "w", method) as other:
        for info in order(one.infolist(), key=lambda info: info.filename):
            other.writestr(info.filename, one.read(info.filename))
    return str(target)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (zipfile.ZIP_DEFLATED, "is compressed"),
        (zipfile.ZIP_BZIP2, "is compressed"),
        (zipfile.ZIP_LZMA, "is compressed"),
    ],
)
def test_a_file_that_was_packed_again(model, tmp_path, method, said):
    with pytest.raises(DataError, match=said):
        Archive(packed_again(model, tmp_path / "again.pt2", method))


def test_a_file_that_was_packed_again_uncompressed_gives_the_same_or_is_refused(model, tmp_path):
    again = Archive(packed_again(model, tmp_path / "again.pt2", zipfile.ZIP_STORED))
    assert again.read(NOTE) == b"hello"
    with pytest.raises(DataError, match="multiples of 64"):
        again.mapped(TABLE, "uint8", 1)


def test_one_record_compressed_alone(model, tmp_path):
    with zipfile.ZipFile(model) as one, zipfile.ZipFile(tmp_path / "b.pt2", "w") as other:
        for info in one.infolist():
            method = zipfile.ZIP_DEFLATED if info.filename == TABLE else zipfile.ZIP_STORED
            other.writestr(info.filename, one.read(info.filename), method)
    with pytest.raises(DataError, match=r"tables/1\.0 is compressed"):
        Archive(str(tmp_path / "b.pt2"))


def test_a_bomb_is_not_unpacked(tmp_path):
    """A gigabyte of zeros in a megabyte, as the manifest and as a record."""
    with zipfile.ZipFile(tmp_path / "bomb.pt2", "w", zipfile.ZIP_DEFLATED) as bomb, bomb.open(MANIFEST, "w") as record:
        for _ in range(64):
            record.write(bytes(2**24))
    with pytest.raises(DataError, match="is compressed"):
        Archive(str(tmp_path / "bomb.pt2"))


@pytest.mark.parametrize("added", [b"x", b"PK\x05\x06" + bytes(18), b"\0" * 100])
def test_what_is_added_before_or_behind(model, added):
    whole = model.read_bytes()
    refused(model, whole + added, "cut short|not a model|something lies")
    refused(model, added + whole, "cut short|not a model|something lies")


def test_what_lies_between(model):
    whole = model.read_bytes()
    at = whole.index(b"PK\x01\x02")
    refused(model, whole[:at] + b"gap" + whole[at:], "something lies")


def test_a_comment_could_hold_another_file(model):
    whole = model.read_bytes()
    refused(model, whole[:-2] + struct.pack("<H", 5) + b"12345", "cut short")


@pytest.mark.parametrize(
    "name", ["../../etc/x", "/absolute/", "model/../x", "model//x", "model/a\\b", "other/x", "model"]
)
def test_names_that_lead_elsewhere(model, name):
    with zipfile.ZipFile(model, "a") as opened:
        opened.writestr(name, b"1")
    with pytest.raises(DataError, match="is called"):
        Archive(str(model), check=False)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_records_of_one_name(model):
    with zipfile.ZipFile(model, "a") as opened:
        opened.writestr(NOTE, b"other")
    with pytest.raises(DataError, match="two records"):
        Archive(str(model), check=False)


def test_headers_that_say_other_than_the_directory(model):
    whole = model.read_bytes()
    here, there = header(whole, NOTE), entry(whole, NOTE)
    refused(model, put(whole, here + 30, b"w"), "another record's")
    refused(model, put(whole, here + 14, b"\1\2\3\4"), "says other")  # CRC
    refused(model, put(whole, here + 8, b"\x08\0"), "says other")  # compressed
    refused(model, put(whole, there + 8, b"\1\0"), "encrypted")
    refused(model, put(whole, there + 10, b"\x08\0"), "compressed")
    refused(model, put(whole, there + 24, struct.pack("<L", 6)), "compressed")
    refused(model, put(whole, there + 20, struct.pack("<LL", 6, 6)), "says other")


def test_sizes_in_both_fields_must_be_one(model):
    """As Python 3.11.2 writes a header: the size in 32 bits, and again in 64."""
    whole = model.read_bytes()
    here = header(whole, NOTE)
    both = put(whole, here + 18, struct.pack("<LL", 5, 5))
    wide = both.index(struct.pack("<HHQQ", 1, 16, 5, 5), here)
    model.write_bytes(both)
    assert Archive(str(model), check=False).read(NOTE) == b"hello"
    for other in (struct.pack("<QQ", 6, 5), struct.pack("<QQ", 5, 6), struct.pack("<QQ", 2**40, 2**40)):
        refused(model, put(both, wide + 4, other), "two sizes")


def test_offsets_that_overlap_or_lie_outside(model):
    whole = model.read_bytes()
    there = entry(whole, TABLE)
    refused(model, put(whole, there + 42, struct.pack("<L", 0)), "does not begin where")
    refused(model, put(whole, there + 42, struct.pack("<L", 2**31)), "does not begin where")
    refused(model, put(whole, there + 42, struct.pack("<L", 0xFFFFFFFF)), "missing")
    refused(model, put(whole, there + 20, struct.pack("<LL", 0xFFFFFFFF, 0xFFFFFFFF)), "missing")


def test_more_records_than_any_model_has(model, monkeypatch):
    monkeypatch.setattr(directory, "MOST_RECORDS", 2)
    with pytest.raises(DataError, match="2 at most"):
        Archive(str(model))


def test_numbers_of_64_bits_at_the_end(model, monkeypatch):
    """As Python writes them in files beyond 2 GiB."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    with zipfile.ZipFile(model, "a") as opened:
        opened.writestr("model/more", b"1")
    whole = model.read_bytes()
    assert directory.LOCATOR_64 in whole
    with open(model, "rb") as file:
        found = directory.read_directory(file, "model")
    assert list(found) == [NOTE, TABLE, MANIFEST, "model/more"]
    at = whole.index(directory.END_64)
    refused(model, put(whole, at + 32, struct.pack("<Q", 3)), "two things")
    refused(model, put(whole, at + 48, struct.pack("<Q", 5)), "two things")
