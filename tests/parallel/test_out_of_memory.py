"""Memory that runs out: known by its errors, and one line in any verb."""

import errno
import subprocess
import sys

import numpy as np
import pytest
import torch

from c2al.parallel import out_of_memory
from c2al.parallel.endings import RankLostError
from c2al.parallel.out_of_memory import ran_out, told
from c2al.schema import DataError
from tests import runs


def raised_by(program) -> Exception:
    with pytest.raises(Exception) as found:
        program()
    return found.value


@pytest.mark.parametrize(
    "program",
    [
        lambda: torch.empty(2**46),
        lambda: np.empty(2**57, np.int8),
        lambda: bytearray(2**62),
    ],
)
def test_what_cannot_be_allocated(program):
    assert ran_out(raised_by(program))


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (RuntimeError("can't start new thread"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("Resource temporarily unavailable"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), True),
        (SystemError("error return without exception set"), True),
        (SystemError("<built-in function f> returned NULL without setting an exception"), True),
        (SystemError("bad argument to internal function"), False),
        (RuntimeError("[gloo] recv: Resource temporarily unavailable"), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (RuntimeError("size mismatch"), False),
        (RankLostError("rank 1 ran out of memory during step 7", speaks=True), False),
        (DataError("out of memory", remedy="x"), False),
        (None, False),
    ],
)
def test_which_errors_are_of_memory(error, memory):
    assert ran_out(error) is memory


def test_a_cause_counts():
    error = RuntimeError("a save failed")
    assert not ran_out(error)
    error.__cause__ = MemoryError()
    assert ran_out(error)


def test_the_line_says_where_and_what_to_do():
    line = str(told(RuntimeError("[enforce fail] can't allocate memory\nmore"), "step 7"))
    assert line.startswith(
        "memory ran out during step 7 (value RuntimeError: [enforce fail] can't allocate memory). Rem"
    )
    assert "smaller batch_size" in line
    assert "\n" not in line
    assert str(told(MemoryError())).startswith("memory ran out (value MemoryError). Remedy: ")


def test_address_space_is_kept_for_the_end():
    out_of_memory.keep_spare()
    out_of_memory.keep_spare()
    assert len(out_of_memory._spare) == 1
    out_of_memory.give_up_spare()
    assert out_of_memory._spare == []


@pytest.mark.parametrize(
    ("room", "first"),
    [
        (2 << 30, "from c2al.data import synthetic\nsynthetic.make_world = lambda **given: bytearray(4 << 30)"),
        (10 << 20, ""),  # not even what is set aside for the end
    ],
)
def test_any_verb_ends_in_one_line(room, first, tmp_path):
    """Enough for every import, or hardly anything: in between, libraries end the process themselves."""
    program = (
        f"import resource, sys\nfrom c2al import cli\n{first}\n"
        "sys.argv[1:] = ['prepare', 'source=synthetic', 'to=rows']\n"
        f"held = int(open('/proc/self/statm').read().split()[0]) * 4096 + {room}\n"
        "resource.setrlimit(resource.RLIMIT_AS, (held, held))\ncli.main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=runs.environment(OPENBLAS_NUM_THREADS="1"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("c2al: memory ran out (value ")
    assert "Traceback" not in ended.stderr
