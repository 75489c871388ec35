"""`status` reports pending webhooks that no worker delivers."""

from live import current, jobs

from voicemill import status


def test_webhooks_are_unattended_only_while_events_are_pending_without_a_worker(redis_url, job, receiver, post, name):
    assert "webhook" not in status.read(current()).unattended

    jobs.cancel(job("one"))
    assert "webhook" in status.read(current()).unattended
    assert status.read(current()).webhooks.undelivered == 1

    post().run(name)
    assert "webhook" not in status.read(current()).unattended
