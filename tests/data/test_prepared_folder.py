import os
import resource
import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.data import complete_journey, movielens, synthetic
from c2al.data import prepared_folder as module
from c2al.data.prepare import prepare_parquet
from c2al.data.prepared_folder import prepared_folder
from c2al.folder_lock import FolderBusyError
from c2al.schema import REPLACED, DataError, Schema
from tests import runs


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path):
    if request.param == "local":
        return str(tmp_path / "deep" / "prepared")
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    return "memory://deep/prepared"


def put(folder: str, name: str, text: str) -> None:
    with fsspec.open(f"{folder}/{name}", "w", auto_mkdir=True) as file:
        file.write(text)


def listing(folder: str) -> list[str]:
    files, root = fsspec.url_to_fs(folder)
    return sorted(path[path.index("prepared") :] for path in files.find(root.rsplit("/", 1)[0]))


def test_the_folder_takes_its_name_when_the_block_ends(place):
    with prepared_folder(place) as partial:
        put(partial, "train/part.parquet", "rows")
        put(partial, "schema.yaml", "new")
        there = [name for name in listing(place) if name != "prepared.lock"]  # memory:// has none
        assert there == ["prepared.partial/schema.yaml", "prepared.partial/train/part.parquet"]
    assert listing(place) == ["prepared/schema.yaml", "prepared/train/part.parquet"]


def test_an_error_leaves_nothing_new_and_the_old_data(place):
    with prepared_folder(place) as partial:
        put(partial, "schema.yaml", "old")

    def fail() -> None:
        with prepared_folder(place, overwrite=True) as partial:
            put(partial, "schema.yaml", "new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert listing(place) == ["prepared/schema.yaml"]
    with fsspec.open(f"{place}/schema.yaml", "r") as file:
        assert file.read() == "old"


def test_overwrite_replaces_prepared_data_whole(place):
    with prepared_folder(place) as partial:
        put(partial, "schema.yaml", "old")
        put(partial, "train/part-00000.parquet", "rows")
    with pytest.raises(DataError, match="overwrite"), prepared_folder(place):
        pass
    with prepared_folder(place, overwrite=True) as partial:
        put(partial, "schema.yaml", "new")
    assert listing(place) == ["prepared/schema.yaml"]


def test_overwrite_spares_a_folder_that_is_no_prepared_data(place):
    put(place, "thesis.tex", "years of work")
    with pytest.raises(DataError, match="something else"), prepared_folder(place, overwrite=True):
        pass
    assert listing(place) == ["prepared/thesis.tex"]


def test_what_a_killed_run_left_is_swept_away(place):
    put(f"{place}.partial", "train/part-00000.parquet", "rows")
    with prepared_folder(place) as partial:
        put(partial, "schema.yaml", "new")
    assert listing(place) == ["prepared/schema.yaml"]


def test_an_empty_folder_is_taken_and_a_file_is_not(tmp_path):
    (tmp_path / "empty").mkdir()
    with prepared_folder(str(tmp_path / "empty") + "/") as partial:
        put(partial, "schema.yaml", "new")
    assert (tmp_path / "empty" / "schema.yaml").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="a file stands"), prepared_folder(str(tmp_path / "file")):
        pass


@pytest.mark.parametrize(
    "name", ["thesis.tex", "train/mine.parquet", "train/deep/part-00000.parquet", "notes/", "x.yaml"]
)
def test_overwrite_refuses_a_folder_that_holds_anything_else(tmp_path, name):
    to = tmp_path / "prepared"
    with prepared_folder(str(to)) as partial:
        put(partial, "schema.yaml", "old")
        put(partial, "train/part-00000.parquet", "rows")
    if name.endswith("/"):
        (to / name).mkdir()
    else:
        put(str(to), name, "years of work")
    found = pytest.raises(DataError, match=f"something else beside prepared data.*{name.rstrip('/')}")
    with found, prepared_folder(str(to), overwrite=True):
        pass
    assert (to / name).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["prepared"]


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    (tmp_path / "disk" / "rows").mkdir(parents=True)
    (tmp_path / "prepared").symlink_to(tmp_path / "disk" / "rows")
    for text in ("old", "new"):
        with prepared_folder(str(tmp_path / "prepared"), overwrite=True) as partial:
            put(partial, "schema.yaml", text)
    assert (tmp_path / "prepared").is_symlink()
    assert (tmp_path / "disk" / "rows" / "schema.yaml").read_text() == "new"
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["rows"]


def test_what_a_link_in_the_folder_leads_to_is_spared(tmp_path):
    (tmp_path / "disk").mkdir()
    put(str(tmp_path / "disk"), "part-00000.parquet", "years of work")
    put(str(tmp_path / "prepared"), "schema.yaml", "old")
    (tmp_path / "prepared" / "train").symlink_to(tmp_path / "disk")
    with pytest.raises(DataError, match="something else"), prepared_folder(str(tmp_path / "prepared"), overwrite=True):
        pass
    assert (tmp_path / "disk" / "part-00000.parquet").exists()


@pytest.mark.parametrize("suffix", [".partial", REPLACED])
def test_a_folder_of_the_users_under_our_names_is_not_deleted(tmp_path, suffix):
    put(str(tmp_path / "prepared"), "schema.yaml", "old")
    put(str(tmp_path / f"prepared{suffix}"), "thesis.tex", "years of work")
    with pytest.raises(DataError, match="stands in the way"), prepared_folder(str(tmp_path / "prepared"), True):
        pass
    assert (tmp_path / f"prepared{suffix}" / "thesis.tex").exists()


