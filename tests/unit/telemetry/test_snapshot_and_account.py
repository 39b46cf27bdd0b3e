"""Status pages of several nodes put together, and the account that is read from them."""

import pytest
from fake_runs import ORDERLY, chain

from streamcore.shm.segment import create
from streamcore.shm.status import EDGE_WORD, StatusReader, StatusWriter, format_status, status_bytes
from streamcore.telemetry import snapshot
from streamcore.telemetry.account import AccountRow, account, lost, statement
from streamcore.telemetry.snapshot import Left

PLAN = chain(ORDERLY, ORDERLY)


class Pages:
    """Real status pages of a plan, written as nodes write them."""

    def __init__(self, plan):
        self.plan, self.readers, self.writers = plan, {}, {}
        for node in plan.nodes:
            edges = [(edge, 0) for edge in (*node.in_edges, *node.out_edges)]
            fd = create(node.id, status_bytes(edges))
            format_status(fd, edges)
            self.readers[node.id], self.writers[node.id] = StatusReader(fd), StatusWriter(fd)

    def node(self, node, **fields):
        for name, value in fields.items():
            self.writers[node].set(name, value)

    def edge(self, node, edge, **fields):
        writer = self.writers[node]
        for name, value in fields.items():
            writer.words[writer.row(edge) + EDGE_WORD[name]] = value

    def take(self, left=None):
        return snapshot.take(self.plan, {node: reader.read() for node, reader in self.readers.items()}, left)


@pytest.fixture
def pages():
    return Pages(PLAN)


def test_of_an_edge_each_side_is_believed_for_what_it_knows(pages):
    pages.edge("a", 0, sent=100, completed=90, dropped=2, failed=3, in_flight=5, taken=1, redelivered=1, waiting=1)
    pages.edge("b", 0, sent=1, completed=1, dropped=1, failed=1, in_flight=2, taken=96, redelivered=4, waiting=3)
    (edge,) = pages.take().edges
    assert (edge.sent, edge.completed, edge.dropped, edge.failed, edge.in_flight) == (100, 90, 2, 3, 5)
    assert (edge.taken, edge.redelivered, edge.waiting) == (96, 4, 3)
    assert (edge.name, edge.from_node, edge.to_node, edge.policy, edge.depth, edge.window) == ("a.out->b.in", "a", "b", "block", 2, 4)


def test_what_a_consumer_finished_after_its_producer_died_is_not_lost(pages):
    # The last receipts went to nobody: the dead node's page says 5 in flight for ever. Its ring and the consumer's marks know better.
    pages.edge("a", 0, sent=100, completed=92, dropped=2, failed=1, in_flight=5)
    pages.edge("b", 0, taken=97, in_flight=1)
    (edge,) = pages.take({0: Left(under_way=2, completed=2, failed=1)}).edges
    assert (edge.completed, edge.failed, edge.in_flight) == (94, 2, 2)
    assert account([edge])[0].balanced


@pytest.mark.parametrize(
    ("counted", "left", "found"),
    [
        # Killed after the store to the ring and before the count of it: one more was sent.
        ({"sent": 10, "completed": 8, "in_flight": 2}, Left(under_way=3), (11, 8, 3)),
        # Killed after a row was given back and before that was counted: one more was completed.
        ({"sent": 10, "completed": 8, "in_flight": 2}, Left(under_way=1), (10, 9, 1)),
        ({"sent": 10, "completed": 10, "in_flight": 0}, Left(), (10, 10, 0)),
    ],
)
def test_between_a_ring_and_the_counts_of_a_killed_producer_the_ring_is_right(pages, counted, left, found):
    pages.edge("a", 0, **counted)
    (edge,) = pages.take({0: left}).edges
    assert (edge.sent, edge.completed, edge.in_flight) == found
    assert account([edge])[0].balanced


def test_the_statement_of_a_run_has_every_edge_and_both_its_ends(pages):
    pages.node("a", emitted=7)
    pages.node("b", consumed=6)
    pages.edge("a", 0, sent=7, completed=5, in_flight=1)
    pages.edge("b", 0, redelivered=2)
    found = statement(pages.take())
    assert (found["balanced"], found["sources"], found["sinks"]) == (False, {"a": 7}, {"b": 6})
    (row,) = found["edges"]
    assert (row["edge"], row["policy"], row["redelivered"], row["balanced"]) == ("a.out->b.in", "block", 2, False)


def test_a_node_row_has_the_counts_of_its_page_and_its_own_metrics(pages):
    pages.node("b", consumed=7, failed=1, work_ns=5000, busy_since_ns=3)
    pages.writers["b"].metric("boxes").add(2.5)
    row = pages.take().node("b")
    assert (row.consumed, row.failed, row.work_ns, row.busy_since_ns, row.metrics) == (7, 1, 5000, 3, {"boxes": 2.5})
    assert (row.plugin, row.role, row.pid, row.state) == ("fake.b", "sink", None, "PLANNED")


def test_rows_come_in_the_order_of_the_plan():
    plan = chain(ORDERLY, ORDERLY, ORDERLY)
    taken = Pages(plan).take()
    assert [row.id for row in taken.nodes] == ["a", "b", "c"]
    assert [row.name for row in taken.edges] == ["a.out->b.in", "b.out->c.in"]


def test_an_account_balances_only_if_every_packet_is_accounted_for():
    assert AccountRow("a->b", 10, 6, 2, 1, 1).balanced
    row = AccountRow("a->b", 10, 6, 2, 1, 0)
    assert not row.balanced
    assert str(row) == "a->b: does not balance: sent 10 = completed 6 + dropped 2 + failed 1 + in flight 0"
    assert row.as_json()["balanced"] is False


def test_what_is_in_flight_at_the_end_is_lost_edge_by_edge():
    rows = (AccountRow("a->b", 10, 10, 0, 0, 0), AccountRow("b->c", 10, 8, 0, 0, 2))
    assert lost(rows) == (("b->c", 2),)
