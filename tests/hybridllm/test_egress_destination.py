"""Where connections go: a name is looked up once, every address of it is checked, and one that was checked is connected to."""

import asyncio
import dataclasses
import time

import pytest

import hybridllm.addresses
from hybridllm import Remote
from hybridllm.backends.base import Ledger
from hybridllm.egress import EgressGate
from hybridllm.egress.destination import Destination
from hybridllm.errors import AddressRefused, BadRequest, PolicyTightened, PrivacyViolation, RemoteUnreachable
from policies import Limits
from tests.hybridllm.gate_harness import BODY, KIOSK, Resolver, Sender, gate_to, send_to
from tests.hybridllm.loopback import LoopbackServer, answer, free_port, raw, status

PUBLIC_ADDRESS = "93.184.216.34"
ANY = dataclasses.replace(KIOSK, addresses={"site": "any"})


@pytest.fixture
def server(serve):
    return serve(answer())


def named(server, host="llm.example", **more):
    return Remote(**{"base_url": server.base_url_of(host), "model": "m", **more})


def test_a_name_is_looked_up_once_for_each_connection(server, monkeypatch):
    resolver = Resolver(llm__example=[["127.0.0.1"]]).install(monkeypatch)
    with Sender(named(server)) as sender:
        assert sender.send().status == 200
        assert resolver.lookups == ["llm.example"]
        assert sender.send().status == 200  # the server has closed the first connection
    assert resolver.lookups == ["llm.example"] * 2
    assert server.exchanges[0].headers["host"] == f"llm.example:{server.port}"


def test_a_name_that_changes_between_two_lookups_is_not_followed_to_another_network(server, monkeypatch):
    resolver = Resolver(llm__example=[["127.0.0.1"], [PUBLIC_ADDRESS]]).install(monkeypatch)
    with Sender(named(server, zone="site")) as sender:
        assert sender.send().status == 200  # what was checked is what was connected to
        with pytest.raises(AddressRefused, match=r"Nothing was sent: the remote is at 93\.184\.216\.34"):
            sender.send()
    assert len(resolver.lookups) == 2
    assert len(server.exchanges) == 1


@pytest.mark.parametrize("others", [[PUBLIC_ADDRESS], ["2606:4700::1111"], ["::ffff:8.8.8.8"], ["64:ff9b::10.0.0.1"]])
@pytest.mark.parametrize("first", [True, False])
def test_one_address_outside_is_enough_for_the_site_to_refuse(server, monkeypatch, others, first):
    addresses = ["127.0.0.1", *others] if first else [*others, "127.0.0.1"]
    Resolver(llm__example=[addresses]).install(monkeypatch)
    remote = Remote(base_url=f"https://llm.example:{server.port}/v1", model="m", zone="site")
    with Sender(remote) as sender:
        with pytest.raises(AddressRefused, match="its zone has only those"):
            sender.send()
        assert isinstance(sender.probe_error(), AddressRefused)
    assert server.connections == 0


@pytest.mark.parametrize("zone", ["cloud", "site"])
@pytest.mark.parametrize("policy", [KIOSK, ANY], ids=["kiosk", "any"])
def test_plain_http_leads_to_private_networks_only(server, monkeypatch, zone, policy):
    Resolver(llm__example=[[PUBLIC_ADDRESS, "127.0.0.1"]]).install(monkeypatch)
    with Sender(named(server, zone=zone), policy) as sender:
        with pytest.raises(AddressRefused, match="plain http") as raised:
            sender.send()
        assert isinstance(sender.probe_error(), AddressRefused)
    assert raised.value.mend == "Use https."
    assert server.connections == 0


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fd00:ec2::254", "0.0.0.0", "224.0.0.1", "::ffff:169.254.169.254"]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_addresses_that_are_no_servers_are_refused_everywhere(server, monkeypatch, address, scheme):
    Resolver(llm__example=[["127.0.0.1", address]]).install(monkeypatch)
    remote = Remote(base_url=f"{scheme}://llm.example:{server.port}/v1", model="m")
    with Sender(remote, ANY) as sender, pytest.raises(AddressRefused, match="metadata service"):
        sender.send()
    assert server.connections == 0


def test_a_zone_may_have_any_address_if_its_policy_says_so(monkeypatch):
    Resolver(llm__example=[[PUBLIC_ADDRESS]]).install(monkeypatch)
    hop = Destination.of(Remote(base_url="https://llm.example/v1", model="m", zone="site"), lambda: "any")
    assert [str(address) for address in asyncio.run(hop.resolve())] == [PUBLIC_ADDRESS]


def test_addresses_are_tried_in_order_and_a_dead_one_is_no_harm(server, monkeypatch):
    Resolver(llm__example=[["::1", "127.0.0.1"]]).install(monkeypatch)
    with Sender(named(server)) as sender:
        assert sender.send().status == 200
        assert sender.probe_error() is None


