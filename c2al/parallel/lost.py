"""When a rank is lost, the others end at once, and the first line that a user reads names it and the cause.

Each rank tells the store where it stands, once a second. On an error of communication the survivors look for dead
processes on their host, then for the address in the error, then for ranks that no longer tell anything.
"""

import contextlib
import itertools
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

import torch.distributed as dist

from c2al.background import Background
from c2al.parallel import out_of_memory
from c2al.parallel import ranks as process_group
from c2al.parallel.endings import LOST, RankLostError
from c2al.parallel.ranks import Ranks
from c2al.parallel.roster import Member, dead_here, named_in, reached_at
from c2al.parallel.signals import Stopped, end_now, stop_signal
from c2al.schema import DataError

log = logging.getLogger(__name__)
T = TypeVar("T")
_number = itertools.count()

BEAT_S = 1.0  # between two signs of life
SILENT_S = 2.5  # without one, a rank does not answer
STORE_S = 3.0  # for an answer of the store
COMMUNICATION = re.compile(
    r"gloo|nccl|connection (was )?(closed|reset|refused)|timed out|time-?out|broken pipe|no route to host|"
    r"network is unreachable|TCPStore|socket|store|recv",
    re.IGNORECASE,
)


class AskedStore:
    """A connection of its own to the ranks' store, of which no question waits for more than 3 s.

    Over a link that is cut torch waits on for a quarter of an hour, whatever its time-out. Once a question has had no
    answer the connection counts as lost.
    """

    def __init__(self, name: str, store: Any) -> None:  # torch types no clone()
        self._store = dist.PrefixStore(name, store.clone())
        self._store.set_timeout(timedelta(seconds=STORE_S))
        self._lost = False
        self._thread = Background("asking")

    def ask(self, question: Callable[[dist.Store], T]) -> T:
        """What ``question`` gives; TimeoutError where there is no answer, else torch's errors."""
        if not self._lost:
            answer = self._thread.submit(partial(question, self._store))
            wait([answer], STORE_S + 0.5)
            if answer.done():
                return answer.result()
            self._lost = True
        raise TimeoutError("the store does not answer")

    def close(self) -> None:
        """Ask nothing more."""
        self._thread.close()


