"""What must hold of the tree whatever is in it: docs/architecture.md says why."""

import ast
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A module imports from its own folder and from those to the left.
ORDER = [
    *(
        "printable",
        "plain_files",
        "plain_yaml",
        "background",
        "json_text",
        "names",
        "schema",
        "folder_lock",
        "own_files",
        "output_files",
        "batch",
        "cohorts",
        "data",
    ),
    *("embedding", "interaction", "heads", "objectives", "auc", "metrics", "model"),
    *("parallel", "training", "analysis", "serving", "doctor", "printing", "verbs", "sweep"),
    *("overrides", "key_help", "config_kinds", "cli", "__main__"),
]
# Who alone may import what: names of folders, modules, or single files.
ONLY = {
    "torchrec": {"embedding", "batch", "model", "parallel"},
    "fbgemm_gpu": {"embedding", "batch", "model", "parallel"},
    "hydra": {"cli", "overrides", "verbs", "training"},
    "omegaconf": {"cli", "config_kinds", "verbs", "training"},
    "torchx": set(),  # only launch/
    "torchjd": {"objectives"},
}
TORCH_ALONE = {"interaction": {"torch"}, "heads": {"torch"}, "objectives": {"torch", "torchjd"}}
# Imported at the top by neither these nor what they import at the top: `c2al --help` and the array programs start fast.
WITHOUT_TORCH = {"schema", "cohorts", "data", "analysis", "doctor", "cli", "__main__"}
HEAVY = {"torch", "torchrec", "fbgemm_gpu"}
MAY_IMPORT_TORCH = {"data.reader", "data.window"}  # the reader, and the part of it that makes batches
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "base", "manager", "core"}
MOST_LINES = 550  # beyond it a file is more than one subject, as a rule: a warning, no failure
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(work|root|opt/pypi|opt/wheels|tmp/bash_jobs)\b")


@dataclass(frozen=True)
class Import:
    target: str  # torch.nn, or c2al.data.writer
    line: int
    at_top: bool  # runs when the module is imported


def modules() -> dict[str, Path]:
    """Dotted name within c2al -> file; ``data.writer``, and ``data`` for its __init__."""
    found = {}
    for file in sorted((ROOT / "c2al").rglob("*.py")):
        parts = file.relative_to(ROOT / "c2al").with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = modules()


@cache
def imports(name: str) -> list[Import]:
    return list(_imports(ast.parse(MODULES[name].read_text("utf-8")).body, name, at_top=True))


def _imports(nodes: list[ast.AST], name: str, at_top: bool) -> Iterator[Import]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, at_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (Import(target, node.lineno, at_top) for target in _targets(node, name))
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            yield from _imports(list(ast.iter_child_nodes(node)), name, at_top and not inside and not typing_only)


def _targets(node: ast.ImportFrom, name: str) -> Iterator[str]:
    """``from c2al.data import writer`` imports c2al.data.writer; ``from c2al.schema import Schema``, c2al.schema."""
    source = node.module or ""
    if node.level:
        package = ["c2al", *(name.split(".") if MODULES[name].name == "__init__.py" else name.split(".")[:-1])]
        above = package[: len(package) - node.level + 1]
        source = ".".join(part for part in [*above, source] if part)
    for alias in node.names:
        whole = f"{source}.{alias.name}"
        yield whole if whole.removeprefix("c2al.") in MODULES else source


def own(name: str) -> list[tuple[str, Import]]:
    """The imports from c2al, by name within it; c2al itself (for __version__) is nobody's dependency."""
    found = [(found.target.removeprefix("c2al."), found) for found in imports(name) if found.target.startswith("c2al.")]
    return [(target, found) for target, found in found if target != "__version__"]


def unit(name: str) -> str:
    return name.split(".")[0]


def none(found: list[str]) -> None:
    assert not found, "\n" + "\n".join(found)


def where(name: str, found: Import) -> str:
    return f"{MODULES[name].relative_to(ROOT)}:{found.line} imports {found.target}"


def test_every_module_has_a_place_in_the_order():
    none(sorted({unit(name) for name in MODULES if name} - set(ORDER)))


def test_imports_run_one_way():
    against = [
        where(name, found)
        for name in MODULES
        for target, found in own(name)
        if unit(target) != unit(name) and (unit(target) not in ORDER or ORDER.index(unit(target)) > _place(name))
    ]
    none(against)


