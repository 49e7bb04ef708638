import pytest

from c2al.printable import all_printable, p_text, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("age: 18-24 × mobile", "age: 18-24 × mobile"),
        ("点击 é", "点击 é"),
        ("a\x1b[31mb\r\n", "a\\x1b[31mb\\r\\n"),
        ("a\u202egnp.exe", "a\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("x" * 300, "x" * 199 + "…"),
    ],
)
def test_one_line_with_nothing_hidden(text, shown):
    assert printable(text) == shown
    shown.encode("utf-8")


def test_all_strings_and_keys():
    assert all_printable({"a\n": ["\x00", 1, None, {"b": "\u2028"}]}) == {"a\\n": ["\\x00", 1, None, {"b": "\\u2028"}]}


def test_p_values_have_one_form():
    shown = {0.0: "< 0.001", 7.8e-295: "< 0.001", 0.0009999: "< 0.001", 0.001: "0.001", 0.0499: "0.0499", 1.0: "1.000"}
    assert {p: p_text(p) for p in shown} == shown
    assert p_text(None) == "–"
