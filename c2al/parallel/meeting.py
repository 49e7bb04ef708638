"""How ranks find each other in a store that still holds what former processes of the same job have left there.

torchrun keeps one store over its restarts, and torch 2.13 (as the others where a node comes back with a restart count
of its own) reads in it the addresses of processes that are dead: "connection refused", or a wait until the time-out.
So the ranks agree on a name that no one used before, and everything of this group is kept under it.
"""

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from c2al.parallel.endings import RankLostError
from c2al.parallel.roster import Member, myself

CLOCK_S = 2.0  # by which rank 0 gives up before the others, so that they hear of it


def meet(
    store: Any, *, rank: int, world_size: int, timeout_s: float, came: Callable[[int], None] = lambda count: None
) -> tuple[dist.Store, list[Member]]:
    """A store for this group alone, and its members, once every rank of it has been seen alive.

    Each rank lays its calling card down. Rank 0 collects them and writes the list; who finds its own card in the list
    says so; rank 0 gives the word when all have. A card of a dead process gets no answer until its successor's comes.
    Rank 0 tells ``came`` how many ranks are there.
    """
    store.set_timeout(timedelta(seconds=timeout_s))
    card = json.dumps({**asdict(myself(rank)), "card": uuid.uuid4().hex})
    store.set(f"c2al/card/{rank}", card)
    deadline = time.monotonic() + timeout_s
    if rank == 0:
        name, cards = _invite(store, card, world_size, deadline, came)
    else:
        name, cards = _follow(store, card, world_size, deadline)
    members = [json.loads(each) for each in cards]
    known = [Member(**{**each, "addresses": tuple(each["addresses"])}) for each in members if each.pop("card")]
    return dist.PrefixStore(name, store), known


def _invite(
    store: Any, card: str, world_size: int, deadline: float, came: Callable[[int], None]
) -> tuple[str, list[str]]:
    name, listed = f"c2al/{uuid.uuid4().hex}", [""] * world_size
    while True:
        cards = [card if each == 0 else _at(store, f"c2al/card/{each}") for each in range(world_size)]
        if cards != listed:
            listed = cards
            store.set("c2al/list", json.dumps({"name": name, "cards": listed}))
        missing = [each for each in range(1, world_size) if not store.check([f"{name}/{hash_of(listed[each])}"])]
        came(world_size - len(missing))
        if not missing:
            store.set(f"{name}/go", json.dumps(listed))
            return name, listed
        if time.monotonic() > deadline - CLOCK_S:
            told = f"rank {', '.join(map(str, missing))} did not come to the start in time"
            store.set("c2al/list", json.dumps({"name": name, "cards": listed, "failed": told}))
            raise RankLostError(f"{told}; is every node started, with the same rendezvous?", speaks=True)
        time.sleep(_pause(world_size))


def _follow(store: Any, card: str, world_size: int, deadline: float) -> tuple[str, list[str]]:
    while True:
        found = json.loads(_at(store, "c2al/list") or "{}")
        if card in found.get("cards", ()):
            if "failed" in found:
                raise RankLostError(found["failed"], speaks=False)
            name = found["name"]
            store.set(f"{name}/{hash_of(card)}", "")
            if go := _at(store, f"{name}/go"):
                return name, json.loads(go)
        if time.monotonic() > deadline:
            raise RankLostError("rank 0 did not come to the start in time; look at its node", speaks=True)
        time.sleep(_pause(world_size))


def _at(store: Any, key: str) -> str:
    return store.get(key).decode() if store.check([key]) else ""


def hash_of(card: str) -> str:
    """The part of a calling card that is its own, as a key; of no card, one that nobody writes."""
    return json.loads(card)["card"] if card else "nobody"


def _pause(world_size: int) -> float:
    return max(0.02, world_size / 2000)  # the store answers some ten thousand questions a second
