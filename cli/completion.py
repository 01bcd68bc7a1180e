"""Completion scripts for bash, zsh and fish, made from the commands.

A script holds all it needs to know, so that a Tab starts no Python. Each finds the command that is being typed by
walking over the words before the cursor, and skips the values of options on the way.
"""

from collections.abc import Iterable, Sequence

from shoal.cli.tree import Command, Parameter, commands

COLUMNS = 80
_FOLDERS = frozenset({"DIR"})
_FILES = frozenset({"FILE", "FILE.svg", "PATH|-", "PATH|DIR|-"})


def bash() -> str:
    """For bash 4.4 or newer."""
    found = commands(COLUMNS)
    everywhere, options = found[0].options, _all_options(found)
    steps = "|".join(_quoted(each.path) for each in found[1:])
    return f"""\
# Completion of shoal for bash 4.4 or newer. Made by: shoal completion bash
_shoal() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} path=shoal index
    COMPREPLY=()
    for ((index = 1; index < COMP_CWORD; index++)); do
        case ${{COMP_WORDS[index]}} in
            {_names(_valued(options))}) index=$((index + 1)) ;;
            -*) ;;
            *) case "$path ${{COMP_WORDS[index]}}" in
                {steps}) path="$path ${{COMP_WORDS[index]}}" ;;
            esac ;;
        esac
    done
    case $before in
        {_names(_of_kind(options, _FOLDERS))})
            compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
        {_names(_of_kind(options, _FILES))})
            compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
{_bash_values(options)}        {_names(_valued(options))}) return ;;
    esac
    local words="" files=""
    case $path in
{chr(10).join(_bash_case(each, everywhere) for each in found)}
    esac
    if [[ $files && $word != -* ]]; then
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    else
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
    fi
}}
complete -F _shoal shoal
"""


def _bash_values(options: Iterable[Parameter]) -> str:
    """Cases for the options that list their values."""
    return "".join(
        f"        {_names([option])}) "
        f'mapfile -t COMPREPLY < <(compgen -W {_quoted(" ".join(_listed(option)))} -- "$word"); return ;;\n'
        for option in options
        if _listed(option)
    )


def _bash_case(command: Command, everywhere: Sequence[Parameter]) -> str:
    options = " ".join(_long_and_short((*command.options, *everywhere)))
    plain = " ".join(_choices(command))
    files = " files=1;" if _takes_file(command) else ""
    return f"""\
        {_quoted(command.path)})
            if [[ $word == -* ]]; then words={_quoted(options)}; else words={_quoted(plain)};{files} fi ;;"""


def zsh() -> str:
    """For zsh: a file _shoal in $fpath, or sourced."""
    found = commands(COLUMNS)
    everywhere, options = found[0].options, _all_options(found)
    steps = "|".join(_quoted(each.path) for each in found[1:])
    return f"""\
#compdef shoal
# Completion of shoal for zsh. Made by: shoal completion zsh
_shoal() {{
    local word=${{words[CURRENT]}} before=${{words[CURRENT-1]}} here=shoal index
    local -a plain dashed
    for ((index = 2; index < CURRENT; index++)); do
        case ${{words[index]}} in
            {_names(_valued(options))}) index=$((index + 1)) ;;
            -*) ;;
            *) case "$here ${{words[index]}}" in
                {steps}) here="$here ${{words[index]}}" ;;
            esac ;;
        esac
    done
    case $before in
        {_names(_of_kind(options, _FOLDERS))}) _files -/; return ;;
        {_names(_of_kind(options, _FILES))}) _files; return ;;
{_zsh_values(options)}        {_names(_valued(options))}) return ;;
    esac
    case $here in
{chr(10).join(_zsh_case(each, found, everywhere) for each in found)}
    esac
    if [[ $word == -* ]]; then
        _describe -o option dashed
    elif (( $#plain )); then
        _describe word plain
    else
        _message 'no more words'
    fi
}}
if [[ $funcstack[1] == _shoal ]]; then _shoal "$@"; else compdef _shoal shoal; fi
"""


def _zsh_values(options: Iterable[Parameter]) -> str:
    """Cases for the options that list their values."""
    return "".join(
        f"        {_names([option])}) plain=({' '.join(_listed(option))}); _describe value plain; return ;;\n"
        for option in options
        if _listed(option)
    )


