"""The dashboard in a real browser, with real workers: what people see, hear and do there."""

import base64
import os
import re
import shutil
import signal
import subprocess
from itertools import dropwhile, pairwise
from pathlib import Path

import gemini_server
import hearing
import live
import pytest
from browser import PATIENCE, chromium, faults, served, until
from live import audio, jobs
from playwright.sync_api import expect
from processes import becomes, children

from cli.embedded import valkey
from cli.supervisor import Supervisor, procfile
from config.environment import STATE
from config.settings import Settings
from voicemill import Client
from voicemill.errors import ErrorCode, JobError, UnknownJob
from voicemill.lifecycle import STAGES
from voicemill.options import Options
from web import auth
from web.app import create_app

SAMPLE = STATE.parent / "samples" / "voice-message.ogg"
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1180, "height": 800}
HOSTILE = "<script>pwned=1</script><img src=x onerror=pwned=1>"
SUMMARY = {
    "title": "Meeting moves to Friday",
    "summary": "The design team's meeting moves to Friday; the slides are wanted before noon.",
    "language": "en",
    "topics": ["meeting", "slides"],
    "action_items": [{"task": "Send the slides", "owner": None, "due": "Friday noon"}],
    "sentiment": "neutral",
    "urgency": "normal",
    "people": [],
    "places": [],
    "cleaned_text": "Good morning.",
    "custom": [],
}

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    spoken = folder / "spoken.wav"
    subprocess.run(["ffmpeg", "-v", "error", "-i", SAMPLE, "-ac", "1", "-ar", "48000", spoken], check=True)
    return folder


@pytest.fixture(scope="module")
def gemini():
    with gemini_server.GeminiServer(decide=lambda _: gemini_server.answer(SUMMARY)) as server:
        yield server


@pytest.fixture(scope="module")
def workers(tmp_path_factory, media, gemini):
    """The three stages with their Redis, ready."""
    ready = []
    with valkey(tmp_path_factory.mktemp("page-redis"), durable=False) as url:
        variables = {
            "REDIS_URL": url,
            "MEDIA_ROOT": str(media),
            "WHISPER_MODEL": "bundled:tiny.en",
            "WHISPER_DEVICE": "cpu",
            "WHISPER_CPU_REPLICAS": "1",
            "LOG_FORMAT": "json",
            "GEMINI_API_KEY": gemini_server.KEY,
            "GEMINI_ENDPOINT": gemini.url,
        }
        stages = {name: command for name, command in procfile().items() if name in STAGES}
        supervisor = Supervisor(stages, dict(os.environ) | variables, lambda name, line: ready.append((name, line)), 10)
        supervisor.url = url
        supervisor.start()
        assert becomes(lambda: set(supervisor.pids()) == set(stages), timeout=60)
        yield supervisor
        supervisor.stop()


@pytest.fixture(scope="module")
def browser(media):
    with chromium(media / "spoken.wav") as running:
        yield running


@pytest.fixture
def backend(workers, monkeypatch):
    """A client of the workers' Redis, which is also the environment's."""
    monkeypatch.setenv("REDIS_URL", workers.url)
    with Client(workers.url) as client:
        yield client
    live.close()


@pytest.fixture
def server(backend):
    """The URL of a server without keys, as on a developer's own machine."""
    with served(create_app(Settings(), backend)) as url:
        yield url


@pytest.fixture
def locked(backend):
    """The URL of a server with a key, and the key."""
    key, entry = auth.generate("tests")
    with served(create_app(Settings(api_keys=entry), backend)) as url:
        yield url, key


@pytest.fixture
def visit(browser, server):
    """Open a page in a fresh profile. The test fails if the browser reports an error or a violated policy."""
    contexts, complaints = [], []

    def visit(path="/page", **options):
        context = browser.new_context(**{"viewport": DESK, "locale": "en-US", "base_url": server} | options)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: line.type == "error" and complaints.append(line.text))
        page.goto(path)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []


def state(page):
    return page.locator("#head .state")


def job_of(page):
    page.wait_for_url("**/page/jobs/*")
    return page.url.rpartition("/")[2]