class Watch:
    """A context around all that a group of ranks does: it joins nothing, and explains how it ended.

    Errors of communication come out as RankLostError; an error of this rank's own is told to the others and comes out
    as it is. The process group is left only where all ranks leave it: else the end of the process closes it.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self._ended = threading.Event()
        self._members = ranks.members
        self._stores: list[AskedStore] = []
        self._explained: DataError | None = None
        out_of_memory.keep_spare()
        if ranks.world_size > 1:
            name = f"watch/{next(_number)}"  # one group may do several things, on all ranks in the same order
            self._stores = [AskedStore(name, ranks.store) for _ in range(2)]
            self._store, beats = self._stores
            threading.Thread(target=self._tell, args=(beats,), name="watch", daemon=True).start()

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.explain(error)
        finally:
            self._ended.set()
            for store in self._stores:
                store.close()
        together = error is None or isinstance(error, Stopped) or (isinstance(error, DataError) and error.agreed)
        if together or self.ranks.world_size == 1:
            process_group.stop()

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """The same explanation further inside, where an open log takes it down."""
        try:
            yield
        except Exception as error:
            self.explain(error)
            raise

    def explain(self, error: BaseException | None) -> None:
        """Raise RankLostError where ``error`` is of the connection to other ranks; tell the others of any other.

        Where memory ran out the process has little left: it tells the others, and a DataError takes the error's place.
        """
        if not isinstance(error, Exception) or self._explained is error:
            return
        if out_of_memory.ran_out(error) and not isinstance(error, DataError | RankLostError):
            stop_signal.graceful = True
            raise self._out_of_memory(error) from error
        if self.ranks.world_size == 1:
            return
        if isinstance(error, RankLostError) or (isinstance(error, DataError) and error.agreed):
            return
        stop_signal.graceful = True  # torchrun's SIGTERM to the survivors must not interrupt the search
        if is_communication(error):
            raise self._found(error) from error
        self._tell_others(f"{self._me} failed during {self.ranks.place.name}: {one_line(error)}")

    def _out_of_memory(self, error: Exception) -> DataError:
        out_of_memory.give_up_spare()
        if self.ranks.world_size > 1:
            stop_signal.end_anyway(out_of_memory.END_S)
            self._tell_others(f"{self._me} ran out of memory during {self.ranks.place.name}")
        self._explained = out_of_memory.told(error, self.ranks.place.name)
        return self._explained

    def _tell_others(self, message: str) -> None:
        with contextlib.suppress(Exception):  # the others see the closed connection
            self._store.ask(lambda store: store.add("said", 1))  # first: who reads the fault asks who says it
            self._store.ask(lambda store: store.set("fault", message))

    @property
    def _me(self) -> Member:
        return self._members[self.ranks.rank]

    def _found(self, error: Exception) -> RankLostError:
        message = self._cause(error)
        with contextlib.suppress(Exception):
            self._store.ask(lambda store: store.set("fault", message))
        return RankLostError(f"{message}; go on with resume=true", speaks=self._speaks())

    def _cause(self, error: Exception) -> str:
        place = self.ranks.place.name
        if dead := dead_here(self._members, self._me, within_s=0.5):
            if told := self._told():
                return told
            return f"{dead[0]} was lost during {place}: {dead[1]}"
        if told := self._told(wait_s=1.0):
            return told
        text = one_line(error)
        if "timed out" not in text.lower() and (named := named_in(text, self._members, self._me)):
            return f"{_either(named)} was lost during {place}: {text}"
        if (silent := self._silent()) is None:
            first = self._members[0]
            return f"rank 0's host {first.host} ({', '.join(reached_at(first))}) does not answer during {place}: {text}"
        if silent:
            return f"{_either(silent)} did not answer during {place}: {text}"
        behind = [f"{each} is at {where}" for each, where in zip(self._members, self._places(), strict=True)]
        return f"a rank did not come to {place} in time ({'; '.join(behind)}): {text}"

    def _told(self, wait_s: float = 0.0) -> str | None:
        """What another rank has found, or said of itself."""
        deadline = time.monotonic() + wait_s
        with contextlib.suppress(Exception):
            while True:
                if self._store.ask(lambda store: store.check(["fault"])):
                    return self._store.ask(lambda store: store.get("fault")).decode()
                if time.monotonic() >= deadline:
                    return None
                time.sleep(0.1)
        return None

    def _speaks(self) -> bool:
        """Whether this rank says it: the first that asks the store, or where there is none, the lowest of a host."""
        try:
            return self._store.ask(lambda store: store.add("said", 1)) == 1
        except Exception:
            here = [each.rank for each in self._members if each.host_id == self._me.host_id]
            dead = dead_here(self._members, self._me, within_s=0)
            return self.ranks.rank == min(rank for rank in here if dead is None or rank != dead[0].rank)

    def _silent(self) -> list[Member] | None:
        """The ranks without a sign of life for 2.5 s; None where the store gives none."""
        try:
            before = self._beats()
            time.sleep(SILENT_S)
            after = self._beats()
        except Exception:
            return None
        same = [one == other for one, other in zip(before, after, strict=True)]
        return [each for each, still in zip(self._members, same, strict=True) if still and each != self._me]

    def _places(self) -> list[str]:
        try:
            return [beat.decode().partition(" ")[2] for beat in self._beats()]
        except Exception:
            return ["an unknown place"] * len(self._members)

    def _beats(self) -> list[bytes]:
        names = [f"beat/{each.rank}" for each in self._members]
        return self._store.ask(lambda store: store.multi_get(names))

    def _beat(self, store: AskedStore, sign: str) -> None:
        store.ask(lambda store: store.set(f"beat/{self.ranks.rank}", sign))

    def _tell(self, store: AskedStore) -> None:
        """Signs of life. Where another has found a rank lost and this one waits on, in NCCL say, it ends here."""
        count, heard_s = 0, 0.0
        while True:
            count += 1
            with contextlib.suppress(Exception):  # the store may be gone; the collectives will say so
                self._beat(store, f"{count} {self.ranks.place.name}")
                if not heard_s and store.ask(lambda store: store.check(["fault"])):
                    heard_s = time.monotonic()
            if heard_s and time.monotonic() > heard_s + 2 * STORE_S:
                log.error("another rank ended the run: %s", self._told())
                end_now(LOST)
            try:
                if self._ended.wait(BEAT_S):
                    return
            except (MemoryError, RuntimeError):  # no lock can be made: memory has run out
                time.sleep(BEAT_S)


def is_communication(error: Exception) -> bool:
    """Whether an error is of torch's connections to other ranks."""
    return isinstance(error, dist.DistError) or (
        type(error) is RuntimeError and COMMUNICATION.search(str(error)) is not None
    )


def one_line(error: BaseException, width: int = 200) -> str:
    """An error in one short line, without torch's C++ trace and gloo's advice."""
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    text = re.sub(r"\[\S*\.cc:\d+\] |\. This is typically caused by .*", "", first)
    return f"{type(error).__name__}: {text[:width]}"


def _either(members: list[Member]) -> str:
    return " or ".join(map(str, members[:4])) + (f" or one of {len(members) - 4} more" if len(members) > 4 else "")
