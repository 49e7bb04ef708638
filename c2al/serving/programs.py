"""The three forms in which a file holds the model: torch modules, an exported graph, machine code by AOTInductor.

All take ``(tables, dense_BN, ids_BS, values, lengths)`` and give ``logit_B``.
"""

import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import nn

from c2al.schema import DataError
from c2al.serving import graph
from c2al.serving.archive import ROOT, Archive, Writer
from c2al.serving.eager import loaded
from c2al.serving.manifest import DENSE, Described
from c2al.serving.served import ServedModel

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
    program = functional(program)
    program.example_inputs = None  # tables are among them
    return program


def functional(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Return a program without operators that write into their arguments, which a graph file may not hold."""
    if any(_writes(node.target) for node in program.graph.nodes):
        return program.run_decompositions({})
    return program


def _writes(target: Any) -> bool:
    return isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable


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


def load(archive: Archive, described: Described, device: torch.device, *, num_inputs: int, trust_code: bool) -> Program:
    """Return the callable that a file holds; a DataError where it is code and that is not trusted."""
    if described.kind == "eager":
        model = loaded(archive.manifest, archive.read(DENSE), archive.path)
        return model.to(device).eval()
    if described.kind == "export":
        module = graph.load(archive, num_inputs, device)
        return lambda tables, dense_BN, ids_BS, values, lengths: module(*tables, dense_BN, ids_BS, *values, *lengths)
    if not trust_code:
        problem = "the model is machine code (format=aoti), and opening it runs it"
        remedy = "pass trust_code=true if you know who made it, or export the run with format=export"
        raise DataError(problem, file=archive.path, remedy=remedy)
    return _load_compiled(archive, archive.manifest)


def _load_compiled(archive: Archive, manifest: Mapping[str, Any]) -> Program:
    check_machine(manifest, archive.path)
    from torch._inductor import aoti_load_package
    from torch.export.pt2_archive._package import PT2ArchiveWriter

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
    here, said = machine(manifest["device"]), manifest.get("machine")
    if not isinstance(said, dict) or said.keys() != here.keys():
        raise DataError("it does not say for which machine it is", file=path, remedy="export it again")
    for key, there in said.items():
        if there != here[key]:
            problem = f"compiled for {key} {there}, and this is {here[key]}"
            remedy = "export it again with format=aoti on such a machine, or with format=export"
            raise DataError(problem, file=path, remedy=remedy)
