"""Checkpoints by torch.distributed.checkpoint: written beside the steps, whole or not there, loaded under any plan.

A save copies the state (training stands for that long) and a thread writes the copy, over a gloo group of its own. The
thread of rank 0 adds ``progress.json`` when all ranks have written: until then the checkpoint before is the last one.
"""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from datetime import timedelta
from functools import partial
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException

from c2al.background import Background
from c2al.parallel.lost import is_communication
from c2al.parallel.optimizers import Optimizers
from c2al.parallel.out_of_memory import ran_out
from c2al.parallel.plan import Placement
from c2al.parallel.ranks import Ranks, agree, broadcast, gather, together
from c2al.parallel.rectangles import LoadPlanner, SavePlanner, copied
from c2al.parallel.signals import Stopped
from c2al.parallel.state import State, fill_lazy_state, moments, weights
from c2al.schema import DataError
from c2al.training import checkpoint_files, contents, randomness
from c2al.training.averaging import WeightAverage
from c2al.training.checkpoint_faults import NO_DIGESTS, tell, unwrapped, want_of_memory
from c2al.training.checkpoint_store import Store
from c2al.training.progress_file import checked

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run under a path or URL. A context, at the end of which nothing is under way any more."""

    def __init__(
        self,
        place: str,
        *,
        sharded: nn.Module,
        optimizers: Optimizers,
        average: WeightAverage | None,
        placements: Sequence[Placement],
        ranks: Ranks,
        keep: int = 2,
        beside: bool = True,
        about: dict[str, Any] | None = None,
        check_data: Callable[[Mapping[str, Any], str], None] | None = None,
    ) -> None:
        """``beside``: written while training goes on. ``about`` is added to what a checkpoint says of itself.

        ``check_data`` raises a DataError where a checkpoint (what it says of its data, its place) was trained on ids
        that mean something else than those at hand.
        """
        self.check_data = check_data
        self.store = together(lambda: Store(place))
        self.ranks, self.keep, self.beside, self.about = ranks, keep, beside, about or {}
        self.sharded, self.optimizers, self.average, self.placements = sharded, optimizers, average, placements
        self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=ranks.timeout_s))
        self._thread = Background("checkpoint")
        self._under_way: Future[None] | None = None
        self._last: int | None = None

    def begin_empty(self, *, overwrite: bool) -> None:
        """Where a new run begins behind a URL, no checkpoint of another may lie: DataError, or they go. Collective.

        A run's own folder is empty by then.
        """
        if not self.store.is_url:
            return
        steps, unfinished = self._listed()
        error: DataError | None = None
        if steps and not overwrite:
            remedy = "another training.checkpoints, with the run's name in it; or replace them by overwrite=true"
            error = DataError("checkpoints of another run are there", file=self.store.place, remedy=remedy)
        agree(error)
        if (steps or unfinished) and self.ranks.is_first:
            self.store.clear()

    def save(self, progress: dict[str, Any], *, protect: int | None = None) -> None:
        """Save all state after ``progress["step"]`` steps; older ones beyond ``keep`` go, but not step ``protect``.

        Waits for the save before. An error of writing is raised, on all ranks, by that wait: here or in ``wait``.
        """
        self.wait()
        if progress["step"] == self._last:
            return
        started = time.perf_counter()
        self._last = progress["step"]
        state = {name: copied(value) for name, value in (self._weights() | self._moments()).items()}
        average = self.average.decay if self.average is not None else None
        said = contents.describe(state, self.placements, self.optimizers, average)
        rng = randomness.capture()
        here = {"world_size": self.ranks.world_size, "rng": list(rng)}
        whole = progress | {"contents": said | here | self.about}
        state |= {f"rng.{self.ranks.rank}.{name}": value for name, value in rng.items()}
        self._under_way = self._thread.submit(partial(self._write, state, whole, protect))
        log.info("checkpoint of step %d: copied in %.3f s", progress["step"], time.perf_counter() - started)
        if not self.beside:
            self.wait()

    def _write(self, state: State, progress: dict[str, Any], protect: int | None) -> None:
        """In the thread. DCP tells every rank of a rank's error; what rank 0 alone meets is told by ``wait``."""
        started, step = time.perf_counter(), progress["step"]
        if not self._begun(step):
            return
        writer = checkpoint_files.writer(self.store.where_written(step), is_url=self.store.is_url)
        dcp.save(state, storage_writer=writer, planner=SavePlanner(), process_group=self._group)
        digests = self._gathered(checkpoint_files.digests_of(writer))
        if self.ranks.is_first:
            self.store.finish(step, progress, digests)
            self.store.keep(self.keep, protect=[protect])
            log.info("%s: written in %.3f s", self.store.where(step), time.perf_counter() - started)

    def _begun(self, step: int) -> bool:
        """Whether rank 0 could make room, which the others wait for; its error is raised there. Collective."""
        error: Exception | None = None
        if self.ranks.is_first:
            try:
                self.store.begin(step)
            except Exception as found:  # the others wait for it here
                error = found
        begun = [error is None]
        dist.broadcast_object_list(begun, src=0, group=self._group)
        if error is not None:
            raise error
        return begun[0]

    def _gathered(self, own: dict[str, str]) -> dict[str, str]:
        """On rank 0, the digests of all ranks' files: each has hashed what it wrote. Collective, in the threads."""
        found: list[Any] | None = [None] * self.ranks.world_size if self.ranks.is_first else None
        dist.gather_object(own, found, dst=0, group=self._group)
        return {name: digest for each in found or [] for name, digest in each.items()}

    @property
    def failed(self) -> bool:
        """Whether this rank knows already that what is under way will not be written."""
        future = self._under_way
        return future is not None and future.done() and future.exception() is not None

    def wait(self) -> None:
        """Until what is under way is written: DataError on all ranks where it could not be. Collective in that case."""
        if self._under_way is None:
            return
        future, self._under_way = self._under_way, None
        error: DataError | None = None
        try:
            future.result()
        except (Exception, CheckpointException) as cause:
            if isinstance(cause, Exception) and (is_communication(cause) or ran_out(cause)):
                raise  # this rank's alone: the others wait for it in their writing
            error = DataError(
                f"the checkpoint of step {self._last} could not be written: {self.store.full() or unwrapped(cause)}",
                file=self.store.where(self._last or 0),
                remedy="free disk space, then go on with resume=true; the checkpoint before is whole",
            )
        agree(error)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        """Wait for what is under way, but not where a rank is lost, with which it would wait for ever."""
        joint = error is None or isinstance(error, Stopped) or (isinstance(error, DataError) and error.agreed)
        if self._under_way is not None and (joint or self.ranks.world_size == 1):
            wait_for([self._under_way])
        self._thread.close()

    def load(
        self, step: int | None = None, *, only_weights: bool = False, without: Collection[str] = ()
    ) -> dict[str, Any] | None:
        """Restore the newest whole checkpoint, or that of a step; its progress, or None where there is none.

        One that is damaged is passed over for the one before, set aside as ``….damaged``, and the user told; one that
        ``step`` asks for is refused. What does not fit is a DataError, but for the states that ``without`` allows to
        leave. ``only_weights`` (of the model, or its average) touches no optimizer and leaves the folder as it is.
        """
        found, unfinished = self._listed()
        if step is not None:
            if step not in found:
                remedy = f"step={', '.join(map(str, found)) or 'none is kept'}"
                raise DataError("no checkpoint of that step", file=self.store.place, value=step, remedy=remedy)
            found, unfinished = [step], []
        causes: dict[int, str] = {}
        for each in reversed(found):
            progress, cause = self._read(each, only_weights=only_weights, without=without)
            if progress is not None:
                self._tell(causes, [one for one in unfinished if one > each], each, aside=not only_weights)
                self._last = each if step is None else self._last
                return progress
            causes[each] = cause
        if not causes:
            return None
        last = next(iter(causes.values()))
        problem = f"no checkpoint can be read: {last}" if step is None else f"the checkpoint is damaged: {last}"
        remedy = "start anew with overwrite=true, or put back its files from a copy"
        if step is not None or only_weights:
            remedy = "put back its files from a copy, or name another one by step=…; c2al checkpoint show lists them"
        error = DataError(problem, file=self.store.where(found[-1]), remedy=remedy)
        agree(error)
        raise error

    def _listed(self) -> tuple[list[int], list[int]]:
        """The steps of whole and of unfinished checkpoints, as rank 0 sees them."""
        listed: tuple[list[int], list[int]] = [], []
        error: DataError | None = None
        if self.ranks.is_first:
            try:
                listed = self.store.steps(), self.store.unfinished()
            except Exception as cause:  # each file system has its own
                error = DataError(
                    f"the checkpoints cannot be listed: {cause!r}",
                    file=self.store.place,
                    remedy="fix training.checkpoints, or the access to it",
                )
        agree(error)
        return broadcast(listed)

    def _read(self, step: int, *, only_weights: bool, without: Collection[str]) -> tuple[dict[str, Any] | None, str]:
        """The progress of a checkpoint that all ranks could restore, or a cause why one could not. Collective."""
        progress, cause = broadcast(self._described(step) if self.ranks.is_first else None)
        if cause:
            return None, cause
        files = progress.pop("files")
        if any(causes := gather(self._damage(step, {"files": files, "sha256": progress.get("sha256", {})}))):
            return None, next(each for each in causes if each)
        if progress.pop("sha256", None) is None and self.ranks.is_first:
            tell(f"checkpoint {self.store.where(step)} {NO_DIGESTS}")
        said = progress.pop("contents")
        if self.check_data is not None and "data" in said:
            check, data = self.check_data, said["data"]
            together(lambda: check(data, self.store.where(step)) if self.ranks.is_first else None)
        if not only_weights and any(name.startswith("dense_optim.") for name in said["sizes"]):
            fill_lazy_state(self.optimizers)
        state = self._weights() | ({} if only_weights else self._moments())
        file = self.store.where(step)
        fit = together(lambda: contents.Fit(said, state, without=without, only_weights=only_weights, file=file))
        state = {name: value for name, value in state.items() if name in fit.names}
        alike = not only_weights and said["world_size"] == self.ranks.world_size
        rng = {name: value for name, value in randomness.capture().items() if alike and name in said["rng"]}
        state |= {f"rng.{self.ranks.rank}.{name}": value for name, value in rng.items()}
        cause = self._load_into(state, file, files)
        if any(causes := gather(cause)):
            return None, next(each for each in causes if each)
        if not only_weights:
            self.optimizers.num_steps = progress["step"]
            if rng:
                randomness.restore(rng)
        if "average" in fit.dropped and self.average is not None:
            self.average.restart()
        if self.ranks.is_first and fit.dropped:
            tell(f"going on from {file} without its {' and '.join(sorted(fit.dropped))}, as resume_without says")
        return progress, ""

    def _damage(self, step: int, found: dict[str, Any]) -> str:
        """What is wrong with this rank's share of the files: together the ranks read all of them once."""
        by_size = sorted(found["files"], key=lambda name: (-found["files"][name], name))
        try:
            return self.store.damage(step, found, by_size[self.ranks.rank :: self.ranks.world_size])
        except Exception as error:  # each file system has its own
            if ran_out(error):
                raise
            return unwrapped(error)

    def _load_into(self, state: State, file: str, files: dict[str, int]) -> str:
        """Fill tensors in place; the cause why they could not be, if so. Collective."""
        try:
            reader = checkpoint_files.reader(file, files, is_url=self.store.is_url)
            dcp.load(state, storage_reader=reader, planner=LoadPlanner(), process_group=self._group)
        except (Exception, CheckpointException) as error:
            if isinstance(error, Exception) and (is_communication(error) or ran_out(error)):
                raise
            if want := want_of_memory(error, file):
                agree(want)  # DCP has told all ranks of it
            return unwrapped(error)
        return ""

    def _described(self, step: int) -> tuple[dict[str, Any], str]:
        try:
            found = checked(self.store.read(step))
            if strangers := self.store.strangers(step, found):
                tell(f"{self.store.where(step)} holds files that are none of the checkpoint's: {', '.join(strangers)}")
            return found, ""
        except Exception as error:  # whatever half a file makes json and the file system say
            if ran_out(error):
                raise
            return {}, str(error) if isinstance(error, ValueError) else unwrapped(error)

    def _tell(self, causes: dict[int, str], unfinished: list[int], loaded: int, *, aside: bool) -> None:
        """What was passed over, on rank 0; what is damaged goes out of the way of the next one of its step."""
        if not self.ranks.is_first:
            return
        log.info("loaded %s", self.store.where(loaded))
        goes_on = f"going on from that of step {loaded}, {self.store.where(loaded)}"
        for step in unfinished:
            tell(f"checkpoint {self.store.where(step)} was not finished when the run ended, {goes_on}")
        for step, cause in causes.items():
            if aside:
                self.store.set_aside(step)
            tell(
                f"checkpoint {self.store.where(step)} is damaged{' and set aside' if aside else ''}, {goes_on}: {cause}"
            )

    def _weights(self) -> State:
        state = weights(self.sharded.state_dict(), self.placements)
        if self.average is not None:
            averages = weights(self.average.state, self.placements)
            state |= {f"average.{name}": value for name, value in averages.items()}
        return state

    def _moments(self) -> State:
        return moments(self.optimizers, self.placements)
