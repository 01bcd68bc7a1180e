"""Dealing with peers: every request of ours goes through here, and what comes of it is remembered.

An answer puts its sender into the routing table; silence counts against it. Addresses known by hearsay only are tried
sparingly. Newcomers that ask us something are pinged, because answering is the one way into the table.
"""

from collections import OrderedDict
from collections.abc import Callable

import trio

from shoal.dht.address import Address
from shoal.dht.contact import Contact
from shoal.dht.errors import MisbehaviourError, NoReplyError, QueryError
from shoal.dht.hearsay import HearsayBook
from shoal.dht.identity import NodeId, has_proof
from shoal.dht.messages import KnownRequest, Nodes, Ping, Records
from shoal.dht.observed import ObservedAddresses
from shoal.dht.params import NetworkParameters
from shoal.dht.routing import ContactTable
from shoal.dht.rpc import MAX_ATTEMPTS, Answer, RequestSender

MAX_BACKGROUND_PINGS = 32  # at the same time; a newcomer left out comes again with its next request
GREETING_SPACING_S = 600.0  # a node whose bucket is full is not pinged again for each of its requests
MAX_GREETED = 4_096


class _Permit:
    """Lets datagrams of one request go to an address known by hearsay."""

    def __init__(self, hearsay: HearsayBook, address: Address) -> None:
        self._hearsay = hearsay
        self._address = address
        self.was_used = False

    def __call__(self, size: int) -> bool:
        allowed = self._hearsay.take(self._address, size, trio.current_time())
        self.was_used |= allowed
        return allowed


