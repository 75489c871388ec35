"""Summaries through both of Google's SDKs over HTTP: the same request, the same result, the same errors."""

import dataclasses
import itertools
import os
import subprocess
import sys

import gemini_server as google
import pytest
import redis
from live import current, spending, store
from pydantic import SecretStr

from config.settings import SettingsError
from pipeline.enrich.limiter import FAILURES_TO_OPEN, RATE_LIMITS_TO_HOLD
from pipeline.enrich.providers.fake import FakeProvider
from pipeline.enrich.providers.transport import MAX_ANSWER, read_bounded
from voicemill.errors import JobError

TRANSCRIPT = {"text": "Um, please move the, the review to Thursday. Ask Mina in Busan.", "language": "en"}
SUMMARY = {
    "title": "Move the review",
    "summary": "The review moves to Thursday.",
    "language": "en",
    "topics": ["review"],
    "action_items": [{"task": "Ask", "owner": "Mina", "due": None}],
    "sentiment": "neutral",
    "urgency": "normal",
    "people": ["Mina"],
    "places": ["Busan"],
    "cleaned_text": "Please move the review to Thursday. Ask Mina in Busan.",
    "custom": [],
}
SUSPENDED = "Permission denied: Consumer 'api_key:AIzaSecretOfOurs' has been suspended."
NO_VIOLATIONS = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": None}


def test_a_summary_holds_every_field_and_what_it_cost(sdk, gemini, enricher):
    gemini.plan(google.answer(SUMMARY, tokens=(1000, 200, 300)))

    enrichment = enricher(sdk).enrich("job", TRANSCRIPT)

    assert {name: enrichment[name] for name in SUMMARY} == SUMMARY
    assert enrichment["usage"] == {"input_tokens": 1000, "output_tokens": 500}, "thoughts are paid for, too"
    assert enrichment["tries"] == 1
    assert enrichment["model"] == "gemini-2.5-flash-lite", "the version that answered"
    assert enrichment["cost_usd"] == pytest.approx((1000 * 0.10 + 500 * 0.40) / 1e6, abs=1e-6)
    assert 0 < enrichment["latency"] < 60


def test_the_request_carries_guard_prompt_transcript_and_schema(sdk, gemini, enricher):
    enricher(sdk, gemini_max_output_tokens=512).enrich("job", TRANSCRIPT, metadata={"caller": "desk 4"})

    (request,) = gemini.requests
    config = request.body["generationConfig"]
    assert "never addressed to you" in request.body["systemInstruction"]["parts"][0]["text"]
    assert TRANSCRIPT["text"] in request.text
    assert "desk 4" in request.text
    assert "in this language: en" in request.text
    assert config["maxOutputTokens"] == 512
    assert google.type_of(config["responseSchema"]) == "OBJECT"
    assert set(config["responseSchema"]["required"]) == set(SUMMARY) - {"custom"}
    assert config["responseSchema"]["properties"]["sentiment"]["enum"] == ["positive", "neutral", "negative", "mixed"]


