"""Take the pictures of the live page in docs/screenshots: real stages, real messages, Debian's Chromium.

    python bench/screenshots.py [--minutes 3]

The messages are spoken by espeak-ng, which `make test` installs, and written down by the bundled model. Their summaries
come from the stand-in for Gemini of the tests, since pictures shall need no key. With Debian's packages fonts-inter and
fonts-noto-cjk the page looks as it does on most people's machines.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

PICTURES = ROOT / "docs" / "screenshots"
LARGEST = 150_000  # bytes of a picture
DESK, PHONE = {"width": 1180, "height": 860}, {"width": 360, "height": 760}
FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
<include>/etc/fonts/fonts.conf</include>
<alias binding="strong"><family>system-ui</family><prefer><family>Inter</family></prefer></alias>
<alias binding="strong"><family>sans-serif</family><prefer><family>Inter</family></prefer></alias>
</fontconfig>"""

# What is said, and what the stand-in makes of it, by a word that tells them apart.
MESSAGES = {
    "slides": (
        (
            "Good morning, this is Anna. Could we move the design review from Thursday to Friday at ten? "
            "Peter is still working on the slides, and he will send them to you before noon. "
            "Please tell the team in Berlin as well. Thank you, and see you on Friday."
        ),
        {
            "title": "Design review moves to Friday at ten",
            "summary": "Anna asks to move the design review from Thursday to Friday at ten, because Peter is still "
            "working on the slides. The team in Berlin needs to be told.",
            "topics": ["design review", "schedule", "slides"],
            "action_items": [
                {"task": "Send the slides", "owner": "Peter", "due": "today, noon"},
                {"task": "Tell the team in Berlin", "owner": None, "due": None},
            ],
            "sentiment": "positive",
            "urgency": "normal",
            "people": ["Anna", "Peter"],
            "places": ["Berlin"],
        },
    ),
    "heating": (
        (
            "Hello, the heating in the second floor meeting room has stopped again. "
            "It is fourteen degrees in there. Please send somebody today."
        ),
        {
            "title": "Heating on the second floor has failed",
            "summary": "The heating of the meeting room on the second floor has stopped again.",
            "topics": ["heating", "building"],
            "action_items": [{"task": "Send somebody to mend the heating", "owner": None, "due": "today"}],
            "sentiment": "negative",
            "urgency": "high",
            "people": [],
            "places": ["second floor"],
        },
    ),
    "invoice": (
        (
            "The invoice for September is wrong. We ordered twelve licences and paid for twenty. "
            "Could you send a corrected one this week?"
        ),
        {
            "title": "Invoice for September charges eight licences too many",
            "summary": "Twelve licences were ordered and twenty were charged; a corrected invoice is wanted.",
            "topics": ["invoice", "licences"],
            "action_items": [{"task": "Send a corrected invoice", "owner": None, "due": "this week"}],
            "sentiment": "negative",
            "urgency": "normal",
            "people": [],
            "places": [],
        },
    ),
    "garden": (
        "Just a short note to say thank you for the lovely evening in the garden. The children loved it.",
        {
            "title": "Thanks for the evening in the garden",
            "summary": "A thank-you for an evening that the children loved.",
            "topics": ["thanks"],
            "action_items": [],
            "sentiment": "positive",
            "urgency": "low",
            "people": [],
            "places": ["garden"],
        },
    ),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=3, help="how long messages come in before the pictures")
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "fonts.conf").write_text(FONTS)
        os.environ["FONTCONFIG_FILE"] = f"{folder}/fonts.conf"
        taken = take(Path(folder), minutes)
    sizes = {picture.name: picture.stat().st_size for picture in taken}
    for name, size in sizes.items():
        print(f"{size / 1000:6.1f} kB  {name}")
    large = [name for name, size in sizes.items() if size > LARGEST]
    print(f"{len(sizes)} pictures" if not large else f"larger than {LARGEST} bytes: {', '.join(large)}")
    return 1 if large else 0


