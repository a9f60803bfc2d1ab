"""This module tests the redis handler against real clusters: slots that move, nodes that die."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import redis
import redis.cluster
from load import WAIT_S, until
from redis.crc import key_slot
from redis_load import check_all_arrived, load_of, redis_app
from redis_worker import Worker, refusal
from waiting import in_background, kinds, wait_until

from rambla_py.errors import AccessError, ConnectionLostError, UnknownOutcomeError
from rambla_py.handler import Secret
from rambla_py.handlers.redis.errors import NotReplicatedError, RedirectError, UnservedError
from rambla_py.handlers.redis.settings import RedisTls
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.ports import free_port
from rambla_py.testing.redis_groups import RedisCluster, RedisClusterNode
from rambla_py.testing.servers import RedisServer, TlsFiles

OneNode = tuple[RedisClusterNode, FaultProxy]


@contextmanager
def worker(cluster: RedisCluster, settings: dict[str, Any] | None = None, **options: Any) -> Iterator[Worker]:
    with closing(Worker({"cluster": cluster.addresses[:2], **(settings or {})}, options)) as made:
        yield made


@pytest.fixture
def client(redis_cluster: RedisCluster) -> Iterator[redis.RedisCluster]:
    nodes = [redis.cluster.ClusterNode(node.host, node.port) for node in redis_cluster.nodes]
    with redis.RedisCluster(startup_nodes=nodes, decode_responses=True) as made:
        yield made


def publish_to(w: Worker, option: str, names: list[str], **options: Any) -> list[Any]:
    """Deliver a batch with a message for each name, its number the payload."""
    messages = [w.message(number, str(number)) for number in range(len(names))]
    for message, name in zip(messages, names, strict=True):
        message.options = w.handler.Options(**{**options, option: name})
    return w.handler.handle_batch(messages, w.state)


@contextmanager
def every_node_alone(cluster: RedisCluster) -> Iterator[None]:
    """Have each node serve its slots although others are gone, and no replica take over."""
    usual = {"cluster-require-full-coverage": "yes", "cluster-replica-no-failover": "no"}
    unusual = {"cluster-require-full-coverage": "no", "cluster-replica-no-failover": "yes"}
    try:
        _configure(cluster, unusual)
        yield
    finally:
        _configure(cluster, usual)  # one that is gone comes back with it


def _configure(cluster: RedisCluster, values: dict[str, str]) -> None:
    for node in cluster.awake():
        for name, value in values.items():
            node.cli("CONFIG", "SET", name, value)


def name_in(slot: int, lead: str) -> str:
    """Return a key of a slot."""
    return next(key for n in range(1_000_000) if key_slot((key := f"{lead}-{n}").encode()) == slot)


# -- where commands go --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "option"), [("rpush", "list"), ("xadd", "stream"), ("publish", "topic")])
def test_commands_go_to_the_node_of_their_key(
    command: str, option: str, redis_cluster: RedisCluster, client: redis.RedisCluster, unique_name: str
):
    """A batch for 300 keys on three masters succeeds at once; each answer belongs to its message."""
    names = [f"{unique_name}-{n}" for n in range(300)]
    with worker(redis_cluster) as w:
        answers = publish_to(w, option, names, command=command)
    if command == "rpush":
        assert answers == [1] * 300
        assert [client.lrange(name, 0, -1) for name in names] == [[str(n)] for n in range(300)]
    elif command == "xadd":
        entries = [client.xrange(name)[0] for name in names]
        assert entries == [(answers[n], {"id": f"run-{n:x}", "payload": str(n)}) for n in range(300)]
    else:
        assert answers == [0] * 300


def test_hset_and_scripts(redis_cluster: RedisCluster, client: redis.RedisCluster, unique_name: str):
    """Commands that are scripts go to their key's node too."""
    with worker(redis_cluster, command="hset", hash=unique_name, ttl_s=100) as w:
        assert w.publish([{"a": 1, "b": 2}]) == [2]
    assert client.hgetall(unique_name) == {"a": "1", "b": "2"}
    assert 90_000 < client.pttl(unique_name) <= 100_000


