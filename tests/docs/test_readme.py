"""What the pages say can be typed: commands and options exist, snippets compile, links lead somewhere."""

import ast
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
READMES = ("README.md", "README.ru.md")
PAGES = (*READMES, *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
SET_UP = (
    'pip install -e . && kinolenta generate "рыжая кошка бежит вправо по траве" -o cat.mp4',
    'pip install -e ".[dev]" && pytest',
)
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return [body for name, body in FENCE.findall(read(page)) if name == language]


def commands(page: str) -> list[list[str]]:
    """Every command in the page's shell blocks as words, comments left out."""
    found = []
    for line in "".join(blocks(page, "sh")).splitlines():
        words = shlex.split(line, comments=True)
        while "&&" in words:
            cut = words.index("&&")
            found.append(words[:cut])
            words = words[cut + 1 :]
        found += [words] if words else []
    return found


def mentions(page: str) -> list[list[str]]:
    """Commands of ours that stand inside a sentence; they need not be whole."""
    prose = FENCE.sub("", read(page))
    return [shlex.split(span) for span in re.findall(r"`((?:kinolenta|python) [^`]+)`", prose)]


def resolve(words: list[str]) -> tuple[Any, list[str]]:
    """The typer command that the words name, and the words after its name."""
    import typer

    from kinolenta.cli.app import app

    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"{shlex.join(words)}: there is no command {rest[0]!r}"
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


def check_options(words: list[str]) -> None:
    command, rest = resolve(words)
    known = {"--help"} | {name for parameter in command.params for name in parameter.opts}
    for word in rest:
        if word.startswith("-"):
            assert word in known, f"{shlex.join(words)}: there is no option {word}"


def check_settings(words: list[str]) -> None:
    """--config and --set of a training command make a valid configuration."""
    from kinolenta.cli.train import read_config
    from kinolenta.data.codes import CodesConfig
    from kinolenta.data.store import StoreConfig
    from kinolenta.training.decoder import DecoderTrainConfig
    from kinolenta.training.transformer import TransformerTrainConfig

    of = {
        "data render": StoreConfig, "data encode": CodesConfig,
        "train decoder": DecoderTrainConfig, "train transformer": TransformerTrainConfig,
    }  # fmt: skip
    config_class: Any = of.get(" ".join(words[1:3]))
    if config_class is not None:
        pairs = list(pairwise(words))
        files = [ROOT / value for name, value in pairs if name == "--config"]
        sets = [value for name, value in pairs if name == "--set"]
        read_config(config_class, files[0] if files else None, sets)


def local_links(page: str) -> Iterator[Path]:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", read(page))):
        if not re.match(r"[a-z]+:", target):
            yield (ROOT / page).parent / target.split("#")[0]


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist_with_their_options(page: str) -> None:
    for words in commands(page):
        if words[0] == "kinolenta":
            command, rest = resolve(words)
            check_options(words)
            command.make_context(words[-1], list(rest)).close()  # a missing argument or bad value raises
            check_settings(words)
    for words in mentions(page):
        if words[0] == "kinolenta":
            check_options(words)


@pytest.mark.parametrize("page", PAGES)
def test_scripts_exist(page: str) -> None:
    for words in commands(page) + mentions(page):
        if words[0] == "python" and words[1] != "-m":
            assert (ROOT / words[1]).is_file(), f"{page} names {words[1]}, which is not there"


@pytest.mark.parametrize("page", PAGES)
def test_links_to_files_resolve(page: str) -> None:
    assert [str(path) for path in local_links(page) if not path.exists()] == []


@pytest.mark.parametrize("page", READMES)
def test_two_commands_do_all_set_up(page: str) -> None:
    shown = [block.strip() for block in blocks(page, "sh")]
    assert all(command in shown for command in SET_UP), "each stands in a block of its own, letter for letter"


def test_readmes_show_the_same() -> None:
    one, other = READMES
    assert commands(one) == commands(other)
    snippets = [[ast.dump(ast.parse(block)) for block in blocks(page, "python")] for page in READMES]
    assert snippets[0] == snippets[1] and len(snippets[0]) >= 4
    itself = {ROOT / one, ROOT / other}
    links = [{path.resolve() for path in local_links(page)} - itself for page in READMES]
    assert links[0] == links[1]
    headings = [re.findall(r"^#+ ", FENCE.sub("", read(page)), re.MULTILINE) for page in READMES]
    assert headings[0] == headings[1]


@pytest.mark.parametrize("page", READMES)
def test_snippets_use_what_there_is(page: str) -> None:
    import kinolenta
    from kinolenta import Clip, VideoPipeline
    from kinolenta.request import Options

    options = set(Options.__annotations__)
    of_clip = {field.name for field in fields(Clip)} | set(dir(Clip))
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block, filename=page)):
            if isinstance(node, ast.ImportFrom):
                assert node.module == "kinolenta"
                assert all(hasattr(kinolenta, alias.name) for alias in node.names)
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pipe":
                assert {keyword.arg for keyword in node.keywords} <= options
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "clip":
                assert node.attr in of_clip
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "VideoPipeline":
                assert hasattr(VideoPipeline, node.attr)


@pytest.mark.parametrize("page", READMES)
def test_one_strip_of_pictures_and_one_table_of_figures(page: str) -> None:
    text = read(page)
    for name in ("strip", "figures"):
        assert text.count(f"<!-- {name} -->") == text.count(f"<!-- /{name} -->") == 1
    strip = text.split("<!-- strip -->")[1].split("<!-- /strip -->")[0]
    assert re.findall(r"!\[[^\]]+\]\(([^)]+)\)", strip) == ["docs/images/readme_strip.png"]


