"""Wordings for what takes place, departs or is on display."""

from __future__ import annotations

from training.attribute import attribute

START_TIME = attribute(
    "time", "time", "Time|Starts|Start|Begins|When|At",
    """(When|At what time|At what hour|What time) (does|will) {e} (start|begin|happen|take place|get going|open|kick off)(| please)?
    (When|At what time|What time|At what hour) is {e}(| on| starting| beginning| please| held)?
    {e} (time|when|start|start time|starting time|begins|what time)(|?)
    (time|start|starting time|beginning|start time) (of|for) {e}(|?| please)
    (When|At what time) (do|should|must) (I|we) (be there|come|arrive|show up) for {e}?
    (I want to|I'd like to|We want to) (go to|see|attend|visit|join) {e}. (When does it start|When is it|What time|At what time|When do I come)?
    When does {e} start?
    What time does {e} start?
    When is {e}?
    At what time is {e}?
    When does {e} begin?
    What time is {e}?
    Start of {e}?
    When do I need to be there for {e}?
    At what hour does {e} begin?
    * What is the starting time of {e}?
    * When will {e} get going?""",
    """when {e} starts
    what time {e} is
    when {e} begins
    at what time {e} starts
    at what hour {e} begins
    * the starting time of {e}""",
    """(And when|When|At what time|At what hour|What time) (does|will) it (start|begin|get going)(| please)?
    (And when|When|At what time) is (it|that|this)(| on| please)?
    (And the|The|What's the) (time|start|starting time|start time)(|, please)?
    When does it start?
    What time?
    What time does it start?
    When is that?
    And when?
    At what time?
    At what hour does it begin?
    * And the starting time?""",
    "{E} starts at {v}.",
    """{E} (is at|runs from|will start at|opens at|is on at) {v}.
    (Be there|Come|The doors open) for {e} at {v}.
    (The start|The beginning|The time) of {e} is {v}.
    {E} starts at {v}.
    {E} begins at {v}.
    At {v} we have {e}.
    Join us for {e} at {v}.
    The starting time of {e} is {v}.
    * {E} gets going at {v}.""",
    "{v}|at {v}|starts at {v}|starts {v}",
)  # fmt: skip

DAY = attribute(
    "day", "day", "Day|Date|On|When",
    """(On which|On what|Which|What) (day|date|weekday|day of the week) is {e}(| on| held| please)?
    {e} (day|date|which day|what day)(|?)
    (day|date) of {e}(|?| please)
    (On which|On what|Which|What) (day|date|weekday|day of the week) (does|will) {e} (take place|happen|be held)?
    On which day is {e}?
    What day is {e}?
    Which day does {e} take place?
    On what date is {e}?
    Which day is {e} on?
    On what day of the week is {e}?
    * When in the week is {e} held?""",
    """on which day {e} is
    what day {e} is on
    which day {e} takes place
    * on what day of the week {e} is held""",
    """(And on|On) (which|what) (day|date|weekday|day of the week)(| is it| is that)?
    (And the|The|What's the) (day|date)(|, please)?
    On which day?
    What day is that?
    Which day?
    * And on what day of the week?""",
    "{E} is on {v}.",
    """{E} (is held|happens|will be|runs) on {v}.
    (Join us|Come) for {e} on {v}.
    {E} takes place on {v}.
    {E} is on {v}.
    On {v} there is {e}.
    * We hold {e} on {v}.""",
    "{v}|{v}|on {v}",
)  # fmt: skip

