"""The directory of a model file, read strictly: a zip of plain records, one after another, and nothing else.

Readers of zips are generous. They unpack what is compressed (a bomb), skip what lies before and between records,
believe the directory where a record's own header says otherwise, and take the last of two records of one name. Each of
these lets two programs see two different files. Here there is one layout, that of ``archive.Writer``: records from byte
0 on, not compressed, each right behind the one before; then the directory; then the end.
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO

RECORD, ENTRY, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
END_64, LOCATOR_64 = b"PK\x06\x06", b"PK\x06\x07"
RECORD_FORM, ENTRY_FORM, END_FORM = "<4s5H3L2H", "<4s6H3L5H2L", "<4s4H2LH"
END_64_FORM, LOCATOR_64_FORM = "<4sQ2H2L4Q", "<4sLQL"
RECORD_BYTES, ENTRY_BYTES, END_BYTES, END_64_BYTES, LOCATOR_64_BYTES = 30, 46, 22, 56, 20
MOST_RECORDS, MOST_DIRECTORY_BYTES = 20_000, 2**24
IN_EXTRA_32, IN_EXTRA_16 = 0xFFFFFFFF, 0xFFFF  # the number is in a field of 64 bits
UTF_8 = 0x800  # a flag: the name is in it


class NotAsWrittenError(ValueError):
    """What is wrong with the file's form."""


class NoZipError(ValueError):
    """The file is no zip at all."""


@dataclass(frozen=True)
class Record:
    """Where a record's bytes are."""

    begin: int
    num_bytes: int
    crc: int


def read_directory(file: BinaryIO, root: str) -> dict[str, Record]:
    """Return all records by name, in the order in which they lie.

    Raises:
        NoZipError: there is no end of a zip where it should be.
        NotAsWrittenError: a zip, and not laid out as c2al lays it; the message says where.
    """
    num_records, begin, end = _end(file)
    raw, at, expected = _piece(file, begin, end - begin), 0, 0
    records: dict[str, Record] = {}
    for _ in range(num_records):
        if len(raw) - at < ENTRY_BYTES:
            raise NotAsWrittenError("its directory ends too early")
        fields = struct.unpack(ENTRY_FORM, raw[at : at + ENTRY_BYTES])
        signature, _, _, flags, method, _, _, crc, packed, plain, long_name, long_extra, long_comment, disk = fields[
            :14
        ]
        offset, texts = fields[16], raw[at + ENTRY_BYTES : at + ENTRY_BYTES + long_name + long_extra]
        if signature != ENTRY or len(texts) != long_name + long_extra or long_comment or disk:
            raise NotAsWrittenError("its directory is damaged")
        at += ENTRY_BYTES + long_name + long_extra
        name = _name(texts[:long_name], root, known=records)
        plain, packed, offset = _in_64_bits(texts[long_name:], name, plain, packed, offset)
        if method or plain != packed:
            raise NotAsWrittenError(f"{name} is compressed; what is mapped into memory must be what was checked")
        if flags & ~UTF_8:
            raise NotAsWrittenError(f"{name} is encrypted or of another form")
        if offset != expected:
            raise NotAsWrittenError(f"{name} does not begin where the record before it ends")
        records[name] = _record(file, name, texts[:long_name], offset, (flags, method, crc, plain))
        expected = records[name].begin + plain
    if at != len(raw) or expected != begin:
        raise NotAsWrittenError("something lies between its records and its directory")
    return records


