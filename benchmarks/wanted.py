"""The words of ``benchmarks.sharding_plans`` and ``benchmarks.scaling``: their own keys, and c2al's config by the rest.

Every override of ``c2al train`` and ``c2al plan`` works: ``data=…``, ``model=…``, ``parallel.tables.item=row_wise``.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from benchmarks.record import RESULTS
from benchmarks.shapes import make, schema
from c2al.cli import compose
from c2al.schema import DataError

SETTINGS = ("warmup", "blocks", "steps", "most_s", "batches", "parts", "stock")  # that the ranks must know
TOLERANCES = {"fp32": 1e-4, "bf16": 1e-2}  # seen: 2e-5, of plans that cut rows, and 2e-3; a rate 1 % off is 7e-4
SHUFFLED = 8192  # rows that a run under measurement mixes: its own reader is not used


@dataclass
class Measuring:
    """How much is measured. A round is a process group of its own, in which all plans come one after another."""

    shapes: str | None = None  # journey, criteo or multi_hot, in place of data=…
    rows: int = 10_000_000  # of all tables together, where shapes= makes them
    rounds: int = 3
    blocks: int = 2  # of each kind of loop, a plan and round; they take turns
    steps: int = 8  # of a block
    warmup: int = 4  # steps before them, not counted
    most_s: float = 30.0  # a slow plan has fewer blocks in a round, but one
    batches: int = 16  # a rank holds in memory, so that reading is in no step
    parts: int = 4  # instrumented steps beside them; 0: none
    stock: bool = True  # the plain TorchRec loop beside c2al's
    tolerance: float | None = None  # by which losses of the first steps may differ, relative; by precision
    name: str | None = None  # of the results' files
    to: str = str(RESULTS)

    def check(self) -> None:
        """DataError at the first that cannot be."""
        least = {"rows": 26, "rounds": 1, "blocks": 1, "steps": 1, "warmup": 1, "batches": 1, "parts": 0}
        for key, at_least in least.items():
            if getattr(self, key) < at_least:
                remedy = f"{key}=… a whole number from {at_least}"
                raise DataError(f"{key} cannot be that", value=getattr(self, key), remedy=remedy)


@dataclass
class PlansWanted(Measuring):
    """Which plans, on how many ranks; ``threads`` of each rank, by default this machine's cores shared out."""

    plans: list[str] | None = None
    world_size: int = 2
    threads: int | None = None


@dataclass
class ScalingWanted(Measuring):
    """Which numbers of ranks and threads, under one plan, ``parallel=…``."""

    sizes: list[str] | None = None  # ranks x threads; by default what this machine can do
    parts: int = 0


W = TypeVar("W", bound=Measuring)


def parse(words: Sequence[str], kind: type[W]) -> tuple[W, list[str]]:
    """The program's own settings, and the words that are c2al's."""
    known = {each.name for each in fields(kind)}
    own, others = [], []
    for word in words:
        key, _, value = word.partition("=")
        key = key.removeprefix("parallel.") if key in ("parallel.plans", "parallel.world_size") else key
        own.append(f"{key}={value}") if key in known else others.append(word)
        if not value and "=" not in word:
            raise DataError("words are key=value", value=word, remedy=f"{_near(word, known)}, or a key of c2al train")
    try:
        wanted: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), OmegaConf.from_dotlist(own)))
    except OmegaConfBaseException as error:
        raise DataError(f"{error.full_key}: {str(error).splitlines()[0]}", remedy="fix it there") from None
    wanted.check()
    return wanted, others


def config_for(
    wanted: Measuring,
    words: Sequence[str],
    *,
    world_size: int,
    threads: int,
    folder: Path,
    batch_size: int | None = None,
) -> DictConfig:
    """c2al's config for so many ranks on this host; ``folder`` is where the rows of ``shapes=`` are, or will be."""
    own = [f"parallel.world_size={world_size}", f"parallel.ranks_per_host={world_size}"]
    own += ["training.warmup=0", "training.decay=constant", "training.steps=1000000000", "resume=false"]
    own += ["training.evaluations=0", "training.snapshots=0", f"training.window_rows={SHUFFLED}"]
    own += [f"training.threads={threads}", f"run_dir={folder}/run", "training.average=null"]
    own += [f"training.batch_size={batch_size}"] if batch_size else []
    shapes = shapes_of(wanted, words)
    if shapes:
        own += ["data=parquet", f"data.path={folder}/{shapes}", f"data.name={shapes}"]
    config = compose("plan", [*words, *own])
    config.training.checkpoint_every = 1_000_000_000 * config.training.accumulate
    if shapes and config.method.heads and not (config.cohorts.pair or config.cohorts.axis):
        cohorts = schema(shapes, wanted.rows).axes[0].cohorts
        config.cohorts.axis, config.cohorts.head, config.cohorts.tail = "revenue", cohorts[-1], cohorts[0]
    return config


def shapes_of(wanted: Measuring, words: Sequence[str]) -> str | None:
    """Whose table shapes are made: those of ``shapes=``, and Complete Journey's where no data are named either."""
    if any(word.startswith(("data=", "data.", "experiment=")) for word in words):
        if wanted.shapes:
            raise DataError("shapes= makes rows, data= names some", value=wanted.shapes, remedy="one of the two")
        return None
    return wanted.shapes or "journey"


def make_rows(wanted: Measuring, words: Sequence[str], config: DictConfig, *, ranks: int) -> None:
    """The rows that so many ranks hold, where they are to be made."""
    from c2al.verbs import ensure_data

    shapes = shapes_of(wanted, words)
    if shapes:
        train_rows = wanted.batches * config.training.batch_size * ranks
        make(shapes, config.data.path, table_rows=wanted.rows, train_rows=train_rows)
    else:
        ensure_data(config)


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _near(word: str, known: Iterable[str]) -> str:
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}=…?" if close else f"known: {', '.join(sorted(known))}"
