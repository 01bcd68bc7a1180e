"""What commands tell people, where the words carry numbers."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shoal.cli import published, volunteer
from shoal.cli.commands import fetch, info, leave, ls, publish, republish
from shoal.cli.context import Globals
from shoal.cli.exits import BadUsageError, OutputClosedError
from shoal.cli.tables import day
from shoal.erasure.link import Link, LinkKind
from shoal.erasure.manifest import FileId
from shoal.node import Fetched, FileInfo, KeptFile, Left, Published, PublishedFile, Republished, Width
from shoal.node.publishing.lanes import DropReason
from shoal.node.publishing.options import PublishOptions

LINK = Link(FileId(bytes(32)), LinkKind.PRIVATE, bytes(32))
UNTIL = 1_800_000_000.0
WIDE = Published(LINK, 64_000_000, 16, 48, 36, 48, 48, 4.0, 192_000_000, 0, UNTIL)
PARTIAL = Published(LINK, 1000, 4, 12, 9, 7, 7, 1.0, 3000, 0, UNTIL, refusals={"full": 5})
FULL = "shoal --home /h --network '/my net.toml' --bootstrap 1.2.3.4:5"
ORDER = publish.Order(("x",), None, None, None, None, 3600, False)


@pytest.fixture
def settings(recorded: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Globals:
    for name in ("SHOAL_HOME", "SHOAL_NETWORK", "SHOAL_BOOTSTRAP"):
        monkeypatch.delenv(name, raising=False)
    return Globals(Path("/h"), Path("/my net.toml"), ("1.2.3.4:5",), recorded())


def told(settings: Globals, done: Published, **changes: Any) -> tuple[str, str]:
    publish.report(settings, replace(ORDER, **changes), done)
    output: Any = settings.output
    return output.out.getvalue(), output.err.getvalue()


def test_a_complete_publish(settings: Globals) -> None:
    out, err = told(settings, WIDE)
    assert out == f"{LINK}\n"
    assert err == (
        "Published 64.0 MB in 4.0 s (16.0 MB/s): 48 shares on 48 hosts; survives the loss of any 32 hosts; "
        f"kept until {day(UNTIL)}.\n"
    )


def test_commands_in_messages_can_be_typed_as_they_are(settings: Globals) -> None:
    """The library knows neither --home nor --network, and says `shoal node run`."""
    full = "shoal --home /h --network '/my net.toml' --bootstrap 1.2.3.4:5"
    assert settings.in_full("No node runs. Start it with: shoal node run") == (
        f"No node runs. Start it with: {full} node run"
    )
    assert settings.in_full("shoal ls --receipt LINK") == f"{full} ls --receipt LINK"
    for plain in ("a newer version of shoal (1)", "start one: shoal swarm --dir ./swarm", "a shoal of fish"):
        assert settings.in_full(plain) == plain
    named = f"Start it with: {settings.command('node', 'run')}"
    assert settings.in_full(named) == named


def test_a_partial_publish_in_the_words_agreed(settings: Globals) -> None:
    out, err = told(settings, PARTIAL)
    assert out == f"{LINK}\n"
    assert err == (
        "Published 7 of 12 shares on 7 hosts: the file survives the loss of any 3 of them (wanted: 9 hosts). "
        f"Kept until {day(UNTIL)}. 5 hosts were full. Run the same command again to complete it.\n"
    )
    assert "Run the same command" not in publish.partial_words(PARTIAL, resumable=False)
    bare = replace(PARTIAL, shares=4, hosts=4, refusals={"full": 1, "no answer": 2, "odd \x1b{x}": 2})
    assert publish.partial_words(bare, resumable=True) == (
        "Published 4 of 12 shares on 4 hosts: the file survives the loss of none of them (wanted: 9 hosts). "
        f"Kept until {day(UNTIL)}. 2 hosts did not answer. 2 hosts dropped out: odd \\x1bx. 1 host was full. "
        "Run the same command again to complete it."
    )


def test_only_advice_that_can_come_true(settings: Globals) -> None:
    narrowed = replace(PARTIAL, k=2, n=6, possible_n=12, shares=6, hosts=6, refusals={"no answer": 6})
    assert told(settings, narrowed)[1] == (
        "Published 6 of 6 shares on 6 hosts: the file survives the loss of any 4 of them (wanted: 9 hosts). "
        f"Kept until {day(UNTIL)}. 6 hosts did not answer. With them the file could have 12 shares instead of 6. "
        f"Make it wider later with: {FULL} republish LINK\n"
    )
    assert publish.summary_fields(narrowed)["possible_n"] == 12
    wanting = replace(PARTIAL, happy=20, shares=12, hosts=12, refusals={}, possible_n=12)
    for resumable in (True, False):
        assert publish.partial_words(wanting, resumable=resumable) == (
            "Published 12 of 12 shares on 12 hosts: the file survives the loss of any 8 of them (wanted: 20 hosts). "
            f"Kept until {day(UNTIL)}. This file has only 12 shares, so 20 hosts will never have one. "
            "Publish it again when the network has 20 hosts; that makes a new link."
        )


def test_a_republish_tells_what_is_gained(settings: Globals) -> None:
    done = Republished(WIDE, LINK, Width(1, 3, 16, 48, 60), is_kept=False)
    assert republish.gain_words(done) == "Before, it had 3 shares and survived 2 losses."
    kept = replace(done, is_kept=True)
    assert republish.gain_words(kept).endswith(" This home keeps both alive.")
    assert republish.old_words(settings, done, is_ours=False).endswith("to those who have it.")
    assert republish.old_words(settings, done, is_ours=True).endswith(f"with: {FULL} delete {LINK.hash}")
    partial = replace(done, published=PARTIAL)
    assert "delete" not in republish.old_words(settings, partial, is_ours=True)


def test_ls_names_the_latest_files_that_could_be_wider(settings: Globals) -> None:
    width, later = Width(1, 3, 4, 12, 30), time.time() + 1000
    narrow = PublishedFile(LINK, "f.txt", 1, 1, 3, 3, 0.0, later, width=width)
    assert ls.wider_notes(settings, [narrow]) == [
        f"f.txt survives 2 losses; on this network of 30 hosts it could survive 8: {FULL} republish f.txt"
    ]
    for silent in (
        replace(narrow, lease_end=time.time() - 1),
        replace(narrow, replaced_by="shoal:x"),
        replace(narrow, width=Width(1, 3, 1, 3, 5)),
        replace(narrow, width=None, deleted_at=1.0),
    ):
        assert ls.wider_notes(settings, [silent]) == []
    many = ls.wider_notes(settings, 8 * [narrow])
    assert (len(many), many[-1]) == (ls.MOST_NOTES + 1, "3 more files could be wider: see --json.")
    nameless = replace(narrow, name=None)
    assert ls.wider_notes(settings, [nameless])[0].endswith("republish LINK")


def test_a_link_that_nobody_takes_is_not_lost(recorded: Callable[..., Any], settings: Globals) -> None:
    output = recorded()
    output.out.close()
    with pytest.raises(OutputClosedError):
        publish.report(replace(settings, output=output), ORDER, WIDE)
    assert "See it with: shoal ls" in output.err.getvalue()


def test_warnings_about_width(settings: Globals) -> None:
    _, err = told(settings, replace(WIDE, shares=40, hosts=40, refusals={"full": 1}))
    assert "Warning: 40 of 48 hosts have a share; at least 36 were wanted. 1 host was full.\n" in err
    _, err = told(settings, replace(WIDE, k=2, n=6, happy=5, shares=6, hosts=6))
    assert err.splitlines()[-1] == (
        "Warning: Only 6 hosts took a share, so the file is spread thinly. "
        f"When the network has more hosts, make it wider with: {FULL} republish LINK"
    )
    few = replace(WIDE, k=1, n=3, happy=3, shares=3, hosts=3, refusals={"full": 4})
    assert "spread thinly. 4 hosts were full. When the network" in told(settings, few)[1]


@pytest.mark.parametrize("chosen", [{"needed": 1}, {"total": 3}])
def test_no_warning_about_a_width_that_was_asked_for(settings: Globals, chosen: dict[str, int]) -> None:
    assert "Warning" not in told(settings, replace(WIDE, k=1, n=3, happy=3, shares=3, hosts=3), **chosen)[1]


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("full", "2 hosts were full."),
        ("refused", "2 hosts refused."),
        ("no answer", "2 hosts did not answer."),
        (DropReason.FOREIGN, "2 hosts belong to another network."),
        ("stalled", "2 hosts were too slow."),
        ("lost what it had", "2 hosts lost the bytes received."),
        (DropReason.BROKE_THE_PROTOCOL, "2 hosts broke the protocol."),
    ],
)
def test_every_reason_of_the_library_makes_a_sentence(reason: str, sentence: str) -> None:
    assert publish.refusal_sentences({reason: 2}) == [sentence]
    assert publish.refusal_sentences({reason: 1}) == [
        sentence.replace("2 hosts", "1 host").replace("were", "was").replace("belong ", "belongs ")
    ]


NUMBERS = [None, 1, 2, 3, 4, 12, 85, 86, 255, 256]


@pytest.mark.parametrize("needed", NUMBERS)
@pytest.mark.parametrize("total", NUMBERS)
def test_the_other_number_is_the_one_the_library_chooses(needed: int | None, total: int | None) -> None:
    assert replace(ORDER, needed=needed, total=total).code == PublishOptions(needed=needed, total=total).code


def test_a_resumed_publish(settings: Globals) -> None:
    _, err = told(settings, replace(WIDE, sent_bytes=48_000_000, resumed_bytes=144_000_000))
    assert err.startswith("Published 64.0 MB in 4.0 s (4.00 MB/s), 48.0 MB of it sent earlier: 48 shares")
    _, err = told(settings, replace(WIDE, sent_bytes=0, resumed_bytes=192_000_000))
    assert err.splitlines()[1].startswith("Published 64.0 MB in 4.0 s, 64.0 MB of it sent earlier: 48 shares")


def test_the_command_that_fetches_it_on_a_terminal(
    settings: Globals, recorded: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = replace(settings, output=recorded(terminal=True))
    _, err = told(watched, WIDE)
    assert err.endswith(f"  shoal --network '/my net.toml' --bootstrap 1.2.3.4:5 fetch '{LINK}'\n")
    monkeypatch.setenv("SHOAL_NETWORK", "/my net.toml")
    monkeypatch.setenv("SHOAL_BOOTSTRAP", "1.2.3.4:5")
    assert watched.command("fetch", "x", with_home=False) == "shoal fetch x"
    assert watched.command("fetch", "x") == "shoal --home /h fetch x"
    monkeypatch.setenv("SHOAL_NETWORK", "./my//net.toml")
    relative = replace(watched, network=Path("my/net.toml"))
    assert relative.command("fetch", "x") == "shoal --home /h fetch x"
    monkeypatch.setenv("SHOAL_HOME", "/h/")
    assert relative.command("fetch", "x") == "shoal fetch x"


def test_a_fetch() -> None:
    done = Fetched(Path("/a\nb"), "x", 3_000_000, 2.0, 1, 1_000_000)
    assert fetch.words(done) == "Fetched /a\\nb: 3.00 MB in 2.0 s (1.00 MB/s), 1.00 MB of it fetched earlier."
    assert fetch.words(Fetched(None, None, 0, 0.0, 0, 0)) == "Fetched: 0 B in 0.0 s."


def test_info_without_the_key() -> None:
    found = FileInfo(LINK.id, False, 4, 12, 1000, None, None, None, ())
    text = info.table(replace(LINK, key=None), found)
    assert "(needs the key)" in text
    assert "at most 1.00 kB" in text
    assert info.table(LINK, replace(found, name="n", size=3)).count("3 B") == 1


def test_ls_has_a_total() -> None:
    files = [
        PublishedFile(LINK, "x", 2_000_000, 1, 3, 3, 0.0, 0.0),
        PublishedFile(LINK, "y", 9, 1, 3, 3, 0.0, 0.0, 1.0),
    ]
    kept = [KeptFile(Link(LINK.id), 0.0, 0.0, 0.0)] * 2
    assert ls.total(files, []) == "Total: 1 file published, 2.00 MB"
    assert ls.total(files, kept) == "Total: 1 file published, 2.00 MB; 2 files kept"


def test_a_published_file_is_found_by_its_name() -> None:
    other, gone = (Link(FileId(bytes([number]) * 32), LinkKind.PRIVATE, bytes(32)) for number in (1, 2))
    first = PublishedFile(LINK, "x", 1, 1, 3, 3, 0.0, 0.0)
    assert published.named([first, PublishedFile(gone, "x", 1, 1, 3, 3, 0.0, 0.0, 5.0)], "x", look="shoal ls") == LINK
    assert published.named([PublishedFile(gone, "x", 1, 1, 3, 3, 0.0, 0.0, 5.0)], "x", look="shoal ls") == gone
    with pytest.raises(BadUsageError, match="published no file named 'y'"):
        published.named([first], "y", look="shoal ls")
    with pytest.raises(BadUsageError, match="2 files are named 'x'") as caught:
        published.named([first, PublishedFile(other, "x", 5, 1, 3, 3, 0.0, 0.0)], "x", look="shoal ls")
    assert LINK.hash in str(caught.value)
    assert other.hash in str(caught.value)
    assert "#" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"), [("holiday.mkv", True), ("https://x.org", True), ("-", False), ("", False)]
)
def test_what_can_only_be_a_name(text: str, expected: bool) -> None:
    assert published.is_name(text) == expected
    assert not published.is_name(f"shoal:{text}")
    assert not published.is_name(str(LINK))
    assert not published.is_name(LINK.hash.removeprefix("shoal:"))
    assert not published.is_name(str(LINK)[6:60])  # a piece of a link is not repeated in a message
    assert not published.is_name(str(LINK).replace("shoal:", "shaol:"))


def test_ls_escapes_names() -> None:
    assert "\\x1b" in ls.table([PublishedFile(LINK, "\x1b", 1, 1, 3, 3, 0.0, 0.0)])


def test_a_long_name_leaves_room_for_the_links() -> None:
    files = [PublishedFile(LINK, name, 1, 1, 3, 3, 0.0, 0.0) for name in ("a" * 120 + "b" * 130 + ".tar", "short")]
    title, long_line, short_line = ls.table(files).splitlines()
    assert title.index("link") == long_line.index("shoal:") == short_line.index("shoal:") < 120
    assert "aaa…b" in long_line
    assert "bbb.tar  shoal:" in long_line


def test_links_stand_apart_on_a_terminal() -> None:
    file = PublishedFile(LINK, "x", 1, 1, 3, 3, 0.0, 0.0)
    title, line, link, *_ = ls.table([file, file], links_apart=True).splitlines()
    assert (title.split()[-1], line.split()[-1], link) == ("name", "x", f"  {LINK}")


STATUS = {
    "node_id": "ab",
    "version": "1",
    "network": "net",
    "address": "1.2.3.4:5",
    "address_source": "observed",
    "addresses": ["0.0.0.0:5", "[::]:5"],
    "reachable": "direct",
    "external_address": "1.2.3.4:5",
    "relays": [],
    "relayed_for": 0,
    "peers": 1,
    "codec": "zfec",
    "sent_bytes": 5_000_000,
    "received_bytes": 7_000,
    "shares": 3,
    "files": 2,
    "used_bytes": 2_000_000,
    "capacity_bytes": 10**9,
    "available_bytes": 998_000_000,
    "free_disk_bytes": 10**10,
    "reserve_bytes": 10**9,
    "soonest_lease_end": 0,
    "damaged_shares": 0,
    "lost_shares": 0,
    "problems": [],
    "audits_passed": 4,
    "audits_failed": 1,
    "repairs": 1,
    "rebuilt_shares": 2,
    "repair_bytes": 12_000,
    "uptime_s": 7_500,
    "turns": 9,
    "bugs": 0,
}


def test_status_for_people() -> None:
    end = time.mktime((2027, 2, 20, 12, 0, 0, 0, 0, -1))
    text = volunteer.table(STATUS | {"soonest_lease_end": end, "new_rate_bytes_per_s": 5})
    assert text.splitlines() == [
        "node id:   ab",
        "version:   1",
        "network:   net",
        "address:   1.2.3.4:5 (as most peers see it)",
        "reached:   directly",
        "listens:   0.0.0.0:5, [::]:5",
        "peers:     1 verified contact",
        "codec:     zfec",
        "shares:    3 of 2 files",
        "used:      2.00 MB of 1.00 GB",
        "room:      998 MB for new shares",
        "free disk: 10.0 GB, 1.00 GB of it reserved",
        "leases:    the first ends 2027-02-20 12:00",
        "runs for:  2 h 5 min; in this time:",
        "audits:    5 blocks of other hosts checked: 4 good, 1 bad",
        "repairs:   1: rebuilt 2 shares, moved 12.0 kB",
        "traffic:   5.00 MB sent, 7.00 kB received",
        "new rate:  5 B/s",
    ]
    mapping = {"state": "mapped", "external": "5.5.5.1:4750", "protocol": "UPnP"}
    assert "\nrouter:    opened 5.5.5.1:4750 (UPnP)\n" in volunteer.table(STATUS | {"mapping": mapping})
    refused = {"state": "refused", "reason": "it does not map ports"}
    assert "\nrouter:    opened no port: it does not map ports\n" in volunteer.table(STATUS | {"mapping": refused})
    idle = volunteer.table(STATUS | {"audits_passed": 0, "audits_failed": 0, "repairs": 0})
    assert "audits:    none due yet\nrepairs:   none needed\n" in idle
    assert "\nturns:" in volunteer.table(STATUS, everything=True)


@pytest.mark.parametrize(
    ("last_answer_s", "words"),
    [
        (None, "1 verified contact, none has ever answered"),
        (59, "1 verified contact, 1 answered within 15 minutes, the last just now"),
        (7_500, "1 verified contact, 1 answered within 15 minutes, the last 2 h 5 min ago"),
    ],
)
def test_status_tells_when_a_peer_last_answered(last_answer_s: int | None, words: str) -> None:
    text = volunteer.table(STATUS | {"peers_answered": 1, "last_answer_s": last_answer_s})
    assert f"peers:     {words}\n" in text


def test_status_tells_how_a_node_is_reached() -> None:
    relayed = volunteer.table(STATUS | {"reachable": "punched-or-relayed", "relays": ["1.1.1.1:9", "2.2.2.2:9"]})
    assert "reached:   through relays: 1.1.1.1:9, 2.2.2.2:9\n" in relayed
    assert "relays for: 12 nodes\n" in volunteer.table(STATUS | {"relayed_for": 12}).replace("  ", " ")


def test_status_tells_what_is_wrong() -> None:
    lowered = volunteer.table(STATUS | {"available_bytes": 0, "damaged_shares": 1, "problems": ["A disk rots."]})
    assert "room:      none: this node takes nothing new" in lowered
    assert "damaged:   1 share" in lowered
    assert "problem:   A disk rots." in lowered
    unreadable = dict.fromkeys(("shares", "files", "used_bytes", "free_disk_bytes", "damaged_shares", "lost_shares"))
    gone = volunteer.table(STATUS | unreadable | {"problems": ["It is gone."]})
    assert "shares:   unknown" in gone
    assert "problem:  It is gone." in gone


def test_each_problem_is_told_once() -> None:
    news = volunteer.News()
    assert news.of([]) == []
    assert news.is_good
    assert news.of(["one"]) == ["one"]
    assert news.of(["one", "two"]) == ["two"]
    assert news.of(["two"]) == []
    assert not news.is_good
    assert news.of([]) == []
    assert news.is_good
    assert news.of(["two"]) == ["two"]


def test_leaving_says_what_may_be_removed_and_what_not() -> None:
    """The home has the links and owner keys of what was published from it: only the shares may go."""
    done = leave.words(Left(5, 1, 0, 0, 2_000_000), "/h/store")
    assert done == (
        "Handed over 5 shares (2.00 MB). 1 share had another host already. "
        "This node can leave: nothing is lost with it. To free the disk, remove /h/store"
    )
    assert leave.words(Left(0, 3, 0, 0, 0), "/h/store").startswith(
        "No shares were left to hand over. 3 shares had another"
    )
    stuck = leave.words(Left(1, 0, 2, 1, 266), "/h/store")
    assert stuck.startswith(
        "Handed over 1 share (266 B). 2 shares had a lease about to end. 1 share found no other host"
    )
    assert "/h/store" not in stuck
    assert "node run" not in stuck
    assert leave.words(Left(1, 0, 2, 1, 266), "/h/store", "shoal node run").endswith("until then: shoal node run")
    assert leave.running_words("It runs on.").startswith("It runs on. Stop it first")
