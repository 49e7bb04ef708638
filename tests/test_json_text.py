import json
import math

from c2al.json_text import to_json


def test_numbers_that_json_has_no_word_for_are_null():
    value = {"a": [1, 0.5, math.nan, (math.inf, -math.inf)], "b": {"c": float("nan"), "d": "NaN", "é": True}}
    text = to_json(value, indent=1, ensure_ascii=False)
    expected = {"a": [1, 0.5, None, [None, None]], "b": {"c": None, "d": "NaN", "é": True}}
    assert json.loads(text, parse_constant=lambda word: 1 / 0) == expected
    assert "é" in text
