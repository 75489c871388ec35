"""One voice in every format, in two encoders' flavours or two bit rates: what decode must read.

Each entry is a file name and FFmpeg's arguments, or sox's where Debian's FFmpeg cannot write the format.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_AAC, _OPUS, _MP3 = ("-c:a", "aac"), ("-c:a", "libopus"), ("-c:a", "libmp3lame")
_OWN = ("-strict", "-2", "-b:a", "48k", "-ar", "48000")  # FFmpeg's own encoders, which it calls experimental
_VIDEO = ("-f", "lavfi", "-i", "color=c=blue:s=64x64:r=5", "-map", "0:a", "-map", "1:v", "-shortest")

FFMPEG: dict[str, tuple[str, ...]] = {
    "opus-16k.ogg": (*_OPUS, "-b:a", "16k", "-application", "voip"),
    "opus-64k-stereo.opus": (*_OPUS, "-b:a", "64k", "-ac", "2"),
    "opus-native.ogg": ("-c:a", "opus", *_OWN),
    "opus.webm": (*_OPUS, "-b:a", "32k"),
    "opus-live.webm": (*_OPUS, "-b:a", "24k", "-live", "1"),  # without a duration, as browsers record
    "opus.mka": (*_OPUS, "-b:a", "24k"),
    "opus-16k.caf": (*_OPUS, "-b:a", "16k", "-ar", "48000", "-frame_duration", "20"),
    "opus-48k.caf": (*_OPUS, "-b:a", "48k", "-ar", "48000", "-frame_duration", "20"),
    "opus-native.caf": ("-c:a", "opus", *_OWN, "-opus_delay", "2.5"),  # CAF holds frames of one length
    "opus.mp4": (*_OPUS, "-b:a", "32k", "-strict", "-2"),
    "vorbis-q1.ogg": ("-c:a", "libvorbis", "-q:a", "1"),
    "vorbis-q6.ogg": ("-c:a", "libvorbis", "-q:a", "6"),
    "vorbis-native.ogg": ("-c:a", "vorbis", *_OWN, "-ac", "2"),
    "vorbis.webm": ("-c:a", "libvorbis", "-q:a", "3"),
    "speex-16k.ogg": ("-c:a", "libspeex", "-ar", "16000"),
    "speex-8k.ogg": ("-c:a", "libspeex", "-ar", "8000"),
    "flac.ogg": ("-c:a", "flac", "-f", "ogg"),
    "aac-32k.m4a": (*_AAC, "-b:a", "32k"),
    "aac-128k-faststart.m4a": (*_AAC, "-b:a", "128k", "-ac", "2", "-movflags", "faststart"),
    "aac-fragmented.mp4": (*_AAC, "-b:a", "64k", "-movflags", "frag_keyframe+empty_moov"),
    "alac.m4a": ("-c:a", "alac"),
    "alac-stereo.m4a": ("-c:a", "alac", "-ac", "2", "-ar", "44100"),
    "aac-48k.aac": (*_AAC, "-b:a", "48k", "-f", "adts"),
    "aac-96k.aac": (*_AAC, "-b:a", "96k", "-f", "adts"),
    "aac.3gp": (*_AAC, "-b:a", "32k", "-ar", "16000"),
    "aac-64k.3gp": (*_AAC, "-b:a", "64k", "-ar", "44100"),
    "aac.mov": (*_AAC, "-b:a", "64k"),
    "mp3-32k.mp3": (*_MP3, "-b:a", "32k"),
    "mp3-vbr.mp3": (*_MP3, "-q:a", "4", "-ar", "44100"),
    "mp3-shine.mp3": ("-c:a", "libshine", "-b:a", "64k", "-ar", "44100", "-ac", "2"),
    "mp2.mp2": ("-c:a", "mp2", "-b:a", "96k", "-ar", "32000"),
    "flac-0.flac": ("-c:a", "flac", "-compression_level", "0"),
    "flac-24.flac": ("-c:a", "flac", "-sample_fmt", "s32", "-ar", "48000"),
    "pcm16.wav": ("-c:a", "pcm_s16le"),
    "pcm24.wav": ("-c:a", "pcm_s24le", "-ar", "48000", "-ac", "2"),
    "pcm8.wav": ("-c:a", "pcm_u8"),
    "float.wav": ("-c:a", "pcm_f32le"),
    "mulaw.wav": ("-c:a", "pcm_mulaw", "-ar", "8000"),
    "alaw.wav": ("-c:a", "pcm_alaw", "-ar", "8000"),
    "ima.wav": ("-c:a", "adpcm_ima_wav"),
    "mulaw-16k.wav": ("-c:a", "pcm_mulaw", "-ar", "16000"),
    "alaw-16k.wav": ("-c:a", "pcm_alaw", "-ar", "16000"),
    "float64.wav": ("-c:a", "pcm_f64le"),
    "pcm.w64": ("-c:a", "pcm_s16le"),
    "pcm16.aiff": ("-c:a", "pcm_s16be"),
    "pcm24.aiff": ("-c:a", "pcm_s24be", "-ar", "48000"),
    "pcm.caf": ("-c:a", "pcm_s16be"),
    "pcm.au": ("-c:a", "pcm_s16be"),
    "wma1.wma": ("-c:a", "wmav1", "-b:a", "64k", "-ar", "44100"),
    "wma2.wma": ("-c:a", "wmav2", "-b:a", "96k", "-ar", "44100"),
    "ac3.ac3": ("-c:a", "ac3", "-b:a", "96k", "-ar", "48000"),
    "wavpack.wv": ("-c:a", "wavpack"),
    "video-h264.mp4": (*_VIDEO, *_AAC, "-b:a", "64k", "-c:v", "libx264", "-preset", "ultrafast"),
    "video-vp8.webm": (*_VIDEO, *_OPUS, "-b:a", "32k", "-c:v", "libvpx"),
    "video.avi": (*_VIDEO, *_MP3, "-b:a", "64k", "-ar", "44100", "-c:v", "mpeg4"),
    "video.ts": (*_VIDEO, *_AAC, "-b:a", "64k", "-c:v", "mpeg2video", "-r", "25"),
    "video.flv": (*_VIDEO, *_AAC, "-b:a", "64k", "-c:v", "flv1", "-ar", "44100"),
    "misnamed-opus.mp3": (*_OPUS, "-b:a", "24k", "-f", "ogg"),
    "misnamed-m4a.ogg": (*_AAC, "-b:a", "64k", "-f", "ipod"),
    "no-extension": (*_OPUS, "-b:a", "24k", "-f", "ogg"),
    "surround.flac": ("-c:a", "flac", "-ac", "6"),
}
SOX = {  # other encoders than FFmpeg's; for the drill, where sox is installed
    "sox-12k.amr-nb": ("-r", "8000", "-C", "7"),
    "sox-7k.amr-nb": ("-r", "8000", "-C", "4"),
    "sox-gsm.wav": ("-r", "8000", "-e", "gsm-full-rate"),
    "sox-vorbis.ogg": (),
    "sox-flac.flac": ("-C", "8"),
    "sox-32.aiff": ("-b", "32"),
}
# The same voice in AMR, which Debian's FFmpeg cannot write, but can put into 3GP as phones do.
SAMPLES = Path(__file__).parent / "samples"
WIDE = ("voice-24k.awb", "voice-13k.awb", "voice-24k.awb.3gp")
NARROW = ("voice-nb-12k.amr", "voice-nb-7k.amr", "voice-nb-7k.amr.3gp")
KEPT = WIDE + NARROW
NAMES = (*FFMPEG, *KEPT)
SENTENCE = (
    "Please move our meeting with the design team to Thursday at three, and tell everybody that lunch is at noon."
)


def speak(path: Path) -> Path:
    """Say the sentence to a WAV file at 22,050 Hz."""
    subprocess.run(["espeak-ng", "-s", "150", "-w", str(path), SENTENCE], check=True)
    return path


def encode(voice: Path, folder: Path, name: str) -> Path:
    """Write the voice in one of the formats."""
    path = folder / name
    if name in KEPT and not name.endswith(".3gp"):
        return Path(shutil.copy(SAMPLES / name, path))
    if name in KEPT:
        sample = SAMPLES / name.removesuffix(".3gp")
        command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", str(sample), "-c:a", "copy", str(path)]
    elif name in FFMPEG:
        command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", str(voice), *FFMPEG[name], str(path)]
    else:
        command = ["sox", "-V1", str(voice), *SOX[name], str(path)]
    subprocess.run(command, check=True)
    return path
