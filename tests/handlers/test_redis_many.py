"""Tests of what clusters and sentinels need before there is a socket: tables, URLs, slots, rests."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import hiredis
import pytest
from delivery_target import Target, live_delivery
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from rambla_py import ConfigError, load_config
from rambla_py._internal.redis_urls import Node, node_of, parts_of
from rambla_py._internal.tls import TlsTable
from rambla_py.delivery import Delivery
from rambla_py.errors import ConnectionLostError, PermanentError, UnavailableError, UnknownOutcomeError
from rambla_py.handler import Secret
from rambla_py.handlers.redis.cluster_batch import merged_reply, router_for
from rambla_py.handlers.redis.cluster_nodes import Nodes
from rambla_py.handlers.redis.cluster_slots import gaps, slot_map
from rambla_py.handlers.redis.encode import RedisOptions
from rambla_py.handlers.redis.errors import RedirectError, reply_error
from rambla_py.handlers.redis.settings import (
    RedisSettings,
    address_of,
    kind_of,
    nodes_of,
    sentinels_of,
)
from rambla_py.policy import Policy


def delivery(payload: Any) -> Delivery:
    return live_delivery(
        payload=payload,
        target=Target("redis", id_prefix="id-"),
        receipt=None,
        seq=7,
        accepted_at=0.0,
        options=None,
        policy=Policy(),
        headers={},
    )


# -- tables and URLs ----------------------------------------------------------------------------------------


def test_a_cluster_by_its_first_server():
    """cluster = true takes the host as a node, and what else the table says for all nodes."""
    settings = RedisSettings(host="a", port=7000, cluster=True, password=Secret("x"))
    assert (kind_of(settings), nodes_of(settings)) == ("cluster", [Node("a", 7000)])
    assert address_of(settings).password == Secret("x")


def test_a_cluster_by_some_nodes():
    """A list of nodes needs no host; the port is 6379 where none is given."""
    settings = RedisSettings(cluster=["a:7000", "b", "[::1]:7001"])
    assert nodes_of(settings) == [Node("a", 7000), Node("b", 6379), Node("::1", 7001)]


def test_a_cluster_by_its_url():
    """redis+cluster:// names nodes and login, and rediss+cluster:// turns on TLS."""
    settings = RedisSettings(url=Secret("rediss+cluster://ann:p%2Fw@a:7000,b,c:7001"))
    address = address_of(settings)
    assert (kind_of(settings), nodes_of(settings)) == (
        "cluster",
        [Node("a", 7000), Node("b", 6379), Node("c", 7001)],
    )
    assert (address.username, address.password, address.tls) == ("ann", Secret("p/w"), TlsTable())


def test_sentinels_by_their_url():
    """redis+sentinel:// names sentinels, master and database; the login is that of the servers."""
    settings = RedisSettings(
        url=Secret("redis+sentinel://:pw@a,b:7000/main/3"), sentinel_password=Secret("other")
    )
    name, sentinels = sentinels_of(settings)
    assert (kind_of(settings), name) == ("sentinel", "main")
    assert [(one.host, one.port, one.password) for one in sentinels] == [
        ("a", 26379, Secret("other")),
        ("b", 7000, Secret("other")),
    ]
    assert (address_of(settings).database, address_of(settings).password) == (3, Secret("pw"))


def test_tls_of_sentinels():
    """Sentinels are spoken to as the servers are, unless they have a table of their own."""
    both = RedisSettings(sentinels=["a"], master="main", tls=True)
    plain = RedisSettings(sentinels=["a"], master="main", tls=True, sentinel_tls=False)
    assert sentinels_of(both)[1][0].tls == TlsTable()
    assert sentinels_of(plain)[1][0].tls is None


