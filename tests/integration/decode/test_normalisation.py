"""The audio that Whisper gets, and how the record describes it."""

import struct
import subprocess

import pytest

from voicemill.errors import JobError


def streams(path):
    command = [
        "ffprobe",
        "-v",
        "error",
        "-show_entries",
        "stream=codec_name,sample_rate,channels,sample_fmt:format_tags",
    ]
    return subprocess.run([*command, "-of", "csv", path], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def level(ffmpeg, tmp_path):
    """Return the RMS level of a decoded file in dBFS, and its DC offset as a share of full scale."""

    def measure(path):
        from pydub import AudioSegment

        ffmpeg("-i", path, tmp_path / "out.wav")
        with (tmp_path / "out.wav").open("rb") as file:
            sound = AudioSegment.from_file(file, format="wav")
        return sound.dBFS, sound.get_dc_offset()

    return measure


def test_the_result_is_16_khz_mono_16_bit_flac_without_the_files_metadata(decode, media, voice, ffmpeg):
    ffmpeg("-i", voice, "-ac", 2, "-ar", 44100, "-metadata", "title=$(touch /tmp/x)", "-c:a", "aac", media / "a.m4a")
    shown = streams(decode("a.m4a").path)
    assert "stream,flac,s16,16000,1" in shown
    assert "touch" not in shown


def test_frequencies_above_half_the_rate_are_filtered_out(decode, media, level, ffmpeg):
    ffmpeg("-f", "lavfi", "-i", "sine=frequency=10000:sample_rate=48000:d=2", media / "high.wav")
    assert level(decode("high.wav").path)[0] < -60


def pan(media, ffmpeg, voice, left, right):
    ffmpeg("-i", voice, "-af", f"pan=stereo|c0={left}*c0|c1={right}*c0", media / "pan.wav")


def test_a_voice_beside_a_dead_channel_is_kept(decode, media, ffmpeg, voice, level):
    pan(media, ffmpeg, voice, 1, 0)
    made = decode("pan.wav")
    assert level(made.path)[0] > -28
    assert made.warnings == []


def test_a_voice_beside_its_own_inverse_is_kept(decode, media, ffmpeg, voice, level):
    pan(media, ffmpeg, voice, 0.8, -1)
    made = decode("pan.wav")
    assert level(made.path)[0] > -22
    assert made.audio["channel_used"] == 1
    assert "cancel each other out" in made.warnings[0]


@pytest.mark.parametrize("layout", ["5.1|FL=c0|FR=-1*c0", "3.0|FL=0.2*c0|FR=c0|FC=-1*c0", "7.1|SL=-1*c0|SR=c0"])
def test_a_voice_beside_its_own_inverse_is_kept_among_many_channels(decode, media, ffmpeg, voice, level, layout):
    ffmpeg("-i", voice, "-af", f"pan={layout}", media / "many.wav")
    made = decode("many.wav")
    assert level(made.path)[0] > -28
    assert "cancel each other out" in made.warnings[0]


@pytest.mark.parametrize("layout", ["5.1|FC=c0", "5.1|FL=c0|FR=0.8*c0|FC=0.5*c0", "4.0|FL=c0|FR=c0|FC=c0|BC=c0"])
def test_many_channels_that_lose_nothing_are_mixed(decode, media, ffmpeg, voice, level, layout):
    ffmpeg("-i", voice, "-af", f"pan={layout}", media / "many.wav")
    made = decode("many.wav")
    assert level(made.path)[0] > -45
    assert made.audio["channel_used"] is None
    assert made.warnings == []


@pytest.mark.parametrize("milliseconds", [1e9, 0.0], ids=["too much", "nothing"])
def test_a_header_that_lies_about_the_length_does_not_hide_the_voice(decode, media, ffmpeg, voice, level, milliseconds):
    """The voice begins late, beside its own inverse: the levels must be measured where it is."""
    late = 3 if milliseconds else 70
    ffmpeg("-i", voice, "-af", f"adelay={late}s,pan=stereo|c0=c0|c1=-1*c0", "-c:a", "flac", media / "late.mka")
    data = (media / "late.mka").read_bytes()
    at = data.index(b"\x44\x89\x88") + 3  # Duration, a number of eight bytes
    (media / "late.mka").write_bytes(data[:at] + struct.pack(">d", milliseconds) + data[at + 8 :])
    made = decode("late.mka")
    assert level(made.path)[0] > -35
    assert not made.audio["silent"]
    assert made.audio["channel_used"] is not None


def test_a_dc_offset_is_removed_and_reported(decode, media, ffmpeg, voice, level):
    ffmpeg("-i", voice, "-af", "volume=0.5,dcshift=0.3", media / "shifted.wav")
    made = decode("shifted.wav")
    assert made.audio["dc_offset"] == pytest.approx(0.3, abs=0.02)
    assert abs(level(made.path)[1]) < 0.005


def test_silence_is_flagged(decode, media, ffmpeg):
    ffmpeg("-f", "lavfi", "-i", "anullsrc=d=3", media / "silent.flac")
    made = decode("silent.flac")
    assert made.audio["silent"]
    assert made.warnings == ["the sound is silent"]


def test_clipping_is_flagged(decode, media, ffmpeg, voice):
    ffmpeg("-i", voice, "-af", "volume=30dB", media / "loud.wav")
    made = decode("loud.wav")
    assert made.audio["clipped"]
    assert "the sound is clipped: recorded too loud" in made.warnings


def test_a_quiet_voice_is_raised_on_request(decode, media, ffmpeg, voice, level):
    ffmpeg("-i", voice, "-af", "volume=-30dB", media / "quiet.wav")
    as_it_is, raised = decode("quiet.wav"), decode("quiet.wav", normalize_loudness=True)
    assert level(raised.path)[0] > level(as_it_is.path)[0] + 10
    assert raised.audio["rms_dbfs"] == as_it_is.audio["rms_dbfs"]  # the record describes the source


@pytest.fixture
def two_streams(media, ffmpeg, voice):
    """A film with a tone as its first sound and the voice as its default one."""
    tone = ("-f", "lavfi", "-i", "sine=frequency=300:d=2")
    picks = ("-map", "0:a", "-map", "1:a", "-disposition:a:0", "0", "-disposition:a:1", "default")
    ffmpeg(*tone, "-i", voice, *picks, "-c:a:0", "libopus", "-c:a:1", "flac", media / "two.mkv")


@pytest.mark.usefixtures("two_streams")
def test_the_default_stream_is_decoded(decode):
    assert decode("two.mkv").audio["codec"] == "flac"


@pytest.mark.usefixtures("two_streams")
def test_another_stream_can_be_asked_for(decode):
    made = decode("two.mkv", stream=0)
    assert made.audio["codec"] == "opus"
    assert made.duration == pytest.approx(2, abs=0.1)


@pytest.mark.usefixtures("two_streams")
def test_a_stream_that_does_not_exist_is_refused(code):
    assert code("two.mkv", stream=2) == "invalid_options"


@pytest.mark.parametrize("name", ["m.ogg", "m.mp3", "m.flac", "m.aac", "m.webm", "faststart.m4a"])
def test_the_rest_of_a_truncated_file_is_decoded_with_a_warning(decode, media, ffmpeg, voice, name):
    more = {"m.ogg": ("-page_duration", 200_000), "faststart.m4a": ("-movflags", "faststart")}
    ffmpeg("-i", voice, *more.get(name, ()), media / name)
    (media / name).write_bytes((media / name).read_bytes()[: (media / name).stat().st_size * 6 // 10])
    made = decode(name)
    assert 2 < made.duration < 5
    if name not in ("m.aac", "m.mp3"):  # these state no length to compare with
        assert made.warnings


def test_the_rest_of_a_damaged_file_is_decoded(decode, media, ffmpeg, voice):
    ffmpeg("-i", voice, media / "m.mp3")
    data = bytearray((media / "m.mp3").read_bytes())
    data[9000:12000] = b"\xaa" * 3000
    (media / "m.mp3").write_bytes(data)
    made = decode("m.mp3")
    assert made.duration > 5
    assert made.warnings


def test_the_error_contains_ffmpegs_own_reason(decode, media):
    (media / "m.m4a").write_bytes(b"\0\0\0\x18ftypM4A \0\0\0\0M4A mp42")
    with pytest.raises(JobError, match="moov atom not found") as caught:
        decode("m.m4a")
    assert "/" not in caught.value.message.replace("FFmpeg cannot", "")