HOST = attribute(
    "host", "person", "Host|With|Led by|Speaker|Teacher|By|Guide|Instructor",
    """(Who|Which person) (leads|runs|hosts|gives|teaches|guides|does|organises|holds|presents|is responsible for|is in charge of) {e}(| please| today)?
    (By whom|From whom|With whom) is {e}(| led| run| hosted| given| taught)?
    Who is the (host|leader|teacher|guide|speaker|person in charge|trainer|instructor) (of|for) {e}?
    {e} (host|teacher|leader|who|guide|speaker|with whom)(|?)
    Who will (lead|run|teach|give|host|do) {e}(| today| please)?
    Who leads {e}?
    Who hosts {e}?
    Who gives {e}?
    Who is the host of {e}?
    Who teaches {e}?
    Who runs {e}?
    Who is in charge of {e}?
    With whom is {e}?
    Who does {e}?
    By whom is {e} led?
    * Who is responsible for {e}?
    * Which person runs {e}?""",
    """who leads {e}
    who hosts {e}
    who teaches {e}
    who runs {e}
    by whom {e} is led
    * who is responsible for {e}""",
    """(And who|Who) (leads|runs|hosts|gives|teaches|does|holds) (it|that|this)(| please)?
    (By|With) whom is (it|that)(| led| run)?
    (And the|The|Who is the) (host|teacher|leader|guide)(|, please)?
    Who leads it?
    Who runs it?
    Who teaches it?
    And who hosts it?
    Who is it with?
    * By whom is it led?""",
    "{E} is led by {v}.",
    """{E} (is given|is taught|is run|is presented|is guided) by {v}.
    {V} (teaches|hosts|gives|presents|holds|guides) {e}.
    (The host|The teacher|The leader|In charge) of {e} is {v}.
    {E} is led by {v}.
    {V} leads {e}.
    {V} runs {e}.
    {E} is hosted by {v}.
    * {E} is in the hands of {v}.""",
    "with {v}|led by {v}|host: {v}|by {v}",
)  # fmt: skip

PLATFORM = attribute(
    "platform", "place", "Platform|Track|Gate|Stop|Bay",
    """(From which|From what|Which|What) (platform|track|gate|bay|stop) does {e} (leave|go|depart|start)(| from)?
    (Where|From where) does {e} (leave|go|depart|start|set off)(| from)?
    {k} (platform|where|track|gate|from where)(|?)
    (Which|What) platform (do I need|is it|should I take) for {e}?
    Which platform does {e} leave from?
    Where does {e} leave?
    From which platform does {e} go?
    Which platform for {e}?
    Where does {e} depart?
    What platform is {e}?
    Which platform do I need for {e}?
    * From where does {e} depart?""",
    """which platform {e} leaves from
    where {e} leaves
    * from where {e} departs""",
    """(From which|From what|Which|And which|And from which) (platform|track|gate|stop)(| is it| please)?
    (And where|Where|From where) does it (leave|go|depart|start)(| from)?
    Which platform?
    From where?
    Where does it leave from?
    * And from which platform?""",
    "{E} leaves from {v}.",
    """{E} (goes|starts|runs) from {v}.
    (Take|Catch|Board) {e} (at|on|from) {v}.
    {E} leaves from {v}.
    {E} departs from {v}.
    * You board {e} at {v}.""",
)  # fmt: skip

DEPARTURE = attribute(
    "time", "time", "Time|Departure|Departs|Leaves",
    """(When|At what time|At what hour|What time) (does|will) {e} (leave|go|depart|start|set off)(| please| today)?
    {k} (time|when|departure|leaves|departs|what time)(|?)
    (time|departure|departure time) (of|for) {e}(|?| please)
    (I want to take|I need to catch|I'd like to take) {e}. (When does it leave|What time|When)?
    When does {e} leave?
    What time does {e} leave?
    When does {e} depart?
    At what time does {e} go?
    When is {e}?
    Departure time of {e}?
    At what hour does {e} depart?
    * When will {e} set off?""",
    """when {e} leaves
    what time {e} departs
    * at what hour {e} departs""",
    """(And when|When|At what time|At what hour|What time) does it (leave|go|depart|set off)(| please)?
    (And the|The|What's the) (time|departure|departure time)(|, please)?
    When does it leave?
    What time?
    And when does it depart?
    * At what hour?""",
    "{E} leaves at {v}.",
    """{E} (goes|starts|sets off|is due) at {v}.
    (Take|Catch) {e} at {v}.
    {E} leaves at {v}.
    {E} departs at {v}.
    * At {v} {e} sets off.""",
    "{v}|{v}|at {v}|dep. {v}|leaves {v}",
)  # fmt: skip

