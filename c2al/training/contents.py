"""What a checkpoint says of its contents, in plain JSON; and whether a run can go on with them."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from c2al.parallel.optimizers import Optimizers
from c2al.parallel.plan import MOMENT_BYTES, Placement
from c2al.parallel.rectangles import Value
from c2al.parallel.state import sizes
from c2al.schema import DataError
from c2al.training.progress_file import FORMAT


def describe(
    state: Mapping[str, Value], placements: Sequence[Placement], optimizers: Optimizers, average: float | None
) -> dict[str, Any]:
    """The tables with their plan, and the size of every tensor; what is gone is not missed by ``show``."""
    return {
        "format": FORMAT,
        "saved_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "tables": [
            asdict(each)
            | {
                "dtype": "float32",
                "weight_bytes": 4 * each.num_rows * each.dim,
                "moment_bytes": MOMENT_BYTES[each.optimizer](each.num_rows, each.dim),
            }
            for each in placements
        ],
        "dense_optimizer": {"kind": "Adam", "accumulate": optimizers.accumulate},
        "average": average,
        "sizes": sizes(state),
    }


class Fit:
    """What of a saved state goes into one here; ``dropped`` is what ``without`` allows to leave.

    Raises DataError that names a tensor, both sides and the remedy where the two are of different models, or where a
    state would be lost without a flag.
    """

    def __init__(
        self,
        saved: Mapping[str, Any],
        state: Mapping[str, Value],
        *,
        without: Collection[str],
        only_weights: bool,
        file: str,
    ) -> None:
        self.file, self.here = file, sizes(state)
        self.saved = {name: size for name, size in saved["sizes"].items() if not (only_weights and _is_moment(name))}
        self.dropped: set[str] = set()
        self._check_tables({each["table"]: each for each in saved["tables"]})
        for name in sorted(name for name in {*self.here, *self.saved} if self._differs(name)):
            self._leave_or_refuse(name, without)
        self.names = {name for name in self.here if not self._differs(name)}

    def _differs(self, name: str) -> bool:
        return self.here.get(name) != self.saved.get(name)

    def _check_tables(self, saved: Mapping[str, Mapping[str, Any]]) -> None:
        here = {name.split(".", 1)[1].rpartition(".")[0]: name for name in self.here if _is_table(name)}
        for table in sorted({*here, *saved}):
            wanted = self.here[here[table]] if table in here else None
            was = [saved[table]["num_rows"], saved[table]["dim"]] if table in saved else None
            if was == wanted:
                continue
            if was is None or wanted is None:
                problem = f"the checkpoint has {'no' if was is None else 'a'} table {table}, and the model " + (
                    "has one" if was is None else "has none"
                )
                remedy = "resume with the columns of the run, or start anew with overwrite=true"
            else:
                problem = f"table {table} is {_product(was)} in the checkpoint, and {_product(wanted)} in the model"
                width = (
                    f"model.dims.{table}={was[1]}" if was[0] == wanted[0] else "the data that the run was trained on"
                )
                remedy = f"{width}, or start anew with overwrite=true"
            raise DataError(problem, file=self.file, column=table, remedy=remedy)

    def _leave_or_refuse(self, name: str, without: Collection[str]) -> None:
        was, wanted = self.saved.get(name), self.here.get(name)
        flag = "average" if name.startswith("average.") else None
        flag = "optimizer" if _is_moment(name) else flag
        if flag is None:
            raise DataError(
                f"{name} is {_product(was)} in the checkpoint, and {_product(wanted)} in the model",
                file=self.file,
                remedy="resume with the config of the run, or start anew with overwrite=true",
            )
        if flag not in without:
            raise DataError(
                f"the checkpoint's {flag} does not fit: {name} is {_product(was)} there, and {_product(wanted)} here",
                file=self.file,
                remedy=f"resume with the config of the run, or go on without its {flag}: resume_without=[{flag}]",
            )
        self.dropped.add(flag)


def _is_table(name: str) -> bool:
    return name.startswith("tables.") and name.endswith(".weight")


def _is_moment(name: str) -> bool:
    return name.startswith("dense_optim.") or (name.startswith("tables.") and name.endswith(".moment"))


def _product(size: Sequence[int] | None) -> str:
    return "nothing" if size is None else " × ".join(f"{each:,}" for each in size) or "a number"
