"""The bar that a person watches while a run trains: step, rows/s, loss, NE, time left."""

import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from c2al.training.loop import Progress as Position


class StepBar:
    """A bar on a terminal; a line every tenth of the way where there is none; nothing if not shown."""

    def __init__(self, num_steps: int, done: int, *, shown: bool) -> None:
        self.num_steps, self.shown = num_steps, shown
        console = Console(stderr=True)
        self.live = shown and console.is_terminal
        self._bar = Progress(
            TextColumn("train"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not self.live,
        )
        self._task = self._bar.add_task("train", total=num_steps, completed=done, numbers="")

    def __enter__(self) -> "StepBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, position: Position, train: dict[str, Any], validation: dict[str, Any]) -> None:
        """Show where training stands."""
        if not self.shown:
            return
        numbers = f"{train['rows_per_s']:,.0f} rows/s · loss {train['loss']:.4f}" if train else ""
        if validation and validation["ne"] is not None:
            numbers += f" · validation NE {validation['ne']:.4f}"
        self._bar.update(self._task, completed=position.step, numbers=numbers)
        tenth = max(1, self.num_steps // 10)
        if not self.live and (position.step % tenth == 0 or position.step == self.num_steps):
            print(f"step {position.step}/{self.num_steps} · {numbers}", file=sys.stderr, flush=True)
