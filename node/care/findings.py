"""What a look at a file has shown so far: values that one step hands to the next, and that nobody changes.

    WatchedFile   what is known before the look: the file and the statements of its holders
    Answers       what each holder said when it was asked what it keeps (`asking`)
    Findings      the same after some claims were proven or refuted (`proofs`) and lists compared (`comparing`)
    Verdict       what follows from the findings (`verdict`)

A step that learns more makes a new value. The first stage is not called a survey because a message of the channel is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from functools import cached_property

from shoal.dht import NodeId
from shoal.erasure import FileId, Manifest
from shoal.node.care.health import FileHealth, Observation
from shoal.node.holders.outcome import Outcome
from shoal.node.holders.refresh import Place
from shoal.node.holders.statements import HolderStatement
from shoal.values import dataclass


@dataclass(frozen=True, slots=True)
class WatchedFile:
    """A file of which shares are kept here. `statements` are all that is known of its holders, ours among them.

    `source` is the group of sources that it came from (`ShareStore.source_groups`).
    """

    file_id: FileId
    manifest: Manifest
    statements: tuple[HolderStatement, ...]
    source: bytes = b""


@dataclass(frozen=True, slots=True)
class Shown:
    """Signed words that a holder showed with its answer. Nothing of it is checked yet.

    `statements`: new statements, each with the holder that showed it.  `deletions`: words of the file's owner.
    """

    statements: tuple[tuple[NodeId, bytes], ...] = ()
    deletions: tuple[bytes, ...] = ()

    def __add__(self, more: "Shown") -> "Shown":
        return Shown(self.statements + more.statements, self.deletions + more.deletions)


NOTHING_SHOWN = Shown()


@dataclass(frozen=True, slots=True)
class Answers:
    """What the holders of one file said. Nothing is proven: a claim counts as OK here."""

    file: WatchedFile
    observations: tuple[Observation, ...]
    shown: Shown = NOTHING_SHOWN


@dataclass(frozen=True)
class Findings:
    """A file as this look has found it.

    `proven`: places of the observations that an audit has settled.
    `common`: when the statement was issued that most holders know, by share and holder.
    """

    file: WatchedFile
    observations: tuple[Observation, ...] = ()
    shown: Shown = NOTHING_SHOWN
    proven: frozenset[int] = frozenset()
    common: Mapping[Place, int] = field(default_factory=dict)

    @classmethod
    def of(cls, answers: Answers) -> "Findings":
        """Before any audit."""
        return cls(answers.file, answers.observations, answers.shown)

    @property
    def file_id(self) -> FileId:
        """The file's id."""
        return self.file.file_id

    @property
    def statements(self) -> tuple[HolderStatement, ...]:
        """What is known of the file's holders."""
        return self.file.statements

    @property
    def source(self) -> bytes:
        """The group of sources that the file came from."""
        return self.file.source

    @cached_property
    def has_lost(self) -> bool:
        """Whether nobody shows a share that some holder has stated. What else is missing was never placed, as far as
        this node knows: such a file is completed, but nothing about it is urgent.
        """
        shown = {share for share, _ in self.there}
        return any(each.share not in shown for each in self.statements)

    @property
    def is_emergency(self) -> bool:
        """Whether so few shares are left, of those that there were, that a repair cannot wait for the next epoch."""
        return self.has_lost and self.health.is_emergency

    @cached_property
    def there(self) -> frozenset[Place]:
        """The shares that were there, with those who have them."""
        return frozenset((each.share, each.holder) for each in self.observations if each.outcome is Outcome.OK)

    @cached_property
    def health(self) -> FileHealth:
        """What the observations amount to."""
        return FileHealth.of(self.file.manifest.k, self.file.manifest.n, self.observations)

    def commonly_issued(self, statement: HolderStatement) -> int:
        """When the statement was issued that most holders know in place of this one; this one where they know none."""
        return self.common.get((statement.share, statement.node_id), statement.issued)

    def with_statements(self, statements: Iterable[HolderStatement]) -> "Findings":
        """The same, with these statements for all that is known of the holders."""
        return replace(self, file=replace(self.file, statements=tuple(statements)))

    def with_more(self, more: "Findings") -> "Findings":
        """The same, and what was found at holders of the file that became known only now."""
        moved = frozenset(len(self.observations) + place for place in more.proven)
        return replace(
            self.with_statements((*self.statements, *more.statements)),
            observations=self.observations + more.observations,
            proven=self.proven | moved,
            shown=self.shown + more.shown,
        )

    def with_answers(self, answers: Answers) -> "Findings":
        """The same, with what some holders said that were silent at first."""
        heard = {(each.share, each.holder): each for each in answers.observations}
        observations = [heard.pop((each.share, each.holder), each) for each in self.observations]
        return replace(self, observations=(*observations, *heard.values()), shown=self.shown + answers.shown)

    def living(self, me: NodeId) -> list[HolderStatement]:
        """One statement of each holder but `me`. Left out are holders that were asked and have no share now."""
        silent = {each.holder for each in self.observations} - {holder for _, holder in self.there}
        unique = {each.node_id: each for each in self.statements if each.node_id not in silent}
        return [each for node_id, each in sorted(unique.items()) if node_id != me]
