"""Rounds of raw times to what they say: medians with their spread, ratios in pairs, equal losses, the plan to take."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.parts import BACKWARD, FORWARD, LOOKUP, PARTS, PLANNED, TABLES

WANTED_OVERHEAD = 0.03  # of a step, for c2al's loop, log and pulse
ROUNDS_TO_TELL = 3
COMPARED = 6  # steps whose losses must be equal
NOISE = 0.02  # by which a median may miss its target and still not be told from it
Round = Mapping[str, Any]  # what ``plan_ranks`` found of one plan in one round


def plan_findings(rounds: Sequence[Round], *, rows: int, peaks: Mapping[str, Any]) -> dict[str, Any]:
    """Of one plan; ``rows`` are those of one step on all ranks."""
    steps = {loop: [step_s(each["step_s"][loop]) for each in rounds] for loop in rounds[0]["step_s"]}
    times = sorted(s for each in rounds for block in each["step_s"]["c2al"] for s in block)
    found: dict[str, Any] = {
        "rows_per_s": spread([rows / s for s in steps["c2al"]]),
        "step_ms": {"p50": _quantile(times, 0.5), "p95": _quantile(times, 0.95)},
        "overhead": spread([ratio - 1 for ratio in paired(rounds, "c2al", "bare")]),
        "blocks": min(len(each["step_s"]["c2al"]) for each in rounds),
        "memory": _memory(rounds),
        "build_s": statistics.median(each["build_s"] for each in rounds),
    }
    if "stock" in steps:
        found["stock_rows_per_s"] = spread([rows / s for s in steps["stock"]])
        found["to_stock"] = spread(paired(rounds, "stock", "c2al"))
        found["bare_to_stock"] = spread(paired(rounds, "stock", "bare"))
    if rounds[0]["parts"]:
        found |= _parts(rounds, peaks)
    return found


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, least and greatest, and the values; of rounds, or of blocks that were taken one after another."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "rounds": list(values)}


def paired(rounds: Sequence[Round], over: str, under: str) -> list[float]:
    """Seconds of one loop's steps over those of another, for every pair of blocks that took turns."""
    return [
        statistics.fmean(a) / statistics.fmean(b)
        for each in rounds
        for a, b in zip(each["step_s"][over], each["step_s"][under], strict=True)
    ]


def upper_quartile(found: Mapping[str, Any]) -> float:
    """Of a spread; its greatest value where there are few."""
    values = sorted(found["rounds"])
    return values[-1 - len(values) // 4]


def step_s(blocks: Sequence[Sequence[float]]) -> float:
    """Seconds of a round's step: the median over its blocks of a block's mean step."""
    return statistics.median(statistics.fmean(block) for block in blocks)


def _quantile(ordered: Sequence[float], share: float) -> float:
    return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _memory(rounds: Sequence[Round]) -> list[dict[str, int | None]]:
    """By rank; what is held is the same in every round, the peak is the median of what the rounds saw."""
    found = []
    for by_round in zip(*(each["memory"] for each in rounds), strict=True):
        peaks = [each["peak_added"] for each in by_round if each["peak_added"] is not None]
        found.append(dict(by_round[0]) | {"peak_added": int(statistics.median(peaks)) if peaks else None})
    return found


def _parts(rounds: Sequence[Round], peaks: Mapping[str, Any]) -> dict[str, Any]:
    """Means over ranks, medians over rounds; bytes are the busiest rank's, by what they are for."""
    ranks = [rank for each in rounds for rank in each["parts"]]

    def ms(part: str) -> float:
        means = [statistics.fmean(rank["seconds"][part] for rank in each["parts"]) for each in rounds]
        return 1000 * statistics.median(means)

    sent = max((rank["sent_bytes"] for rank in rounds[0]["parts"]), key=lambda each: sum(each.values()))
    parts = {part: ms(part) for part in PARTS}
    read = statistics.fmean(rank["read_bytes"] for rank in ranks)
    flops = statistics.fmean(rank["dense_flops"] for rank in ranks)
    dense_s, lookup_s = (parts[FORWARD] + parts[BACKWARD]) / 1000, parts[LOOKUP] / 1000
    read_per_s = read / lookup_s if lookup_s else None  # every rank holds rows under most plans: a mean over ranks
    flops_per_s = flops / dense_s if dense_s else None
    return {
        "parts_ms": parts,
        "tables_ms": sum(parts[part] for part in TABLES),
        "sent_bytes": sent,
        "lookup_bytes_per_s": read_per_s,
        "lookup_share_of_copy": read_per_s and read_per_s / peaks["copy_bytes_per_s"],
        "dense_flops_per_s": flops_per_s,
        "dense_share_of_product": flops_per_s and flops_per_s / peaks["product_flops_per_s"],
    }


def equal_losses(losses: Mapping[str, Mapping[str, Sequence[float]]], *, last: int, tolerance: float) -> dict[str, Any]:
    """Whether each plan's losses are the others', and those of its stock loop; and its final loss.

    Compared are the losses of the first steps, ``COMPARED`` of them, each relative to the median over plans. Later ones
    tell less: plans add up in another order, and training amplifies what rounding made of it, up to tenfold a step once
    it begins (Complete Journey, 1,024 rows: 1e-7 up to the eighth step, 1e-4 at the twelfth), where a learning rate
    that is 1 % off shows by 7e-4 at the fifth step and not much more later. The final loss is the mean over the
    ``last`` steps that all plans took.
    """
    steps = min(len(each["c2al"]) for each in losses.values())
    compared = min([COMPARED] + [len(loop) for each in losses.values() for loop in each.values()])
    middle = [statistics.median_low([each["c2al"][i] for each in losses.values()]) for i in range(compared)]
    found = {}
    for plan, each in losses.items():
        own = _distance(each["c2al"], middle)
        stock = _distance(each["stock"], each["c2al"][:compared]) if "stock" in each else None
        found[plan] = {
            "loss": each["c2al"][compared - 1],
            "final_loss": statistics.fmean(each["c2al"][max(0, steps - last) : steps]),
            "distance": own,
            "stock_distance": stock,
            "equal": max(own, stock or 0.0) <= tolerance,
        }
    return {"compared": compared, "steps": steps, "tolerance": tolerance, "plans": found}


def _distance(losses: Sequence[float], others: Sequence[float]) -> float:
    """The greatest, relative; a loss that is not a number is farther than any."""
    found = [abs(own / other - 1) for own, other in zip(losses, others, strict=False)]
    return max(each if math.isfinite(each) else math.inf for each in found)


def beside_estimate(parts: Mapping[str, float], slowest: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Milliseconds of the tables' parts: TorchRec's planner for its slowest rank, and measured."""
    planned = dict(slowest) | {"backward": slowest["backward_compute"] + slowest["backward_comms"]}
    return {
        name: {"estimated_ms": planned[name], "measured_ms": sum(parts[part] for part in measured)}
        for name, measured in PLANNED.items()
    }


def rank_correlation(plans: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Spearman's, of the planner's cost of the tables and what they took: 1 where it has the order of plans right."""
    both = [(plan["estimated_ms"], plan["tables_ms"]) for plan in plans.values() if "tables_ms" in plan]
    if len(both) < 3 or min(len(set(values)) for values in zip(*both, strict=True)) < 2:
        return None
    ranks = [rankdata(values) for values in zip(*both, strict=True)]
    return float(statistics.correlation(*ranks))


def rankdata(values: Sequence[float]) -> list[float]:
    """Of each value its rank from 1; equal ones share the mean of theirs."""
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) + 1) / 2 for value in values]


