"""Writes what a benchmark measured, and where, to ``benchmarks/results/<what>_<hardware>_<date>.json``."""

import json
import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("c2al", "torch", "torchrec", "fbgemm-gpu", "fbgemm-gpu-cpu", "pyarrow", "numpy")


def record(what: str, payload: dict[str, Any], *, folder: Path = RESULTS) -> Path:
    """Write the payload beside hardware, versions, date and commit, whole or not at all; a later run that day wins."""
    now = datetime.now(UTC)
    found = hardware()
    about = {"what": what, "date": now.isoformat(timespec="seconds"), "commit": _commit(), "hardware": found}
    path = folder / f"{what}_{found['name']}_{now.date()}.json"
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, about | {"versions": _versions()} | payload)
    return path


def write_whole(path: Path, payload: Any) -> None:
    """Write a JSON file, whole or not at all."""
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(payload, indent=2) + "\n")
    unfinished.replace(path)


def hardware() -> dict[str, Any]:
    """Cores this process may use, the processor, and the GPU where torch was imported and sees one.

    ``name`` is for file names: ``cpu2`` for two cores, ``nvidia-h100-80gb-hbm3x1`` for one GPU.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found: dict[str, Any] = {"name": f"cpu{cores}", "cores": cores, "processor": _processor()}
    torch = sys.modules.get("torch")  # not imported for this alone: it takes seconds
    if torch is not None and torch.cuda.is_available():
        gpu, count = torch.cuda.get_device_name(), torch.cuda.device_count()
        found |= {"name": f"{re.sub('[^a-z0-9]+', '-', gpu.lower())}x{count}", "gpu": gpu, "num_gpus": count}
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    """The commit, with a + where files it knows were changed since; None outside of a checkout."""
    git = ["git", "-C", str(RESULTS.parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")
