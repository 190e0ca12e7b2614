"""What is measured: memory, and the facts that come of all measurements."""

from pathlib import Path

import pytest

import hybridllm.signals
from hybridllm import HybridClient, load_policy
from hybridllm.assessment import label_request
from hybridllm.backends.sse import EventReader
from hybridllm.connectivity import Connectivity
from hybridllm.errors import BadRequest, RemoteError
from hybridllm.label_memory import LabelMemory
from hybridllm.memory import accelerator_headroom_mib, cgroup_headroom_mib, system_headroom_mib
from hybridllm.remote import Remote
from hybridllm.signals import Signals, estimated_tokens
from hybridllm.testing import ScriptedBackend
from hybridllm.types import ChatRequest
from policies import WEEKDAYS


def group(folder, limit, usage, inactive, version=2):
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\n")


MIB = 1 << 20


def test_cgroup_2_takes_the_tightest_limit_of_all_groups_above(tmp_path):
    membership = tmp_path / "cgroup"
    membership.write_text("0::/user/app\n")
    assert cgroup_headroom_mib(tmp_path / "fs", membership) is None
    group(tmp_path / "fs/user/app", "max", 10 * MIB, 0)
    assert cgroup_headroom_mib(tmp_path / "fs", membership) is None
    group(tmp_path / "fs/user", 100 * MIB, 60 * MIB, 10 * MIB)
    assert cgroup_headroom_mib(tmp_path / "fs", membership) == 50
    group(tmp_path / "fs/user/app", 30 * MIB, 20 * MIB, 5 * MIB)
    assert cgroup_headroom_mib(tmp_path / "fs", membership) == 15
    group(tmp_path / "fs/user/app", 30 * MIB, 40 * MIB, 0)
    assert cgroup_headroom_mib(tmp_path / "fs", membership) == 0


def test_cgroup_1_and_a_container_whose_path_is_not_visible(tmp_path):
    membership = tmp_path / "cgroup"
    membership.write_text("5:cpu:/x\n4:memory:/docker/abc\n")
    group(tmp_path / "fs/memory", 80 * MIB, 50 * MIB, 10 * MIB, version=1)
    assert cgroup_headroom_mib(tmp_path / "fs", membership) == 40
    group(tmp_path / "fs/memory", 2**63 - 4096, 50 * MIB, 0, version=1)
    assert cgroup_headroom_mib(tmp_path / "fs", membership) is None
    assert cgroup_headroom_mib(tmp_path / "fs", tmp_path / "none") is None


def test_this_machine_has_memory(monkeypatch):
    assert system_headroom_mib() > 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert accelerator_headroom_mib() is None


@pytest.mark.gpu
@pytest.mark.skipif(not Path("/dev/nvidiactl").exists(), reason="no NVIDIA driver on this machine")
def test_a_gpu_has_memory():
    headroom_mib = accelerator_headroom_mib()
    assert headroom_mib is not None
    assert 100 < headroom_mib < 1_000_000


def ask(text="hello", **fields):
    return ChatRequest.parse([{"role": "user", "content": text}], **fields)


def labelled(tags=frozenset(), **fields):
    return label_request(
        load_policy("offline-first"),
        ask(**fields),
        privacy="public",
        tags=tags,
        floors={},
        memory=LabelMemory(),
    )


def test_facts_come_from_what_was_read():
    remote = Remote(base_url="https://h/v1", model="m", zone="site", context_tokens=8000)
    signals = Signals(ScriptedBackend([], context_tokens=512), remote, Connectivity(), offline=False)
    facts = signals.facts(labelled(frozenset({"faq"}), max_tokens=10), deadline_s=2.0)
    assert facts.memory_headroom_mib is None
    assert facts.connectivity is None
    assert facts.local_ready is True
    assert facts.local_meets_deadline is None
    assert (facts.max_tokens, facts.deadline_s, facts.tags) == (10, 2.0, {"faq"})
    assert len(facts.time_of_day) == 5
    assert [(place.name, place.zone, place.context_tokens) for place in facts.places] == [
        ("local", "device", 512),
        ("remote", "site", 8000),
    ]
    signals.refresh()
    signals.latency["local"].note_first_token(1500)
    signals.latency["local"].note_speed(100, 10)
    signals.latency["remote"].note_first_token(100)
    signals.latency["remote"].note_speed(100, 1)
    facts = signals.facts(labelled(max_tokens=11), deadline_s=2.0)
    assert facts.memory_headroom_mib > 1
    assert (facts.local_ttft_ms, facts.local_tokens_per_s) == (1500, 10)
    assert (facts.local_meets_deadline, facts.remote_meets_deadline) == (False, True)


