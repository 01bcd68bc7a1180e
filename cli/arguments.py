"""Arguments that several commands have in common."""

from typing import Annotated

import typer

LinkArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="LINK|NAME",
        help="The link, or the name that shoal ls shows; - reads a link from standard input.",
        show_default=False,
    ),
]
PathLinkArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="LINK[/PATH]|NAME",
        help="The link, or the name that shoal ls shows; - reads a link from standard input.",
        show_default=False,
    ),
]
HashArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="LINK|NAME",
        help="The link, the hash, or the name that shoal ls shows; - reads a link from standard input.",
        show_default=False,
    ),
]
LinkFileOption = Annotated[
    str | None,
    typer.Option("--link-file", metavar="FILE", help="Read the link from a file.", show_default=False),
]
