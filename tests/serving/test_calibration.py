import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.schema import DataError
from c2al.serving.calibration import MOST_KNOTS, chosen, fit_isotonic, isotonic, probabilities, sigmoid


def drawn(num: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """True logits, and labels that they give."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-3, 1.5, num)
    return true, (rng.random(num) < sigmoid(true)).astype(np.float64)


def scores(tmp_path, logit, label, weight) -> str:
    path = str(tmp_path / "validation.parquet")
    pq.write_table(pa.table({"row": np.arange(len(logit)), "label": label, "weight": weight, "logit": logit}), path)
    return path


def test_without_calibration_probabilities_are_those_of_the_logits():
    logit = np.array([-800, -1.0, 0.0, 2.0, 800], np.float32)
    found = probabilities(logit, {"kind": "none"})
    np.testing.assert_allclose(found[1:4], 1 / (1 + np.exp(-logit[1:4].astype(np.float64))), rtol=1e-15)
    assert (found[0], found[4], found.dtype) == (0.0, 1.0, np.float64)


@pytest.mark.parametrize("kept", [1.0, 0.3, 0.01, 1e-6])
def test_the_correction_for_sampling_is_the_published_formula(kept):
    logit = np.linspace(-12, 12, 101)
    p = sigmoid(logit)
    found = probabilities(logit, {"kind": "sampling", "kept": kept})
    np.testing.assert_allclose(found, kept * p / (1 - p + kept * p), rtol=1e-9)


def test_the_correction_for_sampling_gives_back_the_true_rates():
    """Where a value's rate is p, a sample of kept negatives has it at p / (p + kept (1 - p)): the inverse is exact."""
    p = np.array([1e-5, 0.001, 0.2, 0.9])
    sampled = p / (p + 0.01 * (1 - p))
    found = probabilities(np.log(sampled / (1 - sampled)), {"kind": "sampling", "kept": 0.01})
    np.testing.assert_allclose(found, p, rtol=1e-10)


@pytest.mark.parametrize("kept", [None, 0, 1.5, -1, "0.1", True, float("nan")])
def test_a_share_that_is_none_is_refused(kept):
    with pytest.raises(DataError, match="share"):
        chosen("sampling", kept=kept)


def test_an_isotonic_fit_mends_a_known_miscalibration(tmp_path):
    true, label = drawn(200_000)
    wrong = (true * 2 + 1).astype(np.float32)
    calibration = fit_isotonic(scores(tmp_path, wrong, label, np.ones(len(label), np.float32)))
    fresh, _ = drawn(50_000, seed=1)
    found = probabilities((fresh * 2 + 1).astype(np.float32), calibration)
    assert np.abs(found - sigmoid(fresh)).mean() < 0.004
    assert np.abs(sigmoid(fresh * 2 + 1) - sigmoid(fresh)).mean() > 0.04
    assert abs(found.mean() / sigmoid(fresh).mean() - 1) < 0.02


def test_an_isotonic_fit_rises_and_is_small_and_never_certain():
    rng = np.random.default_rng(0)
    true = rng.normal(0, 3, 300_000)
    label = (rng.random(len(true)) < sigmoid(true)).astype(np.float64)
    label[true < -5], label[true > 5] = 0, 1
    weight = np.where(label == 1, 1.0, 3.0)
    few, all_of_it = isotonic(true, label, weight, knots=50), isotonic(true, label, weight, knots=10**9)
    assert len(few["logit"]) <= 50 < len(all_of_it["logit"])
    assert len(isotonic(true, label, weight)["logit"]) <= MOST_KNOTS
    logit = np.sort(np.append(rng.normal(0, 6, 10_000), [-1e9, 1e9]))
    for calibration in (few, all_of_it):
        found = probabilities(logit, calibration)
        assert (np.diff(found) >= 0).all()
        assert found[0] > 0
        assert found[-1] < 1
        assert (np.diff(calibration["logit"]) > 0).all()
    gap = np.abs(probabilities(true, few) - probabilities(true, all_of_it))
    assert np.average(gap, weights=weight) < 0.01


def test_rows_count_by_their_weight(tmp_path):
    """Negatives of which one in ten was kept, with weight ten, give the rates of all rows."""
    true, label = drawn(400_000)
    kept = (label == 1) | (np.random.default_rng(1).random(len(label)) < 0.1)
    weight = np.where(label == 1, 1.0, 10.0)[kept]
    calibration = fit_isotonic(scores(tmp_path, true[kept], label[kept], weight))
    assert abs(probabilities(true, calibration).mean() / label.mean() - 1) < 0.02


def test_a_logit_that_is_no_number_gives_none():
    assert np.isnan(probabilities(np.array([np.nan]), {"kind": "isotonic", "logit": [0.0], "probability": [0.5]})[0])


@pytest.mark.parametrize("content", [None, b"nothing", "columns", "positives", "nan"])
def test_scores_that_do_not_fit_are_named(tmp_path, content):
    path = tmp_path / "validation.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    if content == "columns":
        pq.write_table(pa.table({"row": [1]}), path)
    if content == "positives":
        scores(tmp_path, np.zeros(3), np.zeros(3), np.ones(3))
    if content == "nan":
        scores(tmp_path, np.array([0, np.nan]), np.array([0, 1]), np.ones(2))
    with pytest.raises(DataError, match=r"validation\.parquet"):
        chosen("isotonic", scores=str(path))


@pytest.mark.parametrize(
    ("column", "values"),
    [
        *(("label", [0.0, 1.0, None, 1.0]), ("label", [0, 5, -3, 1]), ("label", [0.0, 1.0, 0.5, 1.0])),
        *(("label", ["0", "1", "0", "1"]), ("weight", [1.0, -1.0, 1.0, 1.0]), ("weight", [0.0] * 4)),
        *(("weight", [math.nan, 1.0, 1.0, 1.0]), ("weight", [math.inf, 1.0, 1.0, 1.0]), ("weight", [None, 1.0, 1, 1])),
        *(("logit", [[1.0]] * 4), ("logit", [math.inf, 1.0, 2.0, 3.0]), ("label", [0, 0, 0, 0])),
    ],
)
def test_scores_of_other_than_numbers_labels_and_weights(tmp_path, column, values):
    path = str(tmp_path / "validation.parquet")
    usual = {"label": [0, 1, 0, 1], "weight": [1.0] * 4, "logit": [0.1, 0.2, 0.3, 0.4]}
    pq.write_table(pa.table(usual | {column: values}), path)
    with pytest.raises(DataError, match=r"validation\.parquet"):
        fit_isotonic(path)


def test_a_folder_is_no_file_of_scores(tmp_path):
    with pytest.raises(DataError, match="not a file of scores"):
        fit_isotonic(str(tmp_path))


def test_a_kind_that_there_is_not_is_refused():
    for refused in (lambda: chosen("platt"), lambda: probabilities(np.zeros(1), {"kind": "platt"})):
        with pytest.raises(DataError, match="platt"):
            refused()
    with pytest.raises(DataError, match="nothing to fit"):
        chosen("isotonic")
    assert chosen("none") == {"kind": "none"}
