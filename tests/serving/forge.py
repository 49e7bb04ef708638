"""A model file made over by somebody else, with checksums that fit: what an attacker would send."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from c2al.serving.archive import MANIFEST, ROOT, Archive, written

MODEL = f"{ROOT}/models/model.json"
WEIGHTS = f"{ROOT}/data/weights/model_weights_config.json"
Records = dict[str, bytes]


def forged(file: str, path: Path, edit: Callable[[Records, dict[str, Any]], None]) -> str:
    """Write ``file`` again with what ``edit(records, manifest)`` makes of its parts; the new path."""
    archive = Archive(file)
    manifest = {k: v for k, v in archive.manifest.items() if k not in ("format", "records", "checksum")}
    records = {name: archive.read(name) for name in archive.names() if name != MANIFEST}
    edit(records, manifest)
    with written(str(path)) as writer:
        for name, content in records.items():
            writer.add(name, content)
        writer.finish(manifest)
    return str(path)


def with_json(file: str, path: Path, record: str, edit: Callable[[Any], None]) -> str:
    """The same, of one record that is JSON."""

    def change(records: Records, manifest: dict[str, Any]) -> None:
        raw = json.loads(records[record])
        edit(raw)
        records[record] = json.dumps(raw).encode()

    return forged(file, path, change)


def with_manifest(file: str, path: Path, edit: Callable[[dict[str, Any]], None]) -> str:
    """The same, of the manifest."""
    return forged(file, path, lambda records, manifest: edit(manifest))