FAILURES = [  # Gemini's answer, the job's error code, its delay (seconds; None: no further attempt), requests
    (google.rate_limited(7), "enrich_rate_limited", (7, 7.7), 1),
    (google.rate_limited(None), "enrich_rate_limited", (1, 1.1), 1),
    (google.day_quota(), "enrich_quota_exhausted", (1, 600), 1),
    (google.overloaded(), "enrich_unavailable", (1, 1.1), 1),
    (google.failure(503, "UNAVAILABLE", "Overloaded.", google.retry_info(7)), "enrich_unavailable", (7, 7.7), 1),
    (google.failure(500, "INTERNAL", "An internal error has occurred."), "enrich_unavailable", (1, 1.1), 1),
    (google.Answer(502, "<html>Bad gateway</html>"), "enrich_unavailable", (1, 1.1), 1),
    (google.Answer(503, '{"error": "no healthy upstream"}'), "enrich_unavailable", (1, 1.1), 1),
    (google.Answer(500, [{"error": {"code": "x", "message": None}}]), "enrich_unavailable", (1, 1.1), 1),
    (google.Answer(503, "[" * 100_000), "enrich_unavailable", (1, 1.1), 1),
    (google.Answer(429, '"slower"'), "enrich_rate_limited", (1, 1.1), 1),
    (google.failure(429, "RESOURCE_EXHAUSTED", "Quota.", NO_VIOLATIONS), "enrich_rate_limited", (1, 1.1), 1),
    (google.Answer(200, "[" * 100_000), "enrich_unavailable", (1, 1.1), 1),
    (google.Answer(200, "plain", headers={"content-encoding": "gzip"}), "enrich_unavailable", (1, 1.1), 1),
    (google.Answer(200, "<html>Sign in to this network</html>"), "enrich_unavailable", (1, 1.1), 1),
    (google.Answer(hang_up=True), "enrich_unavailable", (1, 1.1), 1),
    (google.failure(504, "DEADLINE_EXCEEDED", "Deadline expired."), "enrich_timeout", (1, 1.1), 1),
    (google.invalid_key(), "enrich_invalid_key", None, 1),
    (google.failure(401, "UNAUTHENTICATED", "Invalid credentials."), "enrich_invalid_key", None, 1),
    (google.failure(403, "PERMISSION_DENIED", SUSPENDED), "enrich_forbidden", None, 1),
    (google.failure(400, "FAILED_PRECONDITION", "User location is not supported."), "enrich_forbidden", None, 1),
    (google.failure(400, "INVALID_ARGUMENT", "The input token count is too large."), "enrich_invalid_request", None, 1),
    (google.blocked_prompt("PROHIBITED_CONTENT"), "enrich_blocked", None, 1),
    (google.empty("SAFETY"), "enrich_blocked", None, 1),
    (google.answer('{"title": "Ha', finish="SPII"), "enrich_blocked", None, 1),
    (google.empty("RECITATION"), "enrich_recitation", None, 1),
    (google.answer('{"title": "Ha', finish="MAX_TOKENS"), "enrich_truncated", None, 1),
]


@pytest.mark.parametrize(("answer", "code", "delay", "requests"), FAILURES)
def test_each_failure_has_its_code_and_its_delay(sdk, gemini, enricher, answer, code, delay, requests):
    gemini.plan(answer)

    with pytest.raises(JobError) as caught:
        enricher(sdk).enrich("job", TRANSCRIPT)

    assert caught.value.code == code
    assert "AIza" not in str(caught.value), "Google names a suspended key in full"
    if delay is None:
        assert caught.value.retry_after is None
        assert not caught.value.code.retryable
    else:
        assert delay[0] <= caught.value.retry_after <= delay[1]
    assert len(gemini.requests) == requests


def test_geminis_error_message_becomes_one_printable_line(sdk, gemini, enricher):
    gemini.plan(google.failure(400, "INVALID_ARGUMENT", "Too\x1b[2J\n  long\u202e: \ud83d."))

    with pytest.raises(JobError) as caught:
        enricher(sdk).enrich("job", TRANSCRIPT)

    assert caught.value.message == "Too[2J long: ?"


@pytest.mark.parametrize("body", [5, {"candidates": [{"finishReason": []}]}, {"promptFeedback": {"blockReason": 1}}])
def test_an_answer_that_only_resembles_geminis_is_classified_and_not_a_crash(sdk, gemini, enricher, body):
    gemini.plan(google.Answer(200, body))
    with pytest.raises(JobError) as caught:
        enricher(sdk).enrich("job", TRANSCRIPT)
    assert caught.value.code in ("enrich_unavailable", "enrich_blocked")


@pytest.mark.parametrize("half", ["\ud83d", "\\ud83d"])
def test_a_lone_surrogate_does_not_cost_the_summary_of_a_long_message(gemini, enricher, half):
    def decide(body):
        if "notes" not in body.get("generationConfig", {}).get("responseSchema", {}).get("properties", {}):
            return None
        return google.answer(f'{{"notes": "Fine {half}", "cleaned_text": "Fine {half}"}}')

    gemini.decide = decide
    long = TRANSCRIPT | {"text": " ".join([TRANSCRIPT["text"]] * 200)}
    assert "Fine ?" in enricher("google-genai", enrich_part_tokens=1500).enrich("job", long)["cleaned_text"]


