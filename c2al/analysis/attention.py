"""How dense attention is: FM attention's Y, as a parameter, in the MLP that makes it, as an activation; the weights
that self-attention and a candidate's attention give a history's places (SASRec); and the neighbours of both.

"C2AL", 2025, arXiv 2510.02215, says that auxiliary cohort heads turn attention from sparse to dense and defines no
measure of it. These are measures, for any array w of a layer:

* ``std``; ``kurtosis``: excess, 0 for a Gaussian, large where few entries carry all;
* ``near_zero``: share of abs(w) < 1 % of the layer's own standard deviation at the start of its training;
* ``participation``: (Σw²)² / Σw⁴ / size: 1 if all entries are equal in size, 1/size if only one is not zero;
* ``effective_rank`` of a matrix: exp of the entropy of its singular values' shares (Roy and Vetterli 2007);

and for Y alone, whose rows belong to the F tokens of X:

* ``row_entropy``: entropy in nats of abs(Y) within a row, mean over rows: at most log K;
* ``dead_paths``: rows of Y that give G = X Xᵀ Y less than 1 % of what the mean row gives, in every row of the sample.
  Row f gives G the rank-one matrix (X x_f) y_fᵀ of norm |X x_f| |y_f|. Where X was not kept, the norm |y_f| stands
  for it.

For the weights, whose rows are a query's shares over the n places that it may look at, entries that the mask makes zero
are left out of the first four, ``row_entropy`` is that of a query, at most log n, and there are two more, over queries
that have a choice, n ≥ 2:

* ``evenness``: row entropy over log n, mean: 1 if every query looks at all places alike;
* ``near_uniform``: share of queries with an evenness above 0.95.

Of activations with one matrix for each row of the sample, effective rank and row entropy are means over the sample.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from c2al.analysis.significance import interval
from c2al.analysis.study_file import load_arrays

DEAD_BELOW = NEAR_ZERO_BELOW = 0.01
NEAR_UNIFORM_ABOVE = 0.95
MEASURES = (
    *("std", "kurtosis", "near_zero", "participation", "row_entropy", "effective_rank", "dead_paths"),
    *("evenness", "near_uniform"),
)
Of = Literal["y", "weights"] | None
OWNERS = ("fm", "self_attention", "target_attention")  # modules whose submodule ``attention`` makes Y or the weights


def role(name: str, names: list[str]) -> str:
    """Where a parameter stands to attention: "attention", "after", "beside", "before", "heads", or "other".

    ``attention``: what makes Y or the weights (a path through ``fm.attention`` or the like, or ``y_FK`` itself): of
    self-attention queries and keys, not values. ``after``: the rest of the module that holds it, which reads what comes
    of it, and what reads the last layer. ``beside``: the other modules of the same layer.
    ``before``: embedding and earlier layers without attention. ``other``: all but the heads of a model without any.
    """
    if "heads" in name.split("."):
        return "heads"
    owners = [path for path in (attention_of(other) for other in names) if path]
    if attention_of(name):
        return "attention"
    if not owners:
        return "other"
    if any(name.startswith(f"{_holder(owner)}.") for owner in owners):
        return "after"
    if any(name.startswith(f"{_layer(owner)}.") for owner in owners if _layer(owner)):
        return "beside"
    return (
        "after" if names.index(name) > max(names.index(other) for other in names if attention_of(other)) else "before"
    )


def attention_of(name: str) -> str | None:
    """The dotted path of the attention that a parameter or activation makes Y or weights for; None elsewhere."""
    parts = name.split(".")
    cuts = [i for i, part in enumerate(parts) if part == "y_FK" or (part == "attention" and parts[i - 1] in OWNERS)]
    return ".".join(parts[: cuts[0]]) if cuts else None


def gives_weights(name: str) -> bool:
    """Whether the attention of a parameter or activation has shares of places, and no Y."""
    return (attention_of(name) or "fm").rpartition(".")[2] != "fm" and not name.endswith("y_FK")


def _holder(owner: str) -> str:
    """The module around an attention; the attention itself where that is the whole architecture."""
    around = owner.rpartition(".")[0]
    return around if "." in around else owner


def _layer(owner: str) -> str:
    """``interaction.layers.0`` of ``interaction.layers.0.interactions.fm_attention.fm``."""
    parts = owner.split(".")
    numbers = [i for i, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: numbers[0] + 1]) if numbers else ""


def snapshots(run_folder: str) -> dict[int, Path]:
    """The run's weight files by step, in order."""
    found = {path.stem.removeprefix("step_"): path for path in sorted(Path(run_folder, "weights").glob("step_*.npz"))}
    return {int(step): path for step, path in found.items() if step.isdecimal()}