def made(job_id, transcript, enrichment=None, **options):
    """Create a job that is done, as the stages leave it, and return its id.

    In one step: the workers would take a message that queued it for a stage.
    """
    jobs.create(job_id, "upload:gone", Options(**options))
    results = {"audio": {"duration": 9.4, "codec": "opus", "warnings": []}, "transcript": transcript}
    if enrichment is not None:
        results["enrichment"] = enrichment
    through = "transcribe" if enrichment is None else "enrich"
    jobs.finish(job_id, "decode", results, through=through, following=None)
    return job_id


def test_an_uploaded_message_is_followed_live_played_word_by_word_and_downloaded(visit, workers):
    page = visit()
    decoder = workers.pids()["decode"]
    held = [decoder, *children(decoder)]
    for pid in held:
        os.kill(pid, signal.SIGSTOP)
    try:
        page.set_input_files("#file", SAMPLE)
        job_id = job_of(page)
        expect(state(page)).to_have_text("Queued")
        expect(page.locator(".steps .decode")).to_contain_text("waiting")
        page.evaluate("window.same = true")  # lost if the page is reloaded
    finally:
        for pid in held:
            os.kill(pid, signal.SIGCONT)

    expect(state(page)).to_have_text("Done")
    expect(page.locator("h1")).to_have_text(SUMMARY["title"])
    transcript = jobs.get(job_id).transcript
    expect(page.locator("#transcript")).to_contain_text(transcript.segments[0].text.strip())
    assert hearing.word_error_rate(transcript.text, hearing.SAMPLE) < 0.3
    expect(page.locator("#summary")).to_contain_text("Send the slides · due Friday noon")
    expect(page.locator("#seconds rect")).to_have_count(6)
    assert page.evaluate("window.same")

    starts = [word.start for segment in transcript.segments for word in segment.words]
    apart = [one for one, two in pairwise(starts) if two - one > 0.05]  # an aligned word may take no time at all
    assert len(apart) > 10
    now = page.locator("#transcript .now")
    for start in (apart[9], apart[2], starts[-1]):
        page.evaluate("at => { document.getElementById('audio').currentTime = at + 0.01 }", start)
        expect(now).to_have_attribute("data-start", re.compile(rf"^{start:g}(\.0)?$"))

    page.evaluate("""
        window.heard = [];
        new MutationObserver(() => {
            const word = document.querySelector('#transcript .now');
            if (word) heard.push([Number(word.dataset.start), document.getElementById('audio').currentTime]);
        }).observe(document.getElementById('transcript'), {subtree: true, attributeFilter: ['class']});
    """)
    page.locator("#transcript [data-start]").nth(1).click()  # it plays from there
    until(page, "new Set(heard.map(([start]) => start)).size >= 5")
    heard = list(dropwhile(lambda each: each[0] == starts[-1], page.evaluate("heard")))  # from the click on
    assert all(start <= at for start, at in heard)
    assert [start for start, _ in heard] == sorted(start for start, _ in heard)

    for form in ("txt", "srt", "vtt"):
        with page.expect_download() as download:
            page.get_by_role("link", name=f"Download {form.upper()}").click()
        assert download.value.suggested_filename == f"voice-message.{form}"
        assert Path(download.value.path()).read_text() == transcript.render(form)


def test_a_recorded_message_is_transcribed_and_played_in_the_tab_that_recorded_it(visit):
    page = visit(permissions=["microphone"])

    page.get_by_role("button", name="Record").click()
    expect(page.locator("#recorded")).to_have_text(re.compile("0:0[3-9]"))
    page.get_by_role("button", name="Stop and send").click()

    job_id = job_of(page)
    expect(state(page)).to_have_text("Done")
    expect(page.locator("#transcript .words").first).to_contain_text(re.compile("[a-z]{4}"))
    assert page.locator("#audio").get_attribute("src").startswith("blob:")
    until(page, "document.getElementById('audio').readyState >= 2")
    assert jobs.get(job_id).audio.codec == "opus"


def test_an_upload_from_elsewhere_is_played_as_long_as_it_is_stored(visit, backend):
    source = backend.upload(SAMPLE.read_bytes())
    job = backend.send(source, language="en", word_timestamps=True, enrich=False)
    backend.wait(job.id, timeout=60)

    page = visit(f"/page/jobs/{job.id}")
    page.evaluate("document.getElementById('audio').currentTime = 5")
    until(page, "document.querySelector('#transcript .now')")
    assert 9 < page.evaluate("document.getElementById('audio').duration") < 10

    audio.delete_upload(source)
    page.reload()
    expect(page.locator("#player")).to_contain_text("no longer stored")
    assert not page.locator("#audio").count()


