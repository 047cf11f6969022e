import errno
import os
import threading

import pytest

from smca.whole_file import is_written_in_place, replacing


def test_the_new_file_takes_the_old_ones_place_at_the_end(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.json"
    path.write_text("old")

    def write():
        with replacing(path) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_not_written_replaces_nothing(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.json"):
        pass
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_system_names_the_file(tmp_path):
    path = tmp_path / "a.json"

    def write():
        with replacing(path) as partial:
            partial.touch()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left") as error:
        write()
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(path))
    with (
        pytest.raises(FileNotFoundError) as error,
        replacing(tmp_path / "no" / "a.json") as partial,
    ):
        partial.touch()
    assert error.value.filename == str(tmp_path / "no" / "a.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a" * 255, "\u00e4" * 127 + "b"])
def test_the_longest_name(tmp_path, name):
    with replacing(tmp_path / name) as partial:
        partial.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_pipe_is_written_in_place(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    with replacing(pipe) as place:
        place.write_text("new")
    reader.join(10)
    assert read == ["new"]
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/dev/null", True), ("/dev/fd/1", True), ("/proc/self/fd/1", True), ("/dev/gone", False)],
)
def test_what_is_written_in_place(tmp_path, path, expected):
    if expected and not os.path.lexists(path):
        pytest.skip(f"needs {path}")
    # Its standard output may be a regular file: a link to an open file is no place for another one.
    assert is_written_in_place(path) is expected
    (tmp_path / "a").touch()
    (tmp_path / "link").symlink_to("a")
    assert not is_written_in_place(tmp_path / "link")
