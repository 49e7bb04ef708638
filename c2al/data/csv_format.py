"""How text files are read: separator, names, encoding, what counts as null; and one line where they do not read."""

import codecs
import csv
import lzma
import re
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import IO, Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from c2al.schema import DataError

HEAD_BYTES = 1 << 18
BLOCK_BYTES = 8 << 20
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_SEPARATORS = ",\t;|\x01"
_SAID = {"\\t": "\t", "tab": "\t", "space": " ", "comma": ",", "semicolon": ";", "pipe": "|"}
_INSTEAD = "\x1f"  # for a separator of several characters, of which Arrow reads none: ASCII's unit separator
_BOMS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"))
UNREADABLE = (pa.ArrowException, OSError, EOFError, UnicodeError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class CsvFormat:
    """What is said of text files. ``c2al prepare`` keeps in schema.yaml what is not a default, for scoring.

    Attributes:
        nulls: words that are null where they are not in quotes. An empty field always is.
        encoding: a name that Python knows.
        names: of the columns, for files without a header.
        delimiter: the separator, one or more characters; None: found from the first lines of each file.
        may_lack: the one of ``names`` that files to be scored may do without, the label.
    """

    nulls: tuple[str, ...] = ("",)
    encoding: str = "utf-8"
    names: tuple[str, ...] | None = None
    delimiter: str | None = None
    may_lack: str | None = None

    @classmethod
    def of(cls, *, nulls: Any = None, encoding: Any = None, names: Any = None, delimiter: Any = None) -> "CsvFormat":
        """Make one of what was said, None for the default; a DataError for what cannot be."""
        words = [nulls] if isinstance(nulls, str) else [str(word) for word in nulls] if nulls is not None else [""]
        try:
            codec = codecs.lookup(str(encoding or "utf-8")).name
            b"".decode(codec)
        except LookupError:
            remedy = "pass one that Python knows: encoding=latin-1, utf-16, cp1252, gbk …"
            raise DataError("no such encoding", value=encoding, remedy=remedy) from None
        named = tuple(map(str, names)) if names is not None else None
        twice = next((name for name in named or () if (named or ()).count(name) > 1), None)
        if twice is not None or named == ():
            raise DataError("names are empty or not different", value=twice, remedy="pass names=[label,I1,…]")
        separator = _separator(delimiter)
        return cls(tuple(words), codec, named, separator)

    @property
    def said(self) -> dict[str, Any]:
        """What is not a default, in plain values."""
        found: dict[str, Any] = {}
        if self.nulls != ("",):
            found["nulls"] = list(self.nulls)
        if self.encoding != "utf-8":
            found["encoding"] = self.encoding
        if self.names is not None:
            found["names"] = list(self.names)
        if self.delimiter is not None:
            found["delimiter"] = self.delimiter
        return found


def _separator(said: Any) -> str | None:
    if said is None:
        return None
    text = _SAID.get(str(said), str(said))
    if re.fullmatch(r"(\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4})+", text):
        text = re.sub(r"\\[xu]([0-9a-fA-F]+)", lambda found: chr(int(found[1], 16)), text)
    if not text or set(text) & set('"\r\n') or (len(text) == 1 and ord(text) > 127):
        remedy = r"pass an ASCII character, such as delimiter='\t', '\x01', ';', '::' or space"
        raise DataError("no separator of columns", value=repr(said), remedy=remedy)
    return text


@dataclass(frozen=True)
class CsvFile:
    """One text file: its names, its separator, and whether its first line looks like values."""

    path: str
    names: tuple[str, ...]
    delimiter: str
    headless: bool
    format: CsvFormat

    @property
    def names_there(self) -> list[str]:
        """The names as Arrow reads them from the header."""
        names: list[str] = self._opened((), None).schema.names
        return [self._restored(name) for name in names]

    def batches(self, columns: Collection[str], *, quotes: "Quotes | None" = None) -> Iterator[pa.RecordBatch]:
        """Read some columns, all as text; what is null is null. ``quotes`` are counted on the way."""
        asked = [name.replace(self.delimiter, _INSTEAD) if self._several else name for name in columns]
        for batch in self._opened(asked, quotes):
            if quotes is not None:
                quotes.num_rows += batch.num_rows
            yield self._restored_batch(batch) if self._several else batch

    def utf8_blocks(self) -> Iterator[bytes]:
        """The file as Arrow gets it."""
        recode = self._recoder
        with opened(self.path) as stream:
            while block := stream.read(BLOCK_BYTES):
                yield recode(block) if recode else block
        if recode:
            yield recode(b"")

    @property
    def sign(self) -> str:
        """What parts the columns in ``utf8_blocks``, one character."""
        return _INSTEAD if self._several else self.delimiter

    @property
    def _several(self) -> bool:
        return len(self.delimiter) > 1

    @property
    def _recoder(self) -> "_Recoder | None":
        plain = self.format.encoding == "utf-8" and not self._several
        return None if plain else _Recoder(self.format.encoding, self.delimiter if self._several else None)

    def _restored(self, text: str) -> str:
        return text.replace(_INSTEAD, self.delimiter) if self._several else text

    def _restored_batch(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with separators that stood in quotes as they were."""
        arrays = [pc.replace_substring(column.cast(pa.string()), _INSTEAD, self.delimiter) for column in batch.columns]
        return pa.RecordBatch.from_arrays(arrays, names=[self._restored(name) for name in batch.schema.names])

    def _opened(self, columns: Collection[str], quotes: "Quotes | None") -> pyarrow.csv.CSVStreamingReader:
        own = self.format
        stream: Any = pa.PythonFile(opened(self.path), mode="r")
        if recode := self._recoder:
            stream = pa.TransformInputStream(stream, recode)
        if quotes is not None:
            stream = pa.TransformInputStream(stream, quotes.count)
        return pyarrow.csv.open_csv(
            stream,
            read_options=pyarrow.csv.ReadOptions(
                block_size=BLOCK_BYTES, column_names=list(self.names) if own.names is not None else None
            ),
            parse_options=pyarrow.csv.ParseOptions(delimiter=self.sign, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                default_column_type=pa.string(),
                include_columns=list(columns),
                null_values=list(own.nulls),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )


class Quotes:
    """Find a quote that is never closed: it makes one value of all lines up to the next one, or to the file's end.

    Quotes, lines and rows are counted while the file is read. Where there are more lines than rows, ``check`` reads the
    file again and looks at each value of several lines: whether a separator or the line's end follows it.
    """

    def __init__(self, file: CsvFile) -> None:
        self.file, self.num_rows = file, 0
        self._num = self._lines = self._returns = 0
        self._last = b""

    def count(self, block: Any) -> bytes:
        """Count the quotes and lines of a block."""
        block = bytes(block)
        self._num += block.count(b'"')
        self._lines += block.count(b"\n")
        self._returns += block.count(b"\r")
        self._last = block[-1:] or self._last
        return block

    def check(self) -> None:
        """Raise a DataError where a value takes in lines that are not its own."""
        lines = max(self._lines, self._returns) + (self._last not in (b"\n", b"\r"))
        rows = self.num_rows + (self.file.format.names is None)
        if not self._num or (self._num % 2 == 0 and lines <= rows):
            return
        value = self._torn()
        if value is not None:
            shown = repr(value[:60].decode(errors="replace"))
            remedy = "close or double the quote in the file, or write parquet"
            problem = "a quote that is not closed takes in whole lines"
            raise DataError(problem, file=self.file.path, value=shown, remedy=remedy)

    def _torn(self) -> bytes | None:
        """The first value of several lines that is not closed, or goes on behind its closing quote."""
        sign = self.file.sign.encode()
        quoted = re.compile(b"[" + re.escape(sign) + b'\r\n]"((?:[^"]++|"")*+)("?)')
        ends, rest = (sign, b"\r", b"\n", b""), b"\n"
        for block in chain(self.file.utf8_blocks(), [None]):
            text, place = rest + (block or b""), 0
            for found in quoted.finditer(text):
                place = found.start()
                if block is not None and found.end() == len(text):  # the next block may go on with it
                    break
                value, closed, place = found[1], found[2], found.end()
                several = b"\n" in value or b"\r" in value
                if several and not (closed and text[place : place + 1] in ends):
                    return value
            else:
                place = max(place, len(text) - 1)
            rest = text[place:]
        return None


def open_csv(path: str, settings: CsvFormat) -> CsvFile:
    """Find a file's names and separator; a DataError where the first lines do not read."""
    with opened(path) as stream:
        head = stream.read(HEAD_BYTES)
    if settings.encoding == "utf-8":
        found = next((name for bom, name in (*_BOMS, (codecs.BOM_UTF16_BE, "utf-16")) if head.startswith(bom)), None)
        if found or (head[1:200:2].count(0) > 40 or head[0:200:2].count(0) > 40):
            found = found or ("utf-16-le" if head[1:2] == b"\0" else "utf-16-be")
            raise DataError(f"not UTF-8: it is {found.upper()}", file=path, remedy=f"pass encoding={found}")
    try:
        text = _decoder(settings.encoding).decode(head)
    except UnicodeError:
        raise not_encoded(path, settings) from None
    lines = [line for line in re.split(r"\r\n|\n|\r", text)[:50] if line]
    if len(head) == HEAD_BYTES and len(lines) > 1:
        lines = lines[:-1] or lines
    if not lines:
        raise DataError("the file is empty", file=path, remedy="remove the file, or check what wrote it")
    delimiter = settings.delimiter or _sniffed(lines)
    cells = _cells(lines[0], delimiter)
    headless = settings.names is None and _looks_like_values(cells)
    names = _names(path, cells, settings)
    if settings.names is None:
        try:  # as Arrow reads the header: quotes, blank lines
            names = CsvFile(path, (), delimiter, headless, settings).names_there
        except UNREADABLE as error:
            raise csv_error(error, path, settings) from error
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None and headless:
        raise no_header(path, cells)
    if twice is not None:
        raise DataError("two columns have one name", file=path, column=twice, remedy="rename one of them")
    return CsvFile(path, tuple(names), delimiter, headless, settings)


def _names(path: str, cells: list[str], settings: CsvFormat) -> Sequence[str]:
    names = settings.names
    if names is None:
        return cells
    if list(names) == cells:
        raise DataError("the first line holds the names", file=path, remedy="leave out names=…: the file has a header")
    if len(names) == len(cells) + 1 and settings.may_lack in names:
        return [name for name in names if name != settings.may_lack]
    if len(names) != len(cells):
        remedy = "name each column once, or pass delimiter=… if the lines are cut in another way"
        raise DataError(f"{len(names)} names for {len(cells)} columns", file=path, value=cells[0], remedy=remedy)
    return names


def no_header(path: str, cells: Sequence[str]) -> DataError:
    """The error for a first line that looks like values where names were looked for."""
    first = ", ".join(cells[:3])
    remedy = f"pass names=[label,I1,…], one for each of the {len(cells)} columns"
    return DataError("the first line looks like values, not names", file=path, value=first, remedy=remedy)


def _looks_like_values(cells: Sequence[str]) -> bool:
    counted = cells == [str(i) for i in range(len(cells))]  # as pandas names columns that have no names
    return not counted and any(_NUMBER.fullmatch(cell) for cell in cells)


def _cells(line: str, delimiter: str) -> list[str]:
    if len(delimiter) > 1:
        cells = _cells(line.replace(delimiter, _INSTEAD), _INSTEAD)
        return [cell.replace(_INSTEAD, delimiter) for cell in cells]
    try:
        return next(csv.reader([line], delimiter=delimiter), [""])
    except csv.Error:
        return line.split(delimiter)


def _sniffed(lines: Sequence[str]) -> str:
    """The separator that all lines have equally often; else the one most frequent in the first line."""
    bare = [re.sub(r'"[^"]*"', "", line) for line in lines]
    alike = [sign for sign in _SEPARATORS if bare[0].count(sign) and len({line.count(sign) for line in bare}) == 1]
    if alike:
        return max(alike, key=bare[0].count)
    most = max(_SEPARATORS, key=bare[0].count)
    if bare[0].count(most):
        return most
    rare = [sign for sign in ("::", " ") if bare[0].count(sign) and len({line.count(sign) for line in bare}) == 1]
    return rare[0] if rare else ","


def _decoder(encoding: str) -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8-sig" if encoding == "utf-8" else encoding)()


class _Recoder:
    """Bytes of a file as UTF-8, with one character in the place of a separator of several; called block by block."""

    def __init__(self, encoding: str, separator: str | None) -> None:
        self._decoder = _decoder(encoding)
        self._separator, self._rest = separator, ""

    def __call__(self, block: Any) -> bytes:
        block = bytes(block)
        text = self._decoder.decode(block, not block)
        if self._separator is None:
            return text.encode()
        if _INSTEAD in text:
            raise pa.ArrowInvalid("the byte 0x1f beside a separator of several characters")
        text = (self._rest + text).replace(self._separator, _INSTEAD)
        cut = len(text)
        if block:  # the beginning of a separator may stand at the end of a block
            cut -= next((n for n in range(len(self._separator) - 1, 0, -1) if text.endswith(self._separator[:n])), 0)
        text, self._rest = text[:cut], text[cut:]
        return text.encode()


def opened(path: str) -> IO[bytes]:
    """Open a file for reading, unpacked where its name ends in .gz, .bz2, .xz or .zst."""
    if path.lower().endswith(".zip"):
        return _only_member(path)
    if path.lower().endswith(".zst"):
        stream: Any = pa.CompressedInputStream(pa.PythonFile(fsspec.open(path, "rb").open()), "zstd")
        return stream  # type: ignore[no-any-return]
    return fsspec.open(path, "rb", compression="infer").open()  # type: ignore[no-any-return]


def _only_member(path: str) -> IO[bytes]:
    try:
        packed = zipfile.ZipFile(fsspec.open(path, "rb").open())
    except zipfile.BadZipFile as error:
        raise OSError(str(error)) from None
    members = [member for member in packed.infolist() if not member.is_dir()]
    if len(members) != 1:
        shown = ", ".join(member.filename for member in members[:3])
        problem = f"the zip file holds {len(members)} files, and one is read"
        raise DataError(problem, file=path, value=shown, remedy="unpack it into a folder of its own")
    return packed.open(members[0])


def csv_error(error: BaseException, path: str, settings: CsvFormat) -> DataError:
    """The DataError for what made a text file unreadable."""
    if isinstance(error, DataError):
        return error
    said = str(error).strip().split("\n")[0][:300]
    if isinstance(error, UnicodeError) or "invalid UTF8" in said:
        return not_encoded(path, settings)
    if "straddling object" in said:
        said = f"a quote is not closed, or a line is longer than {BLOCK_BYTES >> 20} MiB"
    remedy = "fix or remove the file, pass delimiter=… if its lines are cut in another way, or write parquet"
    return DataError(f"the file does not read: {said}", file=path, remedy=remedy)


def not_encoded(path: str, settings: CsvFormat) -> DataError:
    """The DataError for bytes that are not of the encoding, with the first line of such."""
    decoder, line = codecs.getincrementaldecoder(settings.encoding)(), 1
    shown: str | None = None
    try:
        with opened(path) as stream:
            while block := stream.read(HEAD_BYTES):
                try:
                    line += decoder.decode(block).count("\n")
                except UnicodeDecodeError as error:
                    whole = bytes(error.object)
                    line += whole[: error.start].count(b"\n")
                    begin = whole.rfind(b"\n", 0, error.start) + 1
                    shown = f"line {line}: {whole[max(begin, error.start - 20) : error.start + 20]!r}"
                    break
    except UNREADABLE:
        pass
    if settings.encoding == "utf-8":
        remedy = "pass encoding=latin-1 (or cp1252, gbk, utf-16 …, whichever wrote it), or convert the file to UTF-8"
        return DataError("not UTF-8", file=path, value=shown, remedy=remedy)
    remedy = "pass encoding=… as the file was written"
    return DataError(f"not {settings.encoding}", file=path, value=shown, remedy=remedy)