def density(run_folder: str) -> list[dict[str, Any]]:
    """One row for each step and matrix: step, layer, role, kind ("parameter" or "activation"), shape, the measures.

    Measures that have no meaning for a layer, or no value (all entries zero), are None. Vectors (biases, norms) are
    left out. A run without weights gives no rows.
    """
    rows: list[dict[str, Any]] = []
    initial_std: dict[str, float] = {}
    for step, file in snapshots(run_folder).items():
        arrays = {name: array.astype(np.float64) for name, array in load_arrays(file).items()}
        names = [name for name in arrays if not name.startswith(("activation.", "input."))]
        for name, w in arrays.items():
            if w.ndim < 2:
                continue
            prefix, _, path = name.partition(".")
            kind = "activation" if prefix in ("activation", "input") else "parameter"
            layer = path if kind == "activation" else name
            is_y = name.endswith("y_FK") or (prefix == "activation" and attention_of(layer) is not None)
            place = role(name, names) if kind == "parameter" else "attention" if is_y else "before"
            row = {"step": step, "layer": layer, "role": place, "kind": kind}
            entries = w[w > 0] if is_y and gives_weights(layer) else w
            first_std = initial_std.setdefault(name, float(entries.std()) if entries.size else 0.0)
            x_BFD = arrays.get(f"input.{attention_of(layer)}")
            of: Of = "weights" if is_y and gives_weights(layer) else "y" if is_y else None
            rows.append({**row, "shape": list(w.shape), **measure(w, initial_std=first_std, of=of, x_BFD=x_BFD)})
    return rows


def measure(
    w: np.ndarray, *, initial_std: float, of: Of = None, x_BFD: np.ndarray | None = None
) -> dict[str, float | None]:
    """The measures of one array, a matrix or one for each row of a sample: of Y, of attention weights, of another."""
    found: dict[str, float | None] = dict.fromkeys(MEASURES)
    found |= _entries(w[w > 0] if of == "weights" else w, initial_std)
    found["effective_rank"] = effective_rank(w)
    if of:
        found["row_entropy"] = row_entropy(w)
    if of == "y":
        found["dead_paths"] = float(dead_paths(w, x_BFD).sum())
    if of == "weights":
        found |= _choices(w)
    return found


def _entries(w: np.ndarray, initial_std: float) -> dict[str, float | None]:
    if not w.size:
        return {}
    std, fourth, deviation = float(w.std()), float(np.mean(w**4)), w - w.mean()
    return {
        "std": std,
        "kurtosis": float(np.mean(deviation**4) / np.mean(deviation**2) ** 2 - 3) if std else None,
        "near_zero": float(np.mean(np.abs(w) < NEAR_ZERO_BELOW * initial_std)) if initial_std else None,
        "participation": float(np.mean(w**2) ** 2 / fourth) if fourth else None,
    }


def _choices(weights: np.ndarray) -> dict[str, float | None]:
    """Over the queries that may look at two places or more; a weight of exactly zero is a place that is not there."""
    places = (weights > 0).sum(-1)
    several = places >= 2
    even = _entropy(weights)[several] / np.log(places[several])
    found = _mean_of(even, np.ones(even.shape, bool)), _mean_of(even > NEAR_UNIFORM_ABOVE, np.ones(even.shape, bool))
    return dict(zip(("evenness", "near_uniform"), found, strict=True))


def effective_rank(w: np.ndarray) -> float | None:
    """exp(-Σ p log p), p the singular values' shares; the mean over leading dimensions, None if all is zero."""
    singular = np.linalg.svd(w, compute_uv=False)
    return _mean_of(np.exp(_entropy(singular)), singular.sum(-1) > 0)


