"""The three forms in which a file holds the model: torch modules, an exported graph, machine code by AOTInductor.

All take ``(tables, dense_BN, ids_BS, values, lengths)`` and give ``logit_B``.
"""

import io
import json
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn
from torch.export.pt2_archive._package import PT2ArchiveWriter

from c2al.schema import DataError
from c2al.serving.archive import ANEW, OWN, ROOT, Archive, Writer
from c2al.serving.eager import built
from c2al.serving.served import ServedModel

FORMATS = ("export", "eager", "aoti")
DENSE = f"{OWN}dense.safetensors"
Program = Callable[..., torch.Tensor]
Arguments = tuple[Any, ...]


def exported(model: nn.Module, arguments: Arguments) -> torch.export.ExportedProgram:
    """The graph, for any number of rows and of ids in each multi-valued column."""
    tables, _, _, values, lengths = arguments
    rows = torch.export.Dim("rows")
    shapes: tuple[Any, ...] = (
        [{} for _ in tables],
        {0: rows},
        {0: rows},
        [{0: torch.export.Dim(f"values_{i}")} for i, _ in enumerate(values)],
        [{0: rows} for _ in lengths],
    )
    with torch.no_grad():
        program = torch.export.export(model, arguments, dynamic_shapes=shapes)
    program.example_inputs = None  # tables are among them
    return program


def save(writer: Writer, model: ServedModel, arguments: Arguments, kind: str) -> None:
    """Write the model in one of ``FORMATS``; ``arguments`` are an example of its inputs."""
    if kind == "eager":
        state = {name: value.contiguous() for name, value in model.state_dict().items()}
        writer.add(DENSE, save_tensors(state))
        return
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / f"{ROOT}.pt2"
        program = exported(model, arguments)
        if kind == "export":
            torch.export.save(program, packed)
        else:
            compile_into(packed, program, arguments)
        writer.add_packed(packed)


def compile_into(packed: Path, program: torch.export.ExportedProgram, arguments: Arguments) -> None:
    """By AOTInductor, for this machine's processor or GPU; g++ does part of it."""
    if shutil.which("g++") is None:
        raise DataError("format=aoti needs a C++ compiler", value="g++", remedy="apt-get install g++, or format=export")
    from torch._inductor import aoti_compile_and_package

    program.example_inputs = (arguments, {})
    aoti_compile_and_package(program, package_path=str(packed))


def load(archive: Archive, manifest: Mapping[str, Any], device: torch.device) -> Program:
    """The callable that a file holds."""
    kind = manifest["kind"]
    if kind == "eager":
        return _load_eager(archive, manifest, device)
    if kind == "export":
        return _load_exported(archive, device)
    return _load_compiled(archive, manifest)


def _load_eager(archive: Archive, manifest: Mapping[str, Any], device: torch.device) -> Program:
    model = built(manifest)
    model.load_state_dict(load_tensors(archive.read(DENSE)))
    return model.to(device).eval()


def _load_exported(archive: Archive, device: torch.device) -> Program:
    """By torch's own reader, from a copy without the tables; refused where that reader would unpickle."""
    _refuse_pickles(archive)
    packed = io.BytesIO()
    with PT2ArchiveWriter(packed) as writer:
        for name in archive.names():
            inside = name.removeprefix(f"{ROOT}/")
            if not name.startswith(OWN) and not inside.startswith((".data", "byteorder", "archive_")):
                writer.write_bytes(inside, archive.read(name))
    packed.seek(0)
    try:
        program = torch.export.load(packed)
    except Exception as error:  # whatever another version's graph makes torch say
        written = archive.manifest["versions"].get("torch")
        problem = f"the graph, written by torch {written}, does not open in torch {torch.__version__}: {error}"
        raise DataError(problem, file=archive.path, remedy=f"install torch {written}, or {ANEW}") from error
    return program.module().to(device)


def _refuse_pickles(archive: Archive) -> None:
    """torch's reader unpickles weights and constants that say so, and samples that it cannot read otherwise."""
    for name in archive.names():
        if name.endswith("_config.json") and "/data/" in name:
            if any(entry["use_pickle"] for entry in json.loads(archive.read(name))["config"].values()):
                raise _pickled(archive, name)
        elif "/data/constants/" in name and "tensor_" not in name:
            raise _pickled(archive, name)
        elif "/sample_inputs/" in name and archive.read(name):
            try:
                torch.load(io.BytesIO(archive.read(name)), weights_only=True)
            except Exception:
                raise _pickled(archive, name) from None


def _pickled(archive: Archive, name: str) -> DataError:
    problem = "the model holds a pickle, which could run any code"
    return DataError(problem, file=archive.path, value=name, remedy=f"do not trust it; {ANEW}")


def _load_compiled(archive: Archive, manifest: Mapping[str, Any]) -> Program:
    check_machine(manifest, archive.path)
    from torch._inductor import aoti_load_package

    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / f"{ROOT}.pt2"
        with PT2ArchiveWriter(str(packed)) as writer:
            for name in archive.names():
                if "/data/aotinductor/" in name:
                    writer.write_bytes(name.removeprefix(f"{ROOT}/"), archive.read(name))
        return aoti_load_package(str(packed))


def machine(device: str) -> dict[str, str]:
    """What machine code depends on."""
    name = torch.cuda.get_device_name() if device == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {"machine": platform.machine(), "device": name, "torch": torch.__version__}


def check_machine(manifest: Mapping[str, Any], path: str) -> None:
    """DataError where machine code is for another machine or another torch."""
    here = machine(manifest["device"])
    for key, there in manifest["machine"].items():
        if there != here[key]:
            problem = f"compiled for {key} {there}, and this is {here[key]}"
            remedy = "export it again with format=aoti on such a machine, or with format=export"
            raise DataError(problem, file=path, remedy=remedy)
