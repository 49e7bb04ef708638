import pytest

from c2al.serving.expressions import expressions, is_expression, is_guard

SYMBOL = "Symbol('s13', positive=True, integer=True)"


@pytest.mark.parametrize(
    "text",
    ["5", SYMBOL, f"Mul(Integer(2), {SYMBOL})", f"Max(1, {SYMBOL} + 3)", f"FloorDiv({SYMBOL}, 2)", "Symbol('u0')"],
)
def test_arithmetic_of_symbols(text):
    assert is_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        *("__import__('os').system('touch x')", "().__class__", "9**9**9", "Symbol('s0').__class__", "open('x')", "s0"),
        *("lambda: 0", "[x for x in (1,)]", "Symbol('__import__')", "Symbol('s0', os=True)", "1.5", "exec('1')", "Max"),
        *(
            "sympify('1')",
            "'s0'",
            "1;2",
            "1\n2",
            "9" * 30,
            "PowByNatural(9, 9)",
            "Symbol",
            "1e5",
            "0x1",
            5,
            None,
            ["1"],
        ),
    ],
)
def test_nothing_else_is_an_expression(text):
    assert not is_expression(text)


def test_guards_compare_sizes():
    assert is_guard("L['dense_BN'].size()[0] == L['ids_BS'].size()[0]")
    assert is_guard("L['values'][0].size()[0] >= 0 and Mod(L['x'].size()[1], 2) == 0")
    for text in (
        "__import__('os')",
        "L.__class__",
        "L['x'].__class__",
        "exec('1')",
        "f(1)",
        "L['a']['b']",
        "x := 1",
        1,
    ):
        assert not is_guard(text)


def test_they_are_found_at_any_depth():
    assert list(expressions({"a": [{"b": {"expr_str": "1"}}], "expr_str": "2"})) in (["1", "2"], ["2", "1"])
