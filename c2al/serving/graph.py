"""An exported graph from its records, built anew: operators of a list, names of its own, and no text that is evaluated.

``torch.export.load`` trusts its file: it compiles the file's names and guards as Python, gives its expressions to
sympy's ``eval``, looks functions up by dotted texts, unpickles weights, constants and samples that say so, and loads
libraries that lie beside the graph. Here the same JSON (schema 8 of ``torch/_export/serde/schema.py``) is read as data:
each node becomes a call of an operator from ``operators.py``, each weight a piece of its record.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from c2al.schema import DataError
from c2al.serving.archive import ANEW, ROOT, Archive
from c2al.serving.expressions import expressions, is_expression, is_guard
from c2al.serving.operators import SIZES, SKIPPED, bounded, made_by, may_grow, operator, setting_refused

MODEL = f"{ROOT}/models/model.json"
WEIGHTS, CONSTANTS = f"{ROOT}/data/weights/", f"{ROOT}/data/constants/"
CONFIGS = {WEIGHTS: f"{WEIGHTS}model_weights_config.json", CONSTANTS: f"{CONSTANTS}model_constants_config.json"}
SCHEMA = 8  # the major version: torch says that files of one major version read alike
DTYPES = {  # torch/_export/serde/schema.py, ScalarType
    **{1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16},
    **{7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16},
}
FORMATS = {1: torch.contiguous_format, 4: torch.preserve_format}  # MemoryFormat
STRIDED = 7  # Layout
PLAIN: dict[str, type] = {"as_int": int, "as_bool": bool, "as_string": str}
LISTS = {"as_ints": "as_int", "as_floats": "as_float", "as_bools": "as_bool"}
SYMBOLIC = ("as_sym_int", "as_sym_float", "as_sym_bool")
MOST_NODES, MOST_BYTES = 50_000, 2**28
MOST_MADE = 2**26  # numbers in a tensor that the graph makes out of literal sizes
OTHER_FORM = "do not trust a file of others; of a model of your own, export another form: format=eager or format=aoti"
LITERALS = re.compile(r"[\w ,.>-]{0,64}")  # of texts: an einsum, a rounding mode
Value = Any  # a node of the graph that is built, or a plain value


class RefusedError(Exception):
    """Something in the graph that has no place there; the message says what."""

    def __init__(self, problem: str, remedy: str = f"do not trust the file; {ANEW}") -> None:
        super().__init__(problem)
        self.remedy = remedy


def load(archive: Archive, num_inputs: int, device: torch.device) -> nn.Module:
    """Build the graph of an archive of ``format=export``: a module that takes ``num_inputs`` tensors and gives one.

    Raises:
        DataError: the records are not those of a graph, or hold what a graph of a ranking model never holds.
    """
    try:
        found = archive.json(MODEL, most_bytes=MOST_BYTES)
        stored = {folder: _tensors(archive, folder) for folder in CONFIGS}
        return _Builder(stored, device).built(found, num_inputs).to(device)
    except RefusedError as refused:
        raise DataError(f"the graph is refused: {refused}", file=archive.path, remedy=refused.remedy) from None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError, OverflowError) as error:
        written = archive.manifest["versions"].get("torch")
        problem = f"the graph, written by torch {written}, does not read: {type(error).__name__} {_first_line(error)}"
        raise DataError(problem, file=archive.path, remedy=f"do not trust the file; {ANEW}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]


def _tensors(archive: Archive, folder: str) -> dict[str, torch.Tensor]:
    """The weights or the constants by their names in the model, as raw bytes hold them."""
    config = archive.json(CONFIGS[folder], most_bytes=MOST_BYTES)["config"]
    blocks: dict[str, torch.Tensor] = {}
    made = {}
    for name, entry in config.items():
        record, meta = entry["path_name"], entry["tensor_meta"]
        if entry["use_pickle"] is not False or meta is None or not re.fullmatch(r"(weight|tensor)_\d{1,6}", record):
            raise RefusedError(f"it holds a pickle, which could run any code ({name[:60]})")
        if record not in blocks:
            content = archive.read(f"{folder}{record}")
            blocks[record] = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0)
        made[name] = _tensor(name, blocks[record], meta)
    return made


def _tensor(name: str, block: torch.Tensor, meta: Mapping[str, Any]) -> torch.Tensor:
    dtype = DTYPES[meta["dtype"]]
    sizes, strides = ([_whole(each["as_int"]) for each in meta[key]] for key in ("sizes", "strides"))
    offset = _whole(meta["storage_offset"]["as_int"])
    numbers = block.numel() // dtype.itemsize
    if meta["layout"] != STRIDED or len(sizes) != len(strides):
        raise RefusedError(f"{name} is no plain tensor")
    if math.prod(sizes) == 0:
        return torch.empty(sizes, dtype=dtype) if max(sizes) < MOST_MADE else _absurd(name, sizes)
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if block.numel() % dtype.itemsize or last >= numbers or math.prod(sizes) > max(numbers, 2**20):
        return _absurd(name, sizes)
    return block.view(dtype).as_strided(sizes, strides, offset)


def _absurd(name: str, sizes: Sequence[int]) -> torch.Tensor:
    raise RefusedError(f"{name} of sizes {list(sizes)[:8]} is more than its record holds")


def _whole(value: Any) -> int:
    """The value, a size: an integer from 0 on."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**48:
        raise RefusedError(f"{str(value)[:40]!r} is no size")
    return value


