"""Wordings for things that stand somewhere: where, when open, how big, under which number."""

from __future__ import annotations

from training.attribute import attribute

LOCATION = attribute(
    "location", "place", "Location|Where|Place|Position|Floor / area|Find it",
    """(Where|Where exactly|Whereabouts|In what place|In which place|On what floor|In which part of the building) {be} {e}(| located| situated| to be found| please| exactly| now)?
    (How|Which way|Where) do I (get|go|have to go) to (|find |reach ){e}(| from here| please)?
    (Can|Could|Would) you (show me|point me to|direct me to|help me find|tell me the way to|take me to) {e}(| please)?
    (I'm looking for|I need to find|I want to go to|I'd like to go to|I have to get to|I'm trying to find|I need|Help me find|Take me to|Show me) {e}(| please|, where is it|, can you help).
    (location|place|way|directions|position|the way|route) (of|to|for) {e}(|?| please)
    {k} (location|place|where|directions|floor|position|which floor)(|?)
    {e}( - where| - which floor|, where is it|, where do I go)?
    (Where|How) (can|could|do|would|should|might) (I|we|one|people|visitors) (find|reach|get to|see) {e}(| here| please| in this building)?
    Where {be} {e}?
    Where can I find {e}?
    Where do I find {e}?
    How do I get to {e}?
    Which way to {e}?
    I'm looking for {e}.
    Where exactly {be} {e}?
    What floor {be} {e} on?
    {e}, where?
    How can I find {e}?
    Where {be} {e} located?
    Where would I find {e}?
    Can you show me where {e} {be}?
    On which floor {be} {e}?
    I need to go to {e}.
    Point me to {e}.
    I can't find {e}.
    Whereabouts {be} {e}?
    * How do I reach {e}?
    * What is the way to {e}?
    * Where should I go for {e}?""",
    """where {e} {be}
    where I can find {e}
    where {e} {be} located
    how to get to {e}
    the way to {e}
    how I reach {e}
    * where I have to go for {e}""",
    """(And where|Where|Where exactly|Whereabouts|And whereabouts) is (it|that|this)(| exactly| located| please)?
    (And how|How|So how) do I (get there|find it|find that|reach it|get to it)?
    (And the|The|What is the) (place|location|position)(|, please)?
    Where is that?
    Where is it?
    And where is that?
    Where do I find it?
    How do I get there?
    Where exactly?
    And where can I find that one?
    * Whereabouts is it?""",
    "{E} {be} {v}.",
    """(Visitors|Guests|You|People) (can find|may find|will see|reach|get to) {e} {v}.
    (The way to|The place of|The location of) {e}: {v}.
    {E} {be} (situated|placed|to be found|waiting for you|here:) {v}.
    (Looking for|Searching) {e}? (Look|Go|It's) {v}.
    {E} {be} {v}.
    You will find {e} {v}.
    {E} {be} located {v}.
    Visitors find {e} {v}.
    {E} can be found {v}.
    If you need {e}, look {v}.
    {E} {be} situated {v}.
    * Look for {e} {v}.""",
)  # fmt: skip

PHONE = attribute(
    "phone", "phone", "Phone|Tel|Telephone|Phone number|Call|Number|Ext.|Contact",
    """(What's|What is|Tell me|Give me|I need|Do you have|Can I have|Is there) (the|a) (phone number|telephone number|number|phone|contact number) (of|for) {e}(| please)?
    (How|Where) (can|could|do|would|should) (I|we) (call|phone|ring|telephone|contact) {e}(| please)?
    (What|Which) number (do|should|can|must) I (call|dial|ring|use|phone) (for|to reach|to get|to contact) {e}(| please)?
    {k} (phone|phone number|number|telephone|tel|call|contact)(|?)
    (phone|number|telephone|phone number|tel) (of|for) {e}(|?| please)
    (I want to|I'd like to|I need to|I have to|May I|Can I) (call|phone|ring|dial|speak to) {e}(| please| by phone| on the phone)?
    (Under|By|With) (what|which) number (can|do) I (reach|call|get|contact) {e}?
    What's the phone number of {e}?
    What is the telephone number for {e}?
    How can I call {e}?
    Phone number of {e}?
    What number do I call for {e}?
    How do I reach {e} by phone?
    I need the number of {e}.
    Which number does {e} have?
    Do you have a phone number for {e}?
    Can I call {e}?
    Can I phone {e}?
    Give me the telephone number of {e}.
    * Under which number can I reach {e}?
    * What do I dial for {e}?""",
    """the phone number of {e}
    how to reach {e} by phone
    the telephone number for {e}
    what number to call for {e}
    what I dial for {e}
    * under which number I can reach {e}""",
    """(And the|The|What's the|What is the) (phone number|number|telephone|phone)(|, please)?
    (And how|How) can I (call|phone|ring|reach) (them|there|that)(| by phone)?
    (What|Which) number (do|should) I (dial|call)(| there| then)?
    (Can|May) I (call|phone|ring)(| them| there)?
    What's the phone number?
    What is the number?
    Can I call there?
    And the phone number?
    Is there a phone number?
    What do I dial?
    * And by phone?""",
    "The phone number of {e} is {v}.",
    """(To|If you want to) (call|reach|contact) {e}, (dial|ring|use|call) {v}.
    {E} (has|have) the (phone number|number|extension) {v}.
    (The|Our) (number|telephone|phone) (of|for) {e} is {v}.
    {E} {be} (at|under|on) {v}.
    The phone number of {e} is {v}.
    You can reach {e} at {v}.
    Call {v} for {e}.
    Phone {e} on {v}.
    {E} can be reached by phone under {v}.
    * Dial {v} for {e}.""",
    "tel. {v}|phone {v}|phone: {v}|Tel {v}|ext. {v}|☎ {v}|call {v}|{v}|{v}",
)  # fmt: skip

