"""``c2al export`` in words: what was written, what was proved."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from c2al.schema import DataError
from c2al.serving.calibration import check_used, chosen
from c2al.serving.export import export
from c2al.serving.manifest import FORMATS
from c2al.serving.triton import export_repository
from c2al.training.trust import modules_of

SETTINGS = ("dtype", "step", "device", "proof", "proof_rows", "quality_rows")


def run(config: Any) -> int:
    """Export as the config says; what a person reads of it."""
    check_used(config.calibration, kept=config.kept)
    scores = f"{config.run}/scores/validation.parquet"
    settings = {key: config[key] for key in SETTINGS} | {
        "policy": dict(config.policy),
        "trusted": modules_of(config.trusted_modules),
        "calibration": chosen(config.calibration, kept=config.kept, scores=scores),
    }
    if config.format not in (*FORMATS, "triton"):
        raise DataError("no such format", value=config.format, remedy=f"format={'|'.join([*FORMATS, 'triton'])}")
    if config.format == "triton":
        manifest = export_repository(config.run, to=config.to, say=_say, **settings)
    else:
        manifest = export(config.run, to=config.to, format=config.format, say=_say, **settings)
    print("\n".join(words(manifest, config.to)))
    return 0


def _say(stage: str) -> None:
    print(f"  {stage}", flush=True)


def words(manifest: Mapping[str, Any], path: str) -> list[str]:
    """The proof, line by line."""
    scores, beside = manifest["parity"]["scores"], manifest["parity"]["baseline"]
    trained = scores.get("trained_in", "fp32")
    apart = "the same to the bit" if scores["bitwise"] else f"within {scores['greatest_difference']:.2g} of a logit"
    how = "" if trained == "fp32" else f" (trained in {trained}, compared in {scores['compared_in']})"
    lines = [f"scores of {scores['rows']:,} validation rows beside {scores['against']}{how}: {apart}"]
    (ours, theirs), (flops, their_flops) = beside["parameters"], beside["flops_per_row"]
    same = "the same operators, inputs" if beside["same"] else "other operators, inputs"
    lines.append(
        f"beside the baseline's graph: {same}, {ours:,} to {theirs:,} parameters, "
        f"{flops:,.0f} to {their_flops:,.0f} FLOPs a row"
    )
    if quality := manifest.get("quality"):
        exact, fewer = quality["ne"].values()
        difference = quality["ne_difference_percent"]
        told = "not defined" if difference is None else f"{exact:.6f} to {fewer:.6f}, {difference:+.5f} %"
        lines.append(f"NE of {quality['rows']:,} validation rows, fp32 to {manifest['dtype']}: {told}")
    lines.append(_of_encoding(manifest["parity"].get("encoding", {})))
    size = Path(path).stat().st_size if Path(path).is_file() else 0
    return [*lines, f"{path}: {size / 2**20:,.1f} MiB, {manifest['checksum'][:12]}"]


def _of_encoding(encoding: Mapping[str, Any]) -> str:
    """How raw rows were compared with prepared ones."""
    if encoding.get("rows"):
        return (
            f"{encoding['rows']:,} raw rows encoded beside the prepared ones: the same ids and numbers "
            f"in all {encoding['columns']} columns"
        )
    return (
        "raw rows were not compared with prepared ones: the prepared data keeps no examples; "
        f"vocabularies that fit their tables: {encoding.get('vocabularies', 0)}"
    )
