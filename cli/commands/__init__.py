"""One module per command. Each has the function that typer parses for, which checks what was typed and
returns a Job,
and the work itself, which loads the node library only when it starts."""
