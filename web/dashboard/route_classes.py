"""What each address of the page does before and after its own work: keys, foreign forms, failures told in a page."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import quote

import redis
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from voicemill.errors import JobError, Refused, UnknownJob
from web import keys, limits, problems
from web.page import respond
from web.page.language import Texts
from web.problems import Problem

EXPECTED = (Problem, JobError, Refused, UnknownJob, redis.RedisError, HTTPException)


class Door(APIRoute):
    """A route that needs no key; it refuses forms of other sites all the same, and says in a page what went wrong."""

    needs_key = False

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            said = respond.texts_of(request)
            changes = request.method not in keys.SAFE
            caller = keys.identify(request)
            if (changes and not keys.same_origin(request)) or (caller is None and request.app.state.open):
                return respond.message(request, said["foreign"], code=403, signed_in=False)
            if self.needs_key and caller is None:
                wanted = "/page" if changes else request.url.path
                return respond.away(f"/page/sign-in?next={quote(wanted)}")
            try:
                if changes and caller is not None:
                    request.scope["voicemill.caller"] = caller.name
                    await limits.demand_rate(request, caller.name)
                return await handle(request)
            except EXPECTED as error:
                code, text = _told(error, said)
                again = isinstance(error, redis.RedisError) and not changes
                return respond.message(request, text, code=code, again=again, signed_in=caller is not None)

        return guarded


class Page(Door):
    """A route that needs a key; who has none is led to the sign-in form."""

    needs_key = True


def _told(error: Exception, said: Texts) -> tuple[int, str]:
    """Return HTTP's status and the sentence that a failure is to the reader."""
    if isinstance(error, UnknownJob):
        return 404, said["no_job"]
    if isinstance(error, redis.RedisError):
        return 503, said["unavailable"]
    code, reason = 400, str(error)
    if isinstance(error, JobError | Refused):
        code = problems.of_job(error.code, "").status
    elif isinstance(error, Problem):
        code, reason = error.status, error.message
    elif isinstance(error, HTTPException):  # Starlette's, of a form that cannot be read
        code, reason = error.status_code, str(error.detail)
    return code, said["failed_request"].format(reason=reason)
