"""Files kept alive by their holders, with nobody in charge and without any key.

    epochs        whose turn it is: a rank that changes with every epoch
    health        what was observed of a file's holders, and what follows from it
    presence      who was seen when: the grace before an absent holder counts as lost
    clocks        whether this machine's clock agrees with its peers'

These are rules without I/O; `caretaker` is the task that follows them.
May import: repairing, publishing, holders, and everything below them.
"""
