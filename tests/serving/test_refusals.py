import json

import pytest

from c2al.schema import DataError
from c2al.serving.refusals import LONGEST_VALUE, RefusalError, of_data, shown


def test_the_one_form_of_error():
    answer = RefusalError(503, "full", remedy="later", reason="queue", headers={"Retry-After": "1"}).response()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    said = {"problem": "full", "column": None, "row": None, "value": None, "remedy": "later"}
    assert json.loads(answer.body) == {"error": said}


def test_a_data_error_keeps_its_place():
    error = DataError("no number in row 7", file="the request", column="age", value="x", remedy="give one")
    said = {"problem": "no number in row 7", "column": "age", "row": 7, "value": "x", "remedy": "give one"}
    assert json.loads(of_data(error).response().body) == {"error": said}
    assert of_data(DataError("arrows", remedy="none")).error["row"] is None


@pytest.mark.parametrize(
    ("value", "seen"), [(None, None), (3, 3), (True, True), (float("nan"), "nan"), ([1], "[1]"), ("\ud800", "\ud800")]
)
def test_values_that_json_has(value, seen):
    assert shown(value) == seen
    json.loads(RefusalError(422, "bad", remedy="mend", reason="data", value=value).response().body)


def test_long_values_are_cut():
    assert len(shown("a" * 1000)) == LONGEST_VALUE + 1
