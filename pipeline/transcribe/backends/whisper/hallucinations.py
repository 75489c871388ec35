"""Phrases that Whisper writes where nobody speaks: credits of the subtitles that it was trained on.

Such a phrase is dropped only when the model's own probabilities say that there may be no speech, since people do say
"thank you".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.transcribe.backends.whisper.quality import Draft

DOUBTFUL = 0.3  # no-speech probability above which a known phrase is dropped
IMPROBABLE = -0.5  # mean log-probability below which it is dropped too
_PUNCTUATION = re.compile(r"[^\w\s]+")

# Whole texts, lower case, without punctuation; collected from the public trackers of Whisper and faster-whisper.
PHRASES = frozenset(
    {
        "you",
        "bye",
        "thank you",
        "thank you very much",
        "thank you so much",
        "thank you for watching",
        "thank you for watching this video",
        "thank you so much for watching",
        "thank you very much for watching",
        "thanks for watching",
        "thank you for listening",
        "please subscribe",
        "please subscribe to my channel",
        "please like and subscribe",
        "subscribe to my channel",
        "see you in the next video",
        "ill see you in the next video",
        "i will see you in the next video",
        "subtitles by the amaraorg community",
        "transcribed by httpsotterai",
        "transcription by castingwords",
        "untertitel der amaraorgcommunity",
        "untertitelung des zdf 2020",
        "untertitelung im auftrag des zdf für funk 2017",
        "vielen dank fürs zuschauen",
        "soustitres réalisés para la communauté damaraorg",
        "merci davoir regardé cette vidéo",
        "subtítulos realizados por la comunidad de amaraorg",
        "gracias por ver el video",
        "sottotitoli creati dalla comunità amaraorg",
        "legendas pela comunidade amaraorg",
        "ondertitels ingediend door de amaraorg gemeenschap",
        "napisy stworzone przez społeczność amaraorg",
        "продолжение следует",
        "субтитры сделал dimatorzok",
        "субтитры создавал dimatorzok",
        "спасибо за просмотр",
        "ご視聴ありがとうございました",
        "請不吝點贊訂閱轉發打賞支持明鏡與點點欄目",
        "字幕由amaraorg社区提供",
        "시청해주셔서 감사합니다",
        "구독과 좋아요 부탁드립니다",
        "mbc 뉴스 이덕영입니다",
    }
)


def hallucinated(draft: Draft) -> bool:
    """Return whether the whole text is one of the phrases and the model is unsure of it or of hearing speech."""
    text = " ".join(_PUNCTUATION.sub("", draft.text.lower()).split())
    return text in PHRASES and (draft.no_speech_prob > DOUBTFUL or draft.avg_logprob < IMPROBABLE)
