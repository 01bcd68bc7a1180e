/** Bytes on their way from this tab to the daemon. What the daemon has it keeps: any tab can go on with the rest. */

import { Failure, asTrouble, call, put } from "./api.js";
import { changed, connected, forget, noteSend, onSend, state } from "./store.js";
import { t } from "./strings.js";

/** @typedef {import("./contract.js").Send} Send */
/** @typedef {import("./contract.js").SendInFull} SendInFull */
/** @typedef {import("./contract.js").SendEntry} SendEntry */
/** @typedef {import("./contract.js").Trouble} Trouble */
/** @typedef {import("./drop.js").Thing} Thing */

const PIECE_BYTES = 64 * 1024 * 1024; // one request; after a failure less than this is asked about again
const AT_ONCE = 2; // uploads that are read side by side
const PACE_S = 5; // the rate is that of so many seconds

/**
 * What this tab knows of an upload that it drives.
 * @typedef {object} Driving
 * @property {"queued" | "reading" | "failed"} mode
 * @property {number} sent bytes that left this tab, and those that the daemon had before
 * @property {number | null} rate
 * @property {number | null} etaS
 * @property {Trouble | null} trouble
 * @property {AbortController} control
 * @property {Thing} thing
 * @property {number} days
 */

/** @type {Map<string, Driving>} */
const driven = new Map();
/** @type {Set<string>} */
const elsewhere = new Set();
/** @type {(() => void)[]} */
const queue = [];
let running = 0;

/** @param {string} id */
export function driving(id) {
  return driven.get(id);
}

/** @param {string} id */
export function isElsewhere(id) {
  return elsewhere.has(id);
}

/**
 * @param {Thing} thing
 * @returns {SendEntry[]}
 */
function entriesOf(thing) {
  const files = thing.files.map(({ path, file }) => ({ path, size: file.size, modified_ms: file.lastModified }));
  return [...files, ...thing.empty.map((path) => ({ path, size: 0, directory: true }))];
}

/**
 * Send a thing. Where the daemon has a part of the same one already, go on with that.
 * @param {Thing} thing
 * @param {number} days
 */
export async function begin(thing, days) {
  const entries = entriesOf(thing);
  for (const send of state.sends.values()) {
    if (isStopped(send) && send.name === thing.name && send.size === thing.size && (await matches(send.id, entries))) {
      drive(send.id, thing, days);
      return;
    }
  }
  const made = await call("POST", "sends", { name: thing.name, folder: thing.folder, entries });
  drive(made.id, thing, days);
  noteSend(made);
}

/**
 * Go on with one send, if these are its files.
 * @param {Send} send
 * @param {Thing[]} things
 * @param {number} days
 */
export async function goOn(send, things, days) {
  const thing = things.find((each) => each.name === send.name) ?? (things.length === 1 ? things[0] : undefined);
  if (!thing || !(await matches(send.id, entriesOf(thing)))) {
    throw new Failure(t.send.notSame(send.name), t.send.notSameNext);
  }
  drive(send.id, thing, days);
}

/**
 * Whether nobody reads the rest of it.
 * @param {Send} send
 */
export function isStopped(send) {
  return send.phase === "receiving" && !driven.has(send.id) && !elsewhere.has(send.id);
}

/**
 * @param {string} id
 * @param {SendEntry[]} entries
 */
async function matches(id, entries) {
  /** @type {SendInFull} */
  const there = await call("GET", `sends/${id}`);
  const mark = (/** @type {SendEntry} */ each) =>
    JSON.stringify([each.path, each.size, each.directory ? null : (each.modified_ms ?? null), each.directory === true]);
  return there.entries.length === entries.length && there.entries.every((each, at) => mark(each) === mark(/** @type {SendEntry} */ (entries[at])));
}

/**
 * @param {string} id
 * @param {Thing} thing
 * @param {number} days
 */
function drive(id, thing, days) {
  /** @type {Driving} */
  const upload = {
    mode: "queued",
    sent: state.sends.get(id)?.received_bytes ?? 0,
    rate: null,
    etaS: null,
    trouble: null,
    control: new AbortController(),
    thing,
    days,
  };
  driven.set(id, upload);
  const run = () => {
    running += 1;
    void navigator.locks
      .request(lockOf(id), () => read(id, upload))
      .catch((error) => {
        upload.mode = "failed";
        upload.trouble = asTrouble(error);
      })
      .finally(() => {
        running -= 1;
        if (upload.mode !== "failed") driven.delete(id);
        queue.shift()?.();
        changed();
      });
  };
  if (running < AT_ONCE) run();
  else queue.push(run);
  changed();
}

/** @param {string} id */
const lockOf = (id) => `shoal-send-${id}`;

