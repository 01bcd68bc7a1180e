/** The view Get: a link in, what it leads to, play and save. */

import { asTrouble, call } from "./api.js";
import { sizeOf, visible } from "./format.js";
import { bar, copyable, keyedList, named, problem } from "./parts.js";
import { changed, forget, noteGet, onGet, say, state } from "./store.js";
import { t } from "./strings.js";
import { Tree } from "./tree.js";
import { html, nothing } from "./vendor/lit-html.js";

/** @typedef {import("./contract.js").Get} Get */
/** @typedef {import("./contract.js").Trouble} Trouble */
/** @typedef {import("./parts.js").Typed} Typed */

/**
 * The link that was looked at.
 * @typedef {object} Found
 * @property {string} link
 * @property {import("./contract.js").Info} info
 * @property {Tree | null} tree
 * @property {string} into
 * @property {Trouble | null} trouble
 * @property {{name: string, url: string, kind: "video" | "audio" | "image", failed: boolean} | null} player
 */

let text = "";
let isLooking = false;
/** @type {Trouble | null} */
let trouble = null;
/** @type {Found | null} */
let found = null;
/** @type {Map<string, Trouble>} */
const troubles = new Map();

/**
 * How a browser shows a file; null for what it only saves.
 * @param {string} mediaType
 * @returns {"video" | "audio" | "image" | null}
 */
export function shownAs(mediaType) {
  const [kind] = mediaType.split("/");
  return kind === "video" || kind === "audio" || kind === "image" ? kind : null;
}

/**
 * Look where a text leads that a person pasted.
 * @param {string} pasted
 */
export async function look(pasted) {
  text = pasted;
  trouble = found = null;
  if (!text.trim()) {
    trouble = { error: t.get.empty, next: t.get.emptyNext };
    changed();
    return;
  }
  isLooking = true;
  changed();
  try {
    const { link } = await call("POST", "links", { text });
    const info = await call("POST", "info", { link });
    if (text !== pasted) return; // another was pasted meanwhile
    const tree = info.kind === "folder" ? new Tree(link) : null;
    found = { link, info, tree, into: "", trouble: null, player: null };
    void tree?.open("");
  } catch (error) {
    if (text === pasted) trouble = asTrouble(error);
  } finally {
    if (text === pasted) isLooking = false;
    changed();
  }
}

/** @param {SubmitEvent & {currentTarget: HTMLFormElement}} event */
function submitted(event) {
  event.preventDefault();
  void look(event.currentTarget.querySelector("textarea")?.value ?? "");
}

/** @param {Event & {currentTarget: HTMLTextAreaElement}} event */
function pasted(event) {
  const field = event.currentTarget;
  setTimeout(() => void look(field.value)); // after the browser has put it in
}

/** @param {KeyboardEvent & {currentTarget: HTMLTextAreaElement}} event */
function keyed(event) {
  if (event.key !== "Enter" || event.shiftKey) return;
  event.preventDefault();
  void look(event.currentTarget.value);
}

/**
 * @param {Found} at
 * @param {string[]} paths
 */
async function save(at, paths) {
  at.trouble = null;
  try {
    const into = at.into.trim();
    noteGet(await call("POST", "gets", { link: at.link, paths, ...(into ? { into } : {}) }));
    say(t.get.saidBegun(nameOf(at.info)));
  } catch (error) {
    at.trouble = asTrouble(error);
  }
  changed();
}

/**
 * @param {Found} at
 * @param {string} name
 * @param {"video" | "audio" | "image"} kind
 * @param {string} [path]
 */
async function play(at, name, kind, path) {
  at.trouble = null;
  try {
    const { url } = await call("POST", "tickets", { link: at.link, ...(path ? { path } : {}), download: false });
    at.player = { name, url, kind, failed: false };
    say(t.get.playing(visible(name)));
  } catch (error) {
    at.trouble = asTrouble(error);
  }
  changed();
}

/** @param {string} id */
async function drop(id) {
  troubles.delete(id);
  try {
    await call("DELETE", `gets/${id}`);
    forget(id);
  } catch (error) {
    troubles.set(id, asTrouble(error));
  }
  changed();
}

onGet((before, now) => {
  if (!before || before.phase === now.phase) return;
  if (now.phase === "done") say(t.get.saidDone(nameOf(now)));
  if (now.phase === "failed") say(t.get.saidFailed(nameOf(now)));
});

/** @param {{name: string | null}} thing */
function nameOf({ name }) {
  return name === null ? t.get.noName : visible(name);
}

const list = keyedList((/** @type {Get} */ get) => get.id, card);

