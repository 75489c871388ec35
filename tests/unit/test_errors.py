"""The enumeration of error codes."""

import pickle

from voicemill.errors import ErrorCode, JobError, Refused


def test_every_code_says_what_to_do_in_a_sentence():
    for code in ErrorCode:
        assert code == code.lower().replace(" ", "_")
        assert code == code.name.lower()
        assert code.remedy.endswith("."), code


def test_a_code_is_found_by_its_text_and_one_of_a_newer_version_is_not():
    assert ErrorCode.named("lost") is ErrorCode.LOST
    assert ErrorCode.named("teleported") is None


def test_an_error_comes_whole_through_the_border_of_a_process():
    error = pickle.loads(pickle.dumps(JobError(ErrorCode.ENRICH_RATE_LIMITED, "slow down", retry_after=2.5)))

    assert (error.code, error.message, error.retry_after) == (ErrorCode.ENRICH_RATE_LIMITED, "slow down", 2.5)
    assert error.code.retryable


def test_a_refusal_says_what_happened_and_what_to_do():
    error = Refused(ErrorCode.SYSTEM_FULL, "7 messages wait for decode")

    assert str(error) == f"system_full: 7 messages wait for decode. {ErrorCode.SYSTEM_FULL.remedy}"
    assert (error.message, error.advice) == ("7 messages wait for decode", str(error))
