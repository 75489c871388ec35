"""Whether anybody delivers, as `status` sees it."""

from voicemill import status
from voicemill.store import jobs


def test_webhooks_that_nobody_delivers_are_reported_and_else_nothing(redis_url, job, receiver, post, name):
    assert "webhook" not in status.read().unattended

    jobs.cancel(job("one"))
    assert "webhook" in status.read().unattended
    assert status.read().webhooks.undelivered == 1

    post().run(name)
    assert "webhook" not in status.read().unattended
