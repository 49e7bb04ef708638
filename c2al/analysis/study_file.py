"""Files that a report is made of, read as files of strangers: study.json, pairs.json, report.json, weights.

What does not fit is one DataError with file, key, value and remedy. What fits holds finite numbers of a size that can
be shown, and strings without control characters; other keys than those asked for are left out.
"""

import json
import os
import sys
import zipfile
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from c2al.analysis.significance import conclude
from c2al.plain_files import read_regular, regular_file
from c2al.printable import all_printable, printable
from c2al.schema import DataError

MOST = 1e18  # a number beyond it is no metric, and would not fit a page
MOST_ARMS, MOST_CELLS, MOST_MATRICES = 200, 5_000, 20_000
MOST_DEPTH = 64
MOST_BYTES = 2**27
STUDY_REMEDY = "name a folder that `c2al study` made, or run the study again: its finished runs are kept"
_REQUIRED = object()


class _MisfitError(Exception):
    """What is wrong, and at which key; the file is known further up."""

    def __init__(self, wanted: str, key: str, value: object) -> None:
        super().__init__(wanted)
        self.wanted, self.key, self.value = wanted, key, value


Check = Callable[[Any, str], Any]  # (value, its key) -> the value as it is used, or _MisfitError


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise _MisfitError("expected a text", key, value)
    return value


