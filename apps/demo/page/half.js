// One half of the page: its two transfers, its replicas with their buttons, its chart and its story.

import { Chart } from "./chart.js";
import { Download, Stream } from "./transfers.js";

const COLOURS = ["--one", "--two", "--three"];
const RECENT = 8;  // columns of which shares and rates are
const RECENT_S = 2;
const STORY_LINES = 5;

const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;
const percent = (part) => `${Math.round(part * 100)}%`;
const fromTemplate = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);

export class Half {
  #words;
  #file;
  #element;
  #tiles;
  #chart;
  #download;
  #stream;
  #upstreams;
  #before = null;  // the last look
  #read = [0, 0, 0];  // kB of the download since then, by replica
  #bytes = 0;  // of the download since then
  #recent = [];  // the same, of the last columns

  // words: see main.js. setting: what the control server says of this half.
  constructor(name, words, { base, upstreams }, file) {
    this.name = name;
    this.#words = words;
    this.#file = file;
    this.#upstreams = upstreams;
    this.#element = this.#build();
    this.#tiles = [0, 1, 2].map((k) => this.#tile(k));
    this.#chart = new Chart(this.#find("canvas"), words.unit);
    this.#download = new Download(base + file.path, file, {
      bytes: (count) => this.#count(count),
      broke: () => this.#tell(`Download broke off at ${megabytes(this.#download.received)} MB, and begins again.`, "bad"),
      completed: (right) => this.#tell(`Download complete, SHA-256 ${right ? "right" : "WRONG"}.`, right ? "good" : "bad"),
    });
    this.#stream = new Stream(base, {
      broke: () => this.#tell(`Event stream broke behind ${this.#stream.last}.`, "bad"),
      resumed: () => this.#tell(`Event stream is back, with ${this.#stream.last}.`),
    });
    this.#download.run();
    this.#stream.run();
  }

  // What the control server sees: a look, four times a second.
  look(replicas, asked, answered) {
    const now = { replicas, asked, answered };
    const before = this.#before ?? now;
    const since = (counts, old) => counts.map((count, k) => count - old[k]);
    const marks = this.#changes(before.replicas, replicas);
    this.#chart.add(answered ? since(answered, before.answered) : this.#read, marks);
    this.#recent = [...this.#recent, this.#bytes].slice(-RECENT);
    this.#bytes = 0;
    this.#read = [0, 0, 0];
    this.#before = now;
    this.#showReplicas(replicas);
    this.#showDownload();
    this.#showStream();
    this.#chart.draw();
  }

  #count(bytes) {
    this.#bytes += bytes;
    const k = this.#upstreams.indexOf(this.#download.upstream);
    if (k >= 0) this.#read[k] += bytes / 1000;
  }

  // Marks for the chart of who died and who is back.
  #changes(before, after) {
    return after.flatMap(({ state, pid }, k) => {
      const was = before[k];
      if (was.pid !== null && pid !== was.pid) this.#tell(`Replica ${k + 1}, process ${was.pid}, is dead.`);
      if (was.state !== "serving" && state === "serving") this.#tell(`Replica ${k + 1} serves, as process ${pid}.`);
      if (was.state === state) return [];
      return { dead: [{ text: `✕ ${k + 1}`, bad: true }], starting: [], serving: [{ text: `▲ ${k + 1}`, bad: false }] }[state];
    });
  }

  #showReplicas(replicas) {
    const shares = this.#chart.shares(RECENT);
    replicas.forEach(({ state, pid }, k) => {
      const tile = this.#tiles[k];
      tile.className = `replica ${state}`;
      show(tile, ".pid", { serving: `pid ${pid}`, starting: "starting", dead: "dead" }[state]);
      show(tile, ".share b", percent(shares[k]));
      const does = [];
      if (this.#upstreams[k] === this.#download.upstream) does.push("download");
      if (pid !== null && pid === this.#stream.pid) does.push("events");
      show(tile, ".does", does.join(", "));
      tile.querySelector("[data-action=kill]").disabled = state === "dead";
      tile.querySelector("[data-action=start]").disabled = state !== "dead";
    });
  }

  #showDownload() {
    const download = this.#download;
    const rate = this.#recent.reduce((sum, one) => sum + one, 0) / RECENT_S;
    const part = this.#find(".download");
    part.querySelector("progress").value = download.received / this.#file.bytes;
    show(part, ".amount", `${megabytes(download.received)} of ${megabytes(this.#file.bytes)} MB, ${megabytes(rate)} MB/s`);
    show(part, ".right", download.right);
    this.#showTransfer(part, download, download.wrong);
  }

  #showStream() {
    const stream = this.#stream;
    const part = this.#find(".stream");
    show(part, ".number", stream.last < 0 ? "–" : stream.last.toLocaleString("en"));
    show(part, ".gaps", stream.gaps);
    this.#showTransfer(part, stream, stream.gaps);
  }

  // What both have.
  #showTransfer(part, transfer, wrong) {
    const words = { begins: "begins", runs: "runs", complete: "complete", broken: "broken" };
    show(part, ".state", transfer.paused ? "pauses" : words[transfer.state]);
    part.querySelector(".state").classList.toggle("broken", transfer.state === "broken");
    show(part, ".breaks", transfer.breaks);
    part.querySelector(".breaks").classList.toggle("some", transfer.breaks > 0);
    part.querySelector(".wrong").classList.toggle("some", wrong > 0);
    show(part, ".pause", seconds(transfer.wait.longest));
  }

  #build() {
    const element = fromTemplate("half");
    element.id = this.name;
    for (const part of ["title", "path", "note", "caption"]) show(element, `.${part}`, this.#words[part]);
    element.querySelector("canvas").setAttribute("aria-label", this.#words.caption);
    element.querySelector(".replicas").setAttribute("aria-label", `Replicas: ${this.#words.title}`);
    element.addEventListener("click", (event) => this.#press(event.target.closest("button")));
    document.getElementById("halves").append(element);
    return element;
  }

  #tile(k) {
    const tile = fromTemplate("replica");
    tile.style.setProperty("--colour", `var(${COLOURS[k]})`);
    show(tile, ".name b", `Replica ${k + 1}`);
    show(tile, ".what", this.#words.share);
    for (const button of tile.querySelectorAll("button")) {
      button.dataset.which = k + 1;
      button.setAttribute("aria-label", `${button.textContent}: replica ${k + 1}, ${this.#words.title}`);
    }
    this.#find(".replicas").append(tile);
    return tile;
  }

  async #press(button) {
    if (button) await fetch(`/${this.name}/${button.dataset.which}/${button.dataset.action}`, { method: "POST" });
  }

  #tell(text, kind = "") {
    const line = document.createElement("li");
    const time = document.createElement("time");
    time.textContent = new Date().toLocaleTimeString("en-GB");
    line.className = kind;
    line.append(time, text);
    const story = this.#find(".story");
    story.prepend(line);
    while (story.children.length > STORY_LINES) story.lastElementChild.remove();
  }

  #find(selector) {
    return this.#element.querySelector(selector);
  }
}

function show(element, selector, text) {
  const shown = element.querySelector(selector);
  if (shown.textContent !== String(text)) shown.textContent = text;
}
