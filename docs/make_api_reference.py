"""Write docs/api.md from signatures and docstrings; the tests check that it is up to date.

Run it:  make docs

Signatures are read from the source, so that they look alike under every version of Python.
"""

import ast
import dataclasses
import importlib
import inspect
import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import synthgen

PATH = Path(__file__).with_name("api.md")

# What is shown where. A name of synthgen.__all__ that is in no group comes under "Further names".
GROUPS: Mapping[str, tuple[str, ...]] = {
    "Data": (
        "read", "write", "TableData", "read_images", "ImageData", "write_dicom", "read_cohort", "Cohort", "Link",
        "datasets", "read_schema", "TableSchema", "Column",
    ),
    "Generators": ("TableDiffusion", "TableGan", "Copula", "Independent"),
    "Audit": ("audit", "Audit", "compare", "Comparison", "load_policy", "Policy"),
    "Release": ("release", "verify"),
    "Long jobs and randomness": ("Run", "Seed"),
    "Errors": ("SynthgenError", "DataError", "ReleaseRefused"),
}  # fmt: skip
FURTHER = "Further names"
# Names that are not in synthgen.__all__, by the module they are imported from
DEEPER: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "Generators of images": {
        "synthgen.generators.image_diffusion": ("ImageDiffusion",),
        "synthgen.generators.image_gan": ("ImageGan",),
        "synthgen.generators.image_pca": ("ImagePca",),
        "synthgen.phantom": ("phantom",),
    },
    "Findings": {"synthgen.findings": ("Estimate", "Measurement", "Finding", "Decision")},
    "Differential privacy": {"synthgen.privacy.canaries": ("canary_audit", "made_up", "CanaryAudit")},
    "For authors of generators and checks": {
        "synthgen.protocols": ("Generator", "Check", "Evidence", "Progress"),
        "synthgen.testing": (),  # all of its __all__
    },
}
HEAD = """\
# API reference

Generated from docstrings by `make docs`; do not edit.

`import synthgen as sg` gives the names of the first groups; the others are imported from the module in their heading.
Arguments after `*` are passed by name. Examples marked `>>>` are executed by the tests.
Words are explained in [concepts.md](concepts.md); the same verbs on the command line are in [cli.md](cli.md).
"""
_SECTION = re.compile(r"(Args|Returns|Raises|Shape|Units|Source|Columns|Threat model):(?: (.*))?")


def reference() -> str:
    """The API reference as Markdown."""
    known = [name for names in GROUPS.values() for name in names]
    further = tuple(name for name in synthgen.__all__ if name not in known)
    groups = {**GROUPS, **({FURTHER: further} if further else {})}
    sections = [(title, [("synthgen", name) for name in names]) for title, names in groups.items()]
    for title, modules in DEEPER.items():
        pairs = [(m, name) for m, names in modules.items() for name in names or importlib.import_module(m).__all__]
        sections.append((title, pairs))
    body = []
    for title, pairs in sections:
        body.append(f"## {title}\n")
        body += [_entry(module, name) for module, name in pairs]
    anchors = _anchors("\n".join([HEAD, *body]))
    return "\n".join([HEAD, _contents(sections, anchors), *body])


def _contents(sections: list[tuple[str, list[tuple[str, str]]]], anchors: Mapping[str, str]) -> str:
    lines = []
    for title, pairs in sections:
        links = ", ".join(f"[`{name}`](#{anchors[f'{module}.{name}']})" for module, name in pairs)
        lines.append(f"- {title}: {links}")
    return "\n".join(lines) + "\n"


def _anchors(text: str) -> dict[str, str]:
    """Heading -> the anchor that a code host gives it: equal ones are numbered (`Audit` and `audit` are equal)."""
    found: dict[str, str] = {}
    taken: Counter[str] = Counter()
    for heading in re.findall(r"^#+ (.+)$", text, re.M):
        slug = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        found[heading] = slug + (f"-{taken[slug]}" if taken[slug] else "")
        taken[slug] += 1
    return found


def _entry(module: str, name: str) -> str:
    thing = getattr(importlib.import_module(module), name)
    heading = f"### {module}.{name}\n"
    if isinstance(thing, ModuleType):
        names = [n for n in vars(thing) if inspect.isfunction(vars(thing)[n]) and not n.startswith("_")]
        own = [n for n in names if vars(thing)[n].__module__ == thing.__name__]
        return "\n".join([heading, _doc(thing), *(_member(f"{name}.{n}", vars(thing)[n]) for n in own)])
    if inspect.isclass(thing):
        return "\n".join([heading, _doc(thing), *_fields(thing), *_methods(thing)])
    if callable(thing):
        return "\n".join([heading, _signature(thing), _doc(thing)])
    return "\n".join([heading, f"```python\n{name} = {thing!r}\n```\n"])