/**
 * Try again what failed in this tab.
 * @param {string} id
 */
export function retry(id) {
  const upload = driven.get(id);
  if (upload) drive(id, upload.thing, upload.days);
}

/**
 * Give up a send, wherever it is, or take it off the list when it is done.
 * @param {string} id
 */
export async function cancel(id) {
  driven.get(id)?.control.abort(new DOMException("cancelled", "AbortError"));
  driven.delete(id);
  await call("DELETE", `sends/${id}`);
  forget(id);
}

/**
 * Read all files of an upload, as often as it takes, and start the publish.
 * @param {string} id
 * @param {Driving} upload
 */
async function read(id, upload) {
  upload.mode = "reading";
  const pace = new Pace(upload.sent);
  const { signal } = upload.control;
  while (!signal.aborted) {
    try {
      await readOnce(id, upload, pace);
      if (!signal.aborted) noteSend(await call("POST", `sends/${id}/start`, { lease_days: upload.days }));
      return;
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Failure) || !["away", "locked"].includes(error.code)) throw error;
      await checkReadable(upload.thing);
      await new Promise((resolve) => setTimeout(resolve, 500)); // until the stream of events has noticed it too
      await connected();
    }
  }
}

/**
 * @param {string} id
 * @param {Driving} upload
 * @param {Pace} pace
 */
async function readOnce(id, upload, pace) {
  /** @type {SendInFull} */
  const there = await call("GET", `sends/${id}`);
  const before = there.received.reduce((sum, each) => sum + each, 0);
  let whole = before;
  for (const [number, { file }] of upload.thing.files.entries()) {
    let offset = there.received[number] ?? 0;
    while (offset < file.size && !upload.control.signal.aborted) {
      const from = offset;
      const piece = file.slice(from, from + PIECE_BYTES);
      const tell = (/** @type {number} */ sent) => {
        upload.sent = Math.min(upload.thing.size, whole + sent);
        pace.note(upload, upload.thing.size);
        changed();
      };
      offset = await putPiece(`sends/${id}/files/${number}?offset=${from}`, piece, upload.control.signal, tell);
      whole += offset - from;
      tell(0);
    }
  }
}

/**
 * Send one piece; what the daemon has of the file then.
 * @param {string} path
 * @param {Blob} piece
 * @param {AbortSignal} signal
 * @param {(sent: number) => void} tell
 */
async function putPiece(path, piece, signal, tell) {
  try {
    return (await put(path, piece, signal, tell)).received;
  } catch (error) {
    const received = error instanceof Failure && error.code !== "away" ? error.detail.received : undefined;
    if (typeof received === "number") return received; // it has another part: go on from there
    throw error;
  }
}

/**
 * A browser tells of a file that has gone as it tells of a daemon that has gone: look which it is.
 * @param {Thing} thing
 */
async function checkReadable(thing) {
  for (const { file } of thing.files.slice(0, 1000)) {
    try {
      await file.slice(0, 1).arrayBuffer();
    } catch {
      throw new Failure(t.trouble.changed, t.trouble.changedNext);
    }
  }
}

/** The rate of the last seconds, and what follows for the rest. */
class Pace {
  /** @param {number} sent */
  constructor(sent) {
    this.marks = [{ at: performance.now(), sent }];
  }

  /**
   * @param {Driving} upload
   * @param {number} total
   */
  note(upload, total) {
    const now = performance.now();
    const last = this.marks[this.marks.length - 1];
    if (last && now - last.at < 200) return;
    this.marks.push({ at: now, sent: upload.sent });
    while (this.marks.length > 2 && now - (this.marks[0]?.at ?? now) > PACE_S * 1000) this.marks.shift();
    const first = this.marks[0];
    if (!first || now - first.at < 1000) return; // too short to tell
    upload.rate = Math.max(0, ((upload.sent - first.sent) / (now - first.at)) * 1000);
    upload.etaS = upload.rate > 0 ? (total - upload.sent) / upload.rate : null;
  }
}

/** @param {string} id */
async function lookElsewhere(id) {
  if (driven.has(id) || elsewhere.has(id)) return;
  const isFree = await navigator.locks.request(lockOf(id), { ifAvailable: true }, (lock) => lock !== null);
  if (isFree || driven.has(id) || elsewhere.has(id)) return;
  elsewhere.add(id);
  changed();
  await navigator.locks.request(lockOf(id), () => elsewhere.delete(id));
  changed();
}

onSend((_before, now) => {
  if (now?.phase === "receiving") void lookElsewhere(now.id);
});

addEventListener("beforeunload", (event) => {
  if ([...driven.values()].some((each) => each.mode !== "failed")) event.preventDefault();
});
