"""Wordings for people: who does what, and where and how to reach them."""

from __future__ import annotations

from training.attribute import attribute

EMAIL = attribute(
    "email", "email", "Email|E-mail|Mail|Email address",
    """(What's|What is|Tell me|Give me|I need|Do you have|Can I have|Is there) (the|an) (email|e-mail|mail|email address|e-mail address|mail address) (of|for) {e}(| please)?
    (How|Where) (can|could|do|would|should) (I|we) (email|e-mail|mail|write to|send a mail to|send an email to) {e}(| please)?
    {e} (email|e-mail|mail|email address|mail address)(|?)
    (email|e-mail|mail|email address) (of|for) {e}(|?| please)
    (I want to|I'd like to|I need to|I have to|May I|Can I) (email|e-mail|mail|write to|send an email to) {e}(| please)?
    (To|At|Under) (what|which) (address|email|e-mail|mail address) (can|do) I (write to|mail|email|reach) {e}?
    What's the email address of {e}?
    How can I email {e}?
    What is the e-mail of {e}?
    Email of {e}?
    Where can I write to {e}?
    Do you have an email address for {e}?
    I want to send {e} an email.
    To which address do I mail {e}?
    * Give me the e-mail address of {e}.""",
    """the email address of {e}
    how to email {e}
    the e-mail of {e}
    * to which address I can mail {e}""",
    """(And the|The|What's the|What is the|And their|And her|And his) (email|e-mail|mail|email address)(|, please)?
    (How|Where) can I (write|email|mail)(| them| to them)?
    (And|How about) (by email|by mail|email|via e-mail)?
    And the email?
    What's the email address?
    Is there an email address?
    * And by e-mail?""",
    "The email address of {e} is {v}.",
    """{E} (reads|has|answers|uses) (the mail|the email|messages|the address)(| at) {v}.
    (Email|Mail|Write to|Contact) {e}(| by mail| by email): {v}.
    The email address of {e} is {v}.
    Write to {e} at {v}.
    {E} can be emailed at {v}.
    * Send mail for {e} to {v}.""",
    "{v}|email {v}|e-mail: {v}",
)  # fmt: skip

ROLE = attribute(
    "role", "role", "Role|Position|Job|Function|Title|Responsible for",
    """(What|Which) (job|role|position|function|task|title) does {e} (have|hold|do|fill)(| here)?
    (Tell me|Can you tell me|I want to know|Do you know) who {e} (is|might be)(| please)?
    What (is|would be) {e}'s (job|role|position|title|function|work)(| here)?
    {e} (job|role|position|function|who)(|?)
    In (what|which) (role|job|position) does {e} work(| here| for you)?
    What (does|will) {e} do(| here| for you| at work)?
    Who is {e}?
    What does {e} do?
    What is {e}'s job?
    What's the role of {e}?
    What position does {e} have?
    What is {e} responsible for?
    In what role does {e} work here?
    * Tell me who {e} is.""",
    """who {e} is
    what {e} does
    the role of {e}
    * in what role {e} works here""",
    """(And what|What) (do they do|does she do|does he do|is their job|is the job|is her job|is his role)(| here)?
    (And|What's|What is) (their|her|his) (role|position|function|job|title)(| please)?
    What do they do?
    What is their job?
    * And what is their role?""",
    "{E} is the {v}.",
    """{E} (acts as|has the job of|is our|has been our|is also) {v}.
    (As|Our) {v} (we have|is|we employ) {e}.
    The (job|role|position) of {v} (belongs to|is done by|went to) {e}.
    {E} is the {v}.
    {E} works as {v}.
    Our {v} is {e}.
    The {v} is {e}.
    {E} serves as {v}.
    * The position of {v} is held by {e}.""",
    "{v}|{v}|our {v}",
)  # fmt: skip

OFFICE = attribute(
    "office", "place", "Room|Office|Where|Location",
    """(Where|In which room|In what room|Which room|On what floor) (is|sits|works) {e}(| now| please)?
    (Where|How|In which room) (can|could|do|should|would) I (find|meet|see|reach|visit) {e}(| please| today| in person)?
    {e} (room|office|where|location|room number)(|?)
    (room|office|location) of {e}(|?| please)
    (I have a meeting with|I have an appointment with|I want to see|I need to see|I'd like to meet|I'm looking for|I am here for|I need to talk to) {e}. (Where do I go|Where is that|Which room|Where|Where to)?
    (Where|In which room) is {e}'s (office|room|desk|place)(| please)?
    Where (do|should|must) I (go|come) to (see|meet|visit|talk to) {e}?
    Where is {e}?
    Where can I find {e}?
    Where is {e}'s office?
    Which room is {e} in?
    What room is {e} in?
    In which room does {e} work?
    I have an appointment with {e}. Where do I go?
    Where does {e} sit?
    I'm looking for {e}.
    I'm here to see {e}.
    Room of {e}?
    In what room do I find {e}?
    (Where|In which room|To what room|Where exactly) (must|should|would|can|shall) (I|we) (be|turn up|wait|knock|look) (to see|to meet|to visit|if I want to see) {e}(| please)?
    * Where do I have to go to see {e}?""",
    """where {e} is
    where I can find {e}
    which room {e} is in
    where {e}'s office is
    in what room I find {e}
    * where I have to go to see {e}""",
    """(Where|In which room|In what room|And where) (is|can I find|do I find) (her|him|them|that person)(| please)?
    (And the|The|What's the|Which|And which) (room|office|room number)(|, please)?
    (Where|And where) is (the|their|her|his) (office|room)(| please)?
    Where is the office?
    Where can I find them?
    Which room?
    And the room?
    Where do I find her?
    Where do I find him?
    Where do they sit?
    And where is that person's office?
    * In what room?""",
    "You can find {e} {v}.",
    """(Find|Meet|Visit|See) {e} {v}.
    {E} (has an office|has a desk|can be found|is to be found|receives visitors) {v}.
    (The office|The desk|The room) of {e} is {v}.
    You can find {e} {v}.
    {E} is {v}.
    The office of {e} is {v}.
    {E} works {v}.
    To see {e}, come to the office {v}.
    * {E} sits {v}.""",
)  # fmt: skip

