"""Wordings for what things and tickets cost."""

from __future__ import annotations

from dataclasses import replace

from training.attribute import attribute
from training.phrasings import phrasings

PRICE_TICKET = attribute(
    "price", "money", "Price|Fee|Cost|Ticket|Admission|Rate|Entry",
    """(How much|What) (do|would|must|will|should) {e} (pay|have to pay|need to pay|spend)(| here| to get in| to come in| for a ticket| for entry)?
    (How much|How expensive) is (a ticket|entry|admission|the entrance|it|a visit|the ticket) for {e}(| here| please| today)?
    (What's|What is|Tell me|I need) the (price|cost|fee|charge|rate|ticket price|entrance fee|admission) for {e}(| please)?
    {e} (price|ticket|ticket price|cost|fee|how much|entry|admission|rate)(|?)
    (ticket|tickets|price|entry|admission|one ticket|two tickets) for {e}(|?| please|, how much|, what does it cost)
    (I am here with|I come with|We are|I'm bringing) {e}. (How much is it|What do we pay|What does it cost|How much)?
    How much is a ticket for {e}?
    How much do {e} pay?
    What's the price for {e}?
    What do {e} pay?
    How much is entry for {e}?
    How much is it for {e}?
    What does it cost for {e}?
    What is the admission for {e}?
    How much does a ticket for {e} cost?
    Ticket price for {e}?
    Price for {e}?
    how much for {e}?
    What is the entrance fee for {e}?
    Do {e} have to pay?
    What do you charge for {e}?
    * How expensive is a ticket for {e}?
    * What is the rate for {e}?
    * How much would {e} have to pay?""",
    """how much a ticket for {e} is
    what {e} pay
    how much it costs for {e}
    the price for {e}
    what a ticket for {e} costs
    what you charge for {e}
    * how much {e} have to pay""",
    """How much is that?
    And the price?
    * What would that cost?""",
    "A ticket for {e} costs {v}.",
    """{E} (have to pay|get in for|are charged|enter for) {v}.
    (The|Our) (ticket|entrance fee|admission|price) for {e} (is|costs) {v}.
    (We take|We ask|You pay) {v} for {e}.
    A ticket for {e} costs {v}.
    {E} pay {v}.
    Admission for {e} is {v}.
    The price for {e} is {v}.
    Entry is {v} for {e}.
    We charge {v} for {e}.
    * For {e}, a ticket is {v}.""",
)  # fmt: skip

FREE_TICKET = replace(
    PRICE_TICKET,
    answers=("Entry is free for {e}.",),
    prose=phrasings("""
    Entry is free for {e}.
    {E} pay nothing: entry is free.
    Admission is free for {e}.
    * {E} come in free."""),
)

