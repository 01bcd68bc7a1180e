/** The view Node: how the node on this machine does. */

import { asTrouble, call } from "./api.js";
import { countOf, rateOf, sizeOf, visible } from "./format.js";
import { bar, problem } from "./parts.js";
import { plot } from "./plot.js";
import { changed, state } from "./store.js";
import { t } from "./strings.js";
import { html, nothing } from "./vendor/lit-html.js";

/** @typedef {import("./contract.js").Status} Status */
/** @typedef {import("./contract.js").History} History */
/** @typedef {import("./contract.js").Point} Point */

/** @type {History | null} */
let history = null;
/** @type {import("./contract.js").Doctor | null} */
let doctor = null;
/** @type {import("./contract.js").Trouble | null} */
let trouble = null;
let isAsking = false;

/** Fetch what only this view shows. */
export async function refreshNode() {
  if (isAsking) return;
  isAsking = true;
  trouble = null;
  changed();
  try {
    state.status = await call("GET", "status");
    [history, doctor] = await Promise.all([call("GET", "history"), call("GET", "doctor")]);
  } catch (error) {
    trouble = asTrouble(error);
  }
  isAsking = false;
  changed();
}

export function nodeView() {
  const { status } = state;
  return html`<h1 tabindex="-1">${t.node.heading}</h1>
    ${status ? summary(status) : html`<p class="line waiting" role="status">${t.get.loading}</p>`}
    ${trouble ? problem(trouble, { words: t.trouble.retry, act: () => void refreshNode() }) : nothing}
    ${status ? tiles(status) : nothing}
    ${doctor?.findings.length ? findings(doctor) : nothing}
    ${history ? plots(history) : nothing}
    ${status ? html`<p class="note">${t.node.about(status.version, status.network)}</p>` : nothing}`;
}

/** @param {Status} status */
function summary({ problems, serves, set_up: isSetUp, node }) {
  const count = doctor ? doctor.findings.filter(({ level }) => level === "problem").length : problems.length;
  return html`<p class="lead">${count ? t.node.wrong(count) : serves ? t.node.well : t.node.client}
      ${node.uptime_s ? `${t.node.uptime(node.uptime_s)}.` : ""}</p>
    ${serves ? nothing : html`<p class="advice">${isSetUp ? t.node.runNext : t.node.clientNext}</p>`}`;
}

const URGENCY = ["problem", "note", "ok"];

/** @param {import("./contract.js").Doctor} found */
function findings(found) {
  const sorted = [...found.findings].sort((a, b) => URGENCY.indexOf(a.level) - URGENCY.indexOf(b.level));
  return html`<h2>${t.node.findings}</h2>
    <dl class="findings">
      ${sorted.map(
        ({ subject, level, says, means, advice }) => html`<div>
          <dt>${t.node.subjects[subject] ?? subject} <span class="badge is-${level}">${t.node.levels[level]}</span></dt>
          <dd>${visible([says, means, advice].filter(Boolean).join(" "))}</dd>
        </div>`,
      )}
    </dl>`;
}

/**
 * @param {string} title
 * @param {unknown} main
 * @param {unknown[]} others
 */
function tile(title, main, others) {
  return html`<section class="tile"><h2>${title}</h2><p class="big">${main}</p>${others.filter(Boolean).map((each) => html`<p>${each}</p>`)}</section>`;
}

/** @param {Status} status */
function tiles({ node, peers, serves }) {
  const { used_bytes: used, capacity_bytes: given, free_disk_bytes: free } = node;
  const last = history?.points.at(-1);
  const step = history?.every_s ?? 300;
  return html`<div class="tiles">
    ${typeof used === "number" && given
      ? html`<section class="tile"><h2>${t.node.disk}</h2><p class="big">${sizeOf(used)}</p>
          ${bar(t.node.disk, used, given)}
          <p>${t.node.diskUsed(used, given)}</p>
          ${free ? html`<p>${t.node.diskFree(free)}</p>` : nothing}
          <p>${t.node.shares(node.shares ?? 0, node.files ?? 0)}</p></section>`
      : nothing}
    ${tile(t.node.traffic, last ? html`<span>${t.node.up(last.sent_bytes / step)}</span><span>${t.node.down(last.received_bytes / step)}</span>` : "–", [
      history && t.node.month(history.month.sent_bytes, history.month.received_bytes),
      t.node.start(node.sent_bytes, node.received_bytes),
    ])}
    ${tile(t.node.peers, countOf(peers), [
      t.node.answered(node.peers_answered),
      serves && (node.address ? t.node.address(node.address) : t.node.noAddress),
    ])}
    ${node.audits_passed === undefined
      ? nothing
      : tile(t.node.care, t.node.repairs(node.rebuilt_shares ?? 0), [t.node.audits(node.audits_passed, node.audits_failed ?? 0)])}
  </div>`;
}

/** @param {History} shown */
function plots({ points, every_s: stepS }) {
  if (points.length < 2) return html`<h2>${t.node.plots}</h2><p class="line">${t.node.noHistory}</p>`;
  const marks = (/** @type {(point: Point) => number} */ valueOf) => points.map((point) => ({ at: point.at, value: valueOf(point) }));
  const stored = points.flatMap(({ at, stored_bytes: value }) => (value === null ? [] : [{ at, value }]));
  const ends = { from: t.node.hoursAgo, to: t.node.nowMark, most: t.node.most };
  return html`<h2>${t.node.plots}</h2>
    ${plot(
      t.node.plotTraffic,
      [
        { name: t.node.sent, marks: marks((point) => point.sent_bytes / stepS) },
        { name: t.node.received, marks: marks((point) => point.received_bytes / stepS) },
      ],
      stepS, rateOf, t.node.range, ends,
    )}
    ${stored.length ? plot(t.node.plotStored, [{ name: "", marks: stored }], stepS, sizeOf, t.node.range, ends) : nothing}
    ${plot(t.node.plotPeers, [{ name: "", marks: marks((point) => point.peers) }], stepS, countOf, t.node.range, ends)}`;
}