def test_tools_count_as_a_part_of_the_prompt():
    tool = {"type": "function", "function": {"name": "look", "description": "Looks up. " * 100}}
    plain, with_tools = labelled().request, labelled(tools=[tool]).request
    assert estimated_tokens(with_tools) >= estimated_tokens(plain) + 250


def test_the_devices_first_token_is_this_requests_own():
    waiting_s = [None]

    class Queued(ScriptedBackend):
        @property
        def queue_s(self):
            return waiting_s[0]

    signals = Signals(Queued([]), None, Connectivity(), offline=False)
    assert signals.facts(labelled()).local_ttft_ms is None
    signals.latency["local"].note_first_token(700)
    waiting_s[0] = 2.0
    assert signals.facts(labelled()).local_ttft_ms == 2700
    for tokens in (100, 400, 1000):
        signals.device_latency.note_first_token(50 + 2.0 * tokens, tokens)
    facts = signals.facts(labelled(), local_prompt_tokens=300)
    assert facts.local_ttft_ms == pytest.approx(2000 + 50 + 600)
    assert facts.prompt_tokens == 300
    waiting_s[0] = None
    signals.latency["local"].note_speed(50, 1.0)
    facts = signals.facts(labelled(max_tokens=51), deadline_s=1.7, local_prompt_tokens=300)
    assert (facts.local_ttft_ms, facts.local_meets_deadline) == (pytest.approx(650), True)
    assert signals.facts(labelled(max_tokens=51), deadline_s=1.6, local_prompt_tokens=300).local_meets_deadline is False


# ---- what a program measures ----


