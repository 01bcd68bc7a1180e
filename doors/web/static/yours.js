/** The view Yours: what this home has published and keeps. */

import { asTrouble, call } from "./api.js";
import { sizeOf, visible } from "./format.js";
import { ask, copyable, fishes, hasQr, keyedList, named, problem, qrCode, toggleQr } from "./parts.js";
import { changed, refreshLibrary, say, state } from "./store.js";
import { t } from "./strings.js";
import { html, nothing } from "./vendor/lit-html.js";

/** @typedef {import("./contract.js").Kept} Kept */
/** @typedef {import("./contract.js").Trouble} Trouble */
/** @typedef {import("./parts.js").Typed} Typed */

const FILTER_FROM = 6; // items before a field to find one is worth its place
const SHOWN = 50; // cards at first, and more with each press of the button

let filter = "";
let shownMost = SHOWN;
/** @type {Map<string, string>} what is being done, by id */
const busy = new Map();
/** @type {Map<string, string>} what is worth a word although the file is off the list */
const notes = new Map();
/** @type {Map<string, Trouble>} */
const troubles = new Map();

/**
 * @param {Kept} kept
 * @param {string} words what is said while it is done
 * @param {() => Promise<unknown>} action
 * @param {string} said
 */
async function act(kept, words, action, said) {
  if (busy.has(kept.id)) return;
  busy.set(kept.id, words);
  troubles.delete(kept.id);
  changed();
  try {
    await action();
    say(said);
  } catch (error) {
    troubles.set(kept.id, asTrouble(error));
  }
  busy.delete(kept.id);
  await refreshLibrary();
}

/** @param {Kept} kept */
async function remove(kept) {
  const name = nameOf(kept);
  const isSure = await ask({ title: t.yours.removeTitle(name), text: t.yours.removeText, yes: t.yours.removeYes, no: t.yours.no });
  if (!isSure) return;
  await act(
    kept,
    t.yours.removing,
    async () => {
      const { complete } = await call("DELETE", `library/${kept.id}`);
      if (!complete) notes.set(kept.id, t.yours.removedInPart(name));
      const dead = [...state.sends.values()].filter(({ link }) => link === kept.link);
      await Promise.all(dead.map(({ id }) => call("DELETE", `sends/${id}`))); // its link leads nowhere now
    },
    t.yours.saidRemoved(name),
  );
}

const list = keyedList((/** @type {Kept} */ kept) => kept.id, card);

export function yoursView() {
  const { libraryTrouble } = state;
  const library = state.library?.filter((each) => each.deleted_at === null) ?? null;
  return html`<h1 tabindex="-1">${t.yours.heading}</h1>
    ${[...notes].map(([id, words]) => problem({ error: words, next: t.yours.removedInPartNext }, { words: t.trouble.close, act: () => void (notes.delete(id), changed()) }))}
    ${libraryTrouble ? problem(libraryTrouble, { words: t.trouble.retry, act: () => void refreshLibrary() }) : nothing}
    ${library === null ? (libraryTrouble ? nothing : html`<p class="line waiting" role="status">${t.get.loading}</p>`) : shelf(library)}`;
}

/** @param {Kept[]} library */
function shelf(library) {
  if (library.length === 0) {
    return html`<p class="lead">${t.yours.none} ${t.yours.noneNext}</p>
      <p><a class="button main" href="#send">${t.yours.toSend}</a></p>`;
  }
  const size = library.reduce((sum, each) => sum + (each.size ?? 0), 0);
  const wanted = filter.trim().toLowerCase();
  const shown = library.filter((each) => nameOf(each).toLowerCase().includes(wanted));
  return html`<p class="lead">${t.yours.total(library.length, size)}</p>
    ${library.length >= FILTER_FROM
      ? html`<p><input type="search" aria-label=${t.yours.filter} placeholder=${t.yours.filter} .value=${filter}
          @input=${(/** @type {Typed} */ event) => void ((filter = event.currentTarget.value), changed())} /></p>`
      : nothing}
    <h2 class="unseen">${t.yours.list}</h2>
    ${shown.length ? list(shown.slice(0, shownMost)) : html`<p class="line">${t.yours.noMatch}</p>`}
    ${shown.length > shownMost
      ? html`<p><button @click=${() => void ((shownMost += SHOWN), changed())}>${t.get.more}</button></p>`
      : nothing}`;
}

/** @param {Kept} kept */
function nameOf({ name, id }) {
  return name === null ? t.yours.noName(id.slice(0, 10)) : visible(name);
}

/**
 * @param {Kept} kept
 * @returns {"good" | "weak" | "lost" | "unknown"}
 */
function toneOf({ health }) {
  if (!health) return "unknown";
  if (!health.readable) return "lost";
  return health.survives * 2 < health.n - health.k ? "weak" : "good";
}

/** @param {Kept} kept */
function card(kept) {
  const name = nameOf(kept);
  const { health, link, n = 0, shares = 0 } = kept;
  const tone = toneOf(kept);
  const isOver = kept.lease_end < Date.now() / 1000;
  const doing = busy.get(kept.id);
  const trouble = troubles.get(kept.id);
  return html`<article aria-label=${name} aria-busy=${doing !== undefined}>
    <header>
      <h3>${named(name)}</h3>
      <span class="meta">${kept.size === null ? "" : sizeOf(kept.size)}</span>
    </header>
    ${health ? fishes(health.good_shares, health.n, tone) : n ? fishes(shares, n, "unknown") : nothing}
    <p class="line small">
      <strong class="badge ${tone}">${t.yours.healthWord[tone]}</strong>
      <span>${health ? t.yours.good(health) : t.yours.unknown(shares, n)}</span>
    </p>
    <p class="line small">
      <span>${isOver ? t.yours.leaseOver : t.yours.lease(kept.lease_end)}${kept.kept ? ` · ${t.yours.kept}` : ""}</span>
    </p>
    ${link ? copyable(t.link.label(name), link, t.link.copy) : nothing}
    ${link ? qrCode(link, name) : nothing}
    ${trouble ? problem(trouble) : nothing}
    ${doing ? html`<p class="line waiting" role="status">${doing}…</p>` : actions(kept, name)}
  </article>`;
}

/**
 * @param {Kept} kept
 * @param {string} name
 */
function actions(kept, name) {
  const { id, link } = kept;
  const post = (/** @type {string} */ verb) => () => call("POST", `library/${id}/${verb}`, {});
  const button = (/** @type {string} */ words, /** @type {() => unknown} */ use, kind = "quiet") =>
    html`<button class=${kind} aria-label="${words}: ${name}" @click=${use}>${words}</button>`;
  return html`<div class="actions links">
    ${link
      ? html`<button class="quiet" aria-expanded=${hasQr(link)} aria-label="${t.link.qr}: ${name}" @click=${() => toggleQr(link, asTrouble)}>
          ${hasQr(link) ? t.link.hideQr : t.link.qr}
        </button>`
      : nothing}
    ${button(t.yours.check, () => act(kept, t.yours.checking, post("check"), t.yours.saidChecked(name)))}
    ${button(t.yours.renew, () => act(kept, t.yours.renew, post("renew"), t.yours.saidRenewed(name)))}
    ${kept.kept
      ? button(t.yours.unkeep, () => act(kept, t.yours.unkeep, post("unkeep"), t.yours.saidUnkept(name)))
      : button(t.yours.keep, () => act(kept, t.yours.keep, post("keep"), t.yours.saidKept(name)))}
    ${link ? button(t.yours.remove, () => remove(kept), "quiet danger") : nothing}
  </div>`;
}