KILLED = """
import os, sys
from c2al.data import prepared_folder as module
from c2al.data.prepared_folder import prepared_folder
to, step = sys.argv[1], int(sys.argv[2])
calls = 0
def counted(function):
    def call(*words, **named):
        global calls
        if calls == step:
            os.kill(os.getpid(), 9)
        calls += 1
        return function(*words, **named)
    return call
os.rename = counted(os.rename)
files = type(module.fsspec.filesystem("file"))
files.rm = counted(files.rm)
with prepared_folder(to, overwrite=True) as partial:
    os.makedirs(partial.removeprefix("file://") + "/train")
    open(partial.removeprefix("file://") + "/train/part-00000.parquet", "w").write("new")
    open(partial.removeprefix("file://") + "/schema.yaml", "w").write("new")
"""


@pytest.mark.parametrize(("step", "after"), [(0, "old"), (1, None), (2, "new")])
def test_a_kill_while_the_old_is_replaced_leaves_one_whole_and_the_next_puts_it_right(tmp_path, step, after):
    """Killed before the old one is renamed, before the new one is, and before the old one is deleted."""
    to = tmp_path / "prepared"
    with prepared_folder(str(to)) as partial:
        put(partial, "train/part-00000.parquet", "old")
        put(partial, "schema.yaml", "old")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(to), str(step)], env=runs.environment(), check=False)
    assert killed.returncode == -9
    if after is None:
        with pytest.raises(DataError, match=rf"stopped while it replaced.*{REPLACED}.*rename it"):
            Schema.load(str(to))
    else:
        assert (to / "schema.yaml").read_text() == after
    with pytest.raises(DataError, match="holds prepared data already"), prepared_folder(str(to)):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["prepared"]
    assert (to / "schema.yaml").read_text() == (to / "train/part-00000.parquet").read_text() == (after or "old")
    with prepared_folder(str(to), overwrite=True) as partial:
        put(partial, "schema.yaml", "newest")
    assert [path.name for path in tmp_path.iterdir()] == ["prepared"]
    assert listing(str(to)) == ["prepared/schema.yaml"]


def test_a_move_that_fails_puts_the_old_back(tmp_path, monkeypatch):
    to = str(tmp_path / "prepared")
    put(to, "schema.yaml", "old")

    def fail(source: str, target: str) -> None:
        if source.endswith(".partial"):
            raise OSError(5, "Input/output error")
        rename(source, target)

    rename = os.rename
    monkeypatch.setattr(module.os, "rename", fail)
    with pytest.raises(DataError, match="cannot be written: Input/output error"), prepared_folder(to, True) as partial:
        put(partial, "schema.yaml", "new")
    assert listing(to) == ["prepared/schema.yaml"]
    assert Path(to, "schema.yaml").read_text() == "old"


HOLD = """
import sys
from c2al.data.prepared_folder import prepared_folder
with prepared_folder(sys.argv[1]) as partial:
    print(partial, flush=True)
    sys.stdin.read()
    open(partial.removeprefix("file://") + "/schema.yaml", "w").write("first")
"""


@pytest.mark.parametrize("killed", [False, True])
def test_two_at_once_one_is_refused_and_a_killed_one_holds_nothing(tmp_path, killed):
    to = tmp_path / "prepared"
    (tmp_path / "link").symlink_to(to)
    words = [sys.executable, "-c", HOLD, str(to)]
    with subprocess.Popen(words, env=runs.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        partial = holder.stdout.readline().decode().strip().removeprefix("file://")
        for name in (str(to), str(to) + "/", str(tmp_path / "link")):
            with pytest.raises(FolderBusyError, match=rf"another process prepares.*process {holder.pid} on .*, since"):
                synthetic.prepare(to=name, rows=100)
        assert Path(partial).is_dir()
        if killed:
            holder.kill()
        holder.stdin.close()
    if killed:
        with prepared_folder(str(to)) as partial:
            put(partial, "schema.yaml", "second")
    assert (to / "schema.yaml").read_text() == ("second" if killed else "first")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "prepared"]


SOURCES = {
    "parquet": lambda to, raw: prepare_parquet(folder=raw, to=to, label="y"),
    "synthetic": lambda to, raw: synthetic.prepare(to=to, rows=100),
    "movielens": lambda to, raw: movielens.prepare(folder=raw, to=to),
    "complete_journey": lambda to, raw: complete_journey.prepare(to=to, package_folder=raw),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "to", ["/proc/x", "/proc/x/y", "afile/b", "afile", "afile/b/c", "n" * 300, "", "/", None, "no://x"]
)
def test_a_folder_that_cannot_be_made_is_one_line_and_nothing_is_left(tmp_path, monkeypatch, source, to):
    monkeypatch.chdir(tmp_path)
    Path("afile").write_text("x")
    pq.write_table(pa.table({"x": ["a", "b"] * 10, "y": [0, 1] * 10}), "rows.parquet")
    with pytest.raises(DataError, match="Remedy: ") as caught:
        SOURCES[source](to, "rows.parquet")
    assert "\n" not in str(caught.value)
    assert "to" in str(caught.value).split("Remedy")[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["afile", "rows.parquet"]


def test_folders_above_that_were_made_go_with_a_failure(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        prepare_parquet(folder=str(tmp_path / "none"), to=str(tmp_path / "a/b/c"), label="y")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_line_and_nothing_is_left(tmp_path):
    """A limit on the size of files stands for it."""
    rng = np.random.default_rng(0)
    pq.write_table(
        pa.table({"x": rng.integers(0, 9**9, 50_000), "y": rng.integers(0, 2, 50_000)}), tmp_path / "r.parquet"
    )
    words = ["prepare", "source=parquet", f"from={tmp_path}/r.parquet", f"to={tmp_path}/out", "label=y", "sparse=[x]"]
    ended = subprocess.run(
        [sys.executable, "-m", "c2al", *words],
        env=runs.environment(),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert "cannot be written: File too large" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["r.parquet"]
