"""A permit outlives the slowest connection that is still in time, and not by much."""

import ssl
from types import SimpleNamespace

import pytest
import trustme

import hybridllm.permits
from hybridllm import Remote
from hybridllm.errors import PrivacyViolation
from hybridllm.permits import MARGIN_S
from policies import Limits, parse_policy
from tests.hybridllm.gate_harness import BODY, KIOSK, Resolver, Sender
from tests.hybridllm.loopback import LoopbackServer, answer, tunnel

NAME, PROXY = "llm.site.example", "proxy.example"

WAYS = {
    # scheme of the proxy, scheme of the remote: what each takes its time at
    ("", "http"): ["connect"],
    ("", "https"): ["connect", f"TLS with {NAME}"],
    ("http", "http"): ["connect"],
    ("https", "http"): ["connect", f"TLS with {PROXY}"],
    ("http", "https"): ["connect", "tunnel", f"TLS with {NAME}"],
    ("https", "https"): ["connect", f"TLS with {PROXY}", "tunnel", f"TLS with {NAME}"],
}


class Clock:
    """The permits' clock, which goes on only where a step of the way takes its time."""

    def __init__(self):
        self.now_s = 1000.0
        self.step_s = 0.0
        self.steps = []

    def monotonic(self):
        return self.now_s

    def pass_step(self, step):
        self.steps.append(step)
        self.now_s += self.step_s


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(hybridllm.permits, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def way(request, clock, authority, ca_file, monkeypatch):
    """A remote whose way has these steps, each of which passes time on the permits' clock, and its server."""
    proxy_scheme, scheme = request.param
    literal = "127.0.0.1"  # nobody could check what a proxy makes of a name in clear

    class SlowResolver(Resolver):
        async def getaddrinfo(self, host, port, **hints):
            clock.pass_step("connect")
            return await super().getaddrinfo(host, port, **hints)

    SlowResolver(llm__site__example=[[literal]], proxy__example=[[literal]]).install(monkeypatch)

    def context(name, wanted):
        if not wanted:
            return None
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(made)
        made.sni_callback = lambda connection, name, context: clock.pass_step(f"TLS with {name}")
        return made

    def slow_tunnel(port):
        through = tunnel(port)

        def behave(exchange):
            clock.pass_step("tunnel")
            through(exchange)

        return behave

    with LoopbackServer(answer(), tls=context(NAME, scheme == "https")) as server:
        host = literal if proxy_scheme and scheme == "http" else NAME
        base_url = f"{scheme}://{host}:{server.port}/v1"
        if not proxy_scheme:
            yield Remote(base_url=base_url, model="m", zone="site", ca_file=ca_file), server
            return
        behave = slow_tunnel(server.port) if scheme == "https" else answer()
        with LoopbackServer(behave, tls=context(PROXY, proxy_scheme == "https")) as proxy:
            url = f"{proxy_scheme}://{PROXY}:{proxy.port}"
            # A zone of private addresses wants the remote's own written down; here nothing but the time matters.
            remote = Remote(base_url=base_url, model="m", zone="cloud", ca_file=ca_file, proxy=url)
            yield remote, server if scheme == "https" else proxy


@pytest.mark.parametrize("way", WAYS, indirect=True, ids=lambda way: "-".join(way))
def test_the_slowest_way_that_is_in_time_finds_its_permit_good(way, clock, request):
    remote, server = way
    limits = remote.limits_under(KIOSK)
    clock.step_s = limits.connect_s
    with Sender(remote) as sender:
        # The first token's time is the last that a try has; whatever took it before the bytes left counts as well.
        minted, sender.mint = sender.mint, lambda body: _minted_before(minted(body), clock, limits.first_token_s)
        assert sender.send().status == 200
    assert clock.steps == WAYS[request.node.callspec.params["way"]]
    assert len(clock.steps) * limits.connect_s == remote.connecting_s(limits)
    assert BODY in server.received


def _minted_before(permit, clock, seconds):
    clock.now_s += seconds
    return permit


@pytest.mark.parametrize("way", WAYS, indirect=True, ids=lambda way: "-".join(way))
def test_after_that_and_a_margin_it_is_worthless(way, clock):
    remote, server = way
    with Sender(remote) as sender:
        permit = sender.mint()
        limits = remote.limits_under(KIOSK)
        clock.now_s += remote.connecting_s(limits) + limits.first_token_s + MARGIN_S + 0.001
        sender.mint = lambda body: permit
        with pytest.raises(PrivacyViolation, match="it has expired"):
            sender.send()
    assert server.received == b""


@pytest.mark.parametrize("way", [("", "https")], indirect=True)
def test_what_the_policy_says_of_the_way_counts(way, clock):
    remote, _ = way
    policy = parse_policy(
        "version: 1\nname: slow\nlabels: {order: [public, private], unlabeled: private}\nzones: {site: public}\n"
        "limits: {connect_s: 30, first_token_s: 100}\ndefault: [remote, local]\n"
    )
    clock.step_s = policy.limits.connect_s
    with Sender(remote, policy) as sender:
        assert sender.mint().expires_s == clock.now_s + 2 * 30 + 100 + MARGIN_S
        assert sender.send().status == 200
    own = Remote(base_url=remote.base_url, model="m", connect_timeout_s=7, first_token_timeout_s=1)
    assert own.connecting_s(own.limits_under(policy)) == 14
    assert own.limits_under(policy) == Limits(connect_s=7, first_token_s=1, gap_s=policy.limits.gap_s)
