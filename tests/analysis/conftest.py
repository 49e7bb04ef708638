"""A study as a real one leaves it: run folders with metrics, scores and weights, pairs.json, and study.json."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.analysis.attention import compare_density
from c2al.analysis.bootstrap import row_errors
from c2al.analysis.significance import compare
from c2al.schema import CohortAxis, Schema, Split

AXES = (
    CohortAxis("revenue", ("bottom 5%", "5-25%", "25-75%", "75-95%", "top 5%"), kind="quantile", edges=(1, 2, 3, 4)),
    CohortAxis("age", ("19-24", "25-44", "45-54", "55+", "unknown")),
    CohortAxis("surface", ("display", "mailer")),
)
SHARES = {"revenue": [0.05, 0.2, 0.5, 0.2, 0.05], "age": [0.1, 0.3, 0.3, 0.1, 0.2], "surface": [0.4, 0.6]}
PAIR = {"axis": "revenue", "head": "top 5%", "tail": "bottom 5%"}
GAINS = {"baseline": {}, "c2al": {4: 0.10, 3: 0.05, 0: -0.06}, "head_only": {4: 0.09}}
LAYER = "interaction.layers.{}.interactions.fm_attention"


@pytest.fixture(scope="session")
def make_study(tmp_path_factory):
    """A function of (name, num_rows, seeds, arms) that builds a study folder and gives (study, folder)."""

    def make(name="fake", *, num_rows=4_000, seeds=(0, 1, 2), arms=("baseline", "c2al")):
        root = tmp_path_factory.mktemp(name)
        return build(root / "data", root / "study", num_rows=num_rows, seeds=seeds, arms=arms), str(root / "study")

    return make


@pytest.fixture(scope="session")
def fake_study(make_study):
    """Two arms, three seeds."""
    return make_study()


def build(data: Path, folder: Path, *, num_rows, seeds, arms):
    rng = np.random.default_rng(0)
    columns, truth = draw_rows(rng, num_rows)
    schema = make_schema(columns)
    data.mkdir()
    schema.save(str(data))
    runs = {arm: {str(seed): f"runs/{arm}/seed_{seed}" for seed in seeds} for arm in arms}
    metrics = {arm: {} for arm in arms}
    for arm in arms:
        for seed in seeds:
            logit = predict(truth, columns, arm, seed)
            metrics[arm][str(seed)] = metrics_of(columns, logit, schema)
            write_run(folder / runs[arm][str(seed)], columns, logit, arm=arm, seed=seed)
    write_pairs(folder, columns, predict(truth, columns, "baseline", seeds[0]))
    cells = compare(metrics, reference="baseline")
    add_row_errors(cells, folder, runs, schema)
    paths = {arm: {seed: str(folder / run) for seed, run in by_seed.items()} for arm, by_seed in runs.items()}
    return {
        "name": "revenue pair on fake exposures",
        "c2al": "0.1.0",
        "commit": "0123abc",
        "created": "2026-01-31 12:00",
        "versions": {"torch": "2.13.0", "torchrec": "1.8.0", "numpy": np.__version__},
        "hardware": {"machine": "x86_64", "cores": 2, "device": "cpu"},
        "seconds": 431.0,
        "config": {"model": {"interaction": {"num_layers": 2}}, "method": {"lambda_head": 0.1}},
        "data": {
            "path": str(data),
            "name": "fake exposures",
            "rows": {split: part.rows for split, part in schema.splits.items()},
            "positives": {split: part.positives for split, part in schema.splits.items()},
            "notes": {"keep_negatives": 0.01, "bayes_ne": {"test": {"overall": 0.851, "cohorts": {}}}},
        },
        "reference": "baseline",
        "arms": {arm: {"overrides": [f"method={arm}"], "runs": runs[arm]} for arm in arms},
        "split": "test",
        "pair": PAIR,
        "pairs_file": "pairs.json",
        "cells": cells,
        "density": compare_density(paths, reference="baseline"),
        "commands": ["c2al study experiment=fake seeds=3"],
    }


def draw_rows(rng, num_rows):
    ids = {name: rng.choice(len(share), num_rows, p=share) for name, share in SHARES.items()}
    truth = -2.2 + rng.normal(0, 0.9, num_rows) + 0.35 * (ids["revenue"] - 2) + 0.2 * ids["surface"]
    columns = {
        "row": np.arange(num_rows),
        "label": (rng.random(num_rows) < 1 / (1 + np.exp(-truth))).astype(np.int8),
        "weight": rng.choice([1.0, 4.0], num_rows).astype(np.float32),
        "unit": rng.integers(0, num_rows // 8, num_rows).astype(np.int32),
        **{f"cohort_{name}": value.astype(np.int16) for name, value in ids.items()},
    }
    return columns, truth


def make_schema(columns):
    rows, positives = len(columns["label"]), int(columns["label"].sum())
    weight = columns["weight"].astype(float)
    split = Split(rows, positives, float(weight.sum()), float(weight[columns["label"] == 1].sum()))
    splits = {"train": Split(8 * rows, 8 * positives, 8.0, 1.0), "validation": split, "test": split}
    return Schema(name="fake", label="label", weight="weight", sparse=(), axes=AXES, unit="unit", splits=splits)


def predict(truth, columns, arm, seed):
    """Off the truth by an error of the seed's own, of which an arm's gain takes a part away in some cohorts."""
    error = np.random.default_rng([seed, 1]).normal(0, 0.7, len(truth))
    gain = np.array([GAINS[arm].get(i, 0.0) for i in range(5)])[columns["cohort_revenue"]]
    own = np.random.default_rng([seed, list(GAINS).index(arm)]).normal(0, 0.01, len(truth)) * (arm != "baseline")
    return (truth + error * (1 - gain) + own).astype(np.float32)


def metrics_of(columns, logit, schema):
    from sklearn.metrics import log_loss, roc_auc_score

    probability, label = 1 / (1 + np.exp(-logit.astype(float))), columns["label"]
    weight = columns["weight"].astype(float)

    def cell(inside):
        p, y, w = probability[inside], label[inside], weight[inside]
        rate = float(np.average(y, weights=w))
        both = 0 < rate < 1
        loss = float(log_loss(y, p, sample_weight=w, labels=[0, 1]))
        entropy = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate)) if both else 1.0
        return {
            "ne": loss / float(entropy) if both else None,
            "auc": float(roc_auc_score(y, p, sample_weight=w)) if both else None,
            "calibration": float(np.average(p, weights=w)) / rate if rate else None,
            "log_loss": loss,
            "rows": int(inside.sum()),
            "positives": int(y.sum()),
            "weight": float(w.sum()),
            "positive_weight": float(w[y == 1].sum()),
        }

    cohorts = {
        axis.name: {name: cell(columns[axis.column] == i) for i, name in enumerate(axis.cohorts)}
        for axis in schema.axes
    }
    return {"overall": cell(np.ones(len(label), bool)), "cohorts": cohorts}


def write_run(run, columns, logit, *, arm, seed):
    for each in ("scores", "weights"):
        (run / each).mkdir(parents=True)
    pq.write_table(pa.table({**columns, "logit": logit}), run / "scores" / "test.parquet")
    rng, own = np.random.default_rng([seed, 2]), np.random.default_rng([seed, 3, len(arm)])
    bias, lines = 0.004 * rng.normal(), []
    for step in range(20, 1001, 20):
        loss = 0.34 + 0.1 * np.exp(-step / 120) + bias - 0.001 * (arm != "baseline") * step / 1000
        losses = [loss + 0.004 * own.normal(), *[0.1] * (arm != "baseline")]
        lines.append({"step": step, "epoch": 0, "split": "train", "loss": sum(losses), "losses": losses, "lr": 0.001})
        if step % 100 == 0:
            ne = 2.6 * loss + 0.0004 * own.normal()
            lines.append({"step": step, "epoch": 0, "split": "validation", "ne": ne, "auc": 0.7, "log_loss": loss})
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 10')  # a kill
    write_weights(run / "weights", arm=arm, seed=seed)


def write_weights(folder, *, arm, seed):
    rng = np.random.default_rng([seed, 4])
    start = {}
    for i in (0, 1):
        block = LAYER.format(i)
        start[f"{block}.fm.attention.compress.weight_MF"] = rng.normal(0, 0.3, (4, 12))
        start[f"{block}.fm.attention.mlp.0.weight"] = rng.normal(0, 0.2, (32, 32))
        start[f"{block}.fm.attention.mlp.2.weight"] = rng.normal(0, 0.1, (96, 32))
        start[f"{block}.fm.attention.mlp.2.bias"] = rng.normal(0, 0.1, 96)
        start[f"{block}.mlp.0.weight"] = rng.normal(0, 0.15, (32, 96))
        start[f"interaction.layers.{i}.interactions.linear.weight_MF"] = rng.normal(0, 0.3, (6, 12))
        start[f"activation.{block}.fm.attention"] = rng.normal(0, 0.15, (32, 12, 8))
    start["heads.towers.0.0.weight"] = rng.normal(0, 0.1, (16, 32))
    own = np.random.default_rng([seed, 5, len(arm)])
    for step in (0, 250, 500, 1000):
        grown = {}
        for name, w in start.items():
            dense = 0.5 * (arm != "baseline") * ("attention." in name and "fm." in name)
            grown[name] = w * (1 + (0.6 + dense) * step / 1000) + 0.05 * step / 1000 * w.std() * own.normal(
                size=w.shape
            )
        np.savez(folder / f"step_{step:08d}.npz", **{name: w.astype(np.float32) for name, w in grown.items()})


def write_pairs(folder, columns, logit):
    """The form of the file that discovery writes, with made-up statistics."""
    log10_p = -np.logaddexp(0, -logit.astype(float)) / np.log(10)
    edges = np.linspace(*np.quantile(log10_p, [0.0005, 0.9995]), 51)
    pairs, histograms = [], []
    for axis, head, tail in (("revenue", 4, 0), ("revenue", 4, 1), ("surface", 1, 0), ("age", 2, 0)):
        ids, names = columns[f"cohort_{axis}"], next(a for a in AXES if a.name == axis).cohorts
        sides = {"head": ids == head, "tail": ids == tail}
        shares = {side: np.histogram(log10_p[rows], edges)[0] / rows.sum() for side, rows in sides.items()}
        divergence = float(np.abs(shares["head"] - shares["tail"]).sum() / 4)
        pair = {"rank": len(pairs) + 1, "axis": axis, "head": names[head], "tail": names[tail]}
        for side, rows in sides.items():
            pair[f"{side}_rows"] = int(rows.sum())
            pair[f"{side}_positive_rate"] = float(columns["label"][rows].mean())
            pair[f"{side}_mean_prediction"] = float((10 ** log10_p[rows]).mean())
        told = {"divergences": {"js": divergence}, "interval": [0.9 * divergence, 1.1 * divergence]}
        pairs.append({**pair, **told, "p": 0.001, "p_holm": 0.004, "significant": True})
        histograms.append({side: share.tolist() for side, share in shares.items()})
    found = {"axes": [axis.name for axis in AXES], "divergence": "js", "rows": len(logit), "pairs": pairs}
    found |= {"bins": edges.tolist(), "histograms": histograms, "left_out": [], "settings": {"alpha": 0.05}}
    (folder / "pairs.json").write_text(json.dumps(found))


def add_row_errors(cells, folder, runs, schema):
    def score(arm, seed):
        return str(folder / runs[arm][seed] / "scores" / "test.parquet")

    axes = [axis.name for axis in schema.axes]
    for arm in {row["arm"] for row in cells}:
        pairs = [(score("baseline", seed), score(arm, seed)) for seed in runs[arm]]
        found = row_errors(pairs, schema=schema, axes=axes, num_bootstraps=60)
        for row in cells:
            if row["arm"] == arm:
                row["row_error"] = found.get((row["axis"], row["cohort"]))
