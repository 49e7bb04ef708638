"""Help lists the keys of what is chosen."""

import pytest

from c2al.key_help import GROUPS, key_help, options_of
from c2al.schema import DataError

CHOICES = [
    (name, f"{group}={choice}")
    for name, groups in GROUPS.items()
    if name in ("config", "prepare")
    for group in groups
    for choice in options_of(group)
]


@pytest.mark.parametrize(("name", "word"), [*CHOICES, ("study", "experiment=demo"), ("plan", "parallel=row_wise")])
def test_every_choice_shows_its_file(name, word):
    from c2al.key_help import CONF

    text = key_help(name, [word, "--help"])
    content = (CONF / f"{word.replace('=', '/')}.yaml").read_text()
    assert content.removeprefix("# @package _global_\n") in text


def test_several_at_once_and_what_is_not_chosen():
    text = key_help("config", ["method=c2al", "model=dcnv2", "model.dim=3", "--help"])
    assert "lambda_head: 0.1" in text
    assert "c2al.interaction.dcnv2" in text
    assert "c2al.interaction.dhen" not in text, "dhen is shown where no model is chosen"
    assert "checkpoint_every: 500" in text
    both = key_help("config", ["method=c2al,mgda"])
    assert both.count("keys under method.") == 2
    assert "c2al.interaction.dhen" in key_help("config", ["--help"])
    assert "max_vocabulary" in key_help("prepare", ["source=parquet", "from=x", "--help"])


@pytest.mark.parametrize(
    ("name", "word", "nearest"),
    [
        ("config", "method=c2la", "c2al"),
        ("prepare", "source=parqet", "parquet"),
        ("study", "experiment=dmo", "demo"),
        ("config", "modle=dhen", "model"),
    ],
)
def test_an_unknown_choice(name, word, nearest):
    with pytest.raises(DataError, match=f"did you mean {nearest}"):
        key_help(name, [word, "--help"])
