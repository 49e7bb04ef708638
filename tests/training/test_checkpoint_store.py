"""Folders and URLs of checkpoints: whole, or they do not count."""

import hashlib
import json

import pytest

from c2al.schema import DataError
from c2al.training.checkpoint_store import Store, _digest_of

SHA256 = {"a.distcp": hashlib.sha256(b"12345").hexdigest()}


@pytest.fixture(params=["folder", "file", "memory"])
def store(request, tmp_path):
    place = {"folder": str(tmp_path), "file": f"file://{tmp_path}", "memory": f"memory:/{tmp_path}"}[request.param]
    one = Store(place)
    yield one
    one.clear()


def put(store, step, *, finished=True):
    """A checkpoint of one file."""
    store.begin(step)
    write(store, f"{store.where_written(step)}/a.distcp", b"12345")
    if finished:
        store.finish(step, {"step": step})


def write(store, path, content):
    with store.fs.open(path, "wb") as file:
        file.write(content)


def test_it_counts_when_it_is_finished(store):
    assert (store.steps(), store.unfinished()) == ([], [])
    put(store, 100, finished=False)
    assert (store.steps(), store.unfinished()) == ([], [100])
    put(store, 20)
    put(store, 100)
    assert (store.steps(), store.unfinished()) == ([20, 100], [])
    assert store.read(100) == {"step": 100, "files": {"a.distcp": 5}, "sha256": SHA256}


def test_what_was_half_written_makes_room(store):
    put(store, 8, finished=False)
    write(store, f"{store.where_written(8)}/stray", b"")
    put(store, 12, finished=False)
    put(store, 8)
    assert (store.steps(), store.unfinished()) == ([8], [])
    assert set(store.read(8)["files"]) == {"a.distcp"}


@pytest.mark.parametrize(
    ("file", "content", "cause"),
    [
        ("a.distcp", b"123", "a.distcp has 3 bytes of 5"),
        ("progress.json", b'{"step": 8, "fi', "progress.json is cut short"),
        ("progress.json", b'{"step": 8}', "names no files"),
        ("a.distcp", None, "a.distcp is missing"),
    ],
)
def test_a_file_that_is_not_as_it_was_written(store, file, content, cause):
    put(store, 8)
    if content is None:
        store.fs.rm(f"{store.where(8)}/{file}")
    else:
        write(store, f"{store.where(8)}/{file}", content)
    assert store.steps() == [8], "it seems whole until it is read"
    with pytest.raises(ValueError, match=cause):
        store.read(8)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"files": {"../a": 5}}, "cannot be one of a checkpoint's"),
        ({"files": {"a.distcp": -1}}, "for the bytes of a.distcp"),
        ({"files": {"a.distcp": "5"}}, "for the bytes of a.distcp"),
        ({"files": ["a.distcp"]}, "names no files"),
        ({"sha256": {}, "files": {"b": 1}}, "b is missing"),
        ({"sha256": {"b": "0"}}, "has no digest of a.distcp, b"),
        ({"step": 16}, "is that of step 16"),
    ],
)
def test_a_progress_that_somebody_wrote_is_checked_as_well(store, change, cause):
    """With the right digest: it guards against damage, not against a forger."""
    put(store, 8)
    found = store.describe(8) | change
    write(store, f"{store.where(8)}/progress.json", json.dumps(found | {"digest": _digest_of(found)}).encode())
    with pytest.raises(ValueError, match=cause):
        store.read(8)


def test_each_byte_of_a_file_counts(store):
    put(store, 8)
    found = store.read(8)
    assert store.damage(8, found) == ""
    write(store, f"{store.where(8)}/a.distcp", b"12344")
    assert store.read(8) == found, "its size is right"
    assert "a.distcp has the right size and other bytes" in store.damage(8, found)
    assert store.damage(8, found, []) == "", "another rank's share"


def test_progress_guards_itself(store):
    put(store, 8)
    path = f"{store.where(8)}/progress.json"
    text = store.fs.cat_file(path)
    write(store, path, text.replace(b'"step": 8', b'"step": 9'))
    with pytest.raises(ValueError, match=r"not as it was written, by its own digest"):
        store.read(8)
    found = json.loads(text)
    del found["digest"]
    write(store, path, json.dumps(found).encode())
    with pytest.raises(ValueError, match=r"its own digest is missing"):
        store.read(8)
    write(store, path, b"[" * 100_000)
    with pytest.raises(ValueError, match=r"cut short or damaged"):
        store.read(8)


def test_what_is_older_has_no_digests_and_is_read(store):
    put(store, 8)
    write(store, f"{store.where(8)}/progress.json", b'{"step": 8, "files": {"a.distcp": 5}}')
    found = store.read(8)
    write(store, f"{store.where(8)}/a.distcp", b"54321")
    assert store.damage(8, found) == ""


def test_digests_given_are_not_made_again(store, monkeypatch):
    store.begin(8)
    write(store, f"{store.where_written(8)}/a.distcp", b"12345")
    monkeypatch.setattr(store, "_sha256", lambda path: pytest.fail("read again"))
    store.finish(8, {"step": 8}, SHA256)
    assert store.read(8)["sha256"] == SHA256


def test_a_strange_file_is_seen(store):
    put(store, 8)
    write(store, f"{store.where(8)}/stray", b"1")
    assert store.strangers(8, store.read(8)) == ["stray"]


def test_what_is_set_aside_is_out_of_the_way(store):
    put(store, 8)
    store.set_aside(8)
    assert store.steps() == []
    assert any("damaged" in path for path in store.fs.find(store.fs._strip_protocol(store.place)))
    put(store, 8)
    assert store.steps() == [8]
    store.set_aside(8)
    assert store.steps() == []


def test_the_newest_are_kept_and_one_that_is_protected(store):
    for step in (4, 8, 12, 16):
        put(store, step)
    store.keep(2, protect=[4, None])
    assert store.steps() == [4, 12, 16]


def test_other_names_are_left_alone(tmp_path):
    store = Store(f"{tmp_path}/")
    for name in ("other", "step_1", "step_0000000x", "step_00000040"):
        (tmp_path / name).mkdir()
    put(store, 8)
    store.keep(1, protect=[])
    store.clear()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "step_0000000x", "step_1"]


def test_progress_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("os.fsync", synced.append)
    put(Store(str(tmp_path)), 8)
    assert len(synced) == 1
    assert json.loads((tmp_path / "step_00000008" / "progress.json").read_text())["files"] == {"a.distcp": 5}


def test_a_place_that_nobody_knows():
    with pytest.raises(DataError, match="no such place for checkpoints"):
        Store("nowhere://a/b")


def test_a_file_of_more_bytes_than_any_disk(store):
    put(store, 8)
    found = store.describe(8) | {"files": {"a.distcp": 10**4000}}
    write(store, f"{store.where(8)}/progress.json", json.dumps(found | {"digest": _digest_of(found)}).encode())
    with pytest.raises(ValueError, match=r"for the bytes of a\.distcp"):
        store.read(8)
