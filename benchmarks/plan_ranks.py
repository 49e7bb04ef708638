"""Started once a rank by ``launching.on_ranks``: measures plans one after another, and says what was found.

Of each plan three loops take turns in blocks of steps, on batches that are in memory:

* ``c2al``: ``Training.stepwise``, all that a run does at a step (log, pulse, bar, what is due);
* ``bare``: the same model and optimizer, TorchRec's pipeline alone;
* ``stock``: TorchRec's modules in a plain loop (``stock.py``).
"""

import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from omegaconf import OmegaConf

from benchmarks.held import Peak, held_bytes
from benchmarks.launching import Rank
from benchmarks.parts import Parts
from benchmarks.peaks import peaks
from benchmarks.stock import Stock
from c2al.batch import Batch
from c2al.data.order import Leg
from c2al.model import Objective
from c2al.parallel import ranks as process_group
from c2al.parallel.pipelines import model_alone
from c2al.parallel.ranks import Ranks, gather
from c2al.schema import DataError, Schema
from c2al.training import build
from c2al.training.auxiliaries import auxiliaries
from c2al.training.run_folder import RunFolder
from c2al.training.train import Training


class InMemory:
    """Batches over and over, where a loop expects a reader."""

    steps_per_epoch = 1_000_000_000

    def __init__(self, held: Sequence[Batch]) -> None:
        self.held = held

    def steps(self, epoch: int, legs: Sequence[Leg] = ()) -> int:
        """More than anyone takes."""
        return self.steps_per_epoch

    def rows_left(self, epoch: int, legs: Sequence[Leg]) -> int:
        """No batch is cut short."""
        return self.steps_per_epoch * 2**31

    def batches(self, epoch: int = 0, start_step: int = 0, legs: Sequence[Leg] = ()) -> Iterator[Batch]:
        """Without end."""
        return itertools.cycle(self.held)


