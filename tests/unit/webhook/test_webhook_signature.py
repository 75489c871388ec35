"""Signatures and secrets agree with the standard's own library and its published example."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from config.settings import Settings, SettingsError
from pipeline.webhook import event
from pipeline.webhook.delivery import secrets
from voicemill import webhooks


def test_the_example_of_the_standard_gets_its_published_signature():
    # The test vector of the standard's own libraries: github.com/standard-webhooks/standard-webhooks
    keys = webhooks.secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = webhooks.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', keys)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.text(max_size=200))
def test_a_signature_verifies_with_each_of_its_secrets_and_with_no_other(words):
    old, new, other = (webhooks.generate() for _ in range(3))
    body = event.envelope("job.done", time.time(), {"text": words})
    headers = webhooks.sign("msg_1", int(time.time()), body, webhooks.secrets(f"{old},{new}"))
    assert Webhook(old).verify(body, headers) == Webhook(new).verify(body, headers)
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(other).verify(body, headers)


@pytest.mark.parametrize("text", ["hunter2hunter2hunter2hunter2", "whsec_", "whsec_c2hvcnQ=", "whsec_%%%%", "whsec_ü"])
def test_an_invalid_secret_is_refused_without_being_shown(text):
    with pytest.raises(SettingsError, match="WEBHOOK_SECRET: it must be whsec_") as raised:
        secrets(Settings(webhook_secret=text))
    assert text == "whsec_" or text not in str(raised.value)
    with pytest.raises(ValueError, match="it must be whsec_") as raised:
        webhooks.secrets(text)
    assert text == "whsec_" or text not in str(raised.value)


def test_the_timestamp_of_an_event_has_the_format_that_the_standard_recommends():
    assert b'"timestamp":"2022-11-03T20:26:10.344522Z"' in event.envelope("x", 1667507170.344522, {})


SECRET = webhooks.generate()
KEYS, OTHERS = webhooks.secrets(SECRET), webhooks.secrets(webhooks.generate())
NOW = 1_800_000_000
BODY = event.envelope("job.done", NOW, {"id": "j"})


def signed(secret=SECRET, body=BODY, at=NOW):
    return webhooks.sign("msg_j_1", at, body, webhooks.secrets(secret))


@pytest.mark.parametrize("case", [str.lower, str.title, str.upper])
def test_a_receiver_verifies_a_webhook_whatever_the_case_of_its_headers(case):
    headers = {case(name): value for name, value in signed().items()}

    assert webhooks.verify(BODY, headers, SECRET, now=NOW)["data"] == {"id": "j"}
    assert webhooks.verify(BODY.decode(), headers, SECRET, now=NOW)["type"] == "job.done"


def test_a_receiver_may_have_two_secrets_while_one_replaces_the_other():
    other = webhooks.generate()

    assert webhooks.verify(BODY, signed(), f"{other} {SECRET}", now=NOW)
    assert webhooks.verify(BODY, signed(f"{other},{SECRET}"), SECRET, now=NOW)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"webhook-id": None}, "webhook-id is missing"),
        ({"webhook-signature": ""}, "webhook-signature is missing"),
        ({"webhook-timestamp": "soon"}, "not a number"),
        ({"webhook-timestamp": "٣"}, "not a number"),
        ({"webhook-timestamp": str(NOW - 301)}, "differs from the clock"),
        ({"webhook-timestamp": str(NOW + 301)}, "differs from the clock"),
        ({"webhook-timestamp": str(NOW - 1)}, "no signature matches"),
        ({"webhook-id": "msg_j_2"}, "no signature matches"),
        ({"webhook-signature": "v1,AAAA v2,ü"}, "no signature matches"),
    ],
)
def test_a_webhook_that_was_not_signed_so_is_refused(change, said):
    headers = {name: value for name, value in (signed() | change).items() if value is not None}

    with pytest.raises(webhooks.VerificationError, match=said):
        webhooks.verify(BODY, headers, SECRET, now=NOW)


@pytest.mark.parametrize(("body", "said"), [(b"{", "not JSON"), (b"[1]", "not a JSON object"), (b"\xff", "not JSON")])
def test_a_signed_body_that_is_no_event_is_refused(body, said):
    with pytest.raises(webhooks.VerificationError, match=said):
        webhooks.verify(body, signed(body=body), SECRET, now=NOW)


def test_a_changed_body_or_another_secret_is_refused():
    for body, secret in ((BODY + b" ", SECRET), (BODY, webhooks.generate())):
        with pytest.raises(webhooks.VerificationError, match="no signature matches"):
            webhooks.verify(body, signed(), secret, now=NOW)


def test_a_receiver_without_a_secret_is_told_so():
    with pytest.raises(ValueError, match="empty"):
        webhooks.verify(BODY, signed(), " ", now=NOW)


def test_the_standards_own_library_makes_signatures_that_verify():
    from datetime import UTC, datetime

    signature = Webhook(SECRET).sign("msg_1", datetime.fromtimestamp(NOW, UTC), BODY.decode())
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(NOW), "webhook-signature": signature}

    assert webhooks.verify(BODY, headers, SECRET, now=NOW)


def missing(name):
    def change(body, headers):
        return body, {header: value for header, value in headers.items() if header != name}

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda body, headers: (body + b" ", headers),
        lambda body, headers: (body, headers | {"webhook-id": "msg_2"}),
        lambda body, headers: (body, headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) - 1)}),
        lambda body, headers: (body, headers | webhooks.sign("msg_1", int(time.time()) - 310, body, KEYS)),
        lambda body, headers: (body, headers | webhooks.sign("msg_1", int(time.time()) + 310, body, KEYS)),
        lambda body, headers: (body, headers | webhooks.sign("msg_1", int(time.time()), body, OTHERS)),
        lambda body, headers: (body, headers | {"webhook-signature": headers["webhook-signature"].replace("v1", "v2")}),
        missing("webhook-id"),
        missing("webhook-timestamp"),
        missing("webhook-signature"),
    ],
)
def test_what_is_refused_is_refused_by_the_standards_own_library_too(change):
    honest = webhooks.sign("msg_1", int(time.time()), BODY, KEYS)
    assert webhooks.verify(BODY, honest, SECRET) == Webhook(SECRET).verify(BODY, honest)
    body, headers = change(BODY, honest)

    with pytest.raises(webhooks.VerificationError):
        webhooks.verify(body, headers, SECRET)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body, headers)
