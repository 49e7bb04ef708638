"""What ``progress.json`` may hold: every key that is read later, its kind and its range, checked before it is used."""

from collections.abc import Callable, Mapping
from typing import Any

MOST = 2**53  # of a count; beyond it JSON readers of other languages round
MOST_TABLES = 5_000
MOST_DIMENSIONS = 16
FORMAT = 3  # of contents: 2 has no digests of the data

Check = Callable[[Any], bool]


def checked(found: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's ``progress.json`` as it is, where all of it can be.

    Raises:
        ValueError: Names the key, its value and what it should be.
    """
    if not isinstance(said := found.get("contents"), dict):
        raise ValueError("progress.json does not say what the checkpoint holds: it has no contents")
    if _count(said.get("format")) and said["format"] > FORMAT:
        raise ValueError(f"progress.json is of a newer version of c2al (format {said['format']}, here {FORMAT})")
    own = {key: value for key, value in found.items() if key not in ("files", "sha256", "contents")}
    _check("", own, PROGRESS, needed=NEEDED)
    _check("contents.", said, CONTENTS, needed=set(CONTENTS) - MAY_LACK)
    for table in said["tables"]:
        _check(f"contents.tables.{table.get('table')!s:.40}.", table, TABLE, needed=set(TABLE))
    return found


def _check(prefix: str, found: Mapping[str, Any], kinds: Mapping[str, tuple[Check, str]], *, needed: set[str]) -> None:
    for key, (holds, wanted) in kinds.items():
        if key not in found:
            if key in needed:
                raise ValueError(f"progress.json has no {prefix}{key}")
        elif not holds(found[key]):
            raise ValueError(f"progress.json has {prefix}{key}={found[key]!r:.80}, which should be {wanted}")
    if not prefix and (unknown := set(found) - set(kinds)):
        raise ValueError(f"progress.json has {min(unknown)!r:.80}, which c2al does not know")


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < MOST


def _positive(value: Any) -> bool:
    return _count(value) and value > 0


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e18


def _or_null(holds: Check) -> Check:
    return lambda value: value is None or holds(value)


def _list(holds: Check, length: int | None = None, *, least: int = 0, most: int = MOST) -> Check:
    def of_each(value: Any) -> bool:
        sized = isinstance(value, list) and least <= len(value) <= most and (length is None or len(value) == length)
        return sized and all(map(holds, value))

    return of_each


def _mapping(holds: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(map(holds, value.values()))


def _kind(*kinds: type) -> Check:
    return lambda value: type(value) in kinds


def _data(value: Any) -> bool:
    of_each = {"sparse": _kind(dict), "dense": _list(lambda _: True, 3), "axes": _kind(dict)}
    return isinstance(value, dict) and all(_mapping(holds)(value.get(key)) for key, holds in of_each.items())


def _tables(value: Any) -> bool:
    return _list(_kind(dict), most=MOST_TABLES)(value)


def _loss(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < MOST)


COUNT, POSITIVE, TEXT = (_count, "a whole number from 0"), (_positive, "a whole number from 1"), (_kind(str), "text")
TEXT_OR_NULL = (_kind(str, type(None)), "text or null")
PROGRESS: dict[str, tuple[Check, str]] = {  # the fields of ``loop.Progress``
    **dict.fromkeys(("step", "epoch", "step_in_epoch", "rows", "threads", "evaluations_since_best"), COUNT),
    **dict.fromkeys(("num_steps", "num_rows", "world_size", "batch_size", "window_rows"), POSITIVE),
    "seconds": (_number, "a number"),
    "best_ne": (_or_null(_number), "a number or null"),
    "best_step": (_or_null(_count), "a whole number or null"),
    "stopped_early": (_kind(bool), "true or false"),
    "unfinished": (_kind(bool), "true or false"),
    "losses_since": (_list(_list(_list(_loss))), "lists of lists of lists of numbers"),
    "legs": (_list(_list(_positive, 4)), "lists of four whole numbers"),
    "paces": (_list(_list(_number, 3), least=1), "lists of three numbers, one at least"),
}
NEEDED = {"step", "epoch", "step_in_epoch", "rows", "best_step", "legs", "paces"}
NEEDED |= {"num_steps", "num_rows", "world_size", "batch_size", "window_rows"}
CONTENTS: dict[str, tuple[Check, str]] = {
    "format": POSITIVE,
    "saved_at": TEXT,
    "tables": (_tables, f"a list of at most {MOST_TABLES:,} mappings"),
    "dense_optimizer": (lambda value: isinstance(value, dict) and type(value.get("kind")) is str, "{kind: …}"),
    "average": (_or_null(_number), "a number or null"),
    "sizes": (_mapping(_list(_count, most=MOST_DIMENSIONS)), "short lists of whole numbers by name"),
    "world_size": POSITIVE,
    "rng": (_list(_kind(str)), "a list of names"),
    "data": (_data, "{sparse: …, dense: …, axes: …}"),
    "c2al": TEXT_OR_NULL,
    "commit": TEXT_OR_NULL,
    "versions": (_mapping(_kind(str, type(None))), "texts by name"),
}
MAY_LACK = {"data", "c2al", "commit", "versions"}
TABLE: dict[str, tuple[Check, str]] = {
    **dict.fromkeys(("table", "sharding", "optimizer", "dtype"), TEXT),
    **dict.fromkeys(("num_rows", "dim"), POSITIVE),
    **dict.fromkeys(("weight_bytes", "moment_bytes"), COUNT),
    "ranks": (_list(_count), "a list of whole numbers"),
}
