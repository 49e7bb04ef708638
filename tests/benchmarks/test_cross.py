"""Every model with a third of the methods, a few steps each on synthetic rows: each method meets a third of the models.

``python -m benchmarks.cross`` has all pairs, and trains them until they learn.
"""

import argparse
import json
import math
from pathlib import Path

import pytest

from benchmarks import cross

MODELS, METHODS = cross.names("model"), cross.names("method")
NO_SENSE = {(model, method) for model in ("lr", "fm") for method in ("mmoe", "ple")}  # nothing for experts to share


def settings(rows: str, **own) -> argparse.Namespace:
    words = ["--data", rows, "--axis", "segment", "--head", "loyal", "--tail", "occasional"]
    made = cross._settings([*words, "--least", "regular", "new", "--steps", "3", "--batch-size", "64"])
    made.overrides = ["training.validation_steps=1", "training.log_every=1", "model.dim=8"]
    vars(made).update(own)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_models_train_with_methods(model, tiny_rows, tmp_path):
    own = ["training.validation_steps=1", "training.log_every=1"] + (["model.dim=8"] if model != "lr" else [])
    for method in METHODS[MODELS.index(model) % 3 :: 3]:
        found = cross.learned(model, method, settings(tiny_rows, overrides=own), str(tmp_path))
        assert ("refused" in found) == ((model, method) in NO_SENSE), f"{method}: {found}"
        if "refused" in found:
            continue
        assert all(math.isfinite(found[key]) for key in ("first_loss", "last_loss", "ne")), f"{method}: {found}"


def test_what_is_finished_is_not_done_again(tiny_rows, tmp_path, monkeypatch, capsys):
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps({"lr/baseline": {"ne": 0.9}, "lr/ple": {"refused": "no"}}))
    monkeypatch.setattr(cross, "record", lambda what, payload: Path(what))
    monkeypatch.setattr(cross, "learned", lambda *_: {"ne": 1.2})
    words = ["--data", tiny_rows, "--models", "lr", "--kept", str(kept), "--methods"]
    assert cross.main([*words, "baseline", "ple"]) == 0
    assert cross.main([*words, "c2al"]) == 1
    assert "1 have not learned: ['lr/c2al']" in capsys.readouterr().out
    assert json.loads(kept.read_text())["lr/c2al"] == {"ne": 1.2}
