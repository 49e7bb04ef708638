"""What is installed here, whether it fits together, and the pip line that fixes what does not.

    c2al doctor        (or python -m c2al.doctor, where c2al itself does not start)

The set is judged from package metadata and files *before* anything of it is imported, as a wrong pair of torch and
fbgemm dies on import with an undefined symbol. Then it is imported, in a process of its own, that may die.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

PAIRS = {"2.13": "1.8.0", "2.12": "1.7.0", "2.11": "1.6.0"}  # torch minor -> torchrec and fbgemm; newest first
TORCHREC_PATCHES = {"1.6.0": "1.6.1"}  # PyPI has no torchrec 1.6.0
# As in setup.py, without its upper bounds. torchrec asks for exactly this torchmetrics.
NEEDS = (
    "torchmetrics==1.0.3 tensordict pyre-extensions iopath tqdm numpy>=1.26 scipy>=1.11 statsmodels>=0.14.2 "
    "pyarrow>=15 fsspec PyYAML>=6 hydra-core>=1.3.2 omegaconf>=2.3 rich>=13 matplotlib>=3.8 "
    "tensorboard>=2.15 torchjd>=0.18 cvxpy>=1.3 qpsolvers>=1.0.1 quadprog>=0.1.11 scikit-learn>=1.4 safetensors>=0.4"
)
# The steps of PROBE, and the distributions that may be behind each.
STEPS = {"numpy": "numpy", "torch": "torch", "fbgemm_gpu": "fbgemm-gpu-cpu fbgemm-gpu", "torchrec": "torchrec"}
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
PIP = f"{os.path.relpath(sys.executable) if Path(sys.executable).is_relative_to(Path.cwd()) else sys.executable} -m pip"
LOW_MEMORY_bytes = 4 * 2**30
LOW_DISK_bytes = 5 * 2**30
LIMIT_s = 600.0
SAYS = "c2al-probe:"

# One JSON line a step, so that a step that kills the process leaves those before it.
PROBE = """
import json, sys
def say(step, **found): print("c2al-probe:", json.dumps({"step": step, **found}), flush=True)
import numpy
say("numpy")
import torch, torch.distributed as dist
names = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
say("torch", cuda=torch.version.cuda, threads=torch.get_num_threads(),
    gpus=[f"{p.name}, {p.total_memory / 2**30:.0f} GiB, compute capability {p.major}.{p.minor}" for p in names],
    backends=[b for b in ("gloo", "nccl") if dist.is_available() and getattr(dist, f"is_{b}_available")()])
