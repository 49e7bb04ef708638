import pyarrow as pa
import pytest

from c2al.data.csv_types import TextType, TypeOfTexts, typed


def type_of(*batches: list[str | None]) -> TextType:
    found = TypeOfTexts()
    for batch in batches:
        found.update(pa.array(batch, pa.string()))
    return found.found


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["1", "-2", None, "0"], pa.int64()),
        (["9223372036854775807", "-9223372036854775808"], pa.int64()),
        (["9223372036854775808"], pa.string()),
        (["10000169349117863715", "1"], pa.string()),
        (["007", "7"], pa.string()),
        (["+7", "7"], pa.string()),
        (["-0", "1"], pa.string()),
        ([" 7", "7"], pa.string()),
        (["7 ", "7"], pa.string()),
        (["1e3", "1000"], pa.string()),
        (["1E3", "2"], pa.string()),
        (["0x10", "1"], pa.string()),
        (["1_000"], pa.string()),
        (["1.0", "2.0"], pa.float64()),
        (["1.5", "2"], pa.float64()),
        (["1e-07", "2.5"], pa.float64()),
        (["inf", "-inf", "1.5"], pa.float64()),
        (["true", "false"], pa.bool_()),
        (["True"], pa.bool_()),
        (["True", "true"], pa.string()),
        (["yes", "no"], pa.string()),
        (["2024-01-02"], pa.date32()),
        (["2024-02-30"], pa.string()),
        (["2024-01-02", "2024-01-02 03:04:05"], pa.timestamp("s")),
        (["2024-01-02T03:04:05.123"], pa.timestamp("ms")),
        (["2024-01-02T03:04:05Z", "2024-01-02T03:04:05+02:00"], pa.timestamp("s", "UTC")),
        (["2024-01-02T03:04:05Z", "2024-01-02T03:04:05"], pa.string()),
        (["12:30", "12:30:05"], pa.time64("us")),
        (["25:00"], pa.string()),
        ([None, None], pa.null()),
        ([], pa.null()),
        (["NA", "DE"], pa.string()),
        (["NA"], pa.string()),
        (["a", "1"], pa.string()),
    ],
)
def test_the_narrowest_type_that_gives_each_value_back(texts, kind):
    assert type_of(texts).type == kind
    assert type_of(*[[text] for text in texts]).type == kind
    assert type_of(*[[text] for text in reversed(texts)]).type == kind
    assert len(typed(pa.array(texts, pa.string()), kind)) == len(texts)


@pytest.mark.parametrize(
    ("texts", "loose", "merges"),
    [
        (["1.5", "2.25"], False, False),
        (["1.50", "2.25"], False, False),
        (["1.0", "2.0"], False, False),
        (["1.5", "2", "3"], False, False),
        (["0.1", "1e-7"], False, False),
        (["1.0", "1"], True, True),
        (["1.5", "1.50"], True, False),
        (["1.10", "1.1"], True, False),
        (["1e3", "1000.5"], True, False),
        (["0.12345678901234567890"], True, False),
        (["9007199254740993", "0.5"], True, False),
        (["12345678901234567890", "1.5"], True, False),
        (["-0.0", "0.0"], True, False),
        ([" 1.5", "1.5"], True, False),
    ],
)
def test_doubles_of_which_two_texts_are_one_number_are_loose(texts, loose, merges):
    for batches in ([texts], [[text] for text in texts], [[text] for text in reversed(texts)]):
        found = type_of(*batches)
        assert (found.type, found.loose, found.merges) == (pa.float64(), loose, merges)


@pytest.mark.parametrize("others", [["1", "2"], ["1.5"], ["2024-01-02"], ["true"]])
@pytest.mark.parametrize("word", ["NA", "nan", "null", "N/A", "\\N"])
def test_a_word_for_null_makes_a_column_text_and_a_note_says_how_to_read_it(others, word):
    found = type_of([*others, word])
    assert found.type == pa.string()
    assert f"because of {word}" in found.note
    assert f"nulls=['',{word}]" in found.note


def test_digits_that_are_kept_as_text_are_noted():
    assert "digits" in type_of(["007"]).note
    assert "digits" in type_of(["9" * 20]).note
    assert not type_of(["a"]).note


def test_a_text_that_is_no_value_of_the_type_is_refused():
    for text, kind in (("x", pa.float64()), ("x", pa.bool_()), ("x", pa.date32()), ("7", pa.time64("us"))):
        with pytest.raises(pa.ArrowInvalid):
            typed(pa.array([text]), kind)


def test_true_and_false_are_one_and_zero_among_floats():
    texts = pa.array(["true", "False", "1.5", "", None])
    assert typed(texts, pa.float64()).to_pylist() == [1.0, 0.0, 1.5, None, None]
    with pytest.raises(pa.ArrowInvalid, match="yes"):
        typed(pa.array(["yes", "true"]), pa.float64())
