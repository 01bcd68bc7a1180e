/** The page: frame, views, and what is under way. */

import { onToken, takeToken } from "./api.js";
import { getView, look } from "./get.js";
import { nodeView, refreshNode } from "./node.js";
import { problem } from "./parts.js";
import { acceptDrops, sendView, wholeProgress } from "./send.js";
import { changed, keepUp, onChange, refreshLibrary, state, tryNow } from "./store.js";
import { t } from "./strings.js";
import { html, nothing, render } from "./vendor/lit-html.js";
import { yoursView } from "./yours.js";

/** @typedef {import("./store.js").View} View */

const VIEWS = { send: sendView, get: getView, yours: yoursView, node: nodeView };
const ORDER = /** @type {View[]} */ (Object.keys(VIEWS));
const NODE_S = 60; // between two looks of an open view Node

const place = /** @type {HTMLElement} */ (document.getElementById("app"));

/** @param {View} view */
function show(view) {
  location.hash = view;
}

/** Fetch what a view shows beyond what the stream of events brings. */
function enter() {
  if (state.connection !== "ok") return;
  if (state.view === "yours") void refreshLibrary();
  if (state.view === "node") void refreshNode();
  changed();
}

/** What the address says: a view, or a new token. */
function route() {
  const link = takeToken();
  if (link !== null) tryNow();
  if (link) void look(link);
  const named = /** @type {View} */ (location.hash.slice(1));
  state.view = ORDER.includes(named) ? named : "send";
  enter();
  changed();
}

/** @returns {{words: string, tone: string}} */
function connection() {
  const { connection: now, status } = state;
  if (now === "away") return { words: t.connection.away, tone: "bad" };
  if (now === "locked") return { words: t.connection.locked, tone: "bad" };
  if (now === "connecting" || !status) return { words: t.connection.connecting, tone: "unknown" };
  const { peers, problems } = status;
  return { words: t.connection.peers(peers), tone: peers === 0 || problems.length ? "weak" : "good" };
}

function banner() {
  if (state.connection === "away") {
    return problem({ error: t.away.title, next: t.away.next }, { words: t.away.tryNow, act: tryNow });
  }
  if (state.connection === "locked") {
    return html`<div class="problem" role="alert"><p><strong>${t.locked.title}</strong> ${t.locked.next}</p><pre><code>${t.locked.command}</code></pre></div>`;
  }
  return nothing;
}

function page() {
  const { words, tone } = connection();
  return html`<a class="skip" href="#main" @click=${skip}>${t.skip}</a>
    <header class="top">
      <a class="brand" href="#send"><svg viewBox="0 0 20 10" aria-hidden="true"><use href="#fish"></use></svg>${t.brand}</a>
      <nav aria-label=${t.viewsLabel}>
        ${ORDER.map((view) => html`<a href="#${view}" aria-current=${state.view === view ? "page" : nothing}>${t.views[view]}</a>`)}
      </nav>
      <a class="state ${tone}" href="#node" aria-label=${t.connection.label(words)}>${words}</a>
    </header>
    <main id="main" tabindex="-1">${banner()}<div class="view">${VIEWS[state.view]()}</div></main>
    <p class="unseen" aria-live="polite">${state.said}</p>`;
}

/** @param {Event} event */
function skip(event) {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

/** @type {View | null} */
let drawn = null;

function draw() {
  render(page(), place);
  const part = wholeProgress();
  const name = t.views[state.view];
  document.title = part === null ? t.title(name) : t.titleBusy(part, name);
  if (drawn !== null && drawn !== state.view) {
    scrollTo(0, 0);
    place.querySelector("h1")?.focus(); // a screen reader says where it is, and Tab goes on from there
  }
  drawn = state.view;
}

let before = state.connection;
onChange(() => {
  if (before !== "ok" && state.connection === "ok") enter();
  before = state.connection;
  draw();
});
onToken(tryNow);
acceptDrops(() => show("send"));
addEventListener("hashchange", route);
setInterval(() => {
  if (state.view === "node" && !document.hidden) enter();
}, NODE_S * 1000);
route();
place.replaceChildren(); // what was there until the modules had come
draw();
void keepUp();
