"""The reader of strace's logs, on lines as strace writes them."""

import pytest

from tests.e2e.strace_log import read_log

TO_TEST_NET = '{sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("192.0.2.1")}'


def read(text):
    return read_log(text.splitlines(keepends=True))


def spoken_to(text):
    return [(found.call, found.family, found.host, found.port) for found in read(text).destinations]


def inet6(host, port=443):
    flow = f'sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "{host}", &sin6_addr), sin6_scope_id=0'
    return f"{{sa_family=AF_INET6, sin6_port=htons({port}), {flow}}}"


def test_a_connect_beyond_loopback():
    log = read(f"41  connect(6, {TO_TEST_NET}, 16) = -1 EINPROGRESS (Operation now in progress)\n")
    assert [str(found) for found in log.beyond_loopback] == ["connect AF_INET 192.0.2.1 port 443"]
    assert log.beyond_loopback[0].succeeded
    assert (log.calls, log.pids, log.lookups) == (1, {41}, [])


@pytest.mark.parametrize("prefix", ["", "41  ", "41 ", "[pid    41] "])
def test_lines_with_and_without_a_pid(prefix):
    log = read(f"{prefix}connect(6, {TO_TEST_NET}, 16) = 0\n")
    assert len(log.beyond_loopback) == 1
    assert log.pids == ({41} if prefix else {0})


def test_calls_that_another_thread_interrupted():
    log = read(
        f"41  connect(6, {TO_TEST_NET}, 16 <unfinished ...>\n"
        '42  sendto(5, ""..., 1, 0, NULL, 0 <unfinished ...>\n'
        "42  <... sendto resumed>)             = 1\n"
        "41  <... connect resumed>)            = -1 ECONNREFUSED (Connection refused)\n"
        f"43  connect(7, {TO_TEST_NET}, 16 <unfinished ...>\n"
        "43  +++ killed by SIGKILL +++\n"
        f"44  sendmsg(7, {{msg_name= <unfinished ...>\n"
        f"44  <... sendmsg resumed>{TO_TEST_NET}, msg_namelen=16, msg_iov=[], msg_iovlen=0, msg_flags=0}}, 0) = 0\n"
    )
    assert [(found.call, found.succeeded) for found in log.beyond_loopback] == [
        ("connect", False),
        ("sendmsg", True),
        ("connect", False),
    ]
    assert (log.calls, log.pids) == (4, {41, 42, 43, 44})


@pytest.mark.parametrize(
    ("host", "beyond"),
    [
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:192.0.2.1", True),
        ("2001:db8::1", True),
        ("fe80::1", True),
        ("::", True),
    ],
)
def test_ip_version_6(host, beyond):
    assert bool(read(f"41  connect(6, {inet6(host)}, 28) = 0\n").beyond_loopback) is beyond


@pytest.mark.parametrize(
    ("host", "beyond"), [("127.0.0.1", False), ("127.8.9.1", False), ("10.0.0.1", True), ("0.0.0.0", True)]
)
def test_ip_version_4(host, beyond):
    line = f'41  connect(6, {{sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("{host}")}}, 16) = 0\n'
    assert bool(read(line).beyond_loopback) is beyond


def test_lookups_count_also_on_loopback():
    resolver = '{sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.53")}'
    log = read(
        f"41  connect(6, {resolver}, 16) = 0\n"
        f'41  sendto(6, ""..., 29, MSG_NOSIGNAL, {resolver}, 16) = 29\n'
        '41  connect(7, {sa_family=AF_UNIX, sun_path="/run/systemd/resolve/io.systemd.Resolve"}, 42) = 0\n'
        '41  connect(7, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT (No such file or directory)\n'
    )
    assert [found.call for found in log.lookups] == ["connect", "sendto", "connect"]
    assert log.beyond_loopback == []
    assert log.unix_sockets == ["/run/systemd/resolve/io.systemd.Resolve", "/var/run/nscd/socket"]


def test_several_messages_of_one_call():
    log = read(
        '41  sendmmsg(6, [{msg_hdr={msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base=""..., iov_len=3}], msg_iovlen=1, '
        f"msg_controllen=0, msg_flags=0}}, msg_len=3}}, {{msg_hdr={{msg_name={TO_TEST_NET}, msg_namelen=16, msg_iov=[], "
        f"msg_iovlen=0, msg_flags=0}}}}, {{msg_hdr={{msg_name={inet6('::1')}, msg_namelen=28}}}}], 3, 0) = 3\n"
    )
    assert [found.host for found in log.destinations] == ["192.0.2.1", "::1"]
    assert [found.host for found in log.beyond_loopback] == ["192.0.2.1"]


def test_families_that_stay_on_the_machine_and_those_that_nobody_knows():
    log = read(
        '41  connect(3, {sa_family=AF_UNIX, sun_path=@"/tmp/x"}, 110) = 0\n'
        "41  connect(3, {sa_family=AF_NETLINK, nl_pid=0, nl_groups=00000000}, 12) = 0\n"
        '41  connect(3, {sa_family=AF_UNSPEC, sa_data=""...}, 16) = 0\n'
        "41  connect(3, {sa_family=AF_VSOCK, svm_cid=VMADDR_CID_HOST, svm_port=0x1}, 16) = 0\n"
        '41  connect(3, {sa_family=0x2a, sa_data=""...}, 16) = 0\n'
    )
    assert [found.family for found in log.beyond_loopback] == ["AF_VSOCK", "0x2a"]
    assert log.unix_sockets == ["@/tmp/x"]


@pytest.mark.parametrize(
    "line",
    [
        "41  connect(6, 0x7ffd3c0, 16) = -1 EFAULT (Bad address)",
        '41  sendto(6, ""..., 1, 0, 0x7ffd3c0, 16) = -1 EFAULT (Bad address)',
        "41  sendmsg(6, {msg_name=0x7ffd3c0, msg_namelen=16}, 0) = -1 EFAULT (Bad address)",
        "41  sendmmsg(6, 0x7ffd3c0, 2, 0) = -1 EFAULT (Bad address)",
    ],
)
def test_an_address_that_cannot_be_read_counts(line):
    assert [found.family for found in read(line).beyond_loopback] == ["unreadable"]


def test_what_is_sent_is_not_taken_for_an_address():
    log = read(
        '41  sendto(5, "{sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr(\\"192.0.2.1\\")}", 70, 0, NULL, 0) = 70\n'
        '41  sendto(5, "x = 0x7f, 0x7f, 3)"..., 19, 0, NULL, 0) = 19\n'
    )
    assert log.calls == 2
    assert log.destinations == []


def test_rings_are_counted_and_other_lines_are_not():
    log = read(
        "41  io_uring_setup(8, {flags=0, sq_thread_cpu=0}) = 5\n"
        "41  socketpair(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0, [4, 5]) = 0\n"
        "41  getsockname(4, {sa_family=AF_UNIX}, [128 => 2]) = 0\n"
        "41  --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=43, si_uid=0, si_status=0} ---\n"
        "41  +++ exited with 0 +++\n"
        "strace: Process 44 attached\n"
    )
    assert (log.rings, log.calls, log.destinations, log.pids) == (1, 3, [], {41})
