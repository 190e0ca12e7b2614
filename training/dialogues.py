"""Whole conversations: a sheet, questions and follow-ups over it, small talk, and what has no answer."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from training import smalltalk as talk
from training import wordlists as words
from training.chinese import chinese_dialogue
from training.exchange import Exchange
from training.facts import Fact, say, upper_first
from training.lexicon import Draw
from training.phrasings import phrasings
from training.question_wordings import OPENERS, TODAY
from training.questions import (
    ask_exists,
    ask_fact,
    ask_hours,
    ask_list,
    ask_open_at,
    ask_policy,
    ask_reverse,
    ask_two,
    ask_yes_no,
)
from training.schedules import FOLLOW_DAY, Schedule
from training.sheets import Sheet, draw_sheet
from training.unknowns import ask_unknown

if TYPE_CHECKING:
    from training.chat_format import Message
    from training.phrasings import Phrasings, Split

_T = TypeVar("_T")

FOLLOW_OTHER = phrasings("""
(And|What about|How about|And what about|And what of|And for|And in the case of|The same for|Same question for|And how about|What of|Now for|Then) {e}(|?| please?)
And {e}?
What about {e}?
How about {e}?
and for {e}?
And what about {e}?
{e}?
And also {e}?
And what of {e}?
* Same question for {e}.
* And in the case of {e}?
""")
EMPTY_SYSTEMS = (
    "", "", "You are a helpful assistant.", "You are a helpful assistant. Answer briefly.", "You are a kiosk assistant.",
    "Be friendly.", "Answer in English.", "You are an AI assistant.", "You answer visitors' questions.",
)  # fmt: skip
USER_SHEETS = phrasings(r"""
Here is the information:\n{s}\n\nQuestion: {q}
{s}\n\n{q}
Facts:\n{s}\n\n{q}
Use this text to answer.\n{s}\n{q}
* Read this first:\n{s}\n\nNow tell me: {q}
""")


FACT_CATEGORIES = ("fact", "backwards", "yes or no", "two at once")


@dataclass(frozen=True)
class Mix:
    """How often each sort of dialogue and question comes up.

    Attributes:
        no_sheet: share of dialogues without a sheet.
        chinese: share of Chinese dialogues.
        turns: numbers of questions in a dialogue, each with its weight.
        sizes: numbers of facts in a sheet, each with its weight.
        shares: weights of the sorts of question that stand by themselves.
        open_at: share of the questions for hours that name a clock time.
    """

    no_sheet: float
    chinese: float
    turns: tuple[tuple[int, int], ...]
    sizes: tuple[tuple[int, int], ...]
    shares: tuple[tuple[str, int], ...]
    open_at: float


EVERYDAY = Mix(  # what people ask, and what the evaluation draws
    no_sheet=0.06, chinese=0.10,
    turns=((1, 6), (2, 12), (4, 30), (7, 32), (11, 20), (22, 2)),
    sizes=((3, 10), (6, 22), (10, 28), (16, 22), (24, 12), (36, 6), (60, 2)),
    shares=(("unknown", 30), ("hours", 16), ("policy", 5), ("list", 3), ("two", 3), ("yes or no", 5), ("backwards", 7), ("fact", 31)),
    open_at=0.12,
)  # fmt: skip
PRACTICE = Mix(  # for training: more questions about one sheet, and more of those that are hard to learn
    no_sheet=0.04, chinese=0.13,
    turns=((2, 5), (4, 8), (8, 30), (12, 34), (18, 23)),
    sizes=((3, 5), (6, 16), (10, 27), (16, 26), (24, 17), (36, 7), (60, 2)),
    shares=(("unknown", 25), ("hours", 13), ("policy", 3), ("list", 8), ("two", 7), ("yes or no", 9), ("backwards", 15), ("fact", 25)),
    open_at=0.2,
)  # fmt: skip
FINISH = replace(  # for the last stage: less "I don't know", which practice teaches too well for wordings it never met
    PRACTICE,
    shares=(("unknown", 18), ("hours", 14), ("policy", 3), ("list", 8), ("two", 7), ("yes or no", 7), ("backwards", 13), ("fact", 30)),
)  # fmt: skip
MIXES = {"everyday": EVERYDAY, "practice": PRACTICE, "finish": FINISH}


@dataclass
class Dialogue:
    """A conversation and, for each user turn, what is to be judged.

    Attributes:
        system: the system message, or None.
        exchanges: user turns with their reference answers, in order.
        sheet: what the system message says; None without a sheet.
        values: for Chinese sheets, all values by kind (an English sheet finds its own).
    """

    system: str | None
    exchanges: list[Exchange]
    sheet: Sheet | None = None
    values: dict[str, set[str]] = field(default_factory=dict)

    def messages(self) -> list[Message]:
        """The conversation in OpenAI's shape."""
        messages: list[Message] = [] if self.system is None else [{"role": "system", "content": self.system}]
        for exchange in self.exchanges:
            messages.append({"role": "user", "content": exchange.question})
            messages.append({"role": "assistant", "content": exchange.answer})
        return messages

    def other_values(self, exchange: Exchange) -> set[str]:
        """Values of the asked kind that a right answer must not contain."""
        values = self.sheet.values(exchange.kind) if self.sheet else self.values.get(exchange.kind, set())
        return {value for value in values if not any(value in must for must in exchange.must)}