import fbgemm_gpu, fbgemm_gpu.sparse_ops
device = "cuda" if names else "cpu"
total = torch.ops.fbgemm.asynchronous_complete_cumsum(torch.tensor([1, 2], device=device)).tolist()
assert total == [0, 1, 3], f"fbgemm sums 1, 2 to {total}"
say("fbgemm_gpu")
import torchrec, torchrec.distributed
say("torchrec")
"""


@dataclass(frozen=True)
class Finding:
    """One line of the report. A problem makes the doctor fail; a note does not. The remedy is a line to paste."""

    topic: str
    found: str
    problem: str = ""
    note: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Package:
    """An installed distribution: its version; for torch and fbgemm the build: ``cpu``, ``cuda``, or ``""``, unknown."""

    version: str
    build: str = ""
    missing_files: int = 0


def check() -> list[Finding]:
    """Everything, in the order in which to fix it."""
    packages = installed(sys.path)
    findings = [check_python(sys.version_info[:3]), *check_set(packages), *check_packages(packages)]
    findings += [*check_imports(run_probe(LIMIT_s), packages), *check_machine()]
    return findings


def installed(path: Sequence[str]) -> dict[str, Package]:
    """Distributions by normalised name, from metadata and files alone. The first on the path wins, as in imports."""
    found: dict[str, Package] = {}
    for distribution in metadata.distributions(path=list(path)):
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower()
        if not name or name in found:
            continue
        record = distribution.read_text("RECORD") or "" if name.startswith("fbgemm-gpu") else ""
        libraries = re.findall(r"^(.+\.so),", record, re.MULTILINE)  # .files leaves out what is missing, from 3.12 on
        missing = sum(not Path(str(distribution.locate_file(f))).exists() for f in libraries)
        found[name] = Package(distribution.version, _build(name, distribution), missing)
    return found


def _build(name: str, distribution: metadata.Distribution) -> str:
    if name == "torch":
        file, pattern, is_cpu = "torch/version.py", r"^cuda\b.*=\s*(.+)$", "None"
    elif name.startswith("fbgemm-gpu"):
        file, pattern, is_cpu = "fbgemm_gpu/docs/target.default.json.py", r'"variant": "(.+)"', "cpu"
    else:
        return ""
    try:
        text = Path(str(distribution.locate_file(file))).read_text("utf-8")
    except OSError:
        return ""
    found = re.search(pattern, text, re.MULTILINE)
    return "" if found is None else "cpu" if found[1] == is_cpu else "cuda"


def check_python(version: tuple[int, ...]) -> Finding:
    """3.11 to 3.13: the code needs 3.11, and Hydra 1.3 does not start on 3.14."""
    found = Finding("python", ".".join(map(str, version)))
    remedy = "make clean && make PYTHON=python3.11 test"
    return found if (3, 11) <= version < (3, 14) else replace(found, problem="c2al needs 3.11 to 3.13", remedy=remedy)


def check_set(packages: Mapping[str, Package]) -> list[Finding]:
    """torch, torchrec and fbgemm: each torch minor has one version of the other two, and the builds must agree."""
    torch, newest = packages.get("torch"), next(iter(PAIRS))
    cpu = f"{PIP} install --extra-index-url {CPU_WHEELS} torch=={newest}.0+cpu"
    cuda = f"{PIP} install torch=={newest}.0"
    if torch is None:
        return [Finding("torch", "missing", "nothing works without it", remedy=f"{cpu}  # with a GPU: {cuda}")]
    if (version := PAIRS.get(_minor(torch.version))) is None:
        problem = f"no torchrec is known to fit it; one is for torch {', '.join(PAIRS)}"
        return [Finding("torch", _shown(torch), problem, remedy=cuda if torch.build == "cuda" else cpu)]
    fits = Finding("torch", _shown(torch))
    return [fits, _check_torchrec(packages, version), _check_fbgemm(packages, version, torch)]


def _check_torchrec(packages: Mapping[str, Package], version: str) -> Finding:
    torchrec = packages.get("torchrec")
    if torchrec and _minor(torchrec.version) == _minor(version):
        return Finding("torchrec", torchrec.version)
    # --no-deps: its requirement is fbgemm-gpu without a version, which would replace a CPU build
    version = TORCHREC_PATCHES.get(version, version)
    problem = f"this torch needs torchrec {version}"
    found = torchrec.version if torchrec else "missing"
    return Finding("torchrec", found, problem, remedy=f"{PIP} install --no-deps torchrec=={version}")


def _check_fbgemm(packages: Mapping[str, Package], version: str, torch: Package) -> Finding:
    builds = {name: packages[name] for name in ("fbgemm-gpu", "fbgemm-gpu-cpu") if name in packages}
    wanted = "fbgemm-gpu" if torch.build == "cuda" else "fbgemm-gpu-cpu"
    install = f"{PIP} install --no-deps --force-reinstall {wanted}=={version}"
    renew = f"{PIP} uninstall -y fbgemm-gpu fbgemm-gpu-cpu && {install}"
    found = ", ".join(f"{name} {_shown(package)}" for name, package in builds.items()) or "missing"
    if not builds:
        return Finding("fbgemm", found, f"this torch needs {wanted} {version}", remedy=install)
    if len(builds) == 2:
        return Finding("fbgemm", found, "two builds in one folder: the later has overwritten the former", remedy=renew)
    ((name, fbgemm),) = builds.items()
    if _minor(fbgemm.version) != _minor(version):
        return Finding("fbgemm", found, f"this torch needs version {version}, and loads no other", remedy=renew)
    if torch.build and (name != wanted or fbgemm.build not in ("", torch.build)):
        return Finding("fbgemm", found, f"torch is a {torch.build} build and needs {wanted}", remedy=renew)
    if fbgemm.missing_files:
        problem = f"{fbgemm.missing_files} of its libraries are gone, perhaps with another build that was uninstalled"
        return Finding("fbgemm", found, problem, remedy=install)
    return Finding("fbgemm", found)


def check_packages(packages: Mapping[str, Package]) -> list[Finding]:
    """The other packages: there, and not too old. Those that fit share one line."""
    findings = []
    for need in NEEDS.split():
        name, compare, version = re.fullmatch(r"([\w-]+)(?:(==|>=)(.+))?", need).groups("")  # type: ignore[union-attr]
        found = packages.get(name.lower())
        if found and (found.version == version if compare == "==" else _numbers(found.version) >= _numbers(version)):
            continue
        shown = found.version if found else "missing"
        findings.append(Finding(name, shown, f"c2al needs {need}", remedy=f"{PIP} install '{need}'"))
    named = ("torchmetrics", "tensordict", "hydra-core", "numpy", "pyarrow")
    return findings or [Finding("packages", ", ".join(f"{name} {packages[name].version}" for name in named))]


@dataclass(frozen=True)
class Probe:
    """What the importing process said before it ended: the steps it passed, and how it ended (``""``: well)."""

    steps: dict[str, dict[str, Any]]
    error: str


def run_probe(limit_s: float, code: str = PROBE) -> Probe:
    """Import the set in a process of its own: a crash there is a finding here."""
    command = [sys.executable, "-c", code]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
        said, complaint, status = ended.stdout, ended.stderr, ended.returncode
    except subprocess.TimeoutExpired as late:
        said = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or ""
        complaint, status = f"no answer after {limit_s:.0f} s", 1
    steps = [json.loads(line.removeprefix(SAYS)) for line in said.splitlines() if line.startswith(SAYS)]
    last = next((line.strip() for line in reversed(complaint.splitlines()) if line.strip()), "")
    error = "" if status == 0 else f"killed by signal {-status}" if status < 0 else last or f"exit status {status}"
    return Probe({step["step"]: step for step in steps}, error)


def check_imports(probe: Probe, packages: Mapping[str, Package]) -> list[Finding]:
    """Whether the set imports, and devices as torch sees them."""
    failed = next((step for step in STEPS if step not in probe.steps), "leaving Python")
    behind = [f"{name}=={packages[name].version}" for name in STEPS.get(failed, "").split() if name in packages]
    missing = re.search(r"No module named '(\w+)", probe.error)
    remedy = ""
    if missing and missing[1] not in STEPS:
        remedy = f"{PIP} install {missing[1].replace('_', '-')}"
    elif behind:
        index = f" --extra-index-url {CPU_WHEELS}" if "+cpu" in behind[0] else ""
        remedy = f"{PIP} install --force-reinstall --no-deps {' '.join(behind)}{index}"
    imports = Finding("imports", f"{failed} fails", probe.error, remedy=remedy)
    if not probe.error:
        imports = Finding("imports", "torch, fbgemm_gpu and torchrec import, and fbgemm computes")
    return [imports, *_devices(probe.steps["torch"])] if "torch" in probe.steps else [imports]


def _devices(seen: Mapping[str, Any]) -> list[Finding]:
    processes = Finding("processes", f"{', '.join(seen['backends'])}; {seen['threads']} threads in torch")
    if seen["gpus"]:
        return [Finding("devices", f"{'; '.join(seen['gpus'])} (CUDA {seen['cuda']})"), processes]
    if not _nvidia_gpus():
        return [Finding("devices", "CPU"), processes]
    note = "nvidia-smi finds a GPU and torch does not, so everything runs on the CPU"
    return [Finding("devices", "CPU", "", note, "rm -rf .venv && make test  # takes requirements/cuda.txt"), processes]


def _nvidia_gpus() -> bool:
    if shutil.which("nvidia-smi") is None:
        return False
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False)
    return listed.returncode == 0 and "GPU" in listed.stdout


def check_machine() -> list[Finding]:
    """Cores and memory that this process may use, disk, compiler."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory_bytes, disk_bytes = _memory_bytes(), shutil.disk_usage(".").free
    low_memory = "under 4 GiB: take a smaller batch" if memory_bytes < LOW_MEMORY_bytes else ""
    low_disk = "under 5 GiB free: checkpoints and prepared data need more" if disk_bytes < LOW_DISK_bytes else ""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    return [
        Finding("cores", str(cores)),
        Finding("memory", f"{memory_bytes / 2**30:.1f} GiB", note=low_memory),
        Finding("disk", f"{disk_bytes / 2**30:.0f} GiB free here", note=low_disk),
        Finding("compiler", compiler or "none", note="" if compiler else "torch.compile and export need g++"),
    ]


