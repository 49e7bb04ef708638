import json
import pickle
import shutil

import pytest
import torch

from c2al.schema import DataError
from c2al.serving import programs
from c2al.serving.archive import ROOT, Archive, written
from c2al.serving.artefact import open_artefact


def rewritten(file, path, change):
    """The same file with some records changed, and checksums to fit: what an attacker would send."""
    archive = Archive(file)
    manifest = {k: v for k, v in archive.manifest.items() if k not in ("format", "records", "checksum")}
    with written(str(path)) as writer:
        for name in archive.manifest["records"]:
            writer.add(name, change(name, archive.read(name)))
        writer.finish(manifest)
    return str(path)


class Dangerous:
    def __reduce__(self):
        return exec, ("raise AssertionError('unpickled')",)


def test_a_pickle_among_the_samples_is_refused(file, tmp_path):
    def change(name, content):
        return pickle.dumps(Dangerous()) if "/sample_inputs/" in name else content

    with pytest.raises(DataError, match="holds a pickle"):
        open_artefact(rewritten(file, tmp_path / "m.pt2", change))


def test_a_pickle_among_the_weights_is_refused(file, tmp_path):
    def change(name, content):
        if not name.endswith("model_weights_config.json"):
            return content
        config = json.loads(content)
        next(iter(config["config"].values()))["use_pickle"] = True
        return json.dumps(config).encode()

    with pytest.raises(DataError, match="holds a pickle"):
        open_artefact(rewritten(file, tmp_path / "m.pt2", change))


def test_a_graph_that_torch_cannot_read(file, tmp_path):
    def change(name, content):
        return b"{}" if name == f"{ROOT}/models/model.json" else content

    with pytest.raises(DataError, match="does not read"):
        open_artefact(rewritten(file, tmp_path / "m.pt2", change))


def test_machine_code_of_another_machine_is_refused():
    here = programs.machine("cpu")
    programs.check_machine({"device": "cpu", "machine": here}, "m.pt2")
    with pytest.raises(DataError, match=r"compiled for torch 1\.0"):
        programs.check_machine({"device": "cpu", "machine": here | {"torch": "1.0"}}, "m.pt2")


def test_without_a_compiler(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(DataError, match="C\\+\\+ compiler"):
        programs.compile_into(tmp_path / "m.pt2", torch.export.export(torch.nn.Linear(1, 1), (torch.ones(1, 1),)), ())
