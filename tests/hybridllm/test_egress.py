"""Permits and the gate: nothing leaves without a permit that fits, at the very moment when it leaves."""

import asyncio
import ssl
import time
from dataclasses import replace

import httpx
import pytest

import hybridllm.permits
from hybridllm import Remote, load_policy
from hybridllm.backends.base import Ledger
from hybridllm.egress import EgressGate
from hybridllm.egress.destination import Destination
from hybridllm.egress.transport import CheckedTransport
from hybridllm.egress.trust import tls_context
from hybridllm.errors import BadRequest, Cancelled, PolicyDenied, PolicyTightened, PrivacyViolation, RemoteUnreachable
from hybridllm.permits import PermitOffice
from hybridllm.policy_in_force import PolicyInForce
from policies import Facts, Limits, Place, decide
from tests.hybridllm.loopback import answer, free_port

POLICY = load_policy("cloud-assist")
IN_FORCE = PolicyInForce(POLICY)
BODY = b'{"messages": []}'
PLACES = (Place("local", "device"), Place("remote", "cloud"))


def decision(label="public", policy=POLICY, places=PLACES):
    return decide(policy, Facts(label=label, places=places))


@pytest.fixture
def server(serve):
    return serve(answer())


@pytest.fixture
def remote(server):
    return Remote(base_url=server.base_url, model="m")


def refuse(policy):
    raise PolicyTightened("no")


def mint(office, remote, *, body=BODY, place="remote", policy=POLICY, decided=None, attempt=1, still_allowed=refuse):
    decided = decided or decision()
    return office.mint(
        policy,
        decided,
        remote,
        place,
        request_id="r",
        attempt=attempt,
        body=body,
        still_allowed=still_allowed,
    )


def send(gate, permit, body=BODY):
    ledger = Ledger()

    async def go():
        try:
            async with gate.send(permit, body, {}, ledger, Limits()) as response:
                return response.status, b"".join([piece async for piece in response.pieces()])
        finally:
            await gate.aclose()

    return asyncio.run(go()), ledger


def test_with_a_permit_exactly_these_bytes_leave(server, remote):
    office = PermitOffice(IN_FORCE)
    (status, body), ledger = send(EgressGate(remote, IN_FORCE, office), mint(office, remote))
    assert status == 200
    assert b"[DONE]" in body
    assert server.exchanges[0].body == BODY
    assert ledger.egress_bytes == len(BODY)


STRICTER = replace(POLICY, zones={"site": "internal"})


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (lambda permit: None, "there is no permit"),
        (lambda permit: replace(permit, seal=b"x" * 32), "seal"),
        (lambda permit: replace(permit, label="public", request_id="other"), "seal"),
        (lambda permit: replace(permit, body_sha256="0" * 64), "seal"),
        (lambda permit: replace(permit, expires_s=1e18), "seal"),
        (lambda permit: replace(permit, seal=b""), "seal"),
    ],
)
def test_a_permit_that_is_not_ours_opens_nothing(server, remote, spoil, part):
    office = PermitOffice(IN_FORCE)
    with pytest.raises(PrivacyViolation, match=part):
        send(EgressGate(remote, IN_FORCE, office), spoil(mint(office, remote)))
    assert server.connections == 0


def test_a_permit_of_another_office_opens_nothing(server, remote):
    with pytest.raises(PrivacyViolation, match="seal"):
        send(EgressGate(remote, IN_FORCE, PermitOffice(IN_FORCE)), mint(PermitOffice(IN_FORCE), remote))
    assert server.connections == 0


def test_other_bytes_other_origins_other_zones_other_policies(server, remote):
    office = PermitOffice(IN_FORCE)
    cases = [
        (EgressGate(remote, IN_FORCE, office), BODY + b" ", "other bytes"),
        (EgressGate(replace(remote, base_url="http://127.0.0.1:9/v1"), IN_FORCE, office), BODY, "another origin"),
        (EgressGate(replace(remote, zone="site"), IN_FORCE, office), BODY, "another zone"),
    ]
    for gate, body, part in cases:
        with pytest.raises(PrivacyViolation, match=part):
            send(gate, mint(office, remote), body)
    assert server.connections == 0


def test_under_another_policy_in_force_the_request_is_decided_again(server, remote):
    in_force = PolicyInForce(POLICY)
    office = PermitOffice(in_force)
    asked = []
    permit, refused = mint(office, remote, still_allowed=asked.append), mint(office, remote, attempt=2)
    in_force.replace(STRICTER)
    send(EgressGate(remote, in_force, office), permit)
    assert asked == [STRICTER, STRICTER]
    with pytest.raises(PolicyTightened):
        send(EgressGate(remote, in_force, office), refused)
    assert len(server.exchanges) == 1