def recommended(plans: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The plan to take, and why, in words: the fastest; of those that no round tells from it, the one that holds least.

    A plan is slower where it was slower in every round, of three at least: rounds are the same plans under the same
    conditions, so they are compared in pairs.
    """
    able = {name: plan for name, plan in plans.items() if plan["equal"]}
    if not able:
        return {"plan": None, "reason": "no plan trained what the others did: look at the losses"}
    fastest = max(able, key=lambda name: able[name]["rows_per_s"]["median"])
    tied = [name for name in able if not _always_slower(able[name], able[fastest])]
    chosen = min(tied, key=lambda name: (_heaviest(able[name]) // 2**20, _imbalance(able[name]), name != fastest))
    rows, others = able[fastest]["rows_per_s"], [name for name in able if name not in tied]
    if len(able) == 1:
        return {"plan": chosen, "tied": tied, "reason": "the only plan that was measured and trained what is wanted"}
    if len(tied) == 1:
        second = max(others, key=lambda name: able[name]["rows_per_s"]["median"])
        faster = rows["median"] / able[second]["rows_per_s"]["median"] - 1
        reason = f"the fastest in every round, {faster:.1%} before {second}"
    else:
        many = len(able[chosen]["rows_per_s"]["rounds"]) >= ROUNDS_TO_TELL
        why = "none of them was faster in every round" if many else f"it takes {ROUNDS_TO_TELL} rounds at least"
        reason = f"{_listed(tied)} cannot be told apart: {why}; "
        reason += _why_of_tied(chosen, fastest, able)
    return {"plan": chosen, "tied": tied, "reason": reason}


def _why_of_tied(chosen: str, fastest: str, able: Mapping[str, Mapping[str, Any]]) -> str:
    held = f"{_heaviest(able[chosen]) / 2**20:,.0f} MiB on its heaviest rank"
    if chosen == fastest:
        return f"{chosen} has the best median and holds no more than the others ({held})"
    behind = able[fastest]["rows_per_s"]["median"] / able[chosen]["rows_per_s"]["median"] - 1
    more = _heaviest(able[fastest]) / 2**20
    return f"{chosen} holds {held}, {fastest} {more:,.0f} MiB and is {behind:.1%} before it, within the spread"


def _always_slower(plan: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    pairs = list(zip(plan["rows_per_s"]["rounds"], other["rows_per_s"]["rounds"], strict=True))
    return len(pairs) >= ROUNDS_TO_TELL and all(own < its for own, its in pairs)


def _heaviest(plan: Mapping[str, Any]) -> int:
    return max(_held(each) for each in plan["memory"])


def _imbalance(plan: Mapping[str, Any]) -> float:
    held = [_held(each) for each in plan["memory"]]
    return round(max(held) * len(held) / sum(held), 2)


def _held(memory: Mapping[str, Any]) -> int:
    return memory["tables"] + memory["table_optimizer"] + memory["dense"]


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
