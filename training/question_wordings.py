"""The wordings of questions that are not bound to one attribute, and what can be asked of which sort of thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training import attributes as about
from training import nouns
from training.phrasings import Phrasings, phrasings

if TYPE_CHECKING:
    from training.attributes import Attribute

INDIRECT = phrasings("""
(Can|Could|Would|Will) you (please |kindly |)(tell me|say|explain|let me know|inform me) {c}(|, please)?
(Do you know|Any idea|Would you know|Do you happen to know|Would you happen to know) {c}(|, please)?
(I'd like to know|I want to know|I need to know|I would love to know|I was wondering|I wonder|I have to find out|I'm trying to find out|Please tell me|Tell me|Let me know|I have to know|Say) {c}(|, please).
Can you tell me {c}?
Could you tell me {c}?
Do you know {c}?
I'd like to know {c}.
Please tell me {c}.
I want to know {c}
I was wondering {c}.
Any idea {c}?
tell me {c}
Can you say {c}?
Could you please tell me {c}?
I need to know {c}.
Would you tell me {c}, please?
Might you be able to say {c}?
* I have to find out {c}.
* Would you happen to know {c}?
* Let me know {c}, please.
""")
OPENERS = phrasings("""
(Hi|Hello|Hey|Sorry|Excuse me|Pardon|OK|Okay|Well|So|Listen|Good morning|Good day|Thanks|Great|Alright|Right|Please|Say|One question|Quick question|One more thing|Another question|Next question), |
Hi, |
Hello! |
Excuse me, |
Sorry, |
Hey, |
Good morning! |
OK, |
Hello, |
Great. |
One question: |
And |
Also, |
Please: |
Pardon me, |
* One more thing: |
* Say, |
* Good day. |
""")
ASK_TICKET = phrasings("""
(How much|How expensive) is (a|the|one) {a} ticket(| here| please| today)?
(What does|How much does) (a|the|one) {a} ticket cost(| me| please)?
(Price|Cost|Fee) (of|for) (a|the|one) {a} ticket(|?| please)
{a} (ticket|ticket price|admission|entry|price)(|?| please| how much)
(One|Two|I'd like one|I need a|Give me a) {a} (ticket|tickets)(, please|. How much is it|. What does it cost|)?
* What do you want for a {a} ticket?
""")
ASK_POLICY = phrasings("""
(What about|How about|Tell me about|And) {p}(|, allowed or not|, is that allowed|, allowed)?
{p} (allowed|permitted|okay|ok)(|?| here| here?)
(Do you allow|Do you permit|Do you accept|Are there rules for|What are the rules for|What is the rule for) {p}(| here)?
(Is it allowed|Is it okay|Is it permitted|Would it be okay) with {p}(| here)?
Do you permit {p} in here?
* What is the rule about {p}?
""")
ROLE_FORMS = {form: forms for forms in nouns.ROLES for form in forms}

ASK_ROLE = phrasings("""
(Who|Which person) (is|works as|acts as|serves as|has the job of) (the|your) {r}(| here| please)?
(What's|What is|Tell me|I need|Do you know) the name of the {r}(| please)?
(I'm looking for|I want to see|I need to speak to|I want to talk to|I'd like to meet|I need) the {r}(|. Who is that|, who is it|. What is the name|. Who is it)?
{r}(|?| name|'s name| please| who)
(name of the|who is|who's the) {r}(|?| please)
What is the {r}(| called|'s name| here called)?
Who is the {r}?
Who's the {r}?
What is the name of the {r}?
Who works as {r}?
Which person is the {r}?
I'm looking for the {r}.
I want to speak to the {r}.
Do you have a {r}?
Name of the {r}?
What's the {r}'s name?
Who is your {r}?
* Who has the job of {r}?
* What is the {r} called?
""")
FIELD_FORMS = {form: forms for forms in nouns.SPECIALTIES for form in forms}
ASK_FIELD = phrasings("""
(Who|Which doctor|Which of the doctors) (treats|is responsible for|is for|takes care of|helps with|deals with) {f}(| here| please)?
(I have a question about|I need help with|I'm here because of|It's about|I need a doctor for|I'd like to see someone for) {f}. (Who can help|Which doctor is that|Who do I see|Where do I go to)?
(Who|Which doctor) (do|should|can) I (see|visit|ask) (for|about|because of) {f}(| please)?
doctor for {f}(|?| please)
Whom do I consult for {f}?
* Who is your expert for {f}?
""")
REVERSE: dict[str, tuple[Phrasings, str]] = {
    "office": (phrasings("(Who|Which person) (is|sits|works|can I find|do I meet|has an office) {v}(| please)?\nWho is {v}?\nWho sits {v}?\nWhose office is {v}?\nWho can I find {v}?\nWho works {v}?\n* Whom do I meet {v}?"), "You can find {e} {v}."),
    "time": (phrasings("(What|Which event|Which one) (starts|begins|is on|happens|takes place) at {v}(| please)?\nWhat starts at {v}?\nWhat is on at {v}?\nWhich event is at {v}?\nWhat happens at {v}?\nWhat begins at {v}?\n* What do you have at {v}?"), "{E} starts at {v}."),
    "departs": (phrasings("(What|Which one|Which) (leaves|departs|goes|sets off) at {v}(| please)?\nWhich one leaves at {v}?\nWhere can I go at {v}?\nWhat leaves at {v}?\n* What departs at {v}?"), "{E} leaves at {v}."),
    "place": (phrasings("(What|What exactly) (is|can I find|do I find|can I see|do you have|is there|takes place|goes on) {v}(| please)?\nWhat is {v}?\nWhat takes place {v}?\nWhat can I find {v}?\nWhat do you have {v}?\nWhat is there {v}?\n* What goes on {v}?"), "{E} {be} {v}."),
    "host": (phrasings("(What|Which one|Which event) (is led|is run|is given|is hosted|is taught) by {v}(| please)?\nWhat does {v} lead?\nWhich event is with {v}?\nWhat does {v} teach?\nWhat is {v} doing?\nWhich one is led by {v}?\n* What is run by {v}?"), "{E} is led by {v}."),
    "maker": (phrasings("(What|Which work|Which piece) (was made|is made|was created|is|was painted) by {v}(| please)?\nWhat did {v} make?\nWhich work is by {v}?\nWhat do you have by {v}?\n* What was created by {v}?"), "{E} was made by {v}."),
    "platform": (phrasings("(What|Which one) (leaves|goes|departs|starts) from {v}(| please)?\nWhat leaves from {v}?\nWhere does the one from {v} go?\nWhich one goes from {v}?\n* What departs from {v}?"), "{E} leaves from {v}."),
}  # fmt: skip
YES_NO: dict[str, Phrasings] = {
    "place": phrasings("{be} {e} {v}?\nIs it true that {e} {be} {v}?\nI think {e} {be} {v}, right?\n* {be} {e} really {v}?"),
    "price": phrasings("{do} {e} cost {v}?\n{be} {e} {v}?\nIs the price of {e} {v}?\n* {do} {e} really cost {v}?"),
    "time": phrasings("Does {e} start at {v}?\nIs {e} at {v}?\n{e} is at {v}, right?\n* Does {e} really start at {v}?"),
    "host": phrasings("Is {e} led by {v}?\nIs {e} with {v}?\nDoes {v} lead {e}?\n* Is it {v} who leads {e}?"),
}  # fmt: skip
EXISTS = phrasings("""
(Is there|Do you have|Have you got|Does the house have|Would there be|Is there perhaps|Does this place have) a {k}(| here| in the building| please| somewhere| nearby)?
(any|is there|got a) {k}(| here)?
Is there a {k}?
Do you have a {k}?
Is there a {k} here?
Have you got a {k}?
do you have {k}
Is there any {k}?
Would there be a {k}?
* Does the house have a {k}?
""")
EXISTS_PLURAL = phrasings("""
(Are there|Do you have|Have you got|Does the house have|Would there be|Are there perhaps|Does this place have) (|any ){k}(| here| in the building| please| somewhere)?
Are there {k}?
Do you have {k}?
Are there any {k} here?
Have you got {k}?
Would there be {k}?
* Does the house have {k}?
""")
LISTS: dict[str, tuple[Phrasings, str]] = {
    "event": (phrasings("(What|Which) (events|activities|things to do|courses|workshops) (are there|do you have|do you offer|can I attend|can I join)(| here| please)?\n(List|Show me|Tell me|Name|Give me) (the|all|all the|your) (events|activities|programme|courses)(| please).\nWhat events are there?\nWhich events do you have?\nWhat is on?\nWhat's on the programme?\nList the events.\nWhat can I do here?\nWhat does the programme offer?\n* Which activities are there?"), "There is {l}."),
    "person": (phrasings("(Who|Which people|Which persons) (works|work|is on the team|are on the team|belongs to the team|are the staff)(| here| please)?\n(List|Show me|Tell me|Name|Give me) (the|all|all the|your) (staff|team|people|employees)(| please).\nWho works here?\nWho is on the team?\nWho are the staff?\nList the staff.\nWhich people work here?\n* Who belongs to the team?"), "These people work here: {l}."),
    "hall": (phrasings("(What|Which) (rooms|spaces|halls|meeting rooms) (are there|do you have|do you offer|can I use|can I book)(| here| please)?\n(List|Show me|Tell me|Name|Give me) (the|all|all the|your) (rooms|spaces|halls)(| please).\nWhich rooms are there?\nWhat rooms do you have?\nList the rooms.\n* What spaces are there?"), "There is {l}."),
    "facility": (phrasings("(What|Which) (facilities|places|things) (are there|do you have|can I find|can I use)(| here| please| in the house| in the building)?\n(List|Show me|Tell me|Name|Give me) (the|all|all the|your) (facilities|places)(| please).\nWhat facilities are there?\nWhat is there in the building?\nWhich facilities do you have?\n* What do you have in the house?"), "There is {l}."),
    "exhibit": (phrasings("(What|Which) (works|pieces|exhibits|objects) (are there|do you have|can I see|can I look at|do you show|are on display)(| here| please)?\n(List|Show me|Tell me|Name|Give me) (the|all|all the|your) (works|exhibits|pieces)(| please).\nWhat can I see?\nWhat do you exhibit?\nWhich works are there?\nWhat is on display?\n* Which pieces can I look at?"), "You can see {l}."),
    "service": (phrasings("(What|Which) (services|things|treatments) (are there|do you have|do you offer|can I get|can I book)(| here| please)?\n(List|Show me|Tell me|Name|Give me) (the|all|all the|your) (services|offers)(| please).\nWhat services do you offer?\nWhich services are there?\nWhat do you offer?\n* Which services can I get?"), "We offer {l}."),
    "departure": (phrasings("(What|Which) (departures|destinations|connections|lines) (are there|do you have|can I take|are next)(| here| please)?\n(List|Show me|Tell me|Name|Give me) (the|all|all the|your) (departures|destinations|connections)(| please).\nWhere can I go?\nWhich departures are there?\nWhat are the next departures?\n* Which destinations are there?"), "There is {l}."),
    "ticket": (phrasings("(What are|Tell me|List|Show me|Give me|What about) (the|your|all) (ticket prices|entrance fees|prices for tickets|admission prices|fees)(| please)?\n(How much|What) (do|would|must) (I|we|people|visitors) pay (to come in|to get in|for entry|for admission|at the entrance)?\n(How expensive|How much) (is|are) (a ticket|the tickets|entry|admission|the entrance|tickets)(| please)?\nWhat are the ticket prices?\nHow much are the tickets?\nWhat does entry cost?\nHow much is the entrance?\nWhat do tickets cost?\nWhat are the entrance fees?\n* How much do I pay to come in?"), "{p}."),
}  # fmt: skip
SORT_ATTRIBUTES: dict[str, tuple[Attribute, ...]] = {
    "facility": (about.LOCATION, about.PHONE, about.OPEN, about.CONTACT),
    "event": (about.START_TIME, about.DAY, about.VENUE, about.HOST, about.EVENT_PRICE, about.DURATION),
    "person": (about.ROLE, about.OFFICE, about.PERSON_PHONE, about.EMAIL),
    "phone": (about.LOCATION, about.OPEN),
    "mixed": (about.LOCATION, about.PRICE, about.PHONE, about.CONTACT, about.OPEN, about.DURATION),
    "good": (about.LOCATION,),
    "doctor": (about.OFFICE, about.PERSON_PHONE, about.EMAIL),
    "hall": (about.LOCATION, about.CAPACITY, about.PHONE, about.PRICE),
    "departure": (about.DEPARTURE, about.PLATFORM, about.PRICE, about.DURATION),
    "service": (about.PRICE, about.DURATION, about.VENUE),
    "exhibit": (about.MAKER, about.YEAR, about.VENUE),
}
