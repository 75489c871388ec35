"""What the documentation promises: pages made of the code are current, commands exist, links lead somewhere."""

import argparse
import re
import shlex
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from cli import reference
from pipeline.transcribe import DecodingOptions, Segment, Transcript, Word
from voicemill import Audio, Client, ClientConfig, Options, _cli
from voicemill._cli import COMMANDS
from voicemill.job import Enrichment, Job, StageTimes, Usage

CLONE = Path(__file__).parents[3]
READMES = [CLONE / "README.md", CLONE / "README.ko.md"]
PAGES = [*READMES, *sorted((CLONE / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(CLONE)) for page in PAGES]
TARGETS = set(re.findall(r"^([a-z-]+):", (CLONE / "Makefile").read_text(), re.MULTILINE))
FILE = re.compile(
    r"(?<![\w/.])(?:actors|bench|cli|config|deploy|docs|pipeline|samples|scripts|tests|voicemill|web)/[\w./-]*\w"
)
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)


@pytest.mark.parametrize("file", reference.pages())
def test_reference_pages_are_the_ones_the_code_makes(file):
    written = (reference.FOLDER / file).read_text(encoding="utf-8")

    assert written == reference.pages()[file](), "run `make generated`"


def test_every_setting_code_and_command_has_its_place_in_the_reference():
    assert reference.settings().count("\n| `") == len(reference.Settings.model_fields)
    assert reference.errors().count("\n| `") == len(reference.ErrorCode)
    assert [line[3:] for line in reference.commands().splitlines() if line.startswith("## ")] == list(COMMANDS)


def test_the_backends_page_explains_every_option_and_every_field_of_the_record():
    rows = re.findall(r"^\|.*", (CLONE / "docs/backend.md").read_text(), re.MULTILINE)
    explained = {name for row in rows for name in re.findall(r"`(\w+)`", row)}

    kinds = (Options, Job, StageTimes, Audio, Transcript, Segment, Word, Enrichment, Usage, ClientConfig)
    assert {field.name for kind in kinds for field in fields(kind)} <= explained


def test_the_backends_page_explains_every_method_of_the_client():
    text = (CLONE / "docs/backend.md").read_text()
    methods = {name for name in vars(Client) if not name.startswith("_")} - {"config", "store"}

    assert methods == {name for name in methods if f"| `{name}(" in text}


def test_the_library_s_page_explains_every_option_of_the_engine():
    explained = set(re.findall(r"`(\w+)`", (CLONE / "docs/library.md").read_text()))

    assert {field.name for field in fields(DecodingOptions)} <= explained


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_pages_name_make_targets_that_exist(page):
    named = {target for code in CODE.findall(page.read_text()) for target in re.findall(r"\bmake ([a-z-]+)", code)}

    assert named <= TARGETS


PROGRAM = r"(?:python3? -m (?:pipeline|voicemill)|(?:^|`)(?:\$ |\w+=\S+ )*(?:\.venv/bin/)?voicemill)"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_pages_name_commands_and_options_that_exist(page):
    for code in CODE.findall(page.read_text()):
        for line in re.findall(rf"{PROGRAM} ([^`\n#|>]*)", code, re.MULTILINE):
            name, *words = shlex.split(line.replace("COMMAND", "up").replace("…", ""), posix=False) or ["up"]
            assert name in COMMANDS or name in ("--help", "--version"), line
            known = options(name)
            for word in words:
                if word.startswith("--"):
                    assert word.partition("=")[0] in known, line


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_pages_name_files_that_exist(page):
    for code in CODE.findall(page.read_text()):
        for file in FILE.findall(code):
            assert (CLONE / file).exists() or "NAME" in file, file  # NAME: the reader's choice


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_between_files_lead_to_a_file_and_its_heading(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", CODE.sub("", page.read_text())):
        path, _, anchor = target.partition("#")
        if ":" in path or page.parent.name == "plots":  # elsewhere; or part of another page
            continue
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_files_that_pages_show_are_named_as_the_site_reads_it_and_exist(page):
    for line in page.read_text().splitlines():
        if re.match(r"\W*8\W*\"", line):  # also what a formatter made of it
            shown = re.fullmatch(r'--8<-- "([^"]+)"', line)
            assert shown, line
            assert (CLONE / shown[1]).is_file(), line


def test_the_tutorial_shows_its_bot():
    assert '--8<-- "docs/tutorial/bot.py"' in (CLONE / "docs/tutorial/index.md").read_text().splitlines()


def test_the_korean_readme_has_the_headings_tables_and_code_of_the_english_one():
    english, korean = (readme.read_text(encoding="utf-8") for readme in READMES)

    assert [len(level) for level in headings(korean)] == [len(level) for level in headings(english)]
    assert blocks(korean) == blocks(english)
    assert korean.count("\n| ") == english.count("\n| ")
    assert links(korean) == links(english)
    assert inline(korean) == inline(english)


def headings(text):
    return re.findall(r"^(#+) ", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)


def blocks(text):
    """The code blocks; their comments may be translated."""
    found = re.findall(r"```(.*?)```", text, re.DOTALL)
    return [re.sub(r"  #.*", "", block) for block in found]


def inline(text):
    """What stands as code in sentences: every command, setting and value."""
    return sorted(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)))


def links(text):
    """Where a README points to, but for the other README."""
    return sorted(set(re.findall(r"\]\(([^)\s]+)\)", text)) - {"README.md", "README.ko.md"})


@cache
def anchors(file):
    text = re.sub(r"```.*?```", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    slugs = {
        re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    return slugs | set(re.findall(r"""(?:id|name)=["']([^"']+)""", text)) | set(re.findall(r"\{#([\w-]+)", text))


@cache
def options(name):
    """The options of a command and of the actions below it."""
    return set() if name.startswith("--") else set(strings(_cli.parsers()[name]))


def strings(parser):
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from strings(child)