def _end(file: BinaryIO) -> tuple[int, int, int]:
    """How many records there are, where the directory begins and where it ends."""
    size = file.seek(0, 2)
    end = size - END_BYTES
    if end < 0:
        raise NoZipError("too short")
    signature, *disks, here, num, num_bytes, begin, comment = struct.unpack(END_FORM, _piece(file, end, END_BYTES))
    if signature != END or comment:
        raise NoZipError("its end is none of a zip")
    in_64 = end - LOCATOR_64_BYTES - END_64_BYTES
    if in_64 >= 0 and _piece(file, end - LOCATOR_64_BYTES, 4) == LOCATOR_64:
        _, one, there, of = struct.unpack(LOCATOR_64_FORM, _piece(file, end - LOCATOR_64_BYTES, LOCATOR_64_BYTES))
        fields = struct.unpack(END_64_FORM, _piece(file, in_64, END_64_BYTES))
        whole = fields[-4:]
        for small, most, large in zip(
            (here, num, num_bytes, begin), (0xFFFF, 0xFFFF, *[IN_EXTRA_32] * 2), whole, strict=True
        ):
            if small not in (most, large):
                raise NotAsWrittenError("its end says two things")
        if (fields[0], fields[1], fields[4], fields[5]) != (END_64, 44, 0, 0) or (one, there, of) != (0, in_64, 1):
            raise NotAsWrittenError("its end is damaged")
        (here, num, num_bytes, begin), end = whole, in_64
    if any(disks) or here != num or begin + num_bytes != end:
        raise NotAsWrittenError("something lies before, between or behind its parts")
    if num > MOST_RECORDS or num_bytes > MOST_DIRECTORY_BYTES:
        raise NotAsWrittenError(f"it has {num} records in a directory of {num_bytes} bytes, {MOST_RECORDS} at most")
    return num, begin, end


def _piece(file: BinaryIO, begin: int, num_bytes: int) -> bytes:
    file.seek(begin)
    return file.read(num_bytes)


def _name(raw: bytes, root: str, known: dict[str, Record]) -> str:
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise NotAsWrittenError("the name of a record is no text") from None
    shown = name[:80]
    parts = name.split("/")
    if parts[0] != root or len(parts) < 2 or any(part in ("", ".", "..") for part in parts):
        raise NotAsWrittenError(f"a record is called {shown!r}, which is no path below {root}/")
    if not name.isprintable() or "\\" in name or len(name) > 1024:
        raise NotAsWrittenError(f"a record is called {shown!r}")
    if name in known:
        raise NotAsWrittenError(f"two records are called {shown!r}")
    return name


def _in_64_bits(extra: bytes, name: str, plain: int, packed: int, offset: int) -> tuple[int, int, int]:
    """The three numbers, from the field of 64 bits where they are too large for 32."""
    wide = _fields(extra, name).get(1, b"")
    found, used = [], 0
    for number in (plain, packed, offset):
        if number == IN_EXTRA_32:
            if len(wide) < used + 8:
                raise NotAsWrittenError(f"the size of {name} is missing")
            [number] = struct.unpack("<Q", wide[used : used + 8])
            used += 8
        found.append(number)
    if used != len(wide):
        raise NotAsWrittenError(f"the directory says two sizes of {name}")
    return found[0], found[1], found[2]


def _fields(extra: bytes, name: str) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while extra:
        if len(extra) < 4:
            raise NotAsWrittenError(f"the header of {name} is damaged")
        kind, length = struct.unpack("<HH", extra[:4])
        if kind in found or len(extra) < 4 + length:
            raise NotAsWrittenError(f"the header of {name} is damaged")
        found[kind], extra = extra[4 : 4 + length], extra[4 + length :]
    return found


def _record(file: BinaryIO, name: str, raw_name: bytes, offset: int, said: tuple[int, int, int, int]) -> Record:
    """A record by its own header, which must say what the directory says."""
    header = _piece(file, offset, RECORD_BYTES)
    if len(header) < RECORD_BYTES:
        raise NotAsWrittenError(f"{name} lies outside of the file")
    signature, _, flags, method, _, _, crc, packed, plain, long_name, long_extra = struct.unpack(RECORD_FORM, header)
    texts = _piece(file, offset + RECORD_BYTES, long_name + long_extra)
    if signature != RECORD or texts[:long_name] != raw_name:
        raise NotAsWrittenError(f"the header of {name} is another record's")
    wide = _fields(texts[long_name:], name).get(1, b"")
    if (plain, packed) == (IN_EXTRA_32, IN_EXTRA_32) and len(wide) == 16:
        plain, packed = struct.unpack("<QQ", wide)
    elif wide and wide != struct.pack("<QQ", plain, packed):  # Python 3.11.2 writes both, with the same numbers
        raise NotAsWrittenError(f"the header of {name} says two sizes")
    if (flags, method, crc, plain) != said or packed != plain:
        raise NotAsWrittenError(f"the header of {name} says other than the directory")
    return Record(offset + RECORD_BYTES + long_name + long_extra, plain, crc)
