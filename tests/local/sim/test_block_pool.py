"""The KV cache's blocks are never given twice, and a prefix is shared as far as it is cached."""

from hypothesis import given
from hypothesis import strategies as st

from llmperf_local.sim.cache import BlockPool, chain_of

BLOCKS = 12


def test_keys_are_equal_as_far_as_the_prompts_are() -> None:
    """The same block after another beginning has another key."""
    here, there = chain_of([1, 2, 3]), chain_of([1, 2, 4, 3])

    assert here[:2] == there[:2]
    assert not set(here[2:]) & set(there[2:])


def test_a_prompt_is_shared_once_it_has_been_computed() -> None:
    """Requests that run at the same time share nothing; a later one shares what is cached."""
    pool, chain = BlockPool(BLOCKS), chain_of([1, 2, 3])

    assert pool.reserve(4, chain) == 0
    assert pool.reserve(4, chain) == 0
    pool.release(4, chain, 0, keep=True)
    assert pool.reserve(4, chain_of([1, 2, 9])) == 2
    assert pool.held == 4 + 2


def test_what_was_not_computed_is_not_cached() -> None:
    """A reservation that is given back leaves nothing behind."""
    pool, chain = BlockPool(BLOCKS), chain_of([1, 2, 3])

    pool.reserve(4, chain)
    pool.release(4, chain, 0, keep=False)

    assert (pool.held, pool.cached) == (0, 0)


def test_the_longest_unused_goes_first_and_of_it_the_end() -> None:
    """Eviction leaves no block without those that it continues."""
    pool, old, new = BlockPool(4), chain_of([1, 2]), chain_of([8, 9])
    for chain in (old, new):
        pool.release(2, chain, pool.reserve(2, chain) or 0, keep=True)

    assert pool.reserve(1, ()) == 0

    assert pool.cached == 3
    assert pool.reserve(2, old) == 1
    assert pool.reserve(2, new) is None


@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 1), max_size=5), st.integers(0, 4), st.booleans()),
        max_size=30,
    )
)
def test_blocks_are_conserved(requests: list[tuple[list[int], int, bool]]) -> None:
    """However requests come and go, no block is in two places, and at the end all can be had."""
    pool = BlockPool(BLOCKS)
    running: list[tuple[int, tuple[int, ...], int]] = []
    for prefix, answer, oldest_ends in requests:
        chain = chain_of(prefix)
        hits = pool.reserve(len(chain) + answer, chain)
        if hits is not None:
            assert hits <= len(chain)
            running.append((len(chain) + answer, chain, hits))
        if running and (oldest_ends or hits is None):
            pool.release(*running.pop(0), keep=True)
        assert pool.held + pool.cached <= BLOCKS
        assert pool.held == sum(blocks - shared for blocks, _, shared in running)
    for blocks, chain, hits in running:
        pool.release(blocks, chain, hits, keep=True)

    assert pool.in_use == 0
    assert pool.reserve(BLOCKS, ()) == 0
