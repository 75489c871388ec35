"""Put words and segments on the clock: from the VAD where one stretch of speech says all, else by cross-attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.transcribe.transcript import Segment

if TYPE_CHECKING:
    from pipeline.transcribe.guard import Draft
    from pipeline.transcribe.window import Window


def segments(window: Window, draft: Draft) -> tuple[Segment, ...]:
    """Return the segments of a window on the message's clock."""
    if not draft.text:
        return ()
    start, end = window.speech[0][0], window.speech[-1][1]
    return (Segment(start, end, draft.text, draft.avg_logprob, draft.no_speech_prob),)
