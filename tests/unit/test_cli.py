"""The command line: finding the app, publishing, jobs and queues."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.unit.cli_app import Shop, open_shop


@pytest.fixture
def shop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Generator[Shop]:
    with open_shop(tmp_path, monkeypatch, capsys) as opened:
        yield opened


def test_a_published_job_is_listed_run_and_shown(shop: Shop) -> None:
    job_id = shop.charge("o-1", 5)
    [queued] = shop.read("jobs", "ls")["jobs"]
    assert (queued["id"], queued["state"], queued["queue"]) == (job_id, "queued", "payments")
    shop.work()
    job = shop.read("jobs", "show", job_id)["job"]
    assert job["state"] == "succeeded"
    assert job["payload"] == {"order_id": "o-1", "cents": 5}
    assert job["result"] == {"receipt": "o-1"}
    assert [step["state"] for step in job["history"]] == ["queued", "running", "succeeded"]
    assert "charging cents=5" in job["log"][0]
    text = shop.do("jobs", "show", job_id)
    assert 'payload     {"order_id": "o-1", "cents": 5}' in text
    assert "succeeded" in text


def test_hidden_fields_are_hidden_and_exported_whole(shop: Shop) -> None:
    job_id = shop.do("publish", "login", "--arg", "token=s3cret")
    shop.work()
    letter = shop.read("dlq", "show", job_id)["letter"]
    assert letter["payload"] == {"token": "***"}
    assert letter["error_message"] == "*** is not known"
    assert "s3cret" not in shop.do("dlq", "show", job_id)
    assert '{\\"token\\":\\"s3cret\\"}' in shop.do("dlq", "export", job_id)
    (shop.folder / "repaired").touch()
    shop.do("dlq", "redrive", job_id)
    shop.work()
    job = shop.read("jobs", "show", job_id)["job"]
    assert (job["payload"], job["result"]) == ({"token": "***"}, {"token": "***"})


def test_arguments_may_come_as_json_from_stdin_and_one_by_one(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (shop.folder / "in.json").open("w+", encoding="utf-8") as stdin:
        stdin.write('{"order_id": "o-1", "cents": 5}')
        stdin.seek(0)
        monkeypatch.setattr(sys, "stdin", stdin)
        job_id = shop.do("publish", "charge", "--json", "-", "--arg", "cents:=6")
    assert shop.read("jobs", "show", job_id)["job"]["payload"] == {"order_id": "o-1", "cents": 6}


def test_publish_options_reach_the_job(shop: Shop) -> None:
    arguments = ["--arg", "order_id=o-1", "--priority", "high", "--key", "k", "--delay", "1h"]
    delayed = shop.read("jobs", "show", shop.do("publish", "charge", *arguments))["job"]
    assert (delayed["state"], delayed["level"]) == ("scheduled", "high")
    assert delayed["key"].endswith("k")
    at = shop.do("publish", "pid", "--arg", "n=1", "--at", "2100-01-31T09:30:00+01:00")
    assert shop.read("jobs", "show", at)["job"]["due_at"] == "2100-01-31T08:30:00.000+00:00"


def test_a_duplicate_is_told_on_stderr_and_another_payload_is_refused(shop: Shop) -> None:
    job_id = shop.charge("o-1", 5)
    code, out, err = shop.run("publish", "charge", "--json", '{"order_id": "o-1", "cents": 5}')
    assert (code, out.strip()) == (0, job_id)
    assert "duplicate" in err
    code, out, err = shop.run("publish", "charge", "--json", '{"order_id": "o-1", "cents": 6}')
    assert (code, out) == (4, "")
    assert err.startswith("brokerq: the idempotency key 'o-1'")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["charge"], 2, "'order_id' is missing"),
        (["charge", "--arg", "order_id"], 2, "write NAME=VALUE"),
        (["charge", "--json", "[1]"], 2, "write a JSON object"),
        (["charge", "--json", "{"], 2, "not JSON"),
        (["charge", "--delay", "-1s"], 2, "must not be negative"),
        (["charge", "--delay", "10"], 2, "is not a duration"),
        (["charge", "--at", "tomorrow"], 2, "is not ISO 8601"),
        (["charge", "--at", "2030-01-31T09:30:00"], 2, "has no time zone"),
        (["charge", "--timeout", "1s"], 2, "--timeout is for --wait"),
        (["charge", "--arg", "order_id=o", "--priority", "urgent"], 3, "has no priority 'urgent'"),
        (["charg", "--arg", "order_id=o"], 3, "did you mean 'charge'?"),
        (["charge", "--arg", "order_id=o", "--queue", "payment"], 3, "did you mean 'payments'?"),
    ],
)
def test_what_cannot_be_published_is_told_with_the_remedy(
    shop: Shop, arguments: list[str], code: int, sentence: str
) -> None:
    found, out, err = shop.run("publish", *arguments)
    assert (found, out) == (code, "")
    assert sentence in err
    assert "Traceback" not in err


def test_a_job_that_is_not_registered_can_be_published_to_a_named_queue(shop: Shop) -> None:
    job_id = shop.do("publish", "elsewhere", "--queue", "default", "--arg", "a=1")
    assert shop.read("jobs", "show", job_id)["job"]["payload"] == {"a": "1"}


def test_waiting_for_a_job_that_nobody_runs_ends_with_the_timeout(shop: Shop) -> None:
    code, out, err = shop.run("publish", "pid", "--arg", "n=1", "--wait", "--timeout", "50ms")
    assert (code, out) == (1, "")
    assert "had not ended" in err


def test_waiting_writes_the_result_as_json(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKERQ_MODE", "inline")
    result = shop.do("publish", "charge", "--arg", "order_id=o-1", "--wait")
    assert json.loads(result) == {"receipt": "o-1"}


def test_jobs_are_filtered_and_paged_newest_first(shop: Shop) -> None:
    ids = [shop.charge(f"o-{n}") for n in range(5)]
    shop.do("publish", "pid", "--arg", "n=1")
    assert [job["id"] for job in shop.read("jobs", "ls", "--queue=payments")["jobs"]] == ids[::-1]
    assert len(shop.read("jobs", "ls", "--limit=2")["jobs"]) == 2
    assert [job["job"] for job in shop.read("jobs", "ls", "--job=pid")["jobs"]] == ["pid"]
    assert shop.read("jobs", "ls", "--state=dead", "--state=running")["jobs"] == []
    assert shop.read("jobs", "ls", "--older-than=1h")["jobs"] == []
    assert len(shop.read("jobs", "ls", "--newer-than=1h")["jobs"]) == 6
    lines = shop.do("jobs", "ls", "--jsonl").splitlines()
    assert [json.loads(line)["schema"] for line in lines] == [1] * 6
    table = shop.do("jobs", "ls").splitlines()
    assert table[0].split()[:4] == ["id", "job", "queue", "state"]
    assert len(table) == 7


def test_an_empty_list_is_said_on_stderr(shop: Shop) -> None:
    assert shop.run("jobs", "ls") == (0, "", "no jobs\n")
    assert shop.read("jobs", "ls") == {"schema": 1, "jobs": []}
    assert shop.run("jobs", "ls", "--jsonl")[1] == ""


def test_cancelling_answers_for_each_job(shop: Shop) -> None:
    done = shop.charge("o-1")
    shop.work()
    waiting = shop.charge("o-2")
    code, out, _ = shop.run("jobs", "cancel", waiting, done, "nobody")
    assert code == 6
    assert out.splitlines() == [f"{waiting}  cancelled", f"{done}  too_late", "nobody  not_found"]
    assert shop.run("jobs", "cancel", done)[0] == 4
    assert shop.run("jobs", "cancel", "nobody")[0] == 3
    another = shop.charge("o-3")
    answers = shop.read("jobs", "cancel", another)["jobs"]
    assert answers == [{"id": another, "answer": "cancelled"}]


def test_an_ended_job_is_run_again_under_a_new_id_with_new_arguments(shop: Shop) -> None:
    old = shop.charge("o-1", 13)
    assert shop.run("jobs", "rerun", old)[0] == 4
    shop.work()
    new = shop.do("jobs", "rerun", old, "--json", '{"order_id": "o-1", "cents": "5"}')
    job = shop.read("jobs", "show", new)["job"]
    assert (job["cause"], job["key"]) == (old, None)
    assert job["payload"] == {"order_id": "o-1", "cents": 5}
    assert shop.run("jobs", "rerun", "nobody")[0] == 3
    assert shop.run("jobs", "rerun", old, "nobody")[0] == 6
    assert shop.run("jobs", "rerun", old, new, "--arg", "cents=1")[0] == 2
    assert shop.run("jobs", "rerun", old, "--arg", "cents=1")[0] == 2


def test_a_job_that_is_not_there_is_exit_code_3(shop: Shop) -> None:
    code, out, err = shop.run("jobs", "show", "nobody")
    assert (code, out) == (3, "")
    assert err.startswith("brokerq: there is no job nobody")


def test_queues_are_listed_paused_and_resumed(shop: Shop) -> None:
    shop.charge("o-1")
    [payments, default] = shop.read("queues", "ls")["queues"]
    assert payments["queue"] == "payments"
    assert (payments["ready"], payments["dead"], payments["paused"]) == (1, 0, False)
    assert payments["levels"] == ["high", "normal"]
    assert default["oldest_seconds"] is None
    assert shop.do("queues", "pause", "payments", "--by", "me") == "paused payments"
    assert shop.read("queues", "ls")["queues"][0]["paused"] is True
    shop.work()
    assert shop.read("jobs", "ls", "--state=queued")["jobs"]
    assert shop.do("queues", "resume", "payments") == "resumed payments"
    shop.work()
    assert shop.read("jobs", "ls", "--state=queued")["jobs"] == []
    assert shop.run("queues", "pause", "payment")[0] == 3
    assert len(shop.do("queues", "ls", "--jsonl").splitlines()) == 2
    assert shop.do("queues", "ls").splitlines()[1].split()[0] == "payments"


def test_purging_a_queue_needs_yes_and_cancels_its_jobs(shop: Shop) -> None:
    job_id = shop.charge("o-1")
    code, out, err = shop.run("queues", "purge", "payments")
    assert (code, out) == (4, "")
    assert "add --yes" in err
    assert shop.do("queues", "purge", "payments", "--dry-run").startswith("would remove 1 ")
    assert shop.do("queues", "purge", "payments", "--yes") == "removed 1 messages from payments"
    assert shop.read("jobs", "show", job_id)["job"]["state"] == "cancelled"


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("shop", "write MODULE:NAME"),
        ("shopp:bq", "there is no module 'shopp'"),
        ("shop:queue", "it holds shop:bq, shop:other"),
        ("shop:number", "shop:number is a int, not a BrokerQ: it holds shop:bq, shop:other"),
        ("empty:bq", "it holds no BrokerQ (make one: `bq = BrokerQ('empty')`)"),
        ("broken:bq", 'broken.py", line 2, in <module>'),
        ("nested:bq", "No module named 'no_such_module'"),
        ("quits:bq", "SystemExit: 9"),
    ],
)
def test_an_app_that_is_not_found_is_told_with_the_remedy(
    shop: Shop, reference: str, sentence: str
) -> None:
    (shop.folder / "empty.py").touch()
    (shop.folder / "broken.py").write_text("x = 1\nx / 0\n")
    (shop.folder / "nested.py").write_text("import no_such_module\n")
    (shop.folder / "quits.py").write_text("raise SystemExit(9)\n")
    for command in (["worker", reference], ["jobs", "ls", "-A", reference]):
        code, out, err = shop.run(*command)
        assert (code, out) == (2, "")
        assert err.startswith("brokerq: ")
        assert sentence in err
        assert "importlib" not in err


def test_without_an_app_the_command_says_how_to_name_one(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BROKERQ_APP")
    for command in (["worker"], ["jobs", "ls"]):
        code, _, err = shop.run(*command)
        assert code == 2
        assert "BROKERQ_APP" in err


@pytest.mark.parametrize(
    ("url", "code", "sentence"),
    [
        ("sqlite:////no/such/folder/x.db", 5, "no/such/folder"),
        ("rabbit://user:hunter2@host", 2, "did you mean amqp://?"),
        ("redis://user:hunter2@host", 2, "redis:// is no broker, only a store"),
    ],
)
def test_a_broker_that_cannot_be_used_is_one_line(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, url: str, code: int, sentence: str
) -> None:
    monkeypatch.setenv("BROKERQ_URL", url)
    found, out, err = shop.run("jobs", "ls")
    assert (found, out) == (code, "")
    assert err.startswith("brokerq: ")
    assert sentence in err
    assert "hunter2" not in err
    assert "Traceback" not in err


def test_debug_shows_the_traceback_before_the_line(shop: Shop) -> None:
    code, _, err = shop.run("--debug", "jobs", "show", "nobody")
    assert code == 3
    assert err.startswith("Traceback")
    assert err.splitlines()[-1].startswith("brokerq: there is no job")


def test_without_a_store_what_needs_one_says_so(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKERQ_STORE_URL", "none://")
    code, _, err = shop.run("jobs", "ls")
    assert code == 2
    assert "BROKERQ_STORE_URL" in err
    assert shop.read("queues", "ls")["queues"][0]["paused"] is False


def test_control_characters_do_not_reach_the_terminal(shop: Shop) -> None:
    job_id = shop.do("publish", "charge", "--json", '{"order_id": "\\u001b[2J"}')
    assert "\x1b" not in shop.do("jobs", "show", job_id)
    assert "\\x1b[2J" in shop.do("jobs", "show", job_id)


def test_the_version_is_shown(shop: Shop) -> None:
    assert shop.do("version").startswith("brokerq 0.")
    assert {"memory", "sqlite"} <= set(shop.read("version")["adapters"])


def test_the_modules_of_the_command_line_import_little() -> None:
    """The package's own front door imports the library; what lies behind it must not."""
    program = """
import sys, types, brokerq.errors
for name in [name for name in sys.modules if name.split(".")[0] in %r]:
    del sys.modules[name]
bare = types.ModuleType("brokerq")
bare.__path__ = [%r]
sys.modules["brokerq"] = bare
import brokerq.cli
print(*sorted({name.split(".")[0] for name in sys.modules} & set(%r)))
"""
    heavy = ["pydantic", "pydantic_core", "pydantic_settings", "structlog", "rich", "tenacity"]
    package = Path(__file__).parents[2] / "brokerq"
    script = program % ([*heavy, "brokerq", "asyncio"], str(package), [*heavy, "asyncio"])
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() in ([], ["asyncio"])
