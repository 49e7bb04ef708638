import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import log_loss as sklearn_log_loss

from c2al.analysis import bootstrap
from c2al.analysis.bootstrap import log_loss, paired_bootstrap, row_errors
from c2al.analysis.significance import OVERALL
from c2al.schema import CohortAxis, DataError, Schema

SCHEMA = Schema(
    name="fake",
    label="label",
    sparse=(),
    axes=(CohortAxis("age", ("young", "old", "nobody")), CohortAxis("device", ("phone", "desktop"))),
)


def simulate(rng, *, num_units, per_unit, shift):
    """Two models' logits whose log losses differ by household, more in the young; rows of a household are alike."""
    unit = np.repeat(np.arange(num_units), per_unit)
    truth = np.repeat(rng.normal(-1, 1, num_units), per_unit)
    label = (rng.random(len(unit)) < 1 / (1 + np.exp(-truth))).astype(np.int8)
    young = np.repeat(rng.random(num_units) < 0.5, per_unit)
    ref = truth + np.repeat(rng.normal(0, 0.6, num_units), per_unit)
    arm = ref + shift * young * (truth - ref) + np.repeat(rng.normal(0, 0.2, num_units), per_unit)
    columns = {
        "row": np.arange(len(unit)),
        "label": label,
        "weight": np.ones(len(unit), np.float32),
        "unit": unit.astype(np.int32),
        "cohort_age": np.where(young, 0, 1).astype(np.int16),
        "cohort_device": rng.integers(-1, 2, len(unit)).astype(np.int16),
    }
    return columns, ref.astype(np.float32), arm.astype(np.float32)


def write(folder, columns, ref, arm):
    paths = []
    for name, logit in (("ref", ref), ("arm", arm)):
        paths.append(str(folder / f"{name}.parquet"))
        pq.write_table(pa.table({**columns, "logit": logit}), paths[-1])
    return paths


def with_unit(schema):
    return Schema(**{**schema.__dict__, "unit": "household"})


def relative(columns, ref, arm, inside):
    losses = [
        np.average(log_loss(side, columns["label"])[inside], weights=columns["weight"][inside]) for side in (ref, arm)
    ]
    return 100 * (losses[1] / losses[0] - 1)


def test_log_loss_is_sklearns_and_survives_large_logits():
    rng = np.random.default_rng(0)
    logit, label = rng.normal(0, 4, 500), rng.integers(0, 2, 500)
    assert log_loss(logit, label).mean() == pytest.approx(sklearn_log_loss(label, 1 / (1 + np.exp(-logit))))
    assert log_loss(np.array([800.0, -800.0]), np.array([0, 1])) == pytest.approx([800, 800])


def test_covers_the_truth_in_most_draws(tmp_path):
    rng = np.random.default_rng(1)
    columns, ref, arm = simulate(rng, num_units=40_000, per_unit=5, shift=0.3)
    young = columns["cohort_age"] == 0
    truth = {OVERALL: relative(columns, ref, arm, young | ~young), ("age", "young"): relative(columns, ref, arm, young)}
    hits = dict.fromkeys(truth, 0)
    for _ in range(60):
        drawn = simulate(rng, num_units=300, per_unit=5, shift=0.3)
        found = paired_bootstrap(*write(tmp_path, *drawn), schema=with_unit(SCHEMA), axes=["age"], num_bootstraps=200)
        for cell, value in truth.items():
            hits[cell] += found[cell][0] <= value <= found[cell][1]
    assert all(50 <= count <= 60 for count in hits.values()), hits  # 95 % of 60 is 57


def test_whole_units_are_resampled(tmp_path):
    drawn = simulate(np.random.default_rng(2), num_units=300, per_unit=40, shift=0.0)
    paths = write(tmp_path, *drawn)
    low, high = paired_bootstrap(*paths, schema=with_unit(SCHEMA), axes=[])[OVERALL]
    row_low, row_high = paired_bootstrap(*paths, schema=SCHEMA, axes=[])[OVERALL]
    assert high - low > 1.5 * (row_high - row_low)  # alike rows of a household tell less than they seem to


