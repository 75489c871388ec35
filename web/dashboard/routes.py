"""The live page's addresses: what is read is a page, what is done is a form that leads to one."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from actors import broker
from voicemill import status
from voicemill.lifecycle import STAGES
from voicemill.options import LANGUAGES
from web import intake, keys
from web.page import audio, rates, respond, views
from web.page import language as texts
from web.page.guard import Door, Page
from web.problems import Problem

SHOWN = 100  # dead letters on a page, the last ones


router = APIRouter(include_in_schema=False)
_pages, _doors = APIRouter(route_class=Page), APIRouter(route_class=Door)


# What is read


@router.get("/")
def home() -> Response:
    """Lead to the overview."""
    return respond.away("/page")


@_pages.get("/page")
def overview(request: Request) -> Response:
    """Show the stages as they are now, the latest messages, and the place to send one from."""
    now = status.read(store)
    return _page(
        request,
        "overview.html",
        status=now,
        rates=rates.read(),
        rows=views.recent(),
        spoken=sorted(LANGUAGES),
        dead_count=_dead_count(now),
    )


@_pages.get("/page/jobs/{job_id}")
def job_page(request: Request, job_id: str) -> Response:
    """Show one job: its words beside its sound, its summary, and where the seconds went."""
    job = store.jobs.get(job_id)
    recording = audio.find(job)
    name = views.name_of(job.id, job.source, job.metadata)
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
        letter=store.queues.dead_letter(job.error["stage"], job.id) if job.status == "failed" and job.error else None,
    )


@_pages.get("/page/dead")
def dead(request: Request) -> Response:
    """Show what failed for good, the last ones first."""
    letters = store.queues.last_dead_letters(SHOWN)
    names = views.names([letter.job_id for letter in letters])
    return _page(request, "dead.html", letters=letters, names=names)


@_pages.get("/jobs/{job_id}/audio")
def recording(request: Request, job_id: str) -> Response:
    """Return a job's recording, or a range of it, as long as the handoff store has it."""
    job = store.jobs.get(job_id)
    found = audio.find(job)
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
        return StreamingResponse(found.read(), 200, headers, found.media_type)
    first, last = wanted
    headers |= {"Content-Range": f"bytes {first}-{last}/{found.size}", "Content-Length": str(last - first + 1)}
    return StreamingResponse(audio.cut(found.read(), first, last), 206, headers, found.media_type)


@router.get("/page/static/{version}/{name}")
def static(version: str, name: str) -> Response:
    """Return a style sheet, script or picture."""
    return respond.static(version, name)


# What is done


@_pages.post("/page/jobs")
async def send(request: Request) -> Response:
    """Take a recording in, and lead to its job."""
    async with intake.received(request) as form:
        if form.file is None or not form.file.filename:
            raise Problem(400, "invalid_request", respond.texts_of(request)["send"]["nothing"])
        chosen = {
            "language": form.one("language") or None,
            "task": "translate" if form.one("translate") else "transcribe",
            "enrich": bool(form.one("enrich")),
            "word_timestamps": True,
            "metadata": {"filename": form.file.filename},
        }
        job_id = await intake.send_file(form.file, chosen)
    return respond.away(f"/page/jobs/{job_id}")


@_pages.post("/page/jobs/{job_id}/cancel")
def cancel(job_id: str) -> Response:
    """End a job as it is."""
    store.jobs.cancel(job_id)
    return respond.away(f"/page/jobs/{job_id}")


@_pages.post("/page/jobs/{job_id}/delete")
def delete(job_id: str) -> Response:
    """Remove every trace of a job."""
    store.jobs.delete(job_id)
    return respond.away("/page")


@_pages.post("/page/dead/{stage}/{job_id}/retry")
def retry(request: Request, stage: str, job_id: str) -> Response:
    """Try a failed job again, and lead to it."""
    letter = store.queues.dead_letter(stage, job_id)
    if letter is None or broker.enqueue_again(letter) is None:
        return respond.message(request, respond.texts_of(request)["dead"]["gone"], code=404)
    return respond.away(f"/page/jobs/{job_id}")


# Who reads, and how they like it


@router.get("/page/sign-in")
def sign_in_form(request: Request, next: str = "/page") -> Response:  # noqa: A002 - the name in the address
    """Show the form that takes a key."""
    return respond.page(request, "sign_in.html", signed_in=False, next=respond.local(next), wrong=None)


@_doors.post("/page/sign-in")
async def sign_in(request: Request) -> Response:
    """Keep a key in the browser, where it is one of ours."""
    async with intake.received(request) as form:
        key, forward = (form.one("key") or "").strip(), respond.local(form.one("next"))
    if keys.match(request.app.state.keys, key) is None:
        wrong = respond.texts_of(request)["key_wrong"]
        return respond.page(request, "sign_in.html", code=403, signed_in=False, next=forward, wrong=wrong)
    answer = respond.away(forward)  # the cookie is gone when the browser is closed
    secure = request.url.scheme == "https"
    answer.set_cookie(keys.COOKIE, key, httponly=True, samesite="strict", secure=secure)
    return answer


@_doors.post("/page/sign-out")
def sign_out() -> Response:
    """Forget the browser's key."""
    answer = respond.away("/page/sign-in")
    answer.delete_cookie(keys.COOKIE, httponly=True, samesite="strict")
    return answer


@_doors.post("/page/preferences")
async def preferences(request: Request) -> Response:
    """Keep the reader's language and colours."""
    async with intake.received(request) as form:
        language, theme, back = (form.one(name) for name in ("language", "theme", "back"))
    answer = respond.away(respond.local(back))
    for cookie, value, known in (
        (respond.LANGUAGE_COOKIE, language, texts.LANGUAGES),
        (respond.THEME_COOKIE, theme, (*respond.THEMES, "auto")),
    ):
        if value in known:
            answer.set_cookie(cookie, str(value), max_age=respond.YEAR, httponly=True, samesite="lax")
    return answer


router.include_router(_doors)
router.include_router(_pages)


def _dead_count(now: status.Status) -> int:
    return now.webhooks.depth.dead + sum(stage.depth.dead for stage in now.stages.values())


def _page(request: Request, template: str, **values: Any) -> Response:
    values.setdefault("dead_count", sum(depth.dead for depth in store.queues.depths().values()))
    return respond.page(request, template, can_sign_out=keys.COOKIE in request.cookies, **values)