def test_thoughts_are_not_part_of_the_answer(gemini, enricher):
    reply = google.answer(SUMMARY)
    reply.body["candidates"][0]["content"]["parts"].insert(0, {"text": "Hm, a review.", "thought": True})
    gemini.plan(reply)
    assert enricher("google-genai").enrich("job", TRANSCRIPT)["tries"] == 1


def test_a_request_that_takes_too_long_is_a_timeout(sdk, gemini, enricher):
    gemini.plan(google.Answer(delay=3))

    with pytest.raises(JobError, match="GEMINI_TIMEOUT") as caught:
        enricher(sdk, gemini_timeout=1).enrich("job", TRANSCRIPT)  # Google takes no shorter one

    assert caught.value.code == "enrich_timeout"
    assert caught.value.retry_after == pytest.approx(1.05, abs=0.06)


def test_an_answer_that_dribbles_in_is_a_timeout(sdk, gemini, enricher):
    gemini.plan(dataclasses.replace(google.answer(SUMMARY), dribble=0.05))

    with pytest.raises(JobError) as caught:
        enricher(sdk, gemini_timeout=1).enrich("job", TRANSCRIPT)

    assert caught.value.code == "enrich_timeout", "each of its bytes came in time"


def test_an_answer_that_timed_out_is_not_read_to_its_end():
    with pytest.raises(TimeoutError):
        read_bounded(itertools.repeat(b" "), 0)


@pytest.mark.parametrize("status", [200, 400])
def test_an_endless_answer_does_not_fill_the_memory(sdk, gemini, enricher, status):
    gemini.plan(google.Answer(status, " " * (MAX_ANSWER + 1)))

    with pytest.raises(JobError, match="longer than any") as caught:
        enricher(sdk).enrich("job", TRANSCRIPT)

    assert caught.value.code == "enrich_unavailable"


@pytest.mark.parametrize("status", [302, 307])
def test_neither_key_nor_transcript_follows_a_redirect(sdk, gemini, enricher, status):
    with google.GeminiServer() as other:
        gemini.plan(google.Answer(status, "", headers={"location": f"{other.url}/v1beta/models/x:generateContent"}))

        with pytest.raises(JobError, match="redirects to another") as caught:
            enricher(sdk).enrich("job", TRANSCRIPT)

        assert caught.value.code == "enrich_unavailable"
        assert other.requests == []


def test_an_unknown_model_names_those_that_the_key_may_use(sdk, gemini, enricher):
    with pytest.raises(JobError, match=r"gemini-flash-latest, gemini-2\.5-flash") as caught:
        enricher(sdk, gemini_model="gemini-1.5-flash").enrich("job", TRANSCRIPT)

    assert caught.value.code == "enrich_unknown_model"
    assert "embedding" not in caught.value.message, "one that writes no text is no help"

    gemini.models.clear()
    with pytest.raises(JobError, match=r"not found for API version v1beta$"):
        enricher(sdk).enrich("job", TRANSCRIPT)


def test_an_unknown_model_is_reported_even_if_models_cannot_be_listed(sdk, gemini, enricher):
    gemini.plan(google.unknown_model("gemini-flash-latest"), google.overloaded())
    with pytest.raises(JobError) as caught:
        enricher(sdk).enrich("job", TRANSCRIPT)
    assert (caught.value.code, caught.value.retry_after) == ("enrich_unknown_model", None)


def test_a_jobs_back_off_grows_with_its_own_failures_only(gemini, enricher):
    subject = enricher()
    gemini.plan(google.overloaded(), google.rate_limited(None), google.overloaded())
    waits = []
    for _ in range(3):
        with pytest.raises(JobError) as caught:
            subject.enrich("job", TRANSCRIPT)
        waits.append(caught.value.retry_after)
    assert waits == pytest.approx([1.05, 1.5 * 1.05, 1.5 * 1.05], rel=0.05)


