/** A curve over a day, as SVG. */

import { html, svg } from "./vendor/lit-html.js";

const WIDTH = 600;
const HEIGHT = 96;
const DAY_S = 86_400;

/** @typedef {{at: number, value: number}} Mark */

/**
 * @param {Mark[]} marks
 * @param {number} end
 * @param {number} top
 * @param {number} gapS a longer time between two points is a gap: the node did not run
 */
function pathOf(marks, end, top, gapS) {
  let path = "";
  let last = -Infinity;
  for (const { at, value } of marks) {
    const x = (WIDTH * (1 - (end - at) / DAY_S)).toFixed(1);
    const y = (HEIGHT - 2 - ((HEIGHT - 6) * value) / top).toFixed(1);
    path += `${at - last > gapS ? "M" : "L"}${x} ${y}`;
    last = at;
  }
  return path;
}

/**
 * @param {string} title
 * @param {{name: string, marks: Mark[]}[]} curves two at most
 * @param {number} stepS
 * @param {(value: number) => string} words
 * @param {(least: string, most: string, last: string) => string} range
 * @param {{from: string, to: string, most: (value: string) => string}} ends
 */
export function plot(title, curves, stepS, words, range, ends) {
  const values = curves.flatMap(({ marks }) => marks.map(({ value }) => value));
  const end = Math.max(...curves.flatMap(({ marks }) => marks.map(({ at }) => at)));
  const most = Math.max(...values);
  const top = most || 1;
  const told = curves.map(({ name, marks }) => {
    const each = marks.map(({ value }) => value);
    return `${name ? `${name}: ` : ""}${range(words(Math.min(...each)), words(Math.max(...each)), words(each.at(-1) ?? 0))}`;
  });
  return html`<figure class="plot">
    <figcaption><strong>${title}</strong>
      ${curves.map(({ name, marks }, at) => html`<span class="key key${at}">${name} ${words(marks.at(-1)?.value ?? 0)}</span>`)}
      <span class="most">${ends.most(words(most))}</span>
    </figcaption>
    <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img" aria-label="${title}. ${told.join(" ")}">
      <path class="grid" d="M0 4H${WIDTH}M0 ${HEIGHT / 2 + 1}H${WIDTH}M0 ${HEIGHT - 2}H${WIDTH}"></path>
      ${curves.map(({ marks }, at) => svg`<path class="curve curve${at}" d=${pathOf(marks, end, top, stepS * 2.5)}></path>`)}
    </svg>
    <div class="axis" aria-hidden="true"><span>${ends.from}</span><span>${ends.to}</span></div>
  </figure>`;
}
