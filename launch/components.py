"""TorchX components: c2al's programs on one machine, on Slurm, on Kubernetes. docs/launch.md shows their use.

    torchx run -s local_cwd launch/components.py:train -j 1x2 -- model=dhen method=c2al
    torchx run -s slurm -cfg partition=gpu c2al.train -j 2x8 --gpu 8 -- model=dhen method=c2al

What comes after ``--`` reaches c2al as it stands, whatever the scheduler. What starts is ``torchrun -m c2al …`` or
``python -m c2al …``: the machine, environment or image that runs it needs c2al, and no TorchX.

TorchX 0.7 reads the flags of its command line from the signatures and docstrings. It runs this file by ``exec``, among
the names of ``torchx.specs.finder``: no relative imports, and no name of that module's. Its linter crashes at
``str | None`` and at quoted annotations, and it knows Optional, Dict and List alone.
"""

import re
import shlex
from typing import Dict, List, Optional, Sequence

import torchx.specs as specs
from torchx.components.dist import parse_nnodes
from torchx.specs import macros
from torchx.specs.finder import ComponentValidationException

IMAGE = "c2al:latest"
MB_PER_RANK = 2048
PLAIN_FOLDER = re.compile(r"[\w./=+-]+")  # what an override says without quotes, commas and interpolations


def train(
    *overrides: str,
    j: str = "1x2",
    cpu: int = 0,
    gpu: int = 0,
    memMB: int = 0,
    h: Optional[str] = None,
    max_retries: int = 0,
    env: Optional[Dict[str, str]] = None,
    log_dir: str = "",
    name: str = "c2al-train",
    image: str = IMAGE,
    mounts: Optional[List[str]] = None,
    rdzv_port: int = 29500,
) -> specs.AppDef:
    """Train on nodes × ranks; the words after -- are c2al train's.

    Args:
        overrides: model=dhen method=c2al …
        j: nodes x ranks a node, 2x8; or min:max nodes, 2:4x8
        cpu: CPUs a node; 0: one a rank
        gpu: GPUs a node
        memMB: memory a node; 0: 2048 a rank
        h: a named resource of TorchX, in place of cpu, gpu and memMB
        max_retries: how often lost ranks, and by the scheduler the whole job, are started again; the run goes on
        env: variables for the ranks, A=1,B=2
        log_dir: what the ranks print; by default launch/<app id> in the run's folder if name= or run_dir= says which, else in outputs/torchx
        name: of the job
        image: in which c2al is installed (kubernetes, local_docker)
        mounts: type=volume,src=CLAIM,dst=/data or type=bind,src=…,dst=… (kubernetes, local_docker)
        rdzv_port: of the first node, where the ranks of several nodes find each other
    """
    role = _ranks("train", overrides, j, gpu, max_retries, log_dir, rdzv_port)
    return _app(name, role, j, cpu, gpu, memMB, h, max_retries, env, image, mounts)


def evaluate(
    *overrides: str,
    j: str = "1x2",
    cpu: int = 0,
    gpu: int = 0,
    memMB: int = 0,
    h: Optional[str] = None,
    max_retries: int = 0,
    env: Optional[Dict[str, str]] = None,
    log_dir: str = "",
    name: str = "c2al-evaluate",
    image: str = IMAGE,
    mounts: Optional[List[str]] = None,
    rdzv_port: int = 29500,
) -> specs.AppDef:
    """Evaluate a run on nodes × ranks; the words after -- are c2al evaluate's.

    Args:
        overrides: run=outputs/mine split=test
        j: nodes x ranks a node, 2x8; or min:max nodes, 2:4x8
        cpu: CPUs a node; 0: one a rank
        gpu: GPUs a node
        memMB: memory a node; 0: 2048 a rank
        h: a named resource of TorchX, in place of cpu, gpu and memMB
        max_retries: how often lost ranks, and by the scheduler the whole job, are started again
        env: variables for the ranks, A=1,B=2
        log_dir: what the ranks print; by default launch/<app id> in the run's folder
        name: of the job
        image: in which c2al is installed (kubernetes, local_docker)
        mounts: type=volume,src=CLAIM,dst=/data or type=bind,src=…,dst=… (kubernetes, local_docker)
        rdzv_port: of the first node, where the ranks of several nodes find each other
    """
    role = _ranks("evaluate", overrides, j, gpu, max_retries, log_dir, rdzv_port)
    return _app(name, role, j, cpu, gpu, memMB, h, max_retries, env, image, mounts)


def study(
    *overrides: str,
    cpu: int = 4,
    gpu: int = 0,
    memMB: int = 8192,
    h: Optional[str] = None,
    max_retries: int = 0,
    env: Optional[Dict[str, str]] = None,
    name: str = "c2al-study",
    image: str = IMAGE,
    mounts: Optional[List[str]] = None,
) -> specs.AppDef:
    """Run a study on one node; the words after -- are c2al study's, study.workers=… among them.

    Args:
        overrides: experiment=demo study.workers=4
        cpu: CPUs
        gpu: GPUs
        memMB: memory
        h: a named resource of TorchX, in place of cpu, gpu and memMB
        max_retries: how often the scheduler starts the job again; the study goes on where it was
        env: variables, A=1,B=2
        name: of the job
        image: in which c2al is installed (kubernetes, local_docker)
        mounts: type=volume,src=CLAIM,dst=/data or type=bind,src=…,dst=… (kubernetes, local_docker)
    """
    role = specs.Role("study", image=image, entrypoint="bash", args=_bash("python -m c2al study", overrides))
    return _app(name, role, "1", cpu, gpu, memMB, h, max_retries, env, image, mounts)


