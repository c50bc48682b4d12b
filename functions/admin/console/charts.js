// Small charts of the last minutes. Each is an image with a sentence for screen readers. A table below has the figures.

import { h, svg } from "./dom.js";

const WIDTH = 320;
const HEIGHT = 96;
const TOP = 14;
const BOTTOM = 80;

/**
 * A chart of one or more values for each minute. `series` is a list of `{ name, values, style }` with the style `bars` or
 * `line`. A series' place in the list chooses its colour. A null value is a gap. `unit` follows each figure.
 */
export function chart({ title, unit, series, times }) {
  const values = series.flatMap((one) => one.values).filter((value) => value !== null);
  const most = niceAbove(Math.max(0, ...values));
  const step = WIDTH / Math.max(1, times.length);
  const y = (value) => BOTTOM - (value / most) * (BOTTOM - TOP);
  const shapes = series.map((one, number) =>
    one.style === "bars" ? bars(one, number, step, y) : line(one, number, step, y),
  );
  const image = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": sentence(title, unit, series) },
    svg("line", { x1: 0, y1: BOTTOM, x2: WIDTH, y2: BOTTOM, class: "axis" }),
    svg("line", { x1: 0, y1: TOP, x2: WIDTH, y2: TOP, class: "axis faint" }),
    ...shapes,
    text(0, TOP - 4, `${most}${unit}`),
    text(0, HEIGHT - 3, `${times.length} min ago`),
    text(WIDTH, HEIGHT - 3, "now", "end"),
  );
  const key = series.map((one, number) =>
    h("li", {}, h("span", { class: `key series-${number}`, "aria-hidden": "true" }), one.name),
  );
  return h("figure", { class: "chart" }, h("figcaption", {}, title), image, h("ul", { class: "keys" }, key));
}

function bars({ values }, number, step, y) {
  const bar = (value, place) =>
    svg("rect", { x: place * step + 1, y: y(value), width: Math.max(1, step - 2), height: BOTTOM - y(value), rx: 1 });
  const drawn = values.map((value, place) => (value ? bar(value, place) : null)).filter(Boolean);
  return svg("g", { class: `bars series-${number}` }, ...drawn);
}

function line({ values }, number, step, y) {
  const group = svg("g", { class: `line series-${number}` });
  let run = [];
  const end = () => {
    if (run.length > 1) group.append(svg("polyline", { points: run.map((point) => point.join(",")).join(" ") }));
    if (run.length === 1) group.append(svg("circle", { cx: run[0][0], cy: run[0][1], r: 2 }));
    run = [];
  };
  values.forEach((value, place) => {
    if (value === null) end();
    else run.push([(place + 0.5) * step, y(value)]);
  });
  end();
  return group;
}

const text = (x, y, words, anchor = "start") => {
  const node = svg("text", { x, y, "text-anchor": anchor });
  node.textContent = words;
  return node;
};

/** The smallest of 1, 2, 5, 10, 20, 50, … that is not below the value. */
function niceAbove(value) {
  if (value <= 1) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * power).find((nice) => nice >= value);
}

function sentence(title, unit, series) {
  const sentences = series.map(({ name, values }) => {
    const known = values.filter((value) => value !== null);
    if (!known.some((value) => value > 0)) return `${name}: none`;
    return `${name}: at most ${Math.max(...known)}${unit}, last ${known.at(-1)}${unit}`;
  });
  return `${title}. ${sentences.join("; ")}.`;
}
