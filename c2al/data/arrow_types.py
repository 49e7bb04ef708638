"""Arrow types without their encoding, and the one type that holds the values of several."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

UUID_DASHES = (8, 13, 18, 23)  # where the 36 characters of a UUID have one


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type without its encoding.

    Dictionaries and runs become their values, large and view types the ordinary ones, half floats float, UUIDs text,
    other extension types what they are stored as.
    """
    if isinstance(kind, pa.BaseExtensionType):
        named = {"arrow.uuid": pa.string(), "arrow.bool8": pa.bool_()}
        return named.get(kind.extension_name) or plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    if is_list(kind):
        return pa.list_(plain_type(kind.value_type))
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_decimal32(kind) or pa.types.is_decimal64(kind):
        return pa.decimal128(kind.precision, kind.scale)
    return kind


def is_list(kind: pa.DataType) -> bool:
    """Return whether values are lists, of any layout."""
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


def plain_values(values: pa.Array) -> pa.Array:
    """Return the same values in their ``plain_type``."""
    kind = values.type
    if kind == plain_type(kind):
        return values
    if isinstance(kind, pa.BaseExtensionType):
        if kind.extension_name == "arrow.uuid":
            return _uuid_texts(values.storage)
        if kind.extension_name == "arrow.bool8":
            return pc.not_equal(values.storage, 0)
        return plain_values(values.storage)
    if pa.types.is_dictionary(kind):
        return plain_values(values.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return plain_values(pc.run_end_decode(values))
    if is_list(kind):
        return mapped_lists(values.cast(pa.list_(kind.value_type)), plain_values)
    return values.cast(plain_type(kind))


def mapped_lists(lists: pa.ListArray, of_values: Callable[[pa.Array], pa.Array]) -> pa.ListArray:
    """Return lists of what ``of_values`` makes of all their values, one for one; null lists stay null."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), of_values(pc.list_flatten(lists)), mask=lists.is_null())


def _uuid_texts(stored: pa.FixedSizeBinaryArray) -> pa.Array:
    """The canonical form of 16 bytes each: lower-case hexadecimal, 8-4-4-4-12."""
    filled = pc.fill_null(stored, pa.scalar(bytes(16), stored.type))
    content = filled.buffers()[1]
    raw = np.frombuffer(content, np.uint8) if content is not None else np.empty(0, np.uint8)
    raw = raw[16 * filled.offset : 16 * (filled.offset + len(filled))].reshape(-1, 16)
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    hexed = np.stack([digits[raw >> 4], digits[raw & 15]], axis=2).reshape(-1, 32)
    texts = np.full((len(hexed), 36), ord("-"), np.uint8)
    texts[:, [place for place in range(36) if place not in UUID_DASHES]] = hexed
    offsets = np.arange(0, 36 * (len(hexed) + 1), 36, dtype=np.int32)
    made = pa.StringArray.from_buffers(len(hexed), pa.py_buffer(offsets), pa.py_buffer(texts.tobytes()))
    return pc.if_else(stored.is_valid(), made, pa.scalar(None, pa.string()))


def wider_type(a: pa.DataType, b: pa.DataType) -> tuple[pa.DataType, bool] | None:
    """Return a plain type for values of both, and whether some lose digits in it; None where there is no such type.

    Where digits would be lost (64-bit integers beside floats), the type is good for numbers, and ids have to be taken
    from each file's own type.
    """
    if pa.types.is_list(a) and pa.types.is_list(b):
        of_values = wider_type(a.value_type, b.value_type)
        return of_values and (pa.list_(of_values[0]), of_values[1])
    if a == b:
        return a, False
    if pa.types.is_integer(a) and pa.types.is_integer(b) and pa.uint64() in (a, b):
        unsigned = pa.types.is_unsigned_integer(a) and pa.types.is_unsigned_integer(b)
        return (pa.uint64(), False) if unsigned else (pa.decimal128(20, 0), False)
    numbers = all(pa.types.is_integer(x) or pa.types.is_floating(x) or pa.types.is_decimal(x) for x in (a, b))
    try:
        fields = [pa.schema([pa.field("x", kind)]) for kind in (a, b)]
        found = pa.unify_schemas(fields, promote_options="permissive").field("x").type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return (pa.float64(), True) if numbers else None
    exact = not pa.types.is_floating(found) or all(pa.types.is_integer(x) and x.bit_width <= 32 for x in (a, b))
    small = any(pa.types.is_integer(x) and x.bit_width <= 32 for x in (a, b)) and found == pa.float64()
    return found, not (exact or small or pa.types.is_null(a) or pa.types.is_null(b))
