"""The API reference of docs/api, written from the docstrings; the same bytes on any machine.

    python docs/make_api.py            write docs/api
    python docs/make_api.py --check    exit 1 and name the pages that are not current

Public is what ``__all__`` of a package of ``PACKAGES`` names, and every command of ``geocal``. A
page holds, for each name, its signature, its docstring, and for a class its public methods and
properties.

Belongs here: reading docstrings, Markdown. Does not belong here: a word about what anything does
(that stands in the docstring).
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parent / "api"
WIDTH = 100
# Page, package, what a reader finds there.
PACKAGES = (
    ("calibration", "calibration_core", "one matrix of targets x records, any method"),
    ("tree", "calibration_core.tree", "targets on a tree of areas, pairs of records and areas"),
    ("errors", "calibration_core.errors", "what is raised, and how to read it"),
)
COMMANDS = "command_line"
NOTE = "Written by `make docs` from the docstrings; do not edit."

_UNDERLINE = re.compile(r"^-{3,}$")
_ITEM = re.compile(r"^(\S[^:]*?) : ?(.*)$")


def wrapped(text: str, first: str = "", rest: str = "") -> list[str]:
    """``text`` folded to the width of the pages."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def plain_code(text: str) -> str:
    """Double backquotes, as docstrings have them, to Markdown's single ones."""
    return re.sub(r"``([^`]+)``", r"`\1`", text)


def paragraphs(lines: list[str]) -> list[list[str]]:
    """Blocks of lines between blank ones."""
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


def sections(doc: str) -> list[tuple[str, list[str]]]:
    """(heading, lines) in order; the heading of what comes first is empty."""
    lines = doc.split("\n")
    out: list[tuple[str, list[str]]] = [("", [])]
    for number, line in enumerate(lines):
        if number + 1 < len(lines) and _UNDERLINE.match(lines[number + 1].strip()):
            out.append((line.strip(), []))
        elif not (_UNDERLINE.match(line.strip()) and number):
            out[-1][1].append(line)
    return out


