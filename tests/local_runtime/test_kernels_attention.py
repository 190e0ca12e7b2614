"""The paged cache through TVM's real runtime: every way in which a sequence can grow, shrink and branch."""

from __future__ import annotations

import numpy as np
import pytest

from local_runtime.errors import UnsupportedModelError
from local_runtime.kernels.cpu.paged_cache import CpuPagedKVCache
from local_runtime.kernels.limits import require_supported_heads
from local_runtime.tvm_compat import tvm
from tests.lanes import some_every_day
from tests.local_runtime.attention_harness import CPU, CacheUnderTest, Shape, default_frequencies

TOLERANCE = 1e-5
NATIVE = {"kind": "llvm", "mcpu": str(tvm.target.Target.from_device("cpu").attrs["mcpu"])}
CACHES = [
    (Shape(14, 2, 64), NATIVE),
    (Shape(5, 1, 80, num_layers=1), CPU),
    (Shape(3, 3, 96, num_layers=1), CPU),
    (Shape(4, 2, 128, num_layers=1), CPU),
]


@pytest.fixture(
    scope="module",
    params=some_every_day([(cache,) for cache in CACHES], lambda it: it[0] in CACHES[:2]),
    ids=lambda p: f"{p[0].num_q_heads}q{p[0].num_kv_heads}kv{p[0].head_dim}",
)
def cache(request: pytest.FixtureRequest) -> CacheUnderTest:
    shape, target = request.param
    return CacheUnderTest(shape, target=target)


@pytest.fixture(autouse=True)
def _leave_it_empty(request: pytest.FixtureRequest) -> object:
    yield
    if "cache" in request.fixturenames:
        under_test = request.getfixturevalue("cache")
        for sequence_id in list(under_test.sequences):
            under_test.remove(sequence_id)
        under_test.call("kv_state_clear")


def test_a_prompt_of_any_length_and_then_decoding(cache: CacheUnderTest) -> None:
    for sequence_id, length in enumerate((1, 2, 15, 16, 17, 129, 301)):
        cache.add(sequence_id)
        assert cache.forward({sequence_id: length}) < TOLERANCE
        for _ in range(3):
            assert cache.forward({sequence_id: 1}) < TOLERANCE
        assert cache.stored(sequence_id) < TOLERANCE
        cache.remove(sequence_id)


def test_several_sequences_of_different_lengths_in_one_pass(cache: CacheUnderTest) -> None:
    for sequence_id in range(4):
        cache.add(sequence_id)
    assert cache.forward({0: 70, 1: 1, 2: 33, 3: 16}) < TOLERANCE
    assert cache.forward({2: 1, 0: 1, 3: 1, 1: 1}) < TOLERANCE
    assert cache.forward({0: 1, 2: 40, 3: 5}) < TOLERANCE  # decoding and prefill mixed
    cache.add(4)
    assert cache.forward({4: 20, 1: 9}) < TOLERANCE  # one of them has no history
    assert max(cache.stored(sequence_id) for sequence_id in range(5)) < TOLERANCE


def test_prefill_in_chunks_equals_prefill_at_once(cache: CacheUnderTest) -> None:
    shape = cache.shape
    size = (200, shape.num_q_heads + 2 * shape.num_kv_heads, shape.head_dim)
    tokens = [cache.random.standard_normal(size, dtype=np.float32) for _ in range(shape.num_layers)]
    cache.add(0)
    assert cache.forward({0: 200}, tokens) < TOLERANCE
    cache.add(1)
    start = 0
    for length in (3, 61, 64, 1, 71):
        chunk = [layer[start : start + length] for layer in tokens]
        assert cache.forward({1: length}, chunk) < TOLERANCE
        start += length
    assert cache.stored(1) < TOLERANCE


def test_positions_beyond_a_thousand(cache: CacheUnderTest) -> None:
    cache.add(0)
    for length in (512, 512, 300):
        assert cache.forward({0: length}) < TOLERANCE
    for _ in range(2):
        assert cache.forward({0: 1}) < TOLERANCE


