"""Where what somebody else made comes in: each door takes one damaged input, as a user's command would.

A door's ``case`` returns in words what was accepted, or raises what the program raises. ``kept`` are the files to look
at where that was no clear refusal.
"""

import io
import json
import os
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import yaml

from tests.fuzz.mutations import command_words, damaged, other_cells, other_tree

ROWS = 300


def raw_table() -> pa.Table:
    """Raw rows of several kinds of columns."""
    draw = np.random.default_rng(0)
    return pa.table(
        {
            "u": [f"u{i}" for i in draw.integers(0, 40, ROWS)],
            "i": draw.integers(0, 20, ROWS),
            "p": draw.normal(0, 1, ROWS),
            "when": pa.array(draw.integers(0, 10**9, ROWS), pa.timestamp("s")),
            "tags": [draw.integers(0, 9, k).tolist() for k in draw.integers(0, 3, ROWS)],
            "clicked": draw.integers(0, 2, ROWS),
        }
    )


class Door:
    """One kind of input. ``folder`` is the door's own; ``seeds`` holds a run, a model file and a study."""

    needs: tuple[str, ...] = ()  # of the seeds: run, model, study

    def __init__(self, folder: Path, seeds: dict[str, Path]) -> None:
        self.folder, self.seeds = folder, seeds
        folder.mkdir(parents=True, exist_ok=True)

    def case(self, random: Random) -> str:
        """Take in one damaged input."""
        raise NotImplementedError

    @property
    def kept(self) -> list[Path]:
        """The input, as files or folders."""
        return []


class RawFiles(Door):
    """``c2al prepare source=parquet`` of a damaged parquet or csv file."""

    ending = "parquet"

    def __init__(self, folder: Path, seeds: dict[str, Path]) -> None:
        super().__init__(folder, seeds)
        buffer = io.BytesIO()
        if self.ending == "csv":
            pyarrow.csv.write_csv(raw_table().drop_columns(["tags"]), buffer)
        else:
            pq.write_table(raw_table(), buffer, row_group_size=100)
        self.seed = buffer.getvalue()

    def case(self, random: Random) -> str:
        from c2al.data.prepare import prepare_parquet

        raw, to = self.folder / "raw", self.folder / "out"
        for old in (raw, to):
            shutil.rmtree(old, ignore_errors=True)
        raw.mkdir()
        (raw / f"x.{self.ending}").write_bytes(self.damage(random))
        if random.random() < 0.3:
            (raw / f"y.{self.ending}").write_bytes(self.seed)
        try:
            prepare_parquet(folder=str(raw), to=str(to), label="clicked", axes=random.choice([None, ["u"], ["p"]]))
        finally:
            half = to.exists() and not (to / "schema.yaml").exists()
            assert not half, "a folder is half written"
            assert not Path(f"{to}.partial").exists(), "a partial folder is left"
        return "prepared"

    def damage(self, random: Random) -> bytes:
        """The file's bytes."""
        return damaged(self.seed, random)

    @property
    def kept(self) -> list[Path]:
        return [self.folder / "raw"]


class Csv(RawFiles):
    """The same of a csv file, whose cells are replaced as well."""

    ending = "csv"

    def damage(self, random: Random) -> bytes:
        if random.random() < 0.6:
            return other_cells(self.seed.decode(), random).encode("utf-8", "replace")
        return super().damage(random)


class Prepared(Door):
    """A prepared folder with a damaged ``schema.yaml`` or parquet part, as a reader opens it."""

    def __init__(self, folder: Path, seeds: dict[str, Path]) -> None:
        from c2al.data.prepare import prepare_parquet

        super().__init__(folder, seeds)
        raw = folder / "raw.parquet"
        pq.write_table(raw_table(), raw)
        self.data = folder / "data"
        shutil.rmtree(self.data, ignore_errors=True)
        prepare_parquet(folder=str(raw), to=str(self.data), label="clicked", axes=["u", "p"])
        self.file = next((self.data / "train").glob("*.parquet"))
        self.seed, self.schema = self.file.read_bytes(), (self.data / "schema.yaml").read_bytes()

    def case(self, random: Random) -> str:
        from c2al.data.reader import Reader
        from c2al.schema import Schema

        self.damage(random)
        schema = Schema.load(str(self.data))
        reader = Reader(
            **{
                "folder": str(self.data),
                "split": "train",
                "batch_size": 64,
                "axes": [axis.name for axis in schema.axes],
            },
            **{
                "sparse": None,
                "dense": None,
                "rank": 0,
                "world_size": 1,
                "shuffle": True,
                "seed": 0,
                "window_rows": 1000,
            },
        )
        return f"{sum(1 for _ in reader.batches(0))} batches"

    def damage(self, random: Random) -> None:
        """Of the rows."""
        self.file.write_bytes(damaged(self.seed, random))

    @property
    def kept(self) -> list[Path]:
        return [self.file, self.data / "schema.yaml"]


