"""What tests and pictures of the dashboard share: a browser, a server on a free port, axe-core's verdict."""

import socket
import threading
from contextlib import contextmanager

import browsers
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
PATIENCE = 60_000  # milliseconds until something that should come counts as not coming


@contextmanager
def chromium(voice=None):
    """A browser without a window; its microphone hears the WAV file `voice`, over and over."""
    spoken = [
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={voice}",
    ]
    path = browsers.installed()
    assert path, browsers.MISSING
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS + (spoken if voice else []))
        yield browser
        browser.close()


@contextmanager
def served(app):
    """The address of an application that is served on loopback, by a thread of this process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def until(page, condition):
    """Wait for a condition in JavaScript. (Playwright's own wait needs `eval`, which the page's policy forbids.)"""
    page.evaluate(f"""async () => {{
        const end = Date.now() + {PATIENCE};
        while (!({condition})) {{
            if (Date.now() > end) throw new Error("it did not come true");
            await new Promise(resolve => setTimeout(resolve, 20));
        }}
    }}""")


def faults(page):
    """What axe-core calls serious or critical about a page: each fault with the elements that have it."""
    found = Axe().run(page).response["violations"]
    return [
        f"{fault['id']}: {node['html'][:160]} {node.get('failureSummary', '')[:300]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]
