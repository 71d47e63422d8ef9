"""Which of several processes tells what went wrong."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from runtime import processes
from runtime.files import InputError
from runtime.processes import PeerProcessFailed, report_error_once


def fail(error: Exception) -> None:
    with report_error_once():
        raise error


@pytest.mark.parametrize(("rank", "waits"), [(None, False), ("0", False), ("1", True)])
def test_what_is_wrong_is_told_by_the_first_process_first(rank, waits, monkeypatch):
    slept = []
    monkeypatch.setattr(processes.time, "sleep", slept.append)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    for error in (InputError("no such file"), FileNotFoundError("x")):
        with pytest.raises(type(error)):
            fail(error)
    assert bool(slept) == waits


@pytest.mark.parametrize(
    "message",
    ["[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:3", "Connection closed by peer"],
)
def test_who_loses_its_partner_ends_without_a_word(message):
    with pytest.raises(PeerProcessFailed) as end:
        fail(RuntimeError(message))
    assert end.value.code == 1  # a text would be printed


def test_a_fault_of_the_program_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="shapes"):
        fail(RuntimeError("shapes differ"))


CHILD_OF_A_KILLED_PARENT = """
import os, signal, time
from runtime.processes import end_with_parent
parent = os.getpid()
if os.fork() == 0:
    end_with_parent(parent)
    print(os.getpid(), flush=True)
    time.sleep(60)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_worker_ends_with_its_parent_however_that_is_killed():
    with subprocess.Popen([sys.executable, "-c", CHILD_OF_A_KILLED_PARENT], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{child}").exists()
