import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.page import main


def spread(value: float) -> dict[str, Any]:
    return {"median": value, "low": value, "high": value, "rounds": [value]}


def result(folder: Path) -> Path:
    case = {"kind": "weak", "ranks": 4, "threads": 1, "batch_size": 32, "oversubscribed": True}
    case |= {"rows_per_s": spread(1234.5), "speedup": spread(2.0)}
    found = {"what": "scaling_tiny", "name": "tiny", "cases": [case], "two_ranks": {}, "date": "2026-01-01T00"}
    found |= {"tables": {"count": 2, "rows": 30}, "settings": {"sharding": "auto", "batch_size": 32, "rounds": 1}}
    found |= {"hardware": {"processor": "some", "cores": 2}, "versions": {"torch": "2"}}
    path = folder / "scaling_tiny.json"
    path.write_text(json.dumps(found))
    return path


def test_results_go_between_the_marks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, page = result(tmp_path), tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text("before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n")
    path.with_suffix(".png").write_bytes(b"")
    main([str(path), "--into", str(page)])
    text = page.read_text()
    assert text.startswith("before\n<!-- results -->\n\n### Scaling: tiny\n\n![scaling_tiny](../scaling_tiny.png)")
    assert "| weak | 4x1 (more than there are cores) | 32 | 1,234 | 2.00 |" in text
    assert text.endswith("<!-- end of results -->\nafter\n")
    assert "old" not in text
    main([str(path)])
    assert "### Scaling: tiny" in capsys.readouterr().out


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text")
    with pytest.raises(SystemExit):
        main([str(result(tmp_path)), "--into", str(page)])
    assert page.read_text() == "text"
