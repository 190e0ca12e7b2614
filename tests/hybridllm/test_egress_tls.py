"""TLS for real: a certificate authority and servers of our own, right ones and wrong ones."""

import datetime
import ssl
import warnings

import pytest
import trustme

from hybridllm import Remote
from hybridllm.egress.trust import tls_context
from hybridllm.errors import RemoteError, RemoteUnreachable
from tests.hybridllm.gate_harness import BODY, Resolver, Sender, send_to
from tests.hybridllm.loopback import LoopbackServer, answer, tunnel

NAME = "llm.site.example"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture(autouse=True)
def names(monkeypatch):
    return Resolver(llm__site__example=[["127.0.0.1"]], proxy__example=[["127.0.0.1"]]).install(monkeypatch)


def server_context(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.fixture
def start():
    started = []

    def start(context, *behaviours):
        started.append(LoopbackServer(*(behaviours or (answer(),)), tls=context).__enter__())
        return started[-1]

    yield start
    for server in started:
        server.__exit__()


def remote_at(server, ca_file, host=NAME, **more):
    return Remote(
        base_url=server.base_url_of(host), model="m", api_key="sk-canary", ca_file=ca_file, zone="site", **more
    )


def test_the_right_name_and_the_right_authority(authority, ca_file, start, names):
    context = server_context(authority.issue_cert(NAME))
    asked_for = []
    context.sni_callback = lambda connection, name, context: asked_for.append(name)
    server = start(context)
    assert send_to(remote_at(server, ca_file)).status == 200
    assert asked_for == [NAME]  # the name of the URL, though the connection was made to an address
    assert names.lookups == [NAME]
    assert server.exchanges[0].headers["host"] == f"{NAME}:{server.port}"
    assert server.exchanges[0].headers["authorization"] == "Bearer sk-canary"


def test_an_address_instead_of_a_name(authority, ca_file, start, names):
    server = start(server_context(authority.issue_cert("127.0.0.1")))
    assert send_to(remote_at(server, ca_file, host="127.0.0.1")).status == 200
    assert names.lookups == []


def expired(authority):
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    return authority.issue_cert(NAME, not_before=yesterday - datetime.timedelta(days=30), not_after=yesterday)


@pytest.mark.parametrize(
    "certificate",
    [
        lambda authority: authority.issue_cert("other.example"),
        lambda authority: authority.issue_cert("127.0.0.1"),  # the address that is connected to, not the name
        lambda authority: authority.issue_cert("site.example", "*.example"),
        expired,
        lambda authority: trustme.CA().issue_cert(NAME),
    ],
    ids=["another name", "its address", "a wider name", "expired", "unknown authority"],
)
def test_a_wrong_certificate(authority, ca_file, start, certificate):
    server = start(server_context(certificate(authority)))
    with pytest.raises(RemoteUnreachable, match="its certificate is not valid"):
        send_to(remote_at(server, ca_file))
    assert server.received == b""


def test_a_certificate_that_vouches_for_itself(ca_file, start, tmp_path):
    itself = trustme.CA()
    path = tmp_path / "self.pem"
    path.write_bytes(itself.private_key_pem.bytes() + itself.cert_pem.bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server = start(context)
    with pytest.raises(RemoteUnreachable, match="its certificate is not valid"):
        send_to(remote_at(server, ca_file))
    assert server.received == b""


def test_without_a_file_only_public_authorities_are_trusted(authority, start):
    server = start(server_context(authority.issue_cert(NAME)))
    with pytest.raises(RemoteUnreachable, match="its certificate is not valid"):
        send_to(remote_at(server, None))
    assert server.received == b""


def old_server(authority):
    context = server_context(authority.issue_cert(NAME))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def test_tls_1_1_is_refused(authority, ca_file, start, monkeypatch):
    server = start(old_server(authority))
    with pytest.raises(RemoteUnreachable, match="TLS failed"):
        send_to(remote_at(server, ca_file))
    assert server.received == b""

    # The server is not simply broken: who asks for an old version gets an answer.
    def old_context(ca_file):
        context = tls_context(ca_file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
        context.set_ciphers("ALL:@SECLEVEL=0")
        return context

    monkeypatch.setattr("hybridllm.egress.transport.tls_context", old_context)
    assert send_to(remote_at(server, ca_file)).status == 200


def test_a_server_without_tls(ca_file, start):
    server = start(None)
    remote = Remote(base_url=f"https://{NAME}:{server.port}/v1", model="m", ca_file=ca_file, connect_timeout_s=0.3)
    with pytest.raises(RemoteUnreachable):
        send_to(remote)
    assert BODY not in server.received


@pytest.mark.parametrize("broken", [b"\x17\x03\x03\x00\x20" + b"canary" * 8, b"HTTP/1.1 200 canary\r\n\r\n", b""])
def test_tls_that_breaks_in_the_middle_of_an_answer(authority, ca_file, start, broken):
    def behave(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbeginning")
        exchange.send_unprotected(broken)

    server = start(server_context(authority.issue_cert(NAME)), behave)
    with pytest.raises(RemoteError) as raised:
        send_to(remote_at(server, ca_file))
    assert "canary" not in f"{raised.value}{raised.value.__context__!r}"


def test_an_end_without_goodbye_does_not_make_a_cut_answer_whole(authority, ca_file, start):
    """A connection that just closes must not end an answer that says how long it is."""
    server = start(
        server_context(authority.issue_cert(NAME)),
        lambda exchange: exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
    )
    with pytest.raises(RemoteError):
        send_to(remote_at(server, ca_file))


class TestThroughAProxy:
    @pytest.mark.parametrize("proxy_tls", [False, True])
    def test_a_tunnel_shows_the_proxy_nothing(self, authority, ca_file, start, proxy_tls):
        server = start(server_context(authority.issue_cert("10.1.2.3", NAME)))
        context = server_context(authority.issue_cert("proxy.example")) if proxy_tls else None
        proxy = start(context, tunnel(server.port))
        url = f"http{'s' if proxy_tls else ''}://user:secret@proxy.example:{proxy.port}"
        remote = Remote(
            base_url="https://10.1.2.3:8443/v1", model="m", api_key="sk-canary", ca_file=ca_file, zone="site", proxy=url
        )
        assert send_to(remote).status == 200
        assert proxy.exchanges[0].method == "CONNECT"
        assert proxy.exchanges[0].path == "10.1.2.3:8443"
        assert "authorization" not in proxy.exchanges[0].headers
        assert b"sk-canary" not in proxy.received
        assert BODY not in proxy.received
        assert server.exchanges[0].body == BODY
        assert "proxy-authorization" not in server.exchanges[0].headers

    def test_the_certificate_has_to_be_the_remotes_and_the_proxys(self, authority, ca_file, start):
        server = start(server_context(authority.issue_cert("other.example")))
        proxy = start(server_context(authority.issue_cert("proxy.example")), tunnel(server.port))
        remote = Remote(
            base_url=f"https://{NAME}/v1", model="m", ca_file=ca_file, proxy=f"https://proxy.example:{proxy.port}"
        )
        with pytest.raises(RemoteUnreachable, match="certificate"):
            send_to(remote)
        impostor = start(server_context(authority.issue_cert("other.example")), tunnel(server.port))
        remote = Remote(
            base_url=f"https://{NAME}/v1", model="m", ca_file=ca_file, proxy=f"https://proxy.example:{impostor.port}"
        )
        with pytest.raises(RemoteUnreachable, match="certificate"):
            send_to(remote)
        assert server.received == impostor.received == b""

    def test_an_https_proxys_context_does_not_listen_to_the_environment(
        self, authority, ca_file, start, monkeypatch, tmp_path
    ):
        monkeypatch.setenv("SSL_CERT_FILE", ca_file)
        monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
        proxy = start(server_context(authority.issue_cert("proxy.example")), answer())
        remote = Remote(base_url=f"https://{NAME}/v1", model="m", proxy=f"https://proxy.example:{proxy.port}")
        with pytest.raises(RemoteUnreachable, match="certificate"):
            send_to(remote)
        assert proxy.received == b""
        assert not (tmp_path / "keys").exists()


def test_one_lookup_for_each_connection_and_none_for_one_that_is_used_again(authority, ca_file, start, names):
    def behave(exchange):
        for number in range(2):
            asked = b"" if number else BODY
            while not asked.endswith(BODY):
                asked += exchange.connection.recv(65536)
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    server = start(server_context(authority.issue_cert(NAME)), behave)
    with Sender(remote_at(server, ca_file)) as sender:
        assert [sender.send().body, sender.send().body] == [b"ok", b"ok"]
    assert server.connections == 1
    assert names.lookups == [NAME]
