"""Round trips to the first byte over an emulated link, counted in datagrams and not in time."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from loadtest import link as links
from tests.live.stage import Stage
from tests.net.processes import ROOT

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("live requests")]

PORT = 8000
LACK = links.missing()


@pytest.mark.skipif(bool(LACK), reason=f"needs {LACK}")
def test_round_trips_of_a_new_flow(stage: Stage) -> None:
    """What the client has sent when the first byte is here: a datagram for each round trip."""
    with links.link(links.Shape(delay_ms=10)) as link:
        words = ["trickles_web.cli.serve", "apps.hello:app", "--host", links.FAR_ADDRESS]
        words.append("--allow-cleartext")
        server = subprocess.Popen(
            [*("ip", "netns", "exec", link.far), sys.executable, "-m", *words],
            cwd=ROOT,
            env={
                "XDG_STATE_HOME": str(stage.directory),
                "XDG_RUNTIME_DIR": str(stage.directory),
                "PATH": "/usr/sbin:/usr/bin:/bin",
            },
            stderr=subprocess.PIPE,
        )
        with server:
            try:
                assert server.stderr is not None
                while b"running on trickles://" not in (line := server.stderr.readline()):
                    assert line, "the server has ended"
                probe = [sys.executable, "-m", "loadtest.first_byte", links.FAR_ADDRESS]
                done = subprocess.run(
                    ["ip", "netns", "exec", link.near, *probe, str(PORT), "0", "3"],
                    cwd=ROOT,
                    capture_output=True,
                    timeout=60,
                )
                assert done.returncode == 0, done.stderr
            finally:
                server.kill()
    samples = json.loads(done.stdout)
    assert samples["datagrams"] == [2, 2, 2]
    assert samples["returning datagrams"] == [1, 1, 1]
