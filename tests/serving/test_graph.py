"""A graph is data: what is in it besides arithmetic of tensors is refused, and nothing in it is evaluated."""

import io
import json
import pickle
import random
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from c2al.schema import DataError
from c2al.serving import graph, programs
from c2al.serving.archive import ROOT, Archive, written
from c2al.serving.artefact import open_artefact
from c2al.serving.triton import random_inputs
from tests.serving.forge import MODEL, WEIGHTS, forged, with_json

CPU = torch.device("cpu")


def nodes(program):
    return program["graph_module"]["graph"]["nodes"]


def first_tensor(program):
    """The name of the first value that a node makes."""
    return next(node["outputs"][0]["as_tensor"]["name"] for node in nodes(program) if "as_tensor" in node["outputs"][0])


def refused(path, said="graph is refused"):
    with pytest.raises(DataError, match=said) as raised:
        open_artefact(path)
    assert "\n" not in str(raised.value)
    assert "\n" not in raised.value.problem


@pytest.fixture
def fired(tmp_path):
    """A file that code in a forgery would make, and Python that makes it."""
    marker = tmp_path / "fired"
    yield f"__import__('pathlib').Path({str(marker)!r}).touch()"
    assert not marker.exists()


def set_expression(code):
    def edit(program):
        sizes = program["graph_module"]["graph"]["tensor_values"]["ids_bs"]["sizes"]
        sizes[0] = {"as_expr": {"expr_str": code, "hint": None}}

    return edit


def set_guard(code):
    return lambda program: program.update(guards_code=[code])


def set_range(code):
    return lambda program: program.update(range_constraints={code: {"min_val": 0, "max_val": None}})


def set_name(code):
    """Names become Python where torch builds a graph from them."""

    def edit(program):
        name = first_tensor(program)
        text = json.dumps(program).replace(json.dumps(name), json.dumps(f"x = {code} #"))
        program.update(json.loads(text))

    return edit


def set_input_name(code):
    def edit(program):
        text = json.dumps(program).replace('"ids_bs"', json.dumps(f"x={code}"))
        program.update(json.loads(text))

    return edit


def set_target(target):
    return lambda program: nodes(program)[1].update(target=target)


def set_custom_object(code):
    values = {"obj": {"name": "obj", "class_fqn": code}}
    return lambda program: program["graph_module"]["graph"].update(custom_obj_values=values)


