"""Who may ask: no page of somebody else's in a browser, no foreign name, nobody without the key."""

import os

import pytest

from hybridllm.errors import ConfigError
from hybridllm.server import ApiKeys, ServerSettings, create_app
from hybridllm.server.settings import is_loopback
from tests.server.live_server import KEY, QUESTION, LiveServer, read_all

OTHER = "another-key-of-the-tests-42"


@pytest.fixture(scope="module")
def server():
    with LiveServer(lambda _: "At nine.", allowed_hosts=frozenset({"llm.example", "192.0.2.7"})) as running:
        yield running


@pytest.fixture(scope="module")
def locked():
    with LiveServer(lambda _: "At nine.", keys=[KEY, OTHER]) as running:
        yield running


def test_the_names_that_it_may_be_called(server):
    for host in ("localhost", "LocalHost:1", "127.0.0.1", f"127.0.0.1:{server.port}", "[::1]:80", "127.0.0.2", "llm.example.",
                 "LLM.example:443", "192.0.2.7"):  # fmt: skip
        assert server.request("GET", "/readyz", headers={"Host": host}).status == 200, host


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.8", "[fe80::1]", "a b", "", "[::1",
             "localhost:http", "user@localhost"]
)  # fmt: skip
@pytest.mark.parametrize("path", ["/livez", "/readyz", "/v1/models", "/v1/chat/completions", "/nothing"])
def test_every_other_name_is_refused_whatever_is_asked(server, host, path):
    reply = server.request("GET", path, headers={"Host": host})
    assert (reply.status, reply.error["code"]) == (421, "host_not_allowed")


def test_a_request_without_a_host_is_refused(server):
    with server.connect() as connection:
        connection.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:1", "http://127.0.0.1", "file://"]
)
def test_a_page_of_another_origin_gets_nothing(server, origin):
    reply = server.ask({"Origin": origin})
    assert (reply.status, reply.error["code"]) == (403, "origin_not_allowed")
    assert not [name for name in reply.headers if name.startswith("access-control")]


def test_a_page_of_its_own_origin_would_be_answered(server):
    assert server.ask({"Origin": server.url}).status == 200


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
def test_what_the_browser_says_of_the_pages_site_counts_too(server, site, status):
    assert server.request("GET", "/v1/models", headers={"Sec-Fetch-Site": site}).status == status


def test_a_preflight_is_refused_and_no_header_allows_anything(server):
    asks = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for headers in (asks, {"Access-Control-Request-Method": "POST"}):
        reply = server.request("OPTIONS", "/v1/chat/completions", headers=headers)
        assert reply.status in (403, 405)
        assert not [name for name in reply.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain; application/json",
    ],
)
def test_what_a_form_could_send_is_refused(server, kind):
    headers = {} if kind is None else {"Content-Type": kind}
    reply = server.request("POST", "/v1/chat/completions", b'{"messages": []}', headers)
    assert (reply.status, reply.error["code"]) == (415, "unsupported_media_type")


def test_json_may_say_its_encoding_but_may_not_be_compressed(server):
    assert server.ask({"Content-Type": "application/JSON; charset=utf-8"}).status == 200
    assert server.ask({"Content-Encoding": "identity"}).status == 200
    assert server.ask({"Content-Encoding": "gzip"}).status == 415


def test_unknown_paths_and_methods(server):
    missing = server.request("GET", "/v1/embeddings")
    assert (missing.status, missing.error["code"]) == (404, "not_found")
    wrong = server.request("GET", "/v1/chat/completions")
    assert (wrong.status, wrong.error["code"], wrong.headers["allow"]) == (405, "method_not_allowed", "POST")
    assert server.request("DELETE", "/v1/models/hybridllm").status == 405
    slash = server.request("GET", "/livez/", headers={"Host": "llm.example"})
    assert (slash.status, "location" in slash.headers) == (404, False)
    assert server.request("HEAD", "/livez").status == 200


def test_a_key_is_asked_for_on_loopback_too(locked):
    for headers in ({}, {"Authorization": KEY}, {"Authorization": "Bearer "}, {"Authorization": f"Bearer {KEY}x"},
                    {"Authorization": f"Basic {KEY}"}, {"Authorization": "Bearer \xe9" + KEY}):  # fmt: skip
        for path in ("/v1/models", "/metrics", "/nothing", "/v1/chat/completions"):
            reply = locked.request("GET", path, headers=headers)
            assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")
            assert reply.headers["www-authenticate"] == "Bearer"
    for key in (KEY, OTHER):
        assert locked.ask({"Authorization": f"bearer  {key}"}).status == 200