def test_a_permit_is_good_once_and_not_for_long(server, remote, monkeypatch):
    office = PermitOffice(IN_FORCE)
    permit = mint(office, remote)
    send(EgressGate(remote, IN_FORCE, office), permit)
    with pytest.raises(PrivacyViolation, match="used before"):
        send(EgressGate(remote, IN_FORCE, office), permit)
    monkeypatch.setattr(hybridllm.permits, "MARGIN_S", -100.0)
    with pytest.raises(PrivacyViolation, match="expired"):
        send(EgressGate(remote, IN_FORCE, office), mint(office, remote))
    assert len(server.exchanges) == 1


def test_it_is_checked_again_when_the_connection_asks_for_the_body(server, remote, monkeypatch):
    office = PermitOffice(IN_FORCE)
    permit = mint(office, remote)
    gate = EgressGate(remote, IN_FORCE, office)
    checks = []
    check = office.check

    def check_and_expire(*arguments):
        checks.append(True)
        if len(checks) > 1:
            monkeypatch.setattr(hybridllm.permits.time, "monotonic", lambda: permit.expires_s + 1)
        return check(*arguments)

    monkeypatch.setattr(office, "check", check_and_expire)
    with pytest.raises(PrivacyViolation, match="expired"):
        send(gate, permit)
    assert len(checks) == 2
    assert server.received == b""  # the head neither, with the key in it


def test_no_permit_is_minted_against_the_decision(remote):
    office = PermitOffice(IN_FORCE)
    with pytest.raises(PrivacyViolation, match="not among the candidates"):
        mint(office, remote, decided=decision("private"))
    with pytest.raises(PrivacyViolation, match="not among the candidates"):
        mint(office, remote, place="local")
    with pytest.raises(PrivacyViolation, match="made under another policy"):
        mint(office, remote, policy=STRICTER)
    # A decision that some other code made up does not help either.
    forged = replace(decision("private"), candidates=("remote",))
    with pytest.raises(PrivacyViolation, match="may not see 'private'"):
        mint(office, remote, decided=forged)


def test_the_error_is_a_refusal():
    assert issubclass(PrivacyViolation, PolicyDenied)


def test_many_permits_are_forgotten_when_they_have_expired(remote, monkeypatch):
    office = PermitOffice(IN_FORCE)
    monkeypatch.setattr(hybridllm.permits, "MARGIN_S", -100.0)
    for attempt in range(1100):
        office.redeem(mint(office, remote, attempt=attempt))
    assert len(office._redeemed) < 200


def test_a_representation_has_no_seal(remote):
    permit = mint(PermitOffice(IN_FORCE), remote)
    assert permit.seal.hex() not in repr(permit)
    assert repr(permit.seal) not in repr(permit)


def test_a_certificate_file_that_cannot_be_read(remote, tmp_path):
    office = PermitOffice(IN_FORCE)
    broken = replace(remote, base_url="https://127.0.0.1:9/v1", ca_file=str(tmp_path / "none.pem"))
    permit = mint(office, broken)
    with pytest.raises(BadRequest, match="ca_file cannot be read"):
        send(EgressGate(broken, IN_FORCE, office), permit)