FORGERIES = {
    "an expression": set_expression,
    "a guard": set_guard,
    "a symbol of a range": set_range,
    "the name of a value": set_name,
    "the name of an input": set_input_name,
    "an object": set_custom_object,
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_python_in_a_graph_is_refused(file, tmp_path, fired, forgery):
    refused(with_json(file, tmp_path / "m.pt2", MODEL, FORGERIES[forgery](fired)))


def test_python_in_names_of_arguments_is_refused(file, tmp_path, fired):
    """torch hands them on as keywords where an operator has no schema."""

    def edit(program):
        nodes(program)[0]["inputs"][0]["name"] = f"x={fired}"

    refused(with_json(file, tmp_path / "m.pt2", MODEL, edit))


def test_what_is_not_read_does_not_run(file, tmp_path, fired):
    """Names of arguments of the whole, tree specs, metadata: torch compiles some, c2al reads none."""

    def edit(program):
        entry = program["graph_module"]["module_call_graph"][0]
        entry["signature"]["forward_arg_names"] = [f"x={fired}"]
        entry["signature"]["in_spec"] = fired
        for node in nodes(program):
            node["metadata"] = {"stack_trace": f"\n{fired}\n", "source_fn_stack": f"x,{fired}", "custom": fired}
        program["verifiers"] = [fired]

    path = with_json(file, tmp_path / "m.pt2", MODEL, edit)
    rows = random_inputs(open_artefact(file), 8)
    np.testing.assert_array_equal(open_artefact(path)(rows), open_artefact(file)(rows))


@pytest.mark.parametrize(
    "target",
    [
        *(
            "torch.ops.aten.from_file.default",
            "torch.hub.load",
            "torch.load",
            "torch.utils.cpp_extension.load",
            "os.system",
        ),
        *(
            "torch.ops.aten.copy_.default",
            "torch.ops.higher_order.while_loop",
            "_operator.attrgetter",
            "#aoti:x",
            None,
            5,
        ),
    ],
)
def test_operators_beyond_the_list_are_refused(file, tmp_path, target):
    refused(with_json(file, tmp_path / "m.pt2", MODEL, set_target(target)), "operators that a graph file may call")


class Dangerous:
    def __init__(self, code):
        self.code = code

    def __reduce__(self):
        return exec, (self.code,)


@pytest.mark.parametrize("plain", [True, False])
def test_pickles_are_refused_wherever_torch_would_open_one(file, tmp_path, fired, plain):
    content = io.BytesIO()
    if plain:
        content.write(pickle.dumps(Dangerous(fired)))
    else:
        torch.save(Dangerous(fired), content)

    def sample(records, manifest):
        records[f"{ROOT}/data/sample_inputs/model.pt"] = content.getvalue()

    def legacy(folder):
        return lambda records, manifest: records.update({f"{ROOT}/data/{folder}/model.pt": content.getvalue()})

    def weight(records, manifest):
        config = json.loads(records[WEIGHTS])
        first = next(iter(config["config"].values()))
        first["use_pickle"] = True
        records[f"{ROOT}/data/weights/{first['path_name']}"] = content.getvalue()
        records[WEIGHTS] = json.dumps(config).encode()

    def constant(prefix):
        def edit(records, manifest):
            name = f"{ROOT}/data/constants/model_constants_config.json"
            entry = {"path_name": f"{prefix}0", "is_param": False, "use_pickle": True, "tensor_meta": None}
            records[name] = json.dumps({"config": {"x": entry}}).encode()
            records[f"{ROOT}/data/constants/{prefix}0"] = content.getvalue()

        return edit

    edits = [
        sample,
        legacy("weights"),
        legacy("constants"),
        weight,
        *map(constant, ("custom_obj_", "opaque_obj_", "tensor_")),
    ]
    for edit in edits:
        refused(forged(file, tmp_path / "m.pt2", edit), "pickle|never holds")


@pytest.mark.parametrize(
    "name",
    [
        *("data/aotinductor/model/x.so", "data/aotinductor/model/x.wrapper.so", "data/aotinductor/model/x.cpp"),
        *(
            "extra/x",
            "data/x.so",
            "models/other.json",
            "data/weights/weight_0.so",
            "executorch/x",
            "c2al/x.py",
            "data.pkl",
        ),
        *("c2al/vocabularies/999.parquet", "c2al/dense.safetensors", "c2al/tables/99.0", "constants.pkl", "code/a.py"),
    ],
)
def test_records_that_no_graph_file_has(file, tmp_path, name):
    edit = lambda records, manifest: records.update({f"{ROOT}/{name}": b"x"})  # noqa: E731
    refused(forged(file, tmp_path / "m.pt2", edit), "never holds")


SIZES = {"a size beyond the record": [10**6], "a negative size": [-1], "a size of 64 bits": [2**62], "no size": [None]}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=list(SIZES))
@pytest.mark.parametrize("key", ["sizes", "strides"])
def test_weights_do_not_reach_beyond_their_records(file, tmp_path, key, sizes):
    def edit(config):
        bias = config["config"]["dense.layers.0.bias"]["tensor_meta"]
        bias["sizes" if key == "sizes" else "strides"] = [{"as_int": size} for size in sizes]

    refused(with_json(file, tmp_path / "m.pt2", WEIGHTS, edit))


def test_an_offset_beyond_the_record(file, tmp_path):
    def edit(config):
        config["config"]["dense.layers.0.bias"]["tensor_meta"]["storage_offset"] = {"as_int": 1}

    refused(with_json(file, tmp_path / "m.pt2", WEIGHTS, edit), "more than its record holds")


def test_a_weight_from_elsewhere(file, tmp_path):
    def edit(config):
        config["config"]["dense.layers.0.bias"]["path_name"] = "../../c2al/manifest.json"

    refused(with_json(file, tmp_path / "m.pt2", WEIGHTS, edit))


def literal(target, name, value):
    def edit(program):
        schema = {"as_ints": value} if isinstance(value, list) else {"as_int": value}
        first = first_tensor(program)
        inputs = [{"name": "self", "arg": {"as_tensor": {"name": first}}, "kind": 1}] if "new_" in target else []
        inputs.append({"name": name, "arg": schema, "kind": 1})
        nodes(program).append(
            {"target": target, "inputs": inputs, "outputs": [{"as_tensor": {"name": "big"}}], "metadata": {}}
        )

    return edit


@pytest.mark.parametrize(
    ("target", "name", "value"),
    [
        *(("torch.ops.aten.zeros.default", "size", [2**40]), ("torch.ops.aten.ones.default", "size", [2**20, 2**20])),
        *(("torch.ops.aten.arange.default", "end", 2**50), ("torch.ops.aten.new_zeros.default", "size", [2**33])),
        ("torch.ops.aten.zeros.default", "size", [2**70]),
    ],
)
def test_tensors_larger_than_any_models_are_not_made(file, tmp_path, target, name, value):
    refused(with_json(file, tmp_path / "m.pt2", MODEL, literal(target, name, value)))


