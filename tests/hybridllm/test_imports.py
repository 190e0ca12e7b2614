"""Who may import whom, read from the syntax trees; and what an import of the package may load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED_OF_THE_ENGINE = {
    "client", "content", "protocol", "errors", "options", "events", "memory", "grammar_schema", "grammar_references",
}  # fmt: skip
REACHES_THE_NETWORK = {
    "httpx", "httpx2", "httpcore", "httpcore2", "h11", "h2", "socket", "_socket", "ssl", "_ssl", "socketserver",
    "http.client", "http.server", "urllib.request", "urllib3", "requests", "aiohttp", "anyio", "trio", "socksio",
    "websockets", "ftplib", "smtplib", "imaplib", "poplib", "nntplib", "telnetlib", "xmlrpc", "openai", "webbrowser",
    "asyncio.streams", "multiprocessing.connection",
}  # fmt: skip
NETWORK_CALLS = {
    "open_connection", "create_connection", "start_server", "create_server", "open_unix_connection", "start_unix_server",
    "create_unix_connection", "create_unix_server", "create_datagram_endpoint", "connect_accepted_socket", "sock_connect",
    "sock_sendall", "sock_sendto", "sock_sendfile", "connect_tcp", "connect_unix", "connect_unix_socket", "getaddrinfo",
    "gethostbyname", "getnameinfo",
}  # fmt: skip
# Of the package that may reach a network, what each module needs for it, and nothing else.
EGRESS = {
    "__init__.py": (set(), set()),
    "chunked.py": (set(), set()),
    "credentials.py": (set(), set()),
    "destination.py": ({"socket"}, {"getaddrinfo"}),
    "exchange.py": (set(), set()),
    "failures.py": ({"httpcore", "socket", "ssl"}, set()),
    "gate.py": (set(), {"open_connection"}),
    "http11.py": ({"h11", "httpcore", "ssl"}, {"connect_tcp"}),
    "pool.py": ({"httpcore", "ssl"}, set()),
    "response.py": ({"httpcore"}, set()),
    "tls.py": ({"ssl"}, set()),
    "transport.py": ({"httpcore"}, set()),
    "trust.py": ({"ssl"}, set()),
    "wire.py": ({"httpcore", "ssl"}, {"create_connection"}),
}

# The server listens and reaches nobody: the one socket is systemd's, on this machine.
SERVER = {"notify.py": ({"socket"}, set())}


def modules(package):
    for path in sorted((ROOT / package).rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def imported(tree, path):
    """Every module that a file names in an import, wherever it stands, with relative ones made absolute."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = path.relative_to(ROOT).with_suffix("").parts[: -node.level]
                base = ".".join((*parts, base)).rstrip(".")
            found.add(base)
            found.update(f"{base}.{alias.name}" for alias in node.names)
        elif (
            isinstance(node, ast.Call)
            and getattr(node.func, "id", getattr(node.func, "attr", "")) in ("import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            found.add(node.args[0].value)
    return found


def reaches(names, forbidden):
    return {name for name in names for root in forbidden if name == root or name.startswith(f"{root}.")}


def test_policies_import_nothing_of_ours_and_nothing_that_does_io():
    for path, tree in modules("policies"):
        names = imported(tree, path)
        assert not reaches(names, {"hybridllm", "local_runtime"}), path
        assert not reaches(
            names, REACHES_THE_NETWORK | {"os", "time", "datetime", "random", "subprocess", "asyncio"}
        ), path
        ours = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"policies", "yaml"}
        assert not ours, path


def test_the_engine_imports_neither_of_the_others():
    for path, tree in modules("local_runtime"):
        assert not reaches(imported(tree, path), {"hybridllm", "policies"}), path


def test_the_sdk_sees_only_the_client_half_of_the_engine():
    for path, tree in modules("hybridllm"):
        if "cli" in path.relative_to(ROOT).parts:
            continue  # a command may ask the engine for more; its own tests say what
        for name in imported(tree, path):
            parts = name.split(".")
            if parts[0] == "local_runtime":
                assert len(parts) > 1, path
                assert parts[1] in ALLOWED_OF_THE_ENGINE, (path, name)
        assert not reaches(imported(tree, path), {"tvm", "tvm_ffi", "numpy", "torch", "tokenizers"}), path


def network_calls(tree, path):
    """Names of calls that open connections or look names up, however they are come by."""
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    names = {name.rpartition(".")[2] for name in imported(tree, path)}
    return (attributes | texts | names) & NETWORK_CALLS


def test_only_the_egress_package_can_reach_a_network():
    seen, listening = {}, {}
    for package in ("hybridllm", "policies"):
        for path, tree in modules(package):
            network = reaches(imported(tree, path), REACHES_THE_NETWORK)
            calls = network_calls(tree, path)
            if path.parent == ROOT / "hybridllm" / "egress":
                seen[path.name] = (network, calls)
            elif path.parent == ROOT / "hybridllm" / "server" and network | calls:
                listening[path.name] = (network, calls)
            else:
                assert not network, path
                assert not calls, path
    assert seen == EGRESS
    assert listening == SERVER
    notify = (ROOT / "hybridllm" / "server" / "notify.py").read_text(encoding="utf-8")
    assert "AF_UNIX" in notify
    assert "AF_INET" not in notify


@pytest.mark.parametrize(
    "source",
    [
        "import httpx",
        "def f():\n    from http import client",
        "import_module('socket')",
        "from asyncio import open_connection",
        "asyncio.open_connection('h', 1)",
        "getattr(asyncio, 'open_connection')",
        "loop.getaddrinfo('h', 1)",
        "from asyncio.streams import StreamReader",
    ],
)
def test_the_tree_shows_a_way_to_the_network(source):
    path = ROOT / "hybridllm" / "x.py"
    tree = ast.parse(source)
    assert reaches(imported(tree, path), REACHES_THE_NETWORK) or network_calls(tree, path)


def test_only_the_client_and_the_doctor_make_a_gate():
    users = {
        path.relative_to(ROOT).as_posix()
        for path, tree in modules("hybridllm")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "EgressGate"
    }
    # The doctor makes one for its probe, which sends nothing; without the client's own office it could not.
    assert users == {"hybridllm/async_client.py", "hybridllm/cli/doctor_checks.py"}


def in_a_fresh_interpreter(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


HEAVY = ("tvm", "tvm_ffi", "numpy", "torch", "tokenizers", "httpcore", "pydantic", "yaml", "psutil", "tenacity", "rich")


def test_importing_the_package_loads_next_to_nothing():
    loaded = in_a_fresh_interpreter("import sys, hybridllm; print(*sys.modules)")
    assert not set(HEAVY) & set(loaded)
    assert "hybridllm.client" not in loaded


@pytest.mark.parametrize("use", ["", "client.chat.completions.create(messages=[{'role': 'user', 'content': 'x'}])"])
def test_a_client_on_the_device_loads_neither_the_engine_nor_the_network(use):
    loaded = in_a_fresh_interpreter(
        "import sys\nfrom hybridllm import HybridClient\nfrom hybridllm.testing import ScriptedBackend\n"
        f"with HybridClient(local=ScriptedBackend(['x'])) as client:\n    {use or 'pass'}\nprint(*sys.modules)"
    )
    assert not {"tvm", "tvm_ffi", "numpy", "torch", "tokenizers", "httpcore", "tenacity", "rich"} & set(loaded)
    assert "hybridllm.egress" not in loaded
