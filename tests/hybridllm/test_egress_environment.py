"""Variables of the environment: set to a recorder, all of them, they change nothing and the recorder hears nothing."""

import json
import os
import ssl
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import trustme

from tests.hybridllm.loopback import LoopbackServer, answer

ROOT = Path(__file__).parents[2]

PROGRAM = """
import json, sys
from hybridllm import HybridClient, Remote
from hybridllm.testing import ScriptedBackend

served = {}
for name, base_url, ca_file, key in json.loads(sys.argv[1]):
    remote = Remote(base_url=base_url, model="m", api_key=key, ca_file=ca_file, max_retries=0)
    with HybridClient(local=ScriptedBackend(lambda _: "Here."), remote=remote, policy="cloud-assist") as client:
        route = client.chat.completions.create(messages=[{"role": "user", "content": "x"}], privacy="public").route
        served[name] = [route.served_by, [attempt.error for attempt in route.attempts if attempt.outcome == "failed"]]
print(json.dumps(served))
"""


@pytest.fixture
def authorities(tmp_path):
    """The one that the operator trusts, and one that only the environment speaks of."""
    made = []
    for name in ("ours", "theirs"):
        authority = trustme.CA()
        path = tmp_path / f"{name}.pem"
        authority.cert_pem.write_to_path(str(path))
        made.append((authority, str(path)))
    return made


def context_of(authority, *, old=False):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    if old:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def hostile_environment(folder, recorder, authority_file):
    """Everything that some library is known to listen to, pointing at the recorder or at the wrong authority."""
    at = f"http://127.0.0.1:{recorder.port}"
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY"), at)
    proxies |= {name.lower(): at for name in proxies}
    for name, text in {
        "netrc": "machine localhost login canary password canary\nmachine 127.0.0.1 login canary password canary\n",
        "aliases": "localhost other.example\nllm.example localhost\n",
        "openssl.cnf": "openssl_conf = top\n[top]\nssl_conf = ssl\n[ssl]\nsystem_default = system\n[system]\n"
        "MinProtocol = TLSv1\nCipherString = ALL:@SECLEVEL=0\n",
    }.items():
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o600)
    (folder / ".netrc").write_bytes((folder / "netrc").read_bytes())
    (folder / ".netrc").chmod(0o600)
    return proxies | {
        "NO_PROXY": "other.example",
        "no_proxy": "",
        "SSL_CERT_FILE": authority_file,
        "SSL_CERT_DIR": str(folder),
        "REQUESTS_CA_BUNDLE": authority_file,
        "CURL_CA_BUNDLE": authority_file,
        "NODE_EXTRA_CA_CERTS": authority_file,
        "SSLKEYLOGFILE": str(folder / "keys"),
        "NETRC": str(folder / "netrc"),
        "HOME": str(folder),
        "USERPROFILE": str(folder),
        "OPENSSL_CONF": str(folder / "openssl.cnf"),
        "OPENAI_BASE_URL": f"{at}/v1",
        "OPENAI_API_BASE": f"{at}/v1",
        "OPENAI_API_KEY": "sk-canary",
        "OPENAI_ORG_ID": "canary",
        "HOSTALIASES": str(folder / "aliases"),
        "LOCALDOMAIN": "other.example",
        "RES_OPTIONS": "ndots:15 timeout:1 attempts:1",
    }


def test_no_variable_changes_where_anything_goes_or_whom_to_trust(tmp_path, authorities):
    (ours, our_file), (theirs, their_file) = authorities
    with (
        LoopbackServer(answer()) as recorder,
        LoopbackServer(answer(), tls=context_of(ours)) as right,
        LoopbackServer(answer(), tls=context_of(theirs)) as wrong,
        LoopbackServer(answer(), tls=context_of(ours, old=True)) as old,
        LoopbackServer(answer()) as plain,
    ):
        asked = [
            ("right", right.base_url_of("localhost"), our_file, "sk-ours"),
            ("wrong", wrong.base_url_of("localhost"), our_file, "sk-ours"),
            ("public authorities", wrong.base_url_of("localhost"), None, "sk-ours"),
            ("old", old.base_url_of("localhost"), our_file, "sk-ours"),
            ("plain", plain.base_url_of("localhost"), None, None),
        ]
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", PROGRAM, json.dumps(asked)],
            env={**os.environ, **hostile_environment(tmp_path, recorder, their_file)},
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        served = json.loads(done.stdout)
        assert recorder.connections == 0
    assert served["right"] == ["remote", []]
    assert served["plain"] == ["remote", []]
    for name, part in (("wrong", "certificate"), ("public authorities", "certificate"), ("old", "TLS failed")):
        place, (error,) = served[name]
        assert place == "local"
        assert part in error
    assert wrong.received == old.received == b""
    assert right.exchanges[0].headers["authorization"] == "Bearer sk-ours"
    assert "authorization" not in plain.exchanges[0].headers
    assert b"canary" not in bytes(right.received) + bytes(plain.received)
    assert not (tmp_path / "keys").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="trusts the system's store, not these variables")
def test_the_variables_would_work_on_a_client_that_listens_to_them(tmp_path, authorities):
    """Shows that the test above would notice: httpx as it comes goes to the proxy that the environment names."""
    with LoopbackServer(answer()) as recorder, LoopbackServer(answer()) as plain:
        environment = hostile_environment(tmp_path, recorder, authorities[1][1])
        program = "import sys, httpx; httpx.post(sys.argv[1], content=b'{}')"
        subprocess.run(
            [sys.executable, "-c", program, plain.base_url],
            env={**os.environ, **environment},
            cwd=ROOT,
            timeout=60,
            check=False,
            capture_output=True,
        )
        assert recorder.connections == 1
        assert plain.connections == 0
