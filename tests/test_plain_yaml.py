"""YAML of strangers takes no more time and memory than its size."""

import pytest

from c2al.plain_yaml import YamlRefusedError, load


def test_plain_values_are_read():
    text = "a: {b: 1, c: [x, 2.5, null]}\nd: &d {e: 1}\nf: {<<: *d}\n"
    found = {"a": {"b": 1, "c": ["x", 2.5, None]}, "d": {"e": 1}, "f": {"e": 1}}
    assert load(text, most_values=50, most_letters=10) == found
    assert load("", most_values=50, most_letters=10) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: " + ":".join(["59"] * 1000), "a number of 2,999 letters"),
        ("a: 1" + "0" * 400, "a number of 401 letters"),
        ("a: " + "x" * 2000, "a text of 2,000 letters"),
        ("[" * 5000, "more than 100 levels"),
        ("\n".join(" " * i + "a:" for i in range(500)), "more than 100 levels"),
        ("\n".join(f"k{i}: 1" for i in range(2000)), "more than 1,000 values"),
        ("a: &a [1, 1, 1, 1, 1, 1, 1]\nb: &b [*a, *a, *a, *a]\nc: [" + "*b, " * 40 + "]", "unfolds to"),
        ("a: &a [*a]", "alias of itself"),
        ("a: !!binary aGk=", "makes an object"),
    ],
)
def test_what_unfolds_or_takes_long(text, said):
    with pytest.raises(YamlRefusedError, match=said):
        load(text, most_values=1000, most_letters=1000)