class _Builder:
    """One graph under construction: ``known`` maps the file's names to nodes."""

    def __init__(self, stored: Mapping[str, Mapping[str, torch.Tensor]], device: torch.device) -> None:
        self.stored, self.device = stored, device
        self.root, self.graph = nn.Module(), fx.Graph()
        self.known: dict[str, fx.Node] = {}

    def built(self, program: Mapping[str, Any], num_inputs: int) -> fx.GraphModule:
        """The whole program."""
        if program["schema_version"]["major"] != SCHEMA:
            raise RefusedError(f"it is of schema {str(program['schema_version']['major'])[:20]}, {SCHEMA} is known")
        module = program["graph_module"]
        graph, signature = module["graph"], module["signature"]
        _check_texts(program, graph)
        self._add_inputs(graph["inputs"], signature["input_specs"], num_inputs)
        if len(graph["nodes"]) > MOST_NODES:
            raise RefusedError(f"it has {len(graph['nodes'])} nodes, {MOST_NODES} at most")
        for node in graph["nodes"]:
            self._add(node)
        [output], [spec] = graph["outputs"], signature["output_specs"]
        if list(spec) != ["user_output"]:
            raise RefusedError(f"it changes its own weights ({str(list(spec))[:60]})")
        self.graph.output(self._of(output["as_tensor"]["name"]))
        return fx.GraphModule(self.root, self.graph)

    def _add_inputs(self, inputs: Sequence[Any], specs: Sequence[Any], num_inputs: int) -> None:
        names: dict[str, list[str]] = {"user": [], "own": []}
        for given, spec in zip(inputs, specs, strict=True):
            [(kind, about)] = spec.items()
            name = given["as_tensor"]["name"]
            if kind == "user_input":
                names["user"].append(name)
            elif kind in ("parameter", "buffer", "tensor_constant"):
                tensor = self._stored(about[f"{kind}_name"])
                self.root.register_buffer(f"w{len(names['own'])}", tensor, persistent=False)
                names["own"].append(name)
            else:
                raise RefusedError(f"it takes an input of kind {str(kind)[:40]}")
        if len(names["user"]) != num_inputs:
            raise RefusedError(f"it takes {len(names['user'])} inputs, the manifest says {num_inputs}")
        for i, name in enumerate(names["user"]):
            self._know(name, self.graph.placeholder(f"input_{i}"))
        for i, name in enumerate(names["own"]):
            self._know(name, self.graph.get_attr(f"w{i}"))

    def _stored(self, name: str) -> torch.Tensor:
        for tensors in self.stored.values():
            if name in tensors:
                return tensors[name]
        raise RefusedError(f"{str(name)[:60]} has no record")

    def _know(self, name: Any, node: fx.Node) -> None:
        if not isinstance(name, str) or not name.isidentifier() or name in self.known:
            raise RefusedError(f"{str(name)[:60]!r} cannot name a value, or names two")
        self.known[name] = node

    def _of(self, name: str) -> fx.Node:
        if name not in self.known:
            raise RefusedError(f"{str(name)[:60]!r} is used before it is made")
        return self.known[name]

    def _add(self, node: Mapping[str, Any]) -> None:
        target = node["target"]
        if target in SKIPPED:
            return
        function = operator(target) if isinstance(target, str) else None
        if function is None:
            problem = f"it calls {str(target)[:80]}, which is none of the operators that a graph file may call"
            raise RefusedError(problem, OTHER_FORM)
        given = [(each["name"], self._value(each["arg"])) for each in node["inputs"]]
        if setting := setting_refused(target, dict(given)):
            problem = f"it calls {target} with {setting}={str(dict(given)[setting])[:40]}, which is not for scoring"
            raise RefusedError(problem, OTHER_FORM)
        if may_grow(target):
            _check_made(target, dict(given))
            function = bounded(target, function)
        if target in SIZES:
            called = self.graph.call_function(function, tuple(value for _, value in given))
        else:
            called = self.graph.call_function(function, *_bound(function, given))
        self._name_outputs(called, node["outputs"])

    def _name_outputs(self, called: fx.Node, outputs: Sequence[Mapping[str, Any]]) -> None:
        if len(outputs) == 1 and "as_tensors" in outputs[0]:  # a list of tensors, such as chunk gives
            outputs = [{"as_tensor": each} for each in outputs[0]["as_tensors"]]
        elif len(outputs) == 1:
            self._know(_name(outputs[0]), called)
            return
        for i, output in enumerate(outputs):
            if "as_none" not in output:
                self._know(_name(output), self.graph.call_function(_item, (called, i)))

    def _value(self, argument: Mapping[str, Any]) -> Value:
        [(kind, raw)] = argument.items()
        if kind == "as_tensor":
            return self._of(raw["name"])
        if kind in SYMBOLIC:
            [(form, value)] = raw.items()
            return self._of(value) if form == "as_name" else self._value({form: value})
        if kind in ("as_tensors", "as_optional_tensors", "as_sym_ints", "as_sym_floats", "as_sym_bools"):
            return [self._element(kind, each) for each in raw]
        if kind in LISTS:
            return [self._value({LISTS[kind]: each}) for each in raw]
        return self._plain(kind, raw)

    def _element(self, kind: str, raw: Mapping[str, Any]) -> Value:
        if kind == "as_tensors":
            return self._of(raw["name"])
        return self._value(raw if kind == "as_optional_tensors" else {kind.removesuffix("s"): raw})

    def _plain(self, kind: str, raw: Any) -> Value:
        if kind == "as_none":
            return None
        if kind == "as_float" and (isinstance(raw, float | int) or raw in ("Infinity", "-Infinity", "NaN")):
            return float(raw)
        if kind == "as_scalar_type":
            return DTYPES[raw]
        if kind == "as_device":
            return self.device  # that of whoever opens the file
        if kind == "as_layout" and raw == STRIDED:
            return torch.strided
        if kind == "as_memory_format":
            return FORMATS[raw]
        plain: Any = PLAIN.get(kind)
        if plain is None or type(raw) is not plain or (plain is int and not -(2**63) <= raw < 2**63):
            raise RefusedError(f"an argument of kind {str(kind)[:40]}, {str(raw)[:40]!r}")
        if plain is str and not LITERALS.fullmatch(raw):
            raise RefusedError(f"a text that is no setting of an operator: {raw[:40]!r}")
        return raw


