"""Whether anybody delivers, as `status` sees it."""

from live import current, jobs

from voicemill import status


def test_webhooks_that_nobody_delivers_are_reported_and_else_nothing(redis_url, job, receiver, post, name):
    assert "webhook" not in status.read(current()).unattended

    jobs.cancel(job("one"))
    assert "webhook" in status.read(current()).unattended
    assert status.read(current()).webhooks.undelivered == 1

    post().run(name)
    assert "webhook" not in status.read(current()).unattended
