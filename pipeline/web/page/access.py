"""Who may see the page: whoever brings a key, in the cookie that the sign-in form sets."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from fastapi import Request, Response

COOKIE = "voicemill_key"


def may_read(request: Request) -> bool:
    """Tell whether the request brings a key, or needs none."""
    return bool(getattr(request.app.state, "open", False))  # closed until keys are known


def has_cookie(request: Request) -> bool:
    """Tell whether there is something to sign out of."""
    return COOKIE in request.cookies


def sign_in_path(request: Request) -> str:
    """Return the address of the sign-in form that leads back to where the request wanted to go."""
    wanted = request.url.path if request.method == "GET" else "/page"
    return f"/page/sign-in?next={quote(wanted)}"


def same_origin(request: Request) -> bool:
    """Tell whether a form was sent by a page of ours.

    Browsers say where a request comes from in `Sec-Fetch-Site`, and older ones in `Origin`; what has neither is no
    browser, and brings no cookie unasked.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def refusal(_request: Request, _key: str) -> tuple[int, str] | None:
    """Return why a key is not taken: HTTP's code, and the name of the text that says so. None: it is one of ours."""
    return 403, "key_wrong"


def remember(request: Request, answer: Response, key: str) -> None:
    """Have the browser keep a key where no script and no other site reaches it, until it is closed."""
    answer.set_cookie(COOKIE, key, httponly=True, samesite="strict", secure=request.url.scheme == "https")
