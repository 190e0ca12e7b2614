"""The proof at the size of the everyday run, and the controls: every way of opening the gate is noticed."""

import dataclasses

import pytest

import hybridllm.assessment
import hybridllm.async_client
import hybridllm.conversation
import hybridllm.detectors
import hybridllm.label_memory
import hybridllm.labels
import hybridllm.permits
import hybridllm.policy_in_force
import hybridllm.redaction
import hybridllm.types.chat_request
import hybridllm.types.request_texts
from hybridllm.types import ChatRequest
from hybridllm.types.request_texts import request_texts
from policies import Policy
from tests.prove.canaries import Aviary, disguises
from tests.prove.machine import Leak, prove

CASES = 2000
CONTROL_CASES = 10_000  # one is caught long before that


def test_not_one_canary_arrives_where_it_may_not():
    tally = prove(CASES)
    assert tally.cases >= CASES
    # What is not sent shows nothing: a good part of the requests has to arrive, some redacted, some after a reload.
    assert tally.arrived > CASES / 20  # a remote that refused its key, or that failed, is left alone for a while
    assert tally.redacted > 0
    assert tally.reloads > 0
    assert tally.hedged > 0
    assert tally.continued > 0
    assert tally.loops > 0
    assert tally.tools > 0
    assert tally.calls > 0


def everything_may_be_seen(patch):
    patch.setattr(Policy, "may_see", lambda self, zone, label: True)


def labels_of_messages_do_not_count(patch):
    join = hybridllm.labels.join_labels

    def deaf(policy, request, **said):
        messages = [message.model_copy(update={"privacy": None}) for message in request.messages]
        return join(policy, request.model_copy(update={"messages": messages}), **said)

    patch.setattr(hybridllm.assessment, "join_labels", deaf)


def unlabelled_counts_as_harmless(patch):
    join = hybridllm.labels.join_labels

    def trusting(policy, request, *, privacy, **said):
        return join(policy, request, privacy=privacy or policy.labels.order[0], **said)

    patch.setattr(hybridllm.assessment, "join_labels", trusting)


def nothing_is_remembered(patch):
    patch.setattr(hybridllm.label_memory.LabelMemory, "recall", lambda self, text, labels, whole: None)


def detectors_find_nothing(patch):
    class Blind:
        slow = False

        def scan(self, texts):
            return hybridllm.detectors.Scan({}, {})

    patch.setattr(hybridllm.detectors, "detector_set", lambda detectors: Blind())


def floors_do_not_count(patch):
    join = hybridllm.labels.join_labels

    def floorless(policy, request, *, floors, **said):
        return join(policy, request, floors={}, **said)

    patch.setattr(hybridllm.assessment, "join_labels", floorless)


def redaction_replaces_nothing(patch):
    patch.setattr(hybridllm.redaction._Placeholders, "put_into", lambda self, text, spans: text)
    patch.setattr(hybridllm.assessment.Labelled, "again", lambda self, request, policy: self.joined_low())
    patch.setattr(
        hybridllm.assessment.Labelled,
        "joined_low",
        lambda self: dataclasses.replace(self.joined, label=self.policy.labels.order[0]),
        raising=False,
    )


def a_new_policy_does_not_count_for_what_is_under_way(patch):
    patch.setattr(hybridllm.assessment.Assessment, "check_still_allowed", lambda self, policy, place: None)


def a_broken_policy_leaves_the_remote_open(patch):
    patch.setattr(hybridllm.policy_in_force.PolicyInForce, "close_remotes", lambda self, problem: None)


def what_the_device_has_said_does_not_count(patch):
    def trusting(self, begun, place):
        request = self.labelled.request.with_answer_begun(begun)
        return dataclasses.replace(self, labelled=dataclasses.replace(self.labelled, request=request))

    patch.setattr(hybridllm.assessment.Assessment, "with_answer_begun", trusting)


def labels_of_tools_do_not_count(patch):
    join = hybridllm.labels.join_labels

    def deaf(policy, request, **said):
        tools = [tool.model_copy(update={"privacy": None}) for tool in request.tools or ()]
        return join(policy, request.model_copy(update={"tools": tools or None}), **said)

    patch.setattr(hybridllm.assessment, "join_labels", deaf)


def only_messages_need_a_label(patch):
    patch.setattr(ChatRequest, "says_more", False)


def only_what_messages_say_is_read(patch):
    def texts(request):
        return ((path, text) for path, text in request_texts(request) if path.endswith(".content"))

    patch.setattr(hybridllm.types.chat_request, "request_texts", texts)


def escaped_texts_are_not_read_as_what_they_say(patch):
    patch.setattr(hybridllm.types.request_texts, "readings", lambda text: iter((text,)))


def calls_and_results_are_not_remembered(patch):
    def remember(memory, texts, label, labels):
        for path, text in texts:
            if path.endswith(".content") and not text.startswith("It says"):
                memory.remember(text, label, labels)

    patch.setattr(hybridllm.labels, "_remember", remember)


def tools_are_not_remembered(patch):
    patch.setattr(hybridllm.labels, "tool_texts", lambda tool, where: iter(()))


def what_an_answer_called_is_not_remembered(patch):
    def remember(memory, texts, label, labels):
        for text in texts:
            if not text.startswith("{"):
                memory.remember(text, label, labels)

    patch.setattr(hybridllm.async_client, "remember_answer", remember)


@pytest.mark.parametrize(
    ("sabotage", "rule"),
    [
        (everything_may_be_seen, ""),
        (labels_of_messages_do_not_count, ""),
        (unlabelled_counts_as_harmless, "ask_a_server_that_is_late"),
        (nothing_is_remembered, ""),
        (detectors_find_nothing, ""),
        (floors_do_not_count, ""),
        (redaction_replaces_nothing, ""),
        (a_new_policy_does_not_count_for_what_is_under_way, "ask_while_the_policy_changes"),
        (a_broken_policy_leaves_the_remote_open, "break_the_policy_and_mend_it"),
        (what_the_device_has_said_does_not_count, "ask_a_device_that_breaks_off"),
        (only_messages_need_a_label, "ask_in_a_loop_of_tools"),
        (only_what_messages_say_is_read, "ask_in_a_loop_of_tools"),
        (escaped_texts_are_not_read_as_what_they_say, "ask_in_a_loop_of_tools"),
        (labels_of_tools_do_not_count, "say_it_again_elsewhere"),
        (calls_and_results_are_not_remembered, "say_it_again_elsewhere"),
        (tools_are_not_remembered, "say_it_again_elsewhere"),
        (what_an_answer_called_is_not_remembered, "say_it_again_elsewhere"),
    ],
)
def test_a_gate_that_is_opened_is_caught(sabotage, rule, monkeypatch):
    sabotage(monkeypatch)
    with pytest.raises(Leak):
        prove(CONTROL_CASES, shrink=False, only=rule)


@pytest.mark.parametrize("form", disguises("x"))
def test_a_canary_is_recognised_in_every_disguise(form):
    aviary = Aviary(7)
    atom, other = aviary.breed(3, umlaut=True), aviary.breed(3)
    found = aviary.found_in(b'{"role": "user", "content": "' + disguises(atom.text)[form] + b'"}')
    assert found == {atom}
    assert other not in found


def test_each_half_of_a_canary_is_recognised():
    aviary = Aviary(7)
    atom = aviary.breed(4)
    first, _, second = atom.text.partition(" ")
    assert aviary.found_in(first.encode()) == {atom} == aviary.found_in(second.encode())