def test_forks_share_a_prefix(cache: CacheUnderTest) -> None:
    cache.add(0)
    cache.forward({0: 100})
    cache.fork(0, 1, 50)  # inside a page
    cache.fork(0, 2, 96)  # at a page's edge
    cache.fork(0, 3, 100)  # at the end
    assert max(cache.stored(sequence_id) for sequence_id in range(4)) < TOLERANCE
    assert cache.forward({0: 1, 1: 1, 2: 1, 3: 1}) < TOLERANCE
    assert cache.forward({1: 40, 0: 3, 3: 17}) < TOLERANCE
    cache.remove(0)
    assert cache.forward({3: 1, 2: 1, 1: 1}) < TOLERANCE
    cache.fork(1, 4, 70)  # a fork of a fork: three blocks deep
    cache.fork(4, 5, 60)
    assert cache.forward({5: 20, 4: 1}) < TOLERANCE
    assert cache.forward({5: 1, 4: 1, 1: 1}) < TOLERANCE
    assert max(cache.stored(sequence_id) for sequence_id in (1, 2, 3, 4, 5)) < TOLERANCE


def test_popped_tokens_are_forgotten_and_pages_come_back(cache: CacheUnderTest) -> None:
    free = cache.pages_free()
    cache.add(0)
    cache.forward({0: 90})
    assert cache.pages_free() == free - 6
    cache.pop(0, 31)
    assert cache.pages_free() == free - 4
    assert cache.forward({0: 1}) < TOLERANCE
    assert cache.forward({0: 22}) < TOLERANCE
    assert cache.stored(0) < TOLERANCE
    cache.remove(0)
    assert cache.pages_free() == free


@pytest.mark.parametrize("seed", some_every_day(range(3), lambda seed: seed == 0))
def test_a_random_history(seed: int) -> None:
    cache = CacheUnderTest(Shape(6, 2, 16), max_tokens=1024, chunk_tokens=128, seed=seed)
    random = np.random.default_rng(seed)
    next_id = 0
    for _ in range(60):
        present = [i for i, sequence in cache.sequences.items() if len(sequence)]
        action = random.choice(["add", "grow", "decode", "decode", "fork", "pop", "remove"])
        if (action == "add" or not present) and len(cache.sequences) < 6:
            cache.add(next_id)
            assert cache.forward({next_id: int(random.integers(1, 60))}) < TOLERANCE
            next_id += 1
        elif action == "grow":
            chosen = random.permutation(present)[: random.integers(1, 4)]
            assert cache.forward({int(i): int(random.integers(1, 20)) for i in chosen}) < TOLERANCE
        elif action == "decode":
            assert cache.forward({int(i): 1 for i in random.permutation(present)}) < TOLERANCE
        elif action == "fork" and len(cache.sequences) < 6:
            parent = int(random.choice(present))
            cache.fork(parent, next_id, int(random.integers(1, len(cache.sequences[parent]) + 1)))
            next_id += 1
        elif action == "pop":
            chosen_id = int(random.choice(present))
            cache.pop(chosen_id, int(random.integers(0, len(cache.sequences[chosen_id]))))
        elif action == "remove":
            cache.remove(int(random.choice(present)))
    assert next_id > 3


def test_scores_far_apart_do_not_overflow() -> None:
    cache = CacheUnderTest(Shape(6, 2, 16))
    cache.add(0)
    qkv = cache.random.standard_normal((300, 10, 16), dtype=np.float32)
    qkv[:, :8] *= 50  # scores reach ±10⁴: whole blocks of keys weigh nothing
    # One unit of a float32 score of 10⁴ is 1e-3, so the probabilities themselves are only good to that.
    assert cache.forward({0: 300}, [qkv, qkv]) < 2e-2
    assert cache.forward({0: 1}, [qkv[:1], qkv[:1]]) < 2e-2


def test_heads_that_the_kernels_cannot_serve_are_named() -> None:
    with pytest.raises(UnsupportedModelError, match="head_dim 40 is not a multiple of 16"):
        require_supported_heads(8, 8, 40)
    with pytest.raises(UnsupportedModelError, match="num_attention_heads 9 is not a multiple of num_key_value_heads 2"):
        require_supported_heads(9, 2, 64)


def test_wrong_frequencies_are_refused() -> None:
    sizes = {
        "max_batch_size": 1,
        "max_total_seq_len": 64,
        "prefill_chunk_size": 16,
        "page_size": 16,
        "support_sliding_window": 0,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "target": tvm.target.Target(CPU),
    }
    with pytest.raises(ValueError, match=r"inv_freq has shape \(32,\); expected \(16,\)"):
        CpuPagedKVCache(**sizes, inv_freq=default_frequencies(64))
