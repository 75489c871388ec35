"""Renders pages: templates that escape everything, under a policy that runs no foreign and no inline script."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from voicemill.lifecycle import STAGES
from web.dashboard import language, views

HERE = Path(__file__).parent
STATIC = {path.name: path.read_bytes() for path in sorted((HERE / "static").iterdir()) if path.is_file()}
VERSION = hashlib.sha256(b"".join(STATIC.values())).hexdigest()[:12]  # part of their URL: they are cached for ever
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

THEME_COOKIE, LANGUAGE_COOKIE = "voicemill_theme", "voicemill_language"
THEMES = ("light", "dark")
YEAR = 365 * 86400  # seconds

# blob: is for recordings that were dropped or recorded in this tab; they are never run as scripts.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # no-referrer would hide the Origin that is checked
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cache-Control": "no-store",
}


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


_templates = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {
    "iso": _iso,
    "utc": _utc,
    "clock": views.clock,
    "length_of": views.length,
    "size_of": views.size,
    "status_in": lambda status, texts: texts["status"].get(status, status),
}
_templates.globals |= {
    "static": f"/page/static/{VERSION}",
    "languages": language.LANGUAGES,
    "stages": STAGES,
    "named": lambda fields, name: views.named(fields, name, str),
    "named_list": lambda fields, name: views.named(fields, name, list),
    "extras": views.extras,
    "retryable": views.retryable,
    "DOUBTFUL": views.DOUBTFUL,
}


def language_of(request: Request) -> str:
    """Return the language of this reader."""
    return language.choose(request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language"))


def page(request: Request, template: str, *, code: int = 200, signed_in: bool = True, **values: Any) -> Response:
    """Return a rendered template.

    Args:
        request: the reader's.
        template: name of the file.
        code: HTTP's status.
        signed_in: whether the reader may see more than the sign-in form.
        values: what the template shows.
    """
    chosen = language_of(request)
    texts = language.TEXTS[chosen]
    theme = request.cookies.get(THEME_COOKIE, "")
    back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    common = {
        "t": texts,
        "language": chosen,
        "theme": theme if theme in THEMES else "",
        "back": back if request.method == "GET" else "/page",
        "here": template.removesuffix(".html"),
        "signed_in": signed_in,
        "can_sign_out": False,
        "dead_count": 0,
        "remedy": lambda code: language.remedy(chosen, code),
        "script_texts": {
            **{name: texts["send"][name] for name in ("sending", "sent", "refused", "nothing", "no_microphone")},
            **{name: texts["job"][name] for name in ("unplayable", "recording")},
            "recording_now": texts["send"]["recording"],
            **{name: texts[name] for name in ("failed_request", "theme", "theme_auto", "theme_dark", "theme_light")},
        },
    }
    body = _templates.get_template(template).render(common | values)
    return HTMLResponse(body, code, HEADERS | {"Content-Language": chosen, "Vary": "Cookie, Accept-Language"})


def message(request: Request, text: str, *, code: int, reload: bool = False, signed_in: bool = True) -> Response:
    """Return a page with one sentence; with `reload` the page reloads itself after a while."""
    return page(request, "message.html", code=code, message=text, reload=reload, signed_in=signed_in)


def texts_of(request: Request) -> language.Texts:
    """Return the texts in this reader's language."""
    return language.TEXTS[language_of(request)]


def redirect(path: str) -> RedirectResponse:
    """Return an answer that sends the browser to another page of ours, after a form too."""
    return RedirectResponse(path, 303, HEADERS)


def local(path: str | None) -> str:
    """Return a path that a form names if it is one of the dashboard's, otherwise the overview's."""
    address = urlsplit(path or "")
    ours = address.path == "/page" or address.path.startswith("/page/")
    return str(path) if ours and not address.scheme and not address.netloc and "\\" not in str(path) else "/page"


def static(version: str, name: str) -> Response:
    """Return a style sheet, script or picture; 404 if there is none of this name."""
    if name not in STATIC or version != VERSION:
        return Response(status_code=404, headers=HEADERS)
    headers = HEADERS | {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(STATIC[name], headers=headers, media_type=TYPES[Path(name).suffix])
