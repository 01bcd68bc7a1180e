/** What is in a folder of the network, a page of its list at a time. */

import { asTrouble, call } from "./api.js";
import { sizeOf, visible } from "./format.js";
import { shownAs } from "./get.js";
import { named, problem } from "./parts.js";
import { changed } from "./store.js";
import { t } from "./strings.js";
import { html, nothing } from "./vendor/lit-html.js";

/** @typedef {import("./contract.js").Entry} Entry */
/** @typedef {import("./parts.js").Typed} Typed */
/** @typedef {{entries: Entry[], more: boolean, isLoading: boolean, trouble: import("./contract.js").Trouble | null}} Level */

/** @typedef {(name: string, kind: "video" | "audio" | "image", path: string) => void} Play */

const PAGE = 200; // entries in one request

export class Tree {
  /** @param {string} link */
  constructor(link) {
    this.link = link;
    /** @type {Map<string, Level>} what was read, by the path of the folder */
    this.levels = new Map();
    /** @type {Set<string>} */
    this.opened = new Set();
    /** @type {Set<string>} */
    this.picked = new Set();
  }

  /** The paths that the person selected, without those below another. */
  chosen() {
    return [...this.picked].filter((path) => !this.isBelowPicked(path));
  }

  /** @param {string} path */
  isBelowPicked(path) {
    for (let at = path.lastIndexOf("/"); at > 0; at = path.lastIndexOf("/", at - 1)) {
      if (this.picked.has(path.slice(0, at))) return true;
    }
    return false;
  }

  /** @param {string} path */
  async open(path) {
    this.opened.add(path);
    if (!this.levels.has(path)) await this.more(path);
    changed();
  }

  /** @param {string} path */
  toggle(path) {
    if (this.opened.delete(path)) changed();
    else void this.open(path);
  }

  /**
   * Read the next entries of a folder.
   * @param {string} path
   */
  async more(path) {
    const level = this.levels.get(path) ?? { entries: [], more: true, isLoading: false, trouble: null };
    this.levels.set(path, level);
    if (level.isLoading) return;
    level.isLoading = true;
    level.trouble = null;
    changed();
    try {
      const after = level.entries.at(-1)?.name;
      const answer = await call("POST", "entries", { link: this.link, path, limit: PAGE, ...(after === undefined ? {} : { after }) });
      level.entries.push(...answer.entries);
      level.more = answer.more;
    } catch (error) {
      level.trouble = asTrouble(error);
    }
    level.isLoading = false;
    changed();
  }

  /**
   * @param {string} path
   * @param {boolean} isPicked
   */
  pick(path, isPicked) {
    if (isPicked) this.picked.add(path);
    else this.picked.delete(path);
    changed();
  }

  /**
   * @param {Play} play
   * @param {string} [path]
   * @returns {unknown}
   */
  view(play, path = "") {
    const level = this.levels.get(path);
    if (!level) return nothing;
    return html`<ul class="tree">
      ${level.entries.map((entry) => html`<li>${this.row(entry, path ? `${path}/${entry.name}` : entry.name, play)}</li>`)}
      ${level.isLoading ? html`<li class="note" role="status">${t.get.loading}</li>` : nothing}
      ${level.trouble
        ? html`<li>${problem(level.trouble, { words: t.trouble.retry, act: () => void this.more(path) })}</li>`
        : level.more && !level.isLoading
          ? html`<li><button class="quiet" @click=${() => this.more(path)}>${t.get.more}</button></li>`
          : nothing}
      ${!level.isLoading && !level.trouble && !level.more && level.entries.length === 0
        ? html`<li class="note">${t.get.emptyFolder}</li>`
        : nothing}
    </ul>`;
  }

  /**
   * @param {Entry} entry
   * @param {string} path
   * @param {Play} play
   */
  row(entry, path, play) {
    const name = visible(entry.name);
    const isAbove = this.isBelowPicked(path);
    const isOpen = this.opened.has(path);
    const kind = shownAs(entry.media_type);
    const picked = (/** @type {Typed} */ event) => this.pick(path, event.currentTarget.checked);
    return html`<div class="row">
        <input type="checkbox" aria-label=${t.get.select(name)} .checked=${isAbove || this.picked.has(path)} ?disabled=${isAbove} @change=${picked} />
        ${entry.kind === "folder"
          ? html`<button class="folder" aria-expanded=${isOpen} aria-label=${t.get.open(name)} @click=${() => this.toggle(path)}>${named(entry.name)}</button>`
          : named(entry.name)}
        ${kind
          ? html`<button class="quiet play" aria-label=${kind === "image" ? t.get.viewName(name) : t.get.playName(name)} @click=${() => play(entry.name, kind, path)}>
              ${kind === "image" ? t.get.view : t.get.play}
            </button>`
          : nothing}
        <span class="meta">${entry.size !== null ? sizeOf(entry.size) : entry.kind === "link" ? t.get.linkMark : ""}</span>
      </div>
      ${isOpen ? this.view(play, path) : nothing}`;
  }
}