def test_a_dead_letter_has_a_remedy_and_can_be_retried_until_it_is_done(visit, media, backend):
    job_id = backend.wait(backend.send("late.ogg", language="en").id, timeout=60).id
    page = visit()
    page.get_by_role("link", name="Dead letters").click()
    letter = page.locator("li", has=page.locator(f'a[href="/page/jobs/{job_id}"]'))
    expect(letter).to_contain_text("source_not_found")
    expect(letter).to_contain_text("use the same MEDIA_ROOT")

    shutil.copy(SAMPLE, media / "late.ogg")
    letter.get_by_role("button", name="Retry").click()

    assert job_of(page) == job_id
    expect(state(page)).to_have_text("Done")
    page.go_back()
    expect(page.locator("h1")).to_have_text("Dead letters")
    expect(letter).to_have_count(0)


def test_a_file_dropped_on_the_page_is_sent(visit):
    page = visit()
    data = base64.b64encode(SAMPLE.read_bytes()).decode()
    dropped = page.evaluate_handle(
        """data => {
            const bytes = Uint8Array.from(atob(data), char => char.charCodeAt(0));
            const dropped = new DataTransfer();
            dropped.items.add(new File([bytes], 'dropped.ogg', {type: 'audio/ogg'}));
            return dropped;
        }""",
        data,
    )
    for event in ("dragenter", "dragover"):
        page.dispatch_event("body", event, {"dataTransfer": dropped})
    expect(page.locator("#drop")).to_have_class("drop over")

    page.dispatch_event("body", "drop", {"dataTransfer": dropped})

    assert jobs.get(job_of(page)).metadata == {"filename": "dropped.ogg"}


def test_the_progress_of_a_stage_is_shown_live(visit):
    jobs.create("half", "voice.ogg", Options())
    jobs.begin("half", "transcribe", "vm:1")  # by no worker: none has a message for it
    page = visit("/page/jobs/half")
    expect(page.locator(".steps .transcribe")).to_contain_text("in progress")

    jobs.progress("half", "transcribe", 3, 12)

    bar = page.get_by_role("progressbar", name="Transcribe")
    expect(bar).to_be_visible()
    assert bar.evaluate("bar => [bar.value, bar.max]") == [3, 12]
    jobs.cancel("half")


def test_a_long_transcript_scrolls_with_the_player_and_is_played_from_the_keyboard(visit):
    long = jobs_transcript()["segments"][0]
    segments = [long | {"start": second, "end": second + 1} for second in range(9)]
    for second, segment in enumerate(segments):
        segment["words"] = [
            {"start": second + n / 40, "end": second + n / 40, "word": " wordy", "probability": 1.0} for n in range(40)
        ]
    jobs.create("along", audio.upload(SAMPLE.read_bytes()), Options())
    results = {
        "audio": {"duration": 9.4, "container": "ogg"},
        "transcript": jobs_transcript() | {"segments": segments},
    }
    jobs.finish("along", "decode", results, through="transcribe", following=None)
    page = visit("/page/jobs/along", viewport={"width": 360, "height": 400})
    last = page.get_by_role("button", name="Play from 0:08")
    assert not last.evaluate("button => button.getBoundingClientRect().top < innerHeight")

    page.get_by_role("button", name="Play from 0:05").focus()
    before = page.evaluate("scrollY")
    page.keyboard.press("Enter")

    until(page, "document.getElementById('audio').currentTime > 5")
    until(page, f"scrollY > {before} && document.querySelector('.now').getBoundingClientRect().top < innerHeight")


def test_the_overview_is_live(visit, backend):
    page = visit()
    expect(page.locator(".stage .workers summary")).to_have_count(3)
    page.evaluate("window.same = true")
    page.locator(".transcribe .workers summary").click()

    job_id = backend.send_file(SAMPLE.read_bytes(), "live.ogg", language="en").id

    row = page.locator(f"#row-{job_id}")
    expect(row).to_contain_text("Done")
    expect(row).to_contain_text(SUMMARY["title"])
    assert int(page.locator(".stage.transcribe .rate strong").inner_text()) >= 1
    assert page.evaluate("window.same")
    assert page.locator(".transcribe .workers").get_attribute("open") is not None


