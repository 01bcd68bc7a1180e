"""Files kept alive by their holders, with nobody in charge and without any key.

Rules, which take the time as an argument and do no I/O:

    epochs           whose turn it is: a rank that changes with every epoch
    turns, agenda    when this node is to look at which file, and whether another holder has looked already
    presence         which peers were seen when: the grace before an absent holder counts as lost
    doubts           which peers claimed a share and could not show it
    health           what was observed of a file's holders, and whether that is enough
    findings         the values that one step of a look hands to the next
    verdict          what follows from a look: news, a repair, new announcers, a time to come back
    problems         what is wrong with this machine's disk, in sentences

Steps of a look, which ask and tell:

    looks            all steps of a look, in order
    rounds           one round of questions: `asking` for claims, then `proofs` of a few of them
    polls            questions and answers that fit a datagram
    comparing        what the other holders know of each other
    telling          new statements, and which announcers are gone
    mending          repairs, a few at once

Tasks and what serves them:

    caretaker        sleeps until a turn comes, and has `looks` do it
    stored_files     what our store knows of a file's holders
    after_absence    makes this node known again to the other holders
    own_shares       makes damaged shares of our own again
    upkeep           the chores of the share store
    clocks           whether this machine's clock agrees with its peers'
    counts           counters for the status

May import: repairing, publishing, holders, and everything below them.
"""
