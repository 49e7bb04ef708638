import re

import numpy as np
import pytest
import torch

from c2al.schema import DataError
from c2al.serving.artefact import open_artefact
from c2al.serving.export import model_of
from c2al.serving.triton import Standalone, config_text, export_repository, random_inputs


def test_rows_are_drawn_within_the_tables(file):
    artefact = open_artefact(file)
    inputs = random_inputs(artefact, 50)
    assert len(inputs) == 50
    assert np.isfinite(artefact(inputs)).all()


def test_the_tables_are_within(run, file):
    artefact = open_artefact(file)
    columns, inputs = artefact.columns, random_inputs(artefact, 9)
    model = model_of(run, step=None, dtype="fp32")
    alone = Standalone(model, artefact.tables, num_dense=len(columns.dense), num_single=len(columns.single)).eval()
    bags = [array for bag in inputs.bags.values() for array in (bag.values_V, bag.lengths_B)]
    with torch.no_grad():
        logit_B = alone(*(torch.from_numpy(array) for array in (inputs.dense_BN, inputs.ids_BS, *bags)))
    np.testing.assert_array_equal(logit_B.numpy(), artefact(inputs))


def test_the_config_names_every_input_by_its_place(file):
    artefact = open_artefact(file)
    text = config_text("ctr", artefact)
    names = re.findall(r'name: "(INPUT__\d+)"\s+data_type: (\w+)\s+dims: \[ (.*?) \]', text)
    num = 2 + 2 * len(artefact.columns.bags)
    assert [name for name, _, _ in names] == [f"INPUT__{i}" for i in range(num)]
    assert names[0][1:] == ("TYPE_FP32", f"-1, {len(artefact.columns.dense)}")
    assert names[1][1:] == ("TYPE_INT64", f"-1, {len(artefact.columns.single)}")
    assert names[-1][1:] == ("TYPE_INT64", "-1")
    assert "max_batch_size: 0" in text
    assert text.count("{") == text.count("}")


def test_without_bags_triton_batches_requests(file):
    artefact = open_artefact(file)
    artefact.columns = artefact.columns.__class__(artefact.columns.dense, artefact.columns.single, ())
    text = config_text("ctr", artefact)
    assert "dynamic_batching" in text
    assert f"dims: [ {len(artefact.columns.dense)} ]" in text


def test_the_config_is_one_that_triton_reads(file):
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2 as pb

    read = text_format.Parse(config_text("ctr", open_artefact(file)), pb.ModelConfig())
    assert (read.backend, read.platform, read.name) == ("pytorch", "torch_aoti", "ctr")


def test_what_is_there_stays(run, tmp_path, quiet):
    with pytest.raises(DataError, match="something is there"):
        export_repository(run, to=str(tmp_path), say=quiet)


@pytest.mark.slow
def test_a_repository(run, tmp_path, quiet):
    manifest = export_repository(run, to=str(tmp_path / "repository" / "ctr"), say=quiet)
    assert manifest["parity"]["package"]["greatest_difference"] < 1e-5
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert found == [f"repository/ctr/{name}" for name in ("1/model.pt2", "config.pbtxt", "manifest.json")]