def test_cells_are_those_with_rows(tmp_path):
    columns, ref, arm = simulate(np.random.default_rng(3), num_units=200, per_unit=2, shift=0.1)
    found = paired_bootstrap(*write(tmp_path, columns, ref, arm), schema=SCHEMA, axes=["age", "age_x_device"])
    assert {cell for cell in found if cell[0] == "age"} == {("age", "young"), ("age", "old")}
    crossed = {cohort for axis, cohort in found if axis == "age_x_device"}
    assert crossed == {"young × phone", "young × desktop", "old × phone", "old × desktop"}
    inside = (columns["cohort_age"] == 0) & (columns["cohort_device"] == 1)
    low, high = found["age_x_device", "young × desktop"]
    assert low < relative(columns, ref, arm, inside) < high


def test_many_units_in_groups_give_the_same_interval(tmp_path, monkeypatch):
    paths = write(tmp_path, *simulate(np.random.default_rng(4), num_units=4000, per_unit=2, shift=0.2))
    exact = paired_bootstrap(*paths, schema=with_unit(SCHEMA), axes=["age"], num_bootstraps=2000)
    monkeypatch.setattr(bootstrap, "MAX_UNITS", 512)
    grouped = paired_bootstrap(*paths, schema=with_unit(SCHEMA), axes=["age"], num_bootstraps=2000)
    for cell, (low, high) in exact.items():
        assert grouped[cell] == pytest.approx((low, high), abs=0.25 * (high - low))


def test_same_seed_same_interval(tmp_path):
    paths = write(tmp_path, *simulate(np.random.default_rng(5), num_units=100, per_unit=2, shift=0.2))
    first, again, other = (paired_bootstrap(*paths, schema=SCHEMA, axes=["age"], seed=seed) for seed in (7, 7, 8))
    assert first == again != other


def test_bad_files(tmp_path):
    columns, ref, arm = simulate(np.random.default_rng(6), num_units=50, per_unit=2, shift=0.2)
    ref_path, arm_path = write(tmp_path, columns, ref, arm)
    pq.write_table(pa.table({**columns, "row": columns["row"] + 1, "logit": arm}), arm_path)
    with pytest.raises(DataError, match="do not hold the same rows"):
        paired_bootstrap(ref_path, arm_path, schema=SCHEMA, axes=["age"])
    with pytest.raises(DataError, match="no scores there"):
        paired_bootstrap(str(tmp_path / "none.parquet"), arm_path, schema=SCHEMA, axes=["age"])
    del columns["cohort_age"]
    pq.write_table(pa.table({**columns, "logit": ref}), ref_path)
    with pytest.raises(DataError, match=r"lack a column.*cohort_age"):
        paired_bootstrap(ref_path, arm_path, schema=SCHEMA, axes=["age"])


def test_row_error_is_of_the_mean_over_seeds(tmp_path):
    """With equal models of two seeds it is one seed's, and about the true spread over draws of rows."""
    rng = np.random.default_rng(7)
    drawn = simulate(rng, num_units=300, per_unit=3, shift=0.2)
    pair = tuple(write(tmp_path, *drawn))
    options = {"schema": with_unit(SCHEMA), "axes": ["age"], "num_bootstraps": 300}
    one, two = row_errors([pair], **options), row_errors([pair, pair], **options)
    assert one == pytest.approx(two)
    low, high = paired_bootstrap(*pair, **options)[OVERALL]
    assert one[OVERALL] == pytest.approx((high - low) / 2 / 1.96, rel=0.15)
    others = [simulate(rng, num_units=300, per_unit=3, shift=0.2) for _ in range(100)]
    spread = np.std([relative(*each, np.ones(900, bool)) for each in others])
    assert one[OVERALL] == pytest.approx(spread, rel=0.35)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"logit": np.array([np.nan] * 100, np.float32)}, r"not finite.*column logit, value nan"),
        ({"weight": np.array(["a"] * 100)}, r"scores are numbers.*column weight, value string"),
        (None, "do not read"),
    ],
)
def test_damaged_scores_are_named(tmp_path, damage, said):
    columns, ref, arm = simulate(np.random.default_rng(6), num_units=50, per_unit=2, shift=0.2)
    ref_path, arm_path = write(tmp_path, columns, ref, arm)
    if damage is None:
        with open(arm_path, "r+b") as file:
            file.truncate(300)
    else:
        pq.write_table(pa.table({**columns, "logit": arm} | damage), arm_path)
    with pytest.raises(DataError, match=said):
        row_errors([(ref_path, arm_path)], schema=SCHEMA, axes=["age"])