OPEN = attribute(
    "open", "time", "Open|Hours|Opening hours|Times",
    """(When|At what time|At what times|From when|Until when|Till when|How long|During which hours) {be} {e} open(| today| please| each day)?
    (When|At what time|What time) {do} {e} (open|close|shut)(| today| please)?
    {k} (hours|opening hours|open|opening times|when|times)(|?)
    (hours|opening hours|opening times|times) (of|for) {e}(|?| please)
    (When|During which hours|At what times) can (I|we) (use|visit|go to|come to) {e}?
    When {be} {e} open?
    What are the opening hours of {e}?
    What time {do} {e} open?
    When {do} {e} close?
    Until when {be} {e} open?
    How long {be} {e} open?
    Opening times of {e}?
    From when {be} {e} open?
    At what times {be} {e} open?
    * During which hours can I use {e}?""",
    """when {e} {be} open
    what the opening hours of {e} are
    how long {e} {be} open
    * at what times {e} {be} open""",
    """(And when|When|At what times|Until when|How long|From when) is it open(| please| today)?
    (And the|The|What are the) (opening hours|hours|opening times)(|, please)?
    (And when|When) does it (open|close|shut)?
    When is it open?
    And the opening hours?
    When does it close?
    Until when is it open?
    * At what times is it open?""",
    "{E} {be} open {v}.",
    """{E} (can be visited|can be used|is yours|{be} available) {v}.
    (The|Our) (hours|opening hours|opening times) of {e} (are|run) {v}.
    {E} {be} open {v}.
    You can use {e} {v}.
    {E} {be} open daily {v}.
    * Visit {e} {v}.""",
    "{v}|open {v}|{v}|hours: {v}",
)  # fmt: skip

CAPACITY = attribute(
    "capacity", "number", "Capacity|Seats|People|Max. people|Persons",
    """How many (people|persons|guests|visitors) (fit|go|are allowed|have space|have room) (in|into|inside) {e}?
    How many (people|persons|guests|visitors|seats|chairs|places) (can|does|will) {e} (hold|have|take|seat|fit)?
    {e} (capacity|seats|size|how many people|people|places)(|?)
    (capacity|size|seats) of {e}(|?)
    How (big|large) is {e}(|? How many people fit in|? For how many people)?
    For how many (people|persons|guests|visitors) is {e}(| made| meant)?
    How many people fit in {e}?
    How many seats does {e} have?
    What's the capacity of {e}?
    How big is {e}?
    How many people can use {e}?
    How many persons are allowed in {e}?
    For how many people is {e}?
    * How many will {e} hold?""",
    """how many people fit in {e}
    the capacity of {e}
    how many seats {e} has
    * for how many people {e} is""",
    """(And how many|How many) (people|persons|seats|places|guests) (fit in|does it have|can it hold|are there)?
    (And the|The|What's the) (capacity|size)(|, please)?
    For how many (people|persons) is (it|that)?
    How many people fit in?
    How many seats does it have?
    And the capacity?
    * For how many people is it?""",
    "{E} has room for {v} people.",
    """{E} (offers|provides|gives) (room|space|seats) for {v} (people|persons|guests).
    {E} (holds|takes|can take) (up to|at most|no more than) {v} (people|persons|guests).
    {E} has room for {v} people.
    {E} has {v} seats.
    Up to {v} people fit in {e}.
    {E} seats {v}.
    * {E} holds {v} people.""",
    "{v} seats|{v} people|seats {v}|max. {v} people|{v} persons",
)  # fmt: skip

VENUE = attribute(
    "place", "place", "Place|Room|Location|Where|Venue",
    """(Where|Where exactly|In which room|In what room|In what place|In which hall|On which floor) is {e}(| held| taking place| on| please| happening)?
    (Where|In which room|In what place|In what location) does {e} (take place|happen|run|start)?
    Where (do|should|must) (I|we) (go|be|come) for {e}(| please)?
    {e} (where|room|place|location|which room|hall)(|?)
    (room|place|location) (of|for) {e}(|?| please)
    (I want to|I'd like to|We want to) (go to|see|attend|join) {e}. (Where is it|Where do I go|Which room|Where)?
    Where is {e}?
    Where does {e} take place?
    Which room is {e} in?
    In which room is {e}?
    Where do I go for {e}?
    Where is {e} held?
    What's the place of {e}?
    Where can I see {e}?
    In what location is {e} held?
    * Where do I have to be for {e}?""",
    """where {e} is
    where {e} takes place
    which room {e} is in
    where {e} is held
    * in what location {e} is held""",
    """(And where|Where|Where exactly|Whereabouts|And whereabouts) is (it|that|this)(| exactly| located| please)?
    (And how|How|So how) do I (get there|find it|find that|reach it|get to it)?
    (And the|The|What is the) (place|location|position)(|, please)?
    (And where|Where|In which room|In what room|In what place) (is it held|does it take place|do I go|is it)(| please)?
    Where is it?
    Where is that?
    Which room?
    Where does it take place?
    And where?
    In what place?
    * And where is it held?""",
    "{E} is {v}.",
    """{E} (happens|will be|is held|goes on|runs) {v}.
    (Join us|Come|Go) {v} for {e}.
    (The place|The room) of {e}: {v}.
    {E} takes place {v}.
    {E} is {v}.
    We hold {e} {v}.
    Come to {e} {v}.
    * {E} is held {v}.""",
)  # fmt: skip
