"""Texts on their way to and from a provider: prompts, parts, masks, sanitizing, prices and delays."""

import re
from datetime import UTC, datetime

import pytest

from config.settings import SettingsError
from pipeline.enrich import parts, prompt, redact, sanitize
from pipeline.enrich.providers import gemini, prices
from pipeline.enrich.providers.base import ErrorKind

NOW = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)


def test_a_prompt_file_gets_its_four_variables(tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text(
        "$language|$now|$metadata|$transcript|$$5", encoding="utf-8-sig"
    )  # with a byte order mark, as editors on Windows write it
    said = prompt.load(file).render("Hi", language=None, metadata={"a": "ü"}, now=NOW, data="m")
    assert said == (
        "the language of the message itself|2026-05-04T12:30+00:00|"
        '<data m>\n{"a": "ü"}\n</data m>|<data m>\nHi\n</data m>|$5'
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("No transcript here", "is missing"),
        ("$transcript $transkript", r"unknown \$transkript; accepted are \$transcript"),
        ("$transcript costs $ 5", r"lone \$"),
        ("$transcript " + "ü" * 40_000, "longer"),
    ],
)
def test_an_invalid_prompt_is_refused_at_start(tmp_path, text, complaint):
    file = tmp_path / "prompt.txt"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=complaint):
        prompt.load(file)


def test_an_unreadable_prompt_is_refused_in_one_line(tmp_path):
    with pytest.raises(SettingsError, match=r"^ENRICH_PROMPT is '\S+none.txt': No such file or directory$"):
        prompt.load(tmp_path / "none.txt")
    with pytest.raises(SettingsError, match=r"^--prompt is '\S+': Is a directory$"):
        prompt.load(tmp_path, "--prompt")
    (tmp_path / "binary.txt").write_bytes(b"$transcript\n\xff")
    with pytest.raises(SettingsError, match=r"^ENRICH_PROMPT is '\S+binary.txt': line 2 is not UTF-8$"):
        prompt.load(tmp_path / "binary.txt")


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize(
    "text",
    [
        "One. Two! Three? Four… " * 50,
        "하나. 둘. 셋입니다. " * 60,
        "没有空格的长句子" * 99,
        "字。" * 200,
        "w" * 1000,
        "word " * 300,
    ],
)
def test_parts_hold_all_of_the_text_in_about_the_requested_number(text, count):
    found = parts.split(text, count)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert count <= len(found) <= 2 * count
    assert max(map(len, found)) <= -(-len(text) // count) + 1


def test_parts_end_where_sentences_do():
    assert parts.split("One is here. Two is there. Three is it. Four is fun.", 2) == [
        "One is here. Two is there.",
        "Three is it. Four is fun.",
    ]


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("see https://a.example/x?y=1", "see hxxps://a[.]example/x?y=1"),
        ("[text](https://a.example)", "[text] (hxxps://a.example)"),
        ("<b>bold</b> 3 < 5", "‹b>bold‹/b> 3 < 5"),
        ("call tel:+123", "call t-el:+123"),
        ("&lt;script&gt;", "＆lt;script＆gt;"),
        ("AT&T costs $5; it's 12:30", "AT&T costs $5; it's 12:30"),
        ("a\u200bb\u202ec\x00", "abc"),
        ("mina@example.com on 1.5.2026", "mina@example.com on 1.5.2026"),
        ("go to evil.com.", "go to evil[.]com."),
        ("evil.com/ and t.me and sub.EVIL.Com", "evil[.]com/ and t[.]me and sub[.]EVIL[.]Com"),
        ("http://1.2.3.4:80/x or 1.2.3.4:80/x", "hxxp://1[.]2[.]3[.]4:80/x or 1[.]2[.]3[.]4:80/x"),
        ("slack://open?team=1", "s-lack://open?team=1"),
        ("<@U123> <#C1|x> <!here> @everyone", "‹@U123> ‹#C1|x> ‹!here> ＠everyone"),
        ("**b** and ~~c~~, 2 ** 3 ** 4", "b and c, 2 ** 3 ** 4"),
        ("a.com@my-example.com, m@mail.my-own.de", "a.com@my-example.com, m@mail.my-own.de"),
        ("We met at noon.Then we ate.In all, 3.5 of 1.2.3.4", "We met at noon.Then we ate.In all, 3.5 of 1.2.3.4"),
        ("e.g. at 5 p.m. in Node.js, i.e. the U.S.A.", "e.g. at 5 p.m. in Node.js, i.e. the U.S.A."),
        ("two\nlines\tand 한국어 🎉", "two\nlines\tand 한국어 🎉"),
    ],
)
def test_markup_and_links_lose_their_effect_and_plain_text_is_kept(text, harmless):
    assert sanitize.plain(text) == harmless