class SchemaFile(Prepared):
    """The same of ``schema.yaml``."""

    def damage(self, random: Random) -> None:
        (self.data / "schema.yaml").write_bytes(_other_yaml(self.schema, random))


class Pairs(Door):
    """``pairs.json``, as training and discovery read it."""

    needs = ("study",)

    def case(self, random: Random) -> str:
        from c2al.cohorts.pairs import least_divergent, load_pair, load_view

        path = self.folder / "pairs.json"
        path.write_bytes(_other_json((self.seeds["study"] / "pairs.json").read_bytes(), random))
        found = load_pair(str(path))
        load_view(str(path))
        least_divergent(str(path))
        return str(found)[:40]

    @property
    def kept(self) -> list[Path]:
        return [self.folder / "pairs.json"]


class Study(Door):
    """``c2al report study=DIR`` of a damaged ``study.json``."""

    needs = ("study",)

    def __init__(self, folder: Path, seeds: dict[str, Path]) -> None:
        super().__init__(folder, seeds)
        self.study = folder / "study"
        shutil.copytree(seeds["study"], self.study, dirs_exist_ok=True)
        self.seed = (self.study / "study.json").read_bytes()

    def case(self, random: Random) -> str:
        from omegaconf import OmegaConf

        from c2al import verbs

        (self.study / "study.json").write_bytes(_other_json(self.seed, random))
        verbs.report(OmegaConf.create({"study": str(self.study)}))
        return "reported"

    @property
    def kept(self) -> list[Path]:
        return [self.study / "study.json"]


class Checkpoint(Door):
    """A checkpoint with damaged files, as ``checkpoint show`` and export read it. Never other numbers in silence."""

    needs = ("run",)

    def __init__(self, folder: Path, seeds: dict[str, Path]) -> None:
        super().__init__(folder, seeds)
        self.run = folder / "run"
        shutil.copytree(seeds["run"], self.run, dirs_exist_ok=True)
        *older, self.checkpoint = sorted((self.run / "checkpoints").glob("step_*"))
        for each in older:
            shutil.rmtree(each)
        self.files = {path: path.read_bytes() for path in self.checkpoint.iterdir()}
        self.expected = self._read()

    def case(self, random: Random) -> str:
        for path, content in self.files.items():
            path.write_bytes(content)
        self.damage(random)
        for path, content in self._read().items():
            assert np.array_equal(content, self.expected[path]), f"other numbers in silence: {path}"
        return "the same numbers"

    def damage(self, random: Random) -> None:
        """Of equal size, as a disk does it, or of any size."""
        path = random.choice([path for path in self.files if path.name != "progress.json"])
        content = bytearray(self.files[path])
        if random.random() < 0.3:
            path.write_bytes(damaged(bytes(content), random))
            return
        for _ in range(random.choice([1, 1, 4, 64])):
            content[random.randrange(len(content))] = random.randrange(256)
        path.write_bytes(bytes(content))

    def _read(self) -> dict[str, np.ndarray]:
        from rich.console import Console

        from c2al.training.saved_run import SavedRun
        from c2al.training.show_checkpoint import listing, look

        Console(file=io.StringIO()).print(listing(look(str(self.run))))
        saved = SavedRun(str(self.run))
        return {name: value.float().numpy() for name, value in saved.dense().items()}

    @property
    def kept(self) -> list[Path]:
        return [self.checkpoint]


class ProgressFile(Checkpoint):
    """The same of its ``progress.json``."""

    def damage(self, random: Random) -> None:
        path = self.checkpoint / "progress.json"
        path.write_bytes(_other_json(self.files[path], random))


