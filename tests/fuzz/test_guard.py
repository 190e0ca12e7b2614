"""The guard really triggers: without that, "0 connects" would say nothing."""

import os
import socket
import subprocess
import sys

import pytest

from tests.fuzz.guard import ForbiddenCallError, guarded


@pytest.fixture(scope="module")
def one_socket():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made_before:
        yield made_before


@pytest.mark.parametrize(
    ("event", "reach_out"),
    [
        ("socket.__new__", lambda _: socket.socket()),
        ("socket.getaddrinfo", lambda _: socket.create_connection(("127.0.0.1", 9), timeout=1)),
        ("socket.getaddrinfo", lambda _: socket.getaddrinfo("localhost", 80)),
        ("socket.gethostbyname", lambda _: socket.gethostbyname("localhost")),
        ("socket.connect", lambda made: made.connect(("127.0.0.1", 9))),
        ("socket.connect", lambda made: made.connect_ex(("127.0.0.1", 9))),
        ("socket.sendto", lambda made: made.sendto(b"x", ("127.0.0.1", 9))),
        ("os.system", lambda _: os.system("exit 0")),
        ("subprocess.Popen", lambda _: subprocess.run([sys.executable, "-c", ""], check=False)),
        ("os.listdir", lambda _: os.listdir(".")),  # noqa: PTH208
        ("os.mkdir", lambda _: os.mkdir("never")),  # noqa: PTH102
        ("open", lambda _: os.open(__file__, os.O_RDONLY)),
    ],
)
def test_reaching_out_fails(event, reach_out, one_socket):
    with pytest.raises(ForbiddenCallError, match=f"^{event}"), guarded():
        reach_out(one_socket)


def test_a_parser_that_swallows_the_error_fails_nevertheless():
    swallowed = []

    def look_up():
        try:
            socket.getaddrinfo("localhost", 80)
        except BaseException as error:  # noqa: BLE001 - what a parser must not do, done on purpose
            swallowed.append(error)

    with pytest.raises(ForbiddenCallError, match=r"^socket\.getaddrinfo"), guarded():
        look_up()
    assert len(swallowed) == 1


def test_only_files_that_were_given_may_be_touched(tmp_path):
    given, other = tmp_path / "given" / "file", tmp_path / "other"
    given.parent.mkdir()
    other.write_text("x")
    with guarded([given.parent]):
        given.write_text("x")
        assert given.read_text() == "x"
    with pytest.raises(ForbiddenCallError, match=r"^open"), guarded([given.parent]):
        other.read_text()


def test_an_import_is_not_the_parsers_doing_and_afterwards_everything_is_allowed(tmp_path):
    sys.modules.pop("this_is_never_imported_elsewhere", None)
    (tmp_path / "this_is_never_imported_elsewhere.py").write_text("VALUE = 1\n")
    sys.path.insert(0, str(tmp_path))
    try:
        with guarded():
            import this_is_never_imported_elsewhere as imported
    finally:
        sys.path.remove(str(tmp_path))
    assert imported.VALUE == 1
    with socket.socket() as allowed:
        assert allowed.fileno() >= 0
