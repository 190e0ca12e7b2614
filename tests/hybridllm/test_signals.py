"""What is measured: memory, connectivity, latency, and the facts that come of it."""

import asyncio
from pathlib import Path

import pytest

import hybridllm.signals
from hybridllm import HybridClient, load_policy
from hybridllm.assessment import label_request
from hybridllm.backends.retry_after import retry_after_s
from hybridllm.backends.sse import server_events
from hybridllm.connectivity import Connectivity
from hybridllm.errors import RemoteError
from hybridllm.label_memory import LabelMemory
from hybridllm.latency import Latency, MovingEstimate
from hybridllm.memory import accelerator_headroom_mib, cgroup_headroom_mib, system_headroom_mib
from hybridllm.remote import Remote
from hybridllm.signals import Signals, estimated_tokens
from hybridllm.testing import ScriptedBackend
from hybridllm.types import ChatRequest


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


def test_connectivity_learns_from_traffic(clock):
    connectivity = Connectivity(clock=clock)
    assert connectivity.state is None
    assert connectivity.needs_probe
    connectivity.note_success()
    assert (connectivity.state, connectivity.needs_probe) == ("online", False)
    clock.now_s += 61
    assert (connectivity.state, connectivity.needs_probe) == ("online", True)
    connectivity.note_unreachable()
    assert (connectivity.state, connectivity.needs_probe) == ("offline", False)
    clock.now_s += 4
    assert connectivity.needs_probe
    connectivity.note_probe(True)
    assert connectivity.state == "online"
    connectivity.note_probe(False)
    assert connectivity.state == "offline"


@pytest.mark.parametrize(("note", "state"), [("note_captive", "captive"), ("note_trouble", "degraded")])
def test_an_empty_connection_does_not_end_trouble_but_time_does(clock, note, state):
    connectivity = Connectivity(clock=clock)
    getattr(connectivity, note)()
    connectivity.note_probe(True)
    assert connectivity.state == state
    clock.now_s += 31
    assert connectivity.state is None
    connectivity.note_probe(True)
    assert connectivity.state == "online"


def test_an_operator_who_says_offline_is_believed(clock):
    connectivity = Connectivity(offline=True, clock=clock)
    connectivity.note_success()
    assert (connectivity.state, connectivity.needs_probe) == ("offline", False)


def test_estimates_move_and_are_forgotten(clock):
    estimate = MovingEstimate(clock)
    assert estimate.value is None
    estimate.add(100)
    assert estimate.value == 100
    for _ in range(30):
        estimate.add(200)
    assert 199 < estimate.value < 200
    clock.now_s += 1000
    assert estimate.value is None
    estimate.add(50)
    assert estimate.value == 50


def test_latency_of_a_place(clock):
    latency = Latency(clock)
    assert latency.expected_s(10) is None
    latency.note_first_token(500)
    assert latency.expected_s(1) == 0.5
    assert latency.expected_s(10) is None
    latency.note_speed(2, 1.0)
    assert latency.tokens_per_s is None
    latency.note_speed(20, 1.0)
    assert latency.expected_s(101) == 0.5 + 100 / 20
    latency.note_failure(100)
    assert latency.ttft_ms == 500
    latency.note_failure(10_000)
    assert latency.ttft_ms > 500


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


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5", 5.0), (" 0 ", 0.0), ("", None), ("soon", None), ("-1", None), ("1.5", None), ("9" * 20, None),
        ("Thu, 01 Jan 1970 00:00:30 GMT", 20.0), ("Thu, 01 Jan 1970 00:00:05 GMT", 0.0), ("Thu, 99 Jan", None),
    ],
)  # fmt: skip
def test_retry_after(value, seconds):
    assert retry_after_s(value, now_s=10.0) == seconds


def events_of(data, step):
    async def pieces():
        for start in range(0, len(data), step):
            yield data[start : start + step]

    async def go():
        return [(event.name, event.data) async for event in server_events(pieces())]

    return asyncio.run(go())


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
