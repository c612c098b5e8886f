"""Write docs/cli.md from the commands' own --help; the tests check that it is up to date."""

from pathlib import Path

import click

from synthgen.cli import cli

PATH = Path(__file__).with_name("cli.md")


def reference() -> str:
    """The CLI reference as Markdown."""
    parts = ["# Command line\n\nGenerated from `--help` by `make docs`; do not edit.\n"]
    parts += _sections(cli, "synthgen")
    return "\n".join(parts)


def _sections(command: click.Command, name: str) -> list[str]:
    settings = {**cli.context_settings, "max_content_width": 100, "terminal_width": 100}
    context = click.Context(command, info_name=name, **settings)
    sections = [f"## {name}\n\n```text\n{command.get_help(context)}\n```\n"]
    for child, body in getattr(command, "commands", {}).items():
        sections += _sections(body, f"{name} {child}")
    return sections


if __name__ == "__main__":
    PATH.write_text(reference(), encoding="utf-8")
