/** The view Send: drop, progress, link. */

import { asTrouble, call } from "./api.js";
import { bringsFiles, bundle, readChosen, readDrop } from "./drop.js";
import { share, sizeOf, visible } from "./format.js";
import { bar, choose, copyable, fishes, hasQr, keyedList, named, problem, qrCode, toggleQr } from "./parts.js";
import { changed, onSend, say, state } from "./store.js";
import { t } from "./strings.js";
import { begin, cancel, driving, goOn, isElsewhere, isStopped, retry } from "./uploads.js";
import { html, nothing, svg } from "./vendor/lit-html.js";

/** @typedef {import("./contract.js").Send} Send */
/** @typedef {import("./contract.js").Trouble} Trouble */
/** @typedef {import("./drop.js").Thing} Thing */

const DAYS = [90, 30, 7, 1];

let days = 90;
let lookedAt = 0;
let isOver = false;
/** @type {Trouble | null} */
let trouble = null;
/** @type {Map<string, Trouble>} what went wrong with an action on one send */
const troubles = new Map();

/** @param {() => void} show what brings this view to the front */
export function acceptDrops(show) {
  let depth = 0;
  const leave = () => {
    depth = 0;
    isOver = false;
    document.documentElement.classList.remove("over");
    changed();
  };
  addEventListener("dragenter", (event) => {
    if (!bringsFiles(event.dataTransfer)) return;
    event.preventDefault();
    depth += 1;
    isOver = true;
    document.documentElement.classList.add("over");
    changed();
  });
  addEventListener("dragover", (event) => {
    if (!bringsFiles(event.dataTransfer)) return;
    event.preventDefault();
    if (event.dataTransfer) event.dataTransfer.dropEffect = "copy";
  });
  addEventListener("dragleave", () => {
    depth -= 1;
    if (depth <= 0) leave();
  });
  addEventListener("drop", (event) => {
    leave();
    if (!bringsFiles(event.dataTransfer) || !event.dataTransfer) return;
    event.preventDefault();
    show();
    const things = readDrop(event.dataTransfer, (count) => {
      lookedAt = count;
      changed();
    });
    void take(things);
  });
}

/**
 * Send what was dropped or chosen.
 * @param {Thing[] | Promise<Thing[]>} found
 */
async function take(found) {
  trouble = null;
  try {
    const all = await found;
    lookedAt = 0;
    const things = all.filter((each) => each.files.length > 0);
    if (things.length === 0) trouble = { error: t.send.nothing, next: t.send.nothingNext };
    for (const thing of await arranged(things)) {
      say(t.send.saidBegun(visible(thing.name)));
      await begin(thing, days);
    }
  } catch (error) {
    trouble = asTrouble(error);
  }
  lookedAt = 0;
  changed();
}

/**
 * One link or several, as the person wants it.
 * @param {Thing[]} things
 */
async function arranged(things) {
  const [first] = things;
  if (!first || things.length === 1) return things;
  const size = things.reduce((sum, each) => sum + each.size, 0);
  const answer = await choose(t.send.several(things.length), t.send.severalText(size), [
    { words: t.send.oneLink, value: "one", kind: "main" },
    { words: t.send.eachLink(things.length), value: "each", kind: "" },
    { words: t.send.cancel, value: "none", kind: "quiet" },
  ]);
  if (answer === "one") return [bundle(t.send.bundleName(first.name, things.length - 1), things)];
  return answer === "each" ? things : [];
}

/** @type {HTMLInputElement | null} the last one: a browser may forget one that nothing holds while its dialog is open */
let picker = null;

/**
 * Open the browser's own dialog.
 * @param {boolean} isFolder
 * @param {(things: Thing[]) => void} use
 */
function pick(isFolder, use) {
  const input = document.createElement("input");
  picker = input;
  input.type = "file";
  input.multiple = true;
  input.webkitdirectory = isFolder;
  input.addEventListener("change", () => {
    if (picker?.files?.length) use(readChosen(picker.files));
  });
  input.click();
}

/**
 * Do something with one send; say it there when it fails.
 * @param {string} id
 * @param {() => Promise<unknown>} action
 */
async function act(id, action) {
  troubles.delete(id);
  try {
    await action();
  } catch (error) {
    troubles.set(id, asTrouble(error));
  }
  changed();
}

