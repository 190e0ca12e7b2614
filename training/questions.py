"""Questions that the sheet answers: facts, the reverse, hours, lists, and yes or no."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from training import attributes as about
from training import nouns
from training.exchange import Exchange, phrase_question, unknown
from training.facts import Fact, Section, say, upper_first
from training.question_wordings import (
    ASK_FIELD,
    ASK_POLICY,
    ASK_ROLE,
    ASK_TICKET,
    EXISTS,
    EXISTS_PLURAL,
    FIELD_FORMS,
    LISTS,
    OPEN_AT,
    REVERSE,
    ROLE_FORMS,
    YES_NO,
)
from training.schedules import ASK_DAY, ASK_WEEK, CLAUSE_DAY, Schedule, join
from training.wordlists import DAYS

if TYPE_CHECKING:
    from training.lexicon import Draw
    from training.sheets import Policy, Sheet


def ask_fact(draw: Draw, fact: Fact) -> Exchange:
    """A question for one fact of the sheet."""
    attribute = fact.attribute
    adjective = next(
        (nouns.TICKET_ADJECTIVES[name] for name in fact.thing.names if name in nouns.TICKET_ADJECTIVES), None
    )
    if attribute.kind == "money" and adjective and draw.rng.random() < 0.2:
        question = draw.say(ASK_TICKET).format(a=adjective)
        return Exchange(
            question, say(draw.rng.choice(attribute.answers), fact.thing, fact.phrase), "fact", fact.must, "money", fact
        )
    question = phrase_question(draw, attribute.asks, attribute.clauses, fact.thing)
    answer = say(draw.rng.choice(attribute.answers), fact.thing, fact.phrase)
    return Exchange(question, answer, "fact", fact.must, attribute.kind, fact)


def ask_reverse(draw: Draw, sheet: Sheet, fact: Fact) -> Exchange | None:
    """From the value to the thing: "Who is the director?", "What starts at 14:00?". None where that is ambiguous."""
    if fact.attribute is about.FIELD:
        field = draw.rng.choice(FIELD_FORMS[fact.printed])
        question = draw.say(ASK_FIELD).format(f=field)
        answer = f"{fact.thing.said} is responsible for {fact.printed}."
        return Exchange(question, answer, "backwards", (fact.thing.said,), "name", fact)
    if fact.attribute is about.ROLE:
        forms = ROLE_FORMS[fact.printed]
        asked = fact.printed if draw.rng.random() < 0.6 else draw.rng.choice(forms)
        question = draw.say(ASK_ROLE).format(r=asked)
        return Exchange(
            question, f"The {fact.printed} is {fact.thing.said}.", "backwards", (fact.thing.said,), "name", fact
        )
    name = "departs" if fact.attribute is about.DEPARTURE else fact.attribute.name
    if fact.attribute is about.LOCATION:
        name = "place"
    if name not in REVERSE or sum(other.printed == fact.printed for other in sheet.facts) > 1:
        return None
    if any(other is not fact and fact.must[0] in other.printed for other in sheet.facts):
        return None
    asks, answer = REVERSE[name]
    return Exchange(
        draw.say(asks).format(v=fact.phrase),
        say(answer, fact.thing, fact.phrase),
        "backwards",
        (fact.thing.names[0],),
        "name",
        fact,
    )


def ask_yes_no(draw: Draw, sheet: Sheet, fact: Fact) -> Exchange | None:
    """Whether a fact is so; half of the time it isn't. None for facts without such a question."""
    name = "place" if fact.attribute is about.LOCATION else fact.attribute.name
    if name not in YES_NO or fact.attribute in (about.DEPARTURE, about.PRICE_TICKET):
        return None
    others = [o for o in sheet.facts if o.attribute.kind == fact.attribute.kind and o.printed != fact.printed]
    right = not others or draw.rng.random() < 0.5
    claimed = fact.phrase if right else draw.rng.choice(others).phrase
    if not right and (fact.phrase in claimed or claimed in fact.phrase):
        return None
    question = upper_first(say(draw.say(YES_NO[name]), fact.thing, claimed, name=fact.thing.asked(draw.rng)))
    said = say(fact.attribute.answers[0], fact.thing, fact.phrase)
    said = said if said[0].isupper() and not said.startswith(("The ", "You ", "A ")) else said[0].lower() + said[1:]
    return Exchange(
        question, f"{'Yes' if right else 'No'}, {said}", "yes or no", ("Yes" if right else "No", *fact.must), "", fact
    )


def ask_exists(draw: Draw, fact: Fact) -> Exchange:
    """Whether there is such a facility."""
    name = fact.thing.asked(draw.rng).removeprefix("the ")
    asks = EXISTS_PLURAL if fact.thing.plural else EXISTS
    verb = "are" if fact.thing.plural else "is"
    return Exchange(
        draw.say(asks).format(k=name), f"Yes, {fact.thing.said} {verb} {fact.phrase}.", "fact", fact.must, "place", fact
    )