def test_losing_redis_during_a_request_is_reported_as_redis_unavailable(gemini, enricher):
    nobody = redis.Redis(port=9, retry=None)
    gemini.decide = lambda _body: current()._clients.update({os.getpid(): nobody})
    with pytest.raises(JobError) as caught:
        enricher().enrich("job", TRANSCRIPT)
    assert caught.value.code == "redis_unavailable"
    assert caught.value.retry_after


def test_input_counts_as_estimated_and_then_as_it_was(sdk, gemini, enricher):
    subject, meanwhile = enricher(sdk, gemini_tokens_per_minute=100_000), []

    def sizes():
        went = store.redis.zrange("{voicemill}:enrich:log", 0, -1)
        return [int(member.rpartition(b":")[2]) for member in went]

    def decide(_body):
        meanwhile.extend(sizes())
        return google.answer(SUMMARY, tokens=(1234, 5, 0))

    gemini.decide = decide
    subject.enrich("job", TRANSCRIPT)
    assert [300 < size < 3000 for size in meanwhile] == [True]
    assert sizes() == [1234]


@pytest.mark.parametrize("empty", [google.empty(), google.no_candidates(), google.answer("  ")])
def test_an_empty_answer_is_requested_once_more_only(sdk, gemini, enricher, empty):
    gemini.plan(empty, google.answer(SUMMARY))
    assert enricher(sdk).enrich("job", TRANSCRIPT)["tries"] == 2

    gemini.plan(empty, empty)
    with pytest.raises(JobError) as caught:
        enricher(sdk).enrich("other", TRANSCRIPT)
    assert (caught.value.code, caught.value.retry_after) == ("enrich_empty", None)
    assert len(gemini.requests) == 4


@pytest.mark.parametrize("unfit", ["not JSON", '{"title": "only"}', "[]", '{"title": ' * 5000, '"text"', "NaN"])
def test_an_invalid_answer_gets_one_repair(sdk, gemini, enricher, unfit):
    gemini.plan(google.answer(unfit), google.answer(SUMMARY))
    assert enricher(sdk).enrich("job", TRANSCRIPT)["title"] == SUMMARY["title"]
    *_, complaint = gemini.requests[-1].body["contents"]
    assert "does not fit" in complaint["parts"][0]["text"]
    assert [turn["role"] for turn in gemini.requests[-1].body["contents"]] == ["user", "model", "user"]

    gemini.plan(google.answer(unfit), google.answer(unfit))
    with pytest.raises(JobError) as caught:
        enricher(sdk).enrich("other", TRANSCRIPT)
    assert (caught.value.code, caught.value.retry_after) == ("enrich_invalid_answer", None)
    assert len(gemini.requests) == 4

    enricher(sdk).enrich("other", TRANSCRIPT)
    assert len(gemini.requests[-1].body["contents"]) == 1, "another run starts afresh"


def test_a_lone_surrogate_makes_an_answer_merely_invalid(gemini, enricher):
    gemini.plan(google.answer("\ud83d"), google.answer(SUMMARY))
    assert enricher("google-genai").enrich("job", TRANSCRIPT)["title"] == SUMMARY["title"]


def test_the_one_repair_is_remembered_while_it_waits_for_its_turn(gemini, enricher):
    subject = enricher(gemini_requests_per_minute=1)
    gemini.plan(google.answer("not JSON"), google.answer("nor this"))

    with pytest.raises(JobError) as caught:
        subject.enrich("job", TRANSCRIPT)
    assert caught.value.code == "enrich_rate_limited"
    store.redis.delete("{voicemill}:enrich:log")  # as when the minute is over
    with pytest.raises(JobError) as caught:
        subject.enrich("job", TRANSCRIPT)
    assert caught.value.code == "enrich_invalid_answer"
    assert len(gemini.requests) == 2


def test_an_address_where_nothing_listens_opens_the_breaker_at_once(sdk, enricher):
    subject = enricher(sdk, gemini_endpoint="http://127.0.0.1:9")
    with pytest.raises(JobError) as caught:
        subject.enrich("job", TRANSCRIPT)
    assert caught.value.code == "enrich_unavailable"

    with pytest.raises(JobError, match="out of service") as caught:
        subject.enrich("other", TRANSCRIPT)
    assert 5 < caught.value.retry_after <= 12


