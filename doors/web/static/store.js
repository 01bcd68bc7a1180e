/** What the page knows, who is told when it changes, and how it keeps up with the daemon. */

import { Failure, asTrouble, call, follow, token } from "./api.js";

/** @typedef {import("./contract.js").Send} Send */
/** @typedef {import("./contract.js").Get} Get */
/** @typedef {import("./contract.js").Kept} Kept */
/** @typedef {import("./contract.js").Trouble} Trouble */
/** @typedef {"send" | "get" | "yours" | "node"} View */

const AGAIN_S = [0.5, 1, 2, 3]; // waits before each try to reach a daemon that is away; the last one goes on

export const state = {
  /** @type {View} */
  view: "send",
  /** @type {"connecting" | "ok" | "away" | "locked"} */
  connection: token() ? "connecting" : "locked",
  /** @type {Map<string, Send>} */
  sends: new Map(),
  /** @type {Map<string, Get>} */
  gets: new Map(),
  /** @type {Kept[] | null} */
  library: null,
  /** @type {Trouble | null} */
  libraryTrouble: null,
  /** @type {import("./contract.js").Status | null} */
  status: null,
  /** Read aloud by a screen reader. */
  said: "",
  /** What was copied a moment ago. */
  copied: "",
};

/** @type {Set<() => void>} */
const listeners = new Set();
let isPlanned = false;

/**
 * Call `listener` once in the next frame after changes.
 * @param {() => void} listener
 */
export function onChange(listener) {
  listeners.add(listener);
}

/** Something in `state`, or in what a view keeps for itself, is another. */
export function changed() {
  if (isPlanned) return;
  isPlanned = true;
  const run = () => {
    if (!isPlanned) return;
    isPlanned = false;
    for (const listener of listeners) listener();
  };
  if (document.hidden) setTimeout(run, 200); // a hidden tab has no frames, and its title shows how far it is
  else requestAnimationFrame(run);
}

/**
 * Tell a screen reader.
 * @param {string} words
 */
export function say(words) {
  state.said = words;
  changed();
}

/** @type {(() => void)[]} */
let waiting = [];

/** Wait until the daemon is there. */
export function connected() {
  if (state.connection === "ok") return Promise.resolve();
  return new Promise((resolve) => waiting.push(() => resolve(undefined)));
}

/** @type {() => void} */
let hurry = () => {};

/** Try at once to reach the daemon. */
export function tryNow() {
  hurry();
}

/** @type {Set<(before: Send | undefined, now: Send | undefined) => void>} */
const sendListeners = new Set();
/** @type {Set<(before: Get | undefined, now: Get) => void>} */
const getListeners = new Set();

/** @param {(before: Send | undefined, now: Send | undefined) => void} listener */
export function onSend(listener) {
  sendListeners.add(listener);
}

/** @param {(before: Get | undefined, now: Get) => void} listener */
export function onGet(listener) {
  getListeners.add(listener);
}

/** @param {Send} send */
export function noteSend(send) {
  const before = state.sends.get(send.id);
  state.sends.set(send.id, send);
  for (const listener of sendListeners) listener(before, send);
  changed();
}

/** @param {Get} get */
export function noteGet(get) {
  const before = state.gets.get(get.id);
  state.gets.set(get.id, get);
  for (const listener of getListeners) listener(before, get);
  changed();
}

/** @param {string} id */
export function forget(id) {
  const send = state.sends.get(id);
  state.sends.delete(id);
  state.gets.delete(id);
  if (send) for (const listener of sendListeners) listener(send, undefined);
  changed();
}

/** Fetch the list of what this home has. */
export async function refreshLibrary() {
  try {
    state.library = await call("GET", "library");
    state.libraryTrouble = null;
  } catch (error) {
    state.libraryTrouble = asTrouble(error);
  }
  changed();
}

/** Fetch how the node does. Where that fails, the stream of events fails too, and says so. */
async function refreshStatus() {
  try {
    state.status = await call("GET", "status");
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
  }
  changed();
}

/** @param {import("./contract.js").Change} change */
function apply(change) {
  if (change.type === "send") noteSend(change.send);
  else if (change.type === "get") noteGet(change.get);
  else if (change.type === "gone") forget(change.id);
  else if (change.type === "status") void refreshStatus();
  else if (change.type === "library" && state.library) void refreshLibrary();
  if (change.type !== "beat") changed();
}

async function catchUp() {
  const [sends, gets, status] = await Promise.all([call("GET", "sends"), call("GET", "gets"), call("GET", "status")]);
  const there = new Set([...sends, ...gets].map((each) => each.id));
  for (const id of [...state.sends.keys(), ...state.gets.keys()]) if (!there.has(id)) forget(id);
  sends.forEach(noteSend);
  gets.forEach(noteGet);
  state.status = status;
  state.connection = "ok";
  for (const go of waiting.splice(0)) go();
  if (state.library) void refreshLibrary();
  changed();
}

/** Keep up with the daemon for as long as the page is open. Without a token it waits for one. */
export async function keepUp() {
  for (let tries = 0; ; tries += 1) {
    const used = token();
    try {
      if (!used) throw new Failure("", "", "locked");
      await follow(() => {
        tries = -1;
        catchUp().catch(lost);
      }, apply);
    } catch (error) {
      lost(error);
    }
    if (token() !== used) continue; // a newer tab has handed over its own
    const wait = AGAIN_S[Math.min(Math.max(tries, 0), AGAIN_S.length - 1)] ?? 3;
    await new Promise((resolve) => {
      const timer = state.connection === "locked" ? 0 : setTimeout(resolve, wait * 1000);
      hurry = () => {
        clearTimeout(timer);
        resolve(undefined);
      };
    });
  }
}

/**
 * Note that the daemon is not there, or does not know this tab.
 * @param {unknown} error
 */
function lost(error) {
  if (!(error instanceof Failure)) reportError(error);
  state.connection = error instanceof Failure && error.code === "locked" ? "locked" : "away";
  changed();
}
