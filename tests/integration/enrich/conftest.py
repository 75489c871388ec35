"""A local Gemini, and enrichers that talk to it through either SDK or to any other provider."""

import pytest
from gemini_server import KEY, GeminiServer
from pydantic import SecretStr

from config.settings import Settings
from pipeline.enrich import Enricher

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
        return Enricher(chosen, provider=provider, limiter=limiter, backoff=backoff)

    return make