def items(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """(name, parts) of "name : text" with its continuation lines; the first part is the text, each
    other one an item of a list inside it.
    """
    name, parts = "", [""]
    for line in lines:
        found = _ITEM.match(line)
        bare = line.strip()
        if found:
            if name or parts[0]:
                yield name, [part.strip() for part in parts]
            name, parts = found[1], [found[2]]
        elif bare.startswith("* "):
            parts.append(bare[2:])
        elif bare:
            parts[-1] += f" {bare}"
    if name or parts[0]:
        yield name, [part.strip() for part in parts]


def names(text: str) -> str:
    """ "a, b" as code, each name by itself."""
    return ", ".join(f"`{part.strip()}`" for part in text.split(","))


def prose(lines: list[str]) -> list[str]:
    """Paragraphs folded, indented blocks kept as code, lists kept as lists."""
    out: list[str] = []
    for block in paragraphs(lines):
        if block[0].startswith("    "):
            out += ["```text", *textwrap.dedent("\n".join(block)).split("\n"), "```"]
        elif block[0].lstrip().startswith("* "):
            for item in re.split(r"\n\s*\* ", "\n" + "\n".join(block))[1:]:
                out += wrapped(plain_code(" ".join(item.split())), "* ", "  ")
        else:
            out += wrapped(plain_code(" ".join(" ".join(block).split())))
        out.append("")
    return out


def docstring(doc: str) -> list[str]:
    """A docstring as Markdown."""
    out: list[str] = []
    for heading, lines in sections(doc):
        if not heading:
            out += prose(lines)
            continue
        found = list(items(lines))
        out += [f"**{heading}**", ""]
        for name, parts in found:
            text, *inner = map(plain_code, parts)
            out += wrapped(f"{names(name)}: {text}" if name else text, "* ", "  ")
            for part in inner:
                out += wrapped(part, "  * ", "    ")
        out.append("")
    return out


class _Bare(str):
    """An annotation that is shown without quotation marks."""

    def __repr__(self) -> str:
        return str(self)


def bare(annotation: object) -> object:
    """Annotations are strings in modules that postpone them; shown as they are written."""
    return _Bare(annotation) if isinstance(annotation, str) else annotation


def signature(name: str, thing: object) -> list[str]:
    """``name(parameters) -> result``, one parameter per line where it is long."""
    try:
        found = inspect.signature(thing)
    except (TypeError, ValueError):
        return []
    parameters = [
        p.replace(annotation=bare(p.annotation))
        for p in found.parameters.values()
        if p.name not in ("self", "cls")
    ]
    result = bare(found.return_annotation)
    found = found.replace(
        parameters=parameters, return_annotation=found.empty if result in (None, "None") else result
    )
    text = f"{name}{found}"
    if len(text) > WIDTH - 4:
        parts = [str(p) for p in parameters]
        kinds = [p.kind for p in parameters]
        if (
            inspect.Parameter.KEYWORD_ONLY in kinds
            and inspect.Parameter.VAR_POSITIONAL not in kinds
        ):
            parts.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
        tail = text[text.rindex(")") + 1 :]
        text = "\n".join([f"{name}(", *(f"    {part}," for part in parts), f"){tail}"])
    return ["```text", *text.replace("<factory>", "...").split("\n"), "```", ""]


def members(cls: type) -> Iterator[tuple[str, str, object]]:
    """(name, kind, thing) of the public methods and properties with a docstring, by name."""
    for name, thing in sorted(vars(cls).items()):
        inner = thing.__func__ if isinstance(thing, classmethod | staticmethod) else thing
        if name.startswith("_") or not inspect.getdoc(inner):
            continue
        if isinstance(inner, property | functools.cached_property):
            yield name, "property", inner
        elif inspect.isfunction(inner):
            yield name, "method", inner


def class_text(name: str, cls: type) -> list[str]:
    """A class: signature where it is built by hand, docstring, members."""
    built = dataclasses.is_dataclass(cls) or "__init__" in vars(cls)
    out = (signature(name, cls) if built else []) + docstring(inspect.getdoc(cls) or "")
    for member, kind, thing in members(cls):
        out += [f"### {name}.{member}", ""]
        out += ["*property*", ""] if kind == "property" else signature(member, thing)
        out += docstring(inspect.getdoc(thing) or "")
    return out


def value_text(value: object) -> list[str]:
    """A public constant: its keys, if it has any."""
    if isinstance(value, dict | tuple | list | frozenset | set):
        listed = sorted(value) if isinstance(value, dict | frozenset | set) else list(value)
        return [*wrapped("Holds: " + ", ".join(f"`{v}`" for v in listed) + "."), ""]
    return [f"`{value!r}`", ""]


def public(module: ModuleType) -> list[str]:
    """The public names of a module: ``__all__``, or the classes that it defines itself."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    return sorted(
        name
        for name, thing in vars(module).items()
        if inspect.isclass(thing) and thing.__module__ == module.__name__ and name[0] != "_"
    )


def package_page(package: str, about: str) -> str:
    """The page of one package."""
    module = importlib.import_module(package)
    out = [f"# {package}", "", f"{about[0].upper()}{about[1:]}.", "", NOTE, ""]
    listed = public(module)
    out += [*wrapped("Names: " + ", ".join(f"[{n}](#{n.lower()})" for n in listed) + "."), ""]
    for name in listed:
        thing = getattr(module, name)
        out += [f"## {name}", ""]
        if inspect.isclass(thing):
            out += class_text(name, thing)
        elif callable(thing):
            out += signature(name, thing) + docstring(inspect.getdoc(thing) or "")
        else:
            out += value_text(thing)
    return "\n".join(out).rstrip("\n") + "\n"


def application():
    """The Typer application of ``geocal``."""
    from pipeline.cli.app import app

    return app


def commands_page() -> str:
    """The page of the command line: every command with its options."""
    from typer.main import get_command

    root = get_command(application())
    context = root.make_context("geocal", [], resilient_parsing=True)
    out = ["# geocal", "", "The command line.", "", NOTE, "", *prose((root.help or "").split("\n"))]
    out += options_text(root, context)
    for name, command in root.commands.items():
        inner = command.make_context(name, [], parent=context, resilient_parsing=True)
        out += [f"## geocal {name}", "", *prose(inspect.cleandoc(command.help or "").split("\n"))]
        out += options_text(command, inner)
    return "\n".join(out).rstrip("\n") + "\n"


def options_text(command, context) -> list[str]:
    """A bullet per argument and option, as ``--help`` says it."""
    out = []
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is None and parameter.param_type_name == "argument":
            record = (parameter.make_metavar(context), getattr(parameter, "help", "") or "")
        if record:
            said = " ".join(record[1].split())
            out += wrapped(
                f"`{record[0].strip()}`: {said}" if said else f"`{record[0]}`", "* ", "  "
            )
    return [*out, ""] if out else []


def pages() -> dict[str, str]:
    """File name: content, of every page."""
    out = {f"{page}.md": package_page(package, about) for page, package, about in PACKAGES}
    out[f"{COMMANDS}.md"] = commands_page()
    listed = [f"* [{package}]({page}.md): {about}." for page, package, about in PACKAGES]
    listed.append(f"* [geocal]({COMMANDS}.md): the command line.")
    out["README.md"] = "\n".join(
        [
            "# API reference",
            "",
            NOTE,
            "",
            *listed,
            "",
            *wrapped(
                "Settings and formulas are in [the pages on methods](../methods/README.md);"
                " tables and files in [the architecture](../architecture.md)."
            ),
            "",
        ]
    )
    return out


def stale(folder: Path = FOLDER) -> list[str]:
    """Names of pages that differ from what the docstrings give, are missing or are too many."""
    made = pages()
    there = {path.name for path in folder.glob("*.md")}
    changed = {
        name
        for name, text in made.items()
        if name in there and (folder / name).read_text(encoding="utf-8") != text
    }
    return sorted(changed | (set(made) ^ there))


def main(argv: list[str] | None = None) -> int:
    """Write the pages, or compare them; 1 if any is not current."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; compare")
    if parser.parse_args(argv).check:
        old = stale()
        print(f"not current: {', '.join(old)}; run make docs" if old else "docs/api is current")
        return 1 if old else 0
    FOLDER.mkdir(exist_ok=True)
    made = pages()
    for path in FOLDER.glob("*.md"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
