"""What operators copy from deploy/ is meant for this server: options, addresses, times."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.documents import links, offered, options_of
from trickles_web.cli.serve import serve
from trickles_web.net.parking import LONGEST_WAIT_MS
from trickles_web.net.secret import ENVIRONMENT

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
REPLICAS = {"10.0.0.11", "10.0.0.12", "10.0.0.13"}
ENGINES = ("nginx.conf", "spray.nft", "ipvs.rules", "ecmp.ip")


def text(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


def check(words: list[str]) -> dict[str, Any]:
    """The options of a command that starts a server, with values that it takes."""
    program, *arguments = words
    assert Path(program).name == "trickles-serve"
    return serve.make_context("trickles-serve", arguments).params


@pytest.mark.parametrize("name", ENGINES)
def test_engines_have_the_same_service_and_replicas(name: str) -> None:
    assert set(re.findall(r"10\.0\.0\.1\d", text(name))) == REPLICAS
    assert "192.0.2.1" in text(name)


def test_nginx_waits_for_all_that_a_server_may_still_say() -> None:
    directives = re.sub(r"#.*", "", text("nginx.conf"))
    timeout = re.search(r"proxy_timeout (\d+)s;", directives)
    assert timeout is not None
    assert int(timeout[1]) * 1000 > LONGEST_WAIT_MS
    assert "proxy_responses" not in directives


def test_the_unit_starts_a_server_and_lets_it_end() -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign, assignment]
    unit.read_string(text("trickles.service"))
    service = unit["Service"]
    options = check(shlex.split(service["ExecStart"]))
    assert options["workers"] > 1
    assert int(service["TimeoutStopSec"]) > options["timeout_graceful_shutdown"]


def test_the_manifest_starts_servers_and_lets_them_end() -> None:
    deployment, service = yaml.safe_load_all(text("kubernetes.yaml"))
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    words = [*container["command"], *container["args"]]
    options = check([word.replace("$(POD_IP)", "10.1.2.3") for word in words])
    environment = {variable["name"]: variable for variable in container["env"]}
    assert set(environment) == {"POD_IP", ENVIRONMENT}
    ports = {(port["containerPort"], port["protocol"]) for port in container["ports"]}
    assert ports == {(options["port"], "UDP"), (8001, "UDP")}
    (port,) = service["spec"]["ports"]
    assert (port["port"], port["protocol"]) == (options["port"], "UDP")
    labels = pod["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"]["selector"] == labels
    assert pod["spec"]["enableServiceLinks"] is False
    assert pod["spec"]["terminationGracePeriodSeconds"] > options["timeout_graceful_shutdown"]
    probe = tuple(container["readinessProbe"]["exec"]["command"])
    assert options_of(probe) <= offered(probe[0])


def test_every_file_is_told_of() -> None:
    files = {path.name for path in DEPLOY.iterdir()} - {"README.md"}
    assert {link for link in links("deploy/README.md") if "/" not in link} == files
