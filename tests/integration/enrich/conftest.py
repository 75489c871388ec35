"""A local Gemini, and enrichers that talk to it through either SDK or to any other provider."""

import pytest
from gemini_server import KEY, GeminiServer
from live import current
from pydantic import SecretStr

from config.settings import Settings
from pipeline.enrich import Enricher
from voicemill.transcript import Transcript


class Subject:
    """An enricher that takes transcripts and gives enrichments as a job's record keeps them."""

    def __init__(self, enricher):
        self._enricher = enricher

    def __getattr__(self, name):
        return getattr(self._enricher, name)

    def enrich(self, job_id, transcript, **options):
        return self._enricher.enrich(job_id, Transcript.from_dict(transcript), **options).as_dict()


SDKS = ("google-generativeai", "google-genai")


@pytest.fixture
def gemini():
    with GeminiServer() as server:
        yield server


@pytest.fixture(params=SDKS)
def sdk(request):
    return request.param


@pytest.fixture
def local_settings(gemini):
    """Returns settings for the local Gemini, with changes."""

    def make(**changes):
        values = {"gemini_api_key": SecretStr(KEY), "gemini_endpoint": gemini.url, "gemini_timeout": 30}
        return Settings(**(values | changes))

    return make


@pytest.fixture
def enricher(local_settings, redis_url):
    """Returns an enricher on the local Gemini or another provider, with these settings."""

    def make(sdk="google-generativeai", *, provider=None, limiter=None, backoff=None, **settings):
        chosen = local_settings(gemini_sdk=sdk, **settings)
        return Subject(Enricher(chosen, current(), provider=provider, limiter=limiter, backoff=backoff))

    return make
