"""ffprobe's reports, FFmpeg's messages, samples and sources may contain anything; the result is always valid."""

import json
import math
import os
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.settings import Settings
from pipeline.decode import convert, levels, probe, reasons
from pipeline.decode.sources import fetch
from pipeline.network import pools
from voicemill.errors import ErrorCode, JobError

# To try each property on thousands of cases: FUZZ_CASES=10000 python -m pytest tests/unit/decode/test_reports.py
fuzzed = settings(
    max_examples=int(os.environ.get("FUZZ_CASES", "100")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)


def outcome(work):
    """Return what `work` returns, or the code of its JobError; any other exception fails the test."""
    try:
        return work()
    except JobError as error:
        return error.code


def report(*streams, **form):
    return json.dumps({"streams": streams, "format": {"format_name": "ogg", **form}}).encode()


def audio(codec="opus", **more):
    return {"codec_type": "audio", "codec_name": codec, "channels": 1, "sample_rate": "48000"} | more


def test_the_default_stream_is_taken():
    first, second = audio("aac", disposition={"default": 0}), audio("opus", disposition={"default": 1})
    assert probe.parse(report(first, {"codec_type": "video"}, second), None).stream == 1
    assert probe.parse(report(first, first), None).stream == 0


def test_a_stream_may_be_chosen():
    assert probe.parse(report(audio("aac"), audio("opus")), 1).codec == "opus"


def test_a_stream_that_is_not_there_is_named():
    with pytest.raises(JobError, match="stream is 2, and the file has 1"):
        probe.parse(report(audio()), 2)


def test_a_file_without_audio_fails_with_what_it_contains():
    with pytest.raises(JobError, match="holds video, and no sound") as caught:
        probe.parse(report({"codec_type": "video"}), None)
    assert caught.value.code == "no_audio_stream"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
streams = st.dictionaries(
    st.sampled_from("codec_type codec_name channels channel_layout sample_rate duration disposition index".split()),
    st.sampled_from(["audio", "opus", "1", "-1", "1e999", "nan", 2**70, {"default": 1}]) | json_values,
)
reports = st.fixed_dictionaries(
    {"streams": st.lists(streams, max_size=5) | json_values, "format": streams | json_values}
)


@fuzzed
@given((reports | json_values).map(json.dumps).map(str.encode) | st.binary(), st.none() | st.integers())
def test_every_report_gives_a_valid_stream_or_a_job_error(data, stream):
    sound = outcome(lambda: probe.parse(data, stream))
    if not isinstance(sound, ErrorCode):
        assert sound.codec.isascii()
        assert sound.channels >= 0
        assert sound.duration is None or math.isfinite(sound.duration)
        assert "[whole]" in convert.graph(sound)


@fuzzed
@given(st.binary(max_size=400), st.sampled_from([1, 2]))
def test_levels_of_any_samples_are_finite(pcm, channels):
    found = levels.measure(pcm, channels, 16000)
    json.dumps([found.rms_dbfs, found.peak_dbfs, found.dc_offset], allow_nan=False)
    assert levels.FLOOR <= found.rms_dbfs <= 0


@fuzzed
@given(
    st.text(max_size=2000) | st.lists(st.sampled_from(["[aac @ 0x1] bad", "/etc/x: no", "\x1b[2J", "\n"])).map("".join)
)
def test_a_reason_is_one_short_line(said):
    reason = reasons.reason(said)
    assert 0 < len(reason) <= reasons.LENGTH
    assert reason.isprintable()


beginnings = st.sampled_from(["", "data:", "file:", "file://", "upload", "../", "/", "x::", "s3://", "data:;base64,"])


@fuzzed
@given(beginnings, st.text(st.characters(), max_size=60), st.booleans())  # surrogates, too
def test_every_source_gives_a_file_or_a_job_error(tmp_path_factory, beginning, rest, rooted):
    folder, source = tmp_path_factory.getbasetemp(), beginning + rest
    chosen = Settings(media_root=str(folder / "media") if rooted else None, source_remotes="memory://inbox/")
    if source.lower().startswith(("http:", "https:", "upload:")):
        return  # other tests cover these, with a server

    def size():
        with fetch(source, folder, chosen) as fetched:
            return fetched.size

    found = outcome(size)
    assert isinstance(found, ErrorCode) or found > 0


def test_a_reason_contains_no_path_and_no_memory_address():
    said = "[mov,mp4 @ 0x55d0c8] moov atom not found\nfile:/dev/stdin: Invalid data found when processing input\n"
    assert reasons.reason(said) == "mov,mp4: moov atom not found; Invalid data found when processing input"


def tone(*channels, seconds=1):
    frames = range(seconds * 16000)
    return b"".join(struct.pack("<h", int(gain * 10000 * math.sin(n / 5))) for n in frames for gain in channels)


def test_channels_are_mixed_if_that_loses_nothing():
    assert levels.measure(tone(1, 1), 2, 16000).alone is None
    assert levels.measure(tone(1, 0), 2, 16000).alone is None  # a dead channel halves the level and no more


def test_a_channel_is_taken_alone_if_the_other_is_its_inverse():
    assert levels.measure(tone(0.9, -1), 2, 16000).alone == 1


def test_silence_and_clipping_are_detected():
    assert levels.measure(bytes(32000), 1, 16000).silent
    square = struct.pack("<2h", 32767, -32768) * 8000
    assert levels.measure(square, 1, 16000).clipped
    plain = levels.measure(tone(1), 1, 16000)
    assert not plain.silent
    assert not plain.clipped
    assert plain.rms_dbfs == pytest.approx(-13.3, abs=0.2)  # 10000 of 32767, over the square root of 2


def test_a_dc_offset_does_not_count_as_loudness():
    offset = levels.measure(struct.pack("<h", 8000) * 16000, 1, 16000)
    assert offset.dc_offset == pytest.approx(8000 / 32768, abs=0.001)
    assert offset.silent


@pytest.mark.parametrize(
    ("text", "seconds"), [("120", 120), ("0", 0), ("", None), ("soon", None), ("-5", None), ("9" * 400, 2**31)]
)
def test_retry_after_is_parsed_and_bounded(text, seconds):
    assert pools.retry_after({"Retry-After": text}) == seconds
