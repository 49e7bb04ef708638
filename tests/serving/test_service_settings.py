from dataclasses import fields

import pytest
from omegaconf import OmegaConf

from c2al.cli import compose
from c2al.schema import DataError
from c2al.serving.batching import Limits
from c2al.serving.service_settings import Settings


def test_the_config_has_the_same_keys_and_defaults(monkeypatch):
    monkeypatch.delenv("C2AL_RELOAD_TOKEN", raising=False)
    config = compose("serve", ["model=a.pt2"])
    assert set(config) == {field.name for field in fields(Settings)}
    assert Settings.of(config) == Settings(artefact="a.pt2", policy={"unknown": None, "null": None, "missing": None})
    assert Settings.of(config).batches == Limits(rows=1024, wait_s=0.002, queue=256)


def test_words_of_the_command_line(monkeypatch):
    monkeypatch.setenv("C2AL_RELOAD_TOKEN", "12345678")
    words = ["model=a.pt2", "policy.null=error", "calibration=sampling", "kept=0.01", "threads=2"]
    settings = Settings.of(compose("serve", words))
    assert (settings.policy["null"], settings.calibration, settings.kept) == ("error", "sampling", 0.01)
    assert settings.reload_token == "12345678"
    assert "12345678" not in OmegaConf.to_yaml(compose("serve", words))  # as --cfg prints it


@pytest.mark.parametrize(
    "word",
    [
        *("max_batch_rows=1e3", "port=8e3", "max_wait_ms=.inf", "kept=0.1", "threads=0"),
        *("port=70000", "port=x", "queue=0", "max_wait_ms=-1", "max_body_bytes=null", "threads=1.5", "stop_s=soon"),
        *(
            "unknown_columns=perhaps",
            "max_head_bytes=9",
            "head_timeout_s=0",
            "max_connections=0",
            "max_unfinished_bytes=1",
            "log_level=loud",
            "policy.null=mean",
            "policy.missing=zero",
            "reload_token=short",
        ),
        "calibration=platt",
    ],
)
def test_what_cannot_be_names_its_key(word):
    key = word.split("=")[0].removeprefix("policy.")
    with pytest.raises(DataError) as raised:
        Settings.of(compose("serve", ["model=a.pt2", word]))
    assert key in str(raised.value)
    assert "short" not in str(raised.value)