def row_entropy(y: np.ndarray) -> float | None:
    """Entropy of abs(Y) within a row in nats, mean over the rows that are not all zero."""
    return _mean_of(_entropy(np.abs(y)), np.abs(y).sum(-1) > 0)


def dead_paths(y: np.ndarray, x_BFD: np.ndarray | None = None) -> np.ndarray:
    """Which rows of Y give G next to nothing, ``y [F, K] or [B, F, K] -> [F]`` bool."""
    given_BF = np.linalg.norm(y if y.ndim == 3 else y[None], axis=-1)
    if x_BFD is not None:
        gram_BFF = x_BFD @ x_BFD.transpose(0, 2, 1)
        given_BF = given_BF * np.linalg.norm(gram_BFF, axis=1)  # column f of X Xᵀ is X x_f
    return (given_BF <= DEAD_BELOW * given_BF.mean(axis=1, keepdims=True)).all(axis=0)


def _entropy(sizes: np.ndarray) -> np.ndarray:
    """Entropy of the shares along the last dimension."""
    total = sizes.sum(-1, keepdims=True)
    share = np.divide(sizes, total, out=np.zeros_like(sizes), where=total > 0)
    return -(share * np.log(share, out=np.zeros_like(share), where=share > 0)).sum(-1)


def _mean_of(values: np.ndarray, defined: np.ndarray) -> float | None:
    return float(values[defined].mean()) if defined.any() else None


def compare_density(runs_by_arm: dict[str, dict[str, str]], *, reference: str) -> list[dict[str, Any]]:
    """The measures of every arm against the reference, paired by seed: ``runs_by_arm[arm][seed]`` is a run folder.

    One row for each arm, moment and layer that both arms have; ``moment`` is "start", "step N" or "end", and
    ``measures[name]`` holds ``reference`` and ``arm`` (means over seeds), ``ratio`` with ``low`` and ``high`` (the
    geometric mean of arm / reference and its 95 % t interval, where all are positive), and ``difference`` with
    ``difference_low`` and ``difference_high``. With one seed, intervals are None.
    """
    tables = {arm: {seed: _by_moment(density(run)) for seed, run in runs.items()} for arm, runs in runs_by_arm.items()}
    rows = []
    for arm in (name for name in tables if name != reference):
        seeds = [seed for seed in tables[arm] if tables[arm][seed] and tables[reference].get(seed)]
        sides = [[tables[side][seed] for seed in seeds] for side in (reference, arm)]
        for key, first in (sides[0][0] if seeds else {}).items():
            if all(key in table for side in sides for table in side):
                ref, other = ([table[key] for table in side] for side in sides)
                shown = {name: first[name] for name in ("step", "layer", "role", "kind", "shape")}
                rows.append({"arm": arm, "moment": key[0], **shown, "seeds": seeds, "measures": _changes(ref, other)})
    return rows


def _by_moment(rows: list[dict[str, Any]]) -> dict[tuple[str, str, str, str], dict[str, Any]]:
    steps = sorted({row["step"] for row in rows})
    name = {step: f"step {step}" for step in steps} | ({steps[-1]: "end", steps[0]: "start"} if steps else {})
    return {(name[row["step"]], row["kind"], row["role"], row["layer"]): row for row in rows}


def _changes(ref: list[dict[str, Any]], arm: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    changes = {}
    for name in MEASURES:
        before, after = ([row[name] for row in side] for side in (ref, arm))
        if any(value is None for value in before + after):
            continue
        one, other = np.array(before), np.array(after)
        difference = interval(list(other - one))
        ratio = interval(list(np.log(other / one))) if min(before + after) > 0 else {}
        changes[name] = {
            "reference": float(one.mean()),
            "arm": float(other.mean()),
            **{key: _exp(ratio.get(of)) for key, of in (("ratio", "mean"), ("low", "low"), ("high", "high"))},
            "difference": difference["mean"],
            "difference_low": difference["low"],
            "difference_high": difference["high"],
        }
    return changes


def _exp(value: float | None) -> float | None:
    return None if value is None else float(np.exp(value))