class Measured:
    """One plan's loops, their times by block, and the losses of every step."""

    def __init__(
        self, config: Any, measuring: dict[str, Any], ranks: Ranks, batches: list[Batch], folder: RunFolder
    ) -> None:
        self.measuring, self.ranks, self.batches = measuring, ranks, batches
        self.times: dict[str, list[list[float]]] = {}
        self.losses: dict[str, list[torch.Tensor]] = {"c2al": [], "stock": []}
        peak, started = Peak(ranks), time.perf_counter()
        self.training = Training(config, ranks, folder)
        self.training.begin()
        folder.log_metrics({"step": 0, "split": "train", "loss": 0.0})  # TensorBoard is imported before any step
        self.training.loop.reader = InMemory(batches)  # type: ignore[assignment]
        self.objective = next(each for each in self.training.sharded.modules() if isinstance(each, Objective))
        self.build_s = time.perf_counter() - started
        self._steps = self.training.stepwise()
        self._run(self._c2al, measuring["warmup"])
        self.memory = {**held_bytes(self.training.sharded, self.training.optimizers), "peak_added": peak.added()}
        self.loops: dict[str, Callable[[], None]] = {"c2al": self._c2al}
        if "bare" in measuring["loops"]:
            self.loops["bare"] = self._bare
        if "stock" in measuring["loops"]:
            schema = Schema.load(config.data.path)
            self.stock = Stock(config, schema, self.training.placements, ranks, batches)
            self.loops["stock"] = self._stock
            self._run(self._stock, measuring["warmup"])

    def blocks(self) -> None:
        """Blocks of all loops in turn, each time in another order; fewer for a slow plan, on all ranks alike."""
        names = list(self.loops)
        started = time.perf_counter()
        for index in range(self.measuring["blocks"]):
            for name in names if index % 2 else names[::-1]:
                self.times.setdefault(name, []).append(self._run(self.loops[name], self.measuring["steps"]))
            spent_s = max(gather(time.perf_counter() - started))
            if spent_s * (1 + 1 / (index + 1)) > self.measuring["most_s"]:
                break

    def parts(self) -> dict[str, Any]:
        """Instrumented steps: seconds and bytes by part, of this rank."""
        training, count = self.training, self.measuring["parts"]
        instrument = Parts(training.sharded, training.optimizers, self.ranks)
        with model_alone(training.pipeline):
            instrument.time(self.batches[:2])
            chosen = list(itertools.islice(itertools.cycle(self.batches), count))
            seconds = instrument.time(chosen)
            read = instrument.rows_read_bytes / count
            sent = instrument.send(self.batches[0])
            flops = instrument.dense_flops(self.batches[0])
        return {"seconds": seconds, "sent_bytes": sent, "read_bytes": read, "dense_flops": flops}

    def found(self) -> dict[str, Any]:
        """All of it, of all ranks: lists over ranks, and rank 0's times (all ranks meet at the ends of a block)."""
        parts = gather(self.parts()) if self.measuring["parts"] else []
        losses = {name: self._mean_over_ranks(values) for name, values in self.losses.items() if values}
        return {
            "step_s": self.times,
            "losses": losses,
            "memory": gather(self.memory),
            "parts": parts,
            "build_s": self.build_s,
            "batches": len(self.batches),
        }

    def end(self) -> None:
        """Leave nothing under way."""
        self.training.pulse.rest()
        self._steps.close()  # type: ignore[attr-defined]

    def _run(self, step: Callable[[], None], count: int) -> list[float]:
        """Seconds of each step; the last one ends when all ranks have ended theirs."""
        self._meet()
        times = [time.perf_counter()]
        for _ in range(count):
            step()
            times.append(time.perf_counter())
        self._meet()
        times[-1] = time.perf_counter()
        return [after - before for before, after in itertools.pairwise(times)]

    def _meet(self) -> None:
        if self.ranks.device.type == "cuda":
            torch.cuda.synchronize()
        dist.barrier()

    def _c2al(self) -> None:
        next(self._steps)
        self.losses["c2al"].append(self.objective.last_losses_H[0])

    def _bare(self) -> None:
        fed: Any = self.training.loop.fed
        losses_H, _ = self.training.pipeline.progress(fed)
        self.losses["c2al"].append(losses_H[0])

    def _stock(self) -> None:
        self.losses["stock"].append(self.stock.step())

    def _mean_over_ranks(self, losses: list[torch.Tensor]) -> list[float]:
        every = gather(torch.stack(losses).double().tolist())
        return [sum(values) / len(values) for values in zip(*every, strict=True)]


def read(config: Any, ranks: Ranks, count: int) -> list[Batch]:
    """This rank's first whole batches of the training part, the same ones under every plan."""
    heads = auxiliaries(config, Schema.load(config.data.path))
    reader = build.build_reader(config, ranks, split="train", axes=heads.axes, shuffle=True)
    size = config.training.batch_size
    held = [batch for batch in itertools.islice(reader.batches(), count) if len(batch) == size]
    if min(gather(len(held))) == 0:
        raise DataError(
            f"the training part has no batch of {size} rows for each of {ranks.world_size} ranks",
            file=config.data.path,
            remedy="training.batch_size=… smaller",
        )
    return held[: min(gather(len(held)))]


def main(folder: str) -> None:
    own = Rank(folder)
    try:
        job, first = own.job, OmegaConf.create(next(iter(own.job["plans"].values())))
        ranks = process_group.start(timeout_s=first.training.timeout_s, threads=first.training.threads)
        held: dict[int, list[Batch]] = {}
        found: dict[str, Any] = {"plans": {}}
        for name, plain in job["plans"].items():
            config = OmegaConf.create(plain)
            own.at(f"{name}, reading")
            size = config.training.batch_size
            if size not in held:
                held[size] = read(config, ranks, job["measuring"]["batches"])
            own.at(name)
            with RunFolder(f"{folder}/run", ranks=ranks, overwrite=True) as opened:
                measured = Measured(config, job["measuring"], ranks, held[size], opened)
                measured.blocks()
                found["plans"][name] = measured.found()
                measured.end()
            del measured
        if job["measuring"]["parts"]:
            found["peaks"] = peaks(ranks.device, first.training.precision)
        own.found(found)
        process_group.stop()
    except Exception as error:
        own.fail(error)


if __name__ == "__main__":
    main(sys.argv[1])
