"""trickles-trace as a process: of a server that is killed, of captures, of all that is wrong."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.stage import SITE, Site, Stage, grown_to, is_root, run, same_as_site, until
from tests.net.processes import PATIENCE_S, ROOT
from tests.trace.recorded import transfer

pytestmark = pytest.mark.live

COMMAND = [sys.executable, "-W", "error", "-m", "trickles_web.cli.trace"]


def trace(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    done = subprocess.run(
        [*COMMAND, *arguments], input=stdin, capture_output=True, timeout=PATIENCE_S, cwd=ROOT
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def fails(code: int, *arguments: str, stdin: bytes = b"") -> str:
    """Expects this code and one line on stderr; returns that."""
    returned, _, complaint = trace(*arguments, stdin=stdin)
    assert returned == code, complaint
    assert complaint.startswith("trickles-trace: ")
    assert complaint.count("\n") == 1
    return complaint


def test_a_killed_server(stage: Stage, tmp_path: Path) -> None:
    """The client stands still while the server is killed: so that comes in the middle."""
    body, saved, plot = tmp_path / "body", tmp_path / "saved.pcap", tmp_path / "plot.svg"
    with Site(stage, SITE) as site:
        url = f"trickles://127.0.0.1:{site.port}/files/100.bin"
        assert run("trickles-get", url.partition("://")[2], "-o", os.devnull).returncode == 0
        words = [*COMMAND, url, "-o", str(body), "--save", str(saved), "--plot", str(plot)]
        pipe = subprocess.PIPE
        with subprocess.Popen(words, cwd=ROOT, stdout=pipe, stderr=pipe) as process:
            try:
                grown_to(body, 5_000_000)
                process.send_signal(signal.SIGSTOP)
                site.restart()
                process.send_signal(signal.SIGCONT)
                out, complaints = process.communicate(timeout=PATIENCE_S)
            finally:
                process.kill()
        assert (process.returncode, complaints) == (0, b""), complaints
    assert same_as_site(body, 100)
    told = out.decode()
    [replicas] = re.findall(r"^  replicas +(.*)$", told, re.M)
    assert len(replicas.split(", ")) == 2
    [generations] = re.findall(r"generations: (\d+)", told)
    assert int(generations) > 1
    assert re.search(r" done +the response \[0, 100,000,\d+\) is here in ", told)
    assert b"<svg" in plot.read_bytes()
    assert saved.stat().st_size < 3_000_000
    told = told.removesuffix(f"plotted to {plot}\n")
    assert trace(str(saved)) == (0, told, "")
    flow = re.findall(r"^flow (\w{16}) ", told, re.M)[0]
    assert trace(str(saved), "--flow", flow[:5].upper())[1] == told
    code, streamed, _ = trace("-", stdin=saved.read_bytes())
    assert code == 0
    assert streamed.endswith(told.partition("\nflow ")[2])
    assert streamed.splitlines()[1].startswith(f"{flow[:4]} ")


@pytest.mark.skipif(shutil.which("tcpdump") is None or not is_root(), reason="needs tcpdump, root")
def test_what_tcpdump_captures(stage: Stage, tmp_path: Path) -> None:
    """On the loopback, where trains are captured as one. Three flows: a table, then one of them."""
    file = tmp_path / "captured.pcap"
    with Site(stage, SITE) as site:
        words = ["tcpdump", "-i", "lo", "-U", "-w", str(file), "-B", "32768"]
        with subprocess.Popen(
            [*words, "udp", "port", str(site.port)], stderr=subprocess.PIPE
        ) as capturing:
            assert capturing.stderr is not None
            try:
                assert b"listening on" in capturing.stderr.readline()
                place = f"127.0.0.1:{site.port}"
                assert run("trickles-get", f"{place}/").returncode == 0
                size = len(run("trickles-get", f"{place}/files/1.bin", "-i").stdout)
                code, out, _ = trace(f"trickles://{place}/")
                assert code == 0
                *_, last = re.findall(r"^flow (\w{16})", out, re.M)
                until(lambda: bytes.fromhex(last) in file.read_bytes(), "the last flow")
                capturing.send_signal(signal.SIGINT)
                assert capturing.wait(PATIENCE_S) == 0
            finally:
                capturing.kill()
    code, out, complaint = trace(str(file))
    assert (code, complaint) == (0, "")
    head, *flows, hint = out.splitlines()
    assert head.startswith("flow ") and "--flow ID" in hint
    assert len(flows) == 3
    assert [f"{size:,}" in line for line in flows] == [False, True, False]
    code, out, _ = trace(str(file), "--flow", flows[1][:16])
    assert code == 0
    assert f"{size:,} response bytes" in out
    code, out, _ = trace(str(file), "--flow", flows[1][:16], "--packets")
    assert out.count(" <- DATA ") > out.count(" <- ACK ") > 0
    complaint = fails(2, str(file), "--plot", str(tmp_path / "plot.svg"))
    assert "--flow" in complaint


def test_a_server_that_is_not_there() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"trickles://127.0.0.1:{silent.getsockname()[1]}/"
        code, told, complaint = trace(url, "-m", "0.8")
    assert (code, complaint) == (1, "trickles-trace: not done after 0.8 s\n")
    assert told.count("-> HELLO") >= 2
    assert re.search(
        r"^  datagrams +in 0 bytes \(none\), out [\d,]+ bytes \(\d HELLO\)$", told, re.M
    )
    assert "connection refused" in fails(1, url)
    code, told, complaint = trace("trickles://no-such-host.invalid/", "--plot", "x.svg")
    assert (code, told) == (1, "")
    assert complaint.startswith("trickles-trace: could not resolve no-such-host.invalid: ")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "Missing argument"),
        (("--colour", "x.pcap"), "No such option"),
        (("http://127.0.0.1/",), "the scheme must be trickles://"),
        (("no-such-file.pcap",), "cannot read no-such-file.pcap: No such file"),
        (("127.0.0.1:8000/",), "cannot read 127.0.0.1:8000/: No such file"),
        ((str(ROOT),), "Is a directory"),
        (("x.pcap", "-o", "body"), "go with a URL"),
        (("x.pcap", "--save", "y.pcap"), "go with a URL"),
        (("x.pcap", "--flow", "xyz"), "bad flow 'xyz'"),
        (("x.pcap", "--plot", "x.bmp"), "must end in .svg, .png, .pdf"),
        (("trickles://127.0.0.1/", "-o", "-"), "the story goes to stdout"),
        (("trickles://127.0.0.1/", "-m", "0"), "-m"),
        (("trickles://127.0.0.1/", "--save", "/none/x.pcap"), "cannot write /none/x.pcap"),
        (("trickles://127.0.0.1:9/", "--save", "/dev/full"), "No space left on device"),
    ],
)
def test_what_cannot_be_done(arguments: tuple[str, ...], complaint: str) -> None:
    assert complaint in fails(2, *arguments)


def test_captures_that_are_none(tmp_path: Path) -> None:
    whole = transfer(1, size=50_000).capture
    assert "no capture file" in fails(1, "-", stdin=b"<html>")
    code, told, complaint = trace("-", stdin=whole[:-3])
    assert code == 1
    assert "breaks off" in complaint
    assert "response bytes in" in told
    code, told, complaint = trace("-", stdin=whole[:24])
    assert (code, told, complaint) == (0, "no datagram of a Trickles flow was captured\n", "")
    assert "begins with 0000" in trace("-", "--flow", "0000", stdin=whole)[1]


def test_a_reader_that_leaves(tmp_path: Path) -> None:
    """As head does, in the middle of a story that no pipe holds."""
    file = tmp_path / "x.pcap"
    file.write_bytes(transfer(1, size=2_000_000).capture)
    with subprocess.Popen(
        [*COMMAND, str(file), "--packets"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(PATIENCE_S) == 1
        assert process.stderr.read() == b""