def draw_dialogue(seed: int, split: Split, *, slips: bool = True, mix: Mix = EVERYDAY) -> Dialogue:
    """The conversation of a seed; different splits share no name, value or held-out wording.

    Without `slips`, questions stand as they are written: no typing slips, dropped or filler words, openers.
    """
    rng = random.Random(f"{split}-{seed}")
    roll = rng.random()
    if roll < mix.no_sheet:
        return _without_sheet(Draw(rng, split), slips=slips)
    if roll < mix.no_sheet + mix.chinese:
        system, exchanges, values = chinese_dialogue(rng, split)
        return Dialogue(system, exchanges, None, values)
    return _with_sheet(Draw(rng, split), mix, slips=slips)


def _weighted(rng: random.Random, pairs: tuple[tuple[_T, int], ...]) -> _T:
    return rng.choices([value for value, _ in pairs], [weight for _, weight in pairs])[0]


def _with_sheet(draw: Draw, mix: Mix, *, slips: bool) -> Dialogue:
    rng = draw.rng
    sheet = draw_sheet(draw, size=_weighted(rng, mix.sizes))
    turns = _weighted(rng, mix.turns)
    exchanges: list[Exchange] = []
    name: str | None = None
    if rng.random() < 0.25:
        exchanges.append(small_talk(draw, sheet))
    while len(exchanges) < turns:
        last = exchanges[-1] if exchanges else None
        roll = rng.random()
        found: Exchange | None
        if last and last.subject is not None and roll < 0.3:
            found = follow_up(draw, sheet, last)
        elif roll < 0.9:
            found = question(draw, sheet, mix)
        elif roll < 0.97:
            found = small_talk(draw, sheet)
        else:
            found, name = _name_talk(draw, name)
        if found is None:
            continue
        if last and last.category in (*FACT_CATEGORIES, "hours") and rng.random() < 0.02:
            found = Exchange(draw.say(talk.REPEAT), last.answer, "follow-up", last.must)
        exchanges.append(found)
    if rng.random() < 0.2:
        exchanges.append(_closing(draw))
    if slips:
        exchanges = [_as_typed(draw, exchange, first=index == 0) for index, exchange in enumerate(exchanges)]
    system: str | None = sheet.text
    if rng.random() < 0.04:
        first = exchanges[0]
        asked = draw.say(USER_SHEETS).replace("\\n", "\n").replace("{q}", first.question).replace("{s}", sheet.text)
        exchanges[0] = Exchange(asked, first.answer, first.category, first.must, first.kind, first.subject)
        system = rng.choice(EMPTY_SYSTEMS) or None
    return Dialogue(system, exchanges, sheet)


def _without_sheet(draw: Draw, *, slips: bool) -> Dialogue:
    """No fact sheet: small talk goes on as ever, and every fact is unknown."""
    rng = draw.rng
    unseen = draw_sheet(draw, size=4)
    unseen.text = ""
    unseen.schedules = []
    exchanges: list[Exchange] = []
    for _ in range(rng.randint(1, 5)):
        if rng.random() < 0.55:
            exchanges.append(small_talk(draw, None))
        else:
            exchanges.append(ask_unknown(draw, unseen))
    if slips:
        exchanges = [_as_typed(draw, exchange, first=index == 0) for index, exchange in enumerate(exchanges)]
    return Dialogue(rng.choice((None, None, None, *EMPTY_SYSTEMS)), exchanges)


