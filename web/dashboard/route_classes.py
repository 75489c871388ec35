"""What every page of the dashboard does around its own work: check the key, reject foreign forms, show errors."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import quote

import redis
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from voicemill import JobError, UnknownJob
from web import auth, problems
from web.dashboard import respond
from web.dashboard.language import Texts
from web.problems import Problem
from web.state import state_of

EXPECTED = (Problem, JobError, UnknownJob, redis.RedisError, HTTPException)


class PublicRoute(APIRoute):
    """A route that needs no key. It rejects forms of other sites all the same, and shows errors as pages."""

    needs_key = False

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of a request."""
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            texts = respond.texts_of(request)
            changes = request.method not in auth.SAFE
            caller = auth.identify(request)
            if (changes and not auth.same_origin(request)) or (caller is None and state_of(request).open):
                return respond.message(request, texts["foreign"], code=403, signed_in=False)
            if self.needs_key and caller is None:
                wanted = "/page" if changes else request.url.path
                return respond.redirect(f"/page/sign-in?next={quote(wanted)}")
            try:
                if changes and caller is not None:
                    await auth.count(request, caller)
                return await handle(request)
            except EXPECTED as error:
                code, text = _explained(error, texts)
                reload = isinstance(error, redis.RedisError) and not changes
                return respond.message(request, text, code=code, reload=reload, signed_in=caller is not None)

        return guarded


class PrivateRoute(PublicRoute):
    """A route that needs a key: readers without one are sent to the sign-in form."""

    needs_key = True


def _explained(error: Exception, texts: Texts) -> tuple[int, str]:
    """Return HTTP's status for an error, and the sentence that explains it to the reader."""
    if isinstance(error, UnknownJob):
        return 404, texts["no_job"]
    if isinstance(error, redis.RedisError):
        return 503, texts["unavailable"]
    code, reason = 400, str(error)
    if isinstance(error, JobError):
        code, reason = problems.status_of(error.code, retryable=error.code.retryable), error.advice
    elif isinstance(error, Problem):
        code, reason = error.status, error.message
    elif isinstance(error, HTTPException):  # Starlette's: the form is malformed
        code, reason = error.status_code, str(error.detail)
    return code, texts["failed_request"].format(reason=reason)
