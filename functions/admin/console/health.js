// The state of the service, for the whole page: from GET /admin/status at intervals, and from each 202.

import { get } from "./api.js";
import { h } from "./dom.js";

const EVERY_MS = 15_000;

const listeners = new Set();
let status = null; // the last answer of GET /admin/status; null while it is unknown
let problem = null; // why it is unknown
let degraded = false; // whether the last 202 or status was
let asking = null;

/** Call `listener(status)` after each request for the status; null if it is unknown. */
export function onStatus(listener) {
  listeners.add(listener);
}

/** Ask now. Never throws: a failed request is part of the state. */
export function refresh() {
  asking ??= (async () => {
    try {
      status = await get("admin/status");
      problem = null;
      degraded = status.status === "degraded";
    } catch (error) {
      status = null;
      problem = error;
    }
    asking = null;
    show();
    for (const listener of listeners) listener(status);
  })();
  return asking;
}

/** Why the status is unknown; null if it is known. */
export const trouble = () => problem;

/** Take note of a 202. If it says something new, the status is asked for. */
export function noticed(isDegraded) {
  if (isDegraded === degraded) return;
  degraded = isDegraded;
  show();
  refresh();
}

/** Ask at intervals, while the page is visible. */
export function begin() {
  const look = () => document.visibilityState === "visible" && refresh();
  setInterval(look, EVERY_MS);
  document.addEventListener("visibilitychange", look);
  return refresh();
}

let shown = "";

function show() {
  const banner = document.getElementById("banner");
  const [level, title, text] = explained();
  if (`${level} ${title} ${text}` === shown) return;
  shown = `${level} ${title} ${text}`;
  banner.className = level ? `banner ${level}` : "";
  banner.replaceChildren(...(level ? [h("strong", {}, title), h("span", {}, text)] : []));
  document.title = level ? `${title} · MessageHandler console` : "MessageHandler console";
}

function explained() {
  if (problem?.status === 0 || problem?.status >= 500)
    return ["bad", "No answer", "The API does not answer. Accepted messages are safe. This page tries again."];
  if (!status) {
    return degraded ? ["warn", "Degraded", "Messages are accepted and answered, on a lower tier than configured."] : [];
  }
  const { components, tiers, worker } = status;
  if (components.queue === "unavailable") {
    return [
      "bad",
      "Unhealthy",
      "The queue is away: no message is accepted, so none is lost. Platforms get 503 and send again.",
    ];
  }
  if (worker.state === "silent") {
    const time = new Date(worker.last_heartbeat_at ?? worker.oldest_waiting_at).toLocaleTimeString();
    return [
      "bad",
      "No worker answers",
      `Messages are accepted and safe, but no worker has shown a sign of life since ${time}.`,
    ];
  }
  if (status.status === "unhealthy") return ["bad", "Unhealthy", "No store answers: it is unknown what waits or runs."];
  const redis = tiers.redis === "away";
  const postgres = tiers.postgres === "away" || (!components.database_connected && "postgres" in tiers);
  const readOnly = Object.keys(tiers).filter((name) => tiers[name] === "read_only");
  if (readOnly.length && !redis && tiers.postgres !== "away") {
    const names = readOnly.map((name) => ({ redis: "Redis", postgres: "Postgres" })[name]).join(" and ");
    return [
      "warn",
      "Degraded",
      `${names}: reads work, writes are refused. Messages are accepted and answered, as if it were away.`,
    ];
  }
  if (redis && postgres) {
    return [
      "warn",
      "Degraded",
      "Redis and Postgres are away. Messages are accepted and answered, but out of order, maybe twice, and without cancel.",
    ];
  }
  if (redis) {
    return ["warn", "Degraded", "Redis is away, Postgres coordinates. All functions work; nothing is lost or doubled."];
  }
  if (postgres) {
    return [
      "warn",
      "Degraded",
      "Postgres is away. Messages are accepted and answered, and archived later. Cancel, release and handoff answer 503.",
    ];
  }
  if (status.status === "degraded") return ["warn", "Degraded", `Working on the ${components.tier} tier.`];
  return [];
}