def question(draw: Draw, sheet: Sheet, mix: Mix = EVERYDAY) -> Exchange | None:
    """A question that stands by itself. None if the drawn sort doesn't suit the sheet."""
    rng = draw.rng
    sort = _weighted(rng, mix.shares)
    if sort == "unknown":
        return ask_unknown(draw, sheet)
    if sort == "hours" and not sheet.schedules:
        sort = "policy"
    if sort == "policy" and not sheet.policies:
        sort = "list"
    if sort == "hours":
        schedule = rng.choice(sheet.schedules)
        if rng.random() < mix.open_at:
            return ask_open_at(draw, schedule)
        if schedule.thing is None and rng.random() < (0.08 if sheet.today is None else 0.35):
            return _today(draw, schedule, sheet.today)
        return ask_hours(draw, sheet, schedule)
    if sort == "policy":
        return ask_policy(draw, rng.choice(sheet.policies))
    if sort == "list":
        return ask_list(draw, rng.choice(sheet.sections))
    fact = rng.choice(sheet.facts)
    if sort == "two" and len(sheet.facts) > 1:
        return ask_two(draw, *rng.sample(sheet.facts, 2))
    if sort == "yes or no":
        return ask_yes_no(draw, sheet, fact)
    if sort == "backwards" or (fact.attribute.name in ("role", "field") and rng.random() < 0.6):
        return ask_reverse(draw, sheet, fact)
    if fact.attribute.name == "location" and fact.attribute.kind == "place" and rng.random() < 0.15:
        return ask_exists(draw, fact)
    return ask_fact(draw, fact)


def follow_up(draw: Draw, sheet: Sheet, last: Exchange) -> Exchange | None:
    """A question that leans on the one before: another day, another thing, another attribute of the same thing."""
    rng = draw.rng
    subject = last.subject
    if isinstance(subject, Schedule):
        day = rng.randrange(7)
        straight = ask_hours(draw, sheet, subject, day)
        answer = straight.answer.removeprefix("Yes, ").removeprefix("No, ")
        asked = draw.say(FOLLOW_DAY).format(d=words.DAYS[day])
        if asked.startswith("Are you open") and subject.thing is not None:
            return None
        if straight.category == "unknown":
            return Exchange(asked, answer, "unknown", (), "time", subject)
        if asked.startswith("Are you open"):
            entry = subject.on(day)
            lead = "Yes" if entry and entry.opens else "No"
            return Exchange(
                asked, f"{lead}, {answer[0].lower()}{answer[1:]}", "follow-up", straight.must, "time", subject
            )
        return Exchange(asked, upper_first(answer), "follow-up", straight.must, "time", subject)
    if not isinstance(subject, Fact) or last.category not in (*FACT_CATEGORIES, "follow-up"):
        return None
    if rng.random() < 0.5 and subject.attribute.follows.train:
        others = [f for f in sheet.facts if f.thing is subject.thing and f.attribute is not subject.attribute]
        others = [f for f in others if f.attribute.follows.train]
        if not others:
            return None
        fact = rng.choice(others)
        answer = say(fact.attribute.answers[0], fact.thing, fact.phrase)
        return Exchange(draw.say(fact.attribute.follows), answer, "follow-up", fact.must, fact.attribute.kind, fact)
    asked_for = last.must and subject.must and last.must[0] == subject.must[0]
    others = [f for f in sheet.facts if f.attribute is subject.attribute and f.thing is not subject.thing]
    if not others or not asked_for or subject.attribute.name in ("value", "role", "field"):
        return None
    fact = rng.choice(others)
    if fact.attribute.asks is not subject.attribute.asks or fact.thing.names[0] == subject.thing.names[0]:
        return None
    asked = upper_first(draw.say(FOLLOW_OTHER).format(e=fact.thing.asked(rng)))
    answer = say(fact.attribute.answers[0], fact.thing, fact.phrase)
    return Exchange(asked, answer, "follow-up", fact.must, fact.attribute.kind, fact)


def _today(draw: Draw, schedule: Schedule, today: int | None) -> Exchange | None:
    """Questions with "today" and "tomorrow". Without a day in the sheet the answer is the whole week."""
    tomorrow = draw.rng.random() < 0.4
    word = "tomorrow" if tomorrow else "today"
    asked = draw.say(TODAY)
    if today is None:
        answer = f"I don't know which day it is {word}. {schedule.answer_week()}"
        return Exchange(asked.format(w=word), answer, "hours", tuple(sorted(schedule.strings())), "", schedule)
    day = (today + 1) % 7 if tomorrow else today
    entry = schedule.on(day)
    if entry is None:
        return None
    answer = schedule.answer_day(day)
    if asked.startswith("Are"):
        answer = f"{'Yes' if entry.opens else 'No'}, {answer[0].lower()}{answer[1:]}"
    must = (entry.opens, entry.closes) if entry.opens and entry.closes else ("closed",)
    return Exchange(asked.format(w=word), answer, "hours", must, "time", schedule)


