"""The example with tools as a person runs it: in a process of its own, with a real server on loopback as its remote."""

from hybridllm.testing import ScriptedBackend, ScriptedCall, ScriptedReply
from tests.examples.test_examples import run
from tests.server.live_server import LiveServer

NONSENSE = ScriptedCall("price", '{"what": ')


def looks_it_up(request):
    """Calls both functions, one of them with nonsense first, and says what they returned."""
    told = [message.text for message in request.messages if message.role == "tool"]
    if not told:
        return ScriptedReply(tool_calls=[ScriptedCall("opening_hours", {"day": "Sunday"}), NONSENSE])
    if len(told) == 2:
        return ScriptedReply(tool_calls=[ScriptedCall("price", {"what": "Adults"})])
    return f"{told[0]}; {told[2]}."


def test_the_model_calls_functions_and_answers_from_what_they_return():
    with LiveServer(ScriptedBackend(looks_it_up)) as server:
        done = run(
            "tool_calls.py", "--remote-url", server.base_url, "--remote-model", "hybridllm", "Sunday, and how much?"
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == "[remote] 9 to 18; 12 euros.\n"
        assert done.stderr.splitlines() == [
            '  opening_hours({"day": "Sunday"}) -> 9 to 18',
            '  price({"what": ) -> The call is not usable: JSONDecodeError.',
            '  price({"what": "Adults"}) -> 12 euros',
        ]
        assert [tool.function.name for tool in server.backend.requests[0].tools] == ["opening_hours", "price"]


def test_a_model_that_never_answers_is_given_up():
    endless = ScriptedReply(tool_calls=[ScriptedCall("price", {"what": "tea"})])
    with LiveServer(ScriptedBackend(lambda _: endless)) as server:
        done = run("tool_calls.py", "--remote-url", server.base_url, "--remote-model", "hybridllm", "How much is tea?")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[remote] (no answer)\n"
    assert done.stderr.count("unknown; known are adults, children, audio guide") == 5
