"""What the headers of a message mean."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerq.message import Message
from brokerq.wire import Head, WireError, adopt, read_head, write_headers

AT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
HEAD = Head(id="j", job="work", first_at=AT)
REQUIRED = {"bq-v": "1", "bq-id": "j", "bq-job": "work", "bq-first-at": AT.isoformat()}

_texts = st.text(min_size=1)
_instants = st.datetimes(timezones=st.just(UTC))
_counts = st.integers(min_value=0, max_value=999_999_999)
_heads = st.builds(
    Head,
    id=_texts,
    job=_texts,
    first_at=_instants,
    epoch=_counts,
    attempts=_counts,
    crashes=_counts,
    key=st.none() | _texts,
    fingerprint=st.none() | _texts,
    not_before=st.none() | _instants,
    expires_at=st.none() | _instants,
    priority=st.none() | _texts,
    order=st.none() | _texts,
    tenant=st.none() | _texts,
    cause=st.none() | _texts,
    correlation=st.none() | _texts,
    redrives=_counts,
    max_attempts=st.none() | st.integers(min_value=1, max_value=999_999_999),
    tags=st.lists(st.text()).map(tuple),
    user=st.dictionaries(_texts.filter(lambda name: not name.startswith("bq-")), st.text()),
)


def reading(**headers: str | None) -> Head:
    """Read the required headers with these changes; None removes one."""
    changes = {f"bq-{name.replace('_', '-')}": text for name, text in headers.items()}
    merged = {name: text for name, text in {**REQUIRED, **changes}.items() if text is not None}
    return read_head(Message(headers=merged, body=b""))


@given(_heads)
def test_what_was_written_is_read_back(head: Head) -> None:
    headers = write_headers(head)
    assert read_head(Message(headers=headers, body=b"")) == head


@given(_heads)
def test_what_was_read_is_written_back(head: Head) -> None:
    headers = write_headers(head)
    assert write_headers(read_head(Message(headers=headers, body=b""))) == headers


def test_a_header_that_has_its_default_is_left_out() -> None:
    assert write_headers(HEAD) == REQUIRED


def test_the_users_headers_cannot_pass_for_brokerq_s() -> None:
    headers = write_headers(HEAD._replace(user={"bq-id": "forged", "mine": "kept"}))
    assert headers == {**REQUIRED, "mine": "kept"}


def test_what_brokerq_does_not_know_yet_and_dead_letter_headers_are_ignored() -> None:
    assert reading(from_the_future="x", dead_reason="exhausted") == HEAD


@pytest.mark.parametrize("name", ["id", "job", "first_at"])
def test_a_message_without_what_is_required_is_refused(name: str) -> None:
    with pytest.raises(WireError, match=f"bq-{name.replace('_', '-')} is missing"):
        reading(**{name: None})


@pytest.mark.parametrize("version", ["2", "", "1.0", "one"])
def test_another_version_is_refused(version: str) -> None:
    with pytest.raises(WireError, match="wire version"):
        reading(v=version)


def test_a_message_without_a_version_is_read_as_the_first() -> None:
    assert reading(v=None) == HEAD


@pytest.mark.parametrize("name", ["epoch", "attempt", "crashes", "redrives", "max_attempts"])
@pytest.mark.parametrize("text", ["", "-1", "1.0", "x", " 1", "²", "\u0661", "+1"])
def test_a_count_that_cannot_be_read_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(WireError, match=f"bq-{name.replace('_', '-')} is not a count"):
        reading(**{name: text})


def test_a_count_too_long_to_convert_is_refused() -> None:
    with pytest.raises(WireError, match="bq-epoch is not a count"):
        reading(epoch="1" * 10_000)


@pytest.mark.parametrize("name", ["first_at", "not_before", "expires_at"])
@pytest.mark.parametrize("text", ["", "soon", "2026-13-01T00:00:00+00:00", "1767225600"])
def test_an_instant_that_cannot_be_read_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(WireError, match=f"bq-{name.replace('_', '-')} is not an instant"):
        reading(**{name: text})


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_an_instant_beyond_what_utc_can_say_is_refused(text: str) -> None:
    with pytest.raises(WireError, match="bq-not-before is not an instant"):
        reading(not_before=text)


def test_an_instant_of_another_zone_is_read_as_utc() -> None:
    local = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    head = reading(not_before=local.isoformat())
    assert head.not_before == AT
    assert head.not_before is not None
    assert head.not_before.tzinfo is UTC


def test_an_instant_without_a_zone_is_utc() -> None:
    assert reading(not_before="2026-01-02T03:04:05.000678").not_before == AT


@pytest.mark.parametrize("text", ["", "x", "{}", '"a"', "[1]", '["a", null]', "["])
def test_tags_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(WireError, match="bq-tags is not a list of words"):
        reading(tags=text)


class TestAdopt:
    def adopted(self, headers: dict[str, str], *, default_job: str | None = "work") -> Message:
        message = Message(headers=headers, body=b'{"a":1}')
        return adopt(message, id="given", default_job=default_job, now=AT)

    def test_a_message_without_headers_becomes_the_default_job(self) -> None:
        adopted = self.adopted({})
        assert read_head(adopted) == HEAD._replace(id="given")
        assert adopted.body == b'{"a":1}'

    def test_what_the_message_says_itself_is_kept(self) -> None:
        said = {"bq-id": "own", "bq-job": "mine", "bq-key": "k", "else": "e"}
        head = read_head(self.adopted(said))
        assert (head.id, head.job, head.key, head.first_at) == ("own", "mine", "k", AT)
        assert head.user == {"else": "e"}

    def test_without_a_default_job_it_stays_without_one(self) -> None:
        with pytest.raises(WireError, match="bq-job is missing"):
            read_head(self.adopted({}, default_job=None))
