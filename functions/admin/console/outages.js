// Try an outage: stops and starts the stores and the worker of the local host. A deployment has no such buttons.

import { call, get, path } from "./api.js";
import { h, say, sync } from "./dom.js";
import * as health from "./health.js";
import { section } from "./section.js";

const PARTS = {
  redis: [
    "Redis",
    "Without it Postgres coordinates. Messages are accepted and answered as before; each 202 says degraded.",
  ],
  postgres: [
    "Postgres",
    "Without it Redis alone guards replies. Cancel, release and handoff answer 503 until it is back.",
  ],
  worker: ["Worker", "Without it messages are accepted and wait. Another worker answers its current job, once."],
};

/** `tell(text, bad)` shows the outcome of a stop or start. */
export function createOutages(tell) {
  const list = h("ul", { class: "tiles" });
  const turn = (name) => async (event) => {
    const button = event.currentTarget;
    const state = button.dataset.to;
    button.disabled = true;
    try {
      await call("PUT", path("local/parts", name), { body: { state } });
      tell(`${PARTS[name][0]} is ${state}.`);
    } catch (problem) {
      tell(problem.message, true);
    }
    button.disabled = false;
    await Promise.all([refresh(), health.refresh()]);
  };
  const create = ({ name }) =>
    h(
      "li",
      { class: "tile" },
      h("strong", {}, PARTS[name][0]),
      h("span", { class: "state" }),
      h("span", { class: "muted" }, PARTS[name][1]),
      h("button", { type: "button", on: { click: turn(name) } }),
    );
  const update = (node, { name, state, ours }) => {
    const running = state === "running";
    const [, label, , button] = node.children;
    node.className = `tile ${running ? "good" : "bad"}`;
    say(label, running ? "running" : "stopped");
    say(button, `${running ? "Stop" : "Start"} ${PARTS[name][0]}`);
    button.dataset.to = running ? "stopped" : "running";
    button.hidden = ours === false;
  };
  const about = h(
    "p",
    {},
    "These are real processes on this machine. Stop one, keep typing in Chat, and start it again: ",
    "no accepted message is lost, and none is answered twice.",
  );
  const draw = ({ parts }) => {
    const known = parts.filter(({ name }) => name in PARTS);
    sync(list, known, ({ name }) => name, create, update);
  };
  const ask = () => get("local/parts");
  const { node, refresh } = section("Try an outage", { class: "card wide outage" }, [about, list], ask, draw);
  // An error of the local host says nothing about the API, so it is not passed on.
  return { node, refresh: () => refresh().then(() => null) };
}