PRICE = attribute(
    "price", "money", "Price|Fee|Cost|Costs|Charge|Rate",
    """(How much|What) (do|would|will|must|should) (I|we|you) (pay|have to pay|need to pay|spend) for {e}(| here| please)?
    (What's|What is|Tell me|Give me|I need|I want to know) the (price|cost|fee|charge|rate|amount) (of|for) {e}(| please)?
    (How expensive|How much|How dear) {be} {e}(| here| today| please| nowadays)?
    {k} (price|cost|fee|how much|costs|charge|rate)(|?)
    (price|cost|fee|charge) (of|for) {e}(|?| please)
    {be} {e} (expensive|cheap|dear)(|? How much|? What does it cost)?
    (I want to buy|I'd like|I would like to have|I'll take|I want to get) {e}. (How much is it|What does it cost|How much|What do I pay|What's the price)?
    What {do} {e} (cost|go for|come to|sell for)(| here| please)?
    How much {be} {e}?
    How much {do} {e} cost?
    What {do} {e} cost?
    What's the price of {e}?
    What is the price for {e}?
    How much for {e}?
    Price of {e}?
    What do I pay for {e}?
    How much do you charge for {e}?
    How much do I have to pay for {e}?
    {e}, how much?
    What's the fee for {e}?
    How expensive {be} {e}?
    * What would I have to pay for {e}?
    * What {do} {e} go for?""",
    """how much {e} {be}
    how much {e} {do_cost}
    what {e} {do_cost}
    the price of {e}
    what I would have to pay for {e}
    * how expensive {e} {be}""",
    """(And how much|How much|How expensive) is (it|that|this)(| please| here)?
    (And what|What) (does|would|will) (it|that|this) cost(| me| please)?
    (And the|The|What's the|What is the) (price|cost|fee)(|, please)?
    (And what|What) (do|would|must) I pay(| for it| for that)?
    How much is it?
    How much is that?
    What does it cost?
    And the price?
    How much does that cost?
    What's the price?
    What would I pay for that?
    * Is it expensive? How much is it?""",
    "{E} {do_cost} {v}.",
    """(For|As for) {e} (you pay|we ask|we take|the price is|the fee is|please pay) {v}.
    (Our|The) (price|fee|charge|rate) (of|for) {e} is {v}.
    (Buy|Get|Try|Take|Book) {e} for (only |just |){v}.
    {E} (can be had for|can be bought for|{do_cost} only|{do_cost} you) {v}.
    {E} {do_cost} {v}.
    {E} {be} {v}.
    The price of {e} is {v}.
    You pay {v} for {e}.
    {E} {be} available for {v}.
    We offer {e} for {v}.
    * For {e} we charge {v}.""",
    "{v}|{v}|costs {v}|price {v}",
)  # fmt: skip

EVENT_PRICE = attribute(
    "price", "money", "Price|Fee|Cost|Ticket|Costs",
    """(How much|What) (do|would|will|must|should) (I|we|you) (pay|have to pay|need to pay|spend) for {e}(| here| please)?
    (What's|What is|Tell me|Give me|I need|I want to know) the (price|cost|fee|charge|rate|amount) (of|for) {e}(| please)?
    (How expensive|How much|How dear) {be} {e}(| here| today| please| nowadays)?
    {k} (price|cost|fee|how much|costs|charge|rate)(|?)
    (price|cost|fee|charge) (of|for) {e}(|?| please)
    {be} {e} (expensive|cheap|dear)(|? How much|? What does it cost)?
    (I want to buy|I'd like|I would like to have|I'll take|I want to get) {e}. (How much is it|What does it cost|How much|What do I pay|What's the price)?
    What {do} {e} (cost|go for|come to|sell for)(| here| please)?
    How much is {e}?
    What does {e} cost?
    How much does {e} cost?
    What's the price of {e}?
    How much is a ticket for {e}?
    What is the fee for {e}?
    What do I pay for {e}?
    * How expensive is {e}?""",
    """how much {e} is
    what {e} costs
    the price of {e}
    * how expensive {e} is""",
    """(And how much|How much|How expensive) is (it|that|this)(| please| here)?
    (And what|What) (does|would|will) (it|that|this) cost(| me| please)?
    (And the|The|What's the|What is the) (price|cost|fee)(|, please)?
    (And what|What) (do|would|must) I pay(| for it| for that)?
    How much is it?
    What does it cost?
    And the price?
    Do I have to pay? How much?
    * How expensive is it?""",
    "{E} costs {v}.",
    """(For|As for) {e} (you pay|we ask|we take|the price is|the fee is|please pay) {v}.
    (Our|The) (price|fee|charge|rate) (of|for) {e} is {v}.
    (Buy|Get|Try|Take|Book) {e} for (only |just |){v}.
    {E} (can be had for|can be bought for|{do_cost} only|{do_cost} you) {v}.
    {E} costs {v}.
    A place at {e} costs {v}.
    The fee for {e} is {v}.
    * For {e} we ask {v}.""",
    "{v}|{v}|costs {v}|fee {v}",
)  # fmt: skip
