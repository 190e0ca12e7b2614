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
(Who|Which person) (do you have as|did you hire as|do you employ as|is known as|is in the post of) (the|your) {r}(| here| please)?
(Do you know|Can you say|Please say|I'd like to know) who the {r} is(| please).
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
(Who|Which doctor|Which of the doctors|Whom) (would you recommend|is good|should one see|do people see|is there|do you have|do you recommend) for {f}(| here| please)?
(Who|Which doctor) (knows about|works on|specialises in|looks after|is the specialist for|is the one for) {f}(| here| please)?
* Who is your expert for {f}?
""")
OPEN_AT = phrasings("""
{V} {e} (open|still open|already open|closed|shut) on (|a ){d} at {t}(| please| or not)?
{V} {e} (open|still open|already open|closed|shut) at {t} on (|a ){d}(| please| or not)?
(On|Next|This) {d} at {t}, {v} {e} (open|still open|already open|closed)(| please)?
(I'd like to come|I want to come|I can come|I plan to come|I'll be there|We will come) on {d} at {t}. {V} {e} open(| then)?
(Can|May|Could|Should) (I|we) (come|visit|drop by|come in) on {d} at {t}(| please)?
{d}, {t}: {v} {e} open?
{V} {e} open on {d} at {t}?
{V} {e} open at {t} on {d}?
Can I come on {d} at {t}?
* If I come on {d} at {t}, {v} {e} open?
* {V} {e} still open {d} at {t}?
* Would I stand before a closed door on {d} at {t}?
""")
TODAY = phrasings("""
(When|At what time|From when|Until when|How long|Up to what time|During which hours) (are you open|can I visit|can we come|may I come in|is it open|can people visit) {w}(| please)?
(How long|Until when|Till when|Up to when) (can|may|could) (I|we|visitors|one) (be here|remain|look around|be inside|visit|walk around) {w}(| please)?
(When|At what time|What time) do you (open|close|shut) {w}(| please)?
(hours|opening hours|times|opening times) (for |){w}(|?| please)
{w} (hours|opening hours|opening times)(|?)
When are you open {w}?
Are you open {w}?
What are the opening hours {w}?
* How long can I stay {w}?
* At what times are you open {w}?
* Till what hour do you let people in {w}?
""")
REVERSE: dict[str, tuple[Phrasings, str]] = {
    "office": (phrasings("(Who|Which person) (is|sits|works|can I find|do I meet|has an office) {v}(| please)?\nWho is {v}?\nWho sits {v}?\nWhose office is {v}?\nWho can I find {v}?\nWho works {v}?\n(Who|Which colleague|Which of your people|Which of the staff) (has a desk|is based|is at work|can be found|receives visitors|has a room|is to be found|is sitting) {v}(| please| here)?\n(Whom|Who) (can|will|would|could) I (see|get to see|talk to|visit|come across|speak to) {v}(| please)?\n(To whom|Who) does the (office|desk|room) {v} belong(| to)?\nIf I (go|come|knock) {v}, who (is there|will I see|do I find)?\n* Which person would I run into {v}?\n* Whom do I meet {v}?"), "You can find {e} {v}."),
    "time": (phrasings("(What|Which event|Which one) (starts|begins|is on|happens|takes place) at {v}(| please)?\nWhat starts at {v}?\nWhat is on at {v}?\nWhich event is at {v}?\nWhat happens at {v}?\nWhat begins at {v}?\n(What|Which event|What event|Which of the events) (can I attend|do you offer|is planned|is scheduled|will start|comes|is there|could I join|gets going|opens) at {v}(| please| today)?\nI (am free|have time|can come) at {v}. What (is on|is there|can I see|can I join)(| then)?\n* Which thing kicks off at {v}?\n* What do you have at {v}?"), "{E} starts at {v}."),
    "departs": (phrasings("(What|Which one|Which) (leaves|departs|goes|sets off) at {v}(| please)?\nWhich one leaves at {v}?\nWhere can I go at {v}?\nWhat leaves at {v}?\n(What|Which one|Which train|Which line|What connection) (will leave|sets out|starts|is due to leave|pulls out|goes off|can I catch|is there) at {v}(| please| today)?\n* Which of them is off at {v}?\n* What departs at {v}?"), "{E} leaves at {v}."),
    "place": (phrasings("(What|What exactly) (is|can I find|do I find|can I see|do you have|is there|takes place|goes on) {v}(| please)?\nWhat is {v}?\nWhat takes place {v}?\nWhat can I find {v}?\nWhat do you have {v}?\nWhat is there {v}?\n(What|What exactly|Which thing|Which of your things) (happens|is located|stands|lies|will I find|would I find|can one see|can be found|is to be found|is situated|do you keep|is waiting|is going on|is shown|awaits me|am I going to find|is placed|do people find) {v}(| please| here| exactly)?\nIf I (go|come|look|walk|stand) {v}, what (do I find|will I find|do I see|is there|will I see)?\n(Tell me|I want to know|I'd like to know|Please say) what (is|I find|can be found|there is|one finds|I can see) {v}(| please).\n* What would be {v}?\n* Which place am I at if I stand {v}?\n* What goes on {v}?"), "{E} {be} {v}."),
    "host": (phrasings("(What|Which one|Which event) (is led|is run|is given|is hosted|is taught) by {v}(| please)?\nWhat does {v} lead?\nWhich event is with {v}?\nWhat does {v} teach?\nWhat is {v} doing?\nWhich one is led by {v}?\n(What|Which event|Which course|Which of the events|Which one) (does|will|is) {v} (lead|run|give|host|teach|present|hold|offer|leading|running|giving|hosting|teaching)(| here| please)?\n(What|Which one|Which event|Which course) is (presented|guided|held|directed|offered|organised|done|conducted) by {v}(| please| here)?\n(I want to|I'd like to|Can I|Could I) (see|attend|join|go to) (something|an event|the one|what there is) (with|by|from) {v}.\n* With what can I see {v}?\n* Which event has {v} at the front?\n* What is run by {v}?"), "{E} is led by {v}."),
    "maker": (phrasings("(What|Which work|Which piece) (was made|is made|was created|is|was painted) by {v}(| please)?\nWhat did {v} make?\nWhich work is by {v}?\nWhat do you have by {v}?\n(What|Which work|Which piece|Which of the works) (was built|was carved|was drawn|was shaped|was produced|was designed|comes from the hand of|was given|do you show that is|can I see) by {v}(| please| here)?\n(What|Which one|Which work) (did|has|could) {v} (paint|create|build|carve|produce|make|draw|design)(| here| please)?\n(Show me|I want to see|I'd like to see|Where is) (the work|the piece|what you have|something|the one) (by|of|from) {v}(| please).\n* Which of these do we owe to {v}?\n* What was created by {v}?"), "{E} was made by {v}."),
    "platform": (phrasings("(What|Which one) (leaves|goes|departs|starts) from {v}(| please)?\nWhat leaves from {v}?\nWhere does the one from {v} go?\nWhich one goes from {v}?\n(What|Which one|Which line|Which train) (can I take|runs|is going|is leaving|sets off|can I catch|will go|rolls out) from {v}(| please| today)?\nI'm (standing|waiting|sitting) at {v}. (What|Which one|Which train) (leaves|goes|starts) (here|from here)?\n* Which of them pulls out of {v}?\n* What departs from {v}?"), "{E} leaves from {v}."),
}  # fmt: skip
YES_NO: dict[str, Phrasings] = {
    "place": phrasings("{be} {e} {v}?\nIs it true that {e} {be} {v}?\nI think {e} {be} {v}, right?\n(Do I|Will I|Can I|Would I|Do people) find {e} {v}(|, please| here| then| or not)?\n{E} {be} {v}, (correct|isn't that so|is that so|yes|true|no|or not|am I right)?\n(Somebody|A friend|The guide|A man|The lady|My wife) (told me|says|said|thinks) that {e} {be} {v}. (Is that|Is it|Could that be) (right|true|correct|so)?\n(Is it|Is that) (so|correct|right|a fact|still so) that {e} {be} {v}(| please)?\n(Am I|Are we) (right|correct) (that|in thinking that|to think that) {e} {be} {v}?\n{be} {e} (still|now|actually|always|found|located|perhaps|maybe|indeed|truly|in fact) {v}(| please)?\nSo {e} {be} {v}?\n* Can you confirm that {e} {be} {v}?\n* {be} {e} really {v}?"),
    "price": phrasings("{do} {e} cost {v}?\n{be} {e} {v}?\nIs the price of {e} {v}?\n(Do I|Would I|Will I|Do we|Must I) pay {v} for {e}(|, please| here| then| or not)?\n{E} {do_cost} {v}, (correct|isn't that so|is that so|yes|true|no|or not|am I right)?\n(Somebody|A friend|The guide|A man|The lady) (told me|says|said|thinks) that {e} {do_cost} {v}. (Is that|Is it|Could that be) (right|true|correct|so)?\n(Is it|Is that) (so|true|correct|right|a fact) that {e} {do_cost} {v}(| please)?\n{do} {e} (still|now|actually|always|indeed|truly|in fact) cost {v}(| please)?\nIs {v} the (right price|price|cost|fee) (of|for) {e}?\n* Can you confirm {v} for {e}?\n* {do} {e} really cost {v}?"),
    "time": phrasings("Does {e} start at {v}?\nIs {e} at {v}?\n{e} is at {v}, right?\nDoes {e} (still|now|actually|always|indeed|truly|in fact|perhaps) (start|begin) at {v}(| please| today)?\n{E} (starts|begins|is) at {v}, (correct|isn't that so|is that so|yes|true|no|or not|am I right)?\n(Somebody|A friend|The guide|A man|The lady) (told me|says|said|thinks) that {e} (starts|begins|is) at {v}. (Is that|Is it) (right|true|correct|so)?\n(Is it|Is that) (so|true|correct|right) that {e} (starts|begins|is) at {v}(| please)?\n* Can you confirm that {e} begins at {v}?\n* Does {e} really start at {v}?"),
    "host": phrasings("Is {e} led by {v}?\nIs {e} with {v}?\nDoes {v} lead {e}?\nDoes {v} (really |still |now |actually |indeed |)(lead|run|teach|host|give) {e}(| please| today)?\n{V} (leads|runs|hosts|teaches) {e}, (correct|right|is that so|yes|true|no|or not|am I right)?\n(Is it|Is that) (so|true|correct|right) that {e} is (led|run|hosted|given|taught) by {v}(| please)?\nIs {e} (really|still|now|actually|indeed) (led by|run by|with|given by) {v}?\n* Can you confirm that {v} leads {e}?\n* Is it {v} who leads {e}?"),
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
