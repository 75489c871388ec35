"""Long transcripts, which are summarized in parts, each requested once."""

import json

import gemini_server as google
import pytest
from live import store

from pipeline.enrich import parts
from pipeline.enrich.enricher import MAX_PARTS
from pipeline.enrich.limiter import FAILURES_TO_OPEN
from pipeline.enrich.providers.base import ProviderCapabilities
from pipeline.enrich.providers.fake import FakeProvider, answer
from voicemill.errors import JobError
from voicemill.store import keys

SENTENCES = [f"Sentence number {number} is about the budget and the plan." for number in range(400)]
TRANSCRIPT = {"text": " ".join(SENTENCES), "language": "en"}


def of_part(body):
    """Return whether a request is for notes on a part."""
    return "notes" in body.get("generationConfig", {}).get("responseSchema", {}).get("properties", {})


def reader(body):
    """Answer a request for notes with the part itself as its cleaned-up text."""
    if not of_part(body):
        return None
    prompt = body["contents"][0]["parts"][0]["text"]
    said = prompt.rpartition("<data")[2].partition(">\n")[2].partition("\n</data")[0]
    return google.answer({"notes": "N: " + said[:40], "cleaned_text": said})


def test_a_long_transcript_is_counted_and_summarized_in_parts(sdk, gemini, enricher):
    gemini.decide = reader
    enrichment = enricher(sdk, enrich_part_tokens=1500).enrich("job", TRANSCRIPT)

    calls = [request.call for request in gemini.requests]
    parts = [request for request in gemini.generated() if of_part(request.body)]
    assert calls[0] == "countTokens"
    assert calls.count("countTokens") == 1
    assert 3 <= len(parts) <= 6
    whole = gemini.requests[-1]
    assert not of_part(whole.body)
    assert "cleaned_text" not in whole.body["generationConfig"]["responseSchema"]["properties"]
    assert all(
        f"Part {number} of {len(parts)}, notes: N: Sentence" in whole.text for number in range(1, len(parts) + 1)
    )
    assert enrichment["cleaned_text"].split() == TRANSCRIPT["text"].split(), "nothing is lost between the parts"
    assert enrichment["tries"] == len(calls)


def test_notes_too_long_for_one_request_are_condensed_and_no_text_is_lost(gemini, enricher):
    def wordy(body):
        if not of_part(body):
            return None
        if "cleaned_text" not in body["generationConfig"]["responseSchema"]["properties"]:
            return google.answer({"notes": "condensed"})
        reply = json.loads(reader(body).body["candidates"][0]["content"]["parts"][0]["text"])
        return google.answer(reply | {"notes": "n" * 8000})

    gemini.decide = wordy
    enrichment = enricher(enrich_part_tokens=1500).enrich("job", TRANSCRIPT)
    assert "notes: condensed" in gemini.requests[-1].text
    assert enrichment["cleaned_text"].split() == TRANSCRIPT["text"].split()


class Miscounting(FakeProvider):
    def count_tokens(self, model, text):
        return 10**9


def test_an_absurd_token_count_makes_at_most_max_parts(enricher):
    requests = []

    def respond(request):
        requests.append(request)
        return answer(request)

    enricher(provider=Miscounting(respond), enrich_part_tokens=1500).enrich("job", TRANSCRIPT)
    assert MAX_PARTS <= sum("notes" in request.schema["properties"] for request in requests) <= 2 * MAX_PARTS


@pytest.mark.parametrize("counts", [True, False])
def test_a_small_context_makes_more_parts_whether_the_provider_counts_tokens_or_not(enricher, counts):
    requests = []

    def respond(request):
        requests.append(request)
        return answer(request)

    capabilities = ProviderCapabilities(json_schema=True, counts_tokens=counts, context_tokens=3000)
    provider = FakeProvider(respond, capabilities=capabilities)
    tries = enricher(provider=provider, enrich_part_tokens=100_000).enrich("job", TRANSCRIPT)["tries"]
    assert tries == len(requests) + counts
    assert len(requests) > parts.estimate(TRANSCRIPT["text"]) // 1500


def test_notes_are_condensed_to_what_a_small_context_holds(enricher):
    capabilities = ProviderCapabilities(json_schema=True, counts_tokens=False, context_tokens=3000)
    sizes = []

    def respond(request):
        sizes.append(parts.estimate(request.text))
        reply = answer(request)
        if "cleaned_text" in request.schema["properties"] and "notes" in request.schema["properties"]:
            reply = answer(request, {"notes": "n" * 2000, "cleaned_text": "Fine."})
        return reply

    enricher(provider=FakeProvider(respond, capabilities=capabilities)).enrich("job", TRANSCRIPT)
    assert max(sizes) <= capabilities.context_tokens


def test_a_retry_repeats_only_what_is_missing(gemini, enricher):
    subject = enricher(enrich_part_tokens=1500)
    answered = []

    def fail_at_third(body):
        if of_part(body) and len(answered) == 2:
            answered.append("failed")
            return google.overloaded()
        if of_part(body):
            answered.append(body)
        return reader(body)

    gemini.decide = fail_at_third
    with pytest.raises(JobError) as caught:
        subject.enrich("job", TRANSCRIPT)
    assert caught.value.retry_after
    assert store.redis.pttl(keys.spending("job")) > 0, "what is stored does not stay for ever"
    before = len(gemini.requests)

    subject.enrich("job", TRANSCRIPT)
    repeated = [request.text for request in gemini.requests[before:]]
    assert not any("Sentence number 0 " in text and "This is a part" in text for text in repeated)
    assert "countTokens" not in [request.call for request in gemini.requests[before:]]
    parts = [request for request in gemini.generated() if of_part(request.body)]
    assert len(parts) == len(answered), "each part was read once, but for the one that failed"
    assert not store.redis.exists(keys.spending("job"))