def test_a_page_that_was_left_during_an_update_is_not_updated_again(visit):
    job_id = made("left", jobs_transcript())
    page = visit()
    held, asked = [], []
    page.route("**/page", lambda route, _: held.append(route))
    page.on("request", lambda request: asked.append(request.url))
    with page.expect_request("**/page"):
        pass  # its timer has fired, and the answer is held back

    page.locator(f"#row-{job_id} a").click()
    expect(page.locator("h1")).to_have_text(job_id)
    with page.expect_response("**/page"):
        held[0].continue_()
    page.evaluate("new Promise(done => setTimeout(done, 500))")

    assert len([url for url in asked if url.endswith(f"/page/jobs/{job_id}")]) == 1


def test_a_job_that_is_deleted_while_it_is_shown_is_reported_as_unknown(browser, server):
    jobs.create("watched", "voice.ogg", Options())
    page = browser.new_context(base_url=server, locale="en-US").new_page()
    page.goto("/page/jobs/watched")
    expect(state(page)).to_have_text("Queued")

    jobs.delete("watched")

    expect(page.locator("h1")).to_contain_text("No job has this id")
    page.context.close()


def test_a_page_says_that_it_is_not_live_while_the_server_is_away_and_recovers(browser, backend):
    jobs.create("outlives", "voice.ogg", Options())
    app = create_app(Settings(), backend)
    with served(app) as url:
        context = browser.new_context(base_url=url, locale="en-US")
        pages = [context.new_page(), context.new_page()]
        for page, path in zip(pages, ("/page", "/page/jobs/outlives"), strict=True):
            page.goto(path)
            page.wait_for_selector("html.scripted")

        context.set_offline(True)
        app.state.voicemill.stopping.set()  # otherwise the stream of events continues
        for page in pages:
            expect(page.locator("#lost")).to_be_visible()
        jobs.cancel("outlives")
        app.state.voicemill.stopping.clear()
        context.set_offline(False)

        expect(pages[0].locator("#row-outlives")).to_contain_text("Cancelled")
        expect(state(pages[1])).to_have_text("Cancelled")
        for page in pages:
            expect(page.locator("#lost")).to_be_hidden()
        context.close()


def test_a_recording_that_is_unavailable_for_a_while_is_not_called_unplayable(browser, server, backend):
    job = backend.send_file(SAMPLE.read_bytes(), language="en", enrich=False)
    backend.wait(job.id, timeout=60)
    asked = []

    def answer(route):
        asked.append(route)
        return route.fulfill(status=503) if len(asked) <= 2 else route.continue_()

    context = browser.new_context(base_url=server, locale="en-US")
    page = context.new_page()
    page.route("**/audio", answer)
    page.goto(f"/page/jobs/{job.id}")

    until(page, "document.getElementById('audio').readyState >= 1")
    assert len(asked) > 2
    expect(page.locator("#note")).to_be_hidden()
    context.close()


def test_a_job_can_be_cancelled_and_deleted_without_a_trace(visit):
    job_id = "waits-for-nobody"
    jobs.create(job_id, "voice.ogg", Options())
    page = visit(f"/page/jobs/{job_id}")
    page.get_by_role("button", name="Cancel").click()
    expect(state(page)).to_have_text("Cancelled")

    page.locator("#danger summary").click()
    page.get_by_role("button", name="Delete permanently").click()

    page.wait_for_url("**/page")
    expect(page.locator(f"#row-{job_id}")).to_have_count(0)
    with pytest.raises(UnknownJob):
        jobs.get(job_id)


