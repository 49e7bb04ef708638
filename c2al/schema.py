"""What each column of prepared data is: sparse, dense, label, weight, cohort axis, split; kept in ``schema.yaml``.

A prepared folder::

    DIR/schema.yaml   DIR/train/*.parquet   DIR/validation/*.parquet   DIR/test/*.parquet   DIR/vocabularies/*.parquet

Columns in the parquet files: a sparse column under its own name (int32 ids in ``[0, num_rows)``, 0 for missing or
unknown; ``list<int32>`` where it is multi-valued), a dense column under its own name (float32, ready for use), the
label (int8, 0 or 1), the weight (float32, > 0), a stored cohort axis as ``cohort_<axis>`` (int16 id, -1 for none), and
the unit (int32), which says which rows belong together when resampling (a household, a user).

A view is a folder of the same form that adds cohort axes to the rows of another one (``c2al.data.view``): its files
hold the columns of these axes alone.
"""

import errno
import hashlib
import math
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from typing import Any

import fsspec
import yaml

from c2al import plain_yaml
from c2al.plain_files import read_regular
from c2al.printable import printable

SPLITS = ("train", "validation", "test")
REPLACED = ".c2al-replaced"  # ends the name that an old folder bears while a new one takes its place
MOST_BYTES = 2**23
MOST_VALUES = 1_000_000  # after all aliases are unfolded
RAW_KEYS = ("source", "part", "raw_type", "drop_unknown")  # of a sparse column; written where they say something


class DataError(ValueError):
    """Bad input: the problem, where it stands, and the remedy. Pickles whole, so that every rank can raise the same."""

    agreed = False  # all ranks raise it together: the first one says it
    found_by: int | None = None  # the rank that found it, where others did not

    def __init__(
        self,
        problem: str,
        *,
        remedy: str,
        file: str | None = None,
        row_group: int | None = None,
        column: str | None = None,
        value: object = None,
    ) -> None:
        self.problem, self.remedy = problem, remedy
        self.where = {"file": file, "row group": row_group, "column": column, "value": value}
        found = ", ".join(f"{name} {place}" for name, place in self.where.items() if place is not None)
        said = f"{problem}{f' ({found})' if found else ''}. Remedy: {remedy}"
        shown = "\\n".join(said.splitlines())  # one line, whatever stands in a name or a value
        super().__init__(printable(shown, most=len(said) * 10))

    def __reduce__(self) -> tuple[Any, ...]:
        return (_data_error, (self.problem, self.remedy, self.where))


def _data_error(problem: str, remedy: str, where: dict[str, Any]) -> DataError:
    return DataError(problem, remedy=remedy, **{name.replace(" ", "_"): place for name, place in where.items()})


@dataclass(frozen=True)
class SparseColumn:
    """A column of ids, one embedding table. ``vocabulary`` is a parquet file of (value, id), relative to the folder.

    What encodes raw rows again: the raw column, where its name is another one (``source``), the ``part`` that is taken
    of its times (hour, weekday), its type in Arrow's words, and whether bags leave out what is unknown, which else has
    id 0. Without a vocabulary and not hashed, raw values are the ids themselves.
    """

    name: str
    num_rows: int
    multi: bool = False
    vocabulary: str | None = None
    hashed: bool = False
    source: str | None = None
    part: str = ""
    raw_type: str | None = None
    drop_unknown: bool = False

    @property
    def raw(self) -> str:
        """The raw column that it is made of."""
        return self.source or self.name


@dataclass(frozen=True)
class DenseColumn:
    """A number. Files hold ``(transform(raw) - mean) / std``; the three are kept for serving."""

    name: str
    transform: str = "none"  # or log1p
    mean: float = 0.0
    std: float = 1.0


