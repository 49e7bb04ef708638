"""The committed job for Kubernetes: what TorchX writes today, in fields that Volcano and Kubernetes know."""

import re
import shlex
from typing import Any

import pytest
import yaml

pytest.importorskip("torchx", reason="TorchX is in the extra [launch]")
pytest.importorskip("kubernetes.client", reason="its client is in the extra [launch]")

from kubernetes import client
from torchx.runner import get_runner

from tests import runs

TEXT = (runs.ROOT / "launch" / "kubernetes" / "train_2x8.yaml").read_text("utf-8")
JOB: dict[str, Any] = yaml.safe_load(TEXT)
TASKS: list[dict[str, Any]] = JOB["spec"]["tasks"]
# From the CustomResourceDefinition jobs.batch.volcano.sh (github.com/volcano-sh/volcano, config/crd).
SPEC = {"maxRetry": int, "minAvailable": int, "plugins": dict, "policies": list, "priorityClassName": str}
SPEC |= {"queue": str, "schedulerName": str, "tasks": list}
TASK = {"maxRetry": int, "minAvailable": int, "name": str, "policies": list, "replicas": int, "template": dict}
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
EVENTS = {"PodEvicted", "PodFailed"}


def test_torchx_writes_the_same_today():
    command = " ".join(line.lstrip("# ").rstrip("\\ ") for line in TEXT.splitlines() if line.startswith("#     "))
    words = shlex.split(command.partition(" |")[0])
    start = words.index("c2al.train")
    assert words[:start] == shlex.split('torchx run --dryrun --workspace "" -s kubernetes -cfg queue=default')
    with get_runner() as runner, pytest.warns(UserWarning, match="Volcano"):
        info = runner.dryrun_component("c2al.train", words[start + 1 :], "kubernetes", cfg={"queue": "default"})
    written = yaml.safe_load(re.sub(r"c2al-train-[a-z0-9]{10,}", "c2al-train-first", str(info)))
    assert written == JOB


def test_volcano_knows_its_fields():
    assert (JOB["apiVersion"], JOB["kind"]) == ("batch.volcano.sh/v1alpha1", "Job")
    assert NAME.fullmatch(JOB["metadata"]["name"])
    assert NAME.fullmatch(JOB["spec"]["queue"])
    for found, known in ((JOB["spec"], SPEC), *((task, TASK) for task in TASKS)):
        assert not [key for key, value in found.items() if not isinstance(value, known.get(key, ()))]
    assert all(NAME.fullmatch(task["name"]) and len(task["name"]) <= 63 for task in TASKS)
    policies = [policy for task in TASKS for policy in task["policies"]]
    assert {policy["event"] for policy in policies} <= EVENTS
    assert {policy["action"] for policy in policies} == {"RestartJob"}
    assert set(JOB["spec"]["plugins"]) == {"svc", "env"}  # the first node's name comes from them


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task["name"])
def test_kubernetes_knows_its_pods(task):
    """Read into the client's models, which are made from Kubernetes' OpenAPI, nothing is lost and nothing missing."""
    read = client.ApiClient()._ApiClient__deserialize(task["template"], "V1PodTemplateSpec")
    assert client.ApiClient().sanitize_for_serialization(read) == task["template"]
    (container,) = read.spec.containers
    assert container.resources.limits == {"cpu": "64000m", "memory": "500000M", "nvidia.com/gpu": "8"}
    assert {mount.mount_path for mount in container.volume_mounts} == {"/dev/shm", "/data"}
    assert read.spec.restart_policy == "Never"


def test_what_is_unknown_to_kubernetes_would_be_found():
    template = TASKS[0]["template"]
    wrong = template | {"spec": template["spec"] | {"restartPolice": "Never"}}
    read = client.ApiClient()._ApiClient__deserialize(wrong, "V1PodTemplateSpec")
    assert client.ApiClient().sanitize_for_serialization(read) != wrong