PERSON_PHONE = attribute(
    "phone", "phone", "Phone|Tel|Ext.|Extension|Telephone|Direct line",
    """(What's|What is|Tell me|Give me|I need|Do you have|Can I have|Is there) (the|a) (phone number|telephone number|number|phone|contact number) (of|for) {e}(| please)?
    (How|Where) (can|could|do|would|should) (I|we) (call|phone|ring|telephone|contact) {e}(| please)?
    (What|Which) number (do|should|can|must) I (call|dial|ring|use|phone) (for|to reach|to get|to contact) {e}(| please)?
    {k} (phone|phone number|number|telephone|tel|call|contact)(|?)
    (phone|number|telephone|phone number|tel) (of|for) {e}(|?| please)
    (I want to|I'd like to|I need to|I have to|May I|Can I) (call|phone|ring|dial|speak to) {e}(| please| by phone| on the phone)?
    (Under|By|With) (what|which) number (can|do) I (reach|call|get|contact) {e}?
    What's {e}'s phone number?
    How can I call {e}?
    What is the phone number of {e}?
    How do I reach {e} by phone?
    Can I phone {e}?
    Number of {e}?
    I need to call {e}.
    What is {e}'s extension?
    Under which number do I get {e}?
    * What do I dial to speak to {e}?""",
    """{e}'s phone number
    how to reach {e} by phone
    the phone number of {e}
    * what to dial to speak to {e}""",
    """(And the|The|What's the|What is the) (phone number|number|telephone|phone)(|, please)?
    (And how|How) can I (call|phone|ring|reach) (them|there|that)(| by phone)?
    (What|Which) number (do|should) I (dial|call)(| there| then)?
    (Can|May) I (call|phone|ring)(| them| there)?
    (And|What's|What is) (her|his|their) (phone number|number|extension|telephone)(| please)?
    What's her phone number?
    What's his phone number?
    And the phone number?
    What's their number?
    How can I call them?
    And under which number?
    * What do I dial?""",
    "The phone number of {e} is {v}.",
    """(To|If you want to) (call|reach|contact|speak to) {e}, (dial|ring|use|call) {v}.
    {E} (has|is available under) the (phone number|number|extension) {v}.
    {E} (can be called|can be reached|is) (at|under|on) {v}.
    The phone number of {e} is {v}.
    You can reach {e} at {v}.
    Call {e} on {v}.
    {E} answers the phone at {v}.
    * Dial {v} to speak to {e}.""",
    "tel. {v}|phone {v}|ext. {v}|{v}|Tel: {v}",
)  # fmt: skip

FIELD = attribute(
    "field", "field", "Field|For|Specialty|Treats|Subject",
    """What does {e} treat?
    What is {e} for?
    What is {e}'s (field|specialty|area|subject)(| here| please)?
    Which (field|specialty|area|subject) (does|has) {e} (have|cover|work in)?
    {e} (field|specialty|area|subject|for what)(|?)
    What kind of doctor is {e}?
    (For what|With what|For which problems) (do|can|should) I (see|go to|visit) {e}?
    * In which field does {e} practise?""",
    """what {e} treats
    which field {e} has
    * in which field {e} works""",
    """What do they treat?
    (And what|What|And which|Which) (field|specialty|area) is (it|that)(| please)?
    * And in which field?""",
    "{E} is responsible for {v}.",
    """{E} is responsible for {v}.
    {E} treats {v}.
    For {v}, see {e}.
    Go to {e} for {v}.
    * {E} takes care of {v}.""",
)  # fmt: skip

CONTACT = attribute(
    "contact", "person", "Contact|Contact person|Ask for|Responsible|By",
    """Who is the contact (person |)for {e}?
    (Who|Which person) (is responsible for|is in charge of|takes care of|handles|looks after|does|answers for) {e}(| please| here)?
    (Who|Whom) (do|should|can|must) I (ask|contact|call|speak to|see) (about|for) {e}(| please)?
    {k} (contact|who|contact person|person)(|?)
    (I have a question|I want to talk to somebody|I need someone) about {e}. (Who is that|Who do I ask|Who can help)?
    * By whom is {e} looked after?""",
    """who is responsible for {e}
    who the contact for {e} is
    whom to ask about {e}
    * who looks after {e}""",
    """Who is the contact?
    (And who|Who) (is responsible|is in charge|do I ask|is the contact)(| for it| for that| please)?
    * By whom is it looked after?""",
    "The contact for {e} is {v}.",
    """The contact for {e} is {v}.
    {V} is responsible for {e}.
    Ask {v} about {e}.
    For {e}, contact {v}.
    * {V} looks after {e}.""",
    "{v}|contact {v}|ask {v}|contact: {v}|{v}",
)  # fmt: skip