def full(name, sizes, value):
    arguments = {"size": {"as_ints": sizes}, "fill_value": {"as_float": value}, "dtype": {"as_scalar_type": 7}}
    return node("full.default", [name], **arguments)


def node(target, made, **arguments):
    inputs = [{"name": name, "arg": value, "kind": 1} for name, value in arguments.items()]
    outputs = [{"as_tensor": {"name": name}} for name in made]
    return {"target": f"torch.ops.aten.{target}", "inputs": inputs, "outputs": outputs, "metadata": {}}


def test_statistics_beyond_their_end_are_not_read(file, tmp_path):
    known = {"as_tensor": {"name": "mean"}}
    arguments = {"input": {"as_tensor": {"name": "x"}}, "weight": {"as_none": True}, "bias": {"as_none": True}}
    arguments |= {"running_mean": known, "running_var": known}
    arguments |= {"momentum": {"as_float": 0.1}, "eps": {"as_float": 0.1}}
    norm = node("_native_batch_norm_legit_no_training.default", ["d", "e", "f"], **arguments)
    edit = lambda program: nodes(program).extend([full("x", [2, 64], 0.0), full("mean", [1], 1.0), norm])  # noqa: E731
    refused(with_json(file, tmp_path / "m.pt2", MODEL, edit), "does not run: ValueError batch_norm: other than 64")


@pytest.mark.parametrize(
    ("target", "setting", "value"),
    [
        ("dropout.default", "train", {"as_bool": True}),
        ("batch_norm.default", "training", {"as_bool": True}),
        ("scaled_dot_product_attention.default", "dropout_p", {"as_float": 0.5}),
        ("pad.default", "mode", {"as_string": "circular"}),
    ],
)
def test_what_is_random_or_writes_is_refused(file, tmp_path, target, setting, value):
    edit = lambda program: nodes(program).append(node(target, ["x"], **{setting: value}))  # noqa: E731
    refused(with_json(file, tmp_path / "m.pt2", MODEL, edit), f"{setting}=.*not for scoring")


def test_a_range_of_small_steps(file, tmp_path):
    arguments = {"start": {"as_float": 0.0}, "end": {"as_float": 6e7}, "step": {"as_float": 1e-2}}
    edit = lambda program: nodes(program).append(node("arange.start_step", ["x"], **arguments))  # noqa: E731
    refused(with_json(file, tmp_path / "m.pt2", MODEL, edit), r"would make 6e\+09 numbers")


def test_a_reckoned_size(file, tmp_path):
    """rows * 2^40, which is no literal."""

    def edit(program):
        first = program["graph_module"]["graph"]["outputs"][0]["as_tensor"]["name"]
        rows = node("sym_size.int", [], self={"as_tensor": {"name": first}}, dim={"as_int": 0})
        rows["outputs"] = [{"as_sym_int": {"as_name": "rows"}}]
        times = [{"as_name": "rows"}, {"as_int": 2**40}]
        inputs = [{"name": "ab"[i], "arg": {"as_sym_int": each}, "kind": 1} for i, each in enumerate(times)]
        outputs = [{"as_sym_int": {"as_name": "many"}}]
        grown = {"target": "_operator.mul", "inputs": inputs, "outputs": outputs, "metadata": {}}
        made = node("zeros.default", ["x"], size={"as_sym_ints": [{"as_name": "many"}]})
        nodes(program).extend([rows, grown, made])

    refused(with_json(file, tmp_path / "m.pt2", MODEL, edit), "zeros: it would make")


def test_sizes_do_not_grow_without_bound(file, tmp_path):
    """x := x * x, forty times, would be a number of a trillion digits."""

    def edit(program):
        value = {"as_int": 3}
        for i in range(40):
            inputs = [{"name": name, "arg": {"as_sym_int": value}, "kind": 1} for name in "ab"]
            outputs = [{"as_sym_int": {"as_name": f"grown_{i}"}}]
            nodes(program).append({"target": "_operator.mul", "inputs": inputs, "outputs": outputs, "metadata": {}})
            value = {"as_name": f"grown_{i}"}

    refused(with_json(file, tmp_path / "m.pt2", MODEL, edit), "OverflowError")


def test_a_graph_that_is_too_large(file, tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "MOST_NODES", 3)
    refused(file, "3 at most")
    monkeypatch.setattr(graph, "MOST_BYTES", 1000)
    refused(file, "1,000 are the most")


