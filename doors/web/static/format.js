/** Sizes, rates, times and names as people read them. */

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];
const DAY_S = 86_400;

// Control characters, what turns the direction of writing, and what takes no room: a name must not look like another
// name. The two joiners stay, as some writings and pictures need them.
const UNSEEN =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\uffff]/gu;

/**
 * Three digits are enough to read: `999 B`, `64.0 MB`, `1.07 GB`.
 * @param {number} size
 */
export function sizeOf(size) {
  let unit = 0;
  let value = size;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  if (unit === 0) return `${Math.round(value)} B`;
  return `${value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0)} ${UNITS[unit]}`;
}

/** @param {number} bytesPerSecond */
export function rateOf(bytesPerSecond) {
  return `${sizeOf(bytesPerSecond)}/s`;
}

/** @param {number} count */
export function countOf(count) {
  return count.toLocaleString("en");
}

/**
 * A span of time, rounded as one would say it: `3 s`, `4 min`, `2 h 20 min`, `12 days`.
 * @param {number} seconds
 */
export function spanOf(seconds) {
  const whole = Math.max(1, Math.round(seconds));
  if (whole < 60) return whole < 10 ? `${whole} s` : `${Math.ceil(whole / 5) * 5} s`;
  const minutes = Math.ceil(whole / 60);
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${Math.ceil((minutes % 60) / 5) * 5} min`.replace(" 0 min", "");
  const days = Math.round(whole / DAY_S);
  return `${days} days`;
}

/** @param {number} at */
export function dayOf(at) {
  return new Date(at * 1000).toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric" });
}

/** @param {number} at */
export function daysUntil(at) {
  return Math.max(0, Math.floor((at - Date.now() / 1000) / DAY_S));
}

/**
 * A name with nothing in it that cannot be seen.
 * @param {string} name
 */
export function visible(name) {
  return name.replace(UNSEEN, (each) => `\\u${(each.codePointAt(0) ?? 0).toString(16).padStart(4, "0")}`);
}

/**
 * How far it is, from 0 to 1. A total of 0 is whole at once.
 * @param {number} done
 * @param {number | null | undefined} total
 */
export function share(done, total) {
  if (total === null || total === undefined) return 0;
  return total === 0 ? 1 : Math.min(1, Math.max(0, done / total));
}