def test_an_exhausted_quota_stops_all_jobs_until_the_next_check(sdk, gemini, enricher):
    subject = enricher(sdk)
    gemini.plan(google.day_quota())
    for job in ("job", "other", "third"):
        with pytest.raises(JobError) as caught:
            subject.enrich(job, TRANSCRIPT)
        assert caught.value.code == "enrich_quota_exhausted"
        assert caught.value.retry_after > 0
    assert len(gemini.requests) == 1
    assert spending.of_job("job").failures == 0, "it counts against no job"

    store.redis.delete("{voicemill}:enrich:pause:gemini-flash-lite-latest")  # the pause is over
    assert subject.enrich("job", TRANSCRIPT)["tries"] == 2


def test_a_job_that_keeps_failing_is_given_up_after_enrich_tries(sdk, gemini, enricher):
    subject = enricher(sdk, enrich_tries=3)
    gemini.plan(*[google.rate_limited(1)] * 3)
    codes = []
    for _ in range(3):
        with pytest.raises(JobError) as caught:
            subject.enrich("job", TRANSCRIPT)
        codes.append(caught.value.code)
    assert codes == ["enrich_rate_limited", "enrich_rate_limited", "enrich_gave_up"]
    assert caught.value.retry_after is None


def test_a_failed_probe_does_not_count_against_its_job(gemini, enricher):
    subject = enricher(enrich_tries=1)
    for _ in range(FAILURES_TO_OPEN):
        subject._limiter.record_failure(subject._limiter.acquire("others", 1, subject.model), unreachable=False)
    store.redis.delete(*subject._limiter.keys(subject.model, "probe"))  # as when it has expired
    gemini.plan(google.overloaded())
    with pytest.raises(JobError) as caught:
        subject.enrich("job", TRANSCRIPT)
    assert caught.value.code == "enrich_unavailable"
    assert spending.of_job("job").failures == 0


def test_a_shared_rate_limit_ends_no_job_and_is_forgiven_once(gemini, enricher):
    subject = enricher(enrich_tries=1)
    for number in range(RATE_LIMITS_TO_HOLD - 1):
        subject._limiter.record_rate_limit(subject._limiter.acquire("others", 1, subject.model), f"other-{number}", 1)
    for failures in (0, 1):
        gemini.plan(google.rate_limited(1))
        store.redis.delete(*subject._limiter.keys(subject.model, "hold"))  # as when it has expired
        with pytest.raises(JobError) as caught:
            subject.enrich("job", TRANSCRIPT)
        assert caught.value.code == "enrich_rate_limited"
        assert spending.of_job("job").failures == failures


def test_tokens_are_counted_by_gemini(sdk, enricher):
    assert enricher(sdk)._provider.count_tokens("gemini-flash-latest", "hello " * 100) > 100