def test_json_that_is_too_deep_or_says_a_key_twice(file, tmp_path):
    deep = lambda records, manifest: records.update({MODEL: b"[" * 100_000 + b"]" * 100_000})  # noqa: E731
    refused(forged(file, tmp_path / "m.pt2", deep), "does not read")
    twice = lambda records, manifest: records.update({MODEL: b'{"a": 1, "a": 2}'})  # noqa: E731
    refused(forged(file, tmp_path / "m.pt2", twice), "twice")


def test_another_schema(file, tmp_path):
    def edit(program):
        program["schema_version"]["major"] = 9

    refused(with_json(file, tmp_path / "m.pt2", MODEL, edit), "of schema 9")


class Own(nn.Module):
    """Somebody's own model: in-place operators, several outputs of one, a list, sizes that are reckoned, texts."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("shift", torch.arange(4.0), persistent=False)

    def forward(self, x):
        x = torch.relu_(self.linear(x)) + self.shift
        first, second = x.chunk(2, dim=1)
        values, places = torch.topk(torch.cat([first, second], dim=1), 2, dim=1)
        wide = x.reshape(x.shape[0] * 2, 2).sum(1).view(x.shape[0], -1)
        gelu = nn.functional.gelu(values, approximate="tanh")
        mixed = torch.einsum("bi,bi->b", gelu, places.float()) + wide.max(dim=1).values
        return torch.where(mixed > float("-inf"), mixed, torch.zeros_like(mixed))


def kept(program, path):
    with written(str(path)) as writer:
        packed = path.with_suffix(".tmp.pt2")
        torch.export.save(program, packed)
        writer.add_packed(packed)
        writer.finish({"versions": {"torch": torch.__version__}})
    return Archive(str(path))


def test_a_model_of_ones_own_is_built_anew(tmp_path):
    model, rows = Own().eval(), torch.randn(5, 4)
    program = torch.export.export(model, (rows,), dynamic_shapes=({0: torch.export.Dim("rows")},))
    assert any(programs._writes(node.target) for node in program.graph.nodes)
    with pytest.raises(DataError, match=r"relu_.*export another form"):
        graph.load(kept(program, tmp_path / "m.pt2"), 1, CPU)
    program = programs.functional(program)
    loaded = graph.load(kept(program, tmp_path / "m.pt2"), 1, CPU)
    for num in (1, 5, 17):
        rows = torch.randn(num, 4)
        torch.testing.assert_close(loaded(rows), model(rows), rtol=0, atol=0)


def test_names_in_what_is_built_are_not_the_files(file):
    module = graph.load(Archive(file), len(open_artefact(file).tables) + 4, CPU)
    assert "dense" not in module.code
    assert all(
        node.name.startswith(("input_", "w", "output")) or node.op == "call_function" for node in module.graph.nodes
    )


VALUES = [None, True, 0, -1, 1, 2**31, 2**63, 1e308, "", "a", "\0", [], {}, [[]], {"a": 1}, "torch.ops.aten.mul.Tensor"]


def places(raw, path=()):
    yield path
    children = raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ()
    for key, each in children:
        yield from places(each, (*path, key))


@pytest.mark.parametrize("record", [MODEL, WEIGHTS])
def test_mutations_are_refused_or_score(file, tmp_path, record):
    """Any field of any node: one line or a score, no traceback, no crash of the process."""
    whole = json.loads(Archive(file).read(record))
    if record == MODEL:
        for node in nodes(whole):
            node["metadata"] = {}
    found, rng = [path for path in places(whole) if path and "tensor_values" not in path], random.Random(0)
    lines = []
    for _ in range(60):
        path, value = rng.choice(found), rng.choice(VALUES)

        def edit(raw, path=path, value=value):
            if record == MODEL:
                for node in nodes(raw):
                    node["metadata"] = {}
            for key in path[:-1]:
                raw = raw[key]
            raw[path[-1]] = value

        try:
            open_artefact(with_json(file, tmp_path / "m.pt2", record, edit))
        except DataError as error:
            lines.append(str(error))
    assert len(lines) > 30
    assert not any("\n" in said for said in lines)


def test_a_zip_inside_is_not_looked_at(file, tmp_path):
    """A weight whose bytes are a zip is a weight, whatever torch.load would make of it."""

    def edit(records, manifest):
        name = next(name for name in records if name.endswith("weight_0"))
        inner = io.BytesIO()
        with zipfile.ZipFile(inner, "w") as packed:
            packed.writestr("data.pkl", b"x")
        records[name] = (inner.getvalue() + bytes(len(records[name])))[: len(records[name])]

    open_artefact(forged(file, tmp_path / "m.pt2", edit))
