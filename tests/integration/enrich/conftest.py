"""A Gemini of the tests' own, and enrichers that talk to it through either SDK."""

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
def enricher(gemini, redis_url):
    """Makes an enricher on the local Gemini with these settings."""

    def make(sdk="google-generativeai", **settings):
        values = {"gemini_api_key": SecretStr(KEY), "gemini_endpoint": gemini.url, "gemini_timeout": 30}
        return Enricher(Settings(gemini_sdk=sdk, **(values | settings)))

    return make