MASKED = [
    ("Write to jane.doe+x@mail.example.co.uk today", "jane.doe+x@mail.example.co.uk", "EMAIL"),
    ("mail jane at example dot com please", "jane at example dot com", "EMAIL"),
    ("Call +44 20 7946 0958 now", "+44 20 7946 0958", "PHONE"),
    ("Call (650) 253-0000 now", "(650) 253-0000", "PHONE"),
    ("card 4111 1111 1111 1111 expires", "4111 1111 1111 1111", "CARD"),
    ("card 5500-0055-5555-5559 expires", "5500-0055-5555-5559", "CARD"),
    ("IBAN DE89 3704 0044 0532 0130 00 please", "DE89 3704 0044 0532 0130 00", "ID"),
    ("my number is 536-90-4399 there", "536-90-4399", None),
    ("주민번호 971013-9019902 입니다", "971013-9019902", None),
    ("first 4111 1111 1111 1111 12 27 then", "4111 1111 1111 1111", "CARD"),
    ("제 번호는 010-1234-5678 입니다", "010-1234-5678", "NUMBER"),
    ("CPF 390.533.447-05 dele", "390.533.447-05", None),
    ("mail jane dot doe at example dot co dot uk please", "jane", "EMAIL"),
    ("Mail Jane Dot Doe At Example Dot Com please", "Doe", "EMAIL"),
    ("mail jane at example.com please", "jane", "EMAIL"),
    ("card 4111\u00a01111\u00a01111\u00a01111 expires", "1111", "CARD"),
    ("card 4111\u20131111\u20131111\u20131111 expires", "1111", "CARD"),
    ("카드는 ４１１１ 1111 1111 1111입니다", "1111", "CARD"),
    ("on 2026-05-04 01 23 45 67 89 rings", "23 45 67", None),
    ("ID 123 2019 2020 45 it is", "2019 2020", "NUMBER"),
]


@pytest.mark.parametrize(("text", "secret", "kind"), MASKED)
def test_personal_data_is_masked_and_restored(text, secret, kind):
    vault = redact.Vault("US")
    masked = vault.mask(text)
    assert secret not in masked
    assert kind is None or f"[{kind}-1]" in masked
    assert vault.restore({"x": [masked]}) == {"x": [text]}


@pytest.mark.parametrize(
    "text",
    [
        "at 12:30 on 2026-05-04",
        "it costs 1,250 euros",
        "room 101, floor 3",
        "version 2.5.1",
        "24 12 2026",
        "12 000 000 won",
        "2026-05-04 10:00",
        "on 12.05.2026 14.30, then",
        "2026-05-04 12 30 15",
        "2026-05-04T12:30:15 and 5/4/2026 10:00",
        "years 2019 2020 2021",
    ],
)
def test_other_numbers_are_left_alone(text):
    assert redact.Vault("US").mask(text) == text


@pytest.mark.parametrize("text", ["a@b.com 650 253 0000", "650 253 0000 a@b.com", "a@b.com,4111 1111 1111 1111"])
def test_adjacent_masks_do_not_affect_one_another(text):
    vault = redact.Vault("US")
    masked = vault.mask(text)
    assert re.fullmatch(r"\[[A-Z]+-1\][ ,]\[[A-Z]+-1\]", masked)
    assert vault.restore(masked) == text


def test_invisible_characters_do_not_hide_an_address():
    assert redact.Vault("US").mask("jane\u200b@example.com") == "[EMAIL-1]"


def test_keys_and_numbers_of_metadata_are_masked():
    masked = redact.Vault("US").mask({"jane@example.com": [16502530000, 7, 2.5, True, None]})
    assert masked == {"[EMAIL-1]": ["[NUMBER-1]", 7, 2.5, True, None]}


@pytest.mark.parametrize(
    "token",
    ["[email-1]", "[EMAIL 1]", "[Email\u20131]", "\\[EMAIL-1\\]", "［ＥＭＡＩＬ－１］", "【EMAIL-1】", "EMAIL-1"],
)
def test_a_token_in_the_models_spelling_is_restored(token):
    vault = redact.Vault("US")
    vault.mask("a@b.example")
    assert vault.restore(f"Write to {token}.") == "Write to a@b.example."
    assert vault.restore("his email 1, email-1 and EMAIL-12") == "his email 1, email-1 and EMAIL-12"


def test_spoken_and_invented_tokens_reveal_nothing():
    vault = redact.Vault("US")
    masked = vault.mask("He said [EMAIL-1], then a@b.example and again a@b.example")
    assert masked.count("[EMAIL-2]") == 2
    assert vault.restore("[EMAIL-1] [EMAIL-2] [EMAIL-3]") == "[EMAIL-1] a@b.example [EMAIL-3]"


def test_the_longest_matching_row_of_the_price_table_applies():
    assert prices.price("gemini-2.5-flash-lite-001").of(1_000_000, 0) == pytest.approx(0.10)
    assert prices.price("gemini-2.5-flash-001").of(1_000_000, 0) == pytest.approx(0.30)
    assert prices.price("gemini-flash-latest").of(0, 1_000_000) == pytest.approx(2.50)
    assert prices.price("gemma-3") is None
    assert prices.price("") is None


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("Please retry in 2.5s.", 2.5),
        ("Please retry in 850.1ms.", 0.8501),
        ("Please retry in 1h2m3.5s.", 3723.5),
        ("Please retry in 4m.", 240),
        ("x" * 300 + " Please retry in 7s.", 7),
        ("Please retry in a while.", None),
    ],
)
def test_a_delay_in_geminis_message_is_observed(said, seconds):
    error = gemini.classify(429, {"error": {"message": said}})
    assert error.kind is ErrorKind.RATE_LIMITED
    assert error.retry_after == (None if seconds is None else pytest.approx(seconds))


def test_the_days_quota_is_renewed_at_midnight_in_the_pacific():
    assert gemini.seconds_until_renewal(datetime(2026, 1, 5, 7, 0, tzinfo=UTC)) == 3600
    assert gemini.seconds_until_renewal(datetime(2026, 1, 5, 8, 0, tzinfo=UTC)) == 86400