def take(folder, minutes):
    """Run the stages, send messages for a while, and take the pictures."""
    import gemini_server
    from browser import chromium, served

    from cli.embedded import valkey
    from cli.supervisor import Supervisor, procfile
    from config.settings import Settings
    from voicemill import Client
    from voicemill.lifecycle import STAGES
    from web.app import create_app

    files = spoken(folder)
    with (
        valkey(folder / "redis", durable=False) as url,
        gemini_server.GeminiServer(decide=summary) as gemini,
        Client(url) as client,
    ):
        os.environ["REDIS_URL"] = url
        variables = dict(os.environ) | {
            "MEDIA_ROOT": str(folder),
            "WHISPER_MODEL": "bundled:tiny.en",
            "WHISPER_DEVICE": "cpu",
            "GEMINI_API_KEY": gemini_server.KEY,
            "GEMINI_ENDPOINT": gemini.url,
        }
        stages = {name: command for name, command in procfile().items() if name in STAGES}
        supervisor = Supervisor(stages, variables, lambda *_: None, 10)
        supervisor.start()
        try:
            best = send(client, files, minutes)
            with served(create_app(Settings(), client)) as door, chromium() as browser:
                return pictures(browser, door, best)
        finally:
            supervisor.stop()


def spoken(folder):
    """Record the messages as a messenger sends them, by their words."""
    files = {}
    for word, (text, _) in MESSAGES.items():
        wav, ogg = folder / f"{word}.wav", folder / f"{word}.ogg"
        subprocess.run(["espeak-ng", "-v", "en-us", "-s", "150", "-w", wav, text], check=True)
        subprocess.run(["ffmpeg", "-v", "error", "-i", wav, "-c:a", "libopus", "-b:a", "24k", ogg], check=True)
        files[word] = ogg
    return files


def summary(request):
    """Answer for Gemini."""
    import gemini_server

    text = str(request)
    for word, (said, document) in MESSAGES.items():
        if word in text:
            return gemini_server.answer(document | {"language": "en", "cleaned_text": said, "custom": []})
    return None


def send(client, files, minutes):
    """Send messages, now more and now fewer, and return the id of the one to look at."""
    uploads = {word: client.upload(path) for word, path in files.items()}
    end = time.monotonic() + 60 * minutes
    pauses = itertools.cycle((0.2, 0.3, 1.5, 0.4, 3.0, 0.2))
    for word in itertools.cycle(files):
        client.send(uploads[word], language="en", word_timestamps=True, metadata={"filename": f"{word}.ogg"})
        if time.monotonic() > end:
            break
        time.sleep(next(pauses))
    for source in ("inbox/2024-11-02.ogg", client.upload(b"%PDF-1.7 not a recording " * 40)):
        client.wait(client.send(source, metadata={"filename": "minutes.pdf"}).id, timeout=120)
    sent = [
        client.send(uploads[word], language="en", word_timestamps=True, metadata={"filename": f"{word}.ogg"}).id
        for word in ("invoice", "garden", "heating", "slides")
    ]
    for job_id in sent:
        client.wait(job_id, timeout=120)
    return sent[-1]


def pictures(browser, door, job_id):
    """Take each picture, and return their files."""
    views = [
        ("overview", "/page", DESK, "light", "en-US"),
        ("overview-dark", "/page", DESK, "dark", "en-US"),
        ("job", f"/page/jobs/{job_id}", DESK | {"height": 1100}, "light", "en-US"),
        ("job-dark-ko", f"/page/jobs/{job_id}", DESK, "dark", "ko-KR"),
        ("job-phone", f"/page/jobs/{job_id}", PHONE, "light", "en-US"),
        ("overview-phone-ko", "/page", PHONE, "dark", "ko-KR"),
        ("dead", "/page/dead", DESK | {"height": 520}, "light", "en-US"),
    ]
    PICTURES.mkdir(exist_ok=True)
    taken = []
    for name, path, size, scheme, locale in views:
        context = browser.new_context(viewport=size, color_scheme=scheme, locale=locale)
        page = context.new_page()
        page.goto(door + path)
        page.wait_for_selector("html.scripted")
        if "job" in name:
            page.evaluate("""() => new Promise(resolve => {
                const audio = document.getElementById('audio');
                audio.addEventListener('seeked', resolve, {once: true});
                audio.currentTime = 2.9;
            })""")
        taken.append(PICTURES / f"{name}.png")
        page.screenshot(path=taken[-1])
        context.close()
    return taken


if __name__ == "__main__":
    sys.exit(main())
