"""Scenario: static files by `trickles-serve --static`, beside Starlette's on uvicorn, and nginx."""

from __future__ import annotations

import functools
import os
import shutil

from loadtest import generator
from loadtest.files import SMALL_BYTES, make_files
from loadtest.load import Load, Loader
from loadtest.measure import pinning, server_core
from loadtest.peers import HOST, Running, Server, await_answer, free_tcp_port, start
from loadtest.processes import Stage
from loadtest.report import Options, Picture, Report
from loadtest.rounds import medians, per_server_s, rounds_of, take_turns

APP = "loadtest.static_application:app"
OURS, THEIRS = Server("trickles", "httptools", "uvloop"), Server("uvicorn", "httptools", "uvloop")
STATIC, HOSTED = "trickles --static", "trickles, Starlette"
STARLETTE = "uvicorn, Starlette"
LOADS = {
    f"{SMALL_BYTES} B": Load(3.0, 64, "/small.bin", SMALL_BYTES),
    "1 MB": Load(3.0, 16, "/1.bin", 1_000_000),
}
NGINX = """\
{user}daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen {host}:{port}; root {files}; }}
}}
"""


def run(options: Options) -> Report:
    report = Report()
    rounds = rounds_of(options.quick)
    with Stage() as stage:
        files = make_files(stage, 1)
        loader = Loader(generator.compiled(stage.directory))
        running = {
            STATIC: start(stage, OURS, "", (f"--static={files}",)),
            HOSTED: start(stage, OURS, APP),
            STARLETTE: start(stage, THEIRS, APP),
        }
        if shutil.which("nginx"):
            running["nginx"] = nginx(stage)
        else:
            report.figures["nginx"] = "not installed: apt-get install nginx-light"
        for what, load in LOADS.items():
            turns = {
                name: functools.partial(loader.turn, server, load)
                for name, server in running.items()
            }
            comparison = take_turns(turns, rounds)
            for row in comparison.rows({STATIC: STARLETTE, HOSTED: STARLETTE}):
                report.add({"file": what, **row})
            names = tuple(comparison.samples)
            series = {"": medians(comparison, names, per_server_s)}
            text = "requests for one CPU second of the server (median)"
            report.pictures.append(
                Picture(f"Static file of {what}", "bars", names, series, value=text)
            )
    report.figures["rounds"] = rounds
    report.figures["cores"] = pinning()
    return report


def nginx(stage: Stage) -> Running:
    """One worker that serves the files of the stage, with its usual settings for speed."""
    port = free_tcp_port()
    folder = stage.directory / "nginx"
    folder.mkdir()
    configuration = folder / "nginx.conf"
    files = stage.directory / "files"
    user = "" if os.geteuid() else "user root; "  # else it could not read files of this stage
    text = NGINX.format(user=user, folder=folder, files=files, host=HOST, port=port)
    configuration.write_text(text)
    words = ("nginx", "-p", str(folder), "-c", str(configuration))
    process = stage.start("nginx", *words, before=server_core())
    server = Server("nginx")
    await_answer(process, server, port)
    return Running(server, process, port)
