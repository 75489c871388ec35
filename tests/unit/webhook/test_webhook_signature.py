"""Signatures and secrets agree with the standard's own library and its published example."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

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