export function getView() {
  const gets = [...state.gets.values()].reverse();
  return html`<h1 tabindex="-1">${t.get.heading}</h1>
    <p class="lead">${t.get.lead}</p>
    <form class="paste" @submit=${submitted}>
      <label class="unseen" for="link">${t.get.field}</label>
      <textarea id="link" rows="3" placeholder=${t.get.placeholder} spellcheck="false" autocomplete="off" autocapitalize="off"
        .value=${text} @paste=${pasted} @keydown=${keyed}></textarea>
      <button class="main">${t.get.look}</button>
    </form>
    ${isLooking ? html`<p class="line waiting" role="status">${t.get.looking}</p>` : nothing}
    ${trouble ? problem(trouble, text.trim() ? { words: t.trouble.retry, act: () => void look(text) } : null) : nothing}
    ${found ? foundCard(found) : nothing}
    ${gets.length ? html`<h2>${t.get.list}</h2>${list(gets)}` : nothing}`;
}

/** @param {Found} at */
function foundCard(at) {
  const { info, tree } = at;
  const kind = tree ? null : shownAs(info.media_type);
  const chosen = tree?.chosen() ?? [];
  const what = [tree ? t.get.folder(info.entries) : t.get.file, info.size === null ? "" : sizeOf(info.size)];
  return html`<article class="card found" aria-label=${nameOf(info)}>
    <header>
      <h2>${named(nameOf(info))}</h2>
      <span class="meta">${what.filter(Boolean).join(" · ")}</span>
    </header>
    ${at.player ? player(at, at.player) : nothing}
    <div class="actions">
      ${chosen.length
        ? html`<button class="main" @click=${() => save(at, chosen)}>${t.get.saveSome(chosen.length)}</button>
            <button @click=${() => save(at, [])}>${t.get.save}</button>`
        : html`<button class="main" @click=${() => save(at, [])}>${tree ? t.get.save : t.get.saveFile}</button>`}
      ${kind && !at.player
        ? html`<button @click=${() => play(at, nameOf(info), kind)}>${kind === "image" ? t.get.view : t.get.play}</button>`
        : nothing}
    </div>
    <p class="note">
      <label>${t.get.into}
        <input class="path" .value=${at.into} placeholder=${state.status?.downloads ?? ""} spellcheck="false"
          @input=${(/** @type {Typed} */ event) => (at.into = event.currentTarget.value)} /></label>
    </p>
    ${at.trouble ? problem(at.trouble) : nothing}
    ${tree ? html`<h3>${t.get.contents}</h3>${tree.view((name, shown, path) => void play(at, name, shown, path))}` : nothing}
  </article>`;
}

/**
 * @param {Found} at
 * @param {NonNullable<Found["player"]>} shown
 */
function player(at, shown) {
  const failed = () => {
    shown.failed = true;
    changed();
  };
  const label = t.get.playing(visible(shown.name));
  const media = {
    video: () => html`<video controls autoplay src=${shown.url} aria-label=${label} @error=${failed}></video>`,
    audio: () => html`<audio controls autoplay src=${shown.url} aria-label=${label} @error=${failed}></audio>`,
    image: () => html`<img src=${shown.url} alt=${visible(shown.name)} @error=${failed} />`,
  };
  return html`<div class="player">
    ${shown.failed ? problem({ error: t.get.cannotPlay, next: t.get.cannotPlayNext }) : media[shown.kind]()}
    <p class="note">${t.get.address}</p>
    ${copyable(t.get.address, shown.url, t.link.copyAddress, "")}
    <div class="actions links"><button class="quiet" @click=${() => void ((at.player = null), changed())}>${t.get.stopPlay}</button></div>
  </div>`;
}

/** @param {Get} get */
function card(get) {
  const name = nameOf(get);
  const failure = troubles.get(get.id);
  const isOver = get.phase === "done" || get.phase === "failed";
  const size = get.size ?? get.progress?.total ?? null;
  const label = isOver ? t.get.forgetName(name) : t.get.cancelName(name);
  return html`<article aria-label=${name} aria-busy=${!isOver}>
    <header>
      <h3>${named(name)}</h3>
      <span class="meta">${size === null ? "" : sizeOf(size)}</span>
    </header>
    ${stage(get, name)}
    ${failure ? problem(failure) : nothing}
    <div class="actions links"><button class="quiet" aria-label=${label} @click=${() => drop(get.id)}>${isOver ? t.get.forget : t.get.cancel}</button></div>
  </article>`;
}

/**
 * @param {Get} get
 * @param {string} name
 */
function stage(get, name) {
  const { progress } = get;
  switch (get.phase) {
    case "waiting":
      return html`${bar(t.get.bar(name), 0, 1)}<p class="line"><strong>${t.get.waiting}</strong></p>`;
    case "fetching":
      return html`${bar(t.get.bar(name), progress?.bytes ?? 0, progress?.total)}
        <p class="line"><strong>${progress?.step === "fetching" ? t.get.fetching : t.get.searching}</strong>
          <span>${progress?.step === "fetching" ? `${t.get.pace(progress)} ${t.get.hosts(progress.hosts)}` : ""}</span></p>`;
    case "done":
      return html`<p class="line"><strong class="good">${t.get.done}</strong> <span>${t.get.where(visible(get.path ?? get.into))}</span></p>
        ${get.left_out_count ? html`<p class="line small">${t.get.leftOut(get.left_out_count)}</p>` : nothing}`;
    case "failed":
      return problem(get.error ?? { error: t.get.failed });
  }
}
