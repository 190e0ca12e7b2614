"""An answer whose engine died goes on in another one exactly as it would have gone on: every token, character and count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from local_runtime.errors import InvalidRequestError, OutOfMemoryError
from local_runtime.events import Event, Finished, TextDelta
from local_runtime.options import GenerateRequest, SamplingOptions
from tests.local_runtime.scripted_runner import POISON, TEXT, VOCAB_SIZE, Script, make_model, next_token
from tests.local_runtime.test_engine import Harness, prompts

GREEDY = SamplingOptions(temperature=0)
SAMPLINGS = {
    "greedy": GREEDY,
    "seeded": SamplingOptions(temperature=30.0, seed=7),
    "filtered": SamplingOptions(temperature=20.0, top_k=40, top_p=0.9, min_p=0.01, seed=-3),
    "penalised": SamplingOptions(
        temperature=12.0, repetition_penalty=1.4, frequency_penalty=1.5, presence_penalty=-0.5, seed=2**63
    ),
    "greedy and penalised": SamplingOptions(temperature=0, repetition_penalty=60.0, frequency_penalty=2.0),
}


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Harness]:
    folder = tmp_path_factory.mktemp("scripted")

    def make(*, mischief: bool = False, **fields: Any) -> Harness:
        # Random draws come upon every token, also upon those that the script takes as an order to fail.
        return Harness(make_model(Script(**fields), folder, None if mischief else next_token))

    return make


Build = Callable[..., Harness]


def deltas(events: list[Event]) -> list[TextDelta]:
    return [event for event in events if isinstance(event, TextDelta)]


def ids_of(pieces: list[TextDelta]) -> list[int]:
    return [token for piece in pieces for token in piece.ids]


def text_of(pieces: list[TextDelta]) -> str:
    return "".join(piece.text for piece in pieces)


def request(ids: list[int], sampling: SamplingOptions, **fields: Any) -> GenerateRequest:
    return GenerateRequest(raw_token_ids=ids, sampling=sampling, **fields)


def whole(build: Build, asked: GenerateRequest) -> tuple[list[TextDelta], Finished]:
    harness = build()
    request_id = harness.submit(asked)
    harness.run()
    return deltas(harness.events[request_id]), harness.end(request_id)


def assert_goes_on_from_every_token(build: Build, make: Callable[[list[int] | None], GenerateRequest]) -> Finished:
    """Compare an uninterrupted answer with all answers that are resumed after 1, 2, … of its tokens."""
    said, end = whole(build, make(None))
    harness = build(prefill_chunk_tokens=7)
    resumed = {harness.submit(make(ids_of(said[:cut]))): cut for cut in range(1, len(said) + 1)}
    harness.run()
    for request_id, cut in resumed.items():
        rest = deltas(harness.events[request_id])
        assert (ids_of(rest), text_of(rest)) == (ids_of(said[cut:]), text_of(said[cut:])), cut
        assert [piece.text for piece in rest] == [piece.text for piece in said[cut:]]
        last = harness.end(request_id)
        # They are asked for in one engine here, so the prefix cache has more to offer than it would have in another worker.
        assert (last.reason, replace(last.usage, cached_tokens=0)) == (end.reason, end.usage), cut
    harness.assert_empty()
    return end


def stop_strings(text: str) -> Iterator[tuple[str, ...]]:
    """None; some that come up in the middle; some that begin again and again and never come."""
    yield ()
    middle = len(text) // 2
    yield (text[middle : middle + 3] or "none", "never said")
    yield (text[2:5] + "\ufffe", text[-2:] + "\ufffe", text[:1] + "\ufffe")


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_an_answer_goes_on_from_every_token_as_if_nothing_had_happened(build: Build, sampling: SamplingOptions) -> None:
    reasons = set()
    for number, prompt in enumerate(prompts(5, 5)):
        text = text_of(whole(build, request(prompt, sampling, max_tokens=34 + number))[0])
        for stop in stop_strings(text):
            end = assert_goes_on_from_every_token(
                build,
                lambda ids, prompt=prompt, stop=stop, number=number: request(
                    prompt, sampling, max_tokens=34 + number, stop=stop, answer_begun_ids=ids
                ),
            )
            reasons.add(end.reason)
    assert reasons == {"stop", "length"}


def test_with_messages_and_to_the_end_of_the_context(build: Build) -> None:
    end = assert_goes_on_from_every_token(
        lambda **fields: build(context_tokens=90, **fields),
        lambda ids: GenerateRequest(
            messages=[{"role": "user", "content": "Grüß dich"}], sampling=GREEDY, ignore_eos=True, answer_begun_ids=ids
        ),
    )
    assert end.reason == "length"


def test_every_token_is_reported_at_once_and_what_was_held_back_with_the_last(build: Build) -> None:
    prompt = next(ids for ids in prompts(200) if "façade; 你好" in Harness.full_text(build(), ids, 60))
    text = build().full_text(prompt, 60)
    # A character of three bytes, then what may become the stop string until the end of the answer.
    stop = (text[-6:] + "☃",)
    said, end = whole(build, request(prompt, GREEDY, max_tokens=60, stop=stop))
    assert all(piece.tokens == len(piece.ids) == 1 for piece in said)
    assert end.usage.completion_tokens == len(said)
    assert text_of(said) == text
    assert any(not piece.text for piece in said)
    assert len(said[-1].text) >= 6


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"max_tokens": 12, "ignore_eos": True}, "length"), ({"max_tokens": 60, "stop": ("ade",)}, "stop"), ({}, "stop")],
    ids=["max_tokens", "stop string", "end token"],
)
def test_tokens_that_are_the_whole_answer_need_no_model(build: Build, fields: dict[str, Any], reason: str) -> None:
    prompt = next(ids for ids in prompts(200) if "façade" in Harness.full_text(build(), ids, 50))
    said, end = whole(build, request(prompt, GREEDY, **fields))
    assert end.reason == reason
    harness = build()
    request_id = harness.submit(request(prompt, GREEDY, answer_begun_ids=ids_of(said), **fields))
    assert not harness.engine.has_work
    assert harness.runner.calls == []
    (finished,) = harness.events[request_id]
    assert isinstance(finished, Finished)
    assert (finished.reason, finished.usage) == (end.reason, end.usage)
    assert finished.timings.ttft_s == 0
    harness.assert_empty()


def test_without_a_seed_it_goes_on_too(build: Build) -> None:
    asked = request([1, 2, 3], SamplingOptions(temperature=30.0), max_tokens=30, ignore_eos=True)
    said, _ = whole(build, asked)
    harness = build()
    request_id = harness.submit(
        request([1, 2, 3], asked.sampling, max_tokens=30, ignore_eos=True, answer_begun_ids=ids_of(said[:11]))
    )
    harness.run()
    assert harness.end(request_id).usage.completion_tokens == 30
    assert len(deltas(harness.events[request_id])) == 19


def test_a_resumed_answer_survives_a_batch_that_fails(build: Build) -> None:
    prompt = next(ids for ids in prompts(50) if len(Harness.full_text(build(), ids, 40)) > 30)
    said, end = whole(build, request(prompt, GREEDY, max_tokens=40))
    harness = build(mischief=True)
    request_id = harness.submit(request(prompt, GREEDY, max_tokens=40, answer_begun_ids=ids_of(said[:9])))
    poisoned = harness.submit_ids([9, POISON, 9], 40)
    harness.run()
    assert harness.error(poisoned).message
    assert ids_of(deltas(harness.events[request_id])) == ids_of(said[9:])
    assert harness.end(request_id).usage == end.usage
    harness.assert_empty()


def test_tokens_of_another_model_are_named(build: Build) -> None:
    harness = build()
    error = harness.error(harness.submit(request([1], GREEDY, answer_begun_ids=[5, VOCAB_SIZE])))
    assert isinstance(error, InvalidRequestError)
    assert f"answer_begun_ids[1] is {VOCAB_SIZE}" in error.message


def test_an_answer_that_no_longer_fits_into_the_cache_is_refused_and_not_cut(build: Build) -> None:
    harness = build(total_pages=8, page_tokens=4)
    error = harness.error(harness.submit(request([1] * 20, GREEDY, answer_begun_ids=[TEXT[0]] * 13)))
    assert isinstance(error, OutOfMemoryError)
    assert "33 tokens" in error.message
    assert "32" in error.message
    harness.assert_empty()
