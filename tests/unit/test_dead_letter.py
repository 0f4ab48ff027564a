"""What a dead letter says, and how it is put back."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import brokerq
from brokerq.catalogue import LetterState, Redrive
from brokerq.dead_letter import (
    HISTORY_LIMIT,
    MESSAGE_LIMIT,
    NEVER,
    TRACEBACK_LIMIT,
    Scene,
    cut,
    describe,
    group_of,
    read_letter,
    redriven,
    redriven_storeless,
    write_letter,
)
from brokerq.message import Message
from brokerq.records import State
from brokerq.store import Transition
from brokerq.wire import read_head, without_verdict

AT = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SCENE = Scene(at=AT + HOUR, queue="payments", worker="w-1", host="box", app_version="1.2")
BODY = b'{ "order_id":"\xc3\xa9",\n"cents": 5 }'
MESSAGE = Message(
    headers={
        "bq-v": "1",
        "bq-id": "j-1",
        "bq-job": "charge",
        "bq-first-at": AT.isoformat(),
        "bq-attempt": "2",
        "bq-key": "o-1",
        "traceparent": "00-ab-cd-01",
        "mine": "kept",
    },
    body=BODY,
)


def letter(error: BaseException | None = None, **settings: Any) -> Message:
    facts: dict[str, Any] = {
        "reason": "exhausted",
        "note": None,
        "first_at": AT,
        "attempts": 3,
        "crashes": 1,
        "epoch": 2,
        "scene": SCENE,
    }
    return write_letter(MESSAGE, error=error, **{**facts, **settings})


def raised(function: Callable[[], object]) -> Exception:
    try:
        function()
    except Exception as error:  # noqa: BLE001 - whatever it raises is what is wanted
        return error
    raise AssertionError("nothing was raised")


def charge(text: str = "no money") -> None:
    raise ValueError(text)


def refund() -> None:
    raise ValueError("no money")


def charge_by_number() -> None:
    int("x")


class _MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this works")


class TestWriting:
    def test_a_letter_is_the_message_and_why(self) -> None:
        written = letter()
        assert written.body == BODY
        assert without_verdict(written).headers == {**MESSAGE.headers, "bq-epoch": "2"}
        dead = {n: t for n, t in written.headers.items() if n.startswith("bq-dead-")}
        assert dead == {
            "bq-dead-reason": "exhausted",
            "bq-dead-at": (AT + HOUR).isoformat(),
            "bq-dead-first-at": AT.isoformat(),
            "bq-dead-queue": "payments",
            "bq-dead-attempts": "3",
            "bq-dead-crashes": "1",
            "bq-dead-group": group_of("exhausted", "charge", None),
            "bq-dead-host": "box",
            "bq-dead-worker": "w-1",
            "bq-dead-app-version": "1.2",
        }

    def test_of_an_error_it_keeps_type_message_and_traceback(self) -> None:
        headers = letter(raised(charge)).headers
        assert headers["bq-dead-error-type"] == "ValueError"
        assert headers["bq-dead-error-message"] == "no money"
        assert headers["bq-dead-traceback"].startswith("Traceback (most recent call last)")
        assert headers["bq-dead-traceback"].endswith("ValueError: no money\n")

    def test_a_message_that_died_before_says_only_why_it_died_last(self) -> None:
        first = letter(raised(charge), note="once")
        second = write_letter(
            without_verdict(first),
            reason="rejected",
            note=None,
            error=None,
            first_at=AT,
            attempts=1,
            crashes=0,
            epoch=3,
            scene=SCENE,
        )
        assert second.headers["bq-dead-reason"] == "rejected"
        assert "bq-dead-note" not in second.headers
        assert "bq-dead-traceback" not in second.headers

    @pytest.mark.parametrize("text", ["x" * 5_000, "é" * 5_000, "€" * 5_000, "😀" * 5_000])
    def test_error_message_and_note_are_at_most_a_kilobyte_of_bytes(self, text: str) -> None:
        headers = letter(raised(lambda: charge(text)), note=text).headers
        for name in ("bq-dead-error-message", "bq-dead-note"):
            assert MESSAGE_LIMIT - 6 < len(headers[name].encode()) <= MESSAGE_LIMIT
            assert headers[name].endswith("…")
            assert text.startswith(headers[name][:-1])

    @pytest.mark.parametrize("character", ["x", "é", "€", "😀"])
    def test_a_long_traceback_keeps_its_end_within_its_limit(self, character: str) -> None:
        error = raised(lambda: charge(character * 20_000 + " the cause"))
        trace = letter(error).headers["bq-dead-traceback"]
        assert TRACEBACK_LIMIT - 6 < len(trace.encode()) <= TRACEBACK_LIMIT
        assert trace.startswith("…")
        assert trace.endswith(" the cause\n")

    def test_text_that_is_no_unicode_can_be_sent(self) -> None:
        headers = letter(raised(lambda: charge("broken \udc80")), note="broken \udc80").headers
        for text in headers.values():
            assert text.encode()
        assert headers["bq-dead-error-message"] == "broken \\udc80"

    def test_an_error_that_cannot_say_what_it_is_still_has_a_letter(self) -> None:
        headers = letter(_MuteError()).headers
        assert headers["bq-dead-error-type"].endswith("_MuteError")

    def test_of_the_history_it_keeps_the_last_ten_steps(self) -> None:
        history = [
            Transition(state=State.RETRYING, at=AT + timedelta(seconds=n), attempt=n, note=f"n{n}")
            for n in range(25)
        ]
        kept: list[str] = json.loads(letter(history=history).headers["bq-dead-history"])
        assert len(kept) == HISTORY_LIMIT
        assert kept[0] == "2026-01-01T00:00:15.000+00:00 retrying n15"
        assert kept[-1].endswith("retrying n24")

    def test_a_step_without_a_note_is_its_state(self) -> None:
        history = [Transition(state=State.QUEUED, at=AT, attempt=0)]
        headers = letter(history=history).headers
        assert json.loads(headers["bq-dead-history"]) == ["2026-01-01T00:00:00.000+00:00 queued"]


@given(text=st.text(), limit=st.integers(min_value=3, max_value=50))
def test_what_is_cut_fits_and_is_a_beginning(text: str, limit: int) -> None:
    kept = cut(text, limit)
    assert len(kept.encode()) <= limit
    readable = text.encode("utf-8", "backslashreplace").decode()
    assert kept == readable or (kept.endswith("…") and readable.startswith(kept[:-1]))


def test_an_error_is_described_by_its_qualified_name() -> None:
    assert describe(ValueError("no")).type == "ValueError"
    assert describe(json.JSONDecodeError("no", "", 0)).type == "json.decoder.JSONDecodeError"


class TestGroup:
    def test_failures_at_one_place_are_one_group_whatever_they_say(self) -> None:
        one, other = raised(lambda: charge("order 1")), raised(lambda: charge("order 2"))
        assert group_of("exhausted", "charge", one) == group_of("rejected", "charge", other)

    def test_another_place_or_another_type_is_another_group(self) -> None:
        errors = [raised(charge), raised(refund), raised(charge_by_number), raised(lambda: 1 / 0)]
        assert len({group_of("exhausted", "charge", error) for error in errors}) == len(errors)

    def test_frames_of_installed_packages_are_no_place(self) -> None:
        """A library that fails for two callers makes two groups."""
        code = compile("def library(): raise ValueError", "/x/site-packages/library.py", "exec")
        scope: dict[str, Any] = {}
        exec(code, scope)  # noqa: S102 - so that the frame has the file name

        def one() -> None:
            scope["library"]()

        def other() -> None:
            scope["library"]()

        groups = [group_of("exhausted", "charge", raised(f)) for f in (one, one, other)]
        assert groups[0] == groups[1] != groups[2]

    def test_frames_of_the_engine_are_no_place_and_are_not_shown(self) -> None:
        engine = str(Path(brokerq.__file__).with_name("engine") / "runner.py")
        scope: dict[str, Any] = {}
        exec(compile("def run(f): f()", engine, "exec"), scope)  # noqa: S102 - for the file name
        error = raised(lambda: scope["run"](charge))
        traceback = letter(error).headers["bq-dead-traceback"]
        assert "in charge" in traceback
        assert engine not in traceback
        assert group_of("exhausted", "charge", error) == group_of(
            "exhausted", "charge", raised(charge)
        )

    def test_an_error_that_was_never_raised_belongs_to_its_job(self) -> None:
        first = group_of("exhausted", "charge", ValueError())
        assert first == group_of("exhausted", "charge", ValueError("other"))
        assert first != group_of("exhausted", "refund", ValueError())

    def test_without_an_error_reason_and_job_are_the_group(self) -> None:
        groups = {group_of(r, j, None) for r in ("expired", "invalid") for j in ("a", "b")}
        assert len(groups) == 4


class TestPuttingBack:
    def redrive(self, **settings: Any) -> Redrive:
        read = read_letter(letter(raised(charge), note="n"), queue="payments", level="normal")
        facts: dict[str, Any] = {
            "epoch": 3,
            "redrives": 1,
            "first_at": AT + 2 * HOUR,
            "expires_at": None,
        }
        return Redrive(letter=read, **{**facts, **settings})

    def test_a_redriven_message_is_the_first_one_with_new_counts(self) -> None:
        head, message = redriven(self.redrive())
        assert read_head(message) == head
        assert (head.id, head.epoch, head.redrives, head.attempts) == ("j-1", 3, 1, 0)
        assert (head.first_at, head.crashes, head.not_before) == (AT + 2 * HOUR, 0, None)
        counts = {"bq-epoch", "bq-redrives", "bq-attempt", "bq-first-at"}
        assert {n: t for n, t in message.headers.items() if n not in counts} == {
            n: t for n, t in MESSAGE.headers.items() if n not in counts
        }

    def test_its_body_is_byte_for_byte_the_first_one_s(self) -> None:
        assert redriven(self.redrive())[1].body == BODY

    def test_its_deadline_is_what_the_record_says(self) -> None:
        assert redriven(self.redrive(expires_at=AT + 9 * HOUR))[0].expires_at == AT + 9 * HOUR

    @pytest.mark.parametrize(("hours", "kept"), [(1, False), (2, False), (3, True)])
    def test_without_a_store_the_message_s_own_counts_go_on(
        self, hours: int, *, kept: bool
    ) -> None:
        deadline = AT + hours * HOUR
        headers = {"bq-expires-at": deadline.isoformat(), "bq-redrives": "1"}
        died = letter(epoch=4)
        died = Message(headers={**died.headers, **headers}, body=died.body)
        head, message = redriven_storeless(died, now=AT + 2 * HOUR)
        assert (head.epoch, head.redrives, head.attempts, head.crashes) == (5, 2, 0, 0)
        assert head.first_at == AT + 2 * HOUR
        assert head.expires_at == (deadline if kept else None)
        assert not any(name.startswith("bq-dead-") for name in message.headers)
        assert message.body == BODY

    @given(body=st.binary(), user=st.dictionaries(st.text("abc", min_size=1), st.text()))
    def test_whatever_it_carried_comes_back(self, body: bytes, user: dict[str, str]) -> None:
        message = Message(headers={**MESSAGE.headers, **user}, body=body)
        died = write_letter(
            message,
            reason="rejected",
            note=None,
            error=None,
            first_at=AT,
            attempts=1,
            crashes=0,
            epoch=0,
            scene=SCENE,
        )
        assert without_verdict(died) == message
        head, back = redriven_storeless(died, now=AT)
        assert back.body == body
        assert {n: back.headers[n] for n in user} == user
        assert head.epoch == 1


class TestReading:
    def test_a_letter_says_of_itself_what_was_written(self) -> None:
        written = letter(raised(charge))
        read = read_letter(written, queue="elsewhere", level="high")
        assert (read.job_id, read.epoch, read.job, read.state) == (
            "j-1",
            2,
            "charge",
            LetterState.OPEN,
        )
        assert (read.queue, read.level, read.reason) == ("payments", "high", "exhausted")
        assert (read.error_type, read.error_message) == ("ValueError", "no money")
        assert (read.at, read.group) == (AT + HOUR, written.headers["bq-dead-group"])
        assert read.message is written

    def test_what_the_broker_buried_itself_is_told_as_far_as_it_can_be(self) -> None:
        read = read_letter(MESSAGE, queue="payments", level="normal")
        assert (read.job_id, read.reason, read.job) == ("j-1", "unroutable", "charge")
        assert (read.at, read.queue, read.error_type) == (AT, "payments", None)
        assert read.group == group_of("unroutable", "charge", None)

    def test_a_foreign_message_is_told_too(self) -> None:
        foreign = Message(headers={"mine": "x"}, body=b"\xff")
        read = read_letter(foreign, queue="payments", level="normal")
        assert (read.job_id, read.job, read.epoch, read.at) == ("", "", 0, NEVER)
        assert read.message is foreign

    @pytest.mark.parametrize("text", ["soon", ""])
    def test_an_unreadable_instant_hides_no_letter(self, text: str) -> None:
        foreign = Message(headers={"bq-dead-at": text}, body=b"")
        assert read_letter(foreign, queue="payments", level="normal").at == NEVER
