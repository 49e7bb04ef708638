"""What the keys of `c2al plan` may be, checked before anything is built."""

from omegaconf import DictConfig

from c2al.schema import DataError, Schema
from c2al.training.build import chosen_columns

BANDWIDTHS = ("hbm", "ddr", "intra_host", "inter_host")


def check_preview(config: DictConfig, schema: Schema) -> None:
    """DataError at the first that cannot be."""
    options = config.parallel
    wanted = {
        "world_size": (_is_count(options.world_size), "a whole number from 1"),
        "ranks_per_host": (_is_count(options.ranks_per_host), "a whole number from 1"),
        "device": (options.device in (None, "cpu", "cuda"), "cpu or cuda"),
        "memory_gib": (options.memory_gib is None or _is_number(options.memory_gib, 1e-6, 1e9), "GiB of a device"),
        "headroom": (_is_number(options.headroom, 0, 0.99), "a share from 0 to 0.99"),
        "bandwidths": (
            all(name in BANDWIDTHS and _is_number(value, 1e-9, 1e9) for name, value in options.bandwidths.items()),
            f"GiB/s of {', '.join(BANDWIDTHS)}",
        ),
    }
    for key, (good, what) in wanted.items():
        if not good:
            raise DataError(f"parallel.{key} cannot be that", value=options[key], remedy=f"parallel.{key}=… {what}")
    columns = [column.name for column in chosen_columns(config, schema)[0]]
    for name, value in config.ids_per_row.items():
        if name not in columns:
            raise DataError("ids_per_row names no sparse column", column=name, remedy=f"one of {', '.join(columns)}")
        if not _is_number(value, 0, 1e6):
            raise DataError("ids_per_row cannot be that", column=name, value=value, remedy="a mean number of ids")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