class Peers:
    """Asks peers and keeps the books.

    own_addresses: the addresses we listen on.    on_contact, on_silence: called when a peer has answered, and when a
    contact of the table has not.    on_lost: a contact has left the table by silence.    on_answer: who has answered,
    once it is in the table.    on_moved: most peers see us at another address than before.    on_seen: as on_moved, and
    while they have not agreed on one.
    """

    def __init__(
        self,
        params: NetworkParameters,
        own_id: NodeId,
        table: ContactTable,
        caller: RequestSender,
        listening: Callable[[], tuple[Address, ...]],
        *,
        on_contact: Callable[[], None],
        on_silence: Callable[[], None],
        on_lost: Callable[[Contact], None],
        on_answer: Callable[[NodeId], None],
        on_moved: Callable[[], None],
        on_seen: Callable[[], None],
    ) -> None:
        self._params = params
        self._own_id = own_id
        self._table = table
        self._caller = caller
        self._listening = listening
        self._on_contact = on_contact
        self._on_silence = on_silence
        self._on_lost = on_lost
        self._on_answer = on_answer
        self._on_moved = on_moved
        self._on_seen = on_seen
        self._hearsay = HearsayBook(private=params.private)
        self._trying: dict[Address, trio.Event] = {}
        self._greeted: OrderedDict[Address, float] = OrderedDict()
        self._nursery: trio.Nursery | None = None
        self._background_pings = 0
        self.observed = ObservedAddresses(private=params.private)
        self.answered_at = float("-inf")  # when a peer last answered a request of ours
        # Hears where our id is said to be, and the address that says so.
        self.on_own_id: Callable[[Address, Address], None] = lambda address, said_by: None

    def start(self, nursery: trio.Nursery) -> None:
        """Ping in the background in tasks of `nursery` from now on."""
        self._nursery = nursery

    def is_acceptable(self, contact: Contact) -> bool:
        """Whether a contact others told us of may be asked: allowed address, proof of work, not ourselves."""
        return (
            contact.node_id != self._own_id
            and self._params.allows(contact.address)
            and contact.address not in self._listening()
            and has_proof(contact.node_id, self._params.pow_bits)
        )

    async def ask(self, contact: Contact, message: KnownRequest) -> Answer:
        """One request to a contact, verified or from hearsay. Raises QueryError."""
        if self._is_verified(contact):
            return await self._request(contact, message)
        if self._params.private:
            return await self._ask_hearsay(contact, message)
        while (other := self._trying.get(contact.address)) is not None:
            await other.wait()  # one attempt at a time, then we know more
        over = self._trying[contact.address] = trio.Event()
        try:
            return await self._ask_hearsay(contact, message)
        finally:
            del self._trying[contact.address]
            over.set()

    def has_met(self, node_id: NodeId, address: Address) -> bool:
        """Whether this node has answered us from this address: it is in the table, or gave us a cookie lately."""
        return self._is_verified(Contact(node_id, address)) or bool(self._caller.cookie_for(address, node_id))

    async def ping(self, address: Address, node_id: NodeId | None) -> Contact:
        """Ask an address we were given for a sign of life; None for whoever is there. Raises QueryError."""
        return (await self._ping(address, node_id)).contact

    async def _ping(self, address: Address, node_id: NodeId | None) -> Answer:
        if node_id is not None:
            ask = self._request if self._params.private else self.ask
            return await ask(Contact(node_id, address), Ping())
        answer = await self._caller.request(address, None, Ping())
        if answer.contact.node_id == self._own_id:
            raise NoReplyError(f"{address} is our own address")
        self._note_answer(answer)
        return answer

    async def knock(self, address: Address) -> Contact:
        """Ping an address where others say that somebody is, as far as hearsay may be asked. Raises QueryError."""
        if address in self._listening() or not self._params.allows(address):
            raise NoReplyError(f"{address} is nobody's whom we may ask")
        if not self._hearsay.allows(address, trio.current_time()):
            raise NoReplyError(f"{address} did not answer lately")
        permit = _Permit(self._hearsay, address)
        try:
            answer = await self._caller.request(address, None, Ping(), permit=permit)
        except (NoReplyError, MisbehaviourError):
            if permit.was_used:
                self._hearsay.note_silence(address, trio.current_time())
            raise
        if answer.contact.node_id == self._own_id:
            raise NoReplyError(f"{address} is our own address")
        self._note_answer(answer)
        return answer.contact

    async def introduce(self, address: Address, node_id: NodeId | None) -> Contact:
        """Ping until our address is proven to the peer: the first answer brings the cookie that the second ping shows.

        None for whoever is there. Raises QueryError.
        """
        answer = await self._ping(address, node_id)
        if not answer.head.validated:
            answer = await self._ping(address, answer.contact.node_id)
        return answer.contact

    def greet(self, newcomer: Contact) -> None:
        """A serving node asked us something from a proven address: ping it, unless we know it or did so lately."""
        now = trio.current_time()
        self._hearsay.note_life(newcomer.address, now)
        lately = now - self._greeted.get(newcomer.address, -GREETING_SPACING_S) < GREETING_SPACING_S
        if lately or self._is_verified(newcomer):
            return
        if self._ping_soon(newcomer):
            self._greeted[newcomer.address] = now
            if len(self._greeted) > MAX_GREETED:
                self._greeted.popitem(last=False)

    def _is_verified(self, contact: Contact) -> bool:
        known = self._table.get(contact.node_id)
        return known is not None and known.address == contact.address

    async def _ask_hearsay(self, contact: Contact, message: KnownRequest) -> Answer:
        """Ask where others say that somebody is, as far as the hearsay book allows."""
        if not self._hearsay.allows(contact.address, trio.current_time()):
            raise NoReplyError(f"{contact.address} did not answer lately")
        if self.has_met(contact.node_id, contact.address):
            return await self._request(contact, message)
        return await self._request(contact, message, _Permit(self._hearsay, contact.address))

    async def _request(self, contact: Contact, message: KnownRequest, permit: "_Permit | None" = None) -> Answer:
        # A peer that was silent through all attempts last time gets one: that shows whether it is back.
        attempts = 1 if self._hearsay.was_silent(contact.address) else MAX_ATTEMPTS
        try:
            answer = await self._caller.request(
                contact.address, contact.node_id, message, attempts=attempts, permit=permit
            )
        except (NoReplyError, MisbehaviourError):
            if permit is None or permit.was_used:  # else nothing was sent, and nothing is known
                self._note_failure(contact)
            raise
        self._note_answer(answer)
        return answer

    def _note_failure(self, contact: Contact) -> None:
        now = trio.current_time()
        verified = self._is_verified(contact)
        if self._table.on_failure(contact, now):
            self._on_lost(contact)
        self.observed.note_silence(contact, now)
        self._greeted.pop(contact.address, None)  # if it comes back, it is welcome at once
        if verified:
            self._on_silence()
        if not self._is_verified(contact):
            self._hearsay.note_silence(contact.address, now)

    def _note_answer(self, answer: Answer) -> None:
        """The peer answered from its address: the one way into the table."""
        self.answered_at = trio.current_time()
        self._hearsay.note_life(answer.contact.address, self.answered_at)
        if any(bound.is_ipv6 == answer.contact.address.is_ipv6 for bound in self._listening()):
            chosen = answer.contact.address not in self._greeted
            ipv6 = answer.contact.address.is_ipv6
            before = self.observed.best(ipv6=ipv6)
            doubted = self.observed.note(answer.contact, answer.head.observed, trio.current_time(), chosen=chosen)
            for voter in doubted:
                self._ping_soon(voter)
            if before is None or self.observed.best(ipv6=ipv6) != before:
                self._on_seen()
                if before is not None:
                    self._on_moved()
        self._look_for_own_id(answer.reply, answer.contact.address)
        suspect = self._table.on_verified(answer.contact, trio.current_time())
        if len(self._table):
            self._on_contact()
        self._on_answer(answer.contact.node_id)
        if suspect is not None:
            self._ping_soon(suspect)

    def _look_for_own_id(self, reply: object, said_by: Address) -> None:
        """A peer names us to ourselves only where it knows our id at another address."""
        if isinstance(reply, Nodes | Records):
            for contact in reply.contacts:
                if contact.node_id == self._own_id and self._params.allows(contact.address):
                    self.on_own_id(contact.address, said_by)
                    return

    def _ping_soon(self, contact: Contact) -> bool:
        """Ping in the background, unless too many such pings are under way."""
        if self._nursery is None or self._background_pings >= MAX_BACKGROUND_PINGS:
            return False
        self._background_pings += 1
        self._nursery.start_soon(self._ping_quietly, contact)
        return True

    async def _ping_quietly(self, contact: Contact) -> None:
        try:
            await self.ask(contact, Ping())
        except QueryError:
            pass  # the table has been told
        finally:
            self._background_pings -= 1
