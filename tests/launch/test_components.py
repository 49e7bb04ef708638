"""TorchX components: what they ask the schedulers for, and overrides that arrive as they were written."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torchx", reason="TorchX is in the extra [launch]")

from torchx.runner import get_runner
from torchx.specs import AppDryRunInfo
from torchx.specs.finder import ComponentValidationException, get_components

from tests import runs

FILE = f"{runs.ROOT}/launch/components.py"
CFG: dict[str, dict[str, Any]] = {
    "local_cwd": {},
    "local_docker": {},
    "slurm": {"partition": "gpu", "time": "60"},
    "kubernetes": {"queue": "default"},
}
AWKWARD = [
    *("cohorts.head=25-34", "data.sparse=[a,b]", "+x={a: 1, b: [2,3]}", "name=two words", "q='it''s' \"x\"", "e="),
    *("$HOME", "${app_id}", "${rank0_env} $replica_id ${local_rank}", "$$ $$$ $(C2AL_JOB) `ls`", "run=${now:%Y}", "!$"),
    *("back\\slash \\n", "a;b&&c|d>e<f*?~#", "größe=ü→", "two\nlines", "--config=x", "k=v=w,x", " ", ""),
]
# In place of the package, in the folder where a job starts.
RECORDER = "import json, os, sys; json.dump([sys.argv[1:], dict(os.environ)], open('arrived.json', 'w'))"
SRUN = f"#!{sys.executable}\nimport json, sys; json.dump(sys.argv[1:], open('srun.json', 'w'))\n"


@pytest.fixture(autouse=True)
def signals_as_they_were():
    """TorchX's local scheduler catches them for the whole process."""
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


def dry_run(scheduler: str, component: str, *words: str) -> AppDryRunInfo:
    with get_runner() as runner:
        return runner.dryrun_component(component, list(words), scheduler, cfg=CFG[scheduler])


def role_of(component: str, *words: str) -> Any:
    info = dry_run("local_cwd", f"{FILE}:{component}", *words)
    assert info._app is not None
    return info._app.roles[0]


def command_of(component: str, *words: str) -> list[str]:
    """The words of the program that bash starts."""
    first, *words = shlex.split(role_of(component, *words).args[-1])
    assert first == "exec"
    return words


@pytest.mark.parametrize("name", [f"{FILE}:train", "c2al.train"])
def test_train_starts_ranks(name):
    info = dry_run("local_cwd", name, "-j", "1x4", "--max_retries", "3", "--", "model=dhen", "name=mine")
    (replica,) = info.request.role_params["train"]
    torchrun, words = replica.args[-1].split(" -m ")
    assert replica.args[:2] == ["bash", "-c"]
    assert torchrun.startswith("exec torchrun --nnodes 1 --nproc-per-node 4 --rdzv-backend c10d --max-restarts 3 ")
    assert f"--rdzv-endpoint localhost:0 --rdzv-id {info.request.app_id}" in torchrun
    assert f"--log-dir outputs/mine/launch/{info.request.app_id}" in torchrun
    assert words == "c2al train model=dhen name=mine"
    assert replica.env["C2AL_JOB"] == info.request.app_id


def test_torchx_s_own_components_are_not_hidden():
    names = set(get_components())
    assert {"dist.ddp", "utils.echo", "c2al.train", "c2al.study", "c2al.evaluate", "c2al.benchmark"} <= names
    assert not [name for name in names if name.startswith("c2al._")]


def test_resources_are_of_a_node():
    def resource(*words: str) -> tuple[float, int, int]:
        found = role_of("train", *words).resource
        return found.cpu, found.gpu, found.memMB

    assert resource("-j", "2x4") == (4, 0, 4 * 2048)
    assert resource("-j", "2x4", "--cpu", "32", "--gpu", "4", "--memMB", "65536") == (32, 4, 65536)
    assert role_of("train", "-j", "2x4", "--cpu", "32").env["OMP_NUM_THREADS"] == "8"
    assert role_of("train", "-j", "2x4", "--cpu", "32", "--env", "OMP_NUM_THREADS=2").env["OMP_NUM_THREADS"] == "2"
    assert role_of("train", "-j", "1x1", "-h", "aws_p4d.24xlarge").resource.gpu == 8
    elastic = role_of("train", "-j", "2:4x8")
    assert (elastic.min_replicas, elastic.num_replicas) == (2, 4)
    with pytest.raises(ComponentValidationException, match="puts 8 ranks on a node, and --gpu 4"):
        role_of("train", "-j", "2x8", "--gpu", "4")


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        (["name=mine"], "outputs/mine/launch"),
        (["run_dir=runs/a,b=2", "name=mine"], "outputs/torchx"),  # a comma is a sweep's, or needs quotes
        (["run_dir=/data/runs/a-1"], "/data/runs/a-1/launch"),
        (["name=${data.name}"], "outputs/torchx"),
        (["name='two words'"], "outputs/torchx"),
        ([], "outputs/torchx"),
    ],
)
def test_what_ranks_print_is_kept_in_the_run_s_folder(words, folder):
    def log_dir(component: str, *words: str) -> str:
        command = command_of(component, *words)
        return command[command.index("--log-dir") + 1]

    assert log_dir("train", "--", *words) == f"{folder}/${{app_id}}"
    assert log_dir("train", "--log_dir", "a b", "--", *words) == "a b"
    assert log_dir("evaluate", "--", "run=outputs/mine") == "outputs/mine/launch/${app_id}"


