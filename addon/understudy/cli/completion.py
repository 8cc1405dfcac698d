"""``understudy completion bash|zsh|fish``: a script for a shell that completes commands and options.

It is made of the parser, so it knows all of them. Other words are completed as file names,
which is what the shells do by themselves.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

SHELLS = ("bash", "zsh", "fish")

BASH = """\
# understudy: put `eval "$(understudy completion bash)"` into ~/.bashrc.
_understudy() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} words=
    case "$COMP_CWORD ${{COMP_WORDS[1]:-}} ${{COMP_WORDS[2]:-}}" in
{cases}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _understudy understudy
"""
ZSH = """\
# understudy: put `eval "$(understudy completion zsh)"` into ~/.zshrc, below compinit.
_understudy() {{
    local -a words
    case "$((CURRENT - 1)) ${{words_before[2]:-}} ${{words_before[3]:-}}" in
{cases}
    esac
    if (( ${{#words}} )); then compadd -- $words; fi
    _files
}}
_understudy_with_words() {{ local -a words_before=($words); _understudy }}
compdef _understudy_with_words understudy
"""


def show(shell: str, parser: argparse.ArgumentParser) -> int:
    """Print the script."""
    tree = list(_tree(parser))
    print("\n".join(_fish(tree)) if shell == "fish" else _by_case(shell, tree), end="\n" if shell == "fish" else "")
    return 0


type _Node = tuple[tuple[str, ...], dict[str, str], list[str]]
"""The commands that lead to a parser, its sub-commands with their help, and its options."""


def _tree(parser: argparse.ArgumentParser, before: tuple[str, ...] = ()) -> Iterator[_Node]:
    options = [max(action.option_strings, key=len) for action in parser._actions if action.option_strings]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            told = {each.dest: each.help or "" for each in action._choices_actions}
            yield before, told, options
            for name, command in action.choices.items():
                yield from _tree(command, (*before, name))
            return
    values = [str(choice) for action in parser._actions if not action.option_strings for choice in action.choices or ()]
    yield before, dict.fromkeys(values, ""), options


def _by_case(shell: str, tree: list[_Node]) -> str:
    """bash and zsh: what may stand next, by the number of the word and the words before it."""
    cases = []
    # The first word first, whatever it is already; then longer paths: `rules list` is also a word behind `rules`.
    for path, names, options in sorted(tree, key=lambda node: -len(node[0]) if node[0] else -9):
        pattern = "\\ ".join(["*", *path] if len(path) > 1 else ["*", *path, "*"] if path else ["1", "*"])
        words = " ".join([*names, *options])
        value = f"({words})" if shell == "zsh" else f'"{words}"'
        cases.append(f"        {pattern}) words={value} ;;")
    if shell == "bash":
        return BASH.format(cases="\n".join(cases))
    return ZSH.format(cases="\n".join(cases))


def _fish(tree: list[_Node]) -> Iterator[str]:
    yield "# understudy: run `understudy completion fish > ~/.config/fish/completions/understudy.fish`."
    for path, names, options in tree:
        if path:
            when = " ".join(f"__fish_seen_subcommand_from {name};" for name in path[:1])
            when += f" and __fish_seen_subcommand_from {path[1]}" if len(path) > 1 else ""
        else:
            when = "__fish_use_subcommand"
        when = when.strip().removesuffix(";")
        for name, text in names.items():
            told = f" -d '{_quoted(text)}'" if text else ""
            yield f"complete -c understudy -n '{when}' -a '{name}'{told}"
        for option in options:
            yield f"complete -c understudy -n '{when}' -l {option.removeprefix('--')}"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")
