"""Tests of how files and levels of options are laid over each other."""

from __future__ import annotations

from typing import Any

from config_handlers import Audit, Open, load
from hypothesis import given
from hypothesis import strategies as st

from rambla_py.config.layers import Layer, merged
from rambla_py.config.raw_tree import merge, plain, wrap

KEYS = st.sampled_from("abcd")
TREES = st.recursive(
    st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)
TABLES = st.dictionaries(KEYS, TREES, max_size=4)
FLAT = st.dictionaries(KEYS, st.integers(), max_size=4)
LEVELS = st.lists(st.tuples(FLAT, FLAT), max_size=4)


def laid(*tables: Any) -> Any:
    result = wrap({})
    for table in tables:
        result = merge(result, wrap(table))
    return plain(result)


@given(TABLES, TABLES, TABLES)
def test_merging_keeps_the_last_word(a: Any, b: Any, c: Any) -> None:
    """However tables are grouped, each value is the one of the last table that has it."""
    result = laid(a, b, c)
    for key in {*a, *b, *c}:
        last = next(table[key] for table in (c, b, a) if key in table)
        assert key in result
        if not isinstance(last, dict):
            assert result[key] == last


@given(FLAT, FLAT, FLAT)
def test_merging_is_associative(a: Any, b: Any, c: Any) -> None:
    """Merging a pair first, or the other, gives the same."""
    left = merge(merge(wrap(a), wrap(b)), wrap(c))
    right = merge(wrap(a), merge(wrap(b), wrap(c)))
    assert plain(left) == plain(right) == {**a, **b, **c}


@given(TABLES)
def test_merging_with_itself_or_nothing_changes_nothing(table: Any) -> None:
    """A table over itself, over nothing, or under nothing, stays as it is."""
    assert laid(table, table) == laid(table) == laid(table, {}) == table


def test_tables_merge_and_lists_are_replaced() -> None:
    """Tables merge key by key at every depth; lists are replaced as a whole."""
    below = {"a": {"b": {"x": 1, "y": [1, 2]}}}
    assert laid(below, {"a": {"b": {"y": [3]}}}) == {"a": {"b": {"x": 1, "y": [3]}}}


@given(LEVELS)
def test_options_of_a_later_level_win_and_headers_merge(levels: list[tuple[Any, Any]]) -> None:
    """Of each option, and of each single header, the last level that has it counts."""
    result = merged([Layer(dict(values), dict(headers)) for values, headers in levels])
    values: dict[str, int] = {}
    headers: dict[str, int] = {}
    for level_values, level_headers in levels:
        values |= level_values
        headers |= level_headers
    assert (result.values, result.headers) == (values, headers)


def audit(**options: Any) -> dict[str, Any]:
    """A service with options at each of its levels."""
    return {
        "handler": Audit,
        "options": options.get("service", {}),
        "connections": {"main": {"host": "h", "options": options.get("connection", {})}},
        "channels": {"orders": {"connection": "main", "options": options.get("channel", {})}},
    }


def test_each_level_wins_over_the_one_before() -> None:
    """``[rambla.options]``, then service, connection and channel: the later wins."""
    levels = {"service": {"level": 2}, "connection": {"level": 3}, "channel": {"level": 4}}
    seen = []
    for count in range(4):
        kept = dict(list(levels.items())[:count])
        config = load(rambla={"options": {"level": 1}}, audit=audit(**kept))
        seen.append(config.services["audit"].channels["orders"].options.level)
    assert seen == [1, 2, 3, 4]


def test_headers_of_all_levels_reach_the_channel() -> None:
    """Headers of every level are there, the later one's value where two have the same."""
    config = load(
        rambla={"options": {"headers": {"a": "1", "b": "1"}}},
        audit=audit(service={"headers": {"b": "2", "c": 2}}, channel={"headers": {"c": True}}),
    )
    assert config.services["audit"].channels["orders"].headers == {"a": "1", "b": "2", "c": True}


def test_reserved_options_make_the_policy() -> None:
    """Reserved options of all levels end in the channel's policy, and not in its options."""
    config = load(rambla={"retries": 1, "options": {"delay_s": 2}}, audit=audit(channel={"priority": "high"}))
    policy = config.services["audit"].channels["orders"].policy
    assert (policy.retries, policy.delay_s, policy.priority) == (1, 2.0, "high")


def test_options_table_wins_over_retries_beside_it() -> None:
    """``retries`` in ``[rambla.options]`` wins over ``retries`` in ``[rambla]``."""
    config = load(rambla={"retries": 1, "options": {"retries": 2}}, audit=audit())
    assert config.services["audit"].channels["orders"].policy.retries == 2


def test_default_option_reaches_only_those_that_declare_it() -> None:
    """A default option of ``[rambla.options]`` goes to the handlers that declare it, and past the others."""
    plain_service = {"handler": "config_handlers:Silent", "channels": {"orders": {}}}
    config = load(rambla={"options": {"level": 7}}, audit=audit(), silent=plain_service)
    assert config.services["audit"].channels["orders"].options.level == 7
    assert config.services["silent"].channels["orders"].options is None


def test_open_handler_gets_every_option_in_a_dict() -> None:
    """A handler with ``Options = dict`` gets what is not reserved, as a dict."""
    table = {"handler": Open, "channels": {"orders": {"options": {"anything": 1, "retries": 0}}}}
    channel = load(box=table).services["box"].channels["orders"]
    assert (channel.options, channel.policy.retries) == ({"anything": 1}, 0)


def test_infinite_expiry_means_never() -> None:
    """``expires_s = inf`` is a policy without expiry."""
    config = load(audit=audit(channel={"expires_s": float("inf")}))
    assert config.services["audit"].channels["orders"].policy.expires_s is None