def test_the_other_programs():
    assert command_of("evaluate", "-j", "1x2", "--", "run=x")[-4:] == ["-m", "c2al", "evaluate", "run=x"]
    study = command_of("study", "--", "experiment=demo", "study.seeds=[0,1]")
    assert study == ["python", "-m", "c2al", "study", "experiment=demo", "study.seeds=[0,1]"]
    assert command_of("benchmark", "--", "world_size=2") == [
        "python",
        "-m",
        "benchmarks.sharding_plans",
        "world_size=2",
    ]
    assert command_of("benchmark", "--program", "reader") == ["python", "-m", "benchmarks.reader"]


def test_an_environment_variable_may_hold_a_comma():
    """Which would end it in Slurm's --export."""
    role = role_of("study", "--env", "A=1,B=2,3")
    assert role.env["A"] == "1"
    assert "B" not in role.env
    ran = subprocess.run(["bash", "-c", role.args[-1].replace("exec python", "printenv B #")], capture_output=True)
    assert ran.stdout == b"2,3\n"


@pytest.fixture
def started(tmp_path, monkeypatch):
    """A folder in which jobs start that write down what arrives at ``python -m c2al``."""
    (tmp_path / "c2al").mkdir()
    (tmp_path / "c2al" / "__main__.py").write_text(RECORDER)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").write_text(SRUN)
    (tmp_path / "bin" / "srun").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    own = {"PATH": path, "SLURM_JOB_ID": "17", "SLURM_JOB_NODELIST_HET_GROUP_0": "localhost"}
    monkeypatch.chdir(tmp_path)

    def run(command: list[str], **more: str) -> None:
        subprocess.run(command, check=True, env=os.environ | own | more, capture_output=True, timeout=1800)

    return run


def arrived() -> tuple[list[str], dict[str, str]]:
    words, environment = json.loads(Path("arrived.json").read_text())
    return words, environment


@pytest.mark.parametrize("component", ["train", "study"])
@pytest.mark.parametrize("scheduler", ["local_cwd", "slurm", "kubernetes"])
def test_overrides_arrive_as_they_were_written(started, scheduler, component):
    """From the scheduler's request, through bash and a real torchrun."""
    request = dry_run(scheduler, f"c2al.{component}", *(["-j", "1x1"] * (component == "train")), "--", *AWKWARD).request
    if scheduler == "local_cwd":
        (replica,) = request.role_params[component]
        started(replica.args, **{key: value for key, value in replica.env.items() if key != "PATH"})
    elif scheduler == "slurm":
        Path("job.sh").write_text(request.materialize())
        started(["bash", "job.sh"])
        words = json.loads(Path("srun.json").read_text())
        export = next(word for word in words if word.startswith("--export=ALL,")).split(",")[1:]
        started(words[words.index("bash") :], **dict(pair.split("=", 1) for pair in export))
        assert arrived()[1]["C2AL_JOB"] == "17"
    else:
        (container,) = request.resource["spec"]["tasks"][0]["template"].spec.containers
        environment = {each.name: each.value for each in container.env}
        started([_as_kubernetes_does(word, environment) for word in container.command], **environment)
    assert arrived()[0] == [component, *AWKWARD]


def _as_kubernetes_does(word: str, environment: dict[str, str]) -> str:
    """The rule for a container's command: ``$(NAME)`` filled in if there is such a variable, ``$$`` made one ``$``."""
    found = re.compile(r"\$\$|\$\((\w+)\)")
    return found.sub(lambda it: "$" if it[0] == "$$" else environment.get(it[1], it[0]), word)


@pytest.mark.parametrize("scheduler", CFG)
def test_two_nodes_meet_at_the_first(scheduler):
    info = dry_run(scheduler, "c2al.train", "-j", "2x8", "--gpu", "8", "--max_retries", "2", "--", "model=dhen")
    assert info._app is not None
    (role,) = info._app.roles
    assert (role.num_replicas, role.max_retries, asdict(role.resource)["gpu"]) == (2, 2, 8)
    meetings = re.findall(r"--rdzv-endpoint\s+(\S+)", str(info))
    first, others = {
        "local_cwd": ("TORCHX_RANK0_HOST", "TORCHX_RANK0_HOST"),
        "local_docker": ("TORCHX_RANK0_HOST", "TORCHX_RANK0_HOST"),
        "slurm": ("SLURM_JOB_NODELIST_HET_GROUP_0", "SLURM_JOB_NODELIST_HET_GROUP_0"),
        "kubernetes": ("TORCHX_RANK0_HOST", "VC_TRAIN_0_HOSTS"),
    }[scheduler]
    if scheduler != "local_cwd":  # whose printed form breaks words at the line's end
        assert meetings == [f"${{{name}:=localhost}}:29500" for name in (first, others)]