def small_talk(draw: Draw, sheet: Sheet | None) -> Exchange:
    """Greeting, identity, thanks and the like, and general questions."""
    rng = draw.rng
    pairs: list[tuple[int, Phrasings, str, str]] = [
        (16, talk.GREETINGS, "greeting", talk.GREETING_ANSWER),
        (4, talk.HOW_ARE_YOU, "greeting", talk.HOW_ARE_YOU_ANSWER),
        (14, talk.WHO, "identity", talk.WHO_ANSWER),
        (12, talk.ABILITIES, "identity", talk.ABILITIES_ANSWER if sheet else talk.ABILITIES_EMPTY),
        (4, talk.OFFLINE, "identity", talk.OFFLINE_ANSWER),
        (8, talk.THANKS, "small talk", talk.THANKS_ANSWER),
        (3, talk.OKS, "small talk", talk.OK_ANSWER),
        (4, talk.BYES, "small talk", talk.BYE_ANSWER),
        (2, talk.INSULTS, "small talk", talk.INSULT_ANSWER),
        (30, talk.GENERAL, "general", talk.GENERAL_ANSWER),
    ]
    _, asks, category, answer = rng.choices(pairs, [pair[0] for pair in pairs])[0]
    asked = draw.say(asks)
    if (
        category == "general"
        and sheet is not None
        and any(word in asked for word in ("day is it", "restaurant", "taxi"))
    ):
        asked = draw.say(talk.GREETINGS)
        category, answer = "greeting", talk.GREETING_ANSWER
    return Exchange(asked, answer, category, (answer,))


def _name_talk(draw: Draw, name: str | None) -> tuple[Exchange, str | None]:
    """The visitor gives a name, or asks for it back."""
    if name is None and draw.rng.random() < 0.7:
        name = draw.first_name()
        return Exchange(
            draw.say(talk.MY_NAME).format(n=name), talk.NAME_ANSWER.format(n=name), "small talk", (name,)
        ), name
    asked = draw.say(talk.ASK_MY_NAME)
    if name is None:
        return Exchange(asked, talk.NO_NAME_ANSWER, "unknown"), None
    return Exchange(asked, talk.RECALL_ANSWER.format(n=name), "follow-up", (name,)), name


def _closing(draw: Draw) -> Exchange:
    asks, answer = draw.rng.choice(((talk.THANKS, talk.THANKS_ANSWER), (talk.BYES, talk.BYE_ANSWER)))
    return Exchange(draw.say(asks), answer, "small talk", (answer,))


def _as_typed(draw: Draw, exchange: Exchange, *, first: bool) -> Exchange:
    """The question as somebody types it: an opener, no capitals, no question mark, a slip of the finger."""
    rng = draw.rng
    text = exchange.question
    if exchange.category not in ("greeting", "identity", "small talk", "general") and rng.random() < (
        0.25 if first else 0.12
    ):
        opener = draw.say(OPENERS).rstrip("|")
        lowered = (
            text
            if text.startswith(("I ", "I'")) or not opener.rstrip().endswith((",", "And", ":"))
            else text[0].lower() + text[1:]
        )
        text = opener.rstrip() + " " + lowered
    if rng.random() < 0.08 and exchange.category not in ("greeting", "identity", "small talk"):
        text = text.rstrip("?. ") + rng.choice((" please?", ", please.", " please", "? Thanks!", "? Thank you."))
    if exchange.category not in ("greeting", "identity", "small talk", "general"):
        if rng.random() < 0.1:
            text = _drop_word(rng, text)
        if rng.random() < 0.07:
            text = _add_filler(rng, text)
    if rng.random() < 0.25:
        text = text.lower()
    if rng.random() < 0.2:
        text = text.rstrip("?.! ")
    if rng.random() < 0.06 and len(text) > 12:
        text = _typo(rng, text)
    if text == exchange.question:
        return exchange
    return Exchange(text, exchange.answer, exchange.category, exchange.must, exchange.kind, exchange.subject)


SMALL_WORDS = frozenset(
    "the a an is are do does i you of for to me can could tell it that what's please at in on".split()
)
FILLERS = ("actually", "exactly", "maybe", "now", "here", "again", "um", "well", "so", "hm", "really")


def _drop_word(rng: random.Random, text: str) -> str:
    """Leaves out one small word, as people do who type in a hurry."""
    parts = text.split(" ")
    small = [index for index, part in enumerate(parts) if part.lower() in SMALL_WORDS]
    if not small or len(parts) < 4:
        return text
    del parts[rng.choice(small)]
    return " ".join(parts)


def _add_filler(rng: random.Random, text: str) -> str:
    """Puts a word that means nothing before or after the question."""
    filler = rng.choice(FILLERS)
    if rng.random() < 0.5:
        return f"{filler} {text}"
    return f"{text[:-1]} {filler}{text[-1]}" if text[-1] in ".?!" else f"{text} {filler}"


def _typo(rng: random.Random, text: str) -> str:
    """Swaps, drops or doubles one letter of a word in the first half."""
    places = [index for index in range(1, len(text) // 2) if text[index].islower() and text[index + 1].islower()]
    if not places:
        return text
    at = rng.choice(places)
    roll = rng.random()
    if roll < 0.4:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    if roll < 0.7:
        return text[:at] + text[at + 1 :]
    return text[:at] + text[at] + text[at:]
