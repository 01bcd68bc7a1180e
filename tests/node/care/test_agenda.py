"""The bookkeeping of errands."""

from random import Random

from shoal.node.care.agenda import Agenda, Errand

A, B = b"a" * 32, b"b" * 32


def test_errands_come_in_order_and_moved_ones_once() -> None:
    agenda = Agenda()
    agenda.put(Errand.TURN, A, 5.0)
    agenda.put(Errand.TURN, A, 9.0)
    agenda.put(Errand.ABSENT, A, 7.0)
    agenda.put(Errand.RETURN, B, 6.0)
    assert agenda.next_at() == 5.0  # where it was before: looking costs nothing
    assert agenda.take(8.0) == [(6.0, Errand.RETURN, B), (7.0, Errand.ABSENT, A)]
    assert agenda.take(9.0) == [(9.0, Errand.TURN, A)]
    assert agenda.next_at() is None


def test_a_turn_that_was_taken_is_still_known_and_a_return_is_not() -> None:
    agenda = Agenda()
    agenda.put(Errand.TURN, A, 1.0)
    agenda.put(Errand.RETURN, A, 1.0)
    assert len(agenda.take(1.0)) == 2
    assert agenda.has(Errand.TURN, A)
    assert not agenda.has(Errand.RETURN, A)
    agenda.forget(A)
    assert not agenda.has(Errand.TURN, A)


def test_nothing_is_lost_or_done_twice() -> None:
    rng = Random(3)
    agenda, wanted = Agenda(), {}
    for _ in range(2000):
        errand, file_id, when = Errand(rng.randrange(3)), bytes([rng.randrange(40)]) * 32, rng.random()
        agenda.put(errand, file_id, when)
        wanted[errand, file_id] = when
        if rng.random() < 0.05:
            agenda.forget(file_id)
            wanted = {key: at for key, at in wanted.items() if key[1] != file_id}
    taken = agenda.take(1.0)
    assert taken == sorted(taken)
    assert {(errand, file_id): when for when, errand, file_id in taken} == wanted


def test_a_turn_that_was_set_twice_for_the_same_time_is_one_turn() -> None:
    """Every new statement sets a file's turn again, mostly to what it was. When it came several times, the first found
    that another holder had looked after the file, and the second, with that used up, looked once more.
    """
    agenda = Agenda()
    for _ in range(3):
        agenda.put(Errand.TURN, A, 5.0)
    assert agenda.take(6.0) == [(5.0, Errand.TURN, A)]
    assert agenda.take(6.0) == []