DURATION = attribute(
    "duration", "duration", "Duration|Takes|Length|Time needed|How long",
    """(How long|How much time|How many minutes) (does|will) {e} (take|last|need|run)(| please)?
    How (long|much time) (do|should|must) I (wait|plan|need|allow) for {e}?
    {k} (duration|how long|length|time needed)(|?)
    (duration|length) of {e}(|?| please)
    How long does {e} take?
    How long is {e}?
    How much time does {e} take?
    What is the duration of {e}?
    How many minutes does {e} take?
    How long will {e} last?
    (How much time|How many hours|How many minutes|What time) (should|must|would|will) I (keep free|set aside|bring|reserve|spend) for {e}(| please)?
    (What is|What's|Tell me|I need) the (length|time needed|duration) (of|for) {e}(| please)?
    (How long|Until when|How much time) (am I|are we|will I be|are people) busy with {e}(| please)?
    * How much time do I need for {e}?""",
    """how long {e} takes
    how long {e} is
    the duration of {e}
    * how long {e} will last""",
    """(And how long|How long|How much time) (does it take|will it take|does it last|will it last|is it|does that take)(| please)?
    (And the|The|What's the) (duration|length)(|, please)?
    How long does it take?
    How long is it?
    And how long?
    How long does that take?
    * How long will it last?""",
    "{E} takes {v}.",
    """{E} (needs|is|goes on for|will take) {v}.
    (You need|Reserve|It takes) {v} for {e}.
    {E} takes {v}.
    {E} lasts {v}.
    Plan {v} for {e}.
    * Allow {v} for {e}.""",
    "{v}|{v}|takes {v}|duration {v}",
)  # fmt: skip

MAKER = attribute(
    "maker", "person", "Artist|By|Maker|Author|Creator|Donated by",
    """(Who|Which artist|Which person) (made|created|painted|built|designed|did|drew) {e}(| please)?
    (By whom|From whom) is {e}(| made| created| painted)?
    Whose (piece|creation|picture|design) is {e}(| please)?
    {e} (artist|maker|who|creator|by)(|?)
    (artist|maker|creator) of {e}(|?| please)
    Who made {e}?
    Who is the artist of {e}?
    Who created {e}?
    By whom is {e}?
    Who is {e} by?
    Who painted {e}?
    Whose work is {e}?
    * Which artist created {e}?""",
    """who made {e}
    who created {e}
    the artist of {e}
    * whose work {e} is""",
    """(And who|Who) (made|created|painted|did) (it|that|this)(| please)?
    (And the|The|Who is the) (artist|maker|creator)(|, please)?
    (By whom|From whom) is (it|that)?
    Who made it?
    Who is it by?
    And who is the artist?
    * Whose work is it?""",
    "{E} was made by {v}.",
    """{E} (is a work|is a piece|is a creation) of {v}.
    {V} (created|is the maker of|is the artist of) {e}.
    {E} was made by {v}.
    {E} is by {v}.
    {V} made {e}.
    * {E} is a work of {v}.""",
    "by {v}|{v}",
)  # fmt: skip

YEAR = attribute(
    "year", "year", "Year|From|Made in|Date",
    """(When|In what year|In which year) was {e} (made|created|built|painted|finished)?
    (From|Of) (what|which) (year|time|date) is {e}?
    {e} (year|when|age|how old|date)(|?)
    (year|age|date) of {e}(|?| please)
    How old is {e}(| now| exactly| really)?
    From which year is {e}?
    When was {e} made?
    How old is {e}?
    What year is {e} from?
    In which year was {e} made?
    From what time does {e} date?
    (When|In which year|In what year) (did someone|did they|did the artist|was it that someone) (make|paint|build|finish) {e}(| please)?
    (Since when|For how long) (does|has) {e} (exist|existed|been there)(| please)?
    * When was {e} created?""",
    """what year {e} is from
    when {e} was made
    * when {e} was created""",
    """(And when|When|In what year|In which year) was (it|that) (made|created|finished)?
    (And how|How) old is (it|that)(| please)?
    (And the|The|From what|From which) year(|, please| is it)?
    From which year is it?
    When was it made?
    How old is it?
    * And when was it created?""",
    "{E} is from {v}.",
    """{E} is from {v}.
    {E} was made in {v}.
    * {E} dates from {v}.""",
    "{v}|{v}|from {v}|made in {v}",
)  # fmt: skip
