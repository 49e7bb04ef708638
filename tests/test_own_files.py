"""What is a verb's own in a folder, and what is the user's."""

import pytest

from c2al.own_files import enclosing, first_foreign, nested, refuse_foreign, remove_own
from c2al.schema import DataError

OWN = ("a.json", "step_[0-9]*/*.bin", "launch/**")


def files(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")


@pytest.mark.parametrize(
    "foreign",
    ["b.json", "step_3/notes.txt", "step_3/deep/a.bin", "step_x/a.bin", ".git/HEAD", "launch", "A.json", "a.json/x"],
)
def test_the_first_foreign_thing_is_named(tmp_path, foreign):
    files(tmp_path, "step_12/1.bin", foreign)
    (tmp_path / "step_9").mkdir()
    found = first_foreign(tmp_path, OWN)
    assert found is not None
    assert foreign.startswith(str(found.relative_to(tmp_path)))
    with pytest.raises(DataError, match="something that a run did not write"):
        refuse_foreign(tmp_path, OWN, what="a run", remedy="move it away")


def test_an_empty_folder_of_the_users_is_foreign_too(tmp_path):
    (tmp_path / "mine").mkdir()
    assert first_foreign(tmp_path, OWN) == tmp_path / "mine"


def test_what_the_patterns_match_is_own(tmp_path):
    files(tmp_path, "a.json", "step_12/1.bin", "launch/app/0/stderr.log")
    assert first_foreign(tmp_path, OWN) is None


def test_a_link_is_never_followed(tmp_path):
    files(tmp_path / "elsewhere", "1.bin")
    run = tmp_path / "run"
    run.mkdir()
    (run / "step_1").symlink_to(tmp_path / "elsewhere")
    (run / "a.json").symlink_to(tmp_path / "elsewhere" / "1.bin")
    assert first_foreign(run, OWN) == run / "a.json"
    remove_own(run, OWN)
    assert (tmp_path / "elsewhere" / "1.bin").exists()
    assert sorted(path.name for path in run.iterdir()) == ["a.json", "step_1"]


def test_only_what_is_own_is_removed(tmp_path):
    files(tmp_path, "a.json", "step_12/1.bin", "step_12/mine.txt", "step_13/1.bin", "launch/log", "mine.txt")
    remove_own(tmp_path, OWN, keep=("launch",))
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["launch/log", "mine.txt", "step_12/mine.txt"]
    assert not (tmp_path / "step_13").exists()


def test_folders_above_and_below(tmp_path):
    files(tmp_path, "one/mark", "one/two/three/x", "other/deep/mark")
    assert enclosing(tmp_path / "one" / "two" / "new", lambda path: (path / "mark").exists()) == tmp_path / "one"
    assert enclosing(tmp_path / "one", lambda path: (path / "mark").exists()) is None
    assert nested(tmp_path / "other", lambda path: (path / "mark").exists()) == tmp_path / "other" / "deep"
    assert nested(tmp_path / "nowhere", lambda path: True) is None