onSend((before, now) => {
  if (now?.phase !== "publishing" && before) furthest.delete(before.id);
  if (!before || !now || before.phase === now.phase) return;
  if (now.phase === "done") say(t.send.saidDone(visible(now.name)));
  if (now.phase === "failed") say(t.send.saidFailed(visible(now.name)));
});

/** How far all that is under way is, from 0 to 1; null for nothing. */
export function wholeProgress() {
  let done = 0;
  let total = 0;
  for (const send of state.sends.values()) {
    if (send.phase !== "receiving" && send.phase !== "waiting" && send.phase !== "publishing") continue;
    const upload = driving(send.id);
    if (isStopped(send)) continue;
    total += 2 * send.size;
    done += send.phase === "receiving" ? (upload?.sent ?? send.received_bytes) : send.size + share(send.progress?.bytes ?? 0, send.progress?.total ?? send.size) * send.size;
  }
  return total === 0 ? null : share(done, total);
}

const list = keyedList((/** @type {Send} */ send) => send.id, card);

export function sendView() {
  const sends = [...state.sends.values()].reverse();
  return html`<h1 tabindex="-1">${t.send.heading}</h1>
    <p class="lead">${t.send.lead}</p>
    <section class="drop" aria-label=${t.views.send}>
      <svg class="school" viewBox="0 0 320 96" aria-hidden="true">${school}</svg>
      <p class="dropwords">${isOver ? t.send.dropNow : t.send.drop}</p>
      <div class="actions">
        <button class="main" @click=${() => pick(false, take)}>${t.send.files}</button>
        <button @click=${() => pick(true, take)}>${t.send.folder}</button>
      </div>
      <p class="note">
        <label>${t.send.keepFor}
          <select @change=${(/** @type {Event & {currentTarget: HTMLSelectElement}} */ event) => (days = Number(event.currentTarget.value))}>
            ${DAYS.map((each) => html`<option value=${each} ?selected=${each === days}>${t.send.days(each)}</option>`)}
          </select></label>
        ${t.send.keepNote}
      </p>
      ${lookedAt ? html`<p class="note" role="status">${t.send.looking(lookedAt)}</p>` : nothing}
    </section>
    ${trouble ? problem(trouble, { words: t.trouble.close, act: () => void ((trouble = null), changed()) }) : nothing}
    ${sends.length ? html`<h2>${t.send.list}</h2>${list(sends)}` : nothing}`;
}

// Twelve fish, of which four are full: any four of twelve shares are enough.
const school = [
  [18, 46], [62, 22], [66, 66], [108, 42], [120, 8], [122, 78],
  [158, 26], [164, 58], [206, 10], [214, 42], [210, 76], [262, 34],
].map(([x, y], at) => svg`<use href="#fish" class=${at % 3 === 0 ? "fish there" : "fish"} x=${x} y=${y} width="40" height="20"></use>`);

/**
 * @param {Send} send
 */
function card(send) {
  const problemOfAction = troubles.get(send.id);
  return html`<article aria-label=${visible(send.name)} aria-busy=${send.phase === "publishing" || send.phase === "receiving"}>
    <header>
      <h3>${named(send.name)}</h3>
      <span class="meta">${send.folder ? `${t.send.folderMark} · ` : ""}${sizeOf(send.size)}</span>
    </header>
    ${stage(send)}
    ${problemOfAction ? problem(problemOfAction) : nothing}
  </article>`;
}

/** @param {Send} send */
function startAgain({ id, lease_days }) {
  void act(id, () => call("POST", `sends/${id}/start`, { lease_days }));
}

/** @param {Send} send */
function stage(send) {
  switch (send.phase) {
    case "receiving":
      return receiving(send);
    case "waiting":
      return html`${bars(send, send.size, 0, 1)}
        <p class="line"><strong>${t.send.waiting}</strong> ${t.send.waitingNext}</p>
        <div class="actions links">${cancelButton(send)}</div>`;
    case "publishing":
      return publishing(send);
    case "done":
      return done(send);
    case "failed":
      return html`${problem(send.error ?? { error: t.send.failed }, {
          words: t.trouble.retry,
          act: () => startAgain(send),
        })}
        <div class="actions links">${forgetButton(send)}</div>`;
  }
}

