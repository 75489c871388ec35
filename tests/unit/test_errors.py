"""The table of error codes."""

import pickle

from voicemill.errors import ErrorCode, JobError


def test_every_code_says_what_to_do_in_a_sentence():
    for code, row in CODES.items():
        assert code == code.lower().replace(" ", "_")
        assert row.remedy.endswith("."), code


def test_an_error_comes_whole_through_the_border_of_a_process():
    error = pickle.loads(pickle.dumps(JobError(ErrorCode.ENRICH_RATE_LIMITED, "slow down", retry_after=2.5)))

    assert (error.code, error.message, error.retry_after, error.retryable) == (
        "enrich_rate_limited",
        "slow down",
        2.5,
        True,
    )
