"""Config to parts: cohorts of the heads, columns, base rates, and precision."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from c2al.schema import DataError, Schema
from c2al.training import build
from c2al.training.auxiliaries import auxiliaries
from tests import runs
from tests.training.rows import relabelled


@pytest.fixture(scope="module")
def schema(tiny_rows):
    return Schema.load(tiny_rows)


def config(rows, *own):
    return runs.config(rows, "unused", *own)


def test_columns_by_name_in_the_schemas_order(tiny_rows, schema):
    sparse, dense = build.chosen_columns(config(tiny_rows, "data.sparse=[item,user]", "data.dense=[]"), schema)
    assert [column.name for column in sparse] == ["user", "item"]
    assert dense == []
    sparse, dense = build.chosen_columns(config(tiny_rows), schema)
    assert (sparse, dense) == (list(schema.sparse), list(schema.dense))


def test_no_dense_columns_make_no_dense_tokens(tiny_rows, schema):
    ranker = build.build_ranker(config(tiny_rows, "data.dense=[]"), schema, num_heads=1)
    assert ranker.embedding.dense is None
    assert ranker.embedding.num_tokens == len(schema.sparse)


@pytest.mark.parametrize("key", ["data.sparse", "data.dense"])
def test_a_column_that_there_is_not(tiny_rows, tmp_path, key):
    with pytest.raises(DataError, match=r"itm"):
        runs.trained(tiny_rows, tmp_path / "run", f"{key}=[itm]")


def test_base_rates_by_hand(tiny_rows, schema):
    """Log-odds of the mean of y and of y · 1[cohort]; the unit of loss is the entropy of the first."""
    heads = auxiliaries(config(tiny_rows, "method=c2al", *runs.PAIR), schema)
    rates = build.base_rates(config(tiny_rows), schema, heads)
    rows = pq.read_table(f"{tiny_rows}/train", columns=["label", "cohort_segment"]).to_pandas()
    label, segment = rows["label"].to_numpy(float), rows["cohort_segment"].to_numpy()
    ids = [schema.axis("segment").id_of(cohort) for cohort in heads.cohorts]
    p = [label.mean(), *((label * (segment == i)).mean() for i in ids)]
    assert rates.logit_H == pytest.approx([np.log(each / (1 - each)) for each in p])
    assert (rates.mean_weight, rates.cohort_weights) == (1, [])
    assert rates.loss_unit == pytest.approx(-(p[0] * math.log(p[0]) + (1 - p[0]) * math.log(1 - p[0])))


def test_heads_that_predict_the_cohort_start_at_its_share(tiny_rows, schema):
    """And rows of an axis are counted where they are weighted by it."""
    heads = auxiliaries(config(tiny_rows, "method=cohort_id", *runs.PAIR), schema)
    rates = build.base_rates(config(tiny_rows), schema, heads)
    segment = pq.read_table(f"{tiny_rows}/train", columns=["cohort_segment"]).to_pandas()["cohort_segment"].to_numpy()
    p = [(segment == schema.axis("segment").id_of(cohort)).mean() for cohort in ("loyal", "occasional")]
    assert rates.logit_H[1:] == pytest.approx([np.log(each / (1 - each)) for each in p])
    by_rows = auxiliaries(config(tiny_rows, "method=group_dro", *runs.PAIR), schema)
    counted = build.base_rates(config(tiny_rows), schema, by_rows).cohort_weights
    assert counted == [*np.bincount(segment, minlength=5).tolist(), 0]


def test_each_head_takes_the_lambda_of_its_role(tiny_rows, schema):
    own = config(
        tiny_rows,
        "method=c2al",
        "method.lambda_tail=0.5",
        "cohorts.pairs=[{axis: segment, cohorts: all}, {axis: device, head: phone, tail: tablet}]",
    )
    weighting = build.build_weighting(own, auxiliaries(own, schema))
    assert weighting.weights_H.tolist() == pytest.approx([1.0] + [0.1] * 5 + [0.1, 0.5])


@pytest.mark.parametrize(
    ("own", "problem"),
    [
        (["method=c2al", "method.weighting.weights=[1.0]"], "another length"),
        (["method=c2al", "method.lambda_head=-1"], "finite and not negative"),
        (["method=c2al_scheduled", "method.weighting.schedule=linear"], "no such schedule"),
        (["method=reweighting", "method.rows.table={loyl: 2}"], "no cohort 'loyl'"),
    ],
)
def test_a_method_that_cannot_be_is_refused_in_one_line(tiny_rows, schema, own, problem):
    settings = config(tiny_rows, *runs.PAIR, *own)
    with pytest.raises(DataError, match=problem):
        build.build_training_model(settings, schema, auxiliaries(settings, schema))


def test_training_starts_at_the_base_rate(tiny_rows, tmp_path):
    """The first loss is the normalized entropy of a constant, 1, but for small random logits."""
    runs.trained(tiny_rows, tmp_path / "run", "training.steps=1", "training.log_every=1", "training.batch_size=4096")
    first = next(line for line in runs.metrics_of(tmp_path / "run") if line["split"] == "train")
    assert first["loss"] == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("label", [0, 1])
def test_one_kind_of_label_cannot_be_learnt_from(tiny_rows, tmp_path, label):
    folder = relabelled(tiny_rows, tmp_path / "rows", split="train", label=label)
    with pytest.raises(DataError, match=rf"only one kind of label.*column label, value {label}"):
        runs.trained(folder, tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists(), "the folder can be used again"


def test_a_weight_that_hides_one_kind_of_label_is_named(schema, monkeypatch):
    """1e38 on a positive row: the mean label is 1 in float64, though there are negatives."""
    columns = {schema.label: np.array([1, 0, 0]), "w": np.array([1e38, 1, 1])}
    monkeypatch.setattr(build, "read_columns", lambda *_, **__: columns)
    heads = SimpleNamespace(axes=[], heads=[], members=False, rows=None)
    where = SimpleNamespace(data=SimpleNamespace(path="there"))
    with pytest.raises(DataError, match=r"weights of one label vanish.*column w, value 1e\+38"):
        build.base_rates(where, replace(schema, weight="w"), heads)


def test_every_arm_of_a_seed_starts_equal(tiny_rows, schema):
    """Whatever the number of heads; another seed starts elsewhere."""

    def start(num_heads, seed):
        ranker = build.build_ranker(config(tiny_rows, f"seed={seed}"), schema, num_heads=num_heads)
        return {name: p for name, p in ranker.named_parameters() if "tables" not in name}

    one, three, other = start(1, 0), start(3, 0), start(1, 1)
    assert all(torch.equal(parameter, three[name]) for name, parameter in one.items())
    assert set(three) - set(one) == {name for name in three if name.startswith(("heads.towers.1", "heads.towers.2"))}
    assert not torch.equal(one["heads.towers.0.0.weight"], other["heads.towers.0.0.weight"])


def test_bf16_is_of_the_dense_part_alone(tiny_rows, schema):
    ranker = build.build_ranker(config(tiny_rows), schema, num_heads=1)
    x_BFD = torch.randn(4, ranker.embedding.num_tokens, 8)
    exact = ranker.heads(ranker.interaction(x_BFD))
    build.prepare_dense(ranker, "bf16", compiled=False, device=torch.device("cpu"))
    rounded = ranker.heads(ranker.interaction(x_BFD))
    assert exact.dtype == torch.float32
    assert not torch.equal(exact, rounded.float())
    torch.testing.assert_close(exact, rounded.float(), atol=0.05, rtol=0.05)
    assert {p.dtype for p in ranker.parameters()} == {torch.float32}
    ranker.eval()
    assert torch.equal(exact, ranker.heads(ranker.interaction(x_BFD))), "evaluation is in float32"


def test_heads_of_a_gradient_method_are_not_compiled(tiny_rows, schema):
    """Their backward is done once a head, which compiled code refuses."""
    ranker = build.build_ranker(config(tiny_rows), schema, num_heads=3)
    build.prepare_dense(ranker, "fp32", compiled=True, device=torch.device("cpu"), heads_apart=True)
    assert ranker.interaction._compiled_call_impl is not None
    assert ranker.heads._compiled_call_impl is None