@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_left_to_be_filled(page: str) -> None:
    assert "to be filled" not in read(page)


@pytest.mark.parametrize("page", READMES)
def test_limits_are_those_of_the_world(page: str) -> None:
    from kinolenta.data.scene import BACKGROUNDS, MOTIONS, TINTS, nouns
    from kinolenta.data.splits import unseen_nouns

    text = read(page)
    trained = len(nouns()) - len(unseen_nouns())
    for count in (len(nouns()), trained, len(MOTIONS), len(BACKGROUNDS), len(TINTS)):
        assert re.search(rf"\b{count}\b", text)


def test_vocabulary_figures_are_those_of_its_card() -> None:
    card = read("tokenizer/assets/CARD.md")
    rows = r"^\| (?:captions of the world|Russian Wiktionary)[^|]*\| [\d,]+ \| ([\d.]+) \|"
    figures = re.findall(rows, card, re.MULTILINE)
    assert len(figures) == 2
    for page, mark in zip(READMES, ".,", strict=True):
        for figure in figures:
            assert f"| {figure.replace('.', mark)} |" in read(page)


def test_training_page_has_the_settings_of_the_demo() -> None:
    text = read("docs/training.md")
    decoder, transformer = (
        json.loads(read(f"kinolenta/training/configs/{stage}_demo.json"))
        for stage in ("decoder", "transformer")
    )
    table = re.findall(r"^\| [a-z ]+ \| (\d+) \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    stages = [(stage["num_frames"], stage["batch"], stage["steps"]) for stage in decoder["stages"]]
    assert [tuple(map(int, row)) for row in table] == stages
    words = " ".join(text.split())
    assert f"from step {decoder['perceptual_start']} a twentieth of a perceptual distance" in words
    assert decoder["perceptual_weight"] == 1 / 20
    assert "eight times the squared error" in words and decoder["square_weight"] == 8
    assert "Muon at 5e-3" in words and decoder["optim"]["muon_learning_rate"] == 5e-3
    ends = {
        stage: json.loads(read(f"kinolenta/training/configs/{stage}_demo_finish.json"))
        for stage in ("decoder", "transformer")
    }
    assert ends["decoder"]["model"]["decoder_attention"] == 3 and "the last 3 latent frames" in words
    assert f"{ends['decoder']['stages'][0]['steps']} steps with the encoder frozen" in words
    assert f"{ends['transformer']['steps']} more steps" in words
    assert ends["transformer"]["corruption"] == 0.3 and "up to 30 % of a row's codes" in words
    drafts = json.loads(read("kinolenta/training/configs/transformer_demo_drafts.json"))
    assert f"{drafts['steps']} more steps" in words and f"{drafts['draft_window']} codes in a row" in words
    last = json.loads(read("kinolenta/training/configs/transformer_demo_mixture.json"))
    mixture = {name: round(100 * share) for name, share in last["mixture"].items()}
    shares = {"plain": 100 - mixture["ask"] - mixture["given"] - mixture["later"]} | mixture
    assert all(f"| {task} | {shares[task]} % |" in text for task in ("plain", "ask", "given", "later"))
    assert shares["caption_dropout"] == 25 and "A quarter of the captions are dropped" in words
    assert last["text_weight"] == 0.5 and f"{last['steps']} more steps in which" in words
    glances, worded, more, hard = (
        json.loads(read(f"kinolenta/training/configs/transformer_demo_{stage}.json"))
        for stage in ("glances", "wordings", "more", "hard")
    )
    assert f"**Glances, then.** {glances['steps']} more steps" in words
    assert f"{glances['mixture']['glances']} more rows beside a batch of {glances['batch']}" in words
    assert f"**Questions in other words, then.** {worded['steps']} more steps" in words
    assert f"{worded['mixture']['glances']} glances beside a batch of {worded['batch']}" in words
    assert f"right texts weigh {worded['text_weight']}" in words
    assert f"**More clips, and glances at whole ones.** {more['steps']} more steps" in words
    changed = {name for name in more.keys() | worded.keys() if more.get(name) != worded.get(name)}
    assert changed == {"start", "codes", "steps", "seed"} and "All other settings are the same" in words
    assert f"**Hard things, at last.** {hard['steps']} more steps" in words
    changed = {name for name in hard.keys() | more.keys() if hard.get(name) != more.get(name)}
    assert changed == {"start", "codes", "steps", "seed", "eval_every", "dtype"} and "in bfloat16" in words
    sizes = transformer["model"]["n_layer"], transformer["model"]["d_model"], transformer["batch"]
    assert "{} layers of width {}, batch {}".format(*sizes) in text
    assert f"{transformer['steps']} steps" in text


def test_wrong_commands_are_noticed() -> None:
    for line in ("kinolenta fly", "kinolenta data fetsh", "kinolenta generate 'а' --sede 1"):
        with pytest.raises(AssertionError):
            check_options(shlex.split(line))
    with pytest.raises(ValueError, match="num_klips"):
        check_settings(shlex.split("kinolenta data render runs --set num_klips=3"))


def test_no_measured_block_is_empty() -> None:
    pages = [ROOT / "README.md", ROOT / "README.ru.md", *sorted((ROOT / "docs").glob("*.md"))]
    blocks = [
        (page.name, name, body.strip())
        for page in pages
        for name, body in re.findall(
            r"^<!-- (\w+) -->$(.*?)^<!-- /\1 -->$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
        )
    ]
    assert len(blocks) >= 10 and [block[:2] for block in blocks if not block[2]] == []