def _place(name: str) -> int:
    return ORDER.index(unit(name)) if name else -1  # c2al/__init__.py imports nothing


def test_no_circles():
    graph = {name: {target for target, _ in own(name) if target != name} for name in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(" -> ".join(circle.args[1]))


def test_the_doctor_stands_alone():
    """It must run where nothing else of c2al does."""
    if "doctor" in MODULES:
        none([where("doctor", found) for _, found in own("doctor")])


def test_packages_are_known_only_where_they_belong():
    strangers = [
        where(name, found)
        for name in MODULES
        for found in imports(name)
        if (allowed := ONLY.get(unit(found.target))) is not None and not {unit(name), name} & allowed
    ]
    none(strangers)


@pytest.mark.parametrize("folder", TORCH_ALONE)
def test_tensors_to_tensors_with_torch_alone(folder):
    known = TORCH_ALONE[folder] | {"c2al"} | set(sys.stdlib_module_names)
    names = [name for name in MODULES if unit(name) == folder]
    none([where(name, f) for name in names for f in imports(name) if unit(f.target) not in known])


def test_no_torch_before_it_is_needed():
    light = {name for name in MODULES if unit(name) in WITHOUT_TORCH and name not in MAY_IMPORT_TORCH}
    direct = [f"{where(name, found)} at the top" for name in light for found in _torch(name)]
    through = [  # a light module between the two is reported itself
        f"{where(name, found)} at the top, which imports torch"
        for name in light
        for target, found in own(name)
        if found.at_top and target not in light and any(_torch(reached) for reached in _reached(target))
    ]
    none(sorted(set(direct + through)))


def _torch(name: str) -> list[Import]:
    return [found for found in imports(name) if found.at_top and unit(found.target) in HEAVY]


def _reached(name: str) -> set[str]:
    """What importing a module imports of c2al, itself included."""
    reached, ahead = set(), [name]
    while ahead:
        if (now := ahead.pop()) in MODULES and now not in reached:
            reached.add(now)
            ahead += [target for target, found in own(now) if found.at_top]
    return reached


@pytest.mark.parametrize("program", ["import c2al", "from c2al.cli import main; main()"])
def test_starting_imports_no_torch(program):
    if "cli" in program and "cli" not in MODULES:
        pytest.skip("no command line yet")
    code = (
        "import sys; sys.argv = ['c2al', '--help']\n"
        f"try: exec({program!r})\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "found = {'torch', 'torchrec', 'pandas', 'polars', 'scipy'} & set(sys.modules); assert not found, found"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_packages_hold_a_docstring_alone():
    for file in (ROOT / "c2al").rglob("__init__.py"):
        docstring, *rest = ast.parse(file.read_text("utf-8")).body
        assert isinstance(docstring, ast.Expr), file
        allowed = ["__version__"] if file.parent == ROOT / "c2al" else []
        assert [ast.unparse(node).split(" ")[0] for node in rest] in ([], allowed), file


def test_tests_mirror_the_folders():
    folders = {file.parent.relative_to(ROOT / "c2al") for file in MODULES.values()}
    none(
        [f"c2al/{folder} has no tests/{folder}" for folder in sorted(folders) if not _tests_in(ROOT / "tests" / folder)]
    )


def _tests_in(folder: Path) -> list[Path]:
    return list(folder.glob("test_*.py"))


def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_names_say_what_is_inside():
    code = [file for file in tracked() if file.suffix in {".py", ".yaml"}]
    none([str(file) for file in code if FORBIDDEN_NAMES & set(re.split(r"[_\W]", file.stem.lower()))])


def test_long_files_are_named():
    lengths = {file: len(file.read_text("utf-8").splitlines()) for file in tracked() if file.suffix == ".py"}
    for file, length in lengths.items():
        if length > MOST_LINES:
            warnings.warn(f"{file.relative_to(ROOT)}: {length} lines: is it still one subject?", stacklevel=1)


def test_no_paths_of_one_machine():
    found = []
    for file in tracked():
        content = file.read_bytes()
        if b"\0" not in content:
            lines = enumerate(content.decode("utf-8", "replace").splitlines(), start=1)
            found += [f"{file.relative_to(ROOT)}:{i}" for i, line in lines if MACHINE_PATH.search(line)]
    none(found)
