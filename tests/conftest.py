"""Rows and runs that many tests look at, made once."""

import signal

import pytest

from c2al.data import synthetic


def pytest_collection_modifyitems(items):
    """Files with slow tests come first, so that no worker is left with a long one when the others have done."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def tiny_rows(tmp_path_factory) -> str:
    """A prepared folder of 6,000 synthetic rows: 4,800 to train, 600 each to validate and to test."""
    folder = str(tmp_path_factory.mktemp("rows") / "synthetic")
    synthetic.prepare(to=folder, rows=6000)
    return folder


@pytest.fixture(autouse=True)
def host_untouched():
    """c2al's programs, called within this process, give pytest its signals back."""
    asked = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
    before = {number: signal.getsignal(number) for number in asked}
    yield
    after = {number: signal.getsignal(number) for number in asked}
    for number, handler in before.items():
        if after[number] is not handler:
            signal.signal(number, handler)
    changed = [number.name for number in asked if after[number] is not before[number]]
    assert not changed, f"the test left handlers of {', '.join(changed)} in pytest"
