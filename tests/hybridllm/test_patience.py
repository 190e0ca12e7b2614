"""How long one try may take, moment by moment, with a clock of its own."""

import pytest

from hybridllm.backends.base import ContentDelta, ToolCallDelta
from hybridllm.backends.chunks import Sign
from hybridllm.backends.patience import THINKING_FACTOR, Patience, Wait
from policies import Limits
from tests.hybridllm.remote_harness import Clock

LIMITS = Limits(connect_s=2.0, first_token_s=10.0, gap_s=5.0)
TEXT = ContentDelta(text="four")


class Try:
    """A try whose clock starts at 0."""

    def __init__(self, **more):
        self.clock = Clock()
        self.clock.now_s = 0.0
        self.patience = Patience(LIMITS, connecting_s=4.0, clock=self.clock, **more)

    def at(self, seconds, *events):
        self.clock.now_s = seconds
        for event in events:
            if event == "sent":
                self.patience.note_sent()
            elif event == "end":
                self.patience.note_end()
            else:
                self.patience.note(event)
        return self

    @property
    def ends(self):
        return self.patience.ends()


def test_the_first_token_is_waited_for_from_the_moment_that_the_body_leaves():
    one = Try()
    assert one.ends == (5.0, Wait.CONNECTION)  # what is allowed for it, and a second for what comes before
    assert not one.patience.sent
    one.at(1.5, "sent")
    assert one.ends == (11.5, Wait.FIRST_TOKEN)
    assert one.at(3.0).patience.waited_s == 1.5


def test_empty_chunks_from_the_start_are_no_sign_of_life():
    one = Try().at(0, "sent").at(4, Sign.EMPTY).at(9, Sign.EMPTY)
    assert one.ends == (10.0, Wait.FIRST_TOKEN)
    assert one.patience.silent


def test_a_model_may_think_for_a_while_and_not_for_ever():
    one = Try().at(0, "sent").at(9, Sign.THOUGHT)
    assert one.ends == (14.0, Wait.THOUGHT)
    assert not one.patience.silent
    one.at(13, Sign.EMPTY)  # between thoughts it shows that the model is alive
    assert one.ends == (18.0, Wait.THOUGHT)
    for second in range(15, 60):
        one.at(second, Sign.THOUGHT)
    assert one.ends == (THINKING_FACTOR * 10.0, Wait.END_OF_THOUGHTS)


def test_within_an_answer_chunks_without_text_hold_it_for_a_while_and_not_for_ever():
    one = Try().at(0, "sent").at(1, TEXT)
    assert one.ends == (6.0, Wait.PIECE)
    for second in range(2, 31):
        one.at(second, Sign.THOUGHT if second % 2 else Sign.EMPTY)
    assert one.ends == (31.0, Wait.TEXT)
    one.at(30.5, TEXT)
    assert one.ends == (35.5, Wait.PIECE)


def test_a_refusal_is_text():
    one = Try().at(0, "sent").at(1, ContentDelta(refusal="No."))
    assert one.ends == (6.0, Wait.PIECE)


def test_an_answer_that_is_wanted_whole_has_to_keep_a_pace():
    for whole in (False, True):
        one = Try(whole=whole).at(0, "sent")
        for second in range(1, 60, 2):  # half a character in a second
            one.at(second, ContentDelta(text="x"))
        assert one.ends == ((1 + 30 + 15.0, Wait.PACE) if whole else (64.0, Wait.PIECE))
    quick = Try(whole=True).at(0, "sent")
    for second in range(1, 600, 2):
        quick.at(second, TEXT)
    assert quick.ends == (604.0, Wait.PIECE)


def test_after_the_end_only_the_token_counts_are_waited_for():
    one = Try().at(0, "sent").at(1, TEXT).at(2, "end")
    assert one.ends == (3.0, Wait.END)
    one.at(2.9, Sign.EMPTY)
    assert one.ends == (3.0, Wait.END)


@pytest.mark.parametrize(
    "steps",
    [[], [(0, "sent")], [(0, "sent"), (1, Sign.THOUGHT)], [(0, "sent"), (1, TEXT)], [(0, "sent"), (2.5, "end")]],
)
def test_the_deadline_ends_every_wait(steps):
    one = Try(deadline_s=3.0)
    for step in steps:
        one.at(*step)
    assert one.ends == (3.0, Wait.DEADLINE)


def test_thoughts_that_are_given_out_count_as_thoughts():
    thought = ContentDelta(reasoning="Hm.")
    one = Try().at(0, "sent").at(9, thought)
    assert one.ends == (14.0, Wait.THOUGHT)
    for second in range(13, 60, 4):
        one.at(second, thought)
    assert one.ends == (60.0, Wait.END_OF_THOUGHTS)
    one.at(59, ContentDelta(reasoning="So", text="Nine."))
    assert one.ends == (64.0, Wait.PIECE)
    for second in range(63, 90, 4):
        one.at(second, thought)
    assert one.ends == (89.0, Wait.TEXT)


def test_calls_of_tools_pay_for_their_time():
    one = Try(whole=True).at(0, "sent").at(1, ContentDelta(tool_calls=[ToolCallDelta(0, "a", "hours", "{}" * 50)]))
    assert one.ends == (6.0, Wait.PIECE)
    assert one.at(5, ContentDelta(tool_calls=[ToolCallDelta(0, arguments="x")])).ends == (10.0, Wait.PIECE)


def test_what_a_reader_takes_for_himself_is_not_the_remotes_time():
    one = Try().at(0, "sent").at(1, TEXT)
    one.patience.pause()
    one.at(100).patience.resume()
    assert one.ends == (105.0, Wait.PIECE)
    assert one.at(104).patience.resume() is None  # he did not go away again
    assert one.ends == (105.0, Wait.PIECE)


def test_nor_does_it_shorten_the_wait_for_the_end_or_for_thoughts():
    one = Try().at(0, "sent").at(9, Sign.THOUGHT)
    one.patience.pause()
    one.at(99).patience.resume()
    assert one.ends == (104.0, Wait.THOUGHT)
    one.at(100, TEXT, "end")
    one.patience.pause()
    one.at(200).patience.resume()
    assert one.ends == (201.0, Wait.END)


def test_what_is_left_of_a_body_is_hardly_waited_for():
    one = Try().at(0, "sent").at(1, TEXT).at(2, "end")
    one.patience.note_read()
    assert one.ends == (2.05, Wait.END)
