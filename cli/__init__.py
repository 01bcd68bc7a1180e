"""How people drive Shoal: the `shoal` command.

    main            entry point: parse, run, end with the right code
    app, lean       the command line as typer sees it
    context, links  the options of `shoal` itself; where a link comes from
    output, progress, units, exits   words, progress line, quantities, exit codes
    runner          signals and clean-up around the asynchronous part
    tree            the commands as plain values: reference, manpage and completion are made from it
    commands/       one module per command
    local_network   many nodes on this machine, for `demo` and `swarm`

This package knows no protocol: whatever it does, a program can do through `shoal.node`.
"""

__all__: list[str] = []  # people use the command, programs use shoal.node