/**
 * Both stages side by side: neither ever goes back.
 * @param {Send} send
 * @param {number} read
 * @param {number} handed
 * @param {number | null | undefined} total
 */
function bars(send, read, handed, total) {
  const name = visible(send.name);
  return html`<div class="bars">
    ${bar(t.send.readingBar(name), read, send.size, "short")}${bar(t.send.publishingBar(name), handed, total)}
  </div>`;
}

/** @param {Send} send */
function receiving(send) {
  const upload = driving(send.id);
  if (upload?.mode === "failed" && upload.trouble) {
    return html`${bars(send, send.received_bytes, 0, 1)}
      ${problem(upload.trouble, { words: t.trouble.retry, act: () => retry(send.id) })}
      <div class="actions links">${cancelButton(send)}</div>`;
  }
  const read = upload ? Math.max(upload.sent, upload.mode === "reading" ? 0 : send.received_bytes) : send.received_bytes;
  if (upload || isElsewhere(send.id)) {
    const words = !upload ? t.send.elsewhere : upload.mode === "queued" ? t.send.queued : t.send.reading;
    return html`${bars(send, read, 0, 1)}
      <p class="line"><strong>${words}</strong> <span>${t.send.readingPace(read, send.size, upload?.rate ?? null, upload?.etaS ?? null)}</span></p>
      <div class="actions links">${cancelButton(send)}</div>`;
  }
  const again = () => pick(send.folder, (things) => void act(send.id, () => goOn(send, things, days)));
  return html`${bars(send, read, 0, 1)}
    <p class="line"><strong>${t.send.stopped(read, send.size)}</strong> ${t.send.stoppedNext}</p>
    <div class="actions"><button class="main" @click=${again}>${t.send.chooseAgain}</button>${cancelButton(send)}</div>`;
}

/** @type {Map<string, number>} */
const furthest = new Map();

/**
 * The furthest that a publish has come. It reads its file a second time, and the bar does not go back for that.
 * @param {string} id
 * @param {number} part
 */
function highest(id, part) {
  const far = Math.max(part, furthest.get(id) ?? 0);
  furthest.set(id, far);
  return far;
}

/** @param {Send} send */
function publishing(send) {
  const { progress } = send;
  const handed = highest(send.id, share(progress?.bytes ?? 0, progress?.total ?? send.size));
  const words = t.send.steps[progress?.step ?? ""] ?? t.send.publishing;
  return html`${bars(send, send.size, handed, 1)}
    <p class="line"><strong>${words}</strong> <span>${progress?.step === "sending" ? t.send.pace(progress) : ""}</span></p>
    ${progress?.n ? html`${fishes(progress.shares, progress.n)}<p class="line small"><span>${t.send.shares(progress)}</span></p>` : nothing}
    <div class="actions links">${cancelButton(send)}</div>`;
}

/** @param {Send} send */
function done(send) {
  const { link = "", n = 0, shares = 0, complete } = send;
  const more = { words: t.send.completeNow, act: () => startAgain(send) };
  return html`${copyable(t.link.label(visible(send.name)), link, t.link.copy)}
    ${n ? fishes(shares, n, complete === false ? "weak" : "") : nothing}
    <p class="line small">
      <span>${t.send.survives(send.survives ?? 0)} ${send.kept_until ? t.send.until(send.kept_until) : ""} ${t.send.secret}</span>
    </p>
    ${complete === false ? problem({ error: t.send.few(shares, n), next: t.send.fewNext }, send.can_complete ? more : null) : nothing}
    ${qrCode(link, send.name)}
    <div class="actions">
      <button aria-expanded=${hasQr(link)} @click=${() => toggleQr(link, asTrouble)}>${hasQr(link) ? t.link.hideQr : t.link.qr}</button>
      ${forgetButton(send)}
    </div>`;
}

/** @param {Send} send */
function cancelButton(send) {
  return html`<button class="quiet" aria-label=${t.send.cancelName(visible(send.name))} @click=${() => act(send.id, () => cancel(send.id))}>${t.send.cancel}</button>`;
}

/** @param {Send} send */
function forgetButton(send) {
  return html`<button class="quiet" aria-label=${t.send.forgetName(visible(send.name))} @click=${() => act(send.id, () => cancel(send.id))}>${t.send.forget}</button>`;
}
