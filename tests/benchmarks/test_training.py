import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import benchmarks.training
from benchmarks.alone import Products
from benchmarks.stopwatch import PARTS


def test_a_small_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    small = [
        "--rows",
        "700",
        "--batch-size",
        "64",
        "--steps",
        "2",
        "--rounds",
        "2",
        "--threads",
        "1",
        "--set",
        "model.dim=4",
    ]
    monkeypatch.setattr(sys, "argv", ["training", *small, "--threads", "1", "--set", "model.dim=4"])
    monkeypatch.setattr("benchmarks.record.record.__kwdefaults__", {"folder": tmp_path})
    threads = torch.get_num_threads()
    try:
        benchmarks.training.main()
    finally:
        torch.set_num_threads(threads)
    (path,) = tmp_path.iterdir()
    written = json.loads(path.read_text())
    (case,) = written["cases"]
    assert case["heads_cost"] > 0
    for name in ("baseline", "c2al"):
        arm = case[name]
        assert arm["rows_per_s"] > 0
        assert set(arm["parts_ms"]) == set(PARTS)
        assert all(ms > 0 for ms in arm["parts_ms"].values())  # no border of a part was missed
        assert sum(arm["parts_ms"].values()) < 3 * arm["step_ms"]
        assert arm["step_to_floor"] > 1
    flops = {name: sum(each["flops"] for each in products) for name, products in written["products"].items()}
    assert flops["c2al"] > flops["baseline"]
    assert "C2AL step / baseline step" in capsys.readouterr().out


def test_products_are_noted_forward_and_backward_with_their_layout() -> None:
    linear, x_BE = nn.Linear(8, 2), torch.randn(5, 8, requires_grad=True)
    weight_BMF = torch.randn(3, 4).expand(5, 3, 4)
    with Products() as products:
        linear(x_BE).sum().backward()
        torch.bmm(weight_BMF, torch.randn(5, 4, 6))
    assert [(each["product"], each["shapes"], each["flops"]) for each in products.shapes()] == [
        ("addmm", [[5, 8], [8, 2]], 2 * 5 * 8 * 2),
        ("mm", [[5, 2], [2, 8]], 2 * 5 * 2 * 8),
        ("mm", [[2, 5], [5, 8]], 2 * 2 * 5 * 8),
        ("bmm", [[5, 3, 4], [5, 4, 6]], 2 * 5 * 3 * 4 * 6),
    ]
    assert products.calls[0][1][2].stride() == linear.weight.t().stride()
    assert products.calls[-1][1][0].stride() == weight_BMF.stride()
    products.replay()
