import gc
import threading
import weakref

import pytest

from c2al.background import Background


def named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_one_after_another_and_errors_come_back():
    background, order = Background("one"), []
    tasks = [background.submit(lambda place=place: order.append(place) or place) for place in range(20)]
    assert [task.result(60) for task in tasks] == order == list(range(20))
    fails = background.submit(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        fails.result(60)
    assert background.submit(lambda: 5).result(60) == 5


def test_the_thread_is_there_before_any_task_and_ends_when_closed():
    background = Background("two")
    (thread,) = named("two")
    last = background.submit(lambda: "done")
    background.close()
    background.close()
    assert last.result(60) == "done"
    thread.join(60)
    assert not thread.is_alive()


def test_the_thread_ends_with_its_owner():
    background = Background("three")
    (thread,) = named("three")
    del background
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()


def test_nothing_of_a_task_is_held_once_it_is_done():
    class Window:
        pass

    background = Background("four")
    done = background.submit(Window)
    window = weakref.ref(done.result(60))
    background.submit(lambda: None).result(60)
    del done
    gc.collect()
    assert window() is None


def test_what_is_cancelled_is_not_done():
    gate, background = threading.Event(), Background("five")
    held = background.submit(lambda: gate.wait(60))
    never = background.submit(lambda: 1 // 0)
    assert never.cancel()
    gate.set()
    assert held.result(60)
    assert background.submit(lambda: 3).result(60) == 3
