"""State machines over both ends of the transport: any order of honest and hostile steps."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from tests.fuzz import receiving, serving
from tests.fuzz.programs import machine

BRIEF = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=200,
    stateful_step_count=40,
    suppress_health_check=list(HealthCheck),
)

ServerMachine = machine("ServerMachine", serving.begin, serving.STEPS)
TestServer = ServerMachine.TestCase
TestServer.settings = BRIEF

ClientMachine = machine("ClientMachine", lambda form: receiving.Receiving(), receiving.STEPS)
TestClient = ClientMachine.TestCase
TestClient.settings = BRIEF

UnluckyMachine = machine("UnluckyMachine", lambda form: receiving.Receiving(), receiving.HONEST)
TestUnluckyClient = UnluckyMachine.TestCase
TestUnluckyClient.settings = BRIEF
