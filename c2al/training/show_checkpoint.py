"""``c2al checkpoint show``: what checkpoints say of themselves, in JSON; nothing is unpickled, no model is built.

Their files are read once, to be held against their digests: whoever looks wants to know what can be loaded.
"""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from c2al.parallel.plan import span
from c2al.printable import printable
from c2al.schema import DataError
from c2al.training.checkpoint_faults import NO_DIGESTS
from c2al.training.checkpoint_store import DAMAGED, PARTIAL, Store
from c2al.training.progress_file import checked

MOST_LETTERS = 2_000  # of one line


def look(place: str, *, verify: bool = True) -> list[dict[str, Any]]:
    """The checkpoints of a run's folder, of its ``checkpoints`` folder, or the one that is named; oldest first.

    Each is its ``progress.json`` with ``step``, ``where``, ``fault``, which is empty where it is whole, and ``remark``.
    Without ``verify``, the files' contents are not read: only names and sizes are looked at.
    """
    place = place.rstrip("/")
    name = PurePosixPath(place).name
    if name.startswith("step_"):
        step = name.removeprefix("step_").removesuffix(PARTIAL).removesuffix(DAMAGED)
        store = Store(place[: -len(name)])
        if not (step.isascii() and step.isdecimal() and len(step) < 16) or not store.fs.exists(place):
            raise DataError("no checkpoint there", file=place, remedy="name a folder that is there")
        if name.endswith((PARTIAL, DAMAGED)):
            return [{"step": int(step), "where": place, "fault": f"set aside or unfinished: {name}"}]
        return [_described(store, int(step), verify)]
    found: list[dict[str, Any]] = []
    for store in (Store(f"{place}/checkpoints"), Store(place)):
        whole = [_described(store, step, verify) for step in store.steps()]
        under_way = [{"step": step, "where": store.where(step), "fault": "not finished"} for step in store.unfinished()]
        found = found or sorted([*whole, *under_way], key=lambda each: each["step"])
    if not found:
        raise DataError("no checkpoints there", file=place, remedy="name a run's folder, or where its checkpoints are")
    return found


def _described(store: Store, step: int, verify: bool) -> dict[str, Any]:
    here: dict[str, Any] = {"step": step, "where": store.where(step), "remark": ""}
    try:
        found = checked(store.describe(step))
        fault = store.fault(step, found) or (store.damage(step, found) if verify else "")
        remarks = [] if "sha256" in found else [NO_DIGESTS]
        if strangers := store.strangers(step, found):
            remarks.append(f"holds files that are none of its own: {', '.join(strangers)}")
        return found | here | {"fault": fault, "remark": "; ".join(remarks)}
    except (OSError, ValueError) as error:
        return here | {"fault": str(error)}


def listing(found: Sequence[Mapping[str, Any]]) -> Group:
    """A line for each checkpoint; the newest that says something, in full."""
    lines = [_text(f"step {each['step']:,}: {each['where']}: {_state(each)}") for each in found]
    full = next((each for each in reversed(found) if "contents" in each), None)
    return Group(*lines, *(("", *_in_full(full)) if full is not None else ()))


def _state(found: Mapping[str, Any]) -> str:
    state = f"damaged: {found['fault']}" if found["fault"] and "files" in found else found["fault"] or "whole"
    return f"{state}, but {found['remark']}" if found.get("remark") else state


def _in_full(found: Mapping[str, Any]) -> list[Any]:
    said, sizes = found["contents"], found["contents"]["sizes"]
    total = sum(found["files"].values())
    versions = ", ".join(f"{name} {number}" for name, number in said.get("versions", {}).items() if number)
    dense = {name: size for name, size in sizes.items() if name.startswith("dense.")}
    adam = "with moments" if any(name.startswith("dense_optim.") for name in sizes) else "before its first step"
    legs = f" of the leg after {len(found['legs'])} others" if found["legs"] else ""
    average = "none" if said["average"] is None else f"decay {said['average']}"
    said_in_full = [
        f"step {found['step']:,} of {found['num_steps']:,} · {found['rows']:,} rows seen · saved {said['saved_at']}",
        f"position: epoch {found['epoch']}, step {found['step_in_epoch']:,}{legs}, on {found['num_rows']:,} rows, "
        f"{found['world_size']} ranks × {found['batch_size']:,} rows",
        _tables(said["tables"]),
        f"dense: {sum(map(_numbers, dense.values())):,} numbers in {len(dense)} tensors · "
        f"{said['dense_optimizer']['kind']} {adam}",
        f"average of the weights: {average}",
        f"c2al {said.get('c2al')} ({said.get('commit') or 'no commit'}) · {versions}",
        f"{len(found['files'])} files, {total:,} bytes",
    ]
    return [_text(line) if isinstance(line, str) else line for line in said_in_full]


def _tables(tables: Sequence[Mapping[str, Any]]) -> Table:
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    shown.add_column("table", overflow="fold")
    for name in ("rows × dim", "sharding", "ranks", "optimizer", "weights,\nbytes", "moment,\nbytes"):
        shown.add_column(name, justify="right", no_wrap=True)
    for each in tables:
        dtype = "" if each["dtype"] == "float32" else f" {each['dtype']}"
        shown.add_row(
            _text(each["table"]),
            _text(f"{each['num_rows']:,} × {each['dim']}{dtype}"),
            _text(each["sharding"]),
            span(each["ranks"]),
            _text(each["optimizer"]),
            f"{each['weight_bytes']:,}",
            f"{each['moment_bytes']:,}",
        )
    return shown


def _text(said: str) -> Text:
    """As it stands: brackets in it are no markup."""
    return Text(printable(said, most=MOST_LETTERS))


def _numbers(size: Sequence[int]) -> int:
    count = 1
    for each in size:
        count *= each
    return count