def test_hostile_texts_are_shown_and_never_run(visit):
    word = {"start": 0.1, "end": 0.9, "word": f" {HOSTILE}", "probability": 0.9}
    segment = {"start": 0, "end": 1, "text": HOSTILE, "avg_logprob": -0.1, "no_speech_prob": 0.0}
    transcript = {
        "text": HOSTILE,
        "language": '"><script>pwned=1</script>',
        "no_speech": False,
        "segments": [segment | {"words": [word]}, segment | {"start": 1, "end": 2}],
    }
    enrichment = {"title": HOSTILE, "summary": HOSTILE, "topics": [HOSTILE, {HOSTILE: [HOSTILE]}], HOSTILE: HOSTILE}
    enrichment |= {"action_items": [HOSTILE, {"task": HOSTILE, "owner": HOSTILE}], "urgency": HOSTILE, "model": HOSTILE}
    metadata = {"filename": f"{HOSTILE}.ogg", HOSTILE: [{HOSTILE: HOSTILE}], "items": 7, "</script>": "]]>"}
    job_id = made("hostile", transcript, enrichment, metadata=metadata)
    jobs.create("hostile-failed", f"https://x.example/{HOSTILE}", Options(metadata=metadata))
    jobs.fail("hostile-failed", "decode", JobError(ErrorCode.UNDECODABLE, HOSTILE))

    for path, least in ((f"/page/jobs/{job_id}", 12), ("/page/jobs/hostile-failed", 3), ("/page", 3)):
        page = visit(path)
        expect(page.locator("body")).to_contain_text(HOSTILE)
        assert page.locator("body").inner_text().count("<script>pwned=1</script>") >= least
        assert page.locator("main script, main img, main [onerror]").count() == 0
        assert page.evaluate("typeof pwned") == "undefined"
    links = page.evaluate("[...document.querySelectorAll('main a')].map(link => new URL(link.href).origin)")
    assert set(links) == {page.evaluate("location.origin")}


def test_a_hostile_file_name_stays_text_from_the_upload_to_the_dead_letters(visit, tmp_path):
    letter = tmp_path / "<img src=x onerror=pwned=1>.ogg"
    letter.write_text("This is a letter and not a recording. " * 50)
    page = visit()
    page.set_input_files("#file", letter)

    job_id = job_of(page)
    expect(state(page)).to_have_text("Failed")
    expect(page.locator("h1")).to_have_text(letter.name)
    expect(page.locator(".trouble")).to_contain_text("undecodable")
    page.get_by_role("link", name="Dead letters").click()
    expect(page.locator(f'a[href="/page/jobs/{job_id}"]')).to_have_text(letter.name)
    assert page.evaluate("typeof pwned") == "undefined"


def test_injected_scripts_are_blocked_by_the_policy(browser, server):
    page = browser.new_context(base_url=server).new_page()
    refused = []
    page.on("console", lambda line: refused.append(line.text))
    page.goto("/page")

    page.evaluate("""
        window.violated = [];
        document.addEventListener('securitypolicyviolation', event => violated.push(event.violatedDirective));
        document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="window.pwned=1"><p style="color:red">');
        document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.pwned=1'}));
        document.body.append(Object.assign(document.createElement('script'), {src: 'https://cdn.example/x.js'}));
    """)
    until(page, "new Set(violated).size >= 3")

    assert page.evaluate("typeof pwned") == "undefined"
    page.context.close()


def test_a_form_on_another_site_changes_nothing(browser, server):
    job_id = "kept"
    jobs.create(job_id, "voice.ogg", Options())
    page = browser.new_context().new_page()
    form = f'<form method="post" action="{server}/page/jobs/{job_id}/delete"><button>win a prize</button></form>'
    page.route("http://prizes.test/", lambda route: route.fulfill(body=form, content_type="text/html"))
    page.goto("http://prizes.test/")

    with page.expect_response("**/delete") as answer:
        page.get_by_role("button").click()

    assert answer.value.status == 403
    assert jobs.get(job_id).status == "queued"
    page.context.close()


def test_the_dashboard_works_without_scripts(browser, server):
    page = browser.new_context(base_url=server, java_script_enabled=False, locale="en-US").new_page()
    page.goto("/page")
    page.set_input_files("#file", SAMPLE)
    page.get_by_role("button", name="Send", exact=True).click()

    job = jobs.wait(job_of(page), timeout=60)

    page.reload()
    expect(state(page)).to_have_text("Done")
    expect(page.locator("#transcript")).to_contain_text(job.transcript.segments[0].text.strip())
    expect(page.locator("#audio")).to_have_attribute("src", f"/jobs/{job.id}/audio")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d .* UTC", page.locator("#head time").inner_text())
    page.locator("button[name=theme]").click()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    page.context.close()


def test_the_dashboard_can_be_used_by_keyboard_alone(visit):
    job_id = made("keyboard", jobs_transcript())
    page = visit()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    focused = []
    for _ in range(60):
        name = page.evaluate("document.activeElement.id || document.activeElement.getAttribute('href')")
        focused.append(name)
        if name == f"/page/jobs/{job_id}":
            break
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none" or name == "file"
        page.keyboard.press("Tab")
    assert {"file", "record", "option-language"} < set(focused)
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("keyboard")
    assert page.evaluate("document.activeElement.id") == "main"


