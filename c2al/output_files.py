"""A file that a verb is about to write: what may stand there already is a file of the same kind, and nothing else.

Export, score, discover and plan replace their own earlier output. Anything else under that name is the user's, and is
refused before any work is done.
"""

import json
import zipfile
from collections.abc import Callable
from typing import Any

import fsspec

from c2al.schema import DataError

MODEL_RECORD = "model/c2al/manifest.json"  # of every file that `c2al export` writes
SCORES = {"row", "logit", "probability"}
PNG = b"\x89PNG\r\n\x1a\n"


def check_model_file(to: Any) -> None:
    """Raise a DataError where ``to`` is there and no model file."""
    _refuse_other(to, "c2al export", "model file", _is_model)


def check_scores_file(to: Any) -> None:
    """Raise a DataError where ``to`` is there and no file of scores."""
    _refuse_other(to, "c2al score", "file of scores", _are_scores)


def check_pairs_folder(to: Any) -> None:
    """Raise a DataError where the folder ``to`` has a pairs.json or pairs.png that is none."""
    _check_path(to)
    folder = str(to).rstrip("/")
    _refuse_other(f"{folder}/pairs.json", "c2al discover", "file of cohort pairs", _json_with("pairs"))
    _refuse_other(f"{folder}/pairs.png", "c2al discover", "picture", _is_png)


def check_plan_file(to: Any) -> None:
    """Raise a DataError where the .json or .png ``to`` is there and no plan or picture."""
    if str(to).endswith(".png"):
        _refuse_other(to, "c2al plan", "picture", _is_png)
    else:
        _refuse_other(to, "c2al plan", "plan", _json_with("ranks", "plans"))


def _check_path(to: Any) -> None:
    if not isinstance(to, str) or not to.strip():
        raise DataError("to= names no place", value=repr(to), remedy="pass to=PATH")


def _refuse_other(to: Any, verb: str, kind: str, is_own: Callable[[Any], bool]) -> None:
    _check_path(str(to) if not isinstance(to, str) and to is not None else to)
    path = str(to)
    try:
        files, target = fsspec.url_to_fs(path)
        if not files.exists(target):
            return
        is_folder, is_empty = files.isdir(target), not files.isdir(target) and files.size(target) == 0
    except (OSError, ValueError, ImportError) as error:
        raise DataError(f"no file can be written there: {error}", file=path, remedy="choose another to=…") from None
    if is_folder:
        raise DataError("a folder stands where the file is to be", file=path, remedy="choose another to=…")
    if is_empty:
        return
    try:
        with files.open(target, "rb") as file:
            own = is_own(file)
    except Exception:  # a file of another kind may make its reader fail in any way
        own = False
    if not own:
        problem = f"a file stands there that `{verb}` did not write: it is no {kind}"
        raise DataError(problem, file=path, remedy="choose another to=…, or move that file away")


def _is_model(file: Any) -> bool:
    with zipfile.ZipFile(file) as archive:
        return MODEL_RECORD in archive.namelist()


def _are_scores(file: Any) -> bool:
    import pyarrow.parquet as pq

    return set(pq.ParquetFile(file).schema_arrow.names) >= SCORES


def _json_with(*keys: str) -> Callable[[Any], bool]:
    def has(file: Any) -> bool:
        found = json.load(file)
        return isinstance(found, dict) and any(key in found for key in keys)

    return has


def _is_png(file: Any) -> bool:
    return bool(file.read(len(PNG)) == PNG)
