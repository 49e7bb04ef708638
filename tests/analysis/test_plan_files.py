import json

import pytest

from c2al.analysis import plan_picture
from c2al.analysis.plan_files import files_of, write_plan
from c2al.schema import DataError


def test_one_file_several_or_none():
    assert files_of(None) == []
    assert [file.name for file in files_of("plan.png")] == ["plan.png"]
    assert [file.name for file in files_of(["a.json", "b.png"])] == ["a.json", "b.png"]
    with pytest.raises(DataError, match=r"plan\.pdf"):
        files_of("plan.pdf")


def test_numbers_and_pictures_are_written_whole(tmp_path, monkeypatch):
    for name in ("draw", "draw_comparison"):
        monkeypatch.setattr(plan_picture, name, lambda file, report, name=name: file.write(name.encode()))
    files = [tmp_path / "new" / "plan.json", tmp_path / "plan.png"]
    write_plan(files, {"ranks": []})
    assert json.loads(files[0].read_text()) == {"ranks": []}
    assert files[1].read_bytes() == b"draw"
    write_plan(files[1:], {"plans": []})
    assert files[1].read_bytes() == b"draw_comparison"
    assert not list(tmp_path.rglob("*.partial"))
