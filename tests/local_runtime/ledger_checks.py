"""What must hold between the engine's books and the runner's real pages, at any time between two steps."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from local_runtime.engine import Engine
    from tests.local_runtime.scripted_runner import ScriptedRunner


def check_books(engine: Engine, runner: ScriptedRunner) -> None:
    """Assert that no page is used twice, none is leaked, nothing promised is gone, and every entry holds what it is said to."""
    scheduler = engine._scheduler
    ledger, prefixes = scheduler.pages, scheduler.prefixes
    idle = set(() if prefixes is None else prefixes.idle)
    active = {each.sequence.sequence_id: each for each in engine._by_request.values() if each.in_runner}
    assert set(runner.sequences) == idle | set(active)
    assert not idle & set(active)

    # The runner's pages and the ledger's numbers stand for each other one to one, so what is shared is the same in both.
    partner: dict[int, int] = {}
    for sequence_id, pages in runner.pages.items():
        numbers = ledger._accounts[sequence_id].pages
        assert len(pages) == len(numbers)
        for page, number in zip(pages, numbers, strict=True):
            assert partner.setdefault(page, number) == number
    assert len(set(partner.values())) == len(partner)
    assert ledger.free == runner.available_pages() == ledger.total - len(partner)
    holders = Counter(page for account in ledger._accounts.values() for page in account.pages)
    assert all(ledger._holders[page] == holders[page] for page in range(ledger.total))
    assert set(ledger._free) == set(range(ledger.total)) - set(holders)

    accounts = {number: account for number, account in ledger._accounts.items() if account.active}
    assert set(accounts) >= set(active)
    if ledger.sliding:
        assert ledger.held == ledger.listed
    else:
        assert ledger.held == len({page for account in accounts.values() for page in account.pages})
    assert ledger.listed == sum(len(account.pages) for account in accounts.values())
    assert ledger.promised == sum(account.reserved - len(account.pages) for account in accounts.values())
    assert all(account.reserved >= len(account.pages) for account in accounts.values())
    assert ledger.held + ledger.promised <= ledger.total
    # Giving everything up that is only kept frees what was promised.
    assert ledger.total - ledger.held >= ledger.promised

    for sequence_id, generation in active.items():
        sequence = generation.sequence
        assert runner.sequences[sequence_id] == sequence.tokens[: sequence.cached]
        assert runner.dropped[sequence_id] == sequence.dropped
        assert ledger.tokens(sequence_id) == sequence.held
    if prefixes is not None:
        for source in prefixes._tree._nodes:
            tokens = prefixes._tree.tokens(source)
            assert runner.sequences[source][: len(tokens)] == tokens
            assert source in active or len(runner.sequences[source]) == len(tokens)