def test_probes_need_no_key_and_learn_no_reason(locked):
    assert locked.request("GET", "/livez").json == {"alive": True}
    assert locked.request("GET", "/readyz").json == {"ready": True}
    locked.call(setattr, locked.work, "draining", True)
    try:
        assert locked.request("GET", "/readyz").json == {"ready": False}
        told = locked.request("GET", "/readyz", headers={"Authorization": f"Bearer {KEY}"})
        assert (told.status, told.json) == (503, {"ready": False, "reason": "The server is ending."})
    finally:
        locked.call(setattr, locked.work, "draining", False)


def test_two_keys_in_one_request_are_none(locked):
    with locked.connect() as connection:
        line = f"Authorization: Bearer {KEY}\r\n".encode()
        connection.sendall(
            b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + line + line + b"\r\n"
        )
        assert read_all(connection).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "llm.example", "localhost.example", ""])
def test_an_address_that_others_reach_needs_a_key(host):
    with pytest.raises(ConfigError, match="no API key is set"):
        create_app(None, ServerSettings(host=host))
    ServerSettings(host=host).check(ApiKeys([KEY]))


def test_metrics_are_on_by_themselves_on_loopback_only():
    assert [ServerSettings(host=host).serves_metrics for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0")] == [
        True, True, True, False,
    ]  # fmt: skip
    assert ServerSettings(host="0.0.0.0", metrics=True).serves_metrics
    assert not ServerSettings(metrics=False).serves_metrics
    assert is_loopback("127.8.8.8")
    assert not is_loopback("loopback")


def test_where_nothing_is_bound_to_a_name_the_connections_address_is_one():
    with LiveServer(lambda _: "x", host="0.0.0.0", keys=[KEY]) as server:
        assert server.request("GET", "/livez", headers={"Host": f"127.0.0.1:{server.port}"}).status == 200
        assert server.request("GET", "/livez", headers={"Host": "0.0.0.0"}).status == 421
        assert server.request("GET", "/livez", headers={"Host": "evil.example"}).status == 421


def test_keys_are_read_from_files_and_variables(tmp_path, monkeypatch):
    path = tmp_path / "keys"
    path.write_text(f"# of the kiosk\n{KEY}\n\n  {OTHER}  \n", encoding="utf-8")
    monkeypatch.setenv("THE_KEY", " a-third-key-of-the-tests \n")
    keys = ApiKeys.read(["THE_KEY"], [path])
    assert len(keys) == 3
    assert all(keys.fits(key) for key in (KEY.encode(), OTHER.encode(), b"a-third-key-of-the-tests"))
    assert not keys.fits(b"# of the kiosk")
    assert not keys.fits(b"")
    assert KEY not in repr(keys)
    path.write_text(OTHER, encoding="utf-8")
    keys.read_again()
    assert not keys.fits(KEY.encode())
    path.write_text("short", encoding="utf-8")
    with pytest.raises(ConfigError, match="16 or more"):
        keys.read_again()
    assert keys.fits(OTHER.encode())


def test_files_that_others_can_read_are_named(tmp_path):
    if os.name != "posix":
        pytest.skip("says nothing elsewhere")
    path = tmp_path / "keys"
    path.write_text(KEY, encoding="utf-8")
    path.chmod(0o644)
    assert ApiKeys.read(files=[path]).readable_by_others() == (path,)
    path.chmod(0o600)
    assert ApiKeys.read(files=[path]).readable_by_others() == ()


@pytest.mark.parametrize("text", ["", "# nothing\n", "too-short", "with a space in the key", "schlüssel-schlüssel"])
def test_a_file_without_a_usable_key_says_what_to_do(tmp_path, text):
    path = tmp_path / "keys"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="token_urlsafe") as caught:
        ApiKeys.read(files=[path])
    assert not text.strip() or text.strip("# \n") not in str(caught.value)


def test_a_key_that_is_nowhere(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        ApiKeys.read(["NO_SUCH_KEY"])
    with pytest.raises(ConfigError, match="cannot be read"):
        ApiKeys.read(files=[tmp_path / "none"])


def test_the_questions_of_a_page_that_was_led_here_reach_nobody(server):
    asked = len(server.backend.requests)
    assert server.ask({"Host": "evil.example", "Origin": "http://evil.example"}).status == 421
    assert server.ask({"Host": "evil.example"}, messages=QUESTION).status == 421
    assert len(server.backend.requests) == asked