class Program:
    """A program's function for facts, whose next answers a test sets."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def __call__(self):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


def signals_of(program):
    return Signals(ScriptedBackend([]), None, Connectivity(), offline=False, measured_by_program=program)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"label": "public"}, "'label' is not a fact that a program can measure"),
        ({"no_fact": 1}, "'no_fact' is not a fact"),
        ({5: 1}, "A int is not a fact"),
        ({"budget_left": "canary"}, "'budget_left' is a str that is no number"),
        ({"budget_left": True}, "'budget_left' is a bool that is no number"),
        ({"local_ready": 1}, "'local_ready' is a int that is no boolean"),
        ({"connectivity": "canary"}, "'connectivity' is a str that is no connectivity"),
        ({"weekday": "Monday"}, "'weekday' is a str that is no weekday"),
        ({"time_of_day": "7:30"}, "'time_of_day' is a str that is no time"),
        (None, "returned NoneType, expected a mapping"),
        (["canary"], "returned list, expected a mapping"),
    ],
)
def test_what_is_no_fact_is_a_mistake_when_the_client_is_made_and_unknown_later(given, problem, caplog):
    with pytest.raises(BadRequest, match=problem) as raised:
        signals_of(Program(given))
    assert raised.value.field == "facts"
    signals = signals_of(Program({"budget_left": 3}, given))
    known = signals.facts(labelled()) if isinstance(given, dict) else None
    for _ in range(3):
        facts = signals.facts(labelled())
        assert facts.budget_left is None
        assert facts.local_ready is True
        assert known is None or facts.weekday == known.weekday
    assert caplog.text.count(problem) == 1
    assert "canary" not in caplog.text + str(raised.value)


def test_of_what_a_program_gives_only_what_is_wrong_is_left_out():
    signals = signals_of(Program({}, {"budget_left": 2.5, "weekday": "someday", "connectivity": None, "nonsense": 1}))
    facts = signals.facts(labelled())
    assert (facts.budget_left, facts.connectivity) == (2.5, None)
    assert facts.weekday in WEEKDAYS


def test_a_program_that_fails_costs_no_answer_and_is_logged_once_for_each_failure(caplog):
    program = Program(
        ValueError("canary"), ValueError("canary"), KeyError("canary"), {"budget_left": 1}, OSError("canary")
    )
    signals = signals_of(program)
    known = [signals.facts(labelled()).budget_left for _ in range(6)]
    assert known == [None, None, 1, None, None, None]
    for name in ("ValueError", "KeyError", "OSError"):
        assert caplog.text.count(f"failed with {name} at test_signals.py:") == 1
    assert "canary" not in caplog.text


def test_a_program_that_fails_in_ever_new_ways_does_not_fill_the_log(caplog):
    signals = signals_of(Program({}, {f"wrong_{index}": 1 for index in range(500)}))
    assert signals.facts(labelled()).budget_left is None
    assert len(caplog.records) == 32


def test_what_ends_a_program_is_not_held_up():
    with pytest.raises(KeyboardInterrupt):
        signals_of(Program({}, KeyboardInterrupt())).facts(labelled())


def test_a_client_answers_whatever_its_facts_do():
    program = Program({}, RuntimeError("canary"))
    with HybridClient(local=ScriptedBackend(["Here."]), policy="kiosk", facts=program) as client:
        reply = client.chat.completions.create(messages=[{"role": "user", "content": "x"}])
        assert reply.choices[0].message.content == "Here."


def test_a_counter_that_cannot_be_read_is_unknown_and_the_device_answers(monkeypatch):
    def hidden():
        raise PermissionError("/proc/meminfo")

    monkeypatch.setattr(hybridllm.signals, "system_headroom_mib", hidden)
    monkeypatch.setattr(hybridllm.signals, "accelerator_headroom_mib", hidden)
    with HybridClient(local=ScriptedBackend(["Here."]), policy="kiosk") as client:
        asked = [{"role": "user", "content": "x"}]
        assert client.explain(messages=asked).facts.memory_headroom_mib is None
        assert client.chat.completions.create(messages=asked).choices[0].message.content == "Here."


def test_an_offline_client_has_an_unavailable_remote():
    remote = Remote(base_url="https://h/v1", model="m")
    signals = Signals(ScriptedBackend([]), remote, Connectivity(offline=True), offline=True)
    facts = signals.facts(labelled())
    assert facts.connectivity == "offline"
    assert facts.places[1].unavailable == "the client is offline"


def test_estimated_tokens():
    assert estimated_tokens(ask("a" * 400)) == 104
    assert estimated_tokens(ask("你好")) == 6


def events_of(data, step):
    reader = EventReader()
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    return [(event.name, event.data) for piece in pieces for event in reader.feed(piece)]


@pytest.mark.parametrize("step", [1, 2, 3, 100])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_server_sent_events(step, end):
    text = (
        "\ufeff: comment\n\ndata: a\ndata:b\n\nevent: error\nid: 7\nretry\ndata:  ü🙂\n\ndata\n\nevent: x\n\ndata: cut"
    )
    found = events_of(text.replace("\n", end).encode(), step)
    # A lone CR at the end of what has come waits for a possible LF, so that the last blank line may still be open.
    assert found[:3] == [("message", "a\nb"), ("error", " ü🙂"), ("message", "")]
    assert len(found) == 3


def test_events_that_are_not_utf_8():
    with pytest.raises(RemoteError, match="not UTF-8"):
        events_of(b"data: \xff\n\n", 3)


def test_what_stands_before_broken_bytes_is_given_out():
    coming = EventReader().feed(b"data: a\n\ndata: \xc3\xbc\n\ndata: b\xff\n\n")
    assert [next(coming).data for _ in range(2)] == ["a", "ü"]
    with pytest.raises(RemoteError, match="not UTF-8"):
        next(coming)