def test_keys_of_one_message_in_many_slots(
    redis_cluster: RedisCluster, client: redis.RedisCluster, unique_name: str
):
    """A mapping whose keys lie all over the cluster is set key by key, and the message succeeds as one."""
    mapping = {f"{unique_name}-{n}": str(n) for n in range(50)}
    with worker(redis_cluster, ttl_s=100) as w:
        assert w.publish([mapping, {unique_name: "one"}]) == ["OK", "OK"]
    assert {key: client.get(key) for key in mapping} == mapping
    assert all(90_000 < client.pttl(key) <= 100_000 for key in mapping)


def test_each_key_keeps_its_order(redis_cluster: RedisCluster, client: redis.RedisCluster, unique_name: str):
    """2,500 messages to 25 lists arrive in the order of the batch, list by list, with the lengths as answers."""
    names = [f"{unique_name}-{n % 25}" for n in range(2_500)]
    with worker(redis_cluster) as w:
        answers = publish_to(w, "list", names, command="rpush")
    assert answers == [n // 25 + 1 for n in range(2_500)]
    for at in range(25):
        assert client.lrange(names[at], 0, -1) == [str(n) for n in range(at, 2_500, 25)]


def test_one_that_is_refused_fails_alone(
    redis_cluster: RedisCluster, client: redis.RedisCluster, unique_name: str
):
    """Of a thousand messages the one for a key of another type is fatal, and no other."""
    names = [f"{unique_name}-{n}" for n in range(1_000)]
    client.set(names[500], "text")
    with worker(redis_cluster) as w:
        answers = publish_to(w, "list", names, command="rpush")
    refused = answers.pop(500)
    assert "WRONGTYPE" in str(refused)
    assert not refused.retryable
    assert answers == [1] * 999


def test_without_cluster_the_error_says_what_to_set(redis_cluster: RedisCluster, unique_name: str):
    """A plain connection to a node is told that the key is elsewhere, and the error what to do."""
    other = next(
        node
        for node in redis_cluster.nodes
        if node is not redis_cluster.owner(key_slot(unique_name.encode()))
    )
    made = Worker({"host": other.host, "port": other.port}, {"command": "rpush", "list": unique_name})
    with closing(made):
        (answer,) = made.publish(["x"])
    assert type(answer) is RedirectError
    assert not answer.retryable
    assert "set cluster = true" in str(answer)


# -- slots that move ----------------------------------------------------------------------------------------


def test_a_slot_that_moved(redis_cluster: RedisCluster, client: redis.RedisCluster, unique_name: str):
    """MOVED is followed within the batch: nothing is lost, doubled or out of order."""
    slot = key_slot(unique_name.encode())
    source = redis_cluster.owner(slot)
    to = next(redis_cluster.owner(at) for at in (0, 8_000, 16_000) if redis_cluster.owner(at) is not source)
    with worker(redis_cluster, command="rpush", list=unique_name) as w:
        assert w.publish("ab") == [1, 2]
        redis_cluster.move(slot, to)
        assert w.publish("cde") == [3, 4, 5]
        assert w.publish("f") == [6]
    assert client.lrange(unique_name, 0, -1) == list("abcdef")


def test_a_slot_on_its_way(redis_cluster: RedisCluster, client: redis.RedisCluster, unique_name: str):
    """ASK is followed for what is not at the source; what still is there goes there."""
    stays, new = f"{{{unique_name}}}-stays", f"{{{unique_name}}}-new"
    slot = key_slot(unique_name.encode())
    source = redis_cluster.owner(slot)
    to = next(redis_cluster.owner(at) for at in (0, 8_000, 16_000) if redis_cluster.owner(at) is not source)
    with worker(redis_cluster) as w:
        assert publish_to(w, "list", [stays], command="rpush") == [1]

        def midway() -> None:
            assert publish_to(w, "list", [stays, new, stays, new], command="rpush") == [2, 1, 3, 2]
            assert source.cli("EXISTS", stays).strip() == "1"

        redis_cluster.move(slot, to, midway=midway)
        assert publish_to(w, "list", [stays, new], command="rpush") == [4, 3]
    assert client.lrange(stays, 0, -1) == ["0", "0", "2", "0"]
    assert client.lrange(new, 0, -1) == ["1", "3", "1"]


def test_keys_of_one_slot_torn_apart(redis_cluster: RedisCluster, unique_name: str):
    """TRYAGAIN spares the retries: the message waits until the slot has moved, and then succeeds."""
    here, new = f"{{{unique_name}}}-here", f"{{{unique_name}}}-new"
    slot = key_slot(unique_name.encode())
    source = redis_cluster.owner(slot)
    to = next(redis_cluster.owner(at) for at in (0, 8_000, 16_000) if redis_cluster.owner(at) is not source)
    receipts = []
    with redis_app({"cluster": redis_cluster.addresses[:1]}, retries=0) as app:
        app.publish("orders", {here: 1}).result(timeout_s=10)

        def midway() -> None:
            receipts.append(app.publish("orders", {here: 2, new: 2}))
            until(lambda: app.status()["redis.orders"].reasons.get("attempt:UnservedError"))

        redis_cluster.move(slot, to, midway=midway)
        assert receipts[0].result(timeout_s=10) == "OK"
        assert receipts[0].outcomes()[0].attempts > 1


@pytest.mark.timeout(120)
def test_slots_that_move_under_load(
    redis_cluster: RedisCluster, client: redis.RedisCluster, unique_name: str
):
    """While slots go from node to node each message arrives once, in the order of its list."""
    names = [f"{unique_name}-{n}" for n in range(20)]
    masters = [redis_cluster.owner(at) for at in (0, 8_000, 16_000)]
    with redis_app({"cluster": redis_cluster.addresses[:1]}, command="rpush") as app:
        with load_of(app, lambda n: {"list": names[n % 20]}) as load:
            for turn in range(30):
                slot = key_slot(names[turn % 20].encode())
                source = redis_cluster.owner(slot)
                redis_cluster.move(slot, masters[(masters.index(source) + 1) % 3])
            load.goes_on()
        load.outcomes()
        found = [client.lrange(name, 0, -1) for name in names]
        check_all_arrived(app, load, [number for listed in found for number in listed], once=True)
    assert all(listed == sorted(listed, key=int) for listed in found)


# -- nodes that die -----------------------------------------------------------------------------------------


@pytest.mark.timeout(120)
@pytest.mark.parametrize("end", ["kill", "pause"])
def test_a_master_that_dies_under_load(
    end: str, redis_cluster: RedisCluster, client: redis.RedisCluster, unique_name: str
):
    """Its replica takes over, and has all that wait_replicas = 1 confirmed; in the end every message is ok."""
    names = [f"{unique_name}-{n}" for n in range(20)]
    master = redis_cluster.owner(key_slot(names[0].encode()))
    settings = {
        "cluster": redis_cluster.addresses,
        "wait_replicas": 1,
        "read_timeout_s": 0.5,
        "connect_timeout_s": 0.5,
        "wait_timeout_s": 0.4,
    }
    with redis_app(settings, command="xadd", retries=10_000) as app:
        with load_of(app, lambda n: {"stream": names[n % 20]}) as load:
            getattr(master, end)()
            until(lambda: redis_cluster.owner(key_slot(names[0].encode())) is not master)
            redis_cluster.start()  # it comes back as a replica, which the new master wants to confirm
            load.goes_on()
        load.outcomes()
        found = [fields["payload"] for name in names for _, fields in client.xrange(name)]
        check_all_arrived(app, load, found, once=False)


@pytest.mark.timeout(120)
def test_the_others_go_on(redis_cluster: RedisCluster, client: redis.RedisCluster, unique_name: str):
    """While a node is away its messages wait, spending nothing; those for other nodes are delivered."""
    slots = (0, 8_000, 16_000)
    names = [name_in(slot, unique_name) for slot in slots]
    gone = redis_cluster.owner(slots[0])
    with (
        every_node_alone(redis_cluster),
        redis_app({"cluster": redis_cluster.addresses}, command="rpush", retries=0) as app,
    ):
        app.publish("orders", "0", list=names[0]).result(WAIT_S)
        gone.kill()
        waiting = [app.publish("orders", str(n), list=names[0]) for n in range(1, 200)]
        others = [app.publish("orders", str(n), list=names[1 + n % 2]) for n in range(200)]
        statuses = {receipt.outcomes(WAIT_S)[0].status for receipt in others}
        assert statuses == {"ok"}
        assert not any(receipt.done() for receipt in waiting)
        gone.start()
        assert {receipt.outcomes(WAIT_S)[0].status for receipt in waiting} == {"ok"}
    assert sorted(map(int, client.lrange(names[0], 0, -1))) == list(range(200))


def test_a_node_that_keeps_silent(redis_cluster: RedisCluster, unique_name: str):
    """Its messages have an unknown outcome after read_timeout_s; the others of the batch their results."""
    slots = (0, 8_000, 16_000)
    names = [name_in(slot, unique_name) for slot in slots]
    with worker(redis_cluster, {"read_timeout_s": 0.4}) as w:
        assert publish_to(w, "list", names, command="rpush") == [1, 1, 1]
        silent = redis_cluster.owner(slots[1])
        silent.pause()
        begun = time.monotonic()
        answers = publish_to(w, "list", names * 2, command="rpush")
        took_s = time.monotonic() - begun
        silent.resume()
    assert took_s < 2
    assert [answers[at] for at in (0, 2, 3, 5)] == [2, 2, 3, 3]
    assert kinds([answers[1], answers[4]]) == {UnknownOutcomeError}


def test_silence_of_all_is_waited_for_once(redis_cluster: RedisCluster, unique_name: str):
    """When no node answers, the batch ends after one read_timeout_s, not one for each."""
    names = [name_in(slot, unique_name) for slot in (0, 8_000, 16_000)]
    with worker(redis_cluster, {"read_timeout_s": 0.5}) as w:
        publish_to(w, "list", names, command="rpush")
        for node in redis_cluster.nodes:
            node.pause()
        begun = time.monotonic()
        answers = publish_to(w, "list", names, command="rpush")
        took_s = time.monotonic() - begun
    assert kinds(answers) == {UnknownOutcomeError}
    assert 0.4 < took_s < 1.2


def test_a_connection_that_ended_while_idle(one_node_cluster: OneNode, unique_name: str):
    """It is opened anew, for nothing was on its way: no outcome is unknown."""
    _, proxy = one_node_cluster
    made = Worker(
        {"port": proxy.port, "host": proxy.host, "cluster": True}, {"list": unique_name, "command": "rpush"}
    )
    with closing(made):
        assert made.publish("a") == [1]
        proxy.cut()
        wait_until(lambda: proxy.open == 0)
        assert made.publish("b") == [2]
    assert proxy.cuts == 1


def test_a_loss_among_the_answers(one_node_cluster: OneNode, unique_name: str):
    """What was answered is a result; the rest has an unknown outcome."""
    _, proxy = one_node_cluster
    made = Worker(
        {"port": proxy.port, "host": proxy.host, "cluster": True}, {"list": unique_name, "command": "rpush"}
    )
    with closing(made):
        proxy.cut_after(len(b":1\r\n") * 3, direction="down")
        answers = made.publish("abcde")
    assert answers[:3] == [1, 2, 3]
    assert kinds(answers[3:]) == {UnknownOutcomeError}


def test_what_was_not_written_is_not_unknown(one_node_cluster: OneNode):
    """Messages behind a failed write were not sent, nor are those behind them: nothing overtakes."""
    _, proxy = one_node_cluster
    made = Worker({"port": proxy.port, "host": proxy.host, "cluster": True}, {"command": "publish"})
    with closing(made):
        proxy.cut_after(3_000_000)
        answers = made.publish([b"x" * 1_000_000] * 60)
    unsent = [type(answer) for answer in answers].index(ConnectionLostError)
    assert kinds(answers[:unsent]) <= {int, UnknownOutcomeError}
    assert kinds(answers[unsent:]) == {ConnectionLostError}
    assert unsent < 60


def test_half_a_message_does_nothing(one_node_cluster: OneNode):
    """When nothing was written whole, nothing is unknown: the loss is one before the write."""
    _, proxy = one_node_cluster
    made = Worker({"port": proxy.port, "host": proxy.host, "cluster": True}, {"command": "publish"})
    with closing(made):
        proxy.cut_after(1_000_000)
        (answer,) = made.publish([b"x" * 60_000_000])
    assert type(answer) is ConnectionLostError
    assert proxy.cuts == 1


def test_a_message_that_was_written_in_part(redis_cluster: RedisCluster, unique_name: str):
    """A mapping of which one node has a key and another did not answer has an unknown outcome."""
    names = [name_in(slot, unique_name) for slot in (0, 8_000, 16_000)]
    with worker(redis_cluster, {"read_timeout_s": 0.3}) as w:
        assert w.publish([dict.fromkeys(names, "1")]) == ["OK"]
        redis_cluster.owner(8_000).pause()
        assert kinds(w.publish([dict.fromkeys(names, "2")])) == {UnknownOutcomeError}


def test_a_node_that_was_not_there_in_time(redis_cluster: RedisCluster, unique_name: str):
    """What could not be sent says why, has the message's own retries left, and is retryable."""
    name = name_in(0, unique_name)
    with worker(redis_cluster) as w:
        redis_cluster.owner(0).kill()
        (answer,) = publish_to(w, "list", [name], command="rpush")
    assert type(answer) is UnservedError
    assert "127.0.0.1" in str(answer)
    assert (answer.retryable, answer.left) == (True, 5)


def test_close_wakes_who_waits(one_node_cluster: OneNode):
    """Closing from another thread ends a wait for answers at once, with unknown outcomes."""
    _, proxy = one_node_cluster
    settings = {"port": proxy.port, "host": proxy.host, "cluster": True, "read_timeout_s": 60}
    made = Worker(settings, {"command": "publish"})
    with closing(made):
        made.publish("x")
        proxy.black_hole()
        thread, answers = in_background(lambda: made.publish("ab"))
        wait_until(lambda: proxy.swallowed > 0)
        made.close()
        thread.join(10)
        assert not thread.is_alive()
        made.close()
    assert kinds(answers) == {UnknownOutcomeError}


# -- replicas -----------------------------------------------------------------------------------------------


def test_confirmed_by_replicas(redis_cluster: RedisCluster, client: redis.RedisCluster, unique_name: str):
    """With wait_replicas a result means that a replica has it too."""
    names = [f"{unique_name}-{n}" for n in range(30)]
    with worker(redis_cluster, {"wait_replicas": 1}) as w:
        assert publish_to(w, "list", names, command="rpush") == [1] * 30


def test_too_few_replicas(redis_cluster: RedisCluster, unique_name: str):
    """More replicas than there are fail the messages, and the error counts them."""
    with worker(redis_cluster, {"wait_replicas": 2, "wait_timeout_s": 0.1}, command="rpush") as w:
        (answer,) = w.publish("a")
    assert type(answer) is NotReplicatedError
    assert "only 1 of wait_replicas = 2" in str(answer)
    assert answer.retryable


# -- connecting ---------------------------------------------------------------------------------------------


def test_a_url_of_several_nodes(redis_cluster: RedisCluster, unique_name: str):
    """redis+cluster:// names some nodes; one that is away does not matter."""
    url = f"redis+cluster://127.0.0.1:{free_port()},{redis_cluster.addresses[1]}"
    with closing(Worker({"url": Secret(url)}, {"command": "rpush", "list": unique_name})) as made:
        assert made.publish("a") == [1]


def test_ping(redis_cluster: RedisCluster):
    """A ping asks every master."""
    with worker(redis_cluster) as w:
        w.handler.ping(w.connection)
        gone = redis_cluster.owner(0)
        gone.kill()
        with pytest.raises(ConnectionLostError, match=str(gone.port)):
            w.handler.ping(w.connection)


def test_ping_of_a_cluster_with_gaps(one_node_cluster: OneNode):
    """A cluster that does not serve every slot says which are missing."""
    node, proxy = one_node_cluster
    node.cli("CLUSTER", "DELSLOTSRANGE", "100", "102")
    made = Worker({"port": proxy.port, "host": proxy.host, "cluster": True}, {})
    with closing(made), pytest.raises(ConnectionLostError, match="the slots 100-102"):
        made.handler.ping(made.connection)
    node.cli("CLUSTER", "ADDSLOTSRANGE", "100", "102")
    node.settle()


def test_nobody_there():
    """Where nothing listens, the error names each node."""
    ports = [free_port(), free_port()]
    error = refusal(cluster=[f"127.0.0.1:{port}" for port in ports])
    assert type(error) is ConnectionLostError
    assert all(str(port) in str(error) for port in ports)


def test_no_cluster(redis_server: RedisServer):
    """A server without cluster mode is refused, with its reason."""
    error = refusal(host=redis_server.host, port=redis_server.port, cluster=True)
    assert "cluster support disabled" in str(error)


def test_a_node_without_a_cluster():
    """A node that was never joined to others says that it knows of no slots."""
    with RedisClusterNode() as node:
        error = refusal(host=node.host, port=node.port, cluster=True)
    assert "no node that serves slots" in str(error)


@pytest.fixture(scope="module")
def secured(tls_files: TlsFiles) -> Iterator[RedisClusterNode]:
    """A cluster of one node that takes TLS only, and wants a password."""
    with RedisClusterNode(password="s3cret", tls=tls_files) as node:
        node.cli("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        node.settle()
        yield node


def test_tls_and_a_password(secured: RedisClusterNode, tls_files: TlsFiles, unique_name: str):
    """Each node is connected to with TLS and the password; the client of callables too."""
    url = Secret(f"rediss+cluster://:s3cret@127.0.0.1:{secured.port}")
    settings = {"url": url, "tls": RedisTls(ca_file=str(tls_files.authority))}
    with closing(Worker(settings, {"command": "rpush", "list": unique_name})) as made:
        assert made.publish("ab") == [1, 2]
        destination = made.handler.destination(made.connection)
        assert isinstance(destination, redis.RedisCluster)
        assert destination.lrange(unique_name, 0, -1) == [b"a", b"b"]
        assert made.handler.destination(made.connection) is destination


@pytest.mark.parametrize(
    ("password", "name", "told"),
    [("canary", None, "WRONGPASS"), (None, None, "NOAUTH"), ("s3cret", "elsewhere.invalid", "elsewhere")],
)
def test_no_access(
    password: str | None, name: str | None, told: str, secured: RedisClusterNode, tls_files: TlsFiles
):
    """A wrong password, none, or a certificate for another name is an AccessError that shows no password."""
    error = refusal(
        cluster=[f"127.0.0.1:{secured.port}"],
        password=password and Secret(password),
        tls=RedisTls(ca_file=str(tls_files.authority), server_name=name),
    )
    assert type(error) is AccessError
    assert told in str(error)
    assert "canary" not in f"{error!r}{error.__cause__!r}"


def test_a_node_that_never_answers(fault_proxy: Callable[..., FaultProxy], redis_server: RedisServer):
    """A node that accepts and keeps silent is given up after connect_timeout_s."""
    proxy = fault_proxy(redis_server)
    proxy.black_hole()
    begun = time.monotonic()
    error = refusal(host=proxy.host, port=proxy.port, cluster=True, connect_timeout_s=0.3)
    assert "connect_timeout_s = 0.3" in str(error)
    assert time.monotonic() - begun < 3


def test_two_workers(redis_cluster: RedisCluster, client: redis.RedisCluster, unique_name: str):
    """Two workers, each with connections of its own, deliver each message once."""
    names = [f"{unique_name}-{n}" for n in range(10)]
    with redis_app({"cluster": redis_cluster.addresses[:1]}, channel={"count": 2}, command="rpush") as app:
        receipts = [app.publish("orders", str(n), list=names[n % 10]) for n in range(1_000)]
        assert {receipt.outcomes(timeout_s=20)[0].status for receipt in receipts} == {"ok"}
    found = [int(number) for name in names for number in client.lrange(name, 0, -1)]
    assert sorted(found) == list(range(1_000))
    assert threading.active_count() < 20
