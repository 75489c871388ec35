"""Whatever comes in: it ends in its code, and nothing is read that should not be."""

import socket
from concurrent.futures import ThreadPoolExecutor

import hostile_files
import hostile_urls
import misbehaving
import pytest

from config.settings import Settings
from pipeline.decode import cage, convert, probe
from pipeline.decode import decode as work
from pipeline.errors import JobError


def test_every_hostile_or_broken_file_ends_in_its_code(voice, tmp_path):
    secret = tmp_path / "secret.wav"
    secret.write_bytes(voice.read_bytes())
    media = tmp_path / "media"
    media.mkdir()
    cases = hostile_files.build(media, secret)
    settings = Settings(media_root=str(media))

    def outcome(case):
        folder = tmp_path / f"job-{cases.index(case)}"
        folder.mkdir()
        try:
            return f"decoded, {work(case.name, folder, settings).duration} s"
        except JobError as error:
            return error.code

    with ThreadPoolExecutor(3) as pool:
        outcomes = list(pool.map(outcome, cases))
    wrong = {case.name: found for case, found in zip(cases, outcomes, strict=True) if found not in case.codes}
    assert wrong == {}
    assert len(cases) >= 150


@pytest.mark.parametrize("lead", ["an address", "a list"])
def test_neither_program_opens_what_it_is_not_given(lead, voice, tmp_path, monkeypatch):
    """No container that is allowed leads elsewhere; so what does takes the place of the message."""
    (tmp_path / "list").write_text("ffconcat version 1.0\nfile 'voice.wav'\n")
    (tmp_path / "voice.wav").write_bytes(voice.read_bytes())
    with misbehaving.serving(voice.read_bytes()) as server, voice.open("rb") as file:
        monkeypatch.setattr(cage, "INPUT", ("-i", server.url("good") if lead == "an address" else "file:list"))
        with monkeypatch.context() as free:
            free.setattr(cage, "FORBID", ())
            sound = probe.probe(file, tmp_path, None)
            convert.convert(file, sound, tmp_path, longest=60, seconds=60).path.unlink()
        server.asked.clear()
        with pytest.raises(JobError, match="undecodable"):
            probe.probe(file, tmp_path, None)
        with pytest.raises(JobError, match="undecodable"):
            convert.convert(file, sound, tmp_path, longest=60, seconds=60)
    assert server.asked == []


@pytest.fixture
def connected(monkeypatch):
    """Record whom a connection is made to; none of the hostile addresses may lead to one."""
    asked = []

    def refuse(address, *_, **__):
        asked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", refuse)
    return asked


def test_every_hostile_address_ends_in_its_code_without_a_connection(code, connected):
    outcomes = [(address, code(address), codes) for address, codes in hostile_urls.CASES]
    assert [(address[:80], found) for address, found, codes in outcomes if found not in codes] == []
    assert connected == []
    assert len(outcomes) >= 60


def test_a_link_that_is_put_in_place_after_the_check_leads_nowhere(media, tmp_path, monkeypatch):
    """The opened file is judged once more by where it really is."""
    from pipeline.decode.sources import local

    (tmp_path / "secret").write_text("secret")
    (media / "voice.ogg").write_text("voice")
    real = local.os.open

    def swapped(path, *arguments):
        (media / "voice.ogg").unlink()
        (media / "voice.ogg").symlink_to(tmp_path / "secret")
        return real(path, *arguments)

    monkeypatch.setattr(local.os, "open", swapped)
    with pytest.raises(JobError, match="source_forbidden"):
        local.open_path("voice.ogg", str(media))