def _fields(kind: type) -> Iterator[str]:
    """The fields of a dataclass that can be set, with the remark beside each in the source."""
    if not dataclasses.is_dataclass(kind):
        return
    remarks: dict[str, str] = {}
    for cls in reversed(kind.__mro__[:-1]):
        remarks.update(re.findall(r"^    (\w+): .*?  # (.+)$", inspect.getsource(cls), re.M))
    rows = [
        f"| `{f.name}` | {_cell(f'`{_type(f.type)}`')} | {_default(f)} | {_cell(remarks.get(f.name, ''))} |"
        for f in dataclasses.fields(kind)
        if f.init and not f.name.startswith("_")
    ]
    if rows:
        yield "\n".join(["| field | type | default | |", "|---|---|---|---|", *rows]) + "\n"


def _type(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def _default(field: Any) -> str:
    if inspect.isfunction(field.default):
        return ""  # that of its remark: a function's name would say nothing, and its repr is an address
    if field.default is not dataclasses.MISSING:
        return _cell(f"`{field.default!r}`") if not isinstance(field.default, tuple) or len(field.default) < 3 else "…"
    return "" if field.default_factory is dataclasses.MISSING else "empty"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _methods(kind: type) -> Iterator[str]:
    """Public methods and properties that a class or one of its ancestors in synthgen defines."""
    found: dict[str, Any] = {}
    for cls in reversed(kind.__mro__):
        if cls.__module__.startswith("synthgen"):
            found.update({name: member for name, member in sorted(vars(cls).items()) if not name.startswith("_")})
    for name, member in found.items():
        plain = member.__func__ if isinstance(member, staticmethod | classmethod) else member
        if isinstance(member, property) or inspect.isfunction(plain) or hasattr(member, "attrname"):
            yield _member(f"{kind.__name__}.{name}", member)


def _member(title: str, member: Any) -> str:
    plain = member.__func__ if isinstance(member, staticmethod | classmethod) else member
    signature = _signature(plain) if inspect.isfunction(plain) else ""
    return "\n".join(filter(None, [f"#### {title}\n", signature, _doc(plain)]))


def _signature(function: Any) -> str:
    """As it stands in the source, one argument a line where it is long."""
    node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(node, ast.FunctionDef)
    arguments = [text for text in _arguments(node.args) if text not in ("self", "cls")]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"{node.name}({', '.join(arguments)}){returns}"
    if len(line) > 100:
        line = f"{node.name}(\n" + "".join(f"    {text},\n" for text in arguments) + f"){returns}"
    return f"```python\n{line}\n```\n"


def _arguments(args: ast.arguments) -> Iterator[str]:
    positional = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
    yield from (_argument(arg, default) for arg, default in zip(positional, defaults, strict=True))
    if args.vararg:
        yield "*" + _argument(args.vararg, None)
    elif args.kwonlyargs:
        yield "*"
    yield from (_argument(arg, default) for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True))


def _argument(arg: ast.arg, default: ast.expr | None) -> str:
    text = arg.arg + (f": {ast.unparse(arg.annotation)}" if arg.annotation else "")
    if default is None:
        return text
    return f"{text} = {ast.unparse(default)}" if arg.annotation else f"{text}={ast.unparse(default)}"


def _doc(thing: Any) -> str:
    """A docstring in Google's style as Markdown."""
    parts: list[str] = []
    for block in re.split(r"\n\s*\n", inspect.getdoc(thing) or ""):
        parts.append(_block(block))
    return "\n\n".join(filter(None, parts)) + "\n" if any(parts) else ""


def _block(block: str) -> str:
    if block.lstrip().startswith(">>>"):
        return f"```pycon\n{textwrap.dedent(block)}\n```"
    first, _, rest = block.partition("\n")
    section = _SECTION.fullmatch(first)
    if section is None:
        return _escaped(block)
    title, inline = section[1], section[2]
    if inline:
        return f"*{title}:* {_escaped(inline + ' ' + textwrap.dedent(rest)).strip()}"
    if title in ("Args", "Raises", "Columns"):
        return f"*{title}:*\n\n" + _listed(textwrap.dedent(rest))
    return f"*{title}:* {_escaped(textwrap.dedent(rest))}"


def _listed(text: str) -> str:
    """`name: about`, whose further lines are indented, as a list."""
    lines = []
    for line in text.splitlines():
        entry = re.match(r"([\w., ]+): (.*)", line)
        if entry and not line.startswith(" "):
            lines.append(f"- `{entry[1]}`: {_escaped(entry[2])}")
        else:
            lines.append(f"  {_escaped(line.strip())}")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """Outside of code marks, what Markdown would take for a tag or for emphasis is marked off."""
    pieces = re.split(r"(`[^`]*`)", text)
    pieces[::2] = [re.sub(r"([<*_])", r"\\\1", piece) for piece in pieces[::2]]
    return "".join(pieces)


if __name__ == "__main__":
    PATH.write_text(reference(), encoding="utf-8")
