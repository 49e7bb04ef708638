"""Does every model learn with every method? One short run of each pair on one's own rows.

    python -m benchmarks.cross --data data/cj --axis revenue --head "top 10%" --tail "bottom 10%"
    python -m benchmarks.cross --data data/cj … --models dhen wukong --methods c2al pcgrad --steps 200

A run has learned where its normalized entropy on validation rows is under 1, that of the rows' own mean label. Each
finished run is written at once, so that an interrupted cross goes on; exit status 1 where a pair has not learned.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.record import record
from benchmarks.rows import write_pairs
from c2al.cli import compose
from c2al.key_help import CONF
from c2al.parallel import ranks as process_group
from c2al.schema import DataError

OVERRIDES = (
    *("training.evaluations=1", "training.snapshots=0", "training.final_splits=[]", "progress=false"),
    *("training.checkpoint_every=100000", "training.checkpoint_async=false", "overwrite=true", "data.prepare=null"),
)


def names(group: str) -> list[str]:
    """Of all configs of a group."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def learned(model: str, method: str, settings: argparse.Namespace, folder: str) -> dict[str, Any]:
    """One run: losses of its first and last logged steps, NE on validation, or why it was refused."""
    from c2al.training.train import train

    words = [f"model={model}", f"method={method}", f"data.path={settings.data}", f"run_dir={folder}/run", *OVERRIDES]
    words += [f"training.steps={settings.steps}", f"training.batch_size={settings.batch_size}"]
    words += [f"training.threads={settings.threads}", *settings.overrides]
    words += [f'cohorts.axis="{settings.axis}"', f'cohorts.head="{settings.head}"', f'cohorts.tail="{settings.tail}"']
    if method == "c2al_least":  # it looks for one pair of several
        pairs = write_pairs(f"{folder}/pairs.json", settings.axis, (settings.head, settings.tail), settings.least)
        words.append(f"cohorts.pair={pairs}")
    started = time.perf_counter()
    try:
        train(compose("config", words))
    except DataError as error:
        return {"refused": str(error)}
    finally:
        process_group.stop()
    lines = [json.loads(line) for line in Path(folder, "run", "metrics.jsonl").read_text().splitlines()]
    losses = [line["losses"][0] for line in lines if line["split"] == "train"]
    ne = next(line["ne"] for line in reversed(lines) if line["split"] == "validation")
    seconds = round(time.perf_counter() - started, 2)
    return {"first_loss": losses[0], "last_loss": losses[-1], "ne": ne, "seconds": seconds}


def cross_table(found: Mapping[str, Mapping[str, Any]]) -> Table:
    """NE on validation, models down, methods across."""
    methods = list(dict.fromkeys(cell.partition("/")[2] for cell in found))
    table = Table("model", title="NE on validation; – where the pair makes no sense")
    for method in methods:
        table.add_column(method, justify="right")
    for model in dict.fromkeys(cell.partition("/")[0] for cell in found):
        cells = [found.get(f"{model}/{method}", {}) for method in methods]
        table.add_row(model, *(f"{cell['ne']:.3f}" if "ne" in cell else "–" for cell in cells))
    return table


def main(words: list[str] | None = None) -> int:
    """Run what is not there yet, print, record."""
    settings = _settings(words)
    found: dict[str, Any] = json.loads(settings.kept.read_text()) if settings.kept.exists() else {}
    for model in settings.models:
        for method in settings.methods:
            if (cell := f"{model}/{method}") in found:
                continue
            with tempfile.TemporaryDirectory() as folder:
                found[cell] = learned(model, method, settings, folder)
            print(cell, found[cell], flush=True)
            settings.kept.parent.mkdir(parents=True, exist_ok=True)
            settings.kept.write_text(json.dumps(found, indent=1))
    Console(width=240).print(cross_table(found))
    said = {key: str(value) if isinstance(value, Path) else value for key, value in vars(settings).items()}
    print(record("cross", {"settings": said | {"data": Path(settings.data).name}, "cells": found}))
    failed = [cell for cell, each in found.items() if "ne" in each and not (each["ne"] or 2) < 1]
    print(f"{sum('ne' in each for each in found.values())} pairs trained, {len(failed)} have not learned: {failed}")
    return int(bool(failed))


def _settings(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").replace("%", "%%"), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="a prepared folder")
    parser.add_argument("--models", nargs="+", default=names("model"))
    parser.add_argument("--methods", nargs="+", default=names("method"))
    parser.add_argument("--axis", default="revenue")
    parser.add_argument("--head", default="top 10%")
    parser.add_argument("--tail", default="bottom 10%")
    parser.add_argument("--least", nargs=2, default=["10-25%", "25-50%"], help="the pair of c2al_least")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kept", type=Path, default=Path("build/cross.json"), help="where finished runs are kept")
    parser.add_argument("--set", nargs="+", default=[], dest="overrides", help="config keys, e.g. model.dim=32")
    return parser.parse_args(words)


if __name__ == "__main__":
    raise SystemExit(main())