def ask_list(draw: Draw, section: Section) -> Exchange | None:
    """What there is of a sort. None for long or unsuitable sections."""
    if section.sort not in LISTS or not 1 < len(section.records) <= 7:
        return None
    asks, answer = LISTS[section.sort]
    names = [record[0].thing.said for record in section.records]
    must = tuple(record[0].thing.names[0] for record in section.records)
    if section.sort == "ticket":
        priced = [f"{record[0].thing.said} {record[0].phrase}" for record in section.records]
        return Exchange(
            draw.say(asks), upper_first(", ".join(priced)) + ".", "list", tuple(r[0].printed for r in section.records)
        )
    return Exchange(draw.say(asks), answer.format(l=join(names)), "list", must)


GLUES = (" and ", " And ", " Also, ", " Then: ", " And also: ", " Next: ", " - ", " And another thing: ")


def ask_two(draw: Draw, first: Fact, second: Fact) -> Exchange:
    """Two questions in one message."""
    one, two = ask_fact(draw, first), ask_fact(draw, second)
    glue = draw.rng.choice(GLUES) if draw.split == "train" else " and then: "
    question = (
        one.question.rstrip("?.") + ("" if glue == " and " else "?") + glue + two.question[0].lower() + two.question[1:]
    )
    return Exchange(question, f"{one.answer} {two.answer}", "two at once", first.must + second.must)


def ask_hours(draw: Draw, sheet: Sheet, schedule: Schedule, day: int | None = None) -> Exchange:
    """A question for the hours of one weekday, or of the whole week if the day isn't given."""
    rng = draw.rng
    subject, verb = schedule.subject, schedule.are
    if day is None and rng.random() < 0.3:
        question = schedule.ask(draw.say(ASK_WEEK), draw, sheet.venue)
        must = tuple(sorted(schedule.strings()))
        return Exchange(question, schedule.answer_week(), "hours", must, "", schedule)
    day = rng.randrange(7) if day is None else day
    question = schedule.ask(draw.say(ASK_DAY), draw, sheet.venue, day)
    entry = schedule.on(day)
    if entry is None:
        clause = CLAUSE_DAY.format(e=subject, are=verb, d=DAYS[day])
        return Exchange(question, unknown(clause, draw), "unknown", (), "time", schedule)
    answer = schedule.answer_day(day)
    bare = question.lower()
    if re.match(r"(are|is|can|may|could) ", bare):
        positive = (entry.opens is not None) != ("closed" in bare)
        answer = f"{'Yes' if positive else 'No'}, {answer[0].lower()}{answer[1:]}"
    must = (entry.opens, entry.closes) if entry.opens and entry.closes else ("closed",)
    return Exchange(question, answer, "hours", must, "time", schedule)


def ask_open_at(draw: Draw, schedule: Schedule) -> Exchange | None:
    """Whether it is open at a given hour of a given day. None where the sheet leaves it open."""
    day = draw.rng.randrange(7)
    entry = schedule.on(day)
    if entry is None or entry.minutes is None:
        return None
    start, end = entry.minutes
    moment = draw.clock(5, 23)
    if moment in (start, end):
        return None
    name = "you" if schedule.thing is None else schedule.thing.said
    verb = "are" if schedule.thing is None or schedule.thing.plural else "is"
    form = draw.say(OPEN_AT)
    if schedule.thing is not None and "{e}" not in form:
        form = "{V} {e} open on {d} at {t}?" if draw.split == "train" else "{V} {e} still open {d} at {t}?"
    question = form.format(V=verb.capitalize(), v=verb, e=name, d=DAYS[day], t=draw.time(moment))
    answer = schedule.answer_day(day)
    asked_for_closed = any(word in form for word in ("closed", "shut"))
    yes = (start < moment < end) != asked_for_closed
    return Exchange(
        question,
        f"{'Yes' if yes else 'No'}, {answer[0].lower()}{answer[1:]}",
        "open at",
        ("Yes" if yes else "No",),
        "",
        schedule,
    )


def ask_policy(draw: Draw, policy: Policy) -> Exchange:
    """Whether something is allowed."""
    rng = draw.rng
    direct = f"{'Is' if policy.subject in nouns.SINGULAR_POLICIES else 'Are'} {policy.subject} allowed?"
    question = (
        draw.say(ASK_POLICY).format(p=policy.subject)
        if rng.random() < 0.4 or draw.split == "held"
        else rng.choice((*policy.asks, direct))
    )
    yes = "Yes" if policy.allowed else "No"
    must = (yes, policy.condition) if policy.condition else (yes,)
    return Exchange(question, f"{yes}, {policy.sentence}.", "policy", must)