@dataclass(frozen=True)
class CohortAxis:
    """A partition of the rows. ``cohorts[i]`` names id i; ``crosses`` names the axes of a crossed one (not stored)."""

    name: str
    cohorts: tuple[str, ...]
    kind: str = "category"  # or quantile, cross, learned
    crosses: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    words: tuple[str, ...] = ()  # of a learned axis: what sets each cohort apart

    @property
    def column(self) -> str:
        """The parquet column that holds the ids."""
        return f"cohort_{self.name}"

    def id_of(self, cohort: str) -> int:
        """The id of a cohort by name; a DataError with the nearest name where there is none."""
        if cohort in self.cohorts:
            return self.cohorts.index(cohort)
        raise DataError(
            f"axis {self.name} has no cohort of that name", value=repr(cohort), remedy=_nearest(cohort, self.cohorts)
        )


@dataclass(frozen=True)
class Split:
    """What one split holds, weighted and not."""

    rows: int
    positives: int
    weight: float
    positive_weight: float


@dataclass(frozen=True)
class View:
    """Where a view's rows are: the prepared folder, the fingerprint of its schema.yaml, and the axes that are added."""

    rows: str
    fingerprint: str
    axes: tuple[str, ...]


@dataclass(frozen=True)
class Schema:
    """All of a prepared folder's columns; of a view, those of its rows' folder and the axes that it adds.

    ``csv`` is what was said of how text files are read (``data.csv_format``), as scoring has to read them.
    """

    name: str
    label: str
    sparse: tuple[SparseColumn, ...]
    dense: tuple[DenseColumn, ...] = ()
    axes: tuple[CohortAxis, ...] = ()
    weight: str | None = None
    unit: str | None = None
    splits: dict[str, Split] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    view: View | None = None
    csv: dict[str, Any] = field(default_factory=dict)

    def axis(self, name: "str | CohortAxis") -> CohortAxis:
        """An axis by name. ``a_x_b`` crosses the stored axes a and b: id = id_a * C_b + id_b. An axis is itself."""
        if isinstance(name, CohortAxis):
            return name
        stored = {axis.name: axis for axis in self.axes}
        if name in stored:
            return stored[name]
        cuts = [(name[:i], name[i + 3 :]) for i in range(len(name)) if name.startswith("_x_", i)]
        pairs = [(stored[a], stored[b]) for a, b in cuts if a in stored and b in stored]
        if len(pairs) > 1:
            found = " or ".join(f"{a.name} and {b.name}" for a, b in pairs)
            remedy = "rename a column, so that one pair alone has this name"
            raise DataError(f"the axis may cross {found}", file="schema.yaml", value=name, remedy=remedy)
        for first, second in pairs:
            cohorts = tuple(f"{a} × {b}" for a in first.cohorts for b in second.cohorts)
            return CohortAxis(name, cohorts, kind="cross", crosses=(first.name, second.name))
        raise DataError("no such cohort axis", file="schema.yaml", value=name, remedy=_nearest(name, tuple(stored)))

    def save(self, folder: str) -> None:
        """Write ``schema.yaml`` into a folder (any fsspec path)."""
        raw = _plain(asdict(self))
        if not self.csv:
            del raw["csv"]
        raw["sparse"] = [_without_empty(column) for column in raw["sparse"]]
        view = raw.pop("view")
        if self.view:
            raw = {"view_of": view["rows"], "fingerprint": view["fingerprint"]} | {
                "axes": [axis for axis in raw["axes"] if axis["name"] in self.view.axes]
            }
        with fsspec.open(f"{folder.rstrip('/')}/schema.yaml", "w") as file:
            yaml.safe_dump(raw, file, sort_keys=False, allow_unicode=True)

    @classmethod
    def load(cls, folder: str) -> "Schema":
        """Read ``schema.yaml`` of a folder (any fsspec path)."""
        path = f"{folder.rstrip('/')}/schema.yaml"
        try:
            raw = plain_yaml.load(_text(folder), most_values=MOST_VALUES, most_letters=MOST_BYTES)
        except plain_yaml.YamlRefusedError as error:
            problem = f"schema.yaml {error.problem}"
            raise DataError(problem, file=path, value=error.value, remedy="prepare the data again") from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            if isinstance(error, DataError):
                raise
            said = " ".join(str(error).split())[:200]
            remedy = "put it back from a copy, or prepare the data again"
            raise DataError(f"schema.yaml is no YAML: {said}", file=path, remedy=remedy) from error
        try:
            if "view_of" in raw:
                return _with_view(raw, path)
            derived = raw.get("notes", {}).get("derived", {})  # how older files say it
            schema = cls(
                **{
                    **raw,
                    "sparse": tuple(_sparse(column, derived) for column in raw["sparse"]),
                    "dense": tuple(DenseColumn(**column) for column in raw["dense"]),
                    "axes": tuple(_axis(axis) for axis in raw["axes"]),
                    "splits": {name: Split(**split) for name, split in raw["splits"].items()},
                }
            )
            _check_values(schema)
            return schema
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"schema.yaml does not read: {' '.join(str(error).split())[:300]}",
                file=path,
                remedy="prepare the data again",
            ) from error