def test_a_plain_table_is_plain():
    """Without cluster and sentinels, no node is queried."""
    assert kind_of(RedisSettings()) == "plain"


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"cluster": []}, "names no node"),
        ({"cluster": ["a"], "host": "b"}, "both host and a list of nodes"),
        ({"cluster": ["a"], "url": "redis://b"}, "both url and a list of nodes"),
        ({"cluster": True, "database": 1}, "database other than 0"),
        ({"url": "redis+cluster://a/1"}, "database other than 0"),
        ({"cluster": True, "url": "unix:///tmp/x"}, "unix socket"),
        ({"cluster": ["a"], "sentinels": ["b"], "master": "m"}, "both cluster and sentinels"),
        ({"cluster": True, "url": "redis+sentinel://a/m"}, "both cluster and sentinels"),
        ({"sentinels": ["a"]}, "sentinels without master"),
        ({"master": "m"}, "master without sentinels"),
        ({"sentinels": ["a"], "master": "m", "host": "b"}, "both host and sentinels"),
        ({"url": "redis+sentinel://a"}, "without the master's name"),
        ({"url": "redis+sentinel://a/m", "master": "n"}, "both master and a url"),
        ({"cluster": ["a:b"]}, "a node that is not host"),
        ({"cluster": ["redis://:canary@a"]}, "a node that is not host"),
        ({"sentinels": ["a:99999"], "master": "m"}, "a node that is not host"),
        ({"url": "redis+cluster://:canary@a:b"}, "a node that is not host"),
        ({"url": "http+cluster://:canary@a"}, "a url that is not redis"),
        ({"wait_replicas": 1, "wait_timeout_s": 10}, "not less than read_timeout_s"),
        ({"cluster": 3}, "cluster"),
    ],
)
def test_what_does_not_go_together(table: dict[str, Any], expected: str):
    """A table that cannot be meant is refused when it is read, and shows no password."""
    with pytest.raises(ConfigError) as caught:
        load_config({"redis": {"connections": {"c": table}, "channels": {"orders": {"connection": "c"}}}})
    assert expected in str(caught.value)
    assert "canary" not in str(caught.value)


class _ReadError(Exception):
    """It was no error that was under test."""


@given(st.text())
def test_any_text_is_a_node_or_refused(text: str):
    """Whatever stands in a list of nodes is host and port, or a ValueError that does not quote it."""
    refused = "^an? (node that is not host, host:port|host |internationalized host name )"
    with suppress(_ReadError), pytest.raises(ValueError, match=refused):
        node = node_of(text, 6379)
        assert node.host
        assert 0 <= node.port <= 65535
        raise _ReadError


@given(st.sampled_from(["redis", "rediss"]), st.text(), st.sampled_from(["cluster", "sentinel"]))
def test_any_url_is_read_or_refused(scheme: str, rest: str, kind: str):
    """No URL raises anything but ValueError."""
    with suppress(ValueError):
        assert parts_of(f"{scheme}+{kind}://{rest}").nodes


# -- slots --------------------------------------------------------------------------------------------------


def test_slots_of_the_specification():
    """Slots are those that a cluster computes, hash tags included."""
    assert key_slot(b"123456789") == 12739
    assert key_slot(b"foo{hash_tag}") == key_slot(b"bar{hash_tag}") == 2515


@given(
    st.dictionaries(st.binary(min_size=1), st.binary(), min_size=1, max_size=8),
    st.sampled_from([None, 3.0]),
)
def test_each_part_belongs_to_its_slot(payload: dict[bytes, bytes], ttl_s: float | None):
    """A mapping is one command where its keys share a slot, else one for each key; nothing gets lost."""
    parts = router_for(RedisOptions(ttl_s=ttl_s), "orders", 1_000)(delivery(payload))
    assert len(parts) == (1 if len({key_slot(key) for key in payload}) == 1 else len(payload))
    if len(parts) == 1:
        assert parts[0].slot == key_slot(next(iter(payload)))
        return
    for part, (key, value) in zip(parts, payload.items(), strict=True):
        reader = hiredis.Reader()
        reader.feed(part.command)
        ttl = [] if ttl_s is None else [b"PX", b"3000"]
        assert (part.slot, reader.gets()) == (key_slot(key), [b"SET", key, value, *ttl])


def test_one_part_for_all_other_commands():
    """A message to a stream belongs to the slot of the stream, whatever it holds."""
    (part,) = router_for(RedisOptions(command="xadd", stream="s"), "orders", 1_000)(delivery({"a": 1}))
    assert part.slot == key_slot(b"s")


