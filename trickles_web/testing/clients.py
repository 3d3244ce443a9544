"""HTTP clients of a test, each with a simulation of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import httpx

from trickles_web.testing.simulation import Simulation
from trickles_web.testing.world import Settings

DEFAULTS: dict[str, Any] = {"base_url": "http://testserver", "trust_env": False}
"""Of clients. A proxy that the environment names would not find that host."""


class MakeClient(Protocol):
    """The fixture `trickles_client`."""

    def __call__(
        self,
        app: Any,
        *,
        replicas: int | None = None,
        loss: float | None = None,
        kill_every: int | None = None,
        seed: int | None = None,
        private: bool = False,
        **options: Any,
    ) -> httpx.Client:
        """A client of `app`, an application or its "module:attribute".

        replicas: processes that serve it. loss: probability for each packet. kill_every: each
        such call of the application is the last of its process. private: by https, in private
        flows. options: those of httpx.Client.
        """


class MakeAsyncClient(Protocol):
    """The fixture `trickles_async_client`: the same for `async with`."""

    def __call__(
        self,
        app: Any,
        *,
        replicas: int | None = None,
        loss: float | None = None,
        kill_every: int | None = None,
        seed: int | None = None,
        private: bool = False,
        **options: Any,
    ) -> httpx.AsyncClient: ...


class Choose(Protocol):
    """Settings of what the test asks for, None where it says nothing. Raises UsageError."""

    def __call__(
        self,
        *,
        replicas: int | None,
        loss: float | None,
        kill_every: int | None,
        seed: int | None,
        private: bool,
    ) -> Settings: ...


def _for_simulation(request: httpx.Request) -> httpx.Request:
    """The same without TLS, which nobody speaks there: whether flows are private was said."""
    return httpx.Request(
        request.method,
        request.url.copy_with(scheme="http"),
        headers=request.headers,
        stream=request.stream,
        extensions=request.extensions,
    )


class _Transport(httpx.HTTPTransport):
    """Ends the simulation with its client."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__(uds=simulation.path, verify=False)  # no TLS: that would load certificates
        self._simulation = simulation

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return super().handle_request(_for_simulation(request))

    def close(self) -> None:
        super().close()
        self._simulation.close()


class _AsyncTransport(httpx.AsyncHTTPTransport):
    """The same; what is awaited there takes some milliseconds."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__(uds=simulation.path, verify=False)  # no TLS: that would load certificates
        self._simulation = simulation

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await super().handle_async_request(_for_simulation(request))

    async def aclose(self) -> None:
        await super().aclose()
        self._simulation.close()


class Clients:
    """Those of one test."""

    def __init__(self, choose: Choose) -> None:
        self.simulations: list[Simulation] = []
        self._choose = choose
        self._closing: list[Callable[[], None]] = []

    def make(self, app: Any, **given: Any) -> httpx.Client:
        """See MakeClient."""
        simulation, options = self._begin(app, **given)
        client = httpx.Client(transport=_Transport(simulation), **options)
        self._closing.append(client.close)
        return client

    def make_async(self, app: Any, **given: Any) -> httpx.AsyncClient:
        """See MakeAsyncClient."""
        simulation, options = self._begin(app, **given)
        return httpx.AsyncClient(transport=_AsyncTransport(simulation), **options)

    def _begin(
        self,
        app: Any,
        *,
        replicas: int | None = None,
        loss: float | None = None,
        kill_every: int | None = None,
        seed: int | None = None,
        private: bool = False,
        **options: Any,
    ) -> tuple[Simulation, dict[str, Any]]:
        """The simulation, and what is the client's."""
        settings = self._choose(
            replicas=replicas, loss=loss, kill_every=kill_every, seed=seed, private=private
        )
        simulation = Simulation(app, settings)
        self._closing.append(simulation.close)
        self.simulations.append(simulation)
        base_url = {"base_url": "https://testserver"} if private else {}
        return simulation, DEFAULTS | base_url | options

    def close(self) -> None:
        """Clients, then simulations, the last one first. Raises SimulationBroke."""
        while self._closing:
            self._closing.pop()()