def _check_values(schema: Schema) -> None:
    """Raise a ValueError at the first value that cannot be, whoever wrote it."""
    for sparse in schema.sparse:
        _need(type(sparse.name) is str and sparse.name != "", "a sparse column's name", sparse.name)
        _need(
            type(sparse.num_rows) is int and 1 <= sparse.num_rows < 2**48, f"num_rows of {sparse.name}", sparse.num_rows
        )
        parts = str(sparse.vocabulary).replace("\\", "/").split("/")
        inside = (
            type(sparse.vocabulary) is str
            and "" not in parts
            and ".." not in parts
            and "://" not in sparse.vocabulary
            and "::" not in sparse.vocabulary
        )
        _need(sparse.vocabulary is None or inside, f"the vocabulary of {sparse.name}", sparse.vocabulary)
    for dense in schema.dense:
        _need(type(dense.name) is str and dense.name != "", "a dense column's name", dense.name)
        finite = all(type(each) in (int, float) and math.isfinite(each) for each in (dense.mean, dense.std))
        _need(finite and dense.std > 0, f"mean and std of {dense.name}", (dense.mean, dense.std))
    for axis in schema.axes:
        named = (
            type(axis.name) is str
            and isinstance(axis.cohorts, tuple)
            and all(type(each) is str for each in axis.cohorts)
        )
        _need(named, "an axis's name and cohorts", axis.name)
    for name, split in schema.splits.items():
        _need(type(split.rows) is int and 0 <= split.rows < 2**48, f"the rows of {name}", split.rows)
    for key, value in (("label", schema.label), ("weight", schema.weight), ("unit", schema.unit)):
        _need(type(value) is str or (value is None and key != "label"), key, value)


def _need(holds: bool, what: str, value: object) -> None:
    if not holds:
        raise ValueError(f"{what} cannot be {value!r:.80}")


def fingerprint(folder: str) -> str:
    """Of a prepared folder's ``schema.yaml``, which counts its rows: by it a view knows that they are the same."""
    return hashlib.sha256(_text(folder).encode()).hexdigest()[:16]


def _text(folder: str) -> str:
    path = f"{folder.rstrip('/')}/schema.yaml"
    try:
        if is_local(path):
            content = read_regular(fsspec.url_to_fs(path)[1], most=MOST_BYTES)
        else:
            with fsspec.open(path, "rb") as file:
                content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise OSError(errno.EFBIG, f"it has more than {MOST_BYTES:,} bytes")
        return content.decode()
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(folder.rstrip("/"), path) from None
    except UnicodeDecodeError:
        raise
    except Exception as error:  # those of stores, and of packages that are not there, have no class in common
        if is_local(path) and not isinstance(error, OSError | ValueError):
            raise
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        problem = f"schema.yaml does not open: {said:.200}"
        raise DataError(problem, file=f"{path:.300}", remedy="fix data.path, or install what it asks for") from error


