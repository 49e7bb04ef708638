"""Cohorts of the heads: given, found, random, the least divergent, several; and the axis by which rows are weighted."""

import json

import numpy as np
import pytest

from c2al.data.scan import read_columns
from c2al.schema import DataError, Schema
from c2al.training.auxiliaries import Auxiliaries, auxiliaries, planned
from tests import runs


@pytest.fixture(scope="module")
def schema(tiny_rows):
    return Schema.load(tiny_rows)


def config(rows, *own):
    return runs.config(rows, "unused", *own)


def test_the_baseline_has_no_auxiliaries(tiny_rows, schema):
    assert auxiliaries(config(tiny_rows, *runs.PAIR), schema) == Auxiliaries()


@pytest.mark.parametrize(
    ("method", "cohorts"),
    [("c2al", ("loyal", "occasional")), ("c2al_head_only", ("loyal",)), ("c2al_tail_only", ("occasional",))],
)
def test_heads_take_the_cohorts_of_their_role(tiny_rows, schema, method, cohorts):
    heads = auxiliaries(config(tiny_rows, f"method={method}", *runs.PAIR), schema)
    assert (heads.axes, heads.cohorts) == ([schema.axis("segment")], cohorts)


def test_a_pair_from_a_file(tiny_rows, schema, tmp_path):
    pairs = [{"axis": "segment", "head": "loyal", "tail": "new"}, {"axis": "device", "head": "tablet", "tail": "phone"}]
    (tmp_path / "pairs.json").write_text(json.dumps({"pairs": pairs}))
    own = ("method=c2al", f"cohorts.pair={tmp_path}/pairs.json")
    assert auxiliaries(config(tiny_rows, *own), schema).cohorts == ("loyal", "new")
    assert auxiliaries(config(tiny_rows, *own, "cohorts.index=1"), schema).cohorts == ("tablet", "phone")
    with pytest.raises(DataError, match="the file holds 2 pairs"):
        auxiliaries(config(tiny_rows, *own, "cohorts.index=2"), schema)


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
        auxiliaries(config(tiny_rows, "method=c2al", *own), schema)


def ids_of(rows, axis):
    return read_columns(rows, "train", ["unit"], axes=[axis])[axis.column]


def test_random_cohorts_are_as_large_as_the_pairs_and_of_whole_units(tiny_rows, schema):
    heads = auxiliaries(config(tiny_rows, "method=c2al_random", *runs.PAIR), schema)
    assert heads.cohorts == ("random head", "random tail")
    (axis,) = heads.axes
    ids, real = ids_of(tiny_rows, axis), ids_of(tiny_rows, schema.axis("segment"))
    units = read_columns(tiny_rows, "train", ["unit"])["unit"]
    largest = np.bincount(units).max()
    for cohort, name in enumerate(("loyal", "occasional")):
        wanted = (real == schema.axis("segment").id_of(name)).sum()
        assert 0 <= wanted - (ids == cohort).sum() < largest
    assert all(len(set(ids[units == unit])) == 1 for unit in units[:50])
    other = auxiliaries(config(tiny_rows, "method=c2al_random", "seed=1", *runs.PAIR), schema)
    assert not np.array_equal(ids, ids_of(tiny_rows, other.axes[0]))


def test_the_least_divergent_pair_of_a_file(tiny_rows, schema, tmp_path):
    pairs = [
        {"axis": "segment", "head": "loyal", "tail": "new", "divergences": {"js": 0.4, "kl": 0.1}},
        {"axis": "device", "head": "tablet", "tail": "phone", "divergences": {"js": 0.1, "kl": 0.4}},
    ]
    (tmp_path / "pairs.json").write_text(json.dumps({"divergence": "js", "pairs": pairs}))
    own = ("method=c2al_least", f"cohorts.pair={tmp_path}/pairs.json")
    assert auxiliaries(config(tiny_rows, *own), schema).cohorts == ("tablet", "phone")
    with pytest.raises(DataError, match="should be a control for"):
        auxiliaries(config(tiny_rows, *own, "cohorts.index=1"), schema)
    with pytest.raises(DataError, match="least divergent of many pairs"):
        auxiliaries(config(tiny_rows, "method=c2al_least", *runs.PAIR), schema)


def test_heads_that_predict_the_cohort(tiny_rows, schema):
    assert auxiliaries(config(tiny_rows, "method=cohort_id", *runs.PAIR), schema).members
    assert not auxiliaries(config(tiny_rows, "method=c2al", *runs.PAIR), schema).members


def test_several_cohorts_of_several_axes(tiny_rows, schema, tmp_path):
    (tmp_path / "pairs.json").write_text(json.dumps({"pairs": [{"axis": "device", "head": "tablet", "tail": "phone"}]}))
    entries = [
        "{axis: segment, cohorts: [loyal, new]}",
        "{axis: region, cohorts: all}",
        f"{{pair: {tmp_path}/pairs.json}}",
        "{axis: segment, head: lapsed, tail: occasional}",
    ]
    known = schema.axis("segment").cohorts
    entries[3] = entries[3].replace("lapsed", next(c for c in known if c not in ("loyal", "new", "occasional")))
    own = config(tiny_rows, "method=c2al", f"cohorts.pairs=[{', '.join(entries)}]")
    heads = auxiliaries(own, schema)
    num_regions = len(schema.axis("region").cohorts)
    assert [axis.name for axis in heads.axes] == ["segment", "region", "device"]
    assert [head.role for head in heads.heads] == ["head"] * (2 + num_regions) + ["head", "tail"] * 2
    assert heads.places[0] == (0, known.index("loyal"))
    assert heads.places[-3] == (2, schema.axis("device").id_of("phone"))
    assert planned(own, schema) == (len(heads.heads), 3)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("{axis: segment}", "cannot be read"),
        ("{axis: segment, cohorts: [loyl]}", "did you mean loyal"),
        ("{axis: segment, head: loyal, tail: loyal}", "one cohort twice"),
        ("{axis: segment, cohorts: [loyal, loyal]}", "two auxiliary heads of one cohort"),
        ("nowhere.json", "no file of cohort pairs"),
    ],
)
def test_entries_that_cannot_be(tiny_rows, schema, entry, problem):
    with pytest.raises(DataError, match=problem):
        auxiliaries(config(tiny_rows, "method=c2al", f"cohorts.pairs=[{entry}]"), schema)


def test_the_axis_by_which_rows_are_weighted(tiny_rows, schema, tmp_path):
    (tmp_path / "pairs.json").write_text(json.dumps({"pairs": [{"axis": "device", "head": "tablet", "tail": "phone"}]}))
    by_pair = auxiliaries(config(tiny_rows, "method=group_dro", f"cohorts.pair={tmp_path}/pairs.json"), schema)
    assert (by_pair.rows, by_pair.axes) == (schema.axis("device"), [schema.axis("device")])
    crossed = auxiliaries(config(tiny_rows, "method=reweighting", "cohorts.axis=segment_x_device"), schema)
    assert crossed.rows == schema.axis("segment_x_device")
    with pytest.raises(DataError, match="weighs rows by the cohorts of an axis"):
        auxiliaries(config(tiny_rows, "method=group_dro"), schema)


def test_what_is_planned_before_it_is_said_of_whom(tiny_rows, schema):
    assert planned(config(tiny_rows), schema) == (0, 0)
    assert planned(config(tiny_rows, "method=c2al"), schema) == (2, 1)
    assert planned(config(tiny_rows, "method=group_dro"), schema) == (0, 1)