def test_a_closed_gate_and_a_dead_port(remote):
    office = PermitOffice(IN_FORCE)
    gate = EgressGate(remote, IN_FORCE, office)
    asyncio.run(gate.aclose())
    with pytest.raises(Cancelled):
        send(gate, mint(office, remote))
    dead = replace(remote, base_url=f"http://127.0.0.1:{free_port()}/v1")
    with pytest.raises(RemoteUnreachable, match="it refused the connection"):
        send(EgressGate(dead, IN_FORCE, office), mint(office, dead))
    assert asyncio.run(EgressGate(dead, IN_FORCE, office).probe(1.0)) is False


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"base_url": "host/v1"}, "not a URL with http or https"),
        ({"base_url": "ftp://host"}, "not a URL with http or https"),
        ({"base_url": ""}, "is not a URL"),
        ({"base_url": None}, "is not a URL"),
        ({"base_url": "https://ho st/v1"}, "not a URL"),
        ({"base_url": "https://host:99999/v1"}, "is not a URL"),
        ({"base_url": "https://[::1/v1"}, "is not a URL"),
        ({"base_url": "https://user:canary@host/v1"}, "user name or a password"),
        ({"base_url": "user:canary@host/v1"}, "not a URL"),
        ({"base_url": "https://host/v1?key=canary"}, "query"),
        ({"base_url": "https://host/v1?"}, "query"),
        ({"base_url": "https://host/v1#"}, "query or a fragment"),
        ({"base_url": "https://host/v1/chat/completions"}, "ends with /chat/completions"),
        ({"base_url": "https://host/v1/../other"}, "step of its path"),
        ({"base_url": "https://host:0/v1"}, "host and port"),
        ({"base_url": "https://faß.example/v1"}, "host in ASCII"),  # IDNA 2003 and 2008 name two different hosts
        ({"base_url": "https://ｈost/v1"}, "host in ASCII"),
        ({"base_url": "https://good.example\\evil.example/v1"}, "host and port"),
        ({"base_url": "https://good.example%2eevil.example/v1"}, "host and port"),
        ({"base_url": "https://host../v1"}, "host and port"),
        ({"base_url": "https://[v1.x]/v1"}, "host and port"),
        ({"base_url": "https://[fe80::1%25lo]/v1"}, "host and port"),
        ({"base_url": f"https://{'a' * 64}.example/v1"}, "host and port"),
        ({"model": ""}, "remote.model"),
        ({"zone": "device"}, "never the device"),
        ({"api_key": "canary\n"}, "remote.api_key"),
        ({"api_key": "canary schlüssel"}, "remote.api_key"),
        ({"gap_timeout_s": 0}, "gap_timeout_s"),
        ({"gap_timeout_s": float("inf")}, "gap_timeout_s"),
        ({"max_retries": -1}, "max_retries"),
        ({"context_tokens": 0}, "context_tokens"),
        ({"capabilities": "extended_sampling"}, "capabilities"),
        ({"proxy": "host:1"}, "remote.proxy"),
        ({"proxy": "http://user:canary@ho;st:1"}, "host and port"),
    ],
)
def test_remotes_that_cannot_be_used(arguments, part):
    with pytest.raises(BadRequest, match=part) as raised:
        Remote(**{"base_url": "https://host/v1", "model": "m", **arguments})
    assert "canary" not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.field == f"remote.{next(iter(arguments))}"


def test_a_remote_knows_its_origin():
    remote = Remote(base_url="https://Host.Example/v1/", model="m", api_key="sk-canary")
    assert remote.origin == "https://host.example:443"
    assert remote.chat_url == "https://Host.Example/v1/chat/completions"
    assert Remote(base_url="http://[::1]:8000", model="m").origin == "http://[::1]:8000"
    assert "sk-canary" not in repr(remote)
    assert remote.first_hop == ("host.example", 443)
    assert replace(remote, proxy="https://proxy.example").first_hop == ("proxy.example", 443)
    assert replace(remote, proxy="http://proxy.example:3128").first_hop == ("proxy.example", 3128)


def test_the_url_that_is_used_has_the_permits_origin_or_nothing_is_sent(server, remote, monkeypatch):
    office = PermitOffice(IN_FORCE)
    permit = mint(office, remote)
    elsewhere = f"http://127.0.0.1:{free_port()}/v1/chat/completions"
    monkeypatch.setattr(Remote, "chat_url", elsewhere)
    with pytest.raises(PrivacyViolation, match="another origin"):
        send(EgressGate(remote, IN_FORCE, office), permit)


@pytest.mark.parametrize(
    "base_url",
    [
        "http://h",
        "https://h:8443/a/b/",
        "HTTP://H.Example./v1",
        "http://[::FFFF:10.2.3.4]:81/v1",
        "http://10.0.0.7",
        "https://h:443",
        "http://h:80/v1",
        "https://h/ä b".replace(" ", "%20"),
        "https://h/a%2Fb/%/{x}|^\\'\"<y>`",
    ],
)
def test_the_gate_and_httpx_read_a_url_as_the_permit_does(base_url):
    remote = Remote(base_url=base_url, model="m")
    transport = CheckedTransport(remote, Destination.of(remote, lambda: "any"), 1 << 20)
    url = httpx.URL(remote.chat_url)
    assert transport.origin == remote.origin
    sent = transport._url
    assert (sent.scheme, sent.host, sent.target) == (url.raw_scheme, url.raw_host.lower(), url.raw_path)
    assert sent.port == remote.port
    assert dict(transport._headers)[b"host"] == url.netloc.lower()


def test_tls_session_keys_are_not_written_for_a_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    context = tls_context(None)
    assert context.keylog_filename is None
    assert not (tmp_path / "keys").exists()
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.get_ca_certs()


def test_a_permit_outlives_what_its_try_may_wait(server, remote):
    office = PermitOffice(IN_FORCE)
    patient = replace(remote, first_token_timeout_s=600)
    left_s = mint(office, patient).expires_s - time.monotonic()
    assert 600 < left_s < 610