def _missing(folder: str, path: str) -> DataError:
    nothing = DataError(
        "no prepared data there", file=path, remedy="run `c2al prepare source=… to=DIR`, or fix data.path"
    )
    try:
        files, root = fsspec.url_to_fs(folder)
    except FileNotFoundError:  # of the archive that the folder would be in
        return nothing
    if files.exists(f"{root}{REPLACED}/schema.yaml"):
        return DataError(
            "a preparation was stopped while it replaced this folder; the old data is whole",
            file=f"{root}{REPLACED}",
            remedy=f"rename it to {folder}, or run `c2al prepare` into that folder again",
        )
    if raw := _raw_rows(files, root):
        remedy = f"c2al prepare source=parquet from={folder} to=DIR label=COLUMN, then data.path=DIR"
        return DataError("these are raw rows, not prepared data", file=raw, remedy=remedy)
    return nothing


def is_local(place: str) -> bool:
    """Whether a path is one of this machine's files, and no URL that leads to others."""
    return "::" not in place and place.partition("://")[0] in (place, "file", "local")


def refuse_elsewhere(place: object, *, of: str, what: str) -> None:
    """Raise a DataError where a file, which a stranger may have written, has what is opened lead to another store."""
    if not isinstance(place, str) or not place:
        raise DataError(f"{what} are no folder", file=of, value=f"{place!r:.80}", remedy="name a folder")
    same = "::" not in place and not is_local(of) and place.partition("://")[0] == of.partition("://")[0]
    if not (is_local(place) or same):
        remedy = "put both on the same store, and look at who wrote the file before you do"
        raise DataError(
            f"{what} lie on another store than the file that names them", file=of, value=place, remedy=remedy
        )


def _raw_rows(files: Any, root: str) -> str | None:
    """The raw file that a path is, or the first one in the folder that it is."""
    found = [root] if files.isfile(root) else sorted(files.ls(root, detail=False)) if files.isdir(root) else []
    endings = (".parquet", ".csv", ".csv.gz", ".tsv", ".jsonl")
    return next((path for path in found if path.endswith(endings)), None)


def _with_view(raw: dict[str, Any], path: str) -> Schema:
    refuse_elsewhere(raw["view_of"], of=path, what="a view's rows")
    if raw["view_of"].rstrip("/") == path.rpartition("/")[0]:
        raise ValueError("view_of is the folder itself")
    rows, axes = Schema.load(raw["view_of"]), tuple(_axis(axis) for axis in raw["axes"])
    if fingerprint(raw["view_of"]) != raw["fingerprint"]:
        raise DataError(
            "the rows that the view adds cohorts to have been prepared again since",
            file=path,
            value=raw["view_of"],
            remedy="learn the cohorts again: train a baseline on the new rows, then c2al discover",
        )
    view = View(raw["view_of"], raw["fingerprint"], tuple(axis.name for axis in axes))
    return replace(rows, axes=(*rows.axes, *axes), view=view)


def _sparse(raw: dict[str, Any], derived: dict[str, dict[str, str]]) -> SparseColumn:
    made = derived.get(raw.get("name", ""), {})
    return SparseColumn(**({"source": made["column"], "part": made["part"]} if made else {}) | raw)


def _without_empty(sparse: dict[str, Any]) -> dict[str, Any]:
    """Without what says only how raw rows are encoded, where that is nothing."""
    return {key: value for key, value in sparse.items() if value or key not in RAW_KEYS}


def _axis(raw: dict[str, Any]) -> CohortAxis:
    lists: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}
    return CohortAxis(**lists)


def _nearest(name: str, known: tuple[str, ...]) -> str:
    close = get_close_matches(name, known, n=1)
    return (f"did you mean {close[0]}? " if close else "") + f"known: {', '.join(known) or 'none'}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
