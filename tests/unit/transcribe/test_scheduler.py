"""The order in which windows of many messages go."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import numpy as np
from processes import becomes

from pipeline.transcribe import DecodingOptions, Segment
from pipeline.transcribe.backends.base import Capabilities, WindowResult
from pipeline.transcribe.child import SlotInfo
from pipeline.transcribe.message import Message, WindowTask
from pipeline.transcribe.scheduler import Scheduler
from pipeline.transcribe.window import Piece, Window

SLOT = SlotInfo("cpu", "CPU", "tiny.en", "int8", "", 0, 0, (), 1, Capabilities(frozenset({"en"}), 20, 15))
WAKING = 10.0  # seconds, on a busy machine


def window(seconds: float) -> Window:
    return Window(np.zeros(int(seconds * 16_000), np.float32), (Piece(0, 0, seconds),), ((0, seconds),))


def message(*seconds: float, language: str | None = "en") -> Message:
    return Message(DecodingOptions(language=language), [window(length) for length in seconds], sum(seconds), Future())


def result(language: str = "ko") -> WindowResult:
    return WindowResult((), language, 0.9, "quick")


def take(scheduler: Scheduler, most: int = 8) -> list[WindowTask]:
    batch = scheduler.take(most, timeout=0.01)
    assert batch is not None
    return batch


@contextmanager
def waiting(scheduler: Scheduler, slots: int = 1):
    """Have slots wait for a window each, and yield what they will get; who is not woken gets nothing in time."""
    with ThreadPoolExecutor(slots) as threads:
        try:
            yield [threads.submit(scheduler.take, 1, 3 * WAKING) for _ in range(slots)]
        finally:
            scheduler.close()


def asleep(scheduler: Scheduler, slots: int = 1) -> bool:
    return becomes(lambda: len(scheduler._changed._waiters) == slots)


def test_windows_of_different_messages_share_a_batch():
    scheduler, messages = Scheduler(), [message(3) for _ in range(3)]
    for one in messages:
        scheduler.add(one)
    assert [task.message for task in take(scheduler)] == messages


def test_a_long_recording_gets_one_window_a_turn_while_others_wait():
    scheduler, hour, short = Scheduler(), message(*[20] * 50), [message(3) for _ in range(4)]
    for one in (hour, *short):
        scheduler.add(one)
    order = [[task.message is hour for task in take(scheduler, 4)] for _ in range(3)]
    assert order == [[True], [False] * 4, [True] * 4]  # alone at last, it may fill the batch


def test_a_new_message_goes_before_the_next_window_of_one_that_has_had_a_turn():
    scheduler, hour, short = Scheduler(), message(*[20] * 50), message(3)
    scheduler.add(hour)
    take(scheduler, 1)
    scheduler.add(short)
    assert [task.message for task in take(scheduler)] == [short]


def test_new_messages_cannot_hold_up_an_older_one_for_ever():
    scheduler, hour = Scheduler(patience=0.0), message(*[20] * 50)
    scheduler.add(hour)
    take(scheduler, 1)
    scheduler.add(message(3))
    assert [task.message for task in take(scheduler)] == [hour]


def test_of_several_that_have_waited_too_long_the_one_that_has_waited_longest_goes():
    scheduler, hours = Scheduler(patience=0.0), [message(*[20] * 50) for _ in range(3)]
    for one in hours:
        scheduler.add(one)
    take(scheduler, 3)
    scheduler.add(message(3))
    assert [[task.message for task in take(scheduler, 1)] for _ in range(3)] == [[one] for one in hours]


def test_messages_that_shared_a_batch_go_on_in_the_order_of_their_coming():
    scheduler, messages = Scheduler(), [message(3, 3) for _ in range(8)]
    for one in messages:
        scheduler.add(one)
    assert [[task.message for task in take(scheduler)] for _ in range(2)] == [messages] * 2


def test_a_new_message_does_not_wait_for_another_that_is_being_cut():
    scheduler, short = Scheduler(give_way=True), message(3)
    with scheduler.arriving():
        scheduler.add(short)
        assert [task.message for task in take(scheduler)] == [short]


def test_later_windows_give_way_to_a_message_that_is_just_coming_in():
    scheduler, hour, short = Scheduler(give_way=True), message(*[20] * 50), message(3)
    scheduler.add(hour)
    take(scheduler, 1)
    with scheduler.arriving():
        assert take(scheduler) == []
    scheduler.add(short)
    assert [task.message for task in take(scheduler)] == [short]
    assert [task.message for task in take(scheduler, 1)] == [hour]


def test_a_batch_s_audio_is_limited_so_that_what_comes_meanwhile_waits_little():
    scheduler = Scheduler(seconds=30)
    scheduler.add(message(*[20] * 5))
    assert len(take(scheduler)) == 1


def test_a_window_that_would_be_too_much_audio_leaves_room_for_a_shorter_one():
    scheduler = Scheduler(seconds=30)
    for seconds in (14, 17, 15):
        scheduler.add(message(seconds))
    assert [task.window.duration for task in take(scheduler)] == [14, 15]


def test_a_batch_holds_windows_of_similar_length_only():
    scheduler = Scheduler()
    for seconds in (20, 3, 18, 8):
        scheduler.add(message(seconds))
    lengths = [[task.window.duration for task in take(scheduler)] for _ in range(2)]
    assert lengths == [[20, 18], [3, 8]]


def test_what_waits_is_shared_out_so_that_no_slot_idles():
    scheduler = Scheduler(shares=4)
    for _ in range(8):
        scheduler.add(message(3))
    assert len(take(scheduler)) == 2


def test_what_cannot_be_shared_out_goes_whole():
    scheduler, only = Scheduler(shares=4), message(3)
    scheduler.add(only)
    assert [task.message for task in take(scheduler)] == [only]


def test_an_idle_slot_gets_an_empty_batch_and_a_closed_scheduler_none():
    scheduler = Scheduler()
    assert scheduler.take(8, timeout=0.01) == []
    waiting = message(3)
    scheduler.add(waiting)
    assert scheduler.close() == [waiting]
    assert scheduler.take(8, timeout=0.01) is None
    assert not scheduler.add(message(3))


def test_windows_given_back_are_tried_alone_and_first():
    scheduler = Scheduler()
    for _ in range(3):
        scheduler.add(message(3))
    batch = take(scheduler)
    scheduler.add(message(3))
    scheduler.give_back(batch)
    assert [len(take(scheduler)) for _ in range(4)] == [1, 1, 1, 1]


def test_a_cancelled_message_s_windows_are_never_taken():
    scheduler, gone, stays = Scheduler(), message(3, 3), message(3)
    scheduler.add(gone)
    scheduler.add(stays)
    gone.future.cancel()
    assert [task.message for task in take(scheduler)] == [stays]


def test_a_window_given_back_is_not_tried_again_once_its_message_is_cancelled():
    scheduler, gone = Scheduler(), message(3)
    scheduler.add(gone)
    scheduler.give_back(take(scheduler))
    gone.future.cancel()
    assert take(scheduler) == []
    assert scheduler.close() == []


def test_a_message_that_has_failed_is_forgotten_with_the_windows_that_waited():
    scheduler, failed = Scheduler(), message(3, 3)
    scheduler.add(failed)
    take(scheduler, 1)
    scheduler.drop(failed)
    assert take(scheduler) == []
    assert scheduler.close() == []


def test_the_language_is_detected_in_the_longest_of_the_first_windows_before_the_others_go():
    scheduler, unknown = Scheduler(), message(2, 9, 5, language=None)
    scheduler.add(unknown)
    [first] = take(scheduler)
    assert first.window.duration == 9
    assert take(scheduler) == []
    assert not scheduler.finish(first, result("ko"))
    assert (unknown.options.language, unknown.language_probability) == ("ko", 0.9)
    rest = take(scheduler)
    assert {task.index for task in rest} == {0, 2}
    assert {task.request.language for task in rest} == {"ko"}


def test_windows_that_end_in_another_order_are_joined_in_their_own():
    two = message(3, 3)
    two.language_probability = 0.9
    for index in (1, 0):
        two.results[index] = WindowResult((Segment(index, index + 1, f"Part {index}.", 0, 0),), "en", None, "quick")
    two.deliver(two.transcript(SLOT, None))
    transcript = two.future.result(0)
    assert (transcript.text, transcript.language_probability) == ("Part 0. Part 1.", 0.9)


def test_a_message_of_unknown_language_shares_a_batch_with_one_window_only():
    scheduler, unknown, known = Scheduler(), message(3, 3, 3, language=None), message(3, 3, 3)
    for one in (unknown, known):
        scheduler.add(one)
    assert [task.message for task in take(scheduler)].count(unknown) == 1


def test_a_message_is_done_with_its_last_window():
    scheduler, two = Scheduler(), message(3, 3)
    scheduler.add(two)
    one, other = take(scheduler)
    assert [scheduler.finish(one, result()), scheduler.finish(other, result())] == [False, True]
    assert scheduler.close() == []


def test_a_message_wakes_as_many_slots_as_it_gives_work():
    scheduler = Scheduler()
    with waiting(scheduler, 2) as got:
        assert asleep(scheduler, 2)
        scheduler.add(message(3, 3))
        assert sorted(task.index for one in got for task in one.result(WAKING) or ()) == [0, 1]


def test_a_detected_language_wakes_a_slot_for_the_other_windows():
    scheduler = Scheduler()
    scheduler.add(message(3, 3, language=None))
    [first] = take(scheduler)
    with waiting(scheduler) as [got]:
        assert asleep(scheduler)
        scheduler.finish(first, result())
        assert [task.index for task in got.result(WAKING) or ()] == [1]


def test_windows_given_back_wake_a_slot():
    scheduler = Scheduler()
    scheduler.add(message(3))
    batch = take(scheduler)
    with waiting(scheduler) as [got]:
        assert asleep(scheduler)
        scheduler.give_back(batch)
        assert got.result(WAKING) == batch


def test_a_message_that_has_been_cut_wakes_a_slot_for_the_windows_that_gave_way():
    scheduler = Scheduler(give_way=True)
    scheduler.add(message(20, 20))
    take(scheduler, 1)
    cutting = ExitStack()
    cutting.enter_context(scheduler.arriving())
    with waiting(scheduler) as [got]:
        assert asleep(scheduler)
        cutting.close()
        assert [task.index for task in got.result(WAKING) or ()] == [1]


def test_closing_wakes_every_slot():
    scheduler = Scheduler()
    with waiting(scheduler, 2) as got:
        assert asleep(scheduler, 2)
        scheduler.close()
        assert [one.result(WAKING) for one in got] == [None, None]


def test_a_message_that_comes_as_a_slot_s_time_is_up_is_taken_at_once():
    scheduler, late = Scheduler(), message(3)

    class TimesOut(threading.Condition):
        def wait(self, timeout=None):
            return not scheduler.add(late)

    scheduler._changed = TimesOut()
    assert [task.message for task in take(scheduler)] == [late]
