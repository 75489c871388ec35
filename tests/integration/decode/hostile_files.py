"""Files that were made to do harm, that broke on their way, or that are no sound at all; and the codes they end in.

Whatever opens a file elsewhere points at `secret.wav`, a good recording outside of the reach of the message: decoding
one of them without an error would mean that FFmpeg read it.
"""

from __future__ import annotations

import base64
import io
import json
import os
import random
import socket
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BAD = frozenset({"undecodable"})
SILENT = frozenset({"undecodable", "no_audio_stream", "too_short"})  # how FFmpeg sees garbage may change


@dataclass(frozen=True)
class Hostile:
    """A file under MEDIA_ROOT, or a path that is none, and the codes that are right for it."""

    name: str
    codes: frozenset[str]


def build(root: Path, secret: Path) -> list[Hostile]:
    """Write all of them into `root` and return them."""
    found: list[Hostile] = []
    for maker in (_pointers, _documents, _garbage, _magic, _headers, _stumps, _mute, _waves, _boxes, _outside, _paths):
        found += maker(root, secret)
    return found


def _write(root: Path, name: str, data: bytes | str, codes: frozenset[str] = BAD) -> Hostile:
    (root / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return Hostile(name, codes)


def _pointers(root: Path, secret: Path) -> Iterator[Hostile]:
    """Lists, descriptions and documents that name another file."""
    texts = {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{secret}\n#EXT-X-ENDLIST\n",
        "hls-url": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        "hls-concat": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nconcat:{secret}|/etc/passwd\n#EXT-X-ENDLIST\n",
        "hls-http": "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:9,\nhttp://169.254.169.254/latest/meta-data/\n",
        "hls-master": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{secret}\n",
        "hls-key": f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="file://{secret}"\n#EXTINF:9,\n{secret}\n#EXT-X-ENDLIST\n',
        "m3u": f"{secret}\n",
        "concat": f"ffconcat version 1.0\nfile '{secret}'\n",
        "concat-bare": f"file '{secret}'\n",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
        "dash": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
        f'<AdaptationSet mimeType="audio/wav"><Representation id="1"><BaseURL>{secret}</BaseURL>'
        f"</Representation></AdaptationSet></Period></MPD>",
        "pls": f"[playlist]\nFile1={secret}\nNumberOfEntries=1\n",
        "asx": f'<asx version="3.0"><entry><ref href="{secret}"/></entry></asx>',
        "smil": f'<smil><body><audio src="{secret}"/></body></smil>',
        "xspf": f"<playlist><trackList><track><location>{secret}</location></track></trackList></playlist>",
        "cue": f'FILE "{secret}" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n',
        "ffmeta": ";FFMETADATA1\ntitle=/etc/passwd\n",
        "svg": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="file://{secret}" width="1" height="1"/></svg>',
        "imf": f'<?xml version="1.0"?><CompositionPlaylist><Id>urn:uuid:{secret}</Id></CompositionPlaylist>',
        "redirect": f"[Reference]\nRef1={secret}\n",
        "lavfi": f"amovie={secret}",
    }
    for kind, text in texts.items():
        for extension in ("", ".ogg", ".m3u8"):
            yield _write(root, f"points-{kind}{extension}", text)


def _documents(root: Path, _secret: Path) -> Iterator[Hostile]:
    """What people send by mistake."""
    archive, tape = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as pack:
        pack.writestr("voice.wav", b"RIFF" + bytes(100_000))
    with tarfile.open(fileobj=tape, mode="w") as pack:
        pack.addfile(tarfile.TarInfo("voice.wav"))
    texts: dict[str, bytes] = {
        "letter.txt": b"Dear all,\n" * 40,
        "page.html": b"<!doctype html><html><body>404 Not Found</body></html>",
        "answer.json": json.dumps({"error": "expired"}).encode(),
        "entity.xml": b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
        "paper.pdf": b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
        "pack.zip": archive.getvalue(),
        "pack.tar": tape.getvalue(),
        "program": b"\x7fELF\x02\x01\x01" + bytes(200),
        "script.sh": b"#!/bin/sh\nrm -rf /\n",
        "table.csv": b"a,b\n1,2\n" * 100,
        "subtitles.srt": b"1\n00:00:00,000 --> 00:00:02,000\nHello\n\n",
        "subtitles.ass": b"[Script Info]\nScriptType: v4.00+\n[Events]\nDialogue: 0,0:00:00.00,0:00:02.00,,Hello\n",
        "subtitles.vtt": b"WEBVTT\n\n00:00.000 --> 00:02.000\nHello\n",
        "tune.mid": b"MThd" + struct.pack(">IHHH", 6, 0, 1, 96) + b"MTrk" + struct.pack(">I", 4) + b"\x00\xff\x2f\x00",
        "mail.eml": b"From: a@example.com\nSubject: voice\n\n" + base64.b64encode(bytes(300)),
    }
    for name, data in texts.items():
        yield _write(root, name, data, SILENT)
    pixels = ("ppm", "png", "jpg", "bmp", "gif", "webp", "tiff", "ico")
    for kind in pixels:
        command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", "color=s=32x32", "-frames:v", "1"]
        subprocess.run([*command, str(root / f"picture.{kind}")], check=True)
        yield Hostile(f"picture.{kind}", SILENT)


def _garbage(root: Path, _secret: Path) -> Iterator[Hostile]:
    yield _write(root, "empty", b"", frozenset({"empty_source"}))
    for value in (b"\0", b"\xff", b"A", b"\n"):
        yield _write(root, f"one-{value.hex()}", value)
    yield _write(root, "zeros", bytes(1024**2), SILENT)
    yield _write(root, "ones", b"\xff" * 300_000, SILENT)
    chance = random.Random(6)
    for size in (10, 100, 1000, 10_000, 50_000):
        for number in range(3):
            yield _write(root, f"random-{size}-{number}", chance.randbytes(size), SILENT)


def _magic(root: Path, _secret: Path) -> Iterator[Hostile]:
    """The first bytes of a format, and noise after them."""
    chance = random.Random(7)
    beginnings = {
        "ogg": b"OggS\0\x02",
        "opus": b"OggS\0\x02" + bytes(20) + b"\x01\x13OpusHead\x01\x02",
        "flac": b"fLaC\0\0\0\x22",
        "wave": b"RIFF\xff\xff\xff\xffWAVEfmt ",
        "id3": b"ID3\x04\0\0\x7f\x7f\x7f\x7f",
        "mp4": b"\0\0\0\x18ftypM4A \0\0\0\0M4A mp42",
        "amr": b"#!AMR\n",
        "amr-wb": b"#!AMR-WB\n",
        "aiff": b"FORM\xff\xff\xff\xffAIFFCOMM",
        "caf": b"caff\0\x01\0\0desc",
        "webm": b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm",
        "flv": b"FLV\x01\x05\0\0\0\x09",
        "au": b".snd\0\0\0\x18\xff\xff\xff\xff\0\0\0\x03",
        "avi": b"RIFF\xff\xff\xff\xffAVI LIST",
        "asf": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
        "ts": b"\x47\x40\0\x10",
        "wavpack": b"wvpk\x20\0\0\0\x10\x04",
        "w64": bytes.fromhex("726966662e91cf11a5d628db04c10000"),
    }
    for kind, beginning in beginnings.items():
        yield _write(root, f"magic-{kind}", beginning, SILENT)
        if kind not in ("au", "amr", "amr-wb"):  # any bytes at all are sound to these
            yield _write(root, f"noise-{kind}", beginning + chance.randbytes(4000), SILENT)


def _headers(root: Path, _secret: Path) -> Iterator[Hostile]:
    """Matroska and Ogg whose sizes lie."""
    head = b"\x1a\x45\xdf\xa3"
    yield _write(root, "ebml-huge", head + b"\x01\xff\xff\xff\xff\xff\xff\xfe", SILENT)
    yield _write(root, "ebml-deep", head + b"\x80" + b"\x18\x53\x80\x67\x88" * 400, SILENT)
    page = b"OggS\0\x02" + bytes(8) + b"\1\0\0\0" + bytes(4) + bytes(4)
    yield _write(root, "ogg-full-page", page + b"\xff" + b"\xff" * 255, SILENT)
    yield _write(root, "ogg-pages", (page + b"\0") * 3000, SILENT)
    yield _write(root, "flac-blocks", b"fLaC" + b"\x04\xff\xff\xff" + bytes(100), SILENT)
    yield _write(root, "id3-chain", (b"ID3\x04\0\0\0\0\0\0") * 2000, SILENT)


def _stumps(root: Path, secret: Path) -> Iterator[Hostile]:
    """Good files that ended before their sound began."""
    encoders = {
        "ogg": ["-c:a", "libopus"],
        "webm": ["-c:a", "libopus"],
        "m4a": ["-c:a", "aac"],
        "mp3": ["-c:a", "libmp3lame"],
        "flac": ["-c:a", "flac"],
        "wav": [],
        "aiff": [],
        "caf": ["-c:a", "pcm_s16be"],
        "wma": ["-c:a", "wmav2"],
        "avi": ["-c:a", "libmp3lame"],
        "flv": ["-c:a", "libmp3lame", "-ar", "44100"],
    }
    for kind, encoder in encoders.items():
        whole = root / f"whole.{kind}"
        subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", secret, *encoder, whole], check=True)
        data = whole.read_bytes()
        whole.unlink()
        for size in (4, 16, 40):
            yield _write(root, f"stump-{size}.{kind}", data[:size], SILENT)
    yield _write(root, "no-index.m4a", _m4a(secret, root)[:-2000], SILENT)


def _m4a(secret: Path, root: Path) -> bytes:
    path = root / "index-at-the-end.m4a"
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", secret, "-c:a", "aac", path], check=True)
    data = path.read_bytes()
    path.unlink()
    return data


def _mute(root: Path, _secret: Path) -> Iterator[Hostile]:
    """Pictures that move, and no sound."""
    source = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", "testsrc=s=64x64:r=5:d=1"]
    for name, encoder in {"mp4": "libx264", "webm": "libvpx", "avi": "mpeg4", "mkv": "mjpeg", "mov": "mpeg4"}.items():
        subprocess.run([*source, "-c:v", encoder, str(root / f"mute.{name}")], check=True)
        yield Hostile(f"mute.{name}", frozenset({"no_audio_stream"}))


def _waves(root: Path, _secret: Path) -> Iterator[Hostile]:
    """WAV headers that cannot be true."""

    def wave(tag: int, channels: int, rate: int, bits: int, size: int = 3200) -> bytes:
        block = channels * bits // 8 & 0xFFFF
        form = struct.pack("<HHIIHH", tag, channels, rate, rate * block & 0xFFFF_FFFF, block, bits)
        data = b"data" + struct.pack("<I", size) + bytes(3200)
        return b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<I", 16) + form + data

    lies = {
        "no-channels": wave(1, 0, 16000, 16),
        "no-rate": wave(1, 1, 0, 16),
        "no-bits": wave(1, 1, 16000, 0),
        "channels": wave(1, 65535, 16000, 16),
        "odd-bits": wave(1, 1, 16000, 65535),
        "unknown": wave(0x9999, 1, 16000, 16),
        "no-data": wave(1, 1, 16000, 16, 0)[:44],
        "negative": wave(1, 1, 0xFFFF_FFFF, 16),
    }
    for name, data in lies.items():
        yield _write(root, f"wave-{name}", data, SILENT)


def _boxes(root: Path, _secret: Path) -> Iterator[Hostile]:
    """MP4 whose boxes lie: about their size and their depth."""

    def box(kind: bytes, body: bytes = b"", size: int | None = None) -> bytes:
        return struct.pack(">I", size if size is not None else 8 + len(body)) + kind + body

    ftyp = box(b"ftyp", b"M4A \0\0\0\0M4A mp42")
    deep = b""
    for _ in range(500):
        deep = box(b"moov", deep)
    boxes = {
        "huge": ftyp + box(b"moov", b"", 0xFFFF_FFFF),
        "huge-64": ftyp + struct.pack(">I4sQ", 1, b"moov", 2**63),
        "tiny": ftyp + box(b"moov", b"", 1),
        "zero": ftyp + box(b"moov", b"", 0),
        "deep": ftyp + deep,
        "many": ftyp + box(b"moov", box(b"trak", box(b"stsz", b"\0" * 8 + b"\xff\xff\xff\xff"))),
        "tracks": ftyp + box(b"moov", box(b"trak") * 2000),
        "only-type": ftyp,
    }
    for name, data in boxes.items():
        yield _write(root, f"box-{name}", data, SILENT)


def _outside(root: Path, secret: Path) -> Iterator[Hostile]:
    """A good movie that holds no sound: its samples are those of the secret, which an alias record names by its path.

    FFmpeg follows it only with `-enable_drefs 1 -use_absolute_path 1`.
    """
    whole = root / "whole.mov"
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", secret, "-c:a", "copy", "-bitexact", whole]
    subprocess.run(command, check=True)
    data = whole.read_bytes()
    whole.unlink()
    movie, path = bytearray(data[data.index(b"moov") - 4 :]), str(secret).encode()
    # Of the fields before the path, FFmpeg reads three names, which are empty, and two levels of folders.
    record = bytes(4 + 150) + struct.pack(">HH", 2, len(path)) + path + bytes(len(path) % 2) + b"\xff\xff\0\0"
    alias = struct.pack(">I", 8 + len(record)) + b"alis" + record
    url = movie.rindex(b"url ") - 4  # of 12 bytes: the samples are in this file
    movie[url : url + 12] = alias
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        start = movie.index(kind) - 4
        size = int.from_bytes(movie[start : start + 4], "big")
        movie[start : start + 4] = struct.pack(">I", size + len(alias) - 12)
    first = movie.index(b"stco") + 12  # where the sound begins, in the other file now
    movie[first : first + 4] = struct.pack(">I", secret.read_bytes().index(b"data") + 8)
    yield _write(root, "outside.mov", data[:20] + movie, SILENT)


def _paths(root: Path, secret: Path) -> Iterator[Hostile]:
    """Paths that are no files, or not the sender's to read."""
    missing, forbidden = frozenset({"source_not_found"}), frozenset({"source_forbidden"})
    (root / "folder").mkdir()
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(root)  # the path of a socket has at most 107 bytes
        server.bind("socket")
        os.chdir(here)
    links = {
        "link-out": secret,
        "link-passwd": "/etc/passwd",
        "link-device": "/dev/zero",
        "link-proc": "/proc/self/mem",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
        yield Hostile(name, forbidden)
    (root / "link-folder").symlink_to("/etc")
    (root / "link-nowhere").symlink_to("nowhere")
    (root / "link-loop").symlink_to("link-loop")
    for name in ("link-nowhere", "link-loop", "folder", "fifo", "socket", "nobody.ogg", "folder/nobody.ogg"):
        yield Hostile(name, missing)
    yield Hostile("zeros/beyond-a-file", missing)
    yield Hostile("x" * 300, missing)
    yield Hostile("nul\0byte", missing)
    for name in ("../secret.wav", "folder/../../secret.wav", "/etc/passwd", "link-folder/passwd", "/proc/self/environ"):
        yield Hostile(name, forbidden)
    for name in ("..", "/", "file:///etc/passwd", "file:///%65tc/passwd", "FILE:///etc/shadow", "/dev/stdin"):
        yield Hostile(name, forbidden)
    yield Hostile("file://elsewhere/voice.ogg", forbidden)
    yield Hostile("file://[bad", missing)
