/** Pieces that several views show. */

import { call } from "./api.js";
import { share, visible } from "./format.js";
import { changed, say, state } from "./store.js";
import { t } from "./strings.js";
import { html, nothing, render } from "./vendor/lit-html.js";

/** @typedef {import("./contract.js").Trouble} Trouble */
/** @typedef {import("./vendor/lit-html.js").TemplateResult} Template */
/** @typedef {Event & {currentTarget: HTMLInputElement}} Typed */

/**
 * A list whose items keep their elements, and so the focus, when others come and go.
 * @template T
 * @param {(item: T) => string} keyOf
 * @param {(item: T) => Template} template
 */
export function keyedList(keyOf, template) {
  const list = document.createElement("ul");
  list.className = "cards";
  /** @type {Map<string, HTMLLIElement>} */
  const elements = new Map();
  /** @param {T[]} items */
  return (items) => {
    const keys = new Set(items.map(keyOf));
    for (const [key, element] of elements) {
      if (keys.has(key)) continue;
      element.remove();
      elements.delete(key);
    }
    items.forEach((item, at) => {
      let element = elements.get(keyOf(item));
      if (!element) {
        element = document.createElement("li");
        element.className = "card";
        elements.set(keyOf(item), element);
      }
      if (list.children[at] !== element) list.insertBefore(element, list.children[at] ?? null);
      render(template(item), element);
    });
    return list;
  };
}

/**
 * A name from anywhere, which cannot disturb the words around it.
 * @param {string} name
 */
export function named(name) {
  return html`<bdi class="name">${visible(name)}</bdi>`;
}

/**
 * What went wrong and what to do now.
 * @param {Trouble} trouble
 * @param {{words: string, act: () => void} | null} [action]
 */
export function problem(trouble, action = null) {
  return html`<div class="problem" role="alert">
    <p><strong>${trouble.error}</strong> ${trouble.next ?? ""}</p>
    ${action ? html`<p class="actions links"><button class="quiet" @click=${action.act}>${action.words}</button></p>` : nothing}
  </div>`;
}

/**
 * One small fish for each share; those that are there are full.
 * @param {number} full
 * @param {number} all
 * @param {string} [tone]
 */
export function fishes(full, all, tone = "") {
  const each = Array.from({ length: Math.min(all, 256) }, (_, at) => at < full);
  return html`<div class="fishes ${tone}" aria-hidden="true">
    ${each.map((isThere) => html`<svg class=${isThere ? "fish there" : "fish"} viewBox="0 0 20 10"><use href="#fish"></use></svg>`)}
  </div>`;
}

/**
 * A bar of one stage.
 * @param {string} label
 * @param {number} done
 * @param {number | null | undefined} total
 * @param {string} [kind]
 */
export function bar(label, done, total, kind = "") {
  const part = share(done, total);
  return html`<progress class=${kind} max="1" .value=${part} aria-label=${label}>${Math.floor(part * 100)} %</progress>`;
}

let copiedTimer = 0;

/**
 * Copy a text. Where the browser does not allow it, select the field it is in.
 * @param {string} text
 * @param {HTMLInputElement | null} field
 */
async function copy(text, field) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    field?.focus();
    field?.select();
    say(t.link.byHand);
    return;
  }
  state.copied = text;
  say(t.link.saidCopied);
  clearTimeout(copiedTimer);
  copiedTimer = setTimeout(() => {
    state.copied = "";
    changed();
  }, 2000);
}

/**
 * A text to take along, with its button.
 * @param {string} label
 * @param {string} text
 * @param {string} words
 * @param {string} [kind]
 */
export function copyable(label, text, words, kind = "main") {
  /** @param {Event & {currentTarget: HTMLElement}} event */
  const take = (event) => void copy(text, event.currentTarget.parentElement?.querySelector("input") ?? null);
  const isCopied = state.copied === text;
  return html`<div class="copyable">
    <input readonly aria-label=${label} .value=${text} @focus=${selectAll} spellcheck="false" />
    <button class=${isCopied ? `${kind} done` : kind} @click=${take}>${isCopied ? t.link.copied : words}</button>
  </div>`;
}

/** @param {Typed} event */
function selectAll(event) {
  event.currentTarget.select();
}

/** @type {Map<string, {code: import("./contract.js").QrCode | null, trouble: Trouble | null}>} */
const qrCodes = new Map();

/**
 * Show the QR code of a link, or hide it.
 * @param {string} link
 * @param {(error: unknown) => Trouble} asTrouble
 */
export async function toggleQr(link, asTrouble) {
  if (qrCodes.delete(link)) {
    changed();
    return;
  }
  qrCodes.set(link, { code: null, trouble: null });
  changed();
  try {
    qrCodes.set(link, { code: await call("POST", "qr", { link }), trouble: null });
  } catch (error) {
    qrCodes.set(link, { code: null, trouble: asTrouble(error) });
  }
  changed();
}

/** @param {string} link */
export function hasQr(link) {
  return qrCodes.has(link);
}

/**
 * @param {string} link
 * @param {string} name
 */
export function qrCode(link, name) {
  const shown = qrCodes.get(link);
  if (!shown) return nothing;
  if (shown.trouble) return problem(shown.trouble);
  if (!shown.code) return nothing;
  const { size, svg: path } = shown.code;
  return html`<svg class="qr" viewBox="0 0 ${size} ${size}" role="img" aria-label=${t.link.qrLabel(visible(name))}>
    <path fill="#fff" d="M0 0h${size}v${size}h-${size}z"></path>
    <path d=${path}></path>
  </svg>`;
}

/**
 * Ask before something that cannot be undone.
 * @param {{title: string, text: string, yes: string, no: string}} question
 * @returns {Promise<boolean>}
 */
export function ask(question) {
  return choose(question.title, question.text, [
    { words: question.yes, value: true, kind: "danger" },
    { words: question.no, value: false, kind: "" },
  ]).then((answer) => answer ?? false);
}

/**
 * A question with a few answers; null where it was left without one.
 * @template T
 * @param {string} title
 * @param {string} text
 * @param {{words: string, value: T, kind: string}[]} answers
 * @returns {Promise<T | null>}
 */
export function choose(title, text, answers) {
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "question");
  return new Promise((resolve) => {
    /** @type {T | null} */
    let chosen = null;
    /** @param {T} value */
    const answer = (value) => {
      chosen = value;
      dialog.close();
    };
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(chosen);
    });
    render(
      html`<h2 id="question">${visible(title)}</h2>
        <p>${text}</p>
        <div class="actions">
          ${answers.map((each) => html`<button class=${each.kind} @click=${() => answer(each.value)}>${each.words}</button>`)}
        </div>`,
      dialog,
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}
