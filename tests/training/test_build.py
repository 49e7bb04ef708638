"""Config to parts: cohorts of the heads, columns, base rates, and precision."""

import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from c2al.schema import DataError, Schema
from c2al.training import build
from tests import runs
from tests.training.rows import relabelled


@pytest.fixture(scope="module")
def schema(tiny_rows):
    return Schema.load(tiny_rows)


def config(rows, *own):
    return runs.config(rows, "unused", *own)


def test_the_baseline_has_no_auxiliaries(tiny_rows, schema):
    assert build.auxiliaries(config(tiny_rows, *runs.PAIR), schema) == build.Auxiliaries()


@pytest.mark.parametrize(
    ("method", "cohorts"),
    [("c2al", ("loyal", "occasional")), ("c2al_head_only", ("loyal",)), ("c2al_tail_only", ("occasional",))],
)
def test_heads_take_the_cohorts_of_their_role(tiny_rows, schema, method, cohorts):
    heads = build.auxiliaries(config(tiny_rows, f"method={method}", *runs.PAIR), schema)
    assert (heads.axis, heads.cohorts, heads.axes) == ("segment", cohorts, ["segment"])


def test_a_pair_from_a_file(tiny_rows, schema, tmp_path):
    pairs = [{"axis": "segment", "head": "loyal", "tail": "new"}, {"axis": "device", "head": "tablet", "tail": "phone"}]
    (tmp_path / "pairs.json").write_text(json.dumps({"pairs": pairs}))
    own = ("method=c2al", f"cohorts.pair={tmp_path}/pairs.json")
    assert build.auxiliaries(config(tiny_rows, *own), schema).cohorts == ("loyal", "new")
    assert build.auxiliaries(config(tiny_rows, *own, "cohorts.index=1"), schema).cohorts == ("tablet", "phone")
    with pytest.raises(DataError, match="the file holds 2 pairs"):
        build.auxiliaries(config(tiny_rows, *own, "cohorts.index=2"), schema)


@pytest.mark.parametrize(
    ("own", "problem"),
    [
        ([], "needs a pair of cohorts"),
        (["cohorts.axis=segment", "cohorts.head=loyal"], "needs a pair of cohorts"),
        (["cohorts.axis=segmnt", "cohorts.head=a", "cohorts.tail=b"], "did you mean segment"),
        (["cohorts.axis=segment", "cohorts.head=loyl", "cohorts.tail=new"], "did you mean loyal"),
        (["cohorts.pair=nowhere.json"], "no file of cohort pairs"),
    ],
)
def test_no_pair_is_refused(tiny_rows, schema, own, problem):
    with pytest.raises(DataError, match=problem):
        build.auxiliaries(config(tiny_rows, "method=c2al", *own), schema)


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
    heads = build.Auxiliaries("segment", ("loyal", "occasional"))
    rates = build.base_rates(config(tiny_rows), schema, heads)
    rows = pq.read_table(f"{tiny_rows}/train", columns=["label", "cohort_segment"]).to_pandas()
    label, segment = rows["label"].to_numpy(float), rows["cohort_segment"].to_numpy()
    ids = [schema.axis("segment").id_of(cohort) for cohort in heads.cohorts]
    p = [label.mean(), *((label * (segment == i)).mean() for i in ids)]
    assert rates.logit_H == pytest.approx([np.log(each / (1 - each)) for each in p])
    assert rates.mean_weight == 1
    assert rates.loss_unit == pytest.approx(-(p[0] * math.log(p[0]) + (1 - p[0]) * math.log(1 - p[0])))


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