def test_a_map_of_slots():
    """What CLUSTER SLOTS says becomes the master of each slot; a host that is missing is that of the node that answered."""
    reply = [
        [0, 1, [b"10.0.0.1", 7000, b"id", []], [b"10.0.0.2", 7001, b"id", []]],
        [3, 3, [b"", 7002, b"id"]],
        [4, 4, [None, 7003, b"id"]],
        [5, 5, [b"?", 7004, b"id", [b"ip", b"10.0.0.5"]]],
        [6, 16383, [b"node.internal", 7005, b"id"]],
    ]
    owners = slot_map(reply, Node("seed", 1))
    assert owners[:7] == [
        Node("10.0.0.1", 7000),
        Node("10.0.0.1", 7000),
        None,
        Node("seed", 7002),
        Node("seed", 7003),
        Node("10.0.0.5", 7004),
        Node("node.internal", 7005),
    ]
    assert gaps(owners) == ["2"]


@pytest.mark.parametrize("reply", [b"OK", [[1]], [[0, 1, []]], [[b"a", b"b", [b"h", 1]]], 7])
def test_a_map_that_is_none(reply: Any):
    """An answer of another shape is refused as such."""
    with pytest.raises(ValueError, match="not an answer to CLUSTER SLOTS"):
        slot_map(reply, Node("seed", 1))


@pytest.mark.parametrize(
    ("text", "asking", "node"),
    [
        ("MOVED 3999 127.0.0.1:6381", False, Node("127.0.0.1", 6381)),
        ("ASK 1 ::1:6381", True, Node("::1", 6381)),
        ("MOVED 7 :6381", False, Node("seed", 6381)),
    ],
)
def test_redirections(text: str, asking: bool, node: Node):
    """A redirection says where to go, and whether for good."""
    error = reply_error(text)
    assert isinstance(error, RedirectError)
    assert (error.asking, error.node(Node("seed", 1))) == (asking, node)


@pytest.mark.parametrize(
    ("replies", "kind"),
    [
        (["OK", "OK"], str),
        (["OK", UnavailableError("x")], UnavailableError),
        ([UnknownOutcomeError("x"), UnavailableError("x")], UnknownOutcomeError),
        ([UnknownOutcomeError("x"), PermanentError("x"), "OK"], PermanentError),
        ([ConnectionLostError("x"), ConnectionLostError("x")], ConnectionLostError),
        (["OK", ConnectionLostError("x")], UnknownOutcomeError),
        ([UnavailableError("x"), ConnectionLostError("x")], UnavailableError),
    ],
)
def test_the_answer_of_several_parts(replies: list[Any], kind: type):
    """What no retry mends comes first, then what is not known; a part that arrived is never called unsent."""
    assert type(merged_reply(replies)) is kind


# -- nodes that rest ----------------------------------------------------------------------------------------


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def resting(clock: Clock) -> Nodes:
    who = address_of(RedisSettings())
    return Nodes(who, [Node("a", 1), Node("b", 2)], connect_timeout_s=1, read_timeout_s=1, clock=clock)


def test_a_node_that_failed_rests_longer_each_time():
    """It is queried again after a growing pause, at most a second."""
    clock, lost = Clock(), ConnectionLostError("gone")
    nodes, rests = resting(clock), []
    for _ in range(8):
        nodes.failed(Node("a", 1), lost)
        before = clock.now
        while nodes.backs_off(Node("a", 1)):
            clock.now += 0.01
        rests.append(round(clock.now - before, 1))
    assert rests == sorted(rests)
    assert (rests[0], rests[-1]) == (pytest.approx(0.1, abs=0.06), 1.0)


def test_a_node_that_lets_us_wait_rests_three_times_as_long():
    """What costs all other messages their time is not tried all the time."""
    clock = Clock()
    nodes = resting(clock)
    nodes.failed(Node("a", 1), ConnectionLostError("silent"), took_s=5.0)
    clock.now += 14.9
    assert nodes.backs_off(Node("a", 1))
    with pytest.raises(ConnectionLostError, match="silent"):
        nodes.open(Node("a", 1))
    clock.now += 0.2
    assert not nodes.backs_off(Node("a", 1))


def test_nodes_that_failed_are_asked_last():
    """The slots are preferably read from a node that works."""
    nodes = resting(Clock())
    nodes.failed(Node("a", 1), ConnectionLostError("gone"))
    assert list(nodes) == [Node("b", 2), Node("a", 1)]
    nodes.answered(Node("a", 1))
    assert list(nodes) == [Node("a", 1), Node("b", 2)]
