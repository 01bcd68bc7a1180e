/** The daemon's API: requests with the token of this tab, and failures in words. */

import { t } from "./strings.js";

/** @typedef {import("./contract.js").Trouble} Trouble */

const API = "api/v1/";
const TOKEN_KEY = "shoal-token";
const TOKEN = /^[A-Za-z0-9_-]{16,128}$/; // and no name of a view
const SILENCE_S = 40; // the daemon sends a line at least every 15 s

/** A request that failed. `code` is "away" where no daemon answered, "locked" where it does not know the token. */
export class Failure extends Error {
  /**
   * @param {string} words
   * @param {string} [next]
   * @param {string} [code]
   * @param {Record<string, unknown>} [detail]
   */
  constructor(words, next = "", code = "", detail = {}) {
    super(words);
    this.next = next;
    this.code = code;
    this.detail = detail;
  }

  static away() {
    return new Failure(t.trouble.away, t.trouble.awayNext, "away");
  }
}

/**
 * @param {unknown} error
 * @returns {Trouble}
 */
export function asTrouble(error) {
  if (error instanceof Failure) return { error: error.message, next: error.next, code: error.code };
  console.error(error);
  return { error: t.trouble.unforeseen, next: t.trouble.reload };
}

const tabs = new BroadcastChannel("shoal");

/** Take the token out of the address, where it would stay in the history, and give the link that came with it. */
export function takeToken() {
  const [first, ...others] = location.hash.slice(1).split("&");
  if (!first || !TOKEN.test(first)) return null;
  const link = others.find((each) => each.startsWith("link="));
  history.replaceState(null, "", link ? "#get" : "#send");
  sessionStorage.setItem(TOKEN_KEY, first);
  tabs.postMessage({ token: first }); // older tabs go on with it
  try {
    return link ? decodeURIComponent(link.slice(5)) : "";
  } catch {
    return ""; // the address is broken: then it leads nowhere
  }
}

/**
 * Call `listener` when a newer tab has handed its token to this one.
 * @param {() => void} listener
 */
export function onToken(listener) {
  tabs.onmessage = async (event) => {
    const offered = event.data?.token;
    if (typeof offered !== "string" || !TOKEN.test(offered) || offered === token() || !(await isGood(offered))) return;
    sessionStorage.setItem(TOKEN_KEY, offered);
    listener();
  };
}

/**
 * Whether the daemon knows a token. Any page of the web can open a tab of this one, with a token that it made up.
 * @param {string} offered
 */
async function isGood(offered) {
  try {
    const response = await fetch(`${API}history`, { headers: { Authorization: `Bearer ${offered}` }, cache: "no-store" });
    return response.ok;
  } catch {
    return false;
  }
}

/** @returns {string | null} */
export function token() {
  return sessionStorage.getItem(TOKEN_KEY);
}

/** @returns {Record<string, string>} */
function authorization() {
  return { Authorization: `Bearer ${token() ?? ""}` };
}

/**
 * @param {number} status
 * @param {unknown} answer
 */
function failureOf(status, answer) {
  const trouble = /** @type {Partial<Trouble> & Record<string, unknown>} */ (
    answer && typeof answer === "object" ? answer : {}
  );
  if (status === 401) return new Failure(t.locked.title, t.locked.next, "locked");
  if (typeof trouble.error !== "string") {
    return new Failure(t.trouble.strange(status), t.trouble.strangeNext, String(status), trouble);
  }
  return new Failure(trouble.error, trouble.next ?? "", trouble.code ?? String(status), trouble);
}

/** @param {string} text */
function parsed(text) {
  try {
    return text ? JSON.parse(text) : {};
  } catch {
    return null;
  }
}

/**
 * One request; what it answers.
 * @param {string} method
 * @param {string} path
 * @param {object} [body]
 * @returns {Promise<any>}
 */
export async function call(method, path, body) {
  let response;
  let text;
  try {
    response = await fetch(API + path, {
      method,
      headers: body === undefined ? authorization() : { ...authorization(), "Content-Type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      cache: "no-store",
    });
    text = await response.text();
  } catch {
    throw Failure.away();
  }
  const answer = parsed(text);
  if (!response.ok || answer === null) throw failureOf(response.status, answer);
  return answer;
}

/**
 * Send a part of a file. The browser reads it from the disk as it goes; `fetch` would not tell how far it is.
 * @param {string} path
 * @param {Blob} blob
 * @param {AbortSignal} signal
 * @param {(sent: number) => void} onProgress
 * @returns {Promise<{received: number}>}
 */
export function put(path, blob, signal, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    request.open("PUT", API + path);
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => onProgress(event.loaded);
    request.onload = () => {
      const answer = parsed(request.responseText);
      if (request.status < 300 && answer !== null) resolve(answer);
      else reject(failureOf(request.status, answer));
    };
    request.onerror = () => reject(Failure.away());
    request.onabort = () => reject(signal.reason);
    request.onloadend = () => signal.removeEventListener("abort", stop);
    signal.addEventListener("abort", stop);
    if (signal.aborted) reject(signal.reason);
    else request.send(blob);
  });
}

/**
 * A line that the page cannot use is no reason to leave the stream.
 * @param {string} line
 * @param {(change: import("./contract.js").Change) => void} onChange
 */
function told(line, onChange) {
  try {
    onChange(JSON.parse(line));
  } catch (error) {
    reportError(error);
  }
}

/**
 * Follow the stream of events until it ends. It always ends with a failure.
 * @param {() => void} onOpen
 * @param {(change: import("./contract.js").Change) => void} onChange
 * @returns {Promise<never>}
 */
export async function follow(onOpen, onChange) {
  const control = new AbortController();
  let watch = setTimeout(() => control.abort(), SILENCE_S * 1000);
  try {
    const response = await fetch(`${API}events`, { headers: authorization(), signal: control.signal, cache: "no-store" });
    if (!response.ok || !response.body) throw failureOf(response.status, parsed(await response.text()));
    onOpen();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ; ) {
      const { value, done } = await reader.read();
      if (done) break;
      clearTimeout(watch);
      watch = setTimeout(() => control.abort(), SILENCE_S * 1000);
      const lines = (rest + value).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) if (line.trim()) told(line, onChange);
    }
  } catch (error) {
    if (error instanceof Failure) throw error;
  } finally {
    clearTimeout(watch);
    control.abort();
  }
  throw Failure.away();
}