def test_counting_tokens_closes_no_breaker(sdk, gemini, enricher):
    subject = enricher(sdk, enrich_part_tokens=1500)
    for _ in range(FAILURES_TO_OPEN):
        subject._limiter.record_failure(subject._limiter.acquire("others", 1, subject.model), unreachable=False)
    store.redis.delete(*subject._limiter.keys(subject.model, "probe"))  # as when it has expired

    with pytest.raises(JobError, match="out of service"):
        subject.enrich("job", TRANSCRIPT)
    assert [request.call for request in gemini.requests] == ["countTokens"]

    store.redis.delete(*subject._limiter.keys(subject.model, "probe"))
    gemini.plan(google.overloaded())
    with pytest.raises(JobError) as caught:
        subject.enrich("job", TRANSCRIPT)
    assert (caught.value.code, len(gemini.requests)) == ("enrich_unavailable", 2)


def test_a_text_that_is_long_only_by_the_estimate_is_sent_whole(gemini, enricher):
    text = "word " * 900
    enricher(enrich_part_tokens=1400).enrich("job", {"text": text, "language": "en"})
    assert [request.call for request in gemini.requests] == ["countTokens", "generateContent"]


def test_a_mask_hides_the_same_number_in_every_part_and_it_comes_back(gemini, enricher):
    gemini.decide = reader
    text = " ".join([*SENTENCES[:200], "Write to mina@example.com.", *SENTENCES[200:], "Again: mina@example.com."])
    enrichment = enricher(enrich_part_tokens=1500, enrich_redact=True).enrich(
        "job", {"text": text}, metadata={"from": "mina@example.com"}
    )
    assert not any("mina@" in request.text for request in gemini.requests)
    assert all("copy it unchanged" in request.text for request in gemini.generated())
    assert enrichment["cleaned_text"].count("mina@example.com") == 2


def test_masks_are_restored_before_the_answer_is_validated(gemini, enricher, tmp_path):
    file = tmp_path / "schema.json"
    file.write_text('{"type": "object", "properties": {"to": {"type": "string", "format": "email"}}}', encoding="utf-8")
    gemini.plan(google.answer({"to": "[EMAIL-1]"}))
    subject = enricher(enrich_redact=True, enrich_schema=str(file))
    assert subject.enrich("job", {"text": "Write to mina@example.com."})["to"] == "mina@example.com"


@pytest.mark.parametrize(("bound", "fits"), [("minLength", True), ("maxLength", False)])
def test_the_joined_cleaned_text_is_validated_by_the_operators_schema(gemini, enricher, tmp_path, bound, fits):
    fields = {"cleaned_text": {"type": "string", bound: 5000}, "title": {"type": "string"}}
    (tmp_path / "schema.json").write_text(json.dumps({"type": "object", "properties": fields}), encoding="utf-8")
    gemini.decide = reader
    subject = enricher(enrich_part_tokens=1500, enrich_schema=str(tmp_path / "schema.json"))
    if fits:
        assert subject.enrich("job", TRANSCRIPT)["cleaned_text"].split() == TRANSCRIPT["text"].split()
    else:
        with pytest.raises(JobError, match="cleaned_text: maxLength"):
            subject.enrich("job", TRANSCRIPT)


@pytest.mark.parametrize("bound", [{}, {"maxLength": 5000}])
def test_a_schema_of_cleaned_text_alone_is_served_by_joining_parts(gemini, enricher, tmp_path, bound):
    """Google would refuse the schema of the remaining request, which has no fields."""
    fields = {"cleaned_text": {"type": "string", **bound}}
    (tmp_path / "schema.json").write_text(json.dumps({"type": "object", "properties": fields}), encoding="utf-8")
    gemini.decide = reader
    subject = enricher(enrich_part_tokens=1500, enrich_schema=str(tmp_path / "schema.json"))
    if bound:
        with pytest.raises(JobError, match="cleaned_text: maxLength") as caught:
            subject.enrich("job", TRANSCRIPT)
        assert (caught.value.code, caught.value.retry_after) == ("enrich_invalid_answer", None)
    else:
        enrichment = subject.enrich("job", TRANSCRIPT)
        assert enrichment["cleaned_text"].split() == TRANSCRIPT["text"].split()
        assert enrichment["model"] == "gemini-flash-lite-latest"
    assert all(of_part(request.body) for request in gemini.generated())


def test_notes_on_parts_follow_the_operators_prompt_and_fields(gemini, enricher, tmp_path):
    (tmp_path / "schema.json").write_text(
        '{"type": "object", "properties": {"bills": {"type": "array", "items": {"type": "object", "properties":'
        ' {"sum": {"type": "number", "description": "in $ before tax"}}}}}}',
        encoding="utf-8",
    )
    (tmp_path / "prompt.txt").write_text("Name every invoice, in $$ and $language: $transcript", encoding="utf-8")
    subject = enricher(enrich_part_tokens=1500, enrich_schema=str(tmp_path / "schema.json"))
    subject.enrich("job", TRANSCRIPT, prompt_file=tmp_path / "prompt.txt")

    parts = [request.text for request in gemini.generated() if of_part(request.body)]
    assert len(parts) > 2
    assert all("- bills.sum: in $ before tax" in text for text in parts)
    assert all("Name every invoice, in $ and (as above): (the notes)" in text for text in parts)


def test_a_lone_surrogate_in_the_metadata_is_harmless(gemini, enricher):
    gemini.decide = reader
    assert enricher(enrich_part_tokens=1500).enrich("job", TRANSCRIPT, metadata={"name": "\ud83d"})["title"]
