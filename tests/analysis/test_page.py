import re

from c2al.analysis.page import STYLE, between, colour, count, key, missing, p_value, page, plain, section, signed, table


def test_numbers():
    assert [signed(v) for v in (0.123, -0.123, -0.001, None)] == ["+0.12", "−0.12", "0.00", "–"]
    assert between(-1, 2) == "[−1.00, +2.00]"
    assert between(None, None) == ""
    assert [p_value(v) for v in (0.0004, 0.0126, None)] == ["&lt; 0.001", "0.013", "–"]
    assert [count(v) for v in (1234, 75_389_257)] == ["1,234", "75.4M"]
    assert [plain(v, 2) for v in (-1.234, None)] == ["−1.23", "–"]


def test_titles_are_escaped():
    assert "<title>a &lt; b</title>" in page("a < b", "")
    assert "<h2>a &lt; b</h2>" in section("a < b")
    assert "Left out: a &lt; b." in missing("Data", "a < b")
    assert "a &lt; b" in key(("a < b", "red", ""))


def test_table_has_every_cell():
    html = table(["a", "b"], [["1", "2"], ["3", "4"]], classes=["pair", ""])
    assert re.findall("<td.*?>(.*?)</td>", html) == ["1", "2", "3", "4"]
    assert html.count("<tr class=pair>") == 1


def test_every_colour_that_is_used_is_defined_for_light_and_dark():
    light, dark = re.findall(r":root\{(.*?)\}", STYLE, flags=re.DOTALL)
    names = set(re.findall(r"--[a-z0-9]+(?=:)", light))
    assert names == set(re.findall(r"--[a-z0-9]+(?=:)", dark))
    assert set(re.findall(r"var\((--[a-z0-9]+)\)", STYLE)) - {"--c"} <= names
    assert {colour(i)[4:-1] for i in range(20)} <= names


def test_the_reference_has_a_colour_of_its_own():
    assert colour(0) not in {colour(i) for i in range(1, 20)}
