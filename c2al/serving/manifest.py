"""Whether a model file's manifest and its list of records are those of a file that c2al writes.

Checksums show that a file is whole, not who wrote it: whoever changes a file can make its checksums fit. So every
number that decides how much memory is taken, every name that leads to code and every record must be known to c2al.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from itertools import pairwise
from typing import Any, TypeVar, get_type_hints

import numpy as np
import pyarrow as pa

from c2al.data.raw_types import arrow_type
from c2al.names import file_names
from c2al.schema import DataError, DenseColumn, Schema, SparseColumn
from c2al.serving.archive import ANEW, MANIFEST, OWN, ROOT, Archive
from c2al.serving.calibration import KINDS, checked_kept
from c2al.serving.encode import checked_policy
from c2al.serving.quantized import DTYPES, PARTS
from c2al.serving.served import SparseInput, lay_out, widths_of

FORMATS = ("export", "eager", "aoti")
DENSE = f"{OWN}dense.safetensors"
OF_TORCH = rf"{ROOT}/(?:archive_format|archive_version|byteorder|\.data/version|\.data/serialization_id)"
RECORDS = {  # beside tables and vocabularies
    "eager": re.compile(re.escape(DENSE)),
    "export": re.compile(
        rf"{OF_TORCH}|{ROOT}/models/model\.json|{ROOT}/data/sample_inputs/model\.pt"
        rf"|{ROOT}/data/weights/(?:weight_\d{{1,6}}|model_weights_config\.json)"
        rf"|{ROOT}/data/constants/(?:tensor_\d{{1,6}}|model_constants_config\.json)"
    ),
    "aoti": re.compile(rf"{OF_TORCH}|{ROOT}/data/aotinductor/model/[\w.-]{{1,200}}"),
}
TRANSFORMS = ("none", "log1p")
LONGEST_TYPE = 1000  # letters
MOST_ROWS_OF_A_TABLE, WIDEST, MOST_PLACES = 2**40, 2**16, 2**14
FORGED = f"do not trust the file; {ANEW}"
T = TypeVar("T")


class Described:
    """What a manifest says, checked: ``sparse`` inputs, ``schema``, ``kind``, ``dtype``, ``device``.

    Raises:
        DataError: it says what no manifest of c2al's says.
    """

    def __init__(self, manifest: Mapping[str, Any], path: str) -> None:
        self._path, self.manifest = path, manifest
        self.kind: str = self._one_of("kind", FORMATS)
        self.dtype: str = self._one_of("dtype", DTYPES)
        self.device: str = self._one_of("device", ("cpu", "cuda"))
        self._check_type("name", str)
        for key in ("versions", "config", "metrics", "inputs", "schema", "policy", "calibration"):
            self._check_type(key, dict)
        inputs = manifest["inputs"]
        self.sparse = [self._made(SparseInput, each, "inputs") for each in self._list(inputs, "sparse")]
        self.schema = self._schema(manifest["schema"])
        self.vocabularies = self._vocabularies()
        self._check_layout()
        self._check_numbers(inputs)
        self._check_rules()

    def _fault(self, problem: str, value: object = None, column: str | None = None) -> DataError:
        shown = None if value is None else str(value)[:80]
        return DataError(
            f"the manifest is refused: {problem}", file=self._path, column=column, value=shown, remedy=FORGED
        )

    def _one_of(self, key: str, known: Sequence[str]) -> str:
        found = self.manifest.get(key)
        if not isinstance(found, str) or found not in known:
            raise self._fault(f"{key} is none of {', '.join(known)}", value=found)
        return found

    def _check_type(self, key: str, kind: type) -> None:
        if not isinstance(self.manifest.get(key), kind):
            raise self._fault(f"{key} is missing or of another type", value=self.manifest.get(key))

    def _list(self, raw: Mapping[str, Any], key: str) -> list[Any]:
        found = raw.get(key)
        if not isinstance(found, list):
            raise self._fault(f"{key} is missing or of another type", value=found)
        return found

    def _made(self, kind: Callable[..., T], raw: Any, where: str) -> T:
        """A dataclass of plain fields, each of the type that it declares."""
        hints = get_type_hints(kind)
        needed = {each.name for each in fields(kind) if each.default is MISSING}  # type: ignore[arg-type]
        if not isinstance(raw, dict) or not needed <= raw.keys() <= hints.keys():
            raise self._fault(f"an entry of {where} has other keys than c2al writes", value=raw)
        for key, value in raw.items():
            plain = isinstance(value, hints[key]) and not (isinstance(value, bool) and hints[key] is not bool)
            if not (_is_number(value) if hints[key] is float else plain):
                raise self._fault(f"{key} of an entry of {where} is of another type", value=value)
        return kind(**raw)

    def _schema(self, raw: Mapping[str, Any]) -> Schema:
        sparse = tuple(self._made(SparseColumn, each, "schema") for each in self._list(raw, "sparse"))
        dense = tuple(self._made(DenseColumn, each, "schema") for each in self._list(raw, "dense"))
        for scale in dense:
            if scale.transform not in TRANSFORMS or not scale.std > 0:
                said = f"{scale.transform}, std {scale.std}"
                raise self._fault("a dense column has no scale", value=said, column=scale.name)
        for column in sparse:
            if not _is_type(column.raw_type):
                raise self._fault("raw_type is no type", value=column.raw_type, column=column.name)
        texts = [raw.get(key) for key in ("name", "label")] + [raw[key] for key in ("weight", "unit") if raw.get(key)]
        if not all(isinstance(text, str) for text in texts):
            raise self._fault("name, label, weight or unit of its schema is no text")
        csv = raw.get("csv", {})
        if not isinstance(csv, dict) or not all(_is_csv_setting(key, value) for key, value in csv.items()):
            raise self._fault("it says otherwise of text files than c2al writes", value=csv)
        return Schema(raw["name"], raw["label"], sparse, dense, weight=raw.get("weight"), unit=raw.get("unit"), csv=csv)

    def _vocabularies(self) -> dict[str, tuple[str, str]]:
        """Where the vocabularies of columns may lie; the second record is that of files of before 2026-11-26."""
        files = file_names(column.name for column in self.schema.sparse)
        names = {column.name: (files[column.name], column.name) for column in self.schema.sparse if column.vocabulary}
        records = {name: tuple(f"{OWN}vocabularies/{each}.parquet" for each in both) for name, both in names.items()}
        return records  # type: ignore[return-value]

    def _check_layout(self) -> None:
        """Columns are there once, of the same table sizes in both lists, and tables lie one under another."""
        columns = {column.name: column for column in self.schema.sparse}
        names = [*columns, *(column.name for column in self.schema.dense)]
        inputs = [column.name for column in self.sparse]
        if len(columns) != len(self.schema.sparse) or len(set(names)) != len(names) or len(set(inputs)) != len(inputs):
            raise self._fault("a column is there twice")
        for column in self.sparse:
            known = columns.get(column.name)
            if known is None or column.multi != known.multi or column.num_rows != known.num_rows:
                raise self._fault("a table is not that of its column", column=column.name)
            rows, width = 1 <= column.num_rows <= MOST_ROWS_OF_A_TABLE, 1 <= column.width <= WIDEST
            if not (rows and width and 0 <= column.places <= MOST_PLACES):
                raise self._fault("a table of an impossible size", column=column.name)
        if lay_out(self.sparse) != self.sparse:
            raise self._fault("tables do not lie one under another")

    def _check_numbers(self, inputs: Mapping[str, Any]) -> None:
        dense = inputs.get("dense_tokens")
        sizes = [inputs.get("dim"), *(dense.values() if isinstance(dense, dict) else [])]
        if not isinstance(dense, dict | None) or not all(_is_size(size, 2**20) for size in sizes):
            raise self._fault("sizes of its inputs are missing or impossible", value=sizes)
        if isinstance(dense, dict) and dense.get("num_dense") != len(self.schema.dense):
            raise self._fault("it reads another number of dense columns than its schema has")

    def _check_rules(self) -> None:
        policy, calibration = self.manifest["policy"], self.manifest["calibration"]
        if not all(isinstance(word, str) for word in policy.values()):
            raise self._fault("its policy is no policy", value=policy)
        try:
            checked_policy(policy)
            self._check_calibration(calibration)
        except DataError as error:
            problem = error.problem.removeprefix("the manifest is refused: ")
            raise self._fault(problem, value=error.where["value"]) from None

    def _check_calibration(self, calibration: Mapping[str, Any]) -> None:
        kind = calibration.get("kind")
        if kind not in KINDS:
            raise self._fault("it has a calibration of no known kind", value=kind)
        if kind == "sampling":
            checked_kept(calibration.get("kept"))
        if kind == "isotonic":
            logits, chances = self._list(calibration, "logit"), self._list(calibration, "probability")
            numbers = all(map(_is_number, (*logits, *chances)))
            if not numbers or len(logits) != len(chances) or not logits or not all(0 < p < 1 for p in chances):
                raise self._fault("its calibration is no curve")
            if any(b < a for each in (logits, chances) for a, b in pairwise(each)):
                raise self._fault("its calibration does not rise")

    def check_records(self, archive: Archive) -> None:
        """A DataError at a record that no file of this kind has, or a table of another size than the columns say."""
        tables, vocabularies = self._tables(), {each for both in self.vocabularies.values() for each in both}
        for name in archive.names():
            if name == MANIFEST or name in vocabularies:
                continue
            if name in tables:
                if archive.num_bytes(name) != tables[name]:
                    problem = f"{name} has {archive.num_bytes(name)} bytes, its columns say {tables[name]}"
                    raise self._fault(problem)
            elif not RECORDS[self.kind].fullmatch(name):
                problem = f"the model holds a record that a file of format={self.kind} never holds"
                raise DataError(problem, file=self._path, value=name, remedy=FORGED)
            elif name.endswith("sample_inputs/model.pt") and archive.num_bytes(name):
                problem = "the model holds a pickle, which could run any code"
                raise DataError(problem, file=self._path, value=name, remedy=FORGED)
        if lacking := tables.keys() - set(archive.names()):
            raise self._fault(f"{min(lacking)} is missing")
        for column in self.schema.sparse:
            named = self.vocabularies.get(column.name, ())
            if named and not column.hashed and not any(name in archive.names() for name in named):
                raise self._fault("a column has a vocabulary, the file has none of it", column=column.name)

    def _tables(self) -> dict[str, int]:
        """The records of tables, and their sizes."""
        sizes = {}
        for width in widths_of(self.sparse):
            rows = sum(column.num_rows for column in self.sparse if column.width == width)
            for part, (kind, columns) in enumerate(PARTS[self.dtype](width)):
                sizes[table_record(width, part)] = rows * columns * np.dtype(kind).itemsize
        return sizes


def table_record(width: int, part: int) -> str:
    """Return where the rows of all tables of a width lie, or a part of them."""
    return f"{OWN}tables/{width}.{part}"


def _is_number(value: Any) -> bool:
    """Whether it is finite as a float too; integers of JSON know no bound."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def _is_type(said: str | None) -> bool:
    """Whether it may be a type in Arrow's words; what is no simple type is taken for none."""
    try:
        arrow_type(said)
    except (ValueError, RecursionError, pa.ArrowException):
        return False
    return len(said or "") <= LONGEST_TYPE


def _is_csv_setting(key: Any, value: Any) -> bool:
    if key in ("nulls", "names"):
        return value is None or (isinstance(value, list) and all(isinstance(each, str) for each in value))
    plain = value is None or (isinstance(value, str) and len(value) <= 40)
    return plain and (key == "delimiter" or (key == "encoding" and bool(re.fullmatch(r"[\w-]*", value or ""))))


def _is_size(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most