def _zsh_case(command: Command, found: Sequence[Command], everywhere: Sequence[Parameter]) -> str:
    dashed = [
        _zsh_item(name, option.help)
        for option in _distinct((*command.options, *everywhere))
        for name in option.names
        if name.startswith("--")
    ]
    plain = [_zsh_item(name, _summary(command, name, found)) for name in _choices(command)]
    files = "\n            [[ $word == -* ]] || { _files; return; }" if _takes_file(command) else ""
    return f"""\
        {_quoted(command.path)})
            dashed=({" ".join(dashed)})
            plain=({" ".join(plain)}){files} ;;"""


def _zsh_item(name: str, text: str) -> str:
    escaped = name.replace(":", "\\:")
    return _quoted(f"{escaped}:{text}" if text else escaped)


def fish() -> str:
    """For fish 3.0 or newer."""
    found = commands(COLUMNS)
    lines = [
        "# Completion of shoal for fish 3.0 or newer. Made by: shoal completion fish",
        "function __shoal_path",
        "    set -l here shoal",
        "    set -l skip",
        "    for word in (commandline -opc)[2..-1]",
        "        if set -q skip[1]",
        "            set skip",
        "            continue",
        "        end",
        "        switch $word",
        f"            case {' '.join(_long_and_short(_valued(_all_options(found))))}",
        "                set skip 1",
        "            case '-*'",
        "            case '*'",
        f'                if contains -- "$here $word" {" ".join(_quoted(each.path) for each in found[1:])}',
        '                    set here "$here $word"',
        "                end",
        "        end",
        "    end",
        "    echo $here",
        "end",
        "complete -c shoal -f",
        *(_fish_option("complete -c shoal", option) for option in found[0].options),
    ]
    everywhere = {name for option in found[0].options for name in option.names}
    for command in found:
        start = f"complete -c shoal -n {_quoted(f'test (__shoal_path) = {chr(34)}{command.path}{chr(34)}')}"
        lines += [f"{start} -a {name} -d {_quoted(_summary(command, name, found))}" for name in _choices(command)]
        lines += [f"{start} -F"] if _takes_file(command) else []
        lines += [_fish_option(start, option) for option in command.options if not everywhere & set(option.names)]
    return "\n".join(lines) + "\n"


def _fish_option(start: str, option: Parameter) -> str:
    names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
    value = ""
    if option.value in _FOLDERS:
        value = " -x -a '(__fish_complete_directories)'"
    elif option.value in _FILES:
        value = " -r -F"
    elif option.value:
        value = f" -x -a {_quoted(' '.join(_listed(option)))}" if _listed(option) else " -x"
    return f"{start} {names}{value} -d {_quoted(option.help)}"


def _all_options(found: Iterable[Command]) -> tuple[Parameter, ...]:
    return _distinct(option for command in found for option in command.options)


def _distinct(options: Iterable[Parameter]) -> tuple[Parameter, ...]:
    """One option of each name: --help is everybody's."""
    return tuple({option.names: option for option in options}.values())


def _valued(options: Iterable[Parameter]) -> list[Parameter]:
    return [option for option in options if option.value]


def _of_kind(options: Iterable[Parameter], values: frozenset[str]) -> list[Parameter]:
    return [option for option in options if option.value in values]


def _names(options: Iterable[Parameter]) -> str:
    return "|".join(_long_and_short(options))


def _long_and_short(options: Iterable[Parameter]) -> list[str]:
    return list(dict.fromkeys(name for option in options for name in option.names))


def _choices(command: Command) -> tuple[str, ...]:
    """The words that may stand where the command is: its commands, or what its argument lists in small letters."""
    return (*command.below, *(name for each in command.arguments for name in _listed(each)))


def _listed(parameter: Parameter) -> list[str]:
    """The values that a parameter lists in small letters."""
    return [name for name in parameter.value.split("|") if name.islower()]


def _takes_file(command: Command) -> bool:
    return any(each.value in _FILES for each in command.arguments)


def _summary(command: Command, name: str, found: Iterable[Command]) -> str:
    return next((each.summary for each in found if each.path == f"{command.path} {name}"), "")


def _quoted(text: str) -> str:
    """In single quotes, which every shell takes as it is. fish reads a backslash before a quote there."""
    return "'" + text.replace("'", "’") + "'"


SCRIPTS = {"bash": bash, "zsh": zsh, "fish": fish}
