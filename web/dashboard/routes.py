"""The dashboard's URLs: a GET shows a page, a form changes something and leads to a page."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from voicemill import SystemStatus
from voicemill.lifecycle import STAGES, Status
from voicemill.store import Store
from web import auth, forms
from web.dashboard import audio, options_form, rates, respond, views
from web.dashboard import language as texts
from web.dashboard.route_classes import PrivateRoute, PublicRoute
from web.problems import Problem
from web.state import state_of

SHOWN = 100  # dead letters on a page, the last ones

router = APIRouter(include_in_schema=False)
_private, _public = APIRouter(route_class=PrivateRoute), APIRouter(route_class=PublicRoute)


# Pages


@router.get("/")
def home() -> Response:
    """Redirect to the overview."""
    return respond.redirect("/page")


@_private.get("/page")
def overview(request: Request) -> Response:
    """Show the stages as they are now, the newest messages, and the form that sends one."""
    client = state_of(request).client
    now = client.status()
    return _page(
        request,
        "overview.html",
        status=now,
        rates=rates.read(client.store.jobs),
        rows=views.recent(client.store.jobs),
        fields=options_form.FIELDS,
        dead_count=_dead_count(now),
    )


@_private.get("/page/jobs/{job_id}")
def job_page(request: Request, job_id: str) -> Response:
    """Show one job: its transcript beside its recording, its summary, and how its time was spent."""
    store = _store(request)
    job = store.jobs.get(job_id)
    recording = audio.find(store, job)
    name = views.name_of(job.id, job.source, job.metadata)
    failed_in = job.error.stage if job.error and job.status == Status.FAILED else None
    return _page(
        request,
        "job.html",
        job=job,
        title=views.title_of(job),
        name=name,
        stem=views.stem(name),
        steps={stage: views.step(job, stage) for stage in STAGES},
        timeline=views.timeline(job),
        speed=views.speed(job),
        audio_url=f"/jobs/{job.id}/audio" if recording else None,
        letter=store.queues.dead_letter(failed_in, job.id) if failed_in else None,
    )


@_private.get("/page/dead")
def dead(request: Request) -> Response:
    """Show the messages whose work failed for good, the last ones first."""
    store = _store(request)
    letters = store.queues.last_dead_letters(SHOWN)
    names = views.names(store.jobs, [letter.job_id for letter in letters])
    return _page(request, "dead.html", letters=letters, names=names)


@_private.get("/jobs/{job_id}/audio")
def recording(request: Request, job_id: str) -> Response:
    """Return a job's recording, or a range of it, as long as the handoff store has it."""
    store = _store(request)
    found = audio.find(store, store.jobs.get(job_id))
    if found is None:
        return Response(status_code=404, headers=respond.HEADERS)
    headers = respond.HEADERS | {"Content-Security-Policy": "default-src 'none'; sandbox", "Accept-Ranges": "bytes"}
    if found.media_type == audio.UNKNOWN:
        headers["Content-Disposition"] = "attachment"
    try:
        wanted = audio.part(request.headers.get("range"), found.size)
    except ValueError:
        return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{found.size}"})
    if wanted is None:
        if found.size is not None:
            headers["Content-Length"] = str(found.size)
        return StreamingResponse(found.chunks, 200, headers, found.media_type)
    first, last = wanted
    headers |= {"Content-Range": f"bytes {first}-{last}/{found.size}", "Content-Length": str(last - first + 1)}
    return StreamingResponse(audio.cut(found.chunks, first, last), 206, headers, found.media_type)


@router.get("/page/static/{version}/{name}")
def static(version: str, name: str) -> Response:
    """Return a style sheet, script or picture."""
    return respond.static(version, name)


# Forms that change something


@_private.post("/page/jobs")
async def send(request: Request) -> Response:
    """Send an uploaded recording, and lead to its job."""
    async with forms.received(request) as form:
        if form.file is None or not form.file.filename:
            raise Problem(400, "invalid_request", respond.texts_of(request)["send"]["nothing"])
        job = await forms.send_file(request, form.file, options_form.read(form), filename=form.file.filename)
    return respond.redirect(f"/page/jobs/{job.id}")


@_private.post("/page/jobs/{job_id}/cancel")
def cancel(request: Request, job_id: str) -> Response:
    """Cancel a job, and lead to it."""
    _store(request).jobs.cancel(job_id)
    return respond.redirect(f"/page/jobs/{job_id}")


@_private.post("/page/jobs/{job_id}/delete")
def delete(request: Request, job_id: str) -> Response:
    """Remove every trace of a job."""
    _store(request).jobs.delete(job_id)
    return respond.redirect("/page")


@_private.post("/page/dead/{stage}/{job_id}/retry")
def retry(request: Request, stage: str, job_id: str) -> Response:
    """Retry a failed job, and lead to it."""
    queues = _store(request).queues
    letter = queues.dead_letter(stage, job_id)
    if letter is None or queues.retry(letter) is None:
        return respond.message(request, respond.texts_of(request)["dead"]["gone"], code=404)
    return respond.redirect(f"/page/jobs/{job_id}")


# Signing in, and the reader's preferences


@router.get("/page/sign-in")
def sign_in_form(request: Request, next: str = "/page") -> Response:  # noqa: A002 - the name in the address
    """Show the form that takes a key."""
    return respond.page(request, "sign_in.html", signed_in=False, next=respond.local(next), wrong=None)


@_public.post("/page/sign-in")
async def sign_in(request: Request) -> Response:
    """Keep a valid key in a cookie."""
    async with forms.received(request) as form:
        key, forward = (form.one("key") or "").strip(), respond.local(form.one("next"))
    if auth.match(state_of(request).keys, key) is None:
        wrong = respond.texts_of(request)["key_wrong"]
        return respond.page(request, "sign_in.html", code=403, signed_in=False, next=forward, wrong=wrong)
    answer = respond.redirect(forward)  # the cookie lasts until the browser is closed
    secure = request.url.scheme == "https"
    answer.set_cookie(auth.COOKIE, key, httponly=True, samesite="strict", secure=secure)
    return answer


@_public.post("/page/sign-out")
def sign_out() -> Response:
    """Remove the key's cookie."""
    answer = respond.redirect("/page/sign-in")
    answer.delete_cookie(auth.COOKIE, httponly=True, samesite="strict")
    return answer


@_public.post("/page/preferences")
async def preferences(request: Request) -> Response:
    """Keep the reader's language and colours in cookies."""
    async with forms.received(request) as form:
        language, theme, back = (form.one(name) for name in ("language", "theme", "back"))
    answer = respond.redirect(respond.local(back))
    for cookie, value, known in (
        (respond.LANGUAGE_COOKIE, language, texts.LANGUAGES),
        (respond.THEME_COOKIE, theme, (*respond.THEMES, "auto")),
    ):
        if value in known:
            answer.set_cookie(cookie, str(value), max_age=respond.YEAR, httponly=True, samesite="lax")
    return answer


router.include_router(_public)
router.include_router(_private)


def _store(request: Request) -> Store:
    return state_of(request).client.store


def _dead_count(now: SystemStatus) -> int:
    return now.webhooks.depth.dead + sum(stage.depth.dead for stage in now.stages.values())


def _page(request: Request, template: str, **values: Any) -> Response:
    if "dead_count" not in values:
        values["dead_count"] = sum(depth.dead for depth in _store(request).queues.depths().values())
    return respond.page(request, template, can_sign_out=auth.COOKIE in request.cookies, **values)
