"""Nodes of one's own come, crash, come back where they were, and leave nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.services.ports import is_open
from tests.services.rabbitmq import own_node, standing_url

pytestmark = pytest.mark.timeout(240)  # a node may take long to start on a busy machine


def test_a_node_survives_a_kill_and_leaves_nothing() -> None:
    with own_node({"consumer_timeout": "12345"}) as node:
        version = node.version
        node.ctl("add_vhost", "kept")
        node.kill()
        assert not is_open(node.port)
        node.start()
        assert node.version == version
        assert "kept" in node.ctl("list_vhosts")
        assert "{consumer_timeout,12345}" in node.ctl("environment")
        node.stop()
        assert not is_open(node.port)
        assert node.folder.exists()
    assert not node.folder.exists()


def test_a_node_that_cannot_start_says_why() -> None:
    with pytest.raises(RuntimeError, match="does not start") as failed:
        own_node({"log": "}"}).start()
    assert "advanced.config" in str(failed.value)


def test_a_folder_without_rabbitmq_is_a_missing_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKERQ_TEST_RABBITMQ_ROOT", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="service missing: RabbitMQ"):
        own_node()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="service missing: RabbitMQ"):
        own_node()


def test_a_given_url_is_believed_only_if_somebody_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BROKERQ_TEST_AMQP_URL", "amqp://guest@127.0.0.1:1/")
    monkeypatch.delenv("CI", raising=False)
    standing_url.cache_clear()
    with pytest.raises(pytest.skip.Exception, match="nobody listens"):
        standing_url()
