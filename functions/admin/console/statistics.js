// The last minutes: small charts, and the same figures in a table.

import { get } from "./api.js";
import { chart } from "./charts.js";
import { duration, h, table } from "./dom.js";
import { section } from "./section.js";

const MINUTES = 15;

export function createStatistics() {
  const charts = h("div", { class: "charts" });
  const figures = table(
    "The last minutes in figures",
    [
      {
        title: "Minute",
        text: (minute) => new Date(minute.at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }),
      },
      { title: "Begun", text: (minute) => String(minute.created) },
      { title: "Completed", text: (minute) => String(minute.completed) },
      { title: "Failed", text: (minute) => String(minute.failed) },
      { title: "Cancelled", text: (minute) => String(minute.cancelled) },
      { title: "Median", text: (minute) => duration(minute.median_seconds) },
      { title: "95th percentile", text: (minute) => duration(minute.p95_seconds) },
    ],
    (minute) => minute.at,
    "There are no figures for the last minutes.",
  );
  const details = h("details", {}, h("summary", {}, "Show the figures as a table"), figures.node);
  let drawn = "";
  const ask = () => get(`admin/statistics?minutes=${MINUTES}`);
  return section("The last minutes", { class: "card wide" }, [charts, details], ask, ({ minutes }) => {
    if (JSON.stringify(minutes) === drawn) return;
    drawn = JSON.stringify(minutes);
    const of = (name) => minutes.map((minute) => minute[name]);
    const times = of("at");
    const bars = (name, values) => ({ name, values, style: "bars" });
    const line = (name, values) => ({ name, values, style: "line" });
    charts.replaceChildren(
      chart({
        title: "Jobs per minute",
        unit: "",
        times,
        series: [bars("completed", of("completed")), line("begun", of("created"))],
      }),
      chart({
        title: "Jobs without an answer, per minute",
        unit: "",
        times,
        series: [bars("failed", of("failed")), line("cancelled", of("cancelled"))],
      }),
      chart({
        title: "Time to the reply",
        unit: " s",
        times,
        series: [line("median", of("median_seconds")), line("95th percentile", of("p95_seconds"))],
      }),
    );
    figures.show([...minutes].reverse());
  });
}