class ModelFile(Door):
    """A served file with damaged bytes: refused, or the same score."""

    needs = ("model",)

    def __init__(self, folder: Path, seeds: dict[str, Path]) -> None:
        super().__init__(folder, seeds)
        self.file = folder / "model.pt2"
        self.seed = seeds["model"].read_bytes()
        self.file.write_bytes(self.seed)
        self.expected = self._score()

    def case(self, random: Random) -> str:
        self.file.unlink()  # a mapped file is replaced, never overwritten
        self.file.write_bytes(damaged(self.seed, random))
        assert np.allclose(self._score(), self.expected), "another score in silence"
        return "the same score"

    def _score(self) -> np.ndarray:
        from c2al.serving.artefact import open_artefact
        from c2al.serving.inputs import Inputs
        from c2al.serving.loaded import Bags

        model = open_artefact(str(self.file))
        columns, empty = model.columns, Bags(np.zeros(0, np.int64), np.zeros(2, np.int64))
        inputs = Inputs(
            np.zeros((2, len(columns.dense)), np.float32),
            np.ones((2, len(columns.single)), np.int64),
            dict.fromkeys(columns.bags, empty),
        )
        return np.asarray(model(inputs))

    @property
    def kept(self) -> list[Path]:
        return [self.file]


class ForgedModel(ModelFile):
    """A served file whose manifest or graph says something else, with right checksums."""

    def case(self, random: Random) -> str:
        import zipfile

        from c2al.serving.archive import MANIFEST, Writer

        with zipfile.ZipFile(self.seeds["model"]) as archive:
            records = {name: archive.read(name) for name in archive.namelist() if name != MANIFEST}
            manifest: Any = json.loads(archive.read(MANIFEST))
        for key in ("format", "checksum", "records"):
            manifest.pop(key, None)
        if random.random() < 0.6:
            manifest = other_tree(manifest, random)
        else:
            name = random.choice([name for name in records if name.endswith(".json")])
            records[name] = json.dumps(other_tree(json.loads(records[name]), random)).encode()
        self.file.unlink(missing_ok=True)
        self.file.touch()
        writer = Writer(self.file)
        for name, content in records.items():
            writer.add(name, content)
        writer.finish(manifest if isinstance(manifest, dict) else {})
        return f"score {self._score()[:1]}"


class Config(Door):
    """``c2al train --config=FILE`` of a damaged ``config.yaml``: two steps, or a refusal."""

    needs = ("run",)

    def __init__(self, folder: Path, seeds: dict[str, Path]) -> None:
        super().__init__(folder, seeds)
        tree = yaml.safe_load((seeds["run"] / "config.yaml").read_text())
        tree["training"] |= {"steps": 2, "snapshots": 0, "evaluations": 0, "final_splits": ["test"]}
        tree |= {"run_dir": str(folder / "run"), "overwrite": True}
        self.seed = yaml.safe_dump(tree, sort_keys=False).encode()

    def case(self, random: Random) -> str:
        from c2al import cli
        from c2al.parallel import ranks

        (self.folder / "config.yaml").write_bytes(_other_yaml(self.seed, random))
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        os.chdir(self.folder)
        try:
            return f"status {cli.run('train', [f'--config={self.folder}/config.yaml'])}"
        finally:
            ranks.stop()

    @property
    def kept(self) -> list[Path]:
        return [self.folder / "config.yaml"]


class Words(Door):
    """Odd words on the command line, composed and not run."""

    VERBS = ("train", "plan", "study", "prepare", "evaluate", "score", "serve", "export", "discover", "report")

    def case(self, random: Random) -> str:
        from c2al import cli

        words = [random.choice(self.VERBS), *command_words(random), "--cfg"]
        (self.folder / "words.json").write_text(json.dumps(words))
        os.chdir(self.folder)
        return f"status {cli.run(words[0], words[1:])}"

    @property
    def kept(self) -> list[Path]:
        return [self.folder / "words.json"]


DOORS: dict[str, type[Door]] = {
    **{"parquet": RawFiles, "csv": Csv, "prepared": Prepared, "schema": SchemaFile, "pairs": Pairs, "study": Study},
    **{"checkpoint": Checkpoint, "progress": ProgressFile, "model": ModelFile, "forged": ForgedModel},
    **{"config": Config, "words": Words},
}


def silently(case: Callable[[], str]) -> str:
    """Run a case without what it prints."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        return case()


def _other_json(content: bytes, random: Random) -> bytes:
    if random.random() < 0.75:
        return json.dumps(other_tree(json.loads(content), random)).encode()
    return damaged(content, random)


def _other_yaml(content: bytes, random: Random) -> bytes:
    if random.random() < 0.8:
        tree = other_tree(yaml.safe_load(content), random)
        return yaml.safe_dump(tree, allow_unicode=True, sort_keys=False).encode()
    return damaged(content, random)