def test_starting_a_worker_prints_no_warning_of_the_sdk(sdk):
    program = (
        "import sys; from config.settings import Settings; from pipeline.enrich import Enricher;"
        "from voicemill.config import ClientConfig; from voicemill.store import Store;"
        "settings = Settings(gemini_sdk=sys.argv[1], gemini_api_key='k', gemini_endpoint='http://127.0.0.1:9');"
        "Enricher(settings, Store(ClientConfig()))"
    )
    run = subprocess.run([sys.executable, "-c", program, sdk], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")


def test_an_sdk_that_is_not_installed_names_its_extra(sdk, enricher, monkeypatch):
    module = {"google-generativeai": "google.generativeai", "google-genai": "google.genai"}[sdk]
    for name in list(sys.modules):
        if name.startswith("pipeline.enrich.providers.google_"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SettingsError, match=r"pip install"):
        enricher(sdk)


def test_a_country_without_phone_numbers_is_refused_at_start(enricher):
    enricher(enrich_redact=True, enrich_redact_region="GB")
    enricher(enrich_redact_region="UK")
    with pytest.raises(SettingsError, match=r"ENRICH_REDACT_REGION is 'UK': takes .* GB"):
        enricher(enrich_redact=True, enrich_redact_region="UK")


def test_the_days_totals_count_every_request(gemini, enricher, sdk):
    subject = enricher(sdk)
    gemini.plan(google.answer(SUMMARY, tokens=(100, 20, 0)), google.overloaded(), google.day_quota())
    subject.enrich("job", TRANSCRIPT)
    for name in ("other", "one that the quota ends with"):
        with pytest.raises(JobError):
            subject.enrich(name, TRANSCRIPT)

    totals = spending.totals()
    assert (totals["summaries"], totals["requests"], totals["failures"]) == (1, 3, 2), (
        "those that count against no job included"
    )
    assert (totals["input_tokens"], totals["output_tokens"]) == (100, 20)
    assert totals["cost_usd"] == pytest.approx(0.000018)


@pytest.mark.parametrize("said", [-5, 2**31 - 1])
def test_an_implausible_token_count_blocks_no_other_job(sdk, gemini, enricher, said):
    subject = enricher(sdk, gemini_tokens_per_minute=100_000)
    gemini.plan(google.answer(SUMMARY, tokens=(said, 0, 0)))

    assert subject.enrich("job", TRANSCRIPT)["usage"]["input_tokens"] in range(2**21 + 1)

    refusals = []
    for job in ("waits", "waits behind it"):
        try:
            subject.enrich(job, TRANSCRIPT)
        except JobError as error:
            refusals.append(error)
    assert {error.code for error in refusals} <= {"enrich_rate_limited"}, "Redis itself is all right"
    assert all(error.retry_after < 3600 for error in refusals)


def test_an_unpriced_model_has_no_cost(gemini, enricher):
    gemini.models.append("gemini-9-nano")
    reply = google.answer(SUMMARY)
    gemini.plan(google.Answer(200, {**reply.body, "modelVersion": "gemini-9-nano-001"}))
    assert enricher(gemini_model="gemini-9-nano").enrich("job", TRANSCRIPT)["cost_usd"] is None


def test_another_prompt_and_model_apply_to_one_call_only(gemini, enricher, tmp_path):
    words = tmp_path / "brief.txt"
    words.write_text("One line, please, in $language: $transcript", encoding="utf-8")
    subject = enricher(enrich_language="German")
    subject.enrich("job", TRANSCRIPT, prompt_file=words, model="gemini-flash-latest")
    subject.enrich("job", TRANSCRIPT)

    first, second = gemini.requests
    assert first.model == "gemini-flash-latest"
    assert "One line, please, in German" in first.text
    assert second.model == "gemini-flash-lite-latest"
    assert "One line" not in second.text


def test_an_sdks_bug_neither_fails_the_job_at_once_nor_leaks_the_transcript(enricher, capsys):
    def stumble(request):
        raise RuntimeError(request.text)

    subject = enricher(provider=FakeProvider(stumble), enrich_tries=2)
    with pytest.raises(JobError) as caught:
        subject.enrich("job", {"text": "the secret review"})
    assert caught.value.code == "enrich_internal"
    assert "RuntimeError at test_enrich_sdks.py" in caught.value.message
    assert caught.value.retry_after
    assert "secret" not in str(caught.value) + capsys.readouterr().out

    with pytest.raises(JobError) as caught:
        subject.enrich("job", {"text": "the secret review"})
    assert (caught.value.code, caught.value.retry_after) == ("enrich_internal", None), "its attempts are limited"


def test_neither_transcript_nor_key_is_logged(gemini, enricher, capsys, caplog):
    subject = enricher(enrich_tries=2, gemini_api_key=SecretStr(google.KEY))
    gemini.plan(google.answer('{"title": "secret review"}'), google.answer("secret review"), google.overloaded())
    for _ in range(2):
        with pytest.raises(JobError) as caught:
            subject.enrich("job", {"text": "the secret review", "language": "en"})
        assert "secret" not in str(caught.value)
    captured = capsys.readouterr()
    for text in (captured.out, captured.err, caplog.text):
        assert "secret" not in text
        assert google.KEY not in text
    assert "Answer invalid" in captured.out + captured.err + caplog.text