def benchmark(
    *overrides: str,
    program: str = "sharding_plans",
    cpu: int = 4,
    gpu: int = 0,
    memMB: int = 8192,
    h: Optional[str] = None,
    env: Optional[Dict[str, str]] = None,
    name: str = "c2al-benchmark",
    image: str = IMAGE,
    mounts: Optional[List[str]] = None,
) -> specs.AppDef:
    """Run a program of benchmarks/ on one node, in a clone; it starts its own ranks. The words after -- are its own.

    Args:
        overrides: of the benchmark
        program: benchmarks/<program>.py
        cpu: CPUs
        gpu: GPUs
        memMB: memory
        h: a named resource of TorchX, in place of cpu, gpu and memMB
        env: variables, A=1,B=2
        name: of the job
        image: in which c2al is installed, with a clone as its working directory (kubernetes, local_docker)
        mounts: type=volume,src=CLAIM,dst=/data or type=bind,src=…,dst=… (kubernetes, local_docker)
    """
    command = f"python -m benchmarks.{_quoted(program)}"
    role = specs.Role("benchmark", image=image, entrypoint="bash", args=_bash(command, overrides))
    return _app(name, role, "1", cpu, gpu, memMB, h, 0, env, image, mounts)


def _ranks(
    verb: str, overrides: Sequence[str], j: str, gpu: int, max_retries: int, log_dir: str, port: int
) -> specs.Role:
    """``torchrun -m c2al <verb>`` on each node; the nodes meet at the first one, as in TorchX's ``dist.ddp``."""
    min_nodes, nodes, ranks, spelled = parse_nnodes(j)
    if 0 < gpu < ranks:
        raise ComponentValidationException(f"-j {j} puts {ranks} ranks on a node, and --gpu {gpu} gives it {gpu} GPUs")
    # One node: any free port. Several: TorchX fills in the variable that holds the first node's name; $$ is its $.
    meeting = "localhost:0" if nodes == 1 else f"$${{{macros.rank0_env}:=localhost}}:{port}"
    options = ["--nnodes", spelled, "--nproc-per-node", str(ranks), "--rdzv-backend", "c10d"]
    options += ["--max-restarts", str(max_retries), "--tee", "3", "--role", ""]
    command = f"torchrun {shlex.join(options)} --rdzv-endpoint {meeting} --rdzv-id {macros.app_id}"
    command += f" --log-dir {_quoted(log_dir) if log_dir else _log_dir(overrides)} -m c2al {verb}"
    words = [word.replace("$", "$$") for word in overrides]  # torchrun makes one of two, and fills in ${local_rank}
    role = specs.Role(verb, image="", entrypoint="bash", args=_bash(command, words), port_map={"c10d": port})
    role.min_replicas, role.num_replicas = min_nodes, nodes
    return role


def _app(
    name: str,
    role: specs.Role,
    j: str,
    cpu: int,
    gpu: int,
    memMB: int,
    h: Optional[str],
    max_retries: int,
    env: Optional[Dict[str, str]],
    image: str,
    mounts: Optional[List[str]],
) -> specs.AppDef:
    _, _, ranks, _ = parse_nnodes(j)
    cpu = cpu or ranks
    role.resource = specs.resource(cpu=cpu, gpu=gpu, memMB=memMB or ranks * MB_PER_RANK, h=h)
    # By its job's name a run knows that it is started again, where the scheduler does not say so (training/lock.py).
    role.env = {"C2AL_JOB": macros.app_id, **({"OMP_NUM_THREADS": str(max(1, cpu // ranks))} if ranks > 1 else {})}
    role.image, role.max_retries = image, max_retries
    role.mounts = specs.parse_mounts(mounts) if mounts else []
    for key, value in (env or {}).items():
        if "," in value:  # Slurm's --export would end the value there
            role.args[-1] = f"export {key}={_quoted(value)}; {role.args[-1]}"
        else:
            role.env[key] = value
    return specs.AppDef(name=name, roles=[role])


def _bash(command: str, words: Sequence[str]) -> List[str]:
    """Arguments of bash. exec: the scheduler's signals go to the program itself."""
    return ["-c", " ".join([f"exec {command}", *map(_quoted, words)])]


def _quoted(word: str) -> str:
    """One word of bash. No ``$`` stands before a letter or bracket, where TorchX and Kubernetes would fill in names."""
    return "'$'".join(shlex.quote(part) for part in word.split("$"))


def _log_dir(overrides: Sequence[str]) -> str:
    """``launch/<app id>`` in the run's folder, as far as the overrides name it."""
    said = dict(word.split("=", 1) for word in overrides if "=" in word)
    folder = said.get("run") or said.get("run_dir") or (f"outputs/{said['name']}" if said.get("name") else "")
    known = PLAIN_FOLDER.fullmatch(folder)
    return f"{folder}/launch/{macros.app_id}" if known else f"outputs/torchx/{macros.app_id}"
