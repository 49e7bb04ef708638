import pytest

from c2al.cli import compose
from c2al.schema import DataError
from c2al.serving import entry
from c2al.serving.artefact import open_artefact


def test_what_a_person_reads(file):
    lines = entry.words(open_artefact(file).manifest, file)
    assert lines[0] == "scores of 600 validation rows beside the training model: the same to the bit"
    assert "the same operators" in lines[1]
    assert "raw rows were not compared with prepared ones" in lines[-2]
    assert lines[-1].startswith(file)


def test_how_raw_rows_and_a_run_of_bf16_were_compared_is_told(shop_file):
    manifest = open_artefact(shop_file).manifest
    assert "the same ids and numbers in all 4 columns" in entry.words(manifest, shop_file)[-2]
    scores = manifest["parity"]["scores"] | {"trained_in": "bf16"}
    told = entry.words(manifest | {"parity": manifest["parity"] | {"scores": scores}}, shop_file)
    assert "(trained in bf16, compared in fp32)" in told[0]


def test_what_fewer_bits_cost_is_told(file):
    quality = {"rows": 10, "ne": {"fp32": 0.5, "int8": 0.505}, "ne_difference_percent": 1.0}
    told = entry.words(open_artefact(file).manifest | {"quality": quality, "dtype": "int8"}, file)
    assert told[2] == "NE of 10 validation rows, fp32 to int8: 0.500000 to 0.505000, +1.00000 %"


def test_a_format_that_there_is_not(run, tmp_path):
    with pytest.raises(DataError, match="triton"):
        entry.run(compose("export", [f"run={run}", f"to={tmp_path}/m.pt2", "format=onnx"]))


def test_the_verb(run, tmp_path, capsys):
    assert entry.run(compose("export", [f"run={run}", f"to={tmp_path}/m.pt2", "policy.unknown=error"])) == 0
    assert "the same to the bit" in capsys.readouterr().out
    assert open_artefact(f"{tmp_path}/m.pt2").manifest["policy"]["unknown"] == "error"