def test_each_address_gets_its_share_of_the_time(monkeypatch):
    Resolver(llm__example=[["10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.3"]]).install(monkeypatch)
    hop = Destination("llm.example", 80, True, lambda: "private")
    asked = []

    async def nobody(address, timeout_s):
        asked.append((address, timeout_s))
        raise TimeoutError

    with pytest.raises(TimeoutError):
        asyncio.run(hop.connect(nobody, 6.0))
    assert [str(address) for address, _ in asked] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert [share_s for _, share_s in asked] == pytest.approx([2.0, 3.0, 6.0], abs=0.2)


def test_a_lookup_is_part_of_the_time_to_connect(server, monkeypatch):
    async def slow(*arguments, **more):
        await asyncio.sleep(30)

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", lambda loop, *a, **more: slow())
    began = time.monotonic()
    with Sender(named(server, connect_timeout_s=0.1)) as sender:
        with pytest.raises(RemoteUnreachable, match="did not answer in time"):
            sender.send()
        assert isinstance(sender.probe_error(0.1), RemoteUnreachable)
    assert time.monotonic() - began < 5


def test_a_name_without_addresses_is_unreachable(server, monkeypatch):
    Resolver(llm__example=[[]]).install(monkeypatch)
    with Sender(named(server)) as sender, pytest.raises(RemoteUnreachable, match="cannot be connected to"):
        sender.send()


def test_a_policy_that_gets_stricter_while_a_connection_is_open(server, monkeypatch):
    """Nothing more goes over a connection to an address that the policy in force would not allow."""
    Resolver(llm__example=[["127.0.0.1"]]).install(monkeypatch)
    with Sender(named(server, zone="site"), ANY) as sender:
        office_check = sender.office.check
        checks = []

        def check(*arguments):
            checks.append(True)
            if len(checks) == 2:  # when the connection asks for the body: loopback counts as outside from now on
                monkeypatch.setattr(hybridllm.addresses, "_PRIVATE_4", ())
                sender.in_force.replace(KIOSK)
            return office_check(*arguments)

        monkeypatch.setattr(sender.office, "check", check)
        with pytest.raises(PolicyTightened, match="Nothing was sent: the remote is at"):
            sender.send()
        with pytest.raises(AddressRefused, match="Nothing was sent: the remote is at"):
            sender.send()
    assert BODY not in server.received


@pytest.mark.parametrize(
    ("base_url", "part"),
    [
        ("http://8.8.8.8/v1", "plain http"),
        ("http://[2606:4700::1111]/v1", "plain http"),
        ("http://[::ffff:8.8.8.8]/v1", "plain http"),
        ("http://0.0.0.0:8000/v1", "not one server's address"),
        ("https://0.0.0.0:8000/v1", "not one server's address"),
        ("https://169.254.169.254/v1", "metadata service"),
        ("https://[fd00:ec2::254]/v1", "metadata service"),
        ("https://255.255.255.255/v1", "not one server's address"),
    ],
)
def test_what_is_written_as_an_address_is_refused_at_once(base_url, part):
    with pytest.raises(BadRequest, match=part) as raised:
        Remote(base_url=base_url, model="m")
    assert raised.value.field == "remote.base_url"
    assert raised.value.mend


def test_a_site_outside_is_refused_when_the_client_is_made():
    remote = Remote(base_url="https://8.8.8.8/v1", model="m", zone="site")
    with pytest.raises(BadRequest, match="its zone has only those") as raised:
        gate_to(remote, KIOSK)
    assert raised.value.field == "remote.base_url"
    gate_to(remote, ANY)
    # A program that goes on without a policy must be able to start; nothing can leave it.
    gate_to(remote, dataclasses.replace(KIOSK, zones={}))
    gate_to(dataclasses.replace(remote, zone="cloud"), KIOSK)