def _item(values: Sequence[torch.Tensor], i: int) -> torch.Tensor:
    """Return one of several outputs."""
    return values[i]


def _name(output: Mapping[str, Any]) -> str:
    [(kind, raw)] = output.items()
    return raw["name"] if kind == "as_tensor" else raw["as_name"]


def _bound(
    function: Callable[..., Any], given: Sequence[tuple[str, Value]]
) -> tuple[tuple[Value, ...], dict[str, Value]]:
    """Arguments in the order of the operator's schema, those after a gap by name."""
    values = dict(given)
    arguments = function._schema.arguments  # type: ignore[attr-defined]
    if len(values) != len(given) or not set(values) <= {argument.name for argument in arguments}:
        raise RefusedError(f"{function} takes no such arguments: {', '.join(name for name, _ in given)[:80]}")
    args: list[Value] = []
    for argument in arguments:
        if argument.name not in values or argument.kwarg_only:
            break
        args.append(values.pop(argument.name))
    return tuple(args), values


def _check_made(target: str, given: Mapping[str, Value]) -> None:
    """An error where literal sizes multiply to more than any model makes; those of nodes are known when it runs."""
    made = made_by(target.split(".")[3], given)
    if not made <= MOST_MADE:
        raise RefusedError(f"{target} would make {made:.3g} numbers, {MOST_MADE} at most")


def _check_texts(program: Mapping[str, Any], graph: Mapping[str, Any]) -> None:
    """What ``torch.export.load`` would evaluate says nothing but arithmetic of sizes."""
    for text in expressions(program["graph_module"]):
        if not is_expression(text):
            raise RefusedError(f"a size is no arithmetic of symbols: {str(text)[:60]!r}")
    for text in program.get("guards_code", []):
        if not is_guard(text):
            raise RefusedError(f"a guard is no comparison of sizes: {str(text)[:60]!r}")
    for name in program.get("range_constraints", {}):
        if not re.fullmatch(r"[su]\d{1,6}", name):
            raise RefusedError(f"a range of {name[:60]!r}, which is no symbol")
    if graph.get("custom_obj_values"):
        raise RefusedError("it holds objects of classes of its own")