def jobs_transcript():
    words = [
        {"start": number, "end": number + 0.5, "word": f" word{number}", "probability": 0.4} for number in range(9)
    ]
    segment = {"start": 0, "end": 9, "text": "words", "words": words, "avg_logprob": -0.1, "no_speech_prob": 0.0}
    return {"text": "words", "language": "en", "no_speech": False, "segments": [segment], "model": "m", "device": "cpu"}


@pytest.mark.parametrize(("scheme", "locale"), [("light", "en-US"), ("dark", "ko-KR")])
def test_every_page_is_accessible_and_fits_on_a_phone(visit, backend, scheme, locale):
    done = backend.send_file(SAMPLE.read_bytes(), "a" * 190, word_timestamps=True)
    backend.wait(done.id, timeout=60)
    made(
        "long", jobs_transcript() | {"text": "x" * 400}, {"title": "y" * 150, "model": "z" * 90}, metadata={"k" * 99: 1}
    )
    backend.wait(backend.send("missing-" + "m" * 120).id, timeout=60)
    jobs.create("new", "voice.ogg", Options())

    page = visit(color_scheme=scheme, locale=locale)
    for path in ("/page", f"/page/jobs/{done.id}", "/page/jobs/long", "/page/jobs/new", "/page/dead", "/page/sign-in"):
        for size in (DESK, PHONE):
            page.set_viewport_size(size)
            page.goto(path)
            page.wait_for_selector("html.scripted")
            assert faults(page) == [], f"{path} at {size} in {scheme}"
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], f"{path} at {size}"


def test_colours_change_at_once_and_are_kept(visit):
    page = visit(color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)

    with page.expect_response("**/page/preferences"):
        page.get_by_role("button", name="Colours").click()

    assert page.evaluate(ground) != light
    page.reload()
    assert page.locator("html").get_attribute("data-theme") == "dark"


def test_a_korean_browser_gets_korean_pages_and_the_reader_can_switch(visit):
    page = visit(locale="ko-KR")
    expect(page.locator("html")).to_have_attribute("lang", "ko")
    expect(page.locator(".stage.transcribe h2")).to_have_text("받아쓰기")
    expect(page.locator("#option-language option[value=ko]")).to_have_text("한국어")
    assert faults(page) == []

    page.get_by_role("link", name="실패한 메시지").click()
    expect(page.locator("h1")).to_have_text("실패한 메시지")
    page.get_by_role("button", name="English").click()

    expect(page.locator("h1")).to_have_text("Dead letters")
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_only_a_valid_key_signs_in_until_it_is_signed_out(browser, locked):
    url, key = locked
    jobs.create("secret", "voice.ogg", Options(metadata={"filename": "secret.ogg"}))
    context = browser.new_context(base_url=url, viewport=PHONE, locale="en-US")
    page = context.new_page()

    page.goto("/page/jobs/secret")
    expect(page.locator("h1")).to_have_text("Sign in")
    for name in ("/page", "/page/jobs/secret", "/page/dead", "/jobs/secret/audio"):
        assert "secret.ogg" not in context.request.get(name).text()
    for name in ("/page/jobs/secret/delete", "/page/jobs/secret/cancel", "/page/dead/decode/secret/retry"):
        context.request.post(name)
    assert jobs.get("secret").status == "queued"

    page.get_by_label("API key").fill("vm_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("not in API_KEYS")
    assert faults(page) == []
    assert context.cookies() == []

    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("secret.ogg")
    (cookie,) = context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["value"]) == (True, "Strict", key)
    assert page.evaluate("document.cookie") == ""

    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("h1")).to_have_text("Sign in")
    page.goto("/page")
    expect(page.locator("h1")).to_have_text("Sign in")
    assert context.cookies() == []
    context.close()


def test_a_page_whose_key_is_withdrawn_leads_to_the_sign_in_form(browser, locked):
    url, key = locked
    page = browser.new_context(base_url=url, locale="en-US").new_page()
    page.goto("/page")
    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")
    expect(page.locator(".stage")).to_have_count(3)

    page.context.clear_cookies()

    expect(page.locator("h1")).to_have_text("Sign in")
    assert page.url.endswith("/page/sign-in?next=/page")
    page.context.close()
