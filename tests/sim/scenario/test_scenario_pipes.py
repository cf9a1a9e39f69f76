"""Scenario files that are pipes: read to their end, and given up where nothing comes."""

import os
import threading
from pathlib import Path

import pytest

from sim.errors import InvalidValueError
from sim.scenario import file_bytes
from sim.scenario.yaml_file import MAX_BYTES, read_yaml_file

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")


@pytest.fixture
def fifo(tmp_path):
    """Return a FIFO that nobody has opened."""
    os.mkfifo(tmp_path / "pipe.yaml")
    return tmp_path / "pipe.yaml"


def test_a_pipe_without_a_writer_is_refused(fifo, monkeypatch):
    """To open it for reading would wait for ever."""
    monkeypatch.setattr(file_bytes, "_UNWRITTEN_S", 0.2)
    with pytest.raises(InvalidValueError) as refused:
        read_yaml_file(fifo)
    hint = "Check the program that writes to it, or name a file."
    assert str(refused.value) == f"{fifo}: the file must be readable, got a pipe that nobody writes to. {hint}"


def test_a_pipe_whose_writer_is_silent_is_refused(monkeypatch):
    """As of a program that waits for something itself."""
    monkeypatch.setattr(file_bytes, "_SILENT_S", 0.2)
    reading, writing = os.pipe()
    try:
        with pytest.raises(
            InvalidValueError, match=r"got a pipe into which nothing was written for 0\.2 s\. Check the prog"
        ):
            read_yaml_file(f"/dev/fd/{reading}")
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("text", [b"a: 1\n", b"a: 1\n" + b"#" * (MAX_BYTES - 5)])
def test_a_pipe_that_comes_late_and_in_pieces_is_read_to_its_end(fifo, text):
    """The writer opens it after the reader has, and writes more than a pipe holds."""
    writer = threading.Thread(target=lambda: fifo.write_bytes(text))
    timer = threading.Timer(0.2, writer.start)
    timer.start()
    assert read_yaml_file(fifo).data == {"a": 1}
    timer.join()
    writer.join()


def test_a_pipe_whose_writer_has_gone_is_read_to_its_end():
    """As `printf ... | moesim run /dev/stdin` leaves it."""
    reading, writing = os.pipe()
    os.write(writing, b"a: 1\n")
    os.close(writing)
    try:
        assert read_yaml_file(f"/dev/fd/{reading}").data == {"a": 1}
    finally:
        os.close(reading)


def test_a_pipe_with_too_much_is_refused_and_not_read_to_its_end():
    """A device that never ends is one."""
    if not Path("/dev/zero").exists():
        pytest.skip("no /dev/zero here")
    with pytest.raises(InvalidValueError, match="must be at most 256 KiB large"):
        read_yaml_file("/dev/zero")
