"""`completion`: a script that completes commands, options and their values in a shell.

    voicemill completion bash > ~/.local/share/bash-completion/completions/voicemill
    voicemill completion fish > ~/.config/fish/completions/voicemill.fish
    echo 'eval "$(voicemill completion zsh)"' >> ~/.zshrc

It is made of the parser, so that it cannot differ from `--help`.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

SHELLS = ("bash", "zsh", "fish")
ZSH = """autoload -U +X compinit && compinit
autoload -U +X bashcompinit && bashcompinit
"""  # zsh runs completions of bash


@dataclass(frozen=True, slots=True)
class Option:
    """An option, and what it takes."""

    names: tuple[str, ...]
    help: str
    takes_value: bool
    values: tuple[str, ...]  # all there are; empty: any


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's argument."""
    parser.add_argument("shell", choices=SHELLS, help="the shell that the script is for")


def script(shell: str, commands: Mapping[str, argparse.ArgumentParser], summaries: Mapping[str, str]) -> str:
    """Return the script for a shell.

    Args:
        shell: one of `SHELLS`.
        commands: the parser of each command.
        summaries: of each command, one phrase.
    """
    if shell == "fish":
        return "\n".join(_fish(commands, summaries)) + "\n"
    return (ZSH if shell == "zsh" else "") + _bash(commands)


def _bash(commands: Mapping[str, argparse.ArgumentParser]) -> str:
    values, words = [], []
    for name, parser in commands.items():
        found = list(_options(parser))
        for option in found:
            if option.values:
                places = "|".join(f"{name}:{each}" for each in option.names)
                values.append(f'        {places}) words="{" ".join(option.values)}" ;;')
            elif option.takes_value:
                places = "|".join(f"{name}:{each}" for each in option.names)
                values.append(f"        {places}) words= ;;")
        every = [*_positional(parser), *(each for option in found for each in option.names)]
        words.append(f'            {name}) words="{" ".join(every)}" ;;')
    lines = [
        "_voicemill() {",
        '    local words current="${COMP_WORDS[COMP_CWORD]}"',
        '    if [ "$COMP_CWORD" -eq 1 ]; then',
        f'        COMPREPLY=($(compgen -W "{" ".join(commands)} --help --version" -- "$current"))',
        "        return",
        "    fi",
        '    case "${COMP_WORDS[1]}:${COMP_WORDS[COMP_CWORD - 1]}" in',
        *values,
        '        *) case "${COMP_WORDS[1]}" in',
        *words,
        "        esac ;;",
        "    esac",
        '    COMPREPLY=($(compgen -W "$words" -- "$current"))',
        "}",
        "complete -o default -F _voicemill voicemill",  # files, if nothing else fits
    ]
    return "\n".join(lines) + "\n"


def _fish(commands: Mapping[str, argparse.ArgumentParser], summaries: Mapping[str, str]) -> Iterator[str]:
    start = "complete -c voicemill"
    yield f"{start} -n __fish_use_subcommand -l version -d 'print the version'"
    for name, parser in commands.items():
        yield f"{start} -f -n __fish_use_subcommand -a {name} -d {shlex.quote(summaries[name])}"
        within = f"{start} -n '__fish_seen_subcommand_from {name}'"
        if words := _positional(parser):
            yield f"{within} -a {shlex.quote(' '.join(words))}"
        for option in _options(parser):
            long = " ".join(f"-l {each[2:]}" for each in option.names if each.startswith("--"))
            takes = f" -x -a {shlex.quote(' '.join(option.values))}" if option.values else " -r" * option.takes_value
            yield f"{within} {long}{takes} -d {shlex.quote(option.help)}"


def _options(parser: argparse.ArgumentParser) -> Iterator[Option]:
    """Yield the options of a command and of the actions below it, each once."""
    seen: set[tuple[str, ...]] = set()
    for action in _actions(parser):
        names = tuple(each for each in action.option_strings if each.startswith("--"))
        if names and names not in seen and action.help != argparse.SUPPRESS:
            seen.add(names)
            values = tuple(map(str, action.choices or ()))
            yield Option(names, (action.help or "").replace("%%", "%"), action.nargs != 0, values)


def _positional(parser: argparse.ArgumentParser) -> list[str]:
    """Return the words that a command takes besides options."""
    return [str(word) for action in _actions(parser) if not action.option_strings for word in action.choices or ()]


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # noqa: SLF001 - argparse has no public list of them
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for child in action.choices.values():
                yield from _actions(child)