class TestProxies:
    def test_a_proxy_that_would_resolve_a_sites_name_is_refused(self):
        remote = Remote(
            base_url="https://llm.example/v1", model="m", zone="site", proxy="http://u:canary@10.0.0.1:3128"
        )
        with pytest.raises(BadRequest, match="would resolve the remote's name") as raised:
            gate_to(remote, KIOSK)
        assert raised.value.field == "remote.proxy"
        assert "canary" not in str(raised.value)
        gate_to(remote, ANY)
        gate_to(dataclasses.replace(remote, base_url="https://10.0.0.7/v1"), KIOSK)

    def test_nobody_could_check_the_name_of_a_remote_with_plain_http(self):
        with pytest.raises(BadRequest, match="plain http") as raised:
            Remote(base_url="http://llm.example/v1", model="m", proxy="http://10.0.0.1:3128")
        assert raised.value.field == "remote.proxy"

    def test_socks_is_not_spoken(self):
        with pytest.raises(BadRequest, match=r"remote\.proxy"):
            Remote(base_url="https://h/v1", model="m", proxy="socks5://10.0.0.1:1080")

    def test_a_request_through_a_proxy_and_its_password(self, serve):
        proxy = serve(answer())
        remote = Remote(
            base_url="http://10.1.2.3:8000/v1", model="m", proxy=f"http://us%40er:pa%3Ass@127.0.0.1:{proxy.port}"
        )
        assert send_to(remote).status == 200
        exchange = proxy.exchanges[0]
        assert exchange.path == "http://10.1.2.3:8000/v1/chat/completions"
        assert exchange.headers["proxy-authorization"] == "Basic dXNAZXI6cGE6c3M="
        assert exchange.body == BODY

    @pytest.mark.parametrize(
        ("base_url", "proxy", "zone", "refused"),
        [
            ("http://10.1.2.3/v1", "http://proxy.example:1", "cloud", True),  # the request in clear
            ("https://llm.example/v1", "http://u:p@proxy.example:1", "cloud", True),  # the password in clear
            ("https://llm.example/v1", "http://proxy.example:1", "cloud", False),
            ("https://llm.example/v1", "https://u:p@proxy.example:1", "cloud", False),
            ("https://10.1.2.3/v1", "https://proxy.example:1", "site", True),  # not the site's own
        ],
    )
    def test_the_proxys_own_address(self, monkeypatch, base_url, proxy, zone, refused):
        Resolver(proxy__example=[[PUBLIC_ADDRESS]]).install(monkeypatch)
        remote = Remote(base_url=base_url, model="m", zone=zone, proxy=proxy)
        hop = Destination.of(remote, lambda: KIOSK.addresses_of(zone))
        if refused:
            with pytest.raises(AddressRefused, match="the proxy is at"):
                asyncio.run(hop.resolve())
        else:
            assert asyncio.run(hop.resolve())

    @pytest.mark.parametrize("code", [403, 407, 502])
    def test_a_proxy_that_refuses_says_nothing_in_the_error(self, serve, code):
        proxy = serve(raw(f"HTTP/1.1 {code} canary\r\nX: canary\r\nContent-Length: 6\r\n\r\ncanary".encode()))
        remote = Remote(
            base_url="https://llm.example/v1", model="m", proxy=f"http://user:canary@127.0.0.1:{proxy.port}"
        )
        with pytest.raises(RemoteUnreachable, match="its proxy refuses") as raised:
            send_to(remote)
        assert "canary" not in repr(raised.value) + str(raised.value.__context__)
        assert BODY not in proxy.received

    def test_a_policy_that_gets_stricter_after_the_client_was_made(self, serve):
        proxy = serve(status(200))
        remote = Remote(
            base_url="https://llm.example/v1", model="m", zone="site", proxy=f"http://127.0.0.1:{proxy.port}"
        )
        with Sender(remote, ANY) as sender:
            sender.in_force.replace(KIOSK)
            with pytest.raises(PolicyTightened, match=r"Nothing was sent: remote\.proxy would resolve"):
                sender.send()
        assert proxy.connections == 0


def test_another_host_is_not_connected_to(server):
    """Whatever the libraries below came to: the connection goes to the remote's host and port, or nowhere."""
    from hybridllm.egress.transport import _CheckedBackend

    remote = named(server, "127.0.0.1")
    backend = _CheckedBackend(Destination.of(remote, lambda: "any"))
    for host, port in (("127.0.0.2", server.port), ("127.0.0.1", free_port())):
        with pytest.raises(PrivacyViolation, match="another host"):
            asyncio.run(backend.connect_tcp(host, port, timeout=1.0))
    with pytest.raises(PrivacyViolation, match="socket file"):
        asyncio.run(backend.connect_unix_socket("/run/anything"))
    assert server.connections == 0


def test_an_origin_that_another_policy_allows_is_still_only_the_permits(serve):
    here, there = serve(answer()), serve(answer())
    with Sender(named(here, "127.0.0.1")) as sender:
        other = EgressGate(named(there, "127.0.0.1"), sender.in_force, sender.office)

        async def go():
            async with other.send(sender.mint(), BODY, {}, Ledger(), Limits()):
                raise AssertionError("it was sent")

        with pytest.raises(PrivacyViolation, match="another origin"):
            asyncio.run(go())
    assert there.connections == 0


def test_the_probe_sends_nothing_and_waits_no_longer_than_asked(serve):
    server = serve(answer())
    assert isinstance(server, LoopbackServer)
    with Sender(named(server, "127.0.0.1")) as sender:
        assert sender.probe_error() is None
    assert server.received == b""