def _number(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MOST:
        raise _MisfitError(f"expected a number, at most {MOST:g} in size", key, value)
    return value


def _finite(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise _MisfitError("expected a finite number", key, value)
    return value


def _count(value: Any, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST or value != int(value):
        raise _MisfitError("expected a count", key, value)
    return int(value)


def _flag(value: Any, key: str) -> bool:
    if not isinstance(value, bool):
        raise _MisfitError("expected true or false", key, value)
    return value


def _run(value: Any, key: str) -> str:
    """A run's folder, which lies in the study's."""
    if not isinstance(value, str) or not _names_a_file(value) or os.path.isabs(value) or ".." in value.split("/"):
        raise _MisfitError("expected a path below the study's folder", key, value)
    return value


def _names_a_file(text: str) -> bool:
    """Whether any file could have that path."""
    parts = text.encode("utf-8", "surrogatepass").split(b"/")
    return "\0" not in text and max(map(len, parts)) < 256 and len(text) < 2000


def _any(value: Any, key: str) -> Any:
    return value


def _or_none(check: Check) -> Check:
    return lambda value, key: None if value is None else check(value, key)


def _many(check: Check, *, most: int = 100_000) -> Check:
    def checked(value: Any, key: str) -> list[Any]:
        if not isinstance(value, list):
            raise _MisfitError("expected a list", key, value)
        if len(value) > most:
            raise _MisfitError(f"expected at most {most:,} of them", key, f"{len(value):,}")
        return [check(item, f"{key}[{i}]") for i, item in enumerate(value)]

    return checked


def _named(check: Check, *, most: int = 10_000) -> Check:
    def checked(value: Any, key: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _MisfitError("expected names and values", key, value)
        if len(value) > most:
            raise _MisfitError(f"expected at most {most:,} of them", key, f"{len(value):,}")
        return {name: check(item, f"{key}.{name}") for name, item in value.items()}

    return checked


def _record(checks: Mapping[str, Check], **defaults: Any) -> Check:
    def checked(value: Any, key: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _MisfitError("expected names and values", key, value)
        found = {}
        for name, check in checks.items():
            item = value.get(name, defaults.get(name, _REQUIRED))
            if item is _REQUIRED:
                raise _MisfitError("is missing", f"{key}.{name}", None)
            found[name] = check(item, f"{key}.{name}")
        return found

    return checked


def _optional(*names: str) -> dict[str, None]:
    return dict.fromkeys(names)


_CELL_NUMBERS = ("ne_reference", "ne_arm", "calibration_reference", "calibration_arm", "auc_reference")
_AUC = ("auc_difference", "auc_sd", "auc_low", "auc_high")
_CELL = _record(
    {
        **{"arm": _text, "axis": _text, "cohort": _text, "rows": _count, "positives": _count},
        "per_seed": _named(_number),
        **dict.fromkeys((*_CELL_NUMBERS, *_AUC, "row_error"), _or_none(_number)),
        "row_interval": _or_none(_named(_or_none(_many(_number, most=2)))),
    },
    **_optional(*_CELL_NUMBERS, *_AUC, "row_error", "row_interval"),
)
_CHANGE = ("ratio", "low", "high", "difference_low", "difference_high")
_MEASURE = _record(
    {**dict.fromkeys(("reference", "arm", "difference"), _number), **dict.fromkeys(_CHANGE, _or_none(_number))},
    **_optional(*_CHANGE),
)
_DENSITY = _record(
    {
        **dict.fromkeys(("arm", "moment", "layer", "role", "kind"), _text),
        **{"step": _count, "measures": _named(_MEASURE)},
    }
)
_NO_RUNS: dict[str, Any] = {"overrides": [], "runs": {}}
_STUDY = _record(
    {
        **dict.fromkeys(("name", "split", "reference"), _text),
        **dict.fromkeys(("created", "c2al", "commit", "pairs_file"), _or_none(_text)),
        "data": _record(
            {
                "name": _text,
                "path": _text,
                **{"rows": _named(_count), "positives": _named(_count), "notes": _named(_any)},
            },
            **{"path": "", "notes": {}},
        ),
        "arms": _named(_record({"overrides": _many(_text), "runs": _named(_run)}, **_NO_RUNS), most=MOST_ARMS),
        "pair": _or_none(
            _record({**dict.fromkeys(("axis", "head", "tail"), _text), "significant": _flag}, significant=True)
        ),
        "cells": _many(_CELL, most=MOST_CELLS),
        "density": _many(_DENSITY, most=MOST_MATRICES),
        "seconds": _or_none(_number),
        "commands": _or_none(_many(_text)),
        **{"hardware": _or_none(_named(_any)), "versions": _or_none(_named(_any)), "config": _any},
    },
    **{"density": [], "config": {}},
    **_optional("created", "c2al", "commit", "pairs_file", "pair", "seconds", "commands", "hardware", "versions"),
)
_SIDE = ("rows", "positive_rate", "mean_prediction")
_PAIRS = _record(
    {
        "divergence": _text,
        "axes": _many(_text),
        "pairs": _many(
            _record(
                {
                    **dict.fromkeys(("axis", "head", "tail"), _text),
                    **{"divergences": _named(_number), "interval": _many(_number, most=2), "p_holm": _number},
                    **{f"{side}_{key}": _number for side in ("head", "tail") for key in _SIDE},
                    **{"significant": _flag, "verdict": _or_none(_text)},
                },
                verdict=None,
            )
        ),
        "bins": _many(_number),
        "histograms": _many(_record({"head": _many(_number), "tail": _many(_number)})),
    }
)
_METRICS = {
    **dict.fromkeys(("ne", "auc", "calibration", "log_loss"), _or_none(_finite)),
    **{"rows": _count, "positives": _count, "weight": _finite, "positive_weight": _finite},
}
_RUN = _record(
    {
        "metrics": _named(_record({"overall": _record(_METRICS), "cohorts": _named(_named(_record(_METRICS)))})),
        **dict.fromkeys(("c2al", "commit", "versions", "hardware"), _any),
        "rows_per_s": _number,
    },
    **_optional("c2al", "commit", "versions", "hardware"),
)


def load_study(folder: str | Path) -> dict[str, Any]:
    """Return the content of a study's ``study.json``, checked, and concluded by the one definition of what is sure.

    Raises:
        DataError: There is none, or it is no study's: with the key, the value and what was expected.
    """
    path = Path(folder, "study.json")
    if not path.exists():
        raise DataError("no study there", file=str(path), remedy="set study=… to a folder that `c2al study` made")
    read = read_json(path, remedy=STUDY_REMEDY)
    study = all_printable(_checked(read, _STUDY, path, STUDY_REMEDY), most=20_000)
    return checked_study(study, path)


def checked_study(study: dict[str, Any], path: Path) -> dict[str, Any]:
    """A study whose parts fit each other: arms that are there, every cell once."""
    arms, seen = study["arms"], set()
    if study["reference"] not in arms:
        misfit = _MisfitError(f"expected one of {', '.join(arms)}", "reference", study["reference"])
        raise _error(path, misfit, STUDY_REMEDY)
    for part in ("cells", "density"):
        for i, row in enumerate(study[part]):
            if row["arm"] not in arms or (part == "cells" and row["arm"] == study["reference"]):
                misfit = _MisfitError("expected an arm that is compared", f"{part}[{i}].arm", row["arm"])
                raise _error(path, misfit, STUDY_REMEDY)
    for i, row in enumerate(study["cells"]):
        cell = (row["arm"], row["axis"], row["cohort"])
        if cell in seen:
            raise _error(path, _MisfitError("a cell is there twice", f"cells[{i}]", " ".join(cell)), STUDY_REMEDY)
        seen.add(cell)
        if any(ends is not None and len(ends) != 2 for ends in (row["row_interval"] or {}).values()):
            raise _error(path, _MisfitError("expected two ends", f"cells[{i}].row_interval", ""), STUDY_REMEDY)
    if (name := study["pairs_file"]) and (Path(name).name != name or not _names_a_file(name)):
        raise _error(path, _MisfitError("expected the name of a file in the folder", "pairs_file", name), STUDY_REMEDY)
    below = path.parent.resolve()
    for name, arm in arms.items():
        for run in arm["runs"].values():
            if not _lies_in(path.parent / run, below):
                misfit = _MisfitError("expected a path below the study's folder, and no link", f"arms.{name}.runs", run)
                raise _error(path, misfit, STUDY_REMEDY)
    return study | {"cells": conclude(study["cells"])}


def _lies_in(path: Path, folder: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder)
    except (OSError, ValueError, RuntimeError):  # no path, or links in a ring
        return False


def load_pairs(path: Path) -> dict[str, Any]:
    """Return what a report shows of a ``pairs.json``; a DataError where it is none."""
    remedy = "run `c2al discover` again, or delete the file: the report is then made without it"
    pairs = all_printable(_checked(read_json(path, remedy=remedy), _PAIRS, path, remedy))
    for i, ranked in enumerate(pairs["pairs"]):
        if pairs["divergence"] not in ranked["divergences"] or len(ranked["interval"]) != 2:
            raise _error(path, _MisfitError("lacks its divergence or interval", f"pairs[{i}]", None), remedy)
    edges = pairs["bins"]
    if any(not low < high for low, high in pairwise(edges)):
        raise _error(path, _MisfitError("expected rising edges", "bins", edges), remedy)
    for i, shares in enumerate(pairs["histograms"]):
        for side in ("head", "tail"):
            if len(shares[side]) != len(edges) - 1:
                raise _error(
                    path, _MisfitError("expected one share for each bin", f"histograms[{i}].{side}", ""), remedy
                )
    return pairs


def load_report(path: Path, split: str) -> dict[str, Any]:
    """Return a finished run's ``report.json`` as far as a study needs it, with the metrics of ``split``."""
    remedy = "delete this file and start the study again: the run goes on from its last checkpoint"
    report = _checked(read_json(path, remedy=remedy), _RUN, path, remedy)
    if split not in report["metrics"]:
        raise _error(path, _MisfitError("lacks the split", f"metrics.{split}", None), remedy)
    return report


def read_json(path: Path, *, remedy: str) -> Any:
    """Return what a JSON file holds; a DataError where it does not read."""
    try:
        found = json.loads(read_regular(path, most=MOST_BYTES).decode("utf-8"))
        _check_depth(found)
        return found
    except OSError as error:
        raise DataError(f"the file does not open: {error.strerror}", file=str(path), remedy=remedy) from error
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, nested without end
        raise DataError(f"not JSON: {printable(error)}", file=str(path), remedy=remedy) from error


def _check_depth(value: Any) -> None:
    """RecursionError where lists and mappings lie deeper in one another than whoever takes them apart can go."""
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise RecursionError(f"more than {MOST_DEPTH} levels")


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a run's snapshot of weights; a DataError where it does not read or holds no numbers."""
    remedy = "delete this file: the others are then compared without it"
    try:
        with regular_file(path) as raw, np.load(raw) as file:  # does not unpickle
            if any(each.compress_type != zipfile.ZIP_STORED for each in file.zip.infolist()):
                raise ValueError("its arrays are compressed, and c2al writes them as they are")
            if sum(each.file_size for each in file.zip.infolist()) > os.fstat(raw.fileno()).st_size:
                raise ValueError("its arrays are said to be larger than the file")
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # zip, zlib, header and format errors have no class in common
        problem = f"a snapshot of weights does not read: {printable(error)}"
        raise DataError(problem, file=str(path), remedy=remedy) from error
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise DataError("weights are not finite numbers", file=str(path), column=printable(name), remedy=remedy)
    return arrays


def _checked(value: Any, check: Check, path: Path, remedy: str) -> Any:
    try:
        return check(value, "")
    except _MisfitError as misfit:
        raise _error(path, misfit, remedy) from None


def _error(path: Path, misfit: _MisfitError, remedy: str) -> DataError:
    shown = None if misfit.value is None else printable(misfit.value, most=80)
    key = printable(misfit.key.lstrip(".")) or "the whole file"
    problem = f"{path.name} does not fit, key {key}: {misfit.wanted}"
    return DataError(problem, file=str(path), value=shown, remedy=remedy)
