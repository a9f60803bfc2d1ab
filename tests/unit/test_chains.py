"""Fallback chains: what is started together, and in which order targets close."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rambla_py.runtime.chains import chain_of, closing_order


@st.composite
def acyclic(draw: st.DrawFn) -> dict[int, list[int]]:
    """Return a graph without cycles: each node hands over to greater ones only."""
    size = draw(st.integers(1, 6))
    return {
        node: draw(st.lists(st.sampled_from(range(node + 1, size)), unique=True)) if node + 1 < size else []
        for node in range(size)
    }


@given(acyclic())
def test_each_target_closes_after_all_that_hand_over_to_it(graph: dict[int, list[int]]) -> None:
    """Every edge of the chain leads to a later stage, and each target is in exactly one."""
    stages = closing_order(graph, graph.__getitem__)
    place = {node: at for at, stage in enumerate(stages) for node in stage}
    assert sorted(node for stage in stages for node in stage) == sorted(graph)
    assert all(place[node] < place[follower] for node in graph for follower in graph[node])


@given(acyclic())
def test_a_chain_is_closed_under_hand_over(graph: dict[int, list[int]]) -> None:
    """A chain begins with its target and holds everything that its deliveries may reach, each once."""
    chain = chain_of(0, graph.__getitem__)
    assert chain[0] == 0
    assert len(chain) == len(set(chain))
    assert all(follower in chain for node in chain for follower in graph[node])
