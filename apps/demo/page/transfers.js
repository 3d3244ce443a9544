// The two things that go on while servers die: a download, again and again, and a stream of events.

const AGAIN_MS = 1000;
const PAUSE_MS = 300;  // a wait that is longer may be seen

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const hex = (buffer) => [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

// How long something is waited for, through breaks and all.
class Wait {
  longest = 0;
  #since = null;

  begin() {
    this.#since ??= performance.now();
  }

  // Milliseconds so far; 0: nothing is waited for.
  look() {
    const now = this.#since === null ? 0 : performance.now() - this.#since;
    this.longest = Math.max(this.longest, now);
    return now;
  }

  end() {
    this.look();
    this.#since = null;
  }
}

// Either of them. `state`: "begins", "runs", "broken" or "complete". Breaks are counted once, however
// often it has to be tried again.
class Transfer {
  state = "begins";
  breaks = 0;
  wait = new Wait();

  get paused() {
    return this.wait.look() > PAUSE_MS && this.state === "runs";
  }

  // Was it a break?
  broke() {
    const ran = this.state === "runs";
    this.breaks += ran;
    this.state = "broken";
    return ran;
  }
}

// `told` hears: bytes(count), broke(), completed(right).
export class Download extends Transfer {
  received = 0;
  right = 0;
  wrong = 0;
  upstream = null;  // who serves it, if the server says so
  #url;
  #file;
  #told;

  constructor(url, file, told) {
    super();
    this.#url = url;
    this.#file = file;
    this.#told = told;
  }

  async run() {
    for (;;) {
      try {
        await this.#compare(await this.#fetch());
      } catch {
        if (this.broke()) this.#told.broke();
      }
      this.upstream = null;
      await sleep(AGAIN_MS);
    }
  }

  async #fetch() {
    this.wait.begin();
    const response = await fetch(this.#url, { cache: "no-store" });
    if (!response.ok) throw new Error(response.status);
    const whole = new Uint8Array(this.#file.bytes);
    const reader = response.body.getReader();
    this.upstream = response.headers.get("x-upstream");
    this.received = 0;
    this.state = "runs";
    for (;;) {
      this.wait.begin();
      const { value, done } = await reader.read();
      this.wait.end();
      if (done) return whole.subarray(0, this.received);
      whole.set(value, this.received);
      this.received += value.length;
      this.#told.bytes(value.length);
    }
  }

  async #compare(whole) {
    const right = hex(await crypto.subtle.digest("SHA-256", whole)) === this.#file.sha256;
    this.right += right;
    this.wrong += !right;
    this.state = "complete";
    this.#told.completed(right);
  }
}

// `told` hears: broke(), resumed().
export class Stream extends Transfer {
  last = -1;
  pid = null;  // who has sent the last event
  gaps = 0;
  #base;
  #told;

  constructor(base, told) {
    super();
    this.#base = base;
    this.#told = told;
  }

  run() {
    const source = new EventSource(`${this.#base}/events?after=${this.last}`);
    source.onmessage = (event) => this.#heard(Number(event.lastEventId), Number(event.data.split(" by ")[1]));
    source.onerror = () => {
      if (this.broke()) this.#told.broke();
      this.pid = null;
      // The browser connects again by itself, unless an error was the answer.
      if (source.readyState === EventSource.CLOSED) setTimeout(() => this.run(), AGAIN_MS);
    };
  }

  #heard(number, pid) {
    const resumed = this.state === "broken";
    this.wait.end();
    this.wait.begin();
    this.gaps += number !== this.last + 1;
    this.last = number;
    this.pid = pid;
    this.state = "runs";
    if (resumed) this.#told.resumed();
  }
}
