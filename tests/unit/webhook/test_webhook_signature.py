"""Signatures and secrets, held against the standard's own library and its published example."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from config.settings import SettingsError
from pipeline.webhook import event
from voicemill import webhooks as signature


def test_the_example_of_the_standard_is_signed_as_there():
    # The vector that the tests of the standard's own libraries share: github.com/standard-webhooks/standard-webhooks
    keys = signature.secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signature.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', keys)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.text(max_size=200))
def test_what_is_signed_verifies_with_every_secret_and_with_no_other(words):
    old, new, other = (signature.generate() for _ in range(3))
    body = event.envelope("job.done", time.time(), {"text": words})
    headers = signature.headers("msg_1", int(time.time()), body, signature.secrets(f"{old},{new}"))
    assert Webhook(old).verify(body, headers) == Webhook(new).verify(body, headers)
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(other).verify(body, headers)


@pytest.mark.parametrize("text", ["hunter2hunter2hunter2hunter2", "whsec_", "whsec_c2hvcnQ=", "whsec_%%%%", "whsec_ü"])
def test_what_is_no_secret_is_refused_without_being_shown(text):
    with pytest.raises(SettingsError, match="WEBHOOK_SECRET takes whsec_") as raised:
        signature.secrets(text)
    assert text == "whsec_" or text not in str(raised.value)


def test_the_time_of_an_event_is_written_as_the_standard_recommends():
    assert b'"timestamp":"2022-11-03T20:26:10.344522Z"' in event.envelope("x", 1667507170.344522, {})
