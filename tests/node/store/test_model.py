"""The store against a simple model, with power cuts at any operation, on the simulated disk."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from kit import stores
from shoal.node.store import ShareStore
from shoal.simulation.disk import PowerCut, SimDisk

EXAMPLES = 120  # about two seconds
ROOT = Path("/sim/store")
FILES = (stores.publish(1, 500), stores.publish(4, 600))


@dataclass
class Sent:
    """What the publisher of one upload knows."""

    file: int
    share: int
    received: int = 0
    durable: int = 0


class Machine(RuleBasedStateMachine):
    """One store, what it was given, and what a model says of it."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = SimDisk()
        self.place = stores.Place(self.disk, ROOT)
        self.store: ShareStore = self.place.open()
        self.uploads: dict[bytes, Sent] = {}
        self.acked: dict[tuple[int, int], int] = {}  # (file, share) -> lease end promised
        self.number = 0

    def attempt(self, work: Callable[[], None]) -> None:
        """Do something during which the power may fail."""
        try:
            work()
        except PowerCut:
            self.cut(random.Random(self.number))

    def cut(self, rng: random.Random) -> None:
        self.disk.crash(rng)
        self.store = self.place.open()
        for upload, sent in list(self.uploads.items()):
            durable = self.store.begin(upload, stores.SOURCE, 0, stores.NOW)
            assert durable >= sent.durable
            sent.received = sent.durable = durable

    @rule(file=st.integers(0, len(FILES) - 1), share=st.integers(0, 2))
    def begin(self, file: int, share: int) -> None:
        self.number += 1
        upload = stores.upload_id(self.number)
        assert self.store.begin(upload, stores.SOURCE, 0, stores.NOW) == 0
        self.uploads[upload] = Sent(file, share)

    @precondition(lambda self: self.uploads)
    @rule(data=st.data(), count=st.integers(1, 6), back=st.integers(0, 2))
    def write(self, data: st.DataObject, count: int, back: int) -> None:
        upload, sent = self.pick(data)
        file = FILES[sent.file]
        first = max(0, sent.received - back)
        blocks = file.blocks[sent.share][first : first + count]
        if not blocks:
            return

        def work() -> None:
            leaves = file.data_leaves[first : first + count]
            sent.received = self.store.write(upload, first, blocks, leaves, stores.NOW)

        before = sent.received
        self.attempt(work)
        assert sent.received in (max(before, first + len(blocks)), sent.durable)

    @precondition(lambda self: self.uploads)
    @rule(data=st.data())
    def sync(self, data: st.DataObject) -> None:
        upload, sent = self.pick(data)

        def work() -> None:
            sent.durable = self.store.sync(upload, stores.NOW)
            assert sent.durable == sent.received

        self.attempt(work)

    @precondition(lambda self: self.uploads)
    @rule(data=st.data(), lease=st.integers(0, 1000))
    def commit(self, data: st.DataObject, lease: int) -> None:
        upload, sent = self.pick(data)
        file = FILES[sent.file]
        key, lease_end = (sent.file, sent.share), stores.LEASE_END + lease
        if sent.received < file.count and key not in self.acked:
            return

        def work() -> None:
            kept = self.store.commit(upload, sent.share, file.encoded, lease_end, stores.NOW)
            assert kept >= max(lease_end, self.acked.get(key, 0))
            self.acked[key] = kept
            del self.uploads[upload]

        self.attempt(work)

    @precondition(lambda self: self.uploads)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        upload, _ = self.pick(data)
        del self.uploads[upload]
        self.attempt(lambda: self.store.abort(upload, stores.NOW))

    @precondition(lambda self: self.acked)
    @rule(data=st.data(), lease=st.integers(0, 1000))
    def renew(self, data: st.DataObject, lease: int) -> None:
        key = data.draw(st.sampled_from(sorted(self.acked)))

        def work() -> None:
            self.acked[key] = self.store.renew(FILES[key[0]].file_id, key[1], stores.LEASE_END + lease)

        self.attempt(work)

    @rule(after=st.integers(0, 12))
    def power_will_fail(self, after: int) -> None:
        self.disk.crash_at(after)

    @rule(seed=st.integers(0, 1 << 30))
    def power_fails(self, seed: int) -> None:
        self.cut(random.Random(seed))

    @rule()
    def restart(self) -> None:
        def work() -> None:
            self.store.close()
            self.store = self.place.open()
            for upload, sent in self.uploads.items():
                sent.received = self.store.begin(upload, stores.SOURCE, 0, stores.NOW)
                assert sent.received >= sent.durable

        self.attempt(work)

    @invariant()
    def everything_acked_is_served(self) -> None:
        before, self.disk.before = self.disk.before, None
        for (file, share), lease_end in self.acked.items():
            stores.check_share(self.store, FILES[file], share)
            (held,) = [held for held in self.store.held(FILES[file].file_id) if held.share_number == share]
            assert held.lease_end >= lease_end
        assert len(self.place.names()) <= len(self.uploads) + 3 * len(FILES)
        self.disk.before = before

    def pick(self, data: st.DataObject) -> tuple[bytes, Sent]:
        upload = data.draw(st.sampled_from(sorted(self.uploads)))
        return upload, self.uploads[upload]


def test_the_store_keeps_what_it_acknowledged() -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
