// Builds the page from what the control server has, and shows what it sees.

import { Half } from "./half.js";

const WORDS = {
  trickles: {
    title: "Trickles",
    path: "browser → gateway → each packet to any of 3 × trickles-serve",
    caption: "Packets of each replica in 250 ms, counted where they are sprayed",
    share: "packets",
    unit: "",
    note: "All may be dead for up to a minute: clients wait.",
  },
  uvicorn: {
    title: "uvicorn behind nginx",
    path: "browser → nginx → each request to one of 3 × uvicorn",
    caption: "kB of the download in 250 ms, read by this page, of the replica that nginx names",
    share: "bytes",
    unit: "kB",
    note: "New requests go to those that live.",
  },
};

const link = document.getElementById("link");
const setting = await (await fetch("/setting")).json();
const halves = Object.entries(setting.halves).map(([name, half]) => new Half(name, WORDS[name], half, setting.file));
document.getElementById("absent").hidden = "uvicorn" in setting.halves;

const live = new EventSource("/live");
live.onopen = () => { link.textContent = ""; };
live.onerror = () => { link.textContent = "The demonstration has ended."; };
live.onmessage = (event) => {
  const look = JSON.parse(event.data);
  for (const half of halves) {
    const counted = half.name === "trickles" ? [look.asked, look.answered] : [];
    half.look(look.replicas[half.name], ...counted);
  }
};