def _memory_bytes() -> int:
    """The machine's memory, or the control group's limit where that is less (containers, Slurm jobs)."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = Path(file).read_text("utf-8").strip() if Path(file).exists() else ""
        total = min(total, int(limit)) if limit.isdigit() else total
    return total


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0]))


def _minor(version: str) -> str:
    return ".".join(map(str, _numbers(version)[:2]))


def _shown(package: Package) -> str:
    return f"{package.version} ({package.build} build)" if package.build else package.version


def report(findings: Sequence[Finding]) -> int:
    """Print the findings; 0 where everything fits, 1 where something does not."""
    mark = {"": "fits", "note": "note", "problem": "WRONG"}
    write = _writer()
    for finding in findings:
        kind = "problem" if finding.problem else "note" if finding.note else ""
        write(f"{mark[kind]:<6}{finding.topic:<16}{finding.found}", kind)
        for text in (finding.problem or finding.note, finding.remedy and f"  {finding.remedy}"):
            if text:
                write(f"{'':<22}{text}", kind)
    wrong = sum(bool(finding.problem) for finding in findings)
    write(f"\n{wrong} thing(s) to fix, from the top" if wrong else "\neverything fits", "problem" if wrong else "")
    return int(wrong > 0)


def _writer() -> Callable[[str, str], None]:
    """Rich's print in colours, or plain print where rich is what is missing."""
    try:
        from rich.console import Console
    except ImportError:
        return lambda line, kind: print(line)
    console, style = Console(highlight=False, soft_wrap=True), {"": "", "note": "yellow", "problem": "bold red"}
    return lambda line, kind: console.print(line, style=style[kind], markup=False)


if __name__ == "__main__":
    sys.exit(report(check()))
